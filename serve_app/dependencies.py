"""What handlers are given: the service, the caller, and the parts of a request that several of them read.

Each is a FastAPI dependency under the name that handlers annotate a parameter with. FastAPI runs them in the order of
a handler's parameters, after those of the whole app, and the first that raises decides the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from orchestrion.audio.stream_encode import StreamFormat
from orchestrion.errors import InvalidRequest, Problem, shown
from orchestrion.rendering.admission import Priority
from serve_app import openapi
from serve_app.deployments.ingress import Ingress
from serve_app.http.bodies import MAX_JSON_BYTES, parse_json_object, read_body
from serve_app.http.formats import WIRE_FORMATS
from serve_app.http.headers import joined_headers
from serve_app.uploads.found import UploadUse


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request."""

    id: str
    is_authenticated: bool = False


#: The service takes no keys yet, so this is everybody.
ANONYMOUS: Final = Principal("anonymous")


async def principal() -> Principal:
    """Who sends this request; each request is asked, whichever handler answers it."""
    return ANONYMOUS


async def serving_ingress(request: Request) -> Ingress:
    """The ingress that this app was built for."""
    return cast("Ingress", request.app.state.ingress)


async def request_headers(request: Request) -> dict[str, str]:
    """Names in lower case; several lines of one name joined."""
    return joined_headers(request.headers.raw)


Caller = Annotated[Principal, Depends(principal)]
Service = Annotated[Ingress, Depends(serving_ingress)]
Headers = Annotated[dict[str, str], Depends(request_headers)]


async def json_body(request: Request, headers: Headers, service: Service) -> dict[str, Any]:
    """The JSON object that is sent, read within the limits of size and time.

    It is not declared to FastAPI as a model: `TrackSpec.from_json` reads it, as it reads catalog rows, so that both
    give the same track id and every complaint has one form.
    """
    timeout_s = service.config.body_timeout_s
    body = await read_body(request.stream(), headers, max_bytes=MAX_JSON_BYTES, timeout_s=timeout_s)
    return parse_json_object(body, headers.get("content-type"))


async def asked_priority(priority: openapi.PriorityName = "interactive") -> Priority:
    """The query's `priority`."""
    try:
        return Priority(priority)
    except ValueError:
        raise InvalidRequest.of("priority", priority, "use one of " + ", ".join(Priority)) from None


async def asked_wire_format(format: openapi.WireFormatName = None) -> StreamFormat | None:
    """The query's `format`; None where it gives none."""
    if format is None or format in WIRE_FORMATS:
        return cast("StreamFormat | None", format)
    raise InvalidRequest.of("format", format, "use one of " + ", ".join(WIRE_FORMATS))


async def asked_use(use: openapi.UseName = UploadUse.THEME) -> UploadUse:
    """The query's `use`."""
    try:
        return UploadUse(use)
    except ValueError:
        raise InvalidRequest.of("use", use, "use one of " + ", ".join(UploadUse)) from None


JsonBody = Annotated[dict[str, Any], Depends(json_body)]
AskedPriority = Annotated[Priority, Depends(asked_priority)]
AskedUse = Annotated[UploadUse, Depends(asked_use)]
AskedWireFormat = Annotated[StreamFormat | None, Depends(asked_wire_format)]


async def refuse_unknown_query(request: Request) -> None:
    """Do nothing, unless the query has a name that the address does not know: a misspelt wish would be lost unheard.

    Pages for people take whatever a link adds.

    Raises:
        InvalidRequest: names that are unknown, or given more than once.
    """
    route: APIRoute = request.scope["route"]
    if not route.include_in_schema:
        return
    known = list(dict.fromkeys(_query_names(route.dependant)))
    names = [name for name, _ in request.query_params.multi_items()]
    problems = [
        Problem(shown(name).strip("'"), shown(request.query_params[name]), complaint)
        for name in dict.fromkeys(names)
        if (complaint := _complaint(name, names, known))
    ]
    if problems:
        raise InvalidRequest(problems)


def _query_names(dependant: Dependant) -> Iterator[str]:
    """What a handler reads of the query, by itself and through what it depends on."""
    for parameter in dependant.query_params:
        yield parameter.alias
    for part in dependant.dependencies:
        yield from _query_names(part)


def _complaint(name: str, names: list[str], known: list[str]) -> str | None:
    if name not in known:
        return f"is not in the query of this address; known are {', '.join(known)}" if known else "takes no query"
    return "is given more than once; say it once" if names.count(name) > 1 else None
