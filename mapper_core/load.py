"""One load over opened databases: its read point, its plan, its chunks, its publishing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from threading import Event
from typing import TypeVar

from . import planner, publisher
from .crew import run_chunks
from .errors import (
    DatabaseError,
    DatabaseUnavailableError,
    LedgerError,
    MapperError,
    SettingsError,
    SnapshotLostError,
)
from .ledger import LoadRecord
from .model import Chunk, ChunkResult, Column, DataPath, Mapping, Plan, Snapshot
from .protocols import Reader, Source, Target
from .query import Query
from .retry import RetryHandler, first_line
from .settings import Settings
from .sink import Sink
from .stored import query_hash
from .tracker import ProgressTracker
from .worker import Destination, Work

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
    sink: Sink | None
    retry: RetryHandler
    tracker: ProgressTracker | None
    stop: Event
    one_snapshot: bool
    """Whether every read must see one read point."""
    shared_pool: bool
    """Whether source and target connections come out of one pool."""

    @contextmanager
    def read_point(self) -> Iterator[Snapshot]:
        """Hold the load's read point until the block ends."""
        if not self.one_snapshot:
            yield Snapshot(None, "none: each worker reads at its own moment (snapshot=False)")
        elif self._lone_source():
            yield Snapshot(None, "one statement reads everything")
        else:
            with ExitStack() as held:
                yield self._outside_chunks(
                    "take the read point of", lambda: held.enter_context(self.source.snapshot())
                )

    def plan(self, snapshot: Snapshot, *, load_group: str | None = None) -> tuple[Plan, bool]:
        """Decide the load and store it, or take up what the ledger has of it.

        Returns the plan and whether the load is published already. Nothing of the query's rows has
        moved when this raises.

        Raises:
            MapperError: a mistake that can be known beforehand; the message names the cure.
        """
        return self._outside_chunks("plan", lambda: self._plan(snapshot, load_group))

    def preview(self, snapshot: Snapshot) -> Plan:
        """Decide the load and store nothing; otherwise as `plan` for a load that is new."""

        def decide() -> Plan:
            with self.source.open_reader(snapshot) as reader:
                return self._decide(reader, self._columns(reader), snapshot)

        return self._outside_chunks("plan", decide)

    def run(self, plan: Plan, chunks: Sequence[Chunk]) -> list[ChunkResult]:
        """Run chunks of the plan, but those the ledger holds; return a result for every one."""
        finished = self._outside_chunks("read the ledger of", self._finished)
        skipped = [finished[chunk.id] for chunk in chunks if chunk.id in finished]
        if self.tracker:
            self.tracker.start(len(chunks))
            for result in skipped:
                self.tracker.record(result)
        work = Work(
            plan=plan,
            mapping=self.mapping,
            query=self.query,
            source=self.source,
            destination=self._outside_chunks("open the target of", lambda: self._destination(plan)),
            retry=self.retry,
            stop=self.stop,
        )
        todo = [chunk for chunk in chunks if chunk.id not in finished]
        results = run_chunks(work, todo, self.tracker.record if self.tracker else None)
        return sorted([*skipped, *results], key=lambda result: result.chunk_id)

    def publish(self, plan: Plan) -> None:
        """Publish the load; twice is safe.

        Raises:
            MapperError: it may not be published, or could not be; the target is as it was.
        """
        if (sink := self.sink) is None:
            return

        def attempt() -> None:
            with sink.transaction() as transaction:
                publisher.publish(transaction, sink.target, sink.ledger, plan, self.mapping)

        self._outside_chunks("publish", attempt)

    def in_group(self, load_group: str, *, fresh: bool) -> "Load":
        """Return the same load under the id of the group's newest one.

        With `fresh`, a published one is followed by a new one under the next id.
        """
        sink = self.sink
        if sink is None:
            raise SettingsError(
                "a load in several steps needs a target: that is where its ledger is"
            )

        def resolve() -> str:
            with sink.transaction() as transaction:
                sink.ledger.prepare(transaction)
                loads = sink.ledger.group(transaction, load_group)
            if not loads:
                return load_group
            newest, published = loads[0]
            return f"{load_group}#{len(loads) + 1}" if fresh and published else newest

        named = replace(self, load_id=load_group)
        return replace(named, load_id=named._outside_chunks("find", resolve))

    def joinable(self) -> Snapshot | None:
        """Return the read point at which the ledger planned this load, if it can be joined yet."""
        record = self._outside_chunks("read the ledger of", self._find)
        if record is None or record.published or record.plan.snapshot.id is None:
            return None
        snapshot = record.plan.snapshot

        def join() -> Snapshot:
            with self.source.open_reader(snapshot):
                return snapshot

        try:
            return self._outside_chunks("join the read point of", join)
        except SnapshotLostError:
            return None

    def find(self) -> LoadRecord:
        """Return what the ledger has of this load. Raises LedgerError when it has nothing."""
        record = self._outside_chunks("read the ledger of", self._find)
        if record is None:
            msg = f"the ledger has no load {self.load_id}: plan it first"
            raise LedgerError(msg)
        return record

    def finished(self) -> list[ChunkResult]:
        """Return the chunks the ledger holds of this load, by their id."""
        found = self._outside_chunks("read the ledger of", self._finished)
        return [found[chunk_id] for chunk_id in sorted(found)]

    def _plan(self, snapshot: Snapshot, load_group: str | None) -> tuple[Plan, bool]:
        with self.source.open_reader(snapshot) as reader:
            columns = self._columns(reader)
            record = self._find()
            if record is not None:
                return self._take_up(record, columns, snapshot)
            plan = self._decide(reader, columns, snapshot)
        if self.sink:
            with self.sink.transaction() as transaction:
                # Another call under the same load id may have planned it since it was looked for.
                transaction.lock(f"plan {self.load_id}")
                record = self.sink.ledger.find(transaction, self.load_id)
                if record is None:
                    self.sink.create_stage(transaction, plan)
                    self.sink.ledger.store(transaction, plan, self.mapping, load_group)
            if record is not None:
                return self._take_up(record, columns, snapshot)
        return plan, False

    def _columns(self, reader: Reader) -> tuple[Column, ...]:
        columns = reader.columns(self.query)
        planner.check_columns(columns, named=bool(self.sink or self.mapping.transform))
        return columns

    def _decide(self, reader: Reader, columns: Sequence[Column], snapshot: Snapshot) -> Plan:
        path, path_reason = self._data_path(columns)
        strategy = planner.choose_strategy(
            self.mapping,
            self.query,
            self.settings,
            source=self.source,
            reader=reader,
            columns=columns,
            one_snapshot=self.one_snapshot,
            sequential=self._sequential(),
        )
        workers = planner.worker_count(
            self.settings,
            self.source,
            self.sink.target if self.sink else None,
            shared=self.shared_pool,
            chunks=len(strategy.chunks),
        )
        return Plan(
            load_id=self.load_id,
            chunks=strategy.chunks,
            columns=tuple(columns),
            strategy=strategy.name,
            strategy_reason=strategy.reason,
            workers=workers,
            chunk_size=self.settings.chunk_size,
            snapshot=snapshot,
            data_path=path,
            data_path_reason=path_reason,
            chunk_key=strategy.key,
            key_types=strategy.key_types,
            stage_table=_stage_name(self.load_id) if self.mapping.staged else None,
            target=self.mapping.target_name,
            load_mode=self.mapping.load_mode,
        )

    def _take_up(
        self, record: LoadRecord, columns: Sequence[Column], snapshot: Snapshot
    ) -> tuple[Plan, bool]:
        """Go on with a load that the ledger has: finished chunks stay finished.

        Its chunks are those planned then. At another read point than then, a staged load begins
        anew, for nothing of it was published; any other continues and says so.
        """
        sink = self.sink
        assert sink is not None  # noqa: S101 - a record comes from a ledger
        if record.query_hash != query_hash(self.mapping):
            msg = (
                f"load id {self.load_id!r} was used for another query, target or window: take a new"
                " load id, or repeat the load with what it had"
            )
            raise LedgerError(msg)
        if record.published:
            return record.plan, True
        shape = [(column.name, column.type) for column in columns]
        if shape != [(column.name, column.type) for column in record.plan.columns]:
            msg = (
                f"the columns of the query have changed since load {self.load_id!r} was planned, so"
                " it cannot be continued: start a new load"
            )
            raise LedgerError(msg)
        if snapshot.is_same_point(record.plan.snapshot):
            return record.plan, False
        with sink.transaction() as transaction:
            epoch = sink.ledger.take_over(transaction, self.load_id)
            if epoch is None:
                return record.plan, True
            if self.mapping.staged:
                plan = replace(record.plan, snapshot=snapshot, epoch=epoch)
                sink.ledger.forget_chunks(transaction, self.load_id)
                sink.ledger.note(transaction, plan)
                sink.create_stage(transaction, plan)
                logger.warning(
                    "load %s begins anew at %s: its earlier read point is gone, and nothing of it"
                    " was published",
                    self.load_id,
                    snapshot.description,
                )
                return plan, False
            if sink.ledger.finished(transaction, self.load_id):
                before = record.plan.snapshot
                earlier = [before.resumed_from] if before.resumed_from else []
                earlier.append(before.description)
                snapshot = replace(snapshot, resumed_from=" and ".join(earlier))
                logger.warning(
                    "load %s continues at another read point: %s",
                    self.load_id,
                    snapshot,
                )
            plan = replace(record.plan, snapshot=snapshot, epoch=epoch)
            sink.ledger.note(transaction, plan)
        return plan, False

    def _data_path(self, columns: Sequence[Column]) -> tuple[DataPath, str]:
        if self.sink:
            return self.sink.data_path(columns, self.source.paths)
        if self.mapping.transform or DataPath.COPY_BINARY not in self.source.paths:
            return DataPath.ROWS, "rows are read as Python values"
        return DataPath.COPY_BINARY, "rows are read and counted, not written"

    def _find(self) -> LoadRecord | None:
        return self.sink.find(self.load_id) if self.sink else None

    def _finished(self) -> dict[int, ChunkResult]:
        return self.sink.finished(self.load_id) if self.sink else {}

    def _destination(self, plan: Plan) -> Destination | None:
        return self.sink.destination(plan) if self.sink else None

    def _lone_source(self) -> str | None:
        """Return why the source has one connection only, or None."""
        if self.source.sole:
            return self.source.sole
        if self.source.limit == 1:
            return "the source's pool holds one connection"
        if self.shared_pool and self.source.limit == 2:  # noqa: PLR2004 - one to read, one to write
            return "source and target share a pool of two connections"
        return None

    def _sequential(self) -> str | None:
        """Return a reason, known before the query is looked at, not to read in parallel."""
        if not self.settings.enable_parallel:
            return "enable_parallel is false"
        return self._lone_source() or (self.sink.target.sole if self.sink else None)

    def _outside_chunks(self, purpose: str, work: Callable[[], T]) -> T:
        """Do work that belongs to no chunk: again after transient errors, in words if it fails."""
        databases: list[Source | Target] = [self.source]
        if self.sink:
            databases.append(self.sink.target)
        try:
            return self.retry.execute_with_retry(
                work,
                is_transient=lambda error: any(d.is_transient(error) for d in databases),
                name=f"{purpose} load {self.load_id}",
            )
        except MapperError:
            raise
        except Exception as error:
            words = next((said for d in databases if (said := d.explain(error))), None)
            if words is None and isinstance(error, ConnectionError | TimeoutError):
                words = first_line(error)
            if words is None:
                raise
            passing = any(d.is_transient(error) for d in databases)
            kind = DatabaseUnavailableError if passing else DatabaseError
            msg = f"could not {purpose} load {self.load_id}: {words}"
            raise kind(msg) from error


def _stage_name(load_id: str) -> str:
    """Return the name of a load's stage: short enough for any database, one for each load."""
    return f"stage_{sha256(load_id.encode()).hexdigest()[:16]}"
