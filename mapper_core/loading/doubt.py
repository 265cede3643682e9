"""Did it commit after all? What the ledger says of a chunk whose COMMIT may have got no answer."""

from dataclasses import replace

from ..errors import StaleLoadError
from ..ledger import ChunkIsFinished
from ..model import Chunk
from ..protocols import Writer
from ..results import ChunkResult, ChunkStatus
from .sessions import Sessions
from .work import Work


def committed_after_all(work: Work, sessions: Sessions, chunk: Chunk) -> ChunkResult | None:
    """Return the chunk's result if an attempt of ours committed without our hearing of it."""
    ledger, plan = work.writes_to.ledger, work.plan
    writer = sessions.open_asker()
    try:
        if not is_claimed(work, writer, chunk):
            return None
    except StaleLoadError:
        # Who has the load now has waited for our COMMIT, but may have loaded the chunk itself.
        with writer.begin() as transaction:
            found = ledger.finished(transaction, plan.load_id, plan.epoch).get(chunk.id)
        return found and _ours(work, found)
    return found_finished(work, writer, chunk, ours=True)


def is_claimed(work: Work, writer: Writer, chunk: Chunk) -> bool:
    """Whether a claim of the chunk has committed. Only claiming it tells: it is rolled back."""
    try:
        with writer.begin() as transaction:
            work.writes_to.ledger.claim(transaction, work.plan, chunk)
            raise _NotCommittedError
    except _NotCommittedError:
        return False
    except ChunkIsFinished:
        return True


def found_finished(work: Work, writer: Writer, chunk: Chunk, *, ours: bool) -> ChunkResult:
    """Return what the ledger says of a chunk that it already holds.

    `ours` says that this call committed it, so that it counts as this call's work.
    """
    with writer.begin() as transaction:
        finished = work.writes_to.ledger.finished(transaction, work.plan.load_id)
    if (found := finished.get(chunk.id)) is None:
        # Another process has split it: it is nobody's to load any more.
        return ChunkResult(chunk_id=chunk.id, status=ChunkStatus.SKIPPED, rows_read=0)
    return _ours(work, found) if ours else found


def _ours(work: Work, found: ChunkResult) -> ChunkResult:
    if work.rejects:
        # Given back when its attempt seemed to have come to nothing.
        work.rejects.take_again(found.rows_rejected)
    return replace(found, status=ChunkStatus.SUCCEEDED)


class _NotCommittedError(Exception):
    """Rolls back a claim that was made only to learn whether the chunk is finished."""
