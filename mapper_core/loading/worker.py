"""One worker: its sessions, and the paragraph that a chunk is.

Begin the target's transaction, claim the chunk, read, transform, write, record, commit. Whatever
goes wrong on the way, the transaction takes all of it back.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from .. import chunker
from ..batches import Batch, Piece
from ..errors import SnapshotLostError, StaleLoadError, TransferError
from ..ledger import ChunkIsFinished
from ..model import Chunk, ChunkKind, Plan, StrategyName
from ..passwords import in_full
from ..protocols import Reader, Transaction, Writer
from ..results import ChunkResult, ChunkStatus
from ..retry import first_line
from ..sink import Destination
from ..stopping import InUse, SessionT
from . import intake, rejects
from .work import Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a worker has open; what its load has no use for is None."""

    reader: Reader | None
    writer: Writer | None
    asker: Writer | None
    """Asks the ledger while the writer reads at a snapshot."""


class CrowdedOutError(Exception):
    """A worker found no connection, and leaves what there is to the others."""


class Worker:
    """Loads chunks one after the other.

    Sessions are opened when first needed, and anew after every failure.
    """

    def __init__(self, work: Work, number: int) -> None:
        self._work = work
        self._number = number
        self._sessions = ExitStack()
        self._opened: Sessions | None = None
        self._in_use = InUse()
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
        self._close()

    def cancel(self) -> None:
        """End the statement that is running, from another thread. The chunk comes to nothing."""
        self._in_use.cancel()

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
        work, begun, started_at = self._work, time.monotonic(), datetime.now(timezone.utc)
        self._attempts, self._last_error, self.commit_seconds = 0, None, None
        self.in_doubt = in_doubt
        self._upcoming = upcoming

        def attempt() -> ChunkResult:
            self._attempts += 1
            self._rows_read = None
            self._rejected = 0
            try:
                return self._attempt(chunk, piece, begun, started_at)
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
        except Exception as error:
            if self.in_doubt and (found := self._committed_after_all(chunk)):
                return self._signed(found, begun, started_at)
            if isinstance(error, SnapshotLostError | StaleLoadError):
                raise
            if work.stop.is_set() and not self.in_doubt:
                # Its statement was ended, and what it had done is rolled back.
                unstarted = ChunkResult(chunk_id=chunk.id, status=ChunkStatus.UNSTARTED)
                return self._signed(unstarted, begun, started_at)
            words = work.words(error)
            rows = piece.rows if piece else self._rows_read
            if rows is None and not self.in_doubt:
                rows = self._count(chunk)
            failed = work.failed(chunk, words, rows, in_doubt=self.in_doubt)
            what = "is in doubt" if failed.in_doubt else "failed"
            logger.error(  # noqa: TRY400 - traceback below
                "load %s: chunk %d %s: %s", work.plan.load_id, chunk.id, what, failed.error
            )
            logger.debug("the error in full: %s", in_full(error))
            return self._signed(failed, begun, started_at)

    def _attempt(
        self, chunk: Chunk, piece: Piece | None, begun: float, started_at: datetime
    ) -> ChunkResult:
        try:
            sessions = self._open()
            if sessions.writer is None:
                return self._signed(self._read_only(chunk, sessions), begun, started_at)
            # Inside one database the transaction that writes reads as well.
            snapshot = self._work.plan.snapshot if self._work.in_server else None
            try:
                with sessions.writer.begin(snapshot) as transaction:
                    result = self._load(chunk, piece, sessions, transaction)
                    result = self._signed(result, begun, started_at)
                    self._destination.ledger.finish(
                        transaction, self._work.plan, result, waits=not self._another_follows()
                    )
                    complete = time.monotonic()
                    self.in_doubt = True
                self.commit_seconds = time.monotonic() - complete
                return result
            except ChunkIsFinished:
                # By another process, or by an attempt of ours that got no answer to its COMMIT.
                return self._found_finished(chunk, sessions.writer, ours=self.in_doubt)
        except BaseException:
            if self._work.rejects:
                # Rolled back with the chunk; its next attempt counts them again.
                self._work.rejects.give_back(self._rejected)
            # Whatever state the sessions are in, the next attempt starts with new ones.
            self._close()
            raise

    def _another_follows(self) -> bool:
        """Whether this worker will commit another chunk, and that COMMIT waits for this one too.

        An adaptive load goes by the time that commits take: there each of them waits.
        """
        follows = self._upcoming is not None and self._upcoming() is not None
        return follows and not self._work.plan.adaptive

    def _load(
        self, chunk: Chunk, piece: Piece | None, sessions: Sessions, transaction: Transaction
    ) -> ChunkResult:
        """Claim, read, transform, write.

        The target hears of the end of the rows only after the source has said that it sent them
        all: a stream that was cut is never committed.
        """
        work, meter, rejected = self._work, intake.Meter(), 0
        self._destination.ledger.claim(transaction, work.plan, chunk, sessions.asker)
        self.in_doubt = False  # whatever was sent before, it did not commit
        if not work.in_server:
            rows = _Rows(work, chunk, piece, sessions.reader, self._upcoming)
            if piece is not None and not piece.rows:
                written = 0  # the mark of a stream, which has no rows of its own
            elif work.rejects is None:
                with closing(rows.read()) as batches:
                    written = intake.write(work, meter.over(batches), chunk, transaction)
            else:
                sieve = rejects.Sieve(work, chunk, transaction)
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
                self._destination.table,
                intake.target_names(work, work.plan.columns),
                staged_chunk=chunk.id if self._destination.staged else None,
            )
        if self._rows_read is None:
            raise TransferError("the source did not say that it sent all rows of the chunk")
        intake.check_taken(work, sent=self._rows_read - rejected, taken=written)
        return ChunkResult(
            chunk_id=chunk.id,
            status=ChunkStatus.SUCCEEDED,
            rows_read=self._rows_read,
            rows_written=written,
            rows_rejected=rejected,
            bytes=meter.bytes,
        )

    def _read_only(self, chunk: Chunk, sessions: Sessions) -> ChunkResult:
        """Read, and transform, a chunk of a load without target."""
        work, reader = self._work, sessions.reader
        assert reader is not None  # noqa: S101 - for the type checker
        rows = _Rows(work, chunk, None, reader, self._upcoming)
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
            found = self._claimed_by_an_attempt(chunk)
            self.in_doubt = False
            return found
        except Exception as error:  # noqa: BLE001 - the chunk's own error is the one to report
            logger.debug("chunk %d cannot be asked for: %s", chunk.id, first_line(error))
            return None
        finally:
            self._close()

    def _claimed_by_an_attempt(self, chunk: Chunk) -> ChunkResult | None:
        ledger, plan = self._destination.ledger, self._work.plan
        writer = self._open_writer()
        try:
            if not self._is_claimed(writer, chunk):
                return None
        except StaleLoadError:
            # Who has the load now has waited for our COMMIT, but may have loaded the chunk itself.
            with writer.begin() as transaction:
                found = ledger.finished(transaction, plan.load_id, plan.epoch).get(chunk.id)
            return found and self._ours(found)
        return self._found_finished(chunk, writer, ours=True)

    def _is_claimed(self, writer: Writer, chunk: Chunk) -> bool:
        """Whether a claim of the chunk has committed. Only claiming it tells: it is rolled back."""
        try:
            with writer.begin() as transaction:
                self._destination.ledger.claim(transaction, self._work.plan, chunk)
                raise _NotCommittedError
        except _NotCommittedError:
            return False
        except ChunkIsFinished:
            return True

    def _found_finished(self, chunk: Chunk, writer: Writer, *, ours: bool) -> ChunkResult:
        """Return what the ledger says of a chunk that it already holds.

        `ours` says that this call committed it, so that it counts as this call's work.
        """
        with writer.begin() as transaction:
            finished = self._destination.ledger.finished(transaction, self._work.plan.load_id)
        if (found := finished.get(chunk.id)) is None:
            # Another process has split it: it is nobody's to load any more.
            found = ChunkResult(chunk_id=chunk.id, status=ChunkStatus.SKIPPED, rows_read=0)
        elif ours:
            return self._ours(found)
        return replace(found, attempts=self._attempts)

    def _ours(self, found: ChunkResult) -> ChunkResult:
        if self._work.rejects:
            # Given back when its attempt seemed to have come to nothing.
            self._work.rejects.take_again(found.rows_rejected)
        return replace(found, status=ChunkStatus.SUCCEEDED, attempts=self._attempts)

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
            logger.warning("chunk %d could not be counted either: %s", chunk.id, words)
            return None

    def _signed(self, result: ChunkResult, begun: float, started_at: datetime) -> ChunkResult:
        return replace(
            result,
            attempts=self._attempts,
            duration=time.monotonic() - begun,
            started_at=started_at,
            worker=self._number,
            last_error=self._last_error,
        )

    @property
    def _destination(self) -> Destination:
        assert self._work.destination is not None  # noqa: S101 - for the type checker
        return self._work.destination

    def _open(self) -> Sessions:
        if self._opened is None:
            work, enter = self._work, self._enter
            in_server, streamed = work.in_server, work.plan.strategy is StrategyName.STREAM_ONCE
            reader = writer = asker = None
            if not in_server and not streamed:
                several = work.plan.workers > 1 or work.has_neighbours
                reader = enter(work.source.open_reader(work.plan.snapshot, one_of_several=several))
            if work.destination:
                writer = enter(work.destination.target.open_writer())
                if in_server:
                    asker = enter(work.destination.target.open_writer())
            self._opened = Sessions(reader, writer, asker)
        return self._opened

    def _open_writer(self) -> Writer:
        """Open a session of the target alone: there may be no reader at the snapshot any more."""
        writer = self._enter(self._destination.target.open_writer())
        self._opened = Sessions(None, writer, None)
        return writer

    def _enter(self, opening: AbstractContextManager[SessionT]) -> SessionT:
        """Open a session, in use until it is given back."""
        session = self._sessions.enter_context(opening)
        return self._sessions.enter_context(self._in_use.using(session))

    def split(self, chunk: Chunk, parts: int, width: int) -> tuple[Chunk, ...]:
        """Put parts in the place of a chunk that nobody has begun; return them, or just the chunk.

        Args:
            chunk: of a key, or of blocks.
            parts: how many there should be.
            width: blocks of another chunk, for one of blocks without an end.
        """
        try:
            return self._split(chunk, parts, width)
        except Exception as error:  # noqa: BLE001 - it is loaded as it is, and then says what is wrong
            logger.debug("chunk %d could not be split: %s", chunk.id, first_line(error))
            self._close()
            return (chunk,)

    def _split(self, chunk: Chunk, parts: int, width: int) -> tuple[Chunk, ...]:
        sessions, work = self._open(), self._work
        if chunk.kind is ChunkKind.BLOCKS:
            cuts = chunker.cuts_of_blocks(chunk, parts, width)
        elif sessions.reader is not None:
            cuts = sessions.reader.cuts_within(work.query, work.plan, chunk, parts)
        else:
            cuts = []
        if not cuts or sessions.writer is None:
            return (chunk,)
        made: tuple[Chunk, ...] = ()
        try:
            with sessions.writer.begin() as transaction:
                made = self._destination.ledger.split(transaction, work.plan, chunk, cuts)
        except Exception:
            # With parts in hand it was the COMMIT that failed, or the reply to it.
            if not made or not self._split_after_all(chunk, made):
                raise
        logger.info(
            "load %s: chunk %d, which lagged behind, was split into %d",
            work.plan.load_id,
            chunk.id,
            len(made),
        )
        return made

    def _split_after_all(self, chunk: Chunk, parts: Sequence[Chunk]) -> bool:
        """Whether the ledger has the parts: asked as often as it takes, or they would be lost."""
        work, ledger = self._work, self._destination.ledger

        def look() -> bool:
            try:
                writer = self._open_writer()
                if not self._is_claimed(writer, chunk):
                    return False
                with writer.begin() as transaction:
                    record = ledger.find(transaction, work.plan.load_id)
            finally:
                self._close()
            # Another process may have split one of them already.
            return record is not None and not set(parts).isdisjoint(record.plan.chunks)

        self._close()
        return work.retry.execute_with_retry(
            look,
            is_transient=work.is_transient,
            stop=work.stop,
            name=f"load {work.plan.load_id}, splitting of chunk {chunk.id}",
        )

    def rest(self) -> None:
        """Give back the sessions; the next chunk opens new ones."""
        self._close()

    def _close(self) -> None:
        self._opened = None
        try:
            self._sessions.close()
        except Exception as error:  # noqa: BLE001 - it is being thrown away; what went wrong is already known
            logger.warning("a session did not close cleanly: %s", first_line(error))


@dataclass(frozen=True, slots=True)
class _Rows:
    """A chunk's rows, from a session of the source or from memory."""

    work: Work
    chunk: Chunk
    piece: Piece | None
    reader: Reader | None
    upcoming: Callable[[], Chunk | None] | None

    def read(self) -> Generator[Batch, None, None]:
        """Read them as they come; then let the source begin with the next chunk."""
        if self.reader is None:
            assert self.piece is not None  # noqa: S101 - rows come from one or the other
            yield from self.piece.batches
            return
        query, plan = self.work.query, self.work.plan
        with closing(self.reader.read(query, plan, self.chunk)) as batches:
            yield from batches
        if self.upcoming and (chunk := self.upcoming()):
            self.reader.read_ahead(query, plan, chunk)

    def again(self, plan: Plan) -> Iterable[Piece]:
        """Read them once more, in pieces small enough to be tried again and again."""
        if self.reader is None:
            assert self.piece is not None  # noqa: S101 - rows come from one or the other
            return [self.piece]
        size = {"rows": rejects.PIECE_ROWS, "size": rejects.PIECE_BYTES}
        return self.reader.pieces(self.work.query, plan, self.chunk, **size)

    @property
    def read_in_all(self) -> int | None:
        """How many there are, once they have been read to the end."""
        if self.piece is not None:
            return self.piece.rows
        return None if self.reader is None else self.reader.rows_read


class _NotCommittedError(Exception):
    """Rolls back a claim that was made only to learn whether the chunk is finished."""
