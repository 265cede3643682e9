"""max_workers="auto": as many workers as make the load faster, and no more."""

import heapq
import random
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper_core import execute_query_parallel
from mapper_core import plan as plan_load
from mapper_core.pacing import Pace

from ..waiting import assert_nothing_left

CHUNK = 1_000


def simulated(most, rate, *, chunks=400, commit=lambda _workers: 0.001, noise=0.0):
    """Run a load whose workers together do `rate(workers)` rows a second; return the pace."""
    dice = random.Random(7)
    now, pace = 0.0, Pace(most, 0.0)
    running: list[float] = []
    seen = []
    for _ in range(chunks):
        while len(running) < pace.wanted:
            each = rate(pace.wanted) / pace.wanted
            heapq.heappush(running, now + CHUNK / each * (1 + noise * dice.uniform(-1, 1)))
        now = heapq.heappop(running)
        pace.ended(now, CHUNK, commit(pace.wanted))
        seen.append(pace.wanted)
    return pace, seen


@given(st.integers(1, 12), st.integers(1, 16))
@settings(deadline=None, max_examples=60)
def test_it_stops_where_another_worker_brings_nothing(best, most):
    """Throughput that rises up to so many workers, and stays there."""
    _, seen = simulated(most, lambda workers: 500 * min(workers, best))

    usual = max(set(seen[-100:]), key=seen[-100:].count)
    assert usual == min(best, most)
    # It looks one further now and then, and no more.
    assert max(seen) <= min(best + 1, most)


def test_it_turns_back_where_more_workers_are_slower():
    """Contention: the fifth worker makes all of them slower."""
    _, seen = simulated(8, lambda workers: 500 * workers if workers < 5 else 300)

    assert max(set(seen[-100:]), key=seen[-100:].count) == 4


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_noise_does_not_send_it_astray(noise):
    """Near the best number, whatever single chunks took."""
    _, seen = simulated(8, lambda workers: 500 * min(workers, 4), noise=noise)

    assert 2 <= max(set(seen[-200:]), key=seen[-200:].count) <= 5


def test_it_backs_off_from_a_target_that_commits_ever_more_slowly():
    """Rows still come faster, but each COMMIT waits for the disk."""
    pace, seen = simulated(
        8, lambda workers: 500 * workers, commit=lambda workers: 0.01 if workers < 4 else 0.3
    )

    assert max(seen) >= 4
    assert pace.wanted <= 4
    assert seen[-100:].count(3) > 50


@pytest.fixture
def orders(source, target, run):
    """6,000 orders; an empty table."""
    run(
        source,
        "create table orders as select i as id, 'n' || i as note from generate_series(1, 6000) i",
        "alter table orders add primary key (id)",
    )
    run(target, "create table orders (id int, note text)")
    yield
    assert_nothing_left(source, target)


OPTIONS: dict[str, Any] = {
    "target_table": "orders",
    "max_workers": "auto",
    "chunk_size": 100,
    "strategy": "key",
    "min_rows_for_parallel": 0,
    "enable_progress": False,
}


def test_the_plan_says_so(orders, source, target):
    """At most so many, and how they come about."""
    planned = plan_load(source, "select * from orders", target_conn=target, **OPTIONS)

    assert planned.adaptive
    assert planned.workers > 1
    assert f"at most {planned.workers}, as many as make the load faster" in str(planned)


def test_a_load_that_finds_its_own_pace_loses_nothing(orders, source, target, run):
    """Every row once, and no more threads at work than the pace wants at first."""
    at_work, together, lock = [0], [], threading.Lock()

    def watch(rows):
        with lock:
            at_work[0] += 1
            together.append(at_work[0])
        threading.Event().wait(0.02)
        with lock:
            at_work[0] -= 1
        return rows

    result = execute_query_parallel(
        source, "select * from orders", target_conn=target, transformation_func=watch, **OPTIONS
    )

    assert result.status == "succeeded"
    assert [(6000, 6000)] == run(target, "select count(*), count(distinct id) from orders")
    assert together[:5] == [1] * 5
    # A function that only waits is the faster the more of them wait.
    assert max(together) > 2


def test_workers_that_rest_leave_the_others_to_finish(orders, source, target, run):
    """Chunks that fail, a load that is stopped: nobody waits for ever."""

    def picky(rows):
        if any(row["id"] % 1000 == 0 for row in rows):
            raise ValueError("no")
        return rows

    result = execute_query_parallel(
        source, "select * from orders", target_conn=target, transformation_func=picky, **OPTIONS
    )
    assert result.status == "partial"
    assert 6 == result.chunks_failed
    stopped = execute_query_parallel(
        source,
        "select * from orders",
        target_conn=target,
        **{**OPTIONS, "should_stop": lambda: True},
    )
    assert stopped.status == "stopped"
