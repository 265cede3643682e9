"""Whatever a caller hands in as a connection: loads work, and it is left as it was."""

import asyncio
import logging
import signal
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from threading import Event
from typing import Any
from urllib.parse import quote

import psycopg
import psycopg2
import psycopg2.extras
import psycopg2.pool
import psycopg_pool
import pytest
import sqlalchemy as sa
from psycopg.rows import class_row, dict_row, scalar_row

from mapper_core import (
    MapperError,
    QueryError,
    RetryConfig,
    RetryHandler,
    SettingsError,
    execute_query_parallel,
)
from mapper_core.connections import opener_of

from ..waiting import backends, wait_until

pytestmark = pytest.mark.timeout(60)

ROWS = 3_000
SPLIT: dict[str, Any] = {
    "chunk_size": 500,
    "min_rows_for_parallel": 100,
    "max_workers": 3,
    "max_retries": 0,
}
SUM = "select count(*), sum(hashtextextended(i::text, 0)) from {} i"


@pytest.fixture(scope="module")
def databases(server):
    """Two databases for all tests here: making one takes longer than most of the tests."""
    urls = [f"postgresql://postgres@/{name}?host={quote(server, safe='')}" for name in _NAMES]
    with psycopg.connect(urls[0].replace(_NAMES[0], "postgres"), autocommit=True) as admin:
        for name in _NAMES:
            admin.execute(f"create database {name} template template0")
        yield urls
        for name in _NAMES:
            admin.execute(f"drop database {name} with (force)")


_NAMES = ("connections_from", "connections_to")


@pytest.fixture
def source(databases, run):
    """The URL of an empty database."""
    run(databases[0], *_EMPTY)
    return databases[0]


@pytest.fixture
def target(databases, run):
    """The URL of another."""
    run(databases[1], *_EMPTY)
    return databases[1]


_EMPTY = (
    "set client_min_messages to warning",
    "drop schema if exists public, apart, mapper cascade",
    "create schema public",
)


@pytest.fixture
def tables(source, target, run):
    """A few rows in the source, an empty table of the same shape in the target."""
    table = "create table items (id int primary key, label text)"
    run(source, table, f"insert into items select i, 'é' || i from generate_series(1, {ROWS}) i")
    run(target, table)


@pytest.fixture
def gone(run):
    """Wait until a database has no more sessions; a backend takes a moment to end."""
    asked = (
        "select pid, application_name, state, query from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'"
    )

    def wait(url):
        deadline = time.monotonic() + 10
        while (left := run(url, asked)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left

    return wait


def load(
    source_conn: Any,
    target_conn: Any,
    sql: str = "SELECT * FROM items ORDER BY id",
    **options: Any,
) -> Any:
    options = {"target_conn": target_conn, "target_table": "items", **SPLIT, **options}
    return execute_query_parallel(source_conn, sql, **options)


def with_driver(url, driver):
    return url.replace("postgresql://", f"{driver}://")


# Every kind of connection argument, made from a URL. Each closes what it opened, and shows
# beforehand that all of it came back.


@contextmanager
def a_url(url, driver):
    yield with_driver(url, driver)


@contextmanager
def an_sqlalchemy_url(url):
    yield sa.make_url(with_driver(url, "postgresql+psycopg"))


@contextmanager
def an_engine(url, driver, **options):
    engine = sa.create_engine(with_driver(url, driver), **options)
    yield engine
    if isinstance(engine.pool, sa.QueuePool):
        assert engine.pool.checkedout() == 0
    engine.dispose()


@contextmanager
def an_engines_connection(url, driver, **options):
    with an_engine(url, driver, **options) as engine, engine.connect() as connection:
        yield connection
        assert not connection.closed


@contextmanager
def an_sqlalchemy_pool(url, connect, size=3):
    pool = sa.QueuePool(lambda: connect(url), pool_size=size, max_overflow=0, timeout=5)
    yield pool
    assert pool.checkedout() == 0
    pool.dispose()


@contextmanager
def a_psycopg_pool(url, size=4):
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=size, timeout=5, open=True) as pool:
        yield pool
        with ExitStack() as stack:
            for _ in range(size):
                stack.enter_context(pool.connection())


@contextmanager
def a_psycopg2_pool(url, size=4, kind=psycopg2.pool.ThreadedConnectionPool):
    with closing(kind(1, size, url)) as pool:
        pool.close = pool.closeall
        yield pool
        for connection in [pool.getconn() for _ in range(size)]:
            pool.putconn(connection)


@contextmanager
def a_factory(url, connect):
    yield lambda: connect(url)


@contextmanager
def a_live_one(url, connect, *, autocommit=False):
    connection = connect(url)
    connection.autocommit = autocommit
    yield connection
    assert not connection.closed
    assert bool(connection.autocommit) is autocommit
    assert connection.info.transaction_status == 0
    connection.close()


@contextmanager
def one_in_a_transaction(url, connect):
    connection = connect(url)
    cursor = connection.cursor()
    cursor.execute("create table of_the_caller as select 1 as x")
    connection.commit()
    cursor.execute("select x from of_the_caller")
    yield connection
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    # Its transaction goes on, with the settings it had.
    cursor.execute("select x, current_setting('datestyle') from of_the_caller")
    assert cursor.fetchall() == [(1, "ISO, MDY")]
    connection.close()


def sqlalchemy_connect(url, driver="postgresql+psycopg"):
    return sa.create_engine(with_driver(url, driver), poolclass=sa.NullPool).connect()


KINDS = {
    "url": lambda url: a_url(url, "postgresql"),
    "postgres url": lambda url: a_url(url, "postgres"),
    "psycopg url": lambda url: a_url(url, "postgresql+psycopg"),
    "psycopg2 url": lambda url: a_url(url, "postgresql+psycopg2"),
    "sqlalchemy url": an_sqlalchemy_url,
    "psycopg engine": lambda url: an_engine(url, "postgresql+psycopg"),
    "psycopg2 engine": lambda url: an_engine(url, "postgresql+psycopg2"),
    "engine of 3": lambda url: an_engine(
        url, "postgresql+psycopg", pool_size=2, max_overflow=1, pool_timeout=5
    ),
    "psycopg2 engine of 2": lambda url: an_engine(
        url, "postgresql+psycopg2", pool_size=2, max_overflow=0, pool_timeout=5
    ),
    "unpooled engine": lambda url: an_engine(url, "postgresql+psycopg", poolclass=sa.NullPool),
    "unbounded engine": lambda url: an_engine(url, "postgresql+psycopg", max_overflow=-1),
    "sqlalchemy connection": lambda url: an_engines_connection(url, "postgresql+psycopg"),
    "sqlalchemy psycopg2 connection": lambda url: an_engines_connection(url, "postgresql+psycopg2"),
    "sqlalchemy connection out of 1": lambda url: an_engines_connection(
        url, "postgresql+psycopg", pool_size=1, max_overflow=0, pool_timeout=5
    ),
    "sqlalchemy connection out of 2": lambda url: an_engines_connection(
        url, "postgresql+psycopg", pool_size=2, max_overflow=0, pool_timeout=5
    ),
    "sqlalchemy pool": lambda url: an_sqlalchemy_pool(url, psycopg.connect),
    "sqlalchemy psycopg2 pool": lambda url: an_sqlalchemy_pool(url, psycopg2.connect),
    "psycopg pool": a_psycopg_pool,
    "psycopg2 pool": a_psycopg2_pool,
    "simple psycopg2 pool": lambda url: a_psycopg2_pool(
        url, kind=psycopg2.pool.SimpleConnectionPool
    ),
    "psycopg factory": lambda url: a_factory(url, psycopg.connect),
    "psycopg2 factory": lambda url: a_factory(url, psycopg2.connect),
    "sqlalchemy factory": lambda url: a_factory(url, sqlalchemy_connect),
    "live psycopg": lambda url: a_live_one(url, psycopg.connect),
    "live psycopg autocommit": lambda url: a_live_one(url, psycopg.connect, autocommit=True),
    "live psycopg2": lambda url: a_live_one(url, psycopg2.connect),
    "live psycopg2 autocommit": lambda url: a_live_one(url, psycopg2.connect, autocommit=True),
    "psycopg in a transaction": lambda url: one_in_a_transaction(url, psycopg.connect),
    "psycopg2 in a transaction": lambda url: one_in_a_transaction(url, psycopg2.connect),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_source(kind, tables, source, target, run, gone):
    """Every row is read, in parallel where sessions suffice, and no session stays behind."""
    with KINDS[kind](source) as given:
        result = load(given, target)

    assert result.status == "succeeded"
    assert result.chunks_total == 6
    # One connection is left to read with: one reader, and as many writers as ever.
    assert (result.strategy == "stream_once") is kind.endswith("out of 2")
    assert run(source, SUM.format("items")) == run(target, SUM.format("items"))
    gone(source)
    gone(target)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_target(kind, tables, source, target, run, gone):
    """Every row is written, and no session stays behind."""
    with KINDS[kind](target) as given:
        result = load(source, given)

    assert result.status == "succeeded"
    assert result.total_rows_successful == ROWS
    assert run(source, SUM.format("items")) == run(target, SUM.format("items"))
    gone(source)
    gone(target)


POOLS = {
    "psycopg_pool": a_psycopg_pool,
    "psycopg2": a_psycopg2_pool,
    "engine": lambda url, size: an_engine(
        url, "postgresql+psycopg", pool_size=size, max_overflow=0, pool_timeout=5
    ),
    "psycopg2 engine": lambda url, size: an_engine(
        url, "postgresql+psycopg2", pool_size=size, max_overflow=0, pool_timeout=5
    ),
    "sqlalchemy pool": lambda url, size: an_sqlalchemy_pool(url, psycopg.connect, size),
}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("pool", POOLS)
def test_a_small_pool_is_enough_for_either_role(pool, size, tables, source, target, run):
    """A pool for the source and one for the target: fewer workers, never a wait for itself."""
    with POOLS[pool](source, size) as from_pool, POOLS[pool](target, size) as to_pool:
        result = load(from_pool, to_pool)

    assert result.status == "succeeded"
    assert result.workers <= max(1, size - 1)
    assert run(source, SUM.format("items")) == run(target, SUM.format("items"))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("pool", POOLS)
def test_one_pool_serves_both_roles_or_is_refused(pool, size, tables, source, run, caplog):
    """Two connections are the least; two read in one pass; more hold a snapshot as well."""
    caplog.set_level(logging.INFO, "mapper_core")
    run(source, "create table copies (like items)")
    with POOLS[pool](source, size) as both:
        if size == 1:
            with pytest.raises(SettingsError, match=r"share a pool of one connection.*larger"):
                load(both, both, target_table="copies")
            return
        result = load(both, both, target_table="copies")

    assert result.status == "succeeded"
    assert run(source, SUM.format("items")) == run(source, SUM.format("copies"))
    disabled = "Parallel processing disabled: source and target share a pool of two connections"
    assert (disabled in caplog.text) is (size == 2)


def test_a_pool_used_up_by_others_is_an_error_in_words(tables, source, target):
    """The pool's own time-out is named; nothing waits for ever."""
    with (
        an_engine(
            source, "postgresql+psycopg", pool_size=1, max_overflow=0, pool_timeout=0.1
        ) as engine,
        engine.connect(),
        pytest.raises(MapperError, match=r"gave no connection.*QueuePool limit"),
    ):
        load(engine, target)


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect])
def test_new_sessions_share_role_search_path_and_time_zone(connect, source, target, run):
    """The query means in every session what it means in the one given."""
    run(
        source,
        "create role reader_of_tests",
        "create schema apart authorization reader_of_tests",
        "create table apart.items (id int, label text)",
        "alter table apart.items owner to reader_of_tests",
        "insert into apart.items select i from generate_series(1, 1000) i",
    )
    run(target, "create table items (id int, label text)")
    try:
        with closing(connect(source)) as live:
            cursor = live.cursor()
            cursor.execute("set role reader_of_tests")
            cursor.execute("set search_path to apart")
            cursor.execute("set time zone 'Asia/Kathmandu'")
            live.commit()
            result = load(
                live,
                target,
                "select id, current_user || ' ' || to_char(timestamptz '2024-01-01 00:00+00',"
                " 'HH24:MI') as label from items order by id",
            )
        assert result.chunks_total == 2
        assert run(target, "select distinct label from items") == [("reader_of_tests 05:45",)]
    finally:
        run(source, "drop schema apart cascade", "drop role reader_of_tests")


def test_what_a_psycopg2_engine_sets_up_holds_in_our_sessions(source, target, run):
    """Sessions are opened beside such an engine, with the settings of one of its own."""
    run(source, "create schema apart", "create table apart.items as select 1 as id, 'x' as label")
    run(target, "create table items (id int, label text)")
    with an_engine(source, "postgresql+psycopg2") as engine:

        @sa.event.listens_for(engine, "connect")
        def _(connection, _):
            connection.cursor().execute("set search_path to apart")
            connection.commit()

        assert load(engine, target).total_rows_successful == 1


def test_a_factory_may_leave_its_setup_uncommitted(source, target, run):
    """What a function did on its new connection holds, committed or not."""
    run(source, "create schema apart", "create table apart.items as select 1 as id, 'x' as label")
    run(target, "create table items (id int, label text)")

    def connect():
        connection = psycopg.connect(source)
        connection.execute("set search_path to apart")
        return connection

    assert load(connect, target).total_rows_successful == 1


@pytest.mark.parametrize("row_factory", [dict_row, scalar_row, class_row(dict), None])
def test_row_factories_of_the_caller_do_not_matter(row_factory, tables, source, target):
    """A live connection may make of rows what it likes."""
    options = {"row_factory": row_factory} if row_factory else {}
    with psycopg.connect(source, **options) as given, psycopg.connect(target, **options) as into:
        assert load(given, into).total_rows_successful == ROWS


@pytest.mark.parametrize("row_factory", [dict_row, scalar_row])
def test_row_factories_of_a_pool_do_not_matter(row_factory, tables, source, run):
    """What is asked of its connections is understood: whether they read alike, say."""
    run(
        source,
        "create table copies (like items)",
        "create view mine as select * from items where current_setting('app.tenant', true) is null",
    )
    with psycopg_pool.ConnectionPool(
        source, kwargs={"row_factory": row_factory}, min_size=1, max_size=6
    ) as pool:
        here = load(pool, pool, "select * from items", target_table="copies")
        not_here = load(pool, pool, "select * from mine", target_table="copies")

    assert ("same_database", ROWS) == (here.strategy, here.total_rows_successful)
    assert "same_database" != not_here.strategy
    assert ROWS == not_here.total_rows_successful


@pytest.mark.parametrize("factory", [psycopg2.extras.RealDictCursor, psycopg2.extras.DictCursor])
def test_cursor_factories_of_the_caller_do_not_matter(factory, tables, source, target):
    """The same for psycopg2."""
    with closing(psycopg2.connect(source, cursor_factory=factory)) as given:
        assert load(given, target).total_rows_successful == ROWS


def test_another_client_encoding_changes_no_letter(tables, source, target, run):
    """Text arrives as it is, and so does the query's own."""
    with (
        psycopg.connect(source, client_encoding="latin1") as given,
        psycopg.connect(target, client_encoding="latin1") as into,
    ):
        result = load(given, into, "select id, label || 'ß' as label from items order by id")

    assert result.status == "succeeded"
    assert run(target, "select label from items where id = 7") == [("é7ß",)]


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect])
@pytest.mark.parametrize("role", ["source", "target"])
def test_a_failed_transaction_is_refused(connect, role, tables, source, target):
    """Nothing can be asked on such a connection; the words say what to do."""
    with closing(connect(source if role == "source" else target)) as live:
        with pytest.raises((psycopg.Error, psycopg2.Error)):
            live.cursor().execute("select nothing_such")
        with pytest.raises(SettingsError, match="failed transaction: roll it back"):
            load(*((live, target) if role == "source" else (source, live)))


@pytest.mark.parametrize("connect", [psycopg.connect, psycopg2.connect, sqlalchemy_connect])
def test_a_closed_connection_is_refused(connect, tables, source, target):
    """The words say what to do."""
    live = connect(source)
    live.close()
    with pytest.raises(SettingsError, match="source_conn is closed: give an open connection"):
        load(live, target)


def test_a_first_connection_that_breaks_is_tried_again(tables, source, target):
    """Taking the read point belongs to the work that is retried."""
    calls = []

    def connect():
        calls.append(1)
        if len(calls) == 2:  # the first one only tells what kind it returns
            raise psycopg.OperationalError("the network was away")
        return psycopg.connect(source)

    at_once = RetryHandler(RetryConfig(max_retries=1, initial_delay=0))
    assert load(connect, target, retry_handler=at_once).total_rows_successful == ROWS
    assert len(calls) > 2


def test_a_factory_that_returns_the_same_connection_is_refused(tables, source, target):
    """Workers never share one connection."""
    with (
        psycopg.connect(source) as only,
        pytest.raises(SettingsError, match="must return a new one each time"),
    ):
        load(lambda: only, target)

    class Uncloseable(psycopg.Connection):
        def close(self):
            pass

    only = Uncloseable.connect(source)
    with pytest.raises(SettingsError, match="must return a new one each time"):
        load(lambda: only, target)
    super(Uncloseable, only).close()


async def open_later():
    """Open nothing."""


class Oddity:
    """Nothing that can be opened."""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "source_conn is a NoneType: give a URL string"),
        (42, "source_conn is a int: give"),
        (b"postgresql://", "source_conn is a bytes: give"),
        (Oddity(), "source_conn is a Oddity: give"),
        (open_later, "source_conn is asynchronous"),
        (partial(open_later), "source_conn is asynchronous"),
        (lambda: None, "connections of 'builtins' are not supported"),
        ("host=/tmp dbname=x", "source_conn is not a database URL"),
        ("nosuchdb://localhost/x", "no driver for 'nosuchdb'"),
        ("sqlite://", "empty in-memory database"),
    ],
)
def test_what_is_no_connection_is_refused(given, words):
    """The words name the argument and what it may be."""
    with pytest.raises(SettingsError, match=words):
        execute_query_parallel(given, "select 1 as one")


def test_asynchronous_connections_are_refused(source):
    """A connection and a pool of psycopg's asynchronous kind."""

    async def refused():
        pool = psycopg_pool.AsyncConnectionPool(source, open=False)
        async with await psycopg.AsyncConnection.connect(source) as connection:
            for given in (pool, connection):
                with pytest.raises(SettingsError, match="source_conn is asynchronous"):
                    opener_of(given, role="source_conn")

    asyncio.run(refused())


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_temporary_table_is_read_on_the_connection_given(
    autocommit, tables, source, target, run, caplog
):
    """No other session sees it; the load says so and reads in one pass."""
    caplog.set_level(logging.INFO, "mapper_core")
    with psycopg.connect(source, autocommit=autocommit) as live:
        # It hides the real table of that name.
        live.execute("create temp table items as select i as id from generate_series(1, 700) i")
        live.commit()
        result = load(live, target)
        other = load(live, target, "select * from public.items where id > 700 order by id")
        assert live.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    assert result.total_rows_successful == 700
    assert "Parallel processing disabled: only the connection given sees its temp" in caplog.text
    # What does not read it is read in parallel.
    assert other.chunks_total == 5
    assert run(target, "select count(*), max(id) from items") == [(ROWS, ROWS)]


@pytest.mark.parametrize("begun", ["", "set transaction isolation level repeatable read"])
def test_uncommitted_rows_are_read_on_the_connection_given(
    begun, tables, source, target, run, caplog
):
    """They arrive; the caller's transaction goes on, and may still be rolled back."""
    caplog.set_level(logging.INFO, "mapper_core")
    with psycopg.connect(source) as live:
        if begun:
            live.execute(begun)
        live.execute("set local datestyle to German")
        live.execute("delete from items where id > 100")
        live.execute("insert into items values (-1, 'new')")
        result = load(live, target)
        assert live.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        counted = live.execute("select count(*), current_setting('datestyle') from items")
        assert counted.fetchone() == (101, "German, DMY")
        live.rollback()

    assert result.total_rows_successful == 101
    assert "Parallel processing disabled: only the connection given sees its uncommi" in caplog.text
    assert run(target, "select count(*), min(id) from items") == [(101, -1)]
    assert run(source, "select count(*) from items") == [(ROWS,)]


def test_a_failing_query_leaves_the_callers_transaction_alive(tables, source, target):
    """Before rows move and in their midst: uncommitted work is still there."""
    with psycopg.connect(source) as live:
        live.execute("update items set label = 'changed' where id = 1")
        with pytest.raises(QueryError, match="nothing_such"):
            load(live, target, "select nothing_such from items")
        result = load(live, target, "select id, (1 / (id - 2000))::text as label from items")
        assert result.status == "failed"
        assert "division by zero" in result.chunk_errors[0]["error"]
        live.commit()
        changed = live.execute("select label from items where id = 1").fetchone()
    assert changed == ("changed",)


class EndedError(BaseException):
    """What only its own program knows."""


@pytest.mark.parametrize("raised", [KeyboardInterrupt, EndedError])
def test_a_signal_leaves_the_callers_transaction_alive(tables, source, target, run, raised):
    """It is told, and so is no error of a connection that is still busy."""

    def handler(*_):
        raise raised

    def send():
        planned = "state = 'active' and query like 'explain%'"
        wait_until(lambda: backends(source, "%", planned), "a query that is being planned")
        signal.pthread_kill(main, signal.SIGUSR1)

    run(
        source,
        "create function nap() returns int immutable language plpgsql as"
        " 'begin perform pg_sleep(30); return 0; end'",
    )
    before, main = signal.signal(signal.SIGUSR1, handler), threading.get_ident()
    sending = threading.Thread(target=send)
    try:
        with psycopg.connect(source) as live:
            live.execute("update items set label = 'changed' where id = 1")
            sending.start()
            with pytest.raises(raised):
                load(live, target, "select * from items where id > nap()")
            changed = live.execute("select label from items where id = 1").fetchone()
    finally:
        sending.join()
        signal.signal(signal.SIGUSR1, before)
    assert changed == ("changed",)


def test_a_transform_reads_uncommitted_rows_too(tables, source, target, run):
    """The path of Python rows goes over the connection given as well."""
    with psycopg.connect(source, row_factory=dict_row, prepare_threshold=0) as live:
        live.execute("delete from items where id > 10")
        result = load(
            live, target, transformation_func=lambda rows: [{**r, "label": "x"} for r in rows]
        )
        prepared = live.execute("select count(*) as n from pg_prepared_statements").fetchone()
    assert result.total_rows_successful == 10
    assert prepared is not None
    assert prepared["n"] <= 2  # the caller's own statements
    assert run(target, "select distinct label from items") == [("x",)]


def test_uncommitted_rows_of_psycopg2_are_refused(tables, source, target):
    """They cannot be read on that connection, and leaving them out would be silently wrong."""
    with closing(psycopg2.connect(source)) as live:
        live.cursor().execute("insert into items values (-1, 'new')")
        with pytest.raises(SettingsError, match=r"uncommitted changes.*Commit first"):
            load(live, target)


# SQLite: one connection at a time.


@pytest.fixture
def lite(tmp_path):
    """A SQLite file with a few rows and an empty table."""
    file = tmp_path / "a b?#.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "create table items (id integer primary key, label text);"
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)"
            " insert into items select i, 'n' || i from n;"
            "create table copies (id integer primary key, label text);"
        )
    return file


@contextmanager
def memory_copy(file):
    with closing(sqlite3.connect(file)) as disk, closing(sqlite3.connect(":memory:")) as memory:
        disk.backup(memory)
        yield memory


def copy_items(given, into, **options):
    return load(given, into, "select * from items order by id", target_table="copies", **options)


COPIED = "select count(*), sum(id), max(label) from copies"
EXPECTED = (500, 125250, "n99")


def test_a_live_sqlite_file_is_loaded_sequentially(lite, caplog):
    """Sessions of our own are opened on the file; the log says why only one reads."""
    caplog.set_level(logging.INFO, "mapper_core")
    with closing(sqlite3.connect(lite)) as given:
        given.row_factory = sqlite3.Row
        result = copy_items(given, given)
        assert given.row_factory is sqlite3.Row
        assert tuple(given.execute(COPIED).fetchone()) == EXPECTED
    assert result.status == "succeeded"
    assert "Parallel processing disabled: sqlite sessions cannot share a snapshot" in caplog.text


@pytest.mark.parametrize("row_factory", [None, sqlite3.Row, lambda _, row: {"row": row}])
def test_a_sqlite_database_in_memory_is_loaded_on_the_connection_given(lite, row_factory, caplog):
    """It cannot be opened again; reading and writing share it, and it stays as it was."""
    caplog.set_level(logging.INFO, "mapper_core")
    with memory_copy(lite) as given:
        given.row_factory = row_factory
        result = copy_items(given, given)
        assert given.row_factory is row_factory
        assert not given.in_transaction
        given.row_factory = None
        assert given.execute(COPIED).fetchone() == EXPECTED
    assert result.status == "succeeded"
    assert "Parallel processing disabled: an in-memory database cannot be opened" in caplog.text


@pytest.mark.parametrize("poolclass", [sa.StaticPool, sa.SingletonThreadPool])
def test_an_engine_over_memory_shares_its_one_connection(poolclass, lite):
    """An Engine, its pool and its Connection all lead to the one database there is."""
    with memory_copy(lite) as memory:
        engine = sa.create_engine("sqlite://", creator=lambda: memory, poolclass=poolclass)
        with engine.connect() as connection:
            for number, given in enumerate((engine, engine.pool, connection), start=1):
                result = copy_items(given, given, load_id=f"load {number}")
                assert result.status == "succeeded"
                assert memory.execute(COPIED).fetchone() == EXPECTED
                connection.exec_driver_sql("delete from copies")
                connection.commit()


@pytest.mark.parametrize("role", ["source_conn", "target_conn"])
@pytest.mark.parametrize("where", ["file", "memory"])
def test_an_open_sqlite_transaction_is_refused(where, role, lite):
    """The load would have to commit it, or wait for it."""
    with ExitStack() as stack:
        live = stack.enter_context(
            closing(sqlite3.connect(lite)) if where == "file" else memory_copy(lite)
        )
        live.execute("delete from items where id = 1")
        with pytest.raises(
            SettingsError, match=f"{role} has a transaction open.*commit it or roll"
        ):
            opener_of(live, role=role)
        assert live.in_transaction
        assert live.execute("select count(*) from items").fetchone() == (499,)


@pytest.mark.parametrize("poolclass", [sa.StaticPool, sa.SingletonThreadPool])
def test_an_engines_open_sqlite_transaction_is_refused(poolclass, lite):
    """Refused, and neither committed nor rolled back by asking."""
    with memory_copy(lite) as memory:
        engine = sa.create_engine("sqlite://", creator=lambda: memory, poolclass=poolclass)
        with engine.connect() as connection:
            connection.exec_driver_sql("delete from items where id = 1")
            for given in (engine, engine.pool, connection):
                with pytest.raises(SettingsError, match="has a transaction open"):
                    opener_of(given, role="source_conn")
            assert memory.in_transaction
            assert memory.execute("select count(*) from items").fetchone() == (499,)


def test_sqlite_temporary_and_attached_tables_are_read_on_the_connection_given(lite, caplog):
    """No other session has them, and one of them may hide a table of the file."""
    caplog.set_level(logging.INFO, "mapper_core")
    with closing(sqlite3.connect(lite)) as live:
        live.execute("create temp table items as select 7 as id, 'x' as label")
        live.commit()
        assert copy_items(live, live).total_rows_successful == 1
    assert "Parallel processing disabled: only the connection given sees" in caplog.text


def test_an_open_oracle_transaction_is_refused():
    """A bare oracledb connection is used as it is, unless that would end its transaction."""

    class Connection:
        """As oracledb's, as far as anybody asks before it is used."""

        transaction_in_progress = False

        def cursor(self):
            raise NotImplementedError

        def commit(self):
            raise NotImplementedError

    Connection.__module__ = "oracledb.connection"
    live = Connection()
    opener = opener_of(live, role="source_conn")
    assert opener.open() is live
    assert opener.limit == 1
    assert "bare oracledb connection" in str(opener.sole)

    live.transaction_in_progress = True
    with pytest.raises(SettingsError, match="source_conn has a transaction open"):
        opener_of(live, role="source_conn")


def test_secrets_stay_out_of_an_openers_repr(source):
    """What is printed of an opener names the driver and the limit, no more."""
    opener = opener_of("postgresql://me:s3cret@localhost/x", role="source_conn")
    assert "s3cret" not in repr(opener)


class Interrupted(psycopg.Connection[Any]):
    """On which Ctrl-C is pressed while a transaction is taken back."""

    def execute(self, query, *args, **more):
        """Run a statement."""
        found = super().execute(query, *args, **more)
        if query == "rollback":
            raise KeyboardInterrupt
        return found


def test_ctrl_c_gives_a_connection_back_as_it_came(tables, source, target):
    """At whatever moment: a pool would lend it on in autocommit mode."""
    with psycopg_pool.ConnectionPool(
        source, connection_class=Interrupted, min_size=1, max_size=3
    ) as pool:
        with pytest.raises(KeyboardInterrupt):
            load(pool, target)
        with ExitStack() as lent:
            lives = [lent.enter_context(pool.connection()) for _ in range(3)]
            assert {(False, 5)} == {(live.autocommit, live.prepare_threshold) for live in lives}


def test_a_stopped_load_gives_all_connections_back(tables, source, target):
    """Also when the load ends early."""
    stop = Event()

    def fail(rows):
        stop.set()
        raise ValueError("no")

    with a_psycopg_pool(source) as pool, a_psycopg_pool(target) as into:
        result = load(pool, into, transformation_func=fail)
    assert stop.is_set()
    assert result.status == "failed"
