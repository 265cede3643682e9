"""Where rows come from: readers, each at the load's snapshot."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ..batches import Batch, Piece
from ..model import Chunk, Column, DataPath, Plan, Snapshot
from ..query import Query
from .database import Checksum, Database
from .survey import Survey


class Reader(Protocol):
    """One connection reading at the load's snapshot. Used by one thread at a time."""

    def columns(self, query: Query) -> tuple[Column, ...]:
        """Describe the query's columns without reading rows.

        Raises QueryError (with the database's own message) when the database refuses the query,
        SnapshotLostError when the snapshot does not show all rows of its tables any more.
        """

    def survey(self, query: Query) -> Survey:
        """Return what answers planning's questions about the query."""

    def count(self, query: Query, plan: Plan, chunk: Chunk) -> int:
        """Count the rows of a chunk."""

    def checksum(
        self,
        query: Query,
        pairs: Sequence[tuple[Column, Column]],
        plan: Plan | None = None,
        chunk: Chunk | None = None,
    ) -> Checksum:
        """Add up the rows of a query, or of one chunk of a plan of it.

        The values are those that the first column of each pair has in the second one. Only where
        `Target.checksum_blocker` found nothing against it.
        """

    def read(self, query: Query, plan: Plan, chunk: Chunk) -> Generator[Batch, None, None]:
        """Yield the chunk's batches on the plan's data path; none for an empty chunk.

        Ends normally only after the database has said that it sent everything. Closing the
        generator early ends the statement; the session may then be used again.
        """

    def read_ahead(self, query: Query, plan: Plan, chunk: Chunk) -> None:
        """Have the database begin with a chunk, now that the one before it has been read.

        `read` takes it up; whatever else is asked ends it. An adapter need not do anything.
        """

    def pieces(
        self, query: Query, plan: Plan, chunk: Chunk, *, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        """Yield the chunk's rows in pieces of at most `rows` rows, and about `size` bytes.

        Otherwise as `read`.
        """

    def cuts_within(
        self, query: Query, plan: Plan, chunk: Chunk, parts: int
    ) -> list[tuple[str, ...]]:
        """Return where to cut a key range into about equal parts, ascending; none if it cannot be.

        Each is a key of one of the chunk's own rows, as one text per key column.
        """

    def cancel(self) -> None:
        """End the statement that is running, from another thread; nothing when none is."""

    rows_read: int | None
    """Rows that the database says it sent in the latest read; None while one is unfinished."""


class Source(Database, Protocol):
    """Where rows come from. Safe to use from several threads."""

    dialect: str
    """sqlglot's name of its SQL."""
    paths: frozenset[DataPath]
    """The data paths it can read."""
    shares_snapshots: bool
    """Whether several sessions can read at one snapshot."""
    snapshots_last: bool
    """Whether a snapshot needs nobody to hold it, and outlives the process that took it."""
    json_is_text: bool
    """Whether JSON comes as text, and not as the Python value that it stands for."""

    def for_query(self, query: Query) -> "Source":
        """Return the source to read the query from.

        That is this one, unless a connection was given and only that one sees what the query reads
        (uncommitted rows, temporary tables).

        Raises SettingsError when such a query cannot be read on the connection given.
        """

    def snapshot(
        self, query: Query, on_lost: Callable[[str], None] | None = None
    ) -> AbstractContextManager[Snapshot]:
        """Hold a read point that sessions can join, until the block ends.

        While it is held, the tables that the query reads are neither dropped, emptied at one blow
        nor rewritten. `on_lost` hears at once when the session that holds it ends before its time.
        """

    def written_out(self, query: Query) -> str:
        """Return the query as one text, its values in it, for a process that has only that."""

    def open_reader(
        self, snapshot: Snapshot | None, *, one_of_several: bool = False
    ) -> AbstractContextManager[Reader]:
        """Open a connection reading at `snapshot`; None reads at a point of its own.

        With `one_of_several` others read at the same time, so that the database need not set
        several of its processes to work for this one.

        Raises SnapshotLostError when the snapshot is gone.
        """
