"""Rows that the target refuses: set apart, counted, kept with why; the others are loaded."""

import threading
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from mapper_core import (
    DatabaseUnavailableError,
    LedgerError,
    ParallelProcessor,
    RejectLimitError,
    RetryConfig,
    RetryHandler,
    SettingsError,
    execute_query_parallel,
    list_rejects,
)

from ..proxy import Proxy
from ..waiting import assert_nothing_left, backends, wait_until
from .running import PATIENT, PAUSE, Background, asked, at_the_gate, gate, terminate

ROWS = 3_000
BAD = {7, 8, 700, 1500, 2999}


@pytest.fixture
def orders(source, target, run):
    """3,000 orders, of which five have an amount that the target refuses."""
    run(
        source,
        "create table orders (id int primary key, note text, amount numeric)",
        "insert into orders select i, E'tab\\t back\\\\slash\\nline ' || i, i"
        f" from generate_series(1, {ROWS}) i",
        f"update orders set amount = -1 where id in ({', '.join(map(str, BAD))})",
    )
    run(target, "create table orders (id int, note text, amount numeric check (amount > 0))")
    yield
    assert_nothing_left(source, target)


def load(source, target, sql="select * from orders order by id", **options):
    options = {"chunk_size": 500, "max_workers": 2, "reject_limit": 10, **options}
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_table="orders",
        min_rows_for_parallel=0,
        enable_progress=False,
        **options,
    )


def good(rows=ROWS):
    return [(rows - len(BAD),)]


COUNT = "select count(*) from orders"


@pytest.mark.parametrize("strategy", ["key", "physical", "stream_once", "one_pass", "offset"])
@pytest.mark.parametrize("path", ["binary copy", "text copy", "rows"])
def test_refused_rows_are_set_apart_and_the_others_loaded(
    orders, source, target, run, strategy, path
):
    """On every path and however chunks are cut; each is listed with its values and why."""
    options = {}
    if path == "text copy":
        run(target, "alter table orders alter id type bigint")
    if path == "rows":
        options["transformation_func"] = lambda rows: rows

    result = load(source, target, strategy=strategy, **options)

    assert "succeeded" == result.status, result.chunk_errors
    assert (ROWS, ROWS - len(BAD), len(BAD), len(BAD)) == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
        result.rows_rejected,
    )
    assert good() == run(target, COUNT)
    rejected = list_rejects(target, result.load_id)
    assert {str(number) for number in BAD} == {str(reject.row["id"]) for reject in rejected}
    seven = next(reject for reject in rejected if str(reject.row["id"]) == "7")
    assert "tab\t back\\slash\nline 7" == seven.row["note"]
    assert -1 == Decimal(seven.row["amount"])
    assert ("23514", True) == (seven.code, "orders_amount_check" in seven.error)
    assert {reject.load_id for reject in rejected} == {result.load_id}


def test_without_a_limit_given_a_refused_row_fails_its_chunk(orders, source, target, run):
    """The default: nothing is left out unless that is asked for."""
    result = load(source, target, reject_limit=0)

    assert ("partial", 4) == (result.status, result.chunks_failed)
    assert [] == list_rejects(target, result.load_id)


@pytest.mark.parametrize("workers", [1, 3])
def test_one_row_over_the_limit_fails_its_chunk(orders, source, target, run, workers):
    """Counted over all workers; what is in and what is listed are of the chunks that are in."""
    result = load(source, target, reject_limit=2, max_workers=workers)

    assert result.chunks_failed
    assert all("more than 2 rows were refused" in e["error"] for e in result.chunk_errors)
    assert all("The last one: " in e["error"] for e in result.chunk_errors)
    assert result.total_rows_processed == ROWS
    assert [(result.total_rows_successful,)] == run(target, COUNT)
    listed = list_rejects(target, result.load_id)
    assert result.rows_rejected == len(listed) <= 2
    assert RejectLimitError.__name__ in result.chunk_errors[0]["error"]


def test_a_continued_load_counts_the_rows_refused_before(orders, source, target, run):
    """The limit is the load's, not the call's."""
    load(source, target, reject_limit=3, load_id="again", max_workers=1)
    refused = len(list_rejects(target, "again"))
    again = load(source, target, reject_limit=3, load_id="again", max_workers=1)

    assert again.chunks_failed
    assert refused == len(list_rejects(target, "again"))

    last = load(source, target, reject_limit=None, load_id="again")

    assert "succeeded" == last.status
    assert len(BAD) == len(list_rejects(target, "again"))
    assert good() == run(target, COUNT)


def test_every_row_may_be_refused(orders, source, target, run):
    """No limit is no limit, and each row is listed once."""
    run(target, "alter table orders add check (id < 0)")

    result = load(source, target, "select * from orders where id <= 300", reject_limit=None)

    assert ("succeeded", 300, 0) == (
        result.status,
        result.rows_rejected,
        result.total_rows_successful,
    )
    assert 300 == len({reject.row["id"] for reject in list_rejects(target, result.load_id)})


@pytest.mark.parametrize(
    ("ddl", "code"),
    [
        ("alter table orders add unique (note)", "23505"),
        ("alter table orders add unique (note) deferrable initially deferred", "23505"),
        (
            "create table notes (note text primary key);"
            " insert into notes select 'fine' || i from generate_series(1, 100) i;"
            " alter table orders add foreign key (note) references notes deferrable"
            " initially deferred",
            "23503",
        ),
        (
            "create function no() returns trigger language plpgsql as $$ begin"
            " if new.note like 'twice%' then raise exception 'no';end if;return new;end $$;"
            " create trigger no before insert on orders for each row execute function no()",
            "P0001",
        ),
    ],
    ids=["unique", "deferred-unique", "deferred-foreign-key", "trigger"],
)
def test_rows_are_refused_for_what_they_are_among_others(source, target, run, ddl, code):
    """Keys, references and triggers, also those that are checked at the end of a transaction."""
    table = "create table orders (id int, note text)"
    run(source, table, "insert into orders select i, 'fine' || i from generate_series(1, 100) i")
    run(source, "insert into orders values (101, 'twice'), (102, 'twice'), (103, 'twice')")
    run(target, table, *ddl.split("; "))

    result = load(source, target, "select * from orders", chunk_size=40, chunk_key="id")

    assert "succeeded" == result.status, result.chunk_errors
    expected = 2 if code == "23505" else 3
    assert (expected, [(103 - expected,)]) == (result.rows_rejected, run(target, COUNT))
    assert {code} == {reject.code for reject in list_rejects(target, result.load_id)}


def test_a_staged_load_refuses_rows_before_it_is_published(orders, source, target, run):
    """What the target asks of a row by itself, its stage asks too."""
    run(target, "alter table orders alter note set not null")
    run(source, "update orders set note = null where id = 5")

    result = load(source, target, load_mode="replace")

    assert ("succeeded", True, len(BAD) + 1) == (
        result.status,
        result.published,
        result.rows_rejected,
    )
    assert [(ROWS - len(BAD) - 1,)] == run(target, COUNT)
    again = load(source, target, load_mode="replace")
    assert [(ROWS - len(BAD) - 1,)] == run(target, COUNT)
    assert again.rows_rejected == len(BAD) + 1


@pytest.mark.parametrize("scope", ["chunk", "batch"])
def test_a_row_that_the_transform_raises_on_is_refused_too(orders, source, target, run, scope):
    """Under the same limit, whole as the query gave it."""

    def doubled(rows):
        return [{**row, "amount": 2 * checked(row)} for row in rows]

    def checked(row):
        if row["id"] in {3, 1999}:
            raise ValueError(f"odd {row['id']}")
        return row["amount"]

    result = load(source, target, transformation_func=doubled, transform_scope=scope)

    assert ("succeeded", len(BAD) + 2) == (result.status, result.rows_rejected)
    told = {
        reject.error.partition(" (raised in")[0]
        for reject in list_rejects(target, result.load_id)
        if reject.code == "transform"
    }
    assert {"ValueError: odd 3", "ValueError: odd 1999"} == told
    assert [(ROWS - len(BAD) - 2,)] == run(target, COUNT)


def test_an_error_of_the_query_is_not_a_refused_row(orders, source, target, run):
    """Dividing by zero in the source is no fault of a row's: its chunk is not read once more."""
    sql = "select id, note, 1 / (id - 700) + 5.0 as amount from orders order by id"

    with Proxy(source) as proxy:
        result = load(proxy.url, target, sql, reject_limit=None)

    assert proxy.copies == result.chunks_total
    assert "division by zero" in result.chunk_errors[0]["error"]
    assert 1 == result.chunks_failed


def test_refused_rows_are_kept_with_their_chunk_or_not_at_all(orders, source, target, run):
    """Backends die while rows are being set apart: no row is listed twice, none is lost."""
    stop = threading.Event()

    def storm():
        with psycopg.connect(target, autocommit=True) as killer:
            while not stop.wait(0.05):
                killer.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where pid in (select"
                    " pid from pg_stat_activity where datname = current_database() and state ="
                    " 'active' and application_name like 'mapper%' limit 1)"
                )

    killing = threading.Thread(target=storm)
    killing.start()
    try:
        patient = RetryHandler(RetryConfig(max_retries=50, initial_delay=0.05, max_delay=0.1))
        result = load(source, target, retry_handler=patient, reject_limit=None)
    finally:
        stop.set()
        killing.join()

    assert "succeeded" == result.status, result.chunk_errors
    assert good() == run(target, COUNT)
    assert sorted(BAD) == sorted(int(r.row["id"]) for r in list_rejects(target, result.load_id))


def test_rows_refused_in_an_attempt_that_came_to_nothing_do_not_count(orders, source, target, run):
    """The chunk is tried again under the whole limit."""
    # Read last, behind the rows that are refused.
    run(source, "insert into orders values (5000, 'last', 1)")
    run(
        target,
        "create sequence tries",
        "create function fail_once() returns trigger language plpgsql as $$ begin"
        " if nextval('tries') = 1 then"
        "   raise exception 'busy' using errcode = 'serialization_failure'; end if;"
        " return new; end $$",
        "create trigger fail_once before insert on orders for each row when (new.id = 5000)"
        " execute function fail_once()",
    )
    patient = RetryHandler(RetryConfig(initial_delay=0.01))
    sql = "select * from orders where id <= 100 or id = 5000"

    result = load(source, target, sql, reject_limit=2, retry_handler=patient)

    assert ("succeeded", 2, 99) == (
        result.status,
        result.rows_rejected,
        result.total_rows_successful,
    ), result.chunk_errors
    assert [2] == [chunk.attempts for chunk in result.chunk_results]


def test_rows_refused_in_an_attempt_whose_commit_got_no_reply_do_count(orders, source, target, run):
    """They were forgotten with the attempt, until its chunk was found finished."""
    patient = RetryHandler(RetryConfig(max_retries=3, initial_delay=0.01))
    with Proxy(target, lose_commit=lambda _: "reply") as proxy:
        result = load(source, proxy.url, reject_limit=3, max_workers=1, retry_handler=patient)

    assert ("partial", 2) == (result.status, result.chunks_failed)
    assert all("more than 3 rows were refused" in e["error"] for e in result.chunk_errors)
    assert 3 == result.rows_rejected == len(list_rejects(target, result.load_id))
    assert [(result.total_rows_successful,)] == run(target, COUNT)


# Refused rows are among those before the gate.
PAUSED = (
    "select pause(id, 1200) as id, note, amount from (select * from orders order by id) as orders"
)
REFUSED = "select 1 from mapper.reject"


def test_a_stream_that_is_read_again_counts_its_refused_rows_once(orders, source, target, run):
    """Those of the pieces that were in already are forgotten with them."""
    run(source, PAUSE)
    options = {
        "strategy": "stream_once",
        "chunk_size": 100,
        "reject_limit": len(BAD),
        "retry_handler": PATIENT,
    }
    with gate(source):
        running = Background(load, source, target, PAUSED, **options)
        reading = at_the_gate(source)
        wait_until(lambda: asked(target, REFUSED), "rows to be refused")
        terminate(source, reading)
    result = running.result()

    assert ("succeeded", len(BAD)) == (result.status, result.rows_rejected), result.chunk_errors
    assert len(BAD) == len(list_rejects(target, result.load_id))
    assert good() == run(target, COUNT)


def test_a_stream_that_a_step_repeats_counts_its_refused_rows_once(orders, source, target, run):
    """At the same snapshot it is read anew, and so is what may be refused of it."""
    run(source, PAUSE)
    step = (source, PAUSED, "run/orders")
    options = {
        "target_conn": target,
        "target_table": "orders",
        "strategy": "stream_once",
        "chunk_size": 100,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
        "enable_progress": False,
        "reject_limit": len(BAD),
    }
    planned = ParallelProcessor().plan_load(*step, **options)
    with gate(source):
        stopped = ParallelProcessor().load_lane(
            *step, lane=0, lanes=1, should_stop=lambda: bool(asked(target, REFUSED)), **options
        )
    ParallelProcessor().load_lane(*step, lane=0, lanes=1, **options)
    result = ParallelProcessor().publish_load(*step, **options)

    assert ["unstarted"] == [chunk.status for chunk in stopped]
    assert ("succeeded", len(BAD)) == (result.status, result.rows_rejected), result.chunk_errors
    assert len(BAD) == len(list_rejects(target, planned.load_id))
    assert good() == run(target, COUNT)
    wait_until(lambda: not backends(source, "mapper snapshot of%"), "the holder to end")


def test_inside_one_database_rows_are_copied_to_be_told_apart(orders, source, run):
    """INSERT ... SELECT would fail as a whole."""
    run(source, "create table copies (like orders, check (amount > 0))")

    result = execute_query_parallel(
        source,
        "select * from orders",
        target_conn=source,
        target_table="copies",
        reject_limit=10,
        min_rows_for_parallel=0,
    )

    assert ("physical", len(BAD)) == (result.strategy, result.rows_rejected)


def test_a_checksum_of_all_rows_goes_not_with_leaving_some_out(orders, source, target):
    """A count does: refused rows are counted apart."""
    with pytest.raises(SettingsError, match="use verify='count'"):
        load(source, target, load_mode="replace", verify="checksum")

    assert "succeeded" == load(source, target, load_mode="replace", verify="count").status


def test_of_an_unknown_load_nobody_says_that_it_left_out_no_row(orders, source, target):
    """Its name may be misspelt. Before there is a ledger, and after."""
    with pytest.raises(LedgerError, match="the ledger has no load 'nightli'"):
        list_rejects(target, "nightli")
    load(source, target, load_id="nightly", reject_limit=None)
    with pytest.raises(LedgerError, match="the ledger has no load 'nightli'"):
        list_rejects(target, "nightli")
    assert list_rejects(target, "nightly")


def test_a_ledger_that_cannot_be_reached_may_be_asked_later(monkeypatch):
    """The error is of the kind that says so, as elsewhere."""
    monkeypatch.setenv("MAPPER_PARALLEL_MAX_RETRIES", "0")
    with pytest.raises(DatabaseUnavailableError, match="could not read the ledger"):
        list_rejects("postgresql://nobody@127.0.0.1:1/none", "nightly")


@pytest.mark.parametrize("limit", [-1, "many"])
def test_a_limit_that_makes_no_sense_is_refused(orders, source, target, limit):
    """In words."""
    with pytest.raises(SettingsError, match="reject_limit="):
        load(source, target, reject_limit=limit)


def test_no_limit_can_be_set_in_the_environment(orders, source, target, monkeypatch):
    """As the word none."""
    monkeypatch.setenv("MAPPER_REJECT_LIMIT", "None")
    options = {"target_conn": target, "target_table": "orders", "enable_progress": False}

    result = execute_query_parallel(source, "select * from orders", **options)

    assert len(BAD) == result.rows_rejected


FUNCTIONS: dict[str, dict[str, Any]] = {
    "rows": {"transformation_func": lambda rows: rows},
    "some columns": {"transformation_func": lambda rows: rows, "transform_columns": ["v"]},
    "batches": {"transform_batch": lambda batch: batch},
}
ELSEWHERE = {
    # What Python, or Arrow, has no value for.
    "a moment": ("timestamptz", "2024-01-01 00:00+00", "infinity"),
    "a day": ("date", "2024-01-01", "0044-03-15 BC"),
    "a time of day": ("time", "12:00:00", "24:00:00"),
}


@pytest.mark.parametrize("strategy", ["key", "stream_once", "one_pass"])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", ELSEWHERE)
def test_a_value_that_no_function_can_see_is_refused_with_its_row(
    source, target, run, value, function, strategy
):
    """Whatever the function is; the others are loaded, among them texts of several lines."""
    kind, usual, odd = ELSEWHERE[value]
    table = f"(id int, note text, v {kind})"
    run(
        source,
        f"create table orders {table}",
        "insert into orders select i, case i % 5 when 0 then E'a\\n\"b\",\\r\\n\\\\.\\n' || i"
        f" when 1 then '' end, '{usual}' from generate_series(1, {ROWS}) i",
        f"update orders set v = '{odd}' where id in (7, 8, 1500)",
    )
    run(target, f"create table orders {table}")
    options = {**FUNCTIONS[function], "strategy": strategy, "chunk_key": "id"}

    result = load(source, target, **options)

    assert ("succeeded", 3) == (result.status, result.rows_rejected), result.chunk_errors
    refused = list_rejects(target, result.load_id)
    assert [("7",), ("8",), ("1500",)] == [(reject.row["id"],) for reject in refused]
    assert [None, None, 'a\n"b",\r\n\\.\n1500'] == [reject.row["note"] for reject in refused]
    for reject in refused:
        assert "source value" == reject.code
        assert "SourceValueError: a value of column v has no equal in" in reject.error
        assert odd[:7] in reject.error
        assert "cast the column to text in the query" in reject.error
    asked = "select md5(string_agg(t::text, ',' order by id)) from orders t where id {}"
    assert run(source, asked.format("not in (7, 8, 1500)")) == run(target, asked.format("> 0"))


def test_a_check_of_whole_rows_fails_the_publishing(orders, source, target, run):
    """It is of the target's own row type, which no stage has; the other checks are the stage's."""
    run(target, "alter table orders add constraint complete check ((orders.*) is not null)")

    result = load(source, target, load_mode="replace")
    assert ("succeeded", len(BAD)) == (result.status, result.rows_rejected)
    assert good() == run(target, COUNT)

    run(source, "update orders set note = null where id = 5")
    result = load(source, target, load_mode="replace")
    assert "failed" == result.status
    assert '"complete"' in result.error
    assert good() == run(target, COUNT)
