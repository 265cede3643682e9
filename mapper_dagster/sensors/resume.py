"""Failed loads that are to be continued."""

from collections.abc import Sequence
from datetime import datetime, timezone

import dagster as dg

from mapper_core import SettingsError

from ..mapping import Mapping
from ..steps import RESUMES
from ..translator import MappingTranslator
from .cursors import moment_of
from .retries import will_be_retried

# Failed runs looked at in one tick.
_MOST = 50

_ATTEMPT = "mapper/resume_attempt"

_RANGE = "dagster/asset_partition_range_"

# Tags of Dagster's own that say how a run is executed. All others say what has become of it.
_SETTINGS = {
    f"dagster/{setting}"
    for setting in (
        *("priority", "max_runtime", "max_retries", "retry_strategy"),
        "retry_on_asset_or_op_failure",
    )
}

# What a run was to materialize: a whole job's has no selection, and one executed again from
# failure has that of its parent. And what it has materialized.
_PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION


def build_resume_sensor(
    mappings: Sequence[Mapping],
    *,
    max_resumes: int = 3,
    name: str = "resume_loads",
    minimum_interval_seconds: int = 60,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    translator: MappingTranslator | None = None,
) -> dg.SensorDefinition:
    """Return a sensor that continues loads whose runs failed, where they stopped.

    The new run continues the failed run's load: finished chunks are not loaded again. It is a
    whole run of what was not published, and never one "from failure", which would not start lanes
    that never ran. A run that somebody terminated or has re-executed is left alone.

    Args:
        mappings: the mappings whose runs are looked after.
        max_resumes: how often one load is continued before people must look at it.
        name: name of the sensor.
        minimum_interval_seconds: seconds between two ticks.
        default_status: whether it runs without being started.
        translator: the translator that the assets were built with.

    Raises:
        SettingsError: max_resumes is less than 1.
    """
    if max_resumes < 1:
        raise SettingsError("max_resumes is at least 1: else leave the sensor out")
    translator = translator or MappingTranslator()
    keys = {translator.get_asset_spec(mapping).key for mapping in mappings}

    @dg.sensor(
        name=name,
        description="Continues loads that failed, where they stopped.",
        # Not `target`: that makes a job of them, in which all must have the same partitions.
        asset_selection=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
    )
    def resume(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # From its first tick on: what failed before anybody asked for this stays as it is.
        since = moment_of(context.cursor) if context.cursor else datetime.now(timezone.utc)
        failed = context.instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since),
            limit=_MOST,
            order_by="update_timestamp",
            ascending=True,
        )
        requests, left = [], []
        for record in failed:
            since = max(since, record.update_timestamp.astimezone(timezone.utc))
            run = record.dagster_run
            planned = _told(context.instance, run, _PLANNED)
            if not planned <= keys:
                continue
            if words := _left_alone(context.instance, run, max_resumes):
                left.append(f"run {run.run_id} is not continued: {words}")
            elif unfinished := _unfinished(context.instance, run, planned):
                requests.append(_request(run, unfinished))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else _skipped(since, left),
            cursor=since.isoformat(),
        )

    return resume


def _skipped(since: datetime, left: Sequence[str]) -> str:
    return "; ".join(left) or f"no load that can be continued has failed since {since}"


def _left_alone(instance: dg.DagsterInstance, run: dg.DagsterRun, most: int) -> str | None:
    """Return why a failed run's load is not gone on with, in words; None if it may be."""
    again = will_be_retried(instance, run)
    if again is None:
        # That it says so is news of the run, which comes by here then.
        return "Dagster has not decided yet whether to retry it"
    if again:
        # If that fails too, it comes by here.
        return "Dagster retries it by itself"
    if instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run.run_id}), limit=1):
        return "it has been re-executed"
    if _resumes(run) >= most:
        return f"its load has been continued {most} times, and failed each time"
    return None


def _resumes(run: dg.DagsterRun) -> int:
    """Return how often its load had been gone on with when a run began, itself included."""
    return int(run.tags.get(_ATTEMPT, "0"))


def _ranges(run: dg.DagsterRun) -> dict[str, str]:
    """Return the tags of a run over a range of partitions, which has no partition, but these."""
    return {tag: value for tag, value in run.tags.items() if tag.startswith(_RANGE)}


def _given(run: dg.DagsterRun) -> dict[str, str]:
    """Return the tags that somebody has given a run: by them it is queued, bounded and found."""
    return {
        tag: value
        for tag, value in run.tags.items()
        if tag in _SETTINGS or not tag.lstrip(".").startswith("dagster/")
    }


def _unfinished(
    instance: dg.DagsterInstance, run: dg.DagsterRun, planned: set[dg.AssetKey]
) -> set[dg.AssetKey]:
    """Return of which assets a run has not published what it was to load.

    What it has published is no failed load: an append would add its rows once more. Of a range some
    partitions may be published; all of them replace their rows.
    """
    return planned if _ranges(run) else planned - _told(instance, run, _MATERIALIZED)


def _request(run: dg.DagsterRun, unfinished: set[dg.AssetKey]) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"resume:{run.run_id}",
        asset_selection=sorted(unfinished),
        partition_key=run.tags.get("dagster/partition"),
        tags={
            **_given(run),
            RESUMES: run.tags.get(RESUMES) or run.root_run_id or run.run_id,
            _ATTEMPT: str(_resumes(run) + 1),
            **_ranges(run),
        },
    )


def _told(
    instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType
) -> set[dg.AssetKey]:
    """Return of which assets a run's log has an event of a kind."""
    events = instance.all_logs(run.run_id, of_type=kind)
    keys = (entry.dagster_event.asset_key for entry in events if entry.dagster_event)
    return {key for key in keys if key is not None}
