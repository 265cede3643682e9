"""Are the rows of a source and of a target the same: of a load, before it is published; of any two.

`load` asks on behalf of a load, `tables` for whoever wants to know; a `comparison` is the answer.
`read_points` tells whether what a load replaces was read later than its own rows.
"""

from .comparison import Comparison, Difference
from .load import Expected, Verifying
from .read_points import overtaken
from .tables import verify

__all__ = ["Comparison", "Difference", "Expected", "Verifying", "overtaken", "verify"]
