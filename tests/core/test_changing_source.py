"""While others write to the source, every strategy loads the rows of one moment, each once."""

import threading
from collections import Counter
from contextlib import closing, contextmanager

import psycopg
import pytest

from mapper_core import execute_query_parallel

from ..waiting import wait_until

ROWS = 2_000

TABLE = (
    "create table {} (id int, k int, note text, pad text, passed boolean)",
    # Twenty rows fill a block.
    "insert into t select i, case when i % 9 > 0 then i % 500 end, 'n' || i, repeat('x', 350), true"
    f" from generate_series(1, {ROWS}) i",
    "create index on t (k)",
    # Blocks whoever reads for the load while a test holds the lock, and takes its time afterwards.
    "create function gate(i int) returns boolean language plpgsql stable as $$ begin"
    " if current_query() ~ '^(copy|insert into \"arrived\")' then"
    "   perform pg_advisory_xact_lock_shared(42);"
    "   if i % 100 = 0 then perform pg_sleep(0.005); end if; end if;"
    " return true; end $$",
    "analyze t",
)

QUERY = "select id, k, note, pad, gate(id) as passed from t"

# What a writer does, over and over; each with a number that grows.
CHANGES = (
    "insert into t values (10000 + {n}, {n} % 500, 'late', repeat('y', 350), true)",
    "update t set k = (coalesce(k, 0) + 250) % 500 where id % 23 = {n} % 23",
    "update t set k = null where id % 97 = {n} % 97",
    "delete from t where id = {n} * 7 % 2000 or id = 10000 + {n} - 40",
    "update t set note = 'moved' || {n}, pad = pad || 'z' where id % 31 = {n} % 31",
    "vacuum t",
)


@contextmanager
def writing(url):
    """Change the table all the while; yield a list that grows by one for each change."""
    stop, done = threading.Event(), list[int]()

    def write():
        with psycopg.connect(url, autocommit=True) as connection:
            while not stop.is_set():
                done.append(len(done))
                connection.execute(CHANGES[done[-1] % len(CHANGES)].format(n=done[-1]).encode())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield done
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize(
    ("strategy", "sql"),
    [
        ("physical", QUERY),
        ("key", f"{QUERY} order by k"),
        ("key", f"{QUERY} order by k desc, note desc"),
        ("stream_once", QUERY),
        ("one_pass", QUERY),
        ("same_database", QUERY),
        ("same_database", f"select * from ({QUERY}) x order by k"),
    ],
    ids=["physical", "key", "keys", "stream_once", "one_pass", "same-blocks", "same-key"],
)
def test_the_rows_of_the_read_point_arrive_while_others_write(source, target, run, strategy, sql):
    """Rows that come, go, and move to other keys and blocks meanwhile are loaded as they were."""
    run(source, TABLE[0].format("t"), *TABLE[1:])
    if strategy == "same_database":
        target = source
    run(target, TABLE[0].format("arrived"))
    results = []

    def load():
        results.append(
            execute_query_parallel(
                source,
                sql,
                target_conn=target,
                target_table="arrived",
                strategy=strategy,
                load_id="watched",
                chunk_size=150,
                min_rows_for_parallel=0,
                max_workers=2,
                enable_progress=False,
            )
        )

    with (
        writing(source) as changes,
        closing(psycopg.connect(source)) as still,
        closing(psycopg.connect(source, autocommit=True)) as gate,
    ):
        gate.execute("select pg_advisory_lock(42)")
        loading = threading.Thread(target=load)
        loading.start()
        try:
            wait_until(lambda: waiting_at_the_gate(run, source), "a reader at the gate")
            point = "select plan::json #>> '{snapshot,0}' from mapper.load"
            still.execute("set transaction isolation level repeatable read, read only")
            still.execute(f"set transaction snapshot '{run(target, point)[0][0]}'")
            before = len(changes)
            wait_until(lambda: len(changes) > before + 2 * len(CHANGES), "changes")
        finally:
            gate.execute("select pg_advisory_unlock(42)")
            loading.join()
        sent = Counter(still.execute(f"select q::text from ({QUERY}) q").fetchall())
        now = Counter(run(source, f"select q::text from ({QUERY}) q"))
    (result,) = results

    assert "succeeded" == result.status, result.chunk_errors
    assert strategy == result.strategy
    assert 1 == result.chunks_total or strategy != "one_pass"
    assert result.chunks_total > 5 or strategy == "one_pass"
    assert sent == Counter(run(target, "select a::text from arrived a"))
    assert sent != now
    assert sent.total() == result.total_rows_processed == result.total_rows_successful


def test_a_key_that_is_null_only_after_the_cuts_is_loaded_without_a_snapshot(source, target, run):
    """When the load was planned there was none, so that no chunk had to be for them."""
    run(
        source,
        "create table t (id int, note text)",
        f"insert into t select i, 'early' from generate_series(1, {ROWS}) i",
    )
    run(target, "create table arrived (id int, note text)")

    def late(rows):
        if not run(source, "select 1 from t where id is null"):
            run(source, "insert into t values (null, 'late')")
        return rows

    result = execute_query_parallel(
        source,
        "select * from t",
        target_conn=target,
        target_table="arrived",
        chunk_key="id",
        snapshot=False,
        chunk_size=150,
        min_rows_for_parallel=0,
        max_workers=1,
        transformation_func=late,
        enable_progress=False,
    )

    assert ("succeeded", "key", ROWS + 1) == (result.status, result.strategy, result.rows_written)
    assert [("late",)] == run(target, "select note from arrived where id is null")


def waiting_at_the_gate(run, url):
    return run(
        url,
        "select pid from pg_stat_activity where wait_event = 'advisory'"
        " and datname = current_database()",
    )
