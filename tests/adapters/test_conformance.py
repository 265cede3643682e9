"""What every database must do, written once: between PostgreSQL, SQLite and Oracle."""

import sqlite3
from contextlib import closing
from datetime import date, datetime, timezone
from decimal import Decimal

import oracledb
import psycopg
import pytest

from mapper_core import LoadWindow, QueryError, TargetError, execute_query_parallel

from ..oracle import in_its_words


class PostgreSQL:
    """A database of its own on the server that the tests share."""

    schema = "public"
    # Names of the common types, and what a row of values comes back as.
    number, moment = "numeric(12,3)", "timestamp"

    def __init__(self, url):
        self.url = url

    @staticmethod
    def placeholders(count):
        return ["%s"] * count

    def run(self, *statements, values=()):
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []


class SQLite:
    """A file."""

    schema = None
    number, moment = "text", "text"

    def __init__(self, path):
        self.url = f"sqlite:///{path}"
        self._path = path

    @staticmethod
    def placeholders(count):
        return ["?"] * count

    def run(self, *statements, values=()):
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for statement in statements:
                cursor = connection.execute(statement, values)
            return cursor.fetchall()


class OracleSchema:
    """A schema of its own, on the double or on a real server."""

    schema = None
    number, moment = "number(12,3)", "timestamp"

    def __init__(self, user):
        self.url = user.url
        self._user = user

    @staticmethod
    def placeholders(count):
        return [f":{number}" for number in range(1, count + 1)]

    def run(self, *statements, values=()):
        rows = []
        with self._user.connect() as connection, connection.cursor() as cursor:
            connection.outputtypehandler = every_digit
            for name, form in FORMATS.items():
                cursor.execute(f"alter session set nls_{name}_format = '{form}'")
            for written in statements:
                for statement in in_its_words(written):
                    cursor.setinputsizes(*map(type_bound, values))
                    cursor.execute(statement, list(map(bound, values)) or None)
                    found = cursor.fetchall() if cursor.description else []
                    rows = [tuple(map(plain_value, row)) for row in found]
            connection.commit()
        return rows


FORMATS = {
    "date": "YYYY-MM-DD HH24:MI:SS",
    "timestamp": "YYYY-MM-DD HH24:MI:SS.FF",
    "timestamp_tz": "YYYY-MM-DD HH24:MI:SSTZH:TZM",
}


def bound(value):
    """Return a value as an old driver's user would bind it."""
    return int(value) if isinstance(value, bool) else value


def every_digit(cursor, column):
    """Fetch a NUMBER with all its digits."""
    if column.type_code is oracledb.DB_TYPE_NUMBER:
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    return None


def type_bound(value):
    """Return the type to bind a value as, where the driver's own choice has no room for it."""
    return oracledb.DB_TYPE_BINARY_DOUBLE if isinstance(value, float) else None


def plain_value(value):
    """Return a value that was fetched as the other databases give it."""
    return value.read() if hasattr(value, "read") else value


PAIRS = [
    *((a, b) for a in ("postgresql", "sqlite") for b in ("postgresql", "sqlite")),
    *(("postgresql", "oracle"), ("oracle", "postgresql"), ("oracle", "oracle")),
]


@pytest.fixture(params=PAIRS, ids=lambda pair: "from-{}-to-{}".format(*pair))
def pair(request):
    """Kinds of databases between which rows are loaded."""
    return request.param


@pytest.fixture
def origin(pair, make_side):
    """Where rows come from."""
    return make_side(pair[0], "source")


@pytest.fixture
def goal(pair, make_side):
    """Where rows go."""
    return make_side(pair[1], "target")


@pytest.fixture
def make_side(request, make_database, tmp_path):
    """Make an empty database of a kind."""

    def make(kind, side):
        if kind == "postgresql":
            return PostgreSQL(make_database(side))
        if kind == "oracle":
            return OracleSchema(request.getfixturevalue("make_oracle")())
        return SQLite(tmp_path / f"{side}.db")

    return make


def load(origin, goal, sql="select * from item order by id", **options):
    options = {"chunk_size": 10, "max_workers": 2, **options}
    if isinstance(origin, OracleSchema) and (transform := options.get("transformation_func")):
        # What Oracle has folded to capitals, the functions here know in small letters.
        options["transformation_func"] = lambda rows: transform(
            [{name.lower(): value for name, value in row.items()} for row in rows]
        )
    target = {}
    if goal:
        target = {"target_conn": goal.url, "target_schema": goal.schema, "target_table": "item"}
    return execute_query_parallel(
        origin.url, sql, min_rows_for_parallel=0, enable_progress=False, **target, **options
    )


@pytest.fixture
def items(origin, goal):
    """Thirty-five rows in the source, an empty table with its columns in another order."""
    origin.run("create table item (id int primary key, name text, amount int)")
    origin.run(*(f"insert into item values ({n}, 'n{n}', {n % 4})" for n in range(35)))
    goal.run("create table item (amount int, id int, name text)")


ITEMS = "select id, name, amount from item order by id"


@pytest.mark.parametrize("snapshot", [True, False], ids=["one-snapshot", "no-snapshot"])
def test_append_adds_every_row_once_by_name(items, origin, goal, snapshot):
    """Twice is twice: the rows that were there stay. In one pass or in parallel chunks."""
    first = load(origin, goal, snapshot=snapshot)

    assert ("succeeded", True) == (first.status, first.published)
    assert 35 == first.total_rows_processed == first.total_rows_successful == first.rows_written
    assert origin.run(ITEMS) == goal.run(ITEMS)

    load(origin, goal, snapshot=snapshot)

    assert [(70, 35)] == goal.run("select count(*), count(distinct id) from item")


def test_chunks_come_in_parallel_where_no_snapshot_is_asked_for(items, origin, goal):
    """Ranges by rank, with a chunk for NULL keys that may come up meanwhile."""
    origin.run("insert into item values (100, 'null', null), (101, 'null', null)")

    result = load(origin, goal, chunk_key="amount", snapshot=False)

    assert "key" == result.strategy
    assert result.chunks_total > 2
    assert [(37, 37)] == goal.run("select count(*), count(distinct id) from item")


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_replace_window_replaces_its_window_alone(origin, goal, kind):
    """Both half-open ends, in every database's own way of comparing times."""
    for database in (origin, goal):
        database.run(f"create table item (id int, at {kind}, note text)")
    text = "'2024-{:02}-{:02}'" if kind == "date" else "'2024-{:02}-{:02} 00:00:00'"
    zone = timezone.utc if kind == "timestamptz" else None
    if zone:
        text = text[:-1] + "+00:00'"
    days = [(1, 31), (2, 1), (2, 15), (2, 29), (3, 1), (3, 2)]
    for number, day in enumerate(days):
        origin.run(f"insert into item values ({number}, {text.format(*day)}, 'first')")
    spans = [
        LoadWindow("at", datetime(2024, m, 1, tzinfo=zone), datetime(2024, m + 1, 1, tzinfo=zone))
        for m in (1, 2, 3)
    ]
    sql = "select * from item where at >= :window_start and at < :window_end"
    for span in spans:
        loaded = load(origin, goal, sql, load_mode="replace_window", window=span, time_zone="UTC")
        loaded.raise_for_failures()
    origin.run("update item set note = 'second'")

    again = load(origin, goal, sql, load_mode="replace_window", window=spans[1], time_zone="UTC")

    assert ("succeeded", 3) == (again.status, again.total_rows_successful)
    assert [(0, "first"), *((n, "second") for n in (1, 2, 3)), (4, "first"), (5, "first")] == (
        goal.run("select id, note from item order by id")
    )


def test_rows_outside_the_window_are_refused(origin, goal):
    """A query that forgets its end changes nothing."""
    for database in (origin, goal):
        database.run("create table item (id int, at timestamp)")
    goal.run("insert into item values (7, '2024-01-01 00:00:00')")
    origin.run("insert into item values (1, '2024-01-01 00:00:00'), (2, '2024-02-01 00:00:00')")

    result = load(
        origin,
        goal,
        "select * from item where at >= :window_start",
        load_mode="replace_window",
        window=LoadWindow(
            "at", datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2024-02-01")
        ),
    )

    assert ("failed", 2) == (result.status, result.total_rows_failed)
    assert "1 rows of the query lie outside the window" in result.error
    assert [(7,)] == goal.run("select id from item")


TRANSFORMS = {
    "add": (lambda rows: [{**row, "name": f"{row['id']}!"} for row in rows], 35),
    "drop-column": (lambda rows: [{"id": row["id"], "amount": row["amount"]} for row in rows], 35),
    "filter": (lambda rows: [row for row in rows if row["id"] % 5 == 0], 7),
    "filter-the-first-batches": (lambda rows: [row for row in rows if row["id"] >= 28], 7),
    "filter-the-last-batches": (lambda rows: [row for row in rows if row["id"] < 7], 7),
    "filter-all": (lambda _: [], 0),
    "multiply": (lambda rows: [row for row in rows for _ in range(3)], 105),
}


@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "one-pass"])
@pytest.mark.parametrize("scope", ["chunk", "batch"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_decides_what_is_written(items, origin, goal, name, scope, parallel):
    """Source rows are counted as read, whatever becomes of them."""
    transform, written = TRANSFORMS[name]

    result = load(
        origin,
        goal,
        transformation_func=transform,
        transform_scope=scope,
        enable_parallel=parallel,
    )

    assert "succeeded" == result.status
    assert 35 == result.total_rows_processed == result.total_rows_successful
    assert written == result.rows_written
    expected = transform([{"id": i, "name": f"n{i}", "amount": i % 4} for i in range(35)])
    listed = sorted((row["id"], row.get("name"), row["amount"]) for row in expected)
    assert listed == goal.run(ITEMS)


def test_a_transform_in_groups_loses_no_group(origin, goal):
    """A filter that empties the first thousand rows, or the middle ones, leaves the others."""
    origin.run("create table item (id int, name text, amount int)")
    origin.run(*(f"insert into item values ({n}, 'n', 0)" for n in range(3000)))
    goal.run("create table item (id int, name text, amount int)")

    for kept in (range(2500, 3000), [*range(5), *range(2990, 3000)]):
        result = load(
            origin,
            goal,
            transformation_func=lambda rows, kept=frozenset(kept): [
                row for row in rows if row["id"] in kept
            ],
            transform_scope="batch",
            enable_parallel=False,
        )

        assert (3000, len(kept)) == (result.total_rows_successful, result.rows_written)
        assert [(n,) for n in sorted(kept)] == goal.run("select id from item order by id")
        goal.run("delete from item")


def test_a_transforms_columns_may_not_change_within_a_chunk(items, origin, goal):
    """A value under a key that came up too late is refused, not lost."""
    result = load(
        origin,
        goal,
        transformation_func=lambda rows: [
            {"id": row["id"]} if row["id"] < 20 else row for row in rows
        ],
        enable_parallel=False,
    )

    assert "failed" == result.status
    assert "give every row the same keys" in result.chunk_errors[0]["error"]
    assert [] == goal.run(ITEMS)


@pytest.mark.parametrize("returned", [None, [1], "rows", [{}]], ids=repr)
def test_a_transform_must_return_dicts(items, origin, goal, returned):
    """What it returned instead is named, and nothing is written."""
    result = load(origin, goal, transformation_func=lambda _: returned)

    assert "failed" == result.status
    assert "TransformError" in result.chunk_errors[0]["error"]
    assert [] == goal.run(ITEMS)


@pytest.mark.parametrize("snapshot", [True, False], ids=["one-snapshot", "no-snapshot"])
def test_without_a_target_rows_are_read_and_counted(items, origin, snapshot):
    """And transformed, where there is a transform."""
    seen = []

    def look(rows):
        seen.extend(rows)
        return rows

    result = load(origin, None, snapshot=snapshot)
    load(origin, None, transformation_func=look)

    assert ("succeeded", 35, 35, 0) == (
        result.status,
        result.total_rows_processed,
        result.total_rows_successful,
        result.rows_written,
    )
    assert list(range(35)) == sorted(row["id"] for row in seen)


REFUSED: dict[str, tuple[str, type[Exception], str]] = {
    "unknown": (
        "select id, name, amount, 1 as colour from item",
        TargetError,
        "has no column colour",
    ),
    "missing": ("select id, amount from item", TargetError, "requires name"),
    "duplicate": ("select id, name, name from item", QueryError, "several columns named"),
    "duplicate-but-for-case": (
        'select id, name, amount as "Name" from item',
        TargetError,
        "go to the same column",
    ),
    "no-table": ("select * from nothing", QueryError, "nothing"),
    "no-column": ("select nope from item", QueryError, "nope"),
    "no-key": ("select id, name from item", QueryError, "chunk_key nope is not a column"),
    "syntax": ("select from where", QueryError, "syntax"),
}


IN_ORACLES_WORDS = {
    "duplicate": "refuses the query",
    "no-table": "does not exist",
    "syntax": "refuses the query",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_fit_is_refused_before_rows_move(items, origin, goal, case):
    """By name, with a cure; the target is as it was, without so much as a load in the ledger."""
    sql, error, words = REFUSED[case]
    if "duplicate" in case and isinstance(origin, SQLite):
        # SQLite numbers such columns, even those that differ in case.
        error, words = TargetError, "has no column name:1"
    if isinstance(origin, OracleSchema):
        words = IN_ORACLES_WORDS.get(case, words)
    goal.run("drop table item", "create table item (id int, name text not null, amount int)")
    key = {"chunk_key": "nope"} if case == "no-key" else {}

    with pytest.raises(error, match=f"(?i){words}"):
        load(origin, goal, sql, **key)

    assert [] == goal.run(ITEMS)


def test_an_unnamed_column_is_refused(items, goal, origin):
    """PostgreSQL calls it ?column?; SQLite gives it the text of its expression."""
    wanted = "no name" if isinstance(origin, PostgreSQL) else "has no column"
    with pytest.raises((QueryError, TargetError), match=wanted):
        load(origin, goal, "select id, amount + 1 from item")


def test_a_column_that_the_target_computes_is_refused(items, origin, goal):
    """Only the database may write it."""
    goal.run(
        "drop table item",
        "create table item (id int, name text, amount int generated always as (id * 2) stored)",
    )

    with pytest.raises(TargetError, match=r"(?i)computes amount itself"):
        load(origin, goal)
    load(origin, goal, "select id, name from item").raise_for_failures()

    assert [(0, 0), (1, 2)] == goal.run("select id, amount from item order by id")[:2]


def test_a_table_that_is_not_there_is_refused(items, origin, goal):
    """The message names it."""
    goal.run("drop table item")
    with pytest.raises(TargetError, match="has no table"):
        load(origin, goal)


def test_names_match_whatever_their_case(origin, goal):
    """An exact name wins, else the one that differs in case alone."""
    origin.run("create table item (id int, name text)", "insert into item values (1, 'a')")
    goal.run('create table item ("ID" int, "Name" text)')

    load(origin, goal).raise_for_failures()

    assert [(1, "a")] == goal.run('select "ID", "Name" from item')


def test_common_values_arrive_unchanged(origin, goal):
    """Whole and decimal numbers, texts of any sign, bytes, dates and times, and NULL."""
    for database in (origin, goal):
        blob = "bytea" if isinstance(database, PostgreSQL) else "blob"
        database.run(
            f"create table item (id bigint, price {database.number}, ratio double precision,"
            f" name text, bin {blob}, day date, at {database.moment}, yes boolean)"
        )
    rows = [
        (1, "12.340", 0.1, "ä 'q' \"d\" \\ % :x 😀\n\t", b"\0\xff", "2024-02-29", True),
        (-(2**63), "-0.001", 1e300, "", b"", "0001-01-01", False),
        (2**63 - 1, "999999999.999", -5e-324, "\\N", b"\\x", "9999-12-31", None),
        (0, None, None, None, None, None, None),
    ]
    marks = ", ".join(origin.placeholders(8))
    for row in rows:
        *values, yes = row
        at = None if row[5] is None else f"{row[5]} 23:59:59.123456"
        origin.run(f"insert into item values ({marks})", values=(*values, at, yes))
    # Oracle has no empty text, and no bytes without a byte.
    on_oracle = OracleSchema in {type(origin), type(goal)}

    load(origin, goal).raise_for_failures()

    def plain(row):
        number, price, ratio, name, raw, day, at, yes = row
        return (
            number,
            None if price is None else Decimal(price),
            ratio,
            (name or None) if on_oracle else name,
            None if raw is None or (on_oracle and not raw) else bytes(raw),
            str(day)[: len("2024-01-01")] if isinstance(day, date) else day,
            str(at) if isinstance(at, datetime) else at,
            yes if yes is None else bool(yes),
        )

    asked = "select * from item order by id"
    assert [plain(r) for r in origin.run(asked)] == [plain(r) for r in goal.run(asked)]
    assert 4 == len(goal.run(asked))


def test_a_value_that_the_target_refuses_fails_in_words(items, origin, goal):
    """No retry, no row."""
    goal.run(
        "drop table item", "create table item (id int, name text, amount int check (amount < 0))"
    )

    result = load(origin, goal)

    assert "failed" == result.status
    # Without a snapshot there is no counting what was never read to its end; a stream is read on.
    uncounted = isinstance(origin, SQLite) and isinstance(goal, SQLite)
    assert (uncounted, 0 if uncounted else 35) == (
        result.chunks_uncounted,
        result.total_rows_failed,
    )
    # A stage has no constraints: there the rows are refused when they are published.
    errors = [*(e["error"] for e in result.chunk_errors), *filter(None, [result.error])]
    assert errors
    assert all("check constraint" in error.lower() for error in errors)
    assert {1} >= {e["attempts"] for e in result.chunk_errors}
    assert [] == goal.run(ITEMS)


@pytest.mark.parametrize("transform", [None, lambda rows: rows], ids=["plain", "transform"])
def test_json_text_of_sqlite_is_json_in_postgresql(make_database, tmp_path, transform):
    """Not a JSON string that holds JSON."""
    origin, goal = SQLite(tmp_path / "source.db"), PostgreSQL(make_database("target"))
    origin.run("create table item (id int, doc json)")
    for number, doc in enumerate(['{"a": [1, null]}', "[]", '"text"', "7", None]):
        origin.run("insert into item values (?, ?)", values=(number, doc))
    goal.run("create table item (id int, doc jsonb)")

    load(origin, goal, transformation_func=transform).raise_for_failures()

    assert [({"a": [1, None]},), ([],), ("text",), (7,), (None,)] == goal.run(
        "select doc from item order by id"
    )


TYPES: dict[str, str] = {
    "smallint": "-32768",
    "bigint": "9223372036854775807",
    "numeric": "123456789012345678901234567890.123456789012345678901234567890",
    "numeric(12,2)": "1.50",
    "real": "0.1",
    "double precision": "'NaN'",
    "text": r"E'tab\there \\N \\. newline\n\'😀'",
    "varchar(5)": "'ab'",
    "char(5)": "'ab'",
    "boolean": "true",
    "date": "'infinity'",
    "time": "'24:00:00'",
    "timetz": "'12:00:00+05:30'",
    "timestamp": "'-infinity'",
    "timestamptz": "'4713-01-01 00:00:00+00 BC'",
    "interval": "'1 mon -3 days 00:00:00.000001'",
    "bytea": r"'\x00ff5c27'",
    "bytea[]": r"""'{"\\x5c27",NULL}'""",
    "uuid": "'00000000-0000-0000-0000-000000000001'",
    "json": """'{"b": 1, "a": [null, "x"]}'""",
    "jsonb": """'[1.5, "\\\\u00e4", null]'""",
    "int[]": "'{{1,2},{3,NULL}}'",
    "text[]": """'{"a,b","\\"q\\"",NULL,"null",""}'""",
    "inet": "'192.168.0.1/24'",
    "macaddr": "'08:00:2b:01:02:03'",
    "bit(5)": "'10101'",
    "int4range": "'[1,5)'",
    "xid8": "'7'",
    "oid": "'7'",
    "mood": "'happy'",
    "mood[]": "'{sad,happy}'",
    "posint": "5",
    "pair": "'(1,x)'",
    "point": "'(1.5,2)'",
    "tsvector": "'a:1 b:2'",
    "money": "'12.34'",
}
# Python has no value for these; psycopg says so, and the chunk fails rather than lose something.
NO_PYTHON_VALUE = {"date", "timestamp", "timestamptz", "time", "interval"}


@pytest.mark.parametrize("path", ["binary copy", "text copy", "rows"])
def test_values_of_every_type_travel_unchanged_between_postgresqls(make_database, path):
    """On each of the three data paths, or the load says what it cannot carry."""
    origin = PostgreSQL(make_database("source"))
    goal = PostgreSQL(make_database("target"))
    refused = []
    for database in (origin, goal):
        database.run(
            "create type mood as enum ('sad', 'happy')",
            "create domain posint as int check (value > 0)",
            "create type pair as (n int, t text)",
        )
    # Text is forced by a column whose type differs on both sides.
    sql = "select id::bigint as id, v from item" if path == "text copy" else "select * from item"
    for kind, literal in TYPES.items():
        for database in (origin, goal):
            database.run("drop table if exists item", f"create table item (id int, v {kind})")
        origin.run(f"insert into item values (1, {literal}), (2, null)")

        result = load(
            origin,
            goal,
            sql,
            enable_parallel=False,
            transformation_func=(lambda rows: rows) if path == "rows" else None,
        )

        if result.status == "failed":
            refused.append(kind)
            assert result.chunk_errors[0]["error"]
            continue
        assert path == result.data_path or kind in {"mood", "mood[]", "pair", "oid", "tsvector"}
        asked = "select id, v::text from item order by id"
        assert origin.run(asked) == goal.run(asked), kind
    assert set(refused) <= (NO_PYTHON_VALUE if path == "rows" else set())


UNFIT = {
    ("text", "integer"),
    ("bigint", "double precision"),
    ("numeric", "double precision"),
    ("numeric", "numeric(12,2)"),
    ("numeric(12,4)", "numeric(14,2)"),
    ("double precision", "numeric(12,2)"),
    ("double precision", "real"),
    ("timestamp", "timestamp(3)"),
    ("timestamptz", "timestamptz(0)"),
    ("timestamp", "timestamptz"),
    ("timestamp", "date"),
    ("timestamptz", "timestamp"),
    ("time", "time(3)"),
    ("text", "name"),
    ("bytea", "uuid"),
    ("boolean", "integer"),
    ("int[]", "int"),
    ("json", "jsonb"),
    ("char(5)", "text"),
}
FIT = {
    ("smallint", "bigint"),
    ("integer", "numeric"),
    ("integer", "numeric(12,2)"),
    ("numeric(12,2)", "numeric(14,4)"),
    ("numeric(5,0)", "numeric(12,2)"),
    ("real", "double precision"),
    ("date", "timestamp"),
    ("timestamp(3)", "timestamp"),
    ("timestamp(0)", "timestamp(3)"),
    ("uuid", "text"),
    ("numeric", "text"),
    ("varchar(5)", "text"),
    ("text", "varchar(5)"),
    ("integer", "posint"),
    ("numeric(12,2)[]", "numeric(12,2)[]"),
}


@pytest.mark.parametrize(("ours", "theirs"), sorted(UNFIT | FIT), ids=str)
def test_a_type_that_could_change_a_value_is_refused(make_database, ours, theirs):
    """In words that name both types and the cast that would make it the caller's decision."""
    origin = PostgreSQL(make_database("source"))
    goal = PostgreSQL(make_database("target"))
    goal.run("create domain posint as int check (value > 0)")
    origin.run(f"create table item (id int, v {ours})", "insert into item values (1, null)")
    goal.run(f"create table item (id int, v {theirs})")

    if (ours, theirs) in FIT:
        assert "succeeded" == load(origin, goal).status
    else:
        with pytest.raises(TargetError, match="cast it in the query"):
            load(origin, goal)
