"""Stopping soon, with what is finished kept and nothing of the rest; and too few connections."""

import itertools
import signal
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from unittest.mock import patch

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from mapper_core import (
    IncompleteLoadError,
    MapperError,
    ParallelProcessor,
    RetryConfig,
    RetryHandler,
    execute_query_parallel,
)
from mapper_core.stopping import InUse, together

from ..databases import name_of
from ..proxy import Proxy
from ..waiting import assert_nothing_left, backends, wait_until
from .running import Background, at_the_gate, gate, terminate

ROWS = 2_000
SUM = "select count(*), sum(hashtext(o::text)) from orders o"
STAGE = "select tablename from pg_tables where schemaname = 'mapper' and tablename like 'stage%'"
PATIENT = RetryHandler(RetryConfig(max_retries=20, initial_delay=0.05, max_delay=0.1))


@pytest.fixture
def orders(source, target, run):
    """2,000 orders; the one with number 950 is not let through while a lock is held."""
    run(
        source,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
        "create function gate(i int) returns boolean language plpgsql stable as $$ begin"
        " if i = 950 and current_query() like 'copy%' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return true; end $$",
    )
    run(target, "create table orders (id int, note text)")
    yield
    assert_nothing_left(source, target)


GATED = "select * from orders where gate(id) order by id"


def options(target, **more):
    given = {"target_conn": target, "target_table": "orders", "chunk_size": 100, "max_workers": 2}
    return {**given, "min_rows_for_parallel": 0, "enable_progress": False, **more}


class Job(threading.Thread):
    """A load in a thread of its own, which a test may stop."""

    def __init__(self, source, target, sql=GATED, **more):
        super().__init__(name="job")
        self.processor = ParallelProcessor(**options(target, **more))
        self._source, self._sql, self.came_to = source, sql, None
        self.start()

    def run(self):
        try:
            self.came_to = self.processor.process_mapper_job(self._source, self._sql)
        except MapperError as error:
            self.came_to = error

    def ended(self):
        self.join(60)
        assert not self.is_alive()
        return self.came_to


@pytest.mark.parametrize("strategy", ["key", "stream_once", "one_pass"])
@pytest.mark.parametrize("how", ["stop", "should_stop"])
def test_stop_ends_running_statements_and_keeps_what_is_finished(
    orders, source, target, run, strategy, how
):
    """A chunk that waits for something is not waited for; the load goes on under its id."""
    asked = threading.Event()
    more = {"should_stop": asked.is_set} if how == "should_stop" else {}
    with closing(psycopg.connect(source, autocommit=True)) as gate:
        gate.execute("select pg_advisory_lock(42)")
        job = Job(source, target, load_id="halted", strategy=strategy, **more)
        at_the_gate(source)
        job.processor.stop() if how == "stop" else asked.set()
        result = job.ended()

    assert ("stopped", False) == (result.status, result.published)
    kept = [c.rows_read for c in result.chunk_results if c.status == "succeeded"]
    assert {c.status for c in result.chunk_results} <= {"succeeded", "unstarted"}
    assert [(sum(kept),)] == run(target, "select count(*) from orders")

    again = execute_query_parallel(
        source, GATED, **options(target, load_id="halted", strategy=strategy)
    )

    assert ("succeeded", len(kept)) == (again.status, again.chunks_skipped)
    assert run(source, SUM) == run(target, SUM)


@pytest.mark.usefixtures("orders")
def test_stop_cancels_no_statement_of_who_has_the_session_next(source, target):
    """While a statement of the reader is cancelled, the writer goes back to the pool."""
    gate = psycopg.connect(source, autocommit=True)
    gate.execute("select pg_advisory_lock(42)")

    def use():
        with pool.connection(60) as connection:
            return connection.execute("select 'undisturbed' from pg_sleep(1)").fetchone()

    def give_back():
        gate.close()  # the chunk ends by itself
        with suppress(TimeoutError):
            wait_until(lambda: backends(target, "%", "wait_event = 'PgSleep'"), "its use", limit=2)

    with (
        closing(gate),
        ConnectionPool(target, min_size=1, max_size=1) as pool,
        Proxy(source, before_cancel=give_back) as proxy,
    ):
        job = Job(proxy.url, pool, chunk_size=ROWS)
        at_the_gate(source)
        using = Background(use)
        job.processor.stop()

        assert ("undisturbed",) == using.result()
        job.ended()


@pytest.mark.usefixtures("orders")
def test_stop_cancels_no_statement_of_who_has_the_streams_session_next(source, target):
    """Its reader has ended and is back in the pool, while its writers still wait."""

    def use():
        with pool.connection(60) as connection:
            return connection.execute("select 'undisturbed' from pg_sleep(1)").fetchone()

    gate, stage = psycopg.connect(source, autocommit=True), psycopg.connect(target)
    gate.execute("select pg_advisory_lock(42)")
    # Beside the reader there is the session that holds the snapshot.
    with closing(gate), closing(stage), ConnectionPool(source, min_size=2, max_size=2) as pool:
        job = Job(pool, target, strategy="stream_once", chunk_size=ROWS // 2)
        at_the_gate(source)
        ((name,),) = stage.execute(STAGE).fetchall()
        stage.execute(f"lock table mapper.{name} in exclusive mode")
        gate.execute("select pg_advisory_unlock(42)")
        using = Background(use)
        wait_until(lambda: backends(source, "%", "wait_event = 'PgSleep'"), "its use")
        job.processor.stop()

        assert ("undisturbed",) == using.result()
        stage.rollback()
        assert "stopped" == job.ended().status


class Lent:
    """A session that some other owner may have next."""

    ours = True

    def cancel(self):
        assert self.ours, "cancelled though it was given back"


def test_a_session_given_back_is_never_cancelled():
    """Whenever a load is asked to stop: others may have been cancelled before it."""
    in_use, done = InUse(), threading.Event()

    @contextmanager
    def lent():
        session = Lent()
        with in_use.using(session):
            yield
        session.ours = False

    def cancel():
        while not done.is_set():
            in_use.cancel()

    cancelling, before = Background(cancel), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            with ExitStack() as held:
                for _ in range(100):
                    held.enter_context(lent())
    finally:
        done.set()
        sys.setswitchinterval(before)
    cancelling.result()


def test_threads_that_work_together_end_once_one_fails():
    """The others are told at once; the error is raised when all of them have ended."""
    told, ended = threading.Event(), []

    def wait():
        ended.append(told.wait(60))

    def fail():
        raise ValueError("too much")

    stop = threading.Event()
    with pytest.raises(ValueError, match="too much"):
        together([wait, fail, wait], stop=stop, give_up=lambda _: told.set(), name="mapper test")

    assert [True, True] == ended
    assert not stop.is_set()
    assert_nothing_left()


def test_one_job_alone_has_no_thread_of_its_own():
    """A lone connection may not leave the caller's; several are, and answer in their order."""

    def run(jobs):
        return together(jobs, stop=threading.Event(), give_up=print, name="mapper test")

    assert [threading.get_ident()] == run([threading.get_ident])
    assert list("abc") == run([lambda each=each: each for each in "abc"])


@pytest.fixture
def ctrl_c():
    """Press Ctrl-C, from any thread."""
    before, main = signal.signal(signal.SIGINT, signal.default_int_handler), threading.get_ident()
    yield lambda: signal.pthread_kill(main, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("size", [100, 1_000], ids=["with more to write", "with all handed over"])
def test_ctrl_c_ends_a_stream_whose_writers_wait(orders, source, target, run, ctrl_c, size):
    """Its reader does not wait for what they wait for."""
    ended = threading.Event()

    def press():
        with (
            closing(psycopg.connect(source, autocommit=True)) as gate,
            closing(psycopg.connect(target)) as stage,
        ):
            gate.execute("select pg_advisory_lock(42)")
            begun.set()
            at_the_gate(source)
            stage.execute(f"lock table mapper.{run(target, STAGE)[0][0]} in exclusive mode")
            gate.execute("select pg_advisory_unlock(42)")
            waiting = "wait_event = 'relation'"
            wait_until(lambda: 2 == len(backends(target, extra=waiting)), "the writers")
            ctrl_c()
            return ended.wait(20)

    begun = threading.Event()
    pressing = Background(press)
    begun.wait()
    with pytest.raises(KeyboardInterrupt):
        execute_query_parallel(
            source, GATED, **options(target, strategy="stream_once", chunk_size=size)
        )
    ended.set()

    assert pressing.result()
    assert [(0,)] == run(target, "select count(*) from orders")


def test_ctrl_c_between_two_workers_ends_the_first(orders, source, target, run):
    """It does not load everything before it is heard."""
    start = threading.Thread.start

    def press_at_the_second(thread):
        if thread.name == "mapper 2":
            raise KeyboardInterrupt
        start(thread)

    def slow(rows):
        time.sleep(0.05)
        return rows

    with (
        patch.object(threading.Thread, "start", press_at_the_second),
        pytest.raises(KeyboardInterrupt),
    ):
        execute_query_parallel(
            source, "select * from orders order by id", **options(target, transformation_func=slow)
        )

    assert run(target, "select count(*) from orders")[0][0] < ROWS / 2


def test_one_failed_chunk_stops_the_others_only_if_asked_to(orders, source, target, run):
    """The result is that of a failure, not of a stop."""
    run(target, "alter table orders add check (id <> 150)")

    stopped = execute_query_parallel(
        source, GATED, **options(target, stop_on_error=True, max_workers=1)
    )

    assert ("partial", 1) == (stopped.status, stopped.chunks_failed)
    assert {"unstarted"} == {c.status for c in stopped.chunk_results[2:]}
    first = stopped.chunk_results[0].rows_read
    assert [(first,)] == run(target, "select count(*) from orders")

    whole = execute_query_parallel(source, GATED, **options(target))

    assert (1, 19) == (whole.chunks_failed, whole.chunks_succeeded)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_should_stop_that_raises_stops_the_load(orders, source, target, caplog, error):
    """A load that nobody can stop any more would be the worse choice."""

    def broken():
        raise error("no idea")

    with closing(psycopg.connect(source, autocommit=True)) as gate:
        gate.execute("select pg_advisory_lock(42)")
        result = execute_query_parallel(source, GATED, **options(target, should_stop=broken))

    assert "stopped" == result.status
    assert f"should_stop raised ({error.__name__}: no idea)" in caplog.text


@pytest.fixture
def crowded(source, target, run):
    """A role that both databases let have only a few connections at once."""
    role = "crowd_" + source.rpartition("source_")[2][:8]

    def make(connections):
        run(source, f"create role {role} login connection limit {connections}")
        for url in (source, target):
            run(url, f"grant all on all tables in schema public to {role}")
            run(url, f"grant create on database {name_of(url)} to {role}")
        return [url.replace("postgres@", f"{role}@") for url in (source, target)]

    yield make
    for url in (source, target):
        run(url, f"drop owned by {role} cascade")
    run(source, f"drop role {role}")


@pytest.mark.parametrize("connections", [3, 4, 5, 6])
def test_a_load_goes_on_with_the_connections_there_are(
    orders, source, target, run, crowded, caplog, connections
):
    """Fewer than the workers need: some rest, none of the chunks fails."""
    from_url, to_url = crowded(connections)

    result = execute_query_parallel(
        from_url,
        "select * from orders order by id",
        **{**options(to_url, retry_handler=PATIENT), "max_workers": 4},
    )

    assert "succeeded" == result.status, result
    assert run(source, SUM) == run(target, SUM)
    assert "continuing with" in caplog.text


class Resting(RetryHandler):
    """Counts how often a worker waits before it looks for a connection again."""

    rests = 0

    def rest(self, stop):
        """Wait, as all do."""
        self.rests += 1
        super().rest(stop)


def test_workers_that_rested_come_back(orders, source, target, run, crowded):
    """When there are connections again, the load uses them."""
    patient = Resting(PATIENT.config)
    from_url, to_url = crowded(5)
    role = from_url.partition("//")[2].partition("@")[0]

    def widen(snapshot):
        if snapshot.completed_chunks == 3:
            run(source, f"alter role {role} connection limit 50")

    run(
        source,
        "create function slow(i int) returns boolean language plpgsql stable as $$ begin"
        " if i % 50 = 0 and current_query() like 'copy%' then perform pg_sleep(0.05); end if;"
        " return true; end $$",
    )
    sql = "select * from orders where slow(id) order by id"
    result = execute_query_parallel(
        from_url,
        sql,
        **{
            **options(to_url, retry_handler=patient, progress_callback=widen),
            "max_workers": 4,
            "enable_progress": True,
            "strategy": "key",
        },
    )

    assert "succeeded" == result.status, result
    assert len({c.worker for c in result.chunk_results}) > 1
    assert patient.rests


@pytest.mark.timeout(90)
@pytest.mark.parametrize("strategy", ["key", "stream_once"])
def test_a_load_that_finds_no_connection_any_more_ends(
    orders, source, target, run, crowded, strategy
):
    """The last worker leaves its place to nobody: what it has in hand fails, and says why."""
    _, to_url = crowded(10)
    role = to_url.partition("//")[2].partition("@")[0]

    def shut_out(rows):
        run(target, f"alter role {role} connection limit 0")
        terminate(target, backends(target, "%", f"usename = '{role}'"))
        return rows

    result = execute_query_parallel(
        source,
        "select * from orders order by id",
        **options(
            to_url,
            retry_handler=RetryHandler(RetryConfig(max_retries=2, initial_delay=0.05)),
            transformation_func=shut_out,
            strategy=strategy,
            chunk_size=500,
        ),
    )

    assert "failed" == result.status
    assert 0 == result.total_rows_successful
    assert "too many connections" in result.chunk_errors[0]["error"]


def test_a_piece_of_a_stream_that_was_put_back_counts_once(
    orders, source, target, run, crowded, caplog
):
    """Its COMMIT got no answer, and there was no connection to ask by for a while."""
    _, url = crowded(10)
    role = url.partition("//")[2].partition("@")[0]

    def lose(number):
        if number > 1:
            return None
        run(source, f"alter role {role} connection limit 0")
        terminate(target, backends(target, "%", f"usename = '{role}' and state = 'idle'"))
        return "reply"

    pieces = itertools.count(1)

    def let_in_once_one_is_put_back(rows):
        if next(pieces) > 1:
            wait_until(lambda: "continuing with" in caplog.text, "a piece that is put back")
            run(source, f"alter role {role} connection limit 10")
        return rows

    with Proxy(target, lose_commit=lose) as writing:
        result = execute_query_parallel(
            source,
            "select * from orders",
            **options(
                writing.url.replace("postgres@", f"{role}@"),
                retry_handler=PATIENT,
                transformation_func=let_in_once_one_is_put_back,
                strategy="stream_once",
                chunk_size=ROWS // 4,
            ),
        )

    assert ("succeeded", ROWS, 0) == (
        result.status,
        result.total_rows_successful,
        result.rows_skipped,
    )
    assert run(source, SUM) == run(target, SUM)


@pytest.mark.parametrize("lost", ["reply", "request"])
def test_what_became_of_a_chunk_that_was_put_back_is_asked_when_the_load_is_stopped(
    orders, source, target, run, crowded, caplog, lost
):
    """Its COMMIT got no answer, and there was no connection to ask by, but then there is."""
    _, url = crowded(10)
    role = url.partition("//")[2].partition("@")[0]

    def lose(number):
        if number > 1:
            return None
        # The other chunk's worker waits there, and goes on waiting.
        at_the_gate(source)
        run(source, f"alter role {role} connection limit 0")
        terminate(target, backends(target, "%", f"usename = '{role}' and state = 'idle'"))
        return lost

    def let_in():
        run(source, f"alter role {role} connection limit 10")

    with (
        gate(source),
        Proxy(source, before_cancel=let_in) as reading,
        Proxy(target, lose_commit=lose) as writing,
    ):
        to_url = writing.url.replace("postgres@", f"{role}@")
        job = Job(
            reading.url, to_url, retry_handler=PATIENT, load_id="halted", chunk_size=ROWS // 2
        )
        wait_until(lambda: "continuing with" in caplog.text, "a chunk that is put back")
        job.processor.stop()
        result = job.ended()

    assert ("stopped", 0) == (result.status, result.chunks_in_doubt)
    assert [(result.total_rows_successful,)] == run(target, "select count(*) from orders")
    again = execute_query_parallel(source, GATED, **options(target, load_id="halted"))
    assert "succeeded" == again.status
    assert run(source, SUM) == run(target, SUM)


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("strategy", ["key", "physical", "stream_once", "one_pass"])
def test_a_statement_that_has_ended_is_not_cancelled(source, target, strategy):
    """It would cost the server a process for each chunk."""
    with patch.object(psycopg.Connection, "cancel_safe", autospec=True) as cancel:
        result = execute_query_parallel(
            source, "select * from orders", **options(target, strategy=strategy)
        )

    assert ("succeeded", ROWS) == (result.status, result.rows_written)
    cancel.assert_not_called()


@pytest.fixture
def counted(orders, source, run):
    """Counting the orders waits; yields what waits for that."""
    run(
        source,
        "create function counts(i int) returns boolean language plpgsql stable as $$ begin"
        " if i = 950 and current_query() like 'select count(*) from (%' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return true; end $$",
    )
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    with psycopg.connect(source, autocommit=True) as lock:
        lock.execute("select pg_advisory_lock(42)")
        yield lambda: wait_until(lambda: [(1,)] == run(source, waiting), "a count that waits")


COUNTED = "select * from orders where counts(id) order by id"


@pytest.mark.parametrize("how", ["stop", "should_stop"])
def test_a_load_that_is_being_verified_stops_unpublished(orders, counted, source, target, run, how):
    """Its chunks stay in the ledger, for the next call."""
    run(target, "insert into orders values (-1, 'old')")
    wanted = threading.Event()
    should_stop = wanted.is_set if how == "should_stop" else None

    job = Job(source, target, COUNTED, load_mode="replace", should_stop=should_stop)
    counted()
    wanted.set()
    if how == "stop":
        job.processor.stop()
    result = job.ended()

    assert ("stopped", False) == (result.status, result.published)
    assert "before mapper could verify it" in result.error
    assert [(-1, "old")] == run(target, "select * from orders")


def test_ctrl_c_ends_a_comparison(orders, source, target, run, ctrl_c):
    """The statements that sum up its chunks are not waited for."""
    run(
        source,
        "create function sums(i int) returns boolean language plpgsql stable as $$ begin"
        " if i = 950 and current_query() like 'select count(*), %' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return true; end $$",
    )
    begun, ended = threading.Event(), threading.Event()

    def press():
        with closing(psycopg.connect(source, autocommit=True)) as gate:
            gate.execute("select pg_advisory_lock(42)")
            begun.set()
            wait_until(
                lambda: backends(source, extra="wait_event = 'advisory'"), "a sum that waits"
            )
            ctrl_c()
            return ended.wait(20)

    pressing = Background(press)
    begun.wait()
    with pytest.raises(KeyboardInterrupt):
        execute_query_parallel(
            source,
            "select * from orders where sums(id) order by id",
            **options(target, load_mode="replace", verify="checksum"),
        )
    ended.set()

    assert pressing.result()
    assert [(0,)] == run(target, "select count(*) from orders")


def test_a_sum_that_fails_ends_the_others(orders, source, target, run):
    """What they would have come to is of no use: a long statement is not waited for."""
    run(
        source,
        "create function sums(i int) returns boolean language plpgsql stable as $$ begin"
        " if current_query() like 'select count(*), %' then"
        "   if i = 950 then perform pg_advisory_xact_lock_shared(42); end if;"
        "   if i = 1050 then raise exception 'out of sums'; end if;"
        " end if; return true; end $$",
    )
    with gate(source):
        job = Job(
            source,
            target,
            "select * from orders where sums(id) order by id",
            load_mode="replace",
            verify="checksum",
        )
        result = job.ended()

    assert ("failed", False) == (result.status, result.published)
    assert "out of sums" in result.error
    assert [(0,)] == run(target, "select count(*) from orders")


def test_a_load_that_is_being_planned_stops(orders, counted, source, target, run):
    """Nothing has begun, so there is no result but an error."""
    job = Job(source, target, COUNTED, min_rows_for_parallel=1_500)
    counted()
    job.processor.stop()

    error = job.ended()

    assert isinstance(error, IncompleteLoadError)
    assert "before mapper could plan it" in str(error)
    assert [] == run(target, "select * from orders")
