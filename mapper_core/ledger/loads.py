"""A load's own row and its planned chunks: storing, taking over, beginning anew, publishing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ..errors import IncompleteLoadError, StaleLoadError
from ..model import Chunk, ChunkKind, Mapping, Plan, Snapshot
from ..protocols import Transaction
from .stored import (
    SPLIT_TEXT,
    chunk_text,
    instant,
    plan_from,
    plan_text,
    query_hash,
    snapshot_from,
)
from .tables import Tables, lock_name

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


class Loads(Tables):
    """The ledger's side of those who plan a load, go on with it, or publish it."""

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
        return not free or not transaction.try_lock(lock_name(load_id))

    def store(
        self,
        transaction: Transaction,
        plan: Plan,
        mapping: Mapping,
        load_group: str | None,
    ) -> None:
        """Store a new load and its plan, in one transaction."""
        transaction.execute_later(
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

    def add_chunk(self, transaction: Transaction, load_id: str, kind: ChunkKind) -> Chunk:
        """Add a chunk without bounds after all others of a load; return it."""
        chunk = Chunk(self._last_chunk(transaction, load_id) + 1, kind)
        self._store_chunks(transaction, load_id, [chunk])
        return chunk

    def _store_chunks(
        self, transaction: Transaction, load_id: str, chunks: Sequence[Chunk]
    ) -> None:
        transaction.execute_many(
            f"insert into {self._chunk} (load_id, chunk_id, bounds)"
            " values (:load_id, :chunk_id, :bounds)",
            [
                {"load_id": load_id, "chunk_id": chunk.id, "bounds": chunk_text(chunk)}
                for chunk in chunks
            ],
        )

    def _last_chunk(self, transaction: Transaction, load_id: str) -> int:
        found = transaction.execute(
            f"select max(chunk_id) from {self._chunk} where load_id = :load_id",
            {"load_id": load_id},
        )
        return int(found[0][0])

    def note(self, transaction: Transaction, plan: Plan) -> None:
        """Note the plan, with its read point, at which a load goes on; nothing of an old epoch."""
        transaction.execute(
            f"update {self._load} set plan = :plan where load_id = :load_id and epoch = :epoch",
            {"load_id": plan.load_id, "epoch": plan.epoch, "plan": plan_text(plan)},
        )

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

    def note_verified(
        self, transaction: Transaction, plan: Plan, words: str, *, published: bool
    ) -> None:
        """Note what was compared: when publishing the load, or when it could not be published."""
        transaction.execute_later(
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
        transaction.execute_later(
            f"update {self._load} set epoch = epoch + 1, status = 'published',"
            f" published_at = {self._facts.now} where load_id = :load_id",
            {"load_id": plan.load_id},
        )
        return True

    def published_meanwhile(
        self, transaction: Transaction, plan: Plan, mapping: Mapping
    ) -> list[Plan]:
        """Return the plans, without chunks, of those loads that may have been read later.

        Of the same query, window and target: those published since this one was planned, and the
        one published last before that.
        """
        others = "query_hash = :query_hash and load_id <> :load_id"
        last = f"select max(published_at) from {self._load} where {others}"
        planned = f"select created_at from {self._load} where load_id = :load_id"
        found = transaction.execute(
            f"select load_id, epoch, plan from {self._load} where {others}"
            f" and (published_at >= ({planned}) or published_at = ({last}))",
            {"query_hash": query_hash(mapping), "load_id": plan.load_id},
        )
        return [plan_from(load_id, epoch, text, ()) for load_id, epoch, text in found]

    def _hold_alone(self, transaction: Transaction, load_id: str) -> tuple[int, str]:
        """Wait for whoever is writing chunks of the load, and keep others from beginning."""
        transaction.lock(lock_name(load_id))
        return self._hold(transaction, load_id, self._facts.update_lock)
