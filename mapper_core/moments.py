"""Moments written out as text, read alike by every Python."""

import re
from datetime import datetime

# The digits of a second.
_FRACTION = re.compile(r"[.,](\d+)")

# A time whose zone is hours alone, as PostgreSQL writes most.
_HOURS_ALONE = re.compile(r":\d\d(?:[.,]\d+)?[+-]\d\d$")

# So many of them has Python's datetime.
_KEPT = 6


def read(text: str) -> tuple[datetime, str]:
    """Return the moment that an ISO text tells, and its digits beyond a microsecond.

    Raises ValueError where it tells none. Python 3.10 knows no Z and no zone of hours alone, and
    reads three or six digits of a second alone; later ones cut off what is beyond.

    >>> read("2024-01-31T12:00:00.1234567")
    (datetime.datetime(2024, 1, 31, 12, 0, 0, 123456), '7')
    """
    if text.endswith(("Z", "z")):
        text = f"{text[:-1]}+00:00"
    elif _HOURS_ALONE.search(text):
        text = f"{text}:00"
    if (found := _FRACTION.search(text)) is None:
        return datetime.fromisoformat(text), ""
    digits, (start, end) = found[1], found.span()
    within = f"{text[:start]}.{digits[:_KEPT]:0<{_KEPT}}{text[end:]}"
    return datetime.fromisoformat(within), digits[_KEPT:].rstrip("0")
