"""What every benchmark is asked for on its command line, and how it says how far it is."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Given:
    """How many rows and rounds, and the folder of the pages and plots."""

    rows: int
    rounds: int
    docs: Path


def read(about: str | None, arguments: Sequence[str] | None, *, rounds: int) -> Given:
    """Return what is asked for; `rounds` is what it is where that is left open."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rows", type=int, default=6_000_000)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page and the plot")
    found = parser.parse_args(arguments)
    found.docs.mkdir(parents=True, exist_ok=True)
    return Given(found.rows, found.rounds, found.docs)


def clock() -> Progress:
    """Return a function that prints a line, and how long it has been."""
    begun = time.monotonic()

    def progress(words: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {words}", flush=True)

    return progress
