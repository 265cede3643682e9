"""Sessions: borrowed, named, given back as they came; statements run in them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import oracledb

from ...connections import Opener
from ...errors import QueryError, SettingsError
from .types import ZONED

# What a DBA reads in V$SESSION; an ACTION of more bytes is refused by older servers.
MODULE = "mapper"
_ACTION_BYTES = 32

# Characters of a moment in the form of `ZONED`.
_ZONED_LENGTH = 40

# Seconds that a definition waits for those who use its table.
_PATIENCE = 60


@contextmanager
def borrowed(
    opener: Opener, *, application: str, time_zone: str | None, defines: bool = False
) -> Iterator[oracledb.Connection]:
    """Lend a connection for one session; it goes back as it came.

    Args:
        opener: where it comes from.
        application: what the session calls itself; its first word is the module's name.
        time_zone: of the session; None keeps the connection's own.
        defines: whether it will create and drop tables.
    """
    live = opener.open()
    is_ours = opener.given is None and opener.pool is None
    theirs: dict[str, Any] = {}
    settings: dict[str, str] = {}
    if time_zone is not None:
        settings["time_zone"] = time_zone
    if defines:
        settings |= {"ddl_lock_timeout": str(_PATIENCE), "nls_timestamp_tz_format": ZONED}
    before: dict[str, str] = {}
    try:
        theirs = {name: getattr(live, name) for name in ("autocommit", "outputtypehandler")}
        live.autocommit, live.outputtypehandler = False, None
        live.module, live.action = MODULE, _action(application)
        if not is_ours:
            before = _settings(live, settings)
        _set(live, settings)
        yield live
    finally:
        with suppress(oracledb.Error):  # a connection that broke keeps nothing
            live.rollback()
            _set(live, before)
            for name, value in theirs.items():
                setattr(live, name, value)
        opener.release(live)


def run(
    connection: oracledb.Connection,
    sql: str,
    values: Mapping[str, Any] | None = None,
    *,
    digits: bool = False,
) -> oracledb.Cursor:
    """Run a statement whose `:name`s are bound; LOBs of its rows come as values.

    With `digits` a NUMBER that is no whole one comes as a Decimal and not as a float.
    """
    cursor = connection.cursor()
    cursor.outputtypehandler = every_digit if digits else whole_lobs
    plain: dict[str, Any] = {}
    if values:
        # The driver refuses a value that the statement does not name.
        cursor.prepare(sql)
        named = set(cursor.bindnames())
        plain = {n: bindable(value) for n, value in values.items() if n.upper() in named}
    if types := {n: kind for n, v in plain.items() if (kind := _type_of(v)) is not None}:
        cursor.setinputsizes(**types)
    cursor.execute(sql, {n: _without_zone(v) for n, v in plain.items()})
    return cursor


def run_many(
    connection: oracledb.Connection, sql: str, values: Sequence[Mapping[str, Any]]
) -> None:
    """Run a statement once for each of the values, all of them in one message."""
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(sql, [{n: bindable(v) for n, v in row.items()} for row in values])


def described(
    connection: oracledb.Connection, sql: str, values: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return how the columns of a query are described, of the types that they have."""
    with connection.cursor() as cursor:
        cursor.execute(f"select * from (\n{sql}\n) q where 1 = 0", values or {})
        return list(cursor.description or ())


def bindable(value: Any) -> Any:
    """Return a value as the driver takes it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, dict | list):
        return json.dumps(value)
    return value


def whole_lobs(cursor: oracledb.Cursor, column: Any) -> Any:
    """Fetch LOBs as values and not one round trip each; see oracledb's outputtypehandler.

    And a moment with a time zone as the text that the session writes: the driver would leave the
    zone out.

    Raises QueryError for a moment of the session's own time zone, whose text has none.
    """
    if column.type_code is oracledb.DB_TYPE_TIMESTAMP_LTZ:
        msg = (
            f"oracledb reads {column.name} without its time zone, which would shift it: select"
            " SYS_EXTRACT_UTC(...) instead"
        )
        raise QueryError(msg)
    if column.type_code is oracledb.DB_TYPE_TIMESTAMP_TZ:
        return cursor.var(str, _ZONED_LENGTH, cursor.arraysize, outconverter=datetime.fromisoformat)
    kind = _WHOLE.get(column.type_code)
    return None if kind is None else cursor.var(kind, arraysize=cursor.arraysize)


def every_digit(cursor: oracledb.Cursor, column: Any) -> Any:
    """Fetch every digit of a NUMBER, and LOBs as values; see oracledb's outputtypehandler."""
    if column.type_code is oracledb.DB_TYPE_NUMBER:
        if column.precision and column.scale == 0:
            return None  # an int already
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    return whole_lobs(cursor, column)


_WHOLE = {
    oracledb.DB_TYPE_CLOB: oracledb.DB_TYPE_LONG,
    oracledb.DB_TYPE_NCLOB: oracledb.DB_TYPE_LONG_NVARCHAR,
    oracledb.DB_TYPE_BLOB: oracledb.DB_TYPE_LONG_RAW,
}


def folded(name: str) -> str:
    """Return a name as Oracle keeps it: in capitals, unless it has some already.

    >>> folded("fact_orders"), folded("ORDERS"), folded("MixedCase")
    ('FACT_ORDERS', 'ORDERS', 'MixedCase')
    """
    return name.upper() if name == name.lower() else name


def quoted(*names: str) -> str:
    """Return `"SCHEMA"."TABLE"`: names given by people, folded, and safe whatever they hold.

    One in quotes already is taken as it is.

    >>> quoted("dw", "fact_orders"), quoted('"select"')
    ('"DW"."FACT_ORDERS"', '"select"')
    """
    return ".".join(
        exact(name[1:-1]) if name[:1] == name[-1:] == '"' else exact(folded(name)) for name in names
    )


def exact(name: str) -> str:
    """Return a name that the database has spelled, quoted.

    Raises SettingsError for a name that no quotes can hold.
    """
    if '"' in name or "\0" in name:
        msg = f"{name!r} is not a name in Oracle, whose names contain no quotes: correct it"
        raise SettingsError(msg)
    return f'"{name}"'


def cancel(connection: oracledb.Connection) -> None:
    """End the running statement, from another thread."""
    with suppress(oracledb.Error):  # a connection that is closed or lost has nothing to end
        connection.cancel()


def _type_of(value: Any) -> Any:
    """Return the type to bind a value as; None for the driver's own choice.

    It would make a DATE of any datetime: without its fraction, and without its time zone. A DATE
    it remains where that loses nothing, for compared with a TIMESTAMP a DATE's index goes unused.
    """
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is not None:
        return oracledb.DB_TYPE_TIMESTAMP_TZ
    return oracledb.DB_TYPE_TIMESTAMP if value.microsecond else None


def _without_zone(value: Any) -> Any:
    """Return an aware datetime as the driver sends it: it takes any for one of UTC."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(timezone.utc).replace(tzinfo=None)
    return value


def _action(application: str) -> str:
    said = application.partition(" ")[2] or application
    return said.encode()[:_ACTION_BYTES].decode(errors="ignore")


def _settings(connection: oracledb.Connection, names: Iterable[str]) -> dict[str, str]:
    """Return the session's settings of these names, as far as it tells them."""
    found: dict[str, str] = {}
    for name in names:
        asked, values = "select sessiontimezone from dual", {}
        if name.startswith("nls_"):
            asked = "select value from nls_session_parameters where parameter = :name"
            values = {"name": name.upper()}
        elif name != "time_zone":
            continue
        if row := run(connection, asked, values).fetchone():
            found[name] = str(row[0])
    return found


def _set(connection: oracledb.Connection, settings: Mapping[str, str]) -> None:
    written = []
    for name, value in settings.items():
        plain = value.replace("'", "")
        written.append(f"{name} = {plain}" if plain.isdecimal() else f"{name} = '{plain}'")
    if written:
        run(connection, f"alter session set {' '.join(written)}")
