"""max_workers="auto": as many workers as make the load faster, and no more."""

import heapq
import random
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper_core import (
    ProgressSnapshot,
    RetryConfig,
    RetryHandler,
    adapters,
    execute_query_parallel,
    history,
)
from mapper_core import plan as plan_load
from mapper_core.chunker import cuts_of_blocks, split
from mapper_core.connections import opener_of
from mapper_core.history import loads as list_loads
from mapper_core.ledger import ChunkIsFinished, Ledger
from mapper_core.loading import pacing
from mapper_core.loading.pacing import Pace
from mapper_core.model import Chunk, ChunkKind

from ..proxy import Proxy
from ..waiting import assert_nothing_left, wait_until
from .running import PATIENT

CHUNK = 1_000
ROWS = 6_000


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
    """Every row once, and one worker alone at first."""
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
    assert together[:2] == [1, 1]


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
    asked = threading.Event()

    def stop_at_once():
        asked.set()
        return True

    def wait_to_be_asked(rows):
        asked.wait(30)
        return rows

    stopped = execute_query_parallel(
        source,
        "select * from orders",
        target_conn=target,
        transformation_func=wait_to_be_asked,
        **{**OPTIONS, "should_stop": stop_at_once},
    )
    assert stopped.status == "stopped"


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 10**8), st.floats(0, 1e7))
def test_parts_are_worth_their_trouble(unstarted, at_work, rows, rate):
    """As many as there are idle workers, none of them tiny, so that splitting comes to an end."""
    parts = pacing.parts_for(unstarted, at_work, rows, rate)

    assert 1 <= parts <= at_work
    if unstarted >= at_work:
        assert parts == 1
    if parts > 1:
        assert rows / parts >= pacing.LEAST_PART_ROWS
        assert rows / parts / rate >= pacing.LEAST_PART_SECONDS


@pytest.fixture
def eager(monkeypatch):
    """Chunks are split however short they are."""
    monkeypatch.setattr(pacing, "LEAST_PART_SECONDS", 1e-9)
    monkeypatch.setattr(pacing, "LEAST_PART_ROWS", 200)


SPLIT = {**OPTIONS, "max_workers": 3, "chunk_size": 1_200}

# What a transaction has said that splits a chunk.
SPLITTING = b"done = 2"

# Goes on for as long as another process takes.
LONG = RetryHandler(RetryConfig(max_retries=500, initial_delay=0.05, max_delay=0.1))


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("strategy", ["key", "physical"])
def test_the_last_chunks_are_split_and_every_row_comes_once(
    eager, orders, source, target, run, strategy, mode
):
    """Parts tile the chunk; ledger, result and progress speak of them and no more of it."""
    seen: list[ProgressSnapshot] = []
    result = execute_query_parallel(
        source,
        "select * from orders",
        target_conn=target,
        **{**SPLIT, "strategy": strategy, "load_mode": mode, "enable_progress": True},
        progress_callback=seen.append,
    )

    assert result.status == "succeeded"
    assert [(6000, 6000)] == run(target, "select count(*), count(distinct id) from orders")
    assert 6000 == result.total_rows_successful
    split = run(target, "select count(*) from mapper.claim where done = 2")[0][0]
    assert split > 0
    finished = run(target, "select chunk_id from mapper.claim where done = 1 order by 1")
    assert [(chunk.chunk_id,) for chunk in result.chunk_results] == finished
    assert result.load_id
    told = history.chunks(target, result.load_id)
    assert (finished, ()) == ([(chunk.chunk_id,) for chunk in told.finished], told.missing)
    assert (seen[-1].completed_chunks, seen[-1].total_chunks) == (len(finished), len(finished))
    (summary,) = list_loads(target)
    assert summary.chunks_planned == summary.chunks_finished == len(finished)


@pytest.mark.parametrize("lost", ["reply", "request"])
def test_a_lost_commit_of_a_split_leaves_no_part_out(eager, orders, source, target, run, lost):
    """The ledger says whether the chunk is to be loaded as it is, or its parts."""

    def lose(_):
        return lost if SPLITTING in proxy.committing else None

    with Proxy(target, lose_commit=lose) as proxy:
        result = execute_query_parallel(
            source, "select * from orders", target_conn=proxy.url, retry_handler=PATIENT, **SPLIT
        )

    assert proxy.cuts
    assert ("succeeded", 6000) == (result.status, result.total_rows_successful), result
    assert [(6000, 6000)] == run(target, "select count(*), count(distinct id) from orders")
    finished = run(target, "select chunk_id from mapper.claim where done = 1 order by 1")
    assert [(chunk.chunk_id,) for chunk in result.chunk_results] == finished
    split = run(target, "select count(*) from mapper.claim where done = 2")[0][0]
    assert bool(split) == (lost == "reply")


def test_parts_of_which_another_process_has_split_one_are_loaded(
    eager, orders, source, target, run
):
    """Nobody heard that the chunk was split; by the time the ledger is asked, there is more."""
    opened = adapters.database(opener_of(target, role="target"), application="", time_zone=None)
    ledger = Ledger(opened, "mapper")
    known: list[int] = []

    def new_parts():
        """Of the split whose COMMIT was lost: others wait for it before they number theirs."""
        with opened.open_writer() as writer, writer.begin() as transaction:
            found = ledger.find(transaction, "nightly")
        assert found
        return found.plan, [chunk for chunk in found.plan.chunks if chunk.id > known[0]]

    def split_a_part():
        plan, (part, *_) = wait_until(
            lambda: found if (found := new_parts())[1] else None, "the chunk to be split"
        )
        with opened.open_writer() as writer, writer.begin() as transaction:
            low, high = part.low or ("1",), part.high or (str(ROWS),)
            middle = (int(low[0]) + int(high[0])) // 2
            ledger.split(transaction, plan, part, [(str(middle),)])
        proxy.away.clear()

    other = threading.Thread(target=split_a_part)

    def lose(_):
        if other.ident or SPLITTING not in proxy.committing:
            return None
        known.extend(run(target, "select max(chunk_id) from mapper.chunk")[0])
        proxy.away.set()  # it is asked for when the other process is done
        other.start()
        return "reply"

    options = {**SPLIT, "load_id": "nightly", "retry_handler": LONG}
    with Proxy(target, lose_commit=lose) as proxy:
        first = execute_query_parallel(
            source, "select * from orders", target_conn=proxy.url, **options
        )
    other.join()

    loaded = first.total_rows_successful
    assert [(loaded,)] == run(target, "select count(*) from orders")
    assert not first.published
    assert ROWS - SPLIT["chunk_size"] / 2 - 1 <= loaded < ROWS
    second = execute_query_parallel(source, "select * from orders", target_conn=target, **options)
    assert ("succeeded", ROWS - loaded) == (second.status, second.total_rows_successful)
    assert [(ROWS, ROWS)] == run(target, "select count(*), count(distinct id) from orders")


def test_a_load_is_continued_in_the_parts_that_are_left(eager, orders, source, target, run):
    """A part that failed is loaded later; those that did not are not loaded again."""
    wrong = [True]

    def picky(rows):
        if wrong[0] and any(row["id"] == 6000 for row in rows):
            raise ValueError("not yet")
        return rows

    options = {**SPLIT, "load_id": "nightly", "transformation_func": picky}
    first = execute_query_parallel(source, "select * from orders", target_conn=target, **options)
    wrong[0] = False
    second = execute_query_parallel(source, "select * from orders", target_conn=target, **options)

    assert run(target, "select count(*) > 0 from mapper.claim where done = 2") == [(True,)]
    assert (first.status, second.status) == ("partial", "succeeded")
    assert second.chunks_succeeded == first.chunks_failed
    assert second.chunks_skipped == first.chunks_succeeded
    assert [(6000, 6000)] == run(target, "select count(*), count(distinct id) from orders")


def test_who_still_has_the_old_plan_cannot_load_a_chunk_that_was_split(orders, source, target, run):
    """Its claim is taken; so is that of a second one who would split it."""

    def wrong(_):
        raise ValueError("not yet")

    options = {**SPLIT, "load_id": "nightly", "transformation_func": wrong}
    execute_query_parallel(source, "select * from orders", target_conn=target, **options)
    opened = adapters.database(opener_of(target, role="target"), application="", time_zone=None)
    ledger = Ledger(opened, "mapper")
    with opened.open_writer() as writer:
        with writer.begin() as transaction:
            found = ledger.find(transaction, "nightly")
            assert found
            old = found.plan
            parts = ledger.split(transaction, old, old.chunks[1], [("2000",)])
        with pytest.raises(ChunkIsFinished), writer.begin() as transaction:
            ledger.claim(transaction, old, old.chunks[1])
        with pytest.raises(ChunkIsFinished), writer.begin() as transaction:
            ledger.split(transaction, old, old.chunks[1], [("1800",)])
        with writer.begin() as transaction:
            found = ledger.find(transaction, "nightly")

    assert found
    now = found.plan
    assert [old.chunks[0], *old.chunks[2:], *parts] == list(now.chunks)
    options["transformation_func"] = lambda rows: rows
    result = execute_query_parallel(source, "select * from orders", target_conn=target, **options)
    assert result.status == "succeeded"
    assert [(6000, 6000)] == run(target, "select count(*), count(distinct id) from orders")


@given(
    st.lists(st.integers(-5, 30), min_size=1, max_size=60),
    st.integers(1, 6),
    st.data(),
)
def test_parts_hold_each_row_of_their_chunk_once(keys, parts, data):
    """Whatever rows the cuts are taken from, heavy keys and the outermost ones included."""
    low, high = min(keys), max(keys) + 1
    chunk = Chunk(3, ChunkKind.RANGE, (str(low),), (str(high),), len(keys))
    cuts = sorted(data.draw(st.lists(st.sampled_from(keys), max_size=parts)))

    made = split(chunk, [(str(cut),) for cut in cuts], 10, weights=parts)

    for key in keys:
        holds = [
            part
            for part in made
            if part.low and part.high and int(part.low[0]) <= key < int(part.high[0])
        ]
        assert len(holds) == 1
    assert [part.id for part in made] == list(range(10, 11 + len(cuts)))


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 50))
def test_blocks_are_cut_where_they_are(low, blocks, parts):
    """Cuts ascend strictly and lie inside."""
    chunk = Chunk(1, ChunkKind.BLOCKS, (str(low),), (str(low + blocks),))

    cuts = [int(cut) for (cut,) in cuts_of_blocks(chunk, parts, 0)]

    assert all(low < cut < low + blocks for cut in cuts)
    assert sorted(set(cuts)) == cuts
    assert len(cuts) == min(parts, blocks) - 1
