"""The tables that the ledger is kept in, made on first use."""

from collections.abc import Callable

from .protocols import LedgerDialect, Transaction

VERSION = 3
"""Raised with every change of the tables below, or of the plans kept in them."""

# A varchar that every database can index; load ids hold run id, asset key and partition key.
_NAME = "varchar(400)"


def create(
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
