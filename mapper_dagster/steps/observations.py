"""What is recorded of a load that is not published."""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from typing import Any

import dagster as dg

from mapper_core import ChunkResult, MapperError
from mapper_core.history import LoadChunks
from mapper_core.row_values import left_out

from .. import shortfall
from ..metadata import LaneFailures
from ..windows import Lane
from .load import Load


def observe(load: Load, words: str, shown: Dict[str, Any]) -> None:
    """Record what has become of a load."""
    load.context.log_event(
        dg.AssetObservation(
            asset_key=load.asset_key,
            partition=load.partition_key,
            description=words,
            metadata=shown,
        )
    )


def observe_shortfall(load: Load, lane: Lane, results: Sequence[ChunkResult]) -> None:
    """Record how far a load has come of which this lane, or an earlier one, failed in part."""
    context = load.context

    def told() -> dict[int, LaneFailures]:
        return shortfall.told_by_lanes(
            context.instance, load.asset_key, load.partition_key, context.run.run_id
        )

    def ledger() -> LoadChunks | None:
        try:
            known = load.known()
        except MapperError as error:
            context.log.warning(
                "the ledger could not be asked how far the load has come: %s", left_out(str(error))
            )
            return None
        # Alone, with nothing in: that it failed is all there is to tell.
        return None if known is None or (lane.lanes == 1 and not known.finished) else known

    for known, shown in shortfall.to_be_told(lane, results, told=told, ledger=ledger):
        staged = known.record.plan.stage_table is not None
        where = "waits in its stage" if staged else "is in the target"
        words = f"The load failed in part. What is loaded {where}, and is not loaded again."
        observe(load, words, shown)
