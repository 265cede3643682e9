"""One worker, and the paragraph that a chunk is.

Begin the target's transaction, claim the chunk, read, transform, write, record, commit. Whatever
goes wrong on the way, the transaction takes all of it back.
"""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone

from ..batches import Piece
from ..errors import SnapshotLostError, StaleLoadError, TransferError
from ..ledger import ChunkIsFinished
from ..model import Chunk, ChunkKind
from ..passwords import in_full
from ..protocols import Transaction
from ..results import ChunkResult, ChunkStatus
from ..retry import first_line
from ..row_values import left_out
from . import doubt, intake, splitting
from .rows import Rows
from .sessions import Opened, Sessions
from .work import Work

logger = logging.getLogger(__name__)


class CrowdedOutError(Exception):
    """A worker found no connection, and leaves what there is to the others."""


class Worker:
    """Loads chunks one after the other.

    Sessions are opened when first needed, and anew after every failure.
    """

    def __init__(self, work: Work, number: int) -> None:
        self._work = work
        self._number = number
        self._sessions = Sessions(work)
        self._begun = 0.0
        self._started_at: datetime | None = None
        self._attempts = 0
        self._rows_read: int | None = None
        self._rejected = 0
        self._last_error: str | None = None
        self._upcoming: Callable[[], Chunk | None] | None = None
        self.commit_seconds: float | None = None
        """How long the target took for the COMMIT of the chunk loaded last."""
        self.in_doubt = False
        """Whether that COMMIT was sent, and may have got no answer."""

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._sessions.close()

    def cancel(self) -> None:
        """End the statement that is running, from another thread. The chunk comes to nothing."""
        self._sessions.cancel()

    def load(
        self,
        chunk: Chunk,
        piece: Piece | None = None,
        *,
        in_doubt: bool = False,
        may_yield: Callable[[], bool] | None = None,
        upcoming: Callable[[], Chunk | None] | None = None,
    ) -> ChunkResult:
        """Load a chunk, again after transient errors. A permanent failure is its result.

        A piece of a stream is in memory already, and is written from there as often as it takes.
        `in_doubt` says that another worker sent a COMMIT of the chunk and may have got no answer.
        `may_yield` is asked when there is no connection to be had: True leaves them to others.
        `upcoming` is asked, once all rows have come, for the chunk that will be loaded next: the
        source begins with it while the target finishes this one.

        Raises:
            CrowdedOutError: there was none, and this worker yielded.
            SnapshotLostError: this worker cannot read at the load's snapshot any more.
            StaleLoadError: another run has taken the load over.
        """
        work = self._work
        self._begun, self._started_at = time.monotonic(), datetime.now(timezone.utc)
        self._attempts, self._last_error, self.commit_seconds = 0, None, None
        self.in_doubt = in_doubt
        self._upcoming = upcoming

        def attempt() -> ChunkResult:
            self._attempts += 1
            self._rows_read = None
            self._rejected = 0
            try:
                return self._attempt(chunk, piece)
            except Exception as error:
                self._last_error = words = work.words(error)
                if may_yield and work.is_crowded(error) and may_yield():
                    raise CrowdedOutError(words) from error
                raise

        try:
            return work.retry.execute_with_retry(
                attempt,
                is_transient=work.is_transient,
                stop=work.stop,
                name=f"load {work.plan.load_id}, chunk {chunk.id}",
            )
        except CrowdedOutError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the chunk's result
            return self._signed(self._not_loaded(chunk, piece, error))

    def _not_loaded(self, chunk: Chunk, piece: Piece | None, error: Exception) -> ChunkResult:
        """Return what a chunk came to whose last attempt met an error.

        Raises the error when this worker cannot load any other chunk either.
        """
        work = self._work
        if self.in_doubt and (found := self._committed_after_all(chunk)):
            return found
        if isinstance(error, SnapshotLostError | StaleLoadError):
            raise error
        if work.stop.is_set() and not self.in_doubt:
            # Its statement was ended, and what it had done is rolled back.
            return ChunkResult(chunk_id=chunk.id, status=ChunkStatus.UNSTARTED)
        words = work.words(error)
        rows = piece.rows if piece else self._rows_read
        if rows is None and not self.in_doubt:
            rows = self._count(chunk)
        # A piece without its stream's mark is of no account, whether it is in or not.
        in_doubt = self.in_doubt and not (piece and piece.rows)
        failed = work.failed(chunk, words, rows, in_doubt=in_doubt)
        what = "is in doubt" if failed.in_doubt else "failed"
        said = left_out(failed.error or words)
        logger.error("load %s: chunk %d %s: %s", work.plan.load_id, chunk.id, what, said)
        logger.debug("the error in full: %s", in_full(error))
        return failed

    def settle(self, chunk: Chunk, given_up: Exception | None) -> ChunkResult:
        """Return the result of a chunk in doubt that nobody will load any more.

        `given_up` is why, unless the load was stopped.
        """
        self.in_doubt = True
        if found := self._committed_after_all(chunk):
            return found
        if given_up is None and not self.in_doubt:
            return ChunkResult(chunk_id=chunk.id, status=ChunkStatus.UNSTARTED)
        words = "the load was stopped" if given_up is None else first_line(given_up)
        return self._work.failed(chunk, words, in_doubt=self.in_doubt)

    def _attempt(self, chunk: Chunk, piece: Piece | None) -> ChunkResult:
        try:
            opened = self._sessions.open()
            if opened.writer is None:
                return self._signed(self._read_only(chunk, opened))
            # Inside one database the transaction that writes reads as well.
            snapshot = self._work.plan.snapshot if self._work.in_server else None
            try:
                with opened.writer.begin(snapshot) as transaction:
                    result = self._signed(self._load(chunk, piece, opened, transaction))
                    self._work.writes_to.ledger.finish(
                        transaction, self._work.plan, result, waits=not self._another_follows()
                    )
                    complete = time.monotonic()
                    self.in_doubt = True
                self.commit_seconds = time.monotonic() - complete
                return result
            except ChunkIsFinished:
                # By another process, or by an attempt of ours that got no answer to its COMMIT.
                found = doubt.found_finished(self._work, opened.writer, chunk, ours=self.in_doubt)
                return replace(found, attempts=self._attempts)
        except BaseException:
            if self._work.rejects:
                # Rolled back with the chunk; its next attempt counts them again.
                self._work.rejects.give_back(self._rejected)
            # Whatever state the sessions are in, the next attempt starts with new ones.
            self._sessions.close()
            raise

    def _another_follows(self) -> bool:
        """Whether this worker will commit another chunk, and that COMMIT waits for this one too.

        An adaptive load goes by the time that commits take: there each of them waits.
        """
        follows = self._upcoming is not None and self._upcoming() is not None
        return follows and not self._work.plan.adaptive

    def _load(
        self, chunk: Chunk, piece: Piece | None, opened: Opened, transaction: Transaction
    ) -> ChunkResult:
        """Claim, read, transform, write.

        The target hears of the end of the rows only after the source has said that it sent them
        all: a stream that was cut is never committed.
        """
        work, meter, rejected = self._work, intake.Meter(), 0
        intake.hold_columns(work, transaction)
        work.writes_to.ledger.claim(transaction, work.plan, chunk, opened.asker)
        self.in_doubt = False  # whatever was sent before, it did not commit
        if opened.asker is not None:
            # The snapshot shows the catalog of then.
            with opened.asker.begin() as asking:
                intake.hold_columns(work, asking)
        if not work.in_server:
            rows = Rows(work, chunk, piece, opened.reader, self._upcoming)
            if piece is not None and not piece.rows:
                written = 0  # the mark of a stream, which has no rows of its own
            elif work.rejects is None:
                with closing(rows.read()) as batches:
                    written = intake.write(work, meter.over(batches), chunk, transaction)
            else:
                from .rejects import Sieve  # only where rows may be refused

                sieve = Sieve(work, chunk, transaction)
                try:
                    written = sieve.write(rows.read, rows.again, meter)
                finally:
                    rejected = self._rejected = sieve.rejected
            self._rows_read = rows.read_in_all
        else:
            written = self._rows_read = transaction.insert_select(
                work.query,
                work.plan,
                chunk,
                work.writes_to.name,
                intake.target_names(work, work.plan.columns),
                staged_chunk=chunk.id if work.writes_to.staged else None,
            )
        if self._rows_read is None:
            raise TransferError("the source did not confirm that it had sent all rows of the chunk")
        intake.check_taken(work, sent=self._rows_read - rejected, taken=written)
        return ChunkResult(
            chunk_id=chunk.id,
            status=ChunkStatus.SUCCEEDED,
            rows_read=self._rows_read,
            rows_written=written,
            rows_rejected=rejected,
            bytes=meter.bytes,
        )

    def _read_only(self, chunk: Chunk, opened: Opened) -> ChunkResult:
        """Read, and transform, a chunk of a load without target."""
        work, reader = self._work, opened.reader
        assert reader is not None  # noqa: S101 - for the type checker
        rows = Rows(work, chunk, None, reader, self._upcoming)
        with closing(rows.read()) as batches:
            if not work.mapping.transforms:
                for _ in batches:
                    """Only the count matters."""
            else:
                intake.only_transform(work, batches, chunk)
        return ChunkResult(
            chunk_id=chunk.id, status=ChunkStatus.SUCCEEDED, rows_read=reader.rows_read
        )

    def _committed_after_all(self, chunk: Chunk) -> ChunkResult | None:
        """Return the chunk's result if an attempt committed without our hearing of it.

        It is in doubt no longer, unless the ledger could not be asked.
        """
        try:
            found = doubt.committed_after_all(self._work, self._sessions, chunk)
            self.in_doubt = False
            return found
        except Exception as error:  # noqa: BLE001 - the chunk's own error is the one to report
            logger.debug(
                "chunk %d cannot be looked up in the ledger: %s", chunk.id, first_line(error)
            )
            return None
        finally:
            self._sessions.close()

    def _count(self, chunk: Chunk) -> int | None:
        """Count a failed chunk's rows at the load's read point; None when that is gone too."""
        work = self._work
        if work.plan.snapshot.id is None or chunk.kind is ChunkKind.STREAM:
            return None
        try:
            with work.source.open_reader(work.plan.snapshot) as reader:
                return reader.count(work.query, work.plan, chunk)
        except Exception as error:  # noqa: BLE001 - the chunk's own error is reported; this one only explains
            words = work.words(error)
            logger.warning(
                "the rows of chunk %d could not be counted either: %s", chunk.id, left_out(words)
            )
            return None

    def _signed(self, result: ChunkResult) -> ChunkResult:
        """Return a result with what is known of the attempts that led to it."""
        return replace(
            result,
            attempts=self._attempts,
            duration=time.monotonic() - self._begun,
            started_at=self._started_at,
            worker=self._number,
            last_error=self._last_error,
        )

    def split(self, chunk: Chunk, parts: int, width: int) -> tuple[Chunk, ...]:
        """Put parts in the place of a chunk that nobody has begun; return them, or just the chunk.

        Args:
            chunk: of a key, or of blocks.
            parts: how many there should be.
            width: blocks of another chunk, for one of blocks without an end.
        """
        return splitting.split(self._work, self._sessions, chunk, parts, width)

    def rest(self) -> None:
        """Give back the sessions; the next chunk opens new ones."""
        self._sessions.close()
