"""Orchestrion's core: one request in, one signed track out. It imports no Ray and no FastAPI.

What a user of the core needs is here by name, and each name is imported when it is first used: a program that asks a
service for tracks loads no signal processing, and needs none installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from orchestrion.version import __version__

if TYPE_CHECKING:
    from orchestrion.client import Client, TrackStream, TrackSummary, Unreachable
    from orchestrion.errors import (
        CheckFailed,
        Internal,
        InvalidRequest,
        ModelFailed,
        NotFound,
        NotReady,
        OnHold,
        OrchestrionError,
        OutOfMemory,
        Overloaded,
        Problem,
        RightsRefused,
        Stalled,
        StoreUnavailable,
        Transient,
        VerificationFailed,
        Withdrawn,
    )
    from orchestrion.finding import Finding
    from orchestrion.rendering.config import RenderConfig
    from orchestrion.rendering.renderer import Renderer, build_renderer
    from orchestrion.storage.track_store import TrackStore
    from orchestrion.telemetry.metrics import PrometheusRecorder
    from orchestrion.tracks.outcome import Failure, Track
    from orchestrion.tracks.record import TrackRecord
    from orchestrion.tracks.request import AudioFormat, Purpose, TrackRequest
    from orchestrion.tracks.spec import TrackSpec
    from orchestrion.trust.signature import load_trusted_keys
    from orchestrion.trust.signed_record import SignedRecord, verify
    from orchestrion.trust.signing import Signer
    from orchestrion.trust.signing_keys import have_signing_key

#: Every public name and the module that it is from, by what it is needed for.
_FROM: Final = {
    # What is asked for, and what becomes of it.
    "AudioFormat": "orchestrion.tracks.request",
    "Failure": "orchestrion.tracks.outcome",
    "Finding": "orchestrion.finding",
    "Purpose": "orchestrion.tracks.request",
    "Track": "orchestrion.tracks.outcome",
    "TrackRecord": "orchestrion.tracks.record",
    "TrackRequest": "orchestrion.tracks.request",
    "TrackSpec": "orchestrion.tracks.spec",
    # Rendering here.
    "PrometheusRecorder": "orchestrion.telemetry.metrics",
    "RenderConfig": "orchestrion.rendering.config",
    "Renderer": "orchestrion.rendering.renderer",
    "TrackStore": "orchestrion.storage.track_store",
    "build_renderer": "orchestrion.rendering.renderer",
    # Asking a service.
    "Client": "orchestrion.client",
    "TrackStream": "orchestrion.client",
    "TrackSummary": "orchestrion.client",
    "Unreachable": "orchestrion.client",
    # Signing and verifying.
    "SignedRecord": "orchestrion.trust.signed_record",
    "Signer": "orchestrion.trust.signing",
    "have_signing_key": "orchestrion.trust.signing_keys",
    "load_trusted_keys": "orchestrion.trust.signature",
    "verify": "orchestrion.trust.signed_record",
    # What may go wrong.
    "CheckFailed": "orchestrion.errors",
    "Internal": "orchestrion.errors",
    "InvalidRequest": "orchestrion.errors",
    "ModelFailed": "orchestrion.errors",
    "NotFound": "orchestrion.errors",
    "OrchestrionError": "orchestrion.errors",
    "NotReady": "orchestrion.errors",
    "OnHold": "orchestrion.errors",
    "OutOfMemory": "orchestrion.errors",
    "Overloaded": "orchestrion.errors",
    "Problem": "orchestrion.errors",
    "RightsRefused": "orchestrion.errors",
    "Stalled": "orchestrion.errors",
    "StoreUnavailable": "orchestrion.errors",
    "Transient": "orchestrion.errors",
    "VerificationFailed": "orchestrion.errors",
    "Withdrawn": "orchestrion.errors",
}

__all__ = [
    "AudioFormat",
    "CheckFailed",
    "Client",
    "Failure",
    "Finding",
    "Internal",
    "InvalidRequest",
    "ModelFailed",
    "NotFound",
    "NotReady",
    "OnHold",
    "OrchestrionError",
    "OutOfMemory",
    "Overloaded",
    "Problem",
    "PrometheusRecorder",
    "Purpose",
    "RenderConfig",
    "Renderer",
    "RightsRefused",
    "SignedRecord",
    "Signer",
    "Stalled",
    "StoreUnavailable",
    "Track",
    "TrackRecord",
    "TrackRequest",
    "TrackSpec",
    "TrackStore",
    "TrackStream",
    "TrackSummary",
    "Transient",
    "Unreachable",
    "VerificationFailed",
    "Withdrawn",
    "__version__",
    "build_renderer",
    "have_signing_key",
    "load_trusted_keys",
    "verify",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what mypy sees stands under TYPE_CHECKING
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Kept, so that the next use is a plain look-up.
    value = globals()[name] = getattr(import_module(_FROM[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
