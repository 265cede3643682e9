"""Partitions by time, loaded when they have ended."""

from collections.abc import Iterator

import dagster as dg

from mapper_core import SettingsError

from .mapping import Mapping
from .translator import MappingTranslator


def build_mapping_schedule(
    mapping: Mapping,
    *,
    lookback: int = 0,
    minute: int | None = None,
    hour: int | None = None,
    name: str | None = None,
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
    translator: MappingTranslator | None = None,
) -> dg.ScheduleDefinition:
    """Return a schedule that loads each partition when it has ended, and late rows with it.

    Args:
        mapping: with partitions by time.
        lookback: how many partitions before the newest are loaded again each time, for rows that
            arrive after their partition's end. Each is replaced as a whole, so none doubles.
        minute: past the partition's end, of the hour.
        hour: of the day, for partitions of a day and longer.
        name: of the schedule; by default `<asset>_schedule`.
        default_status: whether it runs without being started.
        translator: the same that the asset was built with.

    Raises:
        SettingsError: the mapping has no partitions by time, or lookback is negative.
    """
    definition = mapping.partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        raise SettingsError(f"mapping {mapping.name}: a schedule needs partitions by time")
    if lookback < 0:
        raise SettingsError("lookback counts partitions: 0 or more")
    key = (translator or MappingTranslator()).get_asset_spec(mapping).key

    @dg.schedule(
        name=name or f"{key.to_python_identifier()}_schedule",
        description=f"Loads each partition of {mapping.table_name} when it has ended.",
        cron_schedule=definition.get_cron_schedule(minute_of_hour=minute, hour_of_day=hour),
        execution_timezone=definition.timezone,
        target=dg.AssetSelection.assets(key),
        default_status=default_status,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        now = context.scheduled_execution_time
        ended = definition.get_partition_keys(current_time=now)[-1 - lookback :]
        if not ended:
            yield dg.SkipReason("no partition has ended yet")
        for partition in ended:
            yield dg.RunRequest(
                asset_selection=[key],
                partition_key=partition,
                run_key=f"{partition} at {now.isoformat()}",
            )

    return schedule
