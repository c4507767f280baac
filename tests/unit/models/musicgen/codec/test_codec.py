import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrion.errors import InvalidRequest, Overloaded
from orchestrion.models.musicgen.codec.codec import Codec
from orchestrion.models.musicgen.codec.pytorch import encoder_bytes
from orchestrion.models.musicgen.weights import Conv, Residual, Seanet
from tests.encodec_reference import decode, encode
from tests.musicgen_checkpoints import TINY_CODEC, random_codec

STEREO = replace(TINY_CODEC, channels=2)
#: What the published codec is not: dilated, with odd ratios, through convolutions instead of identities, reflecting.
UNUSUAL = replace(
    TINY_CODEC, ratios=(4, 3, 2), residual_layers=3, pad_mode="reflect", identity_skip=False, lstm_layers=1
)
GEOMETRIES = {
    "constant": TINY_CODEC,
    "reflect": replace(TINY_CODEC, pad_mode="reflect"),
    "stereo": STEREO,
    "unusual": UNUSUAL,
}
DEVICES = ["cpu", "torch-cpu", *(["cuda"] if torch.cuda.is_available() else [])]
LENGTHS = [*range(1, 11), 26, 60]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Torch's threads spin while they wait for each other, which on a busy machine takes minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def weights_of(geometry):
    weights = random_codec(geometry)
    if geometry.identity_skip:
        return weights
    return replace(weights, decoder=with_skips(weights.decoder), encoder=with_skips(weights.encoder))


def with_skips(seanet: Seanet) -> Seanet:
    generator = torch.Generator().manual_seed(3)

    def with_skip(block: Residual) -> Residual:
        width = block.outer.weight.shape[0]
        weight = torch.randn(width, width, 1, generator=generator) * width**-0.5
        return replace(block, skip=Conv(weight, torch.randn(width, generator=generator) * 0.1))

    stages = tuple(replace(stage, residuals=tuple(map(with_skip, stage.residuals))) for stage in seanet.stages)
    return replace(seanet, stages=stages)


@cache
def codec_of(geometry, device="cpu", threads=1) -> Codec:
    return Codec(geometry, weights_of(geometry), slots=4, threads=threads, device=device)


def random_codes(geometry, frames: int, seed: int = 0):
    return np.random.default_rng(seed).integers(0, geometry.card, (geometry.codebooks * geometry.channels, frames))


def pushed(codec: Codec, codes, lengths) -> np.ndarray:
    """The audio of `codes` cut into `lengths`."""
    stream, chunks, start = codec.open(), [], 0
    for length in lengths:
        last = start + length >= codes.shape[1]
        chunks += codec.push([(stream, codes[:, start : start + length], last)])
        start += length
    return np.concatenate(chunks)


def every(length: int, frames: int) -> list[int]:
    return [length] * -(-frames // length)


def error_of_peak(audio, reference) -> float:
    return float(np.abs(audio - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_piece_of_any_length_is_what_the_whole_codec_makes_of_it_at_once(geometry, device):
    codec = codec_of(geometry, device)
    for frames in LENGTHS:
        codes = random_codes(geometry, frames)
        reference = decode(geometry, weights_of(geometry), codes)
        assert reference.shape == (frames * geometry.hop, geometry.channels)
        for chunk in (1, 7, frames):
            audio = pushed(codec, codes, every(chunk, frames))
            assert audio.shape == reference.shape
            assert audio.dtype == np.float32
            assert error_of_peak(audio, reference) <= 1e-5


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_no_bit_depends_on_how_a_piece_is_cut_or_on_the_number_of_threads(geometry):
    codes = random_codes(geometry, 61)
    whole = codec_of(geometry).decode(codes)
    for chunk in (1, 2, 3, 7, 10, 25, 50):
        assert np.array_equal(pushed(codec_of(geometry), codes, every(chunk, 61)), whole)
    assert np.array_equal(pushed(codec_of(geometry, threads=2), codes, every(10, 61)), whole)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8), reflect=st.booleans())
def test_no_bit_depends_on_random_cuts(lengths, reflect):
    geometry = GEOMETRIES["reflect" if reflect else "constant"]
    codes = random_codes(geometry, sum(lengths) + 1)
    codec = codec_of(geometry)
    assert np.array_equal(pushed(codec, codes, [*lengths, 1]), codec.decode(codes))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("geometry", [STEREO, UNUSUAL], ids=["stereo", "unusual"])
def test_no_bit_depends_on_who_shares_the_pushes_or_on_the_slot(geometry, threads):
    codec = codec_of(geometry, threads=threads)
    pieces = [random_codes(geometry, frames, seed=frames) for frames in (1, 23, 44, 70)]
    alone = [codec.decode(codes) for codes in pieces]
    random = np.random.default_rng(5)
    for _ in range(3):
        order = random.permutation(len(pieces))
        streams = {int(i): codec.open() for i in order}
        starts, chunks = dict.fromkeys(streams, 0), {i: [] for i in streams}
        while going := [i for i in streams if starts[i] < pieces[i].shape[1]]:
            sharing = [i for i in going if random.random() < 0.7]
            items = []
            for i in sharing:
                start, stop = starts[i], starts[i] + int(random.integers(0, 31))
                items.append((streams[i], pieces[i][:, start:stop], stop >= pieces[i].shape[1]))
                starts[i] = stop
            for i, samples in zip(sharing, codec.push(items), strict=True):
                chunks[i].append(samples)
        for i, reference in enumerate(alone):
            assert np.array_equal(np.concatenate(chunks[i]), reference)


@pytest.mark.parametrize("device", DEVICES)
def test_more_and_longer_pieces_than_are_worked_on_at_a_time_sound_as_each_alone(device):
    codec = Codec(STEREO, weights_of(STEREO), slots=9, threads=1, device=device)
    pieces = [random_codes(STEREO, 105, seed) for seed in range(9)]
    together = codec.push([(codec.open(), codes, True) for codes in pieces])
    for audio, codes in zip(together, pieces, strict=True):
        alone = codec_of(STEREO, device).decode(codes)
        assert np.array_equal(audio, alone) if device == "cpu" else error_of_peak(audio, alone) <= 1e-5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_frame_sounds_once_its_look_ahead_is_known_and_not_earlier(geometry, device):
    codec = codec_of(geometry, device)
    codes = random_codes(geometry, codec.look_ahead_frames + 1)
    stream = codec.open()
    early, in_time = codec.push([(stream, codes[:, :-1], False)]) + codec.push([(stream, codes[:, -1:], False)])
    stream.close()
    assert len(early) < geometry.hop <= len(early) + len(in_time)


def test_the_published_codec_looks_four_frames_ahead():
    assert codec_of(TINY_CODEC).look_ahead_frames == 4


@pytest.mark.parametrize("device", DEVICES)
def test_left_and_right_come_from_every_other_row_of_codes(device):
    codes = random_codes(STEREO, 12)
    audio = codec_of(STEREO, device).decode(codes)
    left, right = (decode(TINY_CODEC, weights_of(STEREO), codes[side::2])[:, 0] for side in (0, 1))
    assert error_of_peak(audio, np.stack([left, right], axis=1)) <= 1e-5


@pytest.mark.parametrize("device", DEVICES)
def test_a_piece_that_ends_without_more_codes_ends_as_if_they_had_come_together(device):
    codes = random_codes(TINY_CODEC, 9)
    codec = codec_of(TINY_CODEC, device)
    stream = codec.open()
    chunks = codec.push([(stream, codes, False)]) + codec.push([(stream, codes[:, :0], True)])
    assert error_of_peak(np.concatenate(chunks), codec.decode(codes)) <= (0 if device == "cpu" else 1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_a_piece_without_codes_has_no_samples(device):
    assert codec_of(STEREO, device).decode(random_codes(STEREO, 0)).shape == (0, 2)


@pytest.mark.parametrize("device", DEVICES)
def test_a_stream_closed_in_the_middle_leaves_nothing_to_the_next(device):
    codec = Codec(TINY_CODEC, weights_of(TINY_CODEC), slots=1, threads=1, device=device)
    codes = random_codes(TINY_CODEC, 20)
    reference = codec.decode(codes)
    for heard in (1, 2, 5, 19):
        stream = codec.open()
        codec.push([(stream, random_codes(TINY_CODEC, heard, seed=9), False)])
        stream.close()
        stream.close()
        assert np.array_equal(codec.decode(codes), reference)


@pytest.mark.parametrize("device", DEVICES)
def test_streams_open_and_close_while_others_are_pushed(device):
    codec, codes = codec_of(STEREO, device), random_codes(STEREO, 40)
    alone = codec.decode(codes)
    with ThreadPoolExecutor(1) as thread:
        for _ in range(3):
            audio = thread.submit(pushed, codec, codes, every(3, 40))
            while not audio.done():
                codec.open().close()
            assert error_of_peak(audio.result(), alone) <= (0 if device == "cpu" else 1e-5)


@pytest.mark.parametrize("part", ["lstm_layers", "residual_layers"])
def test_a_codec_that_no_musicgen_has_is_refused(part):
    geometry = replace(TINY_CODEC, **{part: 0})
    with pytest.raises(InvalidRequest, match="at least one of each"):
        Codec(geometry, weights_of(TINY_CODEC), slots=1, threads=1)


def test_slots_are_limited_and_come_back():
    codec = Codec(TINY_CODEC, weights_of(TINY_CODEC), slots=2, threads=1)
    first, second = codec.open(), codec.open()
    with pytest.raises(Overloaded, match="all 2 slots"):
        codec.open()
    codec.push([(first, random_codes(TINY_CODEC, 3), True)])
    third = codec.open()
    first.close()
    assert (
        len(codec.push([(third, random_codes(TINY_CODEC, 6), False), (second, random_codes(TINY_CODEC, 6), False)]))
        == 2
    )


def test_a_closed_stream_takes_no_codes():
    codec = codec_of(TINY_CODEC)
    stream = codec.open()
    codec.push([(stream, random_codes(TINY_CODEC, 3), True)])
    with pytest.raises(InvalidRequest, match="closed"):
        codec.push([(stream, random_codes(TINY_CODEC, 3), False)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda codes: codes + TINY_CODEC.card, "0…2047"),
        (lambda codes: codes - TINY_CODEC.card, "0…2047"),
        (lambda codes: codes[:3], "4 codebooks"),
        (lambda codes: codes[0], "4 codebooks"),
        (lambda codes: codes.astype(np.float32), "integers"),
    ],
)
def test_wrong_codes_are_refused_before_anything_is_decoded(wrong, message):
    codec = codec_of(TINY_CODEC)
    codes = random_codes(TINY_CODEC, 12)
    good, bad = codec.open(), codec.open()
    with pytest.raises(InvalidRequest, match=message):
        codec.push([(good, codes, True), (bad, wrong(codes), False)])
    assert np.array_equal(codec.push([(good, codes, True)])[0], codec.decode(codes))
    bad.close()


def test_a_stream_comes_once_in_a_push():
    codec = codec_of(TINY_CODEC)
    stream = codec.open()
    with pytest.raises(InvalidRequest, match="twice"):
        codec.push([(stream, random_codes(TINY_CODEC, 3), False)] * 2)
    stream.close()


def test_memory_is_what_admission_was_told_however_long_the_pieces_are():
    weights = weights_of(STEREO)
    codec_of(STEREO).decode(random_codes(STEREO, 30))  # Compiles.
    tracemalloc.start()
    try:
        codec = Codec(STEREO, weights, slots=3, threads=1)
        streams = [codec.open() for _ in range(3)]
        codes = random_codes(STEREO, 60)
        levels = []
        for _ in range(4):
            tracemalloc.reset_peak()
            for _ in range(3):
                codec.push([(stream, codes, False) for stream in streams])
            levels.append(tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    # Torch's memory isn't traced: the codebooks and what encodes.
    peak = levels[-1][1] + weights.codebooks.nbytes
    predicted = Codec.memory_bytes(STEREO, 3, 60) - encoder_bytes(STEREO)
    assert 0.9 * predicted < peak <= predicted
    # Python's own small objects come and go; what was decoded between the two are 8 MB.
    assert abs(levels[-1][0] - levels[0][0]) < 32 * 1024


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_audio_gets_the_codes_that_the_whole_codec_gives_it(geometry, device):
    codec = codec_of(geometry, device)
    for samples in (1, geometry.hop - 1, geometry.hop, 50 * geometry.hop + 1):
        audio = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, geometry.channels)).astype(np.float32)
        codes = codec.encode(audio)
        assert codes.shape == (geometry.codebooks * geometry.channels, -(-samples // geometry.hop))
        assert codes.dtype == np.int64
        # Distances to two codes may be equal in all but their last bit.
        assert (codes == encode(geometry, weights_of(geometry), audio)).mean() > 0.99
        assert codec.decode(codes).shape == (codes.shape[1] * geometry.hop, geometry.channels)


@pytest.mark.parametrize(
    ("pcm", "message"),
    [
        (np.zeros((0, 1), np.float32), "at least one sample"),
        (np.zeros((640, 2), np.float32), "1 channel"),
        (np.zeros(640, np.float32), "1 channel"),
        (np.full((640, 1), np.nan, np.float32), "finite"),
    ],
)
def test_audio_that_is_none_is_refused(pcm, message):
    with pytest.raises(InvalidRequest, match=message):
        codec_of(TINY_CODEC).encode(pcm)
