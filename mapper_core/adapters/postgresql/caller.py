"""A caller's live connection, psycopg or psycopg2: asked about itself, and left as it was found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ...errors import SettingsError
from ...model import Row
from ...query import UNPARSED, Query
from . import session
from .statements import Statements

# What a query's meaning depends on and a live connection may have changed.
_COPIED = ("role", "search_path", "TimeZone")


@contextmanager
def asking(given: Any) -> Iterator[Callable[[str], list[Row]]]:
    """Ask a caller's live connection, psycopg or psycopg2; leave it and its transaction as found.

    Raises SettingsError when it cannot be asked.
    """
    status = TransactionStatus(given.info.transaction_status)
    if status in _CANNOT_BE_ASKED:
        msg = f"the connection given {_CANNOT_BE_ASKED[status]}, then load"
        raise SettingsError(msg)

    with _plain_cursor(given) as cursor:

        def ask(statement: str) -> list[Row]:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

        inside = status is TransactionStatus.INTRANS
        if inside:
            ask(f"savepoint {session.SAVEPOINT}")
        try:
            yield ask
        finally:
            if inside:
                ask(session.BACK_TO_SAVEPOINT)
            elif not given.autocommit:
                given.rollback()


_CANNOT_BE_ASKED = {
    TransactionStatus.INERROR: "is in a failed transaction: roll it back",
    TransactionStatus.ACTIVE: "is busy with another statement: let that end",
    TransactionStatus.UNKNOWN: "is broken: open a new one",
}


def _plain_cursor(given: Any) -> Any:
    """Return a cursor whose rows are tuples, whatever the caller's connection makes of rows."""
    if isinstance(given, psycopg.Connection):
        return psycopg.ClientCursor(given, row_factory=tuple_row)
    from psycopg2.extensions import cursor  # whoever gave its connection has it

    return given.cursor(cursor_factory=cursor)


def settings_of(given: Any) -> dict[str, str]:
    """Return the settings of a caller's live connection that our sessions must share.

    Raises SettingsError when it cannot be asked, say in a failed transaction.
    """
    with asking(given) as ask:
        return {name: ask(f"select current_setting('{name}')")[0][0] for name in _COPIED}


def seen_there_alone(given: Any, query: Query) -> str | None:
    """Return why only the caller's connection sees what the query reads, or None."""
    with asking(given) as ask:
        wrote, has_temporary = ask(_ITS_OWN)[0]
        if wrote:
            return "only the connection given sees its uncommitted changes"
        if not has_temporary:
            return None
        if query.blocker == UNPARSED:
            return "its SQL could not be parsed, and may read temporary tables"
        text = Statements(None, None).query(query)
        try:
            plan = ask(f"explain (verbose) {text}")
        except Exception:  # noqa: BLE001 - a query that is wrong is refused, in words, when it is read
            return None
        # A plan names every relation with its schema; pg_temp is the session's own.
        if any("pg_temp" in str(line) for (line,) in plan):
            return "only the connection given sees its temporary tables"
    return None


# A transaction without a number has written nothing; of the namespaces, one may be temporary.
_ITS_OWN = """
select txid_current_if_assigned() is not null,
       exists (select from pg_class where relnamespace = pg_my_temp_schema())
"""
