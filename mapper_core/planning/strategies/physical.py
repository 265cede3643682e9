"""Ranges of a table's blocks: no index is needed, nothing is sorted, all chunks are alike."""

from ... import chunker
from ...model import Refused, StrategyName
from .case import Answer, Case, Division


def divide(case: Case) -> Answer:
    """Cut the blocks of the one table that the query reads."""
    if case.whole:
        return Refused(case.whole)
    if not case.one_snapshot:
        return Refused("an update moves its row to another block, and there is no single snapshot")
    by_name = case.mapping.strategy is StrategyName.PHYSICAL
    if not by_name and (reason := _better_by_key(case)):
        return Refused(reason)
    found = case.survey.block_cuts(case.range_size[0], asked_for=case.forced)
    if isinstance(found, Refused):
        return found
    chunks = chunker.block_chunks(found.cuts, rows=case.expected(found.rows), kind=found.kind)
    reason = f"{found.method} of {'.'.join(case.query.table or ())}"
    return Division(StrategyName.PHYSICAL, reason, chunks, marks=found.marks)


def _better_by_key(case: Case) -> str | None:
    key, origin = case.key
    if case.mapping.chunk_key is not None:
        return "a chunk_key is given"
    if not key:
        return None
    if case.continued:
        return (
            f"the load has a name, so it may be continued later, and ranges of {', '.join(key)}"
            " stay the same while rows move"
        )
    if origin.endswith("ORDER BY") and not case.costly_key:
        return "the query's ORDER BY names a key"
    return None
