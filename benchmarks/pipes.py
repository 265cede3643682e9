"""Ours against as many `psql | psql` pipes of binary COPY, at the same split, side by side.

`make bench WHAT=pipes` runs it over 6 million rows, with ROWS=600000 over fewer.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from benchmarks import contest, given, lineitem, processes, report, server
from benchmarks.contest import Costs, Entry
from benchmarks.lineitem import SELECT, Lines

# What ours is told, so that it cuts as the pipes do.
SPLITS = {
    "key": {"strategy": "key", "chunk_key": "l_orderkey"},
    "ctid": {"strategy": "physical"},
}
WORKERS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two that are compared: the same split, the same number of workers."""

    split: str
    workers: int

    @property
    def label(self) -> str:
        """What the tables call it."""
        return f"{self.split}, {self.workers} worker{'s' * (self.workers > 1)}"

    @property
    def ours(self) -> str:
        """The label of our entry."""
        return f"{self.label}: ours"

    @property
    def pipes(self) -> str:
        """The label of the pipes' entry."""
        return f"{self.label}: psql"


PAIRS = tuple(Pair(split, workers) for split in SPLITS for workers in WORKERS)


def measure(
    lines: Lines, rounds: int, progress: given.Progress, pairs: Sequence[Pair] = PAIRS
) -> Costs:
    """Load by each of the entries, once a round."""
    meter = processes.Server(lines.source)

    def ours(pair: Pair) -> processes.Cost:
        # As large as the guide recommends for so many rows.
        options = {**SPLITS[pair.split], "max_workers": pair.workers, "chunk_size": "auto"}
        return contest.ours(lines, meter, options, sql=SELECT)

    # The pipes are given their ranges, and ours is not: it plans.
    ranges = {pair: split_into(lines, pair.split, pair.workers) for pair in pairs}
    entries = [
        entry
        for pair in pairs
        for entry in (
            Entry(pair.ours, partial(ours, pair)),
            Entry(pair.pipes, partial(pipe, lines, meter, ranges[pair])),
        )
    ]
    return contest.compete(entries, lines, rounds, progress)


def split_into(lines: Lines, split: str, parts: int) -> list[str]:
    """Return conditions that cut the table into even parts."""
    shares = [part / parts for part in range(1, parts)]
    if split == "key":
        column, cuts = "l_orderkey", [str(bound) for bound in lines.bounds(*shares)]
    else:
        with closing(lineitem.connect(lines.source)) as source:
            size = "select pg_relation_size('lineitem') / current_setting('block_size')::bigint"
            ((blocks,),) = source.execute(size).fetchall()
        column, cuts = "ctid", [f"'({int(blocks * share)},0)'::tid" for share in shares]
    lows, highs = [None, *cuts], [*cuts, None]
    return [
        " and ".join(
            [f"{column} >= {low}"] * (low is not None) + [f"{column} < {high}"] * bool(high)
        )
        or "true"
        for low, high in zip(lows, highs, strict=True)
    ]


def pipe(lines: Lines, meter: processes.Server, conditions: Sequence[str]) -> processes.Cost:
    """Copy each range of the table through a pipe of its own, all at once."""
    psql = [server.psql(), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command"]
    copy_in = [*psql, "copy lineitem from stdin (format binary)", lines.target]
    return processes.run(
        [
            [
                [
                    *psql,
                    f"copy ({SELECT} where {condition}) to stdout (format binary)",
                    lines.source,
                ],
                copy_in,
            ]
            for condition in conditions
        ],
        meter,
    )


def tables(costs: Costs, pairs: Sequence[Pair] = PAIRS) -> tuple[str, str]:
    """Return the two tables of the report: time, and CPU."""
    times, work = [], []
    for pair in pairs:
        ours, pipes = costs[pair.ours], costs[pair.pipes]
        times.append(
            [
                pair.label,
                report.seconds([cost.wall for cost in pipes]),
                report.seconds([cost.wall for cost in ours]),
                report.seconds([contest.load_seconds(cost) for cost in ours]),
                f"{process_ratio(costs, pair):.2f}",
                f"{load_ratio(costs, pair):.2f}",
            ]
        )
        work.append(
            [
                pair.label,
                report.seconds([cost.client for cost in pipes]),
                report.seconds([cost.client for cost in ours]),
                report.seconds([contest.told(cost)["cpu"] for cost in ours]),
                f"{1 / contest.ratio(ours, pipes, lambda cost: cost.client):.2f}",
                report.seconds([cost.server for cost in pipes]),
                report.seconds([cost.server for cost in ours]),
                report.percent(contest.middle(pipes, contest.busy)),
                report.percent(contest.middle(ours, contest.busy)),
                report.percent(of_limit(costs, pair)),
            ]
        )
    return (
        report.table(
            ["split", "psql, s", "ours, s", "its load, s", "speed", "its load's speed"], times
        ),
        report.table(
            [
                "split",
                "psql, CPU s",
                "ours, CPU s",
                "its load, CPU s",
                "ours / psql",
                "server for psql, CPU s",
                "server for ours, CPU s",
                "cores busy, psql",
                "cores busy, ours",
                "of the limit",
            ],
            work,
        ),
    )


def process_ratio(costs: Costs, pair: Pair) -> float:
    """Return our speed as a multiple of the pipes', by whole processes."""
    return contest.ratio(costs[pair.ours], costs[pair.pipes], contest.wall)


def load_ratio(costs: Costs, pair: Pair) -> float:
    """Return our speed as a multiple of the pipes', without the start of our interpreter."""
    ours, pipes = costs[pair.ours], costs[pair.pipes]
    return contest.ratio(ours, pipes, contest.load_seconds, contest.wall)


def of_limit(costs: Costs, pair: Pair) -> float:
    """Return our load's speed as a share of what full cores could do with the pipes' CPU."""
    cores = os.cpu_count() or 1
    ours, pipes = costs[pair.ours], costs[pair.pipes]
    return contest.ratio(ours, pipes, contest.load_seconds, lambda cost: cost.cpu / cores)


_PAGE = """# Against pipes of psql

`make bench WHAT=pipes ROWS={asked} ROUNDS={rounds}` writes this page anew.

{rows:,} rows of TPC-H's `lineitem`, made by its generator, are loaded from one database of a server into another. The
target has no index and is recreated before each load. `ours` is mapper, with one snapshot, the ledger, and
`chunk_size="auto"`, which makes {chunks} chunks. `psql` is as many pipes as there are workers. Each pipe copies one range,
`psql -c "copy (...) to stdout (format binary)" | psql -c "copy ... from stdin"`, and is given its bounds, while mapper
plans. {machine}

Rounds: {rounds}. All loads take turns, in random order. Seconds and CPU seconds are medians; ratios are medians of the
rounds' ratios. Compare within a table, not between runs.

## Time

`ours` is a whole process from start to end, interpreter and imports included; `its load` is only the call of
`execute_query_parallel(...)`. Speeds are multiples of the speed of the pipes.

{times}

![Our speed and our clients' CPU, as multiples of those of the pipes](pipes.svg)

## CPU

CPU seconds are those of the whole client processes, and of the server during the load. The limit is the speed that the
machine would reach if it kept all cores busy with the work of the pipes, clients and server. `of the limit` is the speed of
mapper's load as a share of that.

{work}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    asked = given.read(__doc__, arguments, rounds=7)
    progress = given.clock()
    with server.running() as make_database:
        lines = lineitem.prepare(make_database("source"), make_database("target"), asked.rows)
        progress(f"{lines.rows:,} rows are there")
        costs = measure(lines, asked.rounds, progress)
        machine = report.machine_of(lines.source, server.SETTINGS)
    times, work = tables(costs)
    print(f"\n{times}\n\n{work}\n")
    page = _PAGE.format(
        asked=asked.rows,
        rounds=asked.rounds,
        rows=lines.rows,
        chunks=contest.told(costs[PAIRS[0].ours][0])["chunks"],
        machine=machine,
        times=times,
        work=work,
    )
    (asked.docs / "pipes.md").write_text(page)
    report.bars(
        asked.docs / "pipes.svg",
        f"Ours against psql | psql, {lines.rows:,} rows",
        [pair.label for pair in PAIRS],
        {
            "speed of the load / psql's": [load_ratio(costs, pair) for pair in PAIRS],
            "CPU of the clients / psql's": [
                1 / contest.ratio(costs[pair.ours], costs[pair.pipes], lambda cost: cost.client)
                for pair in PAIRS
            ],
        },
    )


if __name__ == "__main__":
    main()
