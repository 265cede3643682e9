"""Writing to Oracle: arrays, rejects by their offsets, MERGE, stages, names as it folds them."""

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pandas
import pytest

from mapper_core import LoadWindow, SettingsError, TargetError, history, list_rejects

from .items import ROWS, counted, empty, fill, load


@pytest.fixture
def target(make_oracle):
    """A user without a table."""
    return make_oracle()


def test_refused_rows_are_set_apart_with_their_reasons(source, target):
    """All others of their chunk are in; one array tells of all that it refused."""
    target.run(
        "create table item (id number(10), name varchar2(40) not null, amount number,"
        " constraint small check (id < 1900))"
    )
    named = len(range(7, ROWS, 10))

    result = load(source, target, load_id="careful", reject_limit=None)

    assert "succeeded" == result.status, result.chunk_errors
    refused = list_rejects(target.url, "careful")
    assert named + 100 - 10 == result.rows_rejected == len(refused)
    assert (ROWS - len(refused),) * 2 == counted(target)
    assert {"ORA-01400", "ORA-02290"} == {reject.code for reject in refused}
    without_name = {reject.row["ID"] for reject in refused if reject.code == "ORA-01400"}
    assert set(range(7, 1900, 10)) <= without_name


def test_a_reject_limit_is_a_limit(source, target):
    """Past it the chunk fails, and says so."""
    target.run("create table item (id number(10), name varchar2(40) not null, amount number)")

    result = load(source, target, reject_limit=5)

    assert result.status in {"failed", "partial"}
    assert "more than 5 rows were refused" in result.chunk_errors[0]["error"]


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_without_a_limit_the_first_refused_row_fails_its_chunk(source, target, mode):
    """It names the row's error; nothing of the chunk is in."""
    target.run(
        "create table item (id number(10), name varchar2(3), amount number)",
        "insert into item values (-1, 'old', 0)",
    )

    result = load(source, target, load_mode=mode)

    assert "failed" == result.status or mode == "append"
    assert "ORA-12899" in str([e["error"] for e in result.chunk_errors])
    found = target.run("select id from item where id >= 500 or id < 0")
    assert [(-1,)] == found


def test_upsert_updates_what_differs_and_adds_the_others(source, target):
    """NULLs and LOBs compared as values; rows that are equal are not touched."""
    source.run(
        "drop table item",
        "create table item (id number(10), name varchar2(9), doc clob, amount number)",
        "insert into item values (1, 'same', 'doc', 1)",
        "insert into item values (2, null, 'doc', 2)",
        "insert into item values (3, 'c', 'changed', 3)",
        "insert into item values (4, 'new', null, null)",
    )
    target.run(
        "create table item (id number(10) primary key, name varchar2(9), doc clob, amount number,"
        " touched timestamp default systimestamp)",
        "insert into item (id, name, doc, amount) values (1, 'same', 'doc', 1)",
        "insert into item (id, name, doc, amount) values (2, 'b', 'doc', 2)",
        "insert into item (id, name, doc, amount) values (3, 'c', 'doc', 3)",
        "insert into item (id, name, doc, amount) values (9, 'kept', null, null)",
    )

    result = load(source, target, load_mode="upsert", primary_key="id")

    assert "succeeded" == result.status, result.error
    assert [
        (1, "same", "doc", 1),
        (2, None, "doc", 2),
        (3, "c", "changed", 3),
        (4, "new", None, None),
        (9, "kept", None, None),
    ] == [
        (*row[:2], row[2] and row[2].read() if hasattr(row[2], "read") else row[2], row[3])
        for row in whole(target, "select id, name, doc, amount from item order by id")
    ]


def whole(user, sql):
    """Return rows with their LOBs read."""
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return [
            tuple(v.read() if hasattr(v, "read") else v for v in row) for row in cursor.fetchall()
        ]


def test_upsert_leaves_columns_that_a_function_did_not_write(source, target):
    """The stage has them, for the function might have added them."""
    source.run(
        "drop table item",
        "create table item (id number(10), name varchar2(9))",
        "insert into item values (1, 'new')",
        "insert into item values (2, 'new')",
    )
    target.run(
        "create table item (id number(10), name varchar2(9), by_hand varchar2(9))",
        "insert into item values (1, 'old', 'kept')",
    )

    load(
        source,
        target,
        load_mode="upsert",
        primary_key="id",
        transformation_func=lambda rows: [dict(row) for row in rows],
    ).raise_for_failures()

    found = target.run("select id, name, by_hand from item order by id")
    assert [(1, "new", "kept"), (2, "new", None)] == found


def test_upsert_takes_the_highest_of_several(source, target):
    """And names the keys that cannot be told apart."""
    source.run(
        "drop table item",
        "create table item (id number(10), name varchar2(9), amount number)",
        "insert into item values (1, 'old', 1)",
        "insert into item values (1, 'new', 2)",
    )
    target.run("create table item (id number(10), name varchar2(9), amount number)")

    twice = load(source, target, load_mode="upsert", primary_key="id")
    assert "failed" == twice.status
    assert "the query has 1 key (ID) more than once" in twice.error

    load(
        source, target, load_mode="upsert", primary_key="id", order_column="amount"
    ).raise_for_failures()
    assert [("new",)] == target.run("select name from item")


def test_replace_shows_old_rows_until_the_new_are_there(source, target):
    """And leaves no stage behind."""
    empty(target)
    target.run("insert into item values (-1, 'old', 0)")
    seen = []

    def look(rows):
        seen.append(counted(target))
        return rows

    result = load(source, target, load_mode="replace", transformation_func=look)

    assert ("succeeded", True) == (result.status, result.published)
    assert {(1, 1)} == set(seen)
    assert (ROWS, ROWS) == counted(target)
    assert [] == target.run("select table_name from user_tables where table_name like '%STAGE%'")


def test_a_window_is_replaced_alone(target, make_oracle):
    """Half-open, of a DATE that has a time."""
    source = make_oracle()
    for user in (source, target):
        user.run("create table item (id number(10), at date)")
    source.run(
        "insert into item values (1, to_date('2024-01-31 23:59:59', 'YYYY-MM-DD HH24:MI:SS'))",
        "insert into item values (2, to_date('2024-02-01 00:00:00', 'YYYY-MM-DD HH24:MI:SS'))",
        "insert into item values (3, to_date('2024-02-29 23:59:59', 'YYYY-MM-DD HH24:MI:SS'))",
        "insert into item values (4, to_date('2024-03-01 00:00:00', 'YYYY-MM-DD HH24:MI:SS'))",
    )
    target.run(
        *(f"insert into item values (-{n}, date '2024-0{n}-01')" for n in (1, 2, 3)),
    )

    result = load(
        source,
        target,
        "select * from item where at >= :window_start and at < :window_end",
        load_mode="replace_window",
        window=LoadWindow("at", datetime(2024, 2, 1), datetime(2024, 3, 1)),
    )

    assert "succeeded" == result.status, result.error
    assert [(-3,), (-1,), (2,), (3,)] == target.run("select id from item order by id")


def test_a_window_of_another_zone_is_the_same_window(make_oracle, target):
    """Its ends are moments, whatever zone they are written in."""
    source = make_oracle()
    for user in (source, target):
        user.run("create table item (id number(10), at timestamp(6) with time zone)")
    inside = "timestamp '2024-02-01 00:00:00+05:30'"
    before = "timestamp '2024-01-31 23:59:59+05:30'"
    source.run(f"insert into item values (1, {inside})", f"insert into item values (2, {before})")
    target.run(f"insert into item values (-1, {inside})", f"insert into item values (-2, {before})")
    zone = ZoneInfo("Asia/Kolkata")

    result = load(
        source,
        target,
        "select * from item where at >= :window_start and at < :window_end",
        load_mode="replace_window",
        window=LoadWindow(
            "at", datetime(2024, 2, 1, tzinfo=zone), datetime(2024, 3, 1, tzinfo=zone)
        ),
    )

    assert "succeeded" == result.status, result.error
    assert [(-2,), (1,)] == target.run("select id from item order by id")


def test_what_the_database_computes_is_left_to_it(source, target):
    """Identity columns, virtual ones; invisible ones are written when they are named."""
    target.run(
        "create table item (id number(10), name varchar2(40), amount number invisible,"
        " row_no number generated always as identity, twice number generated always as (id * 2)"
        " virtual, loaded varchar2(10) default 'mapper' not null)"
    )

    load(source, target).raise_for_failures()

    assert [(ROWS, ROWS, ROWS * (ROWS - 1), ROWS)] == target.run(
        "select count(*), count(distinct row_no), sum(twice), count(amount) from item"
    )
    with pytest.raises(TargetError, match="computes TWICE itself"):
        load(source, target, "select id, name, amount as twice from item")


@pytest.mark.parametrize(
    ("table", "given"),
    [
        ("ITEM", "item"),
        ('"Item"', "Item"),
        ('"order"', None),
        ("a_name_of_more_than_thirty_bytes_and_fewer_than_128", None),
    ],
)
def test_names_are_folded_as_oracle_folds_them(source, target, table, given):
    """Small letters mean capitals; capitals are taken at their word."""
    target.run(f'create table {table} (id number(10), "Name" varchar2(40), amount number)')
    name = given or table.strip('"')
    if table == '"order"':
        with pytest.raises(TargetError, match="has no table order"):
            load(source, target, target_table=name)
        return

    load(source, target, target_table=name).raise_for_failures()

    assert [(ROWS,)] == target.run(f'select count("Name") + {ROWS // 10} from {table}')


def test_a_name_that_oracle_cannot_have_is_refused(source, target):
    """Nothing of it gets into a statement."""
    name = 'x" (id number); drop table "item'
    with pytest.raises(TargetError, match="has no table x"):
        load(source, target, target_table=name)
    with pytest.raises(SettingsError, match="is not a name in Oracle"):
        load(source, target, target_table=name, create_target=True)


def test_a_table_of_another_schema_is_written_by_its_name(oracle_double, source, target):
    """With the privilege, and refused without it before any row moves."""
    owner = oracle_double.user()
    owner.run("create table item (id number(10), name varchar2(40), amount number)")

    with pytest.raises(TargetError, match=f"grant insert on {owner.name}.ITEM to {target.name}"):
        load(source, target, target_schema=owner.name)


def test_a_missing_target_is_made_of_the_querys_types(source, target, make_database, run):
    """From Oracle, and from PostgreSQL."""
    load(source, target, create_target=True).raise_for_failures()
    assert [
        ("ID", "NUMBER", 10, 0),
        ("NAME", "VARCHAR2", None, None),
        ("AMOUNT", "NUMBER", None, None),
    ] == target.run(
        "select column_name, data_type, data_precision, data_scale from user_tab_columns"
        " where table_name = 'ITEM' order by column_id"
    )
    assert (ROWS, ROWS) == counted(target)

    elsewhere = make_database("target")
    load(source, elsewhere, create_target=True).raise_for_failures()
    assert [("ID", "numeric"), ("NAME", "character varying"), ("AMOUNT", "numeric")] == run(
        elsewhere,
        "select column_name, data_type from information_schema.columns"
        " where table_schema = 'public' and table_name = 'item' order by ordinal_position",
    )
    assert [(ROWS,)] == run(elsewhere, 'select count(distinct "ID") from item')

    run(
        elsewhere,
        "create table kinds as select 1 as n, 2::bigint as b, 1.5::numeric(8,3) as d, 'x'::text as"
        " t, 'y'::varchar(10) as v, true as yes, now()::timestamp as at, now() as zoned,"
        " '\\x00'::bytea as bin, '{}'::jsonb as doc, 0.5::float8 as f, current_date as day",
    )
    load(
        elsewhere, target, "select * from kinds", target_table="kinds", create_target=True
    ).raise_for_failures()
    assert 12 == len(
        target.run("select column_name from user_tab_columns where table_name='KINDS'")
    )
    assert [(1,)] == target.run("select count(*) from kinds")


REFUSED = [
    ("number", "number(10,2)"),
    ("number(10,4)", "number(10,2)"),
    ("timestamp(9)", "timestamp(6)"),
    ("timestamp(6)", "timestamp(6) with time zone"),
    ("timestamp(6) with time zone", "timestamp(6)"),
    ("binary_double", "number(10)"),
    ("number", "binary_double"),
    ("varchar2(10)", "number(10)"),
    ("raw(10)", "varchar2(10)"),
    ("number(10)", "date"),
]
TAKEN = [
    ("number(10)", "number"),
    ("number(10,2)", "number(12,4)"),
    ("number(5)", "varchar2(20)"),
    ("varchar2(10)", "clob"),
    ("date", "timestamp(6)"),
    ("timestamp(6)", "timestamp(9)"),
    ("raw(10)", "blob"),
    ("char(10)", "varchar2(10)"),
    ("timestamp(9)", "date"),
]


@pytest.mark.parametrize(("ours", "theirs"), REFUSED + TAKEN, ids=str)
def test_a_type_that_could_change_a_value_is_refused(make_oracle, ours, theirs):
    """In words that name both; where it depends on the value, the value is looked at."""
    source, target = make_oracle(), make_oracle()
    source.run(f"create table item (id number(10), v {ours})", "insert into item values (1, null)")
    target.run(f"create table item (id number(10), v {theirs})")

    if (ours, theirs) in TAKEN:
        assert "succeeded" == load(source, target, "select * from item").status
        return
    with pytest.raises(TargetError, match=r"not every value would arrive unchanged: CAST it"):
        load(source, target, "select * from item")


UNFIT = {
    "date with a fraction": ("date", datetime(2024, 1, 1, 0, 0, 0, 1), "parts of a second"),
    "timestamp with a zone": (
        "timestamp(6)",
        datetime(2024, 1, 1, tzinfo=timezone.utc),
        "with a time zone",
    ),
    "zoned without a zone": (
        "timestamp(6) with time zone",
        datetime(2024, 1, 1),
        "without a time zone",
    ),
    "too many digits": ("number", Decimal("1." + "1" * 60), "more than 38 digits"),
    "no number": ("number", "one", "is not a number"),
    "not a number": ("number", float("nan"), "DPY-4004"),
    "no bytes": ("raw(10)", "text", "is not bytes"),
    "bytes for text": ("varchar2(10)", b"bytes", "bytes are not text"),
    "no moment": ("date", 7, "is not a moment"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_value_that_would_be_changed_is_refused(make_oracle, case):
    """It names the column and what is wrong; its row can be set apart."""
    word, value, words = UNFIT[case]
    source, target = make_oracle(), make_oracle()
    fill(source, rows=20)
    target.run(f"create table item (id number(10), v {word})")

    def change(rows):
        return [{"ID": row["ID"], "V": value if row["ID"] == 7 else None} for row in rows]

    result = load(source, target, transformation_func=change)
    assert "failed" == result.status
    assert words in result.chunk_errors[0]["error"]

    careful = load(source, target, transformation_func=change, reject_limit=1, load_id="careful")
    assert ("succeeded", 1) == (careful.status, careful.rows_rejected), careful.chunk_errors
    assert [7] == [reject.row["ID"] for reject in list_rejects(target.url, "careful")]
    assert [(19,)] == target.run("select count(*) from item")


NINE_DIGITS = "to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF9')"


WAYS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "replaced": {"load_mode": "replace"},
    "in batches": {"transform_batch": lambda batch: batch},
    "by a function": {"transformation_func": lambda rows: rows},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_digit_of_a_second_arrives(make_oracle, way):
    """Nine of them, of which Python's datetime has six."""
    source, target = make_oracle(), make_oracle()
    fractions = (".123456789", ".000000001", ".999999999", ".5", "")
    source.run(
        "create table item (id number(10), at timestamp(9))",
        *(
            f"insert into item values ({n}, timestamp '2024-01-31 23:59:59{fraction}')"
            for n, fraction in enumerate(fractions)
        ),
    )
    target.run("create table item (id number(10), at timestamp(9))")

    load(source, target, "select * from item", **WAYS[way]).raise_for_failures()

    asked = f"select id, {NINE_DIGITS} from item order by id"
    assert source.run(asked) == target.run(asked)
    assert "2024-01-31T23:59:59.123456789" == target.run(asked)[0][1]


@pytest.mark.parametrize(
    ("word", "moment", "kept"),
    [
        ("timestamp(9)", "2024-01-31T12:00:00.5", "2024-01-31T12:00:00.500000000"),
        ("timestamp(9)", "2024-01-31 12:00:00.123456789", "2024-01-31T12:00:00.123456789"),
        ("timestamp(9)", "2024-01-31", "2024-01-31T00:00:00.000000000"),
        ("timestamp(6)", "2024-01-31T12:00:00.1234", "2024-01-31T12:00:00.123400000"),
        ("timestamp(6)", "2024-01-31T12:00:00.123456000", "2024-01-31T12:00:00.123456000"),
        ("timestamp(6)", "2024-01-31T12:00:00.0000001", None),
        ("timestamp(9)", "2024-01-31T12:00:00.0000000001", None),
        ("date", "2024-01-31T12:00:00.000000001", None),
        ("timestamp(9)", "2024-01-31T12:00:00.5+01:00", None),
        (
            "timestamp(9) with time zone",
            "2024-01-31T12:00:00.123456789+05:30",
            "2024-01-31T12:00:00.123456789",
        ),
        ("timestamp(6) with time zone", "2024-01-31T12:00:00.123456789+05:30", None),
        ("timestamp(9) with time zone", "2024-01-31T12:00:00.5", None),
        (
            "timestamp(6) with time zone",
            "2024-01-31T12:00:00Z",
            "2024-01-31T12:00:00.000000000",
        ),
        (
            "timestamp(9)",
            pandas.Timestamp("2024-01-31T12:00:00.123456089"),
            "2024-01-31T12:00:00.123456089",
        ),
        ("timestamp(6)", pandas.Timestamp("2024-01-31T12:00:00.123456089"), None),
        ("timestamp(9)", pandas.NaT, None),
        ("date", pandas.NaT, None),
        ("timestamp(9)", "noon", None),
    ],
)
def test_a_moment_keeps_its_digits_or_is_refused(make_oracle, word, moment, kept):
    """On every Python, whatever its own reading of texts takes or cuts off."""
    source, target = make_oracle(), make_oracle()
    fill(source, rows=1)
    target.run(f"create table item (id number(10), at {word})")

    result = load(
        source,
        target,
        transformation_func=lambda rows: [{"id": row["ID"], "at": moment} for row in rows],
    )

    assert ("failed" if kept is None else "succeeded") == result.status, result.chunk_errors
    assert ([] if kept is None else [(kept,)]) == target.run(f"select {NINE_DIGITS} from item")


def test_values_of_a_transform_become_what_their_columns_hold(make_oracle):
    """As a Python user would write them."""
    source, target = make_oracle(), make_oracle()
    fill(source, rows=3)
    target.run(
        "create table item (id number(10), doc clob, flag number(1), span interval day(9) to"
        " second(6), at timestamp(6), zoned timestamp(6) with time zone, ratio binary_double)"
    )
    moment = datetime(2024, 1, 1, 1, 2, 3, 456_789)
    zone = timezone(timedelta(hours=5, minutes=30))

    load(
        source,
        target,
        transformation_func=lambda rows: [
            {
                "id": row["ID"],
                "doc": {"a": [1, None]},
                "flag": True,
                "span": -timedelta(days=1, microseconds=1),
                "at": moment,
                "zoned": moment.replace(tzinfo=zone),
                "ratio": 0.1,
            }
            for row in rows
        ],
    ).raise_for_failures()

    found = whole(target, "select doc, flag, span, at, ratio, zoned at time zone 'UTC' from item")[
        0
    ]
    assert {"a": [1, None]} == json.loads(found[0])
    assert (1, -timedelta(days=1, microseconds=1), moment, 0.1) == found[1:5]
    assert moment - timedelta(hours=5, minutes=30) == found[5]


def test_a_ledger_of_oracles_is_read_as_any_other(source, target):
    """Its loads, with their times in UTC."""
    empty(target)
    before = datetime.now(timezone.utc) - timedelta(seconds=2)

    load(source, target, load_id="nightly", time_zone="Asia/Kolkata").raise_for_failures()

    (found,) = history.loads(target.url)
    assert ("nightly", True, ROWS) == (found.load_id, found.published, found.rows)
    assert before < found.created_at < datetime.now(timezone.utc) + timedelta(seconds=2)


JSON_VALUES = (
    "true",
    "false",
    "null",
    '"a \\"b\\""',
    '{"a": [1, 2.50, null, true, "ä"]}',
    '{"a":1,"a":2}',
    "[]",
    "1.10",
    "0.12345678901234567",
)


@pytest.mark.parametrize("function", [{}, {"transformation_func": list, "transform_columns": "id"}])
@pytest.mark.parametrize("given", ["json", "jsonb"])
@pytest.mark.parametrize("kind", ["clob", "varchar2(100)"])
def test_json_of_postgresql_that_nobody_looks_into_is_kept_as_its_text(
    make_oracle, make_database, run, given, kind, function
):
    """Each value of it as PostgreSQL writes it."""
    source, target = make_database("source"), make_oracle()
    run(source, f"create table doc (id int, v {given})", "insert into doc values (100, null)")
    for number, value in enumerate(JSON_VALUES):
        run(source, f"insert into doc values ({number}, '{value}')")
    target.run(f"create table item (id number(10), v {kind})")

    load(source, target, "select * from doc", **function).raise_for_failures()

    wanted = run(source, "select id, v::text from doc order by id")
    assert wanted == whole(target, "select id, v from item order by id")


@pytest.mark.parametrize("kind", ["clob", "varchar2(100)"])
def test_json_of_postgresql_that_a_function_has_seen_is_json(make_oracle, make_database, run, kind):
    """And not Python's word for true."""
    source, target = make_database("source"), make_oracle()
    run(source, "create table doc (id int, v jsonb)")
    values = ("true", "false", '{"a": [1, null, "x"]}', "[]", "[true]", "12", "1.5")
    for number, value in enumerate(values):
        run(source, f"insert into doc values ({number}, '{value}')")
    target.run(f"create table item (id number(10), v {kind})")

    load(source, target, "select * from doc", transformation_func=list).raise_for_failures()

    found = whole(target, "select v from item order by id")
    assert [(text,) for text in values] == found
