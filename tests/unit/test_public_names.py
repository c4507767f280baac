"""What the core offers by name: a list, every name of which is there, typed, and loaded when it is first used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrion

INIT = Path(orchestrion.__file__)
PUBLIC = {
    *("AudioFormat", "Finding", "Purpose", "TrackRecord", "TrackRequest", "TrackSpec"),
    *("Failure", "Track"),
    *("PrometheusRecorder", "RenderConfig", "Renderer", "TrackStore", "build_renderer"),
    *("Client", "TrackStream", "TrackSummary", "Unreachable"),
    *("SignedRecord", "Signer", "have_signing_key", "load_trusted_keys", "verify"),
    *(
        "CheckFailed",
        "Internal",
        "InvalidRequest",
        "ModelFailed",
        "NotFound",
        "NotReady",
        "OnHold",
        "OrchestrionError",
        "OutOfMemory",
    ),
    *("Overloaded", "Problem", "RightsRefused", "Stalled", "StoreUnavailable", "Transient", "VerificationFailed"),
    *("Withdrawn", "__version__"),
}


def test_what_is_public_is_this_list():
    # A name that is added or taken away changes what people may rely on: say so in the changelog.
    assert set(orchestrion.__all__) == PUBLIC
    assert len(orchestrion.__all__) == len(PUBLIC)
    assert set(dir(orchestrion)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_a_public_name_is_where_the_type_checker_is_told(name):
    told = {
        alias.name: node.module
        for node in ast.walk(ast.parse(INIT.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert getattr(orchestrion, name) is getattr(sys.modules[told[name]], name)


def test_no_other_name_is_there():
    with pytest.raises(AttributeError, match="has no attribute 'Rendrer'"):
        _ = orchestrion.Rendrer


def test_nothing_is_loaded_before_it_is_used():
    script = (
        "import sys, orchestrion; before = {*sys.modules}; orchestrion.TrackSpec; print(*before); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=INIT.parents[1])

    before, after = (line.split() for line in done.stdout.splitlines())
    assert "pydantic" not in before and "pydantic" in after and "numpy" not in after
