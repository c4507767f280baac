"""Which requests are let in: names that this service answers to, and whose web pages may use it.

A browser sends requests for any page that its user has open. Host stops a page whose name was pointed at this machine
(DNS rebinding), Origin and Sec-Fetch-Site stop a page from elsewhere that sends what it cannot read
(docs/decisions/0018-other-peoples-pages.md).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import HttpProblem, problem_response
from serve_app.http.headers import joined_headers

#: Asked by load balancers and kubelets under whatever name or address a machine has; they tell nothing.
PROBES: Final = frozenset({"/healthz", "/readyz"})
#: What a page may read of an answer besides the few headers that every page may.
EXPOSED_HEADERS: Final = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Link, Location, Retry-After, X-Cache, X-Channels, "
    "X-Duration-Seconds, X-Request-Id, X-Sample-Rate, X-Track-Id"
)
#: What a page may send besides the few headers that every page may.
ALLOWED_HEADERS: Final = (
    "Content-Encoding, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range, "
    "X-Request-Id"
)
PREFLIGHT_MAX_AGE_S: Final = 600
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Names of this service and origins of pages that may use it, as the settings give them."""

    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def answers_to(self, authority: str) -> bool:
        """Whether `authority` (a Host header) is a name of this service.

        An IP address always is: a page that is served from one has that address as its origin, so no name was turned.
        """
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            return False
        host = match["host"].rstrip(".").lower()
        if "*" in self.hosts or host == "localhost" or host.endswith(".localhost") or _is_address(host.strip("[]")):
            return True
        return any(
            host.endswith(name[1:].lower()) if name.startswith("*.") else host == name.lower() for name in self.hosts
        )

    def welcomes(self, origin: str) -> bool:
        """Whether pages of this origin may use the service and read its answers."""
        return "*" in self.origins or origin.lower() in (known.lower() for known in self.origins)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> HttpProblem | None:
        """Why a request is not answered, None if it is.

        Args:
            method: in capitals.
            path: below the application's prefix.
            headers: names in lower case; several lines of one name joined by commas.
        """
        if path in PROBES and method in _READING:
            return None
        host = headers.get("host", "")
        if not self.answers_to(host):
            return HttpProblem(
                "misdirected",
                "this service does not go by the name in the Host header; use localhost or its IP address, or have "
                "its operator add the name to allowed_hosts",
            )
        if method in _READING or not _is_foreign(headers, host):
            return None
        if self.welcomes(headers.get("origin", "null")):
            return None
        return HttpProblem(
            "foreign-origin",
            "a page of another origin sent this; have the service's operator add that origin to allowed_origins",
        )


class OriginGuard:
    """ASGI middleware: refuses what `Neighbours` refuses, and answers CORS for the origins that it welcomes."""

    def __init__(self, app: ASGIApp, neighbours: Neighbours) -> None:
        self._app = app
        self._neighbours = neighbours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = joined_headers(scope["headers"])
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        origin = headers.get("origin")
        welcome = origin is not None and self._neighbours.welcomes(origin)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and self._neighbours.origins:
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if welcome:
                    answer["Access-Control-Allow-Origin"] = origin or ""
                    answer["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
                if "*" in self._neighbours.origins:
                    answer["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        refusal = self._neighbours.refusal(method, path, headers)
        if refusal is not None:
            await problem_response(refusal.code, refusal.detail)(scope, receive, send_with_headers)
        elif method == "OPTIONS" and welcome and "access-control-request-method" in headers:
            await self._preflight(headers, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    async def _preflight(self, headers: Mapping[str, str], send: Send) -> None:
        answer = {
            "Access-Control-Allow-Methods": "GET, HEAD, POST",
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_MAX_AGE_S),
        }
        # Chromium asks this before a page of the internet reaches a machine of the local network.
        if headers.get("access-control-request-private-network") == "true":
            answer["Access-Control-Allow-Private-Network"] = "true"
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.items()]
        await send({"type": "http.response.start", "status": int(HTTPStatus.NO_CONTENT), "headers": raw})
        await send({"type": "http.response.body", "body": b""})


def _is_foreign(headers: Mapping[str, str], host: str) -> bool:
    """Whether a page of another origin sent this. No page can change either header; other clients send neither."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    # The scheme is not compared: behind a proxy that ends TLS this service sees http where the page sees https.
    parts = urlsplit(origin) if re.fullmatch(r"https?://[^/?#@]+", origin, re.IGNORECASE) else None
    if parts is None:
        return True
    port = _DEFAULT_PORTS[parts.scheme]
    return _with_port(parts.netloc, port) != _with_port(host, port)


def _with_port(authority: str, default_port: str) -> tuple[str, str] | None:
    match = _AUTHORITY.fullmatch(authority)
    return (match["host"].rstrip(".").lower(), match["port"] or default_port) if match else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
