"""The web pages for people: the studio at the root, the documentation, and the files that both load."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

from orchestrion.errors import NotFound, shown
from serve_app.http.answers import whole_answer

#: Every file that is given out, with its media type.
PAGE_FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "docs.html": "text/html; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "drawing.js": "text/javascript; charset=utf-8",
    "playing.js": "text/javascript; charset=utf-8",
    "history.js": "text/javascript; charset=utf-8",
    "problems.js": "text/javascript; charset=utf-8",
    "fields.js": "text/javascript; charset=utf-8",
    "intent.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}


def build_router() -> APIRouter:
    """The pages as they are now: their files are read here, so that a missing one shows when the service starts."""
    content = {name: (files("serve_app") / "studio" / name).read_bytes() for name in PAGE_FILES}
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def get_start_page(request: Request) -> Response:
        return await get_page("index.html", request)

    @router.get("/docs")
    async def get_docs_page(request: Request) -> Response:
        return await get_page("docs.html", request)

    @router.get("/page/{name}")
    async def get_page(name: str, request: Request) -> Response:
        if name not in content:
            raise NotFound(f"the page has no file {shown(name)}")
        return whole_answer(request, content[name], PAGE_FILES[name], {"Cache-Control": "no-cache"})

    return router
