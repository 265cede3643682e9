"""Rows on their way into the target's transaction: transformed where wanted, always counted."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain

from ..batches import Batch, cut, parts_of, passed_on, size_of
from ..errors import TransferError
from ..fitting import match_columns, seen_by
from ..model import Chunk, ChunkKind, Column, DataPath, TransformScope
from ..protocols import Transaction
from ..transform import Changed, Step
from .scheduling import giving_way
from .work import Work

_TOOK = (
    "{sent} {rows} rows, but the target took {took}: a trigger or rule on the target table drops"
    " or adds rows; disable it for the load"
)


# A batch of lines, at most: a few hundred rows, which with all their Python values stay in a
# processor's own cache; fewer when they are wide.
BATCH_BYTES = 32 * 1024

# The way to another process and back costs as much as some hundred rows.
SENT_BYTES = 256 * 1024


class Meter:
    """Adds up the bytes that pass, as far as rows travel as bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches as they are."""
        for batch in batches:
            self.bytes += size_of(batch)
            yield batch


def write(work: Work, batches: Iterable[Batch], chunk: Chunk, transaction: Transaction) -> int:
    """Write a chunk's rows; return how many the target took.

    Raises:
        TransferError: it took another number of rows than the transform gave.
        TransformError: the transform did not return what it promised to.
    """
    if not work.mapping.transforms:
        names = target_names(work, work.plan.columns)
        batches = map(passed_on, batches)
        with giving_way() if work.plan.data_path.passes_blocks_on else nullcontext():
            return _handed_over(work, batches, chunk, transaction, names, work.plan.data_path)
    step, given = _step(work), 0
    changed = _changed(work, step, _groups(work, batches, chunk))
    # A transform may filter whole groups away; those after them are written all the same.
    first = next(changed, None)
    if first is None:
        return 0

    def counted() -> Iterator[Batch]:
        nonlocal given
        for each in chain([first], changed):
            given += each.rows
            yield each.batch

    names = target_names(work, [Column(name) for name in first.names])
    if work.writes_to.staged:
        # All other columns are the target's own to fill in, or stay as they are.
        work.writes_to.ledger.note_columns(transaction, work.plan, chunk, names)
    written = _handed_over(work, counted(), chunk, transaction, names, step.path)
    if written != given:
        raise TransferError(_TOOK.format(sent="the transform gave", rows=given, took=written))
    return written


def only_transform(work: Work, batches: Iterable[Batch], chunk: Chunk) -> None:
    """Have the transform see a chunk's rows; nothing is written."""
    step, groups = _step(work), _groups(work, batches, chunk)
    if work.processes is not None:
        for _ in _changed(work, step, groups):
            """The transform has done its work."""
        return
    for group in groups:
        step.call(group)


def _step(work: Work) -> Step:
    """Return the transform with what is known of the rows before and after it."""
    mapping = work.mapping
    columns = tuple(column.name for column in work.plan.columns)
    if mapping.transform_batch is not None:
        from ..transform.record_batches import BatchStep  # pyarrow is there where it is wanted

        return BatchStep(mapping.transform_batch, columns)
    assert mapping.transform is not None  # noqa: S101 - for the type checker
    from ..transform.rows import RowStep  # most loads have no function

    packer = None
    table: tuple[Column, ...] = ()
    if work.table is not None:
        table = work.table.columns
        packer = work.table.database.packer(
            work.plan.columns, table, json_is_text=work.source.json_is_text
        )
    return RowStep(
        function=mapping.transform,
        columns=columns,
        seen=len(seen_by(work.plan.columns, mapping.transform_columns)) or None,
        packer=packer,
        table=table,
        target=mapping.target_name,
    )


def _changed(work: Work, step: Step, groups: Iterable[list[Batch]]) -> Iterator[Changed]:
    names: tuple[str, ...] | None = None
    apply = partial(work.processes.apply, step) if work.processes else step.apply
    for group in groups:
        for changed in apply(group, names):
            names = changed.names
            yield changed


def _groups(work: Work, batches: Iterable[Batch], chunk: Chunk) -> Iterator[list[Batch]]:
    """Yield the batches that the transform sees in one call."""
    mapping = work.mapping
    if mapping.transform_batch or mapping.transform_scope is TransformScope.BATCH:
        # A piece of a stream holds more rows than are to be in memory as Python values.
        size = BATCH_BYTES if work.processes is None else SENT_BYTES
        yield from ([part] for batch in batches for part in parts_of(batch, size))
        return
    # A query in one pass is one chunk of any size; its transform still sees few rows.
    most = work.plan.chunk_size if chunk.kind is ChunkKind.ALL else None
    held: list[Batch] = []
    rows = 0
    for batch in batches:
        for part in [batch] if most is None else cut(batch, most - rows, most):
            held.append(part)
            rows += len(part)
            if rows == most:
                yield held
                held, rows = [], 0
    if held:
        yield held


def _handed_over(  # noqa: PLR0917 - the parts of one call
    work: Work,
    batches: Iterable[Batch],
    chunk: Chunk,
    transaction: Transaction,
    names: list[str],
    path: DataPath,
) -> int:
    table = work.writes_to
    return transaction.write(
        batches,
        table.name,
        names,
        DataPath.DIRECT if table.direct else path,
        staged_chunk=chunk.id if table.staged else None,
        json_is_text=work.source.json_is_text,
        of_json=_of_json(work.plan.columns, names),
    )


def _of_json(columns: Iterable[Column], names: Iterable[str]) -> frozenset[str]:
    """Return which of the target's names are those of columns that are JSON in the query."""
    found = {column.name.lower() for column in columns if column.is_json}
    return frozenset(name for name in names if name.lower() in found)


def hold_columns(work: Work, transaction: Transaction) -> None:
    """Keep the target's columns as they are until a chunk's rows are in.

    Nothing for a stage, which only its load knows.

    Raises TargetError when a column that is written has another type than was planned for.
    """
    table, columns = work.writes_to, work.plan.target_columns
    if table.staged:
        return
    if not work.mapping.transforms:
        written = set(target_names(work, work.plan.columns))
        columns = tuple(column for column in columns if column.name in written)
    transaction.hold_columns(table.name, columns)


def check_taken(work: Work, *, sent: int, taken: int) -> None:
    """Raise TransferError when the target took other rows than the source sent."""
    if not work.mapping.transforms and taken != sent:
        raise TransferError(_TOOK.format(sent="the source sent", rows=sent, took=taken))


def target_names(work: Work, columns: Iterable[Column]) -> list[str]:
    """Return the target's names of the columns, in their order."""
    mapping = work.mapping
    pairs = match_columns(
        list(columns),
        work.writes_to.columns,
        mapping.target_name,
        made_by=mapping.transformed_by,
    )
    return [theirs.name for _, theirs in pairs]
