"""Transactions of a source that may still commit rows as old as themselves."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mapper_core.protocols import Transaction

from .resources import DatabaseResource

# Seconds between two looks of who waits.
LOOKS_EVERY = 0.5

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


def wait_for_writers(
    source: DatabaseResource, end: datetime, most: timedelta, *, tell: Callable[..., Any]
) -> datetime | None:
    """Wait until no transaction of a source is open that began before `end`.

    Args:
        source: is asked twice a second.
        end: rows that are older may still come from transactions that are.
        most: to be waited.
        tell: called once, as a logger is, when there is something to wait for.

    Returns:
        When the oldest such transaction began that is still open after that; None if there is none,
        or the database cannot tell.
    """
    until, told = time.monotonic() + most.total_seconds(), False
    while True:
        with source.transaction() as transaction:
            seen = open_transactions(transaction)
        if seen is None or seen.oldest is None or seen.oldest >= end:
            return None
        if time.monotonic() > until:
            return seen.oldest
        if not told:
            words = (
                "a transaction of the source that began at %s may still add rows: waiting for it"
            )
            tell(words, seen.oldest)
            told = True
        time.sleep(LOOKS_EVERY)
