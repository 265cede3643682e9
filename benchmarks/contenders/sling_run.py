"""Sling: one stream of a query into a table that it makes anew."""

import os
import subprocess
import sysconfig
from pathlib import Path

from benchmarks.contenders.given import Given, read


def main(given: Given) -> None:
    """Let Sling replace the table."""
    # The wheels of its binaries bring no command.
    (program,) = Path(sysconfig.get_path("purelib")).glob("sling_*/bin/sling-*")
    words = [
        "--src-stream",
        given.query,
        "--tgt-object",
        "public.lineitem",
        "--mode",
        "full-refresh",
    ]
    conns = {
        "SOURCE": f"{given.source}?sslmode=disable",
        "TARGET": f"{given.target}?sslmode=disable",
    }
    subprocess.run(
        [str(program), "run", "--src-conn", "SOURCE", "--tgt-conn", "TARGET", *words],
        check=True,
        env={**os.environ, **conns},
    )


if __name__ == "__main__":
    main(read())
