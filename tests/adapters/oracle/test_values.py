"""Values between Oracle and PostgreSQL: what comes back is what was sent."""

import random
import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import oracledb
import psycopg
import pytest

from mapper_core import execute_query_parallel, list_rejects

from .items import load

ROWS = 500

ORACLE = (
    "create table item (id number(10), num number, dec number(38,10), flo binary_double,"
    " txt varchar2(4000), day date, at timestamp(6), zoned timestamp(6) with time zone,"
    " span interval day(9) to second(6), bin raw(2000), doc clob, blo blob)"
)
POSTGRESQL = (
    "create table item (id bigint, num numeric, dec numeric(38,10), flo double precision,"
    " txt text, day timestamp(0), at timestamp, zoned timestamptz, span interval, bin bytea,"
    " doc text, blo bytea)"
)
COLUMNS = "id, num, dec, flo, txt, day, at, zoned, span, bin, doc, blo"

# Where mistakes are made.
EDGES: dict[str, list[Any]] = {
    "num": ["0", "-0.1", "1E-120", "9" * 38, "-" + "9" * 38, "1E+100", "0.1", "1.10"],
    "dec": ["9" * 28 + "." + "9" * 10, "-0.0000000001", "0"],
    "flo": [0.0, 0.1, -1e-300, 1.7976931348623157e308, 5e-324, float("inf"), 2.0**53 + 1],
    "txt": ["'", '"', "\\", "\\N", "\t\r\n", " ", "NULL", "ä\U0001f600", "%s :x {}", "\x01", ","],
    "day": [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), datetime(2024, 2, 29)],
    "span": [timedelta(0), -timedelta(microseconds=1), timedelta(days=9_999, microseconds=1)],
    "bin": [b"\x00", b"\xff" * 2000, b"\\x00"],
}


def rows(seed):
    """Return random rows, with every edge and some NULLs among them."""
    chance = random.Random(seed)

    def text(longest):
        letters = "abcXYZ 09'\"\\\t\n,;äöß€漢字😀"
        return "".join(chance.choices(letters, k=chance.randint(1, longest)))

    def number():
        digits = "".join(chance.choices("0123456789", k=chance.randint(1, 38)))
        return Decimal(chance.choice(["", "-"]) + digits).scaleb(chance.randint(-60, 40))

    def moment():
        return datetime(1, 1, 2) + timedelta(
            days=chance.randint(0, 3_652_050), seconds=chance.randint(0, 86_399)
        )

    def one(at):
        made = {
            "num": Decimal(EDGES["num"][at]) if at < len(EDGES["num"]) else number(),
            "dec": Decimal(chance.randint(-(10**37), 10**37)).scaleb(-10),
            "flo": chance.choice([chance.uniform(-1e9, 1e9), chance.gauss(0, 1) * 1e-200]),
            "txt": text(300),
            "day": moment(),
            "at": moment() + timedelta(microseconds=chance.randint(0, 999_999)),
            "zoned": (moment() + timedelta(microseconds=chance.randint(0, 999_999))).replace(
                # Not less than an hour west: H2 takes -00:45 for +00:45.
                tzinfo=timezone(timedelta(minutes=chance.choice([-690, -60, 0, 45, 330, 840])))
            ),
            "span": timedelta(
                days=chance.randint(-999_999, 999_999), microseconds=chance.randint(0, 10**11)
            ),
            "bin": chance.randbytes(chance.randint(1, 200)),
            "doc": text(9_000) if at % 5 == 0 else text(50),
            "blo": chance.randbytes(9_000 if at % 5 == 0 else 50),
        }
        for name, values in EDGES.items():
            if at < len(values) and name != "num":
                made[name] = Decimal(values[at]) if name == "dec" else values[at]
        return [at, *(None if chance.random() < 0.05 else value for value in made.values())]

    return [one(at) for at in range(ROWS)]


def into_oracle(user, made):
    """Insert rows as the driver wants them told."""
    user.run(ORACLE)
    kinds = [None] * 12
    kinds[3], kinds[6] = oracledb.DB_TYPE_BINARY_DOUBLE, oracledb.DB_TYPE_TIMESTAMP
    kinds[5], kinds[8] = oracledb.DB_TYPE_DATE, oracledb.DB_TYPE_INTERVAL_DS
    kinds[9], kinds[10], kinds[11] = (
        *(oracledb.DB_TYPE_RAW, oracledb.DB_TYPE_LONG, oracledb.DB_TYPE_LONG_RAW),
    )
    kinds[1] = kinds[2] = oracledb.DB_TYPE_NUMBER
    marks = [f":{n}" for n in range(1, 13)]
    marks[7] = "to_timestamp_tz(:8, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6TZH:TZM')"
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.setinputsizes(*kinds)
        cursor.executemany(
            f"insert into item values ({', '.join(marks)})",
            [
                [*row[:7], row[7] and row[7].isoformat(timespec="microseconds"), *row[8:]]
                for row in made
            ],
        )
        connection.commit()


def out_of_oracle(user):
    """Return the rows; a moment with its zone as the moment that it is."""
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.outputtypehandler = exactly
        zoned = "to_char(zoned at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6')"
        cursor.execute(f"select {COLUMNS.replace('zoned', zoned)} from item order by id")
        return [
            [*row[:7], row[7] and utc(datetime.fromisoformat(row[7])), *row[8:]]
            for row in cursor.fetchall()
        ]


def exactly(cursor, column):
    """Fetch all digits, and LOBs as values."""
    kinds = {
        oracledb.DB_TYPE_NUMBER: Decimal,
        oracledb.DB_TYPE_CLOB: oracledb.DB_TYPE_LONG,
        oracledb.DB_TYPE_BLOB: oracledb.DB_TYPE_LONG_RAW,
    }
    kind = kinds.get(column.type_code)
    return None if kind is None else cursor.var(kind, arraysize=cursor.arraysize)


def utc(moment):
    """Return a moment of UTC."""
    return moment.replace(tzinfo=timezone.utc)


def out_of_postgresql(url):
    """Return the rows."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        found = connection.execute(f"select {COLUMNS} from item order by id").fetchall()
    return [list(row) for row in found]


def same(made, found):
    """Compare rows column by column, so that a difference is one value."""
    assert len(made) == len(found)
    sides = (zip(*side, strict=True) for side in (made, found))
    for name, ours, theirs in zip(COLUMNS.split(", "), *sides, strict=True):
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert a == b, (name, number)


@pytest.mark.parametrize("how", ["arrow", "frames", "function"])
@pytest.mark.parametrize("seed", [1, 2])
def test_from_oracle_to_postgresql_and_back(make_oracle, make_database, run, seed, how):
    """Five hundred random rows: as record batches with LOBs, as the driver's own, and as dicts."""
    first, last, between = make_oracle(), make_oracle(), make_database("between")
    made = rows(seed)
    into_oracle(first, made)
    run(between, POSTGRESQL)
    last.run(ORACLE)
    names = COLUMNS
    if how == "frames":
        names = COLUMNS.removesuffix(", doc, blo")
        made = [[*row[:-2], None, None] for row in made]
    sql = f"select {names} from item"
    options = {"transformation_func": lambda rows: rows} if how == "function" else {}

    there = load(first, between, sql, chunk_key="id", chunk_size=200, **options)

    assert "succeeded" == there.status, there.chunk_errors
    assert ("rows" if how == "function" else "arrow") == there.data_path
    if how != "frames":
        same(out_of_oracle(first), made_utc(made))
    same(out_of_postgresql(between), made_utc(made))

    back = load(between, last, sql, chunk_key="id", chunk_size=200)

    assert "succeeded" == back.status, back.chunk_errors
    same(out_of_oracle(last), made_utc(made))


def made_utc(made):
    """Return rows with their zoned moments in UTC."""
    return [[*r[:7], r[7] and r[7].astimezone(timezone.utc), *r[8:]] for r in made]


@pytest.mark.parametrize("seed", [3, 4])
def test_from_oracle_to_oracle(make_oracle, seed):
    """With the offsets of zoned moments."""
    source, target = make_oracle(), make_oracle()
    made = rows(seed)
    into_oracle(source, made)
    target.run(ORACLE)

    result = load(source, target, f"select {COLUMNS} from item", chunk_key="id", chunk_size=200)

    assert "succeeded" == result.status, result.chunk_errors
    same(out_of_oracle(target), made_utc(made))
    offsets = "select to_char(zoned, 'TZH:TZM') from item order by id"
    assert source.run(offsets) == target.run(offsets)


MOMENTS = {
    "timestamp(9)": "0044-03-15T12:00:00.000000000",
    "timestamp(6) with time zone": "0044-03-15T12:00:00.000000+00:00",
    "timestamp(9) with time zone": "0044-03-15T12:00:00.000000000+00:00",
    "timestamp(9) with local time zone": "0044-03-15T12:00:00.000000000+00:00",
}


@pytest.fixture
def caesar(make_oracle):
    """A table of the years 44 and -44, each with the same day, in a column of a type."""

    def make(word):
        user = make_oracle()
        user.run(
            f"create table item (id number(10), at {word})",
            *(
                f"insert into item values ({n}, cast(timestamp '{year}-03-15 12:00:00' as {word}))"
                for n, year in ((1, "0044"), (2, "-0044"))
            ),
        )
        return user

    return make


@pytest.mark.parametrize("word", MOMENTS)
def test_a_moment_before_christ_stays_there(caesar, make_database, run, word):
    """Its text says so."""
    text = make_database("text")
    run(text, "create table item (id int, at text)")

    load(caesar(word), text, "select * from item").raise_for_failures()

    expected = [(MOMENTS[word],), (f"{MOMENTS[word]} BC",)]
    assert expected == run(text, "select at from item order by id")


def test_a_moment_before_christ_is_the_same_in_postgresql(caesar, make_database, run):
    """Its server reads the text."""
    target = make_database("target")
    run(target, "create table item (id int, at timestamptz)")

    source = caesar("timestamp(6) with time zone")
    load(source, target, "select * from item").raise_for_failures()

    asked = "select at = '0044-03-15 12:00+00 BC' from item order by id"
    assert [(False,), (True,)] == run(target, asked)


@pytest.mark.parametrize("word", MOMENTS)
@pytest.mark.parametrize("function", [None, lambda rows: rows], ids=["plain", "function"])
def test_a_moment_before_christ_is_refused_by_oracle_and_by_python(
    caesar, make_oracle, word, function
):
    """In words; nothing of its chunk is in."""
    target = make_oracle()
    target.run(f"create table item (id number(10), at {word})")

    result = load(caesar(word), target, "select * from item", transformation_func=function)

    assert "failed" == result.status
    (error,) = result.chunk_errors
    assert re.search("before the year 1|no equal in Python", error["error"])
    assert [] == target.run("select id from item")


@pytest.mark.parametrize("seen", [["AT"], ["ID"], None])
def test_a_moment_before_christ_is_refused_alone(caesar, make_database, run, seen):
    """Its row is listed and the others are loaded; unseen, it passes by the function."""
    target = make_database("target")
    run(target, "create table item (id int, at timestamptz)")
    options = {"transformation_func": lambda rows: [dict(row) for row in rows], "reject_limit": 1}

    source = caesar("timestamp(6) with time zone")
    result = load(source, target, "select * from item", transform_columns=seen, **options)

    assert "succeeded" == result.status, result.chunk_errors
    passed = seen == ["ID"]
    assert [(1,), (2,)][: 1 + passed] == run(target, "select id from item order by id")
    refused = [] if passed else [("source value", "0044-03-15T12:00:00.000000+00:00 BC")]
    assert refused == [(r.code, r.row["AT"]) for r in list_rejects(target, result.load_id)]


def test_a_moment_before_christ_is_refused_alone_by_oracle(caesar, make_oracle):
    """The other rows of its chunk are loaded."""
    target = make_oracle()
    target.run("create table item (id number(10), at timestamp(6) with time zone)")

    source = caesar("timestamp(6) with time zone")
    result = load(source, target, "select * from item", reject_limit=1)

    assert ("succeeded", 1) == (result.status, result.rows_rejected), result.chunk_errors
    assert [(1,)] == target.run("select id from item")


def test_every_array_of_a_chunk_is_bound_alike(make_oracle):
    """Also one whose values are all NULL, and what the driver would make a DATE of."""
    source, target = make_oracle(), make_oracle()
    ddl = "create table item (id number(10), at timestamp(6), t varchar2(20), n number)"
    source.run(ddl)
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.setinputsizes(None, oracledb.DB_TYPE_TIMESTAMP, None, oracledb.DB_TYPE_NUMBER)
        moment = datetime(2024, 1, 1, 0, 0, 0, 1)
        cursor.executemany(
            "insert into item values (:1, :2, :3, :4)",
            [
                (n, *((None,) * 3 if n < 2_100 else (moment + timedelta(n), f"t{n}", n / 4)))
                for n in range(6_500)
            ],
        )
        connection.commit()
    target.run(ddl)

    load(source, target, "select * from item", strategy="one_pass").raise_for_failures()

    asked = "select * from item order by id"
    assert source.run(asked) == target.run(asked)


def test_an_empty_text_is_null_in_oracle(make_oracle, make_database, run):
    """Oracle has none; so it is told, and a column that must not be NULL refuses it."""
    source, target = make_database("source"), make_oracle()
    run(source, "create table item (id int, t text)", "insert into item values (1, ''), (2, 'x')")
    target.run("create table item (id number(10), t varchar2(10))")

    load(source, target, "select * from item").raise_for_failures()
    assert [(1, None), (2, "x")] == target.run("select id, t from item order by id")

    target.run("drop table item", "create table item (id number(10), t varchar2(10) not null)")
    result = load(source, target, "select * from item")
    assert "failed" == result.status
    assert "ORA-01400" in result.chunk_errors[0]["error"]


def test_a_day_is_a_date_only_without_a_time(make_oracle, make_database, run):
    """Oracle's DATE has a time; PostgreSQL's has none, and what it would drop is refused."""
    source, target = make_oracle(), make_database("target")
    source.run(
        "create table item (id number(10), day date)",
        "insert into item values (1, date '2024-02-29')",
    )
    run(target, "create table item (id int, day date)")

    load(source, target, "select * from item").raise_for_failures()
    assert [(1, "2024-02-29")] == run(target, "select id, day::text from item")

    source.run("update item set day = to_date('2024-02-29 01:00', 'YYYY-MM-DD HH24:MI')")
    result = load(source, target, "select * from item")
    assert "failed" == result.status
    assert "has a time of day" in result.chunk_errors[0]["error"]


def test_flags_are_booleans(make_oracle, make_database, run):
    """One is true, zero is false, and anything else is refused."""
    source, target = make_oracle(), make_database("target")
    source.run(
        "create table item (id number(10), flag number(1))",
        "insert into item values (1, 1)",
        "insert into item values (2, 0)",
        "insert into item values (3, null)",
    )
    run(target, "create table item (id int, flag boolean)")

    load(source, target, "select * from item").raise_for_failures()
    found = run(target, "select flag from item order by id")
    assert [(True,), (False,), (None,)] == found

    source.run("update item set flag = 2")
    assert "failed" == load(source, target, "select * from item").status


def test_months_are_months(make_oracle, make_database, run):
    """Also those that are not yet."""
    source, target, back = make_oracle(), make_database("target"), make_oracle()
    source.run(
        "create table item (id number(10), span interval year to month)",
        "insert into item values (1, interval '1-2' year to month)",
        "insert into item values (2, interval '-0-3' year to month)",
    )
    run(target, "create table item (id int, span interval)")
    back.run("create table item (id number(10), span interval year to month)")

    load(source, target, "select * from item").raise_for_failures()
    load(source, back, "select * from item").raise_for_failures()

    asked = "select id, span::text from item order by id"
    assert [(1, "1 year 2 mons"), (2, "-3 mons")] == run(target, asked)
    assert source.run("select * from item order by id") == back.run(
        "select * from item order by id"
    )


def test_a_transform_sees_python_values(make_oracle):
    """Exact ones: whole numbers as int, others as Decimal, moments with their zone."""
    source = make_oracle()
    into_oracle(source, rows(5)[:20])
    seen = []

    def look(rows):
        seen.extend(rows)
        return rows

    execute_query_parallel(
        source.url,
        f"select {COLUMNS} from item order by id",
        transformation_func=look,
        enable_progress=False,
    ).raise_for_failures()

    kinds = {
        name: {type(row[name.upper()]) for row in seen} - {type(None)}
        for name in COLUMNS.split(", ")
    }
    assert {
        "id": {int},
        "num": {Decimal},
        "dec": {Decimal},
        "flo": {float},
        "txt": {str},
        "day": {datetime},
        "at": {datetime},
        "zoned": {datetime},
        "span": {timedelta},
        "bin": {bytes},
        "doc": {str},
        "blo": {bytes},
    } == kinds
    assert all(row["ZONED"].tzinfo is not None for row in seen if row["ZONED"])


def test_a_batch_transform_gets_arrow(make_oracle, make_database, run):
    """Decimals where Arrow has them for every value, the database's own text where not."""
    import pyarrow as pa

    source, target = make_oracle(), make_database("target")
    into_oracle(source, rows(6)[:50])
    run(target, POSTGRESQL)
    kinds: dict[str, pa.DataType] = {}

    def look(batch):
        kinds.update(zip(batch.schema.names, batch.schema.types, strict=True))
        return batch

    load(source, target, f"select {COLUMNS} from item", transform_batch=look).raise_for_failures()

    assert pa.decimal128(38, 10) == kinds["DEC"]
    assert kinds["NUM"] in {pa.string(), pa.large_string()}
    assert pa.types.is_timestamp(kinds["DAY"])
    assert pa.duration("us") == kinds["SPAN"]
    assert 50 == len(out_of_postgresql(target))
