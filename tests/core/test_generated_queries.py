"""Any query over any table: every row exactly once, or a refusal in words, by every strategy."""

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper_core import QueryError, execute_query_parallel

from ..databases import making_databases

# As in test_chunks: chunks this small make every boundary case likely.
_SETTINGS = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    max_examples=15,
)

STRATEGIES = (None, "physical", "key", "stream_once", "offset", "one_pass", "same_database")

# Type of the key -> an expression of a small number `v` that has that type; order is kept.
_KEYS = {
    "int": "v",
    "bigint": "v::bigint * 1000000007",
    "numeric": "v / 3.0",
    "float8": "case v when 0 then '-Infinity' when 5 then 'NaN' else v / 3.0::float8 end",
    "text": "chr(97 + v) || repeat('''%', v % 2)",
    "date": "date '0001-01-01 BC' + v * 400",
    "timestamptz": "timestamptz '2024-10-27 00:00+02' + v * interval '1 hour'",
    "interval": "v * interval '1 day'",
    "int[]": "array[v, null, v % 2]",
}

# Rows of `"Order"`: n is unique, k is the key, g has few values, note holds what SQL is made of.
_COLUMNS = "n int not null, k {kind}, g int, note text, pad text"

_LAYOUTS = {
    "plain": "create table {t} ({columns})",
    "keyed": "create table {t} ({columns}, primary key (n)); create index on {t} (k, g)",
    "partitioned": "create table {t} ({columns}) partition by list (g);"
    " create table part_1 partition of {t} for values in (0, 1) partition by range (n);"
    " create table part_1_1 partition of part_1 for values from (0) to (9);"
    " create table part_1_2 partition of part_1 default;"
    " create table part_default partition of {t} default",
    "inherited": "create table {t} ({columns}); create table child (own int) inherits ({t});"
    " create table grandchild () inherits (child)",
}

# What is put into the leaves other than by way of the table itself.
_CHILDREN = (
    "insert into child select * from {t} where n % 3 = 1;"
    " insert into grandchild select * from {t} where n % 3 = 2 and tableoid = '{t}'::regclass;"
    " delete from only {t} where n % 3 > 0"
)

_NOTES = ["where", "-- :x", "; drop", "50%", "%s", "''", "\\", "/* */", "order by", "$$"]

# Queries that give the same rows each time; T stands for the table.
EXACT = [
    "select * from T",
    "select t.* from T t order by t.k",
    "table T",
    'select n as "Group", k as "select", note as "a""b%s:x" from T order by "select", "Group" desc',
    "select n, k from only T order by k desc;",
    "select n, k from T where note <> 'where' and note <> '-- ; :x 100%' -- ; :x\n order by n",
    "select n, k from T /* where ; */ where n >= 0 /* order by n */ and note is not null ;; -- end",
    "select n, k from T where k is distinct from null order by k nulls first, n;",
    "select n, extract(epoch from interval '1 s' * n) as e from T order by e desc nulls last",
    "select n, k from T where $q$ where '$q$ <> note order by k, n desc",
    "select n, g from T where g is not distinct from null or g > 1 or false",
    "select n, g from T a where n in (select n from T where g = 1) order by g, n",
    "select n, (select count(*) filter (where b.n < a.n) from T b where b.g = a.g) as c from T a",
    "select n, k from T a where exists (select from T b where b.g = a.g and b.n <> a.n) order by n",
    "with x as (select n, k from T where g > 0) select * from x order by k",
    'with "where" as materialized (select * from T) select n, g from "where" where g = 1',
    "select n, k from T where g = 0 union all select n, k from T order by k",
    "select k from T union select k from T order by k desc",
    "select g from T except select 1 order by g",
    "(select k, n from T where g = 1) union all (select k, n from T) order by 2 desc",
    "select a.n as a, b.n as b, a.k from T a left join T b on a.g = b.n order by a.k",
    "select a.n, b.n as m from T a full join T b on a.n = b.g order by m",
    "select a.n, x.v from T a cross join lateral generate_series(1, a.g) x(v) order by v",
    "select distinct g, k from T order by k, g",
    "select distinct on (g) g, n from T order by g, n desc",
    "select n, row_number() over (partition by g order by n) as r, k from T order by r",
    "select n, sum(n) over w as s from T window w as (order by n) order by s",
    "select g, count(*) as c, max(n) filter (where n > 3) as m from T group by g order by c",
    "select g, n % 2 as odd, count(*) as c from T group by rollup (g, odd) having count(*) > 0",
    "select count(*) as c from T",
    "select n, k from T order by n limit 7",
    "select n, k from T order by n desc offset 3 rows fetch first 7 rows only",
    "select n from T where n in (select n from T order by n limit 5) order by n",
    "select n, generate_series(1, 3) as s from T order by s",
    "select n, unnest(array[k, null, k]) as u from T where n < 30 order by u",
    "select t.ctid as at, t.tableoid::int8 as o, n from T t order by at",
    "select k as n, n as k from T order by n",
    "select a, b from T as x(a, b, c) order by b",
    "select n, case when note ~ '-' then 'where' end from T order by case when true then n end",
    "with recursive r as (select 1 as i union all select i + 1 from r where i < 9) select i from r",
    "select x, y from (values (1, 'a;'), (2, null), (null, '--'), (1, 'a;')) v(x, y) order by x",
    "values (1, 'a'), (2, 'b'), (null, null)",
    "select i from generate_series(1, 20) i order by i desc",
    "select * from seen order by k",
    "select * from seen_some order by n",
    "select * from summed order by g",
    "select n, g from T where g between 1 and 2 and note like '%' escape '\\' order by g desc, n",
    "select null as nothing, n from T order by nothing",
]

# Queries whose rows may be any of those of the second one.
SOME = [
    ("select n, k from T limit 7", "select n, k from T"),
    ("select n, k from T where g = 1 offset 2", "select n, k from T where g = 1"),
    ("select distinct on (g) g, n from T", "select g, n from T"),
    ("select n, k from T order by g fetch first 5 rows only", "select n, k from T"),
    ("select n from T tablesample bernoulli (50) repeatable (3)", "select n from T"),
]

_QUERIES = [(sql, sql) for sql in EXACT] + SOME

_VIEWS = (
    "create view seen as select n, k, g from {t} where g is distinct from 1",
    "create view seen_some as select n, k from {t} order by n limit 9",
    "create view summed as select g, sum(n) as s from {t} group by g",
)


@dataclass(frozen=True)
class Table:
    """How a table is made."""

    kind: str
    layout: str
    rows: tuple[tuple[Any, ...], ...]
    analyzed: bool
    bloated: bool


_SMALL = st.integers(0, 7)
_ROWS = st.sampled_from([0, 1, 8, 40]).flatmap(
    lambda most: st.lists(
        st.tuples(
            # A value drawn often makes duplicates heavy.
            st.none() | st.just(3) | _SMALL,
            st.none() | st.just(1) | st.integers(0, 4),
            st.none() | st.sampled_from(_NOTES),
        ),
        min_size=most // 2,
        max_size=most,
    ).map(tuple)
)

_TABLES = st.builds(
    Table,
    kind=st.sampled_from(sorted(_KEYS)),
    layout=st.sampled_from(sorted(_LAYOUTS)),
    rows=_ROWS,
    analyzed=st.booleans(),
    bloated=st.booleans(),
)


@pytest.fixture(scope="module")
def pair(server):
    """URLs of one pair of databases for the module's many examples."""
    with making_databases(server) as make:
        yield make("source"), make("target")


@contextmanager
def _both(pair):
    with (
        psycopg.connect(pair[0], autocommit=True) as source,
        psycopg.connect(pair[1], autocommit=True) as target,
    ):
        # A statement kept from one table's shape would not fit the next one's.
        source.prepare_threshold = target.prepare_threshold = None
        yield source, target


def url_of(connection):
    info = connection.info
    return f"postgresql://postgres@/{info.dbname}?host={quote(info.host, safe='')}"


def build(connection, table):
    """Make the table and its views anew."""
    t = '"Order"'
    connection.execute(
        'drop table if exists arrived, "Order" cascade;'
        + _LAYOUTS[table.layout].format(t=t, columns=_COLUMNS.format(kind=table.kind))
    )
    value = _KEYS[table.kind].replace("%", "%%")
    # Four rows fill a block, so that tables this small have several.
    insert = (
        f"insert into {t} select %(n)s, {value}, %(g)s, %(note)s, repeat('x', 1900)"
        " from (select %(v)s::int) given(v)"
    )
    rows = [{"n": n, "v": v, "g": g, "note": s} for n, (v, g, s) in enumerate(table.rows)]
    with connection.transaction():
        if rows:
            connection.cursor().executemany(insert, rows)
        if table.bloated:
            # Versions that nobody sees any more, and rows that have moved.
            connection.execute(f"update {t} set note = note where n % 2 = 0")
            connection.execute(f"insert into {t} select n + 1000, k, g, note, pad from {t}")
            connection.execute(f"delete from {t} where n >= 1000")
        if table.layout == "inherited":
            connection.execute(_CHILDREN.format(t=t))
    for view in _VIEWS:
        connection.execute(view.format(t=t))
    if table.analyzed:
        connection.execute(f"analyze {t}")


def rows_of(connection, sql):
    """Return the query's rows as texts; comparable whatever the types."""
    return Counter(connection.execute(f"select q::text from (\n{sql}\n) q").fetchall())


def make_target(source, target, sql):
    """Create a table of the query's shape, without its collations and constraints."""
    source.execute(f"create table arrived as select * from (\n{sql}\n) q with no data")
    if source is target:
        return
    columns = source.execute(
        "select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', '"
        " order by attnum) from pg_attribute where attrelid = 'arrived'::regclass and attnum > 0"
    ).fetchone()[0]
    target.execute("drop table if exists arrived")
    target.execute(f"create table arrived ({columns})")


def over_table(sql):
    """Return the query with the table's name in it."""
    return re.sub(r"\bT\b", '"Order"', sql)


def without_end(sql):
    """Return the query as it may stand in a subquery."""
    return sql.split(" -- end")[0].rstrip("; ")


def load_once(source, target, sql, whole, *, strategy, key_columns, chunk_size):
    """Load the query; assert the promise; return the result, or None for a strategy refused."""
    source.execute("drop table if exists arrived")
    make_target(source, target, without_end(sql))
    names = [column.name for column in source.execute("select * from arrived").description]
    key = names[:key_columns]

    def load():
        return execute_query_parallel(
            url_of(source),
            sql,
            target_conn=url_of(target),
            target_table="arrived",
            strategy=strategy,
            chunk_key=key or None,
            chunk_size=chunk_size,
            min_rows_for_parallel=0,
            max_workers=2,
            enable_progress=False,
        )

    try:
        result = load()
    except QueryError as error:
        if strategy is None or f"strategy={strategy!r} is not possible: " not in str(error):
            raise
        return None
    result.raise_for_failures()
    arrived = rows_of(target, "select * from arrived")
    sent = rows_of(source, without_end(sql))
    if sql == whole:
        assert sent == arrived, (sql, result.strategy_reason)
    else:
        assert sent.total() == arrived.total(), (sql, result.strategy_reason)
        assert arrived <= rows_of(source, whole)
    count = sent.total()
    assert count == result.total_rows_processed == result.total_rows_successful
    sizes = [chunk.rows_read for chunk in result.chunk_results]
    assert count == sum(sizes)
    if result.strategy in {"offset", "stream_once"}:
        assert all(size <= chunk_size for size in sizes), (sql, sizes)
    if result.strategy == "key" and key:
        listed = ", ".join(psycopg.sql.Identifier(name).as_string(None) for name in key)
        heaviest, nulls = target.execute(
            "select coalesce(max(c), 0), coalesce(sum(c) filter (where lacking), 0) from ("
            f" select count(*) as c, num_nulls({listed}) > 0 as lacking"
            f" from arrived group by {listed}) q"
        ).fetchone()
        most = max(2 * chunk_size, chunk_size + heaviest, nulls)
        assert all(size <= most for size in sizes), (sql, sizes)
    return result


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_row_arrives_once_or_the_strategy_is_refused(pair, strategy):
    """The target holds what the query gives, the totals say so, and no chunk is far too large."""
    served: Counter[str | None] = Counter()

    @_SETTINGS
    @given(
        _TABLES,
        st.lists(st.tuples(st.sampled_from(_QUERIES), st.integers(0, 2)), min_size=4, max_size=4),
        st.integers(1, 9),
    )
    def check(table, cases, chunk_size):
        with _both(pair) as (source, other):
            target = source if strategy == "same_database" else other
            build(source, table)
            for (sql, whole), columns in cases:
                result = load_once(
                    source,
                    target,
                    over_table(sql),
                    over_table(whole),
                    strategy=strategy,
                    key_columns=columns,
                    chunk_size=chunk_size,
                )
                served[result and result.strategy] += 1

    check()

    assert {strategy} & set(served) or not strategy, "every query was refused"


def test_every_query_is_loaded_by_the_strategy_chosen_for_it(pair):
    """One table, every query: the ladder always has a strategy that serves."""
    rows = tuple((n % 9 if n % 5 else None, n % 4 or None, _NOTES[n % 10]) for n in range(60))
    with _both(pair) as (source, target):
        build(source, Table("text", "partitioned", rows, analyzed=True, bloated=False))
        served = {
            load_once(
                source,
                target,
                over_table(sql),
                over_table(whole),
                strategy=None,
                key_columns=0,
                chunk_size=7,
            ).strategy
            for sql, whole in _QUERIES
        }
    assert {"key", "physical", "stream_once"} == served
