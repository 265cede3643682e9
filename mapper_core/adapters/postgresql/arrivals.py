"""What the server sends for a running statement, taken in as it arrives."""

import select
import sys
from collections.abc import Iterator
from itertools import repeat

import psycopg
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.pq.abc import PGconn, PGresult

try:
    from . import _arrivals
except ImportError:  # there was no C compiler when it was installed
    JOINED_IN_C = False
else:
    # Where psycopg is in pure Python there is no library to be found so.
    JOINED_IN_C = _arrivals.bind(str(sys.modules[pq.PGconn.__module__].__file__))
    """Whether rows are joined in C: the same blocks as Python joins, for a fraction of the CPU."""


class Arrivals:
    """What the server sends for a running statement, waited for outside libpq.

    libpq's own waiting holds Python's lock: one stalled connection would stop every thread.
    """

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._arrived = select.poll()
        self._arrived.register(pgconn.socket, select.POLLIN)

    def block(self, size: int) -> tuple[bytes, bool]:
        """Return whole rows of a COPY, at least `size` bytes of them if there are.

        And whether there may be more. What comes after the last one is the result.
        """
        if not JOINED_IN_C:
            return self._joined(size)
        block, state = _arrivals.take(self._pgconn, size)
        if state < -1:
            raise psycopg.OperationalError(self._pgconn.error_message.decode(errors="replace"))
        return block, state == 0

    def _joined(self, size: int) -> tuple[bytes, bool]:
        # One call a row, and the loop itself in C; psycopg's own makes several.
        take, got, block = self._pgconn.get_copy_data, 1, bytearray()
        while True:
            for got, data in map(take, repeat(1)):
                if got <= 0:
                    break
                block += data
            # libpq holds some rows at a time, so the block's size can wait for their end.
            if got < 0 or len(block) >= size:
                return bytes(block), got == 0
            self.wait()

    def rows(self) -> Iterator[Buffer]:
        """Yield the rows of a COPY, each as the server sent it. After the last comes the result."""
        got = 0
        while got >= 0:
            for got, data in map(self._pgconn.get_copy_data, repeat(1)):
                if got <= 0:
                    break
                yield data
            if got == 0:
                self.wait()

    def result(self) -> PGresult | None:
        """Return the next result, or None when the statement has ended."""
        while self._pgconn.is_busy():
            self.wait()
        return self._pgconn.get_result()

    def wait(self) -> None:
        """Wait until the server has sent something, and take it in."""
        # Thousands of times a second: a selector made anew each time would cost more than the rows.
        # A connection found broken has no socket any more, and says so here.
        if self._pgconn.socket >= 0:
            self._arrived.poll()
        self._pgconn.consume_input()
