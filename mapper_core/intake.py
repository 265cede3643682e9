"""Rows on their way into the target's transaction: transformed where wanted, always counted."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import cast

from . import transform as transforms
from .errors import TransferError, TransformError
from .fitting import match_columns
from .model import Chunk, ChunkKind, Column, DataPath, Row
from .protocols import Batch, Transaction
from .work import Work

_TOOK = (
    "{sent} {rows} rows and the target took {took}: a trigger or rule on the target table drops or"
    " adds rows; disable it for the load"
)


class Meter:
    """Adds up what passes: the bytes of COPY blocks, or the number of rows."""

    def __init__(self) -> None:
        self.bytes = 0
        self.rows = 0

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches as they are."""
        for batch in batches:
            if isinstance(batch, bytes):
                self.bytes += len(batch)
            else:
                self.rows += len(batch)
            yield batch


def write(work: Work, batches: Iterable[Batch], chunk: Chunk, transaction: Transaction) -> int:
    """Write a chunk's rows; return how many the target took.

    Raises:
        TransferError: it took another number of rows than the transform gave.
        TransformError: the transform did not return what it promised to.
    """
    if work.mapping.transform is None:
        names = target_names(work, work.plan.columns)
        return _handed_over(work, batches, chunk, transaction, names, work.plan.data_path)
    # A transform may filter whole groups away; those after them are written all the same.
    groups = (rows for rows in transformed(work, batches, chunk) if rows)
    first = next(groups, None)
    if first is None:
        return 0
    columns = transforms.names_in(first)
    if not columns:
        raise TransformError("transformation_func returned rows without a single key")
    names = target_names(work, [Column(name) for name in columns])
    given = Meter()
    rows = given.over(transforms.as_rows(group, columns) for group in chain([first], groups))
    written = _handed_over(work, rows, chunk, transaction, names, DataPath.ROWS)
    if written != given.rows:
        raise TransferError(_TOOK.format(sent="the transform gave", rows=given.rows, took=written))
    return written


def _handed_over(  # noqa: PLR0917 - the parts of one call
    work: Work,
    batches: Iterable[Batch],
    chunk: Chunk,
    transaction: Transaction,
    names: list[str],
    path: DataPath,
) -> int:
    destination = work.destination
    assert destination is not None  # noqa: S101 - for the type checker
    return transaction.write(
        batches,
        destination.table,
        names,
        path,
        staged_chunk=chunk.id if destination.staged else None,
        json_is_text=work.source.json_is_text,
    )


def check_taken(work: Work, *, sent: int, taken: int) -> None:
    """Raise TransferError when the target took other rows than the source sent."""
    if work.mapping.transform is None and taken != sent:
        raise TransferError(_TOOK.format(sent="the source sent", rows=sent, took=taken))


def transformed(
    work: Work, batches: Iterable[Batch], chunk: Chunk
) -> Iterator[list[dict[str, object]]]:
    """Yield what the transform makes of a chunk's rows."""
    assert work.mapping.transform is not None  # noqa: S101 - for the type checker
    return transforms.transformed(
        cast(Iterable[list[Row]], batches),
        [column.name for column in work.plan.columns],
        work.mapping.transform,
        scope=work.mapping.transform_scope,
        # A query in one pass is one chunk of any size; its transform still sees few rows.
        group_rows=work.plan.chunk_size if chunk.kind is ChunkKind.ALL else None,
    )


def target_names(work: Work, columns: Iterable[Column]) -> list[str]:
    """Return the target's names of the columns, in their order."""
    destination = work.destination
    assert destination is not None  # noqa: S101 - for the type checker
    pairs = match_columns(list(columns), destination.columns, work.mapping.target_name)
    return [theirs.name for _, theirs in pairs]
