"""The benchmarks run, on a few thousand rows and for no timing's sake."""

import sys
from urllib.parse import quote

import psycopg
import pytest

from benchmarks import (
    contest,
    costs,
    lineitem,
    peers,
    pipes,
    planning,
    processes,
    report,
    transforms,
)

ROWS = 6_000


@pytest.fixture
def setting(source, target):
    """A small table of every kind of key, and its targets."""
    setting = planning.Setting(source, target, ROWS, chunks=6)
    planning.prepare(setting)
    return setting


@pytest.fixture(scope="module")
def lines(server):
    """A small `lineitem`, and its target; once, for its generator takes seconds to start."""
    address = f"postgresql://postgres@/{{}}?host={quote(server, safe='')}"
    names = ("lines_source", "lines_target")
    with psycopg.connect(address.format("postgres"), autocommit=True) as admin:
        for name in names:
            admin.execute(f"create database {name} template template0")
        source, target = map(address.format, names)
        yield lineitem.prepare(source, target, ROWS)
        for name in names:
            admin.execute(f"drop database {name} with (force)")


def test_planning_is_measured_for_every_strategy(setting):
    """One round of everything; the loads themselves check that every row came."""
    said: list[str] = []

    samples = planning.check_samples(setting, said.append)
    ways = planning.compare_ways(setting, 1, said.append)
    measured = planning.measure(setting, 1, said.append)
    loads, compared, sampled = planning.tables(measured, ways, samples)

    assert all(case.label in loads for case in planning.CASES)
    assert all(way.label in compared for way in ways)
    assert all(label in sampled for label, _, _ in planning.SAMPLED)
    assert len(said) == len(samples) + len(ways) + len(measured)
    physical, one_pass = measured[0], measured[-1]
    assert physical.chunks > one_pass.chunks == 1
    # What the walk finds is even, whatever the machine is doing.
    assert ways[0].label.startswith("walk")
    assert ways[0].evenness == pytest.approx(1, abs=0.01)


def test_the_machine_is_told_without_its_names(source):
    """A page that is published says what it was measured on, not where."""
    with psycopg.connect(source) as connection:
        told = report.machine(connection, {"work_mem": "4MB"})

    assert "cores" in told
    assert "PostgreSQL 18" in told
    assert "/" not in told


def test_pipes_and_ours_bring_the_same_rows(lines):
    """At both splits; that every row came is checked by each run itself."""
    pairs = [pipes.Pair("key", 2), pipes.Pair("ctid", 1)]
    said: list[str] = []

    found = pipes.measure(lines, 1, said.append, pairs)
    times, work = pipes.tables(found, pairs)

    assert {label for pair in pairs for label in (pair.ours, pair.pipes)} == set(found)
    assert all(pair.label in times and pair.label in work for pair in pairs)
    assert len(said) == len(found)
    assert contest.told(found[pairs[0].ours][0])["rows"] == lines.rows
    assert all(cost.client > 0 and cost.peak > 0 for (cost,) in found.values())


@pytest.mark.parametrize("split", list(pipes.SPLITS))
def test_the_parts_of_a_split_are_the_table(lines, split):
    """No row is in two parts or in none, and no part is far from even."""
    conditions = pipes.split_into(lines, split, 4)

    sizes = [lineitem.count(lines.source, f"{lineitem.SELECT} where {each}") for each in conditions]

    assert sum(sizes) == lines.rows
    assert max(sizes) < 1.3 * lines.rows / 4


def test_a_program_that_cannot_run_is_told_and_the_others_go_on(lines):
    """It is told with its own words, or with what is not there."""
    absent = peers.Peer("absent", "classic", program="no-such-program")
    broken = peers.Peer("broken", "no_such_script")
    classic = next(peer for peer in peers.PEERS if peer.script == "classic")

    found, missing = peers.commands([absent, broken, classic], print)
    took, rows, failed = peers.measure(lines, found, 1, print)
    table = peers.table(took, rows)

    assert missing == {"absent": "there is no no-such-program on this machine"}
    assert "no_such_script" in failed["broken"]
    assert set(took) == {peers.OURS, peers.PSQL, classic.label}
    assert rows[classic.label] < rows[peers.OURS] == lines.rows
    assert all(label in table for label in took)


def test_rows_arrive_as_they_were_changed(lines):
    """By ours in each way, and by the classic way."""
    meter = processes.Server(lines.source)
    ways = (transforms.DICTS, transforms.NAMED, transforms.ARROW)
    classic = transforms.PEERS_BY_ROW[0]
    entries = [
        *transforms.ours(lines, meter, ways),
        *transforms.others(lines, meter, {classic: sys.executable}),
    ]

    found = transforms.measure(lines, entries, 1, print)
    table = transforms.table(found, lines.rows, transforms.DICTS.label)

    assert set(found) == {*(way.label for way in ways), classic.label}
    assert all(label in table for label in found)


def test_rows_that_were_not_changed_are_noticed(lines):
    """A function that was never called must not count as a fast one."""
    lines.empty()
    pipes.pipe(lines, processes.Server(lines.source), ["true"])

    with pytest.raises(RuntimeError, match="not changed"):
        transforms.check(lines)


def test_rows_that_did_not_come_are_noticed(lines):
    """A part of the rows must not count as a fast load of all."""
    lines.empty()
    pipes.pipe(lines, processes.Server(lines.source), ["l_linenumber = 1"])

    with pytest.raises(RuntimeError, match="rows of"):
        lines.check()


def test_what_loads_cost_is_measured(lines):
    """Chunks, growth, small loads and the import, each with the numbers that its table needs."""
    by_chunks = costs.chunks(lines, 1, print)
    growths = costs.GROWTHS[:1]
    by_rows, rows = costs.grow(lines, 1, print, growths)
    small = costs.small_loads(lines, 1, print)
    imported = costs.imports(lines.source, 1, print)

    large, many = (contest.told(by_chunks[label][0]) for label in (costs.LARGE, costs.SMALL))
    assert large["chunks"] < many["chunks"]
    assert len(rows) == 2
    assert max(rows.values()) == lines.rows
    assert "CPU" in costs.chunk_table(by_chunks)
    assert all(label in costs.growth_table(by_rows, rows, growths) for label in rows)
    assert "import" in costs.fixed_table(small, imported)
