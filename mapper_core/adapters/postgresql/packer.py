"""Python values written in COPY's text format, a column at a time.

Source: PostgreSQL documentation, COPY, "Text Format".
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.json import Jsonb, JsonbDumper
from psycopg.types.string import BytesDumper

from ...batches.copy_text import NULL, SPECIAL, escaped
from ...model import Column
from . import spelling
from .adapting import Unconnected
from .types import JSON_TYPES, holds_text

# Rows written together: as many as stay in a processor's own cache.
PACKED_ROWS = 250

_TEXTS = {str, type(None)}

Write = Callable[[Any], str]
Make = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class TextPacker:
    """Writes columns of a table."""

    makers: dict[str, Make]
    """Of columns, what is made of each value before it is written as its type is."""
    spelled: dict[str, int]
    """The columns of text, with the digits from which on a float gets an exponent there."""

    def texts(self, column: str, values: Sequence[Any]) -> Sequence[str]:
        """Return a column's values as COPY's text format has them.

        Raises psycopg.ProgrammingError for a value that cannot be written.
        """
        if (make := self.makers.get(column)) is not None:
            values = list(map(make, values))
        kinds = set(map(type, values))
        digits = self.spelled.get(column)
        if digits is not None and not kinds <= _TEXTS:
            write = partial(spelling.spelled, digits=digits, other=_worded)
            values = list(map(write, values))
            kinds = set(map(type, values))
        if len(kinds) == 1:
            (kind,) = kinds
            if kind is str:
                if SPECIAL.search("".join(values)) is None:
                    return values
                return [escaped(value) for value in values]
            if (fast := _WRITE.get(kind)) is not None:
                return list(map(fast, values))
        return [_text(value) for value in values]

    def block(self, texts: Sequence[Sequence[str]]) -> bytes:
        """Return the rows whose columns these are."""
        return ("\n".join(map("\t".join, zip(*texts, strict=True))) + "\n").encode()

    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
        """Return rows given as tuples, written."""
        given = zip(*rows, strict=True)
        return self.block([self.texts(n, v) for n, v in zip(columns, given, strict=True)])


def packer_for(
    table: Iterable[Column], columns: Iterable[Column] = (), *, json_is_text: bool
) -> TextPacker:
    """Return what writes columns of a table, for rows of a query that has `columns`."""
    table = list(table)
    given = {column.name.lower(): column.type for column in columns}
    spelled = {
        column.name: _digits(given.get(column.name.lower(), ""))
        for column in table
        if holds_text(column.type)
    }
    found = {
        column.name: _maker(given.get(column.name.lower(), ""), column.type, json_is_text)
        for column in table
    }
    return TextPacker({name: make for name, make in found.items() if make is not None}, spelled)


def _digits(ours: str) -> int:
    return spelling.REAL_DIGITS if ours.startswith("real") else spelling.DOUBLE_DIGITS


def _maker(ours: str, theirs: str, json_is_text: bool) -> Make | None:  # noqa: FBT001 - as the caller has it
    """Return what is made of values of a type in the query for one in the table; None for nothing.

    What is JSON on one side is JSON on the other: neither an array of PostgreSQL's nor a text
    within JSON.
    """
    mine, element = theirs.removesuffix("[]"), ours.removesuffix("[]")
    of_json, of_text = element in JSON_TYPES, holds_text(element)
    if mine in JSON_TYPES:
        if mine == theirs:
            return partial(_marked, text_is_json=json_is_text or (of_text and element == ours))
        as_json = _json_texts if of_text else _json
        return partial(_each, make=partial(as_json, text_is_json=json_is_text or of_text))
    if not of_json or not holds_text(mine):
        return None
    if element != ours:
        return partial(_each, make=_words)
    return _json_text if mine == theirs else partial(_each, make=_nested_words)


def _marked(value: Any, *, text_is_json: bool) -> Any:
    is_json = value is None or (text_is_json and isinstance(value, str))
    return value if is_json else Jsonb(value)


def _json_text(value: Any) -> Any:
    """Return a value of JSON as its text; a string is a text, as nobody can tell it from one."""
    # Other numbers are spelled alike.
    is_json = isinstance(value, list | dict | bool | float)
    return json.dumps(value, ensure_ascii=False) if is_json else value


def _each(value: Any, *, make: Make) -> Any:
    """Return what is made of the elements of an array, all of them texts."""
    return [make(each) for each in value] if isinstance(value, list) else value


def _json(value: Any, *, text_is_json: bool) -> str | None:
    if value is None or (text_is_json and isinstance(value, str)):
        return value
    return json.dumps(value)


def _json_texts(value: Any, *, text_is_json: bool) -> Any:
    """Return an element that is JSON; in an array of texts, what is a list is an array too."""
    if isinstance(value, list):
        return [_json_texts(each, text_is_json=text_is_json) for each in value]
    return _json(value, text_is_json=text_is_json)


def _words(value: Any) -> str | None:
    """Return a value of JSON as its text, numbers too: an array has elements of one kind."""
    is_text = value is None or isinstance(value, str)
    return value if is_text else json.dumps(value, ensure_ascii=False)


def _nested_words(value: Any) -> Any:
    """Return an element of a list of JSON that is an array now, and lists in it too."""
    return list(map(_nested_words, value)) if isinstance(value, list) else _words(value)


def _text(value: Any) -> str:
    if value is None:
        return NULL
    kind = type(value)
    if kind is str:
        return escaped(value)
    return (_WRITE.get(kind) or _dumped)(value)


class _HexadecimalDumper(BytesDumper):
    """Writes bytes as any server reads them.

    libpq's way, without a connection, is that of a literal: it doubles quotes.
    """

    def dump(self, obj: Buffer) -> Buffer:
        """Return the bytes in hexadecimal."""
        return b"\\x" + bytes(obj).hex().encode()


_CONTEXT = Unconnected()
_CONTEXT.adapters.register_dumper(dict, JsonbDumper)
for _kind in (bytes, bytearray, memoryview):
    _CONTEXT.adapters.register_dumper(_kind, _HexadecimalDumper)


def dumped(value: Any) -> str | None:
    """Return the text that psycopg makes of a value; None is NULL.

    Raises psycopg.ProgrammingError when it knows none.
    """
    try:
        text = Transformer.from_context(_CONTEXT).get_dumper(value, PyFormat.TEXT).dump(value)
    except psycopg.ProgrammingError as error:
        # It names the placeholder of a parameter, too, and there is none.
        raise psycopg.ProgrammingError(str(error).partition(" using ")[0]) from error
    return None if text is None else bytes(text).decode()


def _worded(value: Any) -> str | None:
    """Return what a value is in a column of text, by itself or in an array."""
    write = _WRITE.get(type(value))
    # That of bytes has been escaped already.
    return dumped(value) if write is None or type(value) is bytes else write(value)


def _dumped(value: Any) -> str:
    return NULL if (text := dumped(value)) is None else escaped(text)


# Texts that need no escape, and mean the value to PostgreSQL.
_WRITE: dict[type, Write] = {
    int: str,
    float: repr,
    bool: {True: "t", False: "f"}.__getitem__,
    Decimal: str,
    date: date.isoformat,
    datetime: datetime.isoformat,
    time: time.isoformat,
    UUID: str,
    bytes: lambda value: r"\\x" + value.hex(),
}
