"""What Serve's own HTTP proxy is told: to parse requests with h11.

The parser that uvicorn prefers, httptools, reads a head of any size, and sends chunks to HTTP/1.0, which does not know
them. Serve has no setting for it, but calls a function of ours in each proxy before it listens. Times and connections
are limited by neither; a front proxy does that (cluster/haproxy.cfg).
"""

from __future__ import annotations

from typing import Final

import uvicorn.config
from starlette.middleware import Middleware

#: For the environment of whatever starts Ray: the proxies inherit it.
PROXY_ENVIRONMENT: Final = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.proxy.use_h11"}


def use_h11() -> list[Middleware]:
    """Called by Serve in a proxy's process; the heads it takes end at 64 KiB. Adds no middleware."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = uvicorn.config.HTTP_PROTOCOLS["h11"]
    return []
