"""The one thing that every kind of connection becomes, and what all ways to it share."""

import select
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ..errors import SettingsError
from ..passwords import remember

# DB-API module -> SQLAlchemy's name for "dialect+driver".
_DRIVERS = {
    "psycopg": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "sqlite3": "sqlite+pysqlite",
    "oracledb": "oracle+oracledb",
    "pymysql": "mysql+pymysql",
    "MySQLdb": "mysql+mysqldb",
    "pyodbc": "mssql+pyodbc",
    "duckdb": "duckdb+duckdb_engine",
}

ACCEPTED = (
    "a URL string (or Oracle's user/password@host/service), a SQLAlchemy Engine or Connection, a"
    " pool, a function without arguments that returns a new connection, or a live DB-API connection"
    " (psycopg, psycopg2, sqlite3, oracledb)"
)


# Seconds to wait for another writer of a SQLite file; a chunk of its may take this long.
SQLITE_PATIENCE = 60.0


class PoolUsedUpError(ConnectionError):
    """A pool has no connection left for us. Others hold them, and may give some back."""


@dataclass(frozen=True, slots=True)
class Opener:
    """How to open connections to one database.

    `open` returns a DB-API connection that nobody else uses; `release` gives it back. Values that
    may hold a secret stay out of the repr.
    """

    driver: str
    """SQLAlchemy's "dialect+driver"."""
    open: Callable[[], Any] = field(repr=False)
    release: Callable[[Any], None] = field(repr=False)
    limit: int | None = None
    """Connections that can be had at once; None when nothing bounds them."""
    sole: str | None = None
    """Why only the one connection given can be used; None when more can be opened."""
    given: Any = field(default=None, repr=False)
    """The live connection that was given, where one was."""
    pool: Any = field(default=None, repr=False)
    """What connections are taken out of; openers over one pool share its limit."""
    serves_again: Callable[[Any], bool] | None = field(default=None, repr=False)
    """Whether a connection given back can be used once more; None where it is not to be kept."""
    model: Callable[[], AbstractContextManager[Any]] | None = field(default=None, repr=False)
    """Lends a connection whose session settings those we open must share."""

    @property
    def dialect(self) -> str:
        """The database's name, e.g. `postgresql`."""
        return self.driver.partition("+")[0]

    def on_given(self, reason: str) -> "Opener":
        """Return an opener that has the live connection given, and no other."""
        return only(self.driver, self.given, reason)


def only(driver: str, live: Any, reason: str) -> Opener:
    """Return an opener whose one connection is the caller's."""
    return Opener(driver, lambda: live, keep, 1, reason, live)


def from_parameters(parameters: Callable[[], Mapping[str, Any]]) -> Opener:
    """Open psycopg connections of our own; `parameters` is asked anew for each."""

    def connect() -> Any:
        import psycopg  # a driver is loaded when it is used

        # A dead peer must not hold a chunk's claim for hours: noticed after about a minute.
        patience = {
            "connect_timeout": 15,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
        }
        patience |= {"keepalives_count": 3, "tcp_user_timeout": 60_000}
        given = parameters()
        remember(given.get("password"), given.get("user"), given.get("dbname"), given.get("host"))
        return remembered(psycopg.connect(**{**patience, **given}))

    try:
        import psycopg as _  # noqa: F401
    except ImportError as error:
        raise SettingsError("PostgreSQL needs psycopg 3: pip install 'mapper[postgres]'") from error
    return Opener("postgresql+psycopg", connect, close, serves_again=_is_idle)


def _is_idle(connection: Any) -> bool:
    """Whether nothing goes on in a psycopg connection, and the server has not ended it."""
    from psycopg.pq import TransactionStatus

    pgconn = connection.pgconn
    if pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    # Nobody has asked anything: what has arrived all the same may be the server's farewell.
    arrived = select.poll()
    arrived.register(pgconn.socket, select.POLLIN)
    return not arrived.poll(0)


def parameters_in(url: str) -> dict[str, Any] | None:
    """Return the parameters in a URL that libpq itself understands; None of any other.

    libpq reads its own URLs a quarter of a second sooner than SQLAlchemy is imported.
    """
    # With a second @, the password may have ended at the first.
    if not url.startswith("postgresql://") or url.count("@") > 1:
        return None
    try:
        names = [name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)]
        if len(names) > len(set(names)):
            return None  # of a name given twice libpq takes the last
        from psycopg.conninfo import conninfo_to_dict

        return dict(conninfo_to_dict(url))
    except Exception:  # noqa: BLE001 - its message can quote the URL; who reads it next has words
        return None


def parameters_of(live: Any) -> dict[str, Any]:
    """Return what a live libpq connection was opened with, password included."""
    info = live.info
    known = info.get_parameters() if hasattr(info, "get_parameters") else info.dsn_parameters
    # psycopg2 reports these as they are after defaults; libpq refuses some of them empty.
    parameters = {name: value for name, value in dict(known).items() if value}
    return {**parameters, **({"password": info.password} if info.password else {})}


def driver_of(connection: Any, role: str) -> str:
    """Return SQLAlchemy's "dialect+driver" of a connection. Raises SettingsError if unknown."""
    for kind in type(connection).__mro__:
        if driver := _DRIVERS.get(kind.__module__.partition(".")[0]):
            return driver
    msg = f"{role}: connections of {module_of(connection)!r} are not supported: give {ACCEPTED}"
    raise SettingsError(msg)


def module_of(thing: Any) -> str:
    """Return the top-level module that a thing's type comes from."""
    return type(thing).__module__.partition(".")[0]


def remembered(live: Any) -> Any:
    """Have the password hidden that a libpq connection was opened with; return the connection."""
    info: Any = None if getattr(live, "closed", False) else getattr(live, "info", None)
    if password := getattr(info, "password", None):  # of a file or the environment, too
        remember(password, info.user, info.dbname, info.host)
    return live


def close(connection: Any) -> None:
    """Close a connection that nobody needs any more."""
    connection.close()


def keep(connection: Any) -> None:
    """Leave the caller's own connection open."""


def refuse_open_transaction(live: Any, role: str) -> None:
    """Raise SettingsError when the load would have to commit, or wait for, the caller's work."""
    try:  # sqlite3's word for it, and oracledb's, which raises once the connection is closed
        words = ("in_transaction", "transaction_in_progress")
        pending = any(getattr(live, word, False) for word in words)
    except Exception as error:
        msg = f"{role} cannot be used: {error}"
        raise SettingsError(msg) from error
    if pending and getattr(live, "autocommit", None) is False and hasattr(live, "in_transaction"):
        # Python 3.12: the next transaction begins with the end of the last one.
        msg = (
            f"{role} is a sqlite3 connection with autocommit=False, which always has a transaction"
            " open: give the file's URL, or set autocommit to sqlite3.LEGACY_TRANSACTION_CONTROL"
        )
        raise SettingsError(msg)
    if pending:
        msg = (
            f"{role} has a transaction open, which the load would have to end: commit it or roll"
            " it back first, or give a URL"
        )
        raise SettingsError(msg)
