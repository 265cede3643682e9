"""A load is planned, or that of an earlier run is taken up."""

import dagster as dg

from mapper_core import LoadMode, Plan, history
from mapper_core.history import LoadChunks

from .. import metadata
from ..failures import failure
from ..windows import in_units
from ..writers import wait_for_writers
from .load import Load
from .observations import observe

# Materializations among which a load's own is looked for, latest first.
MATERIALIZATIONS = 100


def plan(load: Load) -> tuple[Plan, int]:
    """Plan a load; return also how many lanes it is worth."""
    with load.in_words():
        _wait_for_writers(load)
        before = load.known() if load.is_continued else None
        planned = _planned(load)
        workers = 1 if planned.adaptive else planned.workers
        lanes = load.mapping.lane_count(len(planned.chunks), workers)
        load.context.log.info(metadata.plan_line(planned, lanes))
        if before is not None and before.record.load_id == planned.load_id:
            _tell_resumed(load, planned, before)
    return planned, lanes


def _planned(load: Load) -> Plan:
    """Return the plan of the load to be gone on with, or of a new one.

    An append that was published without being recorded, because its run was killed in between, is
    gone on with as well: its rows would be there twice. What replaces rows is loaded anew.
    """
    if load.mapping.mode is LoadMode.APPEND:
        found = load.plan(again=False)
        if not _is_recorded(load, found.load_id):
            return found
    return load.plan(again=True)


def _is_recorded(load: Load, load_id: str) -> bool:
    """Whether Dagster has materialized the load: a run goes on with none but a late one."""
    only = dg.AssetRecordsFilter(load.asset_key)
    found = load.context.instance.fetch_materializations(only, limit=MATERIALIZATIONS).records
    shown = [each.asset_materialization for each in found]
    return any(each is not None and metadata.load_id_of(each.metadata) == load_id for each in shown)


def _wait_for_writers(load: Load) -> None:
    """Wait until no transaction that began before the window's end can add rows to it."""
    fence, asked = load.mapping.fence, load.asked
    if fence is None:
        return
    end = asked.window.end if asked.window else asked.bounds["window_end"]
    still = wait_for_writers(load.source, end, fence, tell=load.context.log.info)
    if still is not None:
        raise failure(
            load.context,
            f"After {in_units(fence)} a transaction of the source that began at {still} may still"
            f" add rows to the window up to {end}. Request the load again when it has ended, or"
            " set a longer fence.",
            passing=False,
        )


def _tell_resumed(load: Load, planned: Plan, before: LoadChunks) -> None:
    """Say as of when a load that is gone on with reads, and what of it is finished."""
    if planned.snapshot.is_same_point(before.record.plan.snapshot):
        load.context.log.info(
            "Continuing the load of an earlier run at its %s: later changes in the source are not"
            " included. To include them, %s.",
            planned.snapshot,
            load.anew,
        )
    found = history.chunks(load.target.url, planned.load_id, **load.ledger)
    if found.finished:
        resumed = metadata.of_resumed(planned, found)
        observe(load, "A load that an earlier run began is continued.", resumed)
