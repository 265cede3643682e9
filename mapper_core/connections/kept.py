"""One connection kept from one step of a load to the next, instead of a new one for each."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock, get_ident
from typing import Any

from .opener import Opener


class Keeper:
    """Keeps one connection of each of several openers, until the block ends.

    Only what the thread that made it gives back is kept, so that a worker that makes room for
    others does make room; and nothing is once there is no connection to be had.
    """

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keeping(self, opener: Opener) -> Opener:
        """Return an opener that lends the connection it had back last, if that still serves."""
        if opener.serves_again is None:
            return opener
        place = _Place(self, opener, opener.serves_again)
        self._places.append(place)
        return replace(opener, open=place.open, release=place.release)

    def close(self) -> None:
        """Close what is kept."""
        for place in self._places:
            place.clear()


@dataclass(slots=True)
class _Place:
    """Where one connection waits for its next use."""

    keeper: Keeper
    opener: Opener
    serves_again: Callable[[Any], bool]
    _thread: int = field(default_factory=get_ident)
    _lock: Lock = field(default_factory=Lock)
    _kept: Any = None

    def open(self) -> Any:
        """Return the connection kept, or a new one."""
        if (found := self._taken()) is not None:
            if self.serves_again(found):
                return found
            self._end(found)
        try:
            return self.opener.open()
        except Exception:
            # What is kept may be what is missing: the next attempt finds its place free.
            self.keeper.close()
            raise

    def release(self, connection: Any) -> None:
        """Keep a connection, or close it when there is one already."""
        with self._lock:
            if self._kept is None and get_ident() == self._thread:
                self._kept = connection
                return
        self.opener.release(connection)

    def clear(self) -> None:
        """Close the connection kept."""
        if (found := self._taken()) is not None:
            self._end(found)

    def _taken(self) -> Any:
        with self._lock:
            found, self._kept = self._kept, None
        return found

    def _end(self, connection: Any) -> None:
        with suppress(Exception):  # nobody needs it any more, whatever has become of it
            self.opener.release(connection)
