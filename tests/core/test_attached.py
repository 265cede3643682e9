"""A table may get a partition while it is loaded, and no snapshot keeps its rows out."""

import pytest

from mapper_core import ParallelProcessor

from .running import load

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
