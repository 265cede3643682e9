"""The user's query as Oracle is asked it: at a read point, one chunk's rows picked out of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from ...model import Chunk, ChunkKind, Plan, Snapshot
from ...query import Query
from . import session
from .types import MICROSECONDS, ZONED

_DATE = "SYYYY-MM-DD HH24:MI:SS"
_STAMP = "SYYYY-MM-DD HH24:MI:SS.FF9"

# Of a key's type: what writes its value as text, and what reads it back. Numbers and texts are
# bound as they are.
_AS_TEXT = {
    "date": f"to_char({{0}}, '{_DATE}')",
    "timestamp": f"to_char({{0}}, '{_STAMP}')",
    "timestamptz": f"to_char({{0}} at time zone 'UTC', '{_STAMP}')",
    "raw": "rawtohex({0})",
}
_FROM_TEXT = {
    "date": f"to_date({{0}}, '{_DATE}')",
    "timestamp": f"to_timestamp({{0}}, '{_STAMP}')",
    "timestamptz": f"to_timestamp_tz({{0}} || ' +00:00', '{_STAMP} TZH:TZM')",
    "raw": "hextoraw({0})",
}

# What SQL calls the present moment, of the moment with its zone.
_CLOCKS = {
    "sysdate": "cast({0} as date)",
    "systimestamp": "{0}",
    "current_timestamp": "({0} at time zone sessiontimezone)",
    "localtimestamp": "cast({0} at time zone sessiontimezone as timestamp)",
    "current_date": "cast({0} at time zone sessiontimezone as date)",
}

_WHOLE = len("2024-01-01T00:00:00")

AS_OF, FLASHBACK = "as of scn", "flashback"
"""How a read point is reached: by a clause behind each table, or by the session's own mode."""

_POINT = re.compile(rf"({AS_OF}|{FLASHBACK}) (\d+)")


def point_of(snapshot: Snapshot | None) -> tuple[str, int] | None:
    """Return how a snapshot is reached, and its SCN; None for no snapshot."""
    if snapshot is None or snapshot.id is None:
        return None
    found = _POINT.fullmatch(snapshot.id)
    assert found is not None  # noqa: S101 - this adapter wrote it
    return found[1], int(found[2])


@dataclass(slots=True)
class Statement:
    """A statement with the values that are bound in it."""

    sql: str
    values: dict[str, Any] = field(default_factory=dict)


class Statements:
    """Writes statements that read at one snapshot."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        point = point_of(snapshot)
        self._as_of = f" as of scn {point[1]}" if point and point[0] == AS_OF else ""
        self._instant = snapshot.instant if snapshot and point else None

    def query(self, query: Query, *, condition: str | None = None, sample: str = "") -> Statement:
        """Return the query, at the read point or, with a sample of its one table, now."""
        values: dict[str, Any] = {}

        def write(name: str, value: Any) -> str:
            text, values[name] = _bound(name, value)
            return text

        sql = query.render(
            write,
            self._moment if self._instant else None,
            condition=condition,
            read_point=sample or self._as_of,
        )
        return Statement(sql, values)

    def rows(self, query: Query, plan: Plan, chunk: Chunk, columns: Sequence[str]) -> Statement:
        """Return what selects the columns, expressions over `q`, of a chunk's rows."""
        listed = ", ".join(columns)
        if chunk.kind is ChunkKind.ROWIDS:
            condition, bounds = _rowids(chunk)
            inner = self.query(query, condition=condition)
            return Statement(
                f"select {listed} from (\n{inner.sql}\n) q", {**inner.values, **bounds}
            )
        inner = self.query(query)
        if chunk.kind is ChunkKind.PAGE:
            return Statement(_page(inner.sql, plan, chunk, listed), inner.values)
        where, bounds = _where(plan, chunk)
        sql = f"select {listed} from (\n{inner.sql}\n) q{where}"
        return Statement(sql, {**inner.values, **bounds})

    def _moment(self, words: str) -> str:
        """Write the read point's moment as what `words` would have given there."""
        instant = self._instant or ""
        if words in {"sysdate", "current_date"}:
            # Whole seconds: a cast may round them.
            instant = f"{instant[:_WHOLE]}.000000{instant[_WHOLE + 7 :]}"
        moment = f"to_timestamp_tz('{instant}', '{ZONED}')"
        moment = f"cast({moment} as timestamp(6) with time zone)"
        return _CLOCKS.get(words, "{0}").format(moment)


def as_text(name: str, kind: str) -> str:
    """Return the expression that writes a key value as text, or the value where it is bound so."""
    return _AS_TEXT.get(kind, "{0}").format(name)


def kind_of(word: str) -> str | None:
    """Return how values of a type are kept as a key; None for a type that nothing orders."""
    base = word.partition("(")[0]
    if word.startswith("TIMESTAMP"):
        return "timestamptz" if word.endswith("TIME ZONE") else "timestamp"
    return {
        **dict.fromkeys(("NUMBER", "FLOAT"), "number"),
        **dict.fromkeys(("BINARY_DOUBLE", "BINARY_FLOAT"), "double"),
        **dict.fromkeys(("VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR"), "text"),
        "DATE": "date",
        "RAW": "raw",
    }.get(base)


def _bound(name: str, value: Any) -> tuple[str, Any]:
    """Return how a value of the user's stands in a statement, and what is bound there.

    The driver makes a DATE of any datetime; what that would lose is bound as text.
    """
    if isinstance(value, datetime) and value.tzinfo is not None:
        return f"to_timestamp_tz(:{name}, '{ZONED}')", zoned_text(value)
    if isinstance(value, datetime) and value.microsecond:
        return f"to_timestamp(:{name}, '{MICROSECONDS}')", value.isoformat()
    return f":{name}", session.bindable(value)


def zoned_text(value: datetime) -> str:
    """Return an aware datetime in the form of `ZONED`."""
    text = value.isoformat(timespec="microseconds")
    if len(text) == len("2024-01-01T00:00:00.000000+00:00"):
        return text
    # Local time of long ago has offsets with seconds.
    return value.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _where(plan: Plan, chunk: Chunk) -> tuple[str, dict[str, Any]]:
    """Return the chunk's condition. NULL keys are in their own chunk and in no other."""
    keys = [f"q.{session.exact(name)}" for name in plan.chunk_key]
    if chunk.kind is ChunkKind.NULLS:
        return " where " + " or ".join(f"{key} is null" for key in keys), {}
    if chunk.kind is not ChunkKind.RANGE:
        return "", {}
    terms, values = [f"{key} is not null" for key in keys], {}
    for bound, side in ((chunk.low, "low"), (chunk.high, "high")):
        if bound is None:
            continue
        marks = []
        for number, (text, kind) in enumerate(zip(bound, plan.key_types, strict=True)):
            name = f"mapper_{side}_{number}"
            values[name] = _key_value(text, kind)
            marks.append(_FROM_TEXT.get(kind, "{0}").format(f":{name}"))
        reached = _not_below(keys, marks)
        terms.append(reached if side == "low" else f"not {reached}")
    return " where " + " and ".join(terms), values


def _key_value(text: str, kind: str) -> Any:
    if kind == "number":
        return Decimal(text)
    return float(text) if kind == "double" else text


def _not_below(keys: Sequence[str], marks: Sequence[str]) -> str:
    """Return (keys) >= (marks), spelled out: Oracle compares no rows."""
    key, mark = keys[0], marks[0]
    if len(keys) == 1:
        return f"({key} >= {mark})"
    return f"({key} > {mark} or ({key} = {mark} and {_not_below(keys[1:], marks[1:])}))"


def _rowids(chunk: Chunk) -> tuple[str, dict[str, Any]]:
    """Return the condition that a row lies in the chunk's part of the table's files."""
    terms, values = [], {}
    for bound, compare, name in ((chunk.low, ">=", "low"), (chunk.high, "<", "high")):
        if bound is not None:
            terms.append(f"rowid {compare} chartorowid(:mapper_{name})")
            values[f"mapper_{name}"] = bound[0]
    return f"({' and '.join(terms) or '1 = 1'})", values


def _page(query: str, plan: Plan, chunk: Chunk, listed: str) -> str:
    """Return the rows of a page: numbered in their order, and only then picked out."""
    keys = ", ".join(f"o.{session.exact(name)}" for name in plan.chunk_key)
    low = int(chunk.low[0]) if chunk.low else 0
    upto = f" where rownum <= {int(chunk.high[0])}" if chunk.high else ""
    return (
        f"select {listed} from (select n.*, rownum as mapper_row from"
        f" (select o.* from (\n{query}\n) o order by {keys}) n{upto}) q"
        f" where q.mapper_row > {low}"
    )
