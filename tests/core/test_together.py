"""Several loads of one table at the same moment, each in a process of its own."""

import json
from typing import Any

import psycopg
import pytest

from ..waiting import assert_nothing_left, wait_until, waiting_for_locks
from .loading import result_of, start

ROWS = 1_000
LOADS = 4
MODES: dict[str, dict[str, Any]] = {
    "replace_window": {
        "load_mode": "replace_window",
        "window": ["at", "2024-01-01T00:00:00", "2024-02-01T00:00:00"],
    },
    "replace": {"load_mode": "replace"},
    "upsert": {"load_mode": "upsert", "primary_key": ["id"]},
    "append, atomic": {"load_mode": "append", "publish": "atomic"},
    "append": {"load_mode": "append"},
}


@pytest.mark.parametrize("mode", MODES)
def test_loads_that_write_at_the_same_moment_all_succeed(source, target, run, mode):
    """The table holds what one of them gives, or what all appends give; the counts are true.

    All are held up where they first write to the target's own table, and let go together.
    """
    table = "(id int{}, at timestamp not null, writer int not null)"
    run(
        source,
        f"create table ev {table.format(' primary key')}",
        f"insert into ev select i, '2024-01-01', 0 from generate_series(1, {ROWS}) i",
    )
    appends = mode.startswith("append")
    run(target, f"create table ev {table.format('' if appends else ' primary key')}")
    with psycopg.connect(target) as holding:
        holding.execute("lock table ev in share mode")
        loads = [
            start(
                source_conn=source,
                source_sql=f"select id, at, {number} as writer from ev order by id",
                target_conn=target,
                target_schema="public",
                target_table="ev",
                max_workers=2,
                chunk_size=100,
                min_rows_for_parallel=0,
                **MODES[mode],
            )
            for number in range(LOADS)
        ]
        wait_until(lambda: len(waiting_for_locks(target)) == LOADS, "all loads to be held up")

    results = [result_of(load) for load in loads]
    assert [("succeeded", ROWS)] * LOADS == [
        (result["status"], result["successful"]) for result in results
    ], json.dumps(results)
    seen = run(target, "select count(*), count(distinct id) from ev group by writer")
    assert [(ROWS, ROWS)] * (LOADS if appends else 1) == seen
    assert_nothing_left(source, target)
