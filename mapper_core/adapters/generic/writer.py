"""Writing through SQLAlchemy: transactions that take Python rows."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.schema import CreateSchema

from ...batches import Batch, JsonText, rows_of
from ...errors import SettingsError, TargetError
from ...model import Chunk, Column, DataPath, Plan, Row, Snapshot
from ...protocols import STAGE_CHUNK, Access, Checksum, Merged, Place
from ...query import Query
from . import sqlite
from .statements import cancel


class GenericWriter:
    """One connection writing."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def cancel(self) -> None:
        cancel(self._connection)

    @contextmanager
    def begin(self, snapshot: Snapshot | None = None) -> Iterator["GenericTransaction"]:
        del snapshot  # it has none that sessions share
        if self._connection.dialect.name == "sqlite":
            if self._always_in_transaction():
                self._end("rollback")  # of nothing: it is as it was opened, or just ended
            # At once, not at the first INSERT: a lock taken midway can be refused for good.
            self._connection.exec_driver_sql("begin immediate")
        try:
            yield GenericTransaction(self._connection)
        except BaseException:
            self._finish("rollback")
            raise
        self._finish("commit")

    def _finish(self, how: str) -> None:
        if not self._always_in_transaction():
            # autocommit=True (Python 3.12) does nothing in commit().
            self._end(how)
        getattr(self._connection, how)()

    def _always_in_transaction(self) -> bool:
        """Whether SQLite's driver begins a transaction by itself: autocommit=False, Python 3.12."""
        live = self._connection.connection.driver_connection
        return (
            self._connection.dialect.name == "sqlite" and getattr(live, "autocommit", None) is False
        )

    def _end(self, how: str) -> None:
        """End a transaction of SQLite's in so many words, as it was begun."""
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
        with self._run(sql, values) as result:
            return [tuple(row) for row in result] if result.returns_rows else []

    def execute_later(self, sql: str, values: Mapping[str, Any] | None = None) -> None:
        # At once: SQLAlchemy sends no two statements in one message.
        self.execute(sql, values)

    def execute_many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> None:
        if rows := [self._bound(each) for each in values]:
            self._connection.execute(sa.text(sql), rows)

    def settings(self) -> dict[str, str]:
        return {}

    def access(self, table: Sequence[str], privileges: Sequence[str]) -> Access:
        del privileges  # no word for them that all databases share
        if not self._sqlite:
            return Access()
        asked = sa.inspect(self._connection)
        schema = table[0] if len(table) > 1 else None
        views = [*asked.get_view_names(schema=schema), *asked.get_temp_view_names()]
        if table[-1] not in views:
            return Access()
        return Access(
            "it is a view, and SQLite does not report how many rows a view's triggers write: load"
            " into the table behind it"
        )

    def change(self, sql: str, values: Mapping[str, Any] | None = None) -> int:
        with self._run(sql, values) as result:
            return result.rowcount

    def create_schema(self, name: str) -> None:
        if not sa.inspect(self._connection).has_schema(name):
            self._connection.execute(CreateSchema(name))

    def lock(self, name: str) -> None:
        """Rely on the database's own locking; SQLite lets in one writer at a time anyway."""

    def try_lock(self, name: str) -> bool:  # noqa: ARG002 - the protocol's
        """As `lock`."""
        return True

    def lock_shared(self, name: str) -> None:
        """As `lock`."""

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

    def create_missing(self, table: Sequence[str], definition: str) -> None:
        self.execute(f"create table if not exists {self._quoted(table)} ({definition})")

    def drop_table(self, table: Sequence[str]) -> None:
        self.execute(f"drop table {self._quoted(table)}")

    def create_table(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        listed = ", ".join(f"{self._quoted([c.name])} {c.type}" for c in columns)
        self.execute(f"create table {self._quoted(table)} ({listed})")

    def merge(
        self, table: Sequence[str], rows: str, columns: Sequence[str], key: Sequence[str]
    ) -> Merged:
        quote = self._connection.dialect.identifier_preparer.quote_identifier
        name = self._quoted(table)
        same = " and ".join(f"t.{quote(k)} = s.{quote(k)}" for k in key)
        others = [quote(column) for column in columns if column not in key]
        listed = ", ".join(map(quote, columns))
        given = ", ".join(f"s.{quote(column)}" for column in columns)
        due = taken = 0
        if others:
            assigned = ", ".join(f"{c} = s.{c}" for c in others)
            # SQLite's word for "is distinct from".
            changed = " or ".join(f"t.{c} is not s.{c}" for c in others)
            differing = f"{same} and ({changed})"
            due += self._counted(f"{name} as t join {rows} as s on {differing}")
            taken += self.change(
                f"update {name} as t set {assigned} from {rows} as s where {differing}"
            )
        missing = f"{rows} as s where not exists (select 1 from {name} t where {same})"
        due += self._counted(missing)
        taken += self.change(f"insert into {name} ({listed}) select {given} from {missing}")
        return Merged(taken, due)

    def merge_blocker(self, table: Sequence[str], key: Sequence[str]) -> None:
        """Return None: what would stand against it cannot be asked for beforehand."""

    def hold_columns(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        """Do nothing: values are converted to what a column is when they are written."""

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self.execute("savepoint mapper_rows")
        try:
            yield
        except BaseException:
            self.execute("rollback to savepoint mapper_rows")
            raise
        self.execute("release savepoint mapper_rows")

    def create_stage(
        self,
        stage: Sequence[str],
        target: Sequence[str],
        columns: Sequence[str],
        *,
        checked: bool = False,
    ) -> None:
        del checked  # its rows are refused when they are published
        like = self._table(target)
        copied = [sa.Column(name, _definable(like.c[name].type)) for name in columns]
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
        of_json: frozenset[str] = frozenset(),
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
        declared = self._declared(table, names) if self._sqlite else []
        kinds = [into.c[name].type for name in names]
        # Not every driver knows how many rows of many it wrote.
        tells = self._connection.dialect.supports_sane_multi_rowcount
        keep = {"preserve_rowcount": True}  # which SQLAlchemy forgets after an INSERT
        sent = written = 0
        for batch in batches:
            given = [(*row, *mine) for row in rows_of(batch)]
            rows = (
                sqlite.bound_rows(given, declared, sent, of_json)
                if self._sqlite
                else [dict(zip(names, map(_value, row, kinds), strict=True)) for row in given]
            )
            result = self._connection.execute(insert, rows, execution_options=keep)
            sent += len(rows)
            written += result.rowcount if tells and result.rowcount >= 0 else len(rows)
        return written

    def insert_select(
        self,
        query: Query,
        plan: Plan,
        chunk: Chunk,
        table: Sequence[str],
        columns: Sequence[str],
        *,
        staged_chunk: int | None = None,
    ) -> int:
        del query, plan, chunk, table, columns, staged_chunk
        raise TargetError("INSERT ... SELECT inside one database is for PostgreSQL alone")

    def checksums(
        self, stage: Sequence[str], columns: Sequence[Column], place: Place | None
    ) -> dict[int, Checksum]:
        del stage, columns, place
        raise SettingsError("checksums are for PostgreSQL alone")

    def _quoted(self, table: Sequence[str]) -> str:
        quote = self._connection.dialect.identifier_preparer.quote_identifier
        return ".".join(map(quote, table))

    def _table(self, name: Sequence[str]) -> sa.Table:
        schema = name[0] if len(name) > 1 else None
        try:
            return sa.Table(name[-1], sa.MetaData(), schema=schema, autoload_with=self._connection)
        except exc.NoSuchTableError as error:
            msg = f"the target has no table {'.'.join(name)}"
            raise TargetError(msg) from error

    def _declared(self, table: Sequence[str], names: Sequence[str]) -> list[Column]:
        """Return columns of a table of SQLite's with the types that it goes by."""
        schema = table[0] if len(table) > 1 else None
        found = self.execute(
            "select name, type from pragma_table_xinfo(:table, :schema)",
            {"table": table[-1], "schema": schema},
        )
        types = {str(name): str(kind) for name, kind in found}
        return [Column(name, types[name]) for name in names]

    def _counted(self, rows: str) -> int:
        return int(self.execute(f"select count(*) from {rows}")[0][0])

    def _run(self, sql: str, values: Mapping[str, Any] | None) -> sa.CursorResult[Any]:
        return self._connection.execute(sa.text(sql), self._bound(values or {}))

    def _bound(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._plain(value) for name, value in values.items()}

    def _plain(self, value: Any) -> Any:
        return sqlite.plain(value) if self._sqlite else value


def _value(value: Any, kind: sa.types.TypeEngine[Any]) -> Any:
    """Return a value as SQLAlchemy takes it: it makes JSON of values by itself."""
    is_json = isinstance(value, JsonText) and isinstance(kind, sa.JSON)
    return json.loads(value) if is_json else value


def _definable(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """Return a type as a definition can name it: in SQLite a column may have none, as a BLOB."""
    return sa.LargeBinary() if isinstance(kind, sa.types.NullType) else kind
