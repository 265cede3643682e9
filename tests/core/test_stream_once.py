"""A stream: read once, written by many, visible all at once or not at all."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import datetime
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from mapper_core import LoadWindow, ParallelProcessor, ProgressTracker, plan
from mapper_core.loading import stream as stream_module

from ..proxy import Proxy
from ..waiting import assert_nothing_left, backends, wait_until
from . import loading
from .running import (
    PAUSE,
    Background,
    asked,
    at_the_gate,
    gate,
    load,
    multiset,
    refusal,
    terminate,
)

ROWS = 3_000
SAME = "select * from orders"
PAUSED = "select pause(id, 1200) as id, note, version, at from orders"
OLD = "insert into orders values (-1, 'old', 0, '2024-01-01')"
DAY = LoadWindow("at", datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2024-01-02"))
MODES: dict[str, dict[str, Any]] = {
    "append": {},
    "replace_window": {"load_mode": "replace_window", "window": DAY},
}
STAGE = "select tablename from pg_tables where schemaname = 'mapper' and tablename like 'stage%'"


@pytest.fixture
def orders(source, target, run):
    """3,000 orders without a key in the source, an empty table of the same shape in the target."""
    table = "create table orders (id int, note text, version int not null, at timestamp)"
    run(
        source,
        table,
        "insert into orders select i, repeat('n', 60) || i, 1, '2024-01-01'"
        f" from generate_series(1, {ROWS}) i",
        "analyze orders",
        PAUSE,
        # The server counts its calls: as many as rows for each time that the query is run.
        "create function seen(i int) returns int language plpgsql stable as 'begin return i; end'",
        f"alter database {source.split('/')[3].split('?')[0]} set track_functions = 'all'",
    )
    run(target, table)
    yield
    assert_nothing_left(source, target)


def stream(source, target, sql=SAME, **options):
    return load(source, sql, target, "orders", **{"strategy": "stream_once", **options})


def times_run(source, run):
    """Return how often the query has been run, in rows that it made."""
    assert_nothing_left(source)
    return run(source, "select calls from pg_stat_user_functions where funcname = 'seen'")[0][0]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select distinct on (id) * from orders order by id", "it has DISTINCT ON"),
        (f"select * from (select * from orders limit {ROWS}) q", "it has LIMIT"),
        ("select * from (select *, count(*) over () from orders) q", "a window function"),
        ("select a.* from orders a left join orders b on a.id = -b.id", "names no key"),
    ],
)
def test_a_query_that_cannot_be_divided_is_read_once(source, target, run, orders, query, why):
    """And written by several; why is in the reason."""
    if "over ()" in query:
        run(target, "alter table orders add count bigint")

    result = load(source, query, target, "orders")

    assert ("succeeded", "stream_once") == (result.status, result.strategy)
    assert why in result.strategy_reason
    assert (6, 3) == (result.chunks_succeeded, result.workers)
    assert (ROWS, ROWS, 0) == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
    )
    assert multiset(source, query) == multiset(target, SAME)


@pytest.mark.parametrize("path", ["binary copy", "text copy", "rows"])
def test_the_query_is_run_once_on_every_data_path(source, target, run, orders, path):
    """Planning explains it, and no more; many pieces come of one run."""
    options: dict[str, Any] = {"rows": {"transformation_func": list}}.get(path, {})
    kind = "bigint" if path == "text copy" else "int"

    result = stream(
        source, target, f"select seen(id)::{kind} as id, note, version, at from orders", **options
    )

    assert ("succeeded", path, 6) == (result.status, result.data_path, result.chunks_succeeded)
    assert ROWS == times_run(source, run)
    assert multiset(source, SAME) == multiset(target, SAME)


@pytest.mark.parametrize("mode", MODES)
def test_readers_of_the_target_see_all_of_it_or_nothing(orders, source, target, run, mode):
    """Also in append: pieces are committed to a stage, and published in one transaction."""
    run(target, OLD)
    with gate(source):
        running = Background(stream, source, target, PAUSED, **MODES[mode])
        at_the_gate(source)
        wait_until(
            lambda: asked(target, "select 1 from mapper.claim where done = 1 offset 1"),
            "pieces to be committed",
        )
        assert [(-1,)] == run(target, "select id from orders")
    result = running.result()

    assert ("succeeded", True) == (result.status, result.published)
    assert multiset(source, SAME) == multiset(target, f"{SAME} where id > 0")
    assert [(int(mode == "append"),)] == run(target, "select count(*) from orders where id < 0")
    assert [] == run(target, STAGE)


def test_a_piece_whose_writer_dies_is_written_again_from_memory(orders, source, target, run):
    """The query is not run a second time, and no row comes twice."""
    sql = "select seen(pause(id, 1200)) as id, note, version, at from orders"
    with gate(source):
        running = Background(stream, source, target, sql)
        at_the_gate(source)
        wait_until(lambda: asked(target, STAGE), "the stage")
        stage = psycopg.connect(target)
        stage.execute(f"lock table mapper.{run(target, STAGE)[0][0]} in exclusive mode")
    with closing(stage):
        wait_until(
            lambda: 3 == len(backends(target, extra="wait_event = 'relation'")), "the writers"
        )
        terminate(target, backends(target))
    result = running.result()

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert 3 == sum(chunk.attempts > 1 for chunk in result.chunk_results)
    assert ROWS == times_run(source, run)
    assert multiset(source, SAME) == multiset(target, SAME)


@pytest.mark.parametrize("mode", MODES)
def test_when_its_reader_dies_the_stream_is_read_again_from_its_beginning(
    orders, source, target, run, mode
):
    """At the same snapshot, into a stage that was emptied."""
    sent = multiset(source, SAME)
    tracker = ProgressTracker()
    with gate(source):
        running = Background(
            stream,
            source,
            target,
            PAUSED,
            progress_tracker=tracker,
            enable_progress=True,
            **MODES[mode],
        )
        waiting = at_the_gate(source)
        wait_until(
            lambda: asked(target, "select 1 from mapper.claim where done = 1 offset 1"),
            "pieces to be committed",
        )
        run(source, "update orders set version = 2", "delete from orders where id < 100")
        terminate(source, waiting)
    result = running.result()

    assert ("succeeded", ROWS, 6) == (
        result.status,
        result.total_rows_successful,
        result.chunks_succeeded,
    )
    assert sent == multiset(target, SAME)
    shown = tracker.snapshot()
    assert (6, 6, ROWS) == (
        shown.total_chunks,
        shown.completed_chunks,
        shown.total_rows_successful,
    )


def test_a_stream_that_was_taken_over_does_not_begin_anew(orders, source, target, run):
    """What another run has loaded by then is not forgotten."""
    with gate(source):
        running = Background(stream, source, target, PAUSED)
        waiting = at_the_gate(source)
        # As the other run does: under its own epoch.
        run(
            target,
            "update mapper.load set epoch = epoch + 1",
            "delete from mapper.claim",
            "insert into mapper.claim (load_id, chunk_id, epoch, done)"
            " select load_id, 1, epoch, 1 from mapper.load",
        )
        terminate(source, waiting)
    result = running.result()

    assert ("failed", False) == (result.status, result.published)
    assert "was taken over by another run; this one stops" in str(result.chunk_errors)
    others = "select l.epoch - c.epoch, chunk_id from mapper.claim c join mapper.load l"
    assert [(0, 1)] == run(target, f"{others} using (load_id)")


def test_without_reader_and_holder_nothing_is_published(orders, source, target, run):
    """Another read point would be another load: this one fails in words."""
    run(target, OLD)
    with gate(source):
        running = Background(stream, source, target, PAUSED, load_id="nightly")
        at_the_gate(source)
        terminate(source, backends(source))
    result = running.result()

    assert ("failed", False, 1) == (result.status, result.published, result.chunks_uncounted)
    assert "SnapshotLostError" in result.chunk_errors[0]["error"]
    assert 0 == result.total_rows_successful
    assert [(-1,)] == run(target, "select id from orders")
    assert "succeeded" == stream(source, target, PAUSED, load_id="nightly").status
    assert multiset(source, SAME) == multiset(target, f"{SAME} where id > 0")


def test_a_killed_process_leaves_nothing_to_be_seen_and_is_repeated(orders, source, target, run):
    """Its stage is emptied; under its load id the rows come once."""
    keywords = {
        "source_conn": source,
        "source_sql": PAUSED,
        "target_conn": target,
        "target_table": "orders",
        "load_id": "again",
        "chunk_size": 250,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
        "strategy": "stream_once",
    }
    for _ in range(2):
        with gate(source):
            process = loading.start(**keywords)
            at_the_gate(source)
            wait_until(
                lambda: asked(target, "select 1 from mapper.claim where done = 1"), "a piece"
            )
            loading.kill(process)
        wait_until(lambda: not backends(target), "the dead process's sessions to end")
        assert [(0,)] == run(target, "select count(*) from orders")

    result = loading.result_of(loading.start(**keywords))

    assert ("succeeded", ROWS, 0) == (result["status"], result["successful"], result["skipped"])
    assert multiset(source, SAME) == multiset(target, SAME)


def test_a_stopped_stream_shows_nothing_and_begins_anew(orders, source, target, run):
    """Its result says so; the next call under its load id loads everything."""
    processor = ParallelProcessor()
    options: dict[str, Any] = {
        "target_conn": target,
        "target_table": "orders",
        "load_id": "nightly",
        "strategy": "stream_once",
        "chunk_size": 50,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
    }

    stopped = processor.process_mapper_job(
        source, SAME, progress_callback=lambda _: processor.stop(), **options
    )

    assert ("stopped", False, 0) == (
        stopped.status,
        stopped.published,
        stopped.total_rows_successful,
    )
    assert [(0,)] == run(target, "select count(*) from orders")
    assert "succeeded" == processor.process_mapper_job(source, SAME, **options).status
    assert multiset(source, SAME) == multiset(target, SAME)


def test_a_permanent_error_of_a_writer_fails_the_whole_and_counts_it(orders, source, target, run):
    """Nothing is visible, so every row of the query has failed; mended, it is loaded whole."""
    run(target, OLD, "alter table orders alter version type smallint")
    run(source, "update orders set version = 40000 where id = 1200")

    failed = stream(source, target, load_id="nightly")

    assert ("failed", False) == (failed.status, failed.published)
    assert "out of range" in failed.chunk_errors[0]["error"]
    assert (ROWS, 0, ROWS, 0) == (
        failed.total_rows_processed,
        failed.total_rows_successful,
        failed.total_rows_failed,
        failed.chunks_uncounted,
    )
    assert [(-1,)] == run(target, "select id from orders")
    run(source, "update orders set version = 4 where id = 1200")
    assert "succeeded" == stream(source, target, load_id="nightly").status
    assert multiset(source, SAME) == multiset(target, f"{SAME} where id > 0")


def test_a_permanent_error_of_the_query_fails_the_whole(orders, source, target, run):
    """It is run once, for it would fail again."""
    sql = "select seen(id) as id, note, version + 0 / (id - 1200) as version, at from orders"

    failed = stream(source, target, sql)

    assert ("failed", 0, 1) == (
        failed.status,
        failed.total_rows_successful,
        failed.chunks_uncounted,
    )
    assert "division by zero" in failed.chunk_errors[0]["error"]
    assert 1 == failed.chunk_errors[0]["attempts"]
    assert [(0,)] == run(target, "select count(*) from orders")
    assert times_run(source, run) <= ROWS


def test_a_stream_that_lacks_rows_is_not_marked_as_whole(orders, source, target, run):
    """A piece that the ledger says is in, without its rows: nothing is published."""
    with gate(source):
        running = Background(stream, source, target, PAUSED, load_id="nightly")
        at_the_gate(source)
        run(
            target,
            "insert into mapper.claim (load_id, chunk_id, epoch, done, rows_read)"
            " select load_id, 6, epoch, 1, 0 from mapper.load",
        )
    result = running.result()

    assert ("failed", False, ROWS) == (result.status, result.published, result.total_rows_failed)
    assert "3,000 rows in 6 pieces" in result.chunk_errors[0]["error"]
    assert [(0,)] == run(target, "select count(*) from orders")
    assert "succeeded" == stream(source, target, PAUSED, load_id="nightly").status
    assert multiset(source, SAME) == multiset(target, SAME)


def test_a_target_that_refuses_the_rows_is_as_it_was(orders, source, target, run):
    """Its constraints speak at publishing: the whole fails, and can be published once mended."""
    run(target, "alter table orders add constraint broken check (id <> 1200)")
    failed = stream(source, target, load_id="nightly")
    run(target, "alter table orders drop constraint broken")

    assert ("failed", False, ROWS) == (failed.status, failed.published, failed.total_rows_failed)
    assert "violates check constraint" in failed.error
    assert [(0,)] == run(target, "select count(*) from orders") or failed.error
    assert "succeeded" == stream(source, target, load_id="nightly").status
    assert multiset(source, SAME) == multiset(target, SAME)


@pytest.mark.parametrize("lost", ["reply", "request"])
def test_whichever_commit_is_lost_every_row_comes_once(orders, source, target, run, lost):
    """Of the ledger's tables, the plan, the emptied stage, a piece, the mark, the publishing."""
    with Proxy(target, every_commit=True) as proxy:
        assert "succeeded" == stream(source, proxy.url, chunk_size=1_500).status
        commits = proxy.commits
    for number in range(1, commits + 1):
        run(target, "truncate orders")
        with Proxy(
            target, every_commit=True, lose_commit=lambda n, at=number: lost if n == at else None
        ) as proxy:
            result = stream(source, proxy.url, chunk_size=1_500, load_id=f"load {number}")
        assert 1 == proxy.cuts
        assert ("succeeded", True, ROWS) == (
            result.status,
            result.published,
            result.total_rows_successful,
        )
        assert multiset(source, SAME) == multiset(target, SAME), number
    assert commits > 8


@pytest.mark.parametrize("lost", ["reply", "request"])
def test_pieces_whose_commits_are_lost_come_once(orders, source, target, run, lost):
    """Every second one; the query is run once all the same."""
    sql = "select seen(id) as id, note, version, at from orders"
    with Proxy(target, lose_commit=lambda n: lost if n % 2 == 0 else None) as proxy:
        result = stream(source, proxy.url, sql, chunk_size=250)

    assert proxy.cuts > 5
    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert ROWS == times_run(source, run)
    assert multiset(source, SAME) == multiset(target, SAME)


def test_a_stream_that_is_cut_is_read_again_and_not_taken_for_whole(orders, source, target):
    """After every row, without the word that it was the last: nothing of that is kept."""
    cut = {1: 700, 2: 1_000_000}
    with Proxy(source, cut_copy=cut.get) as proxy:
        result = stream(proxy.url, target)

    assert 2 == proxy.cuts
    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert multiset(source, SAME) == multiset(target, SAME)


def test_processes_that_run_one_load_at_once_load_it_once(orders, source, target, run):
    """The one that planned or took it over last goes on; the others stop, in words."""
    run(
        source,
        "create function slow(i int) returns int language plpgsql stable as $$ begin"
        " if i % 50 = 0 and current_query() like 'copy%' then perform pg_sleep(0.005); end if;"
        " return i; end $$",
    )
    keywords = {
        "source_conn": source,
        "source_sql": "select slow(id) as id, note, version, at from orders",
        "target_conn": target,
        "target_table": "orders",
        "load_id": "shared",
        "chunk_size": 100,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
        "strategy": "stream_once",
    }
    started = [loading.start(**keywords) for _ in range(2)]
    results = [loading.result_of(process) for process in started]

    assert not [result["raised"] for result in results if "raised" in result]
    assert "succeeded" in {result["status"] for result in results}
    for result in results:
        assert all("taken over" in e or "published by" in e for e in result["errors"]), result
    assert multiset(source, SAME) == multiset(target, SAME)


@pytest.mark.parametrize("size", [1024, stream_module.PIECE_BYTES], ids=["wide", "narrow"])
@pytest.mark.parametrize("scope", ["chunk", "batch"])
def test_a_transform_sees_every_row_once_in_bounded_groups(
    orders, source, target, monkeypatch, scope, size
):
    """Pieces take the place of chunks, whole ones if asked to; batches are parts of them."""
    monkeypatch.setattr(stream_module, "PIECE_BYTES", size)
    groups: list[int] = []

    def double(rows):
        groups.append(len(rows))
        return [{**row, "version": 2} for row in rows for _ in (1, 2)]

    result = stream(source, target, transformation_func=double, transform_scope=scope)

    assert ("succeeded", ROWS, 2 * ROWS) == (
        result.status,
        result.total_rows_successful,
        result.rows_written,
    )
    assert ROWS == sum(groups)
    assert max(groups) <= 500
    if scope == "chunk":
        assert {500} == set(groups)
    twice = "select id, note, 2 as version, at from orders, generate_series(1, 2)"
    assert multiset(source, twice) == multiset(target, SAME)


def test_a_transform_that_filters_everything_publishes_nothing(orders, source, target, run):
    """Which is what it asked for: rows were read, none was written."""
    result = stream(source, target, transformation_func=lambda _: [])

    assert ("succeeded", True, ROWS, 0) == (
        result.status,
        result.published,
        result.total_rows_processed,
        result.rows_written,
    )
    assert [(0,)] == run(target, "select count(*) from orders")


def test_a_transform_that_raises_fails_the_whole(orders, source, target, run):
    """In its own words; nothing is visible."""

    def refuse(rows):
        if any(row["id"] == 1200 for row in rows):
            raise ValueError("id 1200 is cursed")
        return rows

    result = stream(source, target, transformation_func=refuse)

    assert ("failed", ROWS) == (result.status, result.total_rows_failed)
    assert "ValueError: id 1200 is cursed" in result.chunk_errors[0]["error"]
    assert [(0,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("first", [1, 1200], ids=["every writer", "one writer"])
@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, KeyboardInterrupt])
def test_whatever_a_writer_dies_of_fails_the_whole(orders, source, target, run, error, first):
    """Also of what no `except Exception` sees: the reader waits for nobody, nothing is visible."""

    def end(rows):
        if any(row["id"] >= first for row in rows):
            raise error("no more of this")
        return rows

    result = stream(source, target, transformation_func=end, chunk_size=100)

    assert ("failed", False, ROWS) == (result.status, result.published, result.total_rows_failed)
    assert f"{error.__name__}: no more of this" in result.chunk_errors[0]["error"]
    assert [(0,)] == run(target, "select count(*) from orders")


class Unreachable(ProgressTracker):
    """A tracker of the user's own that keeps its numbers where nobody answers."""

    def record(self, result):
        raise OSError("no answer")


@pytest.mark.parametrize("strategy", ["stream_once", "key"])
def test_a_tracker_that_raises_harms_nothing(orders, source, target, run, caplog, strategy):
    """As a callback that does; nobody waits for the writer that told it."""
    tracker = Unreachable()
    options = {"progress_tracker": tracker, "enable_progress": True, "chunk_size": 100}

    sql = "select * from orders order by id"
    result = stream(source, target, sql, **options, strategy=strategy)

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert "The progress tracker raised an error; the load continues" in caplog.text
    assert [(ROWS,)] == run(target, "select count(*) from orders")


def test_a_writer_that_cannot_be_started_leaves_none_behind(orders, source, target, run):
    """Where a process may have no more threads: it fails in words, and the others end."""
    start = threading.Thread.start

    def start_but_one(thread):
        if thread.name == "mapper 2":
            raise RuntimeError("can't start new thread")
        start(thread)

    with patch.object(threading.Thread, "start", start_but_one):
        result = stream(source, target)

    assert "failed" == result.status
    assert "can't start new thread" in result.chunk_errors[0]["error"]
    assert not [each for each in threading.enumerate() if each.name.startswith("mapper")]
    assert [(0,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_query_is_a_load_of_no_rows(orders, source, target, run, mode):
    """It is published all the same: an empty window is an answer."""
    run(target, OLD)

    result = stream(source, target, f"{SAME} where id < 0", **MODES[mode])

    assert ("succeeded", True, 0) == (result.status, result.published, result.total_rows_processed)
    assert [(int(mode == "append"),)] == run(target, "select count(*) from orders")


def test_one_worker_or_no_target_is_no_stream(orders, source, target):
    """One worker writes no faster from a stage; without a target nothing is written."""
    sql = "select * from orders limit 100"

    alone = plan(
        source,
        sql,
        target_conn=target,
        target_table="orders",
        max_workers=1,
        min_rows_for_parallel=0,
    )
    reading = plan(source, sql, min_rows_for_parallel=0)

    assert ("one_pass", "one_pass") == (alone.strategy, reading.strategy)
    assert "one worker writes no faster" in refusal(alone, "stream_once")
    assert "nothing is written" == refusal(reading, "stream_once")


def test_a_source_that_lets_in_one_reader_is_written_by_many(tmp_path, target, run):
    """SQLite: read by one session, written to PostgreSQL by three."""
    path = tmp_path / "source.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("create table orders (id integer primary key, note text)")
        made.executemany(
            "insert into orders values (?, ?)", [(i, f"n{i}") for i in range(1, ROWS + 1)]
        )
        made.commit()
    run(target, "create table orders (id bigint, note text)")

    result = load(f"sqlite:///{path}", "select * from orders", target, "orders")

    assert ("succeeded", "stream_once", 3, 6) == (
        result.status,
        result.strategy,
        result.workers,
        result.chunks_succeeded,
    )
    expected = f"select i::bigint as id, 'n' || i as note from generate_series(1, {ROWS}) i"
    assert multiset(target, expected) == multiset(target, "select * from orders")
    assert_nothing_left(target)


def test_the_steps_of_a_stream_may_be_taken_by_several_processors(orders, source, target, run):
    """Its reader is in one lane, with all its writers; a lane repeated reads everything again."""
    options: dict[str, Any] = {
        "target_conn": target,
        "target_table": "orders",
        "strategy": "stream_once",
        "chunk_size": 500,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
        "enable_progress": False,
    }
    step = (source, SAME, "run/orders")
    sent = multiset(source, SAME)
    decided = ParallelProcessor().plan_load(*step, **options)
    run(source, "update orders set version = 2")
    first = ParallelProcessor().load_lane(*step, lane=0, lanes=2, **options)
    other = ParallelProcessor().load_lane(*step, lane=1, lanes=2, **options)
    assert [(0,)] == run(target, "select count(*) from orders")
    again = ParallelProcessor().load_lane(*step, lane=0, lanes=2, **options)
    result = ParallelProcessor().publish_load(*step, **options)

    assert "stream_once" == decided.strategy
    assert (6, 0, 6) == (len(first), len(other), len(again))
    assert {"skipped"} == {chunk.status for chunk in again}
    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert sent == multiset(target, SAME)
    wait_until(lambda: not backends(source, "mapper snapshot of%"), "the holder to end")


MEASURED = """
import resource, sys
from tests.core.running import load
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
load({source!r}, "select i as id, 'x' as body from generate_series(1, 100) i", {target!r}, "wide",
     strategy="stream_once", max_workers=2)
before = peak()
result = load({source!r}, "select id, repeat('x', {width}) as body from narrow", {target!r}, "wide",
              strategy="stream_once", max_workers=2, chunk_size=50000, {options})
print(result.status, result.chunks_succeeded, peak() - before)
"""


SHORTENED = (
    "transform_scope='batch',"
    " transformation_func=lambda rows: [{**row, 'body': row['body'][:9]} for row in rows]"
)


@pytest.mark.parametrize(
    ("width", "options"), [(1_000_000, ""), (20_000, SHORTENED)], ids=["blocks", "rows"]
)
def test_memory_is_bounded_whatever_the_width_of_rows(source, target, run, width, options):
    """A piece is cut by its bytes as well as by its rows: 400 MB pass through far less."""
    rows = 400_000_000 // width
    run(source, f"create table narrow as select i as id from generate_series(1, {rows}) i")
    run(target, "create table wide (id int, body text)")
    program = MEASURED.format(source=source, target=target, width=width, options=options)

    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=loading.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    status, pieces, megabytes = ended.stdout.split() or [ended.stderr]
    assert "succeeded" == status
    assert int(pieces) > 10
    assert int(megabytes) < 250
    # A hundred of the small load before it.
    assert [(rows + 100,)] == run(target, "select count(*) from wide")
    assert_nothing_left(source, target)
