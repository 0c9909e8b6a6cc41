"""The listening socket: its options are inherited by every connection."""

from __future__ import annotations

import socket
from typing import Final

#: Buffers of a connection: what a client that reads nothing can swallow before its writer notices.
SEND_BUFFER: Final = 64 * 1024
#: A peer that acknowledges nothing for so long is gone, whatever its FIN says.
USER_TIMEOUT_MS: Final = 30_000
BACKLOG: Final = 4096


def listen(host: str, port: int) -> socket.socket:
    """A bound socket whose options its connections inherit. Raises OSError if the address cannot be had."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    # proto=TCP on purpose: asyncio sets TCP_NODELAY only on sockets that say so.
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
