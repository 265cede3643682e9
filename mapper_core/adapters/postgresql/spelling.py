"""Python values as PostgreSQL spells them, for columns of text: there the spelling is the value.

Source: PostgreSQL source, float.c (which numbers get an exponent), arrayfuncs.c (which elements get
quotes), rangetypes.c (which bounds do), datetime.c, style ISO for moments and `postgres` for
intervals.
"""

import math
import re
from collections.abc import Callable
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

# Digits before the point from which on a number gets an exponent.
REAL_DIGITS, DOUBLE_DIGITS = 6, 15
_LEAST_EXPONENT = -4

# More digits than PostgreSQL takes in a number; Python would write out any exponent's zeros.
_MOST_DIGITS = 200_000

_QUOTED = re.compile(r"""^$|^null$|["\\{},\t\n\v\f\r ]""", re.IGNORECASE)
_ESCAPED = re.compile(r'(["\\])')
_QUOTED_BOUND = re.compile(r"""^$|["\\()\[\],\t\n\v\f\r ]""")

Other = Callable[[Any], str | None]


def spelled(value: Any, digits: int, other: Other) -> str | None:
    """Return a value as PostgreSQL would write it; None for NULL.

    Args:
        value: of any kind; a list is an array.
        digits: `REAL_DIGITS` where floats are single.
        other: writes what is none of those known here.

    >>> spelled([1.0, 1e15, None, Decimal("1E-7"), "a b"], DOUBLE_DIGITS, str)
    '{1,1e+15,NULL,0.0000001,"a b"}'
    >>> spelled(datetime(2024, 1, 1, 10, 0, 0, 500_000), DOUBLE_DIGITS, str)
    '2024-01-01 10:00:00.5'
    >>> spelled(Range(datetime(2024, 1, 1), None), DOUBLE_DIGITS, str)
    '["2024-01-01 00:00:00",)'
    >>> spelled(timedelta(days=-1, hours=-2), DOUBLE_DIGITS, str)
    '-1 days -02:00:00'
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        literal = _array(value, digits, other)
        literal.encode()  # what UTF-8 cannot hold is told as this value's
        return literal
    if isinstance(value, Range):
        return _range(value, digits, other)
    if isinstance(value, Multirange):
        return "{" + ",".join(_range(each, digits, other) for each in value) + "}"
    if isinstance(value, float):
        return _float(value, digits)
    if isinstance(value, Decimal):
        plain = value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS
        return format(value, "f") if plain else str(value)
    if isinstance(value, datetime | time):
        return _moment(value)
    if isinstance(value, timedelta):
        return _interval(value)
    return str(value) if isinstance(value, UUID) else other(value)


def _array(elements: list[Any], digits: int, other: Other) -> str:
    texts = []
    for each in elements:
        if isinstance(each, list):
            texts.append(_array(each, digits, other))
        elif (text := spelled(each, digits, other)) is None:
            texts.append("NULL")
        else:
            texts.append(_ESCAPED.sub(r"\\\1", text).join('""') if _QUOTED.search(text) else text)
    return "{" + ",".join(texts) + "}"


def _range(value: Range[Any], digits: int, other: Other) -> str:
    if value.isempty:
        return "empty"
    lower, upper = (
        "" if bound is None else _bound(spelled(bound, digits, other) or "")
        for bound in (value.lower, value.upper)
    )
    # A side without a bound includes none.
    first = "[" if value.lower_inc else "("
    last = "]" if value.upper_inc else ")"
    return f"{first}{lower},{upper}{last}"


def _bound(text: str) -> str:
    return '"' + _ESCAPED.sub(r"\1\1", text) + '"' if _QUOTED_BOUND.search(text) else text


def _float(value: float, digits: int) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    # The fewest digits that tell it from all others, as PostgreSQL writes them too.
    exact = Decimal(float.__repr__(value)).normalize()
    exponent = exact.adjusted() if value else 0
    if _LEAST_EXPONENT <= exponent < digits:
        return format(exact, "f")
    sign, (first, *others), _ = exact.as_tuple()
    rest = "." + "".join(map(str, others)) if others else ""
    return f"{'-' * sign}{first}{rest}e{exponent:+03d}"


def _moment(value: datetime | time) -> str:
    bare = value.replace(tzinfo=None)
    text = bare.isoformat(" ") if isinstance(bare, datetime) else bare.isoformat()
    if "." in text:
        text = text.rstrip("0")
    offset = value.utcoffset()
    if offset is None:
        return text
    minutes, seconds = divmod(abs(offset) // timedelta(seconds=1), 60)
    hours, minutes = divmod(minutes, 60)
    text += f"{'-' if offset < timedelta(0) else '+'}{hours:02}"
    if minutes or seconds:
        text += f":{minutes:02}"
    return text + (f":{seconds:02}" if seconds else "")


def _interval(value: timedelta) -> str:
    sign, span = ("-", -value) if value < timedelta(0) else ("", value)
    parts = []
    if span.days:
        parts.append(f"{sign}{span.days} day{'' if sign == '' and span.days == 1 else 's'}")
    if span.seconds or span.microseconds or not parts:
        minutes, seconds = divmod(span.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(sign + _moment(time(hours, minutes, seconds, span.microseconds)))
    return " ".join(parts)
