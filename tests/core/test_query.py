"""Reading a source SQL: its values, its key, what keeps it from being split."""

import pytest

from mapper_core import QueryError, execute_query_parallel
from mapper_core.query import UNPARSED, read_query


def read(sql, params=None, dialect="postgres"):
    return read_query(sql, params, dialect=dialect)


def rendered(sql, **params):
    """Return the SQL with every value written as `<name>`."""
    return read(sql, params).render(lambda name, _: f"<{name}>")


@pytest.mark.parametrize(
    "sql",
    [
        "select a::int, '12:30', b[1:2], :a from t",
        "select 100 % 7 as rest, '50%' as share, j ? 'k' as has from t",
        "select $$it's :a; b$$ as c",
    ],
)
def test_without_params_the_sql_is_passed_verbatim(sql):
    """Every colon, percent sign and quote survives."""
    assert read(sql).pieces == (sql,)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select :a", "select <a>"),
        ("select :a, :b, :a", "select <a>, <b>, <a>"),
        ("select x from t where d>=:a and d<:b", "select x from t where d>=<a> and d<<b>"),
        ("select '12:30'::time, x::a, :a::int", "select '12:30'::time, x::a, <a>::int"),
        ("select ':a', \":a\", 'it''s :a', :a", "select ':a', \":a\", 'it''s :a', <a>"),
        ("select e'\\':a', :a", "select e'\\':a', <a>"),
        ("select $$:a$$, $x$ $$ :a $x$, :a", "select $$:a$$, $x$ $$ :a $x$, <a>"),
        ("select 1 -- :a\n, :a", "select 1 -- :a\n, <a>"),
        ("select 1 /* :a /* :b */ :a */, :a", "select 1 /* :a /* :b */ :a */, <a>"),
        (
            "select x[1:2], x[:a], x[1:b], x[n:b] from t",
            "select x[1:2], x[<a>], x[1:b], x[n:b] from t",
        ),
        ("select f(x := :a)", "select f(x := <a>)"),
        ("select 'é🐘', :a", "select 'é🐘', <a>"),
        ("select :a\n;", "select <a>"),
        ("select :date, :end", "select <date>, <end>"),
        ("select 5 % :a, '%'", "select 5 % <a>, '%'"),
    ],
)
def test_values_stand_where_their_name_stands(sql, expected):
    """And nowhere else: not in strings, identifiers, comments, casts or slices."""
    assert rendered(sql, a=1, b=2, date=3, end=4) == expected


def test_a_name_without_value_is_refused():
    """The words list what was given."""
    with pytest.raises(QueryError, match=r"names :c, but params has no value .*given: a, b"):
        read("select :c", {"b": 1, "a": 2})
    with pytest.raises(QueryError, match="given: none"):
        read("select :c", {})


@pytest.mark.parametrize("value", [["a", "b"], ("a", "b"), {"a"}])
@pytest.mark.parametrize(
    "condition", ["k in :ks", "k in (:ks)", "k not in ('c', :ks)", "k IN (lower('x'), :ks)"]
)
def test_several_values_behind_in_are_refused_with_the_cure(condition, value):
    """The database would take them for one text, which is no row's: nothing would be loaded."""
    with pytest.raises(QueryError, match=r"IN before :ks, whose value is a .*= ANY\(:ks\)"):
        read(f"select * from t where {condition}", {"ks": value})


@pytest.mark.parametrize(
    "condition",
    [
        "k = any(:ks)",
        "k in (select unnest(:ks))",
        "k in (lower('x'), any_of(:ks))",
        "k = position('a' in b) and l && :ks",
    ],
)
def test_a_list_is_one_value_elsewhere(condition):
    """An array, say."""
    assert read(f"select * from t where {condition}", {"ks": ["a"]}).values == {"ks": ["a"]}


def test_several_values_load_the_rows_that_have_one_of_them(source, target, run):
    """As the words of the refusal say."""
    run(source, "create table t as select i, 'k' || i % 5 as k from generate_series(1, 50) i")
    run(target, "create table t (i int, k text)")

    def load(condition, value):
        return execute_query_parallel(
            source,
            f"select * from t where {condition}",
            params={"ks": value},
            target_conn=target,
            target_table="t",
            enable_progress=False,
        )

    assert load("k = any(:ks)", ["k1", "k2"]).total_rows_successful == 20
    with pytest.raises(QueryError, match="whose value is a tuple"):
        load("k in :ks", ("k1", "k2"))
    for wrong in ({"k1"}, {"k": "k1"}, object(), "a\0b"):
        with pytest.raises(QueryError, match=f"value for :ks of type {type(wrong).__name__}"):
            load("k = any(:ks)", wrong)
    assert run(target, "select count(*) from t") == [(20,)]


def test_a_value_that_the_sql_does_not_name_is_left_alone():
    """Windows are bound whether or not a query uses both ends."""
    assert dict(read("select :a", {"a": 1, "b": 2}).values) == {"a": 1}


@pytest.mark.parametrize(
    "sql",
    [
        *(
            "select 1;",
            "select 1 ;;\n",
            "select 1 ; -- done",
            "select 1 /* ; */ ;",
            "select 1 -- ;",
        ),
        *("select 1 -- done", "select 1--done\n -- and done", "select 1 /* done */"),
    ],
)
def test_the_end_of_the_statement_is_cut(sql):
    """It goes into a subquery, where a semicolon or comment would not do."""
    assert read(sql).pieces == ("select 1",)


@pytest.mark.parametrize(
    ("sql", "key", "kept"),
    [
        ("select * from t order by id", ("id",), "select * from t"),
        ("select * from t ORDER  BY Id Desc, b desc", ("id", "b"), "select * from t"),
        ("select * from t order by a, b desc, c", ("a",), "select * from t"),
        ('select * from t order by "Id" nulls last', ("Id",), "select * from t"),
        ("select * from t x order by x.id", ("id",), "select * from t x"),
        ("select a from t union all select a from u order by a", ("a",), None),
        ("select * from t order by 2", (), "select * from t"),
        ("select * from t order by lower(a), id", (), "select * from t"),
        ("select * from t order by a, lower(b), c", ("a",), "select * from t"),
        ('select * from t order by a collate "C"', (), "select * from t"),
        ("select * from t", (), "select * from t"),
        ("select * from t where a > 1 -- b\norder by a", ("a",), "select * from t where a > 1"),
        ("select * from (select * from t order by a) q", (), "same"),
        ("select * from t order by id limit 5", ("id",), "same"),
        ("select * from t order by id offset 5", ("id",), "same"),
        ("select distinct on (a) a, b from t order by a, b", ("a", "b"), "same"),
    ],
)
def test_the_order_by_names_the_key(sql, key, kept):
    """Its leading plain columns do; it is cut off where it no longer means anything."""
    query = read(sql)
    assert query.order_key == key
    kept = sql if kept == "same" else kept or sql.partition(" order by")[0]
    assert query.pieces == (kept,)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select * from t limit 5", "LIMIT"),
        ("select * from t where id in (select id from u limit 5)", "LIMIT"),
        ("select * from t fetch first 5 rows only", "LIMIT"),
        ("select * from t offset 5", "OFFSET"),
        ("select distinct on (a) a, b from t", "DISTINCT ON"),
        ("select a, row_number() over (order by a) as n from t", "a window function"),
        ("select * from t tablesample bernoulli (10)", "TABLESAMPLE"),
        ("select a, max(b) as b from t group by a", "GROUP BY"),
        ("select count(*) as n from t", "an aggregate"),
        (
            "with recursive x as (select 1 as i union all select i + 1 from x) select i from x",
            "recur",
        ),
        ("select random() as r from t", "gives a different value each time"),
        ("select gen_random_uuid() as r from t", "gives a different value each time"),
        ("select nextval('s') as r from t", "gives a different value each time"),
        ("select clock_timestamp() as r from t", "gives a different value each time"),
    ],
)
def test_what_cannot_be_split_says_why(sql, words):
    """Reading it in ranges would not give the query's own rows."""
    assert words in str(read(sql).blocker)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from t where d > now()",
        "select a, b from t join u using (id)",
        "select distinct a from t",
        "select a from t union select a from u",
        "with x as (select * from t) select * from x",
        "select generate_series(1, 3) as n from t",
    ],
)
def test_other_queries_can_be_split(sql):
    """A condition on the outside of them gives the same rows."""
    assert read(sql).blocker is None


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("select * from T", ("t",)),
        ('select a from "S"."T" where b', ("S", "T")),
        ("select * from s.t x order by x.a", ("s", "t")),
        ("table t", ("t",)),
        ("select * from t, u", None),
        ("select * from t join u using (a)", None),
        ("select * from t limit 1", None),
        ("select * from f(1)", None),
        ("select * from (select * from t) q", None),
        ("with t as (select 1 as a) select * from t", None),
    ],
)
def test_a_single_table_is_recognised(sql, table):
    """Its primary key is a key of the query's rows too."""
    assert read(sql).table == table


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "contains no statement"),
        (" ; -- nothing", "contains no statement"),
        ("select 1; select 2", "more than one statement"),
        ("select 1; drop table t;", "more than one statement"),
        ("insert into t values (1)", "not a query but INSERT"),
        ("update t set a = 1", "not a query but UPDATE"),
        ("delete from t", "not a query but DELETE"),
        ("drop table t", "not a query but DROP"),
        ("with gone as (delete from t returning *) select * from gone", "writes to the database"),
        ("select * into u from t", "writes to the database"),
        ("select * from t for update", "locks rows.*leave FOR UPDATE or FOR SHARE out"),
        ("select * from (select * from t for key share) t", "locks rows"),
    ],
)
def test_what_is_no_query_is_refused(sql, words):
    """Before anything is opened."""
    with pytest.raises(QueryError, match=words):
        read(sql)


def test_sql_that_cannot_be_parsed_is_left_to_the_database():
    """In one go and verbatim, unless values have to be found in it."""
    for sql in ("select * from t order by id using <", "select 'unclosed"):
        assert read(sql).pieces == (sql,)
        assert read(sql).blocker == UNPARSED
    with pytest.raises(QueryError, match="tokens could not be told apart"):
        read("select 'unclosed", {"a": 1})


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select * from nothing_such", 'refuses the query: relation "nothing_such" does not exist'),
        ("select nope from generate_series(1, 3)", 'column "nope" does not exist'),
        ("select 'unclosed", "refuses the query: "),
        ("select 1 as a, 2 as a", "several columns named a: rename them with AS"),
        ("select 1 as a, 1 + 1", "column 2 of the query has no name: give it one with AS"),
        ("select 1 as b", "dw.t has no column b; it has a"),
        ("call f()", "refuses the query: "),
        (
            "select a from generate_series(1, 3) a where a > :b and a < :c and '1:d' <> ':e'",
            "Nothing replaces :b, :c: no params are given",
        ),
    ],
)
def test_a_load_refuses_a_wrong_query_before_rows_move(sql, words, source, target, run):
    """In the database's own words, or in ours."""
    run(target, "create schema dw", "create table dw.t (a int)")
    with pytest.raises(Exception, match=words):
        execute_query_parallel(
            source, sql, target_conn=target, target_schema="dw", target_table="t"
        )
    assert run(target, "select count(*) from dw.t") == [(0,)]


def test_odd_sql_loads_as_it_is(source, target, run):
    """Percent signs, casts, slices, quotes and values, through every statement of a load."""
    run(
        source,
        "create table t as select i as id, array[i, 2, 3] as x from generate_series(1,300) i",
    )
    run(target, 'create table t (id int, share text, "part:x" int[], at time, "q" text, d date)')
    sql = """
        select id, '50%'::text as share, x[1:2] as "part:x", '12:30'::time as at,
               $q$a;'b$q$::text as q, :day::date as d -- :comment %s
        from t where id % :n = 0 and :text = 'it''s :n %' order by id ; """
    result = execute_query_parallel(
        source,
        sql,
        params={"day": "2024-02-29", "n": 3, "text": "it's :n %"},
        target_conn=target,
        target_table="t",
        chunk_size=30,
        min_rows_for_parallel=10,
    )
    result.raise_for_failures()
    assert result.chunks_total == 4
    assert run(target, "select count(*), min(id), max(t::text) filter (where id = 3) from t") == [
        (100, 3, '(3,50%,"{3,2}",12:30:00,a;\'b,2024-02-29)')
    ]


@pytest.mark.parametrize(
    ("sql", "asked"),
    [
        ("select * from t where d >= CURRENT_DATE - interval '30 days'", ["current_date"]),
        ("select now() as at, Current_Timestamp as b from t", ["now()", "current_timestamp"]),
        ("select coalesce(a, now()) as a, localtimestamp + b as b from t", None),
        ("select 1 as current_date, t.current_date as d from t", []),
        ("select 'call now()', \"now\", t.now from t -- current_date", []),
        ("select * from t where :d > CURRENT_DATE", ["current_date"]),
    ],
)
def test_questions_for_the_present_moment_are_found(sql, asked):
    """They are written anew for every read, all as one moment; nothing else changes."""
    query = read(sql, {"d": 1} if ":d" in sql else None)
    heard: list[str] = []

    def write_moment(words):
        heard.append(words)
        return "?"

    unchanged = query.render(lambda name, _: f":{name}")
    query.render(lambda name, _: f":{name}", write_moment)

    assert unchanged == sql.partition(" --")[0]
    if asked is not None:
        assert heard == asked
    assert query.blocker is None


@pytest.mark.parametrize(
    "sql",
    [
        "select current_timestamp(3) as a from t",
        "select age(born) as a from t",
        "select pg_catalog.now() as a from t",
        "select id, now() from t",
        "select id from (select current_date, id from t) s",
        "select current_date union select d from t",
        "select * from t where d = 'today'::date",
        "select * from t where d = ' now'::date",
        "select * from t where d = 'now()'::date",
        "select * from t where d > 'Yesterday 12:00'::timestamp",
        "select * from t where d > '12:00today'::timestamp",
        "select * from t where d > timestamptz 'today America/New_York'",
        "select * from t where d > timestamptz 'today EST'",
        "select * from t where d = $$now$$::date or d = $x$today$x$::date",
        "select * from t where d = e'now'::date",
    ],
)
def test_other_ways_to_ask_for_the_time_are_read_in_one_go(sql):
    """One statement has one present moment."""
    assert "moment" in read(sql).blocker or "named by" in read(sql).blocker


@pytest.mark.parametrize(
    "text", ["buy now", "nowhere", "%now%", "today's 2nd", "2024-01-01 12:00 EST", "", "n0w"]
)
def test_other_texts_are_no_question_for_the_time(text):
    """Nothing reads them as a time that depends on when they are read."""
    assert read("select * from t where k = :k", {"k": text}).blocker is None


@pytest.mark.parametrize("value", ["now", "today 06:00", ["2024-01-01", "yesterday"]])
def test_values_that_ask_for_the_time_are_read_in_one_go(value):
    """As `--param day=today`: a chunk that is read after midnight would have other rows."""
    blocker = read("select * from t where d >= any(:day)", {"day": value}).blocker
    assert "value of :day is" in blocker
    assert "different moment" in blocker
    assert read("select * from t where d >= :day", {"day": "1", "x": value}).blocker is None
