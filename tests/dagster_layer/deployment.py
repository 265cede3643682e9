"""A small deployment that tests run in other processes: partitioned mappings."""

import os
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg

from mapper_dagster import DatabaseResource, MapperResource, Mapping, build_mapping_asset

EVENTS = Mapping(
    name="fact_events",
    source_sql="""
        SELECT * FROM events
        WHERE happened_on >= :window_start AND happened_on < :window_end ORDER BY id
    """,
    target_schema="public",
    target_table="fact_events",
    partitions_def=dg.MonthlyPartitionsDefinition(start_date="2024-01-01", end_date="2024-05-01"),
    window_column="happened_on",
    chunk_size=100,
    min_rows_for_parallel=0,
    lanes=3,
)


def wait_at_the_gate(rows):
    """Hold up every chunk but the first while the gate's file exists."""
    gate = Path(os.environ["EVENTS_GATE"])
    while gate.exists() and all(row["id"] > 400 for row in rows):
        time.sleep(0.05)
    return rows


GATED_EVENTS = replace(EVENTS, name="gated_events", transformation_func=wait_at_the_gate)

STORMY_ROWS = 3_000
STORMY_EVENTS = replace(
    EVENTS,
    name="stormy_events",
    target_table="stormy_events",
    source_sql="""
        SELECT id, happened_on, version FROM events
        WHERE happened_on >= :window_start AND happened_on < :window_end AND slow(id) ORDER BY id
    """,
    chunk_size=200,
    lanes=2,
)

WHOLE_EVENTS = replace(EVENTS, name="whole_events", lanes=None, single_step=True)
ADDED_EVENTS = replace(
    EVENTS,
    name="added_events",
    target_table="added_events",
    source_sql="SELECT * FROM events ORDER BY id",
    partitions_def=None,
    window_column=None,
    lanes=2,
)

MAPPINGS = (EVENTS, GATED_EVENTS, STORMY_EVENTS, WHOLE_EVENTS, ADDED_EVENTS)

defs = dg.Definitions(
    assets=[build_mapping_asset(each) for each in MAPPINGS],
    jobs=[
        dg.define_asset_job("load_events", selection=["fact_events"]),
        dg.define_asset_job("load_gated_events", selection=["gated_events"]),
        dg.define_asset_job("load_stormy_events", selection=["stormy_events"]),
        dg.define_asset_job("load_whole_events", selection=["whole_events"]),
        dg.define_asset_job("load_added_events", selection=["added_events"]),
    ],
    resources={
        "source": DatabaseResource(url=dg.EnvVar("EVENTS_SOURCE_URL")),
        "target": DatabaseResource(url=dg.EnvVar("EVENTS_TARGET_URL")),
        "mapper": MapperResource(max_retries=1),
    },
    executor=dg.multiprocess_executor.configured(
        {
            "max_concurrent": 2,
            "start_method": {
                "forkserver": {"preload_modules": ["dagster", "tests.dagster_layer.deployment"]}
            },
        }
    ),
)


def load_events():
    """Return the job, for processes that have to find it by its name."""
    return defs.resolve_job_def("load_events")


def load_gated_events():
    """Return the job, for processes that have to find it by its name."""
    return defs.resolve_job_def("load_gated_events")


def load_stormy_events():
    """Return the job, for processes that have to find it by its name."""
    return defs.resolve_job_def("load_stormy_events")


def load_whole_events():
    """Return the job, for processes that have to find it by its name."""
    return defs.resolve_job_def("load_whole_events")


def load_added_events():
    """Return the job, for processes that have to find it by its name."""
    return defs.resolve_job_def("load_added_events")
