"""A piece that was cut off goes on in another process to the very same music, and what was drawn is not drawn again."""

import threading
from collections import Counter
from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.audio.encode import encode
from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.engine.resume import OVERHEAD_BYTES, checkpoint_of, codes_of, mark_of
from orchestrion.models.musicgen.model import MusicGen
from orchestrion.models.protocol import Conditioning
from orchestrion.models.settings import ModelSettings
from orchestrion.tracks.request import AudioFormat
from tests.musicgen_checkpoints import TINY, TINY_CODEC, TINY_MELODY, write_hugging_face

#: Five frames a second: a window of 30 s is 150 of them, and moves on by 90.
CODEC = replace(TINY_CODEC, sample_rate_hz=4000, ratios=(5, 5, 8, 4))
FRAMES = 250
#: In the first of three windows, around its end, at the end of the second, and when only audio was left to make.
CUTS = (77, 149, 150, 152, 240, FRAMES)
WISH = Conditioning("happy rock song", "", None, None, None, None, FRAMES / 5, seed=3, theme=None)
MARK = mark_of(WISH, "revision 1")
CODES = np.random.default_rng(1).integers(0, TINY.card, (TINY.codebooks, 20))
KEPT = checkpoint_of(CODES, MARK)


class StepClock:
    """Counts how often it is looked at, for each thread: a step of the decoder or the codec takes a second."""

    def __init__(self) -> None:
        self.looks: Counter[int] = Counter()

    def monotonic_s(self) -> float:
        self.looks[threading.get_ident()] += 1
        return float(self.looks[threading.get_ident()])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    geometries = {"text": TINY, "melody": TINY_MELODY}
    return {
        name: str(write_hugging_face(tmp_path_factory.mktemp(name), geometry, CODEC))
        for name, geometry in geometries.items()
    }


@pytest.fixture
def load(folders):
    """A model of its own for each call, as another process would have it."""
    models = []

    def loaded(name: str = "text", slots: int = 2) -> MusicGen:
        settings = ModelSettings(precision="int8", device="cpu", slots=slots)
        models.append(MusicGen.load(name, folders[name], settings, StepClock()))
        return models[-1]

    yield loaded
    for model in models:
        model.close()


def tune(seconds: float) -> bytes:
    """A new note each second."""
    time_s = np.arange(round(seconds * 44_100)) / 44_100
    wave = 0.2 * np.sin(2 * np.pi * 220 * 2 ** (np.floor(time_s) % 12 / 12) * time_s)
    return encode(wave[:, None].astype(np.float32), 44_100, AudioFormat.WAV)


def heard(performance):
    return np.concatenate(list(performance.chunks))


@pytest.mark.parametrize(
    "name, fields, given_frames",
    [
        ("text", {}, 0),
        ("text", {"temperature": 0.0, "negative_prompt": "drums"}, 0),
        ("melody", {"theme": tune(7.0), "top_p": 0.9}, 0),
        ("melody", {"theme": tune(7.0), "continuation": tune(4.0), "guidance": 1.0}, 20),
        ("text", {"continuation": tune(40.0)}, 200),
    ],
    ids=["sampled", "greedy", "theme", "theme and continuation", "continuation longer than a window"],
)
def test_wherever_it_was_cut_off_the_music_is_the_same(load, name, fields, given_frames):
    wish, first, other = replace(WISH, **fields), load(name), load(name, slots=1)
    whole = first.perform(wish)
    audio = heard(whole)
    mark = mark_of(wish, first.info.revision)
    codes = codes_of(whole.checkpoint(), mark, TINY, longer_than=given_frames, up_to=FRAMES)

    for frames in [frames for frames in CUTS if frames > given_frames]:
        rest = other.perform(wish, resume=checkpoint_of(codes[:, :frames], mark))

        assert np.array_equal(heard(rest), audio), f"cut off after {frames} frames"
        assert rest.choices == whole.choices
    assert other.active == 0


def test_a_piece_cut_off_again_and_again_arrives(load):
    whole = heard(load().perform(WISH))
    kept, model = None, load()
    for attempt in count(1):
        performance = model.perform(WISH, resume=kept)
        neighbour = model.perform(replace(WISH, seed=attempt))
        chunks = list(islice(performance.chunks, 12 * attempt))
        if len(np.concatenate(chunks)) == len(whole):
            break
        kept = performance.checkpoint()
        performance.chunks.close()
        neighbour.chunks.close()
        model = load(slots=1 + attempt % 3)

    assert attempt > 2
    assert np.array_equal(np.concatenate(chunks), whole)


def test_another_thread_may_ask_at_any_moment(load):
    model, asked = load(), []
    performance = model.perform(WISH)
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.001):
            asked.append(performance.checkpoint())

    asking = threading.Thread(target=ask)
    asking.start()
    heard(performance)
    is_over.set()
    asking.join()

    kept = {checkpoint for checkpoint in asked if checkpoint is not None}
    mark = mark_of(WISH, model.info.revision)
    codes = codes_of(performance.checkpoint(), mark, TINY, longer_than=0, up_to=FRAMES)
    for checkpoint in kept:
        so_far = codes_of(checkpoint, mark, TINY, longer_than=0, up_to=FRAMES)
        assert np.array_equal(so_far, codes[:, : so_far.shape[1]])
    assert len(kept) > 5


def test_what_was_drawn_is_not_paid_for_again(load):
    model = load()
    whole = model.perform(WISH)
    heard(whole)
    mark = mark_of(WISH, model.info.revision)
    codes = codes_of(whole.checkpoint(), mark, TINY, longer_than=0, up_to=FRAMES)

    for frames in (60, 170, FRAMES):
        rest = model.perform(WISH, resume=checkpoint_of(codes[:, :frames], mark))
        heard(rest)

        # A step for each column; how many frames the codec gets at once differs a little.
        assert whole.device_s() - rest.device_s() == pytest.approx(frames, abs=15)


def test_there_is_nothing_to_keep_before_something_is_drawn(load):
    model = load()
    fresh, going_on = model.perform(WISH), model.perform(replace(WISH, continuation=tune(4.0)))

    assert fresh.checkpoint() is None
    assert going_on.checkpoint() is None
    next(fresh.chunks)
    assert fresh.checkpoint() is not None


def test_a_checkpoint_that_does_not_fit_changes_nothing(load):
    wish, model = replace(WISH, duration_s=4.0), load()
    whole, other = model.perform(wish), model.perform(replace(wish, seed=4))
    audio = heard(whole)
    heard(other)

    for unfit in (b"", whole.checkpoint()[:-1], other.checkpoint(), b"\xff" * 200):
        assert np.array_equal(heard(model.perform(wish, resume=unfit)), audio)


def test_a_second_of_music_takes_four_hundred_bytes():
    second = np.zeros((4, 50), np.int64)

    assert len(checkpoint_of(np.tile(second, 60), MARK)) - OVERHEAD_BYTES == 60 * 400


@given(frames=st.integers(1, 20))
def test_codes_come_back_as_they_were(frames):
    checkpoint = checkpoint_of(CODES[:, :frames], MARK)

    assert np.array_equal(codes_of(checkpoint, MARK, TINY, longer_than=0, up_to=20), CODES[:, :frames])


@given(at=st.integers(0, len(KEPT) - 1), flipped=st.integers(1, 255))
def test_a_flipped_bit_is_noticed_wherever_it_is(at, flipped):
    damaged = KEPT[:at] + bytes([KEPT[at] ^ flipped]) + KEPT[at + 1 :]

    with pytest.raises(InvalidRequest, match="damaged"):
        codes_of(damaged, MARK, TINY, longer_than=0, up_to=20)


@given(length=st.integers(0, len(KEPT) - 1))
def test_a_part_of_a_checkpoint_is_none(length):
    with pytest.raises(InvalidRequest, match="damaged"):
        codes_of(KEPT[:length], MARK, TINY, longer_than=0, up_to=20)


@pytest.mark.parametrize(
    "mark",
    [
        mark_of(WISH, "revision 2"),
        *(
            mark_of(replace(WISH, **change), "revision 1")
            for change in (
                {"seed": 4},
                {"duration_s": 49.0},
                {"prompt": "sad rock song"},
                {"theme": b"MThd"},
                {"continuation": b"MThd"},
                {"guidance": 3.0},
            )
        ),
    ],
)
def test_the_codes_of_another_piece_are_refused(mark):
    with pytest.raises(InvalidRequest, match="another request, model revision"):
        codes_of(KEPT, mark, TINY, longer_than=0, up_to=20)


@pytest.mark.parametrize("longer_than, up_to", [(20, 30), (0, 19)])
def test_codes_that_are_too_few_or_too_many_are_refused(longer_than, up_to):
    with pytest.raises(InvalidRequest, match="has 20 frames"):
        codes_of(KEPT, MARK, TINY, longer_than=longer_than, up_to=up_to)


def test_codes_that_the_model_does_not_have_are_refused():
    with pytest.raises(InvalidRequest, match="code 2048"):
        codes_of(checkpoint_of(np.full((4, 2), TINY.card), MARK), MARK, TINY, longer_than=0, up_to=20)
