"""An Oracle database in both roles: its sessions, its read points, and what it can do."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import oracledb

from ...connections import Opener
from ...errors import SnapshotLostError
from ...model import Column, DataPath, LoadWindow, Snapshot
from ...protocols import LedgerDialect, Place, Source, Target
from ...query import Query
from . import direct_path, errors, fitting, session
from .reader import OracleReader
from .statements import AS_OF, FLASHBACK, Statements, point_of
from .target import OracleWriter
from .types import ZONED

logger = logging.getLogger(__name__)

# Where the present SCN may be asked for, exact ones first. The last is some seconds old, and
# everybody may ask for it.
_SCNS = (
    ("DBMS_FLASHBACK", "dbms_flashback.get_system_change_number as scn from dual"),
    ("V$DATABASE", "current_scn as scn from v$database"),
    ("TIMESTAMP_TO_SCN", "timestamp_to_scn(systimestamp) as scn from dual"),
)

_ENABLE = "begin dbms_flashback.enable_at_system_change_number(:scn); end;"
_DISABLE = "begin dbms_flashback.disable; end;"

# A second session, to define tables on, is one more than the pair that a load needs.
_ONE_MORE = 3


def connect(opener: Opener, *, application: str, time_zone: str | None) -> "Oracle":
    """Return the database behind `opener`; see `adapters.database`."""
    return Oracle(opener, application, time_zone)


class Oracle:
    """An Oracle database."""

    kind = "oracle"
    windows_in_utc = False
    dialect = "oracle"
    shares_snapshots = snapshots_last = True
    json_is_text = True
    has_schemas = False
    parallel_writers = True
    merges = True
    ledger_dialect = LedgerDialect(
        text="clob",
        bigint="number(19)",
        timestamp="timestamp",
        share_lock="",
        update_lock="for update wait 60",
        skip_locked="for update skip locked",
        now="sys_extract_utc(systimestamp)",
        looks_again=True,
    )

    def __init__(self, opener: Opener, application: str, time_zone: str | None) -> None:
        self._opener = opener
        self._application = application
        self._time_zone = time_zone
        self.limit = opener.limit
        self.sole = opener.sole
        with_arrow = find_spec("pyarrow") is not None
        self.paths = frozenset({DataPath.ROWS, *([DataPath.ARROW] if with_arrow else [])})

    def for_query(self, query: Query) -> "Oracle":
        del query  # a connection given is read from as it is, and has no transaction open
        return self

    @contextmanager
    def snapshot(
        self, query: Query, on_lost: Callable[[str], None] | None = None
    ) -> Iterator[Snapshot]:
        """Take an SCN. Nothing is held: undo is what keeps it, for as long as it lasts."""
        del on_lost
        with self._session() as connection:
            snapshot = _read_point(connection)
            snapshot = _reachable(connection, query, snapshot)
        yield snapshot

    def written_out(self, query: Query) -> str:
        return query.render(lambda _, value: _literal(value))

    @contextmanager
    def open_reader(
        self, snapshot: Snapshot | None, *, one_of_several: bool = False
    ) -> Iterator[OracleReader]:
        del one_of_several  # a query runs in parallel there where somebody has asked for it
        with self._session() as connection:
            point = point_of(snapshot)
            if snapshot is not None and point is not None:
                _check_reached(connection, snapshot, point[1])
            if point is None or point[0] == AS_OF:
                yield OracleReader(connection, snapshot)
                return
            _enable(connection, point[1])
            try:
                yield OracleReader(connection, snapshot)
            finally:
                with suppress(oracledb.Error):  # a connection that broke has no mode to leave
                    session.run(connection, _DISABLE)

    @contextmanager
    def open_writer(self) -> Iterator[OracleWriter]:
        with self._session(defines=True) as connection:

            @contextmanager
            def definer() -> Iterator[oracledb.Connection]:
                if not self._has_another:
                    yield connection
                    return
                with self._session(defines=True) as another:
                    yield another

            yield OracleWriter(connection, definer)

    def sharing(self, settings: Mapping[str, str]) -> "Oracle":
        del settings  # no session of ours takes what its statements mean from the server
        return self

    @property
    def _has_another(self) -> bool:
        """Whether a writer can have a second session beside its own."""
        return not self.sole and (self.limit is None or self.limit >= _ONE_MORE)

    def quote(self, *names: str) -> str:
        return session.quoted(*names)

    def table_blocker(self, table: Sequence[str]) -> None:
        del table  # what one connection alone sees is read and written on that one

    def as_created(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        return tuple(replace(c, type=fitting.word_for(c), type_id=None) for c in columns)

    def data_path(
        self,
        offered: frozenset[DataPath],
        pairs: Sequence[tuple[Column, Column]],
        table: Sequence[Column],
    ) -> tuple[DataPath, str]:
        del offered, table
        fitting.check(pairs)
        return DataPath.ROWS, "Oracle is written with arrays of Python rows"

    def no_direct_path(self, columns: Sequence[Column]) -> str | None:
        if not self._has_another:
            return "it commits by itself, and no connection can be had for it alone"
        return direct_path.refusal(columns)

    def packer(
        self, columns: Sequence[Column], table: Sequence[Column], *, json_is_text: bool
    ) -> None:
        del columns, table, json_is_text  # rows are bound, not written

    def insert_select_blocker(
        self,
        query: Query,
        snapshot: Snapshot,
        place: Place | None,
        table: Sequence[str],
        pairs: Sequence[tuple[Column, Column]],
    ) -> str | None:
        del query, snapshot, place, table, pairs
        return "source and target are not one PostgreSQL database"

    def checksum_blocker(
        self, source_kind: str, pairs: Sequence[tuple[Column, Column]]
    ) -> str | None:
        del source_kind, pairs
        return "the values of Oracle's rows have no canonical text here"

    def window_bounds(self, window: LoadWindow) -> tuple[Any, Any]:
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
        return errors.words(error)

    def _session(self, *, defines: bool = False) -> AbstractContextManager[oracledb.Connection]:
        return session.borrowed(
            self._opener,
            application=self._application,
            time_zone=self._time_zone,
            defines=defines,
        )


def _read_point(connection: oracledb.Connection) -> Snapshot:
    """Return the present SCN, from wherever this user may ask for it."""
    refused = []
    for name, where in _SCNS:
        asked = (
            f"select to_char(p.scn), to_char(systimestamp, '{ZONED}'),"
            f" sys_context('userenv', 'db_unique_name') from (select {where}) p"
        )
        try:
            scn, instant, server = session.run(connection, asked).fetchone()
        except oracledb.DatabaseError as error:
            if not errors.is_denied(error):
                raise
            refused.append(f"{name}: {errors.words(error)}")
            continue
        about = ", some seconds old" if name == "TIMESTAMP_TO_SCN" else ""
        described = f"SCN {scn} of {instant}{about}"
        return Snapshot(f"{AS_OF} {scn}", described, instant=instant, server=server)
    msg = (
        f"this user cannot read the current SCN ({'; '.join(refused)}): grant execute on"
        " DBMS_FLASHBACK or select on V$DATABASE, or pass snapshot=False to read each chunk at"
        " its own moment"
    )
    raise SnapshotLostError(msg)


def _reachable(connection: oracledb.Connection, query: Query, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot as the query can be read there.

    By a clause behind each table where the query allows it, else by the session's own mode.
    """
    _, scn = point_of(snapshot) or ("", 0)
    refused = "not every table of the query has a place for AS OF SCN"
    if query.reads_at:
        asked = Statements(snapshot).query(query)
        try:
            session.run(connection, f"select 1 from (\n{asked.sql}\n) q where 1 = 0", asked.values)
            return snapshot
        except oracledb.DatabaseError as error:
            if errors.code_of(error) != errors.NO_RIGHT:
                if errors.is_transient(error):
                    raise
                # What is wrong with the query is said where it is described.
                return snapshot
            refused = f"AS OF SCN: {errors.words(error)}"
    try:
        _enable(connection, scn)
        session.run(connection, _DISABLE)
    except oracledb.DatabaseError as error:
        if errors.is_transient(error):
            raise
        msg = (
            f"the query cannot be read at one SCN ({refused}; DBMS_FLASHBACK:"
            f" {errors.words(error)}): grant FLASHBACK on its tables or execute on DBMS_FLASHBACK,"
            " or pass snapshot=False to read each chunk at its own moment"
        )
        raise SnapshotLostError(msg) from error
    logger.info("the source is read in flashback mode: %s", refused)
    return replace(
        snapshot,
        id=f"{FLASHBACK} {scn}",
        description=f"{snapshot.description}, by the session's flashback mode ({refused})",
    )


def _enable(connection: oracledb.Connection, scn: int) -> None:
    connection.rollback()  # the mode is not entered within a transaction
    session.run(connection, _ENABLE, {"scn": scn})


def _check_reached(connection: oracledb.Connection, snapshot: Snapshot, scn: int) -> None:
    """Raise SnapshotLostError when the database has forgotten the SCN, or is another one."""
    try:
        found = session.run(
            connection,
            "select sys_context('userenv', 'db_unique_name'),"
            f" to_char(scn_to_timestamp({scn})) from dual",
        ).fetchone()
    except oracledb.DatabaseError as error:
        if errors.code_of(error) not in errors.FORGOTTEN:
            raise
        msg = f"{snapshot.description} is gone: {errors.words(error)}"
        raise SnapshotLostError(msg) from error
    if found[0] != snapshot.server:
        msg = f"{snapshot.description} is of the database {snapshot.server}, but this is {found[0]}"
        raise SnapshotLostError(msg)


def _literal(value: Any) -> str:
    """Write a value as it may stand in a query that is only looked at."""
    return "'{}'".format(str(value).replace("'", "''"))


# The type checker reads these lines as: this class keeps both promises.
_source: type[Source] = Oracle
_target: type[Target] = Oracle
