"""What a load has come to whose chunks failed: over all of its lanes, each of which sees its own.

What is in, the ledger tells. What failed it does not keep: each lane records its own failures with
the run, and whoever comes after adds them up.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
        told = metadata.lane_of(shown.metadata)
        found.setdefault(told["lane"], told)
    return found


def to_be_told(
    lane: Lane,
    results: Sequence[ChunkResult],
    *,
    told: Callable[[], dict[int, _Failed]],
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

    def of_others() -> dict[int, _Failed]:
        # What this lane told itself was of an earlier attempt.
        return {number: of for number, of in told().items() if number != lane.lane}

    others = of_others() if lane.lanes > 1 else {}
    if not others and all(chunk.rows_are_in for chunk in results):
        return
    if (known := ledger()) is None:
        return
    shown = _of_load(known, lane, results, others.values())
    yield known, shown
    while lane.lanes > 1:
        heard, before = others, shown
        others = of_others()
        if (known := ledger()) is None:
            return
        shown = _of_load(known, lane, results, others.values())
        whole = before[metadata.CHUNKS_MISSING] and not shown[metadata.CHUNKS_MISSING]
        if others == heard and not whole:
            return
        yield known, shown


def _of_load(
    known: LoadChunks, lane: Lane, results: Sequence[ChunkResult], others: Iterable[_Failed]
) -> dict[str, Any]:
    """Return the numbers of a whole load, as one of its lanes ends and after what others told."""
    failed = [chunk for chunk in results if not chunk.rows_are_in]
    own = {
        "lane": lane.lane,
        "lanes": lane.lanes,
        "chunks_failed": len(failed),
        "rows_failed": sum(chunk.rows_read or 0 for chunk in failed),
        "chunks_uncounted": sum(chunk.rows_read is None for chunk in failed),
    }
    all_lanes = [own, *others]

    def total(what: str) -> int:
        return sum(told[what] for told in all_lanes)

    return {
        **metadata.of_part(
            known,
            chunks_failed=total("chunks_failed"),
            rows_failed=total("rows_failed"),
            chunks_uncounted=total("chunks_uncounted"),
        ),
        **metadata.of_lane(own),
        **metadata.of_failed_chunks(failed),
    }
