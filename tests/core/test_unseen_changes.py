"""What no old snapshot shows: it changes the catalog, or a table's file, for all at once."""

import pytest

from mapper_core import LedgerError, ParallelProcessor

from ..waiting import assert_nothing_left
from .running import PAUSE, Background, at_the_gate, gate, load

EARLY = [(0, 2_000)]
BOTH = [(0, 2_000), (1, 2_000)]

TABLES = (
    "create table orders (id int not null, parity int, note text) partition by list (parity)",
    "create table even partition of orders for values in (0)",
    "create table odd (id int not null, parity int, note text)",
    "insert into even select 2 * i, 0, repeat('x', 200) from generate_series(1, 2000) i",
    "insert into odd select 2 * i + 1, 1, repeat('y', 200) from generate_series(1, 2000) i",
    "create index on even (id)",
    "analyze",
)
ATTACH = "alter table orders attach partition odd for values in (1)"
# Not PARTITION OF, which waits until nobody reads the table.
MAKE = (
    "create table other (id int not null, parity int, note text)",
    "insert into other values (9, 2, 'late')",
    "alter table orders attach partition other for values in (2)",
)
ARRIVED = "create table arrived (id int, parity int, note text)"
COUNTED = "select parity, count(*) from arrived group by 1 order by 1"

QUERY = "select * from orders"
ROWS = 2_000


@pytest.fixture(autouse=True)
def _nothing_left(source, target):
    yield
    assert_nothing_left(source, target)


def after_a_chunk(run, url, *statements):
    """Return what runs statements when the first chunk is in."""
    done: list[bool] = []

    def hear(_):
        if not done:
            done.append(True)
            run(url, *statements)

    return hear


@pytest.mark.parametrize(
    ("strategy", "query", "options"),
    [
        ("physical", QUERY, {}),
        ("key", f"{QUERY} order by id", {}),
        ("key", f"{QUERY} order by id", {"transformation_func": list}),
        ("physical", QUERY, {"reject_limit": 5}),
        ("same_database", QUERY, {}),
        ("offset", f"{QUERY} order by id", {}),
    ],
    ids=["physical", "key", "dicts", "rejects", "same_database", "offset"],
)
def test_no_chunk_has_rows_of_a_partition_attached_meanwhile(
    source, target, run, strategy, query, options
):
    """Those before it would not have them: the load ends in words, with what was in the table."""
    run(source, *TABLES)
    if strategy == "same_database":
        target = source
    run(target, ARRIVED)

    result = load(
        source,
        query,
        target,
        "arrived",
        strategy=strategy,
        max_workers=1,
        progress_callback=after_a_chunk(run, source, ATTACH),
        **options,
    )

    assert "partial" == result.status
    ((parity, rows),) = run(target, COUNTED)
    assert (0, result.total_rows_successful) == (parity, rows)
    assert rows < 2_000
    assert {True} == {
        "SnapshotLostError: odd has become a part of another table" in error["error"]
        for error in result.chunk_errors
    }


def test_a_load_begins_anew_after_a_partition_was_attached(source, target, run):
    """Under its id, at a read point that has the partition; nothing was published before."""
    run(source, *TABLES)
    run(target, ARRIVED)
    keywords = {"load_mode": "replace", "load_id": "orders", "max_workers": 1}

    hear = after_a_chunk(run, source, ATTACH)
    first = load(source, QUERY, target, "arrived", progress_callback=hear, **keywords)
    assert ("failed", []) == (first.status, run(target, COUNTED))

    second = load(source, QUERY, target, "arrived", **keywords)
    assert ("succeeded", 4_000) == (second.status, second.total_rows_successful)
    assert BOTH == run(target, COUNTED)


def test_an_append_by_blocks_does_not_begin_anew(source, target, run):
    """Its blocks are no longer those of the table; what is in stays."""
    run(source, *TABLES)
    run(target, ARRIVED)
    keywords = {"strategy": "physical", "load_id": "orders", "max_workers": 1}
    hear = after_a_chunk(run, source, ATTACH)
    first = load(source, QUERY, target, "arrived", progress_callback=hear, **keywords)

    with pytest.raises(LedgerError, match="has other partitions"):
        load(source, QUERY, target, "arrived", **keywords)

    assert [(0, first.total_rows_successful)] == run(target, COUNTED)


def test_steps_planned_anew_do_not_join_a_read_point_before_the_partition(source, target, run):
    """Its holder is alive yet; another one is taken."""
    run(source, *TABLES)
    run(target, ARRIVED)
    processor = ParallelProcessor(
        target_conn=target,
        target_table="arrived",
        load_mode="replace",
        chunk_size=500,
        min_rows_for_parallel=0,
        enable_progress=False,
    )
    step = (source, QUERY, "orders")

    before = processor.plan_load(*step)
    run(source, ATTACH)
    stale = processor.load_lane(*step, lane=0, lanes=1)
    assert {"failed"} == {result.status for result in stale}

    assert before.snapshot != processor.plan_load(*step).snapshot
    processor.load_lane(*step, lane=0, lanes=1)
    assert 4_000 == processor.publish_load(*step).total_rows_successful
    assert BOTH == run(target, COUNTED)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (QUERY, {}),
        (f"{QUERY} order by id", {}),
        (QUERY, {"strategy": "one_pass"}),
        (QUERY, {"strategy": "stream_once"}),
    ],
    ids=["physical", "key", "one_pass", "stream_once"],
)
def test_a_partition_made_meanwhile_disturbs_nobody(source, target, run, query, options):
    """What is in it is younger than the read point."""
    run(source, *TABLES)
    run(target, ARRIVED)
    result = load(
        source,
        query,
        target,
        "arrived",
        max_workers=1,
        progress_callback=after_a_chunk(run, source, *MAKE),
        **options,
    )

    assert "succeeded" == result.status, result.chunk_errors
    assert EARLY == run(target, COUNTED)


@pytest.mark.parametrize("strategy", ["physical", "key", "stream_once"])
def test_a_table_that_a_function_reads_is_not_emptied_in_mid_load(source, target, run, strategy):
    """Nothing shows that it is read, so it is not held: TRUNCATE need not wait for the load."""
    run(
        source,
        "create table rate (of text)",
        "insert into rate values ('one')",
        "create function rated(i int) returns text language plpgsql stable as $$ begin"
        " if i > 1500 then return (select of from rate); end if; return 'one'; end $$",
        "create table t (id int)",
        f"insert into t select generate_series(1, {ROWS})",
        "analyze t",
        PAUSE,
    )
    run(target, "create table arrived (id int, note text)")
    query = "select id, left(rated(id), 9 + pause(id, 1400) * 0) as note from t"

    key = "id" if strategy == "key" else None
    options = {"strategy": strategy, "chunk_key": key, "max_workers": 1}

    with gate(source):
        loading = Background(load, source, query, target, "arrived", **options)
        at_the_gate(source)
        run(source, "truncate rate")
    result = loading.result()

    assert "succeeded" != result.status
    assert any(
        "SnapshotLostError: rate has been emptied or rewritten since snapshot" in e["error"]
        for e in result.chunk_errors
    ), result.chunk_errors
    assert [] == run(target, "select * from arrived where note is null")
