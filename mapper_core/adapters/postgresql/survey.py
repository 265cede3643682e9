"""What planning asks PostgreSQL about one query: estimates, keys, whether it may be split."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ...errors import QueryError
from ...model import Estimate, Refused
from ...protocols import BlockCuts, Blocker, KeyCuts, Place
from ...query import Query, says_now
from . import blocks, cuts, meaning, saying, session
from .explained import nodes
from .statements import Statements

# Nodes of a plan whose rows depend on which others are read with them.
_WHOLE = {
    "Limit": "LIMIT, perhaps in a view",
    "WindowAgg": "a window function, perhaps in a view",
    "Sample Scan": "TABLESAMPLE, perhaps in a view",
}

# A node whose rows are another server's: no snapshot of this one is theirs.
_ELSEWHERE = "Foreign Scan"

# A call in an expression; the name may be quoted or have a schema before it.
_CALL = re.compile(r'"((?:[^"]|"")+)"\s*\(|([^\W\d][\w$]*)\s*\(')

# A question for the present moment as EXPLAIN writes it.
_MOMENT = re.compile(
    r"\b(?:now|transaction_timestamp|statement_timestamp)\(\)"
    r"|\b(?:CURRENT_(?:DATE|TIME|TIMESTAMP)|LOCALTIME|LOCALTIMESTAMP)\b"
)

# The same within a function, where it may be written in other ways.
_MOMENT_INSIDE = re.compile(
    r"\b(?:now|transaction_timestamp|statement_timestamp)\s*\(\s*\)"
    r"|\b(?:current_(?:date|time|timestamp)|localtime|localtimestamp)\b|\bage\s*\([^,()]*\)",
    re.IGNORECASE,
)

_TEXT = re.compile(r"'((?:[^']|'')*)'")

# What the users' own functions of these names do: a body of SQL's own is kept as its tree, and told
# by the whole definition.
_BODIES = """
select proname::text, case when prosqlbody is null then prosrc else pg_get_functiondef(p.oid) end
from pg_proc p join pg_language l on l.oid = p.prolang
where proname = any(%s) and p.oid >= 16384 and prokind = 'f' and lanname not in ('internal', 'c')
order by proname
"""

# Functions that keep a query from being split, the volatile ones first.
_WHOLE_CALLS = """
select proname::text, provolatile = 'v' from pg_proc
where (provolatile = 'v' or prokind = 'a') and proname = any(%s)
order by provolatile = 'v' desc, proname limit 1
"""

# Planning has locked the views that it replaced by what they select.
_PICKING_VIEW = """
select quote_ident(c.relname) from pg_locks l
join pg_class c on c.oid = l.relation
join pg_rewrite r on r.ev_class = c.oid
where l.pid = pg_backend_pid() and l.locktype = 'relation' and c.relkind = 'v'
and l.database = (select oid from pg_database where datname = current_database())
and r.ev_action::text like '%:hasDistinctOn true%'
order by 1 limit 1
"""

# What a row takes up, values kept out of line included. A table that has no partitions is in no
# partition tree either, not even its own.
_BYTES_ON_DISK = """
select coalesce(sum(pg_table_size(c.oid)) / nullif(sum(c.reltuples), 0), 0)::bigint
from (select to_regclass(:table)
      union select relid from pg_partition_tree(to_regclass(:table)) where isleaf) t(oid)
join pg_class c on c.oid = t.oid where c.relkind <> 'p' and c.reltuples > 0
"""

# The planner's cost of about a quarter of a million narrow rows. Reading less than that once more
# for every chunk costs too little to look for a better way.
_CHEAP = 5_000


class PostgreSQLSurvey:
    """Questions about one query, on one session."""

    def __init__(self, connection: saying.Connection, statements: Statements, query: Query) -> None:
        self._connection = connection
        self._statements = statements
        self._query = query

    def estimate(self) -> Estimate:
        asked = [_explaining(self._text)]
        if self._query.table is not None:
            asked.append((_BYTES_ON_DISK, {"table": session.identifier(*self._query.table)}))
        explained, *sizes = self._together(*asked)
        planned = _planned(explained)
        width = max([int(planned["Plan Width"]), *(int(rows[0][0]) for rows in sizes)])
        return Estimate(int(planned["Plan Rows"]), width)

    def count(self) -> int:
        return int(self._run(f"select count(*) from (\n{self._text}\n) q")[0][0])

    def count_up_to(self, limit: int) -> int:
        counted = self._run(
            f"select count(*) from (select 1 from (\n{self._text}\n) q limit {limit:d}) r"
        )
        return int(counted[0][0])

    def unique_keys(self) -> tuple[tuple[str, ...], ...]:
        if self._query.table is None:
            return ()
        found = self._run(
            "select array_agg(a.attname::text order by k.n) from pg_index i"
            " join unnest(i.indkey::int2[]) with ordinality k(attnum, n) on k.n <= i.indnkeyatts"
            " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum"
            " where i.indrelid = to_regclass(%s) and i.indisunique and i.indisvalid"
            " and i.indpred is null and i.indexprs is null"
            " group by i.indexrelid, i.indisprimary, i.indnkeyatts"
            " order by i.indisprimary desc, i.indnkeyatts, i.indexrelid",
            (session.identifier(*self._query.table),),
        )
        return tuple(tuple(names) for (names,) in found)

    def blocker(self) -> Blocker | None:
        explained, picking = self._together(
            _explaining(self._text, "verbose, "), (_PICKING_VIEW, None)
        )
        plan = _planned(explained)
        if words := what_makes_whole(plan, one_moment=self._statements.at_one_moment):
            return Blocker(f"it has {words}")
        said = list(_texts(plan))
        if self._statements.at_one_moment and (asking := self._asks_for_the_moment(said)):
            return Blocker(f"{asking} asks for the present moment")
        if picking:
            return Blocker(f"the view {picking[0][0]} has DISTINCT ON")
        # A plan does not show what a list of VALUES calls.
        found = self._run(_WHOLE_CALLS, (sorted(_called([*said, self._text])),))
        if not found:
            return None
        name, is_volatile = found[0]
        if not is_volatile:
            return Blocker(f"it has an aggregate, {name}()")
        words = f"{name}() is volatile; declare it STABLE if it gives the same value throughout a"
        return Blocker(f"{words} transaction", volatile=True)

    def _asks_for_the_moment(self, said: Sequence[str]) -> str | None:
        """Return what does, in a plan of these texts, other than the query's own words."""
        if any(_MOMENT.search(text) or _says_now(text) for text in said):
            return "a view or function in it"
        known: set[str] = set()
        new = _called(said)
        # A function may leave it to another one.
        while new := new - known:
            known |= new
            bodies = self._run(_BODIES, (sorted(new),))
            for name, body in bodies:
                if _MOMENT_INSIDE.search(body) or _says_now(body):
                    return f"the function {name}()"
            new = _called([body for _, body in bodies])
        return None

    def is_unique(self, key: Sequence[str]) -> bool:
        listed = ", ".join(session.identifier(name) for name in key)
        asked = f"select 1 from (\n{self._text}\n) q group by {listed} having count(*) > 1"
        with _ordered(key):
            return not self._run(f"select exists ({asked})")[0][0]

    def has_nulls(self, key: Sequence[str]) -> bool:
        return cuts.has_nulls(self._run, self._text, [session.identifier(name) for name in key])

    def range_cost(self, key: Sequence[str]) -> float | None:
        whole = self._explain(self._text)["Total Cost"]
        if whole < _CHEAP:
            return None
        keys = [session.identifier(name) for name in key]
        types = cuts.key_types(self._run, self._text, keys)
        # Bounds the planner cannot see, as it will not see much of those to come: it takes such a
        # range for one row in two hundred.
        unseen = ", ".join(f"(select null::{kind})" for kind in types)
        listed = ", ".join(keys)
        terms = [f"({listed}) >= ({unseen})", f"({listed}) < ({unseen})"]
        if len(keys) > 1:
            # As `Statements` writes them, and for the same reason.
            first = f"(select null::{types[0]})"
            terms += [f"{keys[0]} >= {first}", f"{keys[0]} <= {first}"]
        asked = f"select {listed} from (\n{self._text}\n) q where {' and '.join(terms)}"
        return float(self._explain(asked)["Total Cost"] / whole)

    def key_cuts(self, key: Sequence[str], chunk_size: int, *, may_shorten: bool) -> KeyCuts:
        with _ordered(key):
            return cuts.find(
                self._run,
                self._text,
                self._sampled if self._query.with_slots and self._has_blocks() else None,
                key=key,
                chunk_size=chunk_size,
                may_shorten=may_shorten,
            )

    def block_cuts(self, chunk_size: int, *, asked_for: bool) -> BlockCuts | Refused:
        if self._query.with_slots is None or self._query.table is None:
            return Refused("the query is more than a plain SELECT from one table")
        return blocks.find(
            self._connection,
            self._tried,
            version=self._connection.info.server_version,
            table=session.identifier(*self._query.table),
            query=self._text,
            some_blocks=self._statements.query(self._query, condition=blocks.SOME),
            chunk_size=chunk_size,
            asked_for=asked_for,
        )

    def moved(self, marks: Sequence[str]) -> str | None:
        return blocks.moved(self._connection, marks)

    def settings(self) -> dict[str, str]:
        return dict(self._run(meaning.ASKED))

    def place(self) -> Place | None:
        return place(self._connection)

    @property
    def _text(self) -> str:
        return self._statements.query(self._query)

    def _sampled(self, percent: float) -> str:
        """Return the query over a sample of its table's blocks, the same one each time."""
        sample = f" tablesample system ({percent:f}) repeatable (1)"
        return self._statements.query(self._query, condition="true", sample=sample)

    def _has_blocks(self) -> bool:
        """Whether the one table is none that TABLESAMPLE refuses, such as a view."""
        name = session.identifier(*(self._query.table or ()))
        found = self._run("select relkind::text from pg_class where oid = to_regclass(%s)", (name,))
        return bool(found) and found[0][0] in {"r", "m", "p"}

    def _explain(self, statement: str) -> dict[str, Any]:
        return _planned(self._together(_explaining(statement))[0])

    def _tried(self, statement: str) -> dict[str, Any]:
        explaining, _ = _explaining(statement)
        return _planned(session.tried(self._connection, explaining).fetchall())

    def _together(self, *statements: saying.Statement) -> list[list[tuple[Any, ...]]]:
        """Return the rows of several statements, in one message."""
        cursors = saying.run_together(self._connection, *statements)
        return [cursor.fetchall() for cursor in cursors]

    def _run(self, statement: str, values: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        cursor = psycopg.Cursor(self._connection, row_factory=tuple_row)
        # The user's SQL may hold any number of `%`: without values psycopg reads none of them.
        return cursor.execute(statement.encode(), values).fetchall()


def place(connection: saying.Connection) -> Place:
    """Return where a session is and what its SQL means there."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    found = cursor.execute(_PLACE).fetchone()
    return Place(*found)  # type: ignore[misc]  # one row of five


_PLACE = """
select extract(epoch from pg_postmaster_start_time())::text || ' ' || current_setting('port'),
       (select oid::text from pg_database where datname = current_database()),
       current_user::text,
       array_to_string(current_schemas(true), ', '),
       current_setting('TimeZone')
"""


def _explaining(statement: str, how: str = "") -> saying.Statement:
    return f"explain ({how}format json) {statement}", None


def _planned(explained: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the plan that EXPLAIN told."""
    planned: dict[str, Any] = explained[0][0][0]["Plan"]
    return planned


def what_makes_whole(plan: dict[str, Any], *, one_moment: bool) -> str | None:
    """Return what in a plan keeps its query from being read in parts, or None.

    `one_moment` says that all of it is to be as it was at one.

    >>> what_makes_whole({"Node Type": "Foreign Scan"}, one_moment=True)
    'a foreign table, which each chunk would read as it is then'
    """
    for node in nodes(plan):
        kind = node["Node Type"]
        if kind == _ELSEWHERE and one_moment:
            return "a foreign table, which each chunk would read as it is then"
        if words := _WHOLE.get(kind):
            return words
    return None


@contextmanager
def _ordered(key: Sequence[str]) -> Iterator[None]:
    """Raise QueryError where the server knows no order of the key's values, as of JSON's."""
    try:
        yield
    except psycopg.errors.UndefinedFunction as error:
        # The query by itself has run already.
        msg = (
            f"chunk_key {', '.join(key)} cannot divide the query: {error.diag.message_primary}."
            " Name a column of another type, or cast it in the query and name the result"
        )
        raise QueryError(msg) from error


def _texts(plan: Any) -> Iterator[str]:
    """Yield every text in a plan."""
    if isinstance(plan, str):
        yield plan
    elif isinstance(plan, dict | list):
        for below in plan.values() if isinstance(plan, dict) else plan:
            yield from _texts(below)


def _says_now(text: str) -> bool:
    return any(map(says_now, _TEXT.findall(text)))


def _called(said: Sequence[str]) -> set[str]:
    """Return the names of what may be called in these texts, as the catalog has them."""
    found = [match for text in said for match in _CALL.findall(text)]
    return {quoted.replace('""', '"') or plain.lower() for quoted, plain in found}
