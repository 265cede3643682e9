"""What planning asks Oracle about one query: how large it is, its keys, where to cut it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import oracledb

from ...errors import QueryError
from ...model import Chunk, Estimate, Plan, Refused
from ...once import once
from ...protocols import BlockCuts, Blocker, KeyCuts, Place
from ...query import Query
from . import catalog, rowids, session, types
from .statements import Statement, Statements, as_text, kind_of

# Sorting fewer keys than this takes some seconds: less than uneven chunks may cost.
_SAMPLE_FROM = 5_000_000

# Rows of a sample for each chunk: blocks are sampled whole, and where the table is in the order of
# its key, their rows are as good as one.
_SAMPLED_PER_CHUNK = 5_000

# Past this share of the table, in percent, sorting all of it costs little more than a sample.
_LARGEST_SAMPLE = 25.0


class OracleSurvey:
    """Questions about one query, on one session."""

    def __init__(
        self, connection: oracledb.Connection, statements: Statements, query: Query
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._query = query

    def estimate(self) -> Estimate:
        if (table := self._table) is None:
            return Estimate()
        found = self._run(
            "select num_rows, avg_row_len from all_tables where owner = :o and table_name = :t",
            {"o": table[0], "t": table[1]},
        )
        if not found or found[0][0] is None:
            return Estimate()  # nobody has gathered statistics
        return Estimate(int(found[0][0]), int(found[0][1] or 0) or None)

    def count(self) -> int:
        asked = self._statements.query(self._query)
        return int(self._run(f"select count(*) from (\n{asked.sql}\n) q", asked.values)[0][0])

    def count_up_to(self, limit: int) -> int:
        asked = self._statements.query(self._query)
        sql = f"select count(*) from (select 1 from (\n{asked.sql}\n) q where rownum <= {limit:d})"
        return int(self._run(sql, asked.values)[0][0])

    def unique_keys(self) -> tuple[tuple[str, ...], ...]:
        table = self._table
        return () if table is None else catalog.unique_keys(self._connection, *table)

    def blocker(self) -> Blocker | None:
        return None

    def is_unique(self, key: Sequence[str]) -> bool:
        asked = self._statements.query(self._query)
        listed = ", ".join(f"q.{session.exact(name)}" for name in key)
        twice = f"select 1 from (\n{asked.sql}\n) q group by {listed} having count(*) > 1"
        return not self._run(f"select 1 from ({twice}) where rownum <= 1", asked.values)

    def has_nulls(self, key: Sequence[str]) -> bool:
        asked, nulls = self._statements.query(self._query), _any_null(key)
        found = self._run(
            f"select 1 from (\n{asked.sql}\n) q where ({nulls}) and rownum <= 1", asked.values
        )
        return bool(found)

    def range_cost(self, key: Sequence[str]) -> float | None:
        del key
        return None

    def key_cuts(self, key: Sequence[str], chunk_size: int, *, may_shorten: bool) -> KeyCuts:
        del may_shorten  # the whole key is sorted at once
        kinds = self._kinds(key)
        with self._binary_order():
            if percent := self._sample(chunk_size):
                asked = self._statements.query(self._query, sample=f" sample block ({percent:f})")
                size = max(1, round(chunk_size * percent / 100))
                cuts = self._ranked(asked, key, kinds, size)
                how = f"a sample of {percent:.2g} % of the keys"
                # Whether the rest has NULLs, only a whole pass could tell.
                return KeyCuts(tuple(key), cuts, kinds, has_nulls=True, rows=None, method=how)
            asked = self._statements.query(self._query)
            cuts = self._ranked(asked, key, kinds, chunk_size)
        nulls = f"count(case when {_any_null(key)} then 1 end)"
        counted = f"select count(*), {nulls} from (\n{asked.sql}\n) q"
        rows, null_rows = self._run(counted, asked.values)[0]
        return KeyCuts(tuple(key), cuts, kinds, bool(null_rows), int(rows), "one sort of the keys")

    def cuts_within(self, plan: Plan, chunk: Chunk, parts: int) -> list[tuple[str, ...]]:
        """Return where to cut a range of the key; see `Reader.cuts_within`."""
        columns = [f"q.{session.exact(name)}" for name in plan.chunk_key]
        rows = self._statements.rows(self._query, plan, chunk, columns)
        size = max(1, -(-(chunk.expected_rows or 0) // parts))
        with self._binary_order():
            return list(self._ranked(rows, plan.chunk_key, plan.key_types, size))

    def block_cuts(self, chunk_size: int, *, asked_for: bool) -> BlockCuts | Refused:
        del asked_for
        table = self._table
        if self._query.with_slots is None or table is None:
            return Refused("the query is more than a plain SELECT from one table")
        return rowids.find(self._connection, *table, chunk_size=chunk_size)

    def moved(self, marks: Sequence[str]) -> str | None:
        return rowids.moved(self._connection, marks)

    def settings(self) -> dict[str, str]:
        return {}

    def place(self) -> Place | None:
        return None

    def _kinds(self, key: Sequence[str]) -> tuple[str, ...]:
        asked = self._statements.query(self._query)
        listed = ", ".join(f"q.{session.exact(name)}" for name in key)
        sql = f"select {listed} from (\n{asked.sql}\n) q"
        columns = map(types.column_of, session.described(self._connection, sql, asked.values))
        kinds = [(column, kind_of(column.type)) for column in columns]
        if unordered := [c for c, kind in kinds if kind is None]:
            column = unordered[0]
            msg = f"{column.name} is {column.type}, which has no order to cut it by"
            raise QueryError(msg)
        return tuple(kind for _, kind in kinds if kind is not None)

    def _ranked(
        self, asked: Statement, key: Sequence[str], kinds: Sequence[str], size: int
    ) -> tuple[tuple[str, ...], ...]:
        """Take the key of every `size`-th row in the key's order, as text."""
        names = [session.exact(name) for name in key]
        listed = ", ".join(f"q.{name}" for name in names)
        present = " and ".join(f"q.{name} is not null" for name in names)
        texts = ", ".join(
            as_text(f"r.{name}", kind) for name, kind in zip(names, kinds, strict=True)
        )
        found = self._run(
            f"select {texts} from (select {listed}, row_number() over (order by {listed}) as"
            f" mapper_rank from (\n{asked.sql}\n) q where {present}) r"
            f" where r.mapper_rank > 1 and mod(r.mapper_rank - 1, {size:d}) = 0"
            f" order by r.mapper_rank",
            asked.values,
            exact=True,
        )
        return tuple(dict.fromkeys(tuple(map(str, row)) for row in found))

    def _sample(self, chunk_size: int) -> float | None:
        """Return the share of the one table, in percent, that tells enough; None for all of it."""
        percent = 100.0 * _SAMPLED_PER_CHUNK / chunk_size
        rows = self.estimate().rows
        if rows is None or rows < _SAMPLE_FROM or percent > _LARGEST_SAMPLE:
            return None
        return percent if self._query.with_slots and self._query.reads_at else None

    @contextmanager
    def _binary_order(self) -> Iterator[None]:
        """Sort as comparisons compare: NLS_SORT may say another order than NLS_COMP uses."""
        found = dict(
            self._run(
                "select parameter, value from nls_session_parameters"
                " where parameter in ('NLS_SORT', 'NLS_COMP')"
            )
        )
        theirs = found.get("NLS_SORT", "BINARY")
        differs = found.get("NLS_COMP", "BINARY") == "BINARY" and theirs != "BINARY"
        if differs:
            session.run(self._connection, "alter session set nls_sort = binary")
        yield
        if differs:
            session.run(self._connection, f"alter session set nls_sort = '{theirs}'")

    @once
    def _table(self) -> tuple[str, str] | None:
        """Return owner and name of the one table that the query reads."""
        if self._query.table is None:
            return None
        return catalog.resolved(self._connection, self._query.table, kinds=("TABLE",))

    def _run(self, sql: str, values: Any = None, *, exact: bool = False) -> list[tuple[Any, ...]]:
        cursor = session.run(self._connection, sql, values, digits=exact)
        with cursor:
            return list(cursor.fetchall())


def _any_null(key: Sequence[str]) -> str:
    return " or ".join(f"q.{session.exact(name)} is null" for name in key)
