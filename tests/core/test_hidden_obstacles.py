"""What keeps a query from being split may hide where its SQL does not show it."""

from collections import Counter

import psycopg
import pytest

from mapper_core import execute_query_parallel, plan
from mapper_core.adapters.postgresql.survey import what_makes_whole

TABLE = """
create table t (id int primary key, k int, place tid);
insert into t select i, i % 7, case when i % 2 = 0 then '(1,1)'::tid end
    from generate_series(1, 600) i;
"""


def load(source, sql, columns, run, **options):
    """Load within one database, where every strategy is possible; return result and rows."""
    run(source, f"create table arrived ({columns})")
    result = execute_query_parallel(
        source,
        sql,
        target_conn=source,
        target_table="arrived",
        min_rows_for_parallel=0,
        max_workers=2,
        enable_progress=False,
        **{"chunk_size": 50, **options},
    )
    result.raise_for_failures()
    return result, run(source, "select * from arrived")


@pytest.mark.parametrize("strategy", [None, "same_database"])
@pytest.mark.parametrize(
    ("aggregate", "columns"),
    [("own_sum(id)", "x int"), ("jsonb_agg(id order by id)", "x jsonb")],
)
def test_an_aggregate_that_only_the_database_knows_is_computed_once(
    source, run, strategy, aggregate, columns
):
    """Ranges of blocks would each get one of their own."""
    run(source, TABLE, "create aggregate own_sum(int) (sfunc = int4pl, stype = int, initcond = 0)")
    sql = f"select generate_series(1, 100) as g, {aggregate} as x from t"

    _, arrived = load(source, sql, f"g int, {columns}", run, strategy=strategy, chunk_size=5)

    assert run(source, sql) == sorted(arrived, key=lambda row: row[0])


@pytest.mark.parametrize("strategy", [None, "same_database"])
def test_a_column_renamed_to_ctid_is_no_place_in_the_table(source, run, strategy):
    """Ranges of it would leave out its NULLs, or mean nothing for its type."""
    run(source, TABLE)

    for sql in (
        "select a, b from t as x(a, b, ctid)",
        "select a, b from t as x(a, ctid, b)",
    ):
        columns = "a int, b int" if "b, ctid" in sql else "a int, b tid"
        run(source, "drop table if exists arrived")
        _, arrived = load(source, sql, columns, run, strategy=strategy, chunk_size=10)
        assert Counter(run(source, sql)) == Counter(arrived)


@pytest.mark.parametrize("name", ["ärger", "Any dice", 'quo"te', "dice_of_mine"])
@pytest.mark.parametrize(
    "sql",
    [
        "select id, {name}() as r from t order by r",
        "select id, r from (values (1, {name}()), (2, {name}()), (3, {name}()), (4, {name} ()),"
        " (5, {name}()), (6, {name}())) v(id, r) order by r",
    ],
    ids=["list", "values"],
)
def test_a_volatile_function_is_found_by_any_name_and_place(source, run, name, sql):
    """A second reading would give other keys, in other chunks."""
    quoted = psycopg.sql.Identifier(name).as_string(None)
    run(
        source,
        TABLE,
        f"create function {quoted}() returns float8 language plpgsql volatile as"
        " 'begin return random(); end'",
    )
    sql = sql.format(name=quoted)

    result, arrived = load(source, sql, "id int, r float8", run, chunk_size=1)

    assert f"{name}() is volatile" in result.strategy_reason
    assert sorted(run(source, f"select id from ({sql}) q")) == sorted((i,) for i, _ in arrived)


def test_a_view_that_asks_for_the_time_is_read_at_one_moment(source, run):
    """A key that grows older from chunk to chunk would be read twice, or not at all."""
    run(
        source,
        TABLE,
        "create view ages as select id,"
        " now() - (timestamptz '2020-01-01' + id * interval '100 microseconds') as age from t",
        "create view days as select id, current_date - 7 as since from t",
    )

    for view, column in (("ages", "age interval"), ("days", "since date")):
        run(source, "drop table if exists arrived")
        sql = f"select * from {view} order by {column.split()[0]}"
        result, arrived = load(source, sql, f"id int, {column}", run, chunk_size=5)
        assert "present moment" in result.strategy_reason
        assert list(range(1, 601)) == sorted(number for number, _ in arrived)
    ages = run(source, "select count(distinct since) from arrived")
    assert [(1,)] == ages


@pytest.mark.parametrize(
    ("body", "called"),
    [
        ("language plpgsql as 'begin return NOW(); end'", "asking"),
        ("language plpgsql as 'begin return current_timestamp(3); end'", "asking"),
        ("language plpgsql as $$begin return 'now'::text::timestamptz; end$$", "asking"),
        ("set work_mem = '1MB' return now()", "asking"),
        ("language plpgsql as 'begin return asking(); end'", "leaving_it"),
    ],
)
def test_a_function_that_asks_for_the_time_is_called_by_one_statement(
    source, target, run, body, called
):
    """It is STABLE, which is within one statement: not from one session to the next."""
    if called == "leaving_it":
        run(
            source,
            "create function asking() returns timestamptz stable language plpgsql as"
            " 'begin return transaction_timestamp ( ); end'",
        )
    run(source, TABLE, f"create function {called}() returns timestamptz stable {body}")
    run(target, "create table arrived (id int, at timestamptz)")

    result = execute_query_parallel(
        source,
        f"select id, {called}() as at from t order by id",
        target_conn=target,
        target_table="arrived",
        min_rows_for_parallel=0,
        max_workers=2,
        chunk_size=50,
        enable_progress=False,
    )

    assert "the function asking() asks for the present moment" in result.strategy_reason
    assert run(target, "select count(*), count(distinct at) from arrived") == [(600, 1)]


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("select id, (:at)::timestamptz as at from t order by id", {"at": "now"}),
        ("select id, $$now$$::timestamptz as at from t order by id", None),
        ("select * from dumped order by id", None),
    ],
)
def test_a_text_that_means_now_means_it_once(source, target, run, sql, params):
    """A view of PostgreSQL before version 10 has such a text where current_timestamp was."""
    run(source, TABLE)
    run(source, "create view dumped as select id, ('now'::text)::timestamptz as at from t")
    run(target, "create table arrived (id int, at timestamptz)")

    execute_query_parallel(
        source,
        sql,
        params=params,
        target_conn=target,
        target_table="arrived",
        min_rows_for_parallel=0,
        max_workers=2,
        chunk_size=50,
        enable_progress=False,
    ).raise_for_failures()

    assert run(target, "select count(*), count(distinct at) from arrived") == [(600, 1)]


def test_a_view_that_picks_rows_picks_them_once(source, run):
    """Which of several equal rows DISTINCT ON keeps may differ from one statement to the next."""
    run(source, TABLE, "create view picked as select distinct on (k) k, id from t")
    run(source, 'create view "Over it" as select id, k from picked')

    result, arrived = load(
        source, 'select * from "Over it" order by id', "k int, id int", run, chunk_size=1
    )

    assert "DISTINCT ON" in result.strategy_reason
    assert list(range(7)) == sorted(k for k, _ in arrived)


def test_a_large_view_is_cut_without_a_sample(source):
    """Only tables can be sampled."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(
            "create function many() returns setof t language plpgsql stable rows 3000000 as"
            " 'begin return query select * from t; end'"
        )
        connection.execute("create view large as select * from many()")

    decided = plan(source, "select * from large order by id", chunk_size=100_000, strategy="key")

    assert "one sort of the keys" in decided.strategy_reason


def test_a_foreign_table_is_read_by_one_statement():
    """Each chunk would read it as it is then; without one read point that is what was asked for.

    Without a wrapper for such a table, as the tests' server is, this is a plan's.
    """
    scan = {"Node Type": "Foreign Scan", "Operation": "Select"}
    joined = {"Node Type": "Hash Join", "Plans": [{"Node Type": "Seq Scan"}, scan]}

    found = what_makes_whole(joined, one_moment=True)
    assert found == "a foreign table, which each chunk would read as it is then"
    assert what_makes_whole(joined, one_moment=False) is None
