"""Two runs of one asset at the same time: each is a load of its own."""

import logging
import threading
from dataclasses import replace

import dagster as dg
import psycopg
import pytest

from ..waiting import backends, wait_until, waiting_for_locks
from .conftest import TABLE
from .deployment import EVENTS as BY_MONTH
from .runs import ended

JANUARY = "2024-01-01"
ONE_STEP = replace(BY_MONTH, single_step=True, lanes=None)
PARTITION_ROWS = "dagster/partition_row_count"
IN_JANUARY = "select count(*) from events where happened_on < '2024-02-01'"


@pytest.fixture
def materialized(instance):
    """Return the row counts of an asset's materializations, latest first."""

    def counts(asset, name):
        only = dg.AssetRecordsFilter(dg.AssetKey(asset))
        records = instance.fetch_materializations(only, limit=10).records
        return [record.asset_materialization.metadata[name].value for record in records]

    return counts


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("how", "managed"),
    [({}, []), ({}, ["mapper_core"]), ({"single_step": False, "lanes": 2}, [])],
)
def test_a_partition_loaded_while_it_is_being_loaded_is_there_once(
    run_mapping, materialized, instance, source, target, run, how
):
    """Who publishes last has its rows there; Dagit shows their number, and that they are older.

    The run's log says so too, once, whether or not Dagster manages the engine's logger.
    """
    other = threading.Event()
    results = []

    def meanwhile(rows):
        if not other.is_set():
            other.set()
            run(source, "insert into events values (-1, date '2024-01-05', 'between')")
            again = replace(ONE_STEP, transformation_func=meanwhile)
            results.append(run_mapping(again, JANUARY))
        return rows

    mapping = replace(ONE_STEP, transformation_func=meanwhile, **how)
    results.append(run_mapping(mapping, JANUARY))

    assert [True, True] == [result.success for result in results]
    (rows,) = run(target, "select count(*) from fact_events")[0]
    assert [rows, rows + 1] == materialized("fact_events", PARTITION_ROWS)
    last, first = materialized("fact_events", "mapper/verified")
    assert "its rows are older than those of load" in last
    assert "older" not in first
    log = instance.all_logs(results[-1].run_id)
    assert [logging.WARNING] == [e.level for e in log if "rows are older" in e.user_message]
    assert [(rows,)] == run(target, "select count(distinct id) from fact_events")


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("job", "asset", "table", "partitioned"),
    [
        ("load_events", "fact_events", "fact_events", True),
        ("load_whole_events", "whole_events", "fact_events", True),
        ("load_added_events", "added_events", "added_events", False),
    ],
)
def test_two_runs_that_write_at_the_same_moment_both_succeed(
    start_run, materialized, source, target, run, job, asset, table, partitioned
):
    """A window is there once, an append twice; neither waits for ever, and Dagit's counts are true.

    Both are held up where they first write to the target's own table, and let go together. Each in
    processes of its own: two runs in threads of one process come to hang in Dagster's logging.
    """
    run(target, f"create table added_events {TABLE.replace('primary key', '')}")
    partition = ["--tag", f"dagster/partition={JANUARY}"] if partitioned else []
    with psycopg.connect(target) as holding:
        holding.execute(f"lock table {table} in share mode")
        runs = [start_run(job, *partition) for _ in range(2)]
        wait_until(lambda: len(waiting_for_locks(target)) == 2, "both runs to be held up")

    assert all(ended(process)[1] for process in runs)
    rows = run(source, IN_JANUARY if partitioned else "select count(*) from events")[0][0]
    there = f"select count(*), count(distinct id) from {table}"
    assert [(rows if partitioned else 2 * rows, rows)] == run(target, there)
    shown = PARTITION_ROWS if partitioned else "mapper/rows_written"
    assert [rows, rows] == materialized(asset, shown)
    for url in (source, target):
        wait_until(lambda url=url: not backends(url), "the loads' sessions to end")
