"""Reading from Oracle: one session at the load's SCN, rows as Arrow record batches or as tuples."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import oracledb

from ...batches import Batch, Piece, cut, size_of
from ...errors import SettingsError
from ...model import Chunk, ChunkKind, Column, DataPath, Plan, Row, Snapshot
from ...protocols import Checksum
from ...query import Query
from . import errors, session, types
from .lobs import Lobs
from .statements import Statement, Statements
from .survey import OracleSurvey

# Rows fetched in one round trip. Past some thousands nothing is gained but memory used; of rows
# that may be large, so many that some megabytes hold their short values.
ROWS, LARGE_ROWS = 5_000, 200


class OracleReader:
    """One connection reading."""

    def __init__(self, connection: oracledb.Connection, snapshot: Snapshot | None) -> None:
        self._connection = connection
        self._statements = Statements(snapshot)
        self.rows_read: int | None = None

    def columns(self, query: Query) -> tuple[Column, ...]:
        asked = self._statements.query(query)
        try:
            described = session.described(self._connection, asked.sql, asked.values)
        except oracledb.DatabaseError as error:
            if errors.is_transient(error):
                raise
            raise query.refused(errors.words(error) or str(error)) from error
        return tuple(map(types.column_of, described))

    def cancel(self) -> None:
        session.cancel(self._connection)

    def survey(self, query: Query) -> OracleSurvey:
        return OracleSurvey(self._connection, self._statements, query)

    def count(self, query: Query, plan: Plan, chunk: Chunk) -> int:
        rows = self._statements.rows(query, plan, chunk, ["1 as one"])
        found = self._run(Statement(f"select count(*) from ({rows.sql})", rows.values)).fetchone()
        return int(found[0])

    def checksum(
        self,
        query: Query,
        pairs: Sequence[tuple[Column, Column]],
        plan: Plan | None = None,
        chunk: Chunk | None = None,
    ) -> Checksum:
        del query, pairs, plan, chunk
        raise SettingsError("checksums are for PostgreSQL alone")

    def cuts_within(
        self, query: Query, plan: Plan, chunk: Chunk, parts: int
    ) -> list[tuple[str, ...]]:
        if chunk.kind is not ChunkKind.RANGE:
            return []
        return self.survey(query).cuts_within(plan, chunk, parts)

    def read(self, query: Query, plan: Plan, chunk: Chunk) -> Generator[Batch, None, None]:
        arrow = plan.data_path is DataPath.ARROW
        lobs = Lobs(plan.columns)
        fetched = [types.fetched(column, arrow=arrow) for column in plan.columns]
        statement = self._statements.rows(query, plan, chunk, lobs.selected(fetched))
        large = any(types.is_lob(column.type) for column in plan.columns)
        size = LARGE_ROWS if large else ROWS
        if not arrow:
            makers = [types.reading(column) for column in plan.columns]
            return self._tuples(statement, lobs, makers, size)
        if lobs.places:
            # A data frame would have them all whole, however large they are.
            return self._framed(statement, lobs, size)
        return self._record_batches(statement, plan.columns, size)

    def read_ahead(self, query: Query, plan: Plan, chunk: Chunk) -> None:
        """Do nothing: a cursor's rows are waited for when it is opened."""

    def pieces(
        self, query: Query, plan: Plan, chunk: Chunk, *, rows: int, size: int
    ) -> Generator[Piece, None, None]:
        held: list[Batch] = []
        lobs = Lobs(plan.columns)
        count = weight = 0
        with closing(self.read(query, plan, chunk)) as batches:
            for batch in batches:
                for part in cut(batch, rows - count, rows):
                    held.append(part)
                    count += len(part)
                    weight += lobs.size(part) if isinstance(part, list) else size_of(part)
                    if count >= rows or weight >= size:
                        yield Piece(tuple(held), count)
                        held, count, weight = [], 0, 0
        if held:
            yield Piece(tuple(held), count)

    def _tuples(
        self,
        statement: Statement,
        lobs: Lobs,
        makers: Sequence[Callable[[str], Any] | None],
        size: int,
    ) -> Generator[list[Row], None, None]:
        self.rows_read, read = None, 0
        with self._connection.cursor() as cursor:
            cursor.arraysize, cursor.prefetchrows = size, 0
            cursor.outputtypehandler = lobs.handler
            cursor.execute(statement.sql, statement.values, fetch_lobs=True)
            while rows := cursor.fetchmany():
                read += len(rows)
                for whole in lobs.whole(rows):
                    yield _made(whole, makers)
        self.rows_read = read

    def _framed(self, statement: Statement, lobs: Lobs, size: int) -> Generator[Batch, None, None]:
        """Yield tuples as the record batches that the driver would have made of them."""
        from . import arrow  # pyarrow is there where it is wanted

        nothing = f"select * from (\n{statement.sql}\n) q where 1 = 0"
        frame = self._connection.fetch_df_all(nothing, statement.values, fetch_decimals=True)
        schema = arrow.schema_of(frame, lobs.columns)
        with closing(self._tuples(statement, lobs, [], size)) as parts:
            for rows in parts:
                yield arrow.batch_of(rows, schema)

    def _record_batches(
        self, statement: Statement, columns: Sequence[Column], size: int
    ) -> Generator[Batch, None, None]:
        from . import arrow  # pyarrow is there where it is wanted

        self.rows_read, read = None, 0
        frames: Any = self._connection.fetch_df_batches(
            statement.sql, statement.values, size, fetch_decimals=True
        )
        with closing(frames):
            for frame in frames:
                # With a LOB the first frame is empty, and others follow.
                for batch in arrow.batches_of(frame, columns):
                    read += batch.num_rows
                    yield batch
        self.rows_read = read

    def _run(self, statement: Statement) -> Any:
        return session.run(self._connection, statement.sql, statement.values)


def _made(rows: list[Row], makers: Sequence[Callable[[str], Any] | None]) -> list[Row]:
    """Return rows with the values that were fetched as text made from it."""
    if not any(makers):
        return rows
    return [
        tuple(
            value if make is None or value is None else make(value)
            for value, make in zip(row, makers, strict=True)
        )
        for row in rows
    ]
