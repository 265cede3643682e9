"""Row functions between source and target: a list of dicts in, a list of dicts out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .errors import TransformError
from .model import Row, RowTransform, TransformScope


def transformed(
    batches: Iterable[list[Row]],
    columns: Sequence[str],
    transform: RowTransform,
    *,
    scope: TransformScope,
    group_rows: int | None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield what the transform makes of a chunk's rows.

    Args:
        batches: the chunk's rows as they are read.
        columns: their names.
        transform: called with a list of dicts.
        scope: whether it sees the chunk at once or batch by batch.
        group_rows: for a chunk that holds the whole query, how many rows count as one chunk.
    """
    if scope is TransformScope.BATCH:
        groups: Iterable[list[Row]] = batches
    else:
        groups = _groups(batches, group_rows)
    for rows in groups:
        changed = transform([dict(zip(columns, row, strict=True)) for row in rows])
        yield _checked(changed)


def _groups(batches: Iterable[list[Row]], size: int | None) -> Iterator[list[Row]]:
    held: list[Row] = []
    for batch in batches:
        held += batch
        while size is not None and len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def _checked(rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        msg = (
            "transformation_func must return a list of dicts, one per row to write; it returned"
            f" {type(rows).__name__}"
        )
        raise TransformError(msg)
    return rows


def as_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[Row]:
    """Return the dicts as tuples in the order of `columns`; a missing key is NULL.

    Raises TransformError for a key that is not among `columns`: it would be lost.
    """
    known = set(columns)
    for row in rows:
        if not known.issuperset(row):
            extra = ", ".join(str(name) for name in row if name not in known)
            msg = (
                f"transformation_func returned a row with {extra}, which no row of the first batch"
                " of the chunk has: give every row the same keys, None where there is no value"
            )
            raise TransformError(msg)
    return [tuple(map(row.get, columns)) for row in rows]


def names_in(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return every key of the rows, in order of first appearance."""
    return tuple(dict.fromkeys(name for row in rows for name in row))
