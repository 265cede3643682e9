"""Sessions in use: another thread may end their statements, for as long as they are ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Protocol, TypeVar


class Cancellable(Protocol):
    """What runs statements."""

    def cancel(self) -> None:
        """End the statement that is running, from another thread; nothing where none is."""


SessionT = TypeVar("SessionT", bound=Cancellable)

# What a load that is stopped may still wait for, before that is ended too.
GRACE_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class Spared:
    """A session whose statements are ended only if they still run after a while."""

    session: Cancellable
    _since: float | None = None
    """When their end was asked for first."""

    def cancel(self) -> None:
        """End the statement that is running, if that was asked for long ago."""
        if self._since is None:
            self._since = monotonic()
        if monotonic() - self._since > GRACE_SECONDS:
            self.session.cancel()


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
