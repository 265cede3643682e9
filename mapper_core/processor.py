"""The engine's front: plan, run the workers, publish, result.

A load can also be run in those steps by several processes, as the Dagster layer does: one calls
`plan_load`, any number `load_lane`, one `publish_load`. What they share is in the ledger.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

from typing_extensions import Unpack

from .connections import Keeper
from .errors import InDoubtError, MapperError
from .load import Load
from .model import Plan, Snapshot, StrategyName
from .opening import LoadOptions, merged, open_load
from .outcome import Ending, outcome
from .results import ChunkResult, ChunkStatus, ParallelProcessingResult


class ParallelProcessor:
    """Loads queries into tables, with keywords that hold for all its calls.

    Takes the keywords of `execute_query_parallel`; those given to a call beat these. Opens nothing
    until it is used.
    """

    def __init__(self, **options: Unpack[LoadOptions]) -> None:
        self._options = merged({}, options)
        self._running: set[Event] = set()

    def stop(self) -> None:
        """Stop all running calls: no further chunk begins, and running statements are ended.

        Finished chunks stay finished, and nothing of the others remains. The status of the results
        is `stopped`.
        """
        for stop in tuple(self._running):
            stop.set()

    def process_mapper_job(
        self, source_conn: Any, source_sql: str, **options: Unpack[LoadOptions]
    ) -> ParallelProcessingResult:
        """Load a query into a table; see `execute_query_parallel` for the keywords.

        Raises:
            MapperError: a mistake that can be known before rows move. Whatever happens to chunks
                after that is reported in the result.
        """
        begun = time.monotonic()
        with (
            self._opened(source_conn, source_sql, options) as load,
            load.read_point() as snapshot,
        ):
            plan, published = load.plan(snapshot)
            plan, results = load.run(plan, plan.chunks, may_split=True)
            if published:
                ending = Ending(published=True, verified=load.find().verified)
            elif load.target and all(chunk.rows_are_in for chunk in results):
                ending = _published(load, plan)
            else:
                ending = Ending(published=False)
        return outcome(
            plan,
            results,
            ending,
            load_id=load.load_id if load.target else None,
            seconds=time.monotonic() - begun,
            stop_on_error=load.settings.stop_on_error,
        )

    def plan(self, source_conn: Any, source_sql: str, **options: Unpack[LoadOptions]) -> Plan:
        """Return what `process_mapper_job` would do with a new load; load nothing.

        `print(plan)` shows it; see `mapper_core.plan`. Nothing is stored.

        Raises:
            MapperError: a mistake that can be known before rows move.
        """
        with self._opened(source_conn, source_sql, options) as load, load.read_point() as snapshot:
            return load.preview(snapshot)

    def plan_load(
        self,
        source_conn: str,
        source_sql: str,
        load_group: str,
        *,
        again: bool = True,
        **options: Unpack[LoadOptions],
    ) -> Plan:
        """Plan a load that `load_lane` and `publish_load` carry out, in any process.

        Continues the group's newest load if it is unfinished; otherwise begins a new one. With
        `again=False` it begins a new load only if the group has none, and returns the plan of a
        published one. The load's read point is held by a small process of its own, which ends with
        the load.

        Args:
            source_conn: a URL, because other processes must open it too.
            source_sql: see `execute_query_parallel`.
            load_group: what the loads of one purpose have in common, e.g. run, asset and partition.
            again: whether a published load is followed by a new one.
            **options: see `execute_query_parallel`; a target is required.
        """
        with (
            self._opened(source_conn, source_sql, options, load_group, fresh=again) as load,
            ExitStack() as stack,
        ):
            # Nobody reads it again; and who holds a read point for it ends when it is published.
            if not again and (published := load.published()) is not None:
                return published
            held = self._held(load, source_conn, options)
            snapshot = load.joinable() or stack.enter_context(held)
            return load.plan(snapshot, load_group=load_group)[0]

    def load_lane(
        self,
        source_conn: str,
        source_sql: str,
        load_group: str,
        *,
        lane: int,
        lanes: int,
        workers_per_lane: int = 1,
        **options: Unpack[LoadOptions],
    ) -> list[ChunkResult]:
        """Load every `lanes`-th chunk of a planned load, beginning with the `lane`-th (from 0).

        Up to `workers_per_lane` chunks are loaded at once. A chunk that fails does not raise: it is
        a result with that status.
        """
        with self._opened(source_conn, source_sql, options, load_group) as load:
            plan = load.find().plan
            # The reader of a stream is in one lane, and all its writers are too; and a load that
            # finds its own pace has one lane, which needs room for that.
            if plan.strategy is not StrategyName.STREAM_ONCE and not plan.adaptive:
                plan = replace(plan, workers=workers_per_lane)
            return load.run(plan, plan.chunks[lane::lanes], has_neighbours=lanes > 1)[1]

    def publish_load(
        self,
        source_conn: str,
        source_sql: str,
        load_group: str,
        **options: Unpack[LoadOptions],
    ) -> ParallelProcessingResult:
        """Publish a planned load after checking it against the ledger; calling twice is safe.

        The result is that of the whole load, whichever processes loaded its chunks.

        Raises:
            IncompleteLoadError: planned chunks are not finished; nothing is published.
            VerificationError: source and target differ; nothing is published.
            SnapshotLostError: the source cannot be queried again at the load's read point; with
                verify="none" the load is published all the same.
            MapperError: it could not be published; the target is as it was.
        """
        with self._opened(source_conn, source_sql, options, load_group) as load:
            record = load.find()
            verified = load.publish(record.plan)
            finished = load.finished()
        ended = [chunk.finished_at for chunk in finished if chunk.finished_at]
        return outcome(
            record.plan,
            [replace(chunk, status=ChunkStatus.SUCCEEDED) for chunk in finished],
            Ending(published=True, verified=verified),
            load_id=record.load_id,
            seconds=(max(ended) - record.created_at).total_seconds() if ended else 0.0,
        )

    def _held(
        self, load: Load, source_url: str, options: LoadOptions
    ) -> AbstractContextManager[Snapshot]:
        """Take a read point that outlives this process, where the source has such a thing."""
        source = load.source
        if not load.one_snapshot or source.snapshots_last or not source.shares_snapshots:
            return load.read_point()
        from . import snapshot_holder  # only for loads of several processes

        given = merged(self._options, options)
        return snapshot_holder.started(
            snapshot_holder.Watch(
                source_url=source_url,
                target_url=given["target_conn"],
                source_sql=load.source.written_out(load.query),
                ledger_schema=load.settings.ledger_schema,
                load_id=load.load_id,
            )
        )

    @contextmanager
    def _opened(
        self,
        source_conn: Any,
        source_sql: str,
        options: LoadOptions,
        load_group: str | None = None,
        *,
        fresh: bool = False,
    ) -> Iterator[Load]:
        """Resolve everything a load needs; refuse, in words, what cannot work."""
        stop = Event()
        self._running.add(stop)
        try:
            with Keeper() as keeper:
                given = merged(self._options, options)
                load = open_load(source_conn, source_sql, given, stop, keeper)
                yield load if load_group is None else load.in_group(load_group, fresh=fresh)
        finally:
            self._running.discard(stop)


def _published(load: Load, plan: Plan) -> Ending:
    """Publish, now that chunks have begun: an error is part of the result."""
    try:
        return Ending(published=True, verified=load.publish(plan))
    except MapperError as error:
        in_doubt = isinstance(error, InDoubtError)
        return Ending(
            published=False,
            error=f"{type(error).__name__}: {error}",
            stopped=load.stop.is_set() and not in_doubt,
            in_doubt=in_doubt,
        )
