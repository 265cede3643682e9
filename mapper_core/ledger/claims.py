"""Finished chunks: each claimed before its rows and marked done after them, in one transaction."""

import json
from collections.abc import Mapping as Dict
from collections.abc import Sequence

from ..errors import StaleLoadError, TransformError
from ..model import Chunk, Plan
from ..protocols import Transaction, Writer
from ..results import ChunkResult, ChunkStatus, Reject
from .stored import instant
from .tables import Tables, lock_name


class ChunkIsFinished(Exception):  # noqa: N818 - an answer, not an error
    """The ledger already holds the chunk: roll back, there is nothing to do."""


class Claims(Tables):
    """The ledger's side of those who load chunks, and what they have left there."""

    def claim(
        self, transaction: Transaction, plan: Plan, chunk: Chunk, asker: Writer | None = None
    ) -> None:
        """Claim a chunk for this transaction, before its rows.

        Waits while another transaction holds the claim. A transaction that reads at a snapshot
        does not see the load as it is now: an `asker` on another connection does, while a lock
        that knows no snapshot keeps the load as it is.

        Raises:
            ChunkIsFinished: the other one committed, or an attempt whose COMMIT got no reply did.
            StaleLoadError: the load has been taken over or published since the plan.
        """
        if asker is None:
            # Held and claimed in one: what goes back and forth is most of what a chunk costs.
            rows = (
                f"select load_id, :chunk_id, epoch, 0 from {self._load} where load_id = :load_id"
                f" and epoch = :epoch and status = 'loading' {self._facts.share_lock}"
            )
        else:
            transaction.lock_shared(lock_name(plan.load_id))
            with asker.begin() as asking:
                _check_current(plan, *self._hold(asking, plan.load_id, ""))
            rows = "values (:load_id, :chunk_id, :epoch, 0)"
        try:
            claimed = transaction.change(
                f"insert into {self._claim} (load_id, chunk_id, epoch, done) {rows}",
                {"load_id": plan.load_id, "chunk_id": chunk.id, "epoch": plan.epoch},
            )
        except Exception as error:
            if self._target.is_duplicate(error):
                raise ChunkIsFinished from None
            raise
        if not claimed:
            raise _stale(plan, self._hold(transaction, plan.load_id, "")[1])

    @property
    def commits_asynchronously(self) -> bool:
        """Whether a chunk that is finished may be taken back by a crash of the server."""
        return bool(self._facts.asynchronous_commit)

    def finish(
        self, transaction: Transaction, plan: Plan, result: ChunkResult, *, waits: bool = True
    ) -> None:
        """Mark the claimed chunk done, in the transaction that wrote its rows.

        Unless it `waits`, its COMMIT may return before it is on disk.

        Raises StaleLoadError when the load has been taken over or published meanwhile; where many
        can hold a load at once, that cannot be.
        """
        if self._facts.looks_again:
            _check_current(plan, *self._hold(transaction, plan.load_id, self._facts.update_lock))
        # Nothing is to be done between this and the commit, which goes in the same message.
        transaction.execute_later(
            f"update {self._claim} set done = 1, rows_read = :rows_read, bytes = :bytes,"
            " rows_written = :rows_written, rows_rejected = :rows_rejected, attempts = :attempts,"
            " seconds = :seconds, worker = :worker, started_at = :started_at,"
            f" finished_at = {self._facts.now}"
            # By its epoch: a snapshot may still show the claim of a reading begun anew since.
            " where load_id = :load_id and chunk_id = :chunk_id and epoch = :epoch",
            {
                "load_id": plan.load_id,
                "chunk_id": result.chunk_id,
                "epoch": plan.epoch,
                "rows_read": result.rows_read,
                "rows_written": result.rows_written,
                "rows_rejected": result.rows_rejected,
                "bytes": result.bytes,
                "attempts": result.attempts,
                "seconds": result.duration,
                "worker": result.worker,
                "started_at": result.started_at,
            },
        )
        if not waits and self.commits_asynchronously:
            transaction.execute_later(self._facts.asynchronous_commit)

    def touch(self, transaction: Transaction, load_id: str, chunk_id: int) -> None:
        """Write the claim of a finished chunk as it is; nothing where it is gone.

        Only a transaction that has written something waits for the disk when it commits.
        """
        transaction.execute(
            f"update {self._claim} set done = done"
            " where load_id = :load_id and chunk_id = :chunk_id",
            {"load_id": load_id, "chunk_id": chunk_id},
        )

    def finished(
        self, transaction: Transaction, load_id: str, epoch: int | None = None
    ) -> dict[int, ChunkResult]:
        """Return the finished chunks of a load by their id, as skipped results.

        With an `epoch` only those that were finished in it.
        """
        of_epoch = {} if epoch is None else {"epoch": epoch}
        rows = transaction.execute(
            "select chunk_id, rows_read, rows_written, bytes, attempts, seconds, worker,"
            f" started_at, finished_at, rows_rejected from {self._claim}"
            f" where load_id = :load_id and done = 1{' and epoch = :epoch' if of_epoch else ''}",
            {"load_id": load_id, **of_epoch},
        )
        return {
            row[0]: ChunkResult(
                chunk_id=row[0],
                status=ChunkStatus.SKIPPED,
                rows_read=row[1],
                rows_written=row[2],
                bytes=row[3] or 0,
                attempts=row[4] or 0,
                duration=row[5] or 0.0,
                worker=row[6] or 0,
                started_at=None if row[7] is None else instant(row[7]),
                finished_at=None if row[8] is None else instant(row[8]),
                rows_rejected=row[9] or 0,
            )
            for row in rows
        }

    def rows_written(self, transaction: Transaction, load_id: str) -> int:
        """Return how many rows the finished chunks of a load have written."""
        counted = transaction.execute(
            f"select coalesce(sum(rows_written), 0) from {self._claim}"
            " where load_id = :load_id and done = 1",
            {"load_id": load_id},
        )
        return int(counted[0][0])

    def reject(self, transaction: Transaction, rejected: Reject) -> None:
        """Keep a refused row, in the transaction that leaves it out of its chunk."""
        # Not later: an error of its own would be laid to the rows that are written next.
        transaction.execute(
            f"insert into {self._reject} (load_id, chunk_id, source_row, error, code, rejected_at)"
            f" values (:load_id, :chunk_id, :source_row, :error, :code, {self._facts.now})",
            {
                "load_id": rejected.load_id,
                "chunk_id": rejected.chunk_id,
                # What JSON has no word for is kept as Python prints it.
                "source_row": json.dumps(rejected.row, default=str),
                "error": rejected.error,
                "code": rejected.code,
            },
        )

    def note_columns(
        self, transaction: Transaction, plan: Plan, chunk: Chunk, names: Sequence[str]
    ) -> None:
        """Note which columns a claimed chunk writes, where only its function knows.

        Raises TransformError when the chunk has written others already.
        """
        of_chunk = {"load_id": plan.load_id, "chunk_id": chunk.id}
        where = "where load_id = :load_id and chunk_id = :chunk_id"
        noted = transaction.change(
            f"update {self._claim} set written_columns = :names {where}"
            " and written_columns is null",
            {**of_chunk, "names": json.dumps(list(names))},
        )
        if noted:
            return
        # Rows of a chunk are written in several goes only to set refused ones apart.
        found = transaction.execute(f"select written_columns from {self._claim} {where}", of_chunk)
        before = json.loads(found[0][0])
        if before != list(names):
            msg = (
                f"the function returned the columns {', '.join(names)} for some rows of a chunk"
                f" and {', '.join(before)} for others: return the same ones throughout"
            )
            raise TransformError(msg)

    def noted_columns(
        self, transaction: Transaction, load_id: str
    ) -> dict[tuple[str, ...], list[int]]:
        """Return the sets of columns that a load's chunks have noted, with the chunks of each."""
        found: dict[tuple[str, ...], list[int]] = {}
        for number, names in transaction.execute(
            f"select chunk_id, written_columns from {self._claim}"
            " where load_id = :load_id and done = 1 order by chunk_id",
            {"load_id": load_id},
        ):
            if names is not None:
                found.setdefault(tuple(json.loads(names)), []).append(number)
        return found

    def note_checksums(
        self, transaction: Transaction, plan: Plan, checksums: Dict[int, int]
    ) -> None:
        """Keep the source's checksum with each chunk that was finished under the plan's epoch."""
        transaction.execute_many(
            f"update {self._claim} set checksum = :checksum"
            " where load_id = :load_id and chunk_id = :chunk_id and epoch = :epoch",
            [
                {
                    "load_id": plan.load_id,
                    "chunk_id": chunk_id,
                    "epoch": plan.epoch,
                    "checksum": str(checksum),
                }
                for chunk_id, checksum in checksums.items()
            ],
        )


def _check_current(plan: Plan, epoch: int, status: str) -> None:
    if epoch != plan.epoch or status != "loading":
        raise _stale(plan, status)


def _stale(plan: Plan, status: str) -> StaleLoadError:
    done = "published" if status == "published" else "taken over"
    return StaleLoadError(
        f"load {plan.load_id} was {done} by another run; this run's chunk was rolled back"
    )
