"""The live page: one static document, its style and its modules. All that it shows it asks for by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from app.gateway import Gateway
from runtime.errors import Unauthorized

FOLDER: Final = Path(__file__).parents[1] / "page"
#: Nothing from elsewhere, nothing inline, in nobody's frame.
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def page_router(gateway: Gateway) -> APIRouter:
    """The document and its parts hold no secret and are open; what they ask for needs the admin key."""
    document = (FOLDER / "index.html").read_text(encoding="utf-8")
    router = APIRouter()

    @router.head("/", include_in_schema=False)
    @router.get("/", tags=["operations"], response_class=HTMLResponse, responses={401: _ASKS})
    async def page(request: Request) -> Response:
        """The live page. A browser without the admin key, where there is one, is asked for it: 401."""
        try:
            gateway.auth.require_admin(request.headers.get("authorization", ""))
        except Unauthorized:
            if "text/html" not in request.headers.get("accept", ""):
                raise
            return HTMLResponse(document, 401, HEADERS)
        return HTMLResponse(document, headers=HEADERS)

    return router


_ASKS: Final = {"description": "The page, which asks for the admin key", "content": {"text/html": {}}}


class PageParts(StaticFiles):
    """What the document refers to, under `/page`."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.get_response(self.get_path(scope), scope)
        response.headers.update(HEADERS)
        await response(scope, receive, send)
