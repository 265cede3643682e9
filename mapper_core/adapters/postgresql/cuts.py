"""Where to cut an ordered key: by rank, in about one pass, compared by the server alone."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ...protocols import KeyCuts
from . import session

# Cuts asked for per chunk expected: when the planner's estimate is off by less than this, the one
# pass still yields chunks of the right size by leaving cuts out.
_FINER = 4

_SORTS = {"Sort", "Incremental Sort"}


def find_cuts(
    connection: session.Connection, query: str, key: Sequence[str], chunk_size: int
) -> KeyCuts:
    """Return the cuts of `key` over `query`, about `chunk_size` rows apart.

    An index that yields the key in order is walked; otherwise the keys are sorted once.
    """
    keys = [session.identifier(name) for name in key]
    run = _runner(connection)
    types = _types(run, query, keys)
    listed = ", ".join(keys)
    present = " and ".join(f"{name} is distinct from null" for name in keys)
    ordered = f"select {listed} from (\n{query}\n) q where {present} order by {listed}"
    planned = run(f"explain (format json) {ordered}")[0][0][0]["Plan"]
    any_null = " or ".join(f"{name} is not distinct from null" for name in keys)
    if not _SORTS & set(_node_types(planned)):
        cuts = _walk(run, query, keys, present, chunk_size)
        nulls = run(f"select exists (select from (\n{query}\n) q where {any_null})")[0][0]
        return KeyCuts(cuts, types, nulls, None, "one ordered pass over an index")
    # Percentiles come as an array, and there are no arrays of arrays.
    if len(keys) == 1 and not types[0].endswith("[]"):
        estimate = planned["Plan Rows"]
        return _percentiles(
            run, query, keys[0], types=types, estimate=estimate, chunk_size=chunk_size
        )
    cuts = _ranks(run, query, keys, present, chunk_size)
    rows, nulls = run(f"select count(*), count(*) filter (where {any_null}) from (\n{query}\n) q")[
        0
    ]
    return KeyCuts(cuts, types, nulls > 0, rows, "one sort of the keys")


def _runner(connection: session.Connection) -> Any:
    def run(statement: str) -> list[tuple[Any, ...]]:
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        return cursor.execute(statement.encode()).fetchall()

    return run


def _types(run: Any, query: str, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the key's types without modifier: a cut must not be rounded by its cast."""
    # A row of NULLs, so that there is one row to ask even when the query has none.
    asked = ", ".join(f"format_type(pg_typeof(q.{name})::oid, -1)" for name in keys)
    found = run(f"select {asked} from (select) one left join (\n{query}\n) q on false")
    return tuple(str(name) for name in found[0])


def _node_types(node: dict[str, Any]) -> list[str]:
    return [
        node["Node Type"],
        *(t for child in node.get("Plans", ()) for t in _node_types(child)),
    ]


def _texts(keys: Sequence[str]) -> str:
    return ", ".join(f"{name}::text" for name in keys)


def _walk(
    run: Any, query: str, keys: Sequence[str], present: str, chunk_size: int
) -> tuple[tuple[str, ...], ...]:
    """Step through the index, one chunk a step; each step begins where the last one ended."""
    listed = ", ".join(keys)
    # The name hides tables of that name from the user's query, so it is one that nobody has.
    last = ", ".join(f"mapper_cut.{name}" for name in keys)
    source = f"select {listed} from (\n{query}\n) q where {present}"
    found = run(
        f"with recursive mapper_cut as ("
        f"(select * from ({source}) q order by {listed} offset {chunk_size:d} limit 1)"
        f" union all select step.* from mapper_cut, lateral ("
        f"{source} and ({listed}) > ({last}) order by {listed}"
        f" offset {chunk_size - 1:d} limit 1) step"
        f") select {_texts(keys)} from mapper_cut"
    )
    return tuple(tuple(row) for row in found)


def _percentiles(
    run: Any,
    query: str,
    key: str,
    *,
    types: tuple[str, ...],
    estimate: int,
    chunk_size: int,
) -> KeyCuts:
    """Sort the keys once and take the ones at even ranks."""
    pieces = max(2, _FINER * int(estimate) // chunk_size + 1)
    while True:
        rows, present, cuts = run(
            f"with sorted as (select count(*) as n,"
            f" count(*) filter (where {key} is distinct from null) as k,"
            f" percentile_disc(array(select i::float8 / {pieces:d}"
            f" from generate_series(1, {pieces - 1:d}) i)) within group (order by {key}) as cuts"
            f" from (\n{query}\n) q)"
            f" select n, k, array(select cuts[i]::text from generate_subscripts(cuts, 1) i"
            f" where cuts[i] is distinct from null order by i) from sorted"
        )[0]
        wanted = max(1, -(-present // chunk_size))
        if wanted <= pieces:
            break
        # The estimate was too low by more than _FINER: sort again, now knowing the count.
        pieces = wanted
    step = pieces / wanted
    taken = [cuts[round(i * step) - 1] for i in range(1, wanted)] if cuts else []
    # Equal neighbours are one heavy value. The server gave them in order, so equal ones touch.
    distinct = tuple((cut,) for cut in dict.fromkeys(taken))
    return KeyCuts(distinct, types, present < rows, rows, "one sort of the keys")


def _ranks(
    run: Any, query: str, keys: Sequence[str], present: str, chunk_size: int
) -> tuple[tuple[str, ...], ...]:
    """Take the key of every `chunk_size`-th row in key order."""
    listed = ", ".join(keys)
    found = run(
        f"select {_texts(keys)} from (select {listed}, row_number() over (order by {listed}) as"
        f" mapper_rank from (\n{query}\n) q where {present}) r"
        f" where mapper_rank > 1 and (mapper_rank - 1) % {chunk_size:d} = 0"
        f" order by mapper_rank"
    )
    return tuple(dict.fromkeys(tuple(row) for row in found))
