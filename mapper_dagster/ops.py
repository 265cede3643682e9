"""The three steps of a mapping: plan, load a lane, publish. Each is one call into the core.

Steps hand each other nothing but the order to start: the plan and what is finished are in the
ledger, so steps may run in any process on any host that reaches the target.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mapper_core import (
    DatabaseUnavailableError,
    LoadOptions,
    MapperError,
    ParallelProcessor,
    create_progress_callback,
)

from . import metadata
from .mapping import Mapping
from .windows import Lane, PartitionLoad, lane_key, lane_of, partition_loads

logger = logging.getLogger(__name__)

# Seconds between two lines of progress in a run's log; each is an event in Dagster's storage.
PROGRESS_SECONDS = 5.0

# For a step that failed for a passing reason, after the engine's own retries of its chunks.
RETRY_POLICY = dg.RetryPolicy(
    max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
)


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of one run: where its databases are, and which loads it is about."""

    mapping: Mapping
    context: Any

    @property
    def loads(self) -> tuple[PartitionLoad, ...]:
        partitioned = self.mapping.partitions_def is not None
        return partition_loads(self.mapping, self.context.partition_keys if partitioned else ())

    @property
    def processor(self) -> ParallelProcessor:
        processor: ParallelProcessor = self._resource(self.mapping.mapper).processor()
        return processor

    @property
    def source_url(self) -> str:
        return str(self._resource(self.mapping.source).url)

    def group(self, load: PartitionLoad) -> str:
        """Return what the loads of one run, its re-executions, and one partition share."""
        run = self.context.run
        root = run.root_run_id or run.run_id
        asset = self.context.asset_key.to_user_string()
        return ":".join(part for part in (root, asset, load.partition_key) if part)

    def options(self, load: PartitionLoad) -> LoadOptions:
        mapping, definition = self.mapping, self.mapping.partitions_def
        name = f"{mapping.name} {load.partition_key or ''}".strip()
        return LoadOptions(
            target_conn=self._resource(mapping.target).url,
            target_schema=mapping.target_schema,
            target_table=mapping.target_table,
            load_mode=mapping.mode,
            primary_key=mapping.primary_key,
            order_column=mapping.order_column,
            publish=mapping.publish,
            create_target=mapping.create_target,
            window=load.window,
            # A date or a timestamp without zone is compared with the window in its own time zone.
            time_zone=None if definition is None else definition.timezone,
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

    def _resource(self, key: str) -> Any:
        return getattr(self.context.resources, key)


def plan_op(mapping: Mapping) -> dg.OpDefinition:
    """Plan the load of each partition of the run; one dynamic output per lane."""

    @dg.op(
        name=f"{mapping.name}_plan",
        description=f"Plans the chunks of {mapping.table_name} and deals them out to lanes.",
        out=dg.DynamicOut(dg.Nothing),
        required_resource_keys=_resources(mapping),
        retry_policy=RETRY_POLICY,
        tags={"kind": "mapper"},
    )
    def plan(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[None]]:
        step = _Step(mapping, context)
        for place, load in enumerate(step.loads):
            with _in_words():
                planned = step.processor.plan_load(
                    step.source_url, mapping.source_sql, step.group(load), **step.options(load)
                )
            lanes = mapping.lane_count(
                len(planned.chunks), 1 if planned.adaptive else planned.workers
            )
            context.log.info(metadata.plan_line(planned, lanes))
            for lane in range(lanes):
                key = lane_key(Lane(place, lane, lanes), load.partition_key)
                yield dg.DynamicOutput(None, mapping_key=key)

    return plan


def lane_op(mapping: Mapping) -> dg.OpDefinition:
    """Load the chunks of one lane."""

    @dg.op(
        name=f"{mapping.name}_lane",
        description=f"Loads one lane's chunks of {mapping.table_name}, each exactly once.",
        ins={"start": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        required_resource_keys=_resources(mapping),
        retry_policy=RETRY_POLICY,
    )
    def load_lane(context: dg.OpExecutionContext) -> None:
        step = _Step(mapping, context)
        lane = lane_of(context.get_mapping_key() or "")
        load = step.loads[lane.place]
        with _in_words():
            results = step.processor.load_lane(
                step.source_url,
                mapping.source_sql,
                step.group(load),
                lane=lane.lane,
                lanes=lane.lanes,
                workers_per_lane=mapping.workers_per_lane,
                **step.options(load),
            )
        failed = [chunk for chunk in results if not chunk.rows_are_in]
        if failed:
            raise dg.Failure(
                description=f"{len(failed)} of {len(results)} chunks failed: {failed[0].error}",
                metadata=metadata.of_failed_chunks(failed),
                # A chunk that failed at its first attempt, or was given up, failed for good.
                allow_retries=any(chunk.attempts > 1 for chunk in failed),
            )

    return load_lane


def publish_op(mapping: Mapping) -> dg.OpDefinition:
    """Check each load against the ledger, publish it, and record its row counts.

    The ledger, not Dagster, knows which chunks are in: a run re-executed from failure may never
    have started some lanes and still come here.
    """

    @dg.op(
        name=f"{mapping.name}_publish",
        description=f"Publishes {mapping.table_name} when every planned chunk is in the ledger.",
        ins={"done": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        required_resource_keys=_resources(mapping),
        retry_policy=RETRY_POLICY,
    )
    def publish(context: dg.AssetExecutionContext) -> None:
        step = _Step(mapping, context)
        for load in step.loads:
            with _in_words():
                result = step.processor.publish_load(
                    step.source_url, mapping.source_sql, step.group(load), **step.options(load)
                )
            context.add_asset_metadata(
                metadata.of_result(result, partitioned=load.partition_key is not None),
                partition_key=load.partition_key,
            )

    return publish


def _resources(mapping: Mapping) -> set[str]:
    return {mapping.source, mapping.target, mapping.mapper}


@contextmanager
def _in_words() -> Iterator[None]:
    """Show an error of ours as a step's failure, in its own words and without a stack trace."""
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        # Dagster would retry an interrupted step, and keep whoever ended the run waiting for it.
        raise dg.Failure(description="The step was interrupted.", allow_retries=False) from None
    except MapperError as error:
        # Every other mistake is still one after a while.
        passing = isinstance(error, DatabaseUnavailableError)
        logger.debug("the error in full", exc_info=True)
        raise dg.Failure(description=str(error), allow_retries=passing) from None
