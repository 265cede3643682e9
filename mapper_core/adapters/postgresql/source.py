"""Reading from PostgreSQL: one session at the load's snapshot, streaming chunks as COPY."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any, cast

import psycopg
from psycopg.pq import ExecStatus
from psycopg.types.datetime import IntervalLoader

from ...errors import QueryError, TransferError
from ...model import Chunk, Column, DataPath, Plan, Row, Snapshot
from ...protocols import Batch, Piece
from ...query import Query
from . import errors, session
from .statements import Statements, key_columns
from .survey import PostgreSQLSurvey

# psycopg sends at most this much at once (its MAX_BUFFER_SIZE); joining rows up to it is what
# makes the pass-through cost a quarter of forwarding them one by one.
BLOCK_BYTES = 128 * 1024

# What a binary COPY begins and ends with, without header extensions.
# Source: PostgreSQL documentation, COPY, "Binary Format".
_BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_BINARY_TRAILER = b"\xff\xff"

# Rows handed on together where Python rows are needed.
BATCH_ROWS = 1_000

# The values of a row that may be wide; what others take up is small beside them.
_WIDE = (str, bytes)


class PostgreSQLReader:
    """One connection inside one read-only transaction."""

    def __init__(self, connection: session.Connection, snapshot: Snapshot | None) -> None:
        self._connection = connection
        self._statements = Statements(connection, snapshot)
        self._joined = snapshot is not None and snapshot.id is not None
        self.rows_read: int | None = None

    def columns(self, query: Query) -> tuple[Column, ...]:
        try:
            described = self._run(f"select * from (\n{self._statements.query(query)}\n) q limit 0")
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

    def survey(self, query: Query) -> PostgreSQLSurvey:
        return PostgreSQLSurvey(self._connection, self._statements, query)

    def count(self, query: Query, plan: Plan, chunk: Chunk) -> int:
        rows = self._statements.rows(query, plan, chunk)
        # A page ends behind its last row, not behind its last count.
        return int(self._run(f"select count(*) from (select from {rows}) r").fetchone()[0])

    def read(self, query: Query, plan: Plan, chunk: Chunk) -> Generator[Batch, None, None]:
        self._hold_tables(query)
        names = ", ".join(key_columns([column.name for column in plan.columns]))
        form = "binary" if plan.data_path is DataPath.COPY_BINARY else "text"
        rows = self._statements.rows(query, plan, chunk)
        statement = f"copy (select {names} from {rows}) to stdout (format {form})"
        if plan.data_path is DataPath.ROWS:
            return self._rows(statement, plan.columns)
        return self._blocks(statement)

    def pieces(
        self, query: Query, plan: Plan, *, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        self._hold_tables(query)
        names = ", ".join(key_columns([column.name for column in plan.columns]))
        source = self._statements.rows(query, plan, plan.chunks[0])
        binary = plan.data_path is DataPath.COPY_BINARY
        form = "binary" if binary else "text"
        statement = f"copy (select {names} from {source}) to stdout (format {form})"
        if plan.data_path is DataPath.ROWS:
            return self._row_pieces(statement, plan.columns, rows=rows, size=size)
        return self._block_pieces(statement, binary=binary, rows=rows, size=size)

    def _hold_tables(self, query: Query) -> None:
        """Lock before COPY takes the moment that it reads at; a joined read point is held."""
        if not self._joined:
            session.hold_tables(self._connection, self._statements.query(query))

    def _blocks(self, statement: str) -> Generator[Batch, None, None]:
        """Yield COPY's bytes, joined into blocks. Rows are never taken apart."""
        block = bytearray()
        with self._copying(statement) as arrived:
            # One Python call a row; psycopg's own loop, or `arrived.copy_data`, makes several.
            take = self._connection.pgconn.get_copy_data
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
            read = _ended(arrived)
            if block:
                yield bytes(block)
            self.rows_read = read

    def _block_pieces(
        self, statement: str, *, binary: bool, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        """Yield COPY's bytes, cut between rows: the server sends each in a message of its own."""
        head, tail = (_BINARY_HEADER, _BINARY_TRAILER) if binary else (b"", b"")
        held, count, total = bytearray(head), 0, 0
        with self._copying(statement) as arrived:
            # One Python call a row, as in `_blocks`.
            take = self._connection.pgconn.get_copy_data
            while True:
                got, data = take(1)
                if got == 0:
                    arrived.wait()
                    continue
                if got < 0:
                    break
                if not total and not count:
                    # The header comes with the first row.
                    data = memoryview(bytes(data).removeprefix(head))
                    got = len(data)
                # The trailer comes as a row would; a row of no column at all has other bytes.
                if not got or (binary and got == len(tail) and data == tail):
                    continue
                held += data
                count += 1
                if count >= rows or len(held) >= size:
                    yield Piece((bytes(held + tail),), count)
                    total += count
                    held, count = bytearray(head), 0
            read = _ended(arrived)
            total += count
            if total != read:
                msg = f"the source sent {read} rows in {total} messages: they cannot be told apart"
                raise TransferError(msg)
            if count:
                yield Piece((bytes(held + tail),), count)
            self.rows_read = read

    def _row_pieces(
        self, statement: str, columns: Sequence[Column], *, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        held: list[Row] = []
        weight = 0
        with closing(self._rows(statement, columns)) as batches:
            for batch in cast(Iterator[list[Row]], batches):
                held += batch
                weight += sum(map(_weight, batch))
                while held and (len(held) >= rows or weight >= size):
                    piece, held = held[:rows], held[rows:]
                    yield Piece((piece,), len(piece))
                    weight = sum(map(_weight, held))
        read, self.rows_read = self.rows_read, None
        if held:
            yield Piece((held,), len(held))
        self.rows_read = read

    @contextmanager
    def _copying(self, statement: str) -> Iterator[session.Arrivals]:
        """Start a COPY to us; leave the connection ready for its next statement in any event."""
        self.rows_read = None
        pgconn = self._connection.pgconn
        arrived = session.Arrivals(pgconn)
        try:
            # Waited for in Python: what waits in C, as long as a sort may take, hears no Ctrl-C.
            pgconn.send_query(statement.encode())
            started = arrived.result()
            if started is None or started.status != ExecStatus.COPY_OUT:
                raise _failure(started)
            yield arrived
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

    def _run(self, statement: str, values: tuple[Any, ...] | None = None) -> Any:
        cursor = psycopg.Cursor(self._connection, row_factory=psycopg.rows.tuple_row)
        # The user's SQL may hold any number of `%`: without values psycopg reads none of them.
        return cursor.execute(statement.encode(), values)


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


def _weight(row: Row) -> int:
    return sum([len(value) for value in row if isinstance(value, _WIDE)])


def _ended(arrived: session.Arrivals) -> int:
    """Return how many rows the server says it sent; without its word the stream was cut."""
    ended = arrived.result()
    if ended is None or ended.status != ExecStatus.COMMAND_OK:
        raise _failure(ended)
    return ended.command_tuples or 0


def _failure(result: Any) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError("the source closed the connection in the middle of a copy")
    return psycopg.errors.error_from_result(result, "utf-8")


def _drain(connection: session.Connection) -> None:
    """Leave the connection ready for its next statement, however reading ended."""
    if connection.closed or connection.broken:
        return
    session.end_statement(connection)
