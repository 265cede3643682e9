"""How much may be under way to a server: more through a Unix socket, for as long as we send."""

import os
import socket
import sys

import psycopg
import pytest

from mapper_core import adapters
from mapper_core.adapters.postgresql import sockets
from mapper_core.adapters.postgresql.sockets import ROOM_BYTES, room_to_send
from mapper_core.adapters.postgresql.target import PostgreSQLWriter
from mapper_core.connections import opener_of

from ..proxy import Proxy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked for room")


SMALL = 64 * 1024


def own_socket(connection):
    return socket.socket(fileno=os.dup(connection.pgconn.socket))


def room(connection):
    """What the kernel says, which is twice what it was told."""
    with own_socket(connection) as own:
        return own.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2


def granted(wanted):
    """How much of it this kernel gives."""
    one, other = socket.socketpair()
    with one, other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wanted)
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2


def test_a_unix_socket_has_more_room_meanwhile(target):
    with psycopg.connect(target) as connection:
        before = room(connection)
        with room_to_send(connection):
            assert before < room(connection) == granted(ROOM_BYTES)
        assert room(connection) == before


def test_an_error_takes_it_back(target):
    with psycopg.connect(target) as connection:
        before = room(connection)
        with pytest.raises(ValueError, match="on the way"), room_to_send(connection):
            raise ValueError("on the way")
        assert room(connection) == before


def test_a_room_that_is_larger_stays(target, monkeypatch):
    monkeypatch.setattr(sockets, "ROOM_BYTES", SMALL)
    with psycopg.connect(target) as connection:
        before = room(connection)
        with room_to_send(connection):
            assert SMALL < before == room(connection)
        assert room(connection) == before


def test_a_tcp_connection_is_left_to_the_kernel(target):
    with Proxy(target) as proxy, psycopg.connect(proxy.url) as connection:
        with own_socket(connection) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        with room_to_send(connection):
            assert room(connection) == SMALL


def test_a_writer_has_it(target):
    database = adapters.database(opener_of(target, role="target_conn"), application="test")
    with database.open_writer() as writer:
        assert isinstance(writer, PostgreSQLWriter)
        assert room(writer._connection) == granted(ROOM_BYTES)


def test_a_connection_lost_meanwhile_is_no_error_of_its_own(target):
    connection = psycopg.connect(target)
    with room_to_send(connection):
        connection.close()
    with room_to_send(connection):
        assert connection.closed
