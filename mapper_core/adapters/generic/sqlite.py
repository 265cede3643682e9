"""Values as SQLite keeps them: it has no types of its own for times, decimals, JSON.

Source: SQLite documentation, "Datatypes In SQLite": the type that a column is declared with only
says what its values are converted to.
"""

import json
import math
import re
import uuid
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from ...model import Column, Row
from ...row_values import marked

# What to do about a value that SQLite would change, for the end of a message.
_INSTEAD = "cast the column to text in the query"

# What the driver binds.
_BINDABLE = (str, int, float, bytes, bytearray, memoryview, type(None))

# Values that Python prints as PostgreSQL does.
_AS_PRINTED = (Decimal, uuid.UUID, time, IPv4Address, IPv6Address, IPv4Network, IPv6Network)

# A text that SQLite reads as a number, where a column is for numbers.
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)

# Significant digits that SQLite promises to keep when it makes a REAL of a text.
_DIGITS = 15

_INTEGER_ENDS = 2**63


class _Affinity(Enum):
    """What SQLite converts the values of a column to, where it can."""

    INTEGER = "integer"
    TEXT = "text"
    BLOB = "blob"
    REAL = "real"
    NUMERIC = "numeric"


# Parts of a declared type that say so; the first that is found decides.
_SAYING = {
    _Affinity.INTEGER: ("INT",),
    _Affinity.TEXT: ("CHAR", "CLOB", "TEXT"),
    _Affinity.BLOB: ("BLOB",),
    _Affinity.REAL: ("REAL", "FLOA", "DOUB"),
}


@lru_cache(maxsize=1_000)
def _affinity(declared: str) -> _Affinity:
    """Return what a column declared so converts its values to.

    >>> _affinity("varchar(10)").value, _affinity("decimal(10,2)").value, _affinity("").value
    ('text', 'numeric', 'blob')
    """
    if not declared:
        return _Affinity.BLOB
    said = declared.upper()
    for affinity, parts in _SAYING.items():
        if any(part in said for part in parts):
            return affinity
    return _Affinity.NUMERIC


class UnfitValueError(Exception):
    """A value that SQLite would change, or has no way to keep."""

    def __init__(self, words: str, position: int = 0) -> None:
        super().__init__(words)
        self.position = position
        """Which of the rows written has it, from 1."""


def bound_rows(
    rows: Iterable[Row],
    columns: Sequence[Column],
    before: int,
    of_json: frozenset[str] = frozenset(),
) -> list[dict[str, Any]]:
    """Return rows as they are bound, by the names of their columns.

    Args:
        rows: what is to be written.
        columns: of the table, with their types as they were declared.
        before: how many rows came before these.
        of_json: the columns that are JSON in the query.

    Raises UnfitValueError, naming the row, for a value that would not be kept as it is.
    """
    made = []
    flags_are_json = {each.name for each in columns if each.name in of_json and _holds_json(each)}
    for position, row in enumerate(rows, before + 1):
        kept = {}
        for column, value in zip(columns, row, strict=True):
            if isinstance(value, bool) and column.name in flags_are_json:
                value = json.dumps(value)  # noqa: PLW2901 - the same value, as it is kept
            try:
                kept[column.name] = _kept(value, _affinity(column.type))
            except UnfitValueError as error:
                words = f"column {column.name} ({column.type or 'of no type'}): {error}"
                raise UnfitValueError(words, position) from error.__cause__
        made.append(kept)
    return made


def _holds_json(column: Column) -> bool:
    """Whether a column would hold JSON as its text, and not what it stands for."""
    of_text = _affinity(column.type) in {_Affinity.TEXT, _Affinity.BLOB}
    return of_text or "JSON" in column.type.upper()


def _kept(value: Any, affinity: _Affinity) -> Any:
    """Return a value as it is bound for a column. Raises UnfitValueError."""
    if isinstance(value, float) and math.isnan(value):
        msg = f"SQLite keeps NaN as NULL: {_INSTEAD}"
        raise UnfitValueError(msg)
    value = _bindable(value)
    if isinstance(value, int) and not -_INTEGER_ENDS <= value < _INTEGER_ENDS:
        value = str(value)
    if affinity is _Affinity.TEXT:
        # SQLite would write fewer digits.
        return float.__repr__(value) if isinstance(value, float) else value
    if affinity is not _Affinity.BLOB and not _arrives(value, affinity):
        msg = (
            f"SQLite would not keep the number {marked(str(value).strip())} unchanged there:"
            " declare the column TEXT in the target"
        )
        raise UnfitValueError(msg)
    return value


def _bindable(value: Any) -> Any:
    try:
        bindable = plain(value)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        msg = (
            f"a {kind} is kept as JSON, which cannot hold its values ({marked(str(error))}):"
            f" {_INSTEAD}"
        )
        raise UnfitValueError(msg) from error
    if not isinstance(bindable, _BINDABLE):
        msg = f"SQLite has no way to keep a {type(value).__name__}: {_INSTEAD}"
        raise UnfitValueError(msg)
    return bindable


def _arrives(value: Any, affinity: _Affinity) -> bool:
    """Whether a column for numbers keeps a value, or another number that is equal to it."""
    if isinstance(value, int):
        return affinity is not _Affinity.REAL or float(value) == value
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return True
    try:
        number = Decimal(found[1])
    except ArithmeticError:
        return False  # its exponent is past all sense
    is_integer = -_INTEGER_ENDS <= number < _INTEGER_ENDS and _WHOLE.fullmatch(found[1])
    if is_integer and affinity is not _Affinity.REAL:
        return True
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    return len(digits) <= _DIGITS and Decimal(repr(float(number))) == number


def plain(value: Any) -> Any:
    """Return a value that SQLite can bind, with all its digits."""
    if isinstance(value, _AS_PRINTED):
        return str(value)
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, date):
        return value.isoformat()
    # A NaN in it would be no JSON, and read as null.
    return json.dumps(value, allow_nan=False) if isinstance(value, dict | list) else value


def instant(value: datetime) -> str:
    """Return the text SQLite keeps of a datetime: an aware one in UTC, so that texts compare."""
    return (value if value.tzinfo is None else value.astimezone(timezone.utc)).isoformat(" ")


def bound(value: datetime) -> str:
    """Return the bound of a window as the text that all texts from it on begin with, or exceed.

    SQLite compares dates and times as text, and "2024-02-01" sorts before "2024-02-01 00:00:00".

    >>> bound(datetime(2024, 2, 1)), bound(datetime(2024, 2, 1, 6, 30))
    ('2024-02-01', '2024-02-01 06:30:00')
    """
    return instant(value).partition("+")[0].removesuffix(" 00:00:00")


def parameter(name: str, value: Any) -> Any:
    """Return a bind value of the user's SQL as the text that its times compare with."""
    if not isinstance(value, datetime):
        return value
    # Left to SQLAlchemy, a datetime gets six decimals, and sorts after the same one without.
    return (bound if name in {"window_start", "window_end"} else instant)(value)
