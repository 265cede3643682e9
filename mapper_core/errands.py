"""Errands: what a load has to do outside of its chunks. Tried again, ended by a stop, in words."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from .errors import DatabaseError, DatabaseUnavailableError, IncompleteLoadError, MapperError
from .passwords import cause
from .protocols import Database
from .retry import RetryHandler, first_line
from .stopping import cancelling

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Errands:
    """Those of one load. Each has a purpose, words that the load's name completes."""

    load_id: str
    databases: Sequence[Database]
    retry: RetryHandler
    stop: Event
    should_stop: Callable[[], bool] | None

    def do(self, purpose: str, work: Callable[[], T]) -> T:
        """Do it, again after transient errors.

        Raises DatabaseError in a database's words, when that is where it failed.
        """
        try:
            return self.retry.execute_with_retry(
                work,
                is_transient=lambda error: any(d.is_transient(error) for d in self.databases),
                name=f"{purpose} load {self.load_id}",
            )
        except MapperError:
            raise
        except Exception as error:
            words = next((said for d in self.databases if (said := d.explain(error))), None)
            if words is None and isinstance(error, ConnectionError | TimeoutError):
                words = first_line(error)
            if words is None:
                raise
            passing = any(d.is_transient(error) for d in self.databases)
            kind = DatabaseUnavailableError if passing else DatabaseError
            msg = f"could not {purpose} load {self.load_id}: {words}"
            raise kind(msg) from cause(error)

    def do_unless_stopped(self, purpose: str, work: Callable[[], T]) -> T:
        """As `do`; raises IncompleteLoadError when somebody stops the load before or meanwhile."""
        msg = f"load {self.load_id} was stopped: there was still to {purpose} it"
        if self.stop.is_set():
            raise IncompleteLoadError(msg)
        try:
            return self.do(purpose, work)
        except DatabaseError as error:
            if self.stop.is_set():
                raise IncompleteLoadError(msg) from error
            raise

    def stopping(self, cancel: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, call `cancel` as soon as the load is to stop."""
        return cancelling(self.stop, self.should_stop, cancel)
