"""Reading from PostgreSQL: one session at the load's snapshot, streaming chunks as COPY."""

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from psycopg.types.datetime import IntervalLoader

from ...errors import QueryError
from ...model import Chunk, ChunkKind, Column, DataPath, Plan, Row
from ...protocols import Batch, KeyCuts
from ...query import Query
from . import errors, session
from .cuts import find_cuts

# What SQL calls the present moment, where it is no timestamptz.
_CLOCK_TYPES = {
    "current_date": "date",
    "current_time": "timetz",
    "localtime": "time",
    "localtimestamp": "timestamp",
}

# psycopg sends at most this much at once (its MAX_BUFFER_SIZE); joining rows up to it is what
# makes the pass-through cost a quarter of forwarding them one by one.
BLOCK_BYTES = 128 * 1024

# Rows handed on together where Python rows are needed.
BATCH_ROWS = 1_000


class PostgreSQLReader:
    """One connection inside one read-only transaction."""

    def __init__(self, connection: session.Connection, instant: str | None) -> None:
        self._connection = connection
        self._instant = instant
        self.rows_read: int | None = None

    def columns(self, query: Query) -> tuple[Column, ...]:
        try:
            described = self._run(f"select * from (\n{self._render(query)}\n) q limit 0")
        except (
            psycopg.ProgrammingError,
            psycopg.DataError,
            psycopg.NotSupportedError,
        ) as error:
            msg = f"the source database refuses the query: {errors.words(error)}"
            raise QueryError(msg) from error
        fields = described.description or []
        types = self._run(
            "select format_type(o, m) from unnest(%s::oid[], %s::int[]) with ordinality t(o, m, n)"
            " order by n",
            (
                [f.type_code for f in fields],
                [described.pgresult.fmod(i) for i in range(len(fields))],
            ),
        ).fetchall()
        return tuple(
            Column(field.name, str(kind), field.type_code)
            for field, (kind,) in zip(fields, types, strict=True)
        )

    def count_up_to(self, query: Query, limit: int) -> int:
        counted = self._run(
            f"select count(*) from (select 1 from (\n{self._render(query)}\n) q limit {limit:d}) r"
        )
        return int(counted.fetchone()[0])

    def primary_key(self, table: Sequence[str]) -> tuple[str, ...]:
        found = self._run(
            "select a.attname from pg_index i"
            " join unnest(i.indkey::int2[]) with ordinality k(attnum, n) on true"
            " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum"
            " where i.indrelid = to_regclass(%s) and i.indisprimary order by k.n",
            (session.identifier(*table),),
        )
        return tuple(str(name) for (name,) in found.fetchall())

    def blocker(self, query: Query) -> str | None:
        rendered = self._render(query)
        plan = self._run(f"explain (verbose, format json) {rendered}").fetchone()[0][0]["Plan"]
        for node in _nodes(plan):
            if words := _WHOLE.get(node["Node Type"]):
                return f"it has {words}, perhaps in a view"
        called = {name for node in _nodes(plan) for name in _CALL.findall(str(node))}
        found = self._run(
            "select min(proname) from pg_proc where provolatile = 'v' and proname = any(%s)",
            (sorted(called),),
        )
        name = found.fetchone()[0]
        if name is None:
            return None
        return (
            f"{name}() is volatile; declare it STABLE if it gives the same value throughout a"
            " transaction"
        )

    def key_cuts(self, query: Query, key: Sequence[str], chunk_size: int) -> KeyCuts:
        return find_cuts(self._connection, self._render(query), key, chunk_size)

    def count(self, query: Query, plan: Plan, chunk: Chunk) -> int:
        counted = self._run(
            f"select count(*) from (\n{self._render(query)}\n) q{self._where(plan, chunk)}"
        )
        return int(counted.fetchone()[0])

    def read(self, query: Query, plan: Plan, chunk: Chunk) -> Generator[Batch, None, None]:
        names = ", ".join(f"q.{session.identifier(column.name)}" for column in plan.columns)
        form = "binary" if plan.data_path is DataPath.COPY_BINARY else "text"
        statement = (
            f"copy (select {names} from (\n{self._render(query)}\n) q{self._where(plan, chunk)})"
            f" to stdout (format {form})"
        )
        if plan.data_path is DataPath.ROWS:
            return self._rows(statement, plan.columns)
        return self._blocks(statement)

    def _blocks(self, statement: str) -> Generator[Batch, None, None]:
        """Yield COPY's bytes, joined into blocks. Rows are never taken apart."""
        self.rows_read = None
        pgconn = self._connection.pgconn
        arrived = session.Arrivals(pgconn)
        block = bytearray()
        try:
            # Waited for in Python: what waits in C, as long as a sort may take, hears no Ctrl-C.
            pgconn.send_query(statement.encode())
            started = arrived.result()
            if started is None or started.status != ExecStatus.COPY_OUT:
                raise _failure(started)
            # One Python call a row; psycopg's own loop, or `arrived.copy_data`, makes several.
            take = pgconn.get_copy_data
            while True:
                size, data = take(1)
                if size > 0:
                    block += data
                    if len(block) >= BLOCK_BYTES:
                        yield bytes(block)
                        block.clear()
                elif size == 0:
                    arrived.wait()
                else:
                    break
            # The server's word that it sent everything; without it the stream was cut.
            ended = arrived.result()
            if ended is None or ended.status != ExecStatus.COMMAND_OK:
                raise _failure(ended)
            if block:
                yield bytes(block)
            self.rows_read = ended.command_tuples
        finally:
            _drain(self._connection)

    def _rows(self, statement: str, columns: Sequence[Column]) -> Generator[Batch, None, None]:
        self.rows_read = None
        cursor = psycopg.Cursor(self._connection)
        cursor.adapters.register_loader("interval", _ExactIntervalLoader)
        rows: list[Row] = []
        read = 0
        with cursor.copy(statement.encode()) as copy:
            copy.set_types([column.type_id or 0 for column in columns])
            with closing(copy.rows()) as stream:  # type: ignore[type-var]
                for row in stream:
                    rows.append(row)
                    if len(rows) >= BATCH_ROWS:
                        read += len(rows)
                        yield rows
                        rows = []
        if rows:
            read += len(rows)
            yield rows
        self.rows_read = read

    def _where(self, plan: Plan, chunk: Chunk) -> str:
        """Return the chunk's condition. NULL keys are in their own chunk and in no other."""
        if chunk.kind is ChunkKind.ALL:
            return ""
        keys = [f"q.{session.identifier(name)}" for name in plan.chunk_key]
        if chunk.kind is ChunkKind.NULLS:
            return " where " + " or ".join(f"{key} is not distinct from null" for key in keys)
        # Not IS NOT NULL: a row value with one NULL in it is neither null nor not null.
        terms = [f"{key} is distinct from null" for key in keys]
        for bound, compare in ((chunk.low, ">="), (chunk.high, "<")):
            if bound is not None:
                values = ", ".join(
                    session.literal(self._connection, value, kind)
                    for value, kind in zip(bound, plan.key_types, strict=True)
                )
                terms.append(f"({', '.join(keys)}) {compare} ({values})")
        return " where " + " and ".join(terms)

    def _render(self, query: Query) -> str:
        return query.render(
            lambda _, value: session.literal(self._connection, value),
            self._moment if self._instant else None,
        )

    def _moment(self, words: str) -> str:
        """Write the read point's moment as what `words` would have given there."""
        instant = session.literal(self._connection, self._instant, "timestamptz")
        return f"({instant}::{_CLOCK_TYPES.get(words, 'timestamptz')})"

    def _run(self, statement: str, values: tuple[Any, ...] | None = None) -> Any:
        cursor = psycopg.Cursor(self._connection, row_factory=psycopg.rows.tuple_row)
        # The user's SQL may hold any number of `%`: without values psycopg reads none of them.
        return cursor.execute(statement.encode(), values)


# Nodes of a plan whose rows depend on which others are read with them.
_WHOLE = {
    "Limit": "LIMIT",
    "WindowAgg": "a window function",
    "Sample Scan": "TABLESAMPLE",
    "LockRows": "a locking clause",
}

# A call in an expression as EXPLAIN writes it; the name may be quoted or have a schema before it.
_CALL = re.compile(r"([A-Za-z_][\w$]*)\"?\(")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan, each without those below it."""
    yield {name: value for name, value in plan.items() if name != "Plans"}
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


class _ExactIntervalLoader(IntervalLoader):
    """Python's timedelta has no months; psycopg would call each of them thirty days."""

    def load(self, data: Any) -> timedelta:
        text = bytes(data)
        if b"mon" in text or b"year" in text:
            msg = (
                f"the interval {text.decode()!r} has months, which have no Python value: cast the"
                " column to text in the query, or leave out the transform"
            )
            raise psycopg.DataError(msg)
        return super().load(data)


def _failure(result: Any) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError("the source closed the connection in the middle of a copy")
    return psycopg.errors.error_from_result(result, "utf-8")


def _drain(connection: session.Connection) -> None:
    """Leave the connection ready for its next statement, however reading ended."""
    if connection.closed or connection.broken:
        return
    session.end_statement(connection)
