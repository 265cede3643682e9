"""One PostgreSQL connection in our hands: settings, transactions, values in statements."""

import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

from ...connections import Opener
from ...errors import RUN_AGAIN, SnapshotLostError
from ...model import Snapshot
from . import errors, meaning
from .arrivals import Arrivals
from .saying import Connection, Said, Statement, in_one_message, run_together, say

logger = logging.getLogger(__name__)

# Long enough for a neighbour's chunk to commit, short enough to notice a forgotten lock.
LOCK_TIMEOUT = "60s"

# A transform may think for a while between claim and rows; a dead peer may not stay for hours.
IDLE_TIMEOUT = "1h"

_ENCODING = "UTF8"

# What a session needs to write its values as text that any other session reads back the same.
_FORMATS = {
    "client_encoding": _ENCODING,
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
            try:
                if connection.info.transaction_status in {
                    TransactionStatus.ACTIVE,
                    TransactionStatus.INTRANS,
                    TransactionStatus.INERROR,
                }:
                    end_statement(connection)
                    connection.execute("rollback")
            finally:
                # Also when Ctrl-C is pressed just then.
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
        tried(connection, f"explain {query}")
    except psycopg.Error as error:
        if errors.is_transient(error):
            raise


def tried(connection: Connection, statement: str) -> Any:
    """Run a statement after whose failure the transaction can go on; return the cursor."""
    try:
        _, cursor, _ = run_together(
            connection,
            (f"savepoint {SAVEPOINT}", None),
            (statement, None),
            (f"release savepoint {SAVEPOINT}", None),
        )
    except psycopg.Error as error:
        if not errors.is_transient(error):
            connection.execute(BACK_TO_SAVEPOINT.encode())
        raise
    return cursor


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


def beginning(connection: Connection, how: str) -> tuple[Statement, str]:
    """Return what begins a transaction, and what takes it back.

    That is a savepoint where the caller's own transaction is open.
    """
    if connection.info.transaction_status == TransactionStatus.INTRANS:
        return (f"savepoint {SAVEPOINT}", None), BACK_TO_SAVEPOINT
    return (f"begin {how}", None), "rollback"


def setting(
    connection: Connection, settings: Mapping[str, str], snapshot: Snapshot | None = None
) -> tuple[Statement, ...]:
    """Return the statements that set settings until the transaction's end.

    Where a snapshot is joined, those of its read point too, unless others are given. Apart from
    `beginning`, because a transaction joins a snapshot before its first query.
    """
    values = {**_FORMATS, **meaning.shared(settings, snapshot.settings if snapshot else {})}
    if connection.info.server_version >= _TRANSACTION_TIMEOUT:
        # A role's limit on transactions would end the one that holds the snapshot.
        values["transaction_timeout"] = "0"
    calls = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in values.items()
    )
    # Without the connection, whose encoding may have no letters for these names.
    said: Statement = (sql.SQL("select {}").format(calls).as_string(None), None)
    if _told(connection, "client_encoding") == _ENCODING:
        return (said,)
    # The server reads a statement by the encoding that is in force when it comes to it.
    return ((f"set local client_encoding = '{_ENCODING}'", None), said)


def reads_as_ours(connection: Connection) -> bool:
    """Whether values are written and read alike before and after our settings.

    psycopg goes by what the server has told of its own, and of a change it tells after its last
    answer to a message: what comes in the message that makes the change would be misread.
    Source: PostgreSQL source, tcop/postgres.c, ReportChangedGUCOptions() before ReadyForQuery.
    """
    return (
        _told(connection, "client_encoding") == _ENCODING
        and _told(connection, "DateStyle").startswith("ISO")
        and _told(connection, "IntervalStyle") == "postgres"
    )


def _told(connection: Connection, name: str) -> str:
    """Return a setting as the server has last told of it."""
    return connection.info.parameter_status(name) or ""


def commit(connection: Connection, before: Sequence[Statement] = ()) -> str | None:
    """Commit, after some last statements; return what the server answered.

    What it warns of is in the log.

    A cancelled COMMIT that waits for a standby is answered as any other: it is only not known
    whether the standby has it.
    """

    def warn(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            logger.warning("COMMIT: %s. %s", notice.message_primary, notice.message_detail or "")

    connection.add_notice_handler(warn)
    try:
        *_, ended = run_together(connection, *before, ("commit", None))
        said: str | None = ended.statusmessage
        return said
    finally:
        connection.remove_notice_handler(warn)


_READ_ANEW = f"{RUN_AGAIN}; it takes a new snapshot"


def join(
    connection: Connection, snapshot: Snapshot, begin: Statement, *then: Statement
) -> list[Any]:
    """Begin a transaction that reads at a snapshot from its first statement on.

    Runs what is to be run `then`, and returns those cursors.

    Raises SnapshotLostError when the snapshot is gone.
    """
    quoted = literal(connection, snapshot.id)[1:-1]
    told: list[Said] = []
    statements = (
        begin,
        (f"set transaction snapshot {quoted}", None),
        (f"select {SERVER}", None),
        *then,
    )
    try:
        with in_one_message(connection, told):
            for statement in statements:
                say(connection, told, *statement)
    except _SNAPSHOT_GONE as error:
        if sum(cursor.pgresult is not None for cursor in told) != 1:
            raise  # it has been joined: this is an error of what came then
        msg = (
            f"{snapshot.description} is gone ({errors.words(error)}): the session that held it has"
            f" ended. {_on_standby(connection)}{_READ_ANEW}"
        )
        raise SnapshotLostError(msg) from error
    (server,) = told[2].fetchall()[0]
    if isinstance(server, bytes):
        # psycopg reads no text of the encoding SQL_ASCII, which was in force before our settings.
        server = server.decode()
    if server != snapshot.server:
        msg = (
            f"{snapshot.description} is gone: the source server has been restarted since."
            f" {_READ_ANEW}"
        )
        raise SnapshotLostError(msg)
    return told[3:]


def _on_standby(connection: Connection) -> str:
    """Return what to do about it, where recovery may have ended that session."""
    if connection.info.parameter_status("in_hot_standby") != "on":
        return ""
    return (
        "The source is a standby, whose recovery ends sessions that read what the primary cleans"
        " up, drops or locks: set hot_standby_feedback there, or raise its"
        " max_standby_streaming_delay. "
    )


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
