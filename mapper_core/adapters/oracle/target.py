"""Writing to Oracle: transactions that take rows by array DML.

A definition commits whatever came before it, so tables are made on a session of their own, and one
that a transaction is done with is dropped after its commit. Locks by name are rows of a table:
Oracle's own need a package that few may use.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from zlib import crc32

import oracledb

from ...batches import Batch, rows_of
from ...errors import SettingsError, TargetError
from ...model import Chunk, Column, DataPath, Plan, Row, Snapshot
from ...protocols import STAGE_CHUNK, Access, Checksum, Merged, Place
from ...query import Query
from . import catalog, direct_path, errors, session, values

logger = logging.getLogger(__name__)

# Rows of one array: many enough that the way there costs nothing, few enough to be tried again.
ARRAY_ROWS = 2_000

# Rows that stand for locks by name; different names may share one, and then wait for each other.
_LOCKS = session.exact("MAPPER_LOCK")
_SLOTS = 61

_UNIQUE, _ALREADY_THERE, _NOT_THERE = 1, 955, 942

_DEFAULTS = """
select column_name, data_default from all_tab_cols
where owner = :owner and table_name = :name and user_generated = 'YES'
  and default_length > 0 and virtual_column = 'NO'
"""

_CHECKS = """
select c.constraint_name, c.search_condition, k.column_name
from all_constraints c
join all_cons_columns k on k.owner = c.owner and k.constraint_name = c.constraint_name
where c.owner = :owner and c.table_name = :name and c.constraint_type = 'C'
  and c.status = 'ENABLED'
"""

Definer = Callable[[], AbstractContextManager[oracledb.Connection]]


class OracleTransaction:
    """One open transaction."""

    def __init__(self, connection: oracledb.Connection, definer: Definer) -> None:
        self._connection = connection
        self._definer = definer
        self._to_drop: list[str] = []

    def execute(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        with session.run(self._connection, sql, values) as cursor:
            return list(cursor.fetchall()) if cursor.description else []

    def execute_later(self, sql: str, values: Mapping[str, Any] | None = None) -> None:
        # At once: the driver sends no two statements in one message.
        self.execute(sql, values)

    def execute_many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> None:
        session.run_many(self._connection, sql, values)

    def change(self, sql: str, values: Mapping[str, Any] | None = None) -> int:
        with session.run(self._connection, sql, values) as cursor:
            return int(cursor.rowcount)

    def create_schema(self, name: str) -> None:
        msg = f"a schema is a user in Oracle: have a DBA create the user {name}"
        raise TargetError(msg)

    def lock(self, name: str) -> None:
        slot = self._slot(name)
        while not self._locked(slot, "for update wait 60"):
            self._make_slot(slot)

    def try_lock(self, name: str) -> bool:
        slot = self._slot(name)
        if not self._locked(slot, ""):
            self._make_slot(slot)
        return self._locked(slot, "for update skip locked")

    def lock_shared(self, name: str) -> None:
        self.lock(name)

    def lock_table(self, table: Sequence[str]) -> None:
        self.lock("table {}.{}".format(*self._resolved(table)))

    def _slot(self, name: str) -> int:
        """Return the number of a lock. Tables come first, so that two are taken in one order."""
        number = crc32(name.encode()) % _SLOTS
        return number if name.startswith("table ") else _SLOTS + number

    def _locked(self, slot: int, how: str) -> bool:
        """Lock the row of a slot; False when there is none, or others have it."""
        asked = f"select slot from {_LOCKS} where slot = :slot {how}"
        with suppress_code(_NOT_THERE):
            return bool(self.execute(asked, {"slot": slot}))
        return False

    def _make_slot(self, slot: int) -> None:
        """Make the row of a slot, and first of all the table."""
        with self._definer() as connection:
            insert = f"insert into {_LOCKS} values (:slot)"
            try:
                session.run(connection, insert, {"slot": slot})
            except oracledb.DatabaseError as error:
                if errors.code_of(error) == _UNIQUE:
                    return
                if errors.code_of(error) != _NOT_THERE:
                    raise
                with suppress_code(_ALREADY_THERE):
                    session.run(connection, f"create table {_LOCKS} (slot number(5) primary key)")
                with suppress_code(_UNIQUE):
                    session.run(connection, insert, {"slot": slot})
            connection.commit()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self.execute("savepoint mapper_rows")
        try:
            yield
            # What is checked at the end of a transaction could no longer be laid to one row.
            session.run(self._connection, "set constraints all immediate")
        except BaseException:
            # A connection that is lost has nothing to take back.
            with suppress(oracledb.Error):
                self.execute("rollback to savepoint mapper_rows")
            raise

    def columns(self, table: Sequence[str]) -> tuple[Column, ...]:
        found = self._found(table)
        return () if found is None else catalog.columns(self._connection, *found)

    def settings(self) -> dict[str, str]:
        return {}  # each session is told the same, see `session`

    def access(self, table: Sequence[str], privileges: Sequence[str]) -> Access:
        return Access(catalog.refusal(self._connection, *self._resolved(table), privileges))

    def create_missing(self, table: Sequence[str], definition: str) -> None:
        if self._found(table) is None:
            self._define(f"create table {session.quoted(*table)} ({definition})", _ALREADY_THERE)

    def create_table(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        listed = ", ".join(
            f"{session.quoted(column.name)} {_definable(column.type)}" for column in columns
        )
        self._define(f"create table {session.quoted(*table)} ({listed})")

    def drop_table(self, table: Sequence[str]) -> None:
        self._to_drop.append(f"drop table {session.quoted(*table)} purge")

    def create_stage(
        self,
        stage: Sequence[str],
        target: Sequence[str],
        columns: Sequence[str],
        *,
        checked: bool = False,
    ) -> None:
        name, (owner, table) = session.quoted(*stage), self._resolved(target)
        listed = _listed(columns)
        self._define(f"drop table {name} purge", _NOT_THERE)
        self._define(
            f"create table {name} as select {listed}, cast(null as number(10)) as"
            f" {session.quoted(STAGE_CHUNK)} from {session.exact(owner)}.{session.exact(table)}"
            " where 1 = 0"
        )
        of_table = {"owner": owner, "name": table}
        for column, default in self.execute(_DEFAULTS, of_table):
            if column in columns:
                # From the target's own dictionary, already as SQL.
                self._define(
                    f"alter table {name} modify ({session.exact(column)} default {default})"
                )
        if checked:
            self._copy_checks(name, of_table, columns)

    def _copy_checks(self, stage: str, of_table: Mapping[str, str], columns: Sequence[str]) -> None:
        """Have the stage refuse the rows that the target would refuse by themselves."""
        checks: dict[str, tuple[str, set[str]]] = {}
        for name, condition, column in self.execute(_CHECKS, of_table):
            checks.setdefault(name, (condition, set()))[1].add(column)
        for condition, needed in checks.values():
            if needed <= set(columns):
                # Also NOT NULL is a check of its own; a stage that has it already keeps both.
                self._define(f"alter table {stage} add check ({condition})")

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
        # Also Arrow record batches are taken apart: what is bound is looked at.
        by_name = {column.name: column for column in self.columns(table)}
        insert = values.Insert(
            session.quoted(*table),
            [by_name[name] for name in columns],
            chunk=staged_chunk,
            json_is_text=json_is_text,
            of_json=of_json,
        )
        if path is DataPath.DIRECT:
            with self._definer() as another:
                return direct_path.load(another, batches, self._resolved(table), insert)
        sent = written = 0
        with self._connection.cursor() as cursor:
            for batch in batches:
                rows = rows_of(batch)
                for start in range(0, len(rows), ARRAY_ROWS):
                    part = rows[start : start + ARRAY_ROWS]
                    written += self._insert(cursor, insert, part, sent)
                    sent += len(part)
        return written

    def _insert(
        self, cursor: oracledb.Cursor, insert: "values.Insert", rows: Sequence[Row], before: int
    ) -> int:
        """Insert an array of rows; return how many the table took.

        Raises RowsRefusedError, naming all rows that were refused.
        """
        cursor.setinputsizes(*insert.sizes)  # it is for one execution
        cursor.executemany(insert.sql, insert.arranged(rows, before), batcherrors=True)
        refused = [
            (before + error.offset + 1, error.code, str(error.message).strip())
            for error in cursor.getbatcherrors()
        ]
        if refused:
            raise errors.RowsRefusedError(refused)
        return int(cursor.rowcount)

    def merge(
        self, table: Sequence[str], rows: str, columns: Sequence[str], key: Sequence[str]
    ) -> Merged:
        by_name = {column.name: column for column in self.columns(table)}
        same = " and ".join(f"t.{k} = s.{k}" for k in map(session.quoted, key))
        keys = set(map(session.folded, key))
        others = [by_name[column] for column in columns if column not in keys]
        given = ", ".join(f"s.{session.quoted(column)}" for column in columns)
        update = ""
        if others:
            names = [session.quoted(column.name) for column in others]
            assigned = ", ".join(f"t.{name} = s.{name}" for name in names)
            changed = " or ".join(values.differs(column) for column in others)
            update = f" when matched then update set {assigned} where {changed}"
        taken = self.change(
            f"merge into {session.quoted(*table)} t using {rows} s on ({same}){update}"
            f" when not matched then insert ({_listed(columns)}) values ({given})"
        )
        return Merged(taken)

    def merge_blocker(self, table: Sequence[str], key: Sequence[str]) -> None:
        """Return None: what would stand against it cannot be asked for beforehand."""

    def hold_columns(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        """Do nothing: values are converted to what a column is when they are written."""

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

    def settle(self) -> None:
        """Drop, after the commit, what the transaction was done with.

        It is committed whatever happens here: a table that stays is a table too many, no more.
        """
        for statement in self._to_drop:
            try:
                session.run(self._connection, statement)
            except oracledb.Error as error:
                if errors.code_of(error) != _NOT_THERE:
                    words = errors.words(error)
                    logger.warning("a stage stays behind (%s): %s", statement, words)

    def _define(self, statement: str, but_for: int = 0) -> None:
        """Run a definition on a session of its own; an error of that code is none."""
        with self._definer() as connection, suppress_code(but_for):
            session.run(connection, statement)

    def _found(self, table: Sequence[str]) -> tuple[str, str] | None:
        return catalog.resolved(self._connection, [session.folded(part) for part in table])

    def _resolved(self, table: Sequence[str]) -> tuple[str, str]:
        if (found := self._found(table)) is None:
            msg = f"the target has no table {'.'.join(table)}"
            raise TargetError(msg)
        return found


class OracleWriter:
    """One connection to the target."""

    def __init__(self, connection: oracledb.Connection, definer: Definer) -> None:
        self._connection = connection
        self._definer = definer

    def cancel(self) -> None:
        session.cancel(self._connection)

    @contextmanager
    def begin(self, snapshot: Snapshot | None = None) -> Iterator[OracleTransaction]:
        del snapshot  # reading at one's own is for INSERT ... SELECT, which is not offered
        transaction = OracleTransaction(self._connection, self._definer)
        try:
            yield transaction
        except BaseException:
            # The first error is the one to report; a dead connection rolls back by itself.
            with suppress(oracledb.Error):
                self._connection.rollback()
            raise
        self._connection.commit()
        transaction.settle()


@contextmanager
def suppress_code(code: int) -> Iterator[None]:
    """Pass over an error with that ORA number."""
    try:
        yield
    except oracledb.DatabaseError as error:
        if not code or errors.code_of(error) != code:
            raise


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(session.quoted, columns))


def _definable(word: str) -> str:
    """Return a type as a definition writes it: without the digits that NUMBER does not have."""
    return {"INTERVAL DAY TO SECOND": "INTERVAL DAY(9) TO SECOND(6)"}.get(word, word)
