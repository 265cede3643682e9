"""One step of one run, as an op calls it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mapper_core import Plan

from ..asked import loads_to_be_made
from ..mapping import Mapping
from ..translator import MappingTranslator
from ..windows import Lane, PartitionLoad
from .load import Load
from .loading import load_lane
from .planning import plan
from .publishing import publish


@dataclass(frozen=True, slots=True)
class Step:
    """What a step is about: a mapping, and the partitions of its run."""

    mapping: Mapping
    translator: MappingTranslator
    context: Any

    @property
    def loads(self) -> tuple[PartitionLoad, ...]:
        """What the run's partitions ask for."""
        return loads_to_be_made(self.context, self.mapping, self.context.asset_key)

    def plan(self, asked: PartitionLoad) -> tuple[Plan, int]:
        """Plan a load; return also how many lanes it is worth."""
        return plan(self._load(asked))

    def load(self, asked: PartitionLoad, lane: Lane, workers: int | None = None) -> None:
        """Load a lane's chunks, see `load_lane`."""
        load_lane(self._load(asked), lane, workers)

    def publish_each(self, loads: Iterable[PartitionLoad]) -> None:
        """Publish loads, one by one as they come; record of each what Dagit is to show.

        Dagster materializes the partitions of a step that succeeds. Of one that fails, those that
        are published by then are materialized here: they are in the target.
        """
        published: list[tuple[PartitionLoad, dict[str, Any]]] = []
        try:
            for asked in loads:
                shown = publish(self._load(asked), self.translator)
                published.append((asked, shown))
                self.context.add_asset_metadata(shown, partition_key=asked.partition_key)
        except BaseException:
            for asked, shown in published:
                self.context.log_event(
                    dg.AssetMaterialization(
                        self.context.asset_key, partition=asked.partition_key, metadata=shown
                    )
                )
            raise

    def _load(self, asked: PartitionLoad) -> Load:
        return Load(self.mapping, self.context, asked)
