"""One reader, one writer, one transaction: what is left when dividing is impossible or idle."""

from ... import chunker
from ...model import StrategyName
from .case import Case, Division


def divide(case: Case, reason: str | None = None) -> Division:
    """Put every row into one chunk."""
    reason = reason or "it was requested"
    rows = None if case.sequential or case.unsplittable else case.expected(case.estimate.rows)
    return Division(StrategyName.ONE_PASS, reason, chunker.one_chunk(rows), undivided=reason)
