"""One load of a step: which it is, and the calls into the core that are about it."""

from collections.abc import Iterator
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
    ParallelProcessingResult,
    ParallelProcessor,
    Plan,
    StaleLoadError,
    create_progress_callback,
    history,
)
from mapper_core.history import LoadChunks
from mapper_core.model import Publishing

from ..engine_log import warnings_shown
from ..failures import in_words
from ..mapping import Mapping
from ..resources import DatabaseResource, MapperResource, resource_of
from ..windows import Lane, PartitionLoad, time_zone_of

RESUMES = "mapper/resumes"
"""Tag of a run that goes on with the loads of another: the id of that one's first run."""

# Seconds between two lines of progress in a run's log; each is an event in Dagster's storage.
PROGRESS_SECONDS = 5.0

INTERRUPTED = (
    "The step was interrupted. Finished chunks stay: re-execute the run to continue its load."
)


@dataclass(frozen=True, slots=True)
class Load:
    """What one partition of a run asks for, and where its databases are."""

    mapping: Mapping
    context: Any
    asked: PartitionLoad

    @property
    def partition_key(self) -> str | None:
        """Its partition."""
        return self.asked.partition_key

    @property
    def asset_key(self) -> dg.AssetKey:
        """The asset that it is of."""
        key: dg.AssetKey = self.context.asset_key
        return key

    @property
    def is_continued(self) -> bool:
        """Whether another run may have begun it."""
        run = self.context.run
        return bool(run.root_run_id or run.tags.get(RESUMES))

    @property
    def anew(self) -> str:
        """How the mapping is loaded from its beginning instead of gone on with, in words."""
        if self.mapping.mode is not LoadMode.APPEND or self.mapping.publish == Publishing.ATOMIC:
            return "launch a new run"
        return (
            "delete the rows that this load has appended to the target, then launch a new run,"
            " which appends them all"
        )

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Show the engine's warnings in the step's log, and what fails as its failure in words."""
        with in_words(self.context, INTERRUPTED), warnings_shown(self.context):
            yield

    def plan(self, *, again: bool) -> Plan:
        """Plan it; for `again` see `ParallelProcessor.plan_load`."""
        with self._as_it_was():
            return self._processor.plan_load(
                self.source.url, self.mapping.source_sql, self._group, again=again, **self._options
            )

    def lane(self, lane: Lane, workers: int) -> list[ChunkResult]:
        """Load the chunks of a lane; return what they came to."""
        with self._as_it_was():
            return self._processor.load_lane(
                self.source.url,
                self.mapping.source_sql,
                self._group,
                lane=lane.lane,
                lanes=lane.lanes,
                workers_per_lane=workers,
                **self._options,
            )

    def publish(self) -> ParallelProcessingResult:
        """Publish it. Raises IncompleteLoadError where chunks are missing."""
        with self._as_it_was():
            return self._processor.publish_load(
                self.source.url, self.mapping.source_sql, self._group, **self._options
            )

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """Say what to do in Dagster where a load cannot be continued as this step asks for it."""
        try:
            yield
        except LedgerError as error:
            if isinstance(error, StaleLoadError | IncompleteLoadError):
                raise  # each has a cure of its own
            msg = (
                f"{error}. In Dagster, {self.anew}: re-executing this run would continue the old"
                " load"
            )
            raise LedgerError(msg) from error

    def known(self) -> LoadChunks | None:
        """Return what the ledger knows of it; None if it has not been planned."""
        return history.newest_of(self.target.url, self._group, **self.ledger)

    @property
    def ledger(self) -> Dict[str, Any]:
        """Where the ledger is, as those who ask it are told."""
        return {"ledger_schema": self._settings.ledger_schema}

    @property
    def source(self) -> DatabaseResource:
        """Where its rows come from."""
        return resource_of(self.context, self.mapping.source, DatabaseResource)

    @property
    def target(self) -> DatabaseResource:
        """Where its rows go to."""
        return resource_of(self.context, self.mapping.target, DatabaseResource)

    @property
    def _settings(self) -> MapperResource:
        return resource_of(self.context, self.mapping.mapper, MapperResource)

    @property
    def _processor(self) -> ParallelProcessor:
        return self._settings.processor()

    @property
    def _group(self) -> str:
        """What the loads of one run, its re-executions, and one partition share."""
        run = self.context.run
        root = run.tags.get(RESUMES) or run.root_run_id or run.run_id
        parts = (root, self.asset_key.to_user_string(), self.partition_key)
        return ":".join(part for part in parts if part)

    @property
    def _options(self) -> LoadOptions:
        mapping, asked = self.mapping, self.asked
        name = f"{mapping.name} {asked.partition_key or ''}".strip()
        return LoadOptions(
            target_conn=self.target.url,
            target_schema=mapping.target_schema,
            target_table=mapping.target_table,
            load_mode=mapping.mode,
            primary_key=mapping.primary_key,
            order_column=mapping.order_column,
            publish=mapping.publish,
            create_target=mapping.create_target,
            direct_path=mapping.direct_path,
            window=asked.window,
            # A date or a timestamp without zone is compared with the window in its own time zone.
            time_zone=time_zone_of(mapping.partitions_def),
            params={**asked.bounds, **(mapping.params or {})} or None,
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


def partition_of(group: str, key: dg.AssetKey) -> str | None:
    """Return the partition that a group's loads are of; None where they are not of the asset.

    >>> partition_of("1f0c-8a:dw/orders:2024-01-31", dg.AssetKey(["dw", "orders"]))
    '2024-01-31'
    >>> partition_of("1f0c-8a:dw/items:2024-01-31", dg.AssetKey(["dw", "orders"]))
    """
    # The id of a run has no colon in it.
    _, _, rest = group.partition(":")
    asset = f"{key.to_user_string()}:"
    return rest.removeprefix(asset) if rest.startswith(asset) else None
