"""The copy alone, chunk by chunk, as a process of its own: `python -m benchmarks.bare JSON`.

Each chunk is a COPY out, a COPY in and a COMMIT; nobody plans, holds a snapshot or keeps a ledger.
Its words are "source", "target", and "chunks", the condition of each. It says the same as ours.
"""

import json
import sys
import time
from contextlib import closing
from typing import Any

import psycopg

from benchmarks.lineitem import SELECT, connect
from benchmarks.ours import Told, peak

# As ours joins them.
BLOCK_BYTES = 64 * 1024


def _load(given: dict[str, Any]) -> Told:
    first, rows = 0.0, 0
    begun, cpu = time.perf_counter(), time.process_time()
    with (
        closing(connect(given["source"])) as source,
        closing(psycopg.connect(given["target"])) as target,
    ):
        for condition in given["chunks"]:
            rows += copy(source, target, f"{SELECT} where {condition}")
            target.commit()
            first = first or time.perf_counter() - begun
    return Told(
        rows=rows,
        chunks=len(given["chunks"]),
        seconds=time.perf_counter() - begun,
        cpu=time.process_time() - cpu,
        first=first,
        peak=peak(),
    )


def copy(source: psycopg.Connection, target: psycopg.Connection, query: str) -> int:
    """Copy a query's rows into the table; return how many they are."""
    writing, block = target.cursor(), bytearray()
    with (
        source.cursor().copy(f"copy ({query}) to stdout (format binary)".encode()) as out,
        writing.copy("copy lineitem from stdin (format binary)") as into,
    ):
        for row in out:
            block += row
            if len(block) >= BLOCK_BYTES:
                into.write(bytes(block))
                block.clear()
        into.write(bytes(block))
    return writing.rowcount


if __name__ == "__main__":
    print(json.dumps(_load(json.loads(sys.argv[1]))))
