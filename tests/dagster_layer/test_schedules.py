"""A partition is loaded when it has ended, and late rows with it."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from mapper_core import SettingsError
from mapper_dagster import build_mapping_asset, build_mapping_schedule

from .deployment import EVENTS

BERLIN = ZoneInfo("Europe/Berlin")


def asked(schedule, mapping, at):
    """Return the partitions that a schedule asks for at a moment."""
    defs = dg.Definitions(
        assets=[build_mapping_asset(mapping)],
        schedules=[schedule],
        resources=dict.fromkeys(
            ("source", "target", "mapper"), dg.ResourceDefinition.none_resource()
        ),
    )
    with dg.build_schedule_context(
        scheduled_execution_time=at, repository_def=defs.get_repository_def()
    ) as context:
        told = schedule.evaluate_tick(context)
    return [request.partition_key for request in told.run_requests or ()]


def test_the_newest_partition_and_those_behind_it_are_loaded():
    """As many as rows may be late."""
    schedule = build_mapping_schedule(EVENTS, lookback=2)

    assert "0 0 1 * *" == schedule.cron_schedule
    at = datetime(2024, 4, 1, tzinfo=ZoneInfo("UTC"))
    assert ["2024-01-01", "2024-02-01", "2024-03-01"] == asked(schedule, EVENTS, at)
    assert [] == asked(schedule, EVENTS, datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")))


def test_after_the_last_partition_only_late_rows_are_loaded():
    """And not the last partition each time for ever."""
    schedule = build_mapping_schedule(EVENTS, lookback=1)
    months = [datetime(2024, month, 1, tzinfo=ZoneInfo("UTC")) for month in (5, 6, 7, 12)]

    assert [["2024-03-01", "2024-04-01"], ["2024-04-01"], [], []] == [
        asked(schedule, EVENTS, month) for month in months
    ]


def test_days_begin_where_the_partitions_do():
    """Also on the days that summer time makes longer or shorter."""
    daily = dg.DailyPartitionsDefinition("2026-10-01", timezone="Europe/Berlin")
    mapping = replace(EVENTS, partitions_def=daily)
    schedule = build_mapping_schedule(mapping, hour=2, minute=30, name="nightly")

    assert ("30 2 * * *", "Europe/Berlin") == (
        schedule.cron_schedule,
        schedule.execution_timezone,
    )
    for day in (25, 26):
        at = datetime(2026, 10, day, 2, 30, tzinfo=BERLIN)
        assert [f"2026-10-{day - 1}"] == asked(schedule, mapping, at)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"partitions_def": None, "window_column": None}, {}, "by time"),
        ({}, {"lookback": -1}, "0 or more"),
        ({}, {"hour": 25}, "hour 25 is none of a day"),
        ({}, {"minute": 75}, "minute 75 is none of an hour"),
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
            r"cut by the cron schedule '\*/15",
        ),
    ],
)
def test_a_schedule_without_windows_is_refused(change, options, words):
    """When it is built."""
    with pytest.raises(SettingsError, match=words):
        build_mapping_schedule(replace(EVENTS, **change), **options)
