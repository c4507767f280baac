"""The addresses of the service, a router for each resource, and the app that they make together.

A handler reads what it needs of a request from parameters of the types in `serve_app.dependencies`. HEAD is declared
nowhere: `SecurityHeaders` makes it from GET.
"""

from __future__ import annotations

from fastapi import Depends, FastAPI

from serve_app.dependencies import principal, refuse_unknown_query
from serve_app.deployments.ingress import Ingress
from serve_app.errors import answer_errors
from serve_app.middleware import SecurityHeaders
from serve_app.origins import Neighbours, OriginGuard
from serve_app.routes import documents, health, intents, models, pages, stored_tracks, streams, tracks, uploads


def build_routes(ingress: Ingress) -> FastAPI:
    """The ASGI app of one ingress replica."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # Each resource has one address. A redirect would name the Host header's name, whoever wrote that.
        redirect_slashes=False,
        dependencies=[Depends(refuse_unknown_query), Depends(principal)],
    )
    app.state.ingress = ingress
    app.add_middleware(OriginGuard, neighbours=Neighbours(ingress.config.allowed_hosts, ingress.config.allowed_origins))
    app.add_middleware(SecurityHeaders)
    answer_errors(app)
    # In the order of the document. Streams stand before stored tracks, whose ids would match `stream` too.
    for resource in (tracks, intents, streams, stored_tracks, uploads, models, health, documents):
        app.include_router(resource.router)
    app.include_router(pages.build_router())
    return app
