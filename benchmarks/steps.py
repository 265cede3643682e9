"""What Dagster's steps add to a load: the same load by the library, in one step, and in lanes.

`make bench WHAT=steps ROWS=600000`. Dagster's own records are kept in PostgreSQL, as deployed.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import dagster as dg

from benchmarks import contest, given, lineitem, processes, report, server
from benchmarks.contest import Costs, Entry
from benchmarks.lineitem import SELECT, Lines
from mapper_dagster import DatabaseResource, MapperResource, Mapping, build_mapping_asset

LANES = (1, 2, 4, 8)
ONE_STEP = 0
"""Stands for no lanes: one step does it all."""

_DAGSTER_YAML = """\
telemetry: {enabled: false}
storage: {postgres: {postgres_url: {env: DAGSTER_PG_URL}}}
compute_logs:
  module: dagster.core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def job() -> dg.JobDefinition:
    """Return the job of one load; what it is given is in the environment, for each step's process."""
    lanes = int(os.environ["STEPS_LANES"])
    mapping = Mapping(
        name="lines",
        source_sql=SELECT,
        target_schema="public",
        target_table="lineitem",
        strategy="physical",
        chunk_size=max(1, int(os.environ["STEPS_ROWS"]) // 16),
        min_rows_for_parallel=0,
        single_step=lanes == ONE_STEP,
        lanes=lanes or None,
    )
    module = {"preload_modules": ["dagster", "dagster_postgres", "benchmarks.steps", "psycopg"]}
    defs = dg.Definitions(
        assets=[build_mapping_asset(mapping)],
        resources={
            "source": DatabaseResource(url=dg.EnvVar("STEPS_SOURCE")),
            "target": DatabaseResource(url=dg.EnvVar("STEPS_TARGET")),
            "mapper": MapperResource(max_workers=2),
        },
        jobs=[dg.define_asset_job("load", selection=["lines"])],
        executor=dg.multiprocess_executor.configured(
            {"max_concurrent": 2, "start_method": {"forkserver": module}}
        ),
    )
    return defs.resolve_job_def("load")


def run() -> None:
    """Run the job, and print what a process of ours prints."""
    with dg.DagsterInstance.get() as instance:
        begun = time.perf_counter()
        result = dg.execute_job(dg.reconstructable(job), instance=instance)
        seconds = time.perf_counter() - begun
        if not result.success:
            raise RuntimeError("the run failed")
    told = {"rows": 0, "chunks": 0, "seconds": seconds, "cpu": 0.0, "first": 0.0, "peak": 0.0}
    print(json.dumps(told))


def measure(lines: Lines, storage: str, rounds: int, progress: given.Progress) -> Costs:
    """Load once a round by the library, in one step, and in each number of lanes."""
    meter = processes.Server(lines.source)
    chunk = max(1, lines.rows // 16)
    options = {"strategy": "physical", "max_workers": 2, "chunk_size": chunk}
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "dagster.yaml").write_text(_DAGSTER_YAML)

        def through_dagster(lanes: int) -> processes.Cost:
            environment = {
                "DAGSTER_HOME": home,
                "DAGSTER_PG_URL": storage.replace("postgresql://", "postgresql+psycopg2://"),
                "STEPS_SOURCE": lines.source,
                "STEPS_TARGET": lines.target,
                "STEPS_LANES": str(lanes),
                "STEPS_ROWS": str(lines.rows),
            }
            # Not as the main module, which a step's process could not import by its name.
            words = [sys.executable, "-c", "from benchmarks import steps; steps.run()"]
            return processes.run([[words]], meter, environment)

        entries = [
            Entry("library", partial(contest.ours, lines, meter, options, sql=SELECT)),
            *(Entry(label(lanes), partial(through_dagster, lanes)) for lanes in (ONE_STEP, *LANES)),
        ]
        return contest.compete(entries, lines, rounds, progress)


def label(lanes: int) -> str:
    """Return what the table calls a number of lanes."""
    if lanes == ONE_STEP:
        return "Dagster, one step"
    return f"Dagster, {lanes} lane{'s' * (lanes > 1)}"


def table(costs: Costs) -> str:
    """Return the table of the report."""
    library = contest.middle(costs["library"], contest.load_seconds)
    rows = [
        ["library", "0", report.seconds([contest.load_seconds(c) for c in costs["library"]]), ""]
    ]
    for lanes in (ONE_STEP, *LANES):
        found = costs[label(lanes)]
        steps = {ONE_STEP: 1, 1: 2}.get(lanes, lanes + 2)
        more = contest.middle(found, contest.load_seconds) - library
        rows.append(
            [
                label(lanes),
                str(steps),
                report.seconds([contest.load_seconds(cost) for cost in found]),
                f"{more:.2f}",
            ]
        )
    return report.table(["load", "steps", "run, s", "more than the library, s"], rows)


def per_lane(costs: Costs) -> float:
    """Return the seconds that a lane costs, once there are as many as steps at a time."""
    few, many = LANES[1], LANES[-1]
    took = [contest.middle(costs[label(lanes)], contest.load_seconds) for lanes in (few, many)]
    return (took[1] - took[0]) / (many - few)


_PAGE = """# What Dagster's steps add

`make bench WHAT=steps ROWS={asked} ROUNDS={rounds}` writes this page anew.

The same load of {rows:,} rows of TPC-H's `lineitem` in 16 chunks is run by the library with two workers, and as a run of a
Dagster asset. The run has two steps at a time, each in a process forked from one that has everything loaded (`forkserver`);
Dagster's records are in PostgreSQL. Seconds are medians of {rounds} rounds, in random order, without the start of the first
interpreter. {machine}

{table}

The first step of a run waits for the forkserver, once. After that, each further lane costs {per_lane:.2f} s. So there are
only as many lanes as workers, never as many as chunks, and a load that is worth only one lane has none.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    asked = given.read(__doc__, arguments, rounds=5)
    progress = given.clock()
    with server.running() as make_database:
        lines = lineitem.prepare(make_database("source"), make_database("target"), asked.rows)
        progress(f"{lines.rows:,} rows are there")
        costs = measure(lines, make_database("storage"), asked.rounds, progress)
        machine = report.machine_of(lines.source, server.SETTINGS)
    found = table(costs)
    print(f"\n{found}\n")
    page = _PAGE.format(
        asked=asked.rows,
        rounds=asked.rounds,
        rows=lines.rows,
        machine=machine,
        table=found,
        per_lane=per_lane(costs),
    )
    (asked.docs / "steps.md").write_text(page)


if __name__ == "__main__":
    main()
