"""A caller's live connection, psycopg or psycopg2: asked about itself, and left as it was found."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ...errors import SettingsError
from ...model import Row
from ...query import UNPARSED, Query
from . import meaning, session
from .statements import Statements

# A setting of somebody's own that SQL asks for: its name has a dot.
_ASKED_FOR = r"current_setting\s*\(\s*'([^']+\.[^']+)'"

# Those that the users' functions, policies and defaults ask for; no plan shows the policies of
# tables that a function reads. In a tree, current_setting(text) and (text, boolean) are numbers.
# Source: PostgreSQL source, src/include/catalog/pg_proc.dat.
_ASKED_WITHIN = f"""
select distinct said[1] from (
    select case when prosqlbody is null then prosrc else pg_get_functiondef(oid) end
    from pg_proc where oid >= 16384 and prokind <> 'a'
    and coalesce(prosqlbody::text ~ ':funcid (2077|3294) ', prosrc ~* 'current_setting')
    union all select pg_get_expr(tree, relation) from (
        select polqual, polrelid from pg_policy
        union all select polwithcheck, polrelid from pg_policy
        union all select adbin, adrelid from pg_attrdef
    ) trees(tree, relation) where tree::text ~ ':funcid (2077|3294) '
) bodies(body), regexp_matches(body, $re${_ASKED_FOR}$re$, 'gi') said
"""


@contextmanager
def asking(given: Any) -> Iterator[Callable[[str], list[Row]]]:
    """Ask a caller's live connection, psycopg or psycopg2; leave it and its transaction as found.

    Raises SettingsError when it cannot be asked.
    """
    status = TransactionStatus(given.info.transaction_status)
    if isinstance(given, psycopg.Connection) and given.pgconn.pipeline_status:
        msg = "the connection given is in a pipeline, where no COPY can be: leave that, then load"
        raise SettingsError(msg)
    if status in _CANNOT_BE_ASKED:
        msg = f"the connection given {_CANNOT_BE_ASKED[status]}, then load"
        raise SettingsError(msg)

    # In the encoding SQL_ASCII psycopg writes no letter beyond ASCII, and reads no text.
    unread = isinstance(given, psycopg.Connection) and given.info.encoding == "ascii"

    with _plain_cursor(given) as cursor:

        def ask(statement: str) -> list[Row]:
            cursor.execute(statement.encode() if unread else statement)
            rows = cursor.fetchall() if cursor.description else []
            return [tuple(map(_text, row)) for row in rows]

        inside = status is TransactionStatus.INTRANS

        def put_back() -> None:
            if isinstance(given, psycopg.Connection):
                # What a signal has interrupted.
                session.end_statement(given)
            if inside:
                ask(session.BACK_TO_SAVEPOINT)
            elif not given.autocommit:
                given.rollback()

        try:
            if inside:
                ask(f"savepoint {session.SAVEPOINT}")
            yield ask
        except BaseException:
            with suppress(Exception):  # the first error is the one to report
                put_back()
            raise
        put_back()


_CANNOT_BE_ASKED = {
    TransactionStatus.INERROR: "is in a failed transaction: roll it back",
    TransactionStatus.ACTIVE: "is busy with another statement: let that end",
    TransactionStatus.UNKNOWN: "is broken: open a new one",
}


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


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
        ((user,),) = ask(f"select {_IN_ASCII.format('session_user::text')}")
        user = _from_ascii(user)
        # Before the role, which it sets back; who logged in may always be named.
        found = {} if user == given.info.user else {"session_authorization": user}
        asked = f"select name, {_IN_ASCII.format('value')} from ({meaning.ASKED}) s(name, value)"
        found |= {name: _from_ascii(value) for name, value in ask(asked)}
        return found | _own(ask, [name for (name,) in ask(_ASKED_WITHIN)])


def needs(given: Any, query: Query) -> tuple[dict[str, str], str | None]:
    """Return what a query needs of a caller's connection.

    Settings of the user's own that it asks for; and why only that connection sees what it reads, or
    None.
    """
    text = Statements(None, None).query(query)
    with asking(given) as ask:
        ((wrote, has_temporary),) = ask(_ITS_OWN)
        plan = _plan(ask, text)
        names = re.findall(_ASKED_FOR, "\n".join([text, *plan]), re.IGNORECASE) if plan else []
        settings = _own(ask, names)
    if wrote:
        return settings, "only the connection given sees its uncommitted changes"
    if has_temporary and query.blocker == UNPARSED:
        return settings, "its SQL could not be parsed, and may read temporary tables"
    # A plan names every relation with its schema; pg_temp is the session's own.
    if has_temporary and any("pg_temp" in line for line in plan):
        return settings, "only the connection given sees its temporary tables"
    return settings, None


def hides(given: Any, table: Sequence[str]) -> bool:
    """Whether a table's name is, to a caller's connection, that of a temporary table of its own."""
    quoted = session.literal(None, session.identifier(*table))
    with asking(given) as ask:
        found = ask(f"select relpersistence = 't' from pg_class where oid = to_regclass({quoted})")
    return bool(found) and bool(found[0][0])


# A text in letters that every encoding has: that of the session may lack some of its own.
_IN_ASCII = "encode(convert_to({}, 'UTF8'), 'hex')"


def _from_ascii(text: str) -> str:
    return bytes.fromhex(text).decode()


def _own(ask: Callable[[str], list[Row]], names: Sequence[str]) -> dict[str, str]:
    """Return those of these settings that somebody made up, or has set in this session."""
    found = {}
    for name in sorted(set(names)):
        quoted = session.literal(None, name)
        value = _IN_ASCII.format(f"current_setting({quoted}, true)")
        ((told,),) = ask(
            f"select case when not exists (select from pg_settings where lower(name) ="
            f" lower({quoted}) and source <> 'session') then {value} end"
        )
        if told is not None:
            found[name] = _from_ascii(told)
    return found


def _plan(ask: Callable[[str], list[Row]], text: str) -> list[str]:
    """Return the lines of a query's plan; none if it is wrong, which its reader will say."""
    try:
        return [str(line) for (line,) in ask(f"explain (verbose) {text}")]
    except Exception:  # noqa: BLE001 - whatever the caller's driver raises
        return []


# A transaction without a number has written nothing; of the namespaces, one may be temporary.
_ITS_OWN = """
select txid_current_if_assigned() is not null,
       exists (select from pg_class where relnamespace = pg_my_temp_schema())
"""
