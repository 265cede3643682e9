"""Running chunks of a plan: those finished already, the workers', those that a crash took back."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .. import chunker
from ..errors import MapperError
from ..model import Chunk, Plan, StrategyName
from ..passwords import in_full
from ..results import ChunkResult
from ..stopping import cancelling, ends_the_load
from ..target_side import TargetSide
from ..tracker import ProgressTracker
from . import recovery
from .crew import run_chunks
from .work import Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """One call's part of a load, and who hears of it."""

    work: Work
    target: TargetSide | None
    tracker: ProgressTracker | None
    finished: Callable[[], dict[int, ChunkResult]]
    """Asks the ledger for the chunks that it holds, by their id."""
    wait_for_disk: Callable[[int], None]
    """Waits until the target's disk has the chunk of that id, and all that committed before."""

    def run(self, chunks: Sequence[Chunk], *, may_split: bool) -> tuple[Plan, list[ChunkResult]]:
        """Return the plan in force, and a result for every chunk, or for every piece of a stream.

        With `may_split` the last chunks may come in parts, which are chunks of that plan.
        """
        work = self.work
        plan, finished = work.plan, self.finished()
        if plan.strategy is StrategyName.STREAM_ONCE:
            return self._run_stream(chunks[0], finished) if chunks else (plan, [])
        skipped = [finished[chunk.id] for chunk in chunks if chunk.id in finished]
        self._expect(len(chunks), skipped)
        todo = [chunk for chunk in chunks if chunk.id not in finished]
        parts: dict[int, Sequence[Chunk]] = {}

        def split(chunk: Chunk, into: Sequence[Chunk]) -> None:
            parts[chunk.id] = into
            self._tell(lambda tracker: tracker.expect_more(len(into) - 1))

        results = skipped + run_chunks(
            work, todo, self._record, on_split=split if may_split else None
        )
        plan = replace(plan, chunks=chunker.with_parts(plan.chunks, parts))
        # Where nothing was to be done, the ledger has just been asked.
        while todo:
            try:
                lost = recovery.taken_back(
                    work, results, self.finished, self.wait_for_disk, self._forget
                )
            except MapperError as error:
                known = recovery.in_doubt(work, results, error)
                self._correct(results, known)
                results = known
                break
            if not lost:
                break
            todo = [chunk for chunk in plan.chunks if chunk.id in lost]
            results = [result for result in results if result.chunk_id not in lost]
            results += run_chunks(work, todo, self._record)
        return plan, sorted(results, key=lambda result: result.chunk_id)

    def _run_stream(
        self, stream: Chunk, finished: dict[int, ChunkResult]
    ) -> tuple[Plan, list[ChunkResult]]:
        work, target = self.work, self.target
        assert target is not None  # noqa: S101 - a stream is written
        if stream.id in finished:
            pieces = pieces_of(finished)
            self._expect(len(pieces), pieces)
            return work.plan, pieces
        from .stream import Stream  # the rare way to load

        pieces_expected = -(-(stream.expected_rows or 0) // work.plan.chunk_size)
        running = Stream(
            work,
            stream,
            target.begin_anew,
            on_reading=lambda: self._expect(pieces_expected, []),
            on_result=self._record,
        )
        with cancelling(work.stop, work.should_stop, target.in_use.cancel):
            plan, results = running.run()
        self._tell(lambda tracker: tracker.expect(len(results)))
        return plan, results

    def _expect(self, chunks: int, skipped: Sequence[ChunkResult]) -> None:
        self._tell(lambda tracker: tracker.start(chunks))
        for result in skipped:
            self._record(result)

    def _record(self, result: ChunkResult) -> None:
        self._tell(lambda tracker: tracker.record(result))

    def _forget(self, result: ChunkResult) -> None:
        self._tell(lambda tracker: tracker.take_back(result))

    def _correct(self, told: Sequence[ChunkResult], known: Sequence[ChunkResult]) -> None:
        """Tell of results that are others than those told before."""
        for before, now in zip(told, known, strict=True):
            if before is not now:
                self._forget(before)
                self._record(now)

    def _tell(self, tell: Callable[[ProgressTracker], None]) -> None:
        """Tell the tracker, if there is one; what one of the user's raises harms nothing."""
        if self.tracker is None:
            return
        try:
            tell(self.tracker)
        except BaseException as error:  # as a callback that raises
            if ends_the_load(error):
                raise
            logger.error(  # noqa: TRY400 - no password may be in it
                "The progress tracker raised an error; the load continues: %s", in_full(error)
            )


def pieces_of(finished: dict[int, ChunkResult]) -> list[ChunkResult]:
    """Return the pieces of a finished stream; the mark that it is whole, if it had none."""
    pieces = [finished[number] for number in sorted(finished) if number != chunker.STREAM]
    return pieces or [finished[chunker.STREAM]]
