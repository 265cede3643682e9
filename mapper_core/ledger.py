"""The durable record of loads: what was planned, and the set of chunks that are finished.

It lives in the target database, because only there can a chunk's rows and its ledger row commit
together. Three tables: `load` (one row a load, with its epoch), `chunk` (the plan) and `claim` (one
row a finished chunk, inserted before the chunk's rows and committed with them). The unique key of
`claim` is what makes a chunk exactly-once: a second writer waits for the first, and then either
finds the chunk finished or writes it.
"""

import json
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from . import chunker, ledger_tables
from .errors import IncompleteLoadError, LedgerError, StaleLoadError, TransformError
from .model import (
    Chunk,
    ChunkKind,
    Mapping,
    Plan,
    Snapshot,
)
from .protocols import Target, Transaction, Writer
from .results import ChunkResult, ChunkStatus, Reject
from .stored import SPLIT_TEXT, chunk_text, instant, plan_from, plan_text, query_hash, snapshot_from

# What `claim.done` says of a chunk that was split: nothing of it is to be done, nor was it loaded.
_SPLIT = 2

# Missing chunks that an error lists by number.
_NAMED = 10


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """What the ledger knows about a load."""

    load_id: str
    epoch: int
    published: bool
    query_hash: str
    plan: Plan
    created_at: datetime
    verified: str
    """What was compared before publishing, or why nothing was; of an unpublished load, what
    differed."""


@dataclass(frozen=True, slots=True)
class LoadState:
    """How far a load has come."""

    published: bool
    snapshot: Snapshot
    finished: int
    """Chunks that the ledger holds."""


class ChunkIsFinished(Exception):  # noqa: N818 - an answer, not an error
    """The ledger already holds the chunk: roll back, there is nothing to do."""


class Ledger:
    """The ledger of one target database."""

    def __init__(self, target: Target, schema: str) -> None:
        self._target = target
        self._schema = schema
        self._facts = target.ledger_dialect
        self.names = {
            name: target.quote(*self.table(name))
            for name in ("load", "chunk", "claim", "version", "reject")
        }
        self._load, self._chunk, self._claim, self._version, self._reject = self.names.values()

    def table(self, name: str) -> tuple[str, ...]:
        """Return the parts of the name of a table that belongs to the ledger."""
        if self._target.has_schemas:
            return (self._schema, name)
        return (f"{self._schema}_{name}",)

    def prepare(self, transaction: Transaction) -> None:
        """Create the ledger's tables where they are missing.

        Raises LedgerError when they are of another version than this code writes.
        """
        found = self._found_version(transaction)
        if found is None:
            # Two first loads at once must not both create them.
            transaction.lock(f"ledger {self._schema}")
            if self._target.has_schemas:
                transaction.create_schema(self._schema)
            ledger_tables.create(transaction, self.table, self._facts)
            found = self._found_version(transaction)
            if found is None:
                found = ledger_tables.VERSION
                transaction.execute(
                    f"insert into {self._version} (version) values (:version)",
                    {"version": found},
                )
        self._check_version(found)

    def is_there(self, transaction: Transaction) -> bool:
        """Whether there is a ledger; makes none. Raises LedgerError as `prepare` does."""
        found = self._found_version(transaction)
        if found is not None:
            self._check_version(found)
        return found is not None

    def _found_version(self, transaction: Transaction) -> int | None:
        """Return the version of the ledger; None where there is none, or one half made.

        The row that says it comes last: where a definition commits, tables may be there without it.
        """
        if not transaction.columns(self.table("version")):
            return None
        found: int | None = transaction.execute(f"select max(version) from {self._version}")[0][0]
        return found

    def _check_version(self, found: int) -> None:
        if found != ledger_tables.VERSION:
            msg = (
                f"the ledger in schema {self._schema!r} has version {found}, this release of mapper"
                f" writes version {ledger_tables.VERSION}: use the release that made it, or set"
                " MAPPER_LEDGER_SCHEMA to start another ledger"
            )
            raise LedgerError(msg)

    def find(self, transaction: Transaction, load_id: str) -> LoadRecord | None:
        """Return the load with its plan, or None."""
        rows = transaction.execute(
            f"select epoch, status, query_hash, plan, created_at, verified from {self._load}"
            " where load_id = :load_id",
            {"load_id": load_id},
        )
        if not rows:
            return None
        epoch, status, query_hash, plan, created_at, verified = rows[0]
        chunks = transaction.execute(
            f"select chunk_id, bounds from {self._chunk} where load_id = :load_id"
            " order by chunk_id",
            {"load_id": load_id},
        )
        return LoadRecord(
            load_id,
            epoch,
            status == "published",
            query_hash,
            plan_from(load_id, epoch, plan, chunks),
            instant(created_at),
            verified or "",
        )

    def state(self, transaction: Transaction, load_id: str) -> LoadState | None:
        """Return how far a load has come, without its chunks, for who looks often; or None."""
        rows = transaction.execute(
            f"select status, plan, (select count(*) from {self._claim} c"
            f" where c.load_id = l.load_id and c.done = 1) from {self._load} l"
            " where load_id = :load_id",
            {"load_id": load_id},
        )
        if not rows:
            return None
        status, plan, finished = rows[0]
        return LoadState(status == "published", snapshot_from(plan), finished)

    def group(self, transaction: Transaction, load_group: str) -> list[tuple[str, bool]]:
        """Return the loads of a group, newest first, each with whether it is published."""
        rows = transaction.execute(
            f"select load_id, status from {self._load} where load_group = :load_group"
            " order by generation desc",
            {"load_group": load_group},
        )
        return [(load_id, status == "published") for load_id, status in rows]

    def is_active(self, transaction: Transaction, load_id: str) -> bool:
        """Whether a transaction is writing a chunk of the load right now."""
        free = transaction.execute(
            f"select 1 from {self._load} where load_id = :load_id {self._facts.skip_locked}",
            {"load_id": load_id},
        )
        # A chunk inside one database holds the load by a lock that knows no snapshot.
        return not free or not transaction.try_lock(_lock_name(load_id))

    def store(
        self,
        transaction: Transaction,
        plan: Plan,
        mapping: Mapping,
        load_group: str | None,
    ) -> None:
        """Store a new load and its plan, in one transaction."""
        transaction.execute(
            f"insert into {self._load} (load_id, load_group, generation, epoch, status, target,"
            " query_hash, plan, created_at) values (:load_id, :load_group,"
            f" (select count(*) from {self._load} where load_group = :counted_group),"
            f" :epoch, 'loading', :target, :query_hash, :plan, {self._facts.now})",
            {
                "load_id": plan.load_id,
                "load_group": load_group,
                "counted_group": load_group,
                "epoch": plan.epoch,
                "target": mapping.target_name,
                "query_hash": query_hash(mapping),
                "plan": plan_text(plan),
            },
        )
        self._store_chunks(transaction, plan.load_id, plan.chunks)

    def _store_chunks(
        self, transaction: Transaction, load_id: str, chunks: Sequence[Chunk]
    ) -> None:
        for chunk in chunks:
            transaction.execute(
                f"insert into {self._chunk} (load_id, chunk_id, bounds)"
                " values (:load_id, :chunk_id, :bounds)",
                {"load_id": load_id, "chunk_id": chunk.id, "bounds": chunk_text(chunk)},
            )

    def add_chunk(self, transaction: Transaction, load_id: str, kind: ChunkKind) -> Chunk:
        """Add a chunk without bounds after all others of a load; return it."""
        chunk = Chunk(self._last_chunk(transaction, load_id) + 1, kind)
        self._store_chunks(transaction, load_id, [chunk])
        return chunk

    def _last_chunk(self, transaction: Transaction, load_id: str) -> int:
        found = transaction.execute(
            f"select max(chunk_id) from {self._chunk} where load_id = :load_id",
            {"load_id": load_id},
        )
        return int(found[0][0])

    def take_over(self, transaction: Transaction, load_id: str) -> int | None:
        """Raise the epoch of an unfinished load and return it; finished chunks stay finished.

        Waits for transactions that still write chunks of it; what others of it begin later is
        refused, so that a run at an older read point adds nothing unseen. None when the load has
        been published meanwhile.
        """
        epoch, status = self._hold_alone(transaction, load_id)
        if status == "published":
            return None
        transaction.execute(
            f"update {self._load} set epoch = :epoch, verified = null where load_id = :load_id",
            {"load_id": load_id, "epoch": epoch + 1},
        )
        return epoch + 1

    def begin_anew(self, transaction: Transaction, plan: Plan, reading: str) -> Plan:
        """Drop the claims of a load whose rows are read again; return the plan under a new epoch.

        Waits for transactions that still write rows of it. Twice for one `reading` is safe: the
        reply to the first COMMIT may have been lost.

        Raises StaleLoadError when another run has taken the load over.
        """
        epoch, status = self._hold_alone(transaction, plan.load_id)
        begun = replace(plan, epoch=plan.epoch + 1, reading=reading)
        if (epoch, status) == (begun.epoch, "loading") and self._reading(
            transaction, plan
        ) == reading:
            return begun
        if (epoch, status) != (plan.epoch, "loading"):
            msg = f"load {plan.load_id} was taken over by another run; this one stops"
            raise StaleLoadError(msg)
        transaction.execute(
            f"update {self._load} set epoch = :epoch, plan = :plan where load_id = :load_id",
            {"load_id": plan.load_id, "epoch": begun.epoch, "plan": plan_text(begun)},
        )
        self.forget_chunks(transaction, plan.load_id)
        return begun

    def _reading(self, transaction: Transaction, plan: Plan) -> str:
        stored = transaction.execute(
            f"select plan from {self._load} where load_id = :load_id", {"load_id": plan.load_id}
        )
        return plan_from(plan.load_id, 0, stored[0][0], ()).reading

    def forget_chunks(self, transaction: Transaction, load_id: str) -> None:
        """Drop the claims of a load that begins anew."""
        transaction.execute(
            f"delete from {self._claim} where load_id = :load_id", {"load_id": load_id}
        )
        transaction.execute(
            f"delete from {self._reject} where load_id = :load_id", {"load_id": load_id}
        )

    def note(self, transaction: Transaction, plan: Plan) -> None:
        """Note the plan, with its read point, at which a load goes on."""
        transaction.execute(
            f"update {self._load} set plan = :plan where load_id = :load_id",
            {"load_id": plan.load_id, "plan": plan_text(plan)},
        )

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
            transaction.lock_shared(_lock_name(plan.load_id))
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
        transaction.execute(
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
            transaction.execute(self._facts.asynchronous_commit)

    def touch(self, transaction: Transaction, load_id: str, chunk_id: int) -> None:
        """Write the claim of a finished chunk as it is; nothing where it is gone.

        Only a transaction that has written something waits for the disk when it commits.
        """
        transaction.execute(
            f"update {self._claim} set done = done"
            " where load_id = :load_id and chunk_id = :chunk_id",
            {"load_id": load_id, "chunk_id": chunk_id},
        )

    def split(
        self, transaction: Transaction, plan: Plan, chunk: Chunk, cuts: Sequence[tuple[str, ...]]
    ) -> tuple[Chunk, ...]:
        """Put parts of a chunk that nobody has begun in its place; return them.

        The chunk's own claim goes with it, so that whoever still has the old plan cannot load it.
        Raises as `claim` does.
        """
        self.claim(transaction, plan, chunk)
        # Only one at a time counts: the load's own row is shared by those who load chunks.
        transaction.lock(f"split {plan.load_id}")
        named = {"load_id": plan.load_id}
        last = self._last_chunk(transaction, plan.load_id)
        parts = chunker.split(chunk, cuts, last + 1, weights=len(cuts) + 1)
        self._store_chunks(transaction, plan.load_id, parts)
        of_chunk = {**named, "chunk_id": chunk.id}
        transaction.execute(
            f"update {self._chunk} set bounds = :bounds"
            " where load_id = :load_id and chunk_id = :chunk_id",
            {**of_chunk, "bounds": chunk_text(replace(chunk, kind=ChunkKind.SPLIT))},
        )
        transaction.execute(
            f"update {self._claim} set done = {_SPLIT}"
            " where load_id = :load_id and chunk_id = :chunk_id",
            of_chunk,
        )
        return parts

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

    def reject(self, transaction: Transaction, rejected: Reject) -> None:
        """Keep a refused row, in the transaction that leaves it out of its chunk."""
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
        noted = transaction.execute(f"select written_columns from {self._claim} {where}", of_chunk)
        if noted and noted[0][0] is not None:
            before = json.loads(noted[0][0])
            if before != list(names):
                msg = (
                    f"the function returned the columns {', '.join(names)} for some rows of a chunk"
                    f" and {', '.join(before)} for others: return the same ones throughout"
                )
                raise TransformError(msg)
            return
        transaction.execute(
            f"update {self._claim} set written_columns = :names {where}",
            {**of_chunk, "names": json.dumps(list(names))},
        )

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

    def rows_written(self, transaction: Transaction, load_id: str) -> int:
        """Return how many rows the finished chunks of a load have written."""
        counted = transaction.execute(
            f"select coalesce(sum(rows_written), 0) from {self._claim}"
            " where load_id = :load_id and done = 1",
            {"load_id": load_id},
        )
        return int(counted[0][0])

    def note_checksums(
        self, transaction: Transaction, plan: Plan, checksums: Dict[int, int]
    ) -> None:
        """Keep the source's checksum with each chunk that was finished under the plan's epoch."""
        for chunk_id, checksum in checksums.items():
            transaction.execute(
                f"update {self._claim} set checksum = :checksum"
                " where load_id = :load_id and chunk_id = :chunk_id and epoch = :epoch",
                {
                    "load_id": plan.load_id,
                    "chunk_id": chunk_id,
                    "epoch": plan.epoch,
                    "checksum": str(checksum),
                },
            )

    def note_verified(
        self, transaction: Transaction, plan: Plan, words: str, *, published: bool
    ) -> None:
        """Note what was compared: when publishing the load, or when it could not be published."""
        transaction.execute(
            f"update {self._load} set verified = :words"
            " where load_id = :load_id and epoch = :epoch",
            {
                "load_id": plan.load_id,
                "words": words,
                "epoch": plan.epoch + published,
            },
        )

    def seal(self, transaction: Transaction, plan: Plan) -> bool:
        """Mark the load published under a new epoch, in the transaction that publishes it.

        Returns whether there is something to publish: False when the load was published from this
        very plan already, say by a COMMIT whose reply was lost.

        Raises:
            IncompleteLoadError: a planned chunk is not finished; nothing may be published.
            StaleLoadError: another run has taken the load over.
        """
        epoch, status = self._hold_alone(transaction, plan.load_id)
        # The plan is from before the publishing raised the epoch, or was read back after it.
        if status == "published" and epoch in {plan.epoch, plan.epoch + 1}:
            return False
        if epoch != plan.epoch:
            msg = f"load {plan.load_id} was taken over by another run; nothing was published here"
            raise StaleLoadError(msg)
        missing = transaction.execute(
            f"select c.chunk_id from {self._chunk} c left join {self._claim} d"
            " on d.load_id = c.load_id and d.chunk_id = c.chunk_id and d.done = 1"
            " where c.load_id = :load_id and d.chunk_id is null and c.bounds not like :split"
            " order by c.chunk_id",
            {"load_id": plan.load_id, "split": SPLIT_TEXT},
        )
        if missing:
            named = ", ".join(str(row[0]) for row in missing[:_NAMED]) + ", ..." * (
                len(missing) > _NAMED
            )
            msg = (
                f"load {plan.load_id}: {len(missing)} of {len(plan.chunks)} planned chunks are not"
                f" finished ({named}), so nothing is published. Run the load again with the same"
                " load id (in Dagster: re-execute all steps); finished chunks are kept"
            )
            raise IncompleteLoadError(msg)
        transaction.execute(
            f"update {self._load} set epoch = epoch + 1, status = 'published',"
            f" published_at = {self._facts.now} where load_id = :load_id",
            {"load_id": plan.load_id},
        )
        return True

    def _hold_alone(self, transaction: Transaction, load_id: str) -> tuple[int, str]:
        """Wait for whoever is writing chunks of the load, and keep others from beginning."""
        transaction.lock(_lock_name(load_id))
        return self._hold(transaction, load_id, self._facts.update_lock)

    def _hold(self, transaction: Transaction, load_id: str, lock: str) -> tuple[int, str]:
        rows = transaction.execute(
            f"select epoch, status from {self._load} where load_id = :load_id {lock}",
            {"load_id": load_id},
        )
        if not rows:
            msg = f"the ledger has no load {load_id}: it was removed while it ran. Start a new load"
            raise StaleLoadError(msg)
        return rows[0][0], rows[0][1]


def _check_current(plan: Plan, epoch: int, status: str) -> None:
    if epoch != plan.epoch or status != "loading":
        raise _stale(plan, status)


def _stale(plan: Plan, status: str) -> StaleLoadError:
    done = "published" if status == "published" else "taken over"
    return StaleLoadError(
        f"load {plan.load_id} was {done} by another run; this run's chunk was rolled back"
    )


def _lock_name(load_id: str) -> str:
    return f"load {load_id}"
