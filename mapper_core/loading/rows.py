"""A chunk's rows: from a session of the source, or of a stream from memory."""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

from ..batches import Batch, Piece
from ..model import Chunk, Plan
from ..protocols import Reader
from .work import Work

# Rows tried together once a row of the chunk was refused: few enough to be held in memory and
# tried again, many enough that a chunk with one bad row costs little more than another.
_PIECE_ROWS = 2_000
_PIECE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rows:
    """Those of one chunk, read as often as it takes."""

    work: Work
    chunk: Chunk
    piece: Piece | None
    reader: Reader | None
    upcoming: Callable[[], Chunk | None] | None

    def read(self) -> Generator[Batch, None, None]:
        """Read them as they come; then let the source begin with the next chunk."""
        if self.reader is None:
            assert self.piece is not None  # noqa: S101 - rows come from one or the other
            yield from self.piece.batches
            return
        query, plan = self.work.query, self.work.plan
        with closing(self.reader.read(query, plan, self.chunk)) as batches:
            yield from batches
        if self.upcoming and (chunk := self.upcoming()):
            self.reader.read_ahead(query, plan, chunk)

    def again(self, plan: Plan) -> Iterable[Piece]:
        """Read them once more, in pieces small enough to be tried again and again."""
        if self.reader is None:
            assert self.piece is not None  # noqa: S101 - rows come from one or the other
            return [self.piece]
        size = {"rows": _PIECE_ROWS, "size": _PIECE_BYTES}
        return self.reader.pieces(self.work.query, plan, self.chunk, **size)

    @property
    def read_in_all(self) -> int | None:
        """How many there are, once they have been read to the end."""
        if self.piece is not None:
            return self.piece.rows
        return None if self.reader is None else self.reader.rows_read
