"""DuckDB with both databases attached: INSERT ... SELECT."""

from benchmarks.contenders.given import Given, read

_CHANGE = "l_extendedprice + l_tax as l_extendedprice, lower(l_shipmode) as l_shipmode"


def main(given: Given) -> None:
    """Let DuckDB split the table."""
    import duckdb
    from duckdb_extensions import import_extension

    import_extension("postgres_scanner")
    database = duckdb.connect(config={"threads": given.workers})
    database.execute("load postgres")
    database.execute(f"attach '{given.source}' as source (type postgres, read_only)")
    database.execute(f"attach '{given.target}' as target (type postgres)")
    database.execute("use source")
    query = f"from ({given.query})"
    if given.change:
        query = f"select * replace ({_CHANGE}) {query}"
    database.execute(f"insert into target.public.lineitem {query}")


if __name__ == "__main__":
    main(read())
