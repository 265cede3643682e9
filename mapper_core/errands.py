"""Errands: what a load has to do outside of its chunks. Tried again, ended by a stop, in words."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from .errors import DatabaseError, IncompleteLoadError
from .in_words import in_words
from .protocols import Database
from .retry import RetryHandler
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
        with in_words(f"{purpose} load {self.load_id}", self.databases):
            return self.retry.execute_with_retry(
                work,
                is_transient=lambda error: any(d.is_transient(error) for d in self.databases),
                name=f"{purpose} load {self.load_id}",
            )

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
