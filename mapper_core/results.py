"""What a load came to: chunk by chunk, and as a whole."""

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
    STOPPED = "stopped"  #: somebody asked it to stop before the end


class ChunkStatus(Word):
    """How a chunk ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  #: found finished in the ledger
    UNSTARTED = "unstarted"  #: the load stopped before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that the target, or the transform, would not take."""

    load_id: str
    chunk_id: int
    row: dict[str, Any]
    """The query's row by column name."""
    error: str
    code: str
    """The database's code for the error (a SQLSTATE), or `transform`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult:
    """What one chunk came to. Counts are source rows, except `rows_written`."""

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
    """What the latest attempt that came to nothing met, also where a later one succeeded."""
    duration: float = 0.0
    """Seconds, all attempts together."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    """By the target's clock; None until the ledger has been read back."""
    worker: int = 0
    in_doubt: bool = False
    """Of a failed chunk: it may be in all the same, for its COMMIT got no answer, and the target
    could not be asked since. The ledger knows, and the next call under the load id goes by it."""

    @property
    def rows_are_in(self) -> bool:
        """Whether the chunk's rows are committed, by this call or an earlier one."""
        return self.status in {ChunkStatus.SUCCEEDED, ChunkStatus.SKIPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelProcessingResult:
    """What a load came to.

    `total_rows_processed == total_rows_successful + total_rows_failed` for a one-to-one load. Rows
    of failed chunks are counted at the load's read point; a chunk where even that was impossible,
    or of which nobody knows whether it is in, is in `chunks_uncounted` and in none of the totals.
    Chunks that the ledger already held are in `chunks_skipped` / `rows_skipped` and in none of the
    totals.
    """

    load_id: str | None
    """Its name in the ledger, by which a call continues it; None without a target."""
    status: LoadStatus
    published: bool
    total_rows_processed: int
    total_rows_successful: int
    total_rows_failed: int
    rows_written: int
    """Rows that came to the target; a transform may have made them more or fewer than were read."""
    rows_rejected: int
    """Rows that were refused within the `reject_limit`; they are among those failed."""
    rows_skipped: int
    chunks_total: int
    chunks_succeeded: int
    chunks_failed: int
    """Those in doubt are among them."""
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
    """What was compared before publishing, or why nothing was; and whether it replaced newer rows.
    For people."""
    error: str | None = None
    """Why the load as a whole did not end well (a failed publish, say); chunk errors apart."""
    publishing_in_doubt: bool = False
    """Whether it may be published all the same: its COMMIT got no answer. Rows that were to become
    visible by it are in none of the totals."""

    @property
    def chunks_in_doubt(self) -> int:
        """Failed chunks that may be in all the same; see `ChunkResult.in_doubt`."""
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
            doubt = f" ({n} of them may be in)" if (n := self.chunks_in_doubt) else ""
            yield f"{self.chunks_failed} of {self.chunks_total} chunks failed{doubt}"
        if self.error:
            yield self.error
            return
        if self.chunks_failed:
            yield "; ".join(f"chunk {e['chunk_id']}: {e['error']}" for e in self.chunk_errors[:3])
        if self.load_id is not None:
            mend = "Mend the cause, then" if self.chunks_failed else "To go on,"
            yield f"{mend} call again with load_id={self.load_id!r}: what is in is not loaded again"
