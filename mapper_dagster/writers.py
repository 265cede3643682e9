"""Transactions of a source that may still commit rows as old as themselves."""

from dataclasses import dataclass
from datetime import datetime

from mapper_core.protocols import Transaction

# Also those that have written nothing so far: they may, with the time at which they began. The
# engine's own only read. Without the role pg_read_all_stats a session sees its own user's only.
# Source: PostgreSQL documentation, "pg_stat_activity".
_OPEN = """
select now(), min(xact_start) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
  and backend_type = 'client backend' and application_name not like 'mapper %'
"""


@dataclass(frozen=True, slots=True)
class OpenTransactions:
    """What may still be written, as seen at one moment."""

    seen_at: datetime
    """By the source's clock. Whatever begins later writes rows that are later."""
    oldest: datetime | None
    """When the oldest of them began."""

    @property
    def settled(self) -> datetime:
        """Up to where nothing older can come any more."""
        return self.seen_at if self.oldest is None else min(self.seen_at, self.oldest)


def open_transactions(transaction: Transaction) -> OpenTransactions | None:
    """Return what is open, seen from a transaction just begun.

    None where the database cannot tell, as all but PostgreSQL.
    """
    try:
        with transaction.savepoint():
            ((seen_at, oldest),) = transaction.execute(_OPEN)
    except Exception:  # noqa: BLE001 - there is no such view
        return None
    return OpenTransactions(seen_at, oldest)
