"""What both roles of a database say of it, and what passes between a source and a target."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Checksum:
    """What rows add up to, in whatever order they come."""

    rows: int
    sum: int | None = None
    """Sum of a number that each row's values give; None where rows are only counted."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session is and what its SQL means there.

    Two sessions at equal places run one query over the same tables, as the same user.
    """

    server: str
    """The one life of the one server."""
    database: str
    user: str
    search_path: str
    time_zone: str

    @property
    def meaning(self) -> tuple[str, str, str]:
        """What the SQL of another session there must have equal to be the same query.

        A user may be another one with the same rights, and the server may have been restarted.
        """
        # Temporary tables are in a schema of their session's own.
        schemas = [s for s in self.search_path.split(", ") if not s.startswith("pg_temp_")]
        return self.database, ", ".join(schemas), self.time_zone


class Database(Protocol):
    """Where rows come from or go. Safe to use from several threads."""

    kind: str
    """Its name."""
    limit: int | None
    """Connections that can be had at once; None when nothing bounds them."""
    sole: str | None
    """Why there is only one connection; None when there can be more."""
    windows_in_utc: bool
    """Whether it compares a window's ends in UTC with times that have no zone; else it does so in
    the load's time zone."""

    def is_transient(self, error: BaseException) -> bool:
        """Whether trying again, on a new session, may help."""

    def is_crowded(self, error: BaseException) -> bool:
        """Whether it was refused because too many connections are open."""

    def explain(self, error: BaseException) -> str | None:
        """Return the database's own words for one of its errors; None for any other error."""
