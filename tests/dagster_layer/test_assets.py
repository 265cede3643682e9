"""A mapping as an asset: partitions load their windows, Dagit shows the ledger's counts."""

import os
import shlex
from dataclasses import replace

import dagster as dg
import pytest

from mapper_core.cli import main
from mapper_dagster import (
    DatabaseResource,
    MapperResource,
    Mapping,
    build_mapping_asset,
    build_mapping_checks,
    build_mapping_schedule,
    build_watermark_sensor,
)

from ..waiting import backends, wait_until
from . import deployment
from .conftest import EVENTS, TABLE
from .runs import ended

PARTITION_ROWS = "dagster/partition_row_count"
WHOLE_RANGE = {
    "dagster/asset_partition_range_start": "2024-01-01",
    "dagster/asset_partition_range_end": "2024-04-01",
}


def metadata_of(instance, asset, partition):
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition]), limit=1
    ).records
    return {k: v.value for k, v in records[0].asset_materialization.metadata.items()}


@pytest.mark.usefixtures("events")
def test_a_partition_loads_its_month_and_shows_its_own_count(
    materialize, instance, source, target, months
):
    """Rows, chunks, strategy and snapshot are in the materialization; counts equal a SELECT."""
    assert materialize("2024-02-01").success

    loaded = months(target, "fact_events")
    shown = metadata_of(instance, "fact_events", "2024-02-01")
    assert [months(source, "events")[1]] == loaded
    assert loaded[0][1] == shown[PARTITION_ROWS] == shown["mapper/rows_written"]
    assert (10, 0, "key") == (
        shown["mapper/chunks"],
        shown["mapper/rejected"],
        shown["mapper/strategy"],
    )
    assert shown["mapper/snapshot"].startswith("snapshot ")
    assert f"count: {loaded[0][1]:,} rows on both sides" == shown["mapper/verified"]
    assert 0 < shown["mapper/seconds"] < 60


@pytest.mark.usefixtures("events")
def test_materializing_a_month_again_replaces_that_month(materialize, source, target, run, months):
    """Changed, new and vanished rows of the source all arrive; other months stay."""
    for partition in ("2024-01-01", "2024-02-01"):
        assert materialize(partition).success
    run(
        source,
        "delete from events where id % 7 = 0",
        "update events set note = 'changed' where id % 5 = 0",
        "insert into events values (9001, date '2024-02-29', 'late'), (9002, '2024-03-01', 'next')",
    )
    january = months(target, "fact_events")[0]

    assert materialize("2024-02-01").success

    assert [january, months(source, "events")[1]] == months(target, "fact_events")


@pytest.mark.usefixtures("events")
def test_every_step_in_a_process_of_its_own_reads_one_snapshot(
    instance, start_run, source, target, months, run
):
    """The multiprocess executor with forkserver loads what one reader would have seen."""
    run_id, success = ended(start_run("load_events", "--tag", "dagster/partition=2024-03-01"))

    assert success
    assert [months(source, "events")[2]] == months(target, "fact_events")
    done = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
    lanes = {f"fact_events.lane[2024_03_01_{number}_of_3]" for number in (1, 2, 3)}
    assert {"fact_events.plan", *lanes, "fact_events.publish"} == {e.step_key for e in done}
    for url in (source, target):
        wait_until(lambda url=url: not backends(url), "the load's sessions to end")


@pytest.mark.usefixtures("events")
def test_a_range_run_counts_each_partition_apart(run_mapping, instance, source, target, months):
    """One run over a range is one load per partition; no total is copied to all of them."""
    ends = {"start": "2024-01-01", "end": "2024-04-01"}
    tags = {f"dagster/asset_partition_range_{end}": key for end, key in ends.items()}

    result = run_mapping(deployment.EVENTS, tags=tags)

    assert result.success
    assert months(source, "events") == months(target, "fact_events")
    shown = [
        metadata_of(instance, "fact_events", f"2024-0{month}-01")[PARTITION_ROWS]
        for month in range(1, 5)
    ]
    assert [count for _, count, _ in months(target, "fact_events")] == shown
    assert EVENTS == sum(shown)


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("how", [{"single_step": True, "lanes": None}, {"lanes": 1}, {"lanes": 2}])
def test_what_a_range_run_published_before_it_failed_is_recorded(
    run_mapping, instance, target, run, months, how
):
    """Dagit shows the partitions that are in the target, with their counts, and no other."""
    run(
        target,
        "alter table fact_events add constraint picky check (happened_on < date '2024-03-05')",
    )
    mapping = replace(deployment.EVENTS, **how)

    assert not run_mapping(mapping, tags=WHOLE_RANGE).success

    there = {str(month): rows for month, rows, _ in months(target, "fact_events")}
    assert ["2024-01-01", "2024-02-01"] == sorted(there)
    recorded = instance.fetch_materializations(dg.AssetKey("fact_events"), limit=10).records
    assert there == {
        each.asset_materialization.partition: each.asset_materialization.metadata[
            PARTITION_ROWS
        ].value
        for each in recorded
    }
    run(target, "alter table fact_events drop constraint picky")
    assert run_mapping(mapping, tags=WHOLE_RANGE).success
    assert 4 == len(instance.get_materialized_partitions(dg.AssetKey("fact_events")))


@pytest.mark.usefixtures("events")
def test_a_row_the_target_refuses_fails_the_run_and_publishes_nothing(
    materialize, instance, target, run, months
):
    """The step's error names the row's trouble; the month that was there stays."""
    assert materialize("2024-01-01").success
    before = months(target, "fact_events")
    run(
        os.environ["EVENTS_SOURCE_URL"],
        "alter table events alter column happened_on drop not null",
        "update events set note = repeat('x', 500) where id = 1331",
    )
    run(target, "alter table fact_events alter column note type varchar(100)")

    result = materialize("2024-01-01")

    assert not result.success
    failures = [e for e in result.all_events if e.is_step_failure]
    assert any("value too long" in str(e.step_failure_data.error_display_string) for e in failures)
    assert any("1 of 4 chunks failed" in str(e.step_failure_data.error) for e in failures)
    # Trying again would meet the same row.
    assert not [e for e in result.all_events if e.is_step_up_for_retry]
    assert before == months(target, "fact_events")


@pytest.mark.usefixtures("events")
def test_a_step_whose_chunks_failed_for_a_passing_reason_is_tried_again(
    run_mapping, resources, target, run
):
    """Once the library's own attempts at them are used up."""
    resources["mapper"] = MapperResource(max_workers=1, max_retries=1)
    run(
        target,
        "create sequence tries",
        "create function busy() returns trigger language plpgsql as $$ begin"
        " if nextval('tries') <= 2 then"
        "   raise exception 'busy' using errcode = 'serialization_failure'; end if;"
        " return null; end $$",
        f"create table all_events {TABLE}",
        "create trigger busy after insert on all_events for each statement execute function busy()",
    )

    result = run_mapping(replace(ALL, chunk_size=EVENTS))

    assert result.success
    assert 1 == sum(event.is_step_up_for_retry for event in result.all_events)
    assert [(EVENTS,)] == run(target, "select count(*) from all_events")


@pytest.mark.usefixtures("events")
def test_a_mistake_is_a_failure_in_words_without_a_url(materialize, target, run):
    """A missing table says so, once, and shows no connection string."""
    run(target, "drop table fact_events")

    result = materialize("2024-01-01")

    (failure,) = [e for e in result.all_events if e.is_step_failure]
    words = failure.step_failure_data.error_display_string
    assert "has no table public.fact_events" in words
    assert "host=" not in words


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("key", "given", "words"),
    [
        ("source", "postgresql://u:hunter2@h/d", "'source' is a str, not a DatabaseResource"),
        ("target", MapperResource(), "'target' is a MapperResource, not a DatabaseResource"),
        ("mapper", DatabaseResource(url="x"), "'mapper' is a DatabaseResource, not a Mapper"),
    ],
)
def test_a_resource_of_another_kind_is_told_at_once(instance, resources, key, given, words):
    """By its key, with what should be there, and without its value."""
    defs = dg.Definitions(
        assets=[build_mapping_asset(deployment.EVENTS)],
        asset_checks=build_mapping_checks(deployment.EVENTS),
        resources={**resources, key: given},
    )

    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key="2024-01-01", raise_on_error=False
    )

    failed = [event for event in result.all_events if event.is_step_failure]
    assert failed
    for failure in failed:
        said = failure.step_failure_data.error_display_string
        assert words in said
        assert "hunter2" not in said
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


@pytest.mark.usefixtures("events")
def test_an_unpartitioned_mapping_appends_once(instance, source, target, run):
    """Without partitions the asset is the whole query; what is added is not the table's count."""
    from mapper_dagster import DatabaseResource

    run(target, f"create table all_events {TABLE}")
    asset = build_mapping_asset(
        Mapping(
            name="all_events",
            source_sql="SELECT * FROM events ORDER BY id",
            target_table="all_events",
            min_rows_for_parallel=0,
            chunk_size=500,
        )
    )

    result = dg.materialize(
        [asset],
        instance=instance,
        resources={
            "source": DatabaseResource(url=source),
            "target": DatabaseResource(url=target),
            "mapper": MapperResource(max_workers=2),
        },
    )

    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert EVENTS == event.materialization.metadata["mapper/rows_written"].value
    assert "dagster/row_count" not in event.materialization.metadata
    assert [(EVENTS,)] == run(target, "select count(*) from all_events")


ALL = Mapping(
    name="all_events",
    source_sql="SELECT * FROM events ORDER BY id",
    target_table="all_events",
    min_rows_for_parallel=0,
    chunk_size=500,
    lanes=1,
)


@pytest.mark.usefixtures("events")
def test_a_mapping_says_how_its_target_is_made_and_its_rows_are_read_and_compared(
    run_mapping, shown, target, run
):
    """As the library's own options do."""
    doubled = replace(
        ALL,
        create_target=True,
        strategy="stream_once",
        verify="count",
        transform_batch=lambda batch: batch.slice(0, batch.num_rows - 1),
    )

    assert run_mapping(doubled).success

    seen = shown("all_events")
    assert "stream_once" == seen["mapper/strategy"]
    assert f"count: {EVENTS:,} rows on both sides" == seen["mapper/verified"]
    (there,) = run(target, "select count(*) from all_events")[0]
    assert EVENTS - seen["mapper/chunks"] >= there == seen["mapper/rows_written"] > 0


@pytest.mark.usefixtures("events")
def test_a_mapping_says_whether_its_rows_appear_all_at_once(run_mapping, target, run):
    """Those of an append that failed in part are in its stage then, and not in the target."""
    run(target, f"create table all_events {TABLE}")
    run(target, "alter table all_events alter note type varchar(4)")

    assert not run_mapping(replace(ALL, publish="atomic")).success
    assert [(0,)] == run(target, "select count(*) from all_events")
    assert not run_mapping(ALL).success
    assert [(500,)] == run(target, "select count(*) from all_events")


def sign(rows):
    """Say in each row's note which process saw it, among how many rows, and what of it."""
    return [{"note": f"{os.getpid()} {len(rows)} {' '.join(row)}"} for row in rows]


@pytest.mark.usefixtures("events")
def test_a_mapping_says_where_its_function_runs_and_what_it_sees(run_mapping, target, run):
    """A batch at a time, one column, in processes of its own."""
    run(target, f"create table all_events {TABLE}")
    mapping = replace(
        ALL,
        chunk_size=EVENTS,
        transformation_func=sign,
        transform_scope="batch",
        transform_columns="note",
        workers="processes",
    )

    assert run_mapping(mapping).success

    notes = [note.split() for (note,) in run(target, "select note from all_events")]
    assert EVENTS == len(notes)
    assert {"note"} == {" ".join(columns) for _, _, *columns in notes}
    assert str(os.getpid()) not in {process for process, *_ in notes}
    assert max(int(rows) for _, rows, *_ in notes) < EVENTS


@pytest.mark.usefixtures("events")
def test_a_load_that_finds_its_own_pace_has_one_lane(
    run_mapping, resources, target, months, monkeypatch
):
    """Its workers are found out in a step."""
    monkeypatch.setenv("MAPPER_MAX_WORKERS", "auto")
    resources["mapper"] = MapperResource()

    result = run_mapping(replace(deployment.EVENTS, lanes=None), "2024-01-01")

    assert result.success
    steps = {event.step_key for event in result.all_events if event.is_step_success}
    assert 2 == len(steps)  # one that plans and loads, one that publishes
    assert 1 == len(months(target, "fact_events"))


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("how", [{"single_step": True}, {"lanes": 2}])
def test_an_append_that_was_published_and_never_recorded_is_not_loaded_twice(
    run_mapping, shown, resources, source, target, run, how
):
    """Its run was killed in between; the next one records it, and only then may it be repeated."""
    run(target, f"create table all_events {TABLE.replace('primary key', '')}")
    mapping = Mapping(
        name="all_events",
        source_sql="SELECT * FROM events ORDER BY id",
        target_table="all_events",
        min_rows_for_parallel=0,
        chunk_size=500,
        **how,
    )
    # As far as the killed run came.
    load = ("killed:all_events", {"target_conn": target, "target_table": "all_events"})
    options = {"chunk_size": 500, "min_rows_for_parallel": 0, **load[1]}
    processor = resources["mapper"].processor()
    processor.plan_load(source, mapping.source_sql, load[0], **options)
    processor.load_lane(source, mapping.source_sql, load[0], lane=0, lanes=1, **options)
    processor.publish_load(source, mapping.source_sql, load[0], **options)
    again = {"mapper/resumes": "killed"}

    assert run_mapping(mapping, tags=again).success

    assert [(EVENTS,)] == run(target, "select count(*) from all_events")
    found = shown("all_events")
    assert (load[0], EVENTS) == (found["mapper/load_id"], found["mapper/rows_written"])
    assert run_mapping(mapping, tags=again).success
    assert [(2 * EVENTS,)] == run(target, "select count(*) from all_events")


@pytest.mark.usefixtures("events")
def test_a_replacement_that_was_published_and_never_recorded_is_loaded_anew(
    run_mapping, resources, source, target, run
):
    """With the rows of now: they take the place of those."""
    run(target, f"create table all_events {TABLE}")
    mapping = replace(ALL, load_mode="replace")
    load = ("killed:all_events", {"target_conn": target, "target_table": "all_events"})
    options = {"chunk_size": 500, "min_rows_for_parallel": 0, "load_mode": "replace", **load[1]}
    processor = resources["mapper"].processor()
    processor.plan_load(source, mapping.source_sql, load[0], **options)
    processor.load_lane(source, mapping.source_sql, load[0], lane=0, lanes=1, **options)
    processor.publish_load(source, mapping.source_sql, load[0], **options)
    run(source, "delete from events where id > 3000")

    assert run_mapping(mapping, tags={"mapper/resumes": "killed"}).success

    assert [(3_000,)] == run(target, "select count(*) from all_events")


@pytest.mark.usefixtures("events")
def test_a_load_whose_query_changed_is_told_to_begin_in_a_new_run(run_mapping, source, target, run):
    """Executed again, a run goes on with its load; nobody gives a load's id in Dagster."""
    run(target, "alter table fact_events add constraint picky check (id <> 121)")
    failed = run_mapping(deployment.EVENTS, "2024-01-01")
    assert not failed.success
    mended = replace(deployment.EVENTS, source_sql=deployment.EVENTS.source_sql + " -- mended")

    result = run_mapping(mended, "2024-01-01", tags={"mapper/resumes": failed.run_id})

    (failure,) = [e for e in result.all_events if e.is_step_failure]
    said = failure.step_failure_data.error_display_string
    assert "was used for another query" in said
    assert "launch a new run" in said
    run(target, "alter table fact_events drop constraint picky")
    assert run_mapping(mended, "2024-01-01").success


def test_a_literal_url_is_not_in_the_resources_repr():
    """A password that somebody wrote into the code does not come out of it again."""
    assert "hunter2" not in repr(DatabaseResource(url="postgresql://u:hunter2@h/d"))


@pytest.mark.usefixtures("events")
def test_two_mappings_of_one_name_are_told_apart_by_their_prefixes(
    instance, resources, target, run
):
    """They live in one code location, each with its steps, its schedule and its sensor."""
    days = replace(deployment.EVENTS, partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
    run(target, f"create table days {TABLE}")
    both = [
        replace(deployment.EVENTS, key_prefix="months"),
        replace(days, key_prefix=["by", "days"], target_table="days"),
    ]
    defs = dg.Definitions(
        assets=[build_mapping_asset(mapping) for mapping in both],
        schedules=[build_mapping_schedule(mapping) for mapping in both],
        sensors=[build_watermark_sensor(mapping, changed_at="at") for mapping in both],
        resources=resources,
    )

    dg.Definitions.validate_loadable(defs)

    assert [["by", "days", "fact_events"], ["months", "fact_events"]] == sorted(
        list(spec.key.path) for spec in defs.resolve_all_asset_specs() if spec.kinds
    )
    job = defs.resolve_implicit_global_asset_job_def()
    for mapping in both:
        loaded = job.execute_in_process(
            instance=instance, partition_key="2024-02-01", asset_selection=[mapping.key]
        )
        assert loaded.success
    counted = "select count(*), count(distinct happened_on) from"
    assert [(957, 29)] == run(target, f"{counted} fact_events")
    assert [(33, 1)] == run(target, f"{counted} days")


@pytest.mark.usefixtures("events")
def test_the_command_that_lists_rejects_can_be_typed(
    run_mapping, shown, target, run, monkeypatch, capsys
):
    """As Dagit shows it: where the ledger is, the environment says."""
    run(target, "alter table fact_events add check (id <> 7)")
    mapping = Mapping(
        name="whole",
        source_sql="SELECT * FROM events",
        target_table="fact_events",
        reject_limit=1,
        single_step=True,
    )
    assert run_mapping(mapping).success
    monkeypatch.setenv("MAPPER_TARGET_URL", target)

    program, *arguments = shlex.split(shown("whole")["mapper/list_rejects"])

    assert ("mapper", 0) == (program, main(arguments))
    assert '"id": "7"' in capsys.readouterr().out
