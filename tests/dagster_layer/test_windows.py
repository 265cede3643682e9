"""Partition keys are half-open load windows, and back."""

from datetime import datetime, timedelta, timezone
from itertools import pairwise

import dagster as dg
import pytest

from mapper_core import LoadWindow, SettingsError
from mapper_dagster import Mapping
from mapper_dagster.windows import Lane, lane_key, lane_of, partition_loads

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01")
BY_DAY = {"partitions_def": DAYS, "window_column": "at"}
BY_REGION = dg.StaticPartitionsDefinition(["eu", "us"])
BY_REGION_AND_DAY = dg.MultiPartitionsDefinition(
    {"region": dg.StaticPartitionsDefinition(["eu"]), "day": DAYS}
)
BY_TWO_DAYS = dg.MultiPartitionsDefinition({"ordered": DAYS, "shipped": DAYS})
UPSERT = {"load_mode": "upsert", "primary_key": "a"}


SQL = "select 1 as a"
WINDOW_SQL = f"{SQL} where :window_start <= now() and now() < :window_end"


def mapping(**changes):
    sql = SQL if changes.get("partitions_def") is None else WINDOW_SQL
    given = {"name": "m", "source_sql": sql, "target_table": "t", **changes}
    return Mapping(**given)


def test_a_month_is_its_half_open_window_in_utc():
    """The end of one partition is the start of the next."""
    monthly = mapping(
        partitions_def=dg.MonthlyPartitionsDefinition(start_date="2024-01-01"), window_column="at"
    )

    loads = partition_loads(monthly, ["2024-01-01", "2024-02-01"])

    january, february, march = (datetime(2024, m, 1, tzinfo=timezone.utc) for m in (1, 2, 3))
    assert [LoadWindow("at", january, february), LoadWindow("at", february, march)] == [
        load.window for load in loads
    ]


def test_days_around_the_clock_change_tile_the_time():
    """The day the clock goes back has 25 hours, and no hour is in two windows."""
    berlin = mapping(
        partitions_def=dg.DailyPartitionsDefinition("2026-10-24", timezone="Europe/Berlin"),
        window_column="at",
    )

    loads = partition_loads(berlin, ["2026-10-24", "2026-10-25", "2026-10-26"])

    days = [load.window for load in loads if load.window is not None]
    assert [24, 25, 24] == [(day.end - day.start).total_seconds() / 3600 for day in days]
    assert all(a.end == b.start for a, b in pairwise(days))


def test_no_partitions_is_one_load_without_window():
    """An unpartitioned mapping is one load of everything."""
    (load,) = partition_loads(mapping(), [])

    assert load.window is None
    assert load.partition_key is None


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize(
    "key", ["2024-01-01", "2026-10-25-02:00+0100", "a b/c|ü", "1_of_2_at_3", "ü", None]
)
def test_lane_keys_survive_any_partition_key(key, place):
    """What a lane is comes back out of its mapping key, whose letters Dagster accepts."""
    lane = Lane(place=place, lane=1, lanes=12)

    made = lane_key(lane, key)

    assert lane == lane_of(made)
    assert made.replace("_", "").isalnum()
    assert made.isascii()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a-b"}, "letters, digits and _"),
        ({"window_column": "at"}, "goes with partitions_def"),
        (
            {"partitions_def": dg.MonthlyPartitionsDefinition(start_date="2024-01-01")},
            "window_column",
        ),
        ({"lanes": 2, "chunks_per_lane": 2}, "not both"),
        ({"lanes": 0}, "at least 1"),
        ({"strategy": "fastest"}, "strategy 'fastest' is unknown: use one of 'same_database', "),
        ({"publish": "later"}, "publish 'later' is unknown: use one of 'chunks', 'atomic'"),
        (
            {"transform_scope": "row"},
            "transform_scope 'row' is unknown: use one of 'chunk', ",
        ),
        ({"workers": "four"}, "workers 'four' is unknown: use one of 'threads', 'processes'"),
        ({"chunk_size": "many"}, "chunk_size='many' is not"),
        ({"chunk_size": -5}, "chunk_size=-5 is too small"),
        ({"reject_limit": -1}, "reject_limit=-1 is too small"),
        (
            {"source_dialect": "oracl"},
            "source_dialect 'oracl' is not a dialect .* Did you mean oracle",
        ),
        (
            {**BY_DAY, "load_mode": "replace"},
            "'replace' would leave only the partition loaded last",
        ),
        ({**BY_DAY, **UPSERT, "window_column": "at"}, "load_mode is 'upsert': leave it out"),
        ({"deps": "orders"}, "deps is a list"),
        ({**BY_DAY, "fence": timedelta(seconds=-1)}, "fence is a time to wait: 0 or more"),
        ({"owners": "team:data"}, "owners is a list"),
        (
            {**BY_DAY, "params": {"window_start": "2024-01-31"}},
            "params gives window_start, which the partition sets",
        ),
        (
            {"partitions_def": BY_REGION_AND_DAY, **UPSERT, "params": {"region": "eu"}},
            "params gives region, which the partition sets",
        ),
        (
            {"partitions_def": BY_TWO_DAYS, **UPSERT},
            "two dimensions by time",
        ),
        (
            {**BY_DAY, "source_sql": "SELECT * FROM orders WHERE note <> ':window_start' -- :day"},
            "would load the rows of all: filter by at >= :window_start AND at < :window_end",
        ),
        (
            {"partitions_def": BY_REGION, **UPSERT, "source_sql": "SELECT * FROM orders"},
            "each partition would load the rows of all: filter by :partition_key",
        ),
        (
            {"partitions_def": BY_REGION_AND_DAY, **UPSERT, "source_sql": "SELECT * FROM orders"},
            "each partition would load the rows of all: filter by :day and :region",
        ),
        (
            {**BY_DAY, "source_sql": "SELECT * FROM o WHERE at >= :window_start AND at < :end"},
            "names :end, but only :window_end, :window_start have values: correct the name",
        ),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_in_words(changes, words):
    """Nothing is opened for a mapping that cannot work."""
    with pytest.raises(SettingsError, match=words):
        mapping(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"source_sql": "SELECT * FROM orders WHERE date_trunc('day', at) = :window_start"},
        {
            "source_sql": "SELECT * FROM orders WHERE at >= :window_start AND kind = :kind",
            "params": {"kind": "x"},
        },
        # Nobody can tell its tokens apart but its database.
        {"source_sql": "SELECT * FROM orders WHERE note = 'it"},
    ],
)
def test_a_query_may_ask_for_its_window_in_its_own_way(changes):
    """What can be meant is declared; what it gets, publishing looks at."""
    assert changes["source_sql"] == mapping(**BY_DAY, **changes).source_sql


@pytest.mark.parametrize(
    ("changes", "chunks", "workers", "lanes"),
    [
        ({}, 100, 4, 4),
        ({}, 3, 4, 3),
        ({}, 0, 4, 1),
        ({"lanes": 2}, 100, 8, 2),
        ({"chunks_per_lane": 1}, 7, 2, 7),
        ({"chunks_per_lane": 3}, 7, 2, 3),
        ({"workers_per_lane": 4}, 100, 8, 2),
    ],
)
def test_chunks_are_dealt_out_to_about_as_many_lanes_as_workers(changes, chunks, workers, lanes):
    """Lanes are tens, chunks may be thousands; one chunk a lane is there for who asks."""
    assert lanes == mapping(**changes).lane_count(chunks, workers)
