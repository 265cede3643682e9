"""Where rows go: writers, whose transactions take batches and the ledger's statements alike."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..batches import Batch, Packer
from ..model import Chunk, Column, DataPath, LoadWindow, Plan, Row, Snapshot
from ..query import Query
from .database import Checksum, Database, Place

STAGE_CHUNK = "_mapper_chunk"
"""Column of a stage that says which chunk wrote the row."""

STAGE_RANK = "_mapper_rank"
"""Column that ranks a stage's rows of one key while they are published."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to, in rows."""

    taken: int
    """Updated and added."""
    due: int | None = None
    """New or different before it; None where the database takes all of them, or fails."""


@dataclass(frozen=True, slots=True)
class Access:
    """What stands against writing to a table, in words, None where nothing does; and for whom."""

    refusal: str | None = None
    """Why it may not be written at all: what it is, or which privilege lacks."""
    write_blocker: str | None = None
    """Why `Transaction.write` cannot serve it, though another statement could."""
    is_emptied_by_crash: bool = False
    """Whether a crash of the server takes rows from the table, or a part of it, for good."""
    table_id: str | None = None
    """What tells the table from another one of its name; None where the database does not."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Those of the session that asked, see `Transaction.settings`."""


class Transaction(Protocol):
    """One open transaction on the target."""

    def execute(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement whose `:name`s are bound; return its rows, or none."""

    def execute_later(self, sql: str, values: Mapping[str, Any] | None = None) -> None:
        """Run a statement whose answer nobody waits for, before the next one or the commit.

        Its error is raised there.
        """

    def execute_many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> None:
        """As `execute_later`, once for each of the values."""

    def columns(self, table: Sequence[str]) -> tuple[Column, ...]:
        """Describe a table's columns, as this transaction sees it; empty without such a table."""

    def settings(self) -> Mapping[str, str]:
        """Return the settings of the session that decide what its statements mean.

        None where a database has none that could change.
        """

    def access(self, table: Sequence[str], privileges: Sequence[str]) -> Access:
        """Return what stands against writing to a table, as far as it can be told beforehand.

        With the settings, since it can be asked with them.
        """

    def change(self, sql: str, values: Mapping[str, Any] | None = None) -> int:
        """Run a statement that changes rows, its `:name`s bound; return how many it changed."""

    def create_schema(self, name: str) -> None:
        """Create a schema where it is missing."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Take back what the block did when it raises; constraints are checked at its end."""

    def lock(self, name: str) -> None:
        """Wait for a lock of that name and hold it to the transaction's end.

        Held when the next statement of the transaction runs; the waiting may be left to that.
        """

    def try_lock(self, name: str) -> bool:
        """As `lock`, but without waiting; False when others hold it."""

    def lock_shared(self, name: str) -> None:
        """As `lock`, but any number may hold it so at once; held when this returns."""

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
        of_json: frozenset[str] = frozenset(),
    ) -> int:
        """Add rows to a table; return how many. Rows of a stage carry their chunk's id.

        With `json_is_text` a string for a JSON column is JSON, else it is a string within JSON.
        The columns `of_json` are JSON in the query: so a flag, list or dict is in a column of text.

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
    ) -> Merged:
        """Update the table's rows of a known key that differ, add the others.

        `rows` is a subquery with the columns, no key of which is NULL or comes twice. Only where
        `Target.merges`.
        """

    def merge_blocker(self, table: Sequence[str], key: Sequence[str]) -> str | None:
        """Return why rows cannot be merged into the table by this key, where that can be known."""

    def hold_columns(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        """Keep others from altering a table to the transaction's end.

        Raises TargetError when one of its columns is of another type than is said here, at the
        latest with what comes next. Nothing where the database does not let that be known.
        """

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

        It has these columns of the target, with their types but no constraint, and `STAGE_CHUNK`,
        the id of the chunk that wrote the row. `checked` adds what the target asks of a row by
        itself (NOT NULL and CHECK, and the defaults by which it meets them), so that such a row is
        refused where it is written.
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


class Target(Database, Protocol):
    """Where rows go. Safe to use from several threads."""

    ledger_dialect: LedgerDialect
    has_schemas: bool
    """Whether the ledger can have a schema of its own; else its tables get a prefix."""
    parallel_writers: bool
    """Whether several sessions can write at once."""
    merges: bool
    """Whether `Transaction.merge` is offered."""

    def open_writer(self) -> AbstractContextManager[Writer]:
        """Open a connection."""

    def sharing(self, settings: Mapping[str, str]) -> "Target":
        """Return this database with sessions that have settings of another one's.

        However they would have begun; what the caller has given comes first.
        """

    def quote(self, *names: str) -> str:
        """Return `"schema"."table"`, quoted so that any name is safe."""

    def table_blocker(self, table: Sequence[str]) -> str | None:
        """Return why rows do not reach the table that the connection given sees, or None."""

    def as_created(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        """Return a query's columns as a table made for them has them.

        Without a type where this database has none that holds the same values.
        """

    def data_path(
        self,
        offered: frozenset[DataPath],
        pairs: Sequence[tuple[Column, Column]],
        table: Sequence[Column],
    ) -> tuple[DataPath, str]:
        """Choose how rows travel for these (query column, table column) pairs, and say why.

        `table` is all of the target's columns, also those that no row has a value for.

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

    def window_bounds(self, window: LoadWindow) -> tuple[Any, Any]:
        """Return the window's bounds as values that compare rightly with its column's."""

    def is_rolled_back(self, error: BaseException) -> bool:
        """Whether nothing came of a transaction whose COMMIT ended in this error.

        Not known where it is the session that was lost, perhaps with the answer.
        """

    def is_duplicate(self, error: BaseException) -> bool:
        """Whether a unique key refused a row."""

    def row_error(self, error: BaseException) -> str | None:
        """Return the database's code of an error that a row written caused; None for others."""

    def row_positions(self, error: BaseException) -> tuple[int, ...]:
        """Return which of the rows written caused it, from 1, ascending, where it is said."""
