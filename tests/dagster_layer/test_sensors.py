"""Sensors ask for what is needed, once, whatever happens between their ticks."""

from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import psycopg
import pytest
from dagster._core.execution.api import create_execution_plan

from mapper_core import SettingsError, history
from mapper_dagster import (
    Mapping,
    build_load_request_sensor,
    build_mapping_asset,
    build_resume_sensor,
    build_watermark_sensor,
)
from mapper_dagster.sensors.requests import TABLE as REQUESTS

from ..core.running import Background
from ..waiting import backends, wait_until
from .conftest import EVENTS as EVENTS_THERE
from .conftest import TABLE
from .deployment import EVENTS
from .ticking import Ticking

MONTHS = [f"2024-0{month}-01" for month in range(1, 5)]
BY_MONTH = replace(
    EVENTS,
    source_sql=EVENTS.source_sql.replace("*", "id, happened_on, note, changed_at"),
    lanes=1,
)


@pytest.fixture
def changing(events, source, target, run):
    """Events that say when they were last changed: a day ago."""
    run(
        source,
        "alter table events add changed_at timestamptz not null default now()",
        "update events set changed_at = now() - interval '1 day'",
        "create index on events (changed_at)",
    )
    run(target, "alter table fact_events add changed_at timestamptz")


@pytest.fixture
def watermark(instance, resources):
    """Return a watermark sensor at its first tick."""

    def make(mapping=BY_MONTH, **options):
        sensor = build_watermark_sensor(mapping, changed_at="changed_at", **options)
        return Ticking(sensor, mapping, instance, resources)

    return make


def partitions(requests):
    return [request.partition_key for request in requests]


@pytest.mark.usefixtures("changing")
def test_new_and_changed_rows_ask_for_the_partitions_they_touch(watermark, source, run):
    """All of them in one tick, however long nobody looked; then none without a change."""
    ticking = watermark()

    assert MONTHS == partitions(ticking.tick())
    assert [] == ticking.tick()

    days = "'2024-02-29', '2024-04-01'"
    run(source, f"update events set changed_at = now() where happened_on in ({days})")
    run(source, "insert into events values (9000, '2024-02-01', 'late', now())")
    assert ["2024-02-01", "2024-04-01"] == partitions(ticking.tick())
    assert [] == ticking.tick()


@pytest.mark.usefixtures("changing")
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_dates_are_meant_in_the_time_zone_of_the_partitions(watermark, source, run, zone):
    """Whatever the time zone of the source's sessions."""
    name = run(source, "select current_database()")[0][0]
    run(source, f"alter database {name} set timezone = '{zone}'")
    ticking = watermark()
    ticking.tick()
    days = "'2024-02-01', '2024-03-31'"
    run(source, f"update events set changed_at = now() where happened_on in ({days})")

    assert ["2024-02-01", "2024-03-01"] == partitions(ticking.tick())


@pytest.mark.usefixtures("changing")
def test_a_tick_that_found_much_goes_on_in_the_next(watermark):
    """No partition is left out, and none is asked for twice."""
    ticking = watermark(max_partitions=3)

    assert [MONTHS[:3], MONTHS[3:], []] == [partitions(ticking.tick()) for _ in range(3)]


@pytest.mark.usefixtures("changing")
def test_rows_that_a_transaction_has_yet_to_commit_are_waited_for(watermark, source, run):
    """A row is as old as its transaction; a watermark that went past it would never see it."""
    ticking = watermark()
    ticking.tick()
    with closing(psycopg.connect(source)) as slow:
        slow.execute("insert into events values (9001, '2024-01-05', 'slow', now())")
        run(source, "insert into events values (9002, '2024-03-05', 'quick', now())")
        assert [] == ticking.tick()
        slow.commit()

    assert ["2024-01-01", "2024-03-01"] == partitions(ticking.tick())


@pytest.mark.usefixtures("changing")
def test_a_transaction_that_has_written_nothing_yet_is_waited_for(watermark, source, run):
    """It may, and what it writes is as old as it is."""
    ticking = watermark()
    ticking.tick()
    with closing(psycopg.connect(source)) as slow:
        slow.execute("select 1")
        run(source, "insert into events values (9002, '2024-03-05', 'quick', now())")
        assert [] == ticking.tick()
        slow.execute("insert into events values (9001, '2024-01-05', 'slow', now())")
        slow.commit()

    assert ["2024-01-01", "2024-03-01"] == partitions(ticking.tick())


@pytest.mark.usefixtures("changing")
def test_a_row_exactly_as_old_as_an_open_transaction_waits_for_it(watermark, source, run):
    """A watermark that had come up to it would not see what the transaction writes."""
    ticking = watermark()
    ticking.tick()
    with closing(psycopg.connect(source)) as slow:
        ((begun,),) = slow.execute("select now()::text").fetchall()
        run(source, f"insert into events values (9002, '2024-03-05', 'same', '{begun}')")
        assert [] == ticking.tick()
        slow.execute("insert into events values (9001, '2024-01-05', 'slow', now())")
        slow.commit()

    assert ["2024-01-01", "2024-03-01"] == partitions(ticking.tick())


@pytest.mark.usefixtures("changing")
def test_rows_of_a_partition_that_has_not_ended_are_not_forgotten(watermark, source, run):
    """They are asked for when it has, though nothing changed since."""
    until_march = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-03-01")
    early = watermark(replace(BY_MONTH, partitions_def=until_march))
    assert MONTHS[:2] == partitions(early.tick())

    later = watermark()
    later.cursor = early.cursor

    assert MONTHS[2:] == partitions(later.tick())
    assert [] == later.tick()


@pytest.mark.usefixtures("changing")
def test_rows_are_not_forgotten_though_no_partition_had_ended(watermark):
    """They were seen before there was a first partition to ask for."""
    none_yet = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-01-15")
    early = watermark(replace(BY_MONTH, partitions_def=none_yet))
    assert [] == early.tick()

    later = watermark()
    later.cursor = early.cursor

    assert MONTHS == partitions(later.tick())
    assert [] == later.tick()


@pytest.mark.usefixtures("changing")
def test_partitions_that_were_cut_anew_are_all_asked_for(watermark):
    """What the latest tick knew of the old ones says nothing of them."""
    ticking = watermark()
    ticking.tick()

    weekly = dg.WeeklyPartitionsDefinition("2024-01-07", end_date="2024-04-28")
    anew = watermark(replace(BY_MONTH, partitions_def=weekly))
    anew.cursor = ticking.cursor

    assert weekly.get_partition_keys() == partitions(anew.tick())
    assert [] == anew.tick()


@pytest.mark.usefixtures("changing")
def test_rows_changed_after_those_seen_are_another_state_of_their_partition(watermark, source, run):
    """Else the run asked for them would be one that Dagster knows already, and would not be run."""
    ticking = watermark()
    ticking.tick()
    run(source, "insert into events values (9001, '2024-03-05', 'first', now())")
    with closing(psycopg.connect(source)) as slow:
        slow.execute("select 1")
        run(source, "insert into events values (9002, '2024-03-06', 'second', now())")
        (first,) = ticking.tick()
    (second,) = ticking.tick()

    assert ["2024-03-01"] * 2 == partitions([first, second])
    assert first.run_key != second.run_key


@pytest.mark.usefixtures("changing")
def test_rows_before_the_first_partition(watermark, source, run):
    """Nobody's, or the first one's where it holds what came before."""
    ticking, holding = watermark(), watermark(replace(BY_MONTH, include_earlier=True))
    _, (before, *_) = [each.tick() for each in (ticking, holding)]
    run(source, "insert into events values (9003, '2001-01-01', 'old', now())")

    assert [] == ticking.tick()
    run(source, "insert into events values (9004, '2001-01-01', 'old', now())")
    run(source, "update events set changed_at = now() where happened_on = '2024-03-02'")
    assert MONTHS[2:3] == partitions(ticking.tick())
    run(source, "update events set changed_at = '2024-01-01' where happened_on = '2024-03-02'")
    (after,) = holding.tick()
    assert MONTHS[:1] == partitions([after])
    assert before.run_key != after.run_key


@pytest.mark.usefixtures("changing")
def test_a_failed_load_can_be_asked_for_again(watermark, instance, source, run, materialize):
    """Set back, the sensor asks under a new key for what failed, and under the old for the rest."""
    ticking = watermark()
    first = ticking.tick()
    for request, status in zip(first, ("FAILURE", "SUCCESS", "CANCELED", "STARTED"), strict=True):
        run_made = instance.create_run_for_job(
            dg.job(name="any")(lambda: None),
            tags={"dagster/run_key": request.run_key},
            status=dg.DagsterRunStatus[status],
        )
        assert run_made

    ticking.cursor = None
    again = ticking.tick()

    assert [True, False, True, False] == [
        before.run_key != after.run_key for before, after in zip(first, again, strict=True)
    ]
    assert instance.create_run_for_job(
        dg.job(name="any")(lambda: None),
        tags={"dagster/run_key": again[0].run_key},
        status=dg.DagsterRunStatus.FAILURE,
    )
    ticking.cursor = None
    assert ticking.tick()[0].run_key not in {first[0].run_key, again[0].run_key}


@pytest.mark.usefixtures("changing")
def test_changes_can_be_looked_for_by_a_query_of_their_own(watermark, source, run):
    """It has the mapping's values, and may end as a statement does."""
    ticking = watermark(
        replace(BY_MONTH, params={"other": "n59"}),
        changes_sql="select happened_on, changed_at from events where note <> :other;\n",
    )
    ticking.tick()

    run(source, "update events set changed_at = now() where note = 'n59'")
    assert [] == ticking.tick()
    run(source, "update events set changed_at = now() where note = 'n60'")
    assert ["2024-03-01"] == partitions(ticking.tick())


@pytest.mark.usefixtures("changing")
def test_rows_of_the_last_moments_can_be_left_to_settle(watermark, source, run):
    """For clocks that differ."""
    ticking = watermark(settle=timedelta(hours=1))
    ticking.tick()
    run(source, "update events set changed_at = now() where id = 1")

    assert [] == ticking.tick()


@pytest.fixture
def requests(instance, resources, target, run):
    """Return the sensor of a table of requests in the target, at its first tick."""
    run(target, REQUESTS)
    sensor = build_load_request_sensor([EVENTS])
    return Ticking(sensor, EVENTS, instance, resources)


@pytest.mark.usefixtures("events")
def test_a_requested_load_is_run_once_and_its_row_says_what_became_of_it(
    requests, instance, resources, target, run
):
    """Also when the sensor is asked again before, while, and after it runs."""
    run(
        target,
        "insert into load_request values (1, 'fact_events', '2024-01-01', 'requested'),"
        " (2, 'fact_events', '1999-01-01', 'requested'), (3, 'nothing', null, 'requested'),"
        " (4, 'fact_events', null, 'requested'), (5, 'fact_events', '2024-02-01', 'on hold')",
    )

    (asked,), (same,) = requests.tick(), requests.tick()

    assert ("load_requests:1", "2024-01-01") == (asked.run_key, asked.partition_key)
    assert asked.run_key == same.run_key
    said = run(target, "select id, status, message from load_request order by id")
    assert ["requested", "refused", "refused", "refused", "on hold"] == [row[1] for row in said]
    words = [
        "no partition '1999-01-01': the first is '2024-01-01'",
        "use one of fact_events",
        "needs a partition_key",
    ]
    assert all(word in row[2] for row, word in zip(said[1:4], words, strict=True))

    defs = dg.Definitions(assets=[build_mapping_asset(EVENTS)], resources=resources)
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key=asked.partition_key, tags=asked.tags
    )
    assert [] == requests.tick()
    assert [("succeeded", result.run_id)] == run(
        target, "select status, run_id from load_request where id = 1"
    )
    assert [] == requests.tick()


@pytest.mark.usefixtures("events")
def test_what_the_daemon_will_retry_is_left_to_it(requests, instance, resources, target, run):
    """Its request is still under way, and nobody else goes on with it."""
    run(target, "insert into load_request values (1, 'fact_events', '2024-01-01', 'requested')")
    resuming = Ticking(build_resume_sensor([EVENTS]), EVENTS, instance, resources)
    assert [] == resuming.tick()
    (asked,) = requests.tick()
    job = requests.defs.resolve_implicit_global_asset_job_def()

    def fail(**tags):
        failing = instance.create_run_for_job(
            job,
            tags={**asked.tags, "dagster/partition": "2024-01-01", **tags},
            asset_selection={EVENTS.key},
            status=dg.DagsterRunStatus.STARTED,
        )
        instance.report_run_failed(failing)
        return failing

    fail(**{"dagster/will_retry": "true"})
    assert ([], []) == (requests.tick(), resuming.tick())
    assert "no request is waiting (1 started)" == requests.words
    assert resuming.words.endswith("is not continued: Dagster retries it by itself")
    assert [("started",)] == run(target, "select status from load_request")

    last = fail()
    assert [] == requests.tick()
    assert [("failed", last.run_id)] == run(target, "select status, run_id from load_request")
    assert [f"resume:{last.run_id}"] == [request.run_key for request in resuming.tick()]


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize("said", ["true", "false"])
def test_what_becomes_of_a_failed_run_is_told_when_dagster_has_said_so(
    resources, target, run, said
):
    """A run has failed a moment before it has the tag that says whether it is executed again."""
    run(target, REQUESTS)
    run(target, "insert into load_request values (1, 'fact_events', '2024-01-01', 'requested')")
    settings = {"run_retries": {"enabled": True}}
    with dg.DagsterInstance.ephemeral(settings=settings) as instance:
        sensors = (build_load_request_sensor([EVENTS]), build_resume_sensor([EVENTS]))
        requests, resuming = (Ticking(each, EVENTS, instance, resources) for each in sensors)
        assert [] == resuming.tick()
        (asked,) = requests.tick()
        failed = instance.create_run_for_job(
            requests.defs.resolve_implicit_global_asset_job_def(),
            tags={**asked.tags, "dagster/partition": "2024-01-01"},
            asset_selection={EVENTS.key},
            status=dg.DagsterRunStatus.FAILURE,
        )
        # A new run's time is told in whole seconds, and may lie before the first tick's.
        instance.add_run_tags(failed.run_id, {"seen": "now"})

        assert ([], []) == (requests.tick(), resuming.tick())
        assert resuming.words.endswith("Dagster has not decided yet whether to retry it")
        assert [("started",)] == run(target, "select status from load_request")

        instance.add_run_tags(failed.run_id, {"dagster/will_retry": said})
        assert [] == requests.tick()
        last = "started" if said == "true" else "failed"
        assert [(last,)] == run(target, "select status from load_request")
        assert (said == "false") == bool(resuming.tick())


BY_REGION = replace(
    EVENTS,
    name="by_region",
    partitions_def=dg.MultiPartitionsDefinition(
        {
            "month": dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-05-01"),
            "region": dg.StaticPartitionsDefinition(["eu", "us"]),
        }
    ),
    load_mode="upsert",
    window_column=None,
    primary_key="id",
)


# Dagster's own, of the tags by which it tells a run's two dimensions.
@pytest.mark.filterwarnings("ignore:Non-compliant tag keys")
@pytest.mark.usefixtures("events")
def test_a_request_that_makes_no_sense_holds_up_no_other(instance, resources, target, run):
    """It is refused in words that fit the table, however many mappings there are to name."""
    run(target, REQUESTS)
    others = [replace(EVENTS, name=f"{'long' * 10}_{number}") for number in range(40)]
    sensor = build_load_request_sensor([BY_REGION, *others])
    ticking = Ticking(sensor, BY_REGION, instance, resources, others)
    run(
        target,
        "insert into load_request values (1, 'by_region', '2024-01-01', 'requested'),"
        " (2, 'by_region', 'eu|us|2024-01-01', 'requested'), (3, 'nothing', null, 'requested'),"
        " (4, 'by_region', '2024-01-01|eu', 'requested'),"
        f" (5, '{others[0].name}', '2024-02-01', 'requested')",
    )

    assert ["2024-01-01|eu", "2024-02-01"] == partitions(ticking.tick())

    said = run(target, "select status, message from load_request where id < 4 order by id")
    assert ["refused"] * 3 == [status for status, _ in said]
    assert "no partition '2024-01-01'" in said[0][1]
    assert said[2][1].startswith("there is no mapping 'nothing': use one of by_region, long")


@pytest.mark.usefixtures("events")
def test_what_somebody_writes_into_a_request_meanwhile_stays(requests, target, run):
    """The sensor's word is of the row as it was read, and not of another."""
    run(target, "insert into load_request values (1, 'nothing', null, 'requested')")
    with psycopg.connect(target) as other:
        other.execute("update load_request set status = 'on hold'")
        ticking = Background(requests.tick)
        wait_until(lambda: waiting_for(target, "update load_request%"), "the sensor to write back")
    assert [] == ticking.result()

    assert [("on hold", None)] == run(target, "select status, message from load_request")


def waiting_for(url, query):
    """Return the backends that wait for somebody else's transaction to end."""
    return backends(url, "%", f"wait_event_type = 'Lock' and query like '{query}'")


@pytest.mark.usefixtures("events")
def test_requests_of_two_tables_are_told_apart(instance, resources, target, run):
    """Each is run, also where both count theirs from 1."""
    run(target, REQUESTS, REQUESTS.replace("load_request", "more_requests"))
    asked = "values (1, 'fact_events', '2024-01-01', 'requested')"
    run(target, f"insert into load_request {asked}", f"insert into more_requests {asked}")
    first, second = (
        Ticking(sensor, EVENTS, instance, resources)
        for sensor in (
            build_load_request_sensor([EVENTS]),
            build_load_request_sensor([EVENTS], table="more_requests", name="more"),
        )
    )
    # As in another code location, whose sensor has the same name by default.
    elsewhere = replace(EVENTS, key_prefix="elsewhere")
    third = Ticking(build_load_request_sensor([elsewhere]), elsewhere, instance, resources)

    (request,) = first.tick()
    job = first.defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(
        instance=instance, partition_key=request.partition_key, tags=request.tags
    ).success

    assert ["2024-01-01"] == partitions(second.tick())
    assert ["2024-01-01"] == partitions(third.tick())
    assert [] == first.tick()


@pytest.mark.usefixtures("events")
def test_requests_under_way_do_not_hold_up_new_ones(requests, instance, target, run, monkeypatch):
    """However many there are, and however few are looked after in one tick."""
    monkeypatch.setattr("mapper_dagster.sensors.requests._MOST", 2)
    run(
        target,
        "insert into load_request select i, 'fact_events', '2024-01-01', 'requested'"
        " from generate_series(1, 3) i",
    )
    job = requests.defs.resolve_implicit_global_asset_job_def()
    for _ in range(2):
        for asked in requests.tick():
            instance.create_run_for_job(
                job,
                tags=asked.tags,
                asset_selection={EVENTS.key},
                status=dg.DagsterRunStatus.STARTED,
            )
    run(
        target,
        "insert into load_request values (1000, 'fact_events', '2024-02-01', 'requested')",
    )

    seen = [partition for _ in range(3) for partition in partitions(requests.tick())]

    assert "2024-02-01" in seen


@pytest.mark.usefixtures("events")
def test_mappings_of_one_name_are_asked_for_by_their_keys(instance, resources, target, run):
    """A name that two of them have asks for neither, and says what would."""
    run(target, REQUESTS)
    both = [replace(EVENTS, key_prefix=prefix) for prefix in ("a", "b")]
    sensor = build_load_request_sensor(both)
    ticking = Ticking(sensor, both[1], instance, resources, both[:1])
    run(
        target,
        "insert into load_request values (1, 'fact_events', '2024-01-01', 'requested'),"
        " (2, 'b/fact_events', '2024-01-01', 'requested')",
    )

    (request,) = ticking.tick()

    assert [both[1].key] == request.asset_selection
    (words,) = run(target, "select message from load_request where id = 1")[0]
    assert words == "there is no mapping 'fact_events': use one of a/fact_events, b/fact_events"


def test_a_table_of_requests_is_a_name():
    """And nothing else that SQL could be."""
    with pytest.raises(SettingsError, match="letters, digits"):
        build_load_request_sensor([EVENTS], table="x; drop table y")


@pytest.mark.usefixtures("events")
def test_a_failed_load_is_gone_on_with_where_it_stopped(
    instance, resources, source, target, months, run, run_mapping
):
    """By the same load: what is in is not loaded again; at most so many times."""
    ticking = Ticking(build_resume_sensor([EVENTS], max_resumes=2), EVENTS, instance, resources)
    assert [] == ticking.tick()
    run(source, "alter table events alter happened_on drop not null")
    run(target, "alter table fact_events add constraint picky check (id <> 121)")

    # A whole job's run, which has no selection of assets of its own.
    job = ticking.defs.resolve_implicit_global_asset_job_def()
    runs = [
        job.execute_in_process(instance=instance, partition_key="2024-01-01", raise_on_error=False)
    ]
    asked = []
    for _ in range(3):
        assert not runs[-1].success
        requests = ticking.tick()
        asked += requests
        if not requests:
            break
        (request,) = requests
        runs.append(run_mapping(EVENTS, request.partition_key, tags=request.tags))

    assert 2 == len(asked)
    assert ticking.words.endswith("its load has been continued 2 times, and failed each time")
    run(target, "alter table fact_events drop constraint picky")
    assert run_mapping(EVENTS, "2024-01-01", tags=asked[-1].tags).success
    assert [months(source, "events")[0]] == months(target, "fact_events")
    (load,) = history.loads(target)
    assert runs[0].run_id in load.load_id
    observed = instance.fetch_observations(dg.AssetKey("fact_events"), limit=10).records
    (last, *_) = [
        each.asset_observation.metadata
        for each in observed
        if "is continued" in (each.asset_observation.description or "")
    ]
    assert (11, 0) == (last["mapper/chunks_in"].value, last["mapper/chunks_missing"].value)


@pytest.mark.usefixtures("events")
def test_a_load_is_gone_on_with_under_the_tags_that_its_run_was_given(
    instance, resources, target, run, run_mapping
):
    """By them runs are queued and bounded; those that tell of one run are that run's alone."""
    ticking = Ticking(build_resume_sensor([EVENTS]), EVENTS, instance, resources)
    assert [] == ticking.tick()
    run(target, "alter table fact_events add constraint picky check (id <> 121)")
    given = {"warehouse": "small", "dagster/priority": "3", "dagster/max_runtime": "900"}
    of_the_run = {"dagster/backfill": "abcdefgh", "dagster/run_key": "nightly"}
    assert not run_mapping(EVENTS, "2024-01-01", tags={**given, **of_the_run}).success

    (request,) = ticking.tick()

    assert given == {tag: request.tags.get(tag) for tag in given}
    assert "abcdefgh" not in request.tags.values()
    assert "nightly" not in request.tags.values()


@pytest.mark.usefixtures("events")
def test_what_a_failed_run_has_published_is_not_loaded_again(instance, resources, target, run):
    """Only those that failed are gone on with: an append would add its rows once more."""
    whole = Mapping(name="all_events", source_sql="SELECT * FROM events", target_table="all_events")
    strict = replace(whole, name="strict_events", target_table="strict_events")
    run(target, f"create table all_events {TABLE}")
    run(target, f"create table strict_events {TABLE}")
    run(target, "alter table strict_events add constraint picky check (id <> 121)")
    # Mappings with other partitions are looked after by the same sensor.
    resuming = build_resume_sensor([whole, strict, EVENTS])
    ticking = Ticking(resuming, whole, instance, resources, [strict, EVENTS])
    # Looks after a part of the run only, and leaves it alone.
    partial = Ticking(build_resume_sensor([strict]), whole, instance, resources, [strict])
    assert [] == ticking.tick() == partial.tick()
    job = ticking.defs.resolve_implicit_global_asset_job_def()
    both = [whole.key, strict.key]
    failed = job.execute_in_process(instance=instance, asset_selection=both, raise_on_error=False)
    assert not failed.success

    assert [] == partial.tick()
    (request,) = ticking.tick()

    assert [strict.key] == request.asset_selection
    # Executed again from failure, a run has its parent's selection, and only a part of its steps.
    again = instance.create_run_for_job(
        job,
        execution_plan=create_execution_plan(job.get_subset(asset_selection={strict.key})),
        asset_selection=set(both),
        root_run_id=failed.run_id,
        parent_run_id=failed.run_id,
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.report_run_failed(again)
    (once_more,) = ticking.tick()
    assert [strict.key] == once_more.asset_selection
    # Its chunks are those of the first run's load.
    assert failed.run_id == once_more.tags["mapper/resumes"]
    # Who begins to look now leaves alone what failed before.
    late = Ticking(build_resume_sensor([whole, strict]), whole, instance, resources, [strict])
    assert [] == late.tick() == late.tick()
    run(target, "alter table strict_events drop constraint picky")
    assert job.execute_in_process(
        instance=instance, asset_selection=request.asset_selection, tags=request.tags
    ).success
    for table in ("all_events", "strict_events"):
        assert [(EVENTS_THERE,)] == run(target, f"select count(*) from {table}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partitions_def": None, "window_column": None, "load_mode": "replace"}, "by time"),
        ({"window_column": None, "load_mode": "upsert", "primary_key": "id"}, "window_column"),
    ],
)
def test_a_watermark_without_windows_is_refused(change, words):
    """When it is built."""
    with pytest.raises(SettingsError, match=words):
        build_watermark_sensor(replace(BY_MONTH, **change), changed_at="changed_at")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_partitions": 0}, "max_partitions is at least 1"),
        ({"settle": 60}, "settle 60 is not a timedelta"),
        ({"settle": -timedelta(seconds=1)}, "settle is a time to wait: 0 or more"),
    ],
)
def test_a_watermark_that_cannot_be_meant_is_refused(options, words):
    """When it is built."""
    with pytest.raises(SettingsError, match=words):
        build_watermark_sensor(BY_MONTH, changed_at="changed_at", **options)


def test_a_sensor_that_would_go_on_with_nothing_is_refused():
    """When it is built."""
    with pytest.raises(SettingsError, match="max_resumes is at least 1"):
        build_resume_sensor([BY_MONTH], max_resumes=0)
