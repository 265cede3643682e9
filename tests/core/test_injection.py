"""Names and values are never SQL: whatever they hold, nothing of it is run."""

from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg.types.json import Jsonb

from mapper_core import LoadWindow, MapperError, execute_query_parallel

STRATEGIES = ("physical", "key", "stream_once", "offset", "one_pass", "same_database")

# Ways out of quotes, casts, comments, placeholders and lists.
HOSTILE = [
    'x"; drop table victim; --',
    "x'; drop table victim; --",
    'x") from t; drop table victim; --',
    "x')::text); drop table victim; --",
    "\\'; drop table victim; --",
    "$$; drop table victim; $$",
    "*/ ; drop table victim; /*",
    "x\n; drop table victim; --",
    "; drop table victim;",
    ":load_id :name :x",
    "%s %(name)s %% %",
    'a"."b',
    '"',
    "'",
    "\\",
    "{0} {} {table}",
    "tableoid",
]


def quoted(*names):
    return psycopg.sql.Identifier(*names).as_string(None)


def load(source, sql, target, **options):
    result = execute_query_parallel(
        source,
        sql,
        target_conn=target,
        min_rows_for_parallel=0,
        max_workers=2,
        enable_progress=False,
        **options,
    )
    result.raise_for_failures()
    return result


@pytest.fixture
def victims(source, target, run):
    """A table on both sides that some of the names and values would drop."""
    for url in (source, target):
        run(url, "create table victim (a int)", "insert into victim values (1)")
    yield
    for url in (source, target):
        assert [(1,)] == run(url, "select * from victim")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_names_are_names(victims, source, target, run, strategy):
    """Of schemas, tables, columns, keys, the ledger and the load, in every strategy."""
    if strategy == "same_database":
        target = source
    for name in HOSTILE:
        column = "a b" if name == "tableoid" else name
        schema, ledger = f"s {name}", f"l {name}"
        table = quoted(schema, name)
        shape = f"(id int, {quoted(column)} text)"
        run(source, f"create schema {quoted(schema)}", f"create table {table} {shape}")
        run(source, f"insert into {table} select i, 'v' || i from generate_series(1, 9) i")
        goal = quoted(schema, f"to {name}")
        if target != source:
            run(target, f"create schema {quoted(schema)}")
        run(target, f"create table {goal} {shape}")

        result = load(
            source,
            f"select * from {table}",
            target,
            target_schema=schema,
            target_table=f"to {name}",
            chunk_key=[column, "id"],
            chunk_size=4,
            strategy=strategy,
            load_id=name,
            ledger_schema=ledger,
        )

        assert 9 == result.total_rows_successful
        assert run(source, f"select * from {table} order by 1") == run(
            target, f"select * from {goal} order by 1"
        )
        loads = run(target, f"select load_id, status from {quoted(ledger)}.load")
        assert [(name, "published")] == loads


@pytest.mark.parametrize("strategy", ["physical", "key", "same_database"])
def test_a_windows_column_is_a_name_and_its_bounds_are_values(
    victims, source, target, run, strategy
):
    """The window's rows are replaced, and no others."""
    if strategy == "same_database":
        target = source
    first = datetime.fromisoformat("2024-01-01")
    for number, name in enumerate(HOSTILE):
        at = quoted("a b" if name == "tableoid" else name)
        shape = f"(id int, {at} timestamp)"
        run(
            source,
            f"create table from_{number} {shape}",
            f"insert into from_{number} select i, '2023-12-31'::date + i"
            " from generate_series(1, 4) i",
            f"analyze from_{number}",
        )
        run(
            target,
            f"create table to_{number} {shape}",
            f"insert into to_{number} values (-1, '2024-01-01'), (-2, '2024-01-04')",
        )

        load(
            source,
            f"select * from from_{number} where {at} >= :window_start and {at} < :window_end",
            target,
            target_table=f"to_{number}",
            load_mode="replace_window",
            window=LoadWindow(
                "a b" if name == "tableoid" else name, first, first + timedelta(days=3)
            ),
            chunk_key="id",
            chunk_size=2,
            strategy=strategy,
        )

        assert [(-2,), (1,), (2,), (3,)] == run(target, f"select id from to_{number} order by id")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_params_are_values(victims, source, target, run, strategy):
    """Each arrives as it was given, next to whatever the SQL has beside it."""
    if strategy == "same_database":
        target = source
    run(source, "create table t as select i as id from generate_series(1, 5) i", "analyze t")
    values = {
        "n": -3,
        "b": HOSTILE[0].encode(),
        "d": date.fromisoformat("0001-01-01"),
        "m": Decimal("-1.50"),
        "l": [1, -2],
        "everything": HOSTILE,
    }
    run(target, "create table arrived (id int, n int, b bytea, d date, m numeric, l int[])")
    run(target, "alter table arrived add everything text[]")
    listed = ""
    for number, hostile in enumerate(HOSTILE):
        values[f"a{number}"] = hostile
        listed += f", :a{number}::text as a{number}"
        run(target, f"alter table arrived add a{number} text")
    sql = (
        "select id, 5 -:n::int as n, :b::bytea as b, :d::date as d, :m::numeric as m,"
        f" :l::int[] as l, :everything::text[] as everything {listed} from t"
        " where ':a1 -- %' <> :a1 and :a0/**/<>:a2 and id >:n order by id -- :a1"
    )

    result = load(
        source,
        sql,
        target,
        target_table="arrived",
        params=values,
        chunk_size=2,
        strategy=strategy,
    )

    assert 5 == result.total_rows_successful
    found = run(target, "select * from arrived where id in (1, 5)")
    expected = (8, values["b"], values["d"], values["m"], [1, -2], HOSTILE, *HOSTILE)
    assert [expected, expected] == [row[1:] for row in found]
    assert [(5,)] == run(target, "select count(distinct id) from arrived")


def test_a_value_that_no_text_may_hold_is_refused(victims, source, target, run):
    """A NUL would end the statement early."""
    run(target, "create table arrived (a text)")
    for value in ("\0; drop table victim", "a\0"):
        with pytest.raises((MapperError, psycopg.DataError), match="NUL"):
            load(
                source,
                "select :a::text as a",
                target,
                target_table="arrived",
                params={"a": value},
            )


@pytest.mark.parametrize("strategy", ["key", "same_database"])
@pytest.mark.parametrize("indexed", [False, True], ids=["sorted", "indexed"])
@pytest.mark.parametrize("kind", ["text", "bytea", "text[]", "name", "jsonb"])
def test_keys_are_values(victims, source, target, run, kind, indexed, strategy):
    """Every one of them is a cut; none is cut wrongly or run."""
    if strategy == "same_database":
        target = source
    run(source, f"create table t (k {kind}, n int)")
    with psycopg.connect(source, autocommit=True) as connection:
        for number, text in enumerate(HOSTILE):
            value = {
                "text": text,
                "name": text,
                "bytea": text.encode(),
                "text[]": [text, None, text],
                "jsonb": Jsonb({text: [text]}),
            }[kind]
            connection.execute(
                f"insert into t values (%s, {number}), (%s, -{number})".encode(), (value, value)
            )
    if indexed:
        run(source, "create index on t (k, n)")
    run(target, f"create table arrived (k {kind}, n int)")

    result = load(
        source,
        "select * from t",
        target,
        target_table="arrived",
        chunk_key=["k", "n"],
        chunk_size=1,
        strategy=strategy,
    )

    assert result.chunks_total >= 2 * len(HOSTILE) - 1 or strategy == "same_database"
    sent = run(source, "select t::text from t t")
    assert Counter(sent) == Counter(run(target, "select t::text from arrived t"))
