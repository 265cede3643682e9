"""One worker: a pair of sessions, and the paragraph that a chunk is.

Begin the target's transaction, claim the chunk, read, transform, write, record, commit. Whatever
goes wrong on the way, the transaction takes all of it back.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import chain
from threading import Event
from typing import cast

from . import transform as transforms
from .errors import SnapshotLostError, StaleLoadError, TransferError, TransformError
from .ledger import ChunkIsFinished, Ledger
from .model import (
    Chunk,
    ChunkKind,
    ChunkResult,
    ChunkStatus,
    Column,
    DataPath,
    Mapping,
    Plan,
    Row,
)
from .planner import match_columns
from .protocols import Batch, Reader, Source, Target, Transaction, Writer
from .query import Query
from .retry import RetryHandler, first_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where rows are written: the target itself, or its stage."""

    target: Target
    ledger: Ledger
    table: tuple[str, ...]
    columns: tuple[Column, ...]
    """The target's columns."""
    staged: bool


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers of one call share; nothing in it changes."""

    plan: Plan
    mapping: Mapping
    query: Query
    source: Source
    destination: Destination | None
    retry: RetryHandler
    stop: Event

    def is_transient(self, error: BaseException) -> bool:
        """Ask the databases whether trying again may help."""
        target = self.destination.target if self.destination else None
        return self.source.is_transient(error) or (
            target is not None and target.is_transient(error)
        )

    def words(self, error: BaseException) -> str:
        """Return what happened, in the words of the database where it was one."""
        explain = [self.source.explain]
        if self.destination:
            explain.append(self.destination.target.explain)
        said = next((words for ask in explain if (words := ask(error))), None)
        return f"{type(error).__name__}: {said}" if said else first_line(error)


class Worker:
    """Loads chunks one after the other.

    Sessions are opened when first needed, and anew after every failure.
    """

    def __init__(self, work: Work, number: int) -> None:
        self._work = work
        self._number = number
        self._sessions = ExitStack()
        self._pair: tuple[Reader, Writer | None] | None = None
        self._attempts = 0
        self._rows_read: int | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def load(self, chunk: Chunk) -> ChunkResult:
        """Load a chunk, again after transient errors. A permanent failure is its result.

        Raises:
            SnapshotLostError: this worker cannot read at the load's snapshot any more.
            StaleLoadError: another run has taken the load over.
        """
        work, begun, started_at = self._work, time.monotonic(), datetime.now(timezone.utc)
        self._attempts = 0

        def attempt() -> ChunkResult:
            self._attempts += 1
            self._rows_read = None
            return self._attempt(chunk, begun, started_at)

        try:
            return work.retry.execute_with_retry(
                attempt,
                is_transient=work.is_transient,
                stop=work.stop,
                name=f"load {work.plan.load_id}, chunk {chunk.id}",
            )
        except (SnapshotLostError, StaleLoadError):
            raise
        except Exception as error:
            if work.is_transient(error) and (found := self._committed_after_all(chunk)):
                return self._signed(found, begun, started_at)
            words = work.words(error)
            logger.error("load %s: chunk %d failed: %s", work.plan.load_id, chunk.id, words)  # noqa: TRY400 - traceback below
            logger.debug("the error in full", exc_info=True)
            failed = ChunkResult(
                chunk_id=chunk.id,
                status=ChunkStatus.FAILED,
                rows_read=self._rows_read,
                error=words,
            )
            if failed.rows_read is None:
                failed = replace(failed, rows_read=self._count(chunk))
            return self._signed(failed, begun, started_at)

    def _attempt(self, chunk: Chunk, begun: float, started_at: datetime) -> ChunkResult:
        try:
            reader, writer = self._open()
            if writer is None:
                return self._signed(self._read_only(chunk, reader), begun, started_at)
            try:
                with writer.begin() as transaction:
                    result = self._load(chunk, reader, transaction)
                    result = self._signed(result, begun, started_at)
                    self._destination.ledger.finish(transaction, self._work.plan, result)
                return result
            except ChunkIsFinished:
                # By another process, or by an attempt of ours that got no answer to its COMMIT.
                return self._found_finished(chunk, ours=self._attempts > 1)
        except BaseException:
            # Whatever state the sessions are in, the next attempt starts with new ones.
            self._close()
            raise

    def _load(self, chunk: Chunk, reader: Reader, transaction: Transaction) -> ChunkResult:
        """Claim, read, transform, write.

        The target hears of the end of the rows only after the source has said that it sent them
        all: a stream that was cut is never committed.
        """
        work = self._work
        self._destination.ledger.claim(transaction, work.plan, chunk)
        meter = _Meter()
        with closing(reader.read(work.query, work.plan, chunk)) as batches:
            written = self._write(meter.over(batches), chunk, transaction)
        self._rows_read = reader.rows_read
        if reader.rows_read is None:
            raise TransferError("the source did not say that it sent all rows of the chunk")
        if work.mapping.transform is None and written != reader.rows_read:
            msg = _TOOK.format(sent="the source sent", rows=reader.rows_read, took=written)
            raise TransferError(msg)
        return ChunkResult(
            chunk_id=chunk.id,
            status=ChunkStatus.SUCCEEDED,
            rows_read=reader.rows_read,
            rows_written=written,
            bytes=meter.bytes,
        )

    def _write(self, batches: Iterable[Batch], chunk: Chunk, transaction: Transaction) -> int:
        work, destination = self._work, self._destination
        staged_chunk = chunk.id if destination.staged else None
        if work.mapping.transform is None:
            names = _target_names(work.plan.columns, destination, work.mapping)
            path = work.plan.data_path
        else:
            # A transform may filter whole groups away; those after them are written all the same.
            groups = (rows for rows in self._transformed(batches, chunk) if rows)
            first = next(groups, None)
            if first is None:
                return 0
            columns = transforms.names_in(first)
            if not columns:
                raise TransformError("transformation_func returned rows without a single key")
            names = _target_names([Column(name) for name in columns], destination, work.mapping)
            handed = _Meter()
            batches = handed.over(
                transforms.as_rows(rows, columns) for rows in chain([first], groups)
            )
            path = DataPath.ROWS
        written = transaction.write(
            batches,
            destination.table,
            names,
            path,
            staged_chunk=staged_chunk,
            json_is_text=work.source.json_is_text,
        )
        if work.mapping.transform is not None and written != handed.rows:
            raise TransferError(
                _TOOK.format(sent="the transform gave", rows=handed.rows, took=written)
            )
        return written

    def _read_only(self, chunk: Chunk, reader: Reader) -> ChunkResult:
        """Read, and transform, a chunk of a load without target."""
        work = self._work
        with closing(reader.read(work.query, work.plan, chunk)) as batches:
            if work.mapping.transform is None:
                for _ in batches:
                    """Only the count matters."""
            else:
                for _ in self._transformed(batches, chunk):
                    """The transform has done its work."""
        return ChunkResult(
            chunk_id=chunk.id, status=ChunkStatus.SUCCEEDED, rows_read=reader.rows_read
        )

    def _transformed(
        self, batches: Iterable[Batch], chunk: Chunk
    ) -> Iterator[list[dict[str, object]]]:
        work = self._work
        assert work.mapping.transform is not None  # noqa: S101 - for the type checker
        return transforms.transformed(
            cast(Iterable[list[Row]], batches),
            [column.name for column in work.plan.columns],
            work.mapping.transform,
            scope=work.mapping.transform_scope,
            # A query in one pass is one chunk of any size; its transform still sees few rows.
            group_rows=work.plan.chunk_size if chunk.kind is ChunkKind.ALL else None,
        )

    def _committed_after_all(self, chunk: Chunk) -> ChunkResult | None:
        """Return the chunk's result if its last attempt committed without our hearing of it.

        Only claiming the chunk tells; what is claimed here is rolled back.
        """
        if self._work.destination is None:
            return None
        try:
            return self._claimed_by_its_last_attempt(chunk)
        except Exception as error:  # noqa: BLE001 - the chunk's own error is the one to report
            logger.debug("chunk %d did not commit, or cannot be asked: %r", chunk.id, error)
            return None
        finally:
            self._close()

    def _claimed_by_its_last_attempt(self, chunk: Chunk) -> ChunkResult:
        _, writer = self._open()
        assert writer is not None  # noqa: S101 - for the type checker
        try:
            with writer.begin() as transaction:
                self._destination.ledger.claim(transaction, self._work.plan, chunk)
                raise _NotCommittedError
        except ChunkIsFinished:
            return self._found_finished(chunk, ours=True)

    def _found_finished(self, chunk: Chunk, *, ours: bool) -> ChunkResult:
        """Return what the ledger says of a chunk that it already holds.

        `ours` says that this call committed it, so that it counts as this call's work.
        """
        reader, writer = self._open()
        del reader
        assert writer is not None  # noqa: S101 - for the type checker
        with writer.begin() as transaction:
            found = self._destination.ledger.finished(transaction, self._work.plan.load_id)
        result = found[chunk.id]
        return replace(
            result,
            status=ChunkStatus.SUCCEEDED if ours else ChunkStatus.SKIPPED,
            attempts=self._attempts,
        )

    def _count(self, chunk: Chunk) -> int | None:
        """Count a failed chunk's rows at the load's read point; None when that is gone too."""
        work = self._work
        if work.plan.snapshot.id is None:
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
        )

    @property
    def _destination(self) -> Destination:
        assert self._work.destination is not None  # noqa: S101 - for the type checker
        return self._work.destination

    def _open(self) -> tuple[Reader, Writer | None]:
        if self._pair is None:
            work = self._work
            reader = self._sessions.enter_context(work.source.open_reader(work.plan.snapshot))
            writer = None
            if work.destination:
                writer = self._sessions.enter_context(work.destination.target.open_writer())
            self._pair = reader, writer
        return self._pair

    def _close(self) -> None:
        self._pair = None
        try:
            self._sessions.close()
        except Exception as error:  # noqa: BLE001 - it is being thrown away; what went wrong is already known
            logger.warning("a session did not close cleanly: %s", first_line(error))


class _NotCommittedError(Exception):
    """Rolls back a claim that was made only to learn whether the chunk is finished."""


_TOOK = (
    "{sent} {rows} rows and the target took {took}: a trigger or rule on the target table drops or"
    " adds rows; disable it for the load"
)


class _Meter:
    """Adds up what passes: the bytes of COPY blocks, or the number of rows."""

    def __init__(self) -> None:
        self.bytes = 0
        self.rows = 0

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if isinstance(batch, bytes):
                self.bytes += len(batch)
            else:
                self.rows += len(batch)
            yield batch


def _target_names(
    columns: Iterable[Column], destination: Destination, mapping: Mapping
) -> list[str]:
    pairs = match_columns(list(columns), destination.columns, mapping.target_name)
    return [theirs.name for _, theirs in pairs]
