"""Ranges of a table's blocks: read without an index, and without a sort.

Source: PostgreSQL documentation, release notes of version 14, "TID range scans".
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from ...model import Refused
from ...protocols import BlockCuts
from . import catalog, errors, saying
from .explained import nodes

# First version that reads a range of blocks without reading all others.
_RANGE_SCANS = 140_000

# A range of blocks, for asking how the planner would read one.
SOME = "(ctid >= '(1,0)'::tid and ctid < '(2,0)'::tid)"

# Below this share of the table's rows, the query's own may all lie in a few of the ranges.
_LEAST_SHARE = 0.5

_KINDS = {"v": "a view", "f": "a foreign table"}

# The leaves: the table itself, its partitions, the tables that inherit from it.
_LEAVES = f"""
{catalog.TREE}
select c.oid::int8, c.relkind::text, coalesce(am.amname, ''), c.relpages, c.reltuples::float8,
       case when c.relkind in ('r', 'm')
            then pg_relation_size(c.oid) / current_setting('block_size')::int else 0 end,
       coalesce(pg_relation_filenode(c.oid), 0)::int8
from tree join pg_class c on c.oid = tree.oid left join pg_am am on am.oid = c.relam
order by c.oid
"""

# Row versions that the old snapshot may not see: written by a transaction that was under way or yet
# to come. A snapshot does not list subtransactions, so all from the first one under way on may be
# of that kind. A row keeps 32 bits of its writer's number; counted from there, they say the rest.
_YOUNGER = """
with point as (
    select pg_snapshot_xmin(old)::text::int8 as oldest,
           pg_snapshot_xmax(pg_current_snapshot())::text::int8 as next
    from (select :snapshot::pg_snapshot) given(old)
)
select exists (
    select from {table} t, point
    where ((t.xmin::text::int8 - oldest) % 4294967296 + 4294967296) % 4294967296 < next - oldest
)
"""


@dataclass(frozen=True, slots=True)
class _Leaf:
    oid: int
    kind: str
    method: str
    pages: int
    tuples: float
    blocks: int
    file: int


def find(
    connection: saying.Connection,
    explain: Callable[[str], dict[str, Any]],
    *,
    version: int,
    table: str,
    query: str,
    some_blocks: str,
    chunk_size: int,
    asked_for: bool,
) -> BlockCuts | Refused:
    """Return where to cut the blocks of `table`, which `query` reads, or why not to.

    Args:
        connection: reads at the snapshot.
        explain: returns the planner's plan of a statement; the transaction outlives its error.
        version: of the server.
        table: quoted.
        query: the whole of it.
        some_blocks: the query, narrowed to `SOME` blocks.
        chunk_size: rows between two cuts.
        asked_for: whether to cut even where it does not pay.
    """
    if version < _RANGE_SCANS:
        return Refused("PostgreSQL reads ranges of blocks from version 14 on")
    leaves = _leaves(connection, table)
    if not leaves:
        return Refused(f"{table} is not a table")
    for leaf in leaves:
        if words := _KINDS.get(leaf.kind):
            return Refused(f"{table} is, or has among its partitions, {words}")
        if leaf.kind in {"r", "m"} and leaf.method != "heap":
            return Refused(f"{table} is kept by {leaf.method}, which may have no blocks")
    try:
        narrowed = explain(some_blocks)
    except psycopg.Error as error:
        if errors.is_transient(error):
            raise
        return Refused(
            f"the query does not accept a further condition ({error.diag.message_primary})"
        )
    scans = [scan for scan in _scans(narrowed) if scan.startswith("Tid ")]
    if not scans and not asked_for:
        return Refused("the planner does not read a range of blocks by itself here")
    planned = explain(query)
    if not asked_for and any("Index" in scan or "Bitmap" in scan for scan in _scans(planned)):
        return Refused("an index finds the query's rows; ranges of blocks would read them all")
    rows = int(planned["Plan Rows"])
    filtered = "Filter" in str(planned)
    if not asked_for and filtered and rows < _LEAST_SHARE * _rows_in(leaves):
        return Refused(
            f"the query keeps about {rows:,} of the table's rows, and they may lie anywhere in it"
        )
    return BlockCuts(
        tuple(map(str, _cuts(leaves, rows, chunk_size))), rows, _marks(connection, table, leaves)
    )


def _leaves(connection: saying.Connection, table: str) -> list[_Leaf]:
    return [_Leaf(*row) for row in saying.run(connection, _LEAVES, {"name": table}).fetchall()]


def _scans(plan: dict[str, Any]) -> list[str]:
    """Return the node types that read a table."""
    return [
        node["Node Type"]
        for node in nodes(plan)
        if "Relation Name" in node or "Scan" in node["Node Type"]
    ]


def _rows_in(leaves: Sequence[_Leaf]) -> float:
    """Return how many rows the leaves hold by their density when they were last looked at.

    Infinite when nobody has looked: then a query with a condition is not trusted to keep most.
    """
    total = 0.0
    for leaf in leaves:
        if leaf.blocks:
            if leaf.tuples < 0 or not leaf.pages:
                return float("inf")
            total += leaf.tuples / leaf.pages * leaf.blocks
    return total


def _cuts(leaves: Sequence[_Leaf], rows: int, chunk_size: int) -> list[int]:
    """Return the block numbers between chunks, so that each has about as many blocks in all.

    Every leaf is read from block to block of the same numbers, and the leaves differ in length.
    """
    sizes = sorted(leaf.blocks for leaf in leaves if leaf.blocks)
    total = sum(sizes)
    wanted = max(1, -(-rows // chunk_size))

    def blocks_before(number: int) -> int:
        shorter = bisect_left(sizes, number)
        return sum(sizes[:shorter]) + number * (len(sizes) - shorter)

    longest = range(1, sizes[-1] if sizes else 1)
    found: list[int] = []
    for place in range(1, wanted):
        goal = total * place / wanted
        cut = bisect_left(longest, goal, key=blocks_before)
        if cut < len(longest) and (not found or longest[cut] > found[-1]):
            found.append(longest[cut])
    return found


def _marks(connection: saying.Connection, table: str, leaves: Sequence[_Leaf]) -> tuple[str, ...]:
    """Return what tells, at another read point, whether rows have moved since this one."""
    files = json.dumps([[leaf.oid, leaf.file] for leaf in leaves])
    return table, files, str(saying.run(connection, "select pg_current_snapshot()").fetchone()[0])


def moved(connection: saying.Connection, marks: Sequence[str]) -> str | None:
    """Return why the table's blocks hold other rows than when the marks were made, or None."""
    table, files, snapshot = marks
    now = [[leaf.oid, leaf.file] for leaf in _leaves(connection, table)]
    if now != json.loads(files):
        return f"{table} has been rewritten, or has other partitions"
    younger = _YOUNGER.format(table=table)
    if saying.run(connection, younger, {"snapshot": snapshot}).fetchone()[0]:
        return f"rows of {table} have been, or may have been, added or updated"
    return None
