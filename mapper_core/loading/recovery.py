"""What a crash of the target's server takes back: chunks whose COMMIT was not waited for.

Waiting for the disk after every chunk costs a load up to a tenth of its time. So a worker waits for
its last chunk only, and for all that something outside the target relies on: the pieces of a
stream, which nobody can read again, and the splitting of a chunk. Rows and ledger row of a chunk
are one transaction, and later transactions are never on disk without earlier ones: what the ledger
says stays true, and a load that is published is on disk as a whole. Where a chunk that was to
follow did not (it failed, or the load was stopped), one more transaction waits for those before it.
Where even that cannot be had, the chunks of the last moments are in doubt.
"""

import logging
from collections.abc import Callable, Sequence

from ..errors import DatabaseUnavailableError, MapperError
from ..results import ChunkResult, ChunkStatus
from ..row_values import left_out
from .work import Work

logger = logging.getLogger(__name__)

# What committed so long before another chunk did is on disk: three times the longest
# wal_writer_delay. Source: PostgreSQL documentation, "Asynchronous Commit".
_ON_DISK_AFTER_SECONDS = 30.0


def taken_back(
    work: Work,
    results: Sequence[ChunkResult],
    finished: Callable[[], dict[int, ChunkResult]],
    wait: Callable[[int], None],
    forget: Callable[[ChunkResult], None],
) -> set[int]:
    """Return the ids of chunks that had ended well, and that the ledger does not have.

    They are to be loaded again, and those who count rows have forgotten them.

    Args:
        work: what the workers share.
        results: of chunks that this call has run, or found finished.
        finished: asks the ledger.
        wait: waits until the disk has the chunk of that id, and all that committed before.
        forget: hears of each result that is none any more.

    Raises MapperError when the target cannot be asked.
    """
    # By whomever; a chunk that another process has split is no chunk of the ledger's any more.
    ended = [
        result
        for result in results
        if result.status is ChunkStatus.SUCCEEDED
        or (result.status is ChunkStatus.SKIPPED and result.finished_at is not None)
    ]
    if not ended or work.table is None or not work.table.ledger.commits_asynchronously:
        return set()
    if any(result.status is not ChunkStatus.SUCCEEDED for result in results):
        # The chunk whose COMMIT a worker left the waiting to may be among these.
        wait(ended[-1].chunk_id)
    there = finished()
    lost = [result for result in ended if result.chunk_id not in there]
    if lost:
        logger.warning(
            "load %s: %d finished chunks and their rows were lost, because the target's server"
            " crashed before they were on its disk. They are loaded again",
            work.plan.load_id,
            len(lost),
        )
    for result in lost:
        if work.rejects:
            work.rejects.give_back(result.rows_rejected)
        forget(result)
    return {result.chunk_id for result in lost}


def in_doubt(work: Work, results: Sequence[ChunkResult], error: MapperError) -> list[ChunkResult]:
    """Return the results where the target could not be asked what a crash has taken back.

    When everything went well, all of it is on disk: each worker has waited for its last chunk. A
    target that answers, if only that its ledger is gone, is no crashed one. Otherwise a chunk is in
    doubt that was not on disk for certain when the last one committed.
    """
    logger.warning("%s: it is not known whether its chunks are on disk", left_out(str(error)))
    well = all(r.status is ChunkStatus.SUCCEEDED and not r.last_error for r in results)
    ends = [_end(r) for r in results if r.status is ChunkStatus.SUCCEEDED]
    if well or not ends or not isinstance(error, DatabaseUnavailableError):
        return list(results)
    why = "it was committed, but perhaps not to the target's disk"
    return [
        work.doubtful(result, why, str(error))
        if result.status is ChunkStatus.SUCCEEDED
        and _end(result) > max(ends) - _ON_DISK_AFTER_SECONDS
        else result
        for result in results
    ]


def _end(result: ChunkResult) -> float:
    started = result.started_at.timestamp() if result.started_at else 0.0
    return started + result.duration
