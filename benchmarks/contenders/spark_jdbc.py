"""Spark over JDBC: partitions of the key, inserts rewritten into statements of many rows."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.contenders.given import Given, read

# Where the packages of the distributions put the driver.
JARS = Path("/usr/share/java")


def main(given: Given) -> None:
    """Read by ranges of the key, one for each worker, and append."""
    from pyspark.sql import SparkSession

    if not (jars := sorted(JARS.glob("postgresql*.jar"))):
        raise SystemExit(f"there is no JDBC driver in {JARS}")
    # Its first guess is an address of the network.
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    spark = (
        SparkSession.builder.master(f"local[{given.workers}]")
        .config("spark.jars", str(jars[0]))
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    driver = {"driver": "org.postgresql.Driver", "user": "postgres"}
    table = f"({given.query}) lines"
    bounds = f"(select min(l_orderkey) low, max(l_orderkey) high from {table}) bounds"
    low, high = spark.read.jdbc(_jdbc(given.source), bounds, properties=driver).first()
    spark.read.jdbc(
        _jdbc(given.source),
        table,
        column="l_orderkey",
        lowerBound=low,
        upperBound=high,
        numPartitions=given.workers,
        properties={**driver, "fetchsize": "10000"},
    ).write.jdbc(
        f"{_jdbc(given.target)}?reWriteBatchedInserts=true",
        "lineitem",
        mode="append",
        properties={**driver, "batchsize": "10000"},
    )
    # Waited for, its CPU is counted.
    java = spark.sparkContext._gateway.proc
    spark.stop()
    java.stdin.close()
    java.wait()


def _jdbc(url: str) -> str:
    parts = urlsplit(url)
    return f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}"


if __name__ == "__main__":
    main(read())
