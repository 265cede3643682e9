"""Are the rows of a source and of a target the same: of a load, before it is published; of any two.

`load` asks on behalf of a load, `tables` for whoever wants to know; a `comparison` is the answer.
"""

from .comparison import Comparison, Difference
from .load import Expected, Verifying
from .tables import verify

__all__ = ["Comparison", "Difference", "Expected", "Verifying", "verify"]
