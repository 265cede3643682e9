"""ConnectorX into Arrow, encoded as binary COPY by pgpq."""

from benchmarks.contenders import pgpq_copy
from benchmarks.contenders.given import Given, read


def main(given: Given) -> None:
    """Read in as many parts as there are workers, then write."""
    import connectorx

    table = connectorx.read_sql(
        given.source,
        given.query,
        return_type="arrow",
        partition_on="l_orderkey",
        partition_num=given.workers,
    )
    pgpq_copy.write(given.target, table.to_batches(max_chunksize=pgpq_copy.BATCH))


if __name__ == "__main__":
    main(read())
