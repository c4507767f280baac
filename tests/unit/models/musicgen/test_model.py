"""A MusicGen as the rest of the system sees it: what it makes, what it refuses, and what it frees."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from orchestrion.clock import SystemClock
from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.checkpoint.checkpoint import open_checkpoint
from orchestrion.models.musicgen.decoder.cpu import linear
from orchestrion.models.musicgen.model import MusicGen, model_info
from orchestrion.models.protocol import Conditioning, Generation
from orchestrion.models.settings import ModelSettings
from tests.musicgen_checkpoints import TINY, TINY_CODEC, TINY_MELODY, write_hugging_face
from tests.performing import generate

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
    batch = generate(model, [replace(WISH, seed=seed) for seed in (8, 9)] + [wish])

    assert alone.shape == (round(1.2345 * 32_000), 1)
    assert len(chunks[0]) < len(alone) / 3
    assert np.array_equal(batch[2].audio, alone)
    assert not np.array_equal(batch[0].audio, batch[1].audio)
    assert all(generation.device_s > 0 for generation in batch)
    assert model.active == 0


def test_what_was_heard_and_how_it_was_drawn_is_told(model):
    wish = replace(WISH, style="rock", mood="happy", tempo_bpm=120.0)
    performance = model.perform(replace(wish, guidance=4.0, temperature=0.5))

    assert performance.choices == {
        "caption": "happy rock song. bpm: 120.0",
        "guidance": 4.0,
        "temperature": 0.5,
        "top_k": 250,
        "top_p": 0.0,
        "windows": 1,
    }
    performance.chunks.close()
    assert model.active == 0


def test_what_must_not_sound_is_heard_by_guidance_alone(model):
    wish = replace(WISH, exclude=("drums",))
    pieces = generate(model, [wish, replace(WISH, negative_prompt="drums"), replace(wish, guidance=1.0), WISH])
    unguided = generate(model, [replace(WISH, guidance=1.0)])[0]

    assert [piece.choices.get("negative_caption") for piece in pieces] == ["drums", "drums", None, None]
    assert np.array_equal(pieces[0].audio, pieces[1].audio)
    assert not np.array_equal(pieces[0].audio, pieces[3].audio)
    assert np.array_equal(pieces[2].audio, unguided.audio)


def test_a_raw_prompt_is_another_model(folder, model):
    settings = replace(SETTINGS, raw_prompts=True)
    raw = MusicGen.load("raw", str(folder), settings, SystemClock())
    wish = replace(WISH, prompt="rock without drums, 140 bpm", style="rock", exclude=("drums",), tempo_bpm=140.0)
    theirs, ours = generate(raw, [wish])[0], generate(model, [wish])[0]
    raw.close()

    assert theirs.choices["caption"] == "rock without drums, 140 bpm"
    assert "negative_caption" not in theirs.choices
    assert (ours.choices["caption"], ours.choices["negative_caption"]) == ("rock. bpm: 140.0", "drums")
    assert not np.array_equal(theirs.audio, ours.audio)
    assert raw.info.revision != model.info.revision


def test_a_loop_goes_on_at_its_end_as_it_began(model):
    """The end fades into what the model made before the beginning: the loop is found in the longer piece."""
    wish = replace(WISH, duration_s=2.0, loop=True, temperature=0.0)
    performance = model.perform(wish)
    chunks = list(performance.chunks)
    loop = np.concatenate(chunks)
    longer = generate(model, [replace(wish, loop=None, duration_s=3.0)])[0].audio

    lead, fade = 32_000, 16_000
    assert loop.shape == (64_000, 1)
    assert np.array_equal(loop[:-fade], longer[lead:-fade])
    assert np.allclose(loop[-1], longer[lead - 1], atol=1e-3)
    assert not np.allclose(loop[-1], longer[-1], atol=1e-2)


def test_a_loop_that_goes_on_from_a_checkpoint_is_the_same(model):
    wish = replace(WISH, duration_s=2.5, loop=True)
    performance = model.perform(wish)
    whole = [next(performance.chunks) for _ in range(3)]
    checkpoint = performance.checkpoint()
    whole += performance.chunks

    again = model.perform(wish, resume=checkpoint)

    assert checkpoint is not None
    assert np.array_equal(np.concatenate(list(again.chunks)), np.concatenate(whole))


def test_a_loop_given_up_holds_nothing(model):
    performance = model.perform(replace(WISH, duration_s=2.0, loop=True))
    performance.chunks.close()

    assert model.active == 0


def test_a_piece_given_up_before_its_first_chunk_holds_nothing(model):
    performances = [model.perform(WISH) for _ in range(5)]
    for performance in performances:
        performance.chunks.close()

    assert model.active == 0
    assert isinstance(generate(model, [WISH])[0], Generation)


def test_a_wrong_request_of_a_batch_stops_no_other(model):
    too_short = replace(WISH, continuation=recording(2.0))
    wordy = replace(WISH, prompt="word " * 400)
    made, refused, told = generate(model, [WISH, too_short, wordy])

    assert isinstance(made, Generation)
    assert "ask for more than that" in refusal(refused)
    assert "hears at most 256" in refusal(told)


def test_a_continuation_begins_the_piece(model):
    given = replace(WISH, continuation=recording(0.5), duration_s=1.5)
    other = replace(given, seed=4)

    first, second = (generation.audio for generation in generate(model, [given, other]))

    # The codec hears a little of what follows, so the last frames of the recording already differ.
    assert np.array_equal(first[: round(0.4 * 32_000)], second[: round(0.4 * 32_000)])
    assert not np.array_equal(first[round(0.6 * 32_000) :], second[round(0.6 * 32_000) :])


def test_a_piece_prepared_beside_the_stepping_thread_is_the_same_piece(model):
    wishes = [
        replace(WISH, prompt="slow folk song with a flute", negative_prompt="drums", duration_s=2.0),
        replace(WISH, prompt="dark techno", continuation=recording(0.7), duration_s=2.0),
    ]
    expected = [generation.audio for generation in generate(model, wishes)]

    others = [model.perform(replace(WISH, seed=seed, duration_s=6.0)) for seed in (8, 9)]
    with ThreadPoolExecutor(2) as threads:
        preparing = [threads.submit(model.prepare, wish) for wish in wishes]
        while not all(one.done() for one in preparing):
            next(others[0].chunks)
    performances = [model.perform(w, prepared=one.result()) for w, one in zip(wishes, preparing, strict=True)]
    made = [np.concatenate(list(performance.chunks)) for performance in performances]
    for other in others:
        other.chunks.close()

    assert all(np.array_equal(one, other) for one, other in zip(made, expected, strict=True))


def test_what_was_prepared_is_not_done_again_and_is_of_one_piece_only(model):
    opening = model.prepare(WISH)
    of_other_words = replace(opening, said=model.prepare(replace(WISH, prompt="sad piano")).said)

    first, second = (next(model.perform(WISH, prepared=one).chunks) for one in (opening, of_other_words))
    for performance in list(model._engine._occupied):
        model._engine.cancel(performance)

    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="not of this piece"):
        model.perform(replace(WISH, seed=4), prepared=opening)


def test_a_model_can_be_loaded_beside_one_that_plays(model, folder):
    wish = replace(WISH, duration_s=3.0)
    expected = generate(model, [wish])[0].audio
    playing = model.perform(wish).chunks
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(MusicGen.load, "other", str(folder), SETTINGS, SystemClock())
        heard = list(playing)
    other = loading.result()

    assert np.array_equal(np.concatenate(heard), expected)
    assert np.array_equal(generate(other, [wish])[0].audio, expected)
    other.close()


def test_a_theme_is_heard_from_the_next_window_on_before_it_is_needed(tmp_path):
    folder = write_hugging_face(tmp_path, TINY_MELODY, TINY_CODEC)
    model = MusicGen.load("melody", str(folder), SETTINGS, SystemClock())
    opening = model.prepare(replace(WISH, theme=recording(3.0), duration_s=40.0))
    first, second = (window.start_frame / 50 for window in opening.windows)

    assert set(opening.melody._known) == {first}
    model.perform(opening.conditioning, prepared=opening)
    model._engine.step()
    model._ahead_thread.shutdown()

    assert set(opening.melody._known) == {first, second}
    model.close()


def test_negative_prompt_guidance_and_seed_all_change_the_music(model):
    changes = [{}, {"negative_prompt": "drums"}, {"guidance": 1.0}, {"seed": 4}, {"temperature": 0.0}]
    pieces = [generation.audio.tobytes() for generation in generate(model, [replace(WISH, **c) for c in changes])]

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


def test_precision_device_and_captions_are_part_of_the_revision_and_slots_are_not(folder):
    checkpoint = open_checkpoint(str(folder))
    same, others = {"slots": 9, "threads": 2}, ({"precision": "fp32"}, {"raw_prompts": True})
    revisions = {
        model_info("tiny", checkpoint, replace(SETTINGS, **changed)).revision for changed in ({}, same, *others)
    }

    assert len(revisions) == 3
    assert all(checkpoint.revision in revision for revision in revisions)


def test_threads_that_have_no_core_are_not_started(folder, monkeypatch, caplog):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {3}, raising=False)
    clamped = MusicGen.load("tiny", str(folder), replace(SETTINGS, threads=8), SystemClock())
    names = [thread.name for thread in threading.enumerate()]
    clamped.close()
    assert not [name for name in names if name.startswith("musicgen-decoder-7")]
    assert "8 wanted" in caplog.text


def test_auto_is_the_precision_that_this_cpu_does_in_the_least_time(folder, monkeypatch):
    auto = replace(SETTINGS, precision="auto")
    for fast, precision in ((True, "int8"), (False, "bf16")):
        monkeypatch.setattr(linear, "BYTES_ARE_FAST", fast)
        assert f"+{precision}+cpu" in model_info("tiny", open_checkpoint(str(folder)), auto).revision
