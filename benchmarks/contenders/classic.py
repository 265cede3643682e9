"""The in-house way: threads, OFFSET and LIMIT, `execute_values`."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count

import psycopg2
from psycopg2.extras import execute_values

from benchmarks.contenders.given import Given, read
from benchmarks.functions import change_rows

PAGE = 50_000
# Rows of a statement; more is no faster.
BATCH = 1_000


def main(given: Given) -> None:
    """Let each thread take the next page until one is empty."""
    pages = count()
    with ThreadPoolExecutor(given.workers) as pool:
        for done in [pool.submit(_copy, given, pages) for _ in range(given.workers)]:
            done.result()


def _copy(given: Given, pages: "count[int]") -> None:
    with (
        closing(psycopg2.connect(given.source)) as source,
        closing(psycopg2.connect(given.target)) as target,
        source.cursor() as reader,
        target.cursor() as writer,
    ):
        for page in pages:
            reader.execute(
                f"{given.query} order by l_orderkey, l_linenumber limit {PAGE} offset {page * PAGE}"
            )
            if not (rows := reader.fetchall()):
                return
            if given.change:
                names = [column.name for column in reader.description or ()]
                dicts = [dict(zip(names, row, strict=True)) for row in rows]
                rows = [tuple(row.values()) for row in change_rows(dicts)]
            execute_values(writer, "insert into lineitem values %s", rows, page_size=BATCH)
            target.commit()


if __name__ == "__main__":
    main(read())
