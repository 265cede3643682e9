"""Several loads of one table at the same time: none waits for ever, and none is silently undone."""

import json
import threading
from datetime import datetime
from typing import Any

import psycopg
import pytest

from mapper_core import LoadWindow, execute_query_parallel, history

from ..waiting import assert_nothing_left, wait_until, waiting_for_locks
from .loading import result_of, start
from .running import Background, at_the_gate, gate

ROWS = 1_000
LOADS = 4
MODES: dict[str, dict[str, Any]] = {
    "replace_window": {
        "load_mode": "replace_window",
        "window": ["at", "2024-01-01T00:00:00", "2024-02-01T00:00:00"],
    },
    "replace": {"load_mode": "replace"},
    "upsert": {"load_mode": "upsert", "primary_key": ["id"]},
    "append, atomic": {"load_mode": "append", "publish": "atomic"},
    "append": {"load_mode": "append"},
}


@pytest.mark.parametrize("mode", MODES)
def test_loads_that_write_at_the_same_moment_all_succeed(source, target, run, mode):
    """The table holds what one of them gives, or what all appends give; the counts are true.

    All are held up where they first write to the target's own table, and let go together.
    """
    table = "(id int{}, at timestamp not null, writer int not null)"
    run(
        source,
        f"create table ev {table.format(' primary key')}",
        f"insert into ev select i, '2024-01-01', 0 from generate_series(1, {ROWS}) i",
    )
    appends = mode.startswith("append")
    run(target, f"create table ev {table.format('' if appends else ' primary key')}")
    with psycopg.connect(target) as holding:
        holding.execute("lock table ev in share mode")
        loads = [
            start(
                source_conn=source,
                source_sql=f"select id, at, {number} as writer from ev order by id",
                target_conn=target,
                target_schema="public",
                target_table="ev",
                max_workers=2,
                chunk_size=100,
                min_rows_for_parallel=0,
                **MODES[mode],
            )
            for number in range(LOADS)
        ]
        wait_until(lambda: len(waiting_for_locks(target)) == LOADS, "all loads to be held up")

    results = [result_of(load) for load in loads]
    assert [("succeeded", ROWS)] * LOADS == [
        (result["status"], result["successful"]) for result in results
    ], json.dumps(results)
    seen = run(target, "select count(*), count(distinct id) from ev group by writer")
    assert [(ROWS, ROWS)] * (LOADS if appends else 1) == seen
    assert_nothing_left(source, target)


@pytest.fixture
def versions(source, target, run):
    """The rows of version 1 in the source, which `revise` gives the next one; an empty target."""
    table = "create table ev (id int primary key, at timestamp not null, version int not null)"
    run(source, table, "insert into ev select i, '2024-01-01', 1 from generate_series(1, 1000) i")
    run(target, table)
    yield lambda: run(source, "update ev set version = version + 1")
    assert_nothing_left(source, target)


def load(source, target, mode, **options):
    """Load all rows in ten chunks, through a function, so that something may happen meanwhile."""
    keywords = dict(MODES[mode])
    if "window" in keywords:
        column, *ends = keywords["window"]
        keywords["window"] = LoadWindow(column, *map(datetime.fromisoformat, ends))
    same = {"source_sql": "select * from ev order by id", "transformation_func": lambda rows: rows}
    keywords = {**same, **keywords, **options}
    result = execute_query_parallel(
        source,
        target_conn=target,
        target_schema="public",
        target_table="ev",
        max_workers=2,
        chunk_size=100,
        min_rows_for_parallel=0,
        enable_progress=False,
        **keywords,
    )
    result.raise_for_failures()
    return result


def once(happens):
    """Return a transform that changes nothing and lets something happen when it is first called."""
    lock = threading.Lock()
    happened: list[Any] = []

    def meanwhile(rows):
        with lock:
            if not happened:
                happened.append(happens())
        return rows

    return meanwhile, happened


STAGED = ["replace_window", "replace", "upsert"]
HELD = "select version, count(*) from ev group by version"


@pytest.mark.parametrize("mode", STAGED)
def test_who_publishes_older_rows_over_newer_ones_is_told(
    versions, source, target, run, caplog, mode
):
    """The log, the result and the ledger say which load was read later, and what to do."""

    def overtake():
        versions()
        return load(source, target, mode, time_zone="Asia/Kolkata")

    meanwhile, happened = once(overtake)
    slow = load(source, target, mode, time_zone="America/St_Johns", transformation_func=meanwhile)

    assert [(1, ROWS)] == run(target, HELD)
    words = f"older than those of load {happened[0].load_id}, which was published before it"
    assert words in slow.verified
    assert "load them again as a new load" in slow.verified
    assert words not in happened[0].verified
    (warning,) = [r for r in caplog.records if "older than" in r.message]
    assert ("WARNING", slow.load_id) == (warning.levelname, warning.args[0])
    assert slow.verified == history.chunks(target, slow.load_id).record.verified

    again = load(source, target, mode)

    assert "older than" not in again.verified
    assert [(2, ROWS)] == run(target, HELD)


def test_rows_read_before_a_load_that_was_published_while_this_one_was_planned_are_older(
    versions, source, target, run
):
    """That one was published before this one was in the ledger."""
    run(
        source,
        # Immutable, so that planning calls it; not where the read point is taken.
        "create function planned(i int) returns int language plpgsql immutable as $$ begin"
        " if current_setting('application_name') like '%slow%'"
        "   and current_query() like 'explain (%' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return i; end $$",
    )
    sql = "select * from ev where version > planned(0) order by id"
    with gate(source):
        slow = Background(load, source, target, "replace", source_sql=sql, load_id="slow")
        at_the_gate(source)
        versions()
        quick = load(source, target, "replace", source_sql=sql)
        assert [(1,)] == run(target, "select count(*) from mapper.load")

    assert f"older than those of load {quick.load_id}, which" in slow.result().verified
    assert [(1, ROWS)] == run(target, HELD)


def test_older_rows_are_told_of_once_though_publishing_takes_two_attempts(
    versions, source, target, run
):
    """Whatever the first attempt had found is forgotten with it."""
    meanwhile, happened = once(lambda: (versions(), load(source, target, "upsert"))[1])
    run(
        target,
        "create sequence tries",
        "create function fail_once() returns trigger language plpgsql as $$ begin"
        " if nextval('tries') = 2 then"
        "   raise exception 'busy' using errcode = 'serialization_failure'; end if;"
        " return null; end $$",
        "create trigger fail_once after insert on ev for each statement"
        " execute function fail_once()",
    )

    slow = load(source, target, "upsert", transformation_func=meanwhile)

    assert happened
    assert 1 == slow.verified.count("older than those of load")
    assert slow.verified.startswith("none: the default of upsert; but its rows")


@pytest.mark.parametrize(
    "other",
    [
        {"source_sql": "select id + 1000 as id, at, version from ev order by id"},
        {"window": ["at", "2024-02-01T00:00:00", "2024-03-01T00:00:00"]},
        "another source",
    ],
)
def test_a_load_of_other_rows_overtakes_nothing(
    versions, source, target, run, make_database, other
):
    """Another query, window or source: the read points of the two say nothing of each other."""
    elsewhere = source
    if other == "another source":
        other, elsewhere = {}, make_database("elsewhere")
        run(elsewhere, "create table ev (id int, at timestamp not null, version int not null)")
    if "window" in other:
        column, *ends = other["window"]
        span = LoadWindow(column, *map(datetime.fromisoformat, ends))
        other = {"window": span, "source_sql": "select * from ev where at >= :window_start"}
    meanwhile, happened = once(lambda: load(elsewhere, target, "replace_window", **other))

    slow = load(source, target, "replace_window", transformation_func=meanwhile)

    assert happened
    assert "older than" not in slow.verified


def test_rows_published_over_an_older_load_are_told_of_the_newest_one(
    versions, source, target, run
):
    """Also where an older load was published after the newest one, and before this one."""

    def second():
        versions()
        meanwhile, third = once(lambda: (versions(), load(source, target, "replace"))[1])
        return load(source, target, "replace", transformation_func=meanwhile), *third

    meanwhile, happened = once(second)
    first = load(source, target, "replace", transformation_func=meanwhile)

    ((middle, newest),) = happened
    assert f"those of load {newest.load_id}," in middle.verified
    assert f"those of load {newest.load_id}," in first.verified
