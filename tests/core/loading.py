"""A load in a process of its own, for tests that kill it: `python -m tests.core.loading`.

Reads the keywords of a load as JSON from standard input, writes what it came to. A window is given
as its column and its ends, in words.
"""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from mapper_core import LoadWindow, MapperError, execute_query_parallel

ROOT = str(Path(__file__).parents[2])


def start(**keywords):
    """Start a load in another process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.core.loading"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process.stdin as stdin:  # type: ignore[union-attr]  # it was asked for
        stdin.write(json.dumps(keywords))
    return process


def kill(process):
    """End a load as the operating system would: no handler, no clean-up."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def result_of(process):
    """Wait for a load; return what it came to as a dict."""
    with process.stdout as stdout:
        said = stdout.read()
    assert 0 == process.wait()
    return json.loads(said)


def main():
    keywords = json.loads(sys.stdin.read())
    if "window" in keywords:
        column, *ends = keywords["window"]
        keywords["window"] = LoadWindow(column, *map(datetime.fromisoformat, ends))
    try:
        result = execute_query_parallel(**keywords)
    except MapperError as error:
        print(json.dumps({"raised": f"{type(error).__name__}: {error}"}))  # noqa: T201
        return
    print(  # noqa: T201
        json.dumps(
            {
                "status": str(result.status),
                "successful": result.total_rows_successful,
                "skipped": result.chunks_skipped,
                "errors": [error["error"] for error in result.chunk_errors],
            }
        )
    )


if __name__ == "__main__":
    os.environ["MAPPER_PARALLEL_PROGRESS_ENABLED"] = "false"
    main()
