"""What planning asks of a source about one query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..model import ChunkKind, Estimate, Refused
from .database import Place


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why reading a query in ranges would not give the query's own rows."""

    reason: str
    volatile: bool = False
    """Whether each run of the query may give other rows."""


@dataclass(frozen=True, slots=True)
class KeyCuts:
    """Where to cut an ordered key, by rank: the rows between two cuts are about one chunk.

    Cuts ascend strictly in the database's own order; each is one text per key column.
    """

    key: tuple[str, ...]
    """The columns cut by: those asked for, or the first of them when that was enough."""
    cuts: tuple[tuple[str, ...], ...]
    types: tuple[str, ...]
    """The database's name of each key column's type, for casting a cut back."""
    has_nulls: bool
    rows: int | None
    """Rows of the query, NULL keys included, when the pass counted them."""
    method: str
    """How the cuts were found, for people."""


@dataclass(frozen=True, slots=True)
class BlockCuts:
    """Where to cut a table's files: what lies between two cuts is about one chunk's rows."""

    cuts: tuple[str, ...]
    rows: int | None
    """Rows of the query that the database expects."""
    marks: tuple[str, ...]
    """What `Survey.moved` needs to tell whether rows have moved since."""
    kind: ChunkKind = ChunkKind.BLOCKS
    """What the cuts are: numbers of blocks, or rowids."""
    method: str = "ranges of blocks"
    """How the cuts were found, for people."""


class Survey(Protocol):
    """What planning asks about one query, at the load's snapshot."""

    def estimate(self) -> Estimate:
        """Return what the database expects of the query, without running it."""

    def count(self) -> int:
        """Count the query's rows."""

    def count_up_to(self, limit: int) -> int:
        """Count the query's rows, but never more than `limit`."""

    def unique_keys(self) -> tuple[tuple[str, ...], ...]:
        """Return the unique keys of the one table that the query reads, its primary key first."""

    def blocker(self) -> Blocker | None:
        """Return why reading the query in ranges would not give its own rows, or None.

        What the text does not show: functions of the user's, views. None also when the database
        cannot tell.
        """

    def is_unique(self, key: Sequence[str]) -> bool:
        """Whether no two rows of the query share the key. Reads the query."""

    def has_nulls(self, key: Sequence[str]) -> bool:
        """Whether some row of the query has a NULL in the key."""

    def range_cost(self, key: Sequence[str]) -> float | None:
        """Return what reading a narrow range of the key costs, as a share of the whole query.

        None when the whole is cheap anyway, or the database cannot tell.
        """

    def key_cuts(self, key: Sequence[str], chunk_size: int, *, may_shorten: bool) -> KeyCuts:
        """Find the cuts of a key in about one pass over it.

        With `may_shorten` the first column alone will do where it tells enough rows apart.
        """

    def block_cuts(self, chunk_size: int, *, asked_for: bool) -> BlockCuts | Refused:
        """Find where to cut the files of the one table that the query reads, or why not to.

        What is `asked_for` is refused only where it is impossible, not where it does not pay.
        """

    def moved(self, marks: Sequence[str]) -> str | None:
        """Return why blocks hold other rows than when the marks were made, or None."""

    def settings(self) -> Mapping[str, str]:
        """Return the settings of the session that decide what its statements mean.

        None where a database has none that could change.
        """

    def place(self) -> Place | None:
        """Return where the session is; None where INSERT ... SELECT is not offered anyway."""
