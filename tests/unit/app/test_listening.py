"""The listening socket: what its connections inherit, and how it fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from app.listening import SEND_BUFFER, USER_TIMEOUT_MS, listen


@contextmanager
def accepted(server: socket.socket) -> Iterator[socket.socket]:
    with socket.create_connection(server.getsockname()[:2]):
        connection, _ = server.accept()
        with closing(connection):
            yield connection


def test_a_connection_inherits_its_bounds() -> None:
    """A client that reads nothing is noticed after kilobytes, one that is gone after seconds."""
    with closing(listen("127.0.0.1", 0)) as server, accepted(server) as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
        # Linux counts its own bookkeeping as well, and doubles what was asked for.
        assert SEND_BUFFER <= connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER


def test_a_reader_that_takes_nothing_blocks_its_writer_soon() -> None:
    """Lag is the signal for the send timeout: megabytes in the kernel would hide it."""
    with closing(listen("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.getsockname())
        connection, _ = server.accept()
        with closing(connection):
            connection.setblocking(False)
            assert _swallowed(connection) <= 1 << 20


def _swallowed(connection: socket.socket) -> int:
    """How many bytes it takes although nobody reads them."""
    sent = 0
    try:
        while sent < 16 << 20:
            sent += connection.send(b"x" * 16384)
    except BlockingIOError:
        pass
    return sent


def test_asyncio_will_take_it_for_tcp() -> None:
    """Its protocol number is what asyncio looks at before it sets TCP_NODELAY."""
    with closing(listen("127.0.0.1", 0)) as server:
        assert server.proto == socket.IPPROTO_TCP


def test_an_address_that_cannot_be_had_is_an_error_and_leaves_nothing() -> None:
    """A second start on the same port says so; a warning about a lost socket would fail this test."""
    with closing(listen("127.0.0.1", 0)) as server, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", server.getsockname()[1])
    with pytest.raises(OSError, match="assign requested address"):
        listen("192.0.2.1", 0)  # an address for documentation: nobody's


def test_a_port_is_free_again_at_once() -> None:
    """A restart must not wait for the connections of the process before it."""
    with closing(listen("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with accepted(server) as connection:
            connection.shutdown(socket.SHUT_RDWR)
    with closing(listen("127.0.0.1", port)) as again:
        assert again.getsockname()[1] == port
