"""pgcopydb: all tables of the database, of which there is one."""

import subprocess
import tempfile

from benchmarks.contenders.given import Given, read


def main(given: Given) -> None:
    """Copy the rows; the table is there."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--source", given.source, "--target", given.target, "--dir", f"{folder}/work"]
        subprocess.run(
            ["pgcopydb", "copy", "table-data", *words, "--table-jobs", str(given.workers)],
            check=True,
        )


if __name__ == "__main__":
    main(read())
