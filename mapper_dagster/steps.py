"""What the steps of a mapping do: plan a load, load a lane, publish. Each is a call into the core.

Steps hand each other nothing but the order to start: the plan and what is finished are in the
ledger, so steps may run in any process on any host that reaches the target.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mapper_core import (
    ChunkResult,
    IncompleteLoadError,
    LedgerError,
    LoadMode,
    LoadOptions,
    MapperError,
    ParallelProcessingResult,
    ParallelProcessor,
    Plan,
    create_progress_callback,
    history,
)
from mapper_core.history import LoadChunks
from mapper_core.model import Publishing
from mapper_core.row_values import left_out

from . import metadata, shortfall
from .asked import loads_to_be_made
from .engine_log import warnings_shown
from .failures import failure, in_words
from .lineage import columns_of
from .mapping import Mapping
from .resources import DatabaseResource, MapperResource, resource_of
from .translator import MappingTranslator
from .windows import ALONE, Lane, PartitionLoad, in_units, time_zone_of
from .writers import wait_for_writers

# Seconds between two lines of progress in a run's log; each is an event in Dagster's storage.
PROGRESS_SECONDS = 5.0

WILL_RETRY = "dagster/will_retry"
"""Dagster's tag of a failed run that the daemon will execute again by itself."""

# Materializations among which a load's own is looked for, latest first.
MATERIALIZATIONS = 100

INTERRUPTED = (
    "The step was interrupted. What is finished stays: the run, executed again, goes on with its"
    " load."
)

RESUMES = "mapper/resumes"
"""Tag of a run that goes on with the loads of another: the id of that one's first run."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one run: where its databases are, and which loads it is about."""

    mapping: Mapping
    translator: MappingTranslator
    context: Any

    @property
    def loads(self) -> tuple[PartitionLoad, ...]:
        """What the run's partitions ask for."""
        return loads_to_be_made(self.context, self.mapping, self.context.asset_key)

    def plan(self, load: PartitionLoad) -> tuple[Plan, int]:
        """Plan a load; return also how many lanes it is worth."""
        with self._in_words():
            self._wait_for_writers(load)
            before = self._begun_earlier(load)
            planned = self._planned(load)
        workers = 1 if planned.adaptive else planned.workers
        lanes = self.mapping.lane_count(len(planned.chunks), workers)
        self.context.log.info(metadata.plan_line(planned, lanes))
        if before is not None and before.record.load_id == planned.load_id:
            self._tell_resumed(load, planned, before.record.plan)
        return planned, lanes

    def _begun_earlier(self, load: PartitionLoad) -> LoadChunks | None:
        """Return the load that this run is to go on with, if another has begun one."""
        run = self.context.run
        if not (run.root_run_id or run.tags.get(RESUMES)):
            return None
        return history.newest_of(self._target_url, self._group(load), **self._ledger)

    def _planned(self, load: PartitionLoad) -> Plan:
        """Return the plan of the load to be gone on with, or of a new one.

        An append that was published without being recorded, because its run was killed in between,
        is gone on with as well: its rows would be there twice. What replaces rows is loaded anew.
        """

        def plan(*, again: bool) -> Plan:
            return self._processor.plan_load(
                self._source_url,
                self.mapping.source_sql,
                self._group(load),
                again=again,
                **self._options(load),
            )

        try:
            if self.mapping.mode is LoadMode.APPEND:
                found = plan(again=False)
                if not self._is_recorded(found.load_id):
                    return found
            return plan(again=True)
        except LedgerError as error:
            msg = f"{error}. In Dagster, {self._anew}: one executed again goes on with its load"
            raise LedgerError(msg) from error

    def _is_recorded(self, load_id: str) -> bool:
        """Whether Dagster has materialized the load: a run goes on with none but a late one."""
        only = dg.AssetRecordsFilter(self.context.asset_key)
        found = self.context.instance.fetch_materializations(only, limit=MATERIALIZATIONS).records
        shown = [each.asset_materialization for each in found]
        return any(
            each is not None and metadata.load_id_of(each.metadata) == load_id for each in shown
        )

    def _wait_for_writers(self, load: PartitionLoad) -> None:
        """Wait until no transaction that began before the window's end can add rows to it."""
        if self.mapping.fence is None:
            return
        end = load.window.end if load.window else load.bounds["window_end"]
        still = wait_for_writers(self._source, end, self.mapping.fence, tell=self.context.log.info)
        if still is not None:
            raise failure(
                self.context,
                f"After {in_units(self.mapping.fence)} a transaction of the source that began at"
                f" {still} may still add rows to the window up to {end}. Ask for the load again"
                " when it has ended, or set a longer fence.",
                passing=False,
            )

    def load(self, load: PartitionLoad, lane: Lane, workers: int | None = None) -> None:
        """Load the chunks of a lane; raise dagster.Failure when one of them failed.

        With as many `workers` at once as a lane has, unless told otherwise.
        """
        with self._in_words():
            results = self._processor.load_lane(
                self._source_url,
                self.mapping.source_sql,
                self._group(load),
                lane=lane.lane,
                lanes=lane.lanes,
                workers_per_lane=workers or self.mapping.workers_per_lane,
                **self._options(load),
            )
        failed = [chunk for chunk in results if not chunk.rows_are_in]
        self._observe_shortfall(load, lane, results)
        if failed:
            first = left_out(failed[0].error or "")
            raise failure(
                self.context,
                f"{len(failed)} of {len(results)} chunks failed (mend the cause and re-execute the"
                " run, which goes on with its load as of its read point; where rows of the source"
                f" were mended, {self._anew}): {first}",
                # A chunk that failed at its first attempt, or was given up, failed for good.
                passing=any(chunk.attempts > 1 or chunk.in_doubt for chunk in failed),
                metadata=metadata.of_failed_chunks(
                    metadata.failures_of(lane.number, lane.lanes, failed)
                ),
            )

    def publish_each(self, loads: Iterable[PartitionLoad]) -> None:
        """Publish loads, one by one as they come; record of each what Dagit is to show.

        Dagster materializes the partitions of a step that succeeds. Of one that fails, those that
        are published by then are materialized here: they are in the target.
        """
        published: list[tuple[PartitionLoad, dict[str, Any]]] = []
        try:
            for load in loads:
                shown = self.publish(load)
                published.append((load, shown))
                self.context.add_asset_metadata(shown, partition_key=load.partition_key)
        except BaseException:
            for load, shown in published:
                self.context.log_event(
                    dg.AssetMaterialization(
                        self.context.asset_key, partition=load.partition_key, metadata=shown
                    )
                )
            raise

    def publish(self, load: PartitionLoad) -> dict[str, Any]:
        """Check a load against the ledger and publish it; return what Dagit is to show of it.

        The ledger, not Dagster, knows which chunks are in: a run re-executed from failure may never
        have started some lanes and still come here. What they would have loaded is loaded now.
        """
        with self._in_words():
            try:
                result = self._published(load)
            except IncompleteLoadError as error:
                self.context.log.warning("%s They are loaded now.", error)
                self.load(load, ALONE)
                result = self._published(load)
        self.context.log.info(metadata.result_line(result))
        return {**metadata.of_result(self.mapping, result), **self._details(result)}

    def _published(self, load: PartitionLoad) -> ParallelProcessingResult:
        return self._processor.publish_load(
            self._source_url, self.mapping.source_sql, self._group(load), **self._options(load)
        )

    def _details(self, result: ParallelProcessingResult) -> dict[str, Any]:
        """Return what is nice to know; a load that is published does not fail for want of it."""
        found: dict[str, Any] = dict(metadata.of_chunks(result.chunk_results))
        if result.load_id is None:
            return found
        ledger = self._ledger
        try:
            columns = history.chunks(self._target_url, result.load_id, **ledger).record.plan.columns
            found |= metadata.of_columns(columns, self._origins([c.name for c in columns]))
            found |= self._total()
            if result.rows_rejected:
                rejects = history.rejects(self._target_url, result.load_id, **ledger)
                found |= metadata.of_rejects(result.load_id, rejects)
        except MapperError as error:
            self.context.log.warning(
                "the ledger was not asked for details: %s", left_out(str(error))
            )
        return found

    def _total(self) -> Dict[str, Any]:
        """Return what all partitions hold together: of each, what its latest load has written."""
        definition, mapping = self.mapping.partitions_def, self.mapping
        if definition is None or mapping.mode is not LoadMode.REPLACE_WINDOW:
            return {}
        asset = f"{self.context.asset_key.to_user_string()}:"
        rows = {}
        loads = history.published_rows(self._target_url, mapping.table_name, **self._ledger)
        for group, written in loads:
            # See `_group`; the id of a run has no colon in it.
            _, _, of_partition = group.partition(":")
            if of_partition.startswith(asset):
                rows[of_partition.removeprefix(asset)] = written
        # Of partitions that there are no more, others have taken the place.
        return metadata.of_total(
            sum(written for key, written in rows.items() if definition.has_partition_key(key))
        )

    def _origins(self, names: Sequence[str]) -> dict[str, list[tuple[dg.AssetKey, str]]]:
        mapping = self.mapping
        found = columns_of(mapping.source_sql, mapping.source_dialect, names)
        return {
            name: [
                (self.translator.get_table_key(mapping, each.table), each.column)
                for each in origins
            ]
            for name, origins in found.items()
        }

    def _observe_shortfall(
        self, load: PartitionLoad, lane: Lane, results: Sequence[ChunkResult]
    ) -> None:
        """Record how far a load has come of which this lane, or an earlier one, failed in part."""
        key, run_id = self.context.asset_key, self.context.run.run_id

        def told() -> dict[int, metadata.LaneFailures]:
            return shortfall.told_by_lanes(self.context.instance, key, load.partition_key, run_id)

        def ledger() -> LoadChunks | None:
            try:
                known = history.newest_of(self._target_url, self._group(load), **self._ledger)
            except MapperError as error:
                self.context.log.warning(
                    "the ledger was not asked how far it is: %s", left_out(str(error))
                )
                return None
            # Alone, with nothing in: that it failed is all there is to tell.
            return None if known is None or (lane.lanes == 1 and not known.finished) else known

        for known, shown in shortfall.to_be_told(lane, results, told=told, ledger=ledger):
            staged = known.record.plan.stage_table is not None
            where = "waits in its stage" if staged else "is in the target"
            words = f"A load that failed in part: what is loaded {where}, and is not loaded again."
            self._observe(load, words, shown)

    def _tell_resumed(self, load: PartitionLoad, planned: Plan, before: Plan) -> None:
        """Say as of when a load that is gone on with reads, and what of it is finished."""
        if planned.snapshot.is_same_point(before.snapshot):
            self.context.log.info(
                "The load of an earlier run is gone on with, as of its %s: what has changed in the"
                " source since is not in it. To have that, %s.",
                planned.snapshot,
                self._anew,
            )
        with self._in_words():
            found = history.chunks(self._target_url, planned.load_id, **self._ledger)
        if not found.finished:
            return
        resumed = metadata.of_resumed(planned, found.finished, found.missing)
        self._observe(load, "A load that an earlier run began is gone on with.", resumed)

    def _observe(self, load: PartitionLoad, words: str, shown: Dict[str, Any]) -> None:
        """Record what has become of a load that is not published."""
        self.context.log_event(
            dg.AssetObservation(
                asset_key=self.context.asset_key,
                partition=load.partition_key,
                description=words,
                metadata=shown,
            )
        )

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Show the engine's warnings in the step's log, and what fails as its failure in words."""
        with in_words(self.context, INTERRUPTED), warnings_shown(self.context):
            yield

    @property
    def _anew(self) -> str:
        """Return how the mapping is loaded from its beginning instead of gone on with, in words."""
        if self.mapping.mode is not LoadMode.APPEND or self.mapping.publish == Publishing.ATOMIC:
            return "launch a new run"
        return (
            "delete from the target what this load has appended, then launch a new run, which"
            " appends all of it"
        )

    @property
    def _processor(self) -> ParallelProcessor:
        return self._settings.processor()

    @property
    def _ledger(self) -> dict[str, Any]:
        """Return where the ledger is, as those who ask it are told."""
        return {"ledger_schema": self._settings.ledger_schema}

    @property
    def _source_url(self) -> str:
        return self._source.url

    @property
    def _target_url(self) -> str:
        return resource_of(self.context, self.mapping.target, DatabaseResource).url

    def _group(self, load: PartitionLoad) -> str:
        """Return what the loads of one run, its re-executions, and one partition share."""
        run = self.context.run
        root = run.tags.get(RESUMES) or run.root_run_id or run.run_id
        asset = self.context.asset_key.to_user_string()
        return ":".join(part for part in (root, asset, load.partition_key) if part)

    def _options(self, load: PartitionLoad) -> LoadOptions:
        mapping = self.mapping
        name = f"{mapping.name} {load.partition_key or ''}".strip()
        return LoadOptions(
            target_conn=self._target_url,
            target_schema=mapping.target_schema,
            target_table=mapping.target_table,
            load_mode=mapping.mode,
            primary_key=mapping.primary_key,
            order_column=mapping.order_column,
            publish=mapping.publish,
            create_target=mapping.create_target,
            direct_path=mapping.direct_path,
            window=load.window,
            # A date or a timestamp without zone is compared with the window in its own time zone.
            time_zone=time_zone_of(mapping.partitions_def),
            params={**load.bounds, **(mapping.params or {})} or None,
            chunk_key=mapping.chunk_key,
            strategy=mapping.strategy,
            chunk_size=mapping.chunk_size,
            reject_limit=mapping.reject_limit,
            min_rows_for_parallel=mapping.min_rows_for_parallel,
            transformation_func=mapping.transformation_func,
            transform_scope=mapping.transform_scope,
            transform_columns=mapping.transform_columns,
            transform_batch=mapping.transform_batch,
            workers=mapping.workers,
            verify=mapping.verify,
            progress_callback=create_progress_callback(
                name, every=PROGRESS_SECONDS, log=self.context.log.info
            ),
        )

    @property
    def _source(self) -> DatabaseResource:
        return resource_of(self.context, self.mapping.source, DatabaseResource)

    @property
    def _settings(self) -> MapperResource:
        return resource_of(self.context, self.mapping.mapper, MapperResource)
