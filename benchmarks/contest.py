"""Runs that are compared: each a whole process, all of them once a round, in an order of chance."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any

from benchmarks import processes
from benchmarks.given import Progress
from benchmarks.lineitem import Lines
from benchmarks.ours import Told
from benchmarks.processes import Cost

Costs = dict[str, list[Cost]]
"""What each entry took, round by round."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One that takes part."""

    label: str
    run: Callable[[], Cost]
    rows: int | None = None
    """How many rows it is to bring, where these are not all."""


def compete(
    entries: Sequence[Entry],
    lines: Lines,
    rounds: int,
    progress: Progress,
    check: Callable[[], None] | None = None,
) -> Costs:
    """Run each entry once a round into an empty target, and `check` what it brought.

    Raises RuntimeError when one did not bring its rows.
    """
    costs: Costs = {entry.label: [] for entry in entries}
    for number in range(rounds):
        for entry in Random(number).sample(entries, len(entries)):
            lines.empty()
            try:
                cost = entry.run()
                lines.check(entry.rows)
                if check:
                    check()
            except RuntimeError as error:
                raise RuntimeError(f"{entry.label}: {error}") from error
            costs[entry.label].append(cost)
            progress(f"round {number + 1}: {entry.label}: {cost.wall:.2f} s")
    return costs


def ours(
    lines: Lines,
    server: processes.Server,
    options: dict[str, Any],
    *,
    sql: str,
    functions: dict[str, str] | None = None,
) -> Cost:
    """Load by mapper in a process of its own; `functions` are named as `module:function`."""
    where = {"target_conn": lines.target, "target_schema": "public", "target_table": "lineitem"}
    given = {
        "source": lines.source,
        "sql": sql,
        "options": {**where, "min_rows_for_parallel": 0, **options},
        "functions": functions or {},
    }
    command = [sys.executable, "-m", "benchmarks.ours", json.dumps(given)]
    return processes.run([[command]], server)


def bare(lines: Lines, server: processes.Server, conditions: Sequence[str]) -> Cost:
    """Copy the rows of each condition, with a COMMIT after it, in a process of its own."""
    given = {"source": lines.source, "target": lines.target, "chunks": list(conditions)}
    command = [sys.executable, "-m", "benchmarks.bare", json.dumps(given)]
    return processes.run([[command]], server)


def able(
    entries: Sequence[Entry],
    lines: Lines,
    progress: Progress,
    check: Callable[[], None] | None = None,
) -> tuple[list[Entry], dict[str, str]]:
    """Run each once for nothing; return those that brought their rows, and why others did not.

    One that cannot do it must not end the others' rounds.
    """
    found, failed = [], {}
    for entry in entries:
        try:
            compete([entry], lines, 1, progress, check)
        except RuntimeError as error:
            failed[entry.label] = str(error).removeprefix(f"{entry.label}: ")
            progress(str(error))
        else:
            found.append(entry)
    return found, failed


def told(cost: Cost) -> Told:
    """Return what a process of ours said of its load."""
    words: Told = json.loads(cost.said)
    return words


def load_seconds(cost: Cost) -> float:
    """Return what the load of ours took, without the start of its interpreter."""
    return told(cost)["seconds"]


def wall(cost: Cost) -> float:
    """Return the seconds of the whole process."""
    return cost.wall


def middle(costs: Sequence[Cost], measure: Callable[[Cost], float]) -> float:
    """Return the median of a measure."""
    return median(map(measure, costs))


def ratio(
    ours: Sequence[Cost],
    theirs: Sequence[Cost],
    measure: Callable[[Cost], float],
    their_measure: Callable[[Cost], float] | None = None,
) -> float:
    """Return how many times ours theirs takes, the median of the rounds."""
    pairs = zip(ours, theirs, strict=True)
    return median((their_measure or measure)(their) / measure(our) for our, their in pairs)


def busy(cost: Cost) -> float:
    """Return the share of the machine's cores that a run kept busy."""
    return cost.cpu / (cost.wall * (os.cpu_count() or 1))
