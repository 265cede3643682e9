"""Rows that the target refuses: set apart one by one, so that the rest of their chunk is loaded.

A chunk is first written as if nothing were wrong. Only when a row is refused it is read again in
small pieces, and the refused rows are found between savepoints: by the place that the database
names, else by halving. They are kept in the ledger, in the chunk's own transaction.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from . import intake
from .model import Chunk, Column, DataPath, Plan, Row, RowTransform
from .protocols import Batch, Piece, Transaction
from .results import Reject
from .retry import first_line
from .work import Work

# Rows tried together once a row of the chunk was refused: few enough to be held in memory and
# tried again, many enough that a chunk with one bad row costs little more than another.
PIECE_ROWS = 2_000
PIECE_BYTES = 8 * 1024 * 1024

_ESCAPED = re.compile(rb"\\(.)")
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class RowRefusedError(Exception):
    """One of the rows just tried was refused."""

    def __init__(self, words: str, code: str, position: int | None = None) -> None:
        super().__init__(words)
        self.words, self.code = words, code
        self.position = position
        """Which of them, from 1, where the database says so."""


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
        waiting = [_rows_of(piece)]
        while waiting:
            rows = waiting.pop()
            try:
                with self._trying(work) as trying:
                    batches = [_together(rows)]
                    taken = intake.write(trying, batches, self.chunk, self.transaction)
                # Only now: what is checked late may have taken it back.
                written += taken
            except RowRefusedError as refused:
                if len(rows) == 1:
                    self._reject(rows[0], refused)
                else:
                    # The last of these is tried first, so that rows keep their order.
                    waiting += [part for part in reversed(_parts(rows, refused.position)) if part]
        return written

    @contextmanager
    def _trying(self, work: Work) -> Iterator[Work]:
        """Try to write; take it back, and raise RowRefusedError, when a row is refused."""
        assert work.destination is not None  # noqa: S101 - rows are written somewhere
        target = work.destination.target
        if work.mapping.transform is not None:
            transform = _guarded(work.mapping.transform)
            work = replace(work, mapping=replace(work.mapping, transform=transform))
        try:
            with self.transaction.savepoint():
                yield work
        except RowRefusedError:
            raise
        except Exception as error:
            code = None if self._source_failed else target.row_error(error)
            if code is None:
                raise
            position = None if work.mapping.transform else target.row_position(error)
            raise RowRefusedError(work.words(error), code, position) from error

    def _watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield what the source sends; remember if it is the source that fails."""
        try:
            yield from batches
        except GeneratorExit:
            raise
        except BaseException:
            self._source_failed = True
            raise

    def _reject(self, row: Row | bytes, refused: RowRefusedError) -> None:
        work = self.work
        assert work.rejects is not None  # noqa: S101 - else there is no sieve
        assert work.destination is not None  # noqa: S101 - rows are written somewhere
        work.rejects.take()
        self.rejected += 1
        rejected = Reject(
            load_id=work.plan.load_id,
            chunk_id=self.chunk.id,
            row=_as_dict(row, work.plan.columns),
            error=refused.words,
            code=refused.code,
        )
        work.destination.ledger.reject(self.transaction, rejected)


def _guarded(transform: RowTransform) -> RowTransform:
    """Return the transform, any error of which counts as that of one of its rows."""

    def call(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            return transform(rows)
        except Exception as error:
            raise RowRefusedError(first_line(error), "transform") from error

    return call


def _rows_of(piece: Piece) -> list[Row | bytes]:
    """Return a piece's rows one by one: lines of text, or tuples."""
    rows: list[Row | bytes] = []
    for batch in piece.batches:
        rows += batch.splitlines(keepends=True) if isinstance(batch, bytes) else batch
    return rows


def _together(rows: Sequence[Row | bytes]) -> Batch:
    if isinstance(rows[0], bytes):
        return b"".join(cast(Sequence[bytes], rows))
    return list(cast(Sequence[Row], rows))


def _parts(
    rows: list[Row | bytes], position: int | None
) -> tuple[list[Row | bytes], list[Row | bytes], list[Row | bytes]]:
    """Return the rows before the refused one, it alone, those after; or two halves."""
    if position is not None and 1 <= position <= len(rows):
        return rows[: position - 1], rows[position - 1 : position], rows[position:]
    half = len(rows) // 2
    return rows[:half], [], rows[half:]


def _as_dict(row: Row | bytes, columns: Sequence[Column]) -> dict[str, Any]:
    """Return a row by column name, as JSON can keep it: texts as the database writes them."""
    values: Sequence[Any] = _fields(row) if isinstance(row, bytes) else row
    return {c.name: value for c, value in zip(columns, values, strict=True)}


def _fields(line: bytes) -> list[str | None]:
    r"""Return the values of a line of COPY's text format.

    Source: PostgreSQL documentation, COPY, "Text Format".

    >>> _fields(b"1\t\\N\ta\\tb\\\\\n")
    ['1', None, 'a\tb\\']
    """
    return [
        None if field == rb"\N" else _ESCAPED.sub(_unescaped, field).decode()
        for field in line.removesuffix(b"\n").split(b"\t")
    ]


def _unescaped(match: "re.Match[bytes]") -> bytes:
    return _ESCAPES.get(match[1], match[1])
