"""A database spoken to through SQLAlchemy, in both roles: sessions, and what it can do."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from ...connections import Opener
from ...model import Column, DataPath, LoadWindow, Snapshot
from ...protocols import LedgerDialect, Place, Source, Target
from ...query import Query
from .reader import GenericReader
from .sqlite import UnfitValueError, bound
from .writer import GenericWriter

# SQLAlchemy's dialect name -> sqlglot's, where they differ.
_SQLGLOT = {"mssql": "tsql", "mariadb": "mysql"}

_SQLITE_BUSY = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED (sqlite.org/rescode.html)


def connect(opener: Opener, *, application: str, time_zone: str | None) -> "Generic":
    """Return the database behind `opener`; see `adapters.database`."""
    del application, time_zone  # nothing that all databases have a place for
    return Generic(opener)


class Generic:
    """A database spoken to through SQLAlchemy."""

    paths = frozenset({DataPath.ROWS})
    shares_snapshots = snapshots_last = False
    json_is_text = True

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.kind = opener.dialect
        self.dialect = _SQLGLOT.get(opener.dialect, opener.dialect)
        self.limit = opener.limit
        self.sole = opener.sole
        self.windows_in_utc = opener.dialect == "sqlite"
        self.merges = opener.dialect == "sqlite"
        self.parallel_writers = opener.dialect != "sqlite"
        self.has_schemas = opener.dialect != "sqlite"
        lock = "" if opener.dialect == "sqlite" else "for update"
        self.ledger_dialect = LedgerDialect(
            text="text",
            bigint="bigint",
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
    def snapshot(
        self, query: Query, on_lost: Callable[[str], None] | None = None
    ) -> Iterator[Snapshot]:
        del query, on_lost  # nothing is held
        yield Snapshot(None, "one statement reads everything")

    @contextmanager
    def open_reader(
        self, snapshot: Snapshot | None, *, one_of_several: bool = False
    ) -> Iterator[GenericReader]:
        del snapshot, one_of_several  # nothing is held, and nobody says how
        with self._connection() as connection:
            yield GenericReader(connection)

    @contextmanager
    def open_writer(self) -> Iterator[GenericWriter]:
        with self._connection() as connection:
            yield GenericWriter(connection)

    def sharing(self, settings: Mapping[str, str]) -> "Generic":
        del settings  # nothing that all databases have a place for
        return self

    def written_out(self, query: Query) -> str:
        return query.render(lambda _, value: repr(value))

    def quote(self, *names: str) -> str:
        return ".".join(self._quote(name) for name in names)

    def table_blocker(self, table: Sequence[str]) -> None:
        del table  # what one connection alone sees is read and written on that one

    def as_created(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        return tuple(columns)

    def data_path(
        self,
        offered: frozenset[DataPath],
        pairs: Sequence[tuple[Column, Column]],
        table: Sequence[Column],
    ) -> tuple[DataPath, str]:
        del offered, pairs, table
        return DataPath.ROWS, f"{self.kind} is written with INSERT statements"

    def no_direct_path(self, columns: Sequence[Column]) -> str:
        del columns
        return "only Oracle has such a load"

    def packer(
        self, columns: Sequence[Column], table: Sequence[Column], *, json_is_text: bool
    ) -> None:
        del columns, table, json_is_text  # rows are written as they are

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
        return f"the values of {self.kind} rows have no canonical text here"

    def window_bounds(self, window: LoadWindow) -> tuple[Any, Any]:
        if self.kind == "sqlite":
            return bound(window.start), bound(window.end)
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

    def is_crowded(self, error: BaseException) -> bool:
        del error  # no code for it that all databases share
        return False

    def is_rolled_back(self, error: BaseException) -> bool:
        # Nothing is lost on the way to a file.
        return self.kind == "sqlite" or not self.is_transient(error)

    def is_duplicate(self, error: BaseException) -> bool:
        return isinstance(error, exc.IntegrityError)

    def row_error(self, error: BaseException) -> str | None:
        if isinstance(error, exc.IntegrityError | exc.DataError):
            return type(error.orig).__name__
        return "unfit value" if isinstance(error, UnfitValueError) else None

    def row_positions(self, error: BaseException) -> tuple[int, ...]:
        # No word for it that all databases share; values are looked at here.
        return (error.position,) if isinstance(error, UnfitValueError) else ()

    def explain(self, error: BaseException) -> str | None:
        # Its own words list the values that were bound.
        if isinstance(error, exc.StatementError) and error.orig is not None:
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


# The type checker reads these lines as: this class keeps both promises.
_source: type[Source] = Generic
_target: type[Target] = Generic
