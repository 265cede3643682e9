"""Add chunk results up to the result of a load. The one place where the totals are defined."""

from collections.abc import Sequence
from dataclasses import dataclass

from .model import Plan
from .results import ChunkResult, ChunkStatus, LoadStatus, ParallelProcessingResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of a load after its chunks had ended."""

    published: bool
    verified: str = ""
    """What was compared before it was published, in words."""
    error: str | None = None
    """Why it is not published, although all its chunks are in."""
    stopped: bool = False
    """Whether that is because somebody stopped it."""
    in_doubt: bool = False
    """Whether nobody knows if it is published."""


def outcome(
    plan: Plan,
    results: Sequence[ChunkResult],
    ending: Ending,
    *,
    load_id: str | None,
    seconds: float,
    stop_on_error: bool = False,
) -> ParallelProcessingResult:
    """Return what the load came to.

    Rows of a staged load that was not published are in nobody's sight: they count as failed. Where
    that is not known, they are not counted.
    """
    of = {
        status: [result for result in results if result.status is status] for status in ChunkStatus
    }
    read = {status: sum(r.rows_read or 0 for r in of[status]) for status in ChunkStatus}
    succeeded, failed = of[ChunkStatus.SUCCEEDED], of[ChunkStatus.FAILED]
    hidden = plan.stage_table is not None and not ending.published
    rejected = sum(result.rows_rejected for result in succeeded)
    uncounted = sum(result.rows_read is None for result in failed)
    if hidden and ending.in_doubt:
        uncounted += len(succeeded)
        read[ChunkStatus.SUCCEEDED] = rejected
    successful = 0 if hidden else read[ChunkStatus.SUCCEEDED] - rejected
    processed = read[ChunkStatus.SUCCEEDED] + read[ChunkStatus.FAILED]
    if ending.stopped or (of[ChunkStatus.UNSTARTED] and not (failed and stop_on_error)):
        status = LoadStatus.STOPPED
    elif not failed and not ending.error:
        status = LoadStatus.SUCCEEDED
    elif succeeded and not hidden:
        status = LoadStatus.PARTIAL
    else:
        status = LoadStatus.FAILED
    return ParallelProcessingResult(
        load_id=load_id,
        status=status,
        published=ending.published,
        total_rows_processed=processed,
        total_rows_successful=successful,
        total_rows_failed=processed - successful,
        rows_written=0 if hidden else sum(result.rows_written for result in succeeded),
        rows_rejected=rejected,
        rows_skipped=read[ChunkStatus.SKIPPED],
        chunks_total=len(results),
        chunks_succeeded=len(succeeded),
        chunks_failed=len(failed),
        chunks_skipped=len(of[ChunkStatus.SKIPPED]),
        chunks_uncounted=uncounted,
        chunk_results=tuple(results),
        processing_time=seconds,
        strategy=plan.strategy,
        strategy_reason=plan.strategy_reason,
        data_path=plan.data_path,
        snapshot=plan.snapshot,
        workers=plan.workers,
        verified=ending.verified,
        error=ending.error,
        publishing_in_doubt=ending.in_doubt,
    )
