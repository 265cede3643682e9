"""Values as SQLite keeps them: it has no types of its own for times, decimals, JSON."""

import json
import uuid
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any


def plain(value: Any) -> Any:
    """Return a value that SQLite can bind, without losing a digit of it."""
    if isinstance(value, Decimal | uuid.UUID | time):
        return str(value)
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value) if isinstance(value, dict | list) else value


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
