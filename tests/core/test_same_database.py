"""INSERT ... SELECT inside one database: every row of the snapshot once, whatever happens."""

import random
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg
import pytest

from mapper_core import LoadWindow, QueryError, RetryConfig, RetryHandler, adapters, plan
from mapper_core.connections import opener_of
from mapper_core.ledger import Ledger

from ..proxy import Proxy
from ..waiting import assert_nothing_left, backends, wait_until
from . import loading
from .running import (
    PATIENT,
    PAUSE,
    Background,
    asked,
    at_the_gate,
    gate,
    load,
    multiset,
    refusal,
    terminate,
)

ROWS = 3_000
ORDERS = "select * from orders"
COPIES = "select * from copies"
# Not in the key: a range of it would call the function for every row.
PAUSED = "select id, note, version + 0 * pause(id, 1200) as version, at from orders"
SLOW = "select id, note, version + 0 * slow(id) as version, at from orders order by id"
HOLDER = "query like 'select pg_export_snapshot%'"
DAY = LoadWindow("at", datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2024-01-02"))
STAGED = {"load_mode": "replace_window", "window": DAY}


@pytest.fixture
def orders(source, run):
    """3,000 orders, and an empty table of the same shape in the same database."""
    table = "create table {} (id int, note text, version int not null, at timestamp)"
    run(
        source,
        table.format("orders"),
        "insert into orders select i, repeat('n', 60) || i, 1, '2024-01-01'"
        f" from generate_series(1, {ROWS}) i",
        "create unique index on orders (id)",
        "analyze orders",
        table.format("copies"),
        PAUSE,
    )
    yield
    assert_nothing_left(source)


def copy(url, sql=f"{ORDERS} order by id", *, target=None, **options):
    return load(url, sql, target or url, "copies", **options)


WAYS: dict[str, Any] = {
    "by key": (f"{ORDERS} order by id", 6),
    "by blocks": (ORDERS, 6),
    "in one statement": (f"{ORDERS} order by id limit 2000", 1),
    "by NULL keys too": ("select nullif(id % 9, 0) as id, note, version, at from orders", 2),
    "with values": (f"{ORDERS} where note <> '%(x)s :y %' order by id", 6),
}


@pytest.mark.parametrize("staged", [False, True], ids=["append", "staged"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_inserted_inside_the_server(orders, source, run, way, staged):
    """As many chunks as the query allows; no row reaches Python."""
    query, least = WAYS[way]
    options = {"chunk_key": "id"} if "NULL" in way else {}
    run(source, "insert into copies values (0, 'old', 0, '2024-01-01')")

    result = copy(source, query, **(STAGED if staged else {}), **options)

    assert ("succeeded", "same_database") == (result.status, result.strategy)
    assert "insert select" == result.data_path
    assert result.chunks_total >= least
    assert multiset(source, query) == multiset(source, f"{COPIES} where id is distinct from 0")
    assert [(0 if staged else 1,)] == run(source, "select count(*) from copies where id = 0")


REFUSED: dict[str, Any] = {
    "before trigger": (
        [
            "create function keep() returns trigger language plpgsql as 'begin return new; end'",
            "create trigger meddle before insert on copies for each row execute function keep()",
        ],
        "trigger meddle of the target",
    ),
    "trigger of a partition": (
        [
            "create function keep() returns trigger language plpgsql as 'begin return new; end'",
            "drop table copies",
            "create table copies (id int, note text, version int, at timestamp)"
            " partition by range (id)",
            "create table part partition of copies default",
            "create trigger meddle before insert on part for each row execute function keep()",
        ],
        "trigger meddle of the target",
    ),
    "rule": (
        ["create rule meddle as on insert to copies do also select 1"],
        "rule meddle of the target",
    ),
    "type": (
        ["alter table copies alter version type bigint"],
        "version is integer in the query and bigint",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_target_that_may_change_rows_on_their_way_is_refused(orders, source, run, what):
    """Then how many rows went in says nothing of how many came; they go through Python instead."""
    made, words = REFUSED[what]
    run(source, *made)
    options = {"target_conn": source, "target_table": "copies", "min_rows_for_parallel": 0}

    with pytest.raises(QueryError, match=f"strategy='same_database' is not possible: .*{words}"):
        plan(source, ORDERS, strategy="same_database", **options)

    result = copy(source)
    assert ("succeeded", "key") == (result.status, result.strategy)
    assert words in refusal(plan(source, ORDERS, **options), "same_database")
    assert multiset(source, ORDERS) == multiset(source, COPIES)


def test_a_trigger_that_is_disabled_changes_no_row(orders, source, run):
    """So it is no reason to have the rows leave the server."""
    made, _ = REFUSED["before trigger"]
    run(source, *made, "alter table copies disable trigger meddle")

    result = copy(source)

    assert ("succeeded", "same_database") == (result.status, result.strategy)
    assert multiset(source, ORDERS) == multiset(source, COPIES)


ELSEWHERE = {
    "search path": ("&options=-csearch_path%3Dpublic,extra", "tables in different schemas"),
    "time zone": ("&options=-ctimezone%3DAsia/Tokyo", "different time zones"),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_sessions_that_read_sql_otherwise_are_refused(orders, source, run, what):
    """The query would mean other rows, or other values, in the session that writes."""
    more, words = ELSEWHERE[what]
    run(source, "create schema extra")

    decided = plan(source, ORDERS, target_conn=source + more, target_table="copies")

    assert words in refusal(decided, "same_database")


def test_another_database_is_refused(orders, source, target, run):
    """Even on the same server."""
    run(target, "create table copies (id int, note text, version int, at timestamp)")

    decided = plan(source, ORDERS, target_conn=target, target_table="copies")

    assert "source and target are different databases" == refusal(decided, "same_database")


def test_another_user_is_refused(orders, source, run):
    """Who writes may lack the right to read, or be shown other rows."""
    run(
        source,
        "drop role if exists loader",
        "create role loader login",
        "grant insert, select on copies to loader",
        f"grant create on database {source.split('/')[3].split('?')[0]} to loader",
    )
    loader = source.replace("postgres@", "loader@")
    try:
        decided = plan(source, ORDERS, target_conn=loader, target_table="copies")
        result = copy(source, target=loader)
    finally:
        run(source, "drop owned by loader cascade", "drop role loader")

    assert "source and target have different users" == refusal(decided, "same_database")
    assert ("succeeded", "key") == (result.status, result.strategy)
    assert multiset(source, ORDERS) == multiset(source, COPIES)


@pytest.mark.parametrize("victims", ["writer", "asker", "all but the holder"])
def test_backends_killed_in_mid_insert_leave_no_row_behind(orders, source, victims):
    """The next attempt joins the same snapshot and writes the chunk once."""
    sent = multiset(source, ORDERS)
    with gate(source):
        running = Background(copy, source, PAUSED, max_workers=1, strategy="same_database")
        writer = at_the_gate(source)
        others = backends(source, extra=f"not {HOLDER}")
        killed = {"writer": writer, "asker": [p for p in others if p not in writer]}
        terminate(source, killed.get(victims, others))
    result = running.result()

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert sent == multiset(source, COPIES)
    if victims != "asker":
        assert 1 == sum(chunk.attempts > 1 for chunk in result.chunk_results)


def test_a_backend_killed_in_mid_planning_is_no_reason_to_send_rows_elsewhere(orders, source, run):
    """Whether the target can run the query is asked once more."""
    run(
        source,
        # Immutable, so that planning calls it.
        "create function planned(i int) returns int language plpgsql immutable as $$ begin"
        " if current_query() like 'explain (verbose)%' then"
        "   perform pg_advisory_xact_lock_shared(42); end if;"
        " return i; end $$",
    )
    query = f"{ORDERS} where version = planned(1) order by id"
    with gate(source):
        running = Background(copy, source, query)
        terminate(source, at_the_gate(source))
    result = running.result()

    assert ("succeeded", "same_database") == (result.status, result.strategy)
    assert multiset(source, ORDERS) == multiset(source, COPIES)


@pytest.mark.parametrize("lost", ["reply", "request"])
@pytest.mark.parametrize("options", [{}, STAGED], ids=["append", "staged"])
def test_a_lost_commit_never_inserts_a_chunk_twice(orders, source, lost, options):
    """Claiming again, on a transaction that cannot see the first, tells all the same."""
    with Proxy(source, lose_commit=lambda n: lost if n % 2 == 0 else None) as proxy:
        result = copy(source, target=proxy.url, chunk_size=250, **options)

    assert proxy.cuts > 3
    assert ("succeeded", "same_database") == (result.status, result.strategy)
    assert ROWS == result.total_rows_successful == result.total_rows_processed
    assert multiset(source, ORDERS) == multiset(source, COPIES)


def test_a_chunk_whose_only_commit_got_no_reply_is_not_called_failed(orders, source):
    """It is asked for once more, by a session that sees what has been committed."""
    with Proxy(source, lose_commit=lambda _: "reply") as proxy:
        result = copy(source, target=proxy.url, enable_retry=False)

    assert proxy.cuts == result.chunks_succeeded == result.chunks_total
    assert multiset(source, ORDERS) == multiset(source, COPIES)


def test_processes_that_run_one_load_at_once_insert_it_once(orders, source, run):
    """The one that planned or took it over last goes on; the others stop, in words."""
    run(
        source,
        "create function slow(i int) returns int language plpgsql stable as $$ begin"
        " if i % 50 = 0 and current_query() like 'insert%' then perform pg_sleep(0.005); end if;"
        " return i; end $$",
    )
    keywords = {
        "source_conn": source,
        "source_sql": SLOW,
        "target_conn": source,
        "target_table": "copies",
        "load_id": "shared",
        "chunk_size": 250,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
    }
    started = [loading.start(**keywords) for _ in range(2)]
    results = [loading.result_of(process) for process in started]

    assert not [result["raised"] for result in results if "raised" in result]
    assert "succeeded" in {result["status"] for result in results}
    for result in results:
        assert all("taken over" in e or "published by" in e for e in result["errors"]), result
    assert [("insert select",)] == run(source, "select plan::json ->> 'data_path' from mapper.load")
    assert multiset(source, ORDERS) == multiset(source, COPIES)


def test_a_load_is_not_taken_over_from_under_an_open_transaction(orders, source, run):
    """The younger waits for the elder's chunk, which counts; what that begins later does not."""
    sql = f"{PAUSED} order by id"
    with gate(source):
        elder = Background(copy, source, sql, load_id="nightly", max_workers=1)
        at_the_gate(source)
        younger = Background(copy, source, sql, load_id="nightly", max_workers=1)
        wait_until(
            lambda: backends(source, extra="wait_event = 'advisory' and query ~ 'xact_lock.hash'"),
            "the younger to wait",
        )
        assert [(0,)] == run(source, "select epoch from mapper.load")
    elder, younger = elder.result(), younger.result()

    assert ("partial", "succeeded") == (elder.status, younger.status)
    assert all("StaleLoadError" in error["error"] for error in elder.chunk_errors)
    assert elder.chunks_succeeded == younger.chunks_skipped == 3
    assert multiset(source, ORDERS) == multiset(source, COPIES)


def test_a_killed_process_is_continued_under_its_load_id(orders, source, run):
    """The dead process's statement ends without a commit; its chunk is written again."""
    keywords = {
        "source_conn": source,
        "source_sql": f"{PAUSED} order by id",
        "target_conn": source,
        "target_table": "copies",
        "load_id": "again",
        "chunk_size": 250,
        "max_workers": 1,
        "min_rows_for_parallel": 0,
    }
    with gate(source):
        process = loading.start(**keywords)
        at_the_gate(source)
        loading.kill(process)
    result = loading.result_of(loading.start(**keywords))

    assert "succeeded" == result["status"]
    assert 4 <= result["skipped"] <= 5
    assert multiset(source, ORDERS) == multiset(source, COPIES)


def test_failed_chunks_are_named_counted_and_continued(orders, source, run):
    """Their rows are counted at the snapshot; under its load id the rest follows."""
    run(source, "alter table copies add constraint broken check (id not between 501 and 1500)")
    first = copy(source, load_id="nightly")
    run(source, "alter table copies drop constraint broken")
    second = copy(source, load_id="nightly")

    assert ("partial", 4, 2) == (first.status, first.chunks_succeeded, first.chunks_failed)
    assert (ROWS, 2000, 1000) == (
        first.total_rows_processed,
        first.total_rows_successful,
        first.total_rows_failed,
    )
    assert all("violates check constraint" in error["error"] for error in first.chunk_errors)
    assert ("succeeded", 2, 4) == (
        second.status,
        second.chunks_succeeded,
        second.chunks_skipped,
    )
    assert multiset(source, ORDERS) == multiset(source, COPIES)


def test_a_named_append_is_cut_by_key_also_when_asked_for(orders, source):
    """So that it can be continued after rows have moved; a chunk_key given is meant, too."""
    options = {
        "target_conn": source,
        "target_table": "copies",
        "strategy": "same_database",
        "chunk_size": 500,
    }

    assert ("id",) == plan(source, ORDERS, load_id="nightly", **options).chunk_key
    assert ("id",) == plan(source, ORDERS, chunk_key="id", **options).chunk_key


def test_a_query_over_its_own_target_sees_none_of_its_own_rows(orders, source):
    """Chunks that commit one after the other all read what was there at first."""
    twice = "select id + 10000 as id, note, version, at from orders"
    sent = multiset(source, f"{ORDERS} union all ({twice})")

    result = load(source, twice, source, "orders")

    assert ("succeeded", "same_database") == (result.status, result.strategy)
    assert result.chunks_total > 3
    assert ROWS == result.total_rows_successful
    assert sent == multiset(source, ORDERS)


@pytest.mark.parametrize("options", [{}, STAGED], ids=["append", "staged"])
def test_what_is_inserted_is_the_snapshot_whatever_changes_meanwhile(orders, source, run, options):
    """Updated, deleted and late rows are not those of the read point."""
    sent = multiset(source, ORDERS)
    with gate(source):
        running = Background(copy, source, f"{PAUSED} order by id", max_workers=1, **options)
        at_the_gate(source)
        run(
            source,
            "update orders set version = 2",
            "delete from orders where id % 3 = 0",
            "insert into orders values (9000, 'late', 2, '2024-01-01')",
            "vacuum orders",
        )
    result = running.result()

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert sent == multiset(source, COPIES)


def test_without_its_holder_no_further_chunk_is_inserted(orders, source, run):
    """Each chunk joins the snapshot anew: what is left is named, nothing comes from elsewhere."""
    with gate(source):
        running = Background(copy, source, f"{PAUSED} order by id", max_workers=1)
        at_the_gate(source)
        terminate(source, backends(source, extra=HOLDER))
        run(source, "update orders set version = 2")
    result = running.result()

    assert ("partial", 3, 3) == (result.status, result.chunks_succeeded, result.chunks_failed)
    assert all("SnapshotLostError" in error["error"] for error in result.chunk_errors)
    assert 1500 == result.total_rows_successful
    assert [(1500, 1500, 1)] == run(source, "select count(*), max(id), max(version) from copies")


def test_a_row_changed_since_the_snapshot_fails_a_chunk_after_bounded_attempts(orders, source, run):
    """On the same snapshot trying again cannot help for ever; the chunk is named and counted."""
    run(
        source,
        "create table seen (n int)",
        "insert into seen values (0)",
        "create function note() returns trigger language plpgsql as"
        " 'begin update seen set n = n + 1; return null; end'",
        "create trigger note after insert on copies for each statement execute function note()",
    )
    twice_more = RetryHandler(RetryConfig(max_retries=2, initial_delay=0, max_delay=0))

    result = copy(source, max_workers=1, retry_handler=twice_more)

    assert ("partial", 1, 5) == (result.status, result.chunks_succeeded, result.chunks_failed)
    assert {3} == {error["attempts"] for error in result.chunk_errors}
    assert all("could not serialize access" in error["error"] for error in result.chunk_errors)
    assert (ROWS, 500) == (result.total_rows_processed, result.total_rows_successful)
    assert [(500, 500)] == run(source, "select count(*), max(id) from copies")


def test_whoever_asks_hears_that_a_chunk_is_being_inserted(orders, source):
    """Else the holder of a snapshot would take a load for abandoned in the middle of a long one."""
    database = adapters.database(
        opener_of(source, role="target_conn"), application="mapper asks", time_zone=None
    )
    ledger = Ledger(database, "mapper")

    def active():
        with database.open_writer() as writer, writer.begin() as transaction:
            return ledger.is_active(transaction, "nightly")

    with gate(source):
        running = Background(copy, source, f"{PAUSED} order by id", load_id="nightly")
        at_the_gate(source)
        assert active()
    running.result()
    assert not active()


@pytest.mark.parametrize("seed", range(2))
def test_backends_killed_at_random_under_a_changing_source_end_with_the_snapshots_rows(
    orders, source, run, seed
):
    """Writers and askers die all along, the source changes all along."""
    dice = random.Random(seed)
    run(
        source,
        "create function slow(i int) returns int language plpgsql stable as $$ begin"
        " if i % 50 = 0 and current_query() like 'insert%' then perform pg_sleep(0.005); end if;"
        " return i; end $$",
    )
    sent = multiset(source, ORDERS)
    sql = SLOW
    running = Background(copy, source, sql, chunk_size=250, load_id="storm", retry_handler=PATIENT)
    wait_until(lambda: asked(source, "select 1 from mapper.load"), "a plan")
    killed = number = 0
    with closing(psycopg.connect(source, autocommit=True)) as writing:
        while running.is_alive():
            number += 1
            writing.execute("update orders set version = version + 1 where id %% 7 = %s", (number,))
            writing.execute("delete from orders where id = %s", (dice.randrange(ROWS),))
            victims = backends(source, extra=f"not {HOLDER} and state <> 'idle'")
            if victims and killed < 8:
                terminate(source, [dice.choice(victims)])
                killed += 1
    result = running.result()

    assert killed
    assert ("succeeded", "same_database") == (result.status, result.strategy), result
    assert ROWS == result.total_rows_successful
    assert sent == multiset(source, COPIES)


def test_a_query_that_reads_a_setting_of_its_session_is_not_moved_to_another(orders, source, run):
    """What the source's sessions were set up with, the target's were not."""

    def connect():
        connection = psycopg.connect(source)
        connection.execute("set app.least = '2900'")
        connection.commit()
        return connection

    sql = f"{ORDERS} where id > coalesce(current_setting('app.least', true), '0')::int"
    result = load(connect, sql, source, "copies")

    assert "same_database" != result.strategy
    assert [(100, 2901)] == run(source, "select count(*), min(id) from copies")
