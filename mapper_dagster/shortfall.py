"""What a load has come to whose chunks failed: over all of its lanes, each of which sees its own.

What is in, the ledger tells. What failed it does not keep: each lane records its own failures with
the run, and whoever comes after adds them up.
"""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from typing import Any

import dagster as dg

from mapper_core import ChunkResult
from mapper_core.history import LoadChunks

from . import metadata
from .windows import Lane

# Observations of a partition among which a run's own are looked for, latest first.
OBSERVATIONS = 1_000

_Failed = dict[str, int]


def told_by_lanes(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, run_id: str
) -> dict[int, _Failed]:
    """Return what each lane of a run's load last told of its failures."""
    only = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    found: dict[int, _Failed] = {}
    for record in instance.fetch_observations(only, limit=OBSERVATIONS).records:
        shown = record.asset_observation
        if record.run_id != run_id or shown is None or metadata.LANE not in shown.metadata:
            continue
        told: Any = shown.metadata[metadata.LANE].value
        found.setdefault(told["lane"], told)
    return found


def of_load(
    known: LoadChunks, lane: Lane, results: Sequence[ChunkResult], others: Dict[int, _Failed]
) -> dict[str, Any]:
    """Return the numbers of a whole load, as one of its lanes ends.

    Args:
        known: what the ledger has of the load.
        lane: that ends.
        results: of its chunks.
        others: what lanes have told before; the lane's own, of an earlier attempt, is past.
    """
    failed = [chunk for chunk in results if not chunk.rows_are_in]
    own = {
        "lane": lane.lane,
        "lanes": lane.lanes,
        "chunks_failed": len(failed),
        "rows_failed": sum(chunk.rows_read or 0 for chunk in failed),
        "chunks_uncounted": sum(chunk.rows_read is None for chunk in failed),
    }
    all_lanes = [own, *(told for number, told in others.items() if number != lane.lane)]

    def total(what: str) -> int:
        return sum(told[what] for told in all_lanes)

    return {
        **metadata.of_part(
            known,
            chunks_failed=total("chunks_failed"),
            rows_failed=total("rows_failed"),
            chunks_uncounted=total("chunks_uncounted"),
        ),
        metadata.LANE: dg.MetadataValue.json(own),
        **metadata.of_failed_chunks(failed),
    }
