"""Ctrl-C and SIGTERM: the first one stops cleanly, the second one ends the process at once.

Signals are heard by a thread of their own, through a pipe: it can act while the main thread waits
in a driver, and takes no lock that an interrupted main thread might hold.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import FrameType

_HEARD = (signal.SIGINT, signal.SIGTERM)

# No signal's number. Says that the main thread has noted one and goes on, because rows had begun
# to move by then, if only after the number was read here.
_ROWS_MOVE = b"\xff"

_CLEANLY = (
    "Stopping: unfinished chunks are rolled back, finished ones stay. A second signal ends the"
    " process at once.\n"
)
_AT_ONCE = (
    "Ended at once. What was not committed is rolled back; `mapper loads` shows what is finished.\n"
)


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end while no row was moving, so there was nothing to finish."""


class Stopping:
    """Hears signals until the block ends; see the module's docstring."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The first signal heard."""
        self._stop: Callable[[], None] | None = None

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that the signal has ended."""
        return 128 + (self.signal or 0)

    def rows_move(self, stop: Callable[[], None]) -> None:
        """From now on the first signal calls `stop`, in another thread, and nothing else."""
        self._stop = stop

    def __enter__(self) -> "Stopping":
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._woken_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        # One that the parent has silenced, as a shell does for a job in the background, stays so.
        self._handled_before = {
            number: signal.signal(number, self._interrupt)
            for number in _HEARD
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        self._thread = Thread(target=self._hear, name="mapper signals")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handled_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._woken_before)
        os.write(self._pipe[1], b"\0")
        self._thread.join()
        for end in self._pipe:
            os.close(end)

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or number
        if self._stop is None:
            raise Interrupted
        os.write(self._pipe[1], _ROWS_MOVE)

    def _hear(self) -> None:
        heard, stopping = 0, False
        while number := os.read(self._pipe[0], 1)[0]:
            if number in _HEARD:
                heard += 1
            elif number != _ROWS_MOVE[0]:
                continue
            if heard > 1:
                _tell(_AT_ONCE)
                os._exit(128 + number)
            if self._stop is not None and not stopping:
                stopping = True
                _tell(_CLEANLY)
                self._stop()


def _tell(text: str) -> None:
    """Write to standard error past Python's buffer, which the main thread may be using."""
    start = "\r\x1b[K" if os.isatty(2) else ""
    with suppress(OSError):  # nobody reads it
        os.write(2, (start + text).encode())
