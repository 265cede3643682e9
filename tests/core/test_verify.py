"""What was written is compared with the source before it is published; any two tables can be."""

import sqlite3
import threading
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg
import pytest

from mapper_core import (
    Comparison,
    DatabaseError,
    LoadWindow,
    ParallelProcessor,
    QueryError,
    SettingsError,
    SnapshotLostError,
    TargetError,
    Verification,
    VerificationError,
    execute_query_parallel,
    plan,
    verify,
)
from mapper_core.protocols import Checksum
from mapper_core.verification.comparison import NO_CHUNK, Difference, differences

from ..databases import name_of
from ..waiting import assert_nothing_left, wait_until

ROWS = 1_000
QUERY = "select * from orders order by id"
WINDOW = LoadWindow(
    "at", datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2024-01-02")
)
STAGED: dict[str, Any] = {"load_mode": "replace_window", "window": WINDOW}
PROCESSOR: dict[str, Any] = {
    "target_table": "orders",
    "chunk_size": 100,
    "min_rows_for_parallel": 0,
    "enable_progress": False,
}
STAGES = "select tablename from pg_tables where schemaname = 'mapper' and tablename ~ 'stage'"


def load(source, target, sql=QUERY, **options):
    options = {"chunk_size": 100, "max_workers": 2, **STAGED, **options}
    return execute_query_parallel(
        source,
        sql,
        target_conn=target,
        target_table="orders",
        min_rows_for_parallel=0,
        enable_progress=False,
        **options,
    )


@pytest.fixture
def orders(source, target, run):
    """1,000 orders of one day in ten chunks, and an empty table of the same shape."""
    table = "create table orders (id int, a text, b text, at timestamp not null)"
    run(
        source,
        table,
        "insert into orders select i, 'a' || i, 'b' || i, '2024-01-01'"
        f" from generate_series(1, {ROWS}) i",
        "create unique index on orders (id)",
        "create view moody as select * from orders where random() < 2",
        "analyze orders",
    )
    run(target, table, "insert into orders values (0, 'old', 'old', '2024-01-01')")
    yield
    assert_nothing_left(source, target)


OLD = [(1, 0)]
HELD = "select count(*), min(id) from orders"


class Meddler:
    """Changes the stage behind the load's back, once its last chunk is in."""

    def __init__(self, run, target, change):
        self._run, self._target, self._change = run, target, change
        self._lock = threading.Lock()
        self.done = False

    def __call__(self, progress):
        with self._lock:
            if progress.completed_chunks == progress.total_chunks and not self.done:
                self.done = True
                ((stage,),) = self._run(self._target, STAGES)
                self._run(self._target, *(c.format(stage=f"mapper.{stage}") for c in self._change))


CHANGES: dict[str, list[str]] = {
    "changed": ["update {stage} set a = 'other' where id = 250"],
    "one bit of case": ["update {stage} set a = 'A250' where id = 250"],
    "to nothing": ["update {stage} set a = '' where id = 250"],
    "to null": ["update {stage} set a = null where id = 250"],
    "swapped between columns": ["update {stage} set a = b, b = a where id = 250"],
    "swapped between rows": [
        "update {stage} set a = case id when 250 then 'a251' else 'a250' end where id in (250, 251)"
    ],
    "moved over the boundary of columns": [
        "update {stage} set a = a || 'b', b = '250' where id = 250"
    ],
    "deleted": ["delete from {stage} where id = 250"],
    "added": ["insert into {stage} select * from {stage} where id = 250"],
    "added twice": [
        "insert into {stage} select s.* from {stage} s, generate_series(1, 2) where id = 250"
    ],
    "one for another": [
        "delete from {stage} where id = 250",
        "insert into {stage} select * from {stage} where id = 251",
    ],
}
COUNTED = {
    "deleted": ("100 rows against 99", "the stage has 999 rows"),
    "added": ("100 rows against 101", "the stage has 1,001 rows"),
}


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("change", CHANGES)
def test_a_checksum_finds_what_was_changed_in_the_stage_and_names_its_chunk(
    source, target, run, change
):
    """Nothing is published, both numbers are told, the stage stays to be looked at."""
    meddler = Meddler(run, target, CHANGES[change])

    result = meddled(source, target, meddler, verify="checksum")

    assert meddler.done
    assert ("failed", False) == (result.status, result.published)
    assert "VerificationError" in result.error
    assert "; chunk 3: 100 rows (checksum " in result.error
    assert 1 == result.error.count("; chunk")
    assert "Run the load again" in result.error
    assert "it starts from its beginning" in result.error
    assert OLD == run(target, HELD)
    assert 1 == len(run(target, STAGES))


@pytest.mark.usefixtures("orders")
def test_a_stage_is_counted_also_where_nothing_is_compared(source, target, run):
    """The ledger knows how many rows the load's own workers wrote there."""
    result = meddled(source, target, Meddler(run, target, CHANGES["deleted"]), verify="none")

    assert ("failed", False) == (result.status, result.published)
    assert "holds 999 rows, but the ledger counts 1000: something else wrote to it" in result.error
    assert OLD == run(target, HELD)


@pytest.mark.usefixtures("orders")
def test_a_load_that_differed_can_be_repeated_by_its_id(source, target, run):
    """It begins anew, as every staged load does at another read point."""
    meddler = Meddler(run, target, CHANGES["changed"])
    meddled(source, target, meddler, verify="checksum", load_id="nightly")

    again = load(source, target, verify="checksum", load_id="nightly")

    assert ("succeeded", True) == (again.status, again.published)
    assert verify(source, "orders", target, "orders", method="checksum").equal


def meddled(source, target, meddler, **options):
    return execute_query_parallel(
        source,
        QUERY,
        target_conn=target,
        target_table="orders",
        min_rows_for_parallel=0,
        chunk_size=100,
        max_workers=2,
        progress_callback=meddler,
        **{**STAGED, **options},
    )


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("change", COUNTED)
def test_a_count_finds_rows_that_are_missing_or_too_many(source, target, run, change):
    """It is what a load mode that replaces does by default."""
    result = meddled(source, target, Meddler(run, target, CHANGES[change]))

    assert ("failed", False) == (result.status, result.published)
    chunk, whole = COUNTED[change]
    assert f"; chunk 3: {chunk}" in result.error
    assert f"the query has 1,000 rows, {whole}" in result.error
    assert "please report this" not in result.error
    assert OLD == run(target, HELD)


@pytest.mark.parametrize("method", ["count", "checksum"])
def test_comparing_leaves_the_targets_session_as_it_is(orders, source, target, run, method):
    """What its triggers write does not depend on how the load is verified."""
    run(
        target,
        "alter table orders add zone text",
        "create function sign() returns trigger language plpgsql as"
        " $$begin new.zone := current_setting('TimeZone'); return new; end$$",
        "create trigger sign before insert on orders for each row execute function sign()",
    )
    there = f"{source}&options=-ctimezone%3DAsia/Tokyo"
    here = f"{target}&options=-ctimezone%3DEurope/Paris"

    result = execute_query_parallel(
        there,
        "select * from orders",
        target_conn=here,
        target_table="orders",
        load_mode="replace",
        verify=method,
        enable_progress=False,
    )

    assert "succeeded" == result.status, result.error
    assert [("Europe/Paris",)] == run(target, "select distinct zone from orders")


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("method", ["count", "checksum"])
def test_rows_of_no_chunk_are_found_too(source, target, run, method):
    """Whoever wrote them, it was no worker."""
    change = ["insert into {stage} select id, a, b, at, null from {stage} where id = 250"]

    result = meddled(source, target, Meddler(run, target, change), verify=method)

    assert "; rows of no chunk: 0 rows" in result.error


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    ("method", "words"),
    [
        (None, "count: 1,000 rows on both sides"),
        ("count", "count: 1,000 rows on both sides"),
        ("checksum", "checksum: 1,000 rows on both sides, with the same values"),
        ("none", "none: as requested"),
    ],
)
def test_what_was_compared_is_in_the_result_and_in_the_ledger(source, target, run, method, words):
    """Checksums are kept with their chunks, and only where they were asked for."""
    result = load(source, target, verify=method, load_id="nightly")

    assert ("succeeded", words) == (result.status, result.verified)
    assert [(words,)] == run(target, "select verified from mapper.load")
    kept = run(
        target, "select count(*), count(checksum), count(distinct checksum) from mapper.claim"
    )
    assert [(10, 10, 10) if method == "checksum" else (10, 0, 0)] == kept
    # A repetition of a published load knows it as well.
    assert words == load(source, target, verify=method, load_id="nightly").verified


@pytest.mark.usefixtures("orders")
def test_a_plan_says_what_will_be_compared(source, target):
    """Append compares nothing unless it is told to."""
    options = {"target_conn": target, "target_table": "orders", "min_rows_for_parallel": 0}

    assert "verified   none: the default of append" in str(plan(source, QUERY, **options))
    assert "verified   count" in str(plan(source, QUERY, **options, verify="count"))
    staged = plan(source, QUERY, **options, **STAGED, verify="checksum")
    assert "verified   checksum" in str(staged)


@pytest.mark.usefixtures("orders")
def test_an_append_is_counted_where_it_is_asked_for(source, target):
    """The query's rows against those that its chunks have read."""
    result = load(source, target, load_mode="append", window=None, verify="count")

    assert ("succeeded", "count: 1,000 rows on both sides") == (result.status, result.verified)


@pytest.mark.usefixtures("orders")
def test_chunks_that_are_not_the_query_are_found(source, target, run):
    """The count is of the whole query, so a mistake in cutting it shows: here a chunk is lost."""
    processor = ParallelProcessor(**PROCESSOR, **STAGED, target_conn=target)
    processor.plan_load(source, QUERY, "group")
    run(target, "delete from mapper.chunk where chunk_id = 4")
    processor.load_lane(source, QUERY, "group", lane=0, lanes=1)

    words = (
        "the query has 1,000 rows, the stage has 900 rows.*the chunks overlap .* please report this"
    )
    with pytest.raises(VerificationError, match=words):
        processor.publish_load(source, QUERY, "group")

    assert OLD == run(target, HELD)
    finish(run, target, source)


def finish(run, target, *urls):
    """Let the process that holds the read point know that the load has ended."""
    run(target, "update mapper.load set status = 'published'")
    asked = "select 1 from pg_stat_activity where application_name ~ '^mapper snapshot'"
    wait_until(lambda: not any(run(url, asked) for url in urls), "the holder to end")


@pytest.mark.usefixtures("orders")
def test_a_chunk_that_the_ledger_counts_wrongly_is_named(source, target, run):
    """When the totals differ, each chunk is counted at the source."""
    processor = ParallelProcessor(**PROCESSOR, target_conn=target, verify="count")
    processor.plan_load(source, QUERY, "group")
    processor.load_lane(source, QUERY, "group", lane=0, lanes=1)
    run(target, "update mapper.claim set rows_read = 90 where chunk_id = 7")

    words = (
        "the query has 1,000 rows, what was read of it has 990 rows; chunk 7: 100 rows against 90"
        " rows. Its rows are already in the target: look at them"
    )
    with pytest.raises(VerificationError, match=words):
        processor.publish_load(source, QUERY, "group")

    finish(run, target, source)


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("method", ["count", "checksum"])
def test_steps_of_several_processes_verify_at_the_read_point(source, target, run, method):
    """A difference is raised; planned again, the load reads all its rows again."""
    processor = ParallelProcessor(**PROCESSOR, **STAGED, target_conn=target, verify=method)
    processor.plan_load(source, QUERY, "group")
    run(source, "delete from orders where id > 900")
    processor.load_lane(source, QUERY, "group", lane=0, lanes=1)
    ((stage,),) = run(target, STAGES)
    run(target, f"delete from mapper.{stage} where id = 250")

    with pytest.raises(VerificationError, match="; chunk 3: 100 rows"):
        processor.publish_load(source, QUERY, "group")
    assert OLD == run(target, HELD)
    noted = "select verified from mapper.load"
    assert "; chunk 3: 100 rows" in run(target, noted)[0][0]

    processor.plan_load(source, QUERY, "group")
    assert [(None,)] == run(target, noted)  # it was of rows that are read again
    processor.load_lane(source, QUERY, "group", lane=0, lanes=1)
    result = processor.publish_load(source, QUERY, "group")

    assert result.verified.startswith(f"{method}: 900 rows on both sides")
    assert result.verified == processor.publish_load(source, QUERY, "group").verified
    finish(run, target, source)


@pytest.mark.usefixtures("orders")
def test_an_append_that_went_on_at_another_read_point_is_not_counted(source, target):
    """There is no moment at which the source had all its rows."""
    wrong = [True]

    def picky(rows):
        if wrong[0] and rows[0]["id"] == 901:
            raise ValueError("not yet")
        return rows

    options = {"load_mode": "append", "window": None, "verify": "count", "load_id": "nightly"}
    first = load(source, target, transformation_func=picky, **options)
    wrong[0] = False
    second = load(source, target, transformation_func=picky, **options)

    assert ("partial", "succeeded") == (first.status, second.status)
    assert "none: the chunks were read at several read points" == second.verified


@pytest.mark.usefixtures("orders")
def test_a_stage_that_was_left_behind_ends_when_its_load_is_published_once_more(
    source, target, run
):
    """Where dropping a table is no part of the transaction, a run may end in between."""
    processor = ParallelProcessor(**PROCESSOR, **STAGED, target_conn=target)
    processor.plan_load(source, QUERY, "group")
    processor.load_lane(source, QUERY, "group", lane=0, lanes=1)
    ((stage,),) = run(target, STAGES)
    processor.publish_load(source, QUERY, "group")
    assert [] == run(target, STAGES)
    run(target, f"create table mapper.{stage} (id int)")

    assert processor.publish_load(source, QUERY, "group").published

    assert [] == run(target, STAGES)
    finish(run, target, source)


@pytest.mark.usefixtures("orders")
def test_a_load_whose_read_point_is_gone_is_published_unverified_only(source, target, run):
    """The words name the way out."""
    processor = ParallelProcessor(**PROCESSOR, **STAGED, target_conn=target)
    processor.plan_load(source, QUERY, "group")
    processor.load_lane(source, QUERY, "group", lane=0, lanes=1)
    holders = "from pg_stat_activity where application_name ~ '^mapper snapshot'"
    run(source, f"select pg_terminate_backend(pid) {holders}")
    wait_until(lambda: not run(source, f"select 1 {holders}"), "the holder to die")

    with pytest.raises(SnapshotLostError, match=r"is not published.*verify='none'"):
        processor.publish_load(source, QUERY, "group")
    assert OLD == run(target, HELD)

    result = processor.publish_load(source, QUERY, "group", verify="none")
    assert ("succeeded", "none: as requested") == (result.status, result.verified)
    assert [(ROWS, 1)] == run(target, HELD)


@pytest.mark.usefixtures("orders")
def test_a_transform_that_filters_is_no_difference(source, target, run):
    """Rows read are compared, not those that it returned."""
    result = load(
        source,
        target,
        transformation_func=lambda rows: [row for row in rows if row["id"] % 2] * 3,
    )

    assert ("succeeded", "count: 1,000 rows on both sides") == (result.status, result.verified)
    assert [(1_500,)] == run(target, "select count(*) from orders")


LEFT_OUT: dict[str, Any] = {
    "no snapshot": ({"snapshot": False}, QUERY, "the query cannot be run again"),
    "volatile": ({}, "select * from orders where random() < 2", "the query is not run twice"),
    "volatile in a view": ({}, "select * from moody", "the query is not run twice"),
    "unsplittable": ({}, "select * from orders limit 10", "the query is not run twice"),
    "one pass": ({"max_workers": 1}, "select * from orders limit 10", "it has LIMIT"),
}


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_query_that_cannot_be_run_again_is_not_counted_and_that_is_told(source, target, case):
    """By the plan and by the result; a checksum of it is refused."""
    options, sql, words = LEFT_OUT[case]

    result = load(source, target, sql, **options)

    assert "succeeded" == result.status
    assert result.verified.startswith("none: ")
    assert words in result.verified
    with pytest.raises(SettingsError, match="verify='checksum' cannot be done"):
        load(source, target, sql, **options, verify="checksum")


@pytest.mark.usefixtures("orders")
def test_a_stream_that_can_be_run_again_is_counted(source, target):
    """Its pieces together are the query."""
    result = load(source, target, strategy="stream_once", chunk_size=70)

    assert ("stream_once", "count: 1,000 rows on both sides") == (result.strategy, result.verified)


@pytest.mark.usefixtures("orders")
def test_a_stream_that_the_ledger_counts_wrongly_is_not_published(source, target, run):
    """Of its pieces none can be counted at the source: there is no chunk to name."""
    processor = ParallelProcessor(**PROCESSOR, **STAGED, target_conn=target, strategy="stream_once")
    processor.plan_load(source, QUERY, "group")
    processor.load_lane(source, QUERY, "group", lane=0, lanes=1)
    run(target, "update mapper.claim set rows_read = 90 where chunk_id = 7")

    words = "the query has 1,000 rows, the stage has 990 rows. Each chunk"
    with pytest.raises(VerificationError, match=words):
        processor.publish_load(source, QUERY, "group")

    assert OLD == run(target, HELD)
    finish(run, target, source)


REFUSED: dict[str, Any] = {
    "transform": ({"transformation_func": lambda rows: rows}, QUERY, "a transform returns"),
    "append": ({"load_mode": "append", "window": None}, QUERY, "publish='atomic'"),
    "stream": ({"strategy": "stream_once"}, QUERY, "streamed once"),
}


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("case", REFUSED)
def test_a_checksum_that_cannot_be_made_is_refused_before_rows_move(source, target, run, case):
    """With the reason, and what can be done instead."""
    options, sql, words = REFUSED[case]

    with pytest.raises(SettingsError, match=words):
        load(source, target, sql, **options, verify="checksum")

    assert OLD == run(target, HELD)
    assert [] == run(target, "select 1 from mapper.load")


@pytest.mark.usefixtures("orders")
def test_what_makes_no_sense_is_refused(source, target):
    """Before anything is opened."""
    with pytest.raises(SettingsError, match="verify='sum' is unknown"):
        load(source, target, verify="sum")
    with pytest.raises(SettingsError, match="no target is given"):
        execute_query_parallel(source, QUERY, verify="count")
    with pytest.raises(SettingsError, match="method='none' is unknown"):
        verify(source, "orders", target, "orders", method="none")
    with pytest.raises(QueryError, match="nothing to compare"):
        verify(source, " ", target, "orders")
    with pytest.raises(SettingsError, match="target is of type NoneType: give a table's name"):
        verify(source, "orders", target, None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="source is of type int: give a table's name"):
        verify(source, 5, target, "orders")  # type: ignore[arg-type]


# Below: types, with what is hard about each.

TYPES: dict[str, Any] = {
    "numeric": ("numeric", ["'NaN'", "'Infinity'", "'-Infinity'", "1.50", "1.5000", "0", "1e-30"]),
    "numeric(12,4)": ("numeric(12,4)", ["1.5", "'NaN'", "-0.0001"]),
    "double precision": (
        "double precision",
        ["'-0'", "0", "'NaN'", "'inf'", "0.1", "1e-310", "1e22"],
    ),
    "real": ("real", ["'-0'", "0.1", "16777217", "'-inf'", "1e10"]),
    "bigint": ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    "boolean": ("boolean", ["true", "false"]),
    "text": (
        "text",
        ["''", "' '", "'x'", "'\u00e4\u20ac\U0001f600'", "E'a\\tb\\n\\\\\"'", "'null'", "'NULL'"],
    ),
    "varchar(9)": ("varchar(9)", ["'a  '", "''"]),
    "character(5)": ("character(5)", ["'a'", "'a  '", "''"]),
    '"char"': ('"char"', ["'x'", "''"]),
    "name": ("name", ["'x'"]),
    "bytea": ("bytea", ["'\\x00ff5c'", "''"]),
    "date": ("date", ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'"]),
    "timestamp": (
        "timestamp",
        ["'infinity'", "'0044-03-15 12:00 BC'", "'2024-01-01 00:00:00.000001'"],
    ),
    "timestamptz": (
        "timestamptz",
        ["'-infinity'", "'2024-03-31 01:30:00+00'", "'1883-11-18 12:03:58-05'", "'0044-03-15 BC'"],
    ),
    "time": ("time", ["'24:00'", "'12:34:56.789'"]),
    "timetz": ("timetz", ["'12:00+05:30'", "'12:00Z'"]),
    "interval": ("interval", ["'1 year -2 mons 3 days -04:05:06.7'", "'-1 day +25:00'", "'0'"]),
    "uuid": ("uuid", ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    "json": ("json", ['\'{"a": 1, "a":  2}\'', "'null'", "'\"\"'"]),
    "jsonb": ("jsonb", ['\'{"b":1,"a":[1,null]}\'', "'null'", "'1.50'"]),
    "inet": ("inet", ["'10.0.0.1'", "'10.0.0.1/8'", "'::1'"]),
    "cidr": ("cidr", ["'10.0.0.0/8'"]),
    "macaddr": ("macaddr", ["'08:00:2b:01:02:03'"]),
    "bit(3)": ("bit(3)", ["b'101'"]),
    "varbit": ("varbit", ["b''", "b'1'"]),
    "money": ("money", ["'12.34'", "'-0.01'"]),
    "point": ("point", ["'(0.1,-0)'"]),
    "polygon": ("polygon", ["'((0,0),(1,1),(2,0))'"]),
    "tsvector": ("tsvector", ["'a:1A b:2'"]),
    "pg_lsn": ("pg_lsn", ["'16/B374D848'"]),
    "int[]": ("int[]", ["'{}'", "'{1,NULL}'", "'[2:3]={1,2}'", "'{{1,2},{3,4}}'"]),
    "text[]": ("text[]", ['\'{"",NULL,"NULL","a,b"}\'']),
    "timestamptz[]": ("timestamptz[]", ["'{2024-03-31 01:30:00+00,infinity}'"]),
    "numeric(6,2)[]": ("numeric(6,2)[]", ["'{1.5,2}'"]),
    "bytea[]": ("bytea[]", ["array['\\x00'::bytea]"]),
    "int4range": ("int4range", ["'empty'", "'[1,5)'", "'(,3]'"]),
    "tstzrange": ("tstzrange", ["'[2024-03-31 01:30:00+00,)'"]),
    "int4multirange": ("int4multirange", ["'{[1,2),[5,)}'"]),
    "enum": ("mood", ["'sad'", "'not so'"]),
    "domain": ("positive", ["1", "7"]),
    "composite": ("pair", ["row(1, null)", "row(null, null)", "row(2, 'a,\"b\"')", "row(3, '')"]),
    "composite of times": ("spell", ["row('2024-03-31 01:30:00+00')"]),
    "array of enums": ("mood[]", ["'{sad,NULL}'"]),
    "range of a user": ("floats", ["'[0.1,0.2]'"]),
}
MADE = (
    "create type mood as enum ('sad', 'not so')",
    "create domain positive as numeric(8,2) check (value > 0)",
    "create type pair as (n int, t text)",
    "create type spell as (since timestamptz)",
    "create type floats as range (subtype = float8)",
)


def fill(run, source, target, pairs):
    """A column for each (type, its type in the target, values), and an empty target.

    Each row has another value of each; one has NULLs, and each but that is there twice.
    """
    # In another order, so that the numbers of the users' types differ.
    run(target, "create type unrelated as (x int)", *reversed(MADE))
    ours = ", ".join(f"c{n} {kind}" for n, (kind, _, _) in enumerate(pairs))
    theirs = ", ".join(f"c{n} {into}" for n, (_, into, _) in enumerate(pairs))
    run(target, f"create table orders ({theirs}, at timestamp not null, id bigint)")
    rows = []
    for number in range(max(len(values) for _, _, values in pairs)):
        row = [f"({values[number % len(values)]})::{kind}" for kind, _, values in pairs]
        rows += [f"({number}, '2024-01-01', {', '.join(row)})"] * 2
    rows.append(f"(-1, '2024-01-01', {', '.join(['null'] * len(pairs))})")
    run(
        source,
        *MADE,
        f"create table orders (id int, at timestamp not null, {ours})",
        f"insert into orders values {', '.join(rows)}",
    )
    return len(rows)


def assert_loaded_alike(source, target, pairs, rows, **options):
    """The load found its checksums equal; else the columns that differ are shown."""
    result = load(source, target, chunk_key="id", chunk_size=3, verify="checksum", **options)
    if result.status != "succeeded" and not result.chunk_errors:
        load(source, target, chunk_key="id", chunk_size=3, **options)
    differing = [
        pairs[number][:2]
        for number in range(len(pairs))
        if not verify(
            source, f"select c{number} from orders", target, "orders", method="checksum"
        ).equal
    ]
    assert [] == differing
    assert f"checksum: {rows} rows on both sides, with the same values" == result.verified


def test_equal_rows_have_equal_checksums_whatever_their_type(source, target, run):
    """In sessions whose settings for text differ, between databases whose type numbers differ."""
    pairs = [(kind, kind, values) for kind, values in TYPES.values()]
    rows = fill(run, source, target, pairs)
    for url, zone, style, form in (
        (source, "Asia/Kolkata", "sql, dmy", "escape"),
        (target, "America/Lima", "german", "hex"),
    ):
        name = name_of(url)
        for setting in (f"timezone = '{zone}'", f"datestyle = {style}", f"bytea_output = {form}"):
            run(url, f"alter database {name} set {setting}")
        run(url, f"alter database {name} set intervalstyle = iso_8601")

    assert_loaded_alike(source, target, pairs, rows)

    for number, (kind, _, _) in enumerate(pairs):
        run(target, f"update orders set c{number} = null where id = 0")
        found = verify(source, f"select c{number} from orders", target, "orders", method="checksum")
        assert not found.equal, kind


PAIRS = [
    ("int", "bigint", ["1", "-5"]),
    ("bigint", "int", ["1"]),
    ("bigint", "numeric", ["9223372036854775807"]),
    ("int", "numeric(12,2)", ["7"]),
    ("int", "double precision", ["2147483647"]),
    ("real", "double precision", ["0.1", "1e10", "'-0'", "'nan'"]),
    ("real", "numeric", ["0.1", "1e10"]),
    ("double precision", "numeric", ["0.1", "1e22"]),
    ("numeric(10,2)", "numeric(14,4)", ["1.5", "'NaN'"]),
    ("numeric(10,2)", "numeric", ["1.50"]),
    ("numeric(8,0)", "bigint", ["12"]),
    ("numeric(6,2)[]", "numeric(8,4)[]", ["'{1.5}'"]),
    ("date", "timestamp", ["'2024-02-29'", "'infinity'", "'0044-03-15 BC'"]),
    ("timestamp(3)", "timestamp", ["'2024-02-29 12:00:00.123'"]),
    ("text", "varchar(5)", ["'abc'", "'ab       '", "''"]),
    ("varchar(9)", "varchar(5)", ["'abc'", "'ab       '"]),
    ("varchar(5)", "text", ["'ab  '", "''"]),
    ("text", "character(5)", ["'abc'", "'ab       '", "''"]),
    ("character(3)", "character(5)", ["'ab'"]),
    ("name", "varchar(70)", ["'x'"]),
    ("boolean", "text", ["true", "false"]),
    ("inet", "text", ["'10.0.0.1'"]),
    ('"char"', "text", ["'x'"]),
    ("bytea", "text", ["'\\x00ff'"]),
    ("timestamptz", "text", ["'2024-03-31 01:30+00'"]),
    ("text", "jsonb", ['\'{"b": 1, "a":2}\'']),
    ("text", "json", ["'{\"b\": 1}'"]),
    ("jsonb", "json", ["'{\"b\": 1}'"]),
    ("text", "uuid", ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    ("numeric(8,2)", "positive", ["1.5"]),
    ("mood", "text", ["'sad'"]),
]


def test_a_value_counts_as_it_arrives_in_the_targets_type(source, target, run):
    """For every pair of types that rows may travel between."""
    rows = fill(run, source, target, PAIRS)

    assert_loaded_alike(source, target, PAIRS, rows, time_zone="UTC")


def test_equal_rows_do_not_cancel_out(source, target, run):
    """Two of one kind are not two of another."""
    for url, value in ((source, "x"), (target, "y")):
        run(url, "create table t (a text)", f"insert into t values ('{value}'), ('{value}')")

    assert not verify(source, "t", target, "t", method="checksum").equal


def test_nothing_and_null_are_two_values(source, target, run):
    """So are two columns whose texts are one when they are joined."""
    run(source, "create table t (a text, b text)", "insert into t values ('x', 'yz'), (null, '')")
    run(target, "create table t (a text, b text)", "insert into t values ('xy', 'z'), ('', null)")

    assert not verify(source, "t", target, "t", method="checksum").equal


@pytest.mark.parametrize(
    ("kind", "into"),
    [
        ("regclass", "regclass"),
        ("money[]", "money[]"),
        ("text", "mood"),
        ("character(3)[]", "character(5)[]"),
    ],
)
def test_a_type_without_canonical_text_is_refused_by_name(source, target, run, kind, into):
    """Before rows move."""
    fill(run, source, target, [(kind, into, ["null"])])

    with pytest.raises(SettingsError, match="column 'c0' is"):
        load(source, target, verify="checksum")


# Below: the function on its own.


@pytest.fixture
def tables(source, target, run):
    """The same ten rows on both sides, in another order of rows and columns."""
    run(source, "create schema shop", "create table shop.t (id int, v numeric(8,2))")
    run(source, "insert into shop.t select i, i / 3.0 from generate_series(1, 10) i")
    run(target, "create table t (v numeric(8,2), id bigint, extra text default 'x')")
    run(target, "insert into t select i / 3.0, i from generate_series(10, 1, -1) i")


@pytest.mark.usefixtures("tables")
def test_two_tables_are_compared_by_name_of_columns(source, target):
    """The order of rows and columns is of no account, nor is what the target has besides."""
    counted = verify(source, "shop.t", target, "t")
    summed = verify(source, "shop.t", target, "public.t", method="checksum")

    assert (10, 10, None, True) == (
        counted.source_rows,
        counted.target_rows,
        counted.source_checksum,
        counted.equal,
    )
    assert "count: 10 rows on both sides" == str(counted)
    assert summed.equal
    assert summed.source_checksum == summed.target_checksum != 0
    summed.raise_for_difference()


@pytest.mark.usefixtures("tables")
def test_queries_are_compared_with_their_values(source, target):
    """A query against a table, or against another query; a `%` is nothing special."""
    few = "select id, v from t where id <= :most and 'a%' like '%' order by v"

    assert verify(
        source, "select * from shop.t where id <= :most", target, few, params={"most": 4}
    ).equal
    found = verify(source, "shop.t", target, few, params={"most": 4}, method="checksum")
    assert (10, 4) == (found.source_rows, found.target_rows)
    with pytest.raises(
        VerificationError, match=r"shop\.t has 10 rows \(checksum -?\d+\), the query"
    ):
        found.raise_for_difference()


@pytest.mark.usefixtures("tables")
def test_queries_mean_what_the_time_zone_says(source, target):
    """On both sides; UTC if none is given."""
    query = "select id from {} where current_setting('TimeZone') = :zone"
    sides = (source, query.format("shop.t"), target, query.format("t"))

    for zone, given in (("Asia/Tokyo", {"time_zone": "Asia/Tokyo"}), ("UTC", {})):
        found = verify(*sides, params={"zone": zone}, **given)
        assert (10, 10) == (found.source_rows, found.target_rows)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    "change",
    [
        "update t set v = v + 0.01 where id = 3",
        "insert into t values (1, 1), (1, 1)",
        "delete from t where id = 3",
        "update t set v = null where id = 3",
    ],
)
def test_a_difference_is_told_and_not_raised(source, target, run, change):
    """Two equal rows more do not cancel out."""
    run(target, change)

    assert not verify(source, "shop.t", target, "t", method="checksum").equal


@pytest.mark.usefixtures("tables")
def test_what_cannot_be_compared_is_refused_in_words(source, target, run):
    """Columns, types and tables that are not there."""
    with pytest.raises(TargetError, match="has no column other"):
        verify(source, "select 1 as other", target, "t", method="checksum")
    with pytest.raises(QueryError, match="id"):
        verify(source, "select id, id from shop.t", target, "t", method="checksum")
    with pytest.raises(SettingsError, match="'v' is boolean on one side and numeric"):
        verify(source, "select true as v", target, "t", method="checksum")
    with pytest.raises(DatabaseError, match='relation "nope" does not exist'):
        verify(source, "nope", target, "t")
    with pytest.raises(QueryError, match='relation "nope" does not exist'):
        verify(source, "nope", target, "t", method="checksum")


def test_sqlite_is_counted_and_not_summed(source, run, tmp_path):
    """Two files, or a file and a server; connections of any kind."""
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    for path in paths:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("create table t (id int, v text)")
            connection.executemany("insert into t values (?, ?)", [(1, "a"), (2, "b")])
    run(source, "create table t (id int, v text)", "insert into t values (1, 'a')")
    first, second = (f"sqlite:///{path}" for path in paths)

    assert verify(first, "t", second, "select * from t where id > :n", params={"n": 0}).equal
    with closing(sqlite3.connect(paths[0])) as one, psycopg.connect(source) as other:
        found = verify(one, "t", other, "t")
    assert "count: t has 2 rows, t has 1 row" == str(found)
    for target in (second, source):
        with pytest.raises(SettingsError, match="sqlite rows have no canonical text"):
            verify(first, "t", target, "t", method="checksum")
    with pytest.raises(SettingsError, match="have no canonical text"):
        verify(source, "t", first, "t", method="checksum")


@pytest.mark.parametrize(("many", "more"), [(10, ""), (11, "; ...")])
def test_of_many_chunks_that_differ_ten_are_named(many, more):
    """A message has no room for thousands."""
    found = Comparison(
        method=Verification.COUNT,
        source="a",
        target="b",
        source_rows=1,
        target_rows=1,
        differences=tuple(Difference(n, Checksum(1), Checksum(2)) for n in range(1, many + 1)),
    )

    chunks = "; ".join(f"chunk {n}: 1 row against 2 rows" for n in range(1, 11))
    assert f"count: a has 1 row, b has 1 row; {chunks}{more}" == str(found)
    assert not found.equal


def test_chunks_that_differ_are_named_in_order():
    """Whichever side has them; what a side lacks has no rows there."""
    ours = {n: Checksum(1) for n in (100, 2, 3)}
    theirs = {n: Checksum(1) for n in (3, NO_CHUNK, 100)}

    assert [
        Difference(NO_CHUNK, Checksum(0), Checksum(1)),
        Difference(2, Checksum(1), Checksum(0)),
    ] == differences(ours, theirs)
    for empty in (Checksum(0), Checksum(0, 0)):
        assert [] == differences({1: empty}, {}) == differences({}, {1: empty})


def test_a_comparison_is_a_value(tables, source, target):
    """It compares and prints; a difference of values alone says so."""
    found = Comparison(
        method=Verification.CHECKSUM,
        source="a",
        target="b",
        source_rows=1,
        target_rows=1,
        source_checksum=5,
        target_checksum=6,
    )

    assert "checksum: a has 1 row (checksum 5), b has 1 row (checksum 6)" == str(found)
    assert verify(source, "shop.t", target, "t") == verify(source, "shop.t", target, "t")
