"""Where to cut an ordered key: by rank, in about one pass, compared by the server alone."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...protocols import KeyCuts
from . import session
from .explained import nodes

# Runs a statement at the snapshot; returns its rows.
Run = Callable[[str], list[tuple[Any, ...]]]

# Cuts asked for per chunk expected: when the planner's estimate is off by less than this, the one
# pass still yields chunks of the right size by leaving cuts out.
_FINER = 4

# From so many rows on a sample is worth it. To sort fewer keys takes a second, to walk an index of
# them a tenth of one: less than uneven chunks may cost.
_SAMPLE_FROM = 2_000_000

# Rows of a sample for each chunk. Blocks are sampled whole, and where the table is in the order of
# the key their rows are as good as one: of narrow rows these are two dozen blocks, which keep the
# largest of a thousand chunks below twice the mean.
_SAMPLED_PER_CHUNK = 5_000

# Past this share of the table, in percent, sorting all of it costs little more than a sample.
_LARGEST_SAMPLE = 25.0

# A sample's count is off by a few percent; when the planner's estimate is by this factor, the
# sample is taken once more.
_NEAR = 1.25

_SORTS = {"Sort", "Incremental Sort"}

# That the key is there, which servers before version 17 ask even of a NOT NULL column.
_PRESENT = re.compile(r"\(*\S+ IS NOT NULL\)*( AND \(*\S+ IS NOT NULL\)*)*")

_SORTED = "one sort of the keys"


@dataclass(frozen=True, slots=True)
class _Ranks:
    """The keys at even ranks, in the server's order; a heavy key stands there several times."""

    keys: tuple[str, ...]
    rows: int
    """Rows that were looked at."""
    present: int
    """Those of them that have a key."""

    @property
    def cuts(self) -> tuple[tuple[str, ...], ...]:
        # The server gave them in order, so equal ones touch.
        return tuple((key,) for key in dict.fromkeys(self.keys))

    @property
    def collapsed(self) -> bool:
        """Whether some cut stood for several: one value has more rows than a chunk should."""
        return len(set(self.keys)) < len(self.keys)


def find(
    run: Run,
    query: str,
    sampled: Callable[[float], str] | None,
    *,
    key: Sequence[str],
    chunk_size: int,
    may_shorten: bool,
) -> KeyCuts:
    """Return the cuts of `key` over `query`, about `chunk_size` rows apart.

    An index that yields the key in order is walked; otherwise the keys are sorted once. Where
    there are very many, those of a sample are sorted instead; but of few of a table's rows, which
    an index finds, a sample of the table tells little.

    Args:
        run: runs a statement at the snapshot.
        query: all of it, as text.
        sampled: returns the query over a percentage of its table; None where that makes no sense.
        key: columns of the query.
        chunk_size: rows between two cuts.
        may_shorten: whether the first column alone may do.
    """
    names = [session.identifier(name) for name in key]
    types = key_types(run, query, names)
    # Percentiles come as an array, and there are no arrays of arrays.
    lone = (len(names) == 1 or may_shorten) and not types[0].endswith("[]")
    planned = _in_order(run, query, names)
    rows = int(planned[0]["Plan Rows"])
    if not _SORTS & {node["Node Type"] for node in planned}:
        if lone and _reads_all(planned):
            found = _by_sample(run, sampled, key[0], types[0], rows=rows, chunk_size=chunk_size)
            if found and not found[1]:
                return replace(found[0], has_nulls=has_nulls(run, query, names[:1]))
        return _walked(run, query, key, types=types, chunk_size=chunk_size)
    if lone:
        found = _by_sample(
            run, sampled, key[0], types[0], rows=rows, chunk_size=chunk_size
        ) or _by_sort(run, query, key[0], types[0], rows=rows, chunk_size=chunk_size)
        if len(names) == 1 or not found[1]:
            return found[0]
    cuts = _ranks(run, query, names, chunk_size)
    rows, null_rows = run(
        f"select count(*), count(*) filter (where {_any_null(names)}) from (\n{query}\n) q"
    )[0]
    return KeyCuts(tuple(key), cuts, types, null_rows > 0, rows, _SORTED)


def key_types(run: Run, query: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the key's types without modifier: a cut must not be rounded by its cast."""
    # A row of NULLs, so that there is one row to ask even when the query has none.
    asked = ", ".join(f"format_type(pg_typeof(q.{name})::oid, -1)" for name in names)
    found = run(f"select {asked} from (select) one left join (\n{query}\n) q on false")
    return tuple(str(name) for name in found[0])


def _in_order(run: Run, query: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the nodes of the planner's way to the key in order: an index, if none sorts."""
    listed = ", ".join(names)
    ordered = f"select {listed} from (\n{query}\n) q where {_all_present(names)} order by {listed}"
    return list(nodes(run(f"explain (format json) {ordered}")[0][0][0]["Plan"]))


def _reads_all(planned: Sequence[dict[str, Any]]) -> bool:
    """Whether no condition but the key's own leaves rows of the table out."""
    kinds = ("Filter", "Index Cond")
    return all(_PRESENT.fullmatch(node[kind]) for node in planned for kind in kinds if kind in node)


def _walked(
    run: Run, query: str, key: Sequence[str], *, types: tuple[str, ...], chunk_size: int
) -> KeyCuts:
    """Step through the index, one chunk a step; each step begins where the last one ended."""
    names = [session.identifier(name) for name in key]
    listed = ", ".join(names)
    # The name hides tables of that name from the user's query, so it is one that nobody has.
    last = ", ".join(f"mapper_cut.{name}" for name in names)
    source = f"select {listed} from (\n{query}\n) q where {_all_present(names)}"
    found = run(
        f"with recursive mapper_cut as ("
        f"(select * from ({source}) q order by {listed} offset {chunk_size:d} limit 1)"
        f" union all select step.* from mapper_cut, lateral ("
        f"{source} and ({listed}) > ({last}) order by {listed}"
        f" offset {chunk_size - 1:d} limit 1) step"
        f") select {_texts(names)} from mapper_cut"
    )
    cuts, nulls = tuple(tuple(row) for row in found), has_nulls(run, query, names)
    return KeyCuts(tuple(key), cuts, types, nulls, None, "one ordered pass over an index")


def has_nulls(run: Run, query: str, names: Sequence[str]) -> bool:
    """Return whether some row of the query has a NULL in one of these columns."""
    asked = f"select exists (select from (\n{query}\n) q where {_any_null(names)})"
    return bool(run(asked)[0][0])


def _by_sample(
    run: Run,
    sampled: Callable[[float], str] | None,
    column: str,
    kind: str,
    *,
    rows: int,
    chunk_size: int,
) -> tuple[KeyCuts, bool] | None:
    """Return cuts of one column by sorting a sample, and whether one value is too heavy.

    None where none can be taken, or so few `rows`, or chunks so small, are not worth one.
    """
    percent = 100.0 * _SAMPLED_PER_CHUNK / chunk_size
    if sampled is None or rows < _SAMPLE_FROM or percent > _LARGEST_SAMPLE:
        return None
    name, pieces = session.identifier(column), -(-rows // chunk_size)
    found = _at_even_ranks(run, sampled(percent), name, pieces)
    wanted = max(1, round(found.present * 100 / percent / chunk_size))
    if not pieces / _NEAR <= wanted <= pieces * _NEAR:
        # The planner's estimate was too far off; the sample's own count is not.
        found = _at_even_ranks(run, sampled(percent), name, wanted)
    method = f"a sample of {percent:.2g} % of the keys"
    # Whether the rest has NULLs, only a whole pass could tell.
    cuts = KeyCuts((column,), found.cuts, (kind,), has_nulls=True, rows=None, method=method)
    return cuts, found.collapsed


def _by_sort(
    run: Run, query: str, column: str, kind: str, *, rows: int, chunk_size: int
) -> tuple[KeyCuts, bool]:
    """Return cuts of one column by sorting it, and whether one value is too heavy."""
    found = _exactly(run, query, session.identifier(column), rows, chunk_size)
    nulls = found.present < found.rows
    return KeyCuts((column,), found.cuts, (kind,), nulls, found.rows, _SORTED), found.collapsed


def _exactly(run: Run, query: str, name: str, estimate: int, chunk_size: int) -> _Ranks:
    """Sort the keys once and take those at ranks a chunk apart."""
    pieces = max(2, _FINER * estimate // chunk_size + 1)
    while True:
        found = _at_even_ranks(run, query, name, pieces)
        wanted = max(1, -(-found.present // chunk_size))
        if wanted <= pieces:
            break
        # The estimate was too low by more than _FINER: sort again, now knowing the count.
        pieces = wanted
    step = pieces / wanted
    taken = [found.keys[round(i * step) - 1] for i in range(1, wanted)] if found.keys else []
    return _Ranks(tuple(taken), found.rows, found.present)


def _at_even_ranks(run: Run, query: str, name: str, pieces: int) -> _Ranks:
    rows, present, keys = run(
        f"with sorted as (select count(*) as n,"
        f" count(*) filter (where {name} is distinct from null) as k,"
        f" percentile_disc(array(select i::float8 / {pieces:d}"
        f" from generate_series(1, {pieces - 1:d}) i)) within group (order by {name}) as cuts"
        f" from (\n{query}\n) q)"
        f" select n, k, array(select cuts[i]::text from generate_subscripts(cuts, 1) i"
        f" where cuts[i] is distinct from null order by i) from sorted"
    )[0]
    return _Ranks(tuple(keys), rows, present)


def _ranks(
    run: Run, query: str, names: Sequence[str], chunk_size: int
) -> tuple[tuple[str, ...], ...]:
    """Take the key of every `chunk_size`-th row in key order."""
    listed = ", ".join(names)
    # The key's own names may be any.
    taken = [f"key_{at}" for at in range(len(names))]
    found = run(
        f"select {', '.join(taken)} from (select {_texts(names)}, row_number() over"
        f" (order by {listed}) from (\n{query}\n) q where {_all_present(names)})"
        f" r ({', '.join(taken)}, place) where place > 1 and (place - 1) % {chunk_size:d} = 0"
        f" order by place"
    )
    return tuple(dict.fromkeys(tuple(row) for row in found))


def _all_present(names: Sequence[str]) -> str:
    return " and ".join(f"{name} is distinct from null" for name in names)


def _any_null(names: Sequence[str]) -> str:
    return " or ".join(f"{name} is not distinct from null" for name in names)


def _texts(names: Sequence[str]) -> str:
    return ", ".join(f"{name}::text" for name in names)
