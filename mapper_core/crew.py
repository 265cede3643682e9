"""The workers of a load, several at a time: who takes which chunk, and what is left over."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from .errors import SnapshotLostError, StaleLoadError
from .model import Chunk
from .results import ChunkResult, ChunkStatus
from .retry import first_line
from .work import Work
from .worker import Worker


def run_chunks(
    work: Work, chunks: Sequence[Chunk], on_result: Callable[[ChunkResult], None] | None
) -> list[ChunkResult]:
    """Run the chunks with the plan's workers; return one result for each. Failures are results.

    `on_result` hears of each chunk as it ends, in the thread that ran it.
    """
    crew = _Crew(work, on_result)
    for chunk in chunks:
        crew.queue.put(chunk)
    workers = min(work.plan.workers, len(chunks))
    if workers == 1:
        # In the caller's own thread: a lone connection may not leave it.
        crew.work_off(1)
    elif workers:
        with ThreadPoolExecutor(workers, thread_name_prefix="mapper") as threads:
            try:
                for ended in [threads.submit(crew.work_off, n + 1) for n in range(workers)]:
                    ended.result()
            except BaseException:
                # Ctrl-C, most likely: no new chunk begins, and the pool waits for those under way.
                work.stop.set()
                raise
    crew.settle_the_rest()
    return crew.results


@dataclass(slots=True)
class _Crew:
    work: Work
    on_result: Callable[[ChunkResult], None] | None
    queue: "SimpleQueue[Chunk]" = field(default_factory=SimpleQueue)
    results: list[ChunkResult] = field(default_factory=list)
    given_up: Exception | None = None

    def work_off(self, number: int) -> None:
        """Take chunks until there are none, as worker `number`."""
        with Worker(self.work, number) as worker:
            while not self.work.stop.is_set() and (chunk := self._next()):
                try:
                    self._record(worker.load(chunk))
                except SnapshotLostError as error:
                    # A worker whose session still reads at the snapshot can finish the rest.
                    self._give_up(chunk, error)
                    return
                except StaleLoadError as error:
                    self._give_up(chunk, error)
                    self.work.stop.set()
                    return

    def settle_the_rest(self) -> None:
        """Name the chunks that nobody took."""
        while chunk := self._next():
            if self.given_up is None:
                self.results.append(ChunkResult(chunk_id=chunk.id, status=ChunkStatus.UNSTARTED))
            else:
                self._record(
                    ChunkResult(
                        chunk_id=chunk.id,
                        status=ChunkStatus.FAILED,
                        error=first_line(self.given_up),
                    )
                )

    def _next(self) -> Chunk | None:
        try:
            return self.queue.get_nowait()
        except Empty:
            return None

    def _give_up(self, chunk: Chunk, error: Exception) -> None:
        self.queue.put(chunk)
        self.given_up = error

    def _record(self, result: ChunkResult) -> None:
        self.results.append(result)
        if self.on_result:
            self.on_result(result)
