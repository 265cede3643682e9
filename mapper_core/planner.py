"""What a load will do, decided before a row moves: columns, data path, strategy, chunks."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from . import chunker
from .errors import QueryError, TargetError
from .model import Chunk, Column, Mapping
from .protocols import Reader, Source, Target
from .query import Query
from .settings import Settings

logger = logging.getLogger(__name__)

# What PostgreSQL and SQLite call an expression that the query gave no name.
_UNNAMED = {"?column?", ""}


@dataclass(frozen=True, slots=True)
class Strategy:
    """How the query's rows are divided, and why so."""

    name: str
    reason: str
    chunks: tuple[Chunk, ...]
    key: tuple[str, ...] = ()
    key_types: tuple[str, ...] = ()


def choose_strategy(
    mapping: Mapping,
    query: Query,
    settings: Settings,
    *,
    source: Source,
    reader: Reader,
    columns: Sequence[Column],
    one_snapshot: bool,
    sequential: str | None,
) -> Strategy:
    """Divide the query into chunks, or say why it is loaded in one pass.

    `sequential` is a reason, known before the query was looked at, not to read in parallel.
    """
    names = {column.name for column in columns}
    given = _spelled(mapping.chunk_key or (), names)
    if unknown := [name for name in given if name not in names]:
        msg = (
            f"chunk_key {', '.join(unknown)} is not a column of the query, which has"
            f" {', '.join(sorted(names))}"
        )
        raise QueryError(msg)
    if sequential is None and one_snapshot and not source.shares_snapshots:
        sequential = (
            f"{source.kind} sessions cannot share a snapshot; with snapshot=False each chunk is"
            " read at its own moment"
        )
    if sequential is None and query.blocker:
        sequential = f"the query cannot be split: {query.blocker}"
    if sequential is None and (blocker := reader.blocker(query)):
        sequential = f"the query cannot be split: {blocker}"
    if sequential is not None:
        return _one_pass(sequential)
    threshold = settings.min_rows_for_parallel
    rows = reader.count_up_to(query, threshold)
    if rows < threshold:
        return _one_pass(
            f"the query has {rows:,} rows, fewer than the {threshold:,} that pay", rows
        )
    key, origin = (given, "the chunk_key given") if given else _own_key(query, reader, names)
    if not key:
        return _one_pass(
            "the query names no key: add ORDER BY a column, pass chunk_key, or select from a table"
            " together with its primary key"
        )
    found = reader.key_cuts(query, key, settings.chunk_size)
    chunks = chunker.key_chunks(
        found.cuts,
        # Without one snapshot a NULL key may appear after the cuts were looked for.
        has_nulls=found.has_nulls or not one_snapshot,
        rows=found.rows,
        chunk_size=settings.chunk_size,
    )
    reason = f"ranges of {', '.join(key)} ({origin}), cut by rank in {found.method}"
    return Strategy("key", reason, chunks, tuple(key), found.types)


def _one_pass(reason: str, rows: int | None = None) -> Strategy:
    logger.info("Parallel processing disabled: %s", reason)
    return Strategy("one pass", reason, chunker.one_chunk(rows))


def _own_key(query: Query, reader: Reader, names: set[str]) -> tuple[tuple[str, ...], str]:
    """Return the key that the query names and where it comes from; no key when there is none."""
    ordered = _spelled(query.order_key[:1], names)
    if ordered and ordered[0] in names:
        return ordered, "the query's ORDER BY"
    primary = _spelled(reader.primary_key(query.table), names) if query.table else ()
    if primary and set(primary) <= names:
        return primary, "the table's primary key"
    return (), ""


def _spelled(wanted: Sequence[str], names: set[str]) -> tuple[str, ...]:
    """Return names as the query's columns spell them, where they differ in case only.

    >>> _spelled(["id", "Day", "other"], {"ID", "Day", "day"})
    ('ID', 'Day', 'other')
    """
    folded = Counter(name.lower() for name in names)
    alike = {name.lower(): name for name in names if folded[name.lower()] == 1}
    return tuple(name if name in names else alike.get(name.lower(), name) for name in wanted)


def check_columns(columns: Sequence[Column], *, named: bool) -> None:
    """Raise QueryError when columns share a name, or one has none although it must be `named`."""
    for place, column in enumerate(columns, start=1):
        if named and column.name in _UNNAMED:
            msg = f"column {place} of the query has no name: give it one with AS"
            raise QueryError(msg)
    twice = [name for name, count in Counter(c.name for c in columns).items() if count > 1]
    if twice:
        msg = f"the query has several columns named {', '.join(twice)}: rename them with AS"
        raise QueryError(msg)


def match_columns(
    columns: Sequence[Column],
    table: Sequence[Column],
    target: str,
    *,
    complete: bool = True,
) -> tuple[tuple[Column, Column], ...]:
    """Pair each query column with the target's column of that name.

    An exact name wins; else one that differs in case only. With `complete`, a column that the
    target requires must be among them; a transform may still add it.

    Raises:
        TargetError: a name is not in the target, cannot be written, or is missing and required.
    """
    exact = {column.name: column for column in table}
    folded: dict[str, Column | None] = {}
    for column in table:
        # A name that two columns share but for case says neither.
        known = column.name.lower() in folded
        folded[column.name.lower()] = None if known else column
    pairs, unknown = [], []
    for column in columns:
        match = exact.get(column.name) or folded.get(column.name.lower())
        if match is None:
            unknown.append(column.name)
        else:
            pairs.append((column, match))
    if unknown:
        msg = (
            f"{target} has no column {', '.join(unknown)}; it has {', '.join(exact)}. Rename with"
            " AS in the query, leave the column out, or add it to the target"
        )
        raise TargetError(msg)
    if computed := [theirs.name for _, theirs in pairs if theirs.generated]:
        msg = f"{target} computes {', '.join(computed)} itself: leave it out of the query"
        raise TargetError(msg)
    if twice := [n for n, count in Counter(t.name for _, t in pairs).items() if count > 1]:
        both = ", ".join(ours.name for ours, theirs in pairs if theirs.name in twice)
        msg = f"columns {both} of the query go to the same column of {target}: leave one out"
        raise TargetError(msg)
    written = {theirs.name for _, theirs in pairs}
    missing = [c.name for c in table if c.required and c.name not in written]
    if complete and missing:
        msg = (
            f"{target} requires {', '.join(missing)} (NOT NULL without default), which the query"
            " does not select"
        )
        raise TargetError(msg)
    return tuple(pairs)


def worker_count(
    settings: Settings,
    source: Source,
    target: Target | None,
    *,
    shared: bool,
    chunks: int,
) -> int:
    """Return how many chunks may be in flight, given what the pools can serve.

    Each worker holds a source and a target connection, and one more source connection holds the
    snapshot. `shared` says that both come out of one pool.
    """
    bounds = [settings.max_workers, max(1, chunks)]
    if source.limit is not None:
        bounds.append((source.limit - 1) // (2 if shared and target else 1))
    if target is not None and target.limit is not None and not shared:
        bounds.append(target.limit)
    return max(1, min(bounds))
