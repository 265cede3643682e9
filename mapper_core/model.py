"""The nouns of a load: what flows from one stage to the next.

Everything here is frozen, does no I/O, and can be printed, compared and pickled. A window holds
chunks, a chunk arrives as batches; the three words are never used for one another.
"""

from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from .errors import SettingsError

_NO_TARGET = "none: rows are read and counted"

# Chunks that a printed plan shows.
_SHOWN_CHUNKS = 12

Row = tuple[Any, ...]
RowTransform = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
BatchTransform = Callable[[Any], Any]
"""Gets a `pyarrow.RecordBatch`; returns one, or an object with the Arrow C stream interface."""


class Word(str, Enum):
    """A closed set of words; prints as the word itself."""

    def __str__(self) -> str:
        return str(self.value)


class LoadMode(Word):
    """How rows meet those already in the target."""

    APPEND = "append"  #: rows are added; each chunk appears as it commits
    REPLACE = "replace"  #: all rows are replaced, at once, at the end
    REPLACE_WINDOW = "replace_window"  #: the window's rows are replaced, all at once, at the end
    UPSERT = "upsert"  #: rows of a known key are updated, others added, all at once, at the end


class Publishing(Word):
    """When others see a load's rows."""

    CHUNKS = "chunks"  #: each chunk's as it commits, where the load mode allows it
    ATOMIC = "atomic"  #: all at once, at the end


class TransformScope(Word):
    """How many rows a transform sees in one call."""

    CHUNK = "chunk"  #: all rows of the chunk
    BATCH = "batch"  #: as many as are in memory together


class TransformWorkers(Word):
    """Where a row transform runs."""

    THREADS = "threads"  #: in the threads that move the rows
    PROCESSES = "processes"  #: in processes of their own


class StrategyName(Word):
    """How a query's rows are divided. Each can be asked for by its name."""

    SAME_DATABASE = "same_database"  #: INSERT ... SELECT inside the one database, chunk by chunk
    PHYSICAL = "physical"  #: ranges of a table's blocks
    KEY = "key"  #: ranges of one or several columns
    STREAM_ONCE = "stream_once"  #: read once by one reader, written by many, published at the end
    OFFSET = "offset"  #: pages of a totally ordered query; by name only, for it is quadratic
    #: one reader, one writer, one transaction
    ONE_PASS = "one_pass"  # noqa: S105 - no password


class DataPath(Word):
    """How rows travel from source to target."""

    IN_SERVER = "insert select"  #: inside the database that is both; nothing reaches Python
    COPY_BINARY = "binary copy"  #: PostgreSQL's binary COPY blocks, passed through unread
    COPY_TEXT = "text copy"  #: PostgreSQL's text COPY blocks; the target parses every value
    ROWS = "rows"  #: Python rows
    ARROW = "arrow"  #: Arrow record batches; PostgreSQL sends and takes them as CSV
    DIRECT = "direct path"  #: blocks that Oracle appends to a stage, past its buffers and undo

    @property
    def passes_blocks_on(self) -> bool:
        """Whether rows go from one server to the other as they came, in blocks."""
        return self in {DataPath.COPY_BINARY, DataPath.COPY_TEXT}


class Verification(Word):
    """How a load, or two tables, are compared."""

    NONE = "none"  #: not at all
    COUNT = "count"  #: by their numbers of rows
    CHECKSUM = "checksum"  #: by their numbers of rows, and by sums over the rows' values


class ChunkKind(Word):
    """Which rows of the query a chunk holds."""

    ALL = "all"  #: every row
    RANGE = "range"  #: rows whose key lies in `[low, high)`
    NULLS = "nulls"  #: rows with a NULL in the key
    BLOCKS = "blocks"  #: rows that lie in blocks `[low, high)` of the table's files
    ROWIDS = "rowids"  #: rows whose place in the table's files, their rowid, is in `[low, high)`
    PAGE = "page"  #: rows `[low, high)` of the ordered query, counted from 0
    STREAM = "stream"  #: every row, by one reader; its pieces are numbered as they come
    SPLIT = "split"  #: none any more: later chunks have its rows


@dataclass(frozen=True, slots=True)
class LoadWindow:
    """A half-open span `[start, end)` of one column: what one load replaces.

    `start` and `end` are aware datetimes, or naive ones for a column without a time zone.
    """

    column: str
    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        # Callers without a type checker reach this with dates, numbers and texts.
        if not all(isinstance(end, datetime) for end in (self.start, self.end)):
            raise SettingsError(
                "window start and end must be datetimes, as in datetime(2024, 1, 1)"
            )
        if (self.start.tzinfo is None) != (self.end.tzinfo is None):
            raise SettingsError("window start and end must both have a time zone, or neither")
        if not self.start < self.end:
            msg = f"window [{self.start}, {self.end}) is empty: start must lie before end"
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a query or table, as its database describes it."""

    name: str
    type: str = ""
    """The database's own name of the type, for messages and comparisons."""
    type_id: int | None = None
    """The database's number of the base type, where it has one (a PostgreSQL oid)."""
    required: bool = False
    """A row without a value for it is refused: NOT NULL, and no default."""
    generated: bool = False
    """The database computes it; it cannot be written."""
    standard: str = ""
    """The type in the words that databases have in common here, which are PostgreSQL's; empty where
    there is none that holds the same values."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A half-open key range `[low, high)`: the unit of retry and of the ledger.

    Bounds are one text per key column, written and read by the source database alone: they are
    never compared in Python. `None` leaves that side open.
    """

    id: int
    kind: ChunkKind = ChunkKind.ALL
    low: tuple[str, ...] | None = None
    high: tuple[str, ...] | None = None
    expected_rows: int | None = None

    def __str__(self) -> str:
        """Return the chunk as people write a half-open range."""
        low, high = (", ".join(b) if b else "..." for b in (self.low, self.high))
        what = _CHUNK_WORDS[self.kind].format(range=f"[{low} to {high})")
        rows = "" if self.expected_rows is None else f"  about {self.expected_rows:,} rows"
        return f"{self.id:>5}  {what}{rows}"


# How a stage is published, always in one transaction.
_PUBLISHED = {
    LoadMode.APPEND: "INSERT from a stage",
    LoadMode.REPLACE: "DELETE and INSERT from a stage",
    LoadMode.REPLACE_WINDOW: "DELETE of the window and INSERT from a stage",
    LoadMode.UPSERT: "MERGE from a stage",
}

_CHUNK_WORDS = {
    ChunkKind.ALL: "every row",
    ChunkKind.RANGE: "{range}",
    ChunkKind.NULLS: "rows with a NULL in the key",
    ChunkKind.BLOCKS: "blocks {range}",
    ChunkKind.ROWIDS: "rowids {range}",
    ChunkKind.PAGE: "rows {range}",
    ChunkKind.SPLIT: "no rows: it was split into later chunks",
    ChunkKind.STREAM: "every row, read once and numbered in pieces as they come",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why something cannot be done this way."""

    reason: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a database expects of a query, without running it; None where it cannot tell."""

    rows: int | None = None
    row_bytes: int | None = None
    """Average width of a row as it is kept, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A declared source query -> target table, with its load mode.

    Without a target the query is read, transformed and counted, and nothing is written.
    """

    source_sql: str
    target_schema: str | None = None
    target_table: str | None = None
    load_mode: LoadMode = LoadMode.APPEND
    window: LoadWindow | None = None
    params: Dict[str, Any] | None = None
    chunk_key: tuple[str, ...] | None = None
    strategy: StrategyName | None = None
    """The one strategy wanted; None takes the first that can serve."""
    transform: RowTransform | None = None
    transform_scope: TransformScope = TransformScope.CHUNK
    transform_columns: tuple[str, ...] = ()
    """The only columns that the transform sees and returns; none when it sees all."""
    transform_batch: BatchTransform | None = None
    workers: TransformWorkers = TransformWorkers.THREADS
    primary_key: tuple[str, ...] = ()
    """Columns that say which rows are the same one, for `upsert`."""
    order_column: str | None = None
    """For `upsert`: of several rows with one key, the one highest in this column counts."""
    publishing: Publishing = Publishing.CHUNKS
    create_target: bool = False
    """Whether a missing target is made, with the query's columns."""
    direct_path: bool = False
    """Whether one loader fills an empty stage by Oracle's direct path load."""
    time_zone: str | None = None
    """Time zone of the sessions that run the query; None keeps the connection's own."""
    verify: Verification | None = None
    """How source and target are compared before publishing; None is the load mode's default."""

    def __post_init__(self) -> None:
        if not self.source_sql.strip():
            raise SettingsError("source_sql is empty: give a SELECT statement")
        if self.target_schema and not self.target_table:
            raise SettingsError("target_schema is given without target_table: name the table too")
        self._check_transform()
        if self.load_mode is LoadMode.REPLACE_WINDOW and self.window is None:
            raise SettingsError(
                "load_mode='replace_window' needs window=LoadWindow(column, start, end)"
            )
        if self.load_mode is not LoadMode.REPLACE_WINDOW and self.window is not None:
            msg = f"window goes with load_mode='replace_window', not with {self.load_mode.value!r}"
            raise SettingsError(msg)
        if self.load_mode is LoadMode.UPSERT and not self.primary_key:
            raise SettingsError("load_mode='upsert' needs primary_key, the columns that name a row")
        if self.load_mode is not LoadMode.UPSERT and (self.primary_key or self.order_column):
            msg = (
                "primary_key and order_column go with load_mode='upsert', not with"
                f" {self.load_mode.value!r}"
            )
            raise SettingsError(msg)
        if self.direct_path and not self.staged:
            raise SettingsError(
                "direct_path loads into an empty stage, and this append has none: add"
                " publish='atomic', or take another load_mode"
            )

    def _check_transform(self) -> None:
        if self.transform is not None:
            if self.transform_batch is not None:
                raise SettingsError(
                    "give transformation_func (dicts) or transform_batch (Arrow), not both"
                )
            return
        if self.transform_columns:
            raise SettingsError("transform_columns goes with transformation_func")
        if self.workers is TransformWorkers.PROCESSES:
            raise SettingsError(
                "workers='processes' is for transformation_func; all else runs outside Python's"
                " lock anyway"
            )

    @property
    def transforms(self) -> bool:
        """Whether a function stands between source and target."""
        return self.transformed_by is not None

    @property
    def transformed_by(self) -> str | None:
        """The keyword of the function between source and target; None where there is none."""
        if self.transform is not None:
            return "transformation_func"
        return None if self.transform_batch is None else "transform_batch"

    @property
    def target_name(self) -> str:
        """The target as people write it, e.g. `dw.fact_orders`; empty without a target."""
        return ".".join(self.target_parts)

    @property
    def target_parts(self) -> tuple[str, ...]:
        """The parts of the target's name: (schema, table), (table,) or nothing."""
        return tuple(part for part in (self.target_schema, self.target_table) if part)

    @property
    def staged(self) -> bool:
        """Whether rows are loaded aside and published at the end, however they are read."""
        return self.load_mode is not LoadMode.APPEND or self.publishing is Publishing.ATOMIC

    @property
    def privileges(self) -> tuple[str, ...]:
        """What its user must be allowed to do to the target, in SQL's words."""
        return _PRIVILEGES[self.load_mode]

    @property
    def verification(self) -> Verification:
        """How the load is to be verified: what was asked for, or its load mode's default."""
        if self.verify is not None:
            return self.verify
        replaces = self.load_mode.value.startswith("replace")
        return Verification.COUNT if replaces else Verification.NONE

    @property
    def bind_values(self) -> dict[str, Any] | None:
        """Values for `:name` in the SQL; None passes the SQL verbatim."""
        if self.window is None:
            return None if self.params is None else dict(self.params)
        window = {"window_start": self.window.start, "window_end": self.window.end}
        return {**window, **(self.params or {})}


_PRIVILEGES = {
    LoadMode.APPEND: ("insert",),
    LoadMode.REPLACE: ("insert", "delete"),
    LoadMode.REPLACE_WINDOW: ("insert", "delete", "select"),
    LoadMode.UPSERT: ("insert", "update", "select"),
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent read point for every chunk, or the words why there is none."""

    id: str | None
    description: str
    resumed_from: str | None = None
    """The read point of an earlier run of the load, when finished chunks were read there."""
    instant: str | None = None
    """The moment of the read point, with time zone, as its database writes it."""
    server: str | None = None
    """Which life of its server it belongs to; after a restart, ids begin anew."""

    def is_same_point(self, other: "Snapshot") -> bool:
        """Whether both are one read point that sessions can join."""
        return self.id is not None and (self.id, self.server) == (other.id, other.server)

    def __str__(self) -> str:
        if self.resumed_from is None:
            return self.description
        return f"{self.description}; chunks finished earlier were read at {self.resumed_from}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The chunks of a load and everything decided about them, before a row is read."""

    load_id: str
    chunks: tuple[Chunk, ...]
    columns: tuple[Column, ...]
    """Columns of the query, in its order."""
    strategy: StrategyName
    strategy_reason: str
    refused: tuple[tuple[StrategyName, str], ...] = ()
    """The strategies that come before this one, each with why it cannot serve."""
    workers: int
    chunk_size: int
    """Rows per chunk aimed at."""
    chunk_size_reason: str = ""
    """Where the size comes from, when it was chosen and not given."""
    adaptive: bool = False
    """Whether only as many workers are at work, of those it has, as make the load faster."""
    snapshot: Snapshot
    data_path: DataPath
    data_path_reason: str
    chunk_key: tuple[str, ...] = ()
    key_types: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    """What must still be so for these chunks to mean the same rows at another read point."""
    target_columns: tuple[Column, ...] = ()
    """Columns of the target when it was planned; none without a target."""
    stage_table: str | None = None
    """Where rows wait until they are published; None when chunks appear as they commit."""
    epoch: int = 0
    reading: str = ""
    """Which reading of a stream the stage holds; each is given a name of its own."""
    target: str = ""
    """The target as people write it; empty when nothing is written."""
    load_mode: LoadMode = LoadMode.APPEND
    verification: str = ""
    """How source and target are compared before publishing, or why they are not; for people."""

    @property
    def connections(self) -> tuple[int, int]:
        """Source and target connections that the load holds at once."""
        held = int(self.snapshot.id is not None)  # one more holds the snapshot
        if self.data_path is DataPath.IN_SERVER:
            # One transaction reads and writes; another asks the ledger.
            return held, 2 * self.workers
        readers = 1 if self.strategy is StrategyName.STREAM_ONCE else self.workers
        return readers + held, self.workers if self.target else 0

    @property
    def expected_rows(self) -> int | None:
        """Rows the chunks are expected to hold together, or None when not estimated."""
        expected = [chunk.expected_rows for chunk in self.chunks]
        return None if None in expected else sum(rows or 0 for rows in expected)

    def __str__(self) -> str:
        """Return everything decided, a line each; of many chunks the first and last few."""
        many = len(self.chunks) > _SHOWN_CHUNKS
        edge = _SHOWN_CHUNKS // 2
        shown = [*self.chunks[:edge], None, *self.chunks[-edge:]] if many else self.chunks
        expected = self.expected_rows
        readers, writers = self.connections
        workers = f"{self.workers},"
        if self.adaptive and self.workers > 1:
            workers = f"at most {self.workers}, as many as make the load faster,"
        staged = f", all at once: {_PUBLISHED[self.load_mode]}" if self.stage_table else ""
        target = f"{self.target} ({self.load_mode}{staged})" if self.target else _NO_TARGET
        size = f" ({self.chunk_size_reason})" if self.chunk_size_reason else ""
        facts = [
            ("target", target),
            ("strategy", f"{self.strategy}: {self.strategy_reason}"),
            *(("", f"not {names}: {why}") for why, names in self._refused_by_reason()),
            ("data path", f"{self.data_path}: {self.data_path_reason}"),
            ("snapshot", str(self.snapshot)),
            *([("verified", self.verification)] if self.verification else []),
            ("columns", ", ".join(f"{c.name} {c.type}".strip() for c in self.columns)),
            ("workers", f"{workers} with {readers} source and {writers} target connections"),
            (
                "chunks",
                f"{len(self.chunks)} of about {self.chunk_size:,} rows{size}"
                + ("" if expected is None else f", {expected:,} expected in all"),
            ),
        ]
        lines = [f"load {self.load_id}", *(f"  {name:<9}  {said}" for name, said in facts)]
        return "\n".join([*lines, *(f"    {'...' if c is None else c}" for c in shown)])

    def _refused_by_reason(self) -> list[tuple[str, str]]:
        """Return each reason with the strategies that it rules out, in the order of preference."""
        names: dict[str, list[str]] = {}
        for name, why in self.refused:
            names.setdefault(why, []).append(name.value)
        return [(why, ", ".join(together)) for why, together in names.items()]
