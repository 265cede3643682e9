"""Keys of very large tables are cut by a sample, whether or not an index has them."""

from collections import Counter

import psycopg
import pytest

from mapper_core import plan
from mapper_core.adapters.postgresql import cuts

from .running import load, multiset

ROWS, CHUNK = 60_000, 5_000
QUERY = "select * from orders"


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """What is sampled are millions of rows; here, thousands."""
    monkeypatch.setattr(cuts, "_SAMPLE_FROM", ROWS // 2)
    monkeypatch.setattr(cuts, "_SAMPLED_PER_CHUNK", 1_000)


@pytest.fixture
def orders(source, target, run):
    """60,000 orders, keys with gaps; an index for each column."""
    table = "create table orders (id int primary key, customer int, note text)"
    run(
        source,
        table,
        "insert into orders select i * 7, nullif(i % 1000, 0), repeat('n', 90)"
        f" from generate_series(1, {ROWS}) i",
        "create index on orders (customer)",
        "vacuum (analyze) orders",
    )
    run(target, table.replace(" primary key", ""))


def planned(source, query=QUERY, **options):
    return plan(source, query, strategy="key", chunk_size=CHUNK, **options)


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("key", ["id", "customer"])
def test_an_indexed_key_is_cut_by_a_sample(source, target, key):
    """Chunks are about as large as they should be, and every row is in one of them."""
    decided = planned(source, chunk_key=key)
    assert "a sample of 20 % of the keys" in decided.strategy_reason

    options = {"strategy": "key", "chunk_key": key, "chunk_size": CHUNK, "max_workers": 2}
    result = load(source, QUERY, target, "orders", **options)

    assert multiset(source, QUERY) == multiset(target, QUERY)
    sizes = [chunk.rows_read for chunk in result.chunk_results]
    assert max(sizes) < 2 * CHUNK
    # Rows without a customer are a chunk of their own; there are none without an id.
    kinds = Counter(chunk.kind.value for chunk in decided.chunks)
    assert kinds["nulls"] == (key == "customer")


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("times", [0.6, 5])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_sample_knows_better_than_a_wrong_estimate(source, run, times, indexed):
    """Chunks have the size asked for, whatever the server believes of its table."""
    if not indexed:
        run(source, "alter table orders drop constraint orders_pkey")
    run(
        source,
        "alter table orders set (autovacuum_enabled = false)",
        f"update pg_class set reltuples = {ROWS * times} where relname = 'orders'",
    )
    decided = planned(source, chunk_key="id")
    assert "a sample of" in decided.strategy_reason
    lows = ", ".join(chunk.low[0] for chunk in decided.chunks if chunk.low)
    counted = f"select count(*) from orders group by width_bucket(id, array[{lows}])"
    sizes = [size for (size,) in run(source, counted)]
    assert max(sizes) < 2 * CHUNK
    assert len(sizes) < 2 * ROWS / CHUNK


@pytest.mark.usefixtures("orders")
def test_rows_without_a_key_make_the_others_chunks_no_smaller(source, run):
    """They are a chunk of their own."""
    run(
        source,
        "update orders set customer = case when id % 5 < 3 then id end",
        "vacuum (analyze) orders",
    )
    decided = planned(source, chunk_key="customer")
    assert "a sample of" in decided.strategy_reason
    assert abs(len(decided.chunks) - 1 - 0.6 * ROWS / CHUNK) <= 1


@pytest.mark.usefixtures("orders")
def test_few_rows_of_a_large_table_are_walked(source):
    """A sample of the table tells little of them, and reads more."""
    some = f"{QUERY} where id < {6 * ROWS}"
    assert "over an index" in planned(source, some, chunk_key="id").strategy_reason
    noted = f"{QUERY} where note <> ''"
    assert "over an index" in planned(source, noted, chunk_key="id").strategy_reason


@pytest.mark.usefixtures("orders")
def test_a_value_with_more_rows_than_a_chunk_is_found_by_walking(source, run):
    """Where one value is heavy, cuts of a sample would fall together."""
    run(source, "update orders set customer = 5 where id % 2 = 0", "vacuum (analyze) orders")
    assert "over an index" in planned(source, chunk_key="customer").strategy_reason


@pytest.mark.usefixtures("orders")
def test_the_first_column_of_a_key_may_do(source):
    """All columns are needed only where the first has heavy values, or where they were named."""
    ordered = f"{QUERY} order by id, customer"
    assert "ranges of id (" in planned(source, ordered).strategy_reason
    named = planned(source, chunk_key=["id", "customer"])
    assert "ranges of id, customer (" in named.strategy_reason


@pytest.mark.parametrize(
    ("conditions", "all_rows"),
    [
        ([], True),
        (["(id IS NOT NULL)"], True),
        (["((id IS NOT NULL) AND (customer IS NOT NULL))"], True),
        (["(id < 5)"], False),
        (["((id IS NOT NULL) AND (id < 5))"], False),
        (["((id < 5) AND (id IS NOT NULL))"], False),
        (["((id IS NOT NULL) OR (id < 5))"], False),
    ],
)
def test_only_that_the_key_is_there_is_no_condition(conditions, all_rows):
    """Servers before version 17 ask it of every key."""
    nodes = [{"Node Type": "Index Scan", "Index Cond": words} for words in conditions]
    assert cuts._reads_all(nodes or [{"Node Type": "Index Only Scan"}]) is all_rows


def test_the_planner_s_words_for_a_key_that_is_there(source, run):
    """As this server writes them."""
    run(
        source,
        "create table t (id int)",
        "insert into t select generate_series(1, 5000)",
        "create index on t (id)",
        "vacuum (analyze) t",
    )
    with psycopg.connect(source) as connection:
        found = cuts._in_order(lambda sql: connection.execute(sql).fetchall(), "table t", ["id"])
    assert any("Index Cond" in node for node in found)
    assert cuts._reads_all(found)
