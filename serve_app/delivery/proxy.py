"""What Serve's own HTTP proxy is told: to parse requests with h11, and to report how far clients have read.

The parser that uvicorn prefers, httptools, reads a head of any size, and sends chunks to HTTP/1.0, which does not know
them. Serve has no setting for it, but calls a function of ours in each proxy before it listens. Times and connections
are limited by neither; a front proxy does that (cluster/serve/haproxy.cfg).
"""

from __future__ import annotations

from typing import Final

import uvicorn.config
from starlette.middleware import Middleware

from serve_app.delivery.reader_progress import ReportProgress

#: For the environment of whatever starts Ray: the proxies inherit it.
PROXY_ENVIRONMENT: Final = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.delivery.proxy.prepare_proxy"}


def prepare_proxy() -> list[Middleware]:
    """Called by Serve in a proxy's process; the heads that it takes end at 64 KiB. Returns what it is to add."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = uvicorn.config.HTTP_PROTOCOLS["h11"]
    return [Middleware(ReportProgress)]
