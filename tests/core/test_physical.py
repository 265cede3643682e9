"""Ranges of blocks: every row of the snapshot once, whatever kind of table, whatever happens."""

from typing import Any

import psycopg
import pytest

from mapper_core import LedgerError, QueryError, plan
from mapper_core.adapters.postgresql import blocks
from mapper_core.model import Refused

from ..waiting import assert_nothing_left
from .running import PAUSE, Background, at_the_gate, gate, load, multiset, refusal, waits_for_a_lock

ROWS = 3_000
COLUMNS = "id int, note text, version int not null"
# Rows of about a hundred bytes: eighty in a block.
FILL = "insert into {} select i, repeat('n', 60) || i, 1 from generate_series({}, {}) i"
SAME = "select * from orders"


@pytest.fixture
def orders(source, target, run):
    """3,000 orders without a key in the source, an empty table of the same shape in the target."""
    run(source, f"create table orders ({COLUMNS})", FILL.format("orders", 1, ROWS), PAUSE)
    run(source, "analyze orders")
    run(target, f"create table orders ({COLUMNS})")
    yield
    assert_nothing_left(source, target)


KINDS: dict[str, Any] = {
    "plain": (
        SAME,
        f"create table orders ({COLUMNS})",
        FILL.format("orders", 1, 3000),
    ),
    "unlogged": (
        SAME,
        f"create unlogged table orders ({COLUMNS})",
        FILL.format("orders", 1, 3000),
    ),
    "partitioned": (
        SAME,
        f"create table orders ({COLUMNS}) partition by range (id)",
        "create table few partition of orders for values from (0) to (10)",
        "create table many partition of orders for values from (10) to (2500)",
        "create table none partition of orders for values from (9000) to (9999)",
        "create table rest partition of orders default",
        FILL.format("orders", 1, 3000),
    ),
    "sub-partitioned": (
        SAME,
        f"create table orders ({COLUMNS}) partition by range (id)",
        "create table low partition of orders for values from (0) to (1000) partition by hash (id)",
        "create table low0 partition of low for values with (modulus 2, remainder 0)",
        "create table low1 partition of low for values with (modulus 2, remainder 1)",
        "create table high partition of orders for values from (1000) to (9000)",
        FILL.format("orders", 1, 3000),
    ),
    "inherited": (
        SAME,
        f"create table orders ({COLUMNS})",
        "create table late (more int) inherits (orders)",
        FILL.format("orders", 1, 2000),
        FILL.format("late", 2001, 3000),
    ),
    "only": (
        "select * from only orders",
        f"create table orders ({COLUMNS})",
        "create table late (more int) inherits (orders)",
        FILL.format("orders", 1, 2000),
        FILL.format("late", 2001, 3000),
    ),
    "materialized view": (
        SAME,
        f"create table base ({COLUMNS})",
        FILL.format("base", 1, 3000),
        "create materialized view orders as select * from base",
    ),
    "full of dead rows": (
        SAME,
        f"create table orders ({COLUMNS}) with (autovacuum_enabled = false)",
        FILL.format("orders", 1, 3000),
        "update orders set version = 2 where id % 3 = 0",
        "delete from orders where id between 500 and 1500",
    ),
    "aliased, with a condition and comments": (
        "SELECT o.* FROM public.orders AS o -- all\nWHERE (o.version = 1 OR o.id > 0) -- of them",
        f"create table orders ({COLUMNS})",
        FILL.format("orders", 1, 3000),
    ),
    "of an awkward name": (
        'select * from "Or;ders %s"',
        f'create table "Or;ders %s" ({COLUMNS})',
        FILL.format('"Or;ders %s"', 1, 3000),
    ),
    "grown since it was looked at": (
        SAME,
        f"create table orders ({COLUMNS}) with (autovacuum_enabled = false)",
        FILL.format("orders", 1, 30),
        "analyze orders",
        FILL.format("orders", 31, 3000),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_table_is_read_by_its_blocks(source, target, run, kind):
    """Chosen where nothing names a key; many chunks, every row once."""
    query, *made = KINDS[kind]
    run(source, *made)
    if kind not in {"full of dead rows", "grown since it was looked at"}:
        run(source, "analyze")
    run(target, f"create table orders ({COLUMNS})")

    result = load(source, query, target, "orders")

    assert ("succeeded", "physical") == (result.status, result.strategy)
    assert result.chunks_total > 2
    assert multiset(source, query) == multiset(target, SAME)
    assert result.total_rows_successful == multiset(source, query)[0][0]
    assert_nothing_left(source, target)


KEYED = "alter table orders add primary key (id)"
REFUSED: dict[str, Any] = {
    "view": (["create view seen as select * from orders"], "select * from seen", {}, "a view"),
    "no snapshot": ([], SAME, {"snapshot": False}, "there is no single snapshot"),
    "join": ([], "select a.* from orders a join orders b using (id)", {}, "one table"),
    "catalogued function": ([], "select i as id from generate_series(1, 9) i", {}, "one table"),
    "LIMIT": ([], "select * from orders limit 9", {}, "it has LIMIT"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_blocks_to_divide_is_refused_by_name(orders, source, target, run, what):
    """Asked for by name it raises with the reason; else the reason is in the plan."""
    made, query, options, words = REFUSED[what]
    run(source, *made)
    options = {"chunk_size": 500, "min_rows_for_parallel": 0, **options}

    with pytest.raises(QueryError, match=f"strategy='physical' is not possible: .*{words}"):
        plan(source, query, strategy="physical", **options)

    decided = plan(source, query, **options)
    assert words in refusal(decided, "physical")
    assert decided.strategy != "physical"


BY_KEY: dict[str, Any] = {
    "chunk_key": (SAME, {"chunk_key": "version"}, "a chunk_key is given"),
    "ORDER BY": (f"{SAME} order by id", {}, "ORDER BY names a key"),
    "load_id": (SAME, {"load_id": "nightly"}, "may be continued later"),
}


@pytest.mark.parametrize("what", BY_KEY)
def test_a_key_comes_first_where_it_is_meant_or_lasts_longer(orders, source, target, run, what):
    """Blocks need no key, so whoever names one means it; and rows move while keys stay."""
    query, options, words = BY_KEY[what]
    run(source, KEYED, "analyze orders")
    options = {"chunk_size": 500, "min_rows_for_parallel": 0, **options}

    decided = plan(source, query, target_conn=target, target_table="orders", **options)

    assert "key" == decided.strategy
    assert words in refusal(decided, "physical")
    # By its name it serves all the same.
    forced = plan(
        source, query, target_conn=target, target_table="orders", strategy="physical", **options
    )
    assert "physical" == forced.strategy


def test_a_table_with_a_foreign_partition_has_no_blocks_of_its_own(source, run):
    """Found in the catalog, before anybody plans a query over it."""
    run(
        source,
        "create foreign data wrapper nowhere",
        "create server elsewhere foreign data wrapper nowhere",
        f"create table orders ({COLUMNS}) partition by range (id)",
        "create table here partition of orders for values from (0) to (9)",
        "create foreign table there partition of orders for values from (9) to (99)"
        " server elsewhere",
    )
    explained: list[str] = []

    def explain(statement: str) -> dict[str, Any]:
        explained.append(statement)
        return {}

    with psycopg.connect(source) as connection:
        for table in ("orders", "there"):
            found = blocks.find(
                connection,
                explain,
                version=180_000,
                table=table,
                query=SAME,
                some_blocks=SAME,
                chunk_size=1,
                asked_for=False,
            )
            assert isinstance(found, Refused)
            assert "a foreign table" in found.reason
    assert [] == explained


def test_a_user_who_may_not_read_a_rows_place_is_served_by_key(orders, source, target, run):
    """Rights to the columns alone do not extend to the system's; that is a reason, not an error."""
    run(
        source,
        KEYED,
        "drop role if exists columns_only",
        "create role columns_only login",
        "grant select (id, note, version) on orders to columns_only",
    )
    try:
        result = load(source.replace("postgres@", "columns_only@"), SAME, target, "orders")
        decided = plan(source.replace("postgres@", "columns_only@"), SAME, min_rows_for_parallel=0)
    finally:
        run(source, "drop owned by columns_only", "drop role columns_only")

    assert ("succeeded", "key") == (result.status, result.strategy)
    assert "permission denied" in refusal(decided, "physical")
    assert multiset(source, SAME) == multiset(target, SAME)


AT_ONCE = [
    "update orders set version = version + 1",
    "delete from orders where id % 5 = 0",
    FILL.format("orders", 9000, 9100),
    "vacuum orders",
    "update orders set version = version + 1",
]
LATER = {
    "truncate": "truncate orders",
    "vacuum full": "vacuum full orders",
    "drop": "drop table orders",
    "rewrite": "alter table orders alter version type bigint",
}


@pytest.mark.parametrize("later", LATER)
def test_whatever_is_done_to_the_table_meanwhile_the_snapshots_rows_arrive(
    orders, source, target, run, later
):
    """Rows may change and be cleaned up; what would take the old rows away waits for the load."""
    query = "select pause(id, 1200) as id, note, version from orders"
    sent = multiset(source, SAME)
    with gate(source):
        loading = Background(
            load, source, query, target, "orders", strategy="physical", max_workers=1
        )
        at_the_gate(source)
        run(source, *AT_ONCE)
        disturbing = Background(run, source, LATER[later])
        waits_for_a_lock(source, f"{LATER[later]}%")
    result = loading.result()
    disturbing.result()

    assert ("succeeded", ROWS) == (result.status, result.total_rows_successful)
    assert sent == multiset(target, SAME)


@pytest.mark.parametrize("how", ["physical", "key", "one_pass", "stream_once"])
def test_a_load_that_meets_a_reload_half_way_reads_before_or_after_it(
    orders, source, target, run, how
):
    """TRUNCATE empties old snapshots too: the read point is taken when the table is held."""
    with psycopg.connect(source) as reloading:
        reloading.execute("truncate orders")
        reloading.execute(FILL.format("orders", 1, 10))
        options = {"chunk_key": "id"} if how == "key" else {}
        loading = Background(load, source, SAME, target, "orders", strategy=how, **options)
        waits_for_a_lock(source, "%orders%")
        reloading.execute(FILL.format("orders", 11, 2000))
    result = loading.result()

    assert ("succeeded", 2000) == (result.status, result.total_rows_successful)
    assert multiset(source, SAME) == multiset(target, SAME)


# Below: an append that is continued under its name, at another read point, cut by blocks.

BROKEN = "alter table orders add constraint broken check (id not between 901 and 1500)"
MENDED = "alter table orders drop constraint broken"

UNMOVED = {
    "nothing": ["select"],
    "analyze": ["analyze orders"],
    "freeze": ["vacuum (freeze) orders"],
    "rolled back": [f"begin; {FILL.format('orders', 1, 500)}; rollback"],
    "other table": ["create table other as select * from orders"],
    "come and gone": [
        FILL.format("orders", 9000, 9050),
        "delete from orders where id >= 9000",
        "vacuum orders",
    ],
}


@pytest.mark.parametrize("change", UNMOVED)
def test_an_append_by_blocks_is_continued_while_no_row_has_moved(
    orders, source, target, run, change
):
    """At a new read point, which the result names; finished chunks are skipped."""
    run(source, "alter table orders set (autovacuum_enabled = false)")
    run(target, BROKEN)
    first = load(source, SAME, target, "orders", load_id="nightly")
    run(source, *UNMOVED[change])
    run(target, MENDED)
    second = load(source, SAME, target, "orders", load_id="nightly")

    assert ("partial", "physical") == (first.status, first.strategy)
    assert ROWS == first.total_rows_processed
    assert ("succeeded", "physical") == (second.status, second.strategy)
    assert first.chunks_succeeded == second.chunks_skipped > 0
    assert first.snapshot.description == second.snapshot.resumed_from
    assert multiset(source, SAME) == multiset(target, SAME)


MOVED: dict[str, Any] = {
    "update": (["update orders set version = 2 where id = 7"], "added or updated"),
    "insert": ([FILL.format("orders", 9000, 9000)], "added or updated"),
    "vacuum full": (["vacuum full orders"], "rewritten.*"),
    "truncate": (["truncate orders"], "rewritten.*"),
    "drop and create": (
        ["drop table orders", f"create table orders ({COLUMNS})", FILL.format("orders", 1, 3000)],
        "rewritten.*",
    ),
    "child": (["create table late () inherits (orders)"], "has other partitions"),
}


@pytest.mark.parametrize("change", MOVED)
def test_an_append_by_blocks_is_not_continued_over_moved_rows(orders, source, target, run, change):
    """Its unfinished blocks would hold rows of finished ones, or lack their own."""
    statements, words = MOVED[change]
    run(target, BROKEN)
    first = load(source, SAME, target, "orders", load_id="nightly")
    run(source, *statements)
    run(target, MENDED)
    before = multiset(target, SAME)

    with pytest.raises(LedgerError, match=f"{words} since.*start a new load"):
        load(source, SAME, target, "orders", load_id="nightly")

    assert "partial" == first.status
    assert before == multiset(target, SAME)
    assert [(0, "loading")] == run(target, "select epoch, status from mapper.load")


@pytest.mark.parametrize("inside", ["", "savepoint s"])
def test_rows_in_flight_at_the_first_read_point_have_moved_at_the_second(
    orders, source, target, run, inside
):
    """Also those of a subtransaction, whose number no snapshot lists."""
    run(target, BROKEN)
    with psycopg.connect(source) as writing:
        if inside:
            writing.execute(inside)
        writing.execute("update orders set version = 2 where id = 1000")
        # Others come and go, so that the number lies below the snapshot's upper end.
        run(source, "create table noise as select 1 as n", "insert into noise values (2)")
        first = load(source, SAME, target, "orders", load_id="nightly")
    run(target, MENDED)

    assert "partial" == first.status
    with pytest.raises(LedgerError, match="added or updated since"):
        load(source, SAME, target, "orders", load_id="nightly")
