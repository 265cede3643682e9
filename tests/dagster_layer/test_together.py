"""Two runs of one partition at the same time: each is a load of its own."""

import threading
from dataclasses import replace

import dagster as dg
import pytest

from .deployment import EVENTS as BY_MONTH

JANUARY = "2024-01-01"
ONE_STEP = replace(BY_MONTH, single_step=True, lanes=None)
PARTITION_ROWS = "dagster/partition_row_count"


@pytest.fixture
def materialized(instance):
    """Return the row counts of an asset's materializations, latest first."""

    def counts(asset, name):
        only = dg.AssetRecordsFilter(dg.AssetKey(asset))
        records = instance.fetch_materializations(only, limit=10).records
        return [record.asset_materialization.metadata[name].value for record in records]

    return counts


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("how", [{}, {"single_step": False, "lanes": 2}])
def test_a_partition_loaded_while_it_is_being_loaded_is_there_once(
    run_mapping, materialized, source, target, run, how
):
    """Who publishes last has its rows there, and Dagit shows their number."""
    other = threading.Event()
    results = []

    def meanwhile(rows):
        if not other.is_set():
            other.set()
            run(source, "insert into events values (-1, date '2024-01-05', 'between')")
            results.append(run_mapping(ONE_STEP, JANUARY))
        return rows

    mapping = replace(ONE_STEP, transformation_func=meanwhile, **how)
    results.append(run_mapping(mapping, JANUARY))

    assert [True, True] == [result.success for result in results]
    (rows,) = run(target, "select count(*) from fact_events")[0]
    assert [rows, rows + 1] == materialized("fact_events", PARTITION_ROWS)
    assert [(rows,)] == run(target, "select count(distinct id) from fact_events")
