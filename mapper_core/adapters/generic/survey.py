"""What planning asks a database about one query, through SQLAlchemy."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from ...model import Estimate, Refused
from ...protocols import BlockCuts, Blocker, KeyCuts, Place
from ...query import Query
from .statements import key_text, subquery


class GenericSurvey:
    """Questions about one query, on one session."""

    def __init__(self, connection: sa.Connection, query: Query) -> None:
        self._connection = connection
        self._query = query

    def count(self) -> int:
        rows = subquery(self._connection, self._query)
        asked = sa.select(sa.func.count()).select_from(rows)
        return int(self._connection.execute(asked).scalar_one())

    def count_up_to(self, limit: int) -> int:
        some = (
            sa.select(sa.literal_column("1").label("one"))
            .select_from(subquery(self._connection, self._query))
            .limit(limit)
            .subquery("r")
        )
        return int(
            self._connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
        )

    def estimate(self) -> Estimate:
        return Estimate()

    def unique_keys(self) -> tuple[tuple[str, ...], ...]:
        table = self._query.table
        if table is None:
            return ()
        schema, name = (None, table[0]) if len(table) == 1 else (table[0], table[1])
        inspector = sa.inspect(self._connection)
        try:
            keys = [inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]]
            others = inspector.get_indexes(name, schema=schema)
        except exc.NoSuchTableError:
            return ()
        for index in others:
            # An index on an expression names no column for it; one with a condition is partial.
            partial = any("where" in option for option in index.get("dialect_options", {}))
            if index["unique"] and None not in index["column_names"] and not partial:
                keys.append([str(column) for column in index["column_names"]])
        return tuple(tuple(key) for key in keys if key)

    def blocker(self) -> Blocker | None:
        return None

    def is_unique(self, key: Sequence[str]) -> bool:
        source = subquery(self._connection, self._query, key)
        keys = [source.c[name] for name in key]
        one: sa.Label[int] = sa.literal_column("1").label("one")
        groups = sa.select(one).select_from(source).group_by(*keys)
        asked = groups.having(sa.func.count() > 1).limit(1)
        return self._connection.execute(asked).first() is None

    def has_nulls(self, key: Sequence[str]) -> bool:
        source = subquery(self._connection, self._query, key)
        one: sa.Label[int] = sa.literal_column("1").label("one")
        asked = sa.select(one).select_from(source)
        nulls = sa.or_(*(source.c[name].is_(None) for name in key))
        return self._connection.execute(asked.where(nulls).limit(1)).first() is not None

    def range_cost(self, key: Sequence[str]) -> float | None:
        del key
        return None

    def block_cuts(self, chunk_size: int, *, asked_for: bool) -> BlockCuts | Refused:
        del chunk_size, asked_for
        return Refused("this database is not known to read ranges of blocks")

    def moved(self, marks: Sequence[str]) -> str | None:
        del marks
        return None

    def settings(self) -> dict[str, str]:
        return {}

    def place(self) -> Place | None:
        return None

    def key_cuts(self, key: Sequence[str], chunk_size: int, *, may_shorten: bool) -> KeyCuts:
        del may_shorten  # the whole key is sorted at once
        source = subquery(self._connection, self._query, key)
        keys = [source.c[name] for name in key]
        rank = sa.func.row_number().over(order_by=keys).label("mapper_rank")
        ranked = sa.select(*keys, rank).where(*(k.is_not(None) for k in keys)).subquery("r")
        cuts = self._connection.execute(
            sa.select(*(ranked.c[name] for name in key))
            .where(ranked.c.mapper_rank > 1, (ranked.c.mapper_rank - 1) % chunk_size == 0)
            .order_by(ranked.c.mapper_rank)
        ).all()
        nulls = sa.or_(*(k.is_(None) for k in keys))
        rows, null_rows = self._connection.execute(
            sa.select(
                sa.func.count(), sa.func.count(sa.case((nulls, sa.literal_column("1"))))
            ).select_from(source)
        ).one()
        texts = dict.fromkeys(tuple(key_text(value) for value in cut) for cut in cuts)
        types = ("",) * len(key)
        how = "one sort of the keys"
        return KeyCuts(tuple(key), tuple(texts), types, bool(null_rows), rows, how)
