"""Checks of a mapping: each passes on what is right, and fails, in words, on what is not."""

from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest

from mapper_core import SettingsError
from mapper_dagster import MapperResource, Mapping, build_mapping_asset, build_mapping_checks

from .conftest import EVENTS
from .deployment import EVENTS as BY_MONTH


@pytest.fixture
def check(instance, resources):
    """Run one check of a mapping by itself; return its evaluation."""

    def run_check(mapping, name, partition=None, until=None, **options):
        checks = build_mapping_checks(mapping, **options)
        defs = dg.Definitions(
            assets=[dg.AssetSpec(mapping.key, partitions_def=mapping.partitions_def)],
            asset_checks=checks,
            resources=resources,
            jobs=[
                dg.define_asset_job(
                    "checks",
                    selection=dg.AssetSelection.checks(dg.AssetCheckKey(mapping.key, name)),
                )
            ],
        )
        tags = {"dagster/partition": partition} if partition else {}
        if until:
            ends = {"start": partition, "end": until}
            tags = {f"dagster/asset_partition_range_{end}": key for end, key in ends.items()}
        result = defs.resolve_job_def("checks").execute_in_process(instance=instance, tags=tags)
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation

    return run_check


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("method", ["count", "checksum"])
def test_source_and_target_are_compared_within_the_partition(
    run_mapping, check, source, target, run, method
):
    """A difference in one month fails that month's check and no other; equal rows pass."""
    for month in ("2024-01-01", "2024-02-01"):
        assert run_mapping(BY_MONTH, month).success

    assert check(BY_MONTH, "source_equals_target", "2024-01-01", compare=method).passed
    run(target, "delete from fact_events where id = (select min(id) from fact_events)")

    january = check(BY_MONTH, "source_equals_target", "2024-01-01", compare=method)
    february = check(BY_MONTH, "source_equals_target", "2024-02-01", compare=method)
    (rows,) = run(source, "select count(*) from events where happened_on < '2024-02-01'")[0]
    assert (False, True) == (january.passed, february.passed)
    assert (rows, rows - 1) == tuple(
        january.metadata[f"mapper/{side}_rows"].value for side in ("source", "target")
    )
    assert "2024-01-01" in january.description


@pytest.mark.usefixtures("events")
def test_partitions_of_a_range_are_counted_together(run_mapping, check, source, target, run):
    """The one that differs is named, with its own numbers."""
    for month in ("2024-01-01", "2024-02-01"):
        assert run_mapping(BY_MONTH, month).success
    run(target, "delete from fact_events where id = (select min(id) from fact_events)")

    found = check(BY_MONTH, "source_equals_target", "2024-01-01", until="2024-02-01")

    (rows,) = run(source, "select count(*) from events where happened_on < '2024-03-01'")[0]
    told = {name: found.metadata[f"mapper/{name}"].value for name in ("compared", "source_rows")}
    assert {"compared": 2, "source_rows": rows} == told
    assert rows - 1 == found.metadata["mapper/target_rows"].value
    assert found.description.startswith("2024-01-01: count: the query of the source has ")
    assert 1 == len(found.description.splitlines())


@pytest.mark.usefixtures("events")
def test_source_and_target_are_read_in_the_time_zone_of_the_partitions(run_mapping, check):
    """In which a date has its day; and with the mapping's own values."""
    months = dg.MonthlyPartitionsDefinition("2024-01-01", timezone="America/New_York")
    mapping = replace(
        BY_MONTH,
        partitions_def=months,
        source_sql=BY_MONTH.source_sql.replace("WHERE", "WHERE note <> :other AND"),
        params={"other": "n1"},
    )
    assert run_mapping(mapping, "2024-02-01").success

    found = check(mapping, "source_equals_target", "2024-02-01")

    assert found.passed, found.description
    assert found.metadata["mapper/source_rows"].value


@pytest.mark.usefixtures("events")
def test_a_changed_value_is_found_by_checksum_alone(run_mapping, check, target, run):
    """What count cannot see."""
    assert run_mapping(BY_MONTH, "2024-01-01").success
    run(
        target, "update fact_events set note = 'other' where id = (select min(id) from fact_events)"
    )

    assert check(BY_MONTH, "source_equals_target", "2024-01-01", compare="count").passed
    assert not check(BY_MONTH, "source_equals_target", "2024-01-01", compare="checksum").passed


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("blocking", [True, False])
def test_a_blocking_check_that_fails_stops_what_is_downstream(
    instance, resources, target, run, blocking
):
    """Rows that somebody takes away between publishing and the check are missed in time."""
    run(
        target,
        "create function eat() returns trigger language plpgsql as $$ begin"
        " delete from fact_events where id = new.id; return null; end $$",
        "create trigger eat after insert on fact_events for each row when (new.id = 121)"
        " execute function eat()",
    )
    reported = []

    @dg.asset(deps=[BY_MONTH.key])
    def report():
        reported.append(True)

    result = (
        dg.Definitions(
            assets=[build_mapping_asset(BY_MONTH), report],
            asset_checks=build_mapping_checks(BY_MONTH, blocking=blocking),
            resources=resources,
        )
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(instance=instance, partition_key="2024-01-01", raise_on_error=False)
    )

    (found,) = [
        each
        for each in result.get_asset_check_evaluations()
        if each.check_name == "source_equals_target"
    ]
    assert not found.passed
    assert (not blocking, not blocking) == (result.success, bool(reported))


@pytest.fixture
def run_checks(instance, resources):
    """Run all checks of a mapping by themselves; return the result."""

    def run_all(mapping, partition, **options):
        defs = dg.Definitions(
            assets=[dg.AssetSpec(mapping.key, partitions_def=mapping.partitions_def)],
            asset_checks=build_mapping_checks(mapping, **options),
            resources=resources,
            jobs=[
                dg.define_asset_job(
                    "checks", selection=dg.AssetSelection.checks_for_assets(mapping.key)
                )
            ],
        )
        return defs.resolve_job_def("checks").execute_in_process(
            instance=instance, tags={"dagster/partition": partition}, raise_on_error=False
        )

    return run_all


EVERY_CHECK = {"max_reject_share": 0.0, "due_within": timedelta(days=36_500)}


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("blocking", "steps"),
    [
        (False, ["fact_events_checks"]),
        (True, ["fact_events_checks", "fact_events_source_equals_target"]),
    ],
)
def test_checks_are_made_by_one_step_and_a_blocking_one_by_its_own(
    run_mapping, run_checks, blocking, steps
):
    """A step costs the start of a process; what is downstream waits for no other check."""
    assert run_mapping(BY_MONTH, "2024-01-01").success

    result = run_checks(BY_MONTH, "2024-01-01", blocking=blocking, **EVERY_CHECK)

    assert steps == sorted({event.step_key for event in result.get_step_success_events()})
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert {
        "columns_unchanged": "2024-01-01",
        "few_rows_rejected": "2024-01-01",
        "partitions_on_time": None,
        "source_equals_target": "2024-01-01",
    } == {name: each.partition for name, each in found.items()}
    assert all(each.passed for each in found.values())


@pytest.mark.usefixtures("events")
def test_a_check_that_cannot_be_made_keeps_no_other_from_being_made(
    run_mapping, run_checks, target, run
):
    """Without the table nothing can be compared, and the step fails; what else it asked is told."""
    assert run_mapping(BY_MONTH, "2024-01-01").success
    run(target, "drop table fact_events")

    result = run_checks(BY_MONTH, "2024-01-01", **EVERY_CHECK)

    assert not result.success
    found = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
    others = ("columns_unchanged", "few_rows_rejected", "partitions_on_time")
    assert dict.fromkeys(others, True) == found
    (failed,) = result.get_step_failure_events()
    words = failed.step_failure_data.user_failure_data.description
    assert words.startswith("source_equals_target could not be checked: ")
    assert 'relation "public.fact_events" does not exist' in words


@pytest.mark.usefixtures("events")
def test_columns_that_changed_since_the_latest_load_are_named(run_mapping, check, source, run):
    """Gone, new, and of another type."""
    sql = BY_MONTH.source_sql
    assert check(BY_MONTH, "columns_unchanged", "2024-01-01").passed  # nothing loaded yet
    assert run_mapping(BY_MONTH, "2024-01-01").success
    assert check(BY_MONTH, "columns_unchanged", "2024-01-01").passed

    run(
        source,
        "alter table events add extra int, drop note, alter id type bigint",
    )

    found = check(BY_MONTH, "columns_unchanged", "2024-01-01")
    assert not found.passed
    for words in ("note is gone", "extra (integer) is new", "id was integer and is bigint"):
        assert words in found.description
    assert sql == BY_MONTH.source_sql


@pytest.mark.usefixtures("events")
def test_columns_are_compared_with_those_of_the_latest_load_of_a_range(
    run_mapping, check, source, target, run
):
    """And not with those of its first partition, which was loaded before they changed."""
    assert run_mapping(BY_MONTH, "2024-01-01").success
    run(source, "alter table events add more int")
    run(target, "alter table fact_events add more int")
    assert run_mapping(BY_MONTH, "2024-02-01").success

    assert not check(BY_MONTH, "columns_unchanged", "2024-01-01").passed
    assert check(BY_MONTH, "columns_unchanged", "2024-01-01", until="2024-03-01").passed


@pytest.mark.usefixtures("events")
def test_columns_are_those_of_a_partitions_own_query_and_of_the_ledger_it_is_in(
    run_mapping, check, resources, target, run
):
    """The query has the partition's values; the ledger may be elsewhere."""
    resources["mapper"] = MapperResource(max_workers=2, ledger_schema="books")
    by_note = Mapping(
        name="by_note",
        source_sql="SELECT id, happened_on, note FROM events WHERE note = :partition_key",
        target_table="fact_events",
        load_mode="upsert",
        primary_key="id",
        partitions_def=dg.StaticPartitionsDefinition(["n1", "n2"]),
    )
    assert run_mapping(by_note, "n2").success

    assert check(by_note, "columns_unchanged", "n2", compare=None).passed
    assert [(1,)] == run(target, "select count(*) from books.load")


@pytest.mark.usefixtures("events")
def test_a_check_of_no_partition_says_what_to_do(run_mapping, check):
    """Dagster itself cannot record its result; it says so only when source and target are read."""
    assert run_mapping(BY_MONTH, "2024-01-01").success

    for name in ("source_equals_target", "columns_unchanged"):
        with pytest.raises(dg.Failure, match="for a partition, or for a range of them"):
            check(BY_MONTH, name)


@pytest.mark.usefixtures("events")
def test_a_share_of_rejects_that_is_too_large_fails(run_mapping, shown, check, target, run):
    """By the numbers of the latest load, which show every row that was read."""
    run(target, "alter table fact_events add check (id > 20)")
    share = {"compare": None, "max_reject_share": 0.0}
    mapping = Mapping(
        name="whole",
        source_sql="SELECT * FROM events",
        target_table="fact_events",
        load_mode="replace",
        reject_limit=None,
        single_step=True,
    )
    assert check(mapping, "few_rows_rejected", **share).passed  # of nothing yet
    assert run_mapping(mapping).success

    seen = shown("whole")
    names = ("mapper/rows_read", "mapper/rejected", "mapper/rows_written", "dagster/row_count")
    assert [EVENTS, 20, EVENTS - 20, EVENTS - 20] == [seen[name] for name in names]
    assert 20 == sum(record.data["rows"] for record in seen["mapper/rejects"].records)
    few = {"compare": None, "max_reject_share": 20 / EVENTS}
    assert check(mapping, "few_rows_rejected", **few).passed
    found = check(mapping, "few_rows_rejected", compare=None, max_reject_share=0.001)
    assert (False, 20) == (found.passed, found.metadata["mapper/rejected"].value)


@pytest.mark.usefixtures("events")
def test_that_rows_were_refused_is_told_wherever_they_are_missed(
    run_mapping, shown, check, target, run
):
    """By what was compared, by the check that misses them, and by cause, without their values."""
    run(
        target,
        "alter table fact_events add constraint not_first check (id > 20)",
        "alter table fact_events alter note type varchar(4)",
    )
    mapping = replace(BY_MONTH, reject_limit=None, source_sql=BY_MONTH.source_sql + " DESC")
    assert run_mapping(mapping, "2024-01-01").success

    seen = shown("fact_events", "2024-01-01")
    read, refused = seen["mapper/rows_read"], seen["mapper/rejected"]
    told = f"count: {read:,} rows on both sides, {refused} of them refused and left out"
    assert told == seen["mapper/verified"]
    causes = [record.data for record in seen["mapper/rejects"].records]
    assert refused == sum(cause["rows"] for cause in causes)
    by_code = {cause["code"]: cause for cause in causes}
    assert ["22001", "23514"] == sorted(by_code)
    assert 'violates check constraint "not_first". \u2039...\u203a' in by_code["23514"]["error"]
    assert by_code["22001"]["rows"] > by_code["22001"]["chunks"] > 1
    found = check(mapping, "source_equals_target", "2024-01-01")
    assert not found.passed
    assert found.description.endswith(
        f"; the latest load left out {refused} rows of the source that were refused"
        f" ({seen['mapper/list_rejects']})"
    )


@pytest.mark.usefixtures("events")
def test_rejects_of_a_range_are_those_of_all_its_partitions(run_mapping, check, target, run):
    """Not of the one that is looked at last."""
    run(target, "alter table fact_events add check (id > 1)")
    mapping = replace(BY_MONTH, reject_limit=5)
    for month in ("2024-01-01", "2024-02-01"):
        assert run_mapping(mapping, month).success

    limit = {"compare": None, "max_reject_share": 0.0}
    found = check(mapping, "few_rows_rejected", "2024-01-01", until="2024-02-01", **limit)

    assert (False, 1) == (found.passed, found.metadata["mapper/rejected"].value)
    assert found.description.startswith("1 of ")


@pytest.mark.usefixtures("events")
def test_partitions_that_are_not_loaded_in_time_are_named(run_mapping, check):
    """All of them, not only the latest."""
    assert run_mapping(BY_MONTH, "2024-03-01").success

    found = check(BY_MONTH, "partitions_on_time", due_within=timedelta(days=1))

    assert (False, 3) == (found.passed, found.metadata["mapper/partitions_missing"].value)
    assert "2024-01-01, 2024-02-01, 2024-04-01" in found.description
    # Years on, those of 2024 will be due as well.
    assert check(BY_MONTH, "partitions_on_time", due_within=timedelta(days=36_500)).passed


def test_of_many_partitions_that_are_not_loaded_the_last_are_named(check):
    """And how many there are, so that nobody takes those named for all."""
    days = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-05-01")

    mapping = replace(BY_MONTH, partitions_def=days)
    found = check(mapping, "partitions_on_time", due_within=timedelta(days=1))

    assert found.description.startswith("121 are not loaded, the last of them 2024-04-21, ")
    assert found.description.endswith(", 2024-04-30")
    assert 121 == found.metadata["mapper/partitions_missing"].value


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"load_mode": "append"}, {}, "cannot be compared"),
        ({"load_mode": "replace", "transformation_func": list}, {}, "pass through a function"),
        ({"load_mode": "replace", "transform_batch": list}, {}, "pass through a function"),
        ({"load_mode": "replace"}, {"compare": "sum"}, "compare 'sum' is unknown: use 'count'"),
        ({"load_mode": "replace"}, {"max_reject_share": 5}, "not a share"),
        ({"load_mode": "replace"}, {"due_within": 24}, "due_within 24 is not a timedelta"),
        ({"load_mode": "replace"}, {"due_within": timedelta(1)}, "by time"),
        ({"load_mode": "replace"}, {"due_within": -timedelta(1)}, "due_within is negative"),
    ],
)
def test_checks_that_would_say_nothing_are_refused(change, options, words):
    """When they are built, with the cure."""
    mapping = replace(BY_MONTH, partitions_def=None, window_column=None, **change)
    with pytest.raises(SettingsError, match=words):
        build_mapping_checks(mapping, **options)
