"""What a load has come to whose chunks failed: over all of its lanes, each of which sees its own.

What is in, the ledger tells. What failed it does not keep: each lane records its own failures with
the run, and whoever comes after adds them up.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from mapper_core import ChunkResult
from mapper_core.history import LoadChunks

from . import metadata
from .metadata import LaneFailures
from .windows import Lane

# Observations of a partition among which a run's own are looked for, latest first.
OBSERVATIONS = 1_000


def told_by_lanes(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, run_id: str
) -> dict[int, LaneFailures]:
    """Return what each lane of a run's load last told of its failures."""
    only = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    found: dict[int, LaneFailures] = {}
    for record in instance.fetch_observations(only, limit=OBSERVATIONS).records:
        shown = record.asset_observation
        if record.run_id != run_id or shown is None or metadata.LANES not in shown.metadata:
            continue
        told = metadata.lane_of(shown.metadata)
        found.setdefault(told.lane, told)
    return found


def to_be_told(
    lane: Lane,
    results: Sequence[ChunkResult],
    *,
    told: Callable[[], dict[int, LaneFailures]],
    ledger: Callable[[], LoadChunks | None],
) -> Iterator[tuple[LoadChunks, dict[str, Any]]]:
    """Yield what the ledger has of a load, and its numbers, as often as they are to be recorded.

    Of lanes that end at the same moment none has heard of the others. So each looks again when it
    has recorded its own; where there is more to tell by then, it does so once more. The latest
    numbers are the whole load's, whichever lane ended last.

    Args:
        lane: that ends.
        results: of its chunks.
        told: returns what each lane has recorded of its failures, see `told_by_lanes`.
        ledger: returns what the ledger has of the load, if there is anything to be told of it.
    """

    def of_others() -> dict[int, LaneFailures]:
        # What this lane told itself was of an earlier attempt.
        return {number: of for number, of in told().items() if number != lane.number}

    others = of_others() if lane.lanes > 1 else {}
    if not others and all(chunk.rows_are_in for chunk in results):
        return
    if (known := ledger()) is None:
        return
    shown = _of_load(known, lane, results, others)
    yield known, shown
    while lane.lanes > 1:
        heard, before = others, shown
        others = of_others()
        if (known := ledger()) is None:
            return
        shown = _of_load(known, lane, results, others)
        whole = before[metadata.CHUNKS_MISSING] and not shown[metadata.CHUNKS_MISSING]
        if others == heard and not whole:
            return
        yield known, shown


def _of_load(
    known: LoadChunks,
    lane: Lane,
    results: Sequence[ChunkResult],
    others: dict[int, LaneFailures],
) -> dict[str, Any]:
    """Return the numbers of a whole load, as one of its lanes ends and after what others told."""
    failed = [chunk for chunk in results if not chunk.rows_are_in]
    own = metadata.failures_of(lane.number, lane.lanes, failed)
    by_number = [others[number] for number in sorted(others)]
    all_lanes = [own, *by_number]
    return {
        **metadata.of_part(
            known,
            chunks_failed=sum(told.chunks_failed for told in all_lanes),
            rows_failed=sum(told.rows_failed for told in all_lanes),
            chunks_uncounted=sum(told.chunks_uncounted for told in all_lanes),
        ),
        **metadata.of_lanes(own, by_number),
    }
