"""Something on a unix socket that is not Redis, and answers every request with the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def nonsense_redis(socket: Path, reply: bytes, *, then_close: bool = False) -> AsyncIterator[None]:
    """Serve `reply` to each read until the block ends."""
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while await reader.read(1 << 16):
                writer.write(reply)
                await writer.drain()
                if then_close:
                    return
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_unix_server(talk, str(socket))
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()
