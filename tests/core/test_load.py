"""A load from PostgreSQL to PostgreSQL: every row of the query, once."""

from datetime import datetime

import pytest

from mapper_core import LoadWindow, ParallelProcessor, TargetError, execute_query_parallel

ROWS = "select count(*), sum(hashtextextended(o::text, 0)) from {} o"


@pytest.fixture
def orders(source, target, run):
    """25,000 orders in the source, an empty table of the same shape in the target."""
    table = "create table orders (id int primary key, amount numeric(12,2), note text)"
    run(
        source,
        table,
        "insert into orders select i, i / 7.0, 'n' || i from generate_series(1,25000) i",
    )
    run(target, "create schema dw", table.replace("orders", "dw.orders"))


def test_every_row_arrives_once_in_parallel_chunks(orders, source, target, run):
    """The target equals the source, and each chunk is in the ledger."""
    result = execute_query_parallel(
        source_conn=source,
        source_sql="SELECT * FROM orders ORDER BY id",
        target_conn=target,
        target_schema="dw",
        target_table="orders",
        chunk_size=2_000,
        min_rows_for_parallel=1_000,
        max_workers=3,
    )

    assert result.status == "succeeded"
    assert result.published
    assert (25_000, 25_000, 0) == (
        result.total_rows_processed,
        result.total_rows_successful,
        result.total_rows_failed,
    )
    assert 13 == result.chunks_total == result.chunks_succeeded
    assert run(source, ROWS.format("orders")) == run(target, ROWS.format("dw.orders"))
    assert [(13, 25_000)] == run(target, "select count(*), sum(rows_read) from mapper.claim")


@pytest.mark.usefixtures("orders")
def test_all_chunks_share_one_present_moment(source, target, run):
    """`now()` is the read point's in every chunk, however late its session began."""
    run(target, "create table dw.moments (id int, at timestamptz, day date)")

    result = execute_query_parallel(
        source_conn=source,
        source_sql="SELECT id, now() AS at, CURRENT_DATE AS day FROM orders ORDER BY id",
        target_conn=target,
        target_schema="dw",
        target_table="moments",
        chunk_size=5_000,
        min_rows_for_parallel=0,
        max_workers=2,
    )

    result.raise_for_failures()
    assert 5 == result.chunks_total
    ((moments, days, at),) = run(
        target, "select count(distinct at), count(distinct day), min(at)::text from dw.moments"
    )
    assert (1, 1) == (moments, days)
    assert result.snapshot.instant == at


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("numeric(10,4)", "numeric(10,2)"),
        ("numeric", "numeric(10,2)"),
        ("double precision", "numeric(10,2)"),
        ("timestamp", "timestamp(3)"),
        ("timestamptz", "timestamp"),
        ("timestamp", "timestamptz"),
        ("numeric(8,2)[]", "numeric(8,1)[]"),
        ("text", "name"),
        ("text", "integer"),
    ],
)
def test_a_type_that_would_change_values_is_refused_with_the_cast_to_write(
    source, target, run, ours, theirs
):
    """PostgreSQL would round, cut or shift such values without a word."""
    run(source, f"create table t (v {ours})", "insert into t values (null)")
    run(target, f"create table t (v {theirs})")

    with pytest.raises(TargetError, match='cast it in the query \\("v"::'):
        execute_query_parallel(source, "select v from t", target_conn=target, target_table="t")

    run(source, f"alter table t alter column v type {theirs} using null")
    loaded = execute_query_parallel(source, "select v from t", target_conn=target, target_table="t")
    assert loaded.status == "succeeded"


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("mode", ["append", "replace_window"])
@pytest.mark.parametrize("transform", [None, lambda rows: rows], ids=["plain", "transform"])
def test_a_trigger_that_drops_rows_is_noticed(source, target, run, mode, transform):
    """What the target took is counted at every step; less than was given is an error."""
    run(
        target,
        "alter table dw.orders add column day date not null default '2024-01-15'",
        "create function odd_only() returns trigger language plpgsql as"
        " 'begin if new.id % 2 = 0 then return null; end if; return new; end'",
        "create trigger odd before insert on dw.orders for each row execute function odd_only()",
    )
    window = LoadWindow("day", datetime(2024, 1, 1), datetime(2024, 2, 1))

    result = execute_query_parallel(
        source_conn=source,
        source_sql="SELECT *, date '2024-01-15' AS day FROM orders",
        target_conn=target,
        target_schema="dw",
        target_table="orders",
        load_mode=mode,
        window=window if mode == "replace_window" else None,
        transformation_func=transform,
    )

    assert "failed" == result.status
    assert "a trigger or rule" in (result.error or result.chunk_errors[0]["error"])
    assert [(0,)] == run(target, "select count(*) from dw.orders")


def test_a_row_value_with_a_null_in_it_is_a_key_like_any_other(source, target, run):
    """To PostgreSQL such a value IS neither NULL nor NOT NULL; its row is read all the same."""
    for url in (source, target):
        run(url, "create type pt as (a int, b int)", "create table t (k pt, id int)")
    run(
        source,
        "insert into t select row(i, case when i % 3 > 0 then i end)::pt, i"
        " from generate_series(1, 3000) i",
        "insert into t values (null, 0)",
    )
    for index in ("select 1", "create index on t (k)"):
        run(source, index, "analyze t")
        run(target, "truncate t")

        result = execute_query_parallel(
            source,
            "SELECT * FROM t ORDER BY k",
            target_conn=target,
            target_table="t",
            chunk_size=500,
            min_rows_for_parallel=0,
        )

        result.raise_for_failures()
        assert "key" == result.strategy
        assert [(3001, 3001)] == run(target, "select count(*), count(distinct id) from t")


@pytest.mark.parametrize(
    ("workers", "lanes", "helpers"), [(1, 0, "7"), (2, 0, "0"), (1, 1, "7"), (1, 2, "0")]
)
def test_of_several_workers_each_has_one_process_of_the_server(
    orders, source, target, run, workers, lanes, helpers
):
    """More would take the cores that the others want; who reads alone has what the server gives."""
    run(
        source,
        "do $$ begin execute format('alter database %I set max_parallel_workers_per_gather = 7',"
        " current_database()); end $$",
    )
    run(target, "create table allowed (id int, helpers text)")

    query = "select id, current_setting('max_parallel_workers_per_gather') as helpers from orders"
    processor = ParallelProcessor(
        target_conn=target,
        target_table="allowed",
        chunk_size=5_000,
        max_workers=workers,
        min_rows_for_parallel=0,
        enable_progress=False,
    )
    if lanes:
        processor.plan_load(source, query, "load")
        for lane in range(lanes):
            processor.load_lane(source, query, "load", lane=lane, lanes=lanes)
    else:
        processor.process_mapper_job(source, query).raise_for_failures()

    assert [(helpers, 25_000)] == run(target, "select helpers, count(*) from allowed group by 1")
