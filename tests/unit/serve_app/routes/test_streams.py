"""Streams as a client hears them: their form, and what tells a broken one from a whole one."""

import asyncio

import numpy as np
import pytest

from orchestrion.audio.encode import decode
from orchestrion.tracks.outcome import Failure
from serve_app.routes.streams import BrokenStream, whole_or_broken
from tests.ingress_app import BODY


@pytest.mark.parametrize(
    "accept, body, media_type",
    [
        ("audio/*", {}, "audio/wav"),
        ("audio/pcm", {}, "audio/pcm"),
        ("audio/pcm, audio/flac;q=0.5", {"format": "flac"}, "audio/pcm"),
        ("audio/ogg", {"format": "opus"}, "audio/ogg; codecs=opus"),
        ("audio/mpeg;q=0.2, audio/flac;q=0.8", {}, "audio/flac"),
    ],
)
def test_accept_chooses_the_stream(service, accept, body, media_type):
    wanted = {"prompt": "calm", "duration_s": 1} | body

    assert (
        service.post("/v1/tracks/stream", json=wanted, headers={"Accept": accept}).headers["content-type"] == media_type
    )


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_a_stored_track_as_pcm_is_what_its_file_decodes_to(service, format):
    body = BODY | {"format": format, "duration_s": 20, "seed": 3}
    service.post("/v1/tracks", json=body)

    streamed = service.post("/v1/tracks/stream?format=pcm", json=body)

    stored = service.get(f"/v1/tracks/{streamed.headers['x-track-id']}/audio").content
    audio, _ = decode(stored)
    assert streamed.headers["x-cache"] == "hit"
    difference = np.frombuffer(streamed.content, "<i2").reshape(-1, 2) - np.round(audio * 32767)
    # Where it is cut into blocks, an MP3 decoder rounds another way.
    assert np.abs(difference).max() <= (1 if format == "mp3" else 0)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus", "pcm"])
def test_a_stream_in_mono_has_one_channel_live_and_from_the_store(service, format):
    body = BODY | {"channels": 1, "sample_rate_hz": 48_000, "duration_s": 2}

    live, stored = (service.post(f"/v1/tracks/stream?format={format}", json=body) for _ in range(2))

    assert [answer.headers["x-cache"] for answer in (live, stored)] == ["miss", "hit"]
    for answer in (live, stored):
        assert answer.headers["x-channels"] == "1"
        if format == "pcm":
            assert len(answer.content) == 2 * 2 * 48_000
        else:
            audio, rate_hz = decode(answer.content)
            assert (audio.shape[1], rate_hz) == (1, 48_000)
            assert len(audio) == pytest.approx(2 * 48_000, abs=4800)


async def items(*values):
    for value in values:
        yield value


def test_a_refusal_after_audio_breaks_the_stream_off():
    async def take():
        stream = whole_or_broken(items(b"a", b"b", Failure("check-failed", "too quiet", "check")))
        assert [await anext(stream), await anext(stream)] == [b"a", b"b"]
        with pytest.raises(BrokenStream, match="too quiet"):
            await anext(stream)

    asyncio.run(take())
