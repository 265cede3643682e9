"""Databases and settings, as Dagster configures them."""

from collections.abc import Iterator
from collections.abc import Mapping as Dict
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg
from pydantic import Field

from mapper_core import Column, DatabaseError, ParallelProcessor, SettingsError, adapters
from mapper_core.connections import opener_of
from mapper_core.in_words import in_words
from mapper_core.protocols import Database, Transaction
from mapper_core.query import read_query
from mapper_core.row_values import left_out

ResourceT = TypeVar("ResourceT")


class DatabaseResource(dg.ConfigurableResource[Any]):
    """A database, given by its URL. Take it from an `EnvVar`: then no password is in the code."""

    url: str = Field(
        repr=False, description="dialect://user:password@host:port/database, from an EnvVar"
    )

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Open a DB-API connection of the database's own driver; close it at the end.

        Raises DatabaseError, as `transaction` does, when it cannot be opened.
        """
        opener = opener_of(self.url, role="the resource's url")
        with _without_values("connect to the database", self._database()):
            live = opener.open()
        try:
            yield live
        finally:
            opener.release(live)

    @contextmanager
    def transaction(self, *, time_zone: str | None = None) -> Iterator[Transaction]:
        """Open a transaction for small statements: commit on a clean exit, else roll back.

        `time_zone` is the zone in which dates and timestamps without a zone are compared with other
        moments. Raises DatabaseError, in the database's own words and without the URL, when a
        statement fails.
        """
        database = self._database(time_zone)
        with (
            _without_values("ask the database", database),
            database.open_writer() as writer,
            writer.begin() as transaction,
        ):
            yield transaction

    def columns(self, sql: str, values: Dict[str, Any] | None = None) -> tuple[Column, ...]:
        """Return a query's columns; read no rows. Raises QueryError, and as `transaction` does."""
        database = self._database()
        query = read_query(sql, values, dialect=database.dialect)
        with (
            _without_values("ask for the query's columns", database),
            database.open_reader(None) as reader,
        ):
            found: tuple[Column, ...] = reader.columns(query)
            return found

    def rows(self, sql: str, values: Dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement with its `:name`s bound to `values`; return its rows."""
        with self.transaction() as transaction:
            return transaction.execute(sql, values)

    def quote(self, *names: str) -> str:
        """Return `"schema"."table"` as this database has it, quoted so that any name is safe."""
        return str(self._database().quote(*names))

    def _database(self, time_zone: str | None = None) -> Any:
        opener = opener_of(self.url, role="the resource's url")
        return adapters.database(opener, application="mapper dagster", time_zone=time_zone)


def resource_of(context: Any, key: str, kind: type[ResourceT]) -> ResourceT:
    """Return a resource of a step's, a check's or a sensor's context.

    Raises SettingsError when there is something else under its key.
    """
    found = getattr(context.resources, key)
    if not isinstance(found, kind):
        msg = (
            f"the resource {key!r} is a {type(found).__name__}, not a {kind.__name__}: give"
            " Definitions one under that key, or name another key in the mapping"
        )
        raise SettingsError(msg)
    return found


@contextmanager
def _without_values(purpose: str, database: Database) -> Iterator[None]:
    """Raise errors as the core does; what they quote of rows is left out: Dagster records them."""
    try:
        with in_words(purpose, [database]):
            yield
    except DatabaseError as error:
        if (told := left_out(str(error))) == str(error):
            raise
        raise type(error)(told) from None


class MapperResource(dg.ConfigurableResource[Any]):
    """Settings of loads. Those not set here come from the environment, else from the defaults.

    `mapper_core.Settings` explains each.
    """

    enable_parallel: bool | None = None
    max_workers: int | None = None
    chunk_size: int | None = None
    min_rows_for_parallel: int | None = None
    enable_retry: bool | None = None
    max_retries: int | None = None
    ledger_schema: str | None = None

    def processor(self) -> ParallelProcessor:
        """Return a processor with these settings."""
        return ParallelProcessor(
            enable_parallel=self.enable_parallel,
            max_workers=self.max_workers,
            chunk_size=self.chunk_size,
            min_rows_for_parallel=self.min_rows_for_parallel,
            enable_retry=self.enable_retry,
            max_retries=self.max_retries,
            ledger_schema=self.ledger_schema,
        )
