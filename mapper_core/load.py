"""One load over opened databases: its read point, its plan, its chunks, its publishing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from . import chunker, verification
from .errands import Errands
from .errors import LedgerError, SettingsError, SnapshotLostError
from .ledger import LoadRecord
from .loading import RejectBudget, Running, Work, pieces_of
from .model import Chunk, Mapping, Plan, Snapshot, TransformWorkers
from .planning import planner, recording, resumption
from .protocols import Database, Reader, Source
from .publishing import Publication
from .query import Query
from .results import ChunkResult
from .retry import RetryHandler
from .settings import Settings
from .stopping import InUse, Spared
from .target_side import TargetSide, WrittenTable
from .tracker import ProgressTracker

if TYPE_CHECKING:
    from .transform.processes import TransformProcesses

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load:
    """A mapping, the settings in force and the databases it runs over."""

    load_id: str
    mapping: Mapping
    query: Query
    settings: Settings
    source: Source
    target: TargetSide | None
    retry: RetryHandler
    tracker: ProgressTracker | None
    stop: Event
    should_stop: Callable[[], bool] | None
    one_snapshot: bool
    """Whether every read must see one read point."""
    shared_pool: bool
    """Whether source and target connections come out of one pool."""
    named: bool
    """Whether a later call may continue it by its load id."""

    @contextmanager
    def read_point(self) -> Iterator[Snapshot]:
        """Hold the load's read point until the block ends."""
        if not self.one_snapshot:
            yield Snapshot(None, "none: each worker reads at its own moment (snapshot=False)")
        elif planner.lone_source(self.source, shared_pool=self.shared_pool):
            yield Snapshot(None, "one statement reads everything")
        elif self.named and self.source.snapshots_last and (found := self.joinable()):
            yield found
        else:
            with ExitStack() as held:
                yield self._errands.do(
                    "open the source of",
                    lambda: held.enter_context(self.source.snapshot(self.query, self._lost)),
                )

    def plan(self, snapshot: Snapshot, *, load_group: str | None = None) -> tuple[Plan, bool]:
        """Decide the load and store it, or take up what the ledger has of it.

        Returns the plan and whether the load is published already. Nothing of the query's rows has
        moved when this raises.

        Raises:
            MapperError: a mistake that can be known beforehand; the message names the cure.
        """
        return self._errands.do_unless_stopped("plan", lambda: self._plan(snapshot, load_group))

    def preview(self, snapshot: Snapshot) -> Plan:
        """Decide the load and store nothing; otherwise as `plan` for a load that is new."""

        def decide() -> Plan:
            with self.source.open_reader(snapshot) as reader, self._errands.stopping(reader.cancel):
                return self._planning(reader, snapshot).decide()

        return self._errands.do_unless_stopped("plan", decide)

    def run(
        self,
        plan: Plan,
        chunks: Sequence[Chunk],
        *,
        may_split: bool = False,
        has_neighbours: bool = False,
    ) -> tuple[Plan, list[ChunkResult]]:
        """Run chunks of the plan, but those the ledger holds.

        Returns the plan in force, which reading a stream renews, and a result for every chunk, or
        for every piece of a stream. With `may_split` the last chunks may come in parts, which are
        chunks of that plan; `has_neighbours` says that other processes run the rest of its chunks.
        """
        load = self._as_planned(plan)
        with self._processes() as processes:
            work = load._work(plan, processes, has_neighbours=has_neighbours)
            running = Running(
                work, load.target, self.tracker, load._finished_by_now, load._wait_for_disk
            )
            return running.run(chunks, may_split=may_split)

    def _as_planned(self, plan: Plan) -> "Load":
        """Return the same load, its sessions of the target having the settings of its planning."""
        return replace(self, target=self.target.sharing(plan)) if self.target else self

    @contextmanager
    def _processes(self) -> "Iterator[TransformProcesses | None]":
        """Have processes for the transform, where it is to run in such."""
        if self.mapping.workers is TransformWorkers.THREADS:
            yield None
            return
        from .transform.processes import TransformProcesses  # loky is there where it is wanted

        with TransformProcesses() as processes:
            yield processes

    def _work(
        self, plan: Plan, processes: "TransformProcesses | None", *, has_neighbours: bool
    ) -> Work:
        return Work(
            plan=plan,
            mapping=self.mapping,
            query=self.query,
            source=self.source,
            table=self._errands.do("open the target of", lambda: self._written_table(plan)),
            retry=self.retry,
            stop=self.stop,
            should_stop=self.should_stop,
            rejects=self._reject_budget(),
            has_neighbours=has_neighbours,
            stop_on_error=self.settings.stop_on_error,
            processes=processes,
        )

    def publish(self, plan: Plan) -> str:
        """Verify and publish the load; twice is safe. Return what was compared, in words.

        Raises:
            VerificationError: source and target differ; the target is as it was.
            InDoubtError: it is not known whether it is published.
            MapperError: it may not be published, or could not be; the target is as it was.
        """
        if (target := self._as_planned(plan).target) is None:
            return ""
        verifying = self._verifying(plan, target)
        expected, asked = self._ask_source(verifying, target)
        return Publication(
            plan=plan,
            mapping=self.mapping,
            target=target,
            errands=self._errands,
            verifying=verifying,
            expected=expected,
            asked=asked,
        ).publish()

    def in_group(self, load_group: str, *, fresh: bool) -> "Load":
        """Return the same load under the id of the group's newest one.

        With `fresh`, a published one is followed by a new one under the next id.
        """
        target = self.target
        if target is None:
            raise SettingsError(
                "a load in several steps needs a target, which keeps its ledger: give target_conn"
                " and target_table"
            )

        def resolve() -> str:
            with target.transaction() as transaction:
                target.prepare_ledger(transaction)
                loads = target.ledger.group(transaction, load_group)
            if not loads:
                return load_group
            newest, published = loads[0]
            return f"{load_group}#{len(loads) + 1}" if fresh and published else newest

        named = replace(self, load_id=load_group, named=True)
        return replace(named, load_id=named._errands.do("find", resolve))

    def joinable(self) -> Snapshot | None:
        """Return the read point at which the ledger planned this load, if it can be joined yet."""
        record = self._errands.do("read the ledger of", self._find)
        if record is None or record.published or record.plan.snapshot.id is None:
            return None
        if record.verified:
            # Its rows differ from the source's there: they are to be read again.
            return None
        snapshot = record.plan.snapshot

        def join() -> Snapshot:
            with self.source.open_reader(snapshot) as reader:
                # It may be there, and yet not show all rows any more.
                reader.columns(self.query)
                return snapshot

        try:
            return self._errands.do("join the read point of", join)
        except SnapshotLostError:
            return None

    def find(self) -> LoadRecord:
        """Return what the ledger has of this load.

        Raises LedgerError when it has nothing, or has planned another one under this name.
        """
        record = self._there(self._errands.do("read the ledger of", self._find))
        resumption.check_query(record, self.mapping)
        return record

    def published(self) -> Plan | None:
        """Return the plan of a load that the ledger has as published; None for any other.

        Raises LedgerError when that was another load under this name.
        """
        record = self._errands.do("read the ledger of", self._find)
        if record is None or not record.published:
            return None
        resumption.check_query(record, self.mapping)
        return record.plan

    def _there(self, record: LoadRecord | None) -> LoadRecord:
        if record is None:
            msg = f"the ledger has no load {self.load_id}: plan it first"
            raise LedgerError(msg)
        return record

    def finished(self) -> list[ChunkResult]:
        """Return the chunks the ledger holds of this load, by their id; of a stream, its pieces."""
        found = self._finished_by_now()
        if chunker.STREAM in found:
            return pieces_of(found)
        return [found[chunk_id] for chunk_id in sorted(found)]

    def _plan(self, snapshot: Snapshot, load_group: str | None) -> tuple[Plan, bool]:
        with self.source.open_reader(snapshot) as reader, self._errands.stopping(reader.cancel):
            return recording.recorded(self._planning(reader, snapshot), load_group)

    def _planning(self, reader: Reader, snapshot: Snapshot) -> planner.Planning:
        survey = reader.survey(self.query)
        if snapshot.id is None:
            # Nobody holds a read point; but all of the load is to be one query, at any moment.
            snapshot = replace(snapshot, settings=survey.settings())
        return planner.Planning(
            load_id=self.load_id,
            mapping=self.mapping,
            query=self.query,
            settings=self.settings,
            source=self.source,
            target=self.target,
            one_snapshot=self.one_snapshot,
            shared_pool=self.shared_pool,
            named=self.named,
            survey=survey,
            columns=planner.columns_of(reader, self.query, self.mapping),
            snapshot=snapshot,
            place=survey.place(),
        )

    def _verifying(self, plan: Plan, target: TargetSide) -> verification.Verifying:
        return verification.Verifying(
            plan=plan,
            mapping=self.mapping,
            query=self.query,
            source=self.source,
            target=target.database,
            ledger=target.ledger,
        )

    def _ask_source(
        self, verifying: verification.Verifying, target: TargetSide
    ) -> tuple[verification.Expected | None, str]:
        """Return what the source says of the load's rows, and the words for it.

        Nothing for a load that is published already, or that lacks chunks and will be refused.
        """
        plan = verifying.plan
        found, finished = self._errands.do(
            "read the ledger of", lambda: target.so_far(self.load_id)
        )
        record = self._there(found)
        if record.published or any(chunk.id not in finished for chunk in plan.chunks):
            return None, record.verified

        def attempt(work: Callable[[], T]) -> T:
            return self._errands.do_unless_stopped("verify", work)

        # The workers' sessions have ended; one may still hold the read point.
        most = plan.workers if self.source.limit is None else self.source.limit - 1
        with self._errands.stopping(verifying.cancel):
            expected, words = verifying.ask_source(
                finished,
                workers=max(1, min(plan.workers, most)),
                attempt=attempt,
                stop=self.stop,
            )
        if expected is not None and expected.checksums:
            checksums = expected.checksums

            def keep() -> None:
                with target.transaction() as transaction:
                    target.ledger.note_checksums(transaction, plan, checksums)

            attempt(keep)
        return expected, words

    def _lost(self, snapshot: str) -> None:
        logger.warning(
            "load %s: the session that holds %s has ended early; sessions that have joined it"
            " continue to read there, but no others can join",
            self.load_id,
            snapshot,
        )

    def _reject_budget(self) -> RejectBudget | None:
        """Return how many more rows may be refused; None when the first one fails its chunk."""
        limit, target = self.settings.reject_limit, self.target
        if limit == 0 or target is None:
            return None
        taken = self._errands.do("read the ledger of", lambda: target.rows_rejected(self.load_id))
        return RejectBudget(limit, taken)

    def _find(self) -> LoadRecord | None:
        return self.target.find(self.load_id) if self.target else None

    def _finished_by_now(self) -> dict[int, ChunkResult]:
        def ask() -> dict[int, ChunkResult]:
            return self.target.finished(self.load_id) if self.target else {}

        return self._errands.do("read the ledger of", ask)

    def _wait_for_disk(self, chunk_id: int) -> None:
        if (target := self.target) is None:
            return
        # A standby that has to have it too may be gone: a load that stops waits for a while only.
        with self._errands.stopping(Spared(target.in_use).cancel):
            self._errands.do(
                "wait for the target's disk to have the chunks of",
                lambda: target.touch(self.load_id, chunk_id),
            )

    def _written_table(self, plan: Plan) -> WrittenTable | None:
        return self.target.written_table(plan) if self.target else None

    @property
    def _errands(self) -> Errands:
        databases: list[Database] = [self.source]
        if self.target:
            databases.append(self.target.database)
        in_use = self.target.in_use if self.target else InUse()
        return Errands(self.load_id, databases, self.retry, self.stop, self.should_stop, in_use)
