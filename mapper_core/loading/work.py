"""What the workers of one call share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import TYPE_CHECKING

from ..connections import PoolUsedUpError
from ..errors import RejectLimitError, TransformProcessError
from ..model import Chunk, DataPath, Mapping, Plan
from ..origins import told
from ..passwords import hidden
from ..protocols import Source
from ..query import Query
from ..results import ChunkResult, ChunkStatus
from ..retry import RetryHandler, first_line
from ..target_side import WrittenTable

if TYPE_CHECKING:
    from ..transform.processes import TransformProcesses


class RejectBudget:
    """How many rows of a load may be refused, counted over all its workers."""

    def __init__(self, limit: int | None, taken: int = 0) -> None:
        self._limit = limit
        self._taken = taken
        self._lock = Lock()

    def take(self, why: str) -> None:
        """Count one more refused row. Raises RejectLimitError when that is one too many.

        It says `why` that one was refused: mostly the others were for the same reason.
        """
        with self._lock:
            if self._limit is not None and self._taken >= self._limit:
                msg = (
                    f"more than {self._limit} rows were refused, the most that reject_limit"
                    " allows: fix the rows or the target, or raise or remove the limit. The last"
                    f" one: {why}"
                )
                raise RejectLimitError(msg)
            self._taken += 1

    def give_back(self, rows: int) -> None:
        """Forget refused rows whose chunk was rolled back."""
        with self._lock:
            self._taken -= rows

    def take_again(self, rows: int) -> None:
        """Count refused rows, given back before, whose chunk had committed after all."""
        with self._lock:
            self._taken += rows

    def anew(self) -> "RejectBudget":
        """Return one of the same limit for a load of which nothing is in any more."""
        return RejectBudget(self._limit)


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers of one call share; nothing in it changes."""

    plan: Plan
    mapping: Mapping
    query: Query
    source: Source
    table: WrittenTable | None
    """What they write to; None for a load without target."""
    retry: RetryHandler
    stop: Event
    should_stop: Callable[[], bool] | None = None
    """The caller's own function, asked now and then."""
    rejects: RejectBudget | None = None
    """How many rows may be refused; None when one is enough to fail its chunk."""
    has_neighbours: bool = False
    """Whether other processes run other chunks of the load."""
    stop_on_error: bool = False
    """Whether a chunk that fails stops the others."""
    processes: "TransformProcesses | None" = None
    """Where the transform runs, when not in the workers' own threads."""

    @property
    def writes_to(self) -> WrittenTable:
        """The table, for whoever has come so far that there is one."""
        assert self.table is not None  # noqa: S101 - for the type checker
        return self.table

    @property
    def in_server(self) -> bool:
        """Whether rows never leave the database that they come from."""
        return self.plan.data_path is DataPath.IN_SERVER

    def is_transient(self, error: BaseException) -> bool:
        """Ask the databases whether trying again may help."""
        target = self.table.database if self.table else None
        if isinstance(error, TransformProcessError):
            return True
        return self.source.is_transient(error) or (
            target is not None and target.is_transient(error)
        )

    def is_crowded(self, error: BaseException) -> bool:
        """Whether a database, or a pool, has no connection left for us."""
        if isinstance(error, PoolUsedUpError):
            return True
        target = self.table.database if self.table else None
        return self.source.is_crowded(error) or (target is not None and target.is_crowded(error))

    def failed(
        self, chunk: Chunk, words: str, rows: int | None = None, *, in_doubt: bool = False
    ) -> ChunkResult:
        """Return the result of a chunk that is not in, or of which nobody knows whether it is.

        The rows of one in doubt are counted only where nobody sees them yet.
        """
        failed = ChunkResult(
            chunk_id=chunk.id, status=ChunkStatus.FAILED, rows_read=rows, error=words
        )
        return self.doubtful(failed, "its COMMIT got no answer", words) if in_doubt else failed

    def doubtful(self, result: ChunkResult, why: str, words: str) -> ChunkResult:
        """Return the result of a chunk that may be in: why, and what asking met, in words."""
        error = (
            f"it is not known whether the chunk's rows are in the target: {why}, and the target"
            f" has not been reached since ({words}). Run the load again with the same load id,"
            f" {self.plan.load_id} (in Dagster: re-execute from failure): the chunk is loaded"
            " then, unless the ledger shows that it is finished"
        )
        staged = self.table is not None and self.table.staged
        return replace(
            result,
            status=ChunkStatus.FAILED,
            rows_read=result.rows_read if staged else None,
            rows_written=0,
            rows_rejected=0,
            error=error,
            in_doubt=True,
        )

    def words(self, error: BaseException) -> str:
        """Return what happened, in the words of the database where it was one."""
        explain = [self.source.explain]
        if self.table:
            explain.append(self.table.database.explain)
        said = next((words for ask in explain if (words := ask(error))), None)
        if said is None:
            return first_line(error)
        return f"{type(error).__name__}: {hidden(said)}{told(error)}"
