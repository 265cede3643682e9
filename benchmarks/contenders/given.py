"""What every script is given."""

import sys
from typing import NamedTuple


class Given(NamedTuple):
    """Two URLs, the query, and how many workers to use, where there is a choice."""

    source: str
    target: str
    query: str
    change: bool
    """Whether rows are changed on the way, as `benchmarks.functions` says."""
    workers: int = 2


def read() -> Given:
    """Return what the command line says."""
    source, target, query, *change = sys.argv[1:]
    return Given(source, target, query, change=bool(change))
