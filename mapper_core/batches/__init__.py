"""Rows in memory together, in each of the `forms` they travel in; two are not Python's own."""

from .forms import (
    PART_BYTES,
    Batch,
    Columns,
    JsonText,
    Lines,
    Packer,
    Piece,
    Records,
    Unread,
    cut,
    cut_up,
    joined,
    parts_of,
    passed_on,
    rows_of,
    size_of,
)

__all__ = [
    "PART_BYTES",
    "Batch",
    "Columns",
    "JsonText",
    "Lines",
    "Packer",
    "Piece",
    "Records",
    "Unread",
    "cut",
    "cut_up",
    "joined",
    "parts_of",
    "passed_on",
    "rows_of",
    "size_of",
]
