"""The tables that the ledger is kept in: their definitions, made on first use, and their names."""

from collections.abc import Callable

from ..errors import LedgerError, StaleLoadError
from ..protocols import LedgerDialect, Target, Transaction

VERSION = 3
"""Raised with every change of the tables below, or of the plans kept in them."""

LONGEST_NAME = 400
"""Characters of a varchar that every database can index. Load ids hold run id, asset key and
partition key."""

_NAME = f"varchar({LONGEST_NAME})"


class Tables:
    """The tables of one ledger, and what is asked of them on every side."""

    def __init__(self, target: Target, schema: str) -> None:
        self._target = target
        self._schema = schema
        self._facts = target.ledger_dialect
        self.names = {
            name: target.quote(*self.table(name))
            for name in ("load", "chunk", "claim", "version", "reject")
        }
        self._load, self._chunk, self._claim, self._version, self._reject = self.names.values()

    def table(self, name: str) -> tuple[str, ...]:
        """Return the parts of the name of a table that belongs to the ledger."""
        if self._target.has_schemas:
            return (self._schema, name)
        return (f"{self._schema}_{name}",)

    def prepare(self, transaction: Transaction) -> None:
        """Create the ledger's tables where they are missing.

        Raises LedgerError when they are of another version than this code writes.
        """
        found = self._found_version(transaction)
        if found is None:
            # Two first loads at once must not both create them.
            transaction.lock(f"ledger {self._schema}")
            if self._target.has_schemas:
                transaction.create_schema(self._schema)
            _create(transaction, self.table, self._facts)
            found = self._found_version(transaction)
            if found is None:
                found = VERSION
                transaction.execute(
                    f"insert into {self._version} (version) values (:version)",
                    {"version": found},
                )
        self._check_version(found)

    def is_there(self, transaction: Transaction) -> bool:
        """Whether there is a ledger; makes none. Raises LedgerError as `prepare` does."""
        found = self._found_version(transaction)
        if found is not None:
            self._check_version(found)
        return found is not None

    def _found_version(self, transaction: Transaction) -> int | None:
        """Return the version of the ledger; None where there is none, or one half made.

        The row that says it comes last: where a definition commits, tables may be there without it.
        """
        if not transaction.columns(self.table("version")):
            return None
        found: int | None = transaction.execute(f"select max(version) from {self._version}")[0][0]
        return found

    def _check_version(self, found: int) -> None:
        if found != VERSION:
            msg = (
                f"the ledger in schema {self._schema!r} has version {found}, but this release of"
                f" mapper writes version {VERSION}: use the release that created it, or set"
                " MAPPER_LEDGER_SCHEMA to start another ledger"
            )
            raise LedgerError(msg)

    def _hold(self, transaction: Transaction, load_id: str, lock: str) -> tuple[int, str]:
        """Return a load's epoch and status, its row locked by how the SELECT ends.

        Raises StaleLoadError when it is gone.
        """
        rows = transaction.execute(
            f"select epoch, status from {self._load} where load_id = :load_id {lock}",
            {"load_id": load_id},
        )
        if not rows:
            msg = f"the ledger has no load {load_id}: it was removed while it ran. Start a new load"
            raise StaleLoadError(msg)
        return rows[0][0], rows[0][1]


def _create(
    transaction: Transaction, table: Callable[[str], tuple[str, ...]], dialect: LedgerDialect
) -> None:
    """Create the tables that are missing; `table` returns the parts of a name of theirs."""
    transaction.create_missing(table("version"), "version integer")
    transaction.create_missing(
        table("load"),
        f"""
        load_id {_NAME} not null primary key,
        load_group {_NAME},
        generation integer not null,
        epoch integer not null,
        status varchar(20) not null,
        target {_NAME},
        query_hash varchar(64) not null,
        plan {dialect.text} not null,
        verified {dialect.text},
        created_at {dialect.timestamp} not null,
        published_at {dialect.timestamp}""",
    )
    transaction.create_missing(
        table("chunk"),
        f"""
        load_id {_NAME} not null,
        chunk_id integer not null,
        bounds {dialect.text} not null,
        primary key (load_id, chunk_id)""",
    )
    transaction.create_missing(
        table("claim"),
        f"""
        load_id {_NAME} not null,
        chunk_id integer not null,
        epoch integer not null,
        done integer not null,
        rows_read {dialect.bigint},
        rows_written {dialect.bigint},
        rows_rejected {dialect.bigint},
        bytes {dialect.bigint},
        attempts integer,
        seconds double precision,
        worker integer,
        checksum varchar(60),
        written_columns {dialect.text},
        started_at {dialect.timestamp},
        finished_at {dialect.timestamp},
        primary key (load_id, chunk_id)""",
    )
    transaction.create_missing(
        table("reject"),
        f"""
        load_id {_NAME} not null,
        chunk_id integer not null,
        source_row {dialect.text} not null,
        error {dialect.text} not null,
        code {_NAME} not null,
        rejected_at {dialect.timestamp} not null""",
    )


def lock_name(load_id: str) -> str:
    """Return the name of the lock by which a load is held where a snapshot hides its row."""
    return f"load {load_id}"
