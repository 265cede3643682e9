"""The rows of a COPY, joined as they arrive: in C as in Python."""

import os
import signal
import threading
import time
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.util import find_spec

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.pq import ExecStatus

from mapper_core.adapters.postgresql import arrivals, session

from ..core.running import load, multiset, terminate
from ..waiting import wait_until

WAYS = ("in C", "in Python")
NOT_IN_C = (
    "rows are not joined in C here: .ci/compiler gets a compiler, and psycopg has to be compiled"
)

# The server sends what it has when that is more than its buffer.
SLOW = "select repeat('x', 10000), pg_sleep(0.05) from generate_series(1, 1000)"
STALLING = "select repeat('x', 10000), pg_sleep(i - 1) from (values (1), (31)) v(i)"


@contextmanager
def joining(way):
    """Join rows in one of the two ways."""
    if way == "in C" and not arrivals.JOINED_IN_C:
        pytest.skip(NOT_IN_C)
    before, arrivals.JOINED_IN_C = arrivals.JOINED_IN_C, way == "in C"
    try:
        yield
    finally:
        arrivals.JOINED_IN_C = before


@pytest.fixture(params=WAYS)
def joined(request):
    with joining(request.param):
        yield request.param


@pytest.fixture
def connection(source):
    with closing(psycopg.connect(source, autocommit=True)) as opened:
        yield opened


def begin(connection, query, form="text"):
    """Begin a COPY; return what arrives."""
    connection.pgconn.send_query(f"copy ({query}) to stdout (format {form})".encode())
    arrived = arrivals.Arrivals(connection.pgconn)
    started = arrived.result()
    assert started
    assert started.status == ExecStatus.COPY_OUT
    return arrived


def blocks(arrived, size):
    """Return all blocks of a COPY, and its result."""
    found, more = [], True
    while more:
        block, more = arrived.block(size)
        assert len(block) >= size or not more
        found.append(block)
    result = arrived.result()
    assert arrived.result() is None
    return found, result


def test_what_was_compiled_is_used():
    """Nothing falls back to Python unnoticed."""
    if find_spec("mapper_core.adapters.postgresql._arrivals") is None:
        pytest.skip(NOT_IN_C)
    assert arrivals.JOINED_IN_C is (psycopg.pq.__impl__ != "python")


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(0, 300) | st.sampled_from([65_535, 65_536, 200_000]), max_size=30),
    size=st.sampled_from([1, 100, 65_536, 1_000_000]),
)
@pytest.mark.parametrize("form", ["text", "binary"])
@pytest.mark.parametrize("way", WAYS)
def test_all_rows_arrive_whole_and_in_order(shared, way, form, widths, size):
    with joining(way):
        query = (
            f"select n, repeat('x', w) from unnest(array{widths}::int[]) with ordinality u(w, n)"
        )
        found, result = blocks(begin(shared, query, form), size)
    with shared.cursor().copy(f"copy ({query}) to stdout (format {form})") as copy:
        expected = b"".join(copy)
    assert b"".join(found) == expected
    assert result.command_tuples == len(widths)
    if form == "text":
        assert all(block.endswith(b"\n") for block in found if block)


@pytest.fixture(scope="module")
def shared(server):
    with closing(psycopg.connect(f"host={server} user=postgres", autocommit=True)) as opened:
        yield opened


def test_notices_are_heard_while_rows_arrive(joined, connection):
    """Their handler is Python, called from within libpq."""
    heard = []
    connection.add_notice_handler(lambda said: heard.append(said.message_primary))
    connection.execute(
        "create function loud(i int) returns int language plpgsql as"
        " $$begin raise notice 'row %', i; return i; end$$"
    )
    found, _ = blocks(begin(connection, "select loud(i) from generate_series(1, 500) i"), 100)
    assert b"".join(found).split() == [str(i).encode() for i in range(1, 501)]
    assert heard == [f"row {i}" for i in range(1, 501)]


def test_an_error_among_the_rows_is_the_result(joined, connection):
    query = "select 1 / (2000 - i) from generate_series(1, 5000) i"
    _, result = blocks(begin(connection, query), 64)
    assert "division by zero" in result.get_error_message()
    assert connection.execute("select 1").fetchone() == (1,)


def test_a_cancelled_copy_ends(joined, connection):
    arrived = begin(connection, SLOW)
    arrived.block(1)
    threading.Timer(0.1, session.cancel, [connection]).start()
    _, result = blocks(arrived, 1_000_000)
    assert "canceling statement" in result.get_error_message()


def test_a_lost_session_is_an_error_in_the_server_s_words(joined, source, connection):
    arrived = begin(connection, SLOW)
    arrived.block(1)
    threading.Timer(0.1, terminate, [source, [connection.info.backend_pid]]).start()
    with pytest.raises(psycopg.OperationalError, match=r"terminat|closed the connection"):
        raise psycopg.errors.error_from_result(blocks(arrived, 1_000_000)[1])


def test_a_connection_that_another_thread_closes_is_an_error(joined, connection):
    """It is never used after it was freed."""
    arrived = begin(connection, SLOW)
    arrived.block(1)
    threading.Timer(0.1, connection.close).start()
    with pytest.raises(psycopg.OperationalError, match=r"closed|connection pointer is NULL"):
        blocks(arrived, 1_000_000)


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals go to the main one"
)
def test_a_signal_is_heard_while_nothing_arrives(joined, connection):
    class HeardError(Exception):
        pass

    def handler(*_):
        raise HeardError

    arrived = begin(connection, STALLING)
    before = signal.signal(signal.SIGUSR1, handler)
    begun = time.monotonic()
    try:
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        with pytest.raises(HeardError):
            blocks(arrived, 1_000_000)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - begun < 20, "it was heard only when the next row came"
    session.end_statement(connection)
    assert connection.execute("select 1").fetchone() == (1,)


def test_other_threads_run_while_nothing_arrives(joined, connection):
    """Python's lock is given up: the wait of one connection stops nobody."""
    arrived = begin(connection, STALLING)
    waiting = threading.Thread(target=lambda: blocks(arrived, 1_000_000))
    waiting.start()
    wait_until(lambda: sum(range(1_000)), "this thread to run")
    session.cancel(connection)
    waiting.join(20)
    assert not waiting.is_alive()


def test_what_is_asked_of_the_wrong_thing_is_an_error():
    """And never read as if it were a connection."""
    if not arrivals.JOINED_IN_C:
        pytest.skip(NOT_IN_C)
    compiled = import_module("mapper_core.adapters.postgresql._arrivals")
    with pytest.raises(AttributeError, match="pgconn_ptr"):
        compiled.take(object(), 1)
    with pytest.raises(TypeError):
        compiled.take(object())
    with pytest.raises(ValueError, match="negative"):
        compiled.take(object(), -1)
    assert compiled.bind(os.devnull) is False


@pytest.mark.parametrize("strategy", ["key", "physical"])
def test_loads_bring_the_same_rows_both_ways(joined, source, target, run, strategy):
    table = "create table orders (id int primary key, note text)"
    run(
        source,
        table,
        "insert into orders select i, repeat('n', i % 300) from generate_series(1, 20000) i",
        "analyze orders",
    )
    run(target, table)
    options = {"strategy": strategy, "chunk_size": 3_000, "max_workers": 2}
    result = load(source, "select * from orders", target, "orders", **options)
    assert result.rows_written == 20_000
    assert multiset(source, "select * from orders") == multiset(target, "select * from orders")
