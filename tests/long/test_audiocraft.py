"""The official audiocraft as a second backend, on tiny random checkpoints of its own format."""

import importlib.util
import io
import shutil
import sys
from dataclasses import replace

import mido
import numpy as np
import pytest
import soundfile
import torch
import yaml

from orchestrion.errors import InvalidRequest, ModelFailed
from orchestrion.models.audiocraft.backend import AudiocraftModel
from orchestrion.models.audiocraft.imports import Spectrogram, demucs_is_installed, import_audiocraft
from orchestrion.models.protocol import Conditioning, Generation
from orchestrion.models.settings import ModelSettings
from tests.musicgen_checkpoints import TINY, TINY_CODEC, TINY_MELODY, TINY_STEREO, codec_geometry, write_audiocraft
from tests.performing import generate

RATE_HZ = 32_000


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_audiocraft(tmp_path_factory.mktemp("tiny"), TINY, TINY_CODEC)


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(scope="module")
def melody_model(tmp_path_factory):
    return load(write_audiocraft(tmp_path_factory.mktemp("melody"), TINY_MELODY, TINY_CODEC))


def load(folder) -> AudiocraftModel:
    return AudiocraftModel.load("audiocraft:tiny", str(folder), ModelSettings(device="cpu"))


def asking(prompt="happy rock", duration_s=0.5, seed=3, **fields) -> Conditioning:
    nothing = {"negative_prompt": "", "style": None, "mood": None, "tempo_bpm": None, "key": None, "theme": None}
    return Conditioning(prompt=prompt, duration_s=duration_s, seed=seed, **(nothing | fields))


def audio_of(model: AudiocraftModel, conditioning: Conditioning) -> np.ndarray:
    (outcome,) = generate(model, [conditioning])
    assert isinstance(outcome, Generation)
    return outcome.audio


def tone(frequency_hz=440.0, duration_s=0.4, rate_hz=RATE_HZ) -> bytes:
    file = io.BytesIO()
    seconds = np.arange(round(duration_s * rate_hz)) / rate_hz
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * frequency_hz * seconds), rate_hz, format="WAV")
    return file.getvalue()


# --- What it makes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duration_s", [0.02, 0.5, 0.58, 1.001])
def test_a_piece_has_exactly_the_samples_that_were_asked_for(model, duration_s):
    audio = audio_of(model, asking(duration_s=duration_s))

    assert audio.shape == (round(duration_s * RATE_HZ), 1)
    assert audio.dtype == np.float32
    assert np.abs(audio).max() > 0


def test_a_request_does_not_depend_on_its_neighbours_or_on_the_random_numbers_of_the_process(model):
    alone = audio_of(model, asking(seed=1))
    torch.manual_seed(99)
    before = torch.get_rng_state()

    batch = generate(model, [asking("slow piano", seed=2, duration_s=0.7), asking(seed=1)])

    assert np.array_equal(batch[1].audio, alone)
    assert torch.equal(torch.get_rng_state(), before)
    assert not np.array_equal(audio_of(model, asking(seed=2)), alone)


def test_two_pieces_taken_by_turns_are_those_they_are_alone(model):
    wanted = [asking(seed=1), asking("slow piano", seed=2)]
    performances = [model.perform(one) for one in wanted]
    pieces = [performance.chunks for performance in performances]
    chunks = [[], []]
    while any(pieces):
        for n, piece in enumerate(pieces):
            if piece is not None and (chunk := next(piece, None)) is not None:
                chunks[n].append(chunk)
                torch.randn(1)  # What else the process draws in between is its own affair.
            else:
                pieces[n] = None

    for one, parts in zip(wanted, chunks, strict=True):
        assert np.array_equal(np.concatenate(parts), audio_of(model, one))
        assert sum(len(part) == 0 for part in parts) > 1, "there was no chance to stop it"
    assert all(performance.device_s() > 0 for performance in performances)


def test_a_piece_can_be_given_up_between_steps_and_leaves_nothing_behind(model):
    expected = audio_of(model, asking())
    started, waiting = model.perform(asking("slow piano", duration_s=20.0)), model.perform(asking())
    next(started.chunks)
    next(waiting.chunks)

    started.chunks.close()

    assert np.array_equal(np.concatenate(list(waiting.chunks)), expected)


def test_a_piece_that_breaks_audiocraft_is_a_failure_and_its_neighbours_are_not(model, monkeypatch):
    really_generate = model._generator.generate

    def break_on_sad(descriptions, **options):
        if "sad" in descriptions[0]:
            raise RuntimeError("boom")
        return really_generate(descriptions, **options)

    monkeypatch.setattr(model._generator, "generate", break_on_sad)

    bad, refused, good = generate(model, [asking("sad song", mood="sad"), asking(negative_prompt="drums"), asking()])

    assert isinstance(bad, ModelFailed)
    assert "boom" in str(bad)
    assert isinstance(refused, InvalidRequest)
    assert isinstance(good, Generation)


def test_beyond_its_window_a_piece_goes_on(tmp_path):
    # A window just longer than audiocraft's stride of 18 s. Greedy, so that both lengths begin with the same codes.
    short_sighted = load(write_audiocraft(tmp_path, replace(TINY, layers=1, window_s=19.0), TINY_CODEC))

    audio = audio_of(short_sighted, asking(duration_s=19.5, temperature=0.0))

    assert audio.shape == (round(19.5 * RATE_HZ), 1)
    beginning = audio_of(short_sighted, asking(duration_s=2.0, temperature=0.0))[:RATE_HZ]
    assert np.allclose(audio[:RATE_HZ], beginning, atol=1e-4)
    assert np.abs(audio[-RATE_HZ // 4 :]).max() > 0


def test_continuation_begins_with_what_it_goes_on_from(model):
    first = audio_of(model, asking(seed=5, continuation=tone()))
    second = audio_of(model, asking(seed=6, continuation=tone()))

    known = round(0.3 * RATE_HZ)
    assert np.allclose(first[:known], second[:known], atol=1e-4)
    assert not np.allclose(first[-known // 3 :], second[-known // 3 :], atol=1e-4)
    assert not np.allclose(audio_of(model, asking(seed=5))[:known], first[:known], atol=1e-4)


def test_it_hears_a_caption_and_makes_loops(model):
    wish = asking("rock, no drums", style="rock", tempo_bpm=240.0, exclude=("drums",), duration_s=1.0, temperature=0.0)
    told = model.perform(replace(wish, loop=True))
    loop = np.concatenate(list(told.chunks))
    longer = audio_of(model, replace(wish, duration_s=2.0))

    assert told.choices["caption"] == "rock. bpm: 240.0"
    assert np.allclose(loop[: round(0.75 * RATE_HZ)], longer[RATE_HZ : round(1.75 * RATE_HZ)], atol=1e-4)
    assert np.allclose(loop[-1], longer[RATE_HZ - 1], atol=1e-3)
    assert "exclude" not in model.info.hears


def test_a_melody_changes_the_piece_and_the_record_says_what_it_was_heard_from(melody_model):
    performance = melody_model.perform(asking(theme=tone(440.0)))
    high = np.concatenate(list(performance.chunks))

    assert "theme" in melody_model.info.controls
    assert performance.choices["melody"] == ("stems" if demucs_is_installed() else "whole mix")
    assert not np.array_equal(high, audio_of(melody_model, asking(theme=tone(523.25))))
    assert np.array_equal(high, audio_of(melody_model, asking(theme=tone(440.0))))


def test_a_stereo_model_whose_codec_is_a_hub_s_makes_two_channels(tmp_path):
    stereo = write_audiocraft(tmp_path, TINY_STEREO, codec_geometry(8, 2), codec_from_hub="facebook/encodec_32khz")

    audio = audio_of(load(stereo), asking())

    assert audio.shape == (RATE_HZ // 2, 2)
    assert not np.array_equal(audio[:, 0], audio[:, 1])


def test_audiogen_is_run_as_audiogen(tmp_path):
    folder = write_audiocraft(tmp_path, replace(TINY, window_s=10.0), TINY_CODEC)
    exported = torch.load(folder / "state_dict.bin")
    torch.save(exported | {"xp.cfg": exported["xp.cfg"] + "solver: audiogen\n"}, folder / "state_dict.bin")

    audiogen = load(folder)

    # MusicGen's stride of 18 s would not fit into this window.
    assert audio_of(audiogen, asking("rain on a roof")).shape == (RATE_HZ // 2, 1)
    assert audiogen.perform(asking("two horns, no birds")).choices["caption"] == "two horns, no birds"
    assert audiogen.info.hears == ()


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.0}, {"top_k": 1}, {"guidance": 1.0}, {"top_p": 0.3}], ids=lambda given: str(given)
)
def test_what_a_request_says_of_drawing_is_followed_and_ends_with_it(model, sampling):
    # Guidance is towards what is said.
    said = {"style": "rock", "mood": "happy"}
    plain = audio_of(model, asking(**said))

    drawn = [audio_of(model, asking(seed=seed, **said, **sampling)) for seed in (3, 4)]

    greedy = "temperature" in sampling or "top_k" in sampling
    assert np.array_equal(*drawn) == greedy
    assert not np.array_equal(drawn[0], plain)
    assert np.array_equal(audio_of(model, asking(**said)), plain)


# --- What it refuses --------------------------------------------------------------------------------------------------


def midi() -> bytes:
    file = io.BytesIO()
    mido.MidiFile(tracks=[mido.MidiTrack([mido.Message("note_on", note=60, time=0)])]).save(file=file)
    return file.getvalue()


@pytest.mark.parametrize(
    "field, fields",
    [
        ("duration_s", {"duration_s": 601.0}),
        ("negative_prompt", {"negative_prompt": "drums"}),
        ("continuation", {"continuation": tone(duration_s=0.5)}),
        ("continuation", {"continuation": b"no audio"}),
        ("theme", {"theme": midi()}),
        ("theme", {"theme": tone(frequency_hz=0.0)}),
        ("theme", {"theme": tone(), "continuation": tone(duration_s=0.1)}),
    ],
)
def test_what_it_cannot_follow_is_refused_by_name(melody_model, field, fields):
    with pytest.raises(InvalidRequest) as refused:
        melody_model.perform(asking(**fields))

    assert [problem.field for problem in refused.value.problems] == [field]


@pytest.mark.parametrize("setting", [{"precision": "int8"}, {"device": "cuda:1"}], ids=["precision", "device"])
def test_what_audiocraft_cannot_run_with_is_refused(folder, setting):
    with pytest.raises(InvalidRequest) as refused:
        AudiocraftModel.load("tiny", str(folder), ModelSettings(**{"device": "cpu"} | setting))

    assert [problem.field for problem in refused.value.problems] == list(setting)


@pytest.mark.parametrize("missing", ["state_dict.bin", "compression_state_dict.bin"])
def test_a_folder_of_another_format_is_refused(folder, tmp_path, missing):
    for file in folder.iterdir():
        if file.name != missing:
            (tmp_path / file.name).symlink_to(file)

    with pytest.raises(InvalidRequest, match="audiocraft's format"):
        load(tmp_path)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"lm_model": "transformer_lm_magnet"}, "transformer_lm_magnet"),
        ({"conditioners": {}}, "exactly one T5"),
        ("- not a mapping", "not a mapping"),
        ("a: [", "no YAML that can be read"),
    ],
    ids=["MAGNeT", "no text", "a list", "no YAML"],
)
def test_a_model_that_audiocraft_is_not_run_with_is_refused(folder, tmp_path, change, said):
    copy = shutil.copytree(folder, tmp_path / "changed")
    exported = torch.load(copy / "state_dict.bin")
    config = change if isinstance(change, str) else yaml.safe_dump(yaml.safe_load(exported["xp.cfg"]) | change)
    torch.save(exported | {"xp.cfg": config}, copy / "state_dict.bin")

    with pytest.raises(InvalidRequest, match=said):
        load(copy)


# --- What is said of it -----------------------------------------------------------------------------------------------


def test_published_weights_are_not_for_commercial_use(model):
    assert (model.info.weights_licence, model.info.commercial_use) == ("CC-BY-NC-4.0", False)
    assert (model.info.sample_rate_hz, model.info.channels) == (RATE_HZ, 1)
    assert "theme" not in model.info.controls


def test_the_revision_is_of_the_files_contents_wherever_they_lie(folder, model, tmp_path):
    same = write_audiocraft(tmp_path / "same", TINY, TINY_CODEC)
    other = write_audiocraft(tmp_path / "other", TINY, TINY_CODEC, seed=8)

    assert load(same).info.revision == model.info.revision
    assert load(other).info.revision != model.info.revision


# --- Living with others -----------------------------------------------------------------------------------------------


def test_nobody_else_meets_the_stand_ins():
    import_audiocraft()

    for name in ("av", "demucs", "dora", "flashy", "num2words", "spacy", "torchaudio"):
        module = sys.modules.get(name)
        assert module is None or module.__spec__.origin is not None
        assert importlib.util.find_spec(name) is None or importlib.util.find_spec(name).origin is not None
    assert "audiocraft.solvers" not in sys.modules


def test_the_spectrogram_has_the_power_of_a_tone_where_it_belongs():
    n_fft, hop = 2048, 512
    wave = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE_HZ) / RATE_HZ)[None]

    power = Spectrogram(n_fft, n_fft, hop, power=2, center=True, pad=0, normalized=True)(wave)

    assert power.shape == (1, n_fft // 2 + 1, 1 + RATE_HZ // hop)
    middle = power[0, :, 30]
    assert int(middle.argmax()) == round(1000 / RATE_HZ * n_fft)
    # A Hann window of sum n/2 and energy 3n/8: |n/4|² / (3n/8) = n/6.
    assert float(middle.max()) == pytest.approx(n_fft / 6, rel=1e-3)
