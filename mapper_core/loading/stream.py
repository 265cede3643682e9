"""A query read once by one reader and written by many workers, in pieces numbered as they come.

Pieces wait in memory, a few at a time, until they are committed to the stage: a writer that fails
writes its piece again from there. When reading fails, what was staged is thrown away and the query
is read again. Only when the source has said that it sent everything, and every piece is in, is the
stream itself marked as finished; without that mark nothing can be published.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from secrets import token_hex
from threading import Condition

from ..batches import Piece
from ..errors import TransferError
from ..model import Chunk, ChunkKind, Plan, TransformScope
from ..protocols import Reader
from ..results import ChunkResult, ChunkStatus
from ..retry import first_line
from ..stopping import InUse, beside, cancelling
from .places import Places
from .work import Work
from .worker import CrowdedOutError, Worker

# Each writer holds one piece in memory and has another one waiting.
PIECE_BYTES = 16 * 1024 * 1024

OnResult = Callable[[ChunkResult], None]


@dataclass(slots=True)
class Stream:
    """One stream, through as many attempts at reading it as it takes."""

    work: Work
    chunk: Chunk
    """The stream itself, whose claim says that every piece is in."""
    begin_anew: Callable[[Plan, str], Plan]
    """Empties the stage for a reading of that name; returns the plan under its new epoch."""
    on_reading: Callable[[], None]
    """Told before each reading: what was told of the pieces of an earlier one is void."""
    on_result: OnResult | None
    reading: str = field(default_factory=lambda: token_hex(16))
    attempts: int = 0
    in_use: InUse = field(default_factory=InUse)
    """The reader, and the workers that write."""

    def run(self) -> tuple[Plan, list[ChunkResult]]:
        """Read and write everything; return the plan in force and a result for each piece.

        When it fails or is stopped, nothing of it counts: there is one result, that of the stream.
        """
        work, begun = self.work, time.monotonic()
        try:
            with cancelling(work.stop, work.should_stop, self._cancel):
                results = work.retry.execute_with_retry(
                    self._attempt,
                    is_transient=work.is_transient,
                    stop=work.stop,
                    name=f"load {work.plan.load_id}, stream",
                )
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the stream's result
            results = [self._failed(work.words(error), None)]
        whole = replace(results[0], attempts=self.attempts, duration=time.monotonic() - begun)
        only_the_stream = results[0].chunk_id == self.chunk.id
        return self.work.plan, [whole] if only_the_stream else results

    def _attempt(self) -> list[ChunkResult]:
        self.attempts += 1
        # Not `self.work` yet: if this one's COMMIT gets no reply, the next asks for the same.
        plan = self.begin_anew(self.work.plan, self.reading)
        rejects = self.work.rejects and self.work.rejects.anew()
        self.work = work = replace(self.work, plan=plan, rejects=rejects)
        self.reading = token_hex(16)
        self.on_reading()
        number = rows = 0
        with (
            _writers(work, self.on_result, self.in_use) as writers,
            work.source.open_reader(work.plan.snapshot) as opened,
            self.in_use.using(opened) as reader,
            closing(self._pieces(reader)) as pieces,
        ):
            for number, piece in enumerate(pieces, start=1):
                if work.stop.is_set():
                    return [self._stopped()]
                rows += piece.rows
                writers.write(number, piece)
            if reader.rows_read != rows:
                raise TransferError("the source did not confirm that it had sent all rows")
        if work.stop.is_set():
            return [self._stopped()]
        if writers.failure is not None:
            # Read to its end all the same: so it is known how many rows are not in.
            return [self._failed(writers.failure, rows)]
        written = sum(result.rows_read or 0 for result in writers.results)
        if (len(writers.results), written) != (number, rows):
            words = (
                f"the source sent {rows:,} rows in {number:,} pieces, but {written:,} rows in"
                f" {len(writers.results):,} pieces are in the stage: please report this; run"
                " again, the load starts from its beginning"
            )
            return [self._failed(f"{TransferError.__name__}: {words}", rows)]
        with Worker(work, 0) as worker, self.in_use.using(worker):
            mark = worker.load(self.chunk, Piece((), 0))
        if mark.status is ChunkStatus.FAILED:
            return [replace(mark, rows_read=rows)]
        if not mark.rows_are_in or not writers.results:
            return [mark]
        return sorted(writers.results, key=lambda result: result.chunk_id)

    def _pieces(self, reader: Reader) -> Generator[Piece, None, None]:
        work = self.work
        # A transform of whole chunks sees all the rows of one, however many bytes they are.
        whole = work.mapping.transform and work.mapping.transform_scope is TransformScope.CHUNK
        size = 2**62 if whole else PIECE_BYTES
        rows = work.plan.chunk_size
        return reader.pieces(work.query, work.plan, self.chunk, rows=rows, size=size)

    def _cancel(self) -> None:
        if self.work.processes is not None:
            self.work.processes.cancel()
        self.in_use.cancel()

    def _stopped(self) -> ChunkResult:
        return ChunkResult(chunk_id=self.chunk.id, status=ChunkStatus.UNSTARTED)

    def _failed(self, words: str, rows: int | None) -> ChunkResult:
        if self.work.stop.is_set():
            return self._stopped()
        return self.work.failed(self.chunk, words, rows)


@dataclass(slots=True)
class _Writers:
    """The workers of a stream, and the pieces that wait for one of them."""

    work: Work
    on_result: OnResult | None
    in_use: InUse
    places: Places
    room: int
    """For so many pieces that wait."""
    waiting: deque[tuple[int, Piece]] = field(default_factory=deque)
    complete: bool = False
    """Whether no other piece will come."""
    results: list[ChunkResult] = field(default_factory=list)
    failure: str | None = None
    changed: Condition = field(default_factory=Condition)
    """Held to count pieces; told when there are others, or will be no more."""

    def write(self, number: int, piece: Piece) -> None:
        """Hand over a piece; wait while every writer has one waiting already."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.waiting) < self.room or self.complete)
            self.waiting.append((number, piece))
            self.changed.notify_all()

    def _take(self) -> tuple[int, Piece] | None:
        """Wait for a piece and return it; None when there is none left, nor will be."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.complete)
            taken = self.waiting.popleft() if self.waiting else None
            self.changed.notify_all()
            return taken

    def end(self) -> None:
        """Say that no other piece will come; twice is safe."""
        with self.changed:
            self.complete = True
            self.changed.notify_all()

    def work_off(self, worker: Worker) -> None:
        """Take pieces to the end; after a failure take them away only."""
        self.places.count(+1)
        try:
            with worker, self.in_use.using(worker):
                while (taken := self._take()) is not None:
                    if self.failure is None:
                        self._load(worker, *taken)
        finally:
            self.places.count(-1)

    def _load(self, worker: Worker, number: int, piece: Piece) -> None:
        try:
            result = self._loaded(worker, Chunk(number, ChunkKind.STREAM), piece)
            if result is None:
                return  # of no use any more
            if not result.rows_are_in:
                self.failure = f"piece {number}: {result.error}"
                return
            self.results.append(result)
            if self.on_result:
                self.on_result(result)
        except BaseException as error:  # noqa: BLE001 - the reader must not wait for this thread
            self.failure = first_line(error)

    def _loaded(self, worker: Worker, chunk: Chunk, piece: Piece) -> ChunkResult | None:
        """Load a piece; while there is no connection to be had, leave those there are to others."""
        in_doubt = False
        while self.failure is None and not self.work.stop.is_set():
            try:
                return worker.load(chunk, piece, in_doubt=in_doubt, may_yield=self.places.leave)
            except CrowdedOutError as error:
                in_doubt = worker.in_doubt
                self.places.rest(error)
        return None

    def give_up(self, error: BaseException) -> None:
        """Write no other piece: what waits is of no use any more."""
        self.failure = first_line(error)
        self.end()


@contextmanager
def _writers(work: Work, on_result: OnResult | None, in_use: InUse) -> Iterator[_Writers]:
    """Run the plan's workers; at the end wait until they have written what was handed over."""
    workers = [Worker(work, number + 1) for number in range(work.plan.workers)]
    writers = _Writers(work, on_result, in_use, Places(work), room=len(workers))
    with beside(
        [partial(writers.work_off, worker) for worker in workers],
        stop=work.stop,
        give_up=writers.give_up,
        name="mapper",
    ):
        yield writers
        writers.end()
