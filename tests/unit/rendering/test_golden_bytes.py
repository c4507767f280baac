"""The same request gives the same bytes as it did in earlier releases: every style, every format.

The hashes are of the composer's tracks as the locked versions of numpy, scipy, libsndfile and TinySoundFont make them
on x86-64; AVX-512, AVX2 and SSE give the same. A change that is meant (a better sound) writes them anew and says so in
CHANGELOG: python -m tests.unit.rendering.test_golden_bytes
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.renderer import Renderer, build_renderer
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.request import AudioFormat
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import STYLES
from orchestrion.trust.signing import Signer

GOLDEN = Path(__file__).with_name("golden_bytes.json")
SHAPED = {
    "prompt": "sad slow piano in D minor at 70 bpm",
    "duration_s": 8.0,
    "seed": 3,
    "format": "flac",
    "fade_in_s": 0.5,
    "fade_out_s": 2.0,
    "loudness_lufs": -18.0,
    "sample_rate_hz": 22050,
}
CASES = (
    {style: {"prompt": "a tune", "style": style, "duration_s": 4.0, "seed": 7, "format": "flac"} for style in STYLES}
    | {
        f"{style} as {format}": {"prompt": "a tune", "style": style, "duration_s": 2.0, "seed": 7, "format": format}
        for style in ("lofi", "classical")
        for format in AudioFormat
    }
    | {"asked for in words": SHAPED}
)


def renderer_in(folder: Path) -> Renderer:
    Signer.create(folder / "keys" / "key.pem")
    config = RenderConfig(store_url=str(folder / "store"), signing_key_path=str(folder / "keys" / "key.pem"))
    return build_renderer(config, "test", PrometheusRecorder(CollectorRegistry()))


def made(renderer: Renderer, name: str) -> dict[str, str | None]:
    rendering = renderer.open(TrackSpec(**CASES[name]).resolve())
    while rendering.advance() is not None:
        pass
    rendering.master()
    track = rendering.publish()
    assert isinstance(track, Track), track
    return {"audio_sha256": track.record.audio_sha256, "midi_sha256": track.record.midi_sha256}


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return renderer_in(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_earlier_releases(renderer, name):
    assert made(renderer, name) == json.loads(GOLDEN.read_text())[name]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        here = renderer_in(Path(folder))
        GOLDEN.write_text(json.dumps({name: made(here, name) for name in CASES}, indent=1) + "\n")
    sys.stdout.write(f"wrote {GOLDEN}\n")
