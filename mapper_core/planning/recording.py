"""The plan that the ledger has of a load: stored there once, taken up by whoever comes later."""

from dataclasses import replace

from ..ledger import LoadRecord
from ..model import Plan
from ..target_side import TargetSide
from . import resumption
from .planner import Planning


def recorded(planning: Planning, load_group: str | None) -> tuple[Plan, bool]:
    """Return the plan that the ledger has of a load, deciding it first where there is none.

    Without a target nothing is recorded. Returns also whether the load is published already.

    Raises MapperError for what would not do, then or now; nothing is stored in that case.
    """
    if (target := planning.target) is None:
        return planning.decide(), False
    while (record := target.find(planning.load_id)) is None:
        plan = planning.decide()
        if _store(plan, planning, target, load_group):
            return plan, False
    return _take_up(record, planning, target)


def _store(plan: Plan, planning: Planning, target: TargetSide, load_group: str | None) -> bool:
    """Store a plan with its tables; return False, storing nothing, where others were faster.

    Another call has planned this load then, or made the target otherwise than it was planned for.
    """
    sharing = target.sharing(plan)
    with sharing.transaction() as transaction:
        if planning.mapping.create_target:  # so that one of several loads makes it
            transaction.lock(f"table to be made {planning.mapping.target_name}")
        transaction.lock(f"plan {plan.load_id}")
        if sharing.ledger.find(transaction, plan.load_id) is not None:
            return False
        if not sharing.create_tables(transaction, plan):
            return False
        sharing.ledger.store(transaction, plan, planning.mapping, load_group)
    return True


def _take_up(record: LoadRecord, planning: Planning, target: TargetSide) -> tuple[Plan, bool]:
    """Go on with a load that the ledger has; whether it is published already comes second."""
    stored = record.plan
    resumption.check_query(record, planning.mapping)
    if record.published:
        return stored, True
    found = target.found(planning.columns)
    resumption.check_shapes(stored, planning.columns, found.columns)
    resumption.check_table(stored, found.access.table_id, lambda: target.finished(record.load_id))
    plan = planning.taken_up(stored, found)
    resumption.check_place(plan, planning.read_in)
    sharing = target.sharing(plan)
    if not planning.snapshot.is_same_point(plan.snapshot):
        record = replace(record, plan=plan)
        return resumption.at_another_point(record, sharing, planning.snapshot, planning.survey)
    if stored.found_there != plan.found_there:
        with sharing.transaction() as transaction:
            sharing.ledger.note(transaction, plan)  # for its other processes
    return plan, False
