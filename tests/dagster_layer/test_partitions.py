"""Partitions of every kind, each loading what is its own; and what else a materialization shows."""

import base64
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest

from mapper_core import SettingsError
from mapper_dagster import (
    DatabaseResource,
    MapperResource,
    Mapping,
    MappingTranslator,
    build_mapping_asset,
)

from .conftest import EVENTS
from .deployment import EVENTS as BY_MONTH

SQL = "SELECT id, happened_on, note FROM events"
UPSERT: dict[str, Any] = {"target_table": "fact_events", "load_mode": "upsert", "primary_key": "id"}

# A load whose chunks are few enough to be told one by one.
PART = Mapping(
    name="part",
    source_sql="SELECT * FROM events",
    target_table="fact_events",
    chunk_key="id",
    chunk_size=100,
    min_rows_for_parallel=0,
)


@pytest.mark.usefixtures("events")
def test_a_static_partition_loads_what_its_query_says(run_mapping, shown, target, run):
    """Its key is a value like any other; the rows of other partitions stay."""
    mapping = Mapping(
        name="by_parity",
        source_sql=f"{SQL} WHERE id % 2 = (CASE :partition_key WHEN 'odd' THEN 1 ELSE 0 END)",
        partitions_def=dg.StaticPartitionsDefinition(["odd", "even"]),
        **UPSERT,
    )

    for partition in ("odd", "even"):
        assert run_mapping(mapping, partition).success
        assert EVENTS // 2 == shown("by_parity", partition)["dagster/partition_row_count"]

    assert [(EVENTS,)] == run(target, "select count(*) from fact_events")


@pytest.mark.usefixtures("events")
def test_an_upserts_count_is_what_its_partition_has_in_the_target(run_mapping, shown, target, run):
    """What a function leaves out is not there; where rows may share a key nothing is claimed."""
    odd = Mapping(
        name="odd",
        source_sql=f"{SQL} WHERE note <> :partition_key",
        partitions_def=dg.StaticPartitionsDefinition(["n1"]),
        transformation_func=lambda rows: [row for row in rows if row["id"] % 2],
        **UPSERT,
    )
    assert run_mapping(odd, "n1").success

    (rows,) = run(target, "select count(*) from fact_events")[0]
    assert EVENTS // 2 - 1 == rows == shown("odd", "n1")["dagster/partition_row_count"]
    # A row may be in several partitions' loads, so nobody knows how many all of them hold.
    assert "dagster/row_count" not in shown("odd", "n1")

    run(target, "truncate fact_events")
    halves = "SELECT id / 2 AS id, max(happened_on) AS happened_on, note FROM events"
    latest = replace(
        odd,
        name="latest",
        source_sql=f"{halves} WHERE note <> :partition_key GROUP BY events.id",
        transformation_func=None,
        order_column="note",
    )
    assert run_mapping(latest, "n1").success
    (rows,) = run(target, "select count(*) from fact_events")[0]
    assert EVENTS // 2 == rows
    assert "dagster/partition_row_count" not in shown("latest", "n1")


@pytest.mark.usefixtures("events")
def test_a_dynamic_partition_loads_what_its_query_says(run_mapping, instance, target, run):
    """Whatever key was added while Dagster ran, quotes and all."""
    strange = "n7'; drop table events --"
    instance.add_dynamic_partitions("notes", ["n7", strange])
    mapping = Mapping(
        name="by_note",
        source_sql=f"{SQL} WHERE note = :partition_key",
        partitions_def=dg.DynamicPartitionsDefinition(name="notes"),
        **UPSERT,
    )

    assert run_mapping(mapping, "n7").success
    assert run_mapping(mapping, strange).success

    assert [(7, "n7")] == run(target, "select id, note from fact_events")


@pytest.mark.usefixtures("events")
def test_a_partition_that_is_taken_away_while_its_run_is_under_way_is_left_out(
    run_mapping, instance, target, run
):
    """The lanes of those behind it load theirs, and no other's."""
    instance.add_dynamic_partitions("notes", ["n2", "n3", "n4"])

    def seen(rows):
        instance.delete_dynamic_partition("notes", "n3")
        return rows

    mapping = Mapping(
        name="by_note",
        source_sql=f"{SQL} WHERE note LIKE :partition_key || '%'",
        partitions_def=dg.DynamicPartitionsDefinition(name="notes"),
        transformation_func=seen,
        chunk_size=100,
        min_rows_for_parallel=0,
        lanes=2,
        **UPSERT,
    )

    ends = {"start": "n2", "end": "n4"}
    tags = {f"dagster/asset_partition_range_{end}": key for end, key in ends.items()}
    assert run_mapping(mapping, tags=tags).success

    # 4,000 events: those of n4 are n4 to n499, and n4000.
    first = "select left(note, 2), count(*) from fact_events group by 1 order by 1"
    assert [("n2", 1111), ("n4", 112)] == run(target, first)


@pytest.mark.usefixtures("events")
def test_two_dimensions_are_a_window_and_a_key(run_mapping, shown, source, target, run):
    """A month of one kind of event."""
    mapping = Mapping(
        name="by_both",
        source_sql=f"{SQL} WHERE happened_on >= :window_start AND happened_on < :window_end"
        " AND id % 2 = (CASE :parity WHEN 'odd' THEN 1 ELSE 0 END)",
        partitions_def=dg.MultiPartitionsDefinition(
            {
                "month": dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-05-01"),
                "parity": dg.StaticPartitionsDefinition(["odd", "even"]),
            }
        ),
        **UPSERT,
    )

    assert run_mapping(mapping, dg.MultiPartitionKey({"month": "2024-02-01", "parity": "odd"}))

    where = "where happened_on >= '2024-02-01' and happened_on < '2024-03-01' and id % 2 = 1"
    expected = run(source, f"select count(*), sum(id) from events {where}")
    assert expected == run(target, "select count(*), sum(id) from fact_events")


@pytest.mark.usefixtures("events")
def test_the_first_partition_can_hold_what_came_before(
    run_mapping, shown, source, target, months, run
):
    """Data before the first boundary has a partition, and that one counts it."""
    run(source, "insert into events values (-1, date '1999-12-31', 'old')")
    mapping = replace(BY_MONTH, include_earlier=True)

    assert run_mapping(mapping, "2024-01-01").success
    assert run_mapping(mapping, "2024-02-01").success
    assert run_mapping(mapping, "2024-01-01").success

    assert [("old",)] == run(target, "select note from fact_events where id = -1")
    january = run(source, "select count(*) from events where happened_on < '2024-02-01'")[0][0]
    assert january == shown("fact_events", "2024-01-01")["dagster/partition_row_count"]
    assert 3 == len(months(target, "fact_events"))


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("how", "steps"),
    [({"single_step": True, "lanes": None}, 1), ({"lanes": 1}, 2), ({"lanes": 3}, 5)],
)
def test_a_load_takes_as_many_steps_as_it_is_worth(
    run_mapping, instance, source, target, months, how, steps
):
    """One step, or one to plan and one to publish, or lanes in between: the rows are the same."""
    result = run_mapping(replace(BY_MONTH, **how), "2024-03-01")

    assert result.success
    assert steps == len({e.step_key for e in result.all_events if e.is_step_success})
    # Of a load that went well there is nothing to tell but what it is.
    assert not instance.fetch_observations(BY_MONTH.key, limit=1).records
    assert [months(source, "events")[2]] == months(target, "fact_events")


@pytest.mark.usefixtures("events")
def test_one_step_has_all_the_workers_of_its_plan(run_mapping):
    """Each of its chunks waits for another one to be under way at the same time."""
    together = threading.Barrier(2, timeout=30)

    def meet(rows):
        together.wait()
        return rows

    mapping = replace(
        BY_MONTH, lanes=None, single_step=True, chunk_size=300, transformation_func=meet
    )

    assert run_mapping(mapping, "2024-01-01").success


@pytest.fixture
def today():
    """A mapping whose last partition is today, and that partition."""
    daily = dg.DailyPartitionsDefinition("2024-01-01", end_offset=1)
    return replace(BY_MONTH, partitions_def=daily), daily.get_last_partition_key()


@pytest.mark.usefixtures("events")
def test_a_load_waits_for_transactions_older_than_its_windows_end(
    run_mapping, source, target, run, today
):
    """What they add is there; one that goes on for too long fails the load, in words."""
    mapping, day = today
    with closing(psycopg.connect(source)) as slow:
        slow.execute("insert into events values (-1, %s, 'slow')", (day,))

        impatient = run_mapping(replace(mapping, fence=timedelta(seconds=1)), day)

        (failure,) = [e for e in impatient.all_events if e.is_step_failure]
        assert "may still add rows" in failure.step_failure_data.error_display_string
        threading.Timer(2, slow.commit).start()
        assert run_mapping(replace(mapping, fence=timedelta(minutes=1)), day).success

    assert [("slow",)] == run(target, "select note from fact_events where id = -1")


@pytest.mark.usefixtures("events")
def test_what_was_read_is_lineage(run_mapping, shown, resources):
    """Tables of the SQL are upstream; each column says what it is made of."""
    mapping = replace(
        BY_MONTH,
        source_sql="""
            SELECT e.id, e.happened_on, upper(e.note) AS note FROM public.events AS e
            WHERE happened_on >= :window_start AND happened_on < :window_end
        """,
    )
    upstream = dg.AssetKey(["source", "public", "events"])

    asset = build_mapping_asset(mapping)
    assert run_mapping(mapping, "2024-01-01").success

    assert [upstream] == list(asset.asset_deps[mapping.key])
    found = shown("fact_events", "2024-01-01")
    columns = {column.name: column.type for column in found["dagster/column_schema"].columns}
    assert {"id": "integer", "happened_on": "date", "note": "text"} == columns
    (origin,) = found["dagster/column_lineage"].deps_by_column["note"]
    assert (upstream, "note") == (origin.asset_key, origin.column_name)


@pytest.mark.usefixtures("events")
def test_the_total_is_what_all_partitions_hold(run_mapping, shown, source, target, run):
    """Of each what its latest load has written; no row is counted for it."""
    run(source, "insert into events values (-1, date '2024-01-05', 'gone soon')")
    for month in ("2024-01-01", "2024-02-01"):
        assert run_mapping(BY_MONTH, month).success
    run(source, "delete from events where id = -1")
    assert run_mapping(replace(BY_MONTH, name="other"), "2024-03-01").success
    assert run_mapping(BY_MONTH, "2024-01-01").success

    mine = "select count(*) from fact_events where happened_on < '2024-03-01'"
    (rows,) = run(target, mine)[0]
    assert rows == shown("fact_events", "2024-01-01")["dagster/row_count"]

    from_february = dg.MonthlyPartitionsDefinition("2024-02-01", end_date="2024-05-01")
    assert run_mapping(replace(BY_MONTH, partitions_def=from_february), "2024-02-01").success
    # Of partitions that there are no more, nothing is counted.
    february = shown("fact_events", "2024-02-01")
    assert february["dagster/partition_row_count"] == february["dagster/row_count"]


@pytest.mark.usefixtures("events")
def test_the_picture_of_a_load_has_each_of_its_chunks(run_mapping, shown):
    """It is in the page itself, so nobody is asked for a file."""
    assert run_mapping(BY_MONTH, "2024-01-01").success

    found = shown("fact_events", "2024-01-01")
    _, _, encoded = found["mapper/timeline"].partition("base64,")
    picture = base64.b64decode(encoded.rstrip(")")).decode()
    assert found["mapper/chunks"] == picture.count("<rect")


@pytest.mark.usefixtures("events")
def test_a_load_that_failed_in_part_is_observed(run_mapping, instance, source, target, run):
    """What is in, what is not, and why, in numbers; the run fails."""
    run(source, "alter table events alter column happened_on drop not null")
    mapping = replace(
        PART,
        source_sql="SELECT id, nullif(happened_on, '2024-01-08') AS happened_on, note FROM events",
        single_step=True,
    )
    run(source, "update events set happened_on = '2024-02-01' where id > 200")

    assert not run_mapping(mapping).success

    (record,) = instance.fetch_observations(dg.AssetKey("part"), limit=1).records
    said = {k: v.value for k, v in record.asset_observation.metadata.items()}
    (rows,) = run(target, "select count(*) from fact_events")[0]
    assert rows == said["mapper/rows_in"] > 0
    assert EVENTS == said["mapper/rows_in"] + said["mapper/rows_failed"]


@pytest.fixture
def observed(instance):
    """Return what the latest observation of an asset says, in words and numbers."""

    def latest(asset):
        (record,) = instance.fetch_observations(dg.AssetKey(asset), limit=1).records
        told = record.asset_observation
        return told.description, {k: v.value for k, v in told.metadata.items()}

    return latest


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("refused", ["1", "1, 101", "1, 201", "201", "1, 101, 201"])
def test_what_is_observed_of_a_load_that_failed_in_part_is_all_of_it(
    run_mapping, observed, target, run, refused
):
    """Whichever lanes its failed chunks were in, and whichever ended last."""
    run(target, f"alter table fact_events add check (id not in ({refused}))")
    mapping = replace(PART, lanes=3)

    assert not run_mapping(mapping).success

    words, said = observed("part")
    failed = len(refused.split(", "))
    (rows,) = run(target, "select count(*) from fact_events")[0]
    assert "is in the target" in words
    assert (rows, 100 * failed) == (said["mapper/rows_in"], said["mapper/rows_failed"])
    assert rows + 100 * failed == EVENTS
    lanes = [record.data for record in said["mapper/lanes"].records]
    assert all(3 == told["lanes"] for told in lanes)
    assert failed == sum(told["chunks_failed"] for told in lanes)
    chunks = [record.data for record in said["mapper/failed_chunks"].records]
    assert failed == len({told["chunk"] for told in chunks}) == len(chunks)
    assert (EVENTS // 100 - failed, failed, 0) == tuple(
        said[f"mapper/chunks_{what}"] for what in ("in", "failed", "missing")
    )


@pytest.mark.usefixtures("events")
def test_rows_that_were_rejected_are_not_said_to_be_in(run_mapping, observed, target, run):
    """They are among those failed, as in a load's result."""
    run(
        target,
        "alter table fact_events add check (id not in (1, 2, 101))",
        # No fault of a row's.
        "create function fail() returns trigger language plpgsql as"
        " $$ begin raise exception 'closed' using errcode = '55000'; end $$",
        "create trigger fail before insert on fact_events for each row when (new.id = 201)"
        " execute function fail()",
    )
    mapping = replace(PART, reject_limit=4, single_step=True)

    assert not run_mapping(mapping).success

    _, said = observed("part")
    (rows,) = run(target, "select count(*) from fact_events")[0]
    assert (rows, 103) == (said["mapper/rows_in"], said["mapper/rows_failed"])
    assert 3 == said["mapper/rejected"]
    assert rows + 103 == EVENTS


@pytest.mark.usefixtures("events")
def test_of_a_window_that_failed_in_part_nothing_is_in_the_target(
    run_mapping, observed, target, run
):
    """What is observed says where its rows are instead."""
    run(target, "alter table fact_events alter note type varchar(4)")

    assert not run_mapping(BY_MONTH, "2024-01-01").success

    words, said = observed("fact_events")
    assert "waits in its stage" in words
    assert said["mapper/rows_in"] > 0
    assert [(0,)] == run(target, "select count(*) from fact_events")


@pytest.mark.usefixtures("events")
def test_of_a_load_of_which_nothing_was_in_nobody_is_told_that_it_is_gone_on_with(
    run_mapping, instance, target, run
):
    """There is nothing that the earlier run had finished."""
    mapping = replace(PART, name="none", chunk_size=1_000, lanes=1)
    run(target, "alter table fact_events add constraint picky check (id < 0)")
    failed = run_mapping(mapping)
    assert not failed.success
    run(target, "alter table fact_events drop constraint picky")

    assert run_mapping(mapping, tags={"mapper/resumes": failed.run_id}).success

    told = instance.fetch_observations(mapping.key, limit=10).records
    assert not [t for t in told if "is continued" in str(t.asset_observation.description)]


@pytest.mark.usefixtures("events")
def test_of_many_failed_chunks_the_first_are_listed_and_the_others_counted(
    run_mapping, instance, target, run
):
    """A load of thousands of chunks does not fill Dagster's event log with one reason."""
    run(target, "alter table fact_events add check (id < 0)")
    mapping = replace(PART, single_step=True)

    (failure,) = [e for e in run_mapping(mapping).all_events if e.is_step_failure]

    shown = failure.step_failure_data.user_failure_data.metadata
    listed = len(shown["mapper/failed_chunks"].records)
    assert 1 < listed < EVENTS // 100
    assert EVENTS // 100 == listed + shown["mapper/failed_chunks_not_shown"].value
    # Nothing is in, so the failure says it all.
    assert not instance.fetch_observations(mapping.key, limit=1).records


def test_a_translator_says_how_assets_appear():
    """Keys, groups and upstream are its word."""

    class Ours(MappingTranslator):
        def get_asset_spec(self, mapping):
            spec = super().get_asset_spec(mapping)
            return spec.replace_attributes(key=spec.key.with_prefix("lake"), group_name="ours")

        def get_table_key(self, mapping, table):
            return dg.AssetKey(["raw", table[-1]])

    asset = build_mapping_asset(BY_MONTH, Ours())

    (spec,) = asset.specs
    assert (dg.AssetKey(["lake", "fact_events"]), "ours") == (spec.key, spec.group_name)
    assert [dg.AssetKey(["raw", "events"])] == [dep.asset_key for dep in spec.deps]


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({"dagster/partition": "2023-12-01"}, "2023-12-01"),
        (
            {
                "dagster/asset_partition_range_start": "2024-04-01",
                "dagster/asset_partition_range_end": "2024-05-01",
            },
            "2024-05-01",
        ),
    ],
)
def test_a_partition_that_there_is_not_is_told_at_once(run_mapping, target, run, tags, named):
    """Who launches runs by other means than Dagit may have written anything."""
    result = run_mapping(BY_MONTH, tags=tags)

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    said = failure.step_failure_data.error_display_string
    assert f"fact_events has no partition '{named}': the first is '2024-01-01'" in said
    assert "and '2024-04-01' the last" in said
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert [(0,)] == run(target, "select count(*) from fact_events")


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(("role", "how"), [("target", {}), ("source", {"fence": timedelta(1)})])
def test_a_database_that_stays_away_is_what_the_run_failed_of(instance, resources, role, how):
    """After the last attempt Dagit shows why, and not that there were many attempts."""
    away = {
        role: DatabaseResource(url="postgresql://u@127.0.0.1:1/d"),
        "mapper": MapperResource(max_retries=0),
    }
    defs = dg.Definitions(
        assets=[build_mapping_asset(replace(BY_MONTH, **how))], resources={**resources, **away}
    )

    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key="2024-01-01", raise_on_error=False
    )

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    said = failure.step_failure_data.error_display_string
    assert "Connection refused" in said
    assert "max_retries" not in said
    assert 2 == sum(event.is_step_up_for_retry for event in result.all_events)


@pytest.mark.usefixtures("events")
def test_a_load_that_is_gone_on_with_says_as_of_when_it_reads(
    run_mapping, instance, observed, source, target, run
):
    """What was mended in the source meanwhile is not in it; a new run has that."""
    run(target, "alter table fact_events add constraint picky check (id <> 121)")
    failed = run_mapping(BY_MONTH, "2024-01-01")
    assert not failed.success
    run(source, "update events set note = 'mended' where id = 1")
    run(target, "alter table fact_events drop constraint picky")

    again = run_mapping(BY_MONTH, "2024-01-01", tags={"mapper/resumes": failed.run_id})

    assert again.success
    assert [("n1",)] == run(target, "select note from fact_events where id = 1")
    log = [entry.user_message for entry in instance.all_logs(again.run_id)]
    (said,) = [
        words for words in log if "Continuing the load of an earlier run at its snapshot" in words
    ]
    assert "launch a new run" in said
    assert observed("fact_events")[1]["mapper/snapshot"] in said


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("appended", [True, False])
def test_who_loads_anew_after_an_append_failed_is_told_what_is_in_already(
    run_mapping, target, run, appended
):
    """A new run appends all rows: those that are in would be there twice."""
    run(target, "alter table fact_events add check (id <> 1001)")
    mapping = replace(
        PART, chunk_size=500, publish=None if appended else "atomic", single_step=True
    )

    failed = run_mapping(mapping)
    changed = replace(mapping, source_sql="SELECT * FROM events WHERE id <> 1001")
    refused = run_mapping(changed, tags={"mapper/resumes": failed.run_id})

    assert [(3_500 if appended else 0,)] == run(target, "select count(*) from fact_events")
    for result in (failed, refused):
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        said = failure.step_failure_data.error_display_string
        assert "launch a new run" in said
        assert appended is ("delete the rows that this load has appended to the target" in said)


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("how", [{"single_step": True, "lanes": None}, {"lanes": 2}])
def test_a_run_without_a_partition_says_to_choose_one(run_mapping, target, run, how):
    """Once, and no step is tried again for it."""
    result = run_mapping(replace(BY_MONTH, **how))

    (failure,) = [event for event in result.all_events if event.is_step_failure]
    said = failure.step_failure_data.error_display_string
    assert "fact_events is loaded by partition: launch the run for a partition" in said
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert [(0,)] == run(target, "select count(*) from fact_events")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key_prefix": "raw/shop"}, r"key_prefix 'raw/shop'.*\['raw', 'shop'\]"),
        ({"name": None}, "name None"),
        ({"source_sql": " "}, "source_sql is empty"),
        ({"target_table": ""}, "target_table is empty"),
        ({"load_mode": "upsert", "window_column": None}, "primary_key"),
        ({"fence": 5}, "fence 5 is not a timedelta"),
        ({"partitions_def": "monthly"}, "partitions_def 'monthly' is no"),
        ({"transformation_func": "upper"}, "transformation_func 'upper' is not a function"),
        (
            {"partitions_def": dg.StaticPartitionsDefinition(["a"]), "load_mode": "replace_window"},
            "load_mode='upsert'",
        ),
        ({"partitions_def": None, "window_column": None, "include_earlier": True}, "by time"),
        ({"load_mode": "append", "window_column": None}, "again each time"),
    ],
)
def test_partitions_that_would_not_work_are_refused(change, words):
    """Before anything runs, with the cure."""
    with pytest.raises(SettingsError, match=words):
        replace(BY_MONTH, **change)
