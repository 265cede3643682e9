"""Whatever dies in mid-load: every row exactly once, or named as failed; and nothing left over."""

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import datetime
from typing import Any

import psycopg
import pytest

from mapper_core import (
    ChunksFailedError,
    DatabaseError,
    LoadWindow,
    ParallelProcessor,
    RetryConfig,
    RetryHandler,
    TransferError,
    adapters,
    execute_query_parallel,
)
from mapper_core.cli.report import result_text
from mapper_core.connections import opener_of

from ..databases import name_of
from ..proxy import Proxy
from ..waiting import LIMIT_SECONDS, assert_nothing_left, backends, wait_until
from . import loading
from .running import PATIENT, Background, asked, at_the_gate, terminate

ROWS = 4_000
SUM = "select count(*), sum(hashtextextended(o::text, 0)) from {} o"
HOLDER = "query like 'select pg_export_snapshot%'"


@pytest.fixture
def orders(source, target, run):
    """4,000 orders in the source, an empty table of the same shape in the target."""
    table = "create table orders (id int primary key, note text, version int not null)"
    run(
        source,
        table,
        f"insert into orders select i, 'n' || i, 1 from generate_series(1, {ROWS}) i",
        # Blocks a chunk in the middle of its COPY while a test holds the lock.
        "create function gate(i int) returns boolean language plpgsql stable as $$ begin"
        " if i = 550 and current_query() like 'copy%' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return true; end $$",
        # Makes a chunk last long enough to be met by an accident.
        "create function slow(i int) returns boolean language plpgsql stable as $$ begin"
        " if i % 50 = 0 and current_query() like 'copy%' then"
        "   perform pg_sleep(0.005); end if;"
        " return true; end $$",
    )
    # No key in the target: it would hide a row written twice.
    run(target, table.replace(" primary key", ""))
    yield
    assert_nothing_left(source, target)


def load(source, target, sql="select * from orders order by id", **options):
    options = {"chunk_size": 250, "max_workers": 3, "retry_handler": PATIENT, **options}
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_table="orders",
        min_rows_for_parallel=0,
        enable_progress="progress_callback" in options,
        **options,
    )


def assert_adds_up(result):
    """The totals are those of the chunks."""
    assert result.total_rows_processed == result.total_rows_successful + result.total_rows_failed
    counted = [c.rows_read for c in result.chunk_results if c.rows_read is not None]
    assert result.total_rows_processed + result.rows_skipped == sum(counted)


@pytest.mark.parametrize("victim", ["reader", "writer"])
def test_a_chunk_whose_backend_dies_in_mid_copy_is_loaded_by_its_next_attempt(
    orders, source, target, run, victim
):
    """The attempt's rows are gone with it, so the next one writes them once."""
    with closing(psycopg.connect(source, autocommit=True)) as gate:
        gate.execute("select pg_advisory_lock(42)")
        sql = "select * from orders where gate(id) order by id"
        running = Background(load, source, target, sql=sql, max_workers=1)
        waiting = at_the_gate(source)
        if victim == "reader":
            terminate(source, waiting)
        else:
            terminate(target, backends(target))
            gate.execute("select pg_advisory_unlock(42)")
    result = running.result()

    assert "succeeded" == result.status
    assert {3: 2} == {c.chunk_id: c.attempts for c in result.chunk_results if c.attempts > 1}
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


@pytest.mark.parametrize("seed", range(3))
def test_backends_killed_at_random_under_a_changing_source_end_with_the_snapshots_rows(
    orders, source, target, run, seed
):
    """Readers and writers die all along, the source changes all along."""
    dice = random.Random(seed)
    sql = "select * from orders where slow(id) order by id"
    running = Background(load, source, target, sql=sql, load_id="storm")
    plan = wait_until(
        lambda: asked(target, "select plan::json #>> '{snapshot,0}' from mapper.load"), "a plan"
    )
    with closing(psycopg.connect(source)) as still, closing(psycopg.connect(source)) as writing:
        still.execute("set transaction isolation level repeatable read, read only")
        still.execute(f"set transaction snapshot '{plan[0][0]}'")
        writing.autocommit = True
        killed = number = 0
        while running.is_alive():
            number += 1
            writing.execute(
                "update orders set version = version + 1 where id %% 7 = %s", (number % 7,)
            )
            writing.execute("delete from orders where id = %s", (dice.randrange(ROWS),))
            writing.execute("insert into orders values (%s, 'late', 0)", (ROWS + number,))
            url = dice.choice([source, target])
            victims = backends(url, extra=f"not {HOLDER} and state <> 'idle'")
            if victims and killed < 12:
                terminate(url, [dice.choice(victims)])
                killed += 1
        result = running.result()
        sent = still.execute(SUM.format("orders")).fetchall()

    assert killed
    assert "succeeded" == result.status, result
    assert ROWS == result.total_rows_successful
    assert sent == run(target, SUM.format("orders"))
    assert sent != run(source, SUM.format("orders"))


def test_a_load_outlives_the_session_that_held_its_snapshot(orders, source, target, run):
    """Sessions that read at it already go on, so that every row of it still arrives."""
    with closing(psycopg.connect(source, autocommit=True)) as gate:
        gate.execute("select pg_advisory_lock(42)")
        sql = "select * from orders where gate(id) order by id"
        running = Background(load, source, target, sql=sql, max_workers=1)
        at_the_gate(source)
        terminate(source, backends(source, extra=HOLDER))
        run(source, "update orders set version = 2")
    result = running.result()

    assert "succeeded" == result.status
    assert [(ROWS,)] == run(target, "select count(*) from orders where version = 1")


def test_chunks_that_no_session_can_read_at_the_snapshot_are_named(orders, source, target, run):
    """Holder and reader dead: what is left is failed, in words; nothing comes from elsewhere."""
    with closing(psycopg.connect(source, autocommit=True)) as gate:
        gate.execute("select pg_advisory_lock(42)")
        sql = "select * from orders where gate(id) order by id"
        running = Background(load, source, target, sql=sql, max_workers=1)
        at_the_gate(source)
        run(source, "update orders set version = 2")
        terminate(source, backends(source))
    result = running.result()

    assert ("partial", False) == (result.status, result.published)
    assert (16, 2, 14, 14) == (
        result.chunks_total,
        result.chunks_succeeded,
        result.chunks_failed,
        result.chunks_uncounted,
    )
    assert all("SnapshotLostError" in error["error"] for error in result.chunk_errors)
    cure = "in Dagster: re-execute all steps"
    assert all(cure in error["error"] for error in result.chunk_errors)
    assert_adds_up(result)
    done = result.total_rows_successful
    assert [(done, done, 1, 1)] == run(
        target, "select count(*), max(id), min(version), max(version) from orders"
    )


PERMANENT = {
    "check": ("alter table orders add check (id <> 777)", "violates check constraint"),
    "overflow": ("alter table orders alter version type smallint", "out of range"),
    "too-long": ("alter table orders alter note type varchar(5)", "too long"),
    "not-null": ("alter table orders alter note set not null", "null value in column"),
    "permission": (
        "create function deny() returns trigger language plpgsql as $$ begin"
        " raise insufficient_privilege using message = 'permission denied for row'; end $$;"
        "create trigger deny before insert on orders for each row when (new.id = 777)"
        " execute function deny()",
        "permission denied",
    ),
    "dropped-rows": (
        "create function skip() returns trigger language plpgsql as $$ begin"
        " return null; end $$;"
        "create trigger skip before insert on orders for each row when (new.id = 777)"
        " execute function skip()",
        "a trigger or rule on the target table drops or adds rows",
    ),
    "source": ("select", "division by zero"),
}


@pytest.mark.parametrize("error", PERMANENT)
def test_a_permanent_error_fails_its_chunk_alone_and_is_not_retried(
    orders, source, target, run, error
):
    """One attempt; the chunk's rows are counted at the snapshot; all others are loaded."""
    change, words = PERMANENT[error]
    run(target, *change.split(";create trigger")[:1])
    if ";create trigger" in change:
        run(target, "create trigger" + change.split(";create trigger")[1])
    run(source, "alter table orders alter note type varchar(99)")
    run(source, "update orders set version = 40000, note = 'a long one' where id = 777")
    if error == "not-null":
        run(source, "update orders set note = null where id = 777")
    if error == "too-long":
        run(source, "update orders set note = 'n' where id <> 777")
    sql = "select * from orders order by id"
    if error == "source":
        sql = "select id, note, version + 0 / (id - 777) as version from orders order by id"

    result = load(source, target, sql=sql)

    assert ("partial", False) == (result.status, result.published)
    assert (16, 15, 1, 0) == (
        result.chunks_total,
        result.chunks_succeeded,
        result.chunks_failed,
        result.chunks_uncounted,
    )
    (failure,) = result.chunk_errors
    assert (4, 250, 1) == (failure["chunk_id"], failure["rows_in_chunk"], failure["attempts"])
    assert words in failure["error"]
    assert (ROWS, ROWS - 250, 250) == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
    )
    assert [(ROWS - 250, 0)] == run(
        target, "select count(*), count(*) filter (where id between 751 and 1000) from orders"
    )


def _set_for_all(url, run, setting):
    run(url, f"alter database {name_of(url)} set {setting}")


def test_a_statement_timeout_of_the_role_fails_at_once_and_says_what_to_do(
    orders, source, target, run
):
    """Trying again would take as long."""
    sleeps = "create function sleeps(i int) returns boolean language plpgsql stable as $$ begin"
    run(
        source,
        f"{sleeps} if i = 900 and current_query() like 'copy%' then perform pg_sleep(60); end if;"
        " return true; end $$",
    )
    _set_for_all(source, run, "statement_timeout = '5s'")

    result = load(source, target, "select * from orders where sleeps(id) order by id")

    (failure,) = result.chunk_errors
    assert (4, 1) == (failure["chunk_id"], failure["attempts"])
    assert (
        "canceling statement due to statement timeout. Raise statement_timeout for"
        in (failure["error"])
    )
    assert "or make chunk_size smaller" in failure["error"]


def test_a_target_that_may_only_be_read_is_named_before_rows_move(orders, source, target, run):
    """As a standby is, or a server that is about to be moved elsewhere."""
    _set_for_all(target, run, "default_transaction_read_only = on")

    with pytest.raises(DatabaseError, match=r"read-only transaction\. .*default_transaction_read"):
        load(source, target)


@pytest.mark.parametrize("lost", ["reply", "request"])
@pytest.mark.parametrize("mode", ["append", "replace_window"])
def test_a_lost_commit_never_writes_a_chunk_twice(orders, source, target, run, lost, mode):
    """Every third chunk's COMMIT, or the reply to it, is lost with its connection."""
    window = {}
    if mode == "replace_window":
        for url in (source, target):
            run(url, "alter table orders add at timestamp not null default '2024-01-01'")
        span = LoadWindow(
            "at", datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2024-01-02")
        )
        window = {"load_mode": mode, "window": span}
    with Proxy(target, lose_commit=lambda n: lost if n % 3 == 0 else None) as proxy:
        result = load(source, proxy.url, **window)

    assert proxy.cuts > 3
    assert "succeeded" == result.status
    assert ROWS == result.total_rows_processed == result.total_rows_successful
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))
    assert_adds_up(result)


def test_a_chunk_whose_last_attempts_commit_got_no_reply_is_not_called_failed(
    orders, source, target, run
):
    """Its rows are in the target, so asking the ledger once more says so."""
    with Proxy(target, lose_commit=lambda _: "reply") as proxy:
        result = load(source, proxy.url, enable_retry=False)

    assert proxy.cuts == 16
    assert "succeeded" == result.status
    assert ROWS == result.total_rows_successful
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_chunk_whose_commit_got_no_reply_counts_though_the_snapshot_is_gone(
    orders, source, target, run
):
    """It needs no second attempt, which could not read any more."""

    def lose(number):
        if number != 2:
            return None
        terminate(source, backends(source, extra=HOLDER))
        return "reply"

    with Proxy(target, lose_commit=lose) as proxy:
        result = load(source, proxy.url, max_workers=1)

    assert ("partial", 2, 14) == (result.status, result.chunks_succeeded, result.chunks_failed)
    assert [(result.total_rows_successful,)] == run(target, "select count(*) from orders")
    assert_adds_up(result)


def test_a_chunk_whose_commit_got_no_reply_counts_though_another_worker_finds_it_finished(
    orders, source, target, run, caplog
):
    """Its own worker has no place left in the server, and leaves it to the others."""
    full = threading.Event()

    def lose(number):
        if number != 5:
            return None
        full.set()
        return "reply"

    def both_at_work(rows):
        time.sleep(0.05)
        return rows

    with Proxy(target, lose_commit=lose) as proxy:

        def connect():
            if full.is_set():
                full.clear()
                raise psycopg.OperationalError("FATAL:  sorry, too many clients already")
            return psycopg.connect(proxy.url)

        result = load(source, connect, max_workers=2, transformation_func=both_at_work)

    assert "continuing with 1 workers" in caplog.text
    assert ("succeeded", 16, 0) == (result.status, result.chunks_succeeded, result.chunks_skipped)
    assert ROWS == result.total_rows_successful
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_chunk_that_may_be_in_and_that_nobody_takes_any_more_is_in_doubt(
    orders, source, target, run, caplog, monkeypatch
):
    """Its own worker left it to the others, the load was stopped, and the target lets nobody in."""
    monkeypatch.setattr("mapper_core.stopping.in_use.GRACE_SECONDS", 0.5)
    lost, full = threading.Event(), threading.Event()
    processor = ParallelProcessor(
        target_table="orders",
        chunk_size=250,
        max_workers=2,
        min_rows_for_parallel=0,
        enable_progress=False,
        retry_handler=PATIENT,
        load_id="left",
    )

    def lose(number):
        if number != 5:
            return None
        lost.set()
        full.set()
        return "reply"

    def at_work_until_it_is_left(rows):
        time.sleep(0.05)
        if lost.is_set():
            wait_until(lambda: "continuing with 1 workers" in caplog.text, "the chunk to be left")
        return rows

    with Proxy(target, lose_commit=lose) as proxy:

        def connect():
            if full.is_set():
                processor.stop()
                raise psycopg.OperationalError("FATAL:  sorry, too many clients already")
            return psycopg.connect(proxy.url)

        result = processor.process_mapper_job(
            source,
            "select * from orders order by id",
            target_conn=connect,
            transformation_func=at_work_until_it_is_left,
        )

    assert "stopped" == result.status
    (doubtful,) = [each for each in result.chunk_results if "no answer" in (each.error or "")]
    assert ("failed", None, True) == (doubtful.status, doubtful.rows_read, doubtful.in_doubt)
    assert "the load was stopped" in str(doubtful.error)
    assert_adds_up(result)

    again = processor.process_mapper_job(
        source,
        "select * from orders order by id",
        target_conn=target,
        transformation_func=lambda rows: rows,
    )

    in_after_all = result.chunks_succeeded + result.chunks_in_doubt
    assert ("succeeded", in_after_all) == (again.status, again.chunks_skipped)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_chunk_that_was_claimed_once_more_is_in_doubt_no_longer(orders, source, target, run):
    """Its lost COMMIT came to nothing; whoever claimed it then could not read on, and left it."""
    full, first_ids = threading.Event(), []

    def lose(number):
        if number != 5:
            return None
        full.set()
        return "request"

    def disturb(rows):
        time.sleep(0.05)
        first = rows[0]["id"]
        if first in first_ids:
            terminate(source, backends(source, extra=HOLDER))
            terminate(target, backends(target, extra="state <> 'idle'"))
        first_ids.append(first)
        return rows

    with Proxy(target, lose_commit=lose) as proxy:

        def connect():
            if full.is_set():
                full.clear()
                raise psycopg.OperationalError("FATAL:  sorry, too many clients already")
            return psycopg.connect(proxy.url)

        result = load(source, connect, max_workers=2, transformation_func=disturb)

    assert len({*first_ids}) < len(first_ids)
    assert ("partial", 0) == (result.status, result.chunks_in_doubt)
    assert all("is gone" in error["error"] for error in result.chunk_errors), result.chunk_errors
    assert [(result.total_rows_successful,)] == run(target, "select count(*) from orders")


def test_a_chunk_that_was_claimed_once_more_has_failed_for_certain(orders, source, target, run):
    """Its lost COMMIT came to nothing, and the target went away before another was sent."""
    calls = []

    def go_away(rows):
        calls.append(rows[0]["id"])
        if calls.count(251) == 2:
            proxy.away.set()
            terminate(target, backends(target))
        return rows

    with Proxy(target, lose_commit=lambda n: "request" if n == 2 else None) as proxy:
        result = load(
            source,
            proxy.url,
            max_workers=1,
            retry_handler=BRIEF,
            transformation_func=go_away,
        )

    second = next(chunk for chunk in result.chunk_results if chunk.chunk_id == 2)
    assert ("failed", False, 250) == (second.status, second.in_doubt, second.rows_read)
    assert [(250,)] == run(target, "select count(*) from orders")


# What another run does that takes the load over: it loads the second chunk, if that is left.
TAKE_OVER = (
    "with taken as (update mapper.load set epoch = epoch + 1 returning load_id, epoch)"
    " insert into mapper.claim (load_id, chunk_id, epoch, done)"
    " select load_id, 2, epoch, 1 from taken on conflict do nothing"
)


@pytest.mark.parametrize(("lost", "loaded"), [("reply", 2), ("request", 1)])
def test_a_chunk_whose_commit_got_no_reply_counts_if_it_came_before_another_run(
    orders, source, target, run, lost, loaded
):
    """If it did not, the chunk is the other run's."""
    other = threading.Thread(target=run, args=(target, TAKE_OVER))

    def lose(number):
        if number != 2:
            return None
        other.start()
        waits = "wait_event_type = 'Lock' and query like 'with taken%'"
        wait_until(lambda: backends(target, "%", waits), "another run to wait for the COMMIT")
        return lost

    with Proxy(target, lose_commit=lose) as proxy:
        result = load(source, proxy.url, max_workers=1)
    other.join()

    assert ("partial", loaded) == (result.status, result.chunks_succeeded)
    assert loaded + result.chunks_failed == result.chunks_total
    assert "taken over" in result.chunk_errors[0]["error"]
    assert [(result.total_rows_successful,)] == run(target, "select count(*) from orders")


def test_a_chunk_whose_only_commit_was_never_sent_is_failed(orders, source, target, run):
    """What asking the ledger about it claims, it does not keep."""
    with Proxy(target, lose_commit=lambda n: "request" if n == 2 else None) as proxy:
        result = load(source, proxy.url, enable_retry=False, load_id="once", max_workers=1)

    assert (ROWS - 250, 250) == (result.total_rows_successful, result.total_rows_failed)
    assert [(ROWS - 250,)] == run(target, "select count(*) from orders")
    assert [(15,)] == run(target, "select count(*) from mapper.claim")
    assert "succeeded" == load(source, target, load_id="once").status
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


BRIEF = RetryHandler(RetryConfig(max_retries=1, initial_delay=0.01))

# What else happens, and as what the other chunks end then.
BESIDES = {"nothing": "failed", "the load is stopped": "unstarted", "no snapshot": "failed"}


@pytest.mark.parametrize("besides", BESIDES)
@pytest.mark.parametrize("lost", ["reply", "request"])
def test_a_chunk_that_may_be_in_is_not_called_failed(orders, source, target, run, lost, besides):
    """No answer to its COMMIT, and nobody to ask: it is named, its rows are not counted."""
    processor = ParallelProcessor(
        target_table="orders",
        chunk_size=250,
        max_workers=1,
        min_rows_for_parallel=0,
        enable_progress=False,
        retry_handler=BRIEF,
        load_id="doubtful",
    )
    sql = "select * from orders order by id"

    def lose(number):
        if number != 4:
            return None
        proxy.away.set()
        if besides == "the load is stopped":
            processor.stop()
        if besides == "no snapshot":
            terminate(source, backends(source, extra=HOLDER))
        return lost

    with Proxy(target, lose_commit=lose) as proxy:
        result = processor.process_mapper_job(source, sql, target_conn=proxy.url)

    # Those before it committed, but may not have been on disk when the target went away.
    assert 4 == result.chunks_in_doubt
    doubtful = [chunk for chunk in result.chunk_results if chunk.in_doubt]
    assert [1, 2, 3, 4] == [chunk.chunk_id for chunk in doubtful]
    assert {("failed", None)} == {(chunk.status, chunk.rows_read) for chunk in doubtful}
    whys = [str(chunk.error) for chunk in doubtful]
    assert all(
        why.startswith(
            "it is not known whether the chunk's rows are in the target: it was committed"
        )
        for why in whys[:3]
    )
    assert (
        "it is not known whether the chunk's rows are in the target: its COMMIT got no answer"
        in whys[3]
    )
    assert all("Run the load again with the same load id, doubtful" in why for why in whys)
    others = [chunk for chunk in result.chunk_results if chunk.chunk_id > 4]
    assert {BESIDES[besides]} == {chunk.status for chunk in others}
    assert 0 == result.total_rows_successful
    assert_adds_up(result)
    assert [(1_000 if lost == "reply" else 750,)] == run(target, "select count(*) from orders")
    with pytest.raises(ChunksFailedError, match="4 of them may have been committed"):
        result.raise_for_failures()

    again = processor.process_mapper_job(source, sql, target_conn=target)

    assert ("succeeded", 4 if lost == "reply" else 3) == (again.status, again.chunks_skipped)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_publishing_that_came_to_nothing_is_not_in_doubt(orders, source, target, run):
    """Its lost COMMIT did not commit, as the next attempt found; and that one was refused."""
    refuse = "alter table orders add constraint no check (id < 0) not valid"
    other = threading.Thread(target=run, args=(target, refuse))
    publishing = "state = 'idle in transaction' and query like 'drop table %stage%'"

    def lose(_):
        if other.ident or not backends(target, extra=publishing):
            return None
        other.start()
        waits = f"wait_event_type = 'Lock' and query = '{refuse}'"
        wait_until(lambda: backends(target, "%", waits), "the table to be wanted")
        return "request"

    with Proxy(target, lose_commit=lose, every_commit=True) as proxy:
        result = load(source, proxy.url, load_mode="replace")
    other.join()

    assert proxy.cuts
    assert ("failed", False) == (result.status, result.published)
    assert "it is not known" not in str(result.error)
    assert 'violates check constraint "no"' in str(result.error)
    assert "Nothing was published; the target is unchanged" in str(result.error)
    assert [(0,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("lost", ["reply", "request"])
@pytest.mark.parametrize("seconds", [1.5, LIMIT_SECONDS])
def test_a_stop_that_meets_a_lost_commit_asks_what_became_of_it(
    orders, source, target, run, monkeypatch, lost, seconds
):
    """The question may wait longer than what else is running; it is ended where it waits on."""
    answered = seconds < LIMIT_SECONDS
    if not answered:
        monkeypatch.setattr("mapper_core.stopping.in_use.GRACE_SECONDS", 0.5)
    processor = ParallelProcessor(
        target_table="orders",
        chunk_size=250,
        max_workers=1,
        min_rows_for_parallel=0,
        enable_progress=False,
        load_id="stopped",
    )
    cancelled, held = threading.Event(), threading.Event()
    holds = "select 1 from mapper.load for update"

    def hold_the_question_up():
        with psycopg.connect(target) as holding:
            holding.execute(holds)
            held.set()
            # Statements of a load that stops are ended every fifth of a second.
            if cancelled.wait(seconds):
                # It is not answered before its end has reached the server.
                waiting = "wait_event_type = 'Lock'"
                wait_until(lambda: not backends(target, "%", waiting), "the question's end")

    def hear_of_the_end():
        if held.is_set():  # before that, it is that of the COMMIT
            cancelled.set()

    holding = threading.Thread(target=hold_the_question_up)

    def lose(number):
        if number != 4:
            return None
        processor.stop()
        holding.start()
        # Waits for the chunk's transaction; so its COMMIT, or its end, is waited for here.
        wait_until(
            lambda: backends(target, "%", f"wait_event_type = 'Lock' and query = '{holds}'"),
            "the ledger's row to be wanted",
        )
        return lost

    with Proxy(target, lose_commit=lose, before_cancel=hear_of_the_end) as proxy:
        result = processor.process_mapper_job(
            source, "select * from orders order by version, id", target_conn=proxy.url
        )
    holding.join()

    assert held.is_set()
    assert cancelled.is_set() is not answered
    assert ("stopped", 0 if answered else 1) == (result.status, result.chunks_in_doubt)
    assert (4 if answered and lost == "reply" else 3) == result.chunks_succeeded
    assert [(1_000 if lost == "reply" else 750,)] == run(target, "select count(*) from orders")
    assert_adds_up(result)


def test_a_transaction_that_failed_unnoticed_is_no_success(target):
    """The server answers its COMMIT with ROLLBACK, and with no error."""
    opened = adapters.database(opener_of(target, role="target"), application="", time_zone=None)

    with (
        opened.open_writer() as writer,
        pytest.raises(TransferError, match="answered ROLLBACK to COMMIT; nothing was committed"),
        writer.begin() as transaction,
        suppress(psycopg.Error),
    ):
        transaction.execute("select 1 / 0")


def test_a_stream_whose_piece_may_be_in_is_failed_for_certain(orders, source, target, run):
    """A piece alone is nobody's to see: a stream is whole, or begun anew."""

    def lose(number):
        if number != 4:
            return None
        proxy.away.set()
        return "reply"

    options = {"load_id": "doubtful", "strategy": "stream_once"}
    with Proxy(target, lose_commit=lose) as proxy:
        result = load(source, proxy.url, retry_handler=BRIEF, max_workers=2, **options)

    assert ("failed", 0) == (result.status, result.chunks_in_doubt)
    (failure,) = result.chunk_errors
    assert failure["error"].startswith("piece ")
    assert "it is not known" not in failure["error"]
    assert [(0,)] == run(target, "select count(*) from orders")
    assert "succeeded" == load(source, target, **options).status
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


PUBLISHES = (
    "select 1 from pg_locks l join pg_class c on c.oid = l.relation"
    " where c.relname like 'stage%' and l.mode = 'AccessExclusiveLock'"
    " and exists (select from mapper.claim)"
)


@pytest.mark.parametrize("strategy", ["key", "stream_once"])
@pytest.mark.parametrize("lost", ["reply", "request"])
def test_a_load_that_may_be_published_is_not_called_failed(
    orders, source, target, run, lost, strategy
):
    """No answer to the COMMIT that publishes it, and nobody to ask: no row of it is counted."""

    def lose(_):
        if not asked(target, PUBLISHES):
            return None
        proxy.away.set()
        return lost

    options = {"load_mode": "replace", "load_id": "doubtful", "strategy": strategy}
    run(target, "insert into orders values (-1, 'old', 0)")
    with Proxy(target, lose_commit=lose, every_commit=True) as proxy:
        result = load(source, proxy.url, retry_handler=BRIEF, **options)

    assert ("failed", False, True) == (result.status, result.published, result.publishing_in_doubt)
    assert "InDoubtError: it is not known whether load doubtful is published" in str(result.error)
    assert 0 == result.total_rows_processed == result.total_rows_successful
    assert 0 == result.total_rows_failed
    assert result.chunks_total == result.chunks_succeeded == result.chunks_uncounted
    assert f"{ROWS:,} staged, perhaps published, 0 failed" in result_text(result, "orders", [])
    assert [(ROWS if lost == "reply" else 1,)] == run(target, "select count(*) from orders")

    again = load(source, target, **options)

    assert ("succeeded", True) == (again.status, again.published)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "08006"])
@pytest.mark.parametrize("timing", ["not deferrable", "initially deferred"])
def test_a_publishing_that_was_answered_each_time_is_not_in_doubt(
    orders, source, target, run, code, timing
):
    """Also where trying again might have helped; the error came with the COMMIT, or from it.

    A lost connection (08006) may be that of a trigger to a server of its own.
    """
    load(source, target, load_mode="append").raise_for_failures()  # makes the ledger
    run(
        target,
        "truncate orders",
        "create function refuse() returns trigger language plpgsql as"
        f" $$ begin raise exception 'not now' using errcode = '{code}'; end $$",
        f"create constraint trigger refuse after update on mapper.load {timing} for each row"
        " when (new.status = 'published') execute function refuse()",
    )

    result = load(source, target, retry_handler=BRIEF, load_mode="append")

    assert ("partial", False, False) == (
        result.status,
        result.published,
        result.publishing_in_doubt,
    )
    assert str(result.error).endswith("not now")
    assert [(ROWS,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("strategy", ["key", "stream_once"])
def test_a_load_whose_commit_was_refused_is_not_called_perhaps_published(
    orders, source, target, run, strategy
):
    """What is checked only then was answered, and nothing of the load is published."""
    run(
        target,
        "alter table orders add unique (id)",
        "insert into orders values (-1, 'old', 0)",
        "create table refers (id int references orders (id) deferrable initially deferred)",
        "insert into refers values (-1)",
    )
    options = {"load_mode": "replace", "load_id": "refused", "strategy": strategy}

    result = load(source, target, **options)

    assert ("failed", False, False) == (result.status, result.published, result.publishing_in_doubt)
    assert "could not publish load refused: " in str(result.error)
    assert 'violates foreign key constraint "refers_id_fkey"' in str(result.error)
    assert "Nothing was published; the target is unchanged" in str(result.error)
    assert ROWS == result.total_rows_processed == result.total_rows_failed
    assert [(-1, "old", 0)] == run(target, "select * from orders")

    run(target, "delete from refers")
    assert "succeeded" == load(source, target, **options).status


@pytest.mark.parametrize("lost", ["reply", "request"])
def test_planning_and_publishing_survive_lost_commits(orders, source, target, run, lost):
    """Every third COMMIT or so is lost: of the ledger's tables, the plan, the publishing."""
    dice = random.Random(2)
    with Proxy(
        target, lose_commit=lambda _: lost if dice.random() < 0.3 else None, every_commit=True
    ) as proxy:
        result = load(source, proxy.url, chunk_size=2_000, load_id="lossy")

    assert ("succeeded", True) == (result.status, result.published)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))
    assert [("published",)] == run(target, "select status from mapper.load")


PATHS: dict[str, dict[str, Any]] = {
    "binary copy": {},
    "text copy": {"sql": "select id::bigint, note, version from orders order by id"},
    "rows": {"transformation_func": lambda rows: rows},
}


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_cut_between_two_rows_is_never_taken_for_its_end(
    orders, source, target, run, path
):
    """The rows that came look whole; without the server's word that they are, none is kept."""
    all_rows_but_no_word = 1_000_000
    cut = {1: 3, 2: 150, 3: all_rows_but_no_word, 5: 1}
    with Proxy(source, cut_copy=cut.get) as proxy:
        failing = load(proxy.url, target, enable_retry=False, max_workers=1, **PATHS[path])

    assert path == failing.data_path
    assert 4 == failing.chunks_failed == proxy.cuts
    assert 0 == failing.chunks_uncounted
    assert ROWS == failing.total_rows_processed
    assert [(failing.total_rows_successful,)] == run(target, "select count(*) from orders")

    run(target, "truncate orders")
    with Proxy(source, cut_copy=cut.get) as proxy:
        result = load(proxy.url, target, max_workers=1, **PATHS[path])

    assert "succeeded" == result.status
    assert 4 == proxy.cuts
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


STALLED = """
from tests.core.test_faults import load
from tests.proxy import Proxy
with Proxy({source!r}, stall=0.1) as proxy:
    print(load(proxy.url, {target!r}, chunk_size=2_000, max_workers=1).status)
"""


def test_a_stalled_server_stops_no_other_thread(orders, source, target, run):
    """A reader that waits for a COPY's end leaves Python to others: here, to the stalling proxy."""
    ended = subprocess.run(
        # In a process of its own, because all threads of this one would stand still.
        [sys.executable, "-c", STALLED.format(source=source, target=target)],
        cwd=loading.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "succeeded\n" == ended.stdout, ended.stderr
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_killed_process_is_continued_under_its_load_id(orders, source, target, run):
    """Killed again and again: each run begins where the ledger ends, and rows come once."""
    keywords = {
        "source_conn": source,
        "source_sql": "select * from orders where slow(id) order by id",
        "target_conn": target,
        "target_table": "orders",
        "load_id": "again",
        "chunk_size": 250,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
    }
    for wanted in (1, 4, 9):
        process = loading.start(**keywords)
        wait_until(
            lambda n=wanted: (
                (asked(target, "select count(*) from mapper.claim") or [(0,)])[0][0] >= n
            ),
            f"{wanted} finished chunks",
        )
        loading.kill(process)
        wait_until(lambda: not backends(target), "the dead process's sessions to end")

    done = run(target, "select count(*) from mapper.claim")[0][0]
    result = loading.result_of(loading.start(**keywords))

    assert "succeeded" == result["status"]
    assert 9 <= done <= result["skipped"]
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))
    assert [("published",)] == run(target, "select status from mapper.load")


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_run_one_load_at_once_load_it_once(orders, source, target, run, processes):
    """The one that planned or took it over last goes on; the others stop, in words."""
    keywords = {
        "source_conn": source,
        "source_sql": "select * from orders where slow(id) order by id",
        "target_conn": target,
        "target_table": "orders",
        "load_id": "shared",
        "chunk_size": 250,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
    }
    started = [loading.start(**keywords) for _ in range(processes)]
    results = [loading.result_of(process) for process in started]

    assert not [result["raised"] for result in results if "raised" in result]
    assert "succeeded" in {result["status"] for result in results}
    for result in results:
        assert all("taken over" in e or "published by" in e for e in result["errors"]), result
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))
    assert [(16, 16)] == run(
        target, "select count(*), count(*) filter (where done = 1) from mapper.claim"
    )


def test_calls_that_plan_one_load_at_the_same_moment_load_it_once(orders, source, target, run):
    """Both find no such load and plan it; one stores its plan, the other takes that up."""
    run(
        source,
        "create function planned(i int) returns boolean language plpgsql stable as $$ begin"
        " if i = 1 and current_query() ~ 'percentile_disc|mapper_cut' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return true; end $$",
    )
    with closing(psycopg.connect(source, autocommit=True)) as gate:
        gate.execute("select pg_advisory_lock(42)")
        sql = "select * from orders where planned(id) order by id"
        calls = [Background(load, source, target, sql=sql, load_id="twice") for _ in range(2)]
        at_the_gate(source, 2)
    results = [call.result() for call in calls]

    assert "succeeded" in {result.status for result in results}
    for result in results:
        assert all("taken over" in e["error"] for e in result.chunk_errors)
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


BETWEEN_CHUNKS = {
    "drop table orders": "does not exist",
    "alter table orders drop column note": "does not exist",
    "alter table orders add missing int not null default 1, alter version drop not null;"
    "alter table orders alter missing drop default": "null value in column",
    "alter table orders alter version type text": None,
    "drop schema mapper cascade": "does not exist",
    "delete from mapper.load": "it was removed while it ran",
}


@pytest.mark.parametrize("change", BETWEEN_CHUNKS)
def test_a_target_that_changes_in_mid_load_fails_what_it_no_longer_fits(
    orders, source, target, run, change
):
    """Finished chunks are told as such, the others fail in words, and the call returns."""
    once = iter([change])

    def disturb(_):
        for statement in once:
            run(target, statement)

    result = load(source, target, max_workers=1, progress_callback=disturb)

    assert_adds_up(result)
    assert 16 == result.chunks_succeeded + result.chunks_failed
    words = BETWEEN_CHUNKS[change]
    if words:
        assert "partial" == result.status
        assert 1 == result.chunks_succeeded
        assert all(words in error["error"] for error in result.chunk_errors)
    else:
        # Binary rows no longer fit the column; whatever happens, nothing false is written.
        assert set(run(target, "select distinct version from orders")) == {("1",)}


def test_a_transform_that_raises_fails_its_chunk_alone(orders, source, target, run):
    """Its own words are in the result; it is not called again for the same rows."""
    calls = []

    def refuse(rows):
        calls.append(rows[0]["id"])
        if any(row["id"] == 777 for row in rows):
            raise ValueError("id 777 is cursed")
        return rows

    result = load(source, target, transformation_func=refuse)

    (failure,) = result.chunk_errors
    assert failure["error"].startswith("ValueError: id 777 is cursed (raised in")
    assert (250, 1) == (failure["rows_in_chunk"], failure["attempts"])
    assert 16 == len(calls) == len(set(calls))
    assert [(ROWS - 250,)] == run(target, "select count(*) from orders")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_callback_that_raises_harms_nothing(orders, source, target, run, error, workers):
    """The load goes on and succeeds."""

    def refuse(_):
        raise error("no interest")

    result = load(source, target, progress_callback=refuse, max_workers=workers)

    assert "succeeded" == result.status
    assert run(source, SUM.format("orders")) == run(target, SUM.format("orders"))


def test_a_signal_that_comes_while_a_callback_runs_ends_the_load(orders, source, target, run):
    """What its handler raises is no error of the callback's."""

    def end(number, frame):
        raise SystemExit(143)

    def interrupted(_):
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit, match="143"):
            load(source, target, progress_callback=interrupted, max_workers=1)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert [(250,)] == run(target, "select count(*) from orders")
