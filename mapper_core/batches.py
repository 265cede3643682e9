"""Rows in memory together, in each of the forms in which they travel."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from .model import Row

# Lines taken apart together: as many as stay in a processor's own cache with all their values.
PART_BYTES = 32 * 1024


class Lines(Protocol):
    """Rows as their database wrote them, taken apart only where they are needed.

    May be pickled and taken apart in another process.
    """

    def __len__(self) -> int:
        """Return the number of rows."""

    @property
    def data(self) -> bytes:
        """The rows, each a line of PostgreSQL's COPY text format."""

    def of(self, data: bytes) -> "Lines":
        """Return other lines of the same columns."""

    def parts(self, size: int) -> Iterable["Lines"]:
        """Return the same lines a few at a time: about `size` bytes of them."""

    def columns(self, first: int | None = None) -> "Columns":
        """Take the rows apart: all their columns, or the first few only."""


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
        """Return a column's values as COPY's text format has them."""

    def block(self, texts: Sequence[Sequence[str]]) -> bytes:
        """Return the rows whose columns these are, ready to be written on `DataPath.COPY_TEXT`."""


Batch = bytes | list[Row] | Lines
"""COPY blocks on a copy path, else rows: tuples, or lines that hold them."""


def parts_of(batch: Batch, size: int) -> Iterable[Batch]:
    """Return a batch of rows, lines cut to about that many bytes."""
    return [batch] if isinstance(batch, list | bytes) else batch.parts(size)


def rows_of(batch: Batch) -> list[Row]:
    """Return the rows of a batch that is no copy block."""
    if isinstance(batch, list):
        return batch
    assert not isinstance(batch, bytes)  # noqa: S101 - for the type checker
    rows: list[Row] = []
    for lines in batch.parts(PART_BYTES):
        values = lines.columns().values
        rows += zip(*values, strict=True) if values else [()] * len(lines)
    return rows


def cut_up(batch: Batch) -> list[Row | bytes]:
    """Return the rows of a batch one by one: tuples, or lines of COPY's text format."""
    if isinstance(batch, list):
        return list(batch)
    # Nobody writes a line break inside a line.
    return list((batch if isinstance(batch, bytes) else batch.data).splitlines(keepends=True))


def joined(like: Batch, rows: Sequence[Row | bytes]) -> Batch:
    """Return rows that were cut up as a batch of the same kind again."""
    if isinstance(like, list):
        return cast(list[Row], list(rows))
    data = b"".join(cast(Sequence[bytes], rows))
    return data if isinstance(like, bytes) else like.of(data)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a stream that can be written on their own, as often as it takes."""

    batches: tuple[Batch, ...]
    rows: int
