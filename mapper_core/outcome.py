"""Add chunk results up to the result of a load. The one place where the totals are defined."""

from collections.abc import Sequence

from .model import Plan
from .results import ChunkResult, ChunkStatus, LoadStatus, ParallelProcessingResult


def outcome(
    plan: Plan,
    results: Sequence[ChunkResult],
    *,
    load_id: str | None,
    published: bool,
    seconds: float,
    error: str | None,
    stopped: bool = False,
    stop_on_error: bool = False,
    in_doubt: bool = False,
    verified: str = "",
) -> ParallelProcessingResult:
    """Return what the load came to.

    `stopped` says that somebody stopped it before it was published, all its chunks being in;
    `in_doubt` that nobody knows whether it is published.

    Rows of a staged load that was not published are in nobody's sight: they count as failed. Where
    that is not known, they are not counted.
    """
    of = {
        status: [result for result in results if result.status is status] for status in ChunkStatus
    }
    read = {status: sum(r.rows_read or 0 for r in of[status]) for status in ChunkStatus}
    succeeded, failed = of[ChunkStatus.SUCCEEDED], of[ChunkStatus.FAILED]
    hidden = plan.stage_table is not None and not published
    rejected = sum(result.rows_rejected for result in succeeded)
    uncounted = sum(result.rows_read is None for result in failed)
    if hidden and in_doubt:
        uncounted += len(succeeded)
        read[ChunkStatus.SUCCEEDED] = rejected
    successful = 0 if hidden else read[ChunkStatus.SUCCEEDED] - rejected
    processed = read[ChunkStatus.SUCCEEDED] + read[ChunkStatus.FAILED]
    if stopped or (of[ChunkStatus.UNSTARTED] and not (failed and stop_on_error)):
        status = LoadStatus.STOPPED
    elif not failed and not error:
        status = LoadStatus.SUCCEEDED
    elif succeeded and not hidden:
        status = LoadStatus.PARTIAL
    else:
        status = LoadStatus.FAILED
    return ParallelProcessingResult(
        load_id=load_id,
        status=status,
        published=published,
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
        verified=verified,
        error=error,
        publishing_in_doubt=in_doubt,
    )
