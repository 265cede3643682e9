"""Reading through SQLAlchemy: a user's SQL as a subquery, rows as tuples."""

from collections.abc import Callable, Generator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.sql import quoted_name

from ...errors import QueryError
from ...model import Chunk, ChunkKind, Column, Plan
from ...protocols import Batch, KeyCuts
from ...query import Query
from . import oracle, sqlite

# Rows fetched at once; past about a thousand, bigger batches only cost memory.
BATCH_ROWS = 1_000

# How a key value is kept as text in the ledger, and read back as the same Python value.
_WRITE_KEY: dict[type, Callable[[Any], str]] = {
    bool: str,
    bytes: bytes.hex,
    datetime: datetime.isoformat,
    date: date.isoformat,
}
_READ_KEY: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text == "True",
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes.fromhex,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


class GenericReader:
    """One connection reading."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.rows_read: int | None = None

    def columns(self, query: Query) -> tuple[Column, ...]:
        asked = (
            sa.select(sa.text("*"))
            .select_from(_subquery(self._connection, query))
            .where(sa.false())
        )
        try:
            with self._connection.execute(asked) as result:
                described = result.cursor.description or ()
        except exc.DBAPIError as error:
            msg = f"the source database refuses the query: {error.orig}"
            raise QueryError(msg) from error
        zoned = [field[0] for field in described if getattr(field[1], "name", "") in oracle.ZONED]
        if zoned:
            msg = (
                f"oracledb reads {', '.join(zoned)} without its time zone, which would shift it:"
                " select SYS_EXTRACT_UTC(...) AS a name instead"
            )
            raise QueryError(msg)
        return tuple(Column(str(field[0])) for field in described)

    def count_up_to(self, query: Query, limit: int) -> int:
        some = (
            sa.select(sa.literal_column("1").label("one"))
            .select_from(_subquery(self._connection, query))
            .limit(limit)
            .subquery("r")
        )
        return int(
            self._connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
        )

    def primary_key(self, table: Sequence[str]) -> tuple[str, ...]:
        schema, name = (None, table[0]) if len(table) == 1 else (table[0], table[1])
        try:
            found = sa.inspect(self._connection).get_pk_constraint(name, schema=schema)
        except exc.NoSuchTableError:
            return ()
        return tuple(found["constrained_columns"])

    def blocker(self, query: Query) -> str | None:
        del query
        return None

    def key_cuts(self, query: Query, key: Sequence[str], chunk_size: int) -> KeyCuts:
        source = _subquery(self._connection, query, key)
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
        texts = dict.fromkeys(tuple(_key_text(value) for value in cut) for cut in cuts)
        return KeyCuts(
            tuple(texts),
            ("",) * len(key),
            bool(null_rows),
            rows,
            "one sort of the keys",
        )

    def count(self, query: Query, plan: Plan, chunk: Chunk) -> int:
        source = _subquery(self._connection, query, plan.chunk_key)
        asked = sa.select(sa.func.count()).select_from(source).where(*_where(source, plan, chunk))
        return int(self._connection.execute(asked).scalar_one())

    def read(self, query: Query, plan: Plan, chunk: Chunk) -> Generator[Batch, None, None]:
        self.rows_read = None
        names = [column.name for column in plan.columns]
        source = _subquery(self._connection, query, names)
        asked = sa.select(*(source.c[name] for name in names)).where(*_where(source, plan, chunk))
        read = 0
        with self._connection.execution_options(stream_results=True).execute(asked) as result:
            for rows in result.partitions(BATCH_ROWS):
                read += len(rows)
                yield [tuple(row) for row in rows]
        self.rows_read = read


def _subquery(connection: sa.Connection, query: Query, names: Sequence[str] = ()) -> sa.Subquery:
    """Return the user's SQL as a subquery. Its colons are escaped; its bind values are bound."""
    written = query.render(
        lambda name, _: f":{name}", write_text=lambda text: text.replace(":", "\\:")
    )
    values = dict(query.values)
    if connection.dialect.name == "sqlite":
        values = {name: sqlite.parameter(name, value) for name, value in values.items()}
    binds = [sa.bindparam(name, value, _type_of(value)) for name, value in values.items()]
    text = sa.text(written).bindparams(*binds)
    # Quoted, as the database itself spelled them: Oracle folds what is not to upper case.
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(quoted_name(name, quote=True)) for name in names
    ]
    return text.columns(*columns).subquery("q")


def _type_of(value: Any) -> sa.types.TypeEngine[Any] | None:
    """Return the type to bind a value as, or None: oracledb makes a datetime a DATE unless told.

    A DATE where that loses nothing: compared with a TIMESTAMP, a DATE column's index goes unused.
    """
    return sa.TIMESTAMP() if isinstance(value, datetime) and value.microsecond else None


def _where(source: sa.Subquery, plan: Plan, chunk: Chunk) -> list[sa.ColumnElement[bool]]:
    """Return the chunk's conditions. NULL keys are in their own chunk and in no other."""
    if chunk.kind is ChunkKind.ALL:
        return []
    keys = [source.c[name] for name in plan.chunk_key]
    if chunk.kind is ChunkKind.NULLS:
        return [sa.or_(*(key.is_(None) for key in keys))]
    terms: list[sa.ColumnElement[bool]] = [key.is_not(None) for key in keys]
    if chunk.low is not None:
        terms.append(_not_below(keys, [*map(_key_value, chunk.low)]))
    if chunk.high is not None:
        terms.append(sa.not_(_not_below(keys, [*map(_key_value, chunk.high)])))
    return terms


def _not_below(keys: Sequence[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return (keys) >= (values), spelled out: Oracle and SQL Server do not compare rows."""
    first, value = keys[0], sa.literal(values[0], _type_of(values[0]))
    if len(keys) == 1:
        return cast(sa.ColumnElement[bool], first >= value)
    return sa.or_(first > value, sa.and_(first == value, _not_below(keys[1:], values[1:])))


def _key_text(value: Any) -> str:
    write = _WRITE_KEY.get(type(value), str)
    return f"{type(value).__name__}:{write(value)}"


def _key_value(text: str) -> Any:
    kind, _, value = text.partition(":")
    return _READ_KEY[kind](value)
