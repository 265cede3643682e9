"""Memory is bounded by batches and workers, not by rows of a chunk or their width."""

import json
import subprocess
import sys

import pytest

from .loading import ROOT

# 200 rows of a megabyte are one chunk here. A load that held a chunk would need that much and more.
ROWS = 200
MEGABYTE = 1_000_000

_LOAD = """
import json, resource, sys
from mapper_core import execute_query_parallel
given = json.loads(sys.stdin.read())
if given.pop("transformed"):
    given["transformation_func"] = lambda rows: [dict(row) for row in rows]
    given["transform_scope"] = "batch"
unit = 1 if sys.platform == "darwin" else 1024
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
few = {"strategy": "one_pass", "source_sql": "select * from wide where id < 0"}
execute_query_parallel(**{**given, **few})
before = peak()
result = execute_query_parallel(**given)
print(json.dumps({"rows": result.total_rows_successful, "grown": peak() - before}))
"""


@pytest.mark.parametrize(("strategy", "transformed"), [("physical", False), ("stream_once", True)])
def test_wide_rows_need_no_more_memory_than_a_few_of_them(
    source, target, run, strategy, transformed
):
    """Two workers, chunks of 200 MB: the process grows by less than one of them, by far."""
    run(
        source,
        "create table wide (id int, note text)",
        f"insert into wide select i, repeat(i::text, {MEGABYTE} / length(i::text))"
        f" from generate_series(1, {ROWS}) i",
    )
    run(target, "create table wide (id int, note text)")
    options = {
        "source_conn": source,
        "source_sql": "select * from wide",
        "target_conn": target,
        "target_table": "wide",
        "strategy": strategy,
        "max_workers": 2,
        "min_rows_for_parallel": 0,
        "chunk_size": ROWS,
        "enable_progress": False,
        "transformed": transformed,
    }

    ended = subprocess.run(
        [sys.executable, "-c", _LOAD],
        cwd=ROOT,
        input=json.dumps(options),
        capture_output=True,
        text=True,
        check=True,
    )

    came_to = json.loads(ended.stdout)
    assert ROWS == came_to["rows"]
    assert came_to["grown"] < ROWS * MEGABYTE * 0.7
    total = f"select count(*), sum(length(note)) > {ROWS * MEGABYTE * 0.99} from wide"
    assert [(ROWS, True)] == run(target, total)
