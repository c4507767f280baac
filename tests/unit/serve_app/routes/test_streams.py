"""Streams as a client hears them: their form, and what tells a broken one from a whole one."""

import asyncio
import struct
from dataclasses import dataclass

import numpy as np
import pytest

from orchestrion.audio.encode import decode
from orchestrion.audio.mastering import FinishSpec
from orchestrion.tracks.outcome import Failure
from orchestrion.tracks.request import AudioFormat
from serve_app.deployments.render_pool import StreamMaster
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


def length_in_header(format: str, head: bytes) -> int:
    """How many samples the beginning of a file says that it has: a WAV's size, STREAMINFO, LAME's tag."""
    if format == "wav":
        return struct.unpack_from("<I", head, 40)[0] // struct.unpack_from("<H", head, 32)[0]
    if format == "flac":
        return int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    tag = head.index(b"Info", 0, 64)
    delay_and_padding = int.from_bytes(head[tag + 141 : tag + 144], "big")
    samples = 1152 if head[1] & 0x18 == 0x18 else 576
    (frames,) = struct.unpack_from(">I", head, tag + 8)
    return frames * samples - (delay_and_padding >> 12) - (delay_and_padding & 0xFFF)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("rate_hz, duration_s", [(44_100, 1.5), (16_000, 2.0), (48_000, 1.0)])
def test_a_stream_says_in_its_first_bytes_how_long_it_will_be(service, format, rate_hz, duration_s):
    body = {"prompt": "calm", "duration_s": duration_s, "sample_rate_hz": rate_hz, "seed": rate_hz}

    data = service.post(f"/v1/tracks/stream?format={format}", json=body).content

    assert length_in_header(format, data[:512]) == round(duration_s * rate_hz)
    # No silence of the encoder's before or after it.
    assert len(decode(data)[0]) == round(duration_s * rate_hz)


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


@dataclass
class Rendering:
    """A piece in stereo that is being made, whose sides are opposite."""

    spec: FinishSpec
    source_rate_hz: int = 32_000
    channels: int = 2
    expected_lufs: float = -18.0

    def chunks(self):
        time_s = np.arange(round(self.spec.duration_s * self.source_rate_hz)) / self.source_rate_hz
        left = 0.1 * np.sin(2 * np.pi * 440 * time_s)
        return np.array_split(np.stack([left, -left], axis=1).astype(np.float32), 7)


@pytest.mark.parametrize("format", [*AudioFormat, "pcm"])
def test_what_is_made_is_streamed_with_as_many_channels_as_asked_for(format):
    rendering = Rendering(FinishSpec(2.0, 48_000, -14.0, 0.0, 0.0, channels=1))
    master = StreamMaster(rendering, format)

    data = b"".join([*(master.push([chunk]) for chunk in rendering.chunks()), master.flush()])

    audio = np.frombuffer(data, "<i2")[:, None] / 32767 if format == "pcm" else decode(data)[0]
    assert audio.shape[1] == 1 and len(audio) == pytest.approx(2 * 48_000, abs=0 if format == "pcm" else 4800)
    assert np.abs(audio).max() > 0.1, "the sides have not cancelled each other"


@pytest.mark.parametrize("format", [*AudioFormat, "pcm"])
def test_a_stored_track_is_streamed_with_the_channels_that_it_has(service, format):
    body = BODY | {"channels": 1, "sample_rate_hz": 48_000, "format": "flac" if format == "pcm" else format}
    service.post("/v1/tracks", json=body)

    answer = service.post(f"/v1/tracks/stream?format={format}", json=body)

    assert (answer.headers["x-cache"], answer.headers["x-channels"]) == ("hit", "1")
    if format == "pcm":
        assert len(answer.content) == 2 * 48_000
    else:
        assert decode(answer.content)[0].shape[1] == 1


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
