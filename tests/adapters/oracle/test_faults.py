"""Whatever breaks between us and Oracle: every row once, or the result says which are missing."""

import random
import signal
import subprocess
import sys
import threading
import time
from itertools import cycle

import pytest

from mapper_core import DatabaseError, StaleLoadError, adapters, execute_query_parallel, history
from mapper_core.connections import opener_of
from mapper_core.ledger import Ledger
from mapper_core.results import ChunkResult, ChunkStatus
from mapper_core.retry import RetryConfig, RetryHandler

from ...waiting import wait_until
from .items import ITEMS, QUICK, ROWS, counted, load

# Codes after which the same chunk is tried again.
PASSING = [60, 8177, 54, 30006, 4068, 28, 1012, 1089, 3113, 3114, 3135, 2396, 12571]
# And after which it would be in vain.
LASTING = [1555, 1652, 1653, 1536, 4031, 942, 1031, 1722, 12899]


@pytest.mark.parametrize(
    ("code", "where"), [*zip(PASSING, cycle(["fetch", "dml", "commit"]), strict=False)]
)
def test_what_passes_is_tried_again(oracle_double, source, target, where, code):
    """On a new session where the old one is gone; each row is in once."""
    who = source if where == "fetch" else target
    match = {"fetch": "from item", "dml": "insert into .*ITEM", "commit": ""}[where]
    after = {"fetch": 1, "dml": 1, "commit": 9}[where]
    oracle_double.order(
        "fault", user=who.name, where=where, match=match, code=code, after=after, times=2
    )

    result = load(source, target, retry_handler=QUICK)

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert (ROWS, ROWS) == counted(target)
    assert ROWS == result.rows_written == result.total_rows_successful


@pytest.mark.parametrize("code", LASTING)
def test_what_lasts_is_not(oracle_double, source, target, code):
    """One attempt, Oracle's words, and the other chunks are in."""
    oracle_double.order(
        "fault", user=target.name, where="dml", match="insert into .*ITEM", code=code, text="told"
    )

    result = load(source, target, retry_handler=QUICK)

    assert ("partial", 1) == (result.status, result.chunks_failed)
    (error,) = result.chunk_errors
    assert f"ORA-{code:05d}: told" in error["error"]
    assert 1 == error["attempts"]
    assert (result.rows_written,) * 2 == counted(target)
    assert 500 == error["rows_in_chunk"]


@pytest.mark.parametrize("done", [False, True], ids=["request", "reply"])
@pytest.mark.parametrize("after", range(4, 14, 3))
def test_a_commit_that_got_no_reply_is_done_once(oracle_double, source, target, done, after):
    """Whether the server has heard of it or not."""
    oracle_double.order(
        "fault", user=target.name, where="commit", code="drop", after=after, done=done, times=2
    )

    result = load(source, target, retry_handler=QUICK)

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert (ROWS, ROWS) == counted(target)
    assert ROWS == result.rows_written


@pytest.mark.parametrize("mode", ["replace", "upsert"])
@pytest.mark.parametrize("done", [False, True], ids=["request", "reply"])
def test_publishing_is_done_once(oracle_double, source, target, mode, done):
    """Its stage is gone in the end, whatever became of the reply."""
    key = {"primary_key": "id"} if mode == "upsert" else {}
    first = load(source, target, load_mode=mode, retry_handler=QUICK, load_id="first", **key)
    assert "succeeded" == first.status, (first.error, first.chunk_errors)
    oracle_double.order(
        "fault", user=target.name, where="commit", match="STAGE_", code="drop", done=done
    )

    result = load(source, target, load_mode=mode, retry_handler=QUICK, load_id="again", **key)

    assert ("succeeded", True) == (result.status, result.published), result.error
    assert (ROWS, ROWS) == counted(target)
    assert [] == target.run("select table_name from user_tables where table_name like '%STAGE%'")


@pytest.mark.parametrize("seed", range(4))
def test_sessions_killed_at_random_lose_no_row(oracle_double, source, target, seed):
    """On both sides, while chunks are read and written."""
    chance = random.Random(seed)
    done = threading.Event()

    def kill():
        # Less often than a chunk is tried, however slow the machine.
        for _ in range(30):
            if done.wait(chance.uniform(0.05, 0.25)):
                return
            oracle_double.order("kill", user=chance.choice([source, target]).name)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        patient = RetryHandler(RetryConfig(max_retries=40, initial_delay=0.01, max_delay=0.05))
        result = load(source, target, chunk_size=100, retry_handler=patient)
    finally:
        done.set()
        killer.join()

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert (ROWS, ROWS) == counted(target)


@pytest.mark.parametrize("code", [12519, 12516, 12520, 12514, 12528, 12518])
def test_a_listener_that_refuses_is_asked_again(oracle_double, source, target, code):
    """With fewer workers where there are too many sessions."""
    oracle_double.order("refuse", code=code, times=3)

    result = load(source, target, retry_handler=QUICK)

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert (ROWS, ROWS) == counted(target)


def test_a_wrong_password_is_tried_once(oracle_double, source, target):
    """An account must not be locked by a load that tries again."""
    url = source.url.replace("tiger", "wrong")

    with pytest.raises(DatabaseError, match="ORA-01017") as caught:
        load(url, target, retry_handler=QUICK)

    assert "not tried again" in str(caught.value)
    assert "wrong" not in str(caught.value)
    assert 1 == oracle_double.order("logons", user=source.name) - _logons_of_the_test(source)


def _logons_of_the_test(user):
    """How often the test itself has logged on: to fill the table."""
    return 2


def test_a_call_that_takes_too_long_is_ended_and_tried_again(oracle_double, source, target):
    """By `call_timeout`, in milliseconds, of the URL."""
    oracle_double.order(
        "fault", user=source.name, where="fetch", match="from item", delay=3, times=1
    )

    result = load(f"{source.url}&call_timeout=500", target, retry_handler=QUICK)

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    assert (ROWS, ROWS) == counted(target)


def test_stop_ends_the_statements_that_run(oracle_double, source, target):
    """Within moments; nothing of their chunks remains."""
    oracle_double.order(
        "fault", user=source.name, where="query", match="mapper_", delay=1, times=99
    )
    stopped: list[float] = []

    def stop(_):
        stopped.append(time.monotonic())

    result = load(
        source,
        target,
        chunk_size=50,
        enable_progress=True,
        progress_callback=stop,
        should_stop=lambda: bool(stopped),
    )

    assert "stopped" == result.status
    assert time.monotonic() - stopped[0] < 20
    assert (result.rows_written,) * 2 == counted(target)


PROGRAM = """
import sys
from mapper_core import execute_query_parallel
result = execute_query_parallel(
    sys.argv[1], sys.argv[3], target_conn=sys.argv[2], target_table="item", chunk_size=100,
    max_workers=2, min_rows_for_parallel=0, enable_progress=False, load_id="nightly",
    load_mode=sys.argv[4],
)
print(result.status, result.rows_written)
"""


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_load_killed_and_repeated_is_whole(oracle_double, source, target, mode):
    """By SIGKILL, again and again, under one load id: at its own SCN each time."""
    arguments = [sys.executable, "-c", PROGRAM, source.url, target.url, ITEMS, mode]
    oracle_double.order("fault", user=target.name, where="commit", code=0, delay=0.15, times=10_000)
    for _ in range(3):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        known = _chunks(target)
        wait_until(
            lambda known=known, p=process: _chunks(target) > known or p.poll() is not None,
            "a chunk",
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        source.run(f"update item set amount = -1 where id = {random.randrange(ROWS)}")
    oracle_double.order("clear")

    last = subprocess.run(arguments, capture_output=True, text=True, check=True)

    assert "succeeded" in last.stdout
    assert (ROWS, ROWS) == counted(target)
    assert [(0,)] == target.run("select min(amount) from item")


def _chunks(target):
    """Return how many chunks the ledger holds as done."""
    try:
        return history.loads(target.url)[0].chunks_finished
    except IndexError:
        return 0


def test_processes_on_one_load_id_load_each_row_once(oracle_double, source, target):
    """Whoever comes second takes it over; the one before stops, or has done it all."""
    oracle_double.order("fault", user=target.name, where="commit", code=0, delay=0.03, times=10_000)
    arguments = [sys.executable, "-c", PROGRAM, source.url, target.url, ITEMS, "append"]
    running = []
    for _ in range(3):
        running.append(
            subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        time.sleep(0.7)
    said = [process.communicate(timeout=100) for process in running]

    assert any("succeeded" in out for out, _ in said), said
    assert (ROWS, ROWS) == counted(target)


def test_a_run_that_was_taken_over_commits_nothing_more(oracle_double, source, target):
    """Its chunk looks at the load once more before its commit, and finds another epoch."""
    oracle_double.order(
        "fault", user=target.name, where="dml", match="insert into .ITEM", code=1652, times=9
    )
    load(source, target, load_id="nightly")
    database = adapters.database(opener_of(target.url, role="target_conn"), application="mapper")
    ledger = Ledger(database, "mapper")

    with database.open_writer() as writer, database.open_writer() as another:
        with another.begin() as asking:
            record = ledger.find(asking, "nightly")
        assert record is not None

        def load_a_chunk():
            with writer.begin() as transaction:
                ledger.claim(transaction, record.plan, record.plan.chunks[0])
                transaction.execute("insert into item (id) values (-1)")
                with another.begin() as taking:
                    assert record.epoch + 1 == ledger.take_over(taking, "nightly")
                done = ChunkResult(chunk_id=1, status=ChunkStatus.SUCCEEDED)
                ledger.finish(transaction, record.plan, done)

        with pytest.raises(StaleLoadError, match="taken over"):
            load_a_chunk()

    assert (0, 0) == counted(target)


def test_no_password_is_in_any_word(oracle_double, source, target, caplog):
    """Of errors, logs, plans or ledgers."""
    oracle_double.order("fault", where="dml", match="insert into .*ITEM", code=600, times=99)
    caplog.set_level("DEBUG")

    result = execute_query_parallel(
        source.easy,
        ITEMS,
        target_conn=target.easy,
        target_table="item",
        min_rows_for_parallel=0,
        retry_handler=QUICK,
        load_id="nightly",
    )

    told = caplog.text + str(result) + str(result.chunk_errors)
    told += str(history.chunks(target.url, "nightly"))
    assert "tiger" not in told
