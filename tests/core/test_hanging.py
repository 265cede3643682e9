"""A server that hangs: its processes neither end nor answer."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest

from mapper_core import ParallelProcessor
from mapper_core.adapters.postgresql import ending

from ..waiting import assert_nothing_left, backends, wait_until
from .running import Background

ROWS = 2_000
SUM = "select count(*), sum(hashtext(o::text)) from orders o"


@contextmanager
def hanging(pids):
    """Have processes of the server's do nothing until the block ends."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def two(url, waiting_for):
    """Return a load's sessions that wait for something, once there are two."""
    found = backends(url, extra=waiting_for)
    return found if len(found) == 2 else None


def processor(target, **more):
    return ParallelProcessor(
        target_conn=target,
        target_table="orders",
        load_id="halted",
        strategy="key",
        chunk_size=100,
        max_workers=2,
        min_rows_for_parallel=0,
        enable_progress=False,
        **more,
    )


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_load_stops_though_a_server_does_not_hear_of_it(own, make_database, run, side):
    """Its connections are given up after a while; the load goes on under its id."""
    other = make_database("other")
    source, target = (own.url, other) if side == "source" else (other, own.url)
    run(
        source,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
        "create function gate(i int) returns boolean language plpgsql stable as $$ begin"
        " if i % 100 = 50 and i > 900 and current_query() like 'copy%' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return true; end $$",
    )
    query = "select * from orders where gate(id) order by id"
    run(target, "create table orders (id int, note text)")
    came_to = []
    with psycopg.connect(source, autocommit=True) as gate:
        gate.execute("select pg_advisory_lock(42)")
        stopping = processor(target)
        job = threading.Thread(
            target=lambda: came_to.append(stopping.process_mapper_job(source, query))
        )
        job.start()
        readers = wait_until(lambda: two(source, "wait_event = 'advisory'"), "readers at the gate")
        writers = wait_until(lambda: two(target, "wait_event = 'ClientRead'"), "idle writers")
        with hanging(readers if side == "source" else writers):
            if side == "target":
                # Their workers go on to what the target does not answer.
                gate.execute("select pg_advisory_unlock(42)")
                time.sleep(0.5)
            stopping.stop()
            job.join(60)
            assert not job.is_alive()

    (result,) = came_to
    assert ("stopped", False) == (result.status, result.published)
    kept = [c.rows_read for c in result.chunk_results if c.status == "succeeded"]
    assert_nothing_left(source, target)
    assert [(sum(kept),)] == run(target, "select count(*) from orders")

    again = processor(target).process_mapper_job(source, query)

    assert ("succeeded", len(kept)) == (again.status, again.chunks_skipped)
    assert run(source, SUM) == run(target, SUM)


def test_a_session_is_given_up_only_for_a_statement_that_goes_on(source, monkeypatch):
    """One that begins later is asked to end first, as the one before it was."""
    monkeypatch.setattr(ending, "PATIENCE", 0.3)
    with psycopg.connect(source, autocommit=True) as live:
        asking = ending.Ending(live)

        def ask():
            sleeping = "state = 'active' and query like 'select pg_sleep%'"
            wait_until(lambda: backends(source, "%", sleeping), "a statement")
            asking.ask()

        for _ in range(2):
            job = Background(ask)
            with pytest.raises(psycopg.errors.QueryCanceled):
                live.execute("select pg_sleep(20)")
            job.result()
            asking.ask()  # for nothing
            time.sleep(0.4)
        assert [(1,)] == live.execute("select 1").fetchall()
