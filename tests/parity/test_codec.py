"""EnCodec as transformers and audiocraft run it, whole pieces at once, against ours in chunks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import EncodecModel

from orchestrion.models.audiocraft.imports import import_audiocraft
from orchestrion.models.musicgen.codec.codec import Codec
from tests.musicgen_checkpoints import (
    PUBLISHED_CODEC,
    TINY,
    TINY_CODEC,
    codec_geometry,
    random_codec,
    write_audiocraft,
    write_encodec,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Torch's threads spin while they wait for each other, which on a busy machine takes minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tune(geometry, seconds: float) -> np.ndarray:
    """Chords with overtones, a beat and some noise: [samples, channels]."""
    draw = np.random.default_rng(1)
    time_s = np.arange(round(seconds * geometry.sample_rate_hz)) / geometry.sample_rate_hz
    wave = 0.02 * draw.standard_normal((len(time_s), geometry.channels))
    for start, pitch in enumerate(draw.integers(40, 76, size=int(2 * seconds))):
        age_s = time_s - start / 2
        decay = np.where(age_s > 0, np.exp(-3 * np.maximum(age_s, 0)), 0)
        for partial, volume in ((1, 1.0), (1.26, 0.7), (1.5, 0.8), (2, 0.5), (3, 0.3), (5, 0.1)):
            frequency_hz = 440 * 2 ** ((pitch - 69) / 12) * partial
            pan = draw.uniform(0.5, 1, geometry.channels)
            wave += 0.15 * volume * (decay * np.sin(2 * np.pi * frequency_hz * age_s))[:, None] * pan
        wave += 0.3 * (np.exp(-40 * np.maximum(age_s, 0)) * (age_s > 0))[:, None] * draw.standard_normal(wave.shape)
    return wave.astype(np.float32)


def in_chunks(codec: Codec, codes: np.ndarray, frames: int) -> np.ndarray:
    stream, chunks = codec.open(), []
    for start in range(0, codes.shape[1], frames):
        last = start + frames >= codes.shape[1]
        chunks += codec.push([(stream, codes[:, start : start + frames], last)])
    return np.concatenate(chunks)


def error_of_peak(audio: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(audio - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize(
    ("geometry", "device"),
    [
        (TINY_CODEC, "cpu"),
        (TINY_CODEC, "torch-cpu"),
        (replace(TINY_CODEC, pad_mode="reflect"), "cpu"),
        (replace(TINY_CODEC, pad_mode="reflect"), "torch-cpu"),
        (PUBLISHED_CODEC, "cpu"),
    ],
    ids=["tiny-cpu", "tiny-torch", "reflecting-cpu", "reflecting-torch", "published-cpu"],
)
def test_audio_and_codes_are_those_of_transformers(geometry, device, tmp_path):
    weights = random_codec(geometry)
    theirs = EncodecModel.from_pretrained(write_encodec(tmp_path, weights, geometry)).eval()
    ours = Codec(geometry, weights, slots=1, threads=1, device=device)
    codes = np.random.default_rng(0).integers(0, geometry.card, (geometry.codebooks, 60))
    with torch.inference_mode():
        audio = theirs.decode(torch.from_numpy(codes)[None, None], [None]).audio_values[0].T.numpy()
    for frames in (10, 25):
        assert error_of_peak(in_chunks(ours, codes, frames), audio) <= 1e-5

    music = tune(geometry, 5.01)
    with torch.inference_mode():
        heard = theirs.encode(torch.from_numpy(music.T)[None]).audio_codes[0, 0].numpy()
    assert (ours.encode(music) == heard).mean() >= 0.999


@pytest.mark.parametrize("channels", [1, 2])
def test_audio_and_codes_are_those_of_audiocraft(channels, tmp_path):
    import_audiocraft()
    from audiocraft.models.encodec import InterleaveStereoCompressionModel
    from audiocraft.models.loaders import load_compression_model

    geometry = codec_geometry(8, channels)
    theirs = load_compression_model(write_audiocraft(tmp_path, TINY, TINY_CODEC, seed=7)).eval()
    if channels == 2:
        theirs = InterleaveStereoCompressionModel(theirs)
    ours = Codec(geometry, random_codec(TINY_CODEC, seed=11), slots=1, threads=1)
    codes = np.random.default_rng(0).integers(0, geometry.card, (4 * channels, 60))
    music = tune(geometry, 5.01)
    with torch.inference_mode():
        audio = theirs.decode(torch.from_numpy(codes)[None])[0].T.numpy()
        heard = theirs.encode(torch.from_numpy(music.T)[None])[0][0].numpy()
    assert error_of_peak(in_chunks(ours, codes, 10), audio) <= 1e-5
    assert (ours.encode(music) == heard).mean() >= 0.999
