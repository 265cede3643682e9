"""Ends what a session waits for: its statement, or the connection where nobody hears of that."""

import os
import socket
from contextlib import suppress
from time import monotonic

import psycopg
from psycopg.pq import TransactionStatus

from . import saying, session

# Seconds for which a statement's end is asked for. A server that hangs does not hear it, nor does a
# pooler in whose queue the session waits: PgBouncer passes on no request of one without a server.
PATIENCE = 10.0

# Seconds after which to ask is to ask anew: a stop that lasts asks several times a second, and may
# be held up by sessions of servers that cannot be reached.
_FORGOTTEN = 60.0


class Ending:
    """Of one session's statements; asked for from another thread."""

    def __init__(self, connection: saying.Connection) -> None:
        self._connection = connection
        self._since = self._last = float("-inf")

    def ask(self) -> None:
        """End the running statement, nothing where none is; if it goes on all the same, all of it.

        Whoever runs it hears of either as an error.
        """
        pgconn = self._connection.pgconn
        # A connection that is closed or lost has no statement to end.
        with suppress(psycopg.Error, OSError):
            if pgconn.transaction_status != TransactionStatus.ACTIVE:
                self._last = float("-inf")
                return
            if monotonic() - self._last > _FORGOTTEN:
                self._since = monotonic()
            if monotonic() - self._since > PATIENCE:
                _hang_up(pgconn.socket)
            else:
                session.cancel(self._connection)
            self._last = monotonic()


def _hang_up(number: int) -> None:
    """Have whoever waits for a socket find it ended; it stays theirs to close."""
    with socket.socket(fileno=os.dup(number)) as shared:
        shared.shutdown(socket.SHUT_RDWR)
