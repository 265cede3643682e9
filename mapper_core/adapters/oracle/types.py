"""Oracle's types: what a query's columns are, how their values travel, what they are elsewhere.

Sources: Oracle SQL Language Reference, "Data Types"; python-oracledb documentation, "Fetching Data
Frames": a NUMBER that is no DECIMAL128 comes as a float there, a TIMESTAMP WITH TIME ZONE without
its zone. What would lose something is sent as text that the database has written.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import oracledb

from ...batches import Unread
from ...errors import QueryError
from ...model import Column

# Digits of a second in a Python datetime.
_MICROSECONDS = 6

# Digits of a DECIMAL128, and of a NUMBER with a precision.
_DIGITS = 38

MICROSECONDS, NANOSECONDS = (f'YYYY-MM-DD"T"HH24:MI:SS.FF{digits}' for digits in (6, 9))
"""The text of a moment; the first as datetime.fromisoformat reads it."""
ZONED, ZONED_NANOSECONDS = (f"{form}TZH:TZM" for form in (MICROSECONDS, NANOSECONDS))
"""The same of a moment with its zone."""
BEFORE_CHRIST = " BC"
"""Ends the text of a moment before the year 1, as PostgreSQL reads it."""

_NUMBER = re.compile(r"NUMBER\((\d+),(-?\d+)\)")
_STAMP = re.compile(r"TIMESTAMP\((\d)\)( WITH (LOCAL )?TIME ZONE)?")

# The driver's types whose word needs no more.
_WORDS = {
    oracledb.DB_TYPE_DATE: "DATE",
    oracledb.DB_TYPE_CLOB: "CLOB",
    oracledb.DB_TYPE_NCLOB: "NCLOB",
    oracledb.DB_TYPE_BLOB: "BLOB",
    oracledb.DB_TYPE_LONG: "LONG",
    oracledb.DB_TYPE_LONG_RAW: "LONG RAW",
    oracledb.DB_TYPE_BINARY_DOUBLE: "BINARY_DOUBLE",
    oracledb.DB_TYPE_BINARY_FLOAT: "BINARY_FLOAT",
    oracledb.DB_TYPE_INTERVAL_DS: "INTERVAL DAY TO SECOND",
    oracledb.DB_TYPE_INTERVAL_YM: "INTERVAL YEAR TO MONTH",
    oracledb.DB_TYPE_ROWID: "ROWID",
    oracledb.DB_TYPE_UROWID: "UROWID",
    oracledb.DB_TYPE_BOOLEAN: "BOOLEAN",
    oracledb.DB_TYPE_JSON: "JSON",
}
_SIZED = {
    oracledb.DB_TYPE_VARCHAR: "VARCHAR2",
    oracledb.DB_TYPE_NVARCHAR: "NVARCHAR2",
    oracledb.DB_TYPE_CHAR: "CHAR",
    oracledb.DB_TYPE_NCHAR: "NCHAR",
    oracledb.DB_TYPE_RAW: "RAW",
}
_STAMPS = {
    oracledb.DB_TYPE_TIMESTAMP: "",
    oracledb.DB_TYPE_TIMESTAMP_TZ: " WITH TIME ZONE",
    oracledb.DB_TYPE_TIMESTAMP_LTZ: " WITH LOCAL TIME ZONE",
}

# Without parameters: Oracle's type -> what it is in the words that databases have in common.
_STANDARD = {
    "NUMBER": "numeric",
    "FLOAT": "numeric",
    "BINARY_DOUBLE": "double precision",
    "BINARY_FLOAT": "real",
    "DATE": "timestamp(0) without time zone",
    "INTERVAL DAY TO SECOND": "interval",
    "INTERVAL YEAR TO MONTH": "interval",
    "CLOB": "text",
    "NCLOB": "text",
    "LONG": "text",
    "ROWID": "text",
    "UROWID": "text",
    "RAW": "bytea",
    "LONG RAW": "bytea",
    "BLOB": "bytea",
    "BOOLEAN": "boolean",
    "JSON": "json",
}


def column_of(described: Any) -> Column:
    """Return a column of a query as the driver describes it.

    Raises QueryError for one whose values have no form outside Oracle.
    """
    name, code = described.name, described.type_code
    word = _WORDS.get(code)
    if code is oracledb.DB_TYPE_NUMBER:
        word = _number(described.precision or 0, described.scale)
    elif code in _SIZED:
        word = f"{_SIZED[code]}({described.display_size or described.internal_size or 1})"
    elif code in _STAMPS:
        digits = _MICROSECONDS if described.scale is None else described.scale
        word = f"TIMESTAMP({digits}){_STAMPS[code]}"
    if word is None:
        kind = getattr(described.type, "name", str(described.type_code))
        msg = (
            f"column {name} is {kind}, whose values have no form outside Oracle: select what you"
            " need of it, as in XMLSERIALIZE(DOCUMENT ... AS CLOB) or an attribute"
        )
        raise QueryError(msg)
    return Column(name, word, standard=standard(word))


def _number(precision: int, scale: int | None) -> str:
    if scale == -127:  # noqa: PLR2004 - the driver's word for a scale that floats
        return "FLOAT" if precision else "NUMBER"
    return f"NUMBER({precision},{scale or 0})" if precision else "NUMBER"


def standard(word: str) -> str:
    """Return an Oracle type in the words that databases have in common; see `Column.standard`.

    >>> standard("NUMBER(10,2)"), standard("NUMBER(5,-2)"), standard("TIMESTAMP(9)")
    ('numeric(10,2)', 'numeric(7,0)', 'timestamp(9) without time zone')
    """
    if found := _NUMBER.fullmatch(word):
        digits, scale = int(found[1]), int(found[2])
        return f"numeric({digits - min(scale, 0)},{max(scale, 0)})"
    if found := _STAMP.fullmatch(word):
        return f"timestamp({found[1]}) with{'' if found[2] else 'out'} time zone"
    base, _, rest = word.partition("(")
    if base in {"VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR"}:
        return f"character varying({rest}"
    return _STANDARD.get(base, "")


def is_lob(word: str) -> bool:
    """Whether values of the type may be larger than the rest of a row."""
    return word in {"CLOB", "NCLOB", "BLOB", "LONG", "LONG RAW", "JSON"}


def fetched(column: Column, *, arrow: bool) -> str:
    """Return the expression that fetches a column of `q` without loss."""
    name, word = f'q."{column.name}"', column.type
    if word in {"ROWID", "UROWID"}:
        return f"rowidtochar({name})"
    if word == "JSON":
        return f"json_serialize({name} returning clob)"
    if word == "INTERVAL YEAR TO MONTH":
        return f"to_char(extract(year from {name}) * 12 + extract(month from {name})) || ' mons'"
    if found := _STAMP.fullmatch(word):
        digits = int(found[1])
        precise = keeps_nanoseconds(word)
        if found[2]:
            # Of a local one, a format with a zone wants to hear that it has one.
            name = f"cast({name} as timestamp({digits}) with time zone)" if found[3] else name
            form = ZONED_NANOSECONDS if precise else ZONED
            return _written(name, form)
        if precise:
            return _written(name, NANOSECONDS)
    if arrow and not _is_decimal(word) and word.partition("(")[0] in {"NUMBER", "FLOAT"}:
        return f"to_char({name}, 'TM9', 'NLS_NUMERIC_CHARACTERS=''.,''')"
    return name


def _written(name: str, form: str) -> str:
    """Return the expression for the text of a moment; by itself a format tells no era."""
    era = f"case when to_char({name}, 'SYYYY') like '-%' then '{BEFORE_CHRIST}' end"
    return f"to_char({name}, '{form}') || {era}"


def _is_decimal(word: str) -> bool:
    """Whether Arrow has a decimal that holds every value of a NUMBER."""
    found = _NUMBER.fullmatch(word)
    return found is not None and int(found[1]) <= _DIGITS and 0 <= int(found[2]) <= int(found[1])


def keeps_nanoseconds(word: str) -> bool:
    """Whether a type has more digits of a second than Python's datetime.

    >>> keeps_nanoseconds("TIMESTAMP(9)"), keeps_nanoseconds("TIMESTAMP(6) WITH TIME ZONE")
    (True, False)
    """
    found = _STAMP.fullmatch(word)
    return found is not None and int(found[1]) > _MICROSECONDS


def reading(column: Column) -> Callable[[str], Any] | None:
    """Return what makes the Python value of a column fetched as text; None where it is one."""
    found = _STAMP.fullmatch(column.type)
    if found and found[2] and not keeps_nanoseconds(column.type):
        return _moment
    return None


def _moment(text: str) -> datetime | Unread:
    if text.endswith(BEFORE_CHRIST):
        return Unread(text)
    return datetime.fromisoformat(text)
