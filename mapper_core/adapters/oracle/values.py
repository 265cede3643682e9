"""Python values as a table's columns take them: how each is bound, and what would be changed.

Source: python-oracledb documentation, "Supported Oracle Database Data Types": a datetime is sent as
a DATE unless its type is said, and without its time zone in any event; a column of NULLs is taken
for a VARCHAR2(1). So types are said, from the table's own columns, and a moment with a zone is text
that the database reads.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import oracledb

from ... import moments
from ...batches import JsonText
from ...model import Column, Row
from ...protocols import STAGE_CHUNK
from . import session
from .errors import UnfitValueError
from .statements import zoned_text
from .types import (
    BEFORE_CHRIST,
    NANOSECONDS,
    ZONED_NANOSECONDS,
    is_lob,
    keeps_nanoseconds,
)

Make = Callable[[Any], Any]

# Digits that a NUMBER keeps for certain: it has twenty of base 100, and where the point lies
# between two of them, all forty.
# Source: Oracle Call Interface Programmer's Guide, "NUMBER Data Type", of its external form.
_DIGITS = 38
_PAIRS = 20

# Digits of a second that a TIMESTAMP(9) has beyond those of Python's datetime.
_BEYOND = 3

# The type that values of a column are bound as; text of any other.
_BOUND = {
    "NUMBER": oracledb.DB_TYPE_NUMBER,
    "FLOAT": oracledb.DB_TYPE_NUMBER,
    "BINARY_DOUBLE": oracledb.DB_TYPE_BINARY_DOUBLE,
    "BINARY_FLOAT": oracledb.DB_TYPE_BINARY_FLOAT,
    "DATE": oracledb.DB_TYPE_DATE,
    "RAW": oracledb.DB_TYPE_RAW,
    "BLOB": oracledb.DB_TYPE_LONG_RAW,
    "LONG RAW": oracledb.DB_TYPE_LONG_RAW,
    "CLOB": oracledb.DB_TYPE_LONG,
    "NCLOB": oracledb.DB_TYPE_LONG_NVARCHAR,
    "LONG": oracledb.DB_TYPE_LONG,
    "JSON": oracledb.DB_TYPE_LONG,
    "INTERVAL DAY TO SECOND": oracledb.DB_TYPE_INTERVAL_DS,
    "INTERVAL YEAR TO MONTH": oracledb.DB_TYPE_INTERVAL_YM,
    "BOOLEAN": oracledb.DB_TYPE_BOOLEAN,
    "NVARCHAR2": oracledb.DB_TYPE_NVARCHAR,
    "NCHAR": oracledb.DB_TYPE_NVARCHAR,
}


@dataclass
class Insert:
    """An INSERT into some columns of a table, and how rows are arranged for it."""

    table: str
    columns: Sequence[Column]
    chunk: int | None
    """The chunk that rows of a stage belong to."""
    json_is_text: bool
    of_json: frozenset[str] = frozenset()
    """The columns that are JSON in the query."""
    names: list[str] = field(init=False)
    """The columns in the order in which rows are arranged."""
    sql: str = field(init=False)
    sizes: list[Any] = field(init=False)
    """The types to bind, for setinputsizes."""

    def __post_init__(self) -> None:
        # What may be long is sent last, whatever its place; so it has the last one.
        self._order = sorted(range(len(self.columns)), key=lambda at: is_lob(self._word(at)))
        self.names = [self.columns[at].name for at in self._order]
        names = [session.quoted(name) for name in self.names]
        marks = [_mark(number, self._word(at)) for number, at in enumerate(self._order, 1)]
        if self.chunk is not None:
            names.append(session.quoted(STAGE_CHUNK))
            marks.append(str(int(self.chunk)))
        self.sql = f"insert into {self.table} ({', '.join(names)}) values ({', '.join(marks)})"
        self.sizes = [_bound(self._word(at)) for at in self._order]
        self._makers = [self._maker(self.columns[at]) for at in self._order]

    def _word(self, at: int) -> str:
        return self.columns[at].type

    def arranged(self, rows: Sequence[Row], before: int) -> list[Row]:
        """Return rows as they are bound; `before` is how many came before them.

        Raises UnfitValueError, naming the row, for a value that its column would change.
        """
        columns = list(zip(*rows, strict=True)) if rows else []
        made = []
        for at, make in zip(self._order, self._makers, strict=True):
            try:
                made.append([None if v is None else make(v) for v in columns[at]])
            except UnfitValueError as error:
                raise self._named(error, columns[at], at, before) from None
        return list(zip(*made, strict=True)) if made else [() for _ in rows]

    def _named(
        self, error: UnfitValueError, values: Sequence[Any], at: int, before: int
    ) -> UnfitValueError:
        """Return the error with the place of the first row that has such a value."""
        column = self.columns[at]
        make = self._maker(column)
        for number, value in enumerate(values, 1):
            try:
                if value is not None:
                    make(value)
            except UnfitValueError:
                words = f"column {column.name} ({column.type}): {error}"
                return UnfitValueError(words, before + number)
        return error

    def _maker(self, column: Column) -> Make:
        base = column.type.partition("(")[0]
        if column.type.endswith("TIME ZONE"):
            return _zoned_nanoseconds if keeps_nanoseconds(column.type) else _zoned
        if base == "TIMESTAMP":
            return _nanoseconds if keeps_nanoseconds(column.type) else _stamp
        if base == "DATE":
            return _date
        if base in {"NUMBER", "FLOAT", "BOOLEAN"}:
            return _number
        if base.startswith("BINARY_"):
            return float
        if base in {"RAW", "BLOB", "LONG RAW"}:
            return _bytes
        if base == "INTERVAL DAY TO SECOND":
            return _as_it_is
        if base == "INTERVAL YEAR TO MONTH":
            return _months
        if base == "JSON" and not self.json_is_text:
            return _json
        return _json_text if column.name in self.of_json else _text


def differs(column: Column) -> str:
    """Return the condition that a column of `t` and `s` differs; two NULLs do not."""
    name = session.quoted(column.name)
    if is_lob(column.type):
        return (
            f"dbms_lob.compare(t.{name}, s.{name}) <> 0"
            f" or (t.{name} is null and s.{name} is not null)"
            f" or (t.{name} is not null and s.{name} is null)"
        )
    return f"decode(t.{name}, s.{name}, 1, 0) = 0"


def written_out(word: str) -> tuple[str, str] | None:
    """Return the function, and its format, that reads the text bound for a column of the type.

    None for what is bound as it is.

    >>> written_out("TIMESTAMP(6)")
    """
    if word.endswith("TIME ZONE"):
        return "to_timestamp_tz", ZONED_NANOSECONDS
    return ("to_timestamp", NANOSECONDS) if keeps_nanoseconds(word) else None


def _bound(word: str) -> Any:
    base = word.partition("(")[0]
    if written_out(word):
        return oracledb.DB_TYPE_VARCHAR
    if base == "TIMESTAMP":
        return oracledb.DB_TYPE_TIMESTAMP
    return _BOUND.get(base, oracledb.DB_TYPE_VARCHAR)


def _mark(number: int, word: str) -> str:
    read_by = written_out(word)
    return f"{read_by[0]}(:{number}, '{read_by[1]}')" if read_by else f":{number}"


def _as_it_is(value: Any) -> Any:
    return value


def _json(value: Any) -> str:
    return _text(value) if isinstance(value, JsonText) else json.dumps(value)


def _json_text(value: Any) -> Any:
    """Return a value of JSON as its text; a string is a text, as nobody can tell it from one."""
    return json.dumps(value) if isinstance(value, bool) else _text(value)


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise UnfitValueError("bytes are not text: decode them", 0)
    return str(value)


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal) and not _keeps(value):
        raise UnfitValueError(f"a number of more than {_DIGITS} digits, which would be rounded", 0)
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, str):
        try:
            return Decimal(value)
        except ArithmeticError:
            """It is no number, which is said below."""
    msg = f"{type(value).__name__} is not a number"
    raise UnfitValueError(msg, 0)


def _keeps(value: Decimal) -> bool:
    """Whether a NUMBER holds all digits of a value.

    >>> _keeps(Decimal("1e-100")), _keeps(Decimal("1." + "1" * 38)), _keeps(Decimal(10**60))
    (True, True, True)
    >>> _keeps(Decimal("1." + "1" * 39))
    False
    """
    _, digits, exponent = value.as_tuple()
    if len(digits) <= _DIGITS or not isinstance(exponent, int):
        return True  # what is no number is the driver's to refuse
    last = len(digits) - next((at for at, d in enumerate(reversed(digits)) if d), len(digits))
    first = exponent + len(digits) - 1
    return first // 2 - (exponent + len(digits) - last) // 2 < _PAIRS


def _bytes(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    msg = f"{type(value).__name__} is not bytes"
    raise UnfitValueError(msg, 0)


def _moment(value: Any) -> tuple[datetime, str]:
    """Return a datetime, and the digits of a nanosecond.

    Raises UnfitValueError for what is no moment, and where there are more digits.
    """
    if isinstance(value, str):
        if value.endswith(BEFORE_CHRIST):
            raise UnfitValueError("a moment before the year 1, which is not written to Oracle", 0)
        try:
            moment, beyond = moments.read(value)
        except ValueError:
            """It is no moment, which is said below."""
        else:
            if len(beyond) > _BEYOND:
                raise UnfitValueError("a moment with more than nine digits of a second", 0)
            return moment, beyond
    if isinstance(value, datetime):
        # That of pandas has more digits, and its NaT has no number there.
        nanosecond = getattr(value, "nanosecond", 0)
        if isinstance(nanosecond, int):
            return value, f"{nanosecond:03}".rstrip("0")
    elif isinstance(value, date):
        return datetime(value.year, value.month, value.day), ""  # noqa: DTZ001 - DATE has none
    msg = f"{type(value).__name__} is not a moment"
    raise UnfitValueError(msg, 0)


def _microseconds(value: Any) -> datetime:
    moment, beyond = _moment(value)
    if beyond:
        msg = "a moment with more than six digits of a second, which would be rounded"
        raise UnfitValueError(msg, 0)
    return moment


def _stamp(value: Any) -> datetime:
    return _naive(_microseconds(value))


def _nanoseconds(value: Any) -> str:
    """Return a moment in the text that the database reads."""
    moment, beyond = _moment(value)
    return _naive(moment).isoformat(timespec="microseconds") + beyond


def _naive(moment: datetime) -> datetime:
    if moment.tzinfo is not None:
        raise UnfitValueError("a moment with a time zone, which would be dropped", 0)
    return moment


def _date(value: Any) -> datetime:
    moment = _stamp(value)
    if moment.microsecond:
        raise UnfitValueError("a moment with parts of a second, which a DATE has no room for", 0)
    return moment


def _zoned(value: Any) -> str:
    """Return a moment in the text that the database reads, its own offset kept."""
    return _with_zone(_microseconds(value))


def _zoned_nanoseconds(value: Any) -> str:
    moment, beyond = _moment(value)
    text = _with_zone(moment)
    end = len(text) - len("+00:00")
    return text[:end] + beyond + text[end:]


def _with_zone(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise UnfitValueError("a moment without a time zone, so it is not known which one it is", 0)
    if moment.tzinfo is not timezone.utc and moment.utcoffset() is None:
        raise UnfitValueError("a moment whose time zone has no offset", 0)
    return zoned_text(moment)


def _months(value: Any) -> Any:
    if isinstance(value, str) and value.endswith(" mons"):
        months = int(value.removesuffix(" mons"))
        sign = -1 if months < 0 else 1
        years, rest = divmod(abs(months), 12)
        return oracledb.IntervalYM(sign * years, sign * rest)
    if isinstance(value, oracledb.IntervalYM):
        return value
    msg = f"{type(value).__name__} is not a span of months"
    raise UnfitValueError(msg, 0)
