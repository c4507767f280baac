"""What every answer has, whichever route gave it: security headers, HEAD without a body, and no traceback.

The `X-Request-Id` of an answer is not set here. Serve's proxy takes the client's or makes one, hands it on and echoes
it; setting it again would send the header twice.
"""

from __future__ import annotations

import logging
import re
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import problem_response

#: The page runs no script and loads nothing that is not its own.
SECURITY_HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: In the scope of a HEAD, which routes see as a GET: what costs work to send need not be made.
AS_HEAD: Final = "orchestrion.head"
_SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

logger = logging.getLogger(__name__)


def request_id_for(given: str | None) -> str:
    """The id that Serve handed on when it is safe to write into a log, else a new one."""
    return given if given is not None and _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class SecurityHeaders:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), None)
        request_id = request_id_for(given)
        is_head = scope["method"] == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET", AS_HEAD: True}
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            if scope.get("root_path") and scope["path"] == scope["root_path"]:
                await _beside_its_slash(scope)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception:
            # The last boundary before the client: what was not foreseen is logged here and told without its insides.
            logger.exception("request %s failed", request_id)
            if started:
                raise
            answer = problem_response("internal", f"this is our fault; the log has it under request {request_id}")
            await answer(scope, receive, send_with_headers)


def _beside_its_slash(scope: Scope) -> Response:
    """Where the page's relative links work: below the application's prefix, named from here and not by any host."""
    return RedirectResponse(scope["path"].rsplit("/", 1)[1] + "/", status_code=308)
