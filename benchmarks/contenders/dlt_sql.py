"""dlt: its SQL source with the ConnectorX backend, written by COPY of its CSV files.

With a change, rows must be dicts: its SQLAlchemy backend, and `add_map`.
"""

import tempfile

from benchmarks.contenders.given import Given, read
from benchmarks.functions import change_row


def main(given: Given) -> None:
    """Run one pipeline."""
    import dlt
    import sqlalchemy
    from dlt.sources.sql_database import sql_table

    lines = sql_table(
        with_password(given.source),
        table="lineitem",
        backend="sqlalchemy" if given.change else "connectorx",
        query_adapter_callback=lambda *_: sqlalchemy.text(given.query),
    )
    if given.change:
        lines.add_map(change_row)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "lineitem",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(with_password(given.target)),
            dataset_name="public",
        )
        pipeline.run(lines, loader_file_format="csv").raise_on_failed_jobs()


def with_password(url: str) -> str:
    """Return the URL with some password, which dlt asks for and the server does not."""
    return url.replace("postgres@", "postgres:none@")


if __name__ == "__main__":
    main(read())
