"""A lane's chunks are loaded."""

from mapper_core.row_values import left_out

from .. import metadata
from ..failures import failure
from ..windows import Lane
from .load import Load
from .observations import observe_shortfall


def load_lane(load: Load, lane: Lane, workers: int | None = None) -> None:
    """Load the chunks of a lane; raise dagster.Failure when one of them failed.

    With as many `workers` at once as a lane has, unless told otherwise.
    """
    with load.in_words():
        results = load.lane(lane, workers or load.mapping.workers_per_lane)
    failed = [chunk for chunk in results if not chunk.rows_are_in]
    observe_shortfall(load, lane, results)
    if failed:
        first = left_out(failed[0].error or "")
        raise failure(
            load.context,
            f"{len(failed)} of {len(results)} chunks failed (fix the cause and re-execute the run,"
            " which continues its load at the same read point; if you fixed rows of the source,"
            f" {load.anew}): {first}",
            passing=any(chunk.failed_in_passing for chunk in failed),
            metadata=metadata.of_failed_chunks(
                metadata.failures_of(lane.number, lane.lanes, failed)
            ),
        )
