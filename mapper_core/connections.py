"""What a caller may hand in as a connection, and how more are opened from it.

A URL, a SQLAlchemy Engine, Connection or Pool, another pool, a zero-argument factory, or a live
DB-API connection all become one `Opener`. Nobody else asks what kind of thing was given.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from .errors import DatabaseError, SettingsError

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
    pool: Any = field(default=None, repr=False)
    """What connections are taken out of; openers over one pool share its limit."""
    model: Callable[[], AbstractContextManager[Any]] | None = field(default=None, repr=False)
    """Lends a connection whose session settings those we open must share."""

    @property
    def dialect(self) -> str:
        """The database's name, e.g. `postgresql`."""
        return self.driver.partition("+")[0]

    def on_given(self, reason: str) -> "Opener":
        """Return an opener that has the live connection given, and no other."""
        return _only(self.driver, self.given, reason)


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
        return _from_calls(given.getconn, given.putconn, role, limit=limit, pool=given)
    if hasattr(given, "acquire") and hasattr(given, "release"):
        limit = getattr(given, "max", None)
        return _from_calls(given.acquire, given.release, role, limit=limit, pool=given)
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


def _from_url(given: Any, role: str) -> Opener:
    from sqlalchemy import make_url  # only those who use it pay for its import

    text = given.replace("postgres://", "postgresql://", 1) if isinstance(given, str) else ""
    try:
        url = make_url(text or given)
    except Exception:  # noqa: BLE001 - its message can quote the URL, password and all
        url = None
    # With a second @, the password may have ended at the first: what is left of it would be taken
    # for a host or database, and be named by every error that names those.
    if url is None or (url.password and text.count("@") > 1):
        msg = (
            f"{role} is not a database URL. Write dialect://user:password@host:port/database and"
            " percent-encode special characters in user and password (urllib.parse.quote): @ as %40"
        )
        raise SettingsError(msg)
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
    from sqlalchemy import URL, Connection, Engine, Pool

    if isinstance(given, URL):
        return _from_url(given, role)
    if isinstance(given, Engine):
        return _from_engine(given, role)
    if isinstance(given, Connection):
        return _from_connection(given, role)
    if isinstance(given, Pool):
        return _from_sqlalchemy_pool(given, given.connect, role)
    msg = f"{role} is a SQLAlchemy {type(given).__name__}: give {_ACCEPTED}"
    raise SettingsError(msg)


def _from_connection(given: Any, role: str) -> Opener:
    if given.closed:
        msg = f"{role} is closed: give an open connection"
        raise SettingsError(msg)
    live = given.connection.driver_connection
    if _is_single(given.engine.pool):
        return _from_live(live, role)
    limit = _pool_limit(given.engine.pool)
    if limit == 1:  # it has no connection but this one to give
        return _from_live(live, role)
    opener = _from_engine(given.engine, role)
    if opener.dialect != "postgresql":
        _refuse_open_transaction(live, role)
    return replace(
        opener,
        limit=None if limit is None else limit - 1,
        given=live,
        model=lambda: nullcontext(live),
    )


def _from_engine(engine: Any, role: str) -> Opener:
    driver = f"{engine.url.get_backend_name()}+{engine.dialect.driver}"
    return _from_sqlalchemy_pool(engine.pool, engine.raw_connection, role, driver=driver)


def _from_sqlalchemy_pool(
    pool: Any, acquire: Callable[[], Any], role: str, *, driver: str | None = None
) -> Opener:
    if _is_single(pool):
        return _from_live(_single_connection(pool, acquire), role)
    return _from_calls(acquire, _close, role, limit=_pool_limit(pool), driver=driver, pool=pool)


def _is_single(pool: Any) -> bool:
    """Whether a SQLAlchemy pool has one connection that all its users share."""
    from sqlalchemy import SingletonThreadPool, StaticPool

    return isinstance(pool, StaticPool | SingletonThreadPool)


def _single_connection(pool: Any, acquire: Callable[[], Any]) -> Any:
    from sqlalchemy import StaticPool

    if isinstance(pool, StaticPool):
        # Not checked out: giving it back would roll back what others do on it.
        return pool.connection.driver_connection
    wrapper = acquire()
    live = _unwrapped(wrapper)
    wrapper.close()
    return live


def _pool_limit(pool: Any) -> int | None:
    """Return how many connections a SQLAlchemy pool hands out at once, or None."""
    from sqlalchemy import AssertionPool

    if isinstance(pool, AssertionPool):
        return 1
    size = pool.size() if hasattr(pool, "size") else None
    overflow = getattr(pool, "_max_overflow", 0)  # SQLAlchemy tells it nowhere else
    return None if size is None or overflow < 0 or size == 0 else size + overflow


def _from_factory(factory: Callable[[], Any], role: str) -> Opener:
    def acquire() -> Any:
        connection = factory()
        if getattr(connection, "closed", False):
            msg = f"{role} returned a closed connection: it must return a new one each time"
            raise SettingsError(msg)
        return connection

    return _from_calls(acquire, _close, role)


def _from_calls(
    acquire: Callable[[], Any],
    release: Callable[[Any], None],
    role: str,
    *,
    limit: int | None = None,
    driver: str | None = None,
    pool: Any = None,
) -> Opener:
    """Return an opener over a pair of calls: a pool's, an engine's, or a factory's."""
    driver = driver or _probed(acquire, release, role)
    if driver.startswith("postgresql+") and driver != "postgresql+psycopg":
        # Asked anew for each connection, so that a factory's short-lived token is fresh; by one
        # thread at a time, because not every pool of these drivers is safe for several.
        turn = Lock()

        @contextmanager
        def lent() -> Iterator[Any]:
            with turn:
                wrapper = _acquired(acquire, role)
                try:
                    yield _unwrapped(wrapper)
                finally:
                    release(wrapper)

        def parameters() -> dict[str, Any]:
            with lent() as live:
                return _parameters_of(live)

        return replace(_postgresql(parameters), limit=limit, pool=pool, model=lent)
    # A pool hands out wrappers; what goes back must be the wrapper that came.
    wrappers: dict[int, Any] = {}

    def open_one() -> Any:
        wrapper = _acquired(acquire, role)
        live = _unwrapped(wrapper)
        if id(live) in wrappers:
            msg = f"{role} returned a connection still in use: it must return a new one each time"
            raise SettingsError(msg)
        wrappers[id(live)] = wrapper
        return live

    def give_back(live: Any) -> None:
        release(wrappers.pop(id(live)))

    return Opener(driver, open_one, give_back, limit, pool=pool)


def _probed(acquire: Callable[[], Any], release: Callable[[Any], None], role: str) -> str:
    """Return the driver of the connections that `acquire` returns, having opened one."""
    try:
        probe = _acquired(acquire, role)
    except SettingsError:
        raise
    except Exception as error:
        msg = f"{role} gave no connection: {type(error).__name__}: {error}"
        raise DatabaseError(msg) from error
    if inspect.iscoroutine(probe):
        probe.close()
        msg = f"{role} is asynchronous, but loads run in threads: give {_ACCEPTED}"
        raise SettingsError(msg)
    try:
        return _driver_of(_unwrapped(probe), role)
    finally:
        with suppress(AttributeError):  # what is no connection cannot be closed
            release(probe)


def _acquired(acquire: Callable[[], Any], role: str) -> Any:
    """Return a connection; a pool's refusal, unlike a driver's error, comes as ConnectionError."""
    try:
        return acquire()
    except SettingsError:
        raise
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"PoolError", "SQLAlchemyError"} and "DBAPIError" not in names:
            msg = f"{role} gave no connection: {error}"
            raise ConnectionError(msg) from error
        raise


def _unwrapped(connection: Any) -> Any:
    """Return the driver's own connection inside a pool's wrapper."""
    if _module(connection) != "sqlalchemy":
        return connection
    if hasattr(connection, "driver_connection"):
        return connection.driver_connection
    return connection.connection.driver_connection


def _parameters_of(live: Any) -> dict[str, Any]:
    """Return what a live libpq connection was opened with, password included."""
    info = live.info
    known = info.get_parameters() if hasattr(info, "get_parameters") else info.dsn_parameters
    # psycopg2 reports these as they are after defaults; libpq refuses some of them empty.
    parameters = {name: value for name, value in dict(known).items() if value}
    return {**parameters, **({"password": info.password} if info.password else {})}


def _only(driver: str, live: Any, reason: str) -> Opener:
    """Return an opener whose one connection is the caller's."""
    return Opener(driver, lambda: live, _keep, 1, reason, live)


def _from_live(live: Any, role: str) -> Opener:
    driver = _driver_of(live, role)
    if getattr(live, "closed", False):
        msg = f"{role} is closed: give an open connection"
        raise SettingsError(msg)
    if driver.startswith("postgresql+"):
        own = _postgresql(lambda: _parameters_of(live))
        return replace(own, given=live, model=lambda: nullcontext(live))
    _refuse_open_transaction(live, role)
    if driver.startswith("sqlite+"):
        return _from_sqlite(live, role)
    sole = f"a bare {driver.partition('+')[2]} connection does not tell how to open another one"
    return _only(driver, live, sole)


def _refuse_open_transaction(live: Any, role: str) -> None:
    """Raise SettingsError when the load would have to commit, or wait for, the caller's work."""
    # sqlite3's word for it, and oracledb's.
    if getattr(live, "in_transaction", False) or getattr(live, "transaction_in_progress", False):
        msg = (
            f"{role} has a transaction open, which the load would have to end: commit it or roll"
            " it back first, or give a URL"
        )
        raise SettingsError(msg)


def _from_sqlite(live: Any, role: str) -> Opener:
    from sqlalchemy import URL

    def ask(sql: str) -> list[tuple[Any, ...]]:
        cursor = live.cursor()
        cursor.row_factory = None
        return list(cursor.execute(sql))

    try:
        databases = {str(name): file for _, name, file in ask("pragma database_list")}
        temporary = ask("select count(*) from temp.sqlite_master")[0][0]
    except Exception as error:
        msg = f"{role} cannot be used: {error}"
        raise SettingsError(msg) from error
    if not databases["main"]:
        reason = "an in-memory database cannot be opened a second time"
    elif temporary or set(databases) - {"main", "temp"}:
        reason = "only the connection given sees its temporary tables and attached databases"
    else:
        url = URL.create("sqlite", database=databases["main"])
        return replace(_from_engine(_create_engine(url, role), role), given=live)
    # Rows must come as plain tuples, whatever the caller made of them.
    factories: list[Any] = []

    def lend() -> Any:
        factories.append(live.row_factory)
        live.row_factory = None
        return live

    def give_back(_: Any) -> None:
        live.row_factory = factories.pop()

    return Opener("sqlite+pysqlite", lend, give_back, 1, reason, live)
