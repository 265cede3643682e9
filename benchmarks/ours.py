"""One load by mapper as a process of its own: `python -m benchmarks.ours JSON` prints JSON.

Its words are "source", "sql", "options" (the keywords of a load), and "functions": keywords whose
values are functions, named as `module:function`.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict


class Told(TypedDict):
    """What a process says of its load: seconds, CPU seconds and MiB of its own."""

    rows: int
    chunks: int
    seconds: float
    cpu: float
    first: float
    """Seconds until the first chunk was committed."""
    peak: float


def _load(given: dict[str, Any]) -> Told:
    from mapper_core import ProgressSnapshot, execute_query_parallel

    first: list[float] = []

    def note(_: ProgressSnapshot) -> None:
        first.append(time.perf_counter() - begun)

    functions = {name: _function(where) for name, where in given["functions"].items()}
    options = {**given["options"], **functions, "progress_callback": note}
    begun, cpu = time.perf_counter(), time.process_time()
    result = execute_query_parallel(given["source"], given["sql"], **options)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    result.raise_for_failures()
    return Told(
        rows=result.rows_written,
        chunks=result.chunks_total,
        seconds=seconds,
        cpu=cpu,
        first=first[0] if first else seconds,
        peak=peak(),
    )


def _function(where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def peak() -> float:
    """Return the most memory this process has held, without what the one before it left behind."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    # Bytes on macOS, where there is no /proc.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024


if __name__ == "__main__":
    print(json.dumps(_load(json.loads(sys.argv[1]))))
