"""A target's server that crashes, and loses what it had committed without waiting for its disk.

STORMS=20 in the environment makes that many rounds of the random crashes instead of one.
"""

import os
import random
import threading

import pytest

from mapper_core import (
    ParallelProcessor,
    RetryConfig,
    RetryHandler,
    execute_query_parallel,
    plan,
)

from ..own_server import PATIENT
from ..waiting import assert_nothing_left

ROWS = 4_000
SUM = "select count(*), sum(hashtext(o::text)) from orders o"
QUERY = "select * from orders"
ROUNDS = range(int(os.environ.get("STORMS", "1")))
LOST = "and their rows were lost"


@pytest.fixture
def forgetful(own, source, run):
    """A server of the test's own that puts nothing on its disk but what somebody waits for."""
    own.restart_with(wal_writer_delay="'10s'", wal_writer_flush_after="'1GB'")
    run(
        source,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
    )
    run(own.url, "create table copies (id int check (id <> 7), note text)")
    return own


@pytest.fixture
def seen():
    """What the callback of `crash` has been told."""
    return []


@pytest.fixture
def crash(forgetful, seen):
    """A progress callback: once so many chunks have ended, the server crashes and comes back."""

    def at(chunks, then=None):
        crashed: list[bool] = []

        def callback(snapshot):
            seen.append(snapshot)
            if snapshot.completed_chunks >= chunks and not crashed:
                crashed.append(True)
                forgetful.restart("immediate")
                if then:
                    then()

        return callback

    return at


def options(own, callback, **more):
    return {
        "target_conn": own.url,
        "target_table": "copies",
        "chunk_size": 200,
        "max_workers": 1,
        "min_rows_for_parallel": 0,
        "reject_limit": 1,
        "retry_handler": PATIENT,
        "progress_callback": callback,
        **more,
    }


def assert_all_but_the_seventh(run, source, own):
    expected = run(source, f"{SUM} where id <> 7")
    assert expected == run(own.url, SUM.replace("from orders", "from copies"))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_workers": 3},
        {"load_mode": "replace"},
        {"strategy": "physical"},
        {"reject_limit": 1, "transformation_func": lambda rows: rows},
    ],
    ids=["one", "three", "replace", "blocks", "function"],
)
def test_chunks_that_a_crash_took_back_are_loaded_again(
    forgetful, crash, seen, source, run, caplog, more
):
    """Rows, refused rows and progress are counted once, as if the crash had not been."""
    result = execute_query_parallel(source, QUERY, **options(forgetful, crash(6), **more))

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert LOST in caplog.text
    assert_all_but_the_seventh(run, source, forgetful)
    assert (ROWS, ROWS - 1, 1) == (
        result.total_rows_processed,
        result.rows_written,
        result.rows_rejected,
    )
    assert len({chunk.chunk_id for chunk in result.chunk_results}) == result.chunks_total
    last = seen[-1]
    assert (ROWS, last.total_chunks) == (last.total_rows_processed, last.completed_chunks)
    assert_nothing_left(source)


def test_a_worker_waits_for_its_last_chunk_and_so_for_all(forgetful, source, run):
    """What a step under Dagster has told as done is on disk, whatever comes next."""
    processor = ParallelProcessor(**options(forgetful, None))
    processor.plan_load(source, QUERY, "steps")
    told = processor.load_lane(source, QUERY, "steps", lane=0, lanes=1)

    forgetful.restart("immediate")

    assert {"succeeded"} == {chunk.status for chunk in told}
    result = processor.publish_load(source, QUERY, "steps")
    assert ROWS - 1 == result.rows_written
    assert_all_but_the_seventh(run, source, forgetful)


@pytest.mark.parametrize("end", ["partial", "stopped"])
def test_what_a_load_that_did_not_load_all_calls_loaded_is_on_disk(forgetful, source, run, end):
    """Its worker did not wait for a chunk, for another was to follow, which came to nothing."""
    processor = ParallelProcessor()

    def picky(rows):
        if rows[0]["id"] > ROWS // 2:
            if end == "stopped":
                processor.stop()
            raise ValueError("not these")
        return rows

    result = processor.process_mapper_job(
        source, QUERY, **options(forgetful, None, reject_limit=0, transformation_func=picky)
    )
    forgetful.restart("immediate")

    assert end == result.status
    assert 0 < result.rows_written < ROWS
    assert [(result.rows_written,)] == run(forgetful.url, "select count(*) from copies")


def test_chunks_that_another_process_had_loaded_are_loaded_again_too(
    forgetful, crash, seen, source, run, caplog
):
    """A lane that is run again had found them finished, and counts them once."""
    first = ParallelProcessor()

    def interrupt(snapshot):
        if snapshot.completed_chunks == 6:
            raise KeyboardInterrupt

    first.plan_load(source, QUERY, "steps", **options(forgetful, None))
    with pytest.raises(KeyboardInterrupt):
        first.load_lane(source, QUERY, "steps", lane=0, lanes=1, **options(forgetful, interrupt))

    again = ParallelProcessor(**options(forgetful, crash(7)))
    told = again.load_lane(source, QUERY, "steps", lane=0, lanes=1)

    assert LOST in caplog.text
    assert {"succeeded"} == {chunk.status for chunk in told}
    last = seen[-1]
    assert (ROWS, last.total_chunks) == (last.total_rows_processed, last.completed_chunks)
    again.publish_load(source, QUERY, "steps")
    assert_all_but_the_seventh(run, source, forgetful)


def test_a_load_that_is_stopped_does_not_count_what_a_crash_took_back(
    forgetful, crash, source, run, caplog
):
    """What its result calls loaded is there; continued, it brings the rest."""
    processor = ParallelProcessor()
    callback = crash(6, then=processor.stop)

    first = processor.process_mapper_job(
        source, QUERY, **options(forgetful, callback, load_id="stopped")
    )

    assert "stopped" == first.status
    assert LOST in caplog.text
    assert [(first.rows_written,)] == run(forgetful.url, "select count(*) from copies")
    again = execute_query_parallel(source, QUERY, **options(forgetful, None, load_id="stopped"))
    assert "succeeded" == again.status, again.chunk_errors
    assert_all_but_the_seventh(run, source, forgetful)


@pytest.mark.parametrize(
    "more",
    [{"strategy": "stream_once"}, {"max_workers": "auto", "chunk_size": 40}],
    ids=["stream", "adaptive"],
)
def test_pieces_of_a_stream_and_commits_that_are_timed_are_waited_for(
    forgetful, crash, source, run, caplog, more
):
    """A piece cannot be read again; an adaptive load goes by the time that commits take."""
    result = execute_query_parallel(source, QUERY, **options(forgetful, crash(6), **more))

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert LOST not in caplog.text
    assert_all_but_the_seventh(run, source, forgetful)


UNLOGGED = {
    "table": "alter table copies set unlogged",
    "partition": "drop table copies;"
    " create table copies (id int check (id <> 7), note text) partition by range (id);"
    " create table low partition of copies for values from (minvalue) to (500);"
    " create unlogged table high partition of copies for values from (500) to (maxvalue)",
}


@pytest.mark.parametrize(
    ("kind", "more", "ended"),
    [
        ("table", {}, 6),
        ("partition", {"strategy": "physical", "max_workers": 3}, 6),
        ("table", {"strategy": "one_pass"}, 1),
    ],
    ids=["table", "partition", "one-chunk"],
)
def test_a_table_that_a_crash_empties_lacks_no_row_of_a_load_it_met(
    forgetful, crash, source, run, kind, more, ended
):
    """An append into an unlogged table: what was in it is gone, and the ledger still has it."""
    run(forgetful.url, UNLOGGED[kind])

    result = execute_query_parallel(source, QUERY, **options(forgetful, crash(ended), **more))

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert_all_but_the_seventh(run, source, forgetful)
    assert ROWS - 1 == result.rows_written
    assert "all at once" in str(plan(source, QUERY, **options(forgetful, None, **more)))


def test_inside_one_database_that_crashes_no_row_of_an_unlogged_table_is_called_loaded(
    forgetful, crash, run
):
    """The read point is gone with the server, and with it what the table had of the load."""
    run(
        forgetful.url,
        "create table orders (id int, note text)",
        f"insert into orders select i, 'n' || i from generate_series(10, {ROWS}) i",
        UNLOGGED["table"],
    )
    crash_later = crash(6)

    def callback(snapshot):
        if snapshot.completed_chunks == 4:
            run(forgetful.url, "checkpoint")  # so that claims are on disk
        crash_later(snapshot)

    given = options(
        forgetful,
        callback,
        strategy="same_database",
        reject_limit=0,
        load_id="here",
        chunk_key="id",
    )
    result = execute_query_parallel(forgetful.url, QUERY, **given)

    assert "failed" == result.status
    assert (0, [(0,)]) == (result.rows_written, run(forgetful.url, "select count(*) from copies"))
    again = execute_query_parallel(forgetful.url, QUERY, **given)
    assert ("succeeded", ROWS - 9) == (again.status, again.rows_written)
    assert run(forgetful.url, SUM) == run(forgetful.url, SUM.replace("from orders", "from copies"))


def test_a_target_that_stays_away_is_told_by_publishing(forgetful, source, caplog):
    """The load does not fail by an exception where it told its end in a result before."""
    hasty = RetryHandler(RetryConfig(max_retries=1, initial_delay=0.01, max_elapsed=1))

    def gone(snapshot):
        if snapshot.completed_chunks == snapshot.total_chunks:
            forgetful.end("immediate")

    given = options(forgetful, gone, retry_handler=hasty)
    result = execute_query_parallel(source, QUERY, **given)
    forgetful.start()

    assert not result.published
    assert "DatabaseUnavailableError" in str(result.error)
    assert "not known whether its chunks are on disk" in caplog.text


def test_what_may_not_be_on_disk_is_not_called_loaded(forgetful, source, run):
    """The server crashes and stays away: what it took back is in no total, but in doubt."""

    def gone(snapshot):
        if (snapshot.completed_chunks, snapshot.failed_chunks) == (4, 0):
            forgetful.end("immediate")

    hasty = RetryHandler(RetryConfig(max_retries=0))
    result = execute_query_parallel(
        source, QUERY, **options(forgetful, gone, retry_handler=hasty, load_id="away")
    )
    forgetful.start()

    ((rows,),) = run(forgetful.url, "select count(*) from copies")
    assert result.total_rows_successful <= rows
    assert result.chunks_in_doubt
    assert (
        "it was committed, but perhaps not to the target's disk" in result.chunk_errors[0]["error"]
    )

    again = execute_query_parallel(source, QUERY, **options(forgetful, None, load_id="away"))

    assert "succeeded" == again.status
    assert_all_but_the_seventh(run, source, forgetful)


def test_what_an_earlier_crash_may_have_taken_back_is_not_called_loaded(forgetful, source, run):
    """Every chunk ended well, one of them at its second attempt; then nobody can be asked."""
    crashed = list[object]()

    def crash(snapshot):
        if snapshot.completed_chunks == 4 and not crashed:
            crashed.append(snapshot)
            forgetful.restart("immediate")
        if snapshot.completed_chunks == snapshot.total_chunks:
            forgetful.end("immediate")

    brief = RetryHandler(RetryConfig(max_retries=2, initial_delay=0.05))
    result = execute_query_parallel(source, QUERY, **options(forgetful, crash, retry_handler=brief))
    forgetful.start()

    ((rows,),) = run(forgetful.url, "select count(*) from copies")
    assert crashed
    assert rows < ROWS - 1
    assert result.total_rows_successful <= rows
    assert result.chunks_in_doubt


STORMY = {
    "append-key": {"chunk_key": "id"},
    "append-blocks": {"strategy": "physical"},
    "append-stream": {"strategy": "stream_once"},
    "atomic-key": {"chunk_key": "id", "publish": "atomic"},
    "replace-blocks": {"strategy": "physical", "load_mode": "replace"},
    "upsert-key": {"chunk_key": "id", "load_mode": "upsert", "primary_key": "id"},
}


@pytest.mark.parametrize("case", STORMY)
@pytest.mark.parametrize("turn", ROUNDS)
def test_a_server_that_crashes_again_and_again_ends_with_every_row(
    forgetful, source, run, case, turn
):
    """In one process with one to four workers, and in two lanes."""
    chance = random.Random(f"{case} {turn}")
    run(
        source,
        f"insert into orders select i, 'n' || i from generate_series({ROWS} + 1, {ROWS} * 10) i",
    )
    ended = threading.Event()

    def crash():
        for _ in range(4):
            if ended.wait(chance.uniform(0.1, 0.4)):
                return
            forgetful.restart("immediate")

    processor = ParallelProcessor(
        **options(forgetful, None, **STORMY[case], max_workers=chance.choice([1, 2, 4]))
    )
    crashing = threading.Thread(target=crash)
    crashing.start()
    try:
        if "stream" in case or chance.random() < 0.5:
            result = processor.process_mapper_job(source, QUERY)
        else:
            processor.plan_load(source, QUERY, "stormy")
            for lane in range(2):
                processor.load_lane(source, QUERY, "stormy", lane=lane, lanes=2)
            result = processor.publish_load(source, QUERY, "stormy")
    finally:
        ended.set()
        crashing.join()

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert ROWS * 10 - 1 == result.rows_written
    assert_all_but_the_seventh(run, source, forgetful)
    assert_nothing_left(source)
