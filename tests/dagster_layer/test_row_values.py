"""Values of rows stay out of what Dagster records, which more people read than the rows.

Each case is a failure in whose words PostgreSQL, the library or a driver would quote a row.
"""

from dataclasses import replace

import dagster as dg
import pytest
from dagster_shared.serdes import serialize_value

from mapper_core import execute_query_parallel
from mapper_dagster import Mapping, build_job_asset

from .deployment import EVENTS

SECRET = "hush hush"
SQL = "SELECT * FROM events WHERE happened_on >= :window_start AND happened_on < :window_end"


@pytest.fixture
def managed():
    """Dagster records what the library logs, as `deploy/dagster.yaml` has it."""
    return ["mapper_core", "mapper_dagster"]


@pytest.fixture
def recorded(instance):
    """Return all that Dagster has recorded of a run."""

    def all_of(result):
        assert not result.success
        return "\n".join(map(serialize_value, instance.all_logs(result.run_id)))

    return all_of


@pytest.fixture(autouse=True)
def secret(events, source, run):
    """Two events of January have a note that nobody is to see."""
    run(source, f"update events set note = '{SECRET}' where id in (121, 122)")


MONTHLY = replace(EVENTS, source_sql=SQL)
WHOLE = Mapping(
    name="whole",
    source_sql="SELECT * FROM events",
    target_table="fact_events",
    chunk_key="id",
    chunk_size=500,
    min_rows_for_parallel=0,
    lanes=2,
)


@pytest.mark.parametrize(
    ("prepare", "mapping", "named"),
    [
        (
            "alter table fact_events add constraint picky check (id <> 121)",
            MONTHLY,
            "picky",
        ),
        (
            "alter table fact_events add constraint picky check (id <> 121)",
            WHOLE,
            "picky",
        ),
        (
            "alter table fact_events add constraint picky check (id not in (121, 122))",
            replace(WHOLE, reject_limit=1),
            "more than 1 rows were refused",
        ),
        (
            "alter table fact_events add extra int not null generated always as"
            " (nullif(id, 121)) stored",
            WHOLE,
            "extra",
        ),
        (
            "create unique index only_once on fact_events (note)",
            MONTHLY,
            "only_once",
        ),
        (
            "create unique index only_once on fact_events (note)",
            replace(WHOLE, publish="atomic"),
            "only_once",
        ),
        (
            "alter table fact_events alter note type varchar(8)",
            WHOLE,
            "column note",
        ),
        (
            "alter table fact_events alter note type int using 0",
            replace(
                WHOLE,
                source_sql="SELECT id, happened_on, (CASE WHEN note LIKE 'n%' THEN '0' ELSE note"
                " END)::int AS note FROM events",
            ),
            "invalid input syntax for type integer",
        ),
        (
            "alter table fact_events drop constraint fact_events_pkey",
            replace(WHOLE, load_mode="upsert", primary_key="note"),
            "more than once",
        ),
    ],
)
def test_why_a_load_failed_is_told_without_the_rows_values(
    run_mapping, recorded, target, run, prepare, mapping, named
):
    """The constraint, the column or the key is named, and the cure; in every record alike."""
    run(target, prepare)
    partition = None if mapping.partitions_def is None else "2024-01-01"

    told = recorded(run_mapping(mapping, partition))

    assert named in told
    assert "re-execute" in told or "needs a new load id" in told
    assert SECRET not in told


def test_a_job_that_raises_tells_no_row_either(instance, recorded, resources, target, run):
    """What the library raised in a job is told as in an asset."""
    run(target, "alter table fact_events add constraint picky check (id <> 121)")

    def execute_job(metadata_conn, source_conn, target_conn, session_params):
        result = execute_query_parallel(
            source_conn=source_conn,
            source_sql="SELECT * FROM events ORDER BY id",
            target_conn=target_conn,
            target_table="fact_events",
        )
        result.raise_for_failures()
        return {"status": "SUCCESS"}

    told = recorded(
        dg.materialize(
            [build_job_asset(execute_job, name="job")],
            instance=instance,
            resources=resources,
            raise_on_error=False,
        )
    )

    assert "picky" in told
    assert SECRET not in told


def test_the_librarys_own_result_keeps_them(source, target, run):
    """Who loads from Python may read the rows, and looks for the one that was refused."""
    run(target, "alter table fact_events add constraint picky check (id <> 121)")

    result = execute_query_parallel(
        source_conn=source,
        source_sql="SELECT * FROM events ORDER BY id",
        target_conn=target,
        target_table="fact_events",
    )

    assert SECRET in result.chunk_errors[0]["error"]
