"""A described endpoint becomes a tool: arguments make a request, a reply is the output, trouble a failure."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

from processing.tools.form import Endpoint, parameters
from processing.tools.json_schema import SchemaReader
from processing.tools.results import ToolFailed
from processing.tools.tool import Kind, Tool
from upstream.endpoints import EndpointFailed

#: Statuses that may pass.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpReply(Protocol):
    status: int

    def pieces(self, limit: int) -> AsyncGenerator[bytes, None]: ...


class HttpCalls(Protocol):
    """`upstream.endpoints.Endpoints`, or what stands in its place. Both raise its EndpointFailed."""

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> AbstractAsyncContextManager[HttpReply]: ...


class EndpointCall:
    """What is called with a tool's arguments. `headers` hold secrets: they are shown nowhere."""

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str], http: HttpCalls) -> None:
        self._endpoint = endpoint
        self._http = http
        self._places = parameters(endpoint).places
        self._headers = {"Accept": "application/json, text/plain;q=0.9, */*;q=0.5", **headers}

    def __repr__(self) -> str:
        return f"<EndpointCall {self._endpoint.name}>"

    async def __call__(self, /, **values: Any) -> AsyncIterator[str]:
        """The body's text as it comes. Raises ToolFailed for any status but a 2xx."""
        url = self._url(values)
        body = self._body(values)
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        try:
            async with self._http.send(self._endpoint.method, url, headers, body) as reply:
                if not 200 <= reply.status < 300:
                    raise ToolFailed(f"status {reply.status}", final=reply.status not in _PASSING)
                decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
                async with aclosing(reply.pieces(self._endpoint.max_bytes)) as pieces:
                    async for piece in pieces:
                        yield decoder.decode(piece)
                yield decoder.decode(b"", final=True)
        except EndpointFailed as failed:
            raise ToolFailed(str(failed), final=not failed.again) from None

    def _url(self, values: Mapping[str, Any]) -> str:
        base, mark, query = self._endpoint.url.partition("?")
        address, path = _divided(base)
        path = re.sub(r"\{([^{}]*)\}", lambda found: _segment(values[found[1]]), path)
        if any(unquote(segment) in (".", "..") for segment in path.split("/")):
            raise ToolFailed("a part of the path would leave it", final=True)
        pairs = [pair for name in self._in("query", values) for pair in _pairs(name, values[name])]
        added = urlencode(pairs, quote_via=quote)
        return address + path + (mark or (added and "?")) + "&".join(filter(None, [query, added]))

    def _body(self, values: Mapping[str, Any]) -> bytes | None:
        if "json" not in self._places.values():
            return None
        return msgspec.json.encode({name: values[name] for name in self._in("json", values)})

    def _in(self, place: str, values: Mapping[str, Any]) -> list[str]:
        return [name for name in values if self._places[name] == place]


def endpoint_tool(endpoint: Endpoint, headers: Mapping[str, str], http: HttpCalls) -> Tool:
    """`headers` are the values, by the names of the entry's own."""
    return Tool(
        name=endpoint.name,
        description=endpoint.description,
        kind=Kind.ASYNC_STREAM,
        function=EndpointCall(endpoint, headers, http),
        reader=SchemaReader(parameters(endpoint).schema),
        options=endpoint.options,
        about=endpoint.model_dump(),
    )


def _divided(base: str) -> tuple[str, str]:
    """Up to the host, and the path."""
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}", base.split("://", 1)[1][len(parts.netloc) :]


def _segment(value: Any) -> str:
    text = _scalar(value)
    if not text:
        raise ToolFailed("a part of the path is empty", final=True)
    return quote(text, safe="")


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    return [(name, _scalar(each)) for each in (value if isinstance(value, list) else [value])]


def _scalar(value: Any) -> str:
    """A text as it is; JSON for the rest, which makes true of True."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
