"""One PostgreSQL connection in our hands: settings, transactions, values in statements."""

import logging
import re
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.rows import tuple_row

from ...connections import Opener
from ...errors import RUN_AGAIN, SnapshotLostError
from ...model import Snapshot
from . import errors
from .arrivals import Arrivals

logger = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]

# Long enough for a neighbour's chunk to commit, short enough to notice a forgotten lock.
LOCK_TIMEOUT = "60s"

# A transform may think for a while between claim and rows; a dead peer may not stay for hours.
IDLE_TIMEOUT = "1h"

# What a session needs to write its values as text that any other session reads back the same.
_FORMATS = {
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",
    # Types are known by the names that the server writes.
    "quote_all_identifiers": "off",
}

# First version with the setting transaction_timeout.
_TRANSACTION_TIMEOUT = 170_000

# An unknown snapshot is a matter of its text before PostgreSQL 17, and an undefined object since.
_SNAPSHOT_GONE = (
    psycopg.DataError,
    psycopg.errors.UndefinedObject,
    psycopg.errors.ObjectNotInPrerequisiteState,
)

# Snapshot ids are unique within one life of a server.
SERVER = "extract(epoch from pg_postmaster_start_time())::text"

# Within a caller's transaction, all of ours lies behind this.
SAVEPOINT = "mapper_was_here"
BACK_TO_SAVEPOINT = f"rollback to savepoint {SAVEPOINT}; release savepoint {SAVEPOINT}"


@contextmanager
def borrowed(opener: Opener) -> Iterator[Connection]:
    """Open or borrow a connection, and give it back as it was."""
    connection = opener.open()
    try:
        if connection.info.transaction_status == TransactionStatus.INTRANS:
            if opener.sole:
                with _inside_its_transaction(connection):
                    yield connection
                return
            # A function that set something up on its new connection left that to be committed.
            connection.commit()
        with _as_ours(connection):
            yield connection
    finally:
        opener.release(connection)


@contextmanager
def _as_ours(connection: Connection) -> Iterator[None]:
    before = (connection.autocommit, connection.prepare_threshold)
    try:
        # Transactions are begun in so many words, and nothing outlives them: a prepared statement
        # would, and break under a pooler in transaction mode.
        connection.autocommit = True
        connection.prepare_threshold = None
        yield
    finally:
        # Whatever state an error left it in, its backend must not stay behind.
        with suppress(psycopg.Error):
            if connection.info.transaction_status in {
                TransactionStatus.ACTIVE,
                TransactionStatus.INTRANS,
                TransactionStatus.INERROR,
            }:
                end_statement(connection)
                connection.execute("rollback")
            connection.autocommit, connection.prepare_threshold = before


@contextmanager
def _inside_its_transaction(connection: Connection) -> Iterator[None]:
    """Work within the caller's transaction: it goes on afterwards as if nothing had been."""
    before = connection.prepare_threshold
    try:
        connection.prepare_threshold = None
        yield
    finally:
        with suppress(psycopg.Error):
            end_statement(connection)
            connection.execute(BACK_TO_SAVEPOINT)
            connection.prepare_threshold = before


def cancel(connection: Connection) -> None:
    """Ask the server to end the running statement; whoever runs it hears of it as an error."""
    # A connection that is closed or lost has no statement to end.
    with suppress(psycopg.Error, OSError):
        if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
            connection.cancel_safe(timeout=5)


def end_statement(connection: Connection) -> None:
    """Cancel the statement that is still running, if any, and take its results off the wire."""
    pgconn = connection.pgconn
    if pgconn.transaction_status != TransactionStatus.ACTIVE:
        return
    connection.cancel_safe(timeout=10)
    arrived = Arrivals(pgconn)
    while (result := arrived.result()) is not None:
        if result.status == ExecStatus.COPY_IN:
            # Else the server waits for rows, and we for the server.
            pgconn.put_copy_end(b"the load was interrupted")
        # A COPY that is still sending: read it to its end.
        if result.status == ExecStatus.COPY_OUT:
            deque(arrived.rows(), maxlen=0)


def hold_tables(connection: Connection, query: str) -> None:
    """Keep a query's tables from being dropped, emptied or rewritten until the transaction's end.

    Planning the query locks them as reading it would. TRUNCATE would empty an old snapshot too, and
    VACUUM FULL moves rows to other blocks. A query that is wrong is left to whoever runs it.
    """
    try:
        with undone_on_error(connection):
            connection.execute(f"explain {query}".encode())
    except psycopg.Error as error:
        if errors.is_transient(error):
            raise


@contextmanager
def undone_on_error(connection: Connection) -> Iterator[None]:
    """Run statements after whose failure the transaction can go on."""
    connection.execute(f"savepoint {SAVEPOINT}".encode())
    try:
        yield
    except psycopg.Error as error:
        if not errors.is_transient(error):
            connection.execute(BACK_TO_SAVEPOINT.encode())
        raise
    connection.execute(f"release savepoint {SAVEPOINT}".encode())


@contextmanager
def watched(connection: Connection, on_lost: Callable[[], None]) -> Iterator[None]:
    """Hear at once when the server ends a connection on which nothing is going on."""
    pgconn = connection.pgconn
    stopped, stop = socket.socketpair()

    def watch() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pgconn.socket, selectors.EVENT_READ)
            selector.register(stopped, selectors.EVENT_READ)
            while stopped not in [key.fileobj for key, _ in selector.select()]:
                # A notice is no end; what follows the server's last words is.
                with suppress(psycopg.OperationalError):
                    pgconn.consume_input()
                if pgconn.status != ConnStatus.OK:
                    on_lost()
                    return

    watcher = threading.Thread(target=watch, name="mapper watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.close()
        watcher.join()
        stopped.close()


def begin(connection: Connection, how: str, *, then: str | None = None) -> str:
    """Begin a transaction, or a savepoint where the caller's own transaction is open.

    With what it is to run first: one message less of every chunk. Return what takes it back.
    """
    inside = connection.info.transaction_status == TransactionStatus.INTRANS
    how = f"savepoint {SAVEPOINT}" if inside else f"begin {how}"
    connection.execute((how if then is None else f"{how}; {then}").encode())
    return BACK_TO_SAVEPOINT if inside else "rollback"


def setting(connection: Connection, settings: Mapping[str, str]) -> str:
    """Return the statement that sets settings until the transaction's end.

    Apart from `begin`, because a transaction joins a snapshot before its first query.
    """
    values = {**_FORMATS, **settings}
    if connection.info.server_version >= _TRANSACTION_TIMEOUT:
        # A role's limit on transactions would end the one that holds the snapshot.
        values["transaction_timeout"] = "0"
    calls = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in values.items()
    )
    return sql.SQL("select {}").format(calls).as_string(connection)


def commit(connection: Connection) -> str | None:
    """Commit; return what the server answered. What it warns of is in the log.

    A cancelled COMMIT that waits for a standby is answered as any other: it is only not known
    whether the standby has it.
    """

    def warn(said: psycopg.errors.Diagnostic) -> None:
        if said.severity_nonlocalized == "WARNING":
            logger.warning("COMMIT: %s. %s", said.message_primary, said.message_detail or "")

    connection.add_notice_handler(warn)
    try:
        return connection.execute("commit").statusmessage
    finally:
        connection.remove_notice_handler(warn)


_READ_ANEW = f"{RUN_AGAIN}; it takes a new snapshot"


def join(connection: Connection, snapshot: Snapshot) -> None:
    """Read at a snapshot from the transaction's first statement on.

    Raises SnapshotLostError when it is gone.
    """
    quoted = literal(connection, snapshot.id)[1:-1]
    try:
        connection.execute(f"set transaction snapshot {quoted}".encode())
    except _SNAPSHOT_GONE as error:
        msg = (
            f"{snapshot.description} is gone ({errors.words(error)}): the session that held it has"
            f" ended. {_on_standby(connection)}{_READ_ANEW}"
        )
        raise SnapshotLostError(msg) from error
    (server,) = run(connection, f"select {SERVER}").fetchone()
    if isinstance(server, bytes):
        # Our settings come later, and psycopg reads no text of the encoding SQL_ASCII.
        server = server.decode()
    if server != snapshot.server:
        msg = (
            f"{snapshot.description} is gone: the source server has been restarted since."
            f" {_READ_ANEW}"
        )
        raise SnapshotLostError(msg)


def _on_standby(connection: Connection) -> str:
    """Return what to do about it, where recovery may have ended that session."""
    if connection.info.parameter_status("in_hot_standby") != "on":
        return ""
    return (
        "The source is a standby, whose recovery ends sessions that read what the primary cleans"
        " up, drops or locks: set hot_standby_feedback there, or raise its"
        " max_standby_streaming_delay. "
    )


def run(connection: Connection, statement: str, values: Mapping[str, Any] | None = None) -> Any:
    """Run one of our statements with its `:name`s bound; return the cursor."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    if not values:
        return cursor.execute(statement.encode())
    return cursor.execute(_with_psycopg_marks(statement).encode(), values)


_MARKS = re.compile(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')|(?<![:\w]):([a-z_]\w*)|(%)""")


def _with_psycopg_marks(statement: str) -> str:
    """Write `:name` as `%(name)s`, but not inside quotes: an identifier may hold anything."""

    def mark(match: "re.Match[str]") -> str:
        quoted, name, _ = match.groups()
        if name:
            return f"%({name})s"
        return (quoted or "%").replace("%", "%%")

    return _MARKS.sub(mark, statement)


@lru_cache(maxsize=1024)
def identifier(*names: str) -> str:
    """Return `"schema"."table"`, quoted so that any name is safe."""
    return sql.Identifier(*names).as_string(None)


def literal(connection: Connection | None, value: Any, cast: str | None = None) -> str:
    """Write a value into a statement that takes no parameters (COPY).

    The one place where a value becomes SQL text: quoted by libpq for this connection, and cast.
    """
    text = sql.Literal(value).as_string(connection).strip()
    return f"({text}::{cast})" if cast else f"({text})"
