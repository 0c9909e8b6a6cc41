"""One upstream's address and key: sends a request to one of its paths and says in our errors what failed."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from runtime.errors import UpstreamBadResponse, UpstreamUnreachable
from upstream.reach import Reach
from upstream.transport import NoReply, NotHttp, Reply, Transport

_PORTS: Final = {"http": 80, "https": 443}


class Endpoint:
    """`base_url` is http or https without credentials, such as `https://host/v1`; `api_key` may be absent.

    Raises ValueError, which never contains the key, for a URL or a key that cannot be used.
    """

    def __init__(self, base_url: str, api_key: str | None, transport: Transport) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("the upstream's base URL must be http or https, with a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the upstream's base URL must not contain credentials")
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("the upstream's API key contains what no HTTP header may carry")
        self.reach = Reach(parts.hostname, parts.port or _PORTS[parts.scheme])
        self._base = base_url.rstrip("/")
        self._transport = transport
        self._authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def __repr__(self) -> str:
        return f"<Endpoint {self._base}>"

    async def get(self, path: str) -> Reply:
        """GET `path` below the base URL. Raises as `_send` does."""
        return await self._send("GET", path, {"Accept": "application/json"}, None)

    async def post(self, path: str, body: bytes) -> Reply:
        """POST JSON for an event stream. Raises as `_send` does."""
        headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        return await self._send("POST", path, headers, body)

    async def _send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Reply:
        """Raises `UpstreamUnreachable` if no response came, `UpstreamBadResponse` if it is not HTTP."""
        try:
            reply = await self._transport.send(method, self._base + path, headers | self._authorization, body)
        except NoReply as error:
            self.reach.note(False)
            raise UpstreamUnreachable from error
        except NotHttp as error:
            raise UpstreamBadResponse from error
        self.reach.note(True)
        return reply
