"""The benchmarks run, on a few thousand rows and for no timing's sake."""

import psycopg
import pytest

from benchmarks import planning, report

ROWS = 6_000


@pytest.fixture
def setting(source, target):
    """A small table of every kind of key, and its targets."""
    setting = planning.Setting(source, target, ROWS, chunks=6)
    planning.prepare(setting)
    return setting


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
