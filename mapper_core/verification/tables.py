"""Whether two tables or queries have the same rows: by numbers, or by their values."""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from .. import adapters
from ..connections import opener_of
from ..errors import QueryError, SettingsError
from ..fitting import check_columns, match_columns
from ..in_words import in_words
from ..model import Column, Verification
from ..protocols import Checksum, Reader, Source
from ..query import Query, read_query
from .comparison import Comparison


def verify(
    source_conn: Any,
    source: str,
    target_conn: Any,
    target: str,
    *,
    params: Dict[str, Any] | None = None,
    method: str = Verification.COUNT,
    time_zone: str = "UTC",
) -> Comparison:
    """Compare two tables or queries, each read by one statement at its own moment.

    Args:
        source_conn: anything that a load accepts as a connection.
        source: a table, as in "shop.orders" (spelled as in the database), or a SELECT.
        target_conn: as `source_conn`.
        target: as `source`.
        params: values for `:name` in the queries.
        method: "count" or, between PostgreSQL databases, "checksum": whether both have the same
            values in the source's columns, matched by name, in any order of rows and columns. Where
            types differ, the source's value counts as it would arrive in the target.
        time_zone: time zone of the sessions, for queries whose meaning depends on it.

    Returns:
        Comparison: `comparison.equal`, the numbers, and a text. A difference does not raise here.

    Raises:
        SettingsError: a keyword or connection cannot be used, or the columns have no checksum that
            could be compared.
        QueryError: a query or table cannot be read.
        TargetError: a column of the source is missing in the target.
        DatabaseError: a database did not answer.
    """
    known = (Verification.COUNT.value, Verification.CHECKSUM.value)
    if method not in known:
        msg = f"method={method!r} is unknown: use one of {', '.join(map(repr, known))}"
        raise SettingsError(msg)
    for name, what in (("source", source), ("target", target)):
        given: Any = what
        if not isinstance(given, str):
            msg = (
                f"{name} is of type {type(given).__name__}: give a table's name or a SELECT, a str"
            )
            raise SettingsError(msg)
    sides = [
        _Side.of(conn, what, params, role=role, time_zone=time_zone)
        for conn, what, role in (
            (source_conn, source, "source_conn"),
            (target_conn, target, "target_conn"),
        )
    ]
    databases = [side.database for side in sides]
    with in_words(f"compare {sides[0].name} with {sides[1].name}", databases):
        return _compared(sides[0], sides[1], Verification(method))


@dataclass(frozen=True, slots=True)
class _Side:
    """One of two tables or queries."""

    database: adapters.Database
    read_from: Source
    query: Query
    name: str

    @classmethod
    def of(
        cls, conn: Any, what: str, params: Dict[str, Any] | None, *, role: str, time_zone: str
    ) -> "_Side":
        database = adapters.database(
            opener_of(conn, role=role), application="mapper verify", time_zone=time_zone
        )
        words = what.split()
        if not words:
            raise QueryError("there is nothing to compare: give a table's name, or a SELECT")
        if len(words) == 1:
            name, sql = words[0], f"select * from {database.quote(*words[0].split('.'))}"
            query = read_query(sql, None, dialect=database.dialect)
        else:
            name = f"the query of the {role.removesuffix('_conn')}"
            query = read_query(what, params, dialect=database.dialect)
        return cls(database, database.for_query(query), query, name)

    def rows(self) -> int:
        with self._reader() as reader:
            return reader.survey(self.query).count()

    def columns(self) -> tuple[Column, ...]:
        with self._reader() as reader:
            columns = reader.columns(self.query)
        check_columns(columns, named=True)
        return columns

    def checksum(self, pairs: Sequence[tuple[Column, Column]]) -> Checksum:
        with self._reader() as reader:
            return reader.checksum(self.query, pairs)

    def _reader(self) -> AbstractContextManager[Reader]:
        return self.read_from.open_reader(None)


def _compared(source: _Side, target: _Side, method: Verification) -> Comparison:
    """Compare; one session at a time, for a pool of one connection may serve both sides."""
    if method is Verification.COUNT:
        found = [Checksum(side.rows()) for side in (source, target)]
    else:
        theirs = target.columns()
        pairs = match_columns(source.columns(), theirs, target.name, complete=False)
        if why := target.database.checksum_blocker(source.database.kind, pairs):
            msg = f"method='checksum' cannot be done: {why}"
            raise SettingsError(msg)
        same = [(column, column) for _, column in pairs]
        found = [source.checksum(pairs), target.checksum(same)]
    return Comparison(
        method=method,
        source=source.name,
        target=target.name,
        source_rows=found[0].rows,
        target_rows=found[1].rows,
        source_checksum=found[0].sum,
        target_checksum=found[1].sum,
    )
