"""Live progress for people: snapshots, time left, callbacks. It forgets; the ledger remembers."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from .passwords import in_full
from .results import ChunkResult, ChunkStatus
from .stopping import ends_the_load

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSnapshot:
    """How far a load has come. Counts are source rows, times are seconds."""

    total_chunks: int
    completed_chunks: int
    failed_chunks: int
    total_rows_processed: int
    total_rows_successful: int
    total_rows_failed: int
    elapsed_time: float
    estimated_remaining_time: float | None
    """None until the first chunk has ended."""

    @property
    def progress_percentage(self) -> float:
        """Share of the chunks that have ended, 0 to 100; 100 for a plan without chunks."""
        if not self.total_chunks:
            return 100.0
        return 100.0 * (self.completed_chunks + self.failed_chunks) / self.total_chunks


ProgressCallback = Callable[[ProgressSnapshot], None]


class ProgressTracker:
    """Adds up chunk results as they come and calls a callback. Safe to use from several threads."""

    def __init__(self, total_chunks: int = 0, callback: ProgressCallback | None = None) -> None:
        self._callback = callback
        self._lock = Lock()
        self.start(total_chunks)

    def start(self, total_chunks: int) -> None:
        """Begin anew with the chunks of a plan."""
        with self._lock:
            self._total_chunks = total_chunks
            self._begun = time.monotonic()
            self._completed = self._failed = self._timed = 0
            self._processed = self._successful = 0

    def expect(self, total_chunks: int) -> None:
        """Correct how many chunks there are in all; what has ended stays counted."""
        with self._lock:
            self._total_chunks = total_chunks

    def expect_more(self, chunks: int) -> None:
        """Note that the load has that many more chunks than was known."""
        with self._lock:
            self._total_chunks += chunks

    def record(self, result: ChunkResult) -> None:
        """Note that a chunk has ended, and tell the callback."""
        with self._lock:
            failed = result.status is ChunkStatus.FAILED
            self._failed += failed
            self._completed += not failed
            # Of a stream nobody knows beforehand how many pieces it comes in.
            self._total_chunks = max(self._total_chunks, self._completed + self._failed)
            if result.status is not ChunkStatus.SKIPPED:
                self._timed += 1
                self._processed += result.rows_read or 0
                self._successful += 0 if failed else _successful(result)
            # Told under the lock, so that snapshots reach the callback in order.
            self._tell()

    def take_back(self, result: ChunkResult) -> None:
        """Forget a chunk that had ended well, and is to be loaded again."""
        with self._lock:
            self._completed -= 1
            if result.status is not ChunkStatus.SKIPPED:
                self._timed -= 1
                self._processed -= result.rows_read or 0
                self._successful -= _successful(result)

    def snapshot(self) -> ProgressSnapshot:
        """Return how far the load has come by now."""
        elapsed = time.monotonic() - self._begun
        left = self._total_chunks - self._completed - self._failed
        return ProgressSnapshot(
            total_chunks=self._total_chunks,
            completed_chunks=self._completed,
            failed_chunks=self._failed,
            total_rows_processed=self._processed,
            total_rows_successful=self._successful,
            total_rows_failed=self._processed - self._successful,
            elapsed_time=elapsed,
            # Chunks found finished cost no time, so they say nothing about the rest.
            estimated_remaining_time=elapsed / self._timed * left if self._timed else None,
        )

    def _tell(self) -> None:
        if self._callback is None:
            return
        try:
            self._callback(self.snapshot())
        except BaseException as error:  # a callback of the user's harms nothing: the load goes on
            if ends_the_load(error):
                raise
            logger.error(  # noqa: TRY400 - no password may be in it
                "The progress callback raised an error; the load continues: %s", in_full(error)
            )


def _successful(result: ChunkResult) -> int:
    """Return how many rows of a chunk that has ended well are in."""
    return (result.rows_read or 0) - result.rows_rejected


def create_progress_callback(
    name: str, *, every: float = 0.0, log: Callable[[str], object] = logger.info
) -> ProgressCallback:
    """Return a callback that logs one line per update, headed by `name`.

    Args:
        name: what the lines call the load.
        every: seconds between two lines; updates in between are left out, except the last.
        log: called with each line.
    """
    last_line = -math.inf

    def callback(snapshot: ProgressSnapshot) -> None:
        nonlocal last_line
        ended = snapshot.completed_chunks + snapshot.failed_chunks
        if time.monotonic() - last_line < every and ended < snapshot.total_chunks:
            return
        last_line = time.monotonic()
        left = snapshot.estimated_remaining_time
        log(
            f"{name}: {snapshot.progress_percentage:.1f}% ({ended}/{snapshot.total_chunks} chunks,"
            f" {snapshot.total_rows_processed:,} rows, {snapshot.failed_chunks} chunks failed),"
            f" {snapshot.elapsed_time:.1f} s elapsed,"
            f" {'time left unknown' if left is None else f'about {left:.1f} s left'}"
        )

    return callback
