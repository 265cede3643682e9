"""Rows written to SQLite, which has types of its own: each arrives as it is, or is refused."""

import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from mapper_core import (
    LoadWindow,
    SettingsError,
    TargetError,
    execute_query_parallel,
    list_rejects,
)


@pytest.fixture
def lite(tmp_path):
    """A file without tables."""
    return tmp_path / "target.db"


@pytest.fixture
def ask(lite):
    """Run statements on the file; return the rows of the last one."""

    def run(*statements):
        with closing(sqlite3.connect(lite)) as connection, connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall()

    return run


def load(source, lite, sql, **options):
    return execute_query_parallel(
        source,
        sql,
        target_conn=f"sqlite:///{lite}",
        target_table="item",
        min_rows_for_parallel=0,
        enable_progress=False,
        **options,
    )


def floats(values):
    """Return a query of rows that are numbered from 1."""
    return f"select id, v::float8 as v from unnest(array[{values}]) with ordinality as n(v, id)"


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_nan_is_refused_as_it_would_be_null(source, lite, ask, mode):
    """Its row alone, where some may be refused, and else its chunk."""
    ask("create table item (id integer, v real)")
    sql = floats("'0.1', 'Infinity', 'NaN', '-5e-324'")

    failed = load(source, lite, sql, load_mode=mode)

    (error,) = failed.chunk_errors
    assert "column v (real): sqlite keeps nan as null: cast the column" in error["error"].lower()
    assert 1 == error["attempts"]
    assert [] == ask("select * from item")

    result = load(source, lite, sql, load_mode=mode, reject_limit=1)

    assert (3, 1) == (result.total_rows_successful, result.rows_rejected)
    assert [(1, 0.1), (2, float("inf")), (4, -5e-324)] == ask("select * from item")
    (refused,) = list_rejects(f"sqlite:///{lite}", result.load_id)
    assert ("3", "unfit value") == (refused.row["id"], refused.code)


def test_nan_as_text_arrives(source, lite, ask):
    """The cure is one."""
    ask("create table item (v real)")

    load(source, lite, "select 'NaN'::float8::text as v").raise_for_failures()

    assert [("NaN",)] == ask("select * from item")


NUMBERS = {
    # Each with the kinds of columns that would not keep all of it.
    "12345678901234567890.1234567891::numeric": {"decimal(30,10)", "numeric", "integer", "real"},
    "0.1234567890123456::numeric": {"decimal(30,10)", "numeric", "integer", "real"},
    "123456789012.345::numeric": set(),
    "(-1.10)::numeric": set(),
    "9223372036854775807::numeric": {"real"},
    "9223372036854775808::numeric": {"decimal(30,10)", "numeric", "integer", "real"},
    "9223372036854775807::bigint": {"real"},
    "9007199254740992::bigint": set(),
    f"{'9' * 5_000}::numeric": {"decimal(30,10)", "numeric", "integer", "real"},
    "1e400::numeric": {"decimal(30,10)", "numeric", "integer", "real"},
    "1e-400::numeric": {"decimal(30,10)", "numeric", "integer", "real"},
    "'12345678901234567890.1'::text": {"decimal(30,10)", "numeric", "integer", "real"},
    "'12345678901234567890'::jsonb": {"decimal(30,10)", "numeric", "integer", "real"},
    "'12345678901234567890 pieces'::text": set(),
    "'NaN'::numeric": set(),
    "(0.1::float8 + 0.2::float8)": set(),
    "1e300::float8": set(),
}


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:40])
def test_a_number_arrives_with_all_its_digits_or_is_refused(source, run, lite, ask, number):
    """SQLite makes a REAL of a text that looks like a number, where a column is for numbers."""
    ((wanted,),) = run(source, f"select {number}::text")
    refused = set()
    for kind in ("decimal(30,10)", "numeric", "integer", "real", "text", "blob"):
        ask("drop table if exists item", f"create table item (v {kind})")

        result = load(source, lite, f"select {number} as v")

        if "succeeded" == result.status:
            ((found,),) = ask("select v from item")
            assert same_number(found, wanted), kind
            assert kind != "text" or isinstance(found, str)
            continue
        refused.add(kind)
        (error,) = result.chunk_errors
        assert f"column v ({kind}): sqlite would not keep the number" in error["error"].lower()
        assert "declare the column TEXT" in error["error"]
        assert [] == ask("select * from item")
    assert NUMBERS[number] == refused


def same_number(found, wanted):
    """Whether what SQLite keeps is what PostgreSQL shows, be it spelled another way."""
    if found == wanted:
        return True
    try:
        return Decimal(str(found)) == Decimal(wanted)
    except ArithmeticError:
        return False


@pytest.mark.parametrize(
    "value",
    [
        "'{1.10}'::numeric[]",
        "'{NaN}'::float8[]",
        "'{2024-01-01}'::date[]",
        "'1 day'::interval",
        "'[1,3)'::int4range",
        "'{[1,3)}'::int4multirange",
    ],
)
def test_what_sqlite_has_no_value_for_is_refused_by_its_column(source, run, lite, ask, value):
    """As a row is, and cast to text it arrives."""
    ask("create table item (v text)")

    failed = load(source, lite, f"select {value} as v")
    sifted = load(source, lite, f"select {value} as v", reject_limit=1)

    (error,) = failed.chunk_errors
    assert "UnfitValueError: column v (TEXT): " in error["error"]
    assert error["error"].endswith(": cast the column to text in the query")
    assert 1 == sifted.rows_rejected

    load(source, lite, f"select {value}::text as v").raise_for_failures()

    assert run(source, f"select {value}::text") == ask("select v from item")


@pytest.mark.parametrize(
    "value", ["'1 mon'::interval", "'infinity'::timestamp", "'[0:0]={1}'::int[]"]
)
def test_what_python_has_no_value_for_is_refused_by_its_column(source, run, lite, ask, value):
    """On its way into any database but PostgreSQL, and the rows beside it are loaded."""
    ask("create table item (id integer, v text)")
    sql = f"select i as id, case i when 2 then {value} end as v from generate_series(1, 3) i"

    failed = load(source, lite, sql)
    sifted = load(source, lite, sql, reject_limit=1)

    (error,) = failed.chunk_errors
    assert "SourceValueError: a value of column v has no equal in Python (" in error["error"]
    assert error["error"].endswith(": cast the column to text in the query")
    assert ("succeeded", 1) == (sifted.status, sifted.rows_rejected)
    (refused,) = list_rejects(f"sqlite:///{lite}", sifted.load_id)
    ((text,),) = run(source, f"select {value}::text")
    assert ("source value", {"id": "2", "v": text}) == (refused.code, refused.row)
    assert [(1, None), (3, None)] == ask("select * from item")


JSON_VALUES = (
    "true",
    "false",
    "null",
    '"a \\"b\\""',
    '"5"',
    '{"a": [1, 2.50, null, true, "ä"]}',
    '{"a":1,"a":2}',
    "[]",
    "12",
    "1.10",
    "0.12345678901234567",
)


@pytest.mark.parametrize("function", [{}, {"transformation_func": list, "transform_columns": "id"}])
@pytest.mark.parametrize("given", ["json", "jsonb"])
@pytest.mark.parametrize("kind", ["text", "varchar(100)", "blob", "json"])
def test_json_that_nobody_looks_into_is_kept_as_its_text(
    source, run, lite, ask, given, kind, function
):
    """Each value of it as PostgreSQL writes it, also what Python would have another value for."""
    run(source, f"create table doc (id int, v {given})")
    for number, value in enumerate(JSON_VALUES):
        if kind != "json" or not value.startswith("0.1"):  # which SQLite would take for a number
            run(source, f"insert into doc values ({number}, '{value}'), ({number + 100}, null)")
    ask(f"create table item (id integer, v {kind})")

    load(source, lite, "select * from doc", **function).raise_for_failures()

    wanted = run(source, "select id, v::text from doc order by id")
    found = ask("select id, v from item order by id")
    if kind == "json":
        # A column for JSON is one for numbers.
        found = [(at, text if text is None else str(text)) for at, text in found]
        wanted = [(at, "1.1" if text == "1.10" else text) for at, text in wanted]
    assert wanted == found


def test_json_that_a_function_has_seen_is_json(source, run, lite, ask):
    """Where the column is for text: neither Python's number for true, nor its word."""
    values = ("true", "false", '{"a": [1, null, "x"]}', "[]", "[true]", "12", "1.5", '"text"')
    run(source, "create table doc (id int, t jsonb, j jsonb, flag jsonb, said boolean)")
    for number, value in enumerate(values):
        run(
            source,
            f"insert into doc values ({number}, '{value}', '{value}', '{value}', {number} % 2 = 0)",
        )
    ask("create table item (id integer, t text, j json, flag boolean, said text)")

    def flagged(rows):
        return [{**row, "flag": row["flag"] is True} for row in rows]

    load(source, lite, "select * from doc", transformation_func=flagged).raise_for_failures()

    found = ask("select t, j, flag, said from item order by id")
    # A text is the text it is: nobody can tell it from one that the function made.
    texts = [*values[:-1], "text"]
    assert [
        (text, {"12": 12, "1.5": 1.5}.get(text, text), text == "true", str(1 - number % 2))
        for number, text in enumerate(texts)
    ] == found


def test_addresses_are_kept_as_their_text(source, run, lite, ask):
    """As PostgreSQL writes them."""
    addresses = ("'10.0.0.1'::inet", "'10.0.0.1/8'::inet", "'::1'::inet", "'10.0.0.0/8'::cidr")
    sql = f"select {', '.join(f'{at} as a{n}' for n, at in enumerate(addresses))}"
    ask("create table item (a0 text, a1 text, a2 numeric, a3 blob)")

    load(source, lite, sql).raise_for_failures()

    # Cast to text, an address alone would have a mask.
    texts = ", ".join(f"format('%s', {at})" for at in addresses)
    assert run(source, f"select {texts}") == ask("select * from item")


@pytest.mark.parametrize("kind", ["real", "text", "blob"])
def test_a_single_float_has_its_few_digits_by_each_path(source, lite, ask, kind):
    """A batch function's are no doubles with others behind them."""
    ask(f"create table item (v {kind})")
    sql = "select v from unnest(array[0.1, 1e-45, 3.4028235e38, 'Infinity', null]::real[]) v"

    load(source, lite, sql).raise_for_failures()
    plain = ask("select v from item", "delete from item returning v")
    load(source, lite, sql, transform_batch=lambda batch: batch).raise_for_failures()

    assert 5 == len(plain)
    assert plain == ask("select v from item")


DROPPING = {
    "a constraint": ("create table item (id integer unique on conflict ignore, v text)",),
    "a trigger": (
        "create table item (id integer, v text)",
        "create trigger t before insert on item when new.id in (select id from item)"
        " begin select raise(ignore); end",
    ),
}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("limit", [0, 5])
@pytest.mark.parametrize("what", DROPPING)
def test_rows_that_the_target_drops_are_no_success(source, ask, lite, what, limit, rows):
    """What it took is counted, not what it was sent."""
    ask(*DROPPING[what], "insert into item values (2, 'old')")
    sql = f"select 2 - (n % 2) as id, 'new' as v from generate_series(2, {rows + 1}) n"

    result = load(source, lite, sql, reject_limit=limit)

    assert ("failed", 0) == (result.status, result.total_rows_successful)
    (error,) = result.chunk_errors
    taken = rows // 3  # of three, one is new; a row alone is not
    assert f"the source sent {rows} rows, but the target took {taken}" in error["error"]
    assert [(2, "old")] == ask("select * from item")


@pytest.mark.parametrize("event", ["insert", "update"])
def test_rows_that_a_merge_loses_are_no_success(source, ask, lite, event):
    """Those that differ are updated and those that are missing added, all of them or none."""
    ask(
        "create table item (id integer primary key, v text)",
        "insert into item values (1, 'old'), (2, 'same'), (3, 'old')",
    )
    rows = "(1, 'new'), (2, 'same'), (3, 'new'), (4, 'new'), (5, 'new')"
    sql = f"select * from (values {rows}) r(id, v)"
    asked = "select * from item order by id"
    was = ask(asked)
    ask(
        f"create trigger t before {event} on item when new.id in (3, 5)"
        " begin select raise(ignore); end"
    )

    failed = load(source, lite, sql, load_mode="upsert", primary_key="id")

    assert ("failed", False) == (failed.status, failed.published)
    assert "4 rows of the query are new or differ, but item took 3: a trigger" in failed.error
    assert was == ask(asked)

    ask("drop trigger t")
    load(source, lite, sql, load_mode="upsert", primary_key="id").raise_for_failures()

    assert [(1, "new"), (2, "same"), (3, "new"), (4, "new"), (5, "new")] == ask(asked)


@pytest.mark.parametrize("mode", ["append", "replace", "upsert"])
def test_a_view_is_refused_before_rows_move(source, lite, ask, mode):
    """What its triggers write is not counted; the words name the cure."""
    ask(
        "create table base (id integer primary key)",
        "create view item as select * from base",
        "create trigger into_base instead of insert on item"
        " begin insert into base values (new.id); end",
    )

    with pytest.raises(TargetError, match="load into the table behind it"):
        load(
            source,
            lite,
            "select 1 as id",
            load_mode=mode,
            primary_key="id" if mode == "upsert" else None,
        )

    assert [] == ask("select * from base")


BERLIN = ZoneInfo("Europe/Berlin")
DAYS = [datetime(2024, 7, day, tzinfo=BERLIN) for day in (1, 2, 3)]


def load_days(source, lite, days):
    """Load days one after the other."""
    for start, end in pairwise(days):
        load(
            source,
            lite,
            "select * from item where at >= :window_start and at < :window_end",
            load_mode="replace_window",
            window=LoadWindow("at", start, end),
        ).raise_for_failures()


@pytest.mark.parametrize("kind", ["timestamp", "timestamp(0)", "date"])
def test_a_window_that_the_two_databases_would_end_elsewhere_is_refused(
    source, lite, ask, run, kind
):
    """SQLite would delete the last hours of the day before, which the query does not read."""
    made = f"create table item (id int, at {kind})"
    ask(made, "insert into item values (1, '2024-07-01 23:00:00')")
    run(source, made, "insert into item values (1, '2024-07-01 23:00'), (2, '2024-07-02 12:00')")

    with pytest.raises(SettingsError, match="with the window in Europe/Berlin, and sqlite in UTC"):
        load_days(source, lite, DAYS[1:])
    assert [(1, "2024-07-01 23:00:00")] == ask("select * from item")


def test_a_window_of_times_with_a_zone_ends_where_its_zone_says(source, lite, ask, run):
    """SQLite has them in UTC, and so it has the window's ends."""
    made = "create table item (id int, at timestamptz)"
    ask(made)
    run(
        source,
        made,
        "insert into item values (1, '2024-07-01 23:00+02'), (2, '2024-07-02 00:00+02'),"
        " (3, '2024-07-02 23:59+02'), (4, '2024-07-03 00:00+02')",
    )

    load_days(source, lite, DAYS)
    load_days(source, lite, DAYS)

    assert [(1,), (2,), (3,)] == ask("select id from item order by id")


def test_a_window_in_utc_or_without_a_zone_ends_alike(source, lite, ask, run):
    """Whatever the column is."""
    made = "create table item (id int, at timestamp)"
    ask(made)
    run(source, made, "insert into item values (1, '2024-07-01 23:00'), (2, '2024-07-02 12:00')")

    for zone in (timezone.utc, None):
        load_days(source, lite, [day.replace(tzinfo=zone) for day in DAYS[1:]])
        assert [(2,)] == ask("select id from item")
