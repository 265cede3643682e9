"""Python values written in COPY's text format, a column at a time.

Source: PostgreSQL documentation, COPY, "Text Format".
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.json import Jsonb, JsonbDumper
from psycopg.types.string import BytesDumper

from ...copy_text import NULL, SPECIAL, escaped
from ...model import Column
from .adapting import Unconnected
from .types import JSON_TYPES, holds_text

# Rows written together: as many as stay in a processor's own cache.
PACKED_ROWS = 250

_ARRAYS_OF_JSON = {f"{kind}[]" for kind in JSON_TYPES}

Write = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class TextPacker:
    """Writes columns of a table."""

    json: frozenset[str]
    """The table's columns that hold JSON: a list is not an array there."""
    arrays_of_json: frozenset[str] = frozenset()
    json_is_text: bool = False
    """Whether a string for such a column is JSON already."""
    text_as_json: frozenset[str] = frozenset()
    """Those of the columns of JSON whose values are texts in the query: they are JSON already."""
    json_as_text: frozenset[str] = frozenset()
    """The table's columns of text whose values are JSON in the query: a list is not an array there
    either."""

    def texts(self, column: str, values: Sequence[Any]) -> Sequence[str]:
        """Return a column's values as COPY's text format has them.

        Raises psycopg.ProgrammingError for a value that cannot be written.
        """
        if column in self.json:
            is_json = self.json_is_text or column in self.text_as_json
            values = [_marked(value, text_is_json=is_json) for value in values]
        elif column in self.arrays_of_json:
            values = [self._all_marked(value) for value in values]
        elif column in self.json_as_text:
            values = [_json_text(value) for value in values]
        kinds = set(map(type, values))
        if len(kinds) == 1:
            (kind,) = kinds
            if kind is str:
                if SPECIAL.search("".join(values)) is None:
                    return values
                return [escaped(value) for value in values]
            if (write := _WRITE.get(kind)) is not None:
                return list(map(write, values))
        return [_text(value) for value in values]

    def block(self, texts: Sequence[Sequence[str]]) -> bytes:
        """Return the rows whose columns these are."""
        return ("\n".join(map("\t".join, zip(*texts, strict=True))) + "\n").encode()

    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
        """Return rows given as tuples, written."""
        given = zip(*rows, strict=True)
        return self.block([self.texts(n, v) for n, v in zip(columns, given, strict=True)])

    def _all_marked(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [_marked(each, text_is_json=self.json_is_text) for each in value]


def packer_for(
    table: Iterable[Column], columns: Iterable[Column] = (), *, json_is_text: bool
) -> TextPacker:
    """Return what writes columns of a table, for rows of a query that has `columns`."""
    kinds = {column.name: column.type for column in table}
    given = {column.name.lower(): column.type for column in columns}
    into_json = frozenset(name for name, kind in kinds.items() if kind in JSON_TYPES)
    of_json = {name for name in kinds if given.get(name.lower()) in JSON_TYPES}
    of_text = {name for name in kinds if holds_text(given.get(name.lower(), ""))}
    return TextPacker(
        into_json,
        frozenset(name for name, kind in kinds.items() if kind in _ARRAYS_OF_JSON),
        json_is_text,
        into_json & of_text,
        frozenset(name for name in of_json if holds_text(kinds[name])),
    )


def _marked(value: Any, *, text_is_json: bool) -> Any:
    is_json = value is None or (text_is_json and isinstance(value, str))
    return value if is_json else Jsonb(value)


def _json_text(value: Any) -> Any:
    """Return a value of JSON as its text; a string is a text, as nobody can tell it from one."""
    # Other numbers are spelled alike.
    is_json = isinstance(value, list | dict | bool)
    return json.dumps(value, ensure_ascii=False) if is_json else value


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
