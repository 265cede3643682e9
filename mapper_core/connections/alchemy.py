"""Openers over what SQLAlchemy has: URLs, engines, their pools and connections."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..passwords import remember
from .live import from_live
from .opener import (
    ACCEPTED,
    SQLITE_PATIENCE,
    Opener,
    close,
    from_parameters,
    parameters_in,
    refuse_open_transaction,
)
from .oracle import from_easy_connect, from_oracle_url, is_easy_connect
from .pools import from_calls, unwrapped


def from_url(given: Any, role: str) -> Opener:
    """Return an opener over a URL, as text or as SQLAlchemy's. Raises SettingsError if unfit."""
    if isinstance(given, str) and is_easy_connect(given):
        return from_easy_connect(given, role)
    text = given.replace("postgres://", "postgresql://", 1) if isinstance(given, str) else ""
    if (found := parameters_in(text)) is not None:
        return from_parameters(lambda: found)

    from sqlalchemy import make_url  # only those who use it pay for its import

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
        return from_parameters(lambda: parameters)
    if dialect == "oracle":
        return from_oracle_url(url, role)
    if dialect == "sqlite" and url.database in {None, "", ":memory:"}:
        msg = (
            f"{role} names an empty in-memory database that no other connection can see: give a"
            " file"
        )
        raise SettingsError(msg)
    if dialect == "sqlite" and role == "source_conn":
        _refuse_missing_file(url, role)
    return from_engine(create_engine(url, role), role)


def create_engine(url: Any, role: str) -> Any:
    """Return an engine that keeps no connection. Raises SettingsError without its driver."""
    import sqlalchemy as sa

    patience = {"timeout": SQLITE_PATIENCE} if url.get_backend_name() == "sqlite" else {}
    try:
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=patience)
    except ModuleNotFoundError as error:
        msg = (
            f"{role}: no driver for {url.get_backend_name()!r} is installed: install the module"
            f" {error.name}, or name another driver, as in mysql+pymysql://"
        )
        raise SettingsError(msg) from error
    except Exception as error:
        msg = (
            f"{role}: there is no driver for {url.drivername!r}: correct the beginning of the URL,"
            " as in postgresql://, oracle+oracledb:// or sqlite:///, or install what SQLAlchemy"
            " needs for such a database"
        )
        raise SettingsError(msg) from error


def _refuse_missing_file(url: Any, role: str) -> None:
    """Raise SettingsError where SQLite would make an empty file and find no table in it."""
    if "uri" in url.query or Path(url.database).exists():
        return
    msg = (
        f"{role}: there is no file {url.database!r}: after sqlite:/// comes a path from the"
        " working directory, after sqlite://// one from the root"
    )
    raise SettingsError(msg)


def from_sqlalchemy(given: Any, role: str) -> Opener:
    """Return an opener over one of SQLAlchemy's things."""
    from sqlalchemy import URL, Connection, Engine, Pool

    if isinstance(given, URL):
        return from_url(given, role)
    if isinstance(given, Engine):
        return from_engine(given, role)
    if isinstance(given, Connection):
        return _from_connection(given, role)
    if isinstance(given, Pool):
        return _from_sqlalchemy_pool(given, given.connect, role)
    msg = f"{role} is a SQLAlchemy {type(given).__name__}: give {ACCEPTED}"
    raise SettingsError(msg)


def _from_connection(given: Any, role: str) -> Opener:
    if given.closed:
        msg = f"{role} is closed: give an open connection"
        raise SettingsError(msg)
    live = given.connection.driver_connection
    if _is_single(given.engine.pool):
        return from_live(live, role)
    limit = _pool_limit(given.engine.pool)
    if limit == 1:  # it has no connection but this one to give
        return from_live(live, role)
    opener = from_engine(given.engine, role)
    if opener.dialect != "postgresql":
        refuse_open_transaction(live, role)
    return replace(
        opener,
        limit=None if limit is None else limit - 1,
        given=live,
        model=lambda: nullcontext(live),
    )


def from_engine(engine: Any, role: str) -> Opener:
    """Return an opener over an engine's pool."""
    url = engine.url
    remember(url.password, url.username, url.database, url.host)
    driver = f"{url.get_backend_name()}+{engine.dialect.driver}"
    return _from_sqlalchemy_pool(engine.pool, engine.raw_connection, role, driver=driver)


def _from_sqlalchemy_pool(
    pool: Any, acquire: Callable[[], Any], role: str, *, driver: str | None = None
) -> Opener:
    if _is_single(pool):
        return from_live(_single_connection(pool, acquire), role)
    return from_calls(acquire, close, role, limit=_pool_limit(pool), driver=driver, pool=pool)


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
    live = unwrapped(wrapper)
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
