"""Openers over a pair of calls that take and give back: a pool's, an engine's, a factory's."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Lock
from typing import Any

from ..errors import DatabaseError, SettingsError
from .opener import (
    ACCEPTED,
    Opener,
    PoolUsedUpError,
    close,
    driver_of,
    from_parameters,
    module_of,
    parameters_of,
    remembered,
)


def from_factory(factory: Callable[[], Any], role: str) -> Opener:
    """Return an opener over a function that returns a new connection each time."""

    def acquire() -> Any:
        connection = factory()
        if getattr(connection, "closed", False):
            msg = f"{role} returned a closed connection: it must return a new one each time"
            raise SettingsError(msg)
        return connection

    return from_calls(acquire, close, role)


def from_calls(
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
                    yield remembered(unwrapped(wrapper))
                finally:
                    release(wrapper)

        def parameters() -> dict[str, Any]:
            with lent() as live:
                return parameters_of(live)

        return replace(from_parameters(parameters), limit=limit, pool=pool, model=lent)
    # A pool hands out wrappers; what goes back must be the wrapper that came.
    wrappers: dict[int, Any] = {}

    def open_one() -> Any:
        wrapper = _acquired(acquire, role)
        live = remembered(unwrapped(wrapper))
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
        msg = f"{role} is asynchronous, but loads run in threads: give {ACCEPTED}"
        raise SettingsError(msg)
    try:
        return driver_of(unwrapped(probe), role)
    finally:
        with suppress(AttributeError):  # what is no connection cannot be closed
            release(probe)


# How the pools of SQLAlchemy and psycopg say that they have waited for a connection in vain.
_USED_UP = {
    "sqlalchemy.exc.TimeoutError",
    "psycopg_pool.PoolTimeout",
    "psycopg_pool.TooManyRequests",
}


def _acquired(acquire: Callable[[], Any], role: str) -> Any:
    """Return a connection; a pool's refusal, unlike a driver's error, comes as ConnectionError."""
    try:
        return acquire()
    except SettingsError:
        raise
    except Exception as error:
        if f"{type(error).__module__}.{type(error).__name__}" in _USED_UP:
            msg = (
                f"{role} gave no connection: {error}. All connections of its pool are in use, or"
                " the server cannot be reached: make the pool larger, or max_workers smaller"
            )
            raise PoolUsedUpError(msg) from error
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"PoolError", "SQLAlchemyError"} and "DBAPIError" not in names:
            msg = f"{role} gave no connection: {error}"
            raise ConnectionError(msg) from error
        raise


def unwrapped(connection: Any) -> Any:
    """Return the driver's own connection inside a pool's wrapper."""
    if module_of(connection) != "sqlalchemy":
        return connection
    if hasattr(connection, "driver_connection"):
        return connection.driver_connection
    return connection.connection.driver_connection
