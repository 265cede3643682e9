"""Jobs that were there before Dagster, as assets, unchanged."""

import dagster as dg
import pytest

from mapper_core import SettingsError
from mapper_core.parallel_query_executor import execute_query_parallel
from mapper_dagster import DatabaseResource, build_job_asset

from .conftest import EVENTS


def execute_job(metadata_conn, source_conn, target_conn, session_params):
    """Load events as our jobs do."""
    result = execute_query_parallel(
        source_conn=source_conn,
        source_sql="SELECT * FROM events ORDER BY id",
        target_conn=target_conn,
        target_table="fact_events",
        max_workers=session_params["workers"],
    )
    return {"status": "SUCCESS", "rows_processed": result.total_rows_processed, "batch": "a"}


def partial(metadata_conn, source_conn, target_conn, session_params):
    return {"status": "PARTIAL", "rows": 10, "rows_failed": 3}


def failed(metadata_conn, source_conn, target_conn, session_params):
    return {"status": "FAILED", "message": "no such customer"}


def silent(metadata_conn, source_conn, target_conn, session_params):
    return None


@pytest.fixture
def run_job(instance, resources):
    """Materialize a job's asset in this process; return the result."""

    def run_one(function, partition=None, session_params=None, **options):
        asset = build_job_asset(function, name="job", **options)
        config = {"ops": {"job": {"config": {"session_params": session_params or {}}}}}
        return dg.materialize(
            [asset],
            instance=instance,
            resources=resources,
            partition_key=partition,
            run_config=config,
            raise_on_error=False,
        )

    return run_one


@pytest.mark.usefixtures("events")
def test_a_job_gets_its_connections_and_parameters(run_job, shown, target, run):
    """And what it returns is what Dagit shows; the run's own parameters win."""
    assert run_job(execute_job, session_params={"workers": 2}).success

    assert [(EVENTS,)] == run(target, "select count(*) from fact_events")
    assert {"mapper/rows_processed": EVENTS, "mapper/batch": "a"}.items() <= shown("job").items()


@pytest.mark.usefixtures("events")
def test_a_partition_is_told_to_the_job(run_job, shown):
    """By key and, by time, as a window in UTC."""
    told = {}

    def listen(metadata_conn, source_conn, target_conn, session_params):
        told.update(session_params)
        return {"status": "success", "rows": 7}

    daily = dg.DailyPartitionsDefinition("2026-10-24", timezone="Europe/Berlin")
    assert run_job(
        listen, "2026-10-25", partitions_def=daily, session_params={"batch_id": 42}
    ).success

    assert {"partition_key": "2026-10-25", "batch_id": 42}.items() <= told.items()
    assert 25 == (told["window_end"] - told["window_start"]).total_seconds() / 3600
    assert 7 == shown("job", "2026-10-25")["dagster/partition_row_count"]


@pytest.mark.usefixtures("events")
def test_a_job_that_did_a_part_fails_and_leaves_its_numbers(run_job, instance):
    """As an observation; nothing is materialized."""
    assert not run_job(partial).success

    (record,) = instance.fetch_observations(dg.AssetKey("job"), limit=1).records
    numbers = {k: v.value for k, v in record.asset_observation.metadata.items()}
    assert {"mapper/rows_processed": 10, "mapper/rows_failed": 3} == numbers
    assert not instance.fetch_materializations(dg.AssetKey("job"), limit=1).records


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("function", "words"),
    [(failed, "FAILED: message no such customer"), (silent, "no dict with a status")],
)
def test_a_job_that_failed_says_why(run_job, function, words):
    """In the step's own failure."""
    result = run_job(function)

    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert words in failure.step_failure_data.error_display_string


def test_a_prefix_is_one_part_and_what_a_job_reads_is_a_list():
    """A text is not taken apart into its letters."""
    asset = build_job_asset(execute_job, name="job", key_prefix="dw")

    assert dg.AssetKey(["dw", "job"]) == asset.key
    with pytest.raises(SettingsError, match="deps is a list"):
        build_job_asset(execute_job, name="job", deps="orders")


def test_a_database_that_cannot_be_reached_is_told_in_words(instance, resources):
    """As of a mapping: which one, why, without its password."""
    asset = build_job_asset(execute_job, name="job")
    nobody = DatabaseResource(url="postgresql://u:hunter2@127.0.0.1:1/d")

    result = dg.materialize(
        [asset],
        instance=instance,
        resources={**resources, "source": nobody},
        raise_on_error=False,
    )

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    said = failure.step_failure_data.error_display_string
    assert "the resource 'source': " in said.partition("Stack Trace")[0]
    assert "Connection refused" in said
    assert "hunter2" not in said


@pytest.mark.usefixtures("events")
def test_numbers_as_a_database_counts_them_are_shown(run_job, shown):
    """A sum is a Decimal in most drivers."""

    def count(metadata_conn, source_conn, target_conn, session_params):
        with source_conn.cursor() as cursor:
            cursor.execute("select sum(1), avg(0.5) from events")
            rows, share = cursor.fetchone()
        return {"status": "SUCCESS", "rows": rows, "share": share}

    assert run_job(count).success

    found = shown("job")
    assert (EVENTS, 0.5) == (found["mapper/rows_processed"], found["mapper/share"])
