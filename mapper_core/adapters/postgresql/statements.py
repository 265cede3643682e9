"""The user's query as PostgreSQL is asked it: values written in, one chunk's rows picked out."""

from collections.abc import Sequence
from typing import Any

import psycopg

from ...errors import QueryError
from ...model import Chunk, ChunkKind, DataPath, Plan, Snapshot
from ...query import Query
from . import errors, saying, session

# What SQL calls the present moment, where it is no timestamptz.
_CLOCK_TYPES = {
    "current_date": "date",
    "current_time": "timetz",
    "localtime": "time",
    "localtimestamp": "timestamp",
}


class Statements:
    """Writes statements for one connection, which reads at one snapshot."""

    def __init__(self, connection: saying.Connection | None, snapshot: Snapshot | None) -> None:
        self._connection = connection
        self._instant = snapshot.instant if snapshot else None

    @property
    def at_one_moment(self) -> bool:
        """Whether what asks for the present moment is written as that of the read point."""
        return self._instant is not None

    def query(self, query: Query, *, condition: str | None = None, sample: str = "") -> str:
        """Return the query with its values; see `Query.render` for the rest."""
        return query.render(
            self._value,
            self._moment if self._instant else None,
            condition=condition,
            sample=sample,
        )

    def rows(self, query: Query, plan: Plan, chunk: Chunk) -> str:
        """Return `(query) q where ...` of the chunk's rows: what may follow FROM."""
        if chunk.kind is ChunkKind.BLOCKS:
            return f"(\n{self.query(query, condition=_blocks(chunk))}\n) q"
        return f"(\n{self.query(query)}\n) q{self._where(plan, chunk)}{_page(plan, chunk)}"

    def _where(self, plan: Plan, chunk: Chunk) -> str:
        """Return the chunk's condition. NULL keys are in their own chunk and in no other."""
        keys = key_columns(plan.chunk_key)
        if chunk.kind is ChunkKind.NULLS:
            return " where " + " or ".join(f"{key} is not distinct from null" for key in keys)
        if chunk.kind is not ChunkKind.RANGE:
            return ""
        # Not IS NOT NULL: a row value with one NULL in it is neither null nor not null.
        terms = [f"{key} is distinct from null" for key in keys]
        for bound, compare, loosely in ((chunk.low, ">=", ">="), (chunk.high, "<", "<=")):
            if bound is not None:
                values = [
                    session.literal(self._connection, value, kind)
                    for value, kind in zip(bound, plan.key_types, strict=True)
                ]
                terms.append(f"({', '.join(keys)}) {compare} ({', '.join(values)})")
                if len(keys) > 1:
                    # Goes without saying, but not for the planner: it knows that two bounds of a
                    # column belong together, and takes those of a row value for unrelated.
                    terms.append(f"{keys[0]} {loosely} {values[0]}")
        return " where " + " and ".join(terms)

    def _value(self, name: str, value: Any) -> str:
        try:
            return session.literal(self._connection, value)
        except (psycopg.ProgrammingError, psycopg.DataError) as error:
            msg = (
                f"params has a value for :{name} of type {type(value).__name__}, which cannot be"
                f" written into a statement ({errors.words(error)}): give a str, a number, a date"
                " or time, or a list of these"
            )
            raise QueryError(msg) from error

    def _moment(self, words: str) -> str:
        """Write the read point's moment as what `words` would have given there."""
        instant = session.literal(self._connection, self._instant, "timestamptz")
        return f"({instant}::{_CLOCK_TYPES.get(words, 'timestamptz')})"


def key_columns(key: Sequence[str]) -> list[str]:
    """Return the key's columns as a statement over `... q` names them."""
    return [f"q.{session.identifier(name)}" for name in key]


def copy_format(path: DataPath) -> str:
    """Return COPY's word for the form in which rows travel, out of one database or into another."""
    return {DataPath.COPY_BINARY: "binary", DataPath.ARROW: "csv"}.get(path, "text")


def _blocks(chunk: Chunk) -> str:
    """Return the condition that a row lies in the chunk's blocks.

    A partitioned table has the same block numbers in each partition, so that a row lies in one
    range of them wherever it is.
    """
    bounds = ((chunk.low, ">="), (chunk.high, "<"))
    terms = [f"ctid {compare} '({int(b[0])},0)'::tid" for b, compare in bounds if b]
    return "(" + (" and ".join(terms) or "true") + ")"


def _page(plan: Plan, chunk: Chunk) -> str:
    if chunk.kind is not ChunkKind.PAGE or chunk.low is None:
        return ""
    low, high = int(chunk.low[0]), int(chunk.high[0]) if chunk.high else None
    limit = "" if high is None else f" limit {high - low}"
    return f" order by {', '.join(key_columns(plan.chunk_key))} offset {low}{limit}"
