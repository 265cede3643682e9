"""One PostgreSQL connection in our hands: settings, transactions, values in statements."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ...connections import Opener
from ...errors import SettingsError

Connection = psycopg.Connection[Any]

# Long enough for a neighbour's chunk to commit, short enough to notice a forgotten lock.
LOCK_TIMEOUT = "60s"

# A transform may think for a while between claim and rows; a dead peer may not stay for hours.
IDLE_TIMEOUT = "1h"

# What a session needs to write its values as text that any other session reads back the same.
_FORMATS = {"datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1"}

# What a query's meaning depends on and a live connection may have changed.
_COPIED = ("role", "search_path", "TimeZone")


def settings_of(given: Connection | Any) -> dict[str, str]:
    """Return the settings of a caller's live connection that our sessions must share.

    Leaves the connection as it was: a transaction that asking has begun is rolled back.

    Raises SettingsError when its transaction has failed, so that nothing can be asked.
    """
    info = given.info
    status = TransactionStatus(info.transaction_status)
    if status is TransactionStatus.INERROR:
        raise SettingsError(
            "the connection given is in a failed transaction: roll it back, then load"
        )
    settings = {}
    with given.cursor() as cursor:
        for name in _COPIED:
            # psycopg2 and psycopg agree on this much; the row may be a tuple or a dict.
            cursor.execute(f"select current_setting('{name}') as value")
            row: Any = cursor.fetchone()
            settings[name] = row["value"] if isinstance(row, dict) else row[0]
    if status is TransactionStatus.IDLE and not given.autocommit:
        given.rollback()
    return settings


@contextmanager
def borrowed(opener: Opener) -> Iterator[Connection]:
    """Open or borrow a connection, and give it back as it was."""
    connection = opener.open()
    before = (connection.autocommit, connection.prepare_threshold)
    try:
        # Transactions are begun in so many words, and nothing outlives them: a prepared statement
        # would, and break under a pooler in transaction mode.
        connection.autocommit = True
        connection.prepare_threshold = None
        yield connection
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
        opener.release(connection)


def end_statement(connection: Connection) -> None:
    """Cancel the statement that is still running, if any, and take its results off the wire."""
    pgconn = connection.pgconn
    if pgconn.transaction_status != TransactionStatus.ACTIVE:
        return
    connection.cancel_safe(timeout=10)
    while pgconn.get_result() is not None:
        # A COPY that is still sending: read it to its end.
        while pgconn.get_copy_data(0)[0] > 0:
            pass


def begin(connection: Connection, how: str) -> None:
    """Begin a transaction."""
    connection.execute(f"begin {how}".encode())


def apply(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set settings that end with the transaction.

    Apart from `begin`, because a transaction joins a snapshot before its first query.
    """
    values = {**_FORMATS, **settings}
    calls = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in values.items()
    )
    connection.execute(sql.SQL("select {}").format(calls))


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


def identifier(*names: str) -> str:
    """Return `"schema"."table"`, quoted so that any name is safe."""
    return sql.Identifier(*names).as_string(None)


def literal(connection: Connection, value: Any, cast: str | None = None) -> str:
    """Write a value into a statement that takes no parameters (COPY).

    The one place where a value becomes SQL text: quoted by libpq for this connection, and cast.
    """
    text = sql.Literal(value).as_string(connection).strip()
    return f"({text}::{cast})" if cast else f"({text})"
