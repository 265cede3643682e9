"""Reading through SQLAlchemy: a user's SQL as a subquery, rows as tuples."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc

from ...batches import Batch, Piece
from ...errors import SettingsError
from ...model import Chunk, ChunkKind, Column, Plan, Row
from ...protocols import Checksum
from ...query import Query
from .statements import cancel, key_value, subquery
from .survey import GenericSurvey

# Rows fetched at once; past about a thousand, bigger batches only cost memory.
BATCH_ROWS = 1_000


class GenericReader:
    """One connection reading."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.rows_read: int | None = None

    def columns(self, query: Query) -> tuple[Column, ...]:
        asked = (
            sa.select(sa.text("*")).select_from(subquery(self._connection, query)).where(sa.false())
        )
        try:
            with self._connection.execute(asked) as result:
                described = result.cursor.description or ()
        except exc.DBAPIError as error:
            raise query.refused(str(error.orig)) from error
        return tuple(Column(str(field[0])) for field in described)

    def cancel(self) -> None:
        cancel(self._connection)

    def survey(self, query: Query) -> GenericSurvey:
        return GenericSurvey(self._connection, query)

    def count(self, query: Query, plan: Plan, chunk: Chunk) -> int:
        source = subquery(self._connection, query, plan.chunk_key)
        one: sa.Label[int] = sa.literal_column("1").label("one")
        rows = _picked(sa.select(one).select_from(source), source, plan, chunk).subquery("r")
        asked = sa.select(sa.func.count()).select_from(rows)
        return int(self._connection.execute(asked).scalar_one())

    def cuts_within(
        self, query: Query, plan: Plan, chunk: Chunk, parts: int
    ) -> list[tuple[str, ...]]:
        del query, plan, chunk, parts  # here chunks are few: they share no snapshot
        return []

    def checksum(
        self,
        query: Query,
        pairs: Sequence[tuple[Column, Column]],
        plan: Plan | None = None,
        chunk: Chunk | None = None,
    ) -> Checksum:
        del query, pairs, plan, chunk
        raise SettingsError("checksums are for PostgreSQL alone")

    def read(self, query: Query, plan: Plan, chunk: Chunk) -> Generator[Batch, None, None]:
        self.rows_read = None
        names = [column.name for column in plan.columns]
        source = subquery(self._connection, query, names)
        asked = _picked(sa.select(*(source.c[name] for name in names)), source, plan, chunk)
        read = 0
        with self._connection.execution_options(stream_results=True).execute(asked) as result:
            for rows in result.partitions(BATCH_ROWS):
                read += len(rows)
                yield [tuple(row) for row in rows]
        self.rows_read = read

    def read_ahead(self, query: Query, plan: Plan, chunk: Chunk) -> None:
        """Do nothing: a cursor's rows are waited for when it is opened."""

    def pieces(
        self, query: Query, plan: Plan, chunk: Chunk, *, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        del size  # rows are counted, not weighed
        held: list[Row] = []
        with closing(self.read(query, plan, chunk)) as batches:
            for batch in batches:
                held += batch  # type: ignore[arg-type]  # this adapter reads rows
                while len(held) >= rows:
                    yield Piece((held[:rows],), rows)
                    held = held[rows:]
        if held:
            yield Piece((held,), len(held))


def _picked(
    asked: "sa.Select[Any]", source: sa.Subquery, plan: Plan, chunk: Chunk
) -> "sa.Select[Any]":
    """Narrow a SELECT from the query to the rows of a chunk."""
    if chunk.kind is not ChunkKind.PAGE or chunk.low is None:
        return asked.where(*_where(source, plan, chunk))
    low = int(chunk.low[0])
    asked = asked.order_by(*(source.c[name] for name in plan.chunk_key)).offset(low)
    return asked if chunk.high is None else asked.limit(int(chunk.high[0]) - low)


def _where(source: sa.Subquery, plan: Plan, chunk: Chunk) -> list[sa.ColumnElement[bool]]:
    """Return the chunk's conditions. NULL keys are in their own chunk and in no other."""
    if chunk.kind not in {ChunkKind.RANGE, ChunkKind.NULLS}:
        return []
    keys = [source.c[name] for name in plan.chunk_key]
    if chunk.kind is ChunkKind.NULLS:
        return [sa.or_(*(key.is_(None) for key in keys))]
    terms: list[sa.ColumnElement[bool]] = [key.is_not(None) for key in keys]
    if chunk.low is not None:
        terms.append(_not_below(keys, [*map(key_value, chunk.low)]))
    if chunk.high is not None:
        terms.append(sa.not_(_not_below(keys, [*map(key_value, chunk.high)])))
    return terms


def _not_below(keys: Sequence[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return (keys) >= (values), spelled out: SQL Server does not compare rows."""
    first, value = keys[0], sa.literal(values[0])
    if len(keys) == 1:
        return cast(sa.ColumnElement[bool], first >= value)
    return sa.or_(first > value, sa.and_(first == value, _not_below(keys[1:], values[1:])))
