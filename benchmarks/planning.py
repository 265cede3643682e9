"""What planning costs, as a share of the load that it plans, for each strategy and kind of key.

`make bench WHAT=planning` runs it over 6 million rows, with ROWS=600000 over fewer. Everything that is
compared is measured in one run, in turns.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg

from benchmarks import given, report, server
from benchmarks.given import Progress
from mapper_core import Plan, execute_query_parallel, plan
from mapper_core.adapters.postgresql import cuts
from mapper_core.opening import LoadOptions
from mapper_core.results import ChunkResult

# Plans for each load: they are short, and the shortest times are the least sure ones.
PLANS = 3

# Four lines an order. Two columns have few heavy values and many light ones: of `partkey`, which
# has an index, a quarter of the rows has one sixtieth of the values.
_LINES = """
create table lineitem (
    orderkey bigint not null,
    linenumber integer not null,
    partkey integer not null,
    suppkey integer not null,
    custkey integer not null,
    entered timestamp not null,
    quantity numeric(15,2) not null,
    extendedprice numeric(15,2) not null,
    discount numeric(15,2) not null,
    tax numeric(15,2) not null,
    returnflag char(1) not null,
    linestatus char(1) not null,
    shipdate date not null,
    receiptdate date not null,
    shipmode varchar(10) not null,
    comment varchar(44) not null
)
"""
_FILL = """
insert into lineitem
select (g - 1) / 4 * 4 + 1, (g - 1) % 4 + 1,
       ({rows} * random() ^ 3)::int, ({rows} * random())::int, ({rows} * random() ^ 3)::int,
       timestamp '1992-01-01' + g * interval '30 seconds',
       1 + g % 50, (900 + 100000 * random())::numeric(15,2), g % 11 / 100.0, g % 9 / 100.0,
       substr('ARN', 1 + g % 3, 1), substr('OF', 1 + g % 2, 1),
       date '1992-01-01' + (2500 * random())::int, date '1992-01-15' + (2500 * random())::int,
       (array['AIR', 'MAIL', 'RAIL', 'SHIP', 'TRUCK'])[1 + g % 5],
       substr('carefully final deposits sleep quickly among the regular requests', 1 + g % 20,
              20 + g % 25)
from generate_series(1, {rows}) g
"""
# Narrow rows in the order of their key: a sampled block of them tells about many rows at once.
_EVENTS = """
create table event as
select timestamp '1992-01-01' + g * interval '30 seconds' as entered, g as id
from generate_series(1, {rows}) g
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """Two databases, the rows of the source one, and how many chunks they are to make."""

    source: str
    target: str
    rows: int
    chunks: int = 60

    @property
    def chunk_size(self) -> int:
        """Rows of a chunk."""
        return max(1, self.rows // self.chunks)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to load the table."""

    label: str
    query: str
    options: LoadOptions = field(default_factory=LoadOptions)
    inside: bool = False
    """Whether the target is in the source's own database."""


_ALL = "select * from lineitem"
_BY_PRIMARY_KEY = f"{_ALL} order by orderkey, linenumber"
# A table behind a subquery is not sampled.
_HIDDEN = f"select * from ({_ALL}) hidden"

CASES = (
    Case("physical", _ALL),
    Case("key: the primary key's first column", _BY_PRIMARY_KEY),
    Case("key: both columns of it, by name", _ALL, {"chunk_key": ["orderkey", "linenumber"]}),
    Case("key: an indexed column, skewed", _ALL, {"chunk_key": "partkey"}),
    Case("key: a column without index, sorted", _HIDDEN, {"chunk_key": "suppkey"}),
    Case("key: a column without index, sampled", _ALL, {"chunk_key": "suppkey"}),
    Case("same_database", _ALL, inside=True),
    Case("offset", _BY_PRIMARY_KEY, {"strategy": "offset"}),
    Case("stream_once", _ALL, {"strategy": "stream_once"}),
    Case("one_pass", _ALL, {"strategy": "one_pass"}),
)

# What is only planned: label, query, key.
SAMPLED = (
    ("uniform", _ALL, ("suppkey",)),
    ("in the order of the table, wide rows", _ALL, ("entered",)),
    ("in the order of the table, narrow rows", "select * from event", ("entered",)),
    ("skewed", _ALL, ("custkey",)),
)


@dataclass(slots=True)
class Measured:
    """What a case came to, round by round."""

    label: str
    planning: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    chunks: int = 0
    evenness: float = 1.0
    """Rows of the largest chunk, as a multiple of the mean."""

    @property
    def share(self) -> float:
        """Planning as a share of the load, the median of the rounds."""
        return statistics.median(self.shares)


@dataclass(slots=True)
class Way:
    """One way to find the bounds of chunks."""

    column: str
    label: str
    cut: Callable[[psycopg.Connection, str, Setting], Sequence[Any]]
    seconds: list[float] = field(default_factory=list)
    evenness: float = 1.0


def prepare(setting: Setting) -> None:
    """Fill the source; make the targets."""
    with closing(_connect(setting.source)) as source:
        source.execute("select setseed(0.5)")
        source.execute(_LINES)
        source.execute(_FILL.format(rows=setting.rows))
        source.execute("alter table lineitem add primary key (orderkey, linenumber)")
        source.execute("create index on lineitem (partkey)")
        source.execute(_EVENTS.format(rows=setting.rows))
        source.execute("vacuum (analyze) lineitem, event")
        source.execute("create schema dw")
        source.execute("create table dw.lineitem (like lineitem)")
    with closing(_connect(setting.target)) as target:
        target.execute("create schema dw")
        target.execute(_LINES.replace("create table lineitem", "create table dw.lineitem"))


def measure(setting: Setting, rounds: int, progress: Progress) -> list[Measured]:
    """Plan and load each case once a round, in turns; every second round begins at the other end.

    Raises RuntimeError when a load did not bring every row.
    """
    measured = {case.label: Measured(case.label) for case in CASES}
    for number in range(rounds):
        for case in CASES[:: -1 if number % 2 else 1]:
            into = measured[case.label]
            options = _options(setting, case)
            planning = statistics.median(_plan(setting, case, options)[0] for _ in range(PLANS))
            loading, results = _load(setting, case, options)
            into.planning.append(planning)
            into.loading.append(loading)
            into.shares.append(planning / loading)
            sizes = [result.rows_read or 0 for result in results]
            into.chunks, into.evenness = len(sizes), _evenness(sizes)
            progress(
                f"round {number + 1}: {case.label}: planned in {planning:.3f} s,"
                f" loaded in {loading:.1f} s"
            )
    return list(measured.values())


def compare_ways(setting: Setting, rounds: int, progress: Progress) -> list[Way]:
    """Find bounds over two indexed columns, by our walk and by what else comes to mind."""
    ways = [
        Way(column, label, cut)
        for column in ("orderkey", "partkey")
        for label, cut in (
            ("walk of the index (ours below 2 million rows)", _walk),
            ("ntile() over all keys", _ntile),
            ("a query a bound, with growing OFFSET", _offsets),
            ("even steps from minimum to maximum", _even_steps),
        )
    ]
    with closing(_connect(setting.source)) as source:
        for number in range(rounds):
            for way in ways[:: -1 if number % 2 else 1]:
                begun = time.perf_counter()
                found = way.cut(source, way.column, setting)
                way.seconds.append(time.perf_counter() - begun)
                way.evenness = _evenness(_counts(source, "lineitem", way.column, found))
                progress(f"round {number + 1}: {way.column}: {way.label}: {way.seconds[-1]:.3f} s")
    return ways


def check_samples(setting: Setting, progress: Progress) -> list[list[str]]:
    """Plan by columns without an index; return rows of a table: how, how fast, how even."""
    told = []
    with closing(_connect(setting.source)) as source:
        for label, query, key in SAMPLED:
            options = LoadOptions(
                chunk_key=key, chunk_size=setting.chunk_size, min_rows_for_parallel=0
            )
            took, planned = _plan(setting, Case(label, query), options)
            found = [chunk.low[0] for chunk in planned.chunks if chunk.low]
            sizes = _counts(source, query.rpartition(" ")[2], key[0], found)
            method = planned.strategy_reason.rpartition(" in ")[2]
            told.append([label, method, f"{took:.2f}", f"{_evenness(sizes):.2f}"])
            progress(f"{label}: {method}: {took:.2f} s")
    return told


def _plan(setting: Setting, case: Case, options: LoadOptions) -> tuple[float, Plan]:
    begun = time.perf_counter()
    planned = plan(setting.source, case.query, **options)
    return time.perf_counter() - begun, planned


def _load(
    setting: Setting, case: Case, options: LoadOptions
) -> tuple[float, tuple[ChunkResult, ...]]:
    with closing(_connect(setting.source if case.inside else setting.target)) as target:
        target.execute("truncate dw.lineitem")
        # So that no load pays for the pages of the one before it.
        target.execute("checkpoint")
    begun = time.perf_counter()
    result = execute_query_parallel(setting.source, case.query, **options)
    seconds = time.perf_counter() - begun
    result.raise_for_failures()
    if result.rows_written != setting.rows:
        raise RuntimeError(f"{case.label}: {result.rows_written:,} rows of {setting.rows:,} came")
    return seconds, result.chunk_results


def _options(setting: Setting, case: Case) -> LoadOptions:
    return {
        **case.options,
        "target_conn": setting.source if case.inside else setting.target,
        "target_schema": "dw",
        "target_table": "lineitem",
        "max_workers": 2,
        "chunk_size": setting.chunk_size,
        "min_rows_for_parallel": 0,
        "enable_progress": False,
    }


def _walk(source: psycopg.Connection, column: str, setting: Setting) -> Sequence[Any]:
    def run(statement: str) -> list[tuple[Any, ...]]:
        return source.execute(statement.encode()).fetchall()

    size = setting.chunk_size
    found = cuts.find(run, _ALL, None, key=(column,), chunk_size=size, may_shorten=False)
    return [int(cut) for (cut,) in found.cuts]


def _ntile(source: psycopg.Connection, column: str, setting: Setting) -> Sequence[Any]:
    count = -(-setting.rows // setting.chunk_size)
    rows = source.execute(
        f"select min({column}) from (select {column}, ntile({count}) over (order by {column}) as n"
        " from lineitem) numbered group by n order by n offset 1"
    )
    return [cut for (cut,) in rows]


def _offsets(source: psycopg.Connection, column: str, setting: Setting) -> Sequence[Any]:
    return [
        source.execute(
            f"select {column} from lineitem order by {column} offset {start} limit 1"
        ).fetchall()[0][0]
        for start in range(setting.chunk_size, setting.rows, setting.chunk_size)
    ]


def _even_steps(source: psycopg.Connection, column: str, setting: Setting) -> Sequence[Any]:
    count = -(-setting.rows // setting.chunk_size)
    low, high = source.execute(f"select min({column}), max({column}) from lineitem").fetchall()[0]
    return [low + (high - low + 1) * step // count for step in range(1, count)]


def _counts(source: psycopg.Connection, table: str, column: str, found: Sequence[Any]) -> list[int]:
    """Return how many rows lie between the cuts, of each range that has any."""
    kind = source.execute(f"select format_type(pg_typeof({column})::oid, -1) from {table} limit 1")
    ((name,),) = kind.fetchall()
    distinct = [str(cut) for cut in dict.fromkeys(found)]
    rows = source.execute(
        # The cuts are read once, behind a SELECT of their own, and not for every row.
        f"select count(*) from {table}"
        f" group by width_bucket({column}, (select %s::text[]::{name}[]))",
        (distinct,),
    )
    return [count for (count,) in rows]


def _evenness(sizes: Sequence[int]) -> float:
    """Return the largest size as a multiple of the mean; empty chunks do not count."""
    filled = [size for size in sizes if size]
    return max(filled) / statistics.mean(filled)


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True)


def tables(
    measured: Sequence[Measured], ways: Sequence[Way], samples: Sequence[Sequence[str]]
) -> tuple[str, str, str]:
    """Return the three tables of the report."""
    loads = report.table(
        ["load", "planning, s", "whole load, s", "share", "chunks", "largest / mean"],
        [
            [
                each.label,
                report.seconds(each.planning),
                report.seconds(each.loading),
                report.percent(each.share),
                str(each.chunks),
                f"{each.evenness:.2f}",
            ]
            for each in measured
        ],
    )
    compared = report.table(
        ["bounds", "s", "ratio to ours", "largest / mean"],
        [
            [
                f"{way.column}: {way.label}",
                report.seconds(way.seconds),
                f"{_ratio(way, ways):.3g}",
                f"{way.evenness:.2f}",
            ]
            for way in ways
        ],
    )
    sampled = report.table(["column without index", "how", "s", "largest / mean"], samples)
    return loads, compared, sampled


def _ratio(way: Way, ways: Sequence[Way]) -> float:
    """Return how many times ours a way takes, the median of the rounds."""
    ours = next(each for each in ways if each.column == way.column)
    pairs = zip(way.seconds, ours.seconds, strict=True)
    return statistics.median(its / our for its, our in pairs)


_PAGE = """# What planning costs

`make bench WHAT=planning ROWS={rows}` writes this page anew.

{rows:,} rows of a table like TPC-H's `lineitem` are loaded in chunks of {chunk_size:,}, with two workers, one snapshot, and
the ledger. Source and target are two databases of one server (for `same_database`, one database). The target has no index
and is emptied before each load. {machine}

Rounds: {rounds}. All cases take turns, every second round in reverse order, with three plans before each load. Seconds are
medians, and ratios are medians of the rounds' ratios. Compare within a table, not between runs.

## Planning as a share of the load

Planning is all of `plan(...)`: connections, the read point, the queries to both databases, the cuts. The share is that of
the whole `execute_query_parallel(...)`, which plans too. `largest / mean` is in rows read, empty chunks left out. The
chunks of `stream_once` are the pieces that its reader passes on.

{loads}

![Planning as a share of the load, and how even the chunks are](planning.svg)

With a key that has no index, every chunk reads the whole table: a query is cut by such a key only if `chunk_key` asks for
it.

## Other ways to find the bounds

Measured on an open session, over two columns that have an index: `orderkey` rises evenly, `partkey` is skewed.

{compared}

## Cuts from a sample

Columns without an index, only planned. {sampling}

{sampled}
"""

_SAMPLING = (
    "From 2 million rows on, the keys of a sample of the table's blocks are sorted,"
    " even if there is an index."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    asked = given.read(__doc__, arguments, rounds=3)
    progress = given.clock()
    with server.running() as make_database:
        setting = Setting(make_database("source"), make_database("target"), asked.rows)
        prepare(setting)
        progress(f"{asked.rows:,} rows are there")
        samples = check_samples(setting, progress)
        ways = compare_ways(setting, asked.rounds, progress)
        measured = measure(setting, asked.rounds, progress)
        machine = report.machine_of(setting.source, server.SETTINGS)
    loads, compared, sampled = tables(measured, ways, samples)
    page = _PAGE.format(
        rows=asked.rows,
        chunk_size=setting.chunk_size,
        rounds=asked.rounds,
        machine=machine,
        loads=loads,
        compared=compared,
        sampled=sampled,
        sampling=_SAMPLING,
    )
    print(f"\n{loads}\n\n{compared}\n\n{sampled}\n")
    (asked.docs / "planning.md").write_text(page)
    report.bars(
        asked.docs / "planning.svg",
        f"Planning {asked.rows:,} rows in chunks of {setting.chunk_size:,}",
        [each.label for each in measured],
        {
            "planning, % of the load": [100 * each.share for each in measured],
            "largest / mean chunk": [each.evenness for each in measured],
        },
    )


if __name__ == "__main__":
    main()
