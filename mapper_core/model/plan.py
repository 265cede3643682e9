"""What is decided before a row is read: chunks, their read point, and how their rows travel."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .words import ChunkKind, DataPath, LoadMode, StrategyName

_NO_TARGET = "none: rows are read and counted"

# Chunks that a printed plan shows.
_SHOWN_CHUNKS = 12

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
    ChunkKind.STREAM: "every row, read once, in pieces numbered as they arrive",
}

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a query or table, as its database describes it."""

    name: str
    type: str = ""
    """The database's own name of the type, for messages and comparisons."""
    type_id: int | None = None
    """The database's number of the base type, where it has one (a PostgreSQL oid)."""
    required: bool = False
    """Whether a row without a value for it is refused: NOT NULL, and no default."""
    generated: bool = False
    """Whether the database computes it, so that it cannot be written."""
    standard: str = ""
    """The type by its PostgreSQL name, which all databases share here; empty where PostgreSQL has
    none that holds the same values."""
    binary: bool = True
    """Whether the database takes values of its type in binary form, if it has such a form."""

    @property
    def is_json(self) -> bool:
        """Whether its values are JSON."""
        return (self.standard or self.type).lower() in {"json", "jsonb"}


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent read point for every chunk, or the reason why there is none."""

    id: str | None
    description: str
    resumed_from: str | None = None
    """The read point of an earlier run of the load, when finished chunks were read there."""
    instant: str | None = None
    """The moment of the read point, with time zone, as its database writes it."""
    server: str | None = None
    """Which start of its server it belongs to; after a restart, ids begin anew."""
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What statements mean there, as settings of its database: sessions that join it have these,
    however they would have begun."""

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
    """The strategies that come before this one, each with the reason why it cannot serve."""
    workers: int
    chunk_size: int
    """Intended rows per chunk."""
    chunk_size_reason: str = ""
    """Why this size, if it was chosen automatically."""
    adaptive: bool = False
    """Whether the load uses only as many of its workers as make it faster."""
    snapshot: Snapshot
    data_path: DataPath
    data_path_reason: str
    chunk_key: tuple[str, ...] = ()
    key_types: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    """What must be unchanged for these chunks to mean the same rows at another read point."""
    read_in: tuple[str, ...] = ()
    """The database, its schemas and the time zone in which the SQL is read, where known."""
    target_columns: tuple[Column, ...] = ()
    """Columns of the target at the time of planning; none without a target."""
    target_id: str | None = None
    """What tells the target from another table of its name, where it was there and this is told."""
    target_settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What statements mean in the target, as settings of its database: sessions have these, however
    they would have begun."""
    stage_table: str | None = None
    """Where rows wait until they are published; None when chunks appear as they commit."""
    epoch: int = 0
    reading: str = ""
    """Which reading of a stream the stage holds; each reading has a name of its own."""
    target: str = ""
    """The target as people write it; empty when nothing is written."""
    load_mode: LoadMode = LoadMode.APPEND
    verification: str = ""
    """A text for people: how source and target are compared before publishing, or why not."""

    @property
    def found_there(self) -> tuple[str | None, Mapping[str, str]]:
        """What planning has found of the target that another planning may find otherwise."""
        return self.target_id, self.target_settings

    @property
    def connections(self) -> tuple[int, int]:
        """How many source and target connections the load holds at once."""
        held = int(self.snapshot.id is not None)  # one more holds the snapshot
        if self.data_path is DataPath.IN_SERVER:
            # One transaction reads and writes; another asks the ledger.
            return held, 2 * self.workers
        readers = 1 if self.strategy is StrategyName.STREAM_ONCE else self.workers
        return readers + held, self.workers if self.target else 0

    @property
    def expected_rows(self) -> int | None:
        """Rows that all chunks together are expected to hold, or None if not estimated."""
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
