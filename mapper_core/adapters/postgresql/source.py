"""Reading from PostgreSQL: one session at the load's snapshot, streaming chunks as COPY."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from ...batches import Batch, Piece
from ...errors import TransferError
from ...model import Chunk, Column, DataPath, Plan, Snapshot
from ...protocols import Checksum
from ...query import Query
from . import checksum, errors, saying, session, unseen
from .arrivals import Arrivals
from .ending import Ending
from .statements import Statements, copy_format, key_columns
from .survey import PostgreSQLSurvey

READ = "isolation level repeatable read read only"

# Each statement reads at its own moment. For a read point taken, not joined: it must come after the
# locks on the tables, for which somebody who empties one may have to be waited for.
READ_NOW = "isolation level read committed read only"

# Joining rows up to this is what makes the pass-through cost a quarter of forwarding them one by
# one. Half of what psycopg sends at once (its MAX_BUFFER_SIZE): the target's server has the next
# block while we read on.
BLOCK_BYTES = 64 * 1024

# Arrow works on many rows at once: with a quarter of this it takes a sixth more CPU, and with twice
# as much no less.
ARROW_BYTES = 1024 * 1024

# What a binary COPY begins and ends with, without header extensions.
# Source: PostgreSQL documentation, COPY, "Binary Format".
_BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_BINARY_TRAILER = b"\xff\xff"


class PostgreSQLReader:
    """One connection inside one read-only transaction."""

    def __init__(
        self,
        connection: saying.Connection,
        snapshot: Snapshot | None,
        settings: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._ending = Ending(connection)
        self._snapshot = snapshot
        self._setting = session.setting(connection, settings, snapshot)
        self._statements = Statements(connection, snapshot)
        self._joined = snapshot is not None and snapshot.id is not None
        self._may_wait = False
        """Whether the server lets a statement wait for its reader for as long as that takes."""
        self._take_back = self._begin()
        self._ahead: str | None = None
        """The COPY that the server has begun with already."""
        self.rows_read: int | None = None

    def _begin(self) -> str:
        """Begin to read at the snapshot; return what takes that back."""
        how = READ if self._joined else READ_NOW
        begin, take_back = session.beginning(self._connection, how)
        then: list[saying.Statement] = [*self._setting, ("show statement_timeout", None)]
        if self._snapshot is not None and self._joined:
            *_, asked = session.join(self._connection, self._snapshot, begin, *then)
        else:
            *_, asked = saying.run_together(self._connection, begin, *then)
        # As it came: psycopg reads no text of the encoding SQL_ASCII.
        self._may_wait = asked.pgresult.get_value(0, 0) == b"0"
        return take_back

    def _make_ready(self) -> None:
        """End what was begun ahead; begin anew where a statement that was ended spoilt all."""
        if self._ahead is not None:
            self._ahead = None
            _drain(self._connection)
        if self._connection.pgconn.transaction_status == TransactionStatus.INERROR:
            self._connection.execute(self._take_back.encode())
            self._take_back = self._begin()

    def columns(self, query: Query) -> tuple[Column, ...]:
        self._make_ready()
        text = self._statements.query(query)
        asked: list[saying.Statement] = [(f"select * from (\n{text}\n) q limit 0", None)]
        if self._joined:
            asked.append((unseen.CHANGED, None))
        try:
            described, *changed = saying.run_together(self._connection, *asked)
        except (
            psycopg.ProgrammingError,
            psycopg.DataError,
            psycopg.NotSupportedError,
            psycopg.errors.ProtocolViolation,  # a $1, for which there is no value
        ) as error:
            if errors.is_transient(error):
                raise
            raise query.refused(errors.words(error)) from error
        if changed and self._snapshot is not None:
            unseen.refuse(changed[0].fetchall(), self._snapshot)
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
            Column(field.name, str(kind), field.type_code, standard=str(kind))
            for field, (kind,) in zip(fields, types, strict=True)
        )

    def cancel(self) -> None:
        self._ending.ask()

    def survey(self, query: Query) -> PostgreSQLSurvey:
        return PostgreSQLSurvey(self._connection, self._statements, query)

    def count(self, query: Query, plan: Plan, chunk: Chunk) -> int:
        rows = self._statements.rows(query, plan, chunk)
        # A page ends behind its last row, not behind its last count.
        return int(self._run(f"select count(*) from (select from {rows}) r").fetchone()[0])

    def cuts_within(
        self, query: Query, plan: Plan, chunk: Chunk, parts: int
    ) -> list[tuple[str, ...]]:
        keys = key_columns(plan.chunk_key)
        texts = ", ".join(f"{key}::text" for key in keys)
        rows = self._statements.rows(query, plan, chunk)
        found = []
        for part in range(1, parts):
            asked = (
                f"select {texts} from {rows} order by {', '.join(keys)}"
                f" offset {(chunk.expected_rows or 0) * part // parts} limit 1"
            )
            found += self._run(asked).fetchall()
        return [tuple(map(str, key)) for key in found]

    def checksum(
        self,
        query: Query,
        pairs: Sequence[tuple[Column, Column]],
        plan: Plan | None = None,
        chunk: Chunk | None = None,
    ) -> Checksum:
        rows = f"(\n{self._statements.query(query)}\n) q"
        if plan is not None and chunk is not None:
            # A page ends behind its last row, so it has to be a query of its own.
            rows = f"(select q.* from {self._statements.rows(query, plan, chunk)}) q"
        asked = checksum.total(self._connection, pairs)
        count, total = self._run(f"select count(*), {asked} from {rows}").fetchone()
        return Checksum(count, int(total))

    def read(self, query: Query, plan: Plan, chunk: Chunk) -> Generator[Batch, None, None]:
        blocks = self._blocks(
            self._copy(query, plan, chunk),
            ARROW_BYTES if plan.data_path is DataPath.ARROW else BLOCK_BYTES,
        )
        form = self._form(plan)
        return blocks if form is None else _formed(blocks, form)

    def read_ahead(self, query: Query, plan: Plan, chunk: Chunk) -> None:
        # Without a snapshot tables are to be held first, and COPY reads at the moment it begins.
        if self._joined and self._may_wait:
            self._make_ready()
            statement = self._copy(query, plan, chunk)
            self._connection.pgconn.send_query(statement.encode())
            self._ahead = statement

    def pieces(
        self, query: Query, plan: Plan, chunk: Chunk, *, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        binary = plan.data_path is DataPath.COPY_BINARY
        statement = self._copy(query, plan, chunk)
        pieces = self._block_pieces(statement, binary=binary, rows=rows, size=size)
        form = self._form(plan)
        return pieces if form is None else _formed_pieces(pieces, form)

    def _copy(self, query: Query, plan: Plan, chunk: Chunk) -> str:
        """Return the statement that sends a chunk, its tables held."""
        self._hold_tables(query)
        names = ", ".join(key_columns([column.name for column in plan.columns]))
        rows = self._statements.rows(query, plan, chunk)
        form = copy_format(plan.data_path)
        statement = f"copy (select {names} from {rows}) to stdout (format {form})"
        # In one message with what asks whether the tables were still those of the snapshot.
        return f"{statement}; {unseen.CHANGED}" if self._joined else statement

    def _form(self, plan: Plan) -> Callable[[bytes], Batch] | None:
        """Return what makes a block of COPY a batch of the plan's data path; None if it is one."""
        zone = self._connection.info.parameter_status("TimeZone") or "UTC"
        if plan.data_path is DataPath.ROWS:
            from .lines import TextLines  # with a good many modules, for whoever takes rows apart

            types = tuple(column.type_id or 0 for column in plan.columns)
            names = tuple(column.name for column in plan.columns)
            return lambda block: TextLines(block, names, types, zone)
        if plan.data_path is DataPath.ARROW:
            from . import arrow  # pyarrow is there where it is wanted

            return lambda block: arrow.CsvRecords(block, plan.columns, zone)
        return None

    def _hold_tables(self, query: Query) -> None:
        """Lock before COPY takes the moment that it reads at; a joined read point is held."""
        if not self._joined:
            self._make_ready()
            session.hold_tables(self._connection, self._statements.query(query))

    def _blocks(self, statement: str, size: int) -> Generator[bytes, None, None]:
        """Yield COPY's bytes, joined into blocks. Rows are never taken apart."""
        with self._copying(statement) as arrived:
            block, more = arrived.block(size)
            while more:
                yield block
                block, more = arrived.block(size)
            read = self._ended(arrived)
            if block:
                yield block
            self.rows_read = read

    def _block_pieces(
        self, statement: str, *, binary: bool, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        """Yield COPY's bytes, cut between rows: the server sends each in a message of its own."""
        head, tail = (_BINARY_HEADER, _BINARY_TRAILER) if binary else (b"", b"")
        making, total = _Making(head, tail), 0
        with self._copying(statement) as arrived:
            for data in arrived.rows():
                # The header comes with the first row.
                if not total and not making.rows:
                    data = bytes(data).removeprefix(head)  # noqa: PLW2901 - as it would have come alone
                # The trailer comes as a row would; a row of no column at all has other bytes.
                if len(data) <= len(tail) and data in (b"", tail):
                    continue
                making.add(data)
                if making.rows >= rows or making.size >= size:
                    total += making.rows
                    yield making.piece()
            read = self._ended(arrived)
            total += making.rows
            if total != read:
                msg = f"the source sent {read} rows in {total} messages: they cannot be told apart"
                raise TransferError(msg)
            if making.rows:
                yield making.piece()
            self.rows_read = read

    @contextmanager
    def _copying(self, statement: str) -> Iterator[Arrivals]:
        """Start a COPY to us; leave the connection ready for its next statement in any event."""
        self.rows_read = None
        pgconn = self._connection.pgconn
        arrived = Arrivals(pgconn)
        try:
            if self._ahead != statement:
                self._make_ready()
                # Waited for in Python: what waits in C, as long as a sort takes, hears no Ctrl-C.
                pgconn.send_query(statement.encode())
            self._ahead = None
            started = arrived.result()
            if started is None or started.status != ExecStatus.COPY_OUT:
                raise _failure(started)
            yield arrived
        finally:
            _drain(self._connection)

    def _ended(self, arrived: Arrivals) -> int:
        """Return how many rows the server says it sent; without its word the stream was cut.

        Raises SnapshotLostError when the snapshot did not show all of them.
        """
        ended = arrived.result()
        if ended is None or ended.status != ExecStatus.COMMAND_OK:
            raise _failure(ended)
        changed = None
        if self._joined:
            changed = arrived.result()
            if changed is None or changed.status != ExecStatus.TUPLES_OK:
                raise _failure(changed)
        # That there is no further result ends it; until then it would have to be cancelled.
        if (more := arrived.result()) is not None:
            raise _failure(more)
        if changed is not None and self._snapshot is not None:
            unseen.refuse(_texts(changed), self._snapshot)
        return ended.command_tuples or 0

    def _run(self, statement: str, values: tuple[Any, ...] | None = None) -> Any:
        self._make_ready()
        cursor = psycopg.Cursor(self._connection, row_factory=psycopg.rows.tuple_row)
        # The user's SQL may hold any number of `%`: without values psycopg reads none of them.
        return cursor.execute(statement.encode(), values)


def _formed(
    blocks: Generator[bytes, None, None], form: Callable[[bytes], Batch]
) -> Generator[Batch, None, None]:
    with closing(blocks):
        yield from map(form, blocks)


def _formed_pieces(
    pieces: Generator[Piece, None, None], form: Callable[[bytes], Batch]
) -> Generator[Piece, None, None]:
    with closing(pieces):
        for piece in pieces:
            blocks = [block for block in piece.batches if isinstance(block, bytes) and block]
            yield Piece(tuple(map(form, blocks)), piece.rows)


class _Making:
    """A piece in the making: COPY's bytes in blocks, a complete COPY of their own."""

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head, self._tail = head, tail
        self._begin()

    def _begin(self) -> None:
        self._blocks: list[bytes] = []
        self._block = bytearray(self._head)
        self.rows = self.size = 0

    def add(self, row: Buffer) -> None:
        self._block += row
        self.rows += 1
        self.size += len(row)
        if len(self._block) >= BLOCK_BYTES:
            self._blocks.append(bytes(self._block))
            self._block.clear()

    def piece(self) -> Piece:
        """Return what was added, and begin anew."""
        made = Piece((*self._blocks, bytes(self._block + self._tail)), self.rows)
        self._begin()
        return made


def _texts(result: PGresult) -> list[tuple[str, ...]]:
    """Return the rows of a result, their values as the server wrote them."""
    return [
        tuple((result.get_value(row, column) or b"").decode() for column in range(result.nfields))
        for row in range(result.ntuples)
    ]


def _failure(result: Any) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError("the source closed the connection in the middle of a copy")
    return psycopg.errors.error_from_result(result, "utf-8")


def _drain(connection: saying.Connection) -> None:
    """Leave the connection ready for its next statement, however reading ended."""
    if connection.closed or connection.broken:
        return
    session.end_statement(connection)
