"""Going on with a load in the ledger: what must be as it was, what a new read point means."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from ..errors import LedgerError
from ..fitting import shape
from ..ledger import LoadRecord
from ..ledger.stored import query_hash
from ..model import ChunkKind, Column, Mapping, Plan, Snapshot, StrategyName
from ..protocols import Survey, Transaction
from ..target_side import TargetSide

logger = logging.getLogger(__name__)


def check_query(record: LoadRecord, mapping: Mapping) -> None:
    """Raise LedgerError when the id was given to another query, transform, target or window."""
    if record.query_hash != query_hash(mapping):
        msg = (
            f"load id {record.load_id!r} was used for another query, transform, target or window:"
            " use a new load id, or repeat the load as it was"
        )
        raise LedgerError(msg)


def check_shapes(plan: Plan, columns: Sequence[Column], table: Sequence[Column]) -> None:
    """Raise LedgerError unless query and target have the columns they had when it was planned."""
    for what, now, then in (
        ("query", columns, plan.columns),
        (f"target {plan.target}", table, plan.target_columns),
    ):
        if shape(now) != shape(then):
            changed = sorted({name for name, _ in set(shape(now)) ^ set(shape(then))})
            listed = f" ({', '.join(changed)})" if changed else ""
            msg = (
                f"the columns of the {what} have changed{listed} since load {plan.load_id!r} was"
                " planned, so it cannot be continued: start a new load"
            )
            raise LedgerError(msg)


def check_table(plan: Plan, table_id: str | None, finished: Callable[[], Collection[int]]) -> None:
    """Raise LedgerError when chunks are in a table of the target's name that is another one now.

    Those that are `finished` are asked for only where it is. A staged load is published as a whole.
    """
    # Not every database tells, nor could a plan of a table yet to be made.
    if plan.stage_table is not None or None in {plan.target_id, table_id}:
        return
    if plan.target_id != table_id and finished():
        msg = (
            f"{plan.target} is not the same table as when load {plan.load_id!r} was planned: it"
            " was created again, or the search path of the target's sessions has changed."
            " Finished chunks are in the earlier table: repeat the load with the same connection,"
            " or start a new load"
        )
        raise LedgerError(msg)


def check_place(plan: Plan, now: Sequence[str]) -> None:
    """Raise LedgerError when the query's SQL means something else than when it was planned.

    The rows of some chunks would be those of other tables, or have other times.
    """
    # Not every database tells, and nor did plans of earlier.
    for what, then, here in zip(_READ_IN, plan.read_in, now, strict=False):
        if then != here:
            given = "" if what == "database" else f" ({then} then, {here} now)"
            msg = (
                f"the source's sessions have a different {what} than when load {plan.load_id!r}"
                f" was planned{given}, so its SQL may mean other rows: repeat it with the same"
                " connection and time_zone, or start a new load"
            )
            raise LedgerError(msg)


# As `Plan.read_in` has them.
_READ_IN = ("database", "search path", "time zone")


def at_another_point(
    record: LoadRecord, target: TargetSide, snapshot: Snapshot, survey: Survey
) -> tuple[Plan, bool]:
    """Take a load over at another read point than its plan's; its chunks stay those planned then.

    A staged one begins anew, for nothing of it was published; any other keeps its finished chunks,
    continues, and says so. Returns the plan, and whether somebody has published it meanwhile.

    Raises LedgerError when the same chunks would mean other rows there.
    """
    load_id, old = record.load_id, record.plan
    with target.transaction() as transaction:
        epoch = target.ledger.take_over(transaction, load_id)
        if epoch is None:
            return old, True
        if old.stage_table is not None:
            plan = replace(old, snapshot=snapshot, epoch=epoch)
            target.ledger.forget_chunks(transaction, load_id)
            target.create_stage(transaction, plan)
            logger.warning(
                "load %s begins anew at %s: its earlier read point is gone, and nothing of it was"
                " published",
                load_id,
                snapshot.description,
            )
        else:
            snapshot = _continued(transaction, record, target, snapshot, survey)
            plan = replace(old, snapshot=snapshot, epoch=epoch)
        if _lacks_nulls(plan, survey):
            nulls = target.ledger.add_chunk(transaction, load_id, ChunkKind.NULLS)
            plan = replace(plan, chunks=(*plan.chunks, nulls))
        target.ledger.note(transaction, plan)
    return plan, False


def _lacks_nulls(plan: Plan, survey: Survey) -> bool:
    """Whether rows with a NULL in the key, of which there were none, may be in no chunk now."""
    if plan.strategy is not StrategyName.KEY:
        return False
    if any(chunk.kind is ChunkKind.NULLS for chunk in plan.chunks):
        return False
    # Without one snapshot each chunk is read at a moment of its own.
    return plan.snapshot.id is None or survey.has_nulls(plan.chunk_key)


def _continued(
    transaction: Transaction,
    record: LoadRecord,
    target: TargetSide,
    snapshot: Snapshot,
    survey: Survey,
) -> Snapshot:
    """Return the read point, with what it follows, at which finished chunks are added to."""
    load_id, before = record.load_id, record.plan.snapshot
    if not target.ledger.finished(transaction, load_id):
        return snapshot
    if record.plan.strategy is StrategyName.OFFSET:
        msg = (
            f"load {load_id!r} was cut into pages, and its read point is gone; at another one the"
            " same pages may hold other rows: start a new load (one with strategy='key' could be"
            " continued)"
        )
        raise LedgerError(msg)
    if record.plan.marks and (moved := survey.moved(record.plan.marks)):
        msg = (
            f"load {load_id!r} was cut by blocks of its table, and {moved} since, so its"
            " unfinished blocks no longer hold the same rows: start a new load (one with"
            " chunk_key or ORDER BY could be continued after such changes)"
        )
        raise LedgerError(msg)
    earlier = [before.resumed_from] if before.resumed_from else []
    earlier.append(before.description)
    snapshot = replace(snapshot, resumed_from=" and ".join(earlier))
    logger.warning("load %s continues at another read point: %s", load_id, snapshot)
    return snapshot
