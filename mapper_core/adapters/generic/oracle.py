"""What SQLAlchemy would make of an oracledb connection's values, and what is made of them here."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

# What oracledb returns as a local time of unknown zone.
ZONED = {"DB_TYPE_TIMESTAMP_TZ", "DB_TYPE_TIMESTAMP_LTZ"}


@contextmanager
def fetching_restored(live: Any) -> Iterator[None]:
    """Give an oracledb connection its caller's way of fetching back; others have none."""
    if not hasattr(live, "outputtypehandler"):
        yield
        return
    theirs = live.outputtypehandler
    try:
        yield
    finally:
        with suppress(Exception):  # a connection that broke keeps nothing
            live.outputtypehandler = theirs


def fetch(cursor: Any, column: Any) -> Any:
    """Fetch every digit of a NUMBER, and LOBs as values; see oracledb's outputtypehandler."""
    import oracledb  # a driver is loaded when it is used

    if column.type_code is oracledb.DB_TYPE_NUMBER:
        if column.precision and column.scale == 0:
            return None  # an int already
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    kinds = {
        oracledb.DB_TYPE_CLOB: oracledb.DB_TYPE_LONG,
        oracledb.DB_TYPE_NCLOB: oracledb.DB_TYPE_LONG_NVARCHAR,
        oracledb.DB_TYPE_BLOB: oracledb.DB_TYPE_LONG_RAW,
    }
    kind = kinds.get(column.type_code)
    return None if kind is None else cursor.var(kind, arraysize=cursor.arraysize)
