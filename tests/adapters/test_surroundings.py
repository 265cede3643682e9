"""What a database, a role or a table's own definitions do to values on their way."""

from decimal import Decimal

import psycopg
import pytest
from psycopg import sql

from mapper_core import TargetError, execute_query_parallel, plan


def load(source, target, query="select * from t", **options):
    result = execute_query_parallel(
        source,
        query,
        target_conn=target,
        target_table="t",
        enable_progress=False,
        max_retries=0,
        **options,
    )
    result.raise_for_failures()
    return result


def _set(url, setting):
    """Make it the default of every session in the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set " + setting).format(name))


def _same_rows(rows):
    return [dict(row) for row in rows]


PATHS = {
    "blocks": {},
    "rows": {"transformation_func": _same_rows},
    "batches": {"transform_batch": lambda batch: batch},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("setting", ["array_nulls = off", "quote_all_identifiers = on"])
def test_settings_of_a_database_change_no_value(source, target, run, setting, side, path):
    """One makes the word NULL of a NULL in an array, the other hides what type a column has."""
    run(source, "create table t (id int, words text[], doc jsonb, place regclass, day date)")
    run(
        source,
        """insert into t values (1, '{a,NULL}', '[]', 'pg_class', '2024-02-29'),
        (2, '{"NULL"}', '"5"', 'pg_type', null)""",
    )
    run(target, "create table t (id bigint, words text[], doc jsonb, place regclass, day date)")
    _set({"source": source, "target": target}[side], setting)

    load(source, target, **PATHS[path])

    query = "select id, words::text, doc::text, place::oid, day from t order by id"
    assert run(source, query) == run(target, query)


def test_a_source_that_says_no_encoding_is_read_at_one_snapshot(make_database, target, run):
    """Psycopg reads its texts as bytes until a session is told how to write them."""
    ascii_only = make_database("ascii", encoding="sql_ascii")
    run(ascii_only, "create table t (id int primary key, a text)")
    run(ascii_only, "insert into t select i, 'row ' || i from generate_series(1, 500) i")
    run(target, "create table t (id int, a text)")

    result = load(ascii_only, target, min_rows_for_parallel=0, chunk_size=50, max_workers=2)

    assert 500 == result.total_rows_successful
    assert [(500, 500)] == run(target, "select count(*), count(distinct a) from t")


@pytest.mark.parametrize("query", ["coalesce(a, '')", "max(a)", "case when true then a end"])
@pytest.mark.parametrize("path", ["blocks"])
def test_padding_is_not_made_text(source, target, run, query, path):
    """PostgreSQL calls a char(n) out of an expression `bpchar`."""
    run(source, "create table t (a char(5))", "insert into t values ('ab')")
    run(target, "create table t (a text)")

    with pytest.raises(TargetError, match="not every value would arrive unchanged"):
        load(source, target, f"select {query} as a from t", **PATHS[path])

    assert [] == run(target, "select * from t")


def test_a_padded_expression_goes_into_a_padded_column(source, target, run):
    run(source, "create table t (a char(5))", "insert into t values ('ab'), (null)")
    run(target, "create table t (a char(7))")

    load(source, target, "select coalesce(a, 'x') as a from t")

    assert [("ab     ",), ("x      ",)] == run(target, "select a from t order by a")


def test_bits_of_another_length_are_refused_before_rows_move(source, target, run):
    run(source, "create table t (a bit(3))", "insert into t values ('101')")
    run(target, "create table t (a bit(5))")

    with pytest.raises(TargetError, match="not every value would arrive unchanged"):
        plan(source, "select * from t", target_conn=target, target_table="t")

    run(target, "drop table t", "create table t (a bit(3))")
    load(source, target, "select coalesce(a, '111') as a from t")
    assert [("101",)] == run(target, "select a::text from t")


def test_a_domain_gives_a_column_its_default_or_asks_for_a_value(source, target, run):
    """COPY leaves a column out without asking its domain whether it may be NULL."""
    run(source, "create table t (id int)", "insert into t values (1)")
    run(
        target,
        "create domain with_default as int default 7",
        "create domain needed as int not null",
        "create domain needed_too as needed",
        "create table t (id int, x with_default not null)",
    )

    load(source, target)
    assert [(1, 7)] == run(target, "select * from t")

    for domain in ("needed", "needed_too"):
        run(target, "drop table t", f"create table t (id int, x {domain})")
        with pytest.raises(TargetError, match="requires x"):
            load(source, target)
        run(target, "drop table t", f"create table t (id int, x {domain} default 3)")
        load(source, target)
        assert [(1, 3)] == run(target, "select * from t")


def test_an_array_whose_elements_no_comma_parts_passes_a_function(source, target, run):
    for database in (source, target):
        run(database, "create table t (id int, boxes box[], n numeric[])")
    run(
        source,
        "insert into t values (1, '{(1,1),(0,0);(2,2),(1,1)}', '{1.10,NULL}'), (2, null, null)",
    )

    seen: list[dict[str, object]] = []

    def note(rows):
        seen.extend(dict(row) for row in rows)
        return seen[-len(rows) :]

    load(source, target, transformation_func=note)

    query = "select id, boxes::text, n::text from t order by id"
    assert run(source, query) == run(target, query)
    assert [Decimal("1.10"), None] == seen[0]["n"]
