"""COPY's text format taken apart into Python values, a column at a time.

A loop over rows costs several times what a loop in C over a column does, so lines are split,
turned into columns, and each column is converted in one go.

Source: PostgreSQL documentation, COPY, "Text Format".
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from psycopg import pq
from psycopg.adapt import Loader, Transformer
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from ...batches import Columns, JsonText, Lines
from ...batches.copy_text import NULL, unescaped
from ...errors import SourceValueError
from ...row_values import marked
from .adapting import Unconnected
from .types import JSON_TYPES

# Dates that are remembered: a table has far more rows than days.
_DAYS = 20_000

# Python 3.10 reads neither "+00" nor half a second.
_READS_TIMES = sys.version_info >= (3, 11)

Load = Callable[[str], Any]

# Characters of a value that a message shows.
_SHOWN = 100


class _NoEqualError(psycopg.DataError):
    """A value has no equal in Python, for a reason that psycopg does not know."""


@dataclass(frozen=True, slots=True)
class TextLines(Lines):
    """Rows in COPY's text format."""

    data: bytes
    names: tuple[str, ...]
    """The name of each column."""
    types: tuple[int, ...]
    """The oid of each column's type."""
    zone: str
    """The session's time zone, in which times with time zone are shown."""
    seen: int | None = None
    """How many of the columns, from the first, somebody looks into; None when into all."""

    def __len__(self) -> int:
        # Nobody writes a line break inside a line.
        return self.data.count(b"\n")

    def of(self, data: bytes) -> "TextLines":
        """Return other lines of the same columns."""
        return replace(self, data=data)

    def parts(self, size: int) -> Iterator["TextLines"]:
        """Return the same lines a few at a time: about `size` bytes of them."""
        start, data = 0, self.data
        while start < len(data):
            end = data.find(b"\n", min(start + size, len(data)) - 1) + 1
            yield self.of(data[start:end])
            start = end

    def passed_on(self, first: int) -> "TextLines":
        """Return the same lines, of whose columns from that one on nobody looks into the values."""
        return replace(self, seen=first)

    def columns(self, first: int | None = None) -> Columns:
        """Take the rows apart: all their columns, or the first few only.

        Raises SourceValueError for a value that Python has no equal for.
        """
        count = len(self.types) if first is None else first
        packed = count < len(self.types)
        seen = count if self.seen is None else self.seen
        text = self.data.decode()
        lines = text.split("\n")
        lines.pop()
        if not self.types or not lines:
            return Columns([[] for _ in range(count)], [[] for _ in range(count + packed)], ())
        splits = count if packed else -1
        texts: list[Sequence[str]] = [
            *zip(*(line.split("\t", splits) for line in lines), strict=True)
        ]
        escaped = "\\" in text
        loads = [
            _JSON_TEXT if oid in _JSON and at >= seen else _load(oid, self.zone)
            for at, oid in enumerate(self.types[:count])
        ]
        values = [
            _values(column, load, name, escaped=escaped)
            for column, load, name in zip(texts, loads, self.names, strict=False)
        ]
        fixed = tuple(load.fixed for load in loads)
        return Columns(values, texts, fixed)


@dataclass(frozen=True, slots=True)
class _Loading:
    """How the values of a type are read."""

    fast: Load | None
    """None where the text is the value."""
    slow: Load
    """What reads, or refuses in words, what the fast way does not understand."""
    fixed: bool = True


def _values(texts: Sequence[str], load: _Loading, name: str, *, escaped: bool) -> Sequence[Any]:
    try:
        return _loaded(texts, load, escaped=escaped)
    except (psycopg.DataError, ValueError, ArithmeticError) as error:
        # Python and PostgreSQL differ in the offsets of long ago, which may end before the year 1.
        msg = (
            f"a value of column {name} has no equal in Python ({marked(str(error))}): cast the"
            " column to text in the query"
        )
        raise SourceValueError(msg) from error


def _loaded(texts: Sequence[str], load: _Loading, *, escaped: bool) -> Sequence[Any]:
    fast = load.fast
    try:
        if not escaped or "\\" not in "".join(texts):
            return texts if fast is None else list(map(fast, texts))
        return [
            None if text == NULL else (fast or str)(unescaped(text) if "\\" in text else text)
            for text in texts
        ]
    except (ValueError, ArithmeticError):
        return [None if text == NULL else load.slow(unescaped(text)) for text in texts]


class _Days(dict[str, date]):
    """Dates by their texts, each read once."""

    def __missing__(self, text: str) -> date:
        if len(self) > _DAYS:
            self.clear()
        self[text] = day = date.fromisoformat(text)
        return day


def _number(text: str) -> float:
    """Read a number of JSON that has a point or an exponent."""
    value = float(text)
    if Decimal(text) != Decimal(repr(value)):
        msg = f"the JSON number {text} has more digits than a Python float holds"
        raise _NoEqualError(msg)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of an object of JSON."""
    made = dict(pairs)
    if len(made) < len(pairs):
        msg = "a JSON object has the same key twice, and a dict keeps only one"
        raise _NoEqualError(msg)
    return made


def _json(text: str) -> Any:
    value = json.loads(text, parse_float=_number, object_pairs_hook=_object)
    if value is None:
        msg = "a JSON null that is the whole value would be taken for NULL"
        raise _NoEqualError(msg)
    return value


def _array(load: Load, *, of_json: bool) -> Load:
    """Return what reads an array that begins with its first element."""

    def read(text: str) -> Any:
        if text.startswith("["):
            msg = f"a list cannot keep the bounds of the array {text}"
            raise _NoEqualError(msg)
        if of_json and text.startswith("{{"):
            msg = f"lists in the array {text} would be taken for JSON"
            raise _NoEqualError(msg)
        return load(text)

    return read


# As our sessions have intervals written.
# Source: PostgreSQL documentation, "Interval Output", style postgres.
_INTERVAL = re.compile(
    r"(?:(?P<days>[+-]?\d+) days? ?)?"
    r"(?:(?P<sign>[+-]?)(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?))?"
)


def _timedelta(found: re.Match[str]) -> timedelta:
    time = timedelta(
        hours=int(found["hours"] or 0),
        minutes=int(found["minutes"] or 0),
        # Not as a float: a millionth of a second counts.
        microseconds=int(Decimal(found["seconds"] or 0) * 1_000_000),
    )
    return timedelta(days=int(found["days"] or 0)) + (-time if found["sign"] == "-" else time)


class IntervalLoader(Loader):
    """Reads what a timedelta holds. It has no months; psycopg would call each thirty days."""

    def load(self, data: Any) -> timedelta:
        text = bytes(data).decode()
        found = _INTERVAL.fullmatch(text)
        with suppress(OverflowError):
            if found is not None and text:
                return _timedelta(found)
        msg = f"the interval {text!r} fits no timedelta, which has days and less, up to a billion"
        raise _NoEqualError(msg)


class _JsonLoader(Loader):
    def load(self, data: Any) -> Any:
        return _json(bytes(data).decode())


_CONTEXT = Unconnected()
_CONTEXT.adapters.register_loader("interval", IntervalLoader)
for _json_type in JSON_TYPES:
    _CONTEXT.adapters.register_loader(_json_type, _JsonLoader)


def _oid(name: str) -> int:
    return psycopg.adapters.types[name].oid


def _bytes(text: str) -> bytes:
    # Our sessions have bytea written in hexadecimal.
    return bytes.fromhex(text[2:])


_FAST: dict[int, Load | None] = {
    **dict.fromkeys(map(_oid, ("int2", "int4", "int8", "oid")), int),
    **dict.fromkeys(map(_oid, ("float4", "float8")), float),
    **dict.fromkeys(map(_oid, ("text", "varchar", "bpchar", "name", '"char"')), None),
    _oid("numeric"): Decimal,
    _oid("bool"): {"t": True, "f": False}.__getitem__,
    _oid("date"): _Days().__getitem__,
    _oid("uuid"): UUID,
    _oid("bytea"): _bytes,
}
if _READS_TIMES:
    _FAST[_oid("timestamp")] = datetime.fromisoformat
_JSON = frozenset(map(_oid, JSON_TYPES))
_JSON_TEXT = _Loading(JsonText, JsonText)
_ZONED = _oid("timestamptz")
# Values with such moments in them.
_OF_ZONED = frozenset(
    {
        psycopg.adapters.types["timestamptz"].array_oid,
        *(_oid(name) for name in ("tstzrange", "tstzmultirange")),
        *(psycopg.adapters.types[name].array_oid for name in ("tstzrange", "tstzmultirange")),
    }
)
# Read by psycopg, into values that cannot be changed in place.
_FIXED = frozenset(map(_oid, ("timestamp", "time", "timetz", "interval", "inet", "cidr")))


@lru_cache(maxsize=1_000)
def _load(oid: int, zone: str) -> _Loading:
    slow = _psycopg_load(oid)
    if slow is None:
        # Nobody has a Python value for the type: its text is the value.
        return _Loading(None, str)
    if oid == _ZONED:
        return _zoned(slow, zone)
    if oid in _OF_ZONED:
        return _of_zoned(slow, zone)
    return _Loading(_FAST.get(oid, slow), slow, fixed=oid in _FAST or oid in _FIXED)


def _psycopg_load(oid: int) -> Load | None:
    if _CONTEXT.adapters.get_loader(oid, pq.Format.TEXT) is None:
        return None
    loader = Transformer.from_context(_CONTEXT).get_loader(oid, pq.Format.TEXT)

    def load(text: str) -> Any:
        try:
            return loader.load(text.encode())
        except _NoEqualError:
            raise
        except (ValueError, ArithmeticError, RecursionError, psycopg.Error) as error:
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            msg = f"{str(error).partition('(')[0].strip()}, {shown!r}"
            raise _NoEqualError(msg) from error

    info = psycopg.adapters.types.get(oid)
    if info is None or info.array_oid != oid:
        return load
    if info.delimiter != ",":
        # A list would be written with commas.
        return None
    return _array(load, of_json=info.name in JSON_TYPES)


def _zoned(slow: Load, zone: str) -> _Loading:
    there = _time_zone(zone)

    def read(text: str) -> datetime:
        return datetime.fromisoformat(text).astimezone(there)

    def read_slowly(text: str) -> datetime:
        value: datetime = slow(text)
        return value.astimezone(there)

    return _Loading(read if _READS_TIMES else read_slowly, read_slowly)


def _of_zoned(slow: Load, zone: str) -> _Loading:
    there = _time_zone(zone)

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(moved, value))
        if isinstance(value, Multirange):
            return Multirange(map(moved, value))
        if isinstance(value, Range):
            # An empty one has no bounds.
            bounds = moved(value.lower), moved(value.upper), value.bounds
            return value if value.isempty else Range(*bounds)
        return value and value.astimezone(there)

    def read(text: str) -> Any:
        return moved(slow(text))

    return _Loading(read, read, fixed=False)


def _time_zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        # A zone in POSIX's spelling, which Python does not know: the moments are the same.
        return timezone.utc
