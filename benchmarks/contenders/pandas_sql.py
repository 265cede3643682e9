"""pandas: `read_sql` in pieces from a server-side cursor, `to_sql` as it comes.

Its `method="multi"` is far slower with so many columns: SQLAlchemy compiles each statement anew.
"""

from benchmarks.contenders.given import Given, read
from benchmarks.functions import change_rows

PIECE = 20_000


def main(given: Given) -> None:
    """Append piece by piece."""
    import pandas
    import sqlalchemy

    source, target = map(
        sqlalchemy.create_engine, (_psycopg2(given.source), _psycopg2(given.target))
    )
    with source.connect().execution_options(stream_results=True) as reader:
        for frame in pandas.read_sql(sqlalchemy.text(given.query), reader, chunksize=PIECE):
            if given.change:
                frame = pandas.DataFrame(change_rows(frame.to_dict("records")))  # noqa: PLW2901
            frame.to_sql("lineitem", target, if_exists="append", index=False)


def _psycopg2(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg2:")


if __name__ == "__main__":
    main(read())
