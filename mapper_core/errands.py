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
from .stopping import InUse, cancelling

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Errands:
    """Those of one load. Each has a purpose, words that the load's name completes."""

    load_id: str
    databases: Sequence[Database]
    retry: RetryHandler
    stop: Event
    should_stop: Callable[[], bool] | None
    in_use: InUse
    """The sessions that are open for them on the target."""

    def do(self, purpose: str, work: Callable[[], T], *, stop: Event | None = None) -> T:
        """Do it, again after transient errors until `stop` is set.

        Raises DatabaseError in a database's words, when that is where it failed.
        """
        errand = f"{purpose} load {self.load_id}"
        with in_words(errand, self.databases):
            return self.retry.execute_with_retry(
                work,
                is_transient=lambda error: any(d.is_transient(error) for d in self.databases),
                stop=stop,
                name=errand,
            )

    def do_unless_stopped(
        self, purpose: str, work: Callable[[], T], *, give_up: Callable[[], None] | None = None
    ) -> T:
        """As `do`; raises IncompleteLoadError when somebody stops the load before or meanwhile.

        With `give_up` what has begun goes through: that ends only what it may wait for for ever.
        """
        msg = f"load {self.load_id} was stopped before mapper could {purpose} it"
        if self.stop.is_set():
            raise IncompleteLoadError(msg)
        try:
            with self.stopping(give_up or self.in_use.cancel):
                return self.do(purpose, work, stop=None if give_up else self.stop)
        except DatabaseError as error:
            if self.stop.is_set():
                raise IncompleteLoadError(msg) from error
            raise

    def stopping(self, cancel: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, call `cancel` as soon as the load is to stop."""
        return cancelling(self.stop, self.should_stop, cancel)
