"""Ranges of one or several columns, compared by the server alone."""

from ... import chunker
from ...model import Refused, StrategyName
from ...protocols import KeyCuts
from .case import Answer, Case, Division


def divide(case: Case) -> Answer:
    """Cut the key by rank; rows with a NULL in it get a chunk of their own."""
    if case.whole:
        return Refused(case.whole)
    key, origin = case.key
    if not key:
        return Refused(
            "the query names no key: add ORDER BY a column, pass chunk_key, or select a unique"
            " key of the table as well"
        )
    given = case.mapping.chunk_key is not None
    by_name = case.mapping.strategy is StrategyName.KEY
    if not given and not by_name and case.costly_key:
        return Refused(case.costly_key)
    found = case.survey.key_cuts(key, case.chunk_size, may_shorten=origin.endswith("ORDER BY"))
    chunks = chunker.key_chunks(
        found.cuts,
        # Without one snapshot a NULL key may appear after the cuts were looked for.
        has_nulls=found.has_nulls or not case.one_snapshot,
        rows=found.rows,
        chunk_size=case.chunk_size,
        beyond=_beyond(found, case),
        descending=not given and case.query.descending,
    )
    reason = f"ranges of {', '.join(found.key)} ({origin}), cut by rank in {found.method}"
    return Division(StrategyName.KEY, reason, chunks, found.key, found.types)


def _beyond(found: KeyCuts, case: Case) -> int | None:
    """Return how many rows to expect after the last cut: what is left, at most a full chunk.

    None where the cuts themselves show that more rows are there than were expected.
    """
    left = (case.expected(case.estimate.rows) or 0) - len(found.cuts) * case.chunk_size
    return min(left, case.chunk_size) if left > 0 else None
