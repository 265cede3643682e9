"""Writing to PostgreSQL: transactions that take COPY blocks or Python rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psycopg

from ... import fitting
from ...batches import Batch, rows_of
from ...errors import TargetError
from ...model import Chunk, Column, DataPath, Plan, Row, Snapshot
from ...protocols import STAGE_CHUNK, Access, Checksum, Merged, Place
from ...query import Query
from . import catalog, checksum, errors, meaning, saying, session, unseen
from .ending import Ending
from .messages import Messages
from .statements import Statements, copy_format, key_columns
from .survey import place

# The setting that tells a stage's column default which chunk is being written.
_CHUNK_SETTING = "mapper.chunk"


_NO_COPY = (
    "COPY writes to a view by an INSTEAD OF trigger for each row only: give it one, or pass"
    " publish='atomic', which inserts all rows in one statement"
)


class PostgreSQLTransaction(Messages):
    """One open transaction, which begins with its first statement."""

    def create_schema(self, name: str) -> None:
        # Looked for first: "if not exists" asks for the privilege to create all the same.
        if not self.execute("select 1 from pg_namespace where nspname = :name", {"name": name}):
            self.execute(f"create schema if not exists {session.identifier(name)}")

    def lock(self, name: str) -> None:
        # Before whatever comes next in this transaction, as is all that it is for.
        self.execute_later(
            "select pg_advisory_xact_lock(hashtextextended(:name, 0))", {"name": name}
        )

    def try_lock(self, name: str) -> bool:
        statement = "select pg_try_advisory_xact_lock(hashtextextended(:name, 0))"
        return bool(self.execute(statement, {"name": name})[0][0])

    def lock_shared(self, name: str) -> None:
        statement = "select pg_advisory_xact_lock_shared(hashtextextended(:name, 0))"
        self.execute(statement, {"name": name})

    def lock_table(self, table: Sequence[str]) -> None:
        self.execute_later(
            "select pg_advisory_xact_lock(hashtextextended("
            "'table ' || to_regclass(:name)::oid::text, 0))",
            {"name": session.identifier(*table)},
        )

    def place(self) -> Place:
        """Return where the transaction's session is."""
        return place(self._connection)

    def settings(self) -> dict[str, str]:
        return dict(self.execute(meaning.ASKED))

    def explain(self, query: Query, snapshot: Snapshot) -> str:
        """Have the query planned. Raises what running it would for want of rights or tables."""
        text = Statements(self._connection, snapshot).query(query)
        planned = saying.run(self._connection, f"explain (verbose) {text}")
        return "\n".join(str(line) for (line,) in planned)

    def columns(self, table: Sequence[str]) -> tuple[Column, ...]:
        name = {"name": session.identifier(*table)}
        found = self.execute(catalog.COLUMNS, name)
        if not found and self.execute("select 1 where to_regclass(:name) is not null", name):
            msg = f"{'.'.join(table)} has no columns to load into: add those of the query"
            raise TargetError(msg)
        return tuple(
            Column(name, kind, number, required=required, generated=generated, binary=binary)
            for name, kind, number, required, generated, binary in found
        )

    def access(self, table: Sequence[str], privileges: Sequence[str]) -> Access:
        name = session.identifier(*table)
        # All but DELETE can be granted for some columns.
        asked = [
            (
                f"select has_{'table' if privilege == 'delete' else 'any_column'}_privilege"
                "(:name, :privilege), current_user",
                {"name": name, "privilege": privilege},
            )
            for privilege in privileges
        ]
        foreign, taken, no_copy, unlogged, meant, ((oid,),), *granted = self._together(
            (catalog.FOREIGN, {"name": name}),
            (catalog.TAKEN, {"name": name}),
            (catalog.TAKES_NO_COPY, {"name": name}),
            (catalog.UNLOGGED, {"name": name}),
            (meaning.ASKED, None),
            ("select to_regclass(:name)::oid::text", {"name": name}),
            *asked,
        )
        if foreign:
            return Access(
                f"the rows of {foreign[0][0]}, a foreign table, would commit on their own server,"
                " and not with the ledger's: load into the table there, or into tables kept here"
                " alone"
            )
        for privilege, ((may, user),) in zip(privileges, granted, strict=True):
            if privilege in catalog.EVENTS and not taken[0][0] & catalog.EVENTS[privilege]:
                words = (
                    f"it does not accept {privilege.upper()}: load into a table, or a view that"
                    " does"
                )
                return Access(words)
            if not may:
                return Access(f"{user} lacks the privilege: grant {privilege} on {name} to {user}")
        return Access(
            write_blocker=_NO_COPY if no_copy else None,
            is_emptied_by_crash=unlogged[0][0],
            table_id=oid,
            settings=dict(meant),
        )

    def create_missing(self, table: Sequence[str], definition: str) -> None:
        self.execute(f"create table if not exists {session.identifier(*table)} ({definition})")

    def drop_table(self, table: Sequence[str]) -> None:
        self.execute(f"drop table {session.identifier(*table)}")

    def create_table(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        # The types are PostgreSQL's own words for them (format_type), quoted where they must be.
        listed = ", ".join(f"{session.identifier(c.name)} {c.type}" for c in columns)
        try:
            self.execute(f"create table {session.identifier(*table)} ({listed})")
        except psycopg.errors.UndefinedObject as error:
            msg = (
                f"{'.'.join(table)} cannot be created: {errors.words(error)} in the target. Create"
                " the type there, or cast the column to text in the query"
            )
            raise TargetError(msg) from error

    def merge(
        self, table: Sequence[str], rows: str, columns: Sequence[str], key: Sequence[str]
    ) -> Merged:
        from . import merging  # for upserts alone

        merge = merging.Merge(table, rows, columns, key)
        due = None
        if self.execute(merging.FILTERS, {"name": merge.name})[0][0]:
            due = self.execute(merge.due)[0][0]
        version = self._connection.info.server_version
        taken = sum(self.change(statement) for statement in merge.statements(version))
        return Merged(taken, due)

    def merge_blocker(self, table: Sequence[str], key: Sequence[str]) -> str | None:
        from . import merging  # for upserts alone

        return merging.blocker(self._connection, table, key)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self.execute("savepoint mapper_rows")
        try:
            yield
            # What is checked at the end of a transaction could no longer be laid to one row.
            self.execute_later("set constraints all immediate")
            self.execute("release savepoint mapper_rows")
        except BaseException:
            self._forget()
            # A connection that is lost has nothing to take back.
            with suppress(psycopg.Error):
                session.end_statement(self._raw)
                self.execute("rollback to savepoint mapper_rows")
            raise

    def create_stage(
        self,
        stage: Sequence[str],
        target: Sequence[str],
        columns: Sequence[str],
        *,
        checked: bool = False,
    ) -> None:
        name, listed = session.identifier(*stage), _listed(columns)
        chunk = session.identifier(STAGE_CHUNK)
        self.execute(f"drop table if exists {name}")
        try:
            self.execute(
                f"create table {name} as select {listed}, null::integer as {chunk}"
                f" from {session.identifier(*target)} with no data"
            )
        except psycopg.errors.TooManyColumns as error:
            msg = (
                f"the stage that this load needs has one column more than its {len(columns)}, and"
                f" {errors.words(error)}: select one column less, or load with load_mode='append'"
            )
            raise TargetError(msg) from error
        # Rows come as COPY blocks that nobody takes apart, so the chunk's id is a default.
        defaults = [(STAGE_CHUNK, f"current_setting('{_CHUNK_SETTING}')::integer")]
        if checked:
            # What a function does not return is to pass the checks as it will in the target. From
            # the target's own catalog, already as SQL.
            found = self.execute(catalog.DEFAULTS, {"name": session.identifier(*target)})
            defaults += [(column, default) for column, default in found if column in columns]
        for column, default in defaults:
            quoted = session.identifier(column)
            self.execute(f"alter table {name} alter column {quoted} set default {default}")
        if checked:
            self._copy_checks(name, session.identifier(*target), columns)

    def _copy_checks(self, stage: str, target: str, columns: Sequence[str]) -> None:
        for column, required, check in self.execute(catalog.CHECKS, {"name": target}):
            if required and column[0] in columns:
                quoted = session.identifier(column[0])
                self.execute(f"alter table {stage} alter column {quoted} set not null")
            elif check is not None and set(column) <= set(columns):
                # From the target's own catalog, already as SQL.
                self.execute(f"alter table {stage} add {check}")

    def checksums(
        self, stage: Sequence[str], columns: Sequence[Column], place: Place | None
    ) -> dict[int, Checksum]:
        name, chunk = session.identifier(*stage), session.identifier(STAGE_CHUNK)
        self.execute(f"lock table {name} in share mode")
        asked = checksum.total(self._connection, [(column, column) for column in columns])
        with self._time_zone(place):
            found = self.execute(
                # A row that says no chunk was written by nobody's worker: it is in chunk -1.
                f"select coalesce(q.{chunk}, -1), count(*), {asked} from {name} q group by 1"
            )
        return {number: Checksum(count, int(total)) for number, count, total in found}

    @contextmanager
    def _time_zone(self, place: Place | None) -> Iterator[None]:
        """Write times within other values as a session at `place` does."""
        if place is None:
            yield
            return
        set_to = "select set_config('TimeZone', :zone, true)"
        ((before,),) = self.execute("select current_setting('TimeZone')")
        self.execute(set_to, {"zone": place.time_zone})
        yield
        self.execute(set_to, {"zone": before})

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
        del of_json  # the rows of a function are packed already
        self._tell_chunk(staged_chunk)
        form = copy_format(path)
        statement = (
            f"copy {session.identifier(*table)} ({_listed(columns)}) from stdin (format {form})"
        )
        blocks = batches
        if path is DataPath.ROWS:
            blocks = _packed(batches, columns, self.columns(table), json_is_text=json_is_text)
        elif path is DataPath.ARROW:
            blocks = _written(batches, columns, self.columns(table))
        cursor = psycopg.Cursor(self._connection)
        with cursor.copy(statement.encode()) as copy:
            for block in blocks:
                copy.write(block)  # type: ignore[arg-type]  # a copy path carries bytes
        return cursor.rowcount

    def hold_columns(self, table: Sequence[str], columns: Sequence[Column]) -> None:
        name = session.identifier(*table)
        # Locks as writing does, and by the same rights, but writes nothing.
        self.execute_later(f"explain insert into {name} default values")
        planned = {column.name: column.type for column in columns}

        def compare(rows: list[Row]) -> None:
            if all(planned.get(each, kind) == kind for each, kind in rows):
                return
            for column in self.columns(table):
                then = planned.get(column.name, column.type)
                if column.type != then:
                    raise fitting.altered(column.name, ".".join(table), then, column.type)

        self._ask_later(catalog.TYPES, {"name": name}, compare)

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
        self._tell_chunk(staged_chunk)
        names = ", ".join(key_columns([column.name for column in plan.columns]))
        rows = Statements(self._connection, plan.snapshot).rows(query, plan, chunk)
        cursor = psycopg.Cursor(self._connection)
        # Without values, so that psycopg reads none of the query's own `%`.
        cursor.execute(
            f"insert into {session.identifier(*table)} ({_listed(columns)})"
            f" select {names} from {rows}".encode()
        )
        taken = cursor.rowcount
        unseen.check(self._connection, plan.snapshot)
        return taken

    def _tell_chunk(self, staged_chunk: int | None) -> None:
        if staged_chunk is not None:
            self.execute_later(
                f"select set_config('{_CHUNK_SETTING}', :chunk, true)",
                {"chunk": str(staged_chunk)},
            )


def _packed(
    batches: Iterable[Batch],
    columns: Sequence[str],
    table: Sequence[Column],
    *,
    json_is_text: bool,
) -> Iterator[bytes]:
    from .packer import PACKED_ROWS, packer_for  # for rows of Python values alone

    packer = packer_for(table, json_is_text=json_is_text)
    for rows in map(rows_of, batches):
        for start in range(0, len(rows), PACKED_ROWS):
            yield packer.rows(columns, rows[start : start + PACKED_ROWS])


def _written(
    batches: Iterable[Batch], columns: Sequence[str], table: Sequence[Column]
) -> Iterator[bytes]:
    from . import arrow  # pyarrow is there where it is wanted

    by_name = {column.name: column for column in table}
    mine = [by_name[name] for name in columns]
    for batch in batches:
        yield arrow.write(batch, mine)


class PostgreSQLWriter:
    """One connection to the target."""

    def __init__(self, connection: saying.Connection, settings: Mapping[str, str]) -> None:
        self._connection = connection
        self._ending = Ending(connection)
        self._settings = settings
        self._setting = session.setting(connection, settings)

    def cancel(self) -> None:
        self._ending.ask()

    @contextmanager
    def begin(self, snapshot: Snapshot | None = None) -> Iterator[PostgreSQLTransaction]:
        joins = snapshot is not None and snapshot.id is not None
        # Whatever the server's default: a claim must see the claims of others.
        level = "repeatable read" if joins else "read committed"
        begin, _ = session.beginning(self._connection, f"isolation level {level}")
        setting = self._setting
        if joins:
            setting = session.setting(self._connection, self._settings, snapshot)
        opening = (begin, *setting)
        transaction = PostgreSQLTransaction(self._connection, () if joins else opening)
        try:
            if snapshot is not None and joins:
                session.join(self._connection, snapshot, *opening)
            yield transaction
            transaction.commit()
        except BaseException:
            # The first error is the one to report.
            transaction.roll_back()
            raise


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(session.identifier(column) for column in columns)
