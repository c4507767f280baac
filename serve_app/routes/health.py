"""The two probes of load balancers and kubelets: whether this process answers, and whether it can be used."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from serve_app import openapi
from serve_app.dependencies import Service
from serve_app.http.answers import NEVER_KEPT

router = APIRouter(tags=["about"])


@router.get(
    "/healthz",
    summary="Whether this process answers",
    responses={200: openapi.json_answer("Yes", {"status": "ok"}), **openapi.problems()},
)
async def healthz() -> Response:
    return JSONResponse({"status": "ok"}, headers=NEVER_KEPT)


@router.get(
    "/readyz",
    summary="Whether the pools have loaded their models",
    responses={200: openapi.json_answer("Yes", {"status": "ready"}), **openapi.problems(503)},
)
async def readyz(service: Service) -> Response:
    await service.load_models()
    return JSONResponse({"status": "ready"}, headers=NEVER_KEPT)
