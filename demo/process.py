"""How a demo program ends: on success, on a known mistake, on Ctrl-C or SIGTERM."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# A closed terminal (SIGHUP) would otherwise leave the server running.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """Something the reader can cure; the message names the cause and the cure."""


class Interrupted(BaseException):
    """A signal asked the program to end."""


def say(text: str = "", *, end: str = "\n") -> None:
    """Print now: progress that sits in a buffer is no progress."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold signals back until the block has ended.

    The mask (unlike a handler) is inherited, so that a Ctrl-C, which the terminal
    sends to every process in the foreground, does not end `initdb` half-way either.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_signals() -> None:
    """Undo `uninterrupted` in a child that was started inside of it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


class _Received:
    """The signal that asked us to end, also while somebody else handles signals.

    During a run Dagster puts its own handlers in place, and may turn the signal into
    a failed step or forget it. The wakeup descriptor hears of it in any case.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def number(self) -> int | None:
        if self._number is None:
            try:
                self._number = os.read(self._read, 1)[0]
            except BlockingIOError:
                return None
        return self._number


_received = _Received()


def end_if_asked() -> None:
    """Raise `Interrupted` if a signal came that nobody has answered yet."""
    if _received.number() is not None:
        raise Interrupted


class _StderrUntilInterrupted(io.TextIOWrapper):
    """Drop what falling work says: it fails because we asked it to."""

    def write(self, text: str, /) -> int:
        return super().write(text) if _received.number() is None else len(text)


def run(main: Callable[[], int]) -> NoReturn:
    """Run `main` and exit with its code; 128 + signal when a signal ended it."""
    sys.stderr = _StderrUntilInterrupted(
        sys.stderr.buffer, encoding=sys.stderr.encoding, line_buffering=True
    )

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    for number in ENDING_SIGNALS:
        # SIGHUP stays ignored below nohup.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        code = main()
        end_if_asked()
    except DemoError as mistake:
        if _received.number() is not None:
            _exit_interrupted()
        sys.stderr.write(f"\n{mistake}\n")
        code = 1
    except BaseException:
        if _received.number() is not None:
            _exit_interrupted()
        raise
    sys.exit(code)


def _exit_interrupted() -> NoReturn:
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    say("\nStopped; nothing of the demo is left running.")
    # Not sys.exit: it would wait for worker threads, which may be sleeping between
    # two attempts to reach the server that has just been stopped.
    os._exit(128 + (_received.number() or signal.SIGINT))
