"""Sessions in use: another thread may end their statements, for as long as they are ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol, TypeVar


class Cancellable(Protocol):
    """What runs statements."""

    def cancel(self) -> None:
        """End the statement that is running, from another thread; nothing where none is."""


SessionT = TypeVar("SessionT", bound=Cancellable)


class InUse:
    """The sessions that one piece of work has open at the moment."""

    def __init__(self) -> None:
        self._sessions: list[Cancellable] = []
        self._cancelling = Lock()

    @contextmanager
    def using(self, session: SessionT) -> Iterator[SessionT]:
        """Have a session's statements ended by `cancel` until the block ends.

        To be left before the session is given back: whoever has it next may run a statement.
        """
        self._sessions.append(session)
        try:
            yield session
        finally:
            # Where it is being cancelled, that is waited for.
            with self._cancelling:
                self._sessions.remove(session)

    def cancel(self) -> None:
        """End the statements that are running, from another thread."""
        for each in tuple(self._sessions):
            with self._cancelling:
                if each in self._sessions:  # given back meanwhile, it is somebody else's
                    each.cancel()
