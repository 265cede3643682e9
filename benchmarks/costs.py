"""What loads cost beyond their rows: chunks, memory as rows grow, small loads, the import.

`make bench WHAT=costs` runs it over 6 million rows, with ROWS=600000 over fewer.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks import bare, contest, given, lineitem, processes, report, server
from benchmarks.contest import Costs, Entry
from benchmarks.given import Progress
from benchmarks.lineitem import SELECT, Lines
from benchmarks.pipes import split_into
from mapper_core import execute_query_parallel

CHUNK_SIZE = 50_000
LARGE, SMALL = "chunks of 50,000 rows", "small chunks"
BARE = "bare COPY and COMMIT, "
SMALL_LOAD = 1_000
# Loads of a thousand rows are short, and the shortest times are the least sure ones.
SMALL_LOADS = 10

_KEY = {"strategy": "key", "chunk_key": "l_orderkey"}
_BLOCKS = {"strategy": "physical", "max_workers": 1}


@dataclass(frozen=True, slots=True)
class Growth:
    """A kind of load, by a tenth of its rows and by all of them."""

    label: str
    shares: tuple[float, float]
    """Of the table; less for what is slow."""
    options: dict[str, Any] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)

    def name(self, share: float) -> str:
        """Return the label of its entry for a share."""
        return f"{self.label}, {share:.0%}"


_CHANGE = {"transformation_func": "benchmarks.functions:change_rows"}
GROWTHS = (
    Growth("rows as they are", (0.1, 1.0)),
    Growth("a function of rows, by batch", (0.01, 0.1), {"transform_scope": "batch"}, _CHANGE),
    Growth("a function of rows, by chunk", (0.01, 0.1), {}, _CHANGE),
)


@dataclass(frozen=True, slots=True)
class Timed:
    """Two things that are timed in turns, in seconds."""

    plain: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def over(self) -> float:
        """Return how much longer ours takes, the median of the pairs."""
        pairs = zip(self.ours, self.plain, strict=True)
        return statistics.median(our - plain for our, plain in pairs)


def small_chunk(lines: Lines) -> int:
    """Return rows of a chunk of which there are so many that their own cost shows."""
    return max(100, lines.rows // 600)


def chunks(lines: Lines, rounds: int, progress: Progress) -> Costs:
    """Load all rows in large chunks and in small ones, by one worker; and copy them so, bare."""
    meter = processes.Server(lines.source)
    sizes = {LARGE: CHUNK_SIZE, SMALL: small_chunk(lines)}
    entries = [
        Entry(
            label,
            partial(contest.ours, lines, meter, {**_BLOCKS, "chunk_size": size}, sql=SELECT),
        )
        for label, size in sizes.items()
    ]
    entries += [
        Entry(
            BARE + label,
            partial(contest.bare, lines, meter, split_into(lines, "ctid", -(-lines.rows // size))),
        )
        for label, size in sizes.items()
    ]
    return contest.compete(entries, lines, rounds, progress)


def of_a_chunk(
    costs: Costs, measure: Callable[[processes.Cost], float], kind: str = ""
) -> tuple[float, float]:
    """Return what a chunk costs beyond its rows, and its share of a large chunk, as medians."""
    alone, shares = [], []
    for large, small in zip(costs[kind + LARGE], costs[kind + SMALL], strict=True):
        few, many = contest.told(large)["chunks"], contest.told(small)["chunks"]
        alone.append((measure(small) - measure(large)) / (many - few))
        shares.append(alone[-1] * few / measure(large))
    return statistics.median(alone), statistics.median(shares)


def grow(
    lines: Lines, rounds: int, progress: Progress, growths: Sequence[Growth] = GROWTHS
) -> tuple[Costs, dict[str, int]]:
    """Load a tenth and the whole of the rows by four workers; return the costs and the rows."""
    meter = processes.Server(lines.source)
    entries = []
    for growth in growths:
        for share in growth.shares:
            query, rows = (SELECT, lines.rows) if share == 1 else lines.query_of(share)
            options = {**_KEY, "max_workers": 4, **growth.options}
            run = partial(
                contest.ours, lines, meter, options, sql=query, functions=growth.functions
            )
            entries.append(Entry(growth.name(share), run, rows))
    costs = contest.compete(entries, lines, rounds, progress)
    return costs, {entry.label: entry.rows or lines.rows for entry in entries}


def small_loads(lines: Lines, count: int, progress: Progress) -> Timed:
    """Load a thousand rows by ours and by a bare COPY, connections included, in this process."""
    timed = Timed()
    query, rows = lines.query_of(min(0.99, SMALL_LOAD / lines.rows))
    # Once for nothing: the first load imports what it needs.
    for number in range(count + 1):
        for into, load in ((timed.plain, _bare_copy), (timed.ours, _load)):
            lines.empty()
            begun = time.perf_counter()
            load(lines, query)
            took = time.perf_counter() - begun
            lines.check(rows)
            if number:
                into.append(took)
    progress(f"{rows:,} rows: {timed.over:.3f} s over the bare COPY")
    return timed


def imports(source: str, count: int, progress: Progress) -> Timed:
    """Start interpreters that import the package, and such that import nothing."""
    timed, meter = Timed(), processes.Server(source)
    # Once for nothing: the first one compiles.
    for number in range(count + 1):
        for into, words in ((timed.plain, "pass"), (timed.ours, "import mapper_core")):
            took = processes.run([[[sys.executable, "-c", words]]], meter).wall
            if number:
                into.append(took)
    progress(f"import: {timed.over:.3f} s")
    return timed


def _bare_copy(lines: Lines, query: str) -> None:
    with (
        closing(lineitem.connect(lines.source)) as source,
        closing(lineitem.connect(lines.target)) as target,
    ):
        bare.copy(source, target, query)


def _load(lines: Lines, query: str) -> None:
    execute_query_parallel(
        lines.source,
        query,
        target_conn=lines.target,
        target_schema="public",
        target_table="lineitem",
        enable_progress=False,
    ).raise_for_failures()


def chunk_table(costs: Costs) -> str:
    """Return what a chunk costs."""
    measures: dict[str, Callable[[processes.Cost], float]] = {
        "time": contest.load_seconds,
        "CPU of client and server": lambda cost: contest.told(cost)["cpu"] + cost.server,
    }
    rows = []
    for label, measure in measures.items():
        for kind, words in (("", "a load"), (BARE, "bare COPY and COMMIT")):
            alone, share = of_a_chunk(costs, measure, kind)
            rows.append(
                [
                    f"{words}: {label}",
                    report.seconds([measure(cost) for cost in costs[kind + LARGE]]),
                    report.seconds([measure(cost) for cost in costs[kind + SMALL]]),
                    f"{1000 * alone:.2f}",
                    report.percent(share),
                ]
            )
    chunked = [str(contest.told(costs[label][0])["chunks"]) for label in (LARGE, SMALL)]
    heads = [f"{number} chunks, s" for number in chunked]
    return report.table(["measure", *heads, "a chunk alone, ms", "of 50,000 rows"], rows)


def growth_table(costs: Costs, rows: dict[str, int], growths: Sequence[Growth] = GROWTHS) -> str:
    """Return memory, time and the first chunk, by rows."""
    lines = []
    for growth in growths:
        names = [growth.name(share) for share in growth.shares]
        for name in names:
            few = costs[names[0]]
            lines.append(
                [
                    name,
                    f"{rows[name]:,}",
                    report.seconds([contest.load_seconds(cost) for cost in costs[name]]),
                    f"{contest.ratio(few, costs[name], contest.load_seconds):.2f}",
                    report.seconds([contest.told(cost)["first"] for cost in costs[name]]),
                    f"{contest.middle(costs[name], _peak):.0f}",
                    f"{contest.ratio(few, costs[name], _peak):.2f}",
                ]
            )
    heads = ["load", "rows", "s", "times", "first chunk, s", "peak, MiB", "times"]
    return report.table(heads, lines)


def fixed_table(small: Timed, imported: Timed) -> str:
    """Return what is paid once."""
    return report.table(
        ["what", "without, s", "with, s", "ours, ms"],
        [
            [
                label,
                report.seconds(timed.plain),
                report.seconds(timed.ours),
                f"{1000 * timed.over:.0f}",
            ]
            for label, timed in (
                ("1,000 rows: bare COPY, a load", small),
                ("an interpreter: bare, `import mapper_core`", imported),
            )
        ],
    )


def _peak(cost: processes.Cost) -> float:
    return contest.told(cost)["peak"]


_PAGE = """# What loads cost beyond their rows

`make bench WHAT=costs ROWS={asked} ROUNDS={rounds}` writes this page anew.

{rows:,} rows of TPC-H's `lineitem`, made by its generator, are loaded from one database of a server into another. The
target has no index and is recreated before each load. {machine}

Rounds: {rounds}. All loads take turns, in random order. Values are medians, and ratios are medians of the rounds' ratios.

## A chunk

One worker loads the same rows in chunks of 50,000 and in many small ones. The difference, divided by the number of
additional chunks, is the cost of a chunk itself: its row in the ledger, its commit, its statements. To show how much of that
is the ledger's, `bare COPY and COMMIT` copies the same block ranges, one after the other, each with a COMMIT and nothing
else.

{chunks}

## Memory and time as rows grow

Four workers load chunks of 50,000 rows, by ranges of the key. Seconds are those of the call, in its own process. The
peak is that of the process, interpreter and imports included. `times` compares with a tenth of the rows. The first chunk
counts as loaded when its rows are committed.

{growth}

![Peak memory by rows](costs.svg)

## Paid once

The first line compares a load of 1,000 rows, from the call to the result and in a process that has loaded before, with a
COPY between two new connections. The second compares a whole process that imports the package with one that does not.

{fixed}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    asked = given.read(__doc__, arguments, rounds=5)
    progress = given.clock()
    with server.running() as make_database:
        lines = lineitem.prepare(make_database("source"), make_database("target"), asked.rows)
        progress(f"{lines.rows:,} rows are there")
        small = small_loads(lines, SMALL_LOADS * asked.rounds, progress)
        imported = imports(lines.source, SMALL_LOADS * asked.rounds, progress)
        by_chunks = chunks(lines, asked.rounds, progress)
        by_rows, rows = grow(lines, asked.rounds, progress)
        machine = report.machine_of(lines.source, server.SETTINGS)
    tables = {
        "chunks": chunk_table(by_chunks),
        "growth": growth_table(by_rows, rows),
        "fixed": fixed_table(small, imported),
    }
    print("\n" + "\n\n".join(tables.values()) + "\n")
    page = _PAGE.format(
        asked=asked.rows, rounds=asked.rounds, rows=lines.rows, machine=machine, **tables
    )
    (asked.docs / "costs.md").write_text(page)
    report.bars(
        asked.docs / "costs.svg",
        "Peak memory of four workers",
        [f"{label}: {number:,} rows" for label, number in rows.items()],
        {"MiB": [contest.middle(by_rows[label], _peak) for label in rows]},
    )


if __name__ == "__main__":
    main()
