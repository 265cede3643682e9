"""A partition is loaded when it has ended, and late rows with it."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from mapper_core import SettingsError
from mapper_dagster import (
    MappingTranslator,
    build_mapping_asset,
    build_mapping_schedule,
    build_source_specs,
)

from .deployment import EVENTS

BERLIN, UTC = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")

# Of the source: what the mapping depends on.
TABLES = dg.AssetSelection.assets(dg.AssetKey(["source", "events"]))


def asked(schedule, mapping, at):
    """Return the partitions that a schedule asks for at a moment."""
    return [request.partition_key for request in told(schedule, mapping, at).run_requests or ()]


def told(schedule, mapping, at, translator=None):
    """Return what a schedule says at a moment."""
    defs = dg.Definitions(
        assets=[build_mapping_asset(mapping, translator)],
        schedules=[schedule],
        resources=dict.fromkeys(
            ("source", "target", "mapper"), dg.ResourceDefinition.none_resource()
        ),
    )
    with dg.build_schedule_context(
        scheduled_execution_time=at, repository_def=defs.get_repository_def()
    ) as context:
        return schedule.evaluate_tick(context)


def test_the_newest_partition_and_those_behind_it_are_loaded():
    """As many as rows may be late."""
    schedule = build_mapping_schedule(EVENTS, lookback=2)

    assert "0 0 1 * *" == schedule.cron_schedule
    at = datetime(2024, 4, 1, tzinfo=UTC)
    assert ["2024-01-01", "2024-02-01", "2024-03-01"] == asked(schedule, EVENTS, at)
    assert [] == asked(schedule, EVENTS, datetime(2024, 1, 1, tzinfo=UTC))


def test_after_the_last_partition_only_late_rows_are_loaded():
    """And not the last partition each time for ever."""
    schedule = build_mapping_schedule(EVENTS, lookback=1)
    months = [datetime(2024, month, 1, tzinfo=UTC) for month in (5, 6, 7, 12)]

    assert [["2024-03-01", "2024-04-01"], ["2024-04-01"], [], []] == [
        asked(schedule, EVENTS, month) for month in months
    ]


def test_late_rows_are_loaded_each_time_and_a_tick_that_is_repeated_loads_nothing():
    """A run is known by its partition and the moment that it is for."""
    schedule = build_mapping_schedule(EVENTS, lookback=1)
    ticks = [told(schedule, EVENTS, datetime(2024, m, 1, tzinfo=UTC)) for m in (3, 3, 4)]
    keys = [{request.run_key for request in tick.run_requests} for tick in ticks]

    assert keys[0] == keys[1]
    assert 4 == len(keys[0] | keys[2])


def test_a_tick_without_a_partition_says_why():
    """Before the first has ended, and long after the last."""
    schedule = build_mapping_schedule(EVENTS)

    for at, words in (
        (datetime(2024, 1, 1, tzinfo=UTC), "no partition has ended yet"),
        (datetime(2025, 1, 1, tzinfo=UTC), "the last partition, 2024-04-01, ended long ago"),
    ):
        assert words == told(schedule, EVENTS, at).skip_message


def test_partitions_that_are_left_out_and_ones_yet_to_end_are_those_of_the_mapping():
    """The days that it excludes are none; one under way is, where the mapping counts it."""
    definition = dg.TimeWindowPartitionsDefinition(
        start="2024-01-01",
        fmt="%Y-%m-%d",
        cron_schedule="0 0 * * *",
        exclusions=["0 0 * * 0"],
        end_offset=1,
    )
    mapping = replace(EVENTS, partitions_def=definition)
    schedule = build_mapping_schedule(mapping, lookback=1)

    # 2024-01-07 is a Sunday.
    at = datetime(2024, 1, 8, tzinfo=UTC)
    assert ["2024-01-06", "2024-01-08"] == asked(schedule, mapping, at)


@pytest.mark.parametrize(
    ("condition", "asked_for"),
    [
        (dg.AutomationCondition.eager(), 0),
        (dg.AutomationCondition.on_cron("0 * * * *"), 0),
        (dg.AutomationCondition.eager().ignore(TABLES), 1),
        (dg.AutomationCondition.on_cron("0 * * * *").ignore(TABLES), 1),
    ],
    ids=["eager", "on_cron", "eager without tables", "on_cron without tables"],
)
# Dagster's own, as it selects what it is to look at.
@pytest.mark.filterwarnings("ignore:Parameter `include_sources`:dagster.BetaWarning")
def test_a_condition_asks_for_a_partition_where_it_waits_for_no_table(condition, asked_for):
    """Nobody tells Dagster that a table of the source is new."""
    days = dg.DailyPartitionsDefinition("2024-01-01")
    mapping = replace(EVENTS, partitions_def=days, automation_condition=condition)
    defs = dg.Definitions(
        assets=[build_mapping_asset(mapping), *build_source_specs([mapping])],
        resources=dict.fromkeys(
            ("source", "target", "mapper"), dg.ResourceDefinition.none_resource()
        ),
    )
    requested, cursor = [], None
    with dg.DagsterInstance.ephemeral() as instance:
        for day in (2, 3):
            looked = dg.evaluate_automation_conditions(
                defs,
                instance,
                cursor=cursor,
                evaluation_time=datetime(2024, 3, day, 0, 5, tzinfo=UTC),
            )
            cursor = looked.cursor
            requested.append(looked.get_num_requested(mapping.key))

    assert [0, asked_for] == requested


def test_a_schedule_is_of_the_asset_that_the_translator_makes():
    """By its key, which the schedule is named after; and as it was told to begin."""

    class Ours(MappingTranslator):
        def get_asset_spec(self, mapping):
            spec = super().get_asset_spec(mapping)
            return spec.replace_attributes(key=spec.key.with_prefix("lake"))

    running = dg.DefaultScheduleStatus.RUNNING
    schedule = build_mapping_schedule(EVENTS, default_status=running, translator=Ours())

    assert ("lake__fact_events_schedule", running) == (schedule.name, schedule.default_status)
    tick = told(schedule, EVENTS, datetime(2024, 2, 1, tzinfo=UTC), Ours())
    (request,) = tick.run_requests
    assert [dg.AssetKey(["lake", "fact_events"])] == request.asset_selection
    assert running != build_mapping_schedule(EVENTS).default_status


def test_days_begin_where_the_partitions_do():
    """Also on the days that summer time makes longer or shorter."""
    daily = dg.DailyPartitionsDefinition("2026-10-01", timezone="Europe/Berlin")
    mapping = replace(EVENTS, partitions_def=daily)
    schedule = build_mapping_schedule(mapping, hour=2, minute=30, name="nightly")

    assert ("30 2 * * *", "Europe/Berlin") == (
        schedule.cron_schedule,
        schedule.execution_timezone,
    )
    for day in (25, 26, 27):
        at = datetime(2026, 10, day, 2, 30, tzinfo=BERLIN)
        assert [f"2026-10-{day - 1}"] == asked(schedule, mapping, at)
        at_once = build_mapping_schedule(mapping)
        assert [f"2026-10-{day - 1}"] == asked(at_once, mapping, at.replace(hour=0, minute=0))


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"partitions_def": None, "window_column": None}, {}, "by time"),
        ({}, {"lookback": -1}, "0 or more"),
        ({}, {"hour": 25}, "hour 25 must be from 0 to 23"),
        ({}, {"minute": 75}, "minute 75 must be from 0 to 59"),
        (
            {"partitions_def": dg.HourlyPartitionsDefinition("2024-01-01-00:00")},
            {"hour": 2},
            "hour is for partitions of a day and longer",
        ),
        (
            {
                "partitions_def": dg.TimeWindowPartitionsDefinition(
                    start="2024-01-01-00:00", fmt="%Y-%m-%d-%H:%M", cron_schedule="*/15 * * * *"
                )
            },
            {"minute": 5},
            r"these follow the cron schedule '\*/15",
        ),
    ],
)
def test_a_schedule_without_windows_is_refused(change, options, words):
    """When it is built."""
    with pytest.raises(SettingsError, match=words):
        build_mapping_schedule(replace(EVENTS, **change), **options)
