"""How a load ends before its time: who asks for it, who hears of it, what it ends.

`interruption` knows what asks for it among the errors of a user's function, `watching` hears of it,
`in_use` knows the sessions whose statements are ended then; `threads` run together, and end early.
"""

from .in_use import InUse, SessionT, Spared
from .interruption import ends_the_load
from .threads import beside, together
from .watching import POLL_SECONDS, cancelling

__all__ = [
    "POLL_SECONDS",
    "InUse",
    "SessionT",
    "Spared",
    "beside",
    "cancelling",
    "ends_the_load",
    "together",
]
