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
        mapping: a mapping with partitions by time.
        lookback: how many partitions before the newest are loaded again each time, for rows that
            arrive after the end of their partition. Each is replaced as a whole, so no row doubles.
        minute: minute of the hour at which to load, after the partition's end.
        hour: hour of the day at which to load, for partitions of a day and longer.
        name: name of the schedule; by default `<asset>_schedule`.
        default_status: whether it runs without being started.
        translator: the translator that the asset was built with.

    Raises:
        SettingsError: the mapping has no partitions by time, lookback is negative, or minute and
            hour are not a time at which the partitions could be loaded.
    """
    definition = mapping.partitions_def
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        raise SettingsError(f"mapping {mapping.name}: a schedule needs partitions by time")
    if lookback < 0:
        raise SettingsError(
            f"mapping {mapping.name}: lookback is a number of partitions, 0 or more"
        )
    _check_time(mapping, definition, minute, hour)
    unending = dg.TimeWindowPartitionsDefinition(
        start=definition.start,
        fmt=definition.fmt,
        cron_schedule=definition.cron_schedule,
        timezone=definition.timezone,
        end_offset=definition.end_offset,
        exclusions=definition.exclusions,
    )
    key = (translator or MappingTranslator()).get_asset_spec(mapping).key
    again = f", and the {lookback} before it again" if lookback else ""

    @dg.schedule(
        name=name or f"{key.to_python_identifier()}_schedule",
        description=f"Loads each partition of {mapping.table_name} when it has ended{again}.",
        cron_schedule=definition.get_cron_schedule(minute_of_hour=minute, hour_of_day=hour),
        execution_timezone=definition.timezone,
        target=dg.AssetSelection.assets(key),
        default_status=default_status,
    )
    def schedule(
        context: dg.ScheduleEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        now = context.scheduled_execution_time
        # After the last partition its successors are counted on, and it is loaded no more for ever.
        latest = unending.get_partition_keys(current_time=now)[-1 - lookback :]
        there = definition.get_partition_keys(current_time=now)
        ended = [partition for partition in latest if partition in {*there}]
        if not there:
            yield dg.SkipReason("no partition has ended yet")
        elif not ended:
            yield dg.SkipReason(f"the last partition, {there[-1]}, ended long ago")
        for partition in ended:
            yield dg.RunRequest(
                asset_selection=[key],
                partition_key=partition,
                run_key=f"{partition} at {now.isoformat()}",
            )

    return schedule


def _check_time(
    mapping: Mapping,
    definition: dg.TimeWindowPartitionsDefinition,
    minute: int | None,
    hour: int | None,
) -> None:
    kind = definition.schedule_type
    if kind is None and not (minute is None and hour is None):
        raise SettingsError(
            f"mapping {mapping.name}: minute and hour are for hourly, daily, weekly and monthly"
            f" partitions; these follow the cron schedule {definition.cron_schedule!r}, which also"
            " loads them: leave minute and hour out"
        )
    if kind is not None and kind.name == "HOURLY" and hour is not None:
        raise SettingsError(
            f"mapping {mapping.name}: hour is for partitions of a day and longer: leave it out"
        )
    if minute is not None and minute not in range(60):
        raise SettingsError(f"mapping {mapping.name}: minute {minute} must be from 0 to 59")
    if hour is not None and hour not in range(24):
        raise SettingsError(f"mapping {mapping.name}: hour {hour} must be from 0 to 23")
