"""What a caller may hand in as a connection, and how more are opened from it.

A URL, Oracle's easy connect string, a SQLAlchemy Engine, Connection or Pool, another pool, a
zero-argument factory, or a live DB-API connection all become one `Opener`. Nobody else asks what
kind of thing was given.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..errors import SettingsError
from ..origins import note
from .alchemy import from_sqlalchemy, from_url
from .kept import Keeper
from .live import from_live
from .opener import ACCEPTED, Opener, PoolUsedUpError, module_of
from .pools import from_calls, from_factory

__all__ = ["Keeper", "Opener", "PoolUsedUpError", "opener_of"]


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
    opener = _opener_of(given, role)
    return replace(opener, open=_noting(opener.open, role))


def _noting(connect: Callable[[], Any], role: str) -> Callable[[], Any]:
    """Return what connects as before, and notes on an error which database it was."""

    def connected() -> Any:
        try:
            return connect()
        except Exception as error:
            if role.endswith("_conn"):
                note(error, f"connecting to the {role.removesuffix('_conn')}")
            raise

    return connected


def _opener_of(given: Any, role: str) -> Opener:
    if isinstance(given, str):
        return from_url(given, role)
    if inspect.iscoroutinefunction(given) or "async" in type(given).__name__.lower():
        msg = f"{role} is asynchronous, but loads run in threads: give {ACCEPTED}"
        raise SettingsError(msg)
    if module_of(given) == "sqlalchemy":
        return from_sqlalchemy(given, role)
    if hasattr(given, "getconn") and hasattr(given, "putconn"):
        limit = getattr(given, "max_size", None) or getattr(given, "maxconn", None)
        return from_calls(given.getconn, given.putconn, role, limit=limit, pool=given)
    if hasattr(given, "acquire") and hasattr(given, "release"):
        limit = getattr(given, "max", None)
        return from_calls(given.acquire, given.release, role, limit=limit, pool=given)
    if hasattr(given, "cursor") and hasattr(given, "commit"):
        return from_live(given, role)
    if callable(given):
        return from_factory(given, role)
    msg = f"{role} is a {type(given).__name__}: give {ACCEPTED}"
    raise SettingsError(msg)
