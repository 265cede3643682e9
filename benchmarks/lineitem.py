"""TPC-H's `lineitem`, as its generator makes it, in a source; and an empty target of its kind."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg

TABLE = "lineitem"
SELECT = "select * from lineitem"

# Of TPC-H's scale factor 1, about: an order has one to seven lines.
_ROWS_OF_SCALE_ONE = 6_000_000
_BLOCK = 1024 * 1024

_LINES = """
create table lineitem (
    l_orderkey bigint not null,
    l_partkey bigint not null,
    l_suppkey bigint not null,
    l_linenumber integer not null,
    l_quantity numeric(15,2) not null,
    l_extendedprice numeric(15,2) not null,
    l_discount numeric(15,2) not null,
    l_tax numeric(15,2) not null,
    l_returnflag char(1) not null,
    l_linestatus char(1) not null,
    l_shipdate date not null,
    l_commitdate date not null,
    l_receiptdate date not null,
    l_shipinstruct char(25) not null,
    l_shipmode char(10) not null,
    l_comment varchar(44) not null
)
"""


@dataclass(frozen=True, slots=True)
class Lines:
    """A source that has the table, a target for it without index, and how many rows there are."""

    source: str
    target: str
    rows: int

    def empty(self) -> None:
        """Make the target as it was in the beginning, and pay for the pages of earlier loads."""
        with closing(connect(self.target)) as target:
            # Some leave tables of their own beside it, and go by them the next time.
            target.execute("drop schema public cascade")
            target.execute("create schema public")
            target.execute(_LINES)
            target.execute("checkpoint")

    def check(self, rows: int | None = None) -> None:
        """Raise RuntimeError unless the target has all the rows, or so many of them."""
        expected = self.rows if rows is None else rows
        if (found := count(self.target, SELECT)) != expected:
            raise RuntimeError(f"{found:,} rows of {expected:,} came")

    def query_of(self, share: float) -> tuple[str, int]:
        """Return a query of the first part of the table, by its key, and how many rows that is."""
        (bound,) = self.bounds(share)
        query = f"{SELECT} where l_orderkey < {bound}"
        return query, count(self.source, query)

    def bounds(self, *shares: float) -> list[int]:
        """Return the values of `l_orderkey` at these shares of the rows, 0.5 being the median."""
        with closing(connect(self.source)) as source:
            return [
                source.execute(
                    "select l_orderkey from lineitem order by l_orderkey offset %s limit 1",
                    (int(self.rows * share),),
                ).fetchall()[0][0]
                for share in shares
            ]


def prepare(source: str, target: str, rows: int) -> Lines:
    """Generate the table into the source, with about so many rows."""
    with closing(connect(source)) as connection:
        connection.execute(_LINES)
        _fill(connection, rows)
        connection.execute("alter table lineitem add primary key (l_orderkey, l_linenumber)")
        connection.execute("vacuum (analyze) lineitem")
    lines = Lines(source, target, count(source, SELECT))
    lines.empty()
    return lines


def connect(url: str) -> psycopg.Connection:
    """Return a connection on which every statement commits."""
    return psycopg.connect(url, autocommit=True)


def count(url: str, query: str) -> int:
    """Return how many rows a query has."""
    with closing(connect(url)) as connection:
        statement = f"select count(*) from ({query}) counted"
        return int(connection.execute(statement.encode()).fetchall()[0][0])


def _fill(connection: psycopg.Connection, rows: int) -> None:
    with (
        subprocess.Popen(_generator(rows), stdout=subprocess.PIPE) as generator,
        connection.cursor().copy("copy lineitem from stdin (format csv, header)") as copy,
    ):
        if generator.stdout:
            while block := generator.stdout.read(_BLOCK):
                copy.write(block)
    if generator.returncode:
        raise RuntimeError("tpchgen-cli failed")


def _generator(rows: int) -> Sequence[str]:
    scale = rows / _ROWS_OF_SCALE_ONE
    # Beside the interpreter, whether or not its environment is the active one.
    program = str(Path(sys.executable).with_name("tpchgen-cli"))
    return [program, "csv", "--tables", TABLE, "--scale-factor", f"{scale:f}", "--stdout"]
