"""A PostgreSQL database in both roles: sessions, snapshots, what it can do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import psycopg

from ...batches import Packer
from ...connections import Opener
from ...errors import SettingsError, SnapshotLostError
from ...model import Column, DataPath, LoadWindow, Snapshot
from ...protocols import LedgerDialect, Place, Source, Target
from ...query import Query
from . import caller, checksum, errors, in_server, meaning, saying, session, sockets, types
from .source import READ_NOW, PostgreSQLReader
from .statements import Statements
from .target import PostgreSQLWriter

_IDLE = "idle_in_transaction_session_timeout"

# The server's own parallel workers hand each row on through shared memory, and its planner knows
# nothing of the other chunks, which want the same cores. Without them, ranges of 200,000 of 6
# million rows, read by key by two workers on two cores, took an eighth less of the server's CPU.
_ONE_PROCESS = {"max_parallel_workers_per_gather": "0"}

# Longer application names are cut with a notice, and letters beyond ASCII are replaced.
# Source: PostgreSQL documentation, NAMEDATALEN, and application_name.
_NAME_BYTES = 63


def connect(opener: Opener, *, application: str, time_zone: str | None) -> "PostgreSQL":
    """Return the database behind `opener`; see `adapters.database`."""
    settings = {}
    if opener.model is not None:
        with opener.model() as live:
            settings = caller.settings_of(live)
    settings |= {
        "application_name": application.encode("ascii", "backslashreplace")[:_NAME_BYTES].decode(),
        "lock_timeout": session.LOCK_TIMEOUT,
        _IDLE: session.IDLE_TIMEOUT,
    }
    if time_zone is not None:
        settings["TimeZone"] = time_zone
    return PostgreSQL(opener, settings)


class PostgreSQL:
    """A PostgreSQL database; every session is a connection of its own."""

    kind = "postgresql"
    windows_in_utc = False
    dialect = "postgres"
    paths = frozenset(DataPath) - {DataPath.DIRECT}
    shares_snapshots = True
    snapshots_last = False
    json_is_text = False
    has_schemas = True
    parallel_writers = True
    merges = True
    ledger_dialect = LedgerDialect(
        text="text",
        bigint="bigint",
        timestamp="timestamptz",
        share_lock="for share",
        update_lock="for update",
        skip_locked="for update skip locked",
        # Source: PostgreSQL documentation, "Asynchronous Commit".
        asynchronous_commit="set local synchronous_commit = off",
    )

    def __init__(self, opener: Opener, settings: dict[str, str]) -> None:
        self._opener = opener
        self._settings = settings
        self.limit = opener.limit
        self.sole = opener.sole

    def for_query(self, query: Query) -> "PostgreSQL":
        given, model = self._opener.given, self._opener.model
        if model is None:
            return self
        with model() as live:
            asked_for, reason = caller.needs(live, query)
        settings = asked_for | self._settings
        if given is None or reason is None:
            return PostgreSQL(self._opener, settings)
        if not isinstance(given, psycopg.Connection):
            msg = (
                f"the query cannot be read: {reason}, and that is no psycopg 3 connection, the one"
                " kind that can be read from as it is. Commit first, or give a psycopg 3 connection"
            )
            raise SettingsError(msg)
        return PostgreSQL(self._opener.on_given(reason), settings)

    def table_blocker(self, table: Sequence[str]) -> str | None:
        given = self._opener.given
        if given is None or not caller.hides(given, table):
            return None
        return "is a temporary table of the connection given, which no other session sees"

    @contextmanager
    def snapshot(
        self, query: Query, on_lost: Callable[[str], None] | None = None
    ) -> Iterator[Snapshot]:
        with session.borrowed(self._opener) as connection:
            begin, _ = session.beginning(connection, READ_NOW)
            # Idle for as long as the load lasts: the server's own time-out must not end it.
            setting = session.setting(connection, self._settings | {_IDLE: "0"})
            saying.run_together(connection, begin, *setting)
            session.hold_tables(connection, self.written_out(query))
            try:
                asked = (
                    f"select pg_export_snapshot(), statement_timestamp()::text, {session.SERVER}"
                )
                meant, taken = saying.run_together(connection, (meaning.ASKED, None), (asked, None))
                row = taken.fetchone()
            except psycopg.Error as error:
                if errors.is_transient(error):
                    raise
                msg = (
                    f"this server cannot share a snapshot between sessions ({errors.words(error)})."
                    " Pass snapshot=False to read each chunk at its own moment"
                )
                raise SnapshotLostError(msg) from error
            described = f"snapshot {row[0]} of {row[1]}"
            snapshot = Snapshot(
                row[0],
                described,
                instant=row[1],
                server=row[2],
                settings=dict(meant.fetchall()),
            )
            if on_lost is None:
                yield snapshot
                return
            with session.watched(connection, lambda: on_lost(described)):
                yield snapshot

    def written_out(self, query: Query) -> str:
        return Statements(None, None).query(query)

    @contextmanager
    def open_reader(
        self, snapshot: Snapshot | None, *, one_of_several: bool = False
    ) -> Iterator[PostgreSQLReader]:
        settings = self._settings | (_ONE_PROCESS if one_of_several else {})
        with session.borrowed(self._opener) as connection:
            yield PostgreSQLReader(connection, snapshot, settings)

    @contextmanager
    def open_writer(self) -> Iterator[PostgreSQLWriter]:
        with (
            session.borrowed(self._opener) as connection,
            sockets.room_to_send(connection),
        ):
            yield PostgreSQLWriter(connection, self._settings)

    def sharing(self, settings: Mapping[str, str]) -> "PostgreSQL":
        return PostgreSQL(self._opener, meaning.shared(self._settings, settings))

    def quote(self, *names: str) -> str:
        return session.identifier(*names)

    def as_created(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        return tuple(replace(c, type=c.standard or c.type) for c in columns)

    def data_path(
        self,
        offered: frozenset[DataPath],
        pairs: Sequence[tuple[Column, Column]],
        table: Sequence[Column],
    ) -> tuple[DataPath, str]:
        return types.data_path(offered, pairs, table)

    def no_direct_path(self, columns: Sequence[Column]) -> str:
        del columns
        return "only Oracle has such a load; COPY is PostgreSQL's bulk path already"

    def packer(
        self, columns: Sequence[Column], table: Sequence[Column], *, json_is_text: bool
    ) -> Packer:
        from .packer import packer_for  # for rows of Python values alone

        return packer_for(table, columns, json_is_text=json_is_text)

    def insert_select_blocker(
        self,
        query: Query,
        snapshot: Snapshot,
        place: Place | None,
        table: Sequence[str],
        pairs: Sequence[tuple[Column, Column]],
    ) -> str | None:
        with self.open_writer() as writer:
            return in_server.blocker(writer, query, snapshot, place=place, table=table, pairs=pairs)

    def checksum_blocker(
        self, source_kind: str, pairs: Sequence[tuple[Column, Column]]
    ) -> str | None:
        if source_kind != self.kind:
            return f"the values of {source_kind} rows have no canonical text here"
        return checksum.blocker(pairs)

    def window_bounds(self, window: LoadWindow) -> tuple[datetime, datetime]:
        return window.start, window.end

    def is_transient(self, error: BaseException) -> bool:
        return errors.is_transient(error)

    def is_crowded(self, error: BaseException) -> bool:
        return errors.is_crowded(error)

    def is_rolled_back(self, error: BaseException) -> bool:
        return errors.is_rolled_back(error)

    def is_duplicate(self, error: BaseException) -> bool:
        return errors.is_duplicate(error)

    def row_error(self, error: BaseException) -> str | None:
        return errors.row_error(error)

    def row_positions(self, error: BaseException) -> tuple[int, ...]:
        return errors.row_positions(error)

    def explain(self, error: BaseException) -> str | None:
        return errors.words(error) if isinstance(error, psycopg.Error) else None


# The type checker reads these lines as: this class keeps both promises.
_source: type[Source] = PostgreSQL
_target: type[Target] = PostgreSQL
