"""The seam: the few verbs a database must have. Each docstring is its contract.

An adapter has one class that keeps `Source`, `Target` or both. Nothing has to be inherited, and
half the databases will only ever be sources.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from .batches import Batch, Packer, Piece
from .model import (
    Chunk,
    ChunkKind,
    Column,
    DataPath,
    Estimate,
    LoadWindow,
    Plan,
    Refused,
    Row,
    Snapshot,
)
from .query import Query

STAGE_CHUNK = "_mapper_chunk"
"""Column of a stage that says which chunk wrote the row."""

STAGE_RANK = "_mapper_rank"
"""Column that ranks a stage's rows of one key while they are published."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What rows add up to, in whatever order they come."""

    rows: int
    sum: int | None = None
    """Sum of a number that each row's values give; None where rows are only counted."""


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

    def place(self) -> Place | None:
        """Return where the session is; None where INSERT ... SELECT is not offered anyway."""


class Reader(Protocol):
    """One connection reading at the load's snapshot. Used by one thread at a time."""

    def columns(self, query: Query) -> tuple[Column, ...]:
        """Describe the query's columns without reading rows.

        Raises QueryError (with the database's own message) when the database refuses the query.
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


class Source(Protocol):
    """Where rows come from. Safe to use from several threads."""

    kind: str
    dialect: str
    """sqlglot's name of its SQL."""
    paths: frozenset[DataPath]
    """The data paths it can read."""
    limit: int | None
    """Connections that can be had at once; None when nothing bounds them."""
    shares_snapshots: bool
    """Whether several sessions can read at one snapshot."""
    snapshots_last: bool
    """Whether a snapshot needs nobody to hold it, and outlives the process that took it."""
    sole: str | None
    """Why there is only one connection; None when there can be more."""
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

    def is_transient(self, error: BaseException) -> bool:
        """Whether trying again, on a new session, may help."""

    def is_crowded(self, error: BaseException) -> bool:
        """Whether it was refused because too many connections are open."""

    def explain(self, error: BaseException) -> str | None:
        """Return the database's own words for one of its errors; None for any other error."""


class Transaction(Protocol):
    """One open transaction on the target."""

    def execute(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement whose `:name`s are bound; return its rows, or none."""

    def columns(self, table: Sequence[str]) -> tuple[Column, ...]:
        """Describe a table's columns, as this transaction sees it; empty without such a table."""

    def refusal(self, table: Sequence[str], privileges: Sequence[str]) -> str | None:
        """Return which of the privileges (`insert`, `delete` ...) this user lacks, in words.

        None when it has them all, and when the database cannot tell beforehand.
        """

    def change(self, sql: str, values: Mapping[str, Any] | None = None) -> int:
        """Run a statement that changes rows, its `:name`s bound; return how many it changed."""

    def create_schema(self, name: str) -> None:
        """Create a schema where it is missing."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Take back what the block did when it raises; constraints are checked at its end."""

    def lock(self, name: str) -> None:
        """Wait for a lock of that name and hold it to the transaction's end."""

    def try_lock(self, name: str) -> bool:
        """As `lock`, but without waiting; False when others hold it."""

    def lock_shared(self, name: str) -> None:
        """As `lock`, but any number may hold it so at once."""

    def lock_table(self, table: Sequence[str]) -> None:
        """As `lock`, by the table itself: two names of one table are one lock."""

    def write(
        self,
        batches: Iterable[Batch],
        table: Sequence[str],
        columns: Sequence[str],
        path: DataPath,
        *,
        staged_chunk: int | None = None,
        json_is_text: bool = False,
    ) -> int:
        """Add rows to a table; return how many. Rows of a stage carry their chunk's id.

        With `json_is_text` a string for a JSON column is JSON, else it is a string within JSON.

        Takes all batches before it tells the database that the rows are complete: when reading
        raises, nothing of this call stays.
        """

    def create_missing(self, table: Sequence[str], definition: str) -> None:
        """Create a table unless it is there; the definition is what stands in the parentheses."""

    def create_table(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        """Create a table with these columns, of the types they name."""

    def drop_table(self, table: Sequence[str]) -> None:
        """Drop a table with the commit, or right after it where a definition would be one."""

    def merge(
        self,
        table: Sequence[str],
        rows: str,
        columns: Sequence[str],
        key: Sequence[str],
    ) -> int:
        """Update the table's rows of a known key that differ, add the others; return how many.

        `rows` is a subquery with the columns, no key of which is NULL or comes twice. Only where
        `Target.merges`.

        Raises TransferError when the table did not take all of them.
        """

    def merge_blocker(self, table: Sequence[str], key: Sequence[str]) -> str | None:
        """Return why rows cannot be merged into the table by this key, where that can be known."""

    def insert_select(
        self,
        query: Query,
        plan: Plan,
        chunk: Chunk,
        table: Sequence[str],
        columns: Sequence[str],
        *,
        staged_chunk: int | None = None,
    ) -> int:
        """Add a chunk's rows to a table inside the database; return how many.

        Only where `Target.insert_select_blocker` found nothing against it.
        """

    def checksums(
        self, stage: Sequence[str], columns: Sequence[Column], place: Place | None
    ) -> dict[int, Checksum]:
        """Add up the rows of each chunk in a stage as `Reader.checksum` does at that place.

        Nobody else can change the stage from then on. Only where `Target.checksum_blocker` found
        nothing against it.
        """

    def create_stage(
        self,
        stage: Sequence[str],
        target: Sequence[str],
        columns: Sequence[str],
        *,
        checked: bool = False,
    ) -> None:
        """Create the table that holds a load's rows until they are published, emptying an old one.

        It has these columns of the target, with their types and defaults but no constraint, and
        `STAGE_CHUNK`, the id of the chunk that wrote the row. `checked` adds what the target asks
        of a row by itself (NOT NULL and CHECK), so that such a row is refused where it is written.
        """


class Writer(Protocol):
    """One connection to the target. Used by one thread at a time."""

    def begin(self, snapshot: Snapshot | None = None) -> AbstractContextManager[Transaction]:
        """Open a transaction: commit on a clean exit, else roll back.

        With a snapshot it reads there, and sees nothing that others have committed since.

        When the connection dies in COMMIT the error is transient and the outcome unknown; only
        claiming the chunk again tells.
        """

    def cancel(self) -> None:
        """End the statement that is running, from another thread; nothing when none is."""


@dataclass(frozen=True, slots=True)
class LedgerDialect:
    """What the ledger's few statements need to know about a database's SQL."""

    text: str
    bigint: str
    timestamp: str
    share_lock: str
    """Ends a SELECT that keeps others from changing the row; empty where writers exclude others."""
    update_lock: str
    """Ends a SELECT that keeps others from sharing the row."""
    skip_locked: str
    """Ends a SELECT that leaves out a row that others have locked, where that can be said."""
    now: str = "current_timestamp"
    """The present moment, as the timestamp type keeps it."""
    looks_again: bool = False
    """Whether rows cannot be locked by several at once: then a chunk's transaction looks at its
    load once more, and alone, before it commits."""
    asynchronous_commit: str = ""
    """Has this transaction's COMMIT return before it is on disk: a crash of the server may take it
    back, whole, but none that committed before one that is there. Empty where there is no such."""


class Target(Protocol):
    """Where rows go. Safe to use from several threads."""

    kind: str
    limit: int | None
    sole: str | None
    ledger_dialect: LedgerDialect
    has_schemas: bool
    """Whether the ledger can have a schema of its own; else its tables get a prefix."""
    parallel_writers: bool
    """Whether several sessions can write at once."""
    merges: bool
    """Whether `Transaction.merge` is offered."""

    def open_writer(self) -> AbstractContextManager[Writer]:
        """Open a connection."""

    def quote(self, *names: str) -> str:
        """Return `"schema"."table"`, quoted so that any name is safe."""

    def as_created(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        """Return a query's columns as a table made for them has them.

        Without a type where this database has none that holds the same values.
        """

    def data_path(
        self, offered: frozenset[DataPath], pairs: Sequence[tuple[Column, Column]]
    ) -> tuple[DataPath, str]:
        """Choose how rows travel for these (query column, table column) pairs, and say why.

        Raises TargetError when a value of a column could not arrive unchanged.
        """

    def no_direct_path(self, columns: Sequence[Column]) -> str | None:
        """Return why a direct path load into these columns of a stage would not do, or None."""

    def packer(
        self, columns: Sequence[Column], table: Sequence[Column], *, json_is_text: bool
    ) -> Packer | None:
        """Return what writes Python values for columns of a table, as `Transaction.write` would.

        What is JSON in the query, whose columns are given, is so in a column of text too. None
        where rows are written as they are.
        """

    def insert_select_blocker(
        self,
        query: Query,
        snapshot: Snapshot,
        place: Place | None,
        table: Sequence[str],
        pairs: Sequence[tuple[Column, Column]],
    ) -> str | None:
        """Return why INSERT ... SELECT inside this database would not do, or None.

        Args:
            query: what would be inserted.
            snapshot: where it would be read.
            place: where the source's sessions are.
            table: where the rows would go.
            pairs: the (query column, table column) pairs.
        """

    def checksum_blocker(
        self, source_kind: str, pairs: Sequence[tuple[Column, Column]]
    ) -> str | None:
        """Return why checksums of rows from such a source, and here, cannot be compared, or None.

        The pairs are of (source column, column here).
        """

    def is_transient(self, error: BaseException) -> bool:
        """Whether trying again, on a new session, may help."""

    def is_crowded(self, error: BaseException) -> bool:
        """Whether it was refused because too many connections are open."""

    def explain(self, error: BaseException) -> str | None:
        """Return the database's own words for one of its errors; None for any other error."""

    def window_bounds(self, window: LoadWindow) -> tuple[Any, Any]:
        """Return the window's bounds as values that compare rightly with its column's."""

    def is_duplicate(self, error: BaseException) -> bool:
        """Whether a unique key refused a row."""

    def row_error(self, error: BaseException) -> str | None:
        """Return the database's code of an error that a row written caused; None for others."""

    def row_positions(self, error: BaseException) -> tuple[int, ...]:
        """Return which of the rows written caused it, from 1, ascending, where it is said."""
