"""Large values: short ones come with their rows, a long one by itself when its row's turn comes.

So what is in memory is an array of short values and a few long ones, however large they all are.
Source: python-oracledb documentation, "Using CLOB, BLOB, NCLOB, and BFILE Data": a locator knows
the size of its value, and costs a round trip when it is read.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import oracledb

from ...model import Column, Row
from . import session

# Characters or bytes that a value may have to come with its row: past this a round trip of its own
# costs little beside what it brings.
SHORT = 64 * 1024

# Characters and bytes of long values that rows in memory together may have.
HELD = 16 * 1024 * 1024

_KINDS = {"CLOB", "NCLOB", "BLOB"}


class Lobs:
    """A query's columns, some of which may hold large values."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.places = [at for at, column in enumerate(columns) if column.type in _KINDS]

    def selected(self, expressions: Sequence[str]) -> list[str]:
        """Return what to select for the columns' expressions: short values, then all locators."""
        selected = [
            f"{expression} as {session.exact(column.name)}"
            for expression, column in zip(expressions, self.columns, strict=True)
        ]
        for at in self.places:
            value, name = expressions[at], session.exact(self.columns[at].name)
            short = f"dbms_lob.getlength({value}) <= {SHORT}"
            selected[at] = f"case when {short} then {value} end as {name}"
        return selected + [f"{expressions[at]} as {_locator(at)}" for at in self.places]

    def handler(self, cursor: oracledb.Cursor, column: Any) -> Any:
        """Fetch the locators as they are, and all else whole; see oracledb's outputtypehandler."""
        if session.exact(column.name) in map(_locator, self.places):
            return None
        return session.every_digit(cursor, column)

    def size(self, rows: Sequence[Row]) -> int:
        """Return the characters and bytes of the rows' large values."""
        return sum(len(row[at] or "") for row in rows for at in self.places)

    def whole(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Yield rows with their long values, a few at a time."""
        if not self.places:
            yield list(rows)
            return
        held: list[Row] = []
        weight, width = 0, len(self.columns)
        for row in rows:
            values = list(row[:width])
            for at, lob in zip(self.places, row[width:], strict=True):
                if lob is not None and lob.size() > SHORT:
                    values[at] = lob.read()
                    weight += lob.size()
            held.append(tuple(values))
            if weight >= HELD:
                yield held
                held, weight = [], 0
        if held:
            yield held


def _locator(at: int) -> str:
    """Return the name of a column's locator: no column of the query's is likely to have it."""
    return session.exact(f"mapper lob {at}")
