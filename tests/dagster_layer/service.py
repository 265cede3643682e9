"""What the deployed Dagster of `test_service` loads."""

import os
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg

from mapper_dagster import (
    DatabaseResource,
    MapperResource,
    build_load_request_sensor,
    build_mapping_asset,
    build_mapping_checks,
    build_source_specs,
)

from .deployment import EVENTS

YEAR = dg.MonthlyPartitionsDefinition(start_date="2024-01-01", end_date="2025-01-01")


def wait_at_the_gate(rows):
    """Hold up every chunk but the first of its month while the gate's file exists."""
    gate = Path(os.environ["EVENTS_GATE"])
    while gate.exists() and all(row["id"] > 400 for row in rows):
        time.sleep(0.05)
    return rows


MONTHLY = replace(
    EVENTS,
    partitions_def=YEAR,
    chunk_size=300,
    lanes=None,
    single_step=True,
    pool="warehouse",
    backfill_policy=dg.BackfillPolicy.multi_run(2),
)
SLOW = replace(
    MONTHLY,
    backfill_policy=None,
    name="slow_events",
    target_table="slow_events",
    single_step=False,
    lanes=2,
    chunk_size=100,
    transformation_func=wait_at_the_gate,
)
CLICKED = replace(
    MONTHLY, name="clicked_events", target_table="clicked_events", backfill_policy=None
)

defs = dg.Definitions(
    assets=[
        *(build_mapping_asset(each) for each in (MONTHLY, SLOW, CLICKED)),
        *build_source_specs([MONTHLY, SLOW, CLICKED]),
    ],
    asset_checks=[*build_mapping_checks(MONTHLY), *build_mapping_checks(CLICKED)],
    sensors=[build_load_request_sensor([MONTHLY], minimum_interval_seconds=2)],
    resources={
        "source": DatabaseResource(url=dg.EnvVar("EVENTS_SOURCE_URL")),
        "target": DatabaseResource(url=dg.EnvVar("EVENTS_TARGET_URL")),
        "mapper": MapperResource(max_retries=1),
    },
    executor=dg.multiprocess_executor.configured(
        {
            "max_concurrent": 2,
            "start_method": {
                "forkserver": {
                    "preload_modules": [
                        "dagster",
                        "dagster_postgres",
                        "tests.dagster_layer.service",
                    ]
                }
            },
        }
    ),
)
