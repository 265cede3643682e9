"""Standard error for people: one progress line, updated in place on a terminal, and lines above."""

import logging
import os
import shutil
import sys
from threading import Lock
from typing import TextIO

from ..tracker import ProgressCallback, create_progress_callback

# Seconds between two progress lines: as the eye follows, and as a log should grow.
_EVERY_LIVE = 0.1
_EVERY_PLAIN = 5.0

_CLEAR = "\r\x1b[K"


class Screen:
    """Writes lines to a stream. Safe to use from several threads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = Lock()
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""

    def line(self, text: str) -> None:
        """Write a line that stays; a progress line moves below it."""
        with self._lock:
            self._write(f"{self._clear()}{text}\n{self._shown}")

    def progress(self, text: str) -> None:
        """Write a line that takes the place of the last one on a terminal."""
        if not self._live:
            self.line(text)
            return
        with self._lock:
            clear = self._clear()
            # A line that wraps could not be taken back.
            self._shown = text[: shutil.get_terminal_size().columns - 1]
            self._write(clear + self._shown)

    def end(self) -> None:
        """Take the progress line away."""
        with self._lock:
            if self._shown:
                self._write(_CLEAR)
                self._shown = ""

    def callback(self, name: str) -> ProgressCallback:
        """Return a progress callback that writes here."""
        every = _EVERY_LIVE if self._live else _EVERY_PLAIN
        return create_progress_callback(name, every=every, log=self.progress)

    def _clear(self) -> str:
        # Also without a progress line: a terminal has written ^C there.
        return _CLEAR if self._live else ""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # Nobody reads it any more, which is no reason for rows not to arrive.
            discard(self._stream)


def discard(stream: TextIO) -> None:
    """Forget what could not be written: Python would try again at its end, and fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class LogLines(logging.Handler):
    """Writes warnings and errors of the log as lines of the screen, without tracebacks."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._screen.line(f"{record.levelname.lower()}: {record.getMessage()}")
