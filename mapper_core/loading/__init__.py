"""Chunks of a plan, loaded: by a crew of workers, each chunk in one transaction of the target.

`running` asks the ledger what there is to do. A `crew` deals chunks out to its workers, as many as
`pacing` says, or a `stream` its pieces. A `worker` takes its rows in (`intake`, `rejects`), and
`recovery` finds what a crash of the target's server took back. They share the `work`. What a worker
needs for a chunk is told beside it: its `sessions`, the `rows`, `splitting`, what is in `doubt`.
"""

from .running import Running, pieces_of
from .work import RejectBudget, Work

__all__ = ["RejectBudget", "Running", "Work", "pieces_of"]
