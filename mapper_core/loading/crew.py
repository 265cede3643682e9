"""The workers of a load, several at a time: who takes which chunk, and what is left over."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

from ..errors import SnapshotLostError, StaleLoadError
from ..model import Chunk, ChunkKind
from ..results import ChunkResult, ChunkStatus
from ..retry import first_line
from ..stopping import POLL_SECONDS, cancelling, together
from . import pacing
from .pacing import Pace
from .places import Places
from .work import Work
from .worker import CrowdedOutError, Worker

logger = logging.getLogger(__name__)


def run_chunks(
    work: Work,
    chunks: Sequence[Chunk],
    on_result: Callable[[ChunkResult], None] | None,
    *,
    on_split: Callable[[Chunk, Sequence[Chunk]], None] | None = None,
) -> list[ChunkResult]:
    """Run the chunks with the plan's workers; return one result for each. Failures are results.

    Args:
        work: what the workers share.
        chunks: to be loaded, in this order.
        on_result: hears of each chunk as it ends, in the thread that ran it.
        on_split: hears of each chunk that lagged behind, and of the parts that were loaded in its
            place; without it none is split.
    """
    count = min(work.plan.workers, len(chunks))
    pace = Pace(count, time.monotonic()) if work.plan.adaptive else None
    workers = [Worker(work, number + 1) for number in range(count)]
    crew = _Crew(work, on_result, workers, Places(work), pace, on_split, width=_width(chunks))
    for chunk in chunks:
        crew.queue.put(chunk)
    with cancelling(work.stop, work.should_stop, crew.cancel):
        together(
            [partial(crew.work_off, worker) for worker in workers],
            stop=work.stop,
            give_up=lambda _: work.stop.set(),
            name="mapper",
        )
        crew.settle_the_rest()
    return crew.results


def _width(chunks: Sequence[Chunk]) -> int:
    """Return how many blocks a chunk of blocks has, by the first of them that has both ends."""
    for chunk in chunks:
        if chunk.kind is ChunkKind.BLOCKS and chunk.low and chunk.high:
            return int(chunk.high[0]) - int(chunk.low[0])
    return 0


@dataclass(slots=True)
class _Crew:
    work: Work
    on_result: Callable[[ChunkResult], None] | None
    workers: list[Worker]
    places: Places
    """Told as well when the pace or the queue has changed."""
    pace: Pace | None = None
    """How many of them should be at work; None for all."""
    on_split: Callable[[Chunk, Sequence[Chunk]], None] | None = None
    width: int = 0
    """Blocks of a chunk, where chunks are of blocks."""
    splitting: int = 0
    """Workers that have a chunk in hand and may yet add parts of it to the queue."""
    rows_per_second: float = 0.0
    """Of one worker, in the chunk that ended last."""
    queue: "SimpleQueue[Chunk]" = field(default_factory=SimpleQueue)
    ahead: dict[Worker, Chunk] = field(default_factory=dict)
    """The chunk that each worker will load next, when its source has begun with it already."""
    in_doubt: set[int] = field(default_factory=set)
    """Chunks put back whose COMMIT was sent, and may have got no answer."""
    results: list[ChunkResult] = field(default_factory=list)
    given_up: Exception | None = None

    def work_off(self, worker: Worker) -> None:
        """Take chunks until there are none."""
        self.places.count(+1)
        try:
            with worker:
                while self._may_go_on(worker) and (chunk := self._next_to_load(worker)):
                    if not self._take(worker, chunk):
                        return
        finally:
            self._leave_ahead(worker)
            self.places.count(-1)

    def _may_go_on(self, worker: Worker) -> bool:
        """Rest while the pace wants fewer workers; return whether to take another chunk."""
        if self._has_place():
            return not self.work.stop.is_set()
        self._leave_ahead(worker)
        worker.rest()
        self.places.count(-1)
        with self.places.changed:
            # Looked at now and then besides, for nobody tells when the load is to stop.
            while not self._ends() and not self._has_place(joining=1):
                self.places.changed.wait(POLL_SECONDS)
            self.places.at_work += 1
        return not self._ends()

    def _ends(self) -> bool:
        return self.work.stop.is_set() or self.queue.empty()

    def _has_place(self, joining: int = 0) -> bool:
        """Whether as many workers as there are, and those joining them, should be at work."""
        # The last one works whatever the pace: the others may have given up.
        wanted = len(self.workers) if self.pace is None else self.pace.wanted
        return self.places.at_work + joining <= max(1, wanted)

    def _take(self, worker: Worker, chunk: Chunk) -> bool:
        """Load a chunk; return whether the worker can go on."""
        try:
            result = worker.load(
                chunk,
                in_doubt=chunk.id in self.in_doubt,
                may_yield=self.places.leave,
                upcoming=lambda: self._upcoming(worker),
            )
            self._keep_pace(result, worker.commit_seconds)
            self._record(result)
        except CrowdedOutError as error:
            self._leave_ahead(worker)
            self._put_back(worker, chunk)
            self.places.rest(error)
        except SnapshotLostError as error:
            # A worker whose session still reads at the snapshot can finish the rest.
            self._put_back(worker, chunk)
            self.given_up = error
            return False
        except StaleLoadError as error:
            self._put_back(worker, chunk)
            self.given_up = error
            self.work.stop.set()
            return False
        return True

    def _upcoming(self, worker: Worker) -> Chunk | None:
        """Return the chunk that a worker will load next; None while it is not known.

        The last ones are for whoever is free first, and may be split. A chunk tried again has the
        same one after it.
        """
        with self.places.changed:
            if worker in self.ahead:
                return self.ahead[worker]
            if self.queue.qsize() < len(self.workers) or not self._has_place():
                return None
            if (chunk := self._next()) is not None:
                self.ahead[worker] = chunk
            return chunk

    def _leave_ahead(self, worker: Worker) -> None:
        """Leave to others what a worker would have loaded next."""
        with self.places.changed:
            if (chunk := self.ahead.pop(worker, None)) is not None:
                self.queue.put(chunk)

    def _whole_or_part(self, worker: Worker, chunk: Chunk) -> Chunk:
        """Split a chunk at the end of the load, when there are fewer left than workers.

        Returns the chunk, or the first of its parts; the others are for whoever is free next.
        """
        if self.on_split is None or chunk.kind not in {ChunkKind.BLOCKS, ChunkKind.RANGE}:
            return chunk
        at_work = len(self.workers) if self.pace is None else self.pace.wanted
        unstarted = self.queue.qsize() + 1
        wanted = pacing.parts_for(unstarted, at_work, chunk.expected_rows, self.rows_per_second)
        if wanted == 1:
            return chunk
        first, *others = worker.split(chunk, wanted, self.width)
        if others:
            self.on_split(chunk, [first, *others])
            for part in others:
                self.queue.put(part)
        return first

    def _next_to_load(self, worker: Worker) -> Chunk | None:
        """Take a chunk; at the end of the load wait for those that another worker is about to add.

        Returns None when there are none left.
        """
        if (begun := self.ahead.pop(worker, None)) is not None:
            return begun
        with self.places.changed:
            while (chunk := self._next()) is None and self.splitting:
                self.places.changed.wait(POLL_SECONDS)
            if chunk is None:
                return None
            self.splitting += 1
        try:
            return self._whole_or_part(worker, chunk)
        finally:
            with self.places.changed:
                self.splitting -= 1
                self.places.changed.notify_all()

    def _keep_pace(self, result: ChunkResult, commit_seconds: float | None) -> None:
        if result.rows_read and result.duration:
            self.rows_per_second = result.rows_read / result.duration
        if self.pace is None:
            return
        with self.places.changed:
            before = self.pace.wanted
            self.pace.ended(time.monotonic(), result.rows_read or 0, commit_seconds)
            wanted = self.pace.wanted
            self.places.changed.notify_all()
        if wanted != before:
            logger.info("load %s: %d workers at work", self.work.plan.load_id, wanted)

    def cancel(self) -> None:
        """End the statements, and the transforms in other processes, that are running."""
        if self.work.processes is not None:
            self.work.processes.cancel()
        for worker in self.workers:
            worker.cancel()

    def settle_the_rest(self) -> None:
        """Name the chunks that nobody took; of those in doubt the ledger is asked once more."""
        while chunk := self._next():
            if chunk.id in self.in_doubt:
                self._record(self.workers[0].settle(chunk, self.given_up))
            elif self.given_up is not None:
                self._record(self.work.failed(chunk, first_line(self.given_up)))
            else:
                self.results.append(ChunkResult(chunk_id=chunk.id, status=ChunkStatus.UNSTARTED))

    def _next(self) -> Chunk | None:
        try:
            return self.queue.get_nowait()
        except Empty:
            return None

    def _put_back(self, worker: Worker, chunk: Chunk) -> None:
        if worker.in_doubt:
            self.in_doubt.add(chunk.id)
        else:
            self.in_doubt.discard(chunk.id)
        self.queue.put(chunk)

    def _record(self, result: ChunkResult) -> None:
        self.results.append(result)
        if result.status is ChunkStatus.FAILED and self.work.stop_on_error:
            self.work.stop.set()
        if self.on_result and result.status is not ChunkStatus.UNSTARTED:
            self.on_result(result)
