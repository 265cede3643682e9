"""What goes back and forth between a load and PostgreSQL: each answer costs a network's delay."""

import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from psycopg import capabilities

from mapper_core import ChunkStatus, SnapshotLostError, adapters, execute_query_parallel
from mapper_core.adapters.postgresql import saying, session
from mapper_core.connections import opener_of
from mapper_core.model import Snapshot

from ..databases import name_of
from ..proxy import Proxy
from ..waiting import wait_until

CHUNK = 100


@pytest.fixture
def tables(source, target, run):
    run(
        source,
        "create table item (id int primary key, name text)",
        "insert into item select i, 'n' || i from generate_series(1, 3000) i",
        "vacuum analyze item",
    )
    run(target, "create table item (id int, name text)")


def load(source, target, chunks, **options):
    return execute_query_parallel(
        source,
        f"select * from item where id <= {chunks * CHUNK} order by id",
        target_conn=target,
        target_table="item",
        max_workers=1,
        chunk_size=CHUNK,
        min_rows_for_parallel=0,
        strategy="key",
        enable_progress=False,
        **options,
    )


def answers(source, target, chunks, **options):
    """Return how many answers a load of so many chunks waits for, of the source and the target."""
    with Proxy(source) as here, Proxy(target) as there:
        result = load(here.url, there.url, chunks, **options)
        result.raise_for_failures()
        assert (chunks, chunks * CHUNK) == (result.chunks_total, result.total_rows_successful)
    return here.answers, there.answers


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 3), ({"publish": "atomic"}, 4), ({"transformation_func": list}, 4)],
    ids=["append", "staged", "rows"],
)
def test_a_chunk_waits_for_few_answers(tables, source, target, options, most):
    """One of the source; of the target that it is claimed, that its rows are in, that it is done.

    And that a stage was told the chunk's number, or what its columns are.
    """
    load(source, target, 1).raise_for_failures()  # makes the ledger
    few, many = (answers(source, target, chunks, **options) for chunks in (5, 25))

    of_source, of_target = ((more - less) / 20 for more, less in zip(many, few, strict=True))

    assert of_source == 1
    assert of_target <= most


def test_a_load_of_one_chunk_waits_for_about_fifty_answers(tables, source, target):
    """Planned, written and published; most of them are the ledger's and the planning's."""
    load(source, target, 1).raise_for_failures()  # makes the ledger

    of_source, of_target = answers(source, target, 1)

    assert of_source <= 22
    assert of_target <= 26


def test_an_error_of_what_was_sent_with_the_commit_is_the_chunks(tables, source, target, run):
    """It is known that nothing came of it, and why."""
    load(source, target, 1).raise_for_failures()
    run(
        target,
        "create function refuse() returns trigger language plpgsql as $$"
        " begin raise exception 'not this one'; end $$",
        "create trigger refuse before update on mapper.claim for each row"
        " when (new.chunk_id = 2) execute function refuse()",
    )

    result = load(source, target, 3)

    found = {chunk.chunk_id: chunk for chunk in result.chunk_results}
    assert {1: ChunkStatus.SUCCEEDED, 2: ChunkStatus.FAILED, 3: ChunkStatus.SUCCEEDED} == {
        number: chunk.status for number, chunk in found.items()
    }
    assert "not this one" in found[2].error
    assert not found[2].in_doubt
    assert [(CHUNK + 2 * CHUNK,)] == run(target, "select count(*) from item")


def test_a_libpq_that_sends_each_statement_by_itself_will_do(
    tables, source, target, run, monkeypatch
):
    """Older than version 14, which psycopg in pure Python may find on the system."""
    monkeypatch.setattr(capabilities, "has_pipeline", lambda: False)

    load(source, target, 5, load_mode="replace").raise_for_failures()

    assert [(5 * CHUNK,)] == run(target, "select count(*) from item")


def test_a_setting_that_is_refused_is_no_lost_snapshot(source):
    """Both are invalid values to the server, and come in one message."""
    begin = ("begin isolation level repeatable read read only", None)
    asked = f"select pg_export_snapshot(), {session.SERVER}"
    with psycopg.connect(source) as holder, psycopg.connect(source, autocommit=True) as reader:
        ((name, server),) = holder.execute(asked).fetchall()
        snapshot = Snapshot(name, "the snapshot", server=server)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="No/Such_Zone"):
            session.join(reader, snapshot, begin, ("set timezone = 'No/Such_Zone'", None))
        reader.execute("rollback")
        gone = replace(snapshot, id="00000000-00000000-1")
        with pytest.raises(SnapshotLostError):
            session.join(reader, gone, begin, ("set timezone = 'UTC'", None))


@pytest.mark.parametrize(
    ("name", "setting"),
    [("client_encoding", "latin1"), ("datestyle", "German"), ("intervalstyle", "iso_8601")],
)
def test_what_is_said_first_is_read_as_the_rest(make_database, run, name, setting):
    """The server tells of a setting that changed only when it has answered the whole message."""
    url = make_database("target")
    run(
        url,
        f'alter database "{name_of(url)}" set {name} = {setting}',
        'create table "größe" (id int)',
    )
    target = adapters.database(opener_of(url, role="target"), application="mapper test")
    moment = datetime(2024, 7, 1, 10, 0, 0, 5, tzinfo=timezone.utc)
    said = "select 'é', cast(:moment as timestamptz), interval '1 day 02:00', :word::text"

    with target.open_writer() as writer, writer.begin() as transaction:
        found = transaction.execute(said, {"moment": moment, "word": "größe"})
    with target.open_writer() as writer, writer.begin() as transaction:
        columns = transaction.columns(("größe",))

    assert [("é", moment, timedelta(days=1, hours=2), "größe")] == found
    assert ["id"] == [column.name for column in columns]


@pytest.mark.parametrize("after", [0, 1])
def test_a_session_that_the_server_ends_says_why(source, run, after):
    """Also when more was said to it than it has answered."""
    with psycopg.connect(source, autocommit=True) as connection:
        # By then all of it has been said.
        end = f"select pg_terminate_backend({connection.info.backend_pid}) from pg_sleep(0.5)"
        with pytest.raises(psycopg.errors.AdminShutdown, match="administrator command"):
            saying.run_together(
                connection,
                ("select 1", None),
                (end, None),
                ("select pg_sleep(10)", None),
                *after * [("select 2", None)],
            )


def test_an_error_that_comes_before_the_message_has_been_sent_is_told_alone(source, caplog):
    """By which of several statements it is met, is a matter of chance."""

    def say_one_by_one(live):
        told: list[saying.Said] = []
        with saying.in_one_message(live, told):
            saying.say(live, told, "select 1 / 0")
            wait_until(lambda: saying.say(live, told, "select 1"), "never: it raises", 20)

    with psycopg.connect(source, autocommit=True) as live:
        with pytest.raises(psycopg.errors.DivisionByZero) as caught:
            say_one_by_one(live)
        assert caught.value.__cause__ is None
        assert [(1,)] == live.execute("select 1").fetchall()
    assert not caplog.records


def test_what_waits_comes_after_the_transactions_beginning(target, run):
    """Under its settings, and in its isolation."""
    run(
        target,
        f"alter database \"{name_of(target)}\" set default_transaction_isolation = 'serializable'",
    )
    database = adapters.database(opener_of(target, role="target"), application="mapper test")
    seen = "current_setting('transaction_isolation') || ' ' || current_setting('lock_timeout')"
    with database.open_writer() as writer, writer.begin() as transaction:
        transaction.lock("something")
        transaction.execute_later(f"select set_config('mapper.seen', {seen}, true)")
        told = transaction.execute("select current_setting('mapper.seen')")
    assert [("read committed 1min",)] == told


# After a while: a session's last words are lost to a client that is still sending.
ENDS = "select pg_sleep(0.2), pg_terminate_backend(pg_backend_pid())"


def test_a_statement_that_is_tried_on_a_session_that_ends_says_why(source):
    """There is nothing left to be taken back, which would say less."""
    with psycopg.connect(source, autocommit=True) as live:
        live.execute("begin")
        with pytest.raises(psycopg.errors.AdminShutdown, match="administrator command"):
            session.tried(live, ENDS)


def test_what_a_commit_warns_of_is_in_the_log(target, run, caplog):
    """And nothing else that the server says, then or later."""
    run(
        target,
        "create table kept (id int)",
        "create function talk() returns trigger language plpgsql as $$ begin"
        " raise notice 'not this'; raise warning 'beware'; return null; end $$",
        "create constraint trigger talk after insert on kept deferrable initially deferred"
        " for each row execute function talk()",
    )
    with psycopg.connect(target, autocommit=True) as live:
        live.execute("begin")
        assert "COMMIT" == session.commit(live, [("insert into kept values (1)", None)])
        live.execute("do $$ begin raise warning 'nor this'; end $$")
    assert ["COMMIT: beware. "] == [record.getMessage() for record in caplog.records]


def test_a_transaction_on_a_session_that_ends_says_why(target):
    """Not that it could not be rolled back."""
    database = adapters.database(opener_of(target, role="target"), application="mapper test")
    with (
        pytest.raises(psycopg.errors.AdminShutdown, match="administrator command"),
        database.open_writer() as writer,
        writer.begin() as transaction,
    ):
        transaction.execute(ENDS)


def test_what_waits_behind_a_savepoint_is_taken_back_with_it(target):
    """It is not run: the transaction goes on."""
    database = adapters.database(opener_of(target, role="target"), application="mapper test")
    with database.open_writer() as writer:
        with writer.begin() as transaction:
            transaction.execute("create table kept (id int)")
            with suppress(ValueError), transaction.savepoint():
                transaction.execute_later("select 1 / 0")
                raise ValueError
            transaction.execute_later("insert into kept values (1)")
        with writer.begin() as transaction:
            assert [(1,)] == transaction.execute("select id from kept")


class EndedError(BaseException):
    """What only its own program knows."""


class LateError(Exception):
    """As an alarm clock's."""


def test_what_ends_a_message_before_it_has_been_sent_is_told_alone(source, caplog):
    """It is no statement's: not the error of one that has been said by then."""

    def say_the_first(live):
        told: list[saying.Said] = []
        with saying.in_one_message(live, told):
            saying.say(live, told, "select 1 / 0")
            raise EndedError

    with psycopg.connect(source, autocommit=True) as live:
        with pytest.raises(EndedError):
            say_the_first(live)
        assert [(1,)] == live.execute("select 1").fetchall()
    assert not caplog.records


@contextmanager
def a_signal(raised):
    """In a moment the program gets a signal, whose handler raises that."""

    def handler(*_):
        raise raised

    before, main = signal.signal(signal.SIGUSR1, handler), threading.get_ident()
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("libpq", ["in one message", "one by one"])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, EndedError, LateError])
def test_what_a_signals_handler_raises_is_told(source, caplog, monkeypatch, raised, libpq):
    """And nothing else: a load would try again after an error of psycopg's. The session goes on."""
    if libpq == "one by one":
        monkeypatch.setattr(capabilities, "has_pipeline", lambda: False)

    with psycopg.connect(source, autocommit=True) as live:
        with pytest.raises(raised), a_signal(raised):
            saying.run_together(
                live, ("begin", None), ("select pg_sleep(100)", None), ("select 1", None)
            )
        session.end_statement(live)
        live.execute("rollback")
        assert [(1,)] == live.execute("select 1").fetchall()
    assert not caplog.records


def test_a_message_that_was_not_sent_to_its_end_leaves_the_connection_in_order(source):
    """A signal may come at any moment: the server answers nothing before it is asked to."""
    with psycopg.connect(source, autocommit=True) as live:
        with suppress(EndedError), saying.left_ready(live):
            live.pgconn.enter_pipeline_mode()
            live.pgconn.send_query_params(b"select 2", None)
            raise EndedError
        assert [(1,)] == live.execute("select 1").fetchall()


def test_a_transaction_that_a_signal_ends_makes_room_for_the_next(target):
    """On the same connection: its statement is ended, and what it did is taken back."""

    def make_and_sleep(writer):
        with writer.begin() as transaction:
            transaction.execute("create table kept (id int)")
            transaction.execute("select pg_sleep(20)")

    database = adapters.database(opener_of(target, role="target"), application="mapper test")
    with database.open_writer() as writer:
        with pytest.raises(EndedError), a_signal(EndedError):
            make_and_sleep(writer)
        with writer.begin() as transaction:
            assert [(None,)] == transaction.execute("select to_regclass('kept')")
