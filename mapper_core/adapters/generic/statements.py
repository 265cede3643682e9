"""The user's query as a subquery, and key values as text."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import quoted_name

from ...query import Query
from . import sqlite

# How a key value is kept as text in the ledger, and read back as the same Python value.
_WRITE_KEY: dict[type, Callable[[Any], str]] = {
    bool: str,
    bytes: bytes.hex,
    datetime: datetime.isoformat,
    date: date.isoformat,
}
_READ_KEY: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text == "True",
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes.fromhex,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


def subquery(connection: sa.Connection, query: Query, names: Sequence[str] = ()) -> sa.Subquery:
    """Return the user's SQL as a subquery. Its colons are escaped; its bind values are bound."""
    written = query.render(
        lambda name, _: f":{name}", write_text=lambda text: text.replace(":", "\\:")
    )
    values = dict(query.values)
    if connection.dialect.name == "sqlite":
        values = {name: sqlite.parameter(name, value) for name, value in values.items()}
    binds: list[sa.BindParameter[Any]] = [
        sa.bindparam(name, value) for name, value in values.items()
    ]
    text = sa.text(written).bindparams(*binds)
    # Quoted, as the database itself spelled them.
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(quoted_name(name, quote=True)) for name in names
    ]
    return text.columns(*columns).subquery("q")


def cancel(connection: sa.Connection) -> None:
    """End the running statement, where the driver has a word for it that any thread may say."""
    live = connection.connection.driver_connection
    for word in ("interrupt", "cancel"):  # sqlite3's, and that of others
        if callable(end := getattr(live, word, None)):
            with suppress(Exception):  # a connection that is closed or lost has nothing to end
                end()
            return


def key_text(value: Any) -> str:
    """Write a key value as text, its Python type in front."""
    write = _WRITE_KEY.get(type(value), str)
    return f"{type(value).__name__}:{write(value)}"


def key_value(text: str) -> Any:
    """Read what `key_text` wrote."""
    kind, _, value = text.partition(":")
    return _READ_KEY[kind](value)
