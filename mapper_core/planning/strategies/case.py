"""What a strategy looks at, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...fitting import spelled
from ...model import Chunk, ChunkKind, Column, Estimate, Mapping, Refused, StrategyName
from ...once import found_already, once
from ...protocols import Survey
from ...query import Query
from .. import sizing

# An estimate this many times over the threshold is believed without counting: the planner is
# seldom that wrong, and counting up to the threshold costs what a small load does.
_CLEARLY = 10

# How often over the ranges of a key may read the query before another way is better.
_TOO_OFTEN = 4.0


@dataclass(frozen=True, slots=True)
class Division:
    """How a query's rows are divided into chunks, and why so."""

    strategy: StrategyName
    reason: str
    chunks: tuple[Chunk, ...]
    key: tuple[str, ...] = ()
    key_types: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    undivided: str | None = None
    """Why there is but one chunk, with one transaction; None when there may be more."""
    refused: tuple[tuple[StrategyName, str], ...] = ()

    @property
    def of_blocks(self) -> bool:
        """Whether the chunks are ranges of where rows lie."""
        return self.chunks[0].kind in {ChunkKind.BLOCKS, ChunkKind.ROWIDS}


@dataclass(frozen=True)
class Case:
    """One query to be loaded, and what is known of it; questions are asked once, when needed."""

    mapping: Mapping
    query: Query
    survey: Survey
    columns: Sequence[Column]
    given_size: int | None
    """Rows of a chunk, if somebody said how many."""
    threshold: int
    """Rows below which dividing does not pay."""
    workers: int
    """Chunks that may be in flight at once."""
    readers: int
    """Workers that may read at once."""
    one_snapshot: bool
    """Whether every read must see one read point."""
    continued: bool
    """Whether finished chunks may have to fit a later read point: an append that has a name."""
    sequential: str | None
    """Why one reader and one writer is all there can be, known beforehand."""
    one_reader: str | None
    """Why there can be but one reader, known beforehand."""
    one_writer: str | None
    """Why there can be but one writer, known beforehand."""
    in_server: Callable[[], str | None]
    """Asks why INSERT ... SELECT inside one database would not do."""

    @property
    def forced(self) -> bool:
        """Whether the strategy was asked for by its name, so that no other comes into question."""
        return self.mapping.strategy is not None

    @once
    def estimate(self) -> Estimate:
        """What the database expects of the query."""
        return self.survey.estimate()

    @once
    def size(self) -> tuple[int, str]:
        """Rows of a chunk, and why so many where nobody said."""
        if self.given_size is not None:
            return self.given_size, ""
        return sizing.auto_chunk_size(self.estimate)

    @once
    def range_size(self) -> tuple[int, str]:
        """The same of a range of blocks."""
        # The rows that a function is to see may have to be in memory together.
        if self.given_size is not None or self.mapping.transforms:
            return self.size
        return sizing.auto_range_size(self.estimate, self.readers)

    @property
    def chunk_size(self) -> int:
        """Rows of a chunk."""
        return self.size[0]

    @once
    def unsplittable(self) -> str | None:
        """Why reading the query in ranges would not give its own rows."""
        if self.query.blocker:
            return f"the query cannot be split: {self.query.blocker}"
        found = self.survey.blocker()
        return f"the query cannot be split: {found.reason}" if found else None

    @once
    def whole(self) -> str | None:
        """Why the query must be read by one statement, or is better read so."""
        return self.sequential or self.one_reader or self.unsplittable or self.small

    @once
    def small(self) -> str | None:
        """Why the query is too small to divide, in words; None for one that is not."""
        threshold, expected = self.threshold, self.estimate.rows
        if self.forced or not threshold:
            return None
        if expected is not None and expected >= _CLEARLY * threshold:
            return None
        if self.unsplittable:
            # Counting would run it once more.
            if expected is None or expected >= threshold:
                return None
            rows = f"about {expected:,}"
        else:
            if self.counted >= threshold:
                return None
            rows = f"{self.counted:,}"
        return f"the query has {rows} rows, fewer than the threshold of {threshold:,}"

    @once
    def counted(self) -> int:
        """Rows of the query, counted up to the threshold."""
        return self.survey.count_up_to(self.threshold)

    def expected(self, estimated: int | None) -> int | None:
        """Return how many rows the query has: as estimated, where nothing better is known by now.

        Nobody counts for this alone.
        """
        counted: int | None = found_already(self, "counted")
        if counted is None:
            return estimated
        if counted < self.threshold:
            return counted
        return max(counted, estimated or 0)

    @once
    def key(self) -> tuple[tuple[str, ...], str]:
        """The key to cut by and where it comes from; no key when there is none."""
        names = {column.name for column in self.columns}
        if given := spelled(self.mapping.chunk_key or (), names):
            return tuple(dict.fromkeys(given)), "the chunk_key given"
        ordered: list[str] = []
        for name in spelled(self.query.order_key, names):
            if name not in names:
                break
            ordered.append(name)
        if ordered:
            return tuple(ordered), "the query's ORDER BY"
        for key in self.survey.unique_keys():
            unique = spelled(key, names)
            if set(unique) <= names:
                return unique, "a key of the table"
        return (), ""

    @once
    def costly_key(self) -> str | None:
        """Why cutting by the key would cost more than it saves, or None."""
        key, _ = self.key
        cost = self.survey.range_cost(key)
        expected = self.estimate.rows
        if cost is None or expected is None:
            return None
        times = cost * expected / self.chunk_size
        if times <= _TOO_OFTEN:
            return None
        return (
            f"no index serves ranges of {', '.join(key)}, so reading them one by one would cost as"
            f" much as running the whole query about {times:,.0f} times"
        )


Answer = Division | Refused
