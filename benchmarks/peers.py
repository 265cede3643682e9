"""Ours against what else moves a table: each a whole process, in its own environment.

`make bench WHAT=peers` runs it over 6 million rows, with ROWS=600000 over fewer.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import contest, environments, given, lineitem, pipes, processes, report, server
from benchmarks.contest import Costs, Entry
from benchmarks.environments import MissingError
from benchmarks.lineitem import SELECT, Lines

WORKERS = 2
OURS = "ours"
PSQL = "psql pipes"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to compare with: its script, and what its environment is made of."""

    label: str
    script: str
    packages: tuple[str, ...] = ()
    """Its own first; none for what runs in our environment."""
    share: float = 1.0
    """Of the rows; less where all of them would take too long."""
    program: str | None = None
    """What must be installed on the machine, if anything."""


SLOW = 0.1

PEERS = (
    Peer("classic: OFFSET, execute_values", "classic", share=SLOW),
    Peer(
        "ADBC -> pgpq -> COPY",
        "adbc_copy",
        ("adbc-driver-postgresql", "pgpq", "psycopg[binary]", "pyarrow"),
    ),
    Peer(
        "ConnectorX -> pgpq -> COPY",
        "connectorx_copy",
        ("connectorx", "pgpq", "psycopg[binary]", "pyarrow"),
    ),
    Peer("polars", "polars_adbc", ("polars", "connectorx", "adbc-driver-postgresql", "pyarrow")),
    Peer(
        "DuckDB postgres",
        "duckdb_postgres",
        ("duckdb", "duckdb-extensions", "duckdb-extension-postgres-scanner"),
    ),
    Peer("pgcopydb", "pgcopydb_copy", program="pgcopydb"),
    Peer(
        "dlt, ConnectorX backend",
        "dlt_sql",
        (
            "dlt[postgres,sql_database]",
            "connectorx",
            "pyarrow",
            "sqlalchemy",
            "psycopg[binary]",
            "psycopg2-binary",
        ),
        share=SLOW,
    ),
    # Later wheels bring no program, and fetch it when they are first used.
    Peer("Sling", "sling_run", ("sling-linux-amd64",), share=SLOW),
    Peer("Spark JDBC", "spark_jdbc", ("pyspark",), program="java"),
    Peer("pandas to_sql", "pandas_sql", ("pandas", "sqlalchemy", "psycopg2-binary"), share=SLOW),
)


def commands(
    peers: Sequence[Peer], progress: given.Progress
) -> tuple[dict[Peer, str], dict[str, str]]:
    """Make the environments; return the interpreters of those that run, and why others do not."""
    found: dict[Peer, str] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            if peer.program and not shutil.which(peer.program):
                raise MissingError(f"there is no {peer.program} on this machine")
            found[peer] = sys.executable
            if peer.packages:
                found[peer] = environments.python(peer.script, peer.packages)
        except MissingError as error:
            found.pop(peer, None)
            missing[peer.label] = str(error)
        progress(f"{peer.label}: {missing.get(peer.label, 'is there')}")
    return found, missing


def entry(
    lines: Lines, meter: processes.Server, peer: Peer, interpreter: str, *words: str
) -> Entry:
    """Return how a peer takes part; words are handed to its script."""
    query, rows = (SELECT, lines.rows) if peer.share == 1 else lines.query_of(peer.share)
    command = [interpreter, "-m", f"benchmarks.contenders.{peer.script}"]
    command += [lines.source, lines.target, query, *words]
    # What leads our own interpreter to its packages would lead the others astray.
    environment = {"PYTHONPATH": ""} if peer.packages else None
    return Entry(peer.label, partial(processes.run, [[command]], meter, environment), rows)


def measure(
    lines: Lines, found: dict[Peer, str], rounds: int, progress: given.Progress
) -> tuple[Costs, dict[str, int], dict[str, str]]:
    """Load by each, once a round; return the costs, the rows of each, and who failed, with why."""
    meter = processes.Server(lines.source)
    conditions = pipes.split_into(lines, "ctid", WORKERS)
    own = [
        Entry(OURS, partial(contest.ours, lines, meter, {"max_workers": WORKERS}, sql=SELECT)),
        Entry(PSQL, partial(pipes.pipe, lines, meter, conditions)),
    ]
    others = [entry(lines, meter, peer, interpreter) for peer, interpreter in found.items()]
    able, failed = contest.able(others, lines, progress)
    entries = [*own, *able]
    costs = contest.compete(entries, lines, rounds, progress)
    return costs, {each.label: each.rows or lines.rows for each in entries}, failed


def table(costs: Costs, rows: dict[str, int]) -> str:
    """Return the table of the report, the fastest first."""
    return report.table(
        [
            "program",
            "rows",
            "s",
            "thousand rows/s",
            "ours is faster by",
            "client, CPU s / million rows",
            "peak, MiB",
        ],
        [
            [
                label,
                f"{rows[label]:,}",
                report.seconds([cost.wall for cost in costs[label]]),
                f"{rate(costs, rows, label) / 1000:.3g}",
                f"{ahead(costs, rows, label):.2f}",
                f"{contest.middle(costs[label], lambda cost: cost.client) / rows[label] * 1e6:.2f}",
                f"{contest.middle(costs[label], lambda cost: cost.peak):.0f}",
            ]
            for label in by_rate(costs, rows)
        ],
    )


def rate(costs: Costs, rows: dict[str, int], label: str) -> float:
    """Return the rows a second of one, the median of the rounds."""
    return rows[label] / contest.middle(costs[label], contest.wall)


def by_rate(costs: Costs, rows: dict[str, int]) -> list[str]:
    """Return all of them, the fastest first."""
    return sorted(costs, key=lambda label: -rate(costs, rows, label))


def ahead(costs: Costs, rows: dict[str, int], label: str) -> float:
    """Return our rate as a multiple of another's, the median of the rounds' ratios."""
    found = contest.ratio(costs[OURS], costs[label], contest.wall)
    return found * rows[OURS] / rows[label]


def versions(found: dict[Peer, str]) -> str:
    """Return what runs in environments of its own, with versions."""
    names = {peer: peer.packages[0].partition("[")[0] for peer in found if peer.packages}
    return ", ".join(
        f"{name} {environments.version(found[peer], name)}" for peer, name in names.items()
    )


def absent(missing: dict[str, str]) -> str:
    """Return who could not take part, and why, as sentences of the page."""
    if not missing:
        return "All of them ran."
    return "\n".join(f"- {label}: {why}" for label, why in missing.items())


_PAGE = """# Against other programs

`make bench WHAT=peers ROWS={asked} ROUNDS={rounds}` writes this page anew.

{rows:,} rows of TPC-H's `lineitem`, made by its generator, are loaded from one database of a server into another, over
TCP. The target has no index and is recreated before each load. `ours` is mapper. Each program is a whole process from start
to end in its own environment, with two workers if it has workers. {machine}

Rounds: {rounds}, after one round that is not counted. All programs take turns, in random order. Seconds are medians, and
ratios are medians of the rounds' ratios. The slow programs load only the first tenth of the rows, by key: compare rows per
second. Costs that a load has only once weigh more with fewer rows.

{table}

![Thousand rows a second](peers.svg)

Peaks are those of the largest process; less than {floor:.0f} MiB cannot be seen. The ranges of the `psql` pipes are cut
beforehand.

## Not taking part

{absent}

Each program is used in the fastest way of its own that we know; the scripts are in `benchmarks/contenders`. Versions:
{versions}.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page."""
    asked = given.read(__doc__, arguments, rounds=3)
    progress = given.clock()
    found, missing = commands(PEERS, progress)
    with server.running(tcp=True) as make_database:
        lines = lineitem.prepare(make_database("source"), make_database("target"), asked.rows)
        progress(f"{lines.rows:,} rows are there")
        costs, rows, failed = measure(lines, found, asked.rounds, progress)
        machine = report.machine_of(lines.source, server.SETTINGS)
    told = table(costs, rows)
    print(f"\n{told}\n\n{absent({**missing, **failed})}\n")
    page = _PAGE.format(
        asked=asked.rows,
        rounds=asked.rounds,
        rows=lines.rows,
        machine=machine,
        table=told,
        floor=min(cost.peak for each in costs.values() for cost in each),
        versions=versions(found),
        absent=absent({**missing, **failed}),
    )
    (asked.docs / "peers.md").write_text(page)
    labels = by_rate(costs, rows)
    report.bars(
        asked.docs / "peers.svg",
        f"{lines.rows:,} rows, or the first tenth of them",
        labels,
        {"thousand rows/s": [rate(costs, rows, label) / 1000 for label in labels]},
    )


if __name__ == "__main__":
    main()
