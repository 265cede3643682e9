"""Any database that SQLAlchemy has a dialect for: plain SQL, Python rows, no shared snapshot.

The fallback behind the same seam, proven on SQLite. It knows no bulk path, and no snapshot that
sessions could share, so a query is read by one statement unless the caller gives up the single
read point.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.schema import CreateSchema

from ..connections import Opener
from ..errors import QueryError, TargetError
from ..model import Chunk, ChunkKind, Column, DataPath, LoadWindow, Plan, Row, Snapshot
from ..protocols import STAGE_CHUNK, Batch, KeyCuts, LedgerDialect, Source, Target
from ..query import Query

# Rows fetched and inserted at once; past about a thousand, bigger batches only cost memory.
BATCH_ROWS = 1_000

# SQLAlchemy's dialect name -> sqlglot's, where they differ.
_SQLGLOT = {"mssql": "tsql", "mariadb": "mysql"}

_SQLITE_BUSY = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED (sqlite.org/rescode.html)

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


def connect(opener: Opener, *, application: str, time_zone: str | None) -> "Generic":
    """Return the database behind `opener`; see `adapters.database`."""
    del application, time_zone  # nothing that all databases have a place for
    return Generic(opener)


class Generic:
    """A database spoken to through SQLAlchemy."""

    paths = frozenset({DataPath.ROWS})
    shares_snapshots = False
    json_is_text = True

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.kind = opener.dialect
        self.dialect = _SQLGLOT.get(opener.dialect, opener.dialect)
        self.limit = opener.limit
        self.sole = opener.sole
        self.has_schemas = opener.dialect not in {"sqlite", "oracle"}
        lock = "" if opener.dialect == "sqlite" else "for update"
        oracle = opener.dialect == "oracle"
        self.ledger_dialect = LedgerDialect(
            text="clob" if oracle else "text",
            bigint="number(19)" if oracle else "bigint",
            timestamp="timestamp",
            share_lock=lock,
            update_lock=lock,
            skip_locked=lock and "for update skip locked",
        )
        self._quote = sa.create_engine(f"{opener.driver}://").dialect.identifier_preparer.quote

    def for_query(self, query: Query) -> "Generic":
        del query  # what only the connection given sees is read there anyway, or refused
        return self

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        yield Snapshot(None, "one statement reads everything")

    @contextmanager
    def open_reader(self, snapshot: Snapshot | None) -> Iterator["GenericReader"]:
        del snapshot
        with self._connection() as connection:
            yield GenericReader(connection)

    @contextmanager
    def open_writer(self) -> Iterator["GenericWriter"]:
        with self._connection() as connection:
            yield GenericWriter(connection)

    def quote(self, *names: str) -> str:
        return ".".join(self._quote(name) for name in names)

    def data_path(
        self, offered: frozenset[DataPath], pairs: Sequence[tuple[Column, Column]]
    ) -> tuple[DataPath, str]:
        del offered, pairs
        return DataPath.ROWS, f"{self.kind} is written with INSERT statements"

    def window_bounds(self, window: LoadWindow) -> tuple[Any, Any]:
        if self.kind == "sqlite":
            return _sqlite_bound(window.start), _sqlite_bound(window.end)
        return window.start, window.end

    def is_transient(self, error: BaseException) -> bool:
        if isinstance(error, ConnectionError | TimeoutError):
            return True
        if not isinstance(error, exc.DBAPIError):
            return False
        if isinstance(error.orig, sqlite3.OperationalError):
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # Python 3.11 and later
            return code in _SQLITE_BUSY or "is locked" in str(error.orig)
        return error.connection_invalidated

    def is_duplicate(self, error: BaseException) -> bool:
        return isinstance(error, exc.IntegrityError)

    def explain(self, error: BaseException) -> str | None:
        if isinstance(error, exc.DBAPIError):
            return str(error.orig)
        # Every DB-API driver has a class of this name at the top of its errors (PEP 249).
        of_a_driver = any(kind.__name__ == "Error" for kind in type(error).__mro__)
        return str(error) if of_a_driver or isinstance(error, exc.SQLAlchemyError) else None

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """Wrap one connection of the opener's for one session; the opener closes it."""
        live = self._opener.open()
        try:
            engine = sa.create_engine(
                f"{self._opener.driver}://",
                creator=lambda: live,
                poolclass=sa.StaticPool,
                pool_reset_on_return=None,
            )
            with engine.connect() as connection:
                yield connection
        finally:
            self._opener.release(live)


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
                described = result.cursor.description
                return tuple(Column(str(field[0])) for field in described or ())
        except exc.DBAPIError as error:
            msg = f"the source database refuses the query: {error.orig}"
            raise QueryError(msg) from error

    def count_up_to(self, query: Query, limit: int) -> int:
        some = (
            sa.select(sa.literal(1))
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
            sa.select(sa.func.count(), sa.func.sum(sa.case((nulls, 1), else_=0))).select_from(
                source
            )
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


class GenericWriter:
    """One connection writing."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @contextmanager
    def begin(self) -> Iterator["GenericTransaction"]:
        if self._connection.dialect.name == "sqlite":
            # At once, not at the first INSERT: a lock taken midway can be refused for good.
            self._connection.exec_driver_sql("begin immediate")
        try:
            yield GenericTransaction(self._connection)
        except BaseException:
            self._end("rollback")
            self._connection.rollback()
            raise
        self._end("commit")
        self._connection.commit()

    def _end(self, how: str) -> None:
        """End a transaction of SQLite's in so many words, as it was begun.

        A connection opened with autocommit=True (Python 3.12) does nothing in commit().
        """
        if self._connection.dialect.name == "sqlite":
            live = self._connection.connection.driver_connection
            if live is not None and live.in_transaction:
                self._connection.exec_driver_sql(how)


class GenericTransaction:
    """One open transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._sqlite = connection.dialect.name == "sqlite"

    def execute(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        plain = {name: self._plain(value) for name, value in (values or {}).items()}
        with self._connection.execute(sa.text(sql), plain) as result:
            return [tuple(row) for row in result] if result.returns_rows else []

    def refusal(self, table: Sequence[str], *, replaces: bool) -> str | None:
        del table, replaces
        return None

    def change(self, sql: str, values: Mapping[str, Any] | None = None) -> int:
        plain = {name: self._plain(value) for name, value in (values or {}).items()}
        with self._connection.execute(sa.text(sql), plain) as result:
            return result.rowcount

    def create_schema(self, name: str) -> None:
        if not sa.inspect(self._connection).has_schema(name):
            self._connection.execute(CreateSchema(name))

    def lock(self, name: str) -> None:
        """Rely on the database's own locking; SQLite lets in one writer at a time anyway."""

    def lock_table(self, table: Sequence[str]) -> None:
        """As `lock`."""

    def columns(self, table: Sequence[str]) -> tuple[Column, ...]:
        schema, name = (None, table[0]) if len(table) == 1 else (table[0], table[1])
        try:
            found = sa.inspect(self._connection).get_columns(name, schema=schema)
            key = sa.inspect(self._connection).get_pk_constraint(name, schema=schema)
        except exc.NoSuchTableError:
            return ()
        # A lone integer key numbers itself in SQLite and with AUTO_INCREMENT.
        lone = key["constrained_columns"] if len(key["constrained_columns"]) == 1 else []
        return tuple(
            Column(
                column["name"],
                str(column["type"]),
                required=not column["nullable"]
                and column["default"] is None
                and column["name"] not in lone,
                generated="computed" in column,
            )
            for column in found
        )

    def create_stage(
        self, stage: Sequence[str], target: Sequence[str], columns: Sequence[str]
    ) -> None:
        like = self._table(target)
        copied = [sa.Column(name, like.c[name].type) for name in columns]
        chunk = sa.Column(STAGE_CHUNK, sa.Integer)
        schema = stage[0] if len(stage) > 1 else None
        table = sa.Table(stage[-1], sa.MetaData(), *copied, chunk, schema=schema)
        table.drop(self._connection, checkfirst=True)
        table.create(self._connection)

    def write(
        self,
        batches: Iterable[Batch],
        table: Sequence[str],
        columns: Sequence[str],
        path: DataPath,
        *,
        staged_chunk: int | None = None,
        json_is_text: bool = False,
    ) -> int:
        del path, json_is_text  # this adapter has one path, and its databases take JSON as text
        into = self._table(table)
        names = [*columns] if staged_chunk is None else [*columns, STAGE_CHUNK]
        mine = () if staged_chunk is None else (staged_chunk,)
        # Values go as they are: SQLite has no types for its columns to convert them to.
        insert = (
            sa.table(into.name, *(sa.column(n) for n in names), schema=into.schema).insert()
            if self._sqlite
            else into.insert()
        )
        written = 0
        for batch in batches:
            rows = [
                dict(zip(names, map(self._plain, (*row, *mine)), strict=True))
                for row in cast(list[Row], batch)
            ]
            self._connection.execute(insert, rows)
            written += len(rows)
        return written

    def _table(self, name: Sequence[str]) -> sa.Table:
        schema = name[0] if len(name) > 1 else None
        try:
            return sa.Table(name[-1], sa.MetaData(), schema=schema, autoload_with=self._connection)
        except exc.NoSuchTableError as error:
            msg = f"the target has no table {'.'.join(name)}"
            raise TargetError(msg) from error

    def _plain(self, value: Any) -> Any:
        """Return a value that SQLite can bind, without losing a digit of it."""
        if not self._sqlite:
            return value
        if isinstance(value, Decimal | uuid.UUID | time):
            return str(value)
        if isinstance(value, datetime):
            return _sqlite_instant(value)
        if isinstance(value, date):
            return value.isoformat()
        return json.dumps(value) if isinstance(value, dict | list) else value


def _sqlite_instant(value: datetime) -> str:
    """Return the text SQLite keeps of a datetime: an aware one in UTC, so that texts compare."""
    return (value if value.tzinfo is None else value.astimezone(timezone.utc)).isoformat(" ")


def _sqlite_bound(value: datetime) -> str:
    """Return the bound of a window as the text that all texts from it on begin with, or exceed.

    SQLite compares dates and times as text, and "2024-02-01" sorts before "2024-02-01 00:00:00".

    >>> _sqlite_bound(datetime(2024, 2, 1)), _sqlite_bound(datetime(2024, 2, 1, 6, 30))
    ('2024-02-01', '2024-02-01 06:30:00')
    """
    return _sqlite_instant(value).partition("+")[0].removesuffix(" 00:00:00")


def _sqlite_parameter(name: str, value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    # Left to SQLAlchemy, a datetime gets six decimals, and sorts after the same one without.
    return (_sqlite_bound if name in {"window_start", "window_end"} else _sqlite_instant)(value)


def _subquery(connection: sa.Connection, query: Query, names: Sequence[str] = ()) -> sa.Subquery:
    """Return the user's SQL as a subquery. Its colons are escaped; its bind values are bound."""
    written = query.render(
        lambda name, _: f":{name}", write_text=lambda text: text.replace(":", "\\:")
    )
    values = dict(query.values)
    if connection.dialect.name == "sqlite":
        values = {name: _sqlite_parameter(name, value) for name, value in values.items()}
    text = sa.text(written).bindparams(**values)
    return text.columns(*(sa.column(name) for name in names)).subquery("q")


def _where(source: sa.Subquery, plan: Plan, chunk: Chunk) -> list[sa.ColumnElement[bool]]:
    """Return the chunk's conditions. NULL keys are in their own chunk and in no other."""
    if chunk.kind is ChunkKind.ALL:
        return []
    keys = [source.c[name] for name in plan.chunk_key]
    if chunk.kind is ChunkKind.NULLS:
        return [sa.or_(*(key.is_(None) for key in keys))]
    terms: list[sa.ColumnElement[bool]] = [key.is_not(None) for key in keys]
    if chunk.low is not None:
        terms.append(sa.tuple_(*keys) >= sa.tuple_(*map(_key_value, chunk.low)))
    if chunk.high is not None:
        terms.append(sa.tuple_(*keys) < sa.tuple_(*map(_key_value, chunk.high)))
    return terms


def _key_text(value: Any) -> str:
    write = _WRITE_KEY.get(type(value), str)
    return f"{type(value).__name__}:{write(value)}"


def _key_value(text: str) -> Any:
    kind, _, value = text.partition(":")
    return _READ_KEY[kind](value)


# The type checker reads these lines as: this class keeps both promises.
_source: type[Source] = Generic
_target: type[Target] = Generic
