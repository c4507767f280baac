"""A MusicGen as the rest of the system sees it: what it makes, what it refuses, and what it frees."""

import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest
from orchestrion.models import ModelSettings
from orchestrion.models.musicgen.checkpoint import open_checkpoint
from orchestrion.models.musicgen.model import MusicGen, card
from orchestrion.models.protocol import Conditioning, Generation
from tests.musicgen_checkpoints import TINY, TINY_CODEC, write_hugging_face

WISH = Conditioning(
    prompt="happy rock song",
    negative_prompt="",
    style=None,
    mood=None,
    tempo_bpm=None,
    key=None,
    duration_s=1.0,
    seed=3,
    theme=None,
)
SETTINGS = ModelSettings(precision="int8", device="cpu", slots=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_hugging_face(tmp_path_factory.mktemp("tiny"), TINY, TINY_CODEC)


@pytest.fixture(scope="module")
def model(folder):
    return MusicGen.load("tiny", str(folder), SETTINGS, SystemClock())


def recording(seconds: float) -> bytes:
    file = io.BytesIO()
    wave = np.sin(2 * np.pi * 440 * np.arange(round(seconds * 32_000)) / 32_000)
    soundfile.write(file, 0.2 * wave, 32_000, format="WAV")
    return file.getvalue()


def refusal(error: InvalidRequest) -> str:
    return "; ".join(f"{problem.field}: {problem.message}" for problem in error.problems)


def test_chunks_join_to_exactly_the_length_and_to_what_a_batch_gives(model):
    wish = replace(WISH, duration_s=1.2345)
    chunks = list(model.perform(wish).chunks)

    alone = np.concatenate(chunks)
    batch = model.generate([replace(WISH, seed=seed) for seed in (8, 9)] + [wish])

    assert alone.shape == (round(1.2345 * 32_000), 1)
    assert len(chunks[0]) < len(alone) / 3
    assert np.array_equal(batch[2].audio, alone)
    assert not np.array_equal(batch[0].audio, batch[1].audio)
    assert all(generation.device_s > 0 for generation in batch)
    assert model.active == 0


def test_what_was_heard_and_how_it_was_drawn_is_told(model):
    performance = model.perform(replace(WISH, tempo_bpm=120.0, guidance=4.0, temperature=0.5))

    assert performance.choices == {
        "text": "happy rock song, 120 bpm",
        "guidance": 4.0,
        "temperature": 0.5,
        "top_k": 250,
        "top_p": 0.0,
        "windows": 1,
    }
    performance.chunks.close()
    assert model.active == 0


def test_a_piece_given_up_before_its_first_chunk_holds_nothing(model):
    performances = [model.perform(WISH) for _ in range(5)]
    for performance in performances:
        performance.chunks.close()

    assert model.active == 0
    assert isinstance(model.generate([WISH])[0], Generation)


def test_a_wrong_request_of_a_batch_stops_no_other(model):
    too_short = replace(WISH, continuation=recording(2.0))
    wordy = replace(WISH, prompt="word " * 400)
    made, refused, told = model.generate([WISH, too_short, wordy])

    assert isinstance(made, Generation)
    assert "ask for more than that" in refusal(refused)
    assert "hears at most 256" in refusal(told)


def test_a_continuation_begins_the_piece(model):
    given = replace(WISH, continuation=recording(0.5), duration_s=1.5)
    other = replace(given, seed=4)

    first, second = (generation.audio for generation in model.generate([given, other]))

    # The codec hears a little of what follows, so the last frames of the recording already differ.
    assert np.array_equal(first[: round(0.4 * 32_000)], second[: round(0.4 * 32_000)])
    assert not np.array_equal(first[round(0.6 * 32_000) :], second[round(0.6 * 32_000) :])


def test_negative_prompt_guidance_and_seed_all_change_the_music(model):
    changes = [{}, {"negative_prompt": "drums"}, {"guidance": 1.0}, {"seed": 4}, {"temperature": 0.0}]
    pieces = [generation.audio.tobytes() for generation in model.generate([replace(WISH, **c) for c in changes])]

    assert len(set(pieces)) == len(changes)


def test_slots_are_opened_as_memory_allows(folder, caplog):
    checkpoint = open_checkpoint(str(folder))
    many = replace(SETTINGS, slots=64, memory_gib=0.05)

    with caplog.at_level("INFO"):
        MusicGen.of("tiny", checkpoint, many, SystemClock()).close()
    with pytest.raises(InvalidRequest) as refused:
        MusicGen.of("tiny", checkpoint, replace(SETTINGS, memory_gib=0.001), SystemClock())

    assert "of 64 slots" in caplog.text
    assert "GiB for one slot" in refusal(refused.value)


@pytest.mark.parametrize(
    "settings, complaint",
    [(replace(SETTINGS, precision="fp8"), "fp8"), (replace(SETTINGS, device="cuda:7"), "no usable CUDA device")],
)
def test_what_this_machine_cannot_do_is_said_when_the_model_is_loaded(folder, settings, complaint):
    with pytest.raises(InvalidRequest, match=complaint):
        MusicGen.load("tiny", str(folder), settings, SystemClock())


def test_precision_and_device_are_part_of_the_revision_and_slots_are_not(folder):
    checkpoint = open_checkpoint(str(folder))
    revisions = {
        card("tiny", checkpoint, settings).revision
        for settings in (SETTINGS, replace(SETTINGS, precision="fp32"), replace(SETTINGS, slots=9, threads=2))
    }

    assert len(revisions) == 2
    assert all(checkpoint.revision in revision for revision in revisions)
