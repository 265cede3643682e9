"""Are the rows that were written those that the source has? By numbers, or by their values.

A load is verified while it is published: the source is asked at the load's read point, the stage
within the transaction that makes it visible. `verify` compares any two tables or queries.
"""

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dict
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, TypeVar

from . import adapters
from .connections import opener_of
from .errors import (
    RUN_AGAIN,
    DatabaseError,
    DatabaseUnavailableError,
    MapperError,
    QueryError,
    SettingsError,
    SnapshotLostError,
    VerificationError,
)
from .fitting import check_columns, match_columns
from .ledger import Ledger
from .model import (
    Chunk,
    ChunkKind,
    Column,
    Mapping,
    Plan,
    StrategyName,
    Verification,
)
from .protocols import STAGE_CHUNK, Checksum, Place, Reader, Source, Survey, Target, Transaction
from .query import Query, read_query
from .results import ChunkResult

T = TypeVar("T")

# Differing chunks that a message lists.
_NAMED = 10

# Stands for the chunk of rows that no worker can have written.
_NO_CHUNK = -1


@dataclass(frozen=True, slots=True)
class Difference:
    """A chunk that is not the same on both sides."""

    chunk_id: int
    source: Checksum
    target: Checksum

    def __str__(self) -> str:
        name = "rows of no chunk" if self.chunk_id == _NO_CHUNK else f"chunk {self.chunk_id}"
        return f"{name}: {_told(self.source)} against {_told(self.target)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What comparing source and target came to; prints as a sentence."""

    method: Verification
    source: str
    """What was compared, as people write it."""
    target: str
    source_rows: int
    target_rows: int
    source_checksum: int | None = None
    """Sum over the values of all rows, the same in any order; None where rows were counted."""
    target_checksum: int | None = None
    differences: tuple[Difference, ...] = ()
    """Of a load, the chunks that differ, as far as they can be told."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return (
            self.source_rows == self.target_rows
            and self.source_checksum == self.target_checksum
            and not self.differences
        )

    def raise_for_difference(self) -> None:
        """Raise `VerificationError`, naming both numbers, unless nothing differs."""
        if not self.equal:
            raise VerificationError(str(self))

    def __str__(self) -> str:
        if self.equal:
            alike = "" if self.source_checksum is None else ", with the same values"
            return f"{self.method}: {self.source_rows:,} rows on both sides{alike}"
        ours = _told(Checksum(self.source_rows, self.source_checksum))
        theirs = _told(Checksum(self.target_rows, self.target_checksum))
        said = f"{self.method}: {self.source} has {ours}, {self.target} has {theirs}"
        named = [str(difference) for difference in self.differences[:_NAMED]]
        more = ["..."] * (len(self.differences) > _NAMED)
        return "; ".join([said, *named, *more])


def verify(
    source_conn: Any,
    source: str,
    target_conn: Any,
    target: str,
    *,
    params: Dict[str, Any] | None = None,
    method: str = Verification.COUNT,
    time_zone: str = "UTC",
) -> Comparison:
    """Compare two tables or queries, each read by one statement at its own moment.

    Args:
        source_conn: anything that a load takes as a connection.
        source: a table, as in "shop.orders" (spelled as the database has it), or a SELECT.
        target_conn: as `source_conn`.
        target: as `source`.
        params: values for `:name` in the queries.
        method: "count", or, between PostgreSQL databases, "checksum": whatever the order of rows
            and columns, both have the same values in the source's columns, matched by name. Where
            types differ, the source's value counts as it would arrive in the target.
        time_zone: of the sessions, for queries whose meaning depends on it.

    Returns:
        Comparison: `comparison.equal`, the numbers, and words; a difference does not raise here.

    Raises:
        SettingsError: a keyword or connection cannot be used, or the columns have no checksum that
            could be compared.
        QueryError: a query or table cannot be read.
        TargetError: a column of the source is missing in the target.
        DatabaseError: a database did not answer.
    """
    known = (Verification.COUNT.value, Verification.CHECKSUM.value)
    if method not in known:
        msg = f"method={method!r} is not known: it is one of {', '.join(map(repr, known))}"
        raise SettingsError(msg)
    sides = [
        _Side.of(conn, what, params, role=role, time_zone=time_zone)
        for conn, what, role in (
            (source_conn, source, "source_conn"),
            (target_conn, target, "target_conn"),
        )
    ]
    try:
        return _compared(sides[0], sides[1], Verification(method))
    except MapperError:
        raise
    except Exception as error:
        databases = [side.database for side in sides]
        words = next((said for d in databases if (said := d.explain(error))), None)
        if words is None:
            raise
        passing = any(d.is_transient(error) for d in databases)
        kind = DatabaseUnavailableError if passing else DatabaseError
        msg = f"could not compare {sides[0].name} with {sides[1].name}: {words}"
        raise kind(msg) from error


@dataclass(frozen=True, slots=True)
class _Side:
    """One of two tables or queries."""

    database: adapters.Database
    read_from: Source
    query: Query
    name: str

    @classmethod
    def of(
        cls, conn: Any, what: str, params: Dict[str, Any] | None, *, role: str, time_zone: str
    ) -> "_Side":
        database = adapters.database(
            opener_of(conn, role=role), application="mapper verify", time_zone=time_zone
        )
        words = what.split()
        if not words:
            raise QueryError("there is nothing to compare: give a table's name, or a SELECT")
        if len(words) == 1:
            name, sql = words[0], f"select * from {database.quote(*words[0].split('.'))}"
            query = read_query(sql, None, dialect=database.dialect)
        else:
            name = f"the query of the {role.removesuffix('_conn')}"
            query = read_query(what, params, dialect=database.dialect)
        return cls(database, database.for_query(query), query, name)

    def rows(self) -> int:
        with self._reader() as reader:
            return reader.survey(self.query).count()

    def columns(self) -> tuple[Column, ...]:
        with self._reader() as reader:
            columns = reader.columns(self.query)
        check_columns(columns, named=True)
        return columns

    def checksum(self, pairs: Sequence[tuple[Column, Column]]) -> Checksum:
        with self._reader() as reader:
            return reader.checksum(self.query, pairs)

    def _reader(self) -> AbstractContextManager[Reader]:
        return self.read_from.open_reader(None)


def _compared(source: _Side, target: _Side, method: Verification) -> Comparison:
    """Compare; one session at a time, for a pool of one connection may serve both sides."""
    if method is Verification.COUNT:
        found = [Checksum(side.rows()) for side in (source, target)]
    else:
        theirs = target.columns()
        pairs = match_columns(source.columns(), theirs, target.name, complete=False)
        if why := target.database.checksum_blocker(source.database.kind, pairs):
            msg = f"method='checksum' cannot be done: {why}"
            raise SettingsError(msg)
        same = [(column, column) for _, column in pairs]
        found = [source.checksum(pairs), target.checksum(same)]
    return Comparison(
        method=method,
        source=source.name,
        target=target.name,
        source_rows=found[0].rows,
        target_rows=found[1].rows,
        source_checksum=found[0].sum,
        target_checksum=found[1].sum,
    )


class Attempt(Protocol):
    """Runs a function, again where that may help."""

    def __call__(self, work: Callable[[], T], /) -> T:
        """Return what it returns. Raises MapperError, in words."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How a load is verified, and the words for it."""

    method: Verification
    words: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What the source says of a load's rows, at the load's read point."""

    rows: int
    place: Place | None
    chunks: Dict[int, Checksum]
    """Of a count, only where all of it is not what the chunks have read."""

    @property
    def checksums(self) -> dict[int, int]:
        """The checksum of each chunk; nothing where rows were counted."""
        return {number: c.sum for number, c in self.chunks.items() if c.sum is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifying:
    """One load about to be verified: what will be compared, and both sides of it."""

    plan: Plan
    mapping: Mapping
    query: Query
    source: Source
    target: Target
    ledger: Ledger

    def decide(self, survey: Callable[[], Survey]) -> Decision:
        """Return how the load will be verified; `survey` is asked if nothing else decides.

        Counting is left out, with the reason, where the query cannot be run once more.

        Raises SettingsError when a checksum is asked for and cannot be made.
        """
        method, mode = self.mapping.verification, self.mapping.load_mode
        if method is Verification.NONE:
            why = f"the default of {mode}" if self.mapping.verify is None else "as asked"
            return Decision(method, f"none: {why}")
        if method is Verification.CHECKSUM and (reason := self._no_checksum()):
            raise _cannot(reason)
        if once := self._runs_once(survey):
            if method is Verification.CHECKSUM:
                raise _cannot(once)
            return Decision(Verification.NONE, f"none: {once}")
        return Decision(method, method.value)

    def ask_source(
        self, finished: Dict[int, ChunkResult], *, workers: int, attempt: Attempt
    ) -> tuple[Expected | None, str]:
        """Ask the source about the load's rows; return nothing, with the words why, where not.

        Args:
            finished: the load's chunks, from the ledger.
            workers: sessions that may read at once.
            attempt: runs each part of it.

        Raises SnapshotLostError when the load's read point is gone.
        """
        try:
            expected, decision = attempt(lambda: self._count(finished))
            if expected is None or decision.method is Verification.COUNT:
                return expected, decision.words
            chunks = self.plan.chunks
            shares = [share for n in range(workers) if (share := chunks[n::workers])]
            with ThreadPoolExecutor(len(shares), "mapper verify") as threads:
                summed = threads.map(lambda share: attempt(lambda: self._sum_up(share)), shares)
                found = {number: checksum for part in summed for number, checksum in part.items()}
        except SnapshotLostError as error:
            msg = (
                f"load {self.plan.load_id} is not published: verifying it"
                f" (verify={self.mapping.verification.value!r}) reads the source at its read point,"
                f" and {error}. Or publish it unverified, with verify='none'"
            )
            raise SnapshotLostError(msg) from error
        return replace(expected, chunks=found), decision.words

    def compare(self, transaction: Transaction, expected: Expected) -> Comparison:
        """Compare the source with the load's rows, as they are in the publishing transaction.

        A stage's rows are compared with what each chunk has written, too: so a transform, which
        may write more or fewer rows than were read, is no difference.
        """
        plan = self.plan
        done = self.ledger.finished(transaction, plan.load_id)
        read = {number: Checksum(chunk.rows_read or 0) for number, chunk in done.items()}
        written = {number: Checksum(chunk.rows_written) for number, chunk in done.items()}
        stage = self.ledger.table(plan.stage_table) if plan.stage_table else None
        staged = written
        if stage is not None:
            staged = _rows_by_chunk(transaction, self.target, stage)
        unwritten = _total(staged).rows - _total(written).rows
        found = Comparison(
            method=self.mapping.verification,
            source="the query",
            target="what was read of it" if stage is None else "the stage",
            source_rows=expected.rows,
            target_rows=_total(read).rows + unwritten,
        )
        if stage is None or not expected.checksums:
            of_query = _differences(expected.chunks, {n: read[n] for n in expected.chunks})
            both = of_query + _differences(written, staged)
            return replace(found, differences=tuple(both))
        columns = [theirs for _, theirs in self._pairs()]
        sums = transaction.checksums(stage, columns, expected.place)
        return replace(
            found,
            source_checksum=_total(expected.chunks).sum,
            target_rows=_total(sums).rows,
            target_checksum=_total(sums).sum,
            differences=tuple(_differences(expected.chunks, sums)),
        )

    def check(self, transaction: Transaction, expected: Expected) -> str:
        """Compare; return the words for it. Raises VerificationError, naming chunks and numbers."""
        found = self.compare(transaction, expected)
        if found.equal:
            return str(found)
        whole = "" if found.differences else _NO_CHUNKS_FAULT
        cure = _READ_AGAIN if self.plan.stage_table else _ROWS_ARE_IN
        msg = (
            f"load {self.plan.load_id} is not published, for source and target differ. {found}."
            f"{whole} {cure}"
        )
        raise VerificationError(msg)

    def _runs_once(self, survey: Callable[[], Survey]) -> str | None:
        """Return why the query cannot be run once more with the same rows, or None."""
        snapshot = self.plan.snapshot
        if snapshot.id is None:
            return f"the query cannot be run again at its read point ({snapshot.description})"
        if snapshot.resumed_from is not None:
            return "the chunks were read at several read points"
        if self.query.blocker:
            return f"the query is not run twice, for {self.query.blocker}"
        found = survey().blocker()
        return f"the query is not run twice, for {found.reason}" if found else None

    def _no_checksum(self) -> str | None:
        plan = self.plan
        if self.mapping.transforms:
            return "rows that a transform has made are not the source's"
        if plan.strategy is StrategyName.STREAM_ONCE:
            return "the query is streamed once, and none of its pieces can be read again"
        if plan.stage_table is None:
            return (
                f"load_mode={self.mapping.load_mode.value!r} writes into the table itself, whose"
                " rows belong to no chunk; publish='atomic' has a stage"
            )
        return self.target.checksum_blocker(self.source.kind, self._pairs())

    def _pairs(self) -> tuple[tuple[Column, Column], ...]:
        plan = self.plan
        return match_columns(plan.columns, plan.target_columns, plan.target, complete=False)

    def _count(self, finished: Dict[int, ChunkResult]) -> tuple[Expected | None, Decision]:
        """Count the query as one, so that a mistake in cutting it shows."""
        with ExitStack() as stack:

            @cache
            def reader() -> Reader:
                return stack.enter_context(self.source.open_reader(self.plan.snapshot))

            decision = self.decide(lambda: reader().survey(self.query))
            if decision.method is Verification.NONE:
                return None, decision
            survey = reader().survey(self.query)
            counted = Expected(survey.count(), survey.place(), {})
            if counted.rows == sum(chunk.rows_read or 0 for chunk in finished.values()):
                return counted, decision
            chunks = {
                chunk.id: Checksum(reader().count(self.query, self.plan, chunk))
                for chunk in self.plan.chunks
                if chunk.kind is not ChunkKind.STREAM
            }
            return replace(counted, chunks=chunks), decision

    def _sum_up(self, chunks: Sequence[Chunk]) -> dict[int, Checksum]:
        pairs = self._pairs()
        with self.source.open_reader(self.plan.snapshot) as reader:
            return {
                chunk.id: reader.checksum(self.query, pairs, self.plan, chunk) for chunk in chunks
            }


_READ_AGAIN = f"{RUN_AGAIN}; it begins anew"
_ROWS_ARE_IN = "Its rows are in the target already: look at them before anything else is loaded"
_NO_CHUNKS_FAULT = (
    " Each chunk has its own rows, so together they overlap or leave some out: please report this,"
    " with the printed plan."
)


def _cannot(why: str) -> SettingsError:
    return SettingsError(
        f"verify='checksum' cannot be done: {why}. Pass verify='count' or verify='none'"
    )


def _rows_by_chunk(
    transaction: Transaction, target: Target, stage: Sequence[str]
) -> dict[int, Checksum]:
    chunk = target.quote(STAGE_CHUNK)
    counted = transaction.execute(
        f"select {chunk}, count(*) from {target.quote(*stage)} group by {chunk}"
    )
    return {_NO_CHUNK if number is None else number: Checksum(rows) for number, rows in counted}


def _differences(source: Dict[int, Checksum], target: Dict[int, Checksum]) -> list[Difference]:
    """Return the chunks that differ, in order; one that a side lacks has no rows there."""
    found = []
    for number in sorted({*source, *target}):
        sides = source.get(number), target.get(number)
        summed = any(side is not None and side.sum is not None for side in sides)
        ours, theirs = (side or Checksum(0, 0 if summed else None) for side in sides)
        if ours != theirs:
            found.append(Difference(number, ours, theirs))
    return found


def _total(chunks: Dict[int, Checksum]) -> Checksum:
    return Checksum(
        sum(checksum.rows for checksum in chunks.values()),
        sum(checksum.sum or 0 for checksum in chunks.values()),
    )


def _told(checksum: Checksum) -> str:
    said = f"{checksum.rows:,} row{'' if checksum.rows == 1 else 's'}"
    return said if checksum.sum is None else f"{said} (checksum {checksum.sum})"
