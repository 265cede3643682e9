"""Rows that the target refuses: set apart one by one, so that the rest of their chunk is loaded.

A chunk is first written as if nothing were wrong. Only when a row is refused it is read again in
small pieces, and the refused rows are found between savepoints: by the place that the database
names, else by halving. They are kept in the ledger, in the chunk's own transaction.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..batches import Batch, Piece, Records, cut_up, joined, rows_of
from ..batches.copy_text import fields
from ..errors import SourceValueError, TransformRowError
from ..model import Chunk, Column, DataPath, Plan
from ..passwords import hidden
from ..protocols import Transaction
from ..results import Reject
from ..retry import first_line
from ..transform import only_errors
from . import intake
from .work import Work

# The codes of rows that the target has not seen.
_BY_TRANSFORM = "transform"
_BY_SOURCE_VALUE = "source value"


class RowRefusedError(Exception):
    """Some of the rows just tried were refused."""

    def __init__(self, words: str, code: str, positions: tuple[int, ...] = ()) -> None:
        super().__init__(words, code, positions)
        self.code = code
        self.positions = positions
        """Which of them, from 1, ascending, where the database says so."""

    @property
    def words(self) -> str:
        """Why; without a password, also if it comes from a process that knew of none."""
        return hidden(self.args[0])


@dataclass(slots=True)
class Sieve:
    """Writes a chunk's rows into its transaction, but for those that are refused."""

    work: Work
    chunk: Chunk
    transaction: Transaction
    rejected: int = 0
    _source_failed: bool = False

    def write(
        self,
        read: Callable[[], Generator[Batch, None, None]],
        again: Callable[[Plan], Iterable[Piece]],
        meter: intake.Meter,
    ) -> int:
        """Return how many rows the target took.

        Args:
            read: reads the chunk's rows, to be tried all at once.
            again: reads them once more, in small pieces, on the data path of the plan it is given.
            meter: adds up what is tried first.
        """
        try:
            with closing(read()) as batches, self._trying(self.work) as work:
                watched = self._watched(meter.over(batches))
                return intake.write(work, watched, self.chunk, self.transaction)
        except RowRefusedError:
            plan = self.work.plan
            if plan.data_path is DataPath.COPY_BINARY:
                # Lines of text can be told apart, and shown to people.
                plan = replace(plan, data_path=DataPath.COPY_TEXT)
            careful = replace(self.work, plan=plan)
            return sum(self._write_piece(careful, piece) for piece in again(plan))

    def _write_piece(self, work: Work, piece: Piece) -> int:
        written = 0
        waiting = [_Rows.of(piece)]
        while waiting:
            trial = waiting.pop()
            try:
                with self._trying(work) as trying:
                    batches = [trial.together()]
                    taken = intake.write(trying, batches, self.chunk, self.transaction)
                # Only now: what is checked late may have taken it back.
                written += taken
            except RowRefusedError as refused:
                if len(trial.rows) == 1:
                    self._reject(trial.rows[0], trial.like, refused)
                else:
                    # The last of these is tried first, so that rows keep their order.
                    waiting += reversed(trial.parts(refused.positions))
        return written

    @contextmanager
    def _trying(self, work: Work) -> Iterator[Work]:
        """Try to write; take it back, and raise RowRefusedError, when a row is refused."""
        target = work.writes_to.database
        mapping = work.mapping
        if mapping.transform is not None:
            guarded = _Guarded(mapping.transform, "transformation_func")
            mapping = replace(mapping, transform=guarded)
        if mapping.transform_batch is not None:
            guarded = _Guarded(mapping.transform_batch, "transform_batch")
            mapping = replace(mapping, transform_batch=guarded)
        work = replace(work, mapping=mapping)
        try:
            with self.transaction.savepoint():
                yield work
        except RowRefusedError:
            raise
        except SourceValueError as error:
            raise RowRefusedError(first_line(error), _BY_SOURCE_VALUE) from error
        except TransformRowError as error:
            raise RowRefusedError(first_line(error), _BY_TRANSFORM) from error
        except Exception as error:
            code = None if self._source_failed else target.row_error(error)
            if code is None:
                raise
            positions = () if mapping.transforms else target.row_positions(error)
            raise RowRefusedError(work.words(error), code, positions) from error

    def _watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield what the source sends; remember if it is the source that fails."""
        try:
            yield from batches
        except GeneratorExit:
            raise
        except BaseException:
            self._source_failed = True
            raise

    def _reject(self, row: Any, like: Batch, refused: RowRefusedError) -> None:
        work = self.work
        assert work.rejects is not None  # noqa: S101 - else there is no sieve
        work.rejects.take(refused.words)
        self.rejected += 1
        rejected = Reject(
            load_id=work.plan.load_id,
            chunk_id=self.chunk.id,
            row=_as_dict(row, like, work.plan.columns),
            error=refused.words,
            code=refused.code,
        )
        work.writes_to.ledger.reject(self.transaction, rejected)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A transform, any error of which counts as that of one of its rows. May be pickled."""

    transform: Callable[[Any], Any]
    name: str
    """The keyword that it was given by."""

    def __call__(self, rows: Any) -> Any:
        try:
            with only_errors(self.name):
                return self.transform(rows)
        except Exception as error:
            raise RowRefusedError(first_line(error), _BY_TRANSFORM) from error


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows one by one: tuples, their bytes, Arrow slices."""

    rows: list[Any]
    like: Batch
    """A batch of their kind."""

    @classmethod
    def of(cls, piece: Piece) -> "_Rows":
        """Return the rows of a piece, which has some."""
        return cls([row for batch in piece.batches for row in cut_up(batch)], piece.batches[0])

    def together(self) -> Batch:
        """Return them as one batch."""
        return joined(self.like, self.rows)

    def parts(self, positions: Sequence[int]) -> list["_Rows"]:
        """Return the refused rows alone, and the rows between them; or two halves."""
        rows, parts, start = self.rows, [], 0
        for position in positions:
            if start < position <= len(rows):
                parts += [rows[start : position - 1], rows[position - 1 : position]]
                start = position
        parts += [rows[start:]] if start else [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        return [_Rows(part, self.like) for part in parts if part]


def _as_dict(row: Any, like: Batch, columns: Sequence[Column]) -> dict[str, Any]:
    """Return a row by column name, as JSON can keep it: texts as the database writes them."""
    values: Sequence[Any]
    if isinstance(like, Records):
        (values,) = like.of(row).texts()
    elif isinstance(row, bytes):
        values = fields(row)
    else:
        values = row if isinstance(row, tuple) else rows_of(row)[0]
    return {c.name: value for c, value in zip(columns, values, strict=True)}
