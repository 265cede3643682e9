"""What a target's ledger has to tell, for people: its loads, and the chunks of one. Reads only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from . import adapters
from .connections import opener_of
from .errors import LedgerError
from .in_words import in_words
from .ledger import Ledger, LoadRecord, lists
from .ledger.lists import LoadSummary
from .model import Chunk
from .protocols import Transaction
from .results import ChunkResult, Reject, RejectCause
from .retry import RetryConfig, RetryHandler
from .settings import resolve

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadChunks:
    """A load with what is in and what is not."""

    record: LoadRecord
    finished: tuple[ChunkResult, ...]
    """By their id; of a stream, its pieces, and the stream itself once all of it is in."""
    missing: tuple[Chunk, ...]

    @property
    def rows_in(self) -> int:
        """How many source rows of the finished chunks were taken."""
        return sum((chunk.rows_read or 0) - chunk.rows_rejected for chunk in self.finished)

    @property
    def rows_rejected(self) -> int:
        """How many of them were refused."""
        return sum(chunk.rows_rejected for chunk in self.finished)


def loads(target_conn: Any, *, ledger_schema: str | None = None) -> tuple[LoadSummary, ...]:
    """Return the loads that a target's ledger knows, newest first; none where there is no ledger.

    Raises MapperError when the target cannot be asked.
    """

    def ask(ledger: Ledger, transaction: Transaction) -> tuple[LoadSummary, ...]:
        return lists.summaries(ledger, transaction)

    return _asked(target_conn, ledger_schema, ask) or ()


def chunks(target_conn: Any, load_id: str, *, ledger_schema: str | None = None) -> LoadChunks:
    """Return what a target's ledger knows of one load.

    Raises:
        LedgerError: it has no load of that id.
        MapperError: the target cannot be asked.
    """

    def ask(ledger: Ledger, transaction: Transaction) -> LoadChunks | None:
        return _chunks(ledger, transaction, load_id)

    return _known(load_id, _asked(target_conn, ledger_schema, ask))


def newest_of(
    target_conn: Any, load_group: str, *, ledger_schema: str | None = None
) -> LoadChunks | None:
    """Return what a target's ledger knows of the newest load of a group; None where it has none.

    For groups see `ParallelProcessor.plan_load`. Raises MapperError as `loads` does.
    """

    def ask(ledger: Ledger, transaction: Transaction) -> LoadChunks | None:
        loads = ledger.group(transaction, load_group)
        return _chunks(ledger, transaction, loads[0][0]) if loads else None

    return _asked(target_conn, ledger_schema, ask)


def published_rows(
    target_conn: Any, target: str, *, ledger_schema: str | None = None
) -> tuple[tuple[str, int], ...]:
    """Return the group and the rows written of each published load of a table, latest last.

    Args:
        target_conn: the target, given in any of the ways that a load takes.
        target: the table as loads were told of it, e.g. `dw.fact_orders`.
        ledger_schema: where the ledger is, if not where the settings say.

    Loads that were not planned for a group (see `ParallelProcessor.plan_load`) are not among them.
    Raises MapperError when the target cannot be asked.
    """

    def ask(ledger: Ledger, transaction: Transaction) -> tuple[tuple[str, int], ...]:
        return lists.published_rows(ledger, transaction, target)

    return _asked(target_conn, ledger_schema, ask) or ()


def rejects(
    target_conn: Any, load_id: str, *, ledger_schema: str | None = None
) -> tuple[Reject, ...]:
    """Return the rows that a load left out, by chunk.

    Raises:
        LedgerError: the ledger has no load of that id, of which nobody can say that it left none.
        MapperError: the target cannot be asked.
    """
    return tuple(_about_rejects(target_conn, load_id, ledger_schema, lists.rejects))


def reject_causes(
    target_conn: Any, load_id: str, *, ledger_schema: str | None = None
) -> tuple[RejectCause, ...]:
    """Return why rows of a load were left out, the most frequent cause first.

    Tells no row's values. Raises as `rejects` does.
    """
    return _about_rejects(target_conn, load_id, ledger_schema, lists.reject_causes)


def _about_rejects(
    target_conn: Any,
    load_id: str,
    ledger_schema: str | None,
    find: Callable[[Ledger, Transaction, str], T],
) -> T:
    """Return what the ledger says of a load's rejects. Raises LedgerError for an unknown load."""

    def ask(ledger: Ledger, transaction: Transaction) -> T | None:
        if ledger.find(transaction, load_id) is None:
            return None
        return find(ledger, transaction, load_id)

    return _known(load_id, _asked(target_conn, ledger_schema, ask))


def _chunks(ledger: Ledger, transaction: Transaction, load_id: str) -> LoadChunks | None:
    record = ledger.find(transaction, load_id)
    if record is None:
        return None
    finished = ledger.finished(transaction, load_id)
    return LoadChunks(
        record,
        tuple(finished[number] for number in sorted(finished)),
        tuple(chunk for chunk in record.plan.chunks if chunk.id not in finished),
    )


def _known(load_id: str, found: T | None) -> T:
    if found is None:
        msg = f"the ledger has no load {load_id!r}: `mapper loads` lists those it has"
        raise LedgerError(msg)
    return found


def _asked(
    target_conn: Any, ledger_schema: str | None, ask: Callable[[Ledger, Transaction], T]
) -> T | None:
    """Ask the ledger, again after transient errors; None where there is no ledger."""
    settings = resolve({"ledger_schema": ledger_schema})
    target = adapters.database(
        opener_of(target_conn, role="target_conn"), application="mapper history"
    )
    ledger = Ledger(target, settings.ledger_schema)

    def look() -> T | None:
        with target.open_writer() as writer, writer.begin() as transaction:
            return ask(ledger, transaction) if ledger.is_there(transaction) else None

    retries = settings.max_retries if settings.enable_retry else 0
    with in_words("read the ledger", [target]):
        return RetryHandler(RetryConfig(max_retries=retries)).execute_with_retry(
            look, is_transient=target.is_transient, name="read the ledger"
        )
