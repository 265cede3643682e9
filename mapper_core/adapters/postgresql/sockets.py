"""How much may be under way to a server on the same machine."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from . import saying

# What a source's server sends in the hundredth of a second that the target's may wait for its disk,
# and more than it sends before it waits to be read itself (212,992 bytes, Linux's default). The
# kernel grants up to its setting net.core.wmem_max.
ROOM_BYTES = 4 * 1024 * 1024


@contextmanager
def room_to_send(connection: saying.Connection) -> Iterator[None]:
    """Let the kernel hold more of what we send through a Unix socket; Linux only.

    What a TCP connection may have under way grows by itself, as long as nobody sets it.

    Source: socket(7), SO_SNDBUF; tcp(7), tcp_wmem.
    """
    before = _room(connection)
    if before is None or before >= ROOM_BYTES:
        yield
        return
    _set_room(connection, ROOM_BYTES)
    try:
        yield
    finally:
        _set_room(connection, before)


def _room(connection: saying.Connection) -> int | None:
    """Return how many bytes may be under way to the server; None where that is not ours to set."""
    if sys.platform == "linux":
        with suppress(psycopg.Error, OSError), _socket(connection) as ours:
            if ours.family == socket.AF_UNIX:
                # The kernel doubles what it is told, for its own needs, and tells that.
                return ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    return None


def _set_room(connection: saying.Connection, room: int) -> None:
    # A connection that is lost needs none.
    with suppress(psycopg.Error, OSError), _socket(connection) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)


def _socket(connection: saying.Connection) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.pgconn.socket))
