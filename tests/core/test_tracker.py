"""Progress for people."""

import logging
from dataclasses import replace
from threading import Thread

import pytest

from mapper_core import (
    ChunkResult,
    ChunkStatus,
    ProgressSnapshot,
    ProgressTracker,
    create_progress_callback,
    execute_query_parallel,
)


def ended(number, status=ChunkStatus.SUCCEEDED, rows=10):
    return ChunkResult(chunk_id=number, status=status, rows_read=rows)


def test_counts_add_up():
    """Successful, failed and uncounted chunks, in rows and in chunks."""
    heard: list[ProgressSnapshot] = []
    tracker = ProgressTracker(total_chunks=4, callback=heard.append)
    tracker.record(ended(1))
    tracker.record(ended(2, ChunkStatus.FAILED))
    tracker.record(ended(3, ChunkStatus.FAILED, rows=None))
    last = heard[-1]
    assert (last.completed_chunks, last.failed_chunks, last.total_chunks) == (1, 2, 4)
    assert (last.total_rows_processed, last.total_rows_successful, last.total_rows_failed) == (
        20,
        10,
        10,
    )
    assert [snapshot.progress_percentage for snapshot in heard] == [25.0, 50.0, 75.0]


def test_refused_rows_are_among_those_failed():
    """As in the load's result; a chunk that is taken back takes them along."""
    tracker = ProgressTracker(total_chunks=2)
    with_refused = replace(ended(1), rows_rejected=3)

    def rows():
        snapshot = tracker.snapshot()
        return (
            snapshot.total_rows_processed,
            snapshot.total_rows_successful,
            snapshot.total_rows_failed,
        )

    tracker.record(with_refused)
    assert (10, 7, 3) == rows()
    tracker.record(ended(2))
    tracker.take_back(with_refused)
    assert (10, 10, 0) == rows()


def test_time_left_is_unknown_until_a_chunk_has_ended():
    """A chunk that the ledger already held says nothing about the rest."""
    tracker = ProgressTracker(total_chunks=3)
    assert tracker.snapshot().estimated_remaining_time is None
    tracker.record(ended(1, ChunkStatus.SKIPPED))
    snapshot = tracker.snapshot()
    assert snapshot.estimated_remaining_time is None
    assert (snapshot.completed_chunks, snapshot.total_rows_processed) == (1, 0)
    tracker.record(ended(2))
    snapshot = tracker.snapshot()
    assert snapshot.estimated_remaining_time == pytest.approx(snapshot.elapsed_time)
    tracker.record(ended(3))
    assert tracker.snapshot().estimated_remaining_time == 0.0


def test_a_plan_without_chunks_is_complete():
    """Nothing to do is all done."""
    assert ProgressTracker().snapshot().progress_percentage == 100.0


def test_starting_again_forgets():
    """One tracker may serve one load after the other."""
    tracker = ProgressTracker(total_chunks=99)
    tracker.record(ended(1))
    tracker.start(2)
    snapshot = tracker.snapshot()
    assert (snapshot.total_chunks, snapshot.completed_chunks) == (2, 0)
    assert snapshot.total_rows_processed == 0


def test_a_callback_that_raises_harms_nothing(caplog):
    """It is logged with its traceback, and heard again."""

    def fail(snapshot):
        raise RuntimeError("the display is gone")

    tracker = ProgressTracker(total_chunks=2, callback=fail)
    tracker.record(ended(1))
    tracker.record(ended(2))
    assert tracker.snapshot().completed_chunks == 2
    assert caplog.text.count("RuntimeError: the display is gone") == 2
    assert "The progress callback raised an error; the load continues" in caplog.text


def test_snapshots_reach_the_callback_in_order_from_any_thread():
    """What people see never goes backwards."""
    heard: list[ProgressSnapshot] = []
    tracker = ProgressTracker(total_chunks=400, callback=heard.append)

    def record():
        for number in range(100):
            tracker.record(ended(number))

    threads = [Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [snapshot.completed_chunks for snapshot in heard] == list(range(1, 401))


def test_the_ready_made_callback_logs_one_line_an_update(caplog):
    """Headed by the name given."""
    caplog.set_level(logging.INFO, "mapper_core")
    tracker = ProgressTracker(total_chunks=2, callback=create_progress_callback("My Job"))
    tracker.record(ended(1, rows=1234))
    tracker.record(ended(2, ChunkStatus.FAILED))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("My Job: 50.0% (1/2 chunks, 1,234 rows, 0 chunks failed)")
    assert first.endswith("s left")
    assert second.startswith("My Job: 100.0% (2/2 chunks, 1,244 rows, 1 chunks failed)")


def test_a_load_reports_its_plan_and_survives_its_callback(source, run, caplog):
    """The total is the plan's; a broken display stops nothing; off means silent."""
    run(source, "create table t as select i as id from generate_series(1, 100) i")
    heard: list[ProgressSnapshot] = []

    def fail(snapshot):
        heard.append(snapshot)
        raise RuntimeError("no")

    for enabled in (True, False):
        result = execute_query_parallel(
            source,
            "select * from t order by id",
            progress_callback=fail,
            enable_progress=enabled,
            chunk_size=20,
            min_rows_for_parallel=1,
        )
        assert result.status == "succeeded"
    assert [snapshot.total_chunks for snapshot in heard] == [5] * 5
    assert heard[-1].total_rows_successful == 100


def test_a_tracker_beats_a_callback(source):
    """Whoever brings a tracker has its callback called."""
    heard: list[ProgressSnapshot] = []
    unheard: list[ProgressSnapshot] = []
    execute_query_parallel(
        source,
        "select 1 as a",
        progress_tracker=ProgressTracker(total_chunks=7, callback=heard.append),
        progress_callback=unheard.append,
    )
    assert [snapshot.total_chunks for snapshot in heard] == [1]
    assert unheard == []
