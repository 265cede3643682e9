"""Whether the rows that a load has written are those that the source has.

A load is verified while it is published: the source is asked at the load's read point, the stage
within the transaction that makes it visible.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from threading import Event
from typing import Protocol, TypeVar

from ..errors import RUN_AGAIN, SettingsError, SnapshotLostError, VerificationError
from ..fitting import match_columns
from ..ledger import Ledger
from ..model import Chunk, ChunkKind, Column, Mapping, Plan, StrategyName, Verification
from ..protocols import STAGE_CHUNK, Checksum, Place, Reader, Source, Survey, Target, Transaction
from ..query import Query
from ..results import ChunkResult
from ..stopping import InUse, together
from .comparison import NO_CHUNK, Comparison, differences, total

T = TypeVar("T")


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
    in_use: InUse = field(default_factory=InUse, init=False, compare=False)
    """What the source is being asked with."""

    def cancel(self) -> None:
        """End what the source is being asked; called from another thread."""
        self.in_use.cancel()

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        with (
            self.source.open_reader(self.plan.snapshot) as opened,
            self.in_use.using(opened) as reader,
        ):
            yield reader

    def decide(self, survey: Callable[[], Survey]) -> Decision:
        """Return how the load will be verified; `survey` is asked if nothing else decides.

        Counting is left out, with the reason, where the query cannot be run once more.

        Raises SettingsError when a checksum is asked for and cannot be made.
        """
        method, mode = self.mapping.verification, self.mapping.load_mode
        if method is Verification.NONE:
            why = f"the default of {mode}" if self.mapping.verify is None else "as requested"
            return Decision(method, f"none: {why}")
        if method is Verification.CHECKSUM and (reason := self._no_checksum()):
            raise _cannot(reason)
        if once := self._runs_once(survey):
            if method is Verification.CHECKSUM:
                raise _cannot(once)
            return Decision(Verification.NONE, f"none: {once}")
        return Decision(method, method.value)

    def ask_source(
        self,
        finished: Dict[int, ChunkResult],
        *,
        workers: int,
        attempt: Attempt,
        stop: Event,
    ) -> tuple[Expected | None, str]:
        """Ask the source about the load's rows; return nothing, with the words why, where not.

        Args:
            finished: the load's chunks, from the ledger.
            workers: sessions that may read at once.
            attempt: runs each part of it.
            stop: the load's; set on Ctrl-C, so that nothing more is asked.

        Raises SnapshotLostError when the load's read point is gone.
        """
        try:
            expected, decision = attempt(lambda: self._count(finished))
            if expected is None or decision.method is Verification.COUNT:
                return expected, decision.words
            chunks = self.plan.chunks
            shares = [share for n in range(workers) if (share := chunks[n::workers])]
            given_up = Event()

            def give_up(_: BaseException) -> None:
                given_up.set()
                self.cancel()

            parts = together(
                [partial(attempt, partial(self._sum_up, share, given_up)) for share in shares],
                stop=stop,
                give_up=give_up,
                name="mapper verify",
            )
            found = {number: checksum for part in parts for number, checksum in part.items()}
        except SnapshotLostError as error:
            msg = (
                f"load {self.plan.load_id} is not published: verifying it"
                f" (verify={self.mapping.verification.value!r}) reads the source at its read"
                f" point, but {error}. Or publish it unverified, with verify='none'"
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
        unwritten = total(staged).rows - total(written).rows
        found = Comparison(
            method=self.mapping.verification,
            source="the query",
            target="what was read of it" if stage is None else "the stage",
            source_rows=expected.rows,
            target_rows=total(read).rows + unwritten,
            rejected=sum(chunk.rows_rejected for chunk in done.values()),
        )
        if stage is None or not expected.checksums:
            of_query = differences(expected.chunks, {n: read[n] for n in expected.chunks})
            both = of_query + differences(written, staged)
            return replace(found, differences=tuple(both))
        columns = [theirs for _, theirs in self._pairs()]
        sums = transaction.checksums(stage, columns, expected.place)
        return replace(
            found,
            source_checksum=total(expected.chunks).sum,
            target_rows=total(sums).rows,
            target_checksum=total(sums).sum,
            differences=tuple(differences(expected.chunks, sums)),
        )

    def check(self, transaction: Transaction, expected: Expected) -> str:
        """Compare; return the words for it. Raises VerificationError, naming chunks and numbers."""
        found = self.compare(transaction, expected)
        if found.equal:
            return str(found)
        whole = "" if found.differences else _NO_CHUNKS_FAULT
        cure = _READ_AGAIN if self.plan.stage_table else _ROWS_ARE_IN
        msg = (
            f"load {self.plan.load_id} is not published, because source and target differ."
            f" {found}.{whole} {cure}"
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
            return f"the query is not run twice, because {self.query.blocker}"
        found = survey().blocker()
        return f"the query is not run twice, because {found.reason}" if found else None

    def _no_checksum(self) -> str | None:
        plan = self.plan
        if self.mapping.transforms:
            return "rows that a transform returns need not be the source's"
        if plan.strategy is StrategyName.STREAM_ONCE:
            return "the query is streamed once, and none of its pieces can be read again"
        if plan.stage_table is None:
            return (
                f"load_mode={self.mapping.load_mode.value!r} writes into the table itself, whose"
                " rows do not show their chunk; publish='atomic' writes into a stage"
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
                return stack.enter_context(self._reader())

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

    def _sum_up(self, chunks: Sequence[Chunk], given_up: Event) -> dict[int, Checksum]:
        pairs = self._pairs()
        with self._reader() as reader:
            return {
                chunk.id: reader.checksum(self.query, pairs, self.plan, chunk)
                for chunk in chunks
                if not given_up.is_set()
            }


_READ_AGAIN = f"{RUN_AGAIN}; it starts from its beginning"
_ROWS_ARE_IN = "Its rows are already in the target: look at them before anything else is loaded"
_NO_CHUNKS_FAULT = (
    " Each chunk has exactly its own rows, so the chunks overlap or leave rows out: please report"
    " this, with the printed plan."
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
    return {NO_CHUNK if number is None else number: Checksum(rows) for number, rows in counted}
