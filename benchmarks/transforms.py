"""Rows changed on the way, by functions of rows and of Arrow batches: ours against others.

`make bench WHAT=transforms` runs it over 600,000 rows for functions of rows and 6 million for those of
batches, with ROWS=60000 over fewer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any

from benchmarks import contest, given, lineitem, peers, processes, report, server
from benchmarks.contest import Costs, Entry
from benchmarks.functions import COLUMNS
from benchmarks.lineitem import SELECT, Lines
from benchmarks.peers import Peer

# Rows as dicts are slow everywhere: more of them tell nothing new.
MOST_ROWS = 600_000


@dataclass(frozen=True, slots=True)
class Way:
    """One way of ours to change the rows."""

    label: str
    function: tuple[str, str]
    """Keyword and function."""
    options: dict[str, Any] = field(default_factory=dict)


_ROWS = ("transformation_func", "benchmarks.functions:change_rows")
_BATCH = ("transform_batch", "benchmarks.functions:change_batch")
_DICTS = {"transform_scope": "batch"}
_PROCESSES = {"max_workers": 2, "workers": "processes"}
_COLUMNS = {**_DICTS, "transform_columns": list(COLUMNS)}

DICTS = Way("ours: whole rows", _ROWS, {**_DICTS, "max_workers": 1})
NAMED = Way("ours: transform_columns", _ROWS, {**_COLUMNS, "max_workers": 1})
ARROW = Way("ours: transform_batch", _BATCH, {"max_workers": 1})

BY_ROW = (
    DICTS,
    replace(DICTS, label="ours: whole rows, 2 workers", options={**_DICTS, "max_workers": 2}),
    replace(DICTS, label="ours: whole rows, 2 processes", options={**_DICTS, **_PROCESSES}),
    NAMED,
    replace(
        NAMED, label="ours: transform_columns, 2 workers", options={**_COLUMNS, "max_workers": 2}
    ),
)
BY_BATCH = (
    ARROW,
    replace(ARROW, label="ours: transform_batch, 2 workers", options={"max_workers": 2}),
)

_PEERS = {peer.script: peer for peer in peers.PEERS}
PEERS_BY_ROW = (
    replace(_PEERS["classic"], label="classic: dicts between pages"),
    replace(_PEERS["dlt_sql"], label="dlt add_map"),
    replace(_PEERS["pandas_sql"], label="pandas, dicts between frames"),
)
PEERS_BY_BATCH = (
    replace(_PEERS["adbc_copy"], label="ADBC -> pgpq -> COPY, the same function"),
    replace(_PEERS["polars_adbc"], label="polars expressions"),
    replace(_PEERS["duckdb_postgres"], label="DuckDB expressions"),
)


def ours(lines: Lines, meter: processes.Server, ways: Sequence[Way]) -> list[Entry]:
    """Return how ours takes part."""
    return [
        Entry(
            way.label,
            partial(
                contest.ours, lines, meter, way.options, sql=SELECT, functions=dict([way.function])
            ),
        )
        for way in ways
    ]


def others(lines: Lines, meter: processes.Server, found: dict[Peer, str]) -> list[Entry]:
    """Return how the others take part: with all the rows, which are not many."""
    return [
        peers.entry(lines, meter, replace(peer, share=1.0), interpreter, "change")
        for peer, interpreter in found.items()
    ]


def check(lines: Lines) -> None:
    """Raise RuntimeError unless the target's rows are the source's, changed."""
    wanted = "sum(l_extendedprice + l_tax), count(distinct lower(l_shipmode))"
    found = "sum(l_extendedprice), count(distinct l_shipmode) filter (where l_shipmode = lower(l_shipmode))"
    if _ask(lines.source, wanted) != _ask(lines.target, found):
        raise RuntimeError("the rows were not changed as they should be")


def _ask(url: str, what: str) -> list[tuple[Any, ...]]:
    with lineitem.connect(url) as connection:
        return connection.execute(f"select {what} from lineitem".encode()).fetchall()


def measure(lines: Lines, entries: Sequence[Entry], rounds: int, progress: given.Progress) -> Costs:
    """Run them in turns; each must bring the same values."""
    return contest.compete(entries, lines, rounds, progress, partial(check, lines))


def table(costs: Costs, rows: int, reference: str) -> str:
    """Return a table of the report; its ratio is of rows for a CPU second of the client."""
    return report.table(
        ["function", "s", "thousand rows/s", "client, CPU s", "rows for a CPU s", "to the first"],
        [
            [
                label,
                report.seconds([cost.wall for cost in each]),
                f"{rows / contest.middle(each, contest.wall) / 1000:.3g}",
                report.seconds([cost.client for cost in each]),
                f"{per_core(costs, rows, label):,.0f}",
                f"{contest.ratio(each, costs[reference], lambda cost: cost.client):.2f}",
            ]
            for label, each in costs.items()
        ],
    )


def per_core(costs: Costs, rows: int, label: str) -> float:
    """Return the rows for a CPU second of the client, the median of the rounds."""
    return median(rows / cost.client for cost in costs[label])


_PAGE = """# Rows changed on the way

`make bench WHAT=transforms ROWS={asked} ROUNDS={rounds}` writes this page anew.

Rows of TPC-H's `lineitem`, made by its generator, are loaded from one database of a server into another, over TCP. On the
way the tax is added to the price, and the ship mode is changed to small letters. The values that arrive are compared.
`ours` is mapper. Each program is a whole process from start to end, in its own environment. {machine}

Rounds: {rounds}, after one round of the other programs that is not counted. All programs take turns, in random order.
Values are medians, and ratios are medians of the rounds' ratios. A CPU second is one of the client's processes, their start
included: it shows how many rows one core can change, whatever waits for the server.

## A function of rows

{few:,} rows. Python sees every row as a dict. `transform_columns=[...]` gives the function three columns of sixteen. mapper
has one worker unless another number is given.

{by_row}

## A function of batches

{many:,} rows. mapper and ADBC call the same function of a `pyarrow.RecordBatch`; polars and DuckDB are given
expressions.

{by_batch}

![Rows for a CPU second of the client](transforms.svg)

## Not taking part

{absent}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    asked = given.read(__doc__, arguments, rounds=3)
    progress = given.clock()
    by_row, no_rows = peers.commands(PEERS_BY_ROW, progress)
    by_batch, no_batches = peers.commands(PEERS_BY_BATCH, progress)
    with server.running(tcp=True) as make_database:

        def compare(
            what: str, rows: int, ways: Sequence[Way], found: dict[Peer, str]
        ) -> tuple[Lines, Costs, dict[str, str]]:
            source, target = (make_database(f"{side}_{what}") for side in ("source", "target"))
            lines = lineitem.prepare(source, target, rows)
            progress(f"{lines.rows:,} rows are there")
            meter = processes.Server(lines.source)
            theirs, failed = contest.able(
                others(lines, meter, found), lines, progress, partial(check, lines)
            )
            entries = [*ours(lines, meter, ways), *theirs]
            return lines, measure(lines, entries, asked.rounds, progress), failed

        few, row_costs, failed = compare("rows", min(asked.rows, MOST_ROWS), BY_ROW, by_row)
        many, batch_costs, not_able = compare("batches", asked.rows, BY_BATCH, by_batch)
        machine = report.machine_of(few.source, server.SETTINGS)
    tables = (
        table(row_costs, few.rows, DICTS.label),
        table(batch_costs, many.rows, ARROW.label),
    )
    absent = peers.absent({**no_rows, **no_batches, **failed, **not_able})
    print(f"\n{tables[0]}\n\n{tables[1]}\n\n{absent}\n")
    page = _PAGE.format(
        asked=asked.rows,
        rounds=asked.rounds,
        few=few.rows,
        many=many.rows,
        machine=machine,
        by_row=tables[0],
        by_batch=tables[1],
        absent=absent,
    )
    (asked.docs / "transforms.md").write_text(page)
    costs = {**row_costs, **batch_costs}
    speeds = [
        *(per_core(row_costs, few.rows, label) / 1000 for label in row_costs),
        *(per_core(batch_costs, many.rows, label) / 1000 for label in batch_costs),
    ]
    report.bars(
        asked.docs / "transforms.svg",
        f"{few.rows:,} rows by functions of rows, {many.rows:,} by functions of batches",
        list(costs),
        {"thousand rows for a CPU second": speeds},
    )


if __name__ == "__main__":
    main()
