"""What a caller may hand in as a connection, and how more are opened from it.

A URL, a SQLAlchemy Engine, Connection or Pool, another pool, a zero-argument factory, or a live
DB-API connection all become one `Opener`. Nobody else asks what kind of thing was given.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SettingsError

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

_ACCEPTED = (
    "a URL string, a SQLAlchemy Engine or Connection, a pool, a function without arguments that"
    " returns a new connection, or a live DB-API connection (psycopg, psycopg2, sqlite3, oracledb)"
)


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

    @property
    def dialect(self) -> str:
        """The database's name, e.g. `postgresql`."""
        return self.driver.partition("+")[0]


def opener_of(given: Any, *, role: str) -> Opener:
    """Return how to open connections from what the caller gave.

    Args:
        given: see the module's docstring.
        role: `source_conn` or `target_conn`, for messages.

    Raises:
        SettingsError: it is nothing that connections can be opened from.
    """
    if isinstance(given, Opener):
        return given
    if isinstance(given, str):
        return _from_url(given, role)
    if inspect.iscoroutinefunction(given) or "async" in type(given).__name__.lower():
        msg = f"{role} is asynchronous, but loads run in threads: give {_ACCEPTED}"
        raise SettingsError(msg)
    if _module(given) == "sqlalchemy":
        return _from_sqlalchemy(given, role)
    if hasattr(given, "getconn") and hasattr(given, "putconn"):
        limit = getattr(given, "max_size", None) or getattr(given, "maxconn", None)
        return _from_calls(given.getconn, given.putconn, role, limit=limit)
    if hasattr(given, "acquire") and hasattr(given, "release"):
        return _from_calls(given.acquire, given.release, role, limit=getattr(given, "max", None))
    if hasattr(given, "cursor") and hasattr(given, "commit"):
        return _from_live(given, role)
    if callable(given):
        return _from_factory(given, role)
    msg = f"{role} is a {type(given).__name__}: give {_ACCEPTED}"
    raise SettingsError(msg)


def _module(thing: Any) -> str:
    return type(thing).__module__.partition(".")[0]


def _driver_of(connection: Any, role: str) -> str:
    for kind in type(connection).__mro__:
        if driver := _DRIVERS.get(kind.__module__.partition(".")[0]):
            return driver
    msg = f"{role}: connections of {_module(connection)!r} are not known: give {_ACCEPTED}"
    raise SettingsError(msg)


def _close(connection: Any) -> None:
    connection.close()


def _keep(connection: Any) -> None:
    """Leave the caller's own connection open."""


def _from_url(text: str, role: str) -> Opener:
    from sqlalchemy import make_url  # only those who use it pay for its import

    text = text.replace("postgres://", "postgresql://", 1)
    try:
        url = make_url(text)
    except Exception:  # noqa: BLE001 - its message can quote the URL, password and all
        msg = (
            f"{role} is not a database URL. Write dialect://user:password@host:port/database and"
            " percent-encode special characters in user and password (urllib.parse.quote)"
        )
        raise SettingsError(msg) from None
    dialect = url.get_backend_name()
    if dialect == "postgresql":
        parameters = url.translate_connect_args(username="user", database="dbname")
        parameters |= {k: v if isinstance(v, str) else ",".join(v) for k, v in url.query.items()}
        return _postgresql(lambda: parameters)
    if dialect == "sqlite" and url.database in {None, "", ":memory:"}:
        msg = f"{role} names an empty in-memory database that nobody else can see: give a file"
        raise SettingsError(msg)
    return _from_engine(_create_engine(url, role), role)


def _create_engine(url: Any, role: str) -> Any:
    from sqlalchemy import create_engine, pool

    try:
        return create_engine(url, poolclass=pool.NullPool)
    except Exception as error:
        msg = f"{role}: no driver for {url.get_backend_name()!r} is installed"
        raise SettingsError(msg) from error


def _postgresql(parameters: Callable[[], Mapping[str, Any]]) -> Opener:
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
        return psycopg.connect(**{**patience, **parameters()})

    try:
        import psycopg as _  # noqa: F401
    except ImportError as error:
        raise SettingsError("PostgreSQL needs psycopg 3: pip install 'mapper[postgres]'") from error
    return Opener("postgresql+psycopg", connect, _close)


def _from_sqlalchemy(given: Any, role: str) -> Opener:
    from sqlalchemy import Connection, Engine, Pool

    if isinstance(given, Engine):
        return _from_engine(given, role)
    if isinstance(given, Connection):
        live = given.connection.driver_connection
        opener = _from_engine(given.engine, role)
        return opener if opener.sole else _with_given(opener, live)
    if isinstance(given, Pool):
        return _from_calls(given.connect, _close, role, limit=_pool_limit(given))
    msg = f"{role} is a SQLAlchemy {type(given).__name__}: give {_ACCEPTED}"
    raise SettingsError(msg)


def _from_engine(engine: Any, role: str) -> Opener:
    from sqlalchemy import pool

    driver = f"{engine.url.get_backend_name()}+{engine.dialect.driver}"
    if isinstance(engine.pool, pool.StaticPool | pool.SingletonThreadPool):
        live = engine.raw_connection().driver_connection
        return Opener(driver, lambda: live, _keep, 1, _SOLE_MEMORY, live)
    return _from_calls(
        engine.raw_connection,
        _close,
        role,
        limit=_pool_limit(engine.pool),
        driver=driver,
    )


def _pool_limit(pool: Any) -> int | None:
    """Return how many connections a SQLAlchemy pool hands out at once, or None."""
    size = pool.size() if hasattr(pool, "size") else None
    overflow = getattr(pool, "_max_overflow", 0)  # SQLAlchemy tells it nowhere else
    return None if size is None or overflow < 0 or size == 0 else size + overflow


_SOLE_MEMORY = "an in-memory database cannot be opened a second time"


def _from_factory(factory: Callable[[], Any], role: str) -> Opener:
    return _from_calls(factory, _close, role)


def _from_calls(
    acquire: Callable[[], Any],
    release: Callable[[Any], None],
    role: str,
    *,
    limit: int | None = None,
    driver: str | None = None,
) -> Opener:
    """Return an opener over a pair of calls: a pool's, an engine's, or a factory's."""
    if driver is None:
        probe = acquire()
        try:
            driver = _driver_of(_unwrapped(probe), role)
        finally:
            release(probe)
    if driver.startswith("postgresql+") and driver != "postgresql+psycopg":
        # Asked anew for each connection, so that a factory's short-lived token is fresh.
        return _replace_limit(_postgresql(lambda: _parameters_through(acquire, release)), limit)
    # A pool hands out wrappers; what goes back must be the wrapper that came.
    wrappers: dict[int, Any] = {}

    def open_one() -> Any:
        wrapper = acquire()
        live = _unwrapped(wrapper)
        wrappers[id(live)] = wrapper
        return live

    def give_back(live: Any) -> None:
        release(wrappers.pop(id(live)))

    return Opener(driver, open_one, give_back, limit)


def _unwrapped(connection: Any) -> Any:
    """Return the driver's own connection inside a pool's wrapper."""
    if _module(connection) == "sqlalchemy":
        inner = getattr(connection, "connection", connection)
        return getattr(inner, "driver_connection", None) or connection.driver_connection
    return connection


def _parameters_through(
    acquire: Callable[[], Any], release: Callable[[Any], None]
) -> dict[str, Any]:
    wrapper = acquire()
    try:
        return _parameters_of(_unwrapped(wrapper))
    finally:
        release(wrapper)


def _parameters_of(live: Any) -> dict[str, Any]:
    """Return what a live libpq connection was opened with, password included."""
    info = live.info
    known = info.get_parameters() if hasattr(info, "get_parameters") else info.dsn_parameters
    # psycopg2 reports these as they are after defaults; libpq refuses some of them empty.
    parameters = {name: value for name, value in dict(known).items() if value}
    return {**parameters, **({"password": info.password} if info.password else {})}


def _replace_limit(opener: Opener, limit: int | None) -> Opener:
    return Opener(opener.driver, opener.open, opener.release, limit)


def _with_given(opener: Opener, live: Any) -> Opener:
    return Opener(opener.driver, opener.open, opener.release, opener.limit, None, live)


def _from_live(live: Any, role: str) -> Opener:
    driver = _driver_of(live, role)
    if driver.startswith("postgresql+"):
        return _with_given(_postgresql(lambda: _parameters_of(live)), live)
    if driver.startswith("sqlite+"):
        file = next(
            (row[2] for row in live.execute("pragma database_list") if row[1] == "main"),
            "",
        )
        if file:
            return _with_given(_from_url(f"sqlite:///{Path(file)}", role), live)
        return Opener(driver, lambda: live, _keep, 1, _SOLE_MEMORY, live)
    sole = f"a bare {driver.partition('+')[2]} connection does not tell how to open another one"
    return Opener(driver, lambda: live, _keep, 1, sole, live)
