"""Rows in memory together, in each of the forms in which they travel."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Union

from ..model import Row

if TYPE_CHECKING:
    from pyarrow import RecordBatch

# Lines taken apart together: as many as stay in a processor's own cache with all their values.
PART_BYTES = 32 * 1024


class JsonText(str):
    """JSON as its text, which is exact; any other text could be a string within JSON."""

    __slots__ = ()


class Unread(str):
    """A value as its database wrote it, where Python has none that is equal."""

    __slots__ = ()


class Lines(ABC):
    """Rows as their database wrote them, taken apart only where they are needed.

    May be pickled and taken apart in another process.
    """

    __slots__ = ()

    data: bytes
    """The rows, each a line of PostgreSQL's COPY text format."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def of(self, data: bytes) -> "Lines":
        """Return other lines of the same columns."""

    @abstractmethod
    def parts(self, size: int) -> Iterable["Lines"]:
        """Return the same lines a few at a time: about `size` bytes of them."""

    @abstractmethod
    def passed_on(self, first: int) -> "Lines":
        """Return the same lines, of whose columns from that one on nobody looks into the values.

        What is JSON there is taken apart as `JsonText`.
        """

    @abstractmethod
    def columns(self, first: int | None = None) -> "Columns":
        """Take the rows apart: all their columns, or the first few only."""


class Records(ABC):
    """Rows as their database wrote them, made an Arrow record batch only where they are needed."""

    __slots__ = ()

    data: bytes
    """The rows, in the database's own text."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.cut_up())

    @abstractmethod
    def of(self, data: bytes) -> "Records":
        """Return other rows of the same columns."""

    @abstractmethod
    def cut_up(self) -> list[bytes]:
        """Return the rows one by one."""

    @abstractmethod
    def texts(self) -> list[tuple[str | None, ...]]:
        """Return the rows with their values as the database wrote them."""

    @abstractmethod
    def record_batch(self) -> "RecordBatch":
        """Return the rows as a record batch.

        Raises SourceValueError for a value that Arrow has no equal for.
        """


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows taken apart, column by column."""

    values: list[Sequence[Any]]
    """Of each column its Python values."""
    texts: list[Sequence[str]]
    """Of each column the same values as COPY writes them; of columns not taken apart, one more
    text a row that holds them all."""
    fixed: tuple[bool, ...]
    """Of each column, whether its values cannot be changed in place."""


class Packer(Protocol):
    """Writes Python values as a target takes them without looking into them. May be pickled."""

    def texts(self, column: str, values: Sequence[Any]) -> Sequence[str]:
        """Return a column's values as COPY's text format has them.

        Raises some error for a value that cannot be written.
        """

    def block(self, texts: Sequence[Sequence[str]]) -> bytes:
        """Return the rows whose columns these are, ready to be written on `DataPath.COPY_TEXT`.

        Raises UnicodeEncodeError for a text that UTF-8 cannot hold.
        """


Batch = Union[bytes, list[Row], Lines, Records, "RecordBatch"]
"""COPY blocks on a copy path; else rows: tuples, lines that hold them, or an Arrow record batch,
made or still to be made."""


def parts_of(batch: Batch, size: int) -> Iterable[Batch]:
    """Return a batch of rows, lines cut to about that many bytes."""
    return batch.parts(size) if isinstance(batch, Lines) else [batch]


def passed_on(batch: Batch, first: int = 0) -> Batch:
    """Return a batch of rows whose columns from that one on go on as they are."""
    return batch.passed_on(first) if isinstance(batch, Lines) else batch


def rows_of(batch: Batch) -> list[Row]:
    """Return the rows of a batch that is no copy block."""
    if isinstance(batch, list):
        return batch
    if not isinstance(batch, Lines):
        from .arrow import to_rows  # pyarrow is there where it is wanted

        return to_rows(batch.record_batch() if isinstance(batch, Records) else batch)
    rows: list[Row] = []
    for lines in batch.parts(PART_BYTES):
        values = lines.columns().values
        rows += zip(*values, strict=True) if values else [()] * len(lines)
    return rows


def size_of(batch: Batch) -> int:
    """Return the bytes of a batch that travels as bytes; of Python rows 0."""
    if isinstance(batch, list):
        return 0
    if isinstance(batch, bytes):
        return len(batch)
    return len(batch.data) if isinstance(batch, Lines | Records) else int(batch.nbytes)


def cut_up(batch: Batch) -> list[Any]:
    """Return the rows of a batch one by one: tuples, their bytes, Arrow slices."""
    if isinstance(batch, list):
        return list(batch)
    if isinstance(batch, Records):
        return batch.cut_up()
    if isinstance(batch, bytes | Lines):
        # Nobody writes a line break inside a line.
        return (batch if isinstance(batch, bytes) else batch.data).splitlines(keepends=True)
    return [batch.slice(at, 1) for at in range(len(batch))]


def joined(like: Batch, rows: Sequence[Any]) -> Batch:
    """Return rows that were cut up as a batch of the same kind again."""
    if isinstance(like, list):
        return list(rows)
    if isinstance(like, bytes):
        return b"".join(rows)
    if isinstance(like, Lines | Records):
        return like.of(b"".join(rows))
    from .arrow import together  # pyarrow is there where it is wanted

    return together(rows)


def cut(batch: Batch, first: int, size: int) -> Iterator[Batch]:
    """Cut a batch of rows: the first so many of them, and then so many each time."""
    if len(batch) <= first:
        yield batch
        return
    lines = cut_up(batch) if isinstance(batch, Lines | Records) else None
    start, end = 0, first
    while start < len(batch):
        if lines is not None:
            yield joined(batch, lines[start:end])
        elif isinstance(batch, list):
            yield batch[start:end]
        else:
            yield batch.slice(start, end - start)  # type: ignore[union-attr]  # an Arrow batch
        start, end = end, end + size


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a stream that can be written on their own, as often as it takes."""

    batches: tuple[Batch, ...]
    rows: int
