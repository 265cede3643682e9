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
        rows=_rows(found, case),
        chunk_size=case.chunk_size,
        descending=not given and case.query.descending,
    )
    reason = f"ranges of {', '.join(found.key)} ({origin}), cut by rank in {found.method}"
    return Division(StrategyName.KEY, reason, chunks, found.key, found.types)


def _rows(found: KeyCuts, case: Case) -> int | None:
    """Return the query's rows: as counted, else as expected where the cuts leave it open.

    Between two cuts lies a chunk of the size asked for; behind the last one, at most that.
    """
    if found.rows is not None:
        return found.rows
    if (expected := case.expected(case.estimate.rows)) is None:
        return None
    full = len(found.cuts) * case.chunk_size
    return min(max(expected, full), full + case.chunk_size)
