"""The results of a load: of each chunk, and as a whole."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .errors import ChunksFailedError
from .model import DataPath, Snapshot, StrategyName, Word


class LoadStatus(Word):
    """How a load ended."""

    SUCCEEDED = "succeeded"  #: every row is in the target
    PARTIAL = "partial"  #: some rows are in the target, some are named as failed
    FAILED = "failed"  #: no row of this call is known to be in the target
    STOPPED = "stopped"  #: it was asked to stop before the end


class ChunkStatus(Word):
    """How a chunk ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  #: found finished in the ledger
    UNSTARTED = "unstarted"  #: the load stopped before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that the target or the transform refused."""

    load_id: str
    chunk_id: int
    row: dict[str, Any]
    """The query's row by column name."""
    error: str
    code: str
    """The database's code for the error (a SQLSTATE), or `transform`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectCause:
    """Why rows of a load were refused, and how many."""

    code: str
    """See `Reject`."""
    error: str
    """Without the values of rows, which differ."""
    rows: int
    chunks: int
    """In how many chunks they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult:
    """The result of one chunk. Counts are source rows, except `rows_written`."""

    chunk_id: int
    status: ChunkStatus
    rows_read: int | None = None
    """Rows of the query in the chunk; None when it could not be counted."""
    rows_written: int = 0
    rows_rejected: int = 0
    """Rows read that were refused, and are listed in the ledger instead."""
    bytes: int = 0
    """Bytes that came from the source, in the form in which they came: COPY's binary or text, CSV
    for a batch function, a driver's Arrow batches; 0 where rows come as Python values."""
    attempts: int = 0
    error: str | None = None
    """Why it failed; None for a chunk that did not."""
    last_error: str | None = None
    """The error of the latest failed attempt, even if a later attempt succeeded."""
    duration: float = 0.0
    """Seconds, all attempts together."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    """By the target's clock; None until the ledger has been read back."""
    worker: int = 0
    in_doubt: bool = False
    """Whether a failed chunk may be committed after all: its COMMIT got no answer, and the target
    has not been reached since. The ledger knows, and the next call with the load id goes by it."""

    @property
    def rows_are_in(self) -> bool:
        """Whether the chunk's rows are committed, by this call or an earlier one."""
        return self.status in {ChunkStatus.SUCCEEDED, ChunkStatus.SKIPPED}

    @property
    def failed_in_passing(self) -> bool:
        """Whether it failed of what may be over by now: it was tried again, or given up in doubt.

        One that failed for good did so at its first attempt.
        """
        return self.status is ChunkStatus.FAILED and (self.attempts > 1 or self.in_doubt)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelProcessingResult:
    """The result of a load.

    `total_rows_processed == total_rows_successful + total_rows_failed` for a one-to-one load. Rows
    of failed chunks are counted at the load's read point. A chunk whose rows could not be counted,
    or of which it is not known whether it is committed, is in `chunks_uncounted` and in none of the
    totals. Chunks that the ledger already had are in `chunks_skipped` / `rows_skipped` and in none
    of the totals.
    """

    load_id: str | None
    """Its name in the ledger, by which a call continues it; None without a target."""
    status: LoadStatus
    published: bool
    total_rows_processed: int
    total_rows_successful: int
    total_rows_failed: int
    rows_written: int
    """Rows written to the target; a transform may have made them more or fewer than were read."""
    rows_rejected: int
    """Rows that were refused within the `reject_limit`; they are among the failed rows."""
    rows_skipped: int
    chunks_total: int
    chunks_succeeded: int
    chunks_failed: int
    """Including those in doubt."""
    chunks_skipped: int
    chunks_uncounted: int
    chunk_results: tuple[ChunkResult, ...] = field(repr=False)
    processing_time: float
    """Seconds, planning and publishing included."""
    strategy: StrategyName
    strategy_reason: str
    data_path: DataPath
    snapshot: Snapshot
    workers: int
    verified: str = ""
    """A text for people: what was compared before publishing, or why nothing was; and whether the
    load replaced newer rows."""
    error: str | None = None
    """Why the load as a whole failed (when publishing failed, say), apart from chunk errors."""
    publishing_in_doubt: bool = False
    """Whether the load may be published after all: the COMMIT got no answer. The rows that it was
    to make visible are in none of the totals."""

    @property
    def chunks_in_doubt(self) -> int:
        """How many failed chunks may be committed after all; see `ChunkResult.in_doubt`."""
        return sum(chunk.in_doubt for chunk in self.chunk_results)

    @property
    def chunk_errors(self) -> list[dict[str, Any]]:
        """One dict per failed chunk: `chunk_id`, `error`, `rows_in_chunk`, `attempts`."""
        return [
            {
                "chunk_id": chunk.chunk_id,
                "error": chunk.error,
                "rows_in_chunk": chunk.rows_read,
                "attempts": chunk.attempts,
            }
            for chunk in self.chunk_results
            if chunk.status is ChunkStatus.FAILED
        ]

    def raise_for_failures(self) -> None:
        """Raise `ChunksFailedError` unless the load succeeded as a whole."""
        if self.status is LoadStatus.SUCCEEDED:
            return
        raise ChunksFailedError(f"load {self.load_id} {self.status}: {'. '.join(self._told())}")

    def _told(self) -> Iterator[str]:
        """Yield what went wrong, and what to do about it where that does not say so itself."""
        if self.chunks_failed:
            doubt = f" ({n} of them may have been committed)" if (n := self.chunks_in_doubt) else ""
            yield f"{self.chunks_failed} of {self.chunks_total} chunks failed{doubt}"
        if self.error:
            yield self.error
            return
        if self.chunks_failed:
            yield "; ".join(f"chunk {e['chunk_id']}: {e['error']}" for e in self.chunk_errors[:3])
        if self.load_id is not None:
            first = "Fix the cause, then" if self.chunks_failed else "To continue,"
            yield (
                f"{first} call again with load_id={self.load_id!r}: finished chunks are not loaded"
                " again"
            )
