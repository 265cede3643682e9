"""polars: read by ConnectorX in parts, written by ADBC."""

from benchmarks.contenders.given import Given, read


def main(given: Given) -> None:
    """Read all, then append all."""
    import polars

    frame = polars.read_database_uri(
        given.query,
        given.source,
        engine="connectorx",
        partition_on="l_orderkey",
        partition_num=given.workers,
    )
    if given.change:
        frame = frame.with_columns(
            polars.col("l_extendedprice") + polars.col("l_tax"),
            polars.col("l_shipmode").str.to_lowercase(),
        )
    frame.write_database("lineitem", given.target, engine="adbc", if_table_exists="append")


if __name__ == "__main__":
    main(read())
