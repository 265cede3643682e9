"""Values as SQLite keeps them: it has no types of its own for times, decimals, JSON."""

import json
import math
import uuid
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any

from ...model import Column, Row

# What to do about a value that SQLite would change, for the end of a message.
_INSTEAD = "cast the column to text in the query"


class UnfitValueError(Exception):
    """A value that SQLite would change."""

    def __init__(self, words: str, position: int = 0) -> None:
        super().__init__(words)
        self.position = position
        """Which of the rows written has it, from 1."""


def bound_rows(rows: Iterable[Row], columns: Sequence[Column], before: int) -> list[dict[str, Any]]:
    """Return rows as they are bound, by the names of their columns.

    Args:
        rows: what is to be written.
        columns: of the table, with their types as they were declared.
        before: how many rows came before these.

    Raises UnfitValueError, naming the row, for a value that would not be kept as it is.
    """
    made = []
    for position, row in enumerate(rows, before + 1):
        kept = {}
        for column, value in zip(columns, row, strict=True):
            try:
                kept[column.name] = _kept(value)
            except UnfitValueError as error:
                words = f"column {column.name} ({column.type or 'of no type'}): {error}"
                raise UnfitValueError(words, position) from error.__cause__
        made.append(kept)
    return made


def _kept(value: Any) -> Any:
    """Return a value as it is bound for a column. Raises UnfitValueError."""
    if isinstance(value, float) and math.isnan(value):
        msg = f"SQLite keeps NaN as NULL: {_INSTEAD}"
        raise UnfitValueError(msg)
    return plain(value)


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
