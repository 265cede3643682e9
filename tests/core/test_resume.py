"""A load has a name: called again, it goes on where its ledger ends."""

import json
import logging
import subprocess
import sys
import threading
from datetime import datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from mapper_core import (
    LedgerError,
    LoadWindow,
    MapperError,
    ParallelProcessor,
    adapters,
    execute_query_parallel,
)
from mapper_core import snapshot_holder as holders
from mapper_core.connections import opener_of
from mapper_core.ledger import Ledger

from ..waiting import assert_nothing_left, backends, wait_until
from . import loading
from .running import Background

ROWS = 1_000
SUM = "select count(*), sum(hashtextextended(o::text, 0)) from {} o"
QUERY = "select * from orders order by id"
WINDOW = LoadWindow(
    "at", datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2024-01-02")
)
STAGED = {"load_mode": "replace_window", "window": WINDOW}
BROKEN = "alter table orders add constraint broken check (id not between 301 and 500)"
MENDED = "alter table orders drop constraint broken"


@pytest.fixture
def orders(source, target, run):
    """1,000 orders of one day in the source, an empty table of the same shape in the target."""
    table = "create table orders (id int, version int not null, at timestamp not null)"
    run(
        source,
        table,
        f"insert into orders select i, 1, '2024-01-01' from generate_series(1, {ROWS}) i",
        # An index makes chunks of exactly a hundred ids.
        "create unique index on orders (id)",
        "analyze orders",
    )
    run(target, table)
    yield
    assert_nothing_left(source, target)


def load(source, target, sql=QUERY, **options):
    options = {"chunk_size": 100, "load_id": "nightly", "max_workers": 2, **options}
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_table=options.pop("target_table", "orders"),
        min_rows_for_parallel=0,
        enable_progress="progress_callback" in options,
        **options,
    )


def refuse_some(rows):
    """A transform under which the chunks of ids 301 to 500 fail."""
    if any(301 <= row["id"] <= 500 for row in rows):
        raise ValueError("not today")
    return rows


def test_finished_chunks_are_skipped_and_counted_apart(orders, source, target, run):
    """The totals of the second call are those of what it did."""
    run(target, BROKEN)
    first = load(source, target)
    run(target, MENDED)
    second = load(source, target)

    assert ("partial", 8, 2, 800, 200) == (
        first.status,
        first.chunks_succeeded,
        first.chunks_failed,
        first.total_rows_successful,
        first.total_rows_failed,
    )
    assert ("succeeded", 2, 8, 800) == (
        second.status,
        second.chunks_succeeded,
        second.chunks_skipped,
        second.rows_skipped,
    )
    assert 200 == second.total_rows_processed == second.total_rows_successful
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_append_continues_at_a_new_snapshot_and_says_so(orders, source, target, run, caplog):
    """A warning, and a result that names both read points; the chunks are those planned then."""
    run(target, BROKEN)
    first = load(source, target)
    run(source, "update orders set version = 2", "insert into orders values (2000, 2, now())")
    run(target, MENDED)
    with caplog.at_level(logging.WARNING, logger="mapper_core"):
        second = load(source, target)

    assert first.snapshot.id != second.snapshot.id
    assert first.snapshot.description == second.snapshot.resumed_from
    assert first.snapshot.description in str(second.snapshot)
    assert second.snapshot.description in str(second.snapshot)
    assert any("continues at another read point" in r.message for r in caplog.records)
    assert 10 == second.chunks_total
    assert [(1, 800), (2, 200)] == run(
        target, "select version, count(*) from orders group by version order by version"
    )


def test_a_load_continued_twice_names_each_of_its_read_points(orders, source, target, run):
    """Its rows may be those of any of them."""
    run(target, BROKEN)
    first, second = load(source, target), load(source, target)
    run(target, MENDED)
    third = load(source, target)

    assert "succeeded" == third.status
    names = [each.snapshot.description for each in (first, second, third)]
    assert 3 == len(set(names))
    assert all(name in str(third.snapshot) for name in names)


def test_a_published_load_repeated_does_nothing(orders, source, target, run):
    """Not even new rows of the source are loaded: another load id is another load."""
    load(source, target).raise_for_failures()
    run(source, "insert into orders values (2000, 2, '2024-01-01')")

    again = load(source, target)

    assert ("succeeded", True, 0, 10) == (
        again.status,
        again.published,
        again.total_rows_processed,
        again.chunks_skipped,
    )
    assert [(ROWS,)] == run(target, "select count(*) from orders")


def test_a_published_staged_load_repeated_does_nothing(orders, source, target, run):
    """Its stage is gone, and the window's rows stay."""
    load(source, target, **STAGED).raise_for_failures()

    assert "succeeded" == load(source, target, **STAGED).status
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


OTHER: dict[str, dict[str, Any]] = {
    "query": {"sql": "select * from orders where id > 5 order by id"},
    "values": {"params": {"day": 2}},
    "mode": STAGED,
    "table": {"target_schema": "public"},
}


@pytest.mark.parametrize("what", OTHER)
def test_a_load_id_belongs_to_one_query_and_target(orders, source, target, run, what):
    """Anything else under it is refused, and nothing is written."""
    load(source, target).raise_for_failures()

    with pytest.raises(LedgerError, match="used for another query, transform, target or window"):
        load(source, target, **OTHER[what])

    assert [(ROWS,)] == run(target, "select count(*) from orders")


def test_an_unfinished_load_whose_columns_changed_is_refused(orders, source, target, run):
    """Its finished chunks lack what the others would have."""
    run(target, BROKEN)
    load(source, target)
    run(source, "alter table orders alter version type bigint")

    with pytest.raises(LedgerError, match="columns of the query have changed"):
        load(source, target)


@pytest.mark.parametrize("what", ["time zone", "search path", "database"])
@pytest.mark.parametrize("options", [{}, STAGED], ids=["append", "replace_window"])
def test_an_unfinished_load_whose_sql_means_something_else_is_refused(
    orders, source, target, run, make_database, what, options
):
    """Its other chunks would have other times, or be those of another table."""
    run(source, "create schema other", "create table other.orders as table orders")
    elsewhere = make_database("elsewhere")
    run(elsewhere, "create table orders (id int, version int not null, at timestamp not null)")
    run(target, BROKEN)
    sql = "select id, version, (at::timestamptz at time zone 'UTC')::timestamp as at from orders"
    first = load(source, target, sql, time_zone="UTC", chunk_key="id", **options)
    run(target, MENDED)
    before = run(target, "select count(*) from orders")
    others = {
        "time zone": {"time_zone": "Asia/Kathmandu"},
        "search path": {"source": f"{source}&options=-csearch_path%3Dother"},
        "database": {"source": elsewhere},
    }
    again = {"source": source, "time_zone": "UTC", **others[what]}

    with pytest.raises(
        LedgerError, match=f"a different {what} than when load 'nightly' was planned"
    ):
        load(again.pop("source"), target, sql, chunk_key="id", **again, **options)

    assert first.status != "succeeded"
    assert before == run(target, "select count(*) from orders")
    load(source, target, sql, time_zone="UTC", chunk_key="id", **options).raise_for_failures()
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


CHANGED = {
    "alter table orders alter version type bigint": "version",
    "alter table orders add extra int": "extra",
    "alter table orders rename note to remark": "note, remark",
}


@pytest.mark.parametrize("change", CHANGED)
@pytest.mark.parametrize("options", [{}, {"strategy": "stream_once"}], ids=["key", "stream"])
def test_an_unfinished_load_whose_target_changed_is_refused(
    orders, source, target, run, options, change
):
    """The column is named; what is in the target stays."""
    for url in (source, target):
        run(url, "alter table orders add note text")
    run(target, BROKEN)
    first = load(source, target, **options)
    run(target, MENDED, change)
    before = run(target, "select count(*) from orders")

    with pytest.raises(LedgerError) as error:
        load(source, target, **options)

    assert "succeeded" != first.status
    assert f"the columns of the target orders have changed ({CHANGED[change]})" in str(error.value)
    assert before == run(target, "select count(*) from orders")


@pytest.mark.parametrize("how", ["search path", "made anew"])
def test_an_append_does_not_go_on_in_another_table(orders, source, target, run, how):
    """What is finished would be in the one, and the rest in the other."""
    run(target, BROKEN)
    first = load(source, target)
    there = target
    if how == "search path":
        run(target, "create schema other", "create table other.orders (like public.orders)")
        there = f"{target}&options=-csearch_path%3Dother"
    else:
        run(target, "alter table orders rename to before", "create table orders (like before)")

    with pytest.raises(
        LedgerError, match="orders is not the same table as when load 'nightly' was"
    ):
        load(source, there)

    assert first.status != "succeeded"
    assert first.total_rows_successful
    assert [] == run(there, "select * from orders")


def test_an_append_of_which_nothing_is_in_goes_on_in_another_table(orders, source, target, run):
    """One that was made anew because it would not take the rows, say."""
    run(target, "alter table orders add constraint broken check (id < 0)")
    assert load(source, target).total_rows_successful == 0
    run(target, "alter table orders rename to before", "create table orders (like before)")

    load(source, target).raise_for_failures()

    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_staged_load_begins_anew_at_another_snapshot(orders, source, target, run, caplog):
    """Nothing of it was published, so all of it comes from one read point."""
    first = load(source, target, transformation_func=refuse_some, **STAGED)
    run(source, "update orders set version = 2")
    with caplog.at_level(logging.WARNING, logger="mapper_core"):
        second = load(source, target, transformation_func=lambda rows: rows, **STAGED)

    assert ("failed", False, 8) == (first.status, first.published, first.chunks_succeeded)
    assert ("succeeded", 10, 0) == (second.status, second.chunks_succeeded, second.chunks_skipped)
    assert second.snapshot.resumed_from is None
    assert any("begins anew" in record.message for record in caplog.records)
    assert [(ROWS, 2, 2)] == run(target, "select count(*), min(version), max(version) from orders")


def test_a_chunk_is_refused_while_the_run_that_took_over_is_still_loading(
    orders, source, target, run
):
    """It is the younger run's epoch that tells, not only that the load is published."""

    def take_over(snapshot):
        if snapshot.completed_chunks == 1:
            run(target, "update mapper.load set epoch = epoch + 1")

    result = load(source, target, max_workers=1, progress_callback=take_over)

    assert "succeeded" != result.status
    assert "taken over" in str(result.chunk_errors or result.error)
    assert [(1,)] == run(target, "select count(*) from mapper.claim")


def test_a_load_that_was_published_meanwhile_is_not_taken_over(orders, source, target, run):
    """It is as it was published."""
    load(source, target, **STAGED).raise_for_failures()
    published = run(target, "select epoch, status, verified from mapper.load")
    opened = adapters.database(opener_of(target, role="target"), application="", time_zone=None)

    with opened.open_writer() as writer, writer.begin() as transaction:
        assert Ledger(opened, "mapper").take_over(transaction, "nightly") is None

    assert published == run(target, "select epoch, status, verified from mapper.load")


@pytest.mark.parametrize("options", [{}, STAGED], ids=["append", "staged"])
def test_a_run_that_was_taken_over_publishes_nothing(orders, source, target, run, options):
    """Though all chunks are in: publishing is for the younger run."""

    def take_over(snapshot):
        if snapshot.completed_chunks == snapshot.total_chunks:
            run(target, "update mapper.load set epoch = 1 where epoch = 0")

    result = load(source, target, progress_callback=take_over, **options)

    assert not result.published
    assert "load nightly was taken over by another run; nothing was published" in str(result.error)
    assert [("loading", 1)] == run(target, "select status, epoch from mapper.load")


def test_a_load_is_taken_over_after_the_chunk_that_is_being_written(orders, source, target, run):
    """Until then nobody knows whether it will be there."""
    reached, go_on = threading.Event(), threading.Event()

    def wait_in_the_first(rows):
        if rows[0]["id"] == 1:
            reached.set()
            go_on.wait(60)
        return rows

    waits = "wait_event_type = 'Lock' and query like 'select epoch, status%for update'"
    options = {"max_workers": 1, "transformation_func": wait_in_the_first}
    elder = Background(load, source, target, **options)
    try:
        assert reached.wait(60)
        younger = Background(load, source, target, transformation_func=lambda rows: rows)
        wait_until(lambda: backends(target, extra=waits), "the younger to wait for the chunk")
        assert [(0,)] == run(target, "select epoch from mapper.load")
    finally:
        go_on.set()

    assert "succeeded" == younger.result().status
    # The chunk is the elder's; those after it are whosever turn it was.
    assert 1 <= elder.result().chunks_succeeded
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


@pytest.mark.parametrize("options", [{}, STAGED], ids=["append", "staged"])
def test_a_run_that_was_taken_over_adds_nothing_any_more(orders, source, target, run, options):
    """Whatever the elder run of a load still holds is refused; the younger one is complete."""
    reached, go_on = threading.Event(), threading.Event()
    elder = []

    def wait_before_the_third(_):
        if not reached.is_set():
            reached.set()
            go_on.wait(60)

    # Between two chunks: it holds no claim while it waits.
    waiting = {"max_workers": 1, "progress_callback": wait_before_the_third, **options}
    thread = threading.Thread(target=lambda: elder.append(load(source, target, **waiting)))
    thread.start()
    try:
        assert reached.wait(60)
        run(source, "update orders set version = 2")
        younger = load(source, target, **options)
    finally:
        go_on.set()
        thread.join()

    assert "succeeded" == younger.status
    assert not elder[0].published
    assert 9 == elder[0].chunks_failed
    words = "StaleLoadError: load nightly was published by another run"
    assert all(words in error["error"] for error in elder[0].chunk_errors)
    versions = run(target, "select version, count(*) from orders group by 1 order by 1")
    # What the elder had committed to the target itself stays; the younger names both snapshots.
    assert versions == ([(2, ROWS)] if options else [(1, 100), (2, 900)])
    assert (younger.snapshot.resumed_from is None) is bool(options)


# Below: the steps of a load in several processes, as an orchestrator runs them.

PROCESSOR: dict[str, Any] = {
    "chunk_size": 100,
    "min_rows_for_parallel": 0,
    "enable_progress": False,
}


def take_step(name, lane, job, options):
    """Take one step of a load; return its result, or the error's words, as text."""
    processor = ParallelProcessor(**PROCESSOR)
    if options.get("load_mode"):
        options = {**options, "window": WINDOW}
    try:
        if name == "plan":
            return str(processor.plan_load(*job, **options))
        if name == "lane":
            return str(processor.load_lane(*job, lane=lane, lanes=2, **options))
        return str(processor.publish_load(*job, **options))
    except MapperError as error:
        return f"{type(error).__name__}: {error}"


PROGRAM = """
import json, sys
from tests.core.test_resume import take_step
print(take_step(*json.loads(sys.stdin.read())))
"""


def take_step_elsewhere(*step):
    """As `take_step`, in a process of its own that has ended when this returns."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=loading.ROOT,
        input=json.dumps(step),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    return ended.stdout


@pytest.fixture
def step(orders, source, target):
    """Take a step of the load `run/orders`."""

    def step(name, lane=0, sql=QUERY, take=take_step, **options):
        options = {"target_conn": target, "target_table": "orders", **options}
        return take(name, lane, [source, sql, "run/orders"], options)

    return step


def holder(source):
    """Return the sessions that hold a snapshot for a load."""
    return backends(source, like="mapper snapshot of%")


@pytest.mark.parametrize("mode", [None, "replace_window"])
def test_steps_in_several_processes_read_the_plans_snapshot(step, source, target, run, mode):
    """The source changes between the steps; the target gets its rows as they were planned."""
    apart = {"load_mode": mode, "take": take_step_elsewhere}
    step("plan", **apart)
    sent = run(source, SUM.format("orders"))
    assert 1 == len(holder(source))
    run(source, "update orders set version = 2", "delete from orders where id > 900")
    assert 5 == step("lane", 0, **apart).count("SUCCEEDED")
    assert 5 == step("lane", 1, **apart).count("SUCCEEDED")

    said = step("publish", **apart)

    assert f"total_rows_successful={ROWS}" in said
    assert sent == run(target, SUM.format("orders"))
    wait_until(lambda: not holder(source), "the snapshot's holder to end with the load")
    # Twice is safe, and says the same.
    assert f"total_rows_successful={ROWS}" in step("publish", load_mode=mode)
    assert sent == run(target, SUM.format("orders"))


def test_of_a_published_load_the_plan_is_told_without_another_read_point(step, source, target, run):
    """Who would hold one for it, sees that it is published, and ends: perhaps before it is read."""
    planned = step("plan")
    for lane in range(2):
        step("lane", lane)
    step("publish")
    wait_until(lambda: not holder(source), "the holder to end")
    name = source.split("/")[3].split("?")[0]

    run(target, f"alter database {name} allow_connections false")
    try:
        told = step("plan", again=False)
    finally:
        run(target, f"alter database {name} allow_connections true")

    assert planned == told


def test_a_load_with_a_missing_chunk_is_not_published(step, source, target, run):
    """The chunks are named; a lane run again, and only then, completes it."""
    step("plan", load_mode="replace_window")
    step("lane", 0, load_mode="replace_window")

    said = step("publish", load_mode="replace_window")

    assert said.startswith("IncompleteLoadError: load run/orders: 5 of 10 planned chunks")
    assert "(2, 4, 6, 8, 10)" in said
    assert [(0,)] == run(target, "select count(*) from orders")

    # The lane that had ended finds its chunks finished.
    assert 5 == step("lane", 0, load_mode="replace_window").count("SKIPPED")
    step("lane", 1, load_mode="replace_window")
    assert f"total_rows_successful={ROWS}" in step("publish", load_mode="replace_window")
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))
    wait_until(lambda: not holder(source), "the holder to end")


@pytest.mark.parametrize(
    "other",
    [
        {"target_table": "others"},
        {"sql": "select * from orders where id > 500 order by id"},
        {"transformation_func": list},
        {"load_mode": "replace_window"},
    ],
    ids=["table", "query", "function", "mode"],
)
def test_the_steps_of_a_load_that_was_declared_anew_in_between_are_refused(
    step, source, target, run, other
):
    """Else its rows would be in two tables, or of two kinds; repeated as it was, it goes on."""
    run(target, "create table others (like orders)")
    step("plan")
    step("lane", 0)

    for said in (step("lane", 1, **other), step("publish", **other)):
        assert said.startswith("LedgerError: load id 'run/orders' was used for another query, ")

    assert [(0,)] == run(target, "select count(*) from others")
    step("lane", 1)
    assert f"total_rows_successful={ROWS}" in step("publish")
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))
    wait_until(lambda: not holder(source), "the holder to end")


@pytest.mark.parametrize(
    "change", ["delete from {} where id = 7", "insert into {} select * from {} where id = 7"]
)
def test_a_stage_that_something_else_wrote_to_is_not_published(step, source, target, run, change):
    """Its rows are no longer those that the ledger counted; the target stays as it was."""
    step("plan", load_mode="replace_window")
    for lane in (0, 1):
        step("lane", lane, load_mode="replace_window")
    stages = "select tablename from pg_tables where schemaname = 'mapper' and tablename ~ 'stage'"
    stage = f"mapper.{run(target, stages)[0][0]}"
    run(target, change.format(stage, stage))

    said = step("publish", load_mode="replace_window", verify="none")

    assert said.startswith("TransferError")
    assert f"the ledger counts {ROWS}" in said
    assert [(0,)] == run(target, "select count(*) from orders")
    run(target, "update mapper.load set status = 'published'")
    wait_until(lambda: not holder(source), "the holder to end")


def test_planning_again_joins_the_snapshot_and_keeps_what_is_finished(step, source, target, run):
    """While its read point is held, a load goes on at it, with the same holder."""
    step("plan")
    step("lane", 0)
    before = holder(source)
    sent = run(source, SUM.format("orders"))
    run(source, "update orders set version = 2")

    step("plan")
    assert before == holder(source)
    assert 5 == step("lane", 0).count("SKIPPED")
    step("lane", 1)
    step("publish")

    assert sent == run(target, SUM.format("orders"))
    wait_until(lambda: not holder(source), "the holder to end")


def test_steps_planned_again_know_the_table_that_they_have_found(step, target, run):
    """The one before it had no chunk of theirs."""
    step("plan")
    run(target, "alter table orders rename to before", "create table orders (like before)")
    step("plan")
    assert 5 == step("lane", 0).count("SUCCEEDED")

    assert "load run/orders" in step("plan")

    assert 5 == step("lane", 1).count("SUCCEEDED")
    assert f"total_rows_successful={ROWS}" in step("publish")


@pytest.mark.parametrize("mode", [None, "replace_window"])
def test_a_lost_holder_is_told_and_planning_again_takes_another(step, source, target, run, mode):
    """Its lanes fail in words; planned again, append continues and a staged load begins anew."""
    step("plan", load_mode=mode)
    step("lane", 0, load_mode=mode)
    (lost,) = holder(source)
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(%s)", (lost,))
    wait_until(lambda: not holder(source), "the holder to die")
    run(source, "update orders set version = 2")

    assert 5 == step("lane", 1, load_mode=mode).count("SnapshotLostError")

    step("plan", load_mode=mode)
    for lane in (0, 1):
        assert "FAILED" not in step("lane", lane, load_mode=mode)
    step("publish", load_mode=mode)
    wanted = [(2, ROWS)] if mode else [(1, 500), (2, 500)]
    assert wanted == run(target, "select version, count(*) from orders group by 1 order by 1")
    wait_until(lambda: not holder(source), "the second holder to end")


def test_a_snapshot_that_lacks_rows_is_told_and_planning_again_takes_another(
    step, source, target, run
):
    """A partition attached since shows at once: its rows would be in some lanes only."""
    more = "create table more as select id + 1000 as id, 2 as version, at from orders"
    run(source, more, "alter table orders rename to few")
    run(
        source,
        "create table orders (like few) partition by range (version)",
        "alter table orders attach partition few for values from (0) to (2)",
        "alter table more alter version set not null, alter at set not null",
    )
    step("plan")
    before = holder(source)
    step("lane", 0)
    run(source, "alter table orders attach partition more for values from (2) to (3)")

    assert 5 == step("lane", 1).count("SnapshotLostError: more has become a part of another table")

    step("plan")
    assert before != holder(source)
    for lane in (0, 1):
        assert "FAILED" not in step("lane", lane)
    step("publish")
    assert [(1, ROWS), (2, ROWS)] == run(
        target, "select version, count(*) from orders group by 1 order by 1"
    )
    wait_until(lambda: not holder(source), "both holders to end")


def test_a_new_holder_waits_for_a_resumed_load_to_be_planned(step, source, target, run):
    """However long that takes: the ledger still names the read point that was lost."""
    step("plan")
    for pid in holder(source):
        run(source, f"select pg_terminate_backend({pid})")
    wait_until(lambda: not holder(source), "the first holder to die")
    planned = []
    with psycopg.connect(target) as locking:
        # Keeps the load's row from being taken over.
        locking.execute("select 1 from mapper.load for update")
        thread = threading.Thread(target=lambda: planned.append(step("plan")))
        thread.start()
        wait_until(lambda: holder(source), "the second holder")
        wait_until(lambda: backends(target, extra="wait_event_type = 'Lock'"), "planning to wait")
        # The holder looks at the ledger in a session for each look; nobody else opens any.
        with psycopg.connect(target, autocommit=True) as watching:

            def sessions():
                return watching.execute(
                    "select sessions from pg_stat_database where datname = current_database()"
                ).fetchall()[0][0]

            before = sessions()
            wait_until(lambda: sessions() > before + 2, "the holder to look at the ledger")
    thread.join()

    assert planned
    assert 1 == len(holder(source))
    for lane in (0, 1):
        assert "FAILED" not in step("lane", lane)
    step("publish")
    wait_until(lambda: not holder(source), "the holder to end")


def test_no_holder_stays_behind_when_planning_fails(step, source, target, run):
    """The read point goes with the plan that was not made."""
    said = step("plan", sql="select id, version, at, 1 as colour from orders")

    assert said.startswith("TargetError")
    wait_until(lambda: not holder(source), "the holder to end")
    assert [] == run(target, "select * from mapper.load")


def test_a_holder_ends_when_its_load_is_abandoned(orders, source, target, run):
    """Nobody plans, loads or publishes: an old snapshot must not stay for ever."""
    watch = holders.Watch(source, target, "select 1", "mapper", "abandoned", idle_seconds=1.0)
    ParallelProcessor().process_mapper_job(source, QUERY, target_conn=target, target_table="orders")

    with holders.started(watch) as snapshot:
        assert snapshot.id
        assert 1 == len(holder(source))

    wait_until(lambda: not holder(source), "the holder to give up")


def test_a_holder_outlives_the_process_that_planned(step, source, run, target):
    """It is nobody's child, and a signal to the planner's group does not reach it."""
    step("plan")
    (pid,) = holder(source)

    assert wait_until(
        lambda: run(source, f"select 1 from pg_stat_activity where pid = {pid}"), "it"
    )
    run(target, "update mapper.load set status = 'published'")
    wait_until(lambda: not holder(source), "the holder to end")


@pytest.mark.parametrize("options", [{}, {"publish": "atomic"}, {"load_mode": "replace"}])
def test_rows_whose_key_is_null_only_now_are_loaded_too(orders, source, target, run, options):
    """When it was planned there were none, so that no chunk was for them."""
    sql, table = "select * from orders order by version, id", "alter table orders alter version"
    for database in (source, target):
        run(database, f"{table} drop not null")
    first = load(source, target, sql, transformation_func=refuse_some, **options)
    assert "succeeded" != first.status
    run(source, "insert into orders values (5000, null, '2024-01-01')")

    second = load(source, target, sql, transformation_func=lambda rows: rows, **options)

    assert ("succeeded", 11) == (second.status, second.chunks_total)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


@pytest.mark.parametrize(
    "changed", [{"max_workers": 1}, {"enable_parallel": False}, {"max_workers": 4}]
)
def test_a_load_goes_on_with_the_workers_of_this_call(orders, source, target, changed):
    """Not with those it was planned with."""
    together, most, lock = 0, 0, threading.Lock()

    def watch(rows):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        threading.Event().wait(0.05)
        with lock:
            together -= 1
        return rows

    load(source, target, transformation_func=refuse_some, max_workers=3, **STAGED)
    result = load(source, target, transformation_func=watch, **{**STAGED, **changed})

    wanted = 1 if "enable_parallel" in changed else changed["max_workers"]
    assert ("succeeded", wanted) == (result.status, result.workers)
    assert 1 <= most <= wanted


def test_blocks_are_not_gone_on_with_where_there_is_no_snapshot(orders, source, target, run):
    """An update moves its row to another block, and no chunk, or two, would find it."""
    options = {"strategy": "physical", "publish": "atomic", "chunk_size": 20}
    sql = "select * from orders"
    load(source, target, sql, transformation_func=refuse_some, **options)

    with pytest.raises(LedgerError, match=r"no single snapshot \(snapshot=False\)"):
        load(source, target, sql, transformation_func=lambda rows: rows, snapshot=False, **options)
    assert [] == run(target, "select * from orders")

    load(source, target, sql, transformation_func=lambda rows: rows, **options).raise_for_failures()


@pytest.mark.parametrize("how", ["connection", "pool"])
def test_chunks_of_one_snapshot_are_not_read_over_one_connection(orders, source, target, run, how):
    """It could hold no snapshot for them: each would be read at a moment of its own."""
    load(source, target, transformation_func=refuse_some, **STAGED)

    with psycopg.connect(source) as connection:
        connection.execute("update orders set version = version")
        engine = sa.create_engine(
            source.replace("postgresql:", "postgresql+psycopg:"), pool_size=1, max_overflow=0
        )
        with pytest.raises(LedgerError, match="this call cannot continue its chunks"):
            load(
                connection if how == "connection" else engine,
                target,
                transformation_func=lambda rows: rows,
                **STAGED,
            )
        engine.dispose()
        connection.rollback()
    assert [] == run(target, "select * from orders")


def test_a_stream_goes_on_with_a_reject_limit_that_it_did_not_have(orders, source, target, run):
    """Refused rows are told apart as text, whatever it was planned with."""
    run(target, BROKEN)
    sql = "select *, random() as r from orders"
    run(target, "alter table orders add r float8")
    assert "failed" == load(source, target, sql, load_mode="replace").status

    result = load(source, target, sql, load_mode="replace", reject_limit=None)

    assert (True, 200) == (result.published, result.rows_rejected)
    assert [(800,)] == run(target, "select count(*) from orders")


def test_a_load_inside_one_database_does_not_go_on_from_another(orders, source, target, run):
    """The server would read its own table of that name."""
    run(target, "create table copies (like orders)", "alter table copies add check (id > 5)")
    run(target, "insert into orders select i, 9, '2024-01-01' from generate_series(1, 10) i")
    options = {"strategy": "same_database", "target_table": "copies", "snapshot": False}
    assert "failed" == load(target, target, "select * from orders", **options).status
    run(target, "alter table copies drop constraint copies_id_check")

    with pytest.raises(LedgerError, match="source and target are different databases"):
        load(source, target, "select * from orders", **options)

    assert [] == run(target, "select * from copies")
