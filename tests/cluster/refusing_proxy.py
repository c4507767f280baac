"""An HTTP proxy before an S3 server that begins to refuse every request, as a server does of a key that was revoked."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>The access key ID that you provided does not exist in our records.</Message></Error>"
)
#: Those of one connection, which the proxy has of its own.
HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding"}


class RefusingProxy:
    """Listens on a free loopback port while it is entered. `revoke` ends the key for good."""

    def __init__(self, endpoint: str):
        self._revoked = threading.Event()
        target, revoked = urlsplit(endpoint).netloc, self._revoked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if revoked.is_set():
                    self.answer(403, [("Content-Type", "application/xml")], REFUSAL)
                    return
                server = http.client.HTTPConnection(target, timeout=30)
                # The client has signed the name of the host that it calls.
                server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "expect":
                        server.putheader(name, value)
                server.endheaders(body)
                got = server.getresponse()
                data = got.read()
                length = [("Content-Length", got.getheader("Content-Length") or "0")] if self.command == "HEAD" else []
                kept = [each for each in got.getheaders() if each[0].lower() not in HOP_BY_HOP]
                self.answer(got.status, kept + length, data)
                server.close()

            def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
                # Not `send_response`: the server's own date is to arrive, and no second one.
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def __getattr__(self, name: str) -> object:
                if name.startswith("do_"):
                    return self.forward
                raise AttributeError(name)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="refusing-proxy", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def revoke(self) -> None:
        """From now on the key is nobody's."""
        self._revoked.set()
