"""The ADBC driver into Arrow batches, encoded as binary COPY by pgpq; one stream."""

from benchmarks.contenders import pgpq_copy
from benchmarks.contenders.given import Given, read


def main(given: Given) -> None:
    """Write each batch as it comes."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(given.source) as source, source.cursor() as cursor:
        cursor.execute(given.query)
        pgpq_copy.write(given.target, cursor.fetch_record_batch(), change=given.change)


if __name__ == "__main__":
    main(read())
