"""Every row of the query is in exactly one chunk, whatever the key."""

import math
import uuid
from collections import Counter
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper_core import execute_query_parallel

from ..databases import making_databases

# Chunks this small make every boundary case likely in a table of a few dozen rows.
_SETTINGS = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)

_TRICKY_TEXTS = ["", "a", "A", "b", "ä", "ss", "ß", "'", '"', "\\", "\\N", "%", "%s", ":x", "😀"]
_TRICKY_TEXTS += ["a b", "a\tb", "a\nb", "z", "Z", "é", "e\u0301", "_", "-", "co-op", "coop"]

# Type of the key -> its values.
_KEYS = {
    "int": st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3),
    "bigint": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0]),
    "numeric": st.decimals(-(10**30), 10**30, places=6, allow_nan=False)
    | st.sampled_from([Decimal("NaN"), Decimal("1.0"), Decimal("1.00"), Decimal(2**70)]),
    "double precision": st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf]),
    "real": st.floats(width=32) | st.sampled_from([0.1, math.nan, math.inf]),
    "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
    "timestamp": st.datetimes()
    | st.datetimes(datetime.fromisoformat("2024-03-31"), datetime.fromisoformat("2024-04-01")),
    "timestamptz": st.datetimes(
        datetime.fromisoformat("2024-10-26"),
        datetime.fromisoformat("2024-10-28"),
        timezones=st.just(timezone.utc),
    ),
    "interval": st.timedeltas(timedelta(-60), timedelta(60)),
    'text collate "C"': st.sampled_from(_TRICKY_TEXTS)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
    'text collate "pg_c_utf8"': st.sampled_from(_TRICKY_TEXTS),
    'text collate "en-x-icu"': st.sampled_from(_TRICKY_TEXTS),
    "text collate caseless": st.sampled_from(_TRICKY_TEXTS),
    "varchar(9)": st.sampled_from(_TRICKY_TEXTS),
    "char(4)": st.sampled_from(["a", "A", "b ", "%", "'", "ß"]),
    "uuid": st.uuids(version=4) | st.sampled_from([uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]),
    "bytea": st.binary(max_size=4),
    "boolean": st.booleans(),
    "int[]": st.lists(st.integers(0, 3) | st.none(), max_size=3),
}


@pytest.fixture(scope="module")
def pair(server):
    """URLs of one pair of databases for the module's many examples."""
    with making_databases(server) as make:
        yield make("source"), make("target")


@pytest.fixture(scope="module")
def pair_with_icu(server, server_with):
    """The same on a server that has the collations of ICU."""
    server = server_with(server, "ICU", "select 1 from pg_collation where collname = 'en-x-icu'")
    with making_databases(server) as make:
        yield make("source"), make("target")


@contextmanager
def _both(pair):
    with (
        psycopg.connect(pair[0], autocommit=True) as source,
        psycopg.connect(pair[1], autocommit=True) as target,
    ):
        yield source, target


# Under it unlike texts are equal.
_CASELESS = (
    "create collation if not exists caseless (provider = icu, deterministic = false,"
    " locale = 'und-u-ks-level2')"
)


def _load(pair, table, rows, *, key, chunk_size, sql=None):
    """Put rows (tuples) into `table` of the source, load it; assert the promise; return sizes."""
    with _both(pair) as (source, target):
        quoted = psycopg.sql.Identifier(table).as_string(None)
        for connection in (source, target):
            connection.execute(f"truncate {quoted}")
        if rows:
            marks = ", ".join(["%s"] * len(rows[0]))
            source.cursor().executemany(f"insert into {quoted} values ({marks})", rows)
        # Stale statistics choose between the walk and the sort as much as fresh ones do.
        source.execute(f"analyze {quoted}")
        result = execute_query_parallel(
            pair[0],
            sql or f"select * from {quoted}",
            target_conn=pair[1],
            target_table=table,
            chunk_key=key,
            chunk_size=chunk_size,
            min_rows_for_parallel=0,
            max_workers=2,
            enable_progress=False,
        )
        result.raise_for_failures()
        asked = f"select t::text from {quoted} t"
        sent, arrived = source.execute(asked).fetchall(), target.execute(asked).fetchall()
        listed = ", ".join(psycopg.sql.Identifier(k).as_string(None) for k in key)
        groups = source.execute(f"select count(*) from {quoted} group by {listed}").fetchall()

    assert Counter(sent) == Counter(arrived)
    assert "key" == result.strategy
    assert len(rows) == result.total_rows_processed == result.total_rows_successful
    sizes = [chunk.rows_read or 0 for chunk in result.chunk_results]
    assert len(rows) == sum(sizes)
    heaviest = max((count for (count,) in groups), default=0)
    nulls = sum(any(part is None for part in row[1 : 1 + len(key)]) for row in rows)
    assert all(s <= max(2 * chunk_size, chunk_size + heaviest, nulls) for s in sizes), sizes
    return result


@pytest.mark.parametrize("indexed", [False, True], ids=["sorted", "indexed"])
@pytest.mark.parametrize("kind", _KEYS)
def test_rows_of_any_key_arrive_once(request, kind, indexed):
    """Whatever the type, values, NULLs, duplicates and size of chunks."""
    of_icu = "icu" in kind or "caseless" in kind
    pair = request.getfixturevalue("pair_with_icu" if of_icu else "pair")
    with _both(pair) as connections:
        for connection in connections:
            connection.execute("drop table if exists t cascade")
            if of_icu:
                connection.execute(_CASELESS)
            if "pg_c_utf8" in kind and connection.info.server_version < 170_000:
                pytest.skip("the collation pg_c_utf8 came with version 17")
            connection.execute(f"create table t (n int, k {kind})")
        if indexed:
            connections[0].execute("create index on t (k)")
            # Tables this small are otherwise always sorted.
            connections[0].execute(
                "do $$ begin execute format('alter database %I set enable_sort = off',"
                " current_database()); end $$"
            )
    values = _KEYS[kind]

    @settings(_SETTINGS, max_examples=6)
    @given(
        # A few values drawn first make duplicates heavy.
        st.lists(values, min_size=1, max_size=4).flatmap(
            lambda few: st.lists(st.none() | st.sampled_from(few) | values, max_size=40)
        ),
        st.integers(1, 9),
    )
    def check(keys, chunk_size):
        rows = [(n, key) for n, key in enumerate(keys)]
        result = _load(pair, "t", rows, key=["k"], chunk_size=chunk_size)
        assert ("index" in result.strategy_reason) is indexed

    try:
        check()
    finally:
        with _both(pair) as (source, _):
            source.execute(
                "do $$ begin execute format('alter database %I reset all', current_database());"
                " end $$"
            )


@pytest.mark.parametrize("indexed", [False, True], ids=["sorted", "indexed"])
def test_rows_of_a_composite_key_arrive_once(pair, indexed):
    """NULLs in any part are in the chunk of NULLs and in no other; names may be any."""
    table = 'create table "Select" (n int, "Group by" int, "quo""te\'%" text, "ORDER" date)'
    with _both(pair) as connections:
        for connection in connections:
            connection.execute('drop table if exists "Select"')
            connection.execute(table)
        if indexed:
            connections[0].execute(
                'create index on "Select" ("Group by", "quo""te\'%", "ORDER");'
                "do $$ begin execute format('alter database %I set enable_sort = off',"
                " current_database()); end $$"
            )
    part = st.tuples(
        st.none() | st.integers(0, 2),
        st.none() | st.sampled_from(_TRICKY_TEXTS),
        st.none() | st.dates(date(2024, 1, 1), date(2024, 1, 3)),
    )

    @settings(_SETTINGS, max_examples=12)
    @given(st.lists(part, max_size=50), st.integers(1, 9))
    def check(parts, chunk_size):
        rows = [(n, *part) for n, part in enumerate(parts)]
        key = ["Group by", "quo\"te'%", "ORDER"]
        _load(pair, "Select", rows, key=key, chunk_size=chunk_size)

    try:
        check()
    finally:
        with _both(pair) as (source, _):
            source.execute(
                "do $$ begin execute format('alter database %I reset all', current_database());"
                " end $$"
            )


@pytest.fixture
def numbers(pair):
    """A table of a number and a nullable key on both sides."""
    with _both(pair) as connections:
        for connection in connections:
            connection.execute("drop table if exists t cascade")
            connection.execute("create table t (n int, k int)")
    return pair


@pytest.mark.parametrize("indexed", [False, True], ids=["sorted", "indexed"])
@pytest.mark.parametrize(
    "keys",
    [
        [],
        [7],
        [None],
        [None] * 30,
        [7] * 30,
        [7] * 30 + [None] * 5,
        [*range(5), *[9] * 50, *range(10, 15)],
        [-(2**31), 2**31 - 1, 0],
        list(range(31)),
    ],
    ids=["empty", "one", "one-null", "all-null", "same", "same-or-null", "skew", "sparse", "plain"],
)
def test_the_corner_tables_arrive_whole(numbers, keys, indexed):
    """Empty, one row, all NULL, all the same, one heavy value, far apart."""
    if indexed:
        with _both(numbers) as (source, _):
            source.execute("create index on t (k)")

    result = _load(numbers, "t", list(enumerate(keys)), key=["k"], chunk_size=5)

    nulls = [c for c in result.chunk_results if c.rows_read and c.rows_read == keys.count(None)]
    assert not keys.count(None) or nulls


def test_a_column_of_many_rows_per_estimate_is_cut_by_rank(numbers):
    """The planner's estimate may be wrong by any factor: chunks have the right size anyhow."""
    with _both(numbers) as (source, _):
        source.execute("insert into t select i, i % 97 from generate_series(1, 5000) i")
        # A set-returning function's rows are estimated at a thousand, whatever it returns.
        source.execute(
            "create or replace function rows_of_t() returns setof t language sql stable rows 1 as"
            " $$ select * from t $$"
        )

    result = execute_query_parallel(
        numbers[0],
        "select * from rows_of_t() order by k",
        chunk_size=200,
        min_rows_for_parallel=0,
        max_workers=2,
    )

    assert 5000 == result.total_rows_successful
    assert all(0 < (c.rows_read or 0) <= 400 for c in result.chunk_results)
    assert 20 <= result.chunks_total <= 40


def test_chunks_are_even_over_an_index(numbers):
    """With distinct keys every chunk holds chunk_size rows, but for the last."""
    with _both(numbers) as (source, _):
        source.execute("insert into t select i, i * i from generate_series(1, 1003) i")
        source.execute("create unique index on t (k)")
        source.execute("analyze t")

    result = execute_query_parallel(
        numbers[0],
        "select * from t order by k",
        chunk_size=100,
        min_rows_for_parallel=0,
        max_workers=1,
    )

    assert "index" in result.strategy_reason
    assert [*[100] * 10, 3] == [c.rows_read for c in result.chunk_results]


def test_tables_may_have_the_names_that_our_own_statements_use(numbers):
    """A query's table called cut, q, sorted, step or r is that table."""
    for name in ("cut", "q", "sorted", "step", "r", "c"):
        for index in ("", f"create index on {name} (k); analyze {name}"):
            with _both(numbers) as (source, _):
                source.execute(f"drop table if exists {name}")
                source.execute(
                    f"create table {name} as select i as k from generate_series(1, 100) i"
                )
                source.execute(index)

            result = execute_query_parallel(
                numbers[0],
                f"select * from {name} order by k",
                chunk_size=30,
                min_rows_for_parallel=0,
                max_workers=1,
            )

            assert (100, 4) == (result.total_rows_successful, result.chunks_total)
