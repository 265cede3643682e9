"""Openers over one live DB-API connection: more like it where it tells how, else it alone."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ..errors import SettingsError
from .opener import (
    SQLITE_PATIENCE,
    Opener,
    close,
    driver_of,
    from_parameters,
    only,
    parameters_of,
    refuse_open_transaction,
    remembered,
)


def from_live(live: Any, role: str) -> Opener:
    """Return an opener over a live connection. Raises SettingsError when it cannot be used."""
    driver = driver_of(live, role)
    if getattr(live, "closed", False):
        msg = f"{role} is closed: give an open connection"
        raise SettingsError(msg)
    if driver.startswith("postgresql+"):
        remembered(live)
        own = from_parameters(lambda: parameters_of(live))
        return replace(own, given=live, model=lambda: nullcontext(live))
    refuse_open_transaction(live, role)
    if driver.startswith("sqlite+"):
        return _from_sqlite(live, role)
    sole = f"a bare {driver.partition('+')[2]} connection does not show how to open another one"
    return only(driver, live, sole)


def _from_sqlite(live: Any, role: str) -> Opener:
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
        file = databases["main"]

        def connect() -> Any:
            import sqlite3  # a driver is loaded when it is used

            return sqlite3.connect(file, timeout=SQLITE_PATIENCE)

        return Opener("sqlite+pysqlite", connect, close, given=live)
    # Rows must come as plain tuples, whatever the caller made of them.
    factories: list[Any] = []

    def lend() -> Any:
        factories.append(live.row_factory)
        live.row_factory = None
        return live

    def give_back(_: Any) -> None:
        live.row_factory = factories.pop()

    return Opener("sqlite+pysqlite", lend, give_back, 1, reason, live)
