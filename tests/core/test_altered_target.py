"""A target that is altered in mid-load: no value is made another one without a word."""

from typing import Any

import pytest

from mapper_core import ParallelProcessor, execute_query_parallel

ROWS = 2_000
TABLE = "create table {} (id bigint, v bigint, n numeric(12,4))"
# To a type that has as many bytes, and to one that rounds.
ALTERED = {
    "bytes": "alter table copies alter v type double precision",
    "rounds": "alter table copies alter n type numeric(12,0)",
}
WAYS: dict[str, dict[str, Any]] = {
    "key": {"strategy": "key"},
    "blocks": {"strategy": "physical", "max_workers": 2},
    "rows": {"strategy": "key", "transformation_func": lambda rows: [dict(row) for row in rows]},
    "passed by": {
        "strategy": "key",
        "transformation_func": lambda rows: rows,
        "transform_columns": ["id"],
    },
    "arrow": {"strategy": "key", "transform_batch": lambda batch: batch},
    "rejects": {"strategy": "key", "reject_limit": None},
    "in server": {"strategy": "same_database"},
    "replace": {"strategy": "key", "load_mode": "replace"},
    "stream": {"strategy": "stream_once", "max_workers": 2},
    "upsert": {"strategy": "key", "load_mode": "upsert", "primary_key": "id"},
}


@pytest.fixture
def orders(source, target, run):
    """Orders in both databases, an empty copy of each."""
    for url in (source, target):
        run(
            url,
            TABLE.format("orders"),
            f"insert into orders select i, i * 3, i + 0.1234 from generate_series(1, {ROWS}) i",
            "alter table orders add primary key (id)",
            "vacuum analyze orders",
            TABLE.format("copies"),
        )


def options(target, way, **more):
    return {
        "target_conn": target,
        "target_table": "copies",
        "chunk_size": 100,
        "max_workers": 1,
        "min_rows_for_parallel": 0,
        **WAYS[way],
        **more,
    }


def after(chunks, work):
    """Return a progress callback that does some work once so many chunks have ended."""
    done: list[Any] = []

    def callback(snapshot):
        if snapshot.completed_chunks >= chunks and not done:
            done.append(snapshot)
            work()

    return callback


@pytest.mark.usefixtures("orders")
def test_a_domain_over_a_domain_is_no_other_type_until_it_is_altered(source, target, run):
    """What tells at once that nothing has changed does not know it."""
    run(
        target,
        "create domain amount as numeric(12,4)",
        "create domain price as amount check (value > 0)",
        "alter table copies alter n type price",
    )
    query = "select * from orders"
    execute_query_parallel(source, query, **options(target, "key")).raise_for_failures()

    callback = after(3, lambda: run(target, ALTERED["rounds"]))
    result = execute_query_parallel(
        source, query, progress_callback=callback, **options(target, "key")
    )

    assert "partial" == result.status
    assert "column 'n' of copies was numeric(12,4) when the load was planned" in str(
        result.chunk_errors[0]
    )


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", ALTERED)
def test_rows_are_not_written_into_a_column_of_another_type(source, target, run, way, change):
    """Those that were in already are as the server has made them; made as it was, it goes on."""
    here = target if way == "in server" else source
    callback = after(3, lambda: run(target, ALTERED[change]))

    result = execute_query_parallel(
        here,
        "select * from orders",
        **options(target, way, load_id="x", progress_callback=callback),
    )

    assert result.status in {"partial", "failed"}
    words = "; ".join([str(result.error), *(str(error["error"]) for error in result.chunk_errors)])
    assert "of copies was" in words
    assert "change it back" in words
    arrived = run(target, "select count(*), count(*) filter (where v = id * 3) from copies")
    assert [(result.rows_written, result.rows_written)] == arrived
    assert (result.rows_written == 0) == (way in {"replace", "stream", "upsert"})

    run(target, "alter table copies alter v type bigint, alter n type numeric(12,4)")
    again = execute_query_parallel(
        here, "select * from orders", **options(target, way, load_id="x", enable_progress=False)
    )

    assert "succeeded" == again.status, (again.error, again.chunk_errors)
    count = "select count(*), count(distinct id), sum(v) from {}"
    assert run(here, count.format("orders")) == run(target, count.format("copies"))


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("way", WAYS)
def test_what_a_load_does_not_write_may_be_altered(source, target, run, way):
    """A column more, and another type of one that the query does not select."""
    here = target if way == "in server" else source
    function = {"rows", "passed by", "arrow"} & {way}
    changes = ["alter table copies add more int default 1"]
    if not function:  # it may return any of those that were there
        changes.append("alter table copies alter n type double precision")
    callback = after(3, lambda: run(target, *changes))

    result = execute_query_parallel(
        here, "select id, v from orders", **options(target, way, progress_callback=callback)
    )

    assert "succeeded" == result.status, (result.error, result.chunk_errors)
    count = "select count(*), sum(v) from {}"
    assert run(here, count.format("orders")) == run(target, count.format("copies"))


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("way", ["key", "replace"])
def test_a_target_altered_between_the_steps_of_a_load_is_told(source, target, run, way):
    """Each step goes by the plan."""
    processor = ParallelProcessor(**options(target, way, enable_progress=False))
    processor.plan_load(source, "select * from orders", "steps")
    run(target, ALTERED["bytes"])

    told = processor.load_lane(source, "select * from orders", "steps", lane=0, lanes=1)

    if way == "key":
        assert {"failed"} == {chunk.status for chunk in told}
        assert "of copies was bigint" in str(told[0].error)
    assert [(0,)] == run(target, "select count(*) from copies")
