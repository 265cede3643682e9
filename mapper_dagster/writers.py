"""Transactions of a source that may still commit rows as old as themselves."""

from datetime import datetime
from typing import Any

from mapper_core.protocols import Transaction

# Without the role pg_read_all_stats a session sees its own user's transactions only.
# Source: PostgreSQL documentation, "pg_stat_activity".
_OLDEST = """
select min(xact_start) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_xid is not null
"""


def oldest_writer(transaction: Transaction) -> datetime | None:
    """Return when the oldest open transaction that has written began; None without any.

    None also of other databases than PostgreSQL, which cannot tell.
    """
    try:
        with transaction.savepoint():
            ((oldest,),) = transaction.execute(_OLDEST)
    except Exception:  # noqa: BLE001 - there is no such view
        return None
    found: Any = oldest
    return found if isinstance(found, datetime) else None
