"""The CPU decoder computes MusicGen, in every precision, and a slot's columns are its own bit by bit."""

import gc
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import psutil
import pytest
import torch
from torch.nn import functional

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.cpu import plan
from orchestrion.models.musicgen.decoder.cpu.cpu_decoder import CpuDecoder
from orchestrion.models.musicgen.decoder.cpu.crew import Crew
from orchestrion.models.musicgen.decoder.cpu.plan import memory_bytes
from orchestrion.models.musicgen.decoder.decoder import Condition, Draws, Precision, Rows
from orchestrion.models.musicgen.decoder.sampling import NO_CODE, draw
from tests import musicgen_checkpoints as checkpoints
from tests.musicgen_checkpoints import SMALL, lm_geometry, random_lm

PRECISIONS = [Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4]
#: Relative error of the guided logits of these random models, which guidance of 3 makes three times that of one stream.
ERROR = {Precision.FP32: 1e-5, Precision.BF16: 2e-2, Precision.INT8: 8e-2, Precision.INT4: 0.6}
#: With few codes, so that packing the heads does not take up the time; and not a multiple of what a panel holds.
TINY, TINY_STEREO, TINY_MELODY = (
    replace(of, card=123) for of in (checkpoints.TINY, checkpoints.TINY_STEREO, checkpoints.TINY_MELODY)
)
WEIGHTS = {geometry: random_lm(geometry) for geometry in (TINY, TINY_STEREO, TINY_MELODY)}
SLOTS, POSITIONS, ROWS = 4, 64, 24


def decoder(geometry=TINY, precision=Precision.FP32, threads=1, slots=SLOTS):
    return CpuDecoder(
        geometry,
        WEIGHTS[geometry],
        slots=slots,
        max_positions=POSITIONS,
        max_rows=ROWS,
        precision=precision,
        threads=threads,
        max_text=32,
    )


def states(seed, length, geometry=TINY):
    return np.random.default_rng(seed).normal(size=(length, geometry.dim)).astype(np.float32)


def codes(seed, columns, geometry=TINY):
    return np.random.default_rng(seed).integers(0, geometry.card + 1, (columns, geometry.codebooks))


def condition(cross=None, null_cross=None, prefix=None, null_prefix=None, guidance=3.0):
    return Condition(cross, null_cross, prefix, null_prefix, guidance)


def rows(slot, first, tokens, wanted=None):
    """Columns `first` and on of one slot, from the tokens of its whole sequence; all wanted unless told."""
    count = len(tokens)
    wanted = range(count) if wanted is None else wanted
    return Rows(np.full(count, slot), np.arange(first, first + count), tokens, np.array(wanted, np.int64))


def together(parts):
    """One step of several slots' rows."""
    starts = np.cumsum([0, *(len(part.slot) for part in parts)])
    return Rows(
        np.concatenate([part.slot for part in parts]),
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.wanted + start for part, start in zip(parts, starts, strict=False)]),
    )


@cache
def decoder_for_one(geometry, precision):
    return decoder(geometry, precision, slots=1)


def alone(geometry, precision, condition, tokens):
    """Logits [columns, codebooks, card] of a sequence decoded column by column in a decoder with one slot."""
    ours = decoder_for_one(geometry, precision)
    ours.bind(0, condition)
    return np.concatenate([ours.logits(rows(0, at, tokens[at : at + 1])) for at in range(len(tokens))])


def reference(geometry, weights, tokens, cross, prefix):
    """The model as its paper has it, in float64 and with the whole sequence at once: [columns, codebooks, card]."""
    double = torch.float64

    def norm(x, of):
        return functional.layer_norm(x, (geometry.dim,), of.weight.to(double), of.bias.to(double))

    def attend(q, k, v, mask=None):
        q, k, v = (x.unflatten(1, (geometry.heads, -1)).transpose(0, 1) for x in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1).flatten(1)

    x = sum(weights.embeddings[q].to(double)[tokens[:, q]] for q in range(geometry.codebooks))
    if prefix is not None:
        x = torch.cat([torch.from_numpy(prefix).to(double), x[len(prefix) :]])
    half = geometry.dim // 2
    phase = torch.arange(len(x))[:, None] / 10_000.0 ** (torch.arange(half, dtype=double) / (half - 1))
    x = x + torch.cat([phase.cos(), phase.sin()], 1)
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    for layer in weights.layers:
        q, k, v = (norm(x, layer.attention_norm) @ layer.qkv.to(double).T).chunk(3, 1)
        x = x + attend(q, k, v, causal) @ layer.out.to(double).T
        if cross is not None:
            text, of = torch.from_numpy(cross).to(double), layer.cross
            q = norm(x, of.norm) @ of.query.to(double).T
            mixed = attend(q, text @ of.key.to(double).T, text @ of.value.to(double).T)
            x = x + mixed @ of.out.to(double).T
        inner = norm(x, layer.feed_forward_norm) @ layer.up.to(double).T
        x = x + functional.gelu(inner) @ layer.down.to(double).T
    return torch.einsum("td,qcd->tqc", norm(x, weights.out_norm), weights.heads.to(double)).numpy()


def guided_reference(geometry, condition, tokens):
    weights = WEIGHTS[geometry]
    heard = reference(geometry, weights, tokens, condition.cross, condition.prefix)
    if not condition.has_null:
        return heard
    silent = None if condition.prefix is None else np.zeros_like(condition.prefix)
    null_prefix = silent if condition.null_prefix is None else condition.null_prefix
    null = reference(geometry, weights, tokens, condition.null_cross, null_prefix)
    return null + condition.guidance * (heard - null)


CONDITIONS = {
    "text": (TINY, condition(cross=states(1, 9))),
    "stereo": (TINY_STEREO, condition(cross=states(1, 9))),
    "long text": (TINY, condition(cross=states(2, 32))),
    "negative prompt": (TINY, condition(cross=states(3, 5), null_cross=states(4, 17), guidance=2.0)),
    "only a negative prompt": (TINY, condition(null_cross=states(4, 17), guidance=2.0)),
    "no guidance": (TINY, condition(cross=states(5, 3), null_cross=states(6, 3), guidance=1.0)),
    "unconditional": (TINY, condition(guidance=1.0)),
    "prefix": (TINY_MELODY, condition(prefix=states(7, 21), guidance=3.0)),
    "prefix without guidance": (TINY_MELODY, condition(prefix=states(7, 21), guidance=1.0)),
    "prefix of the null": (TINY_MELODY, condition(prefix=states(7, 21), null_prefix=states(8, 21))),
}


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_are_the_models(name, precision):
    geometry, heard = CONDITIONS[name]
    tokens = codes(11, 40, geometry)
    expected = guided_reference(geometry, heard, tokens)[heard.prefix_columns :]
    logits = alone(geometry, precision, heard, tokens)[heard.prefix_columns :]
    error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    assert error < ERROR[precision]
    if precision is Precision.FP32:
        assert np.array_equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_schedule_gives_a_request_the_bits_it_gets_alone(precision, threads):
    """Requests join, are fed in pieces of any size and leave; their slots are taken again."""
    random = np.random.default_rng(100)
    geometry = TINY
    kinds = [heard for of, heard in CONDITIONS.values() if of is geometry]
    requests = [(kinds[i % len(kinds)], codes(i, int(random.integers(3, 40)))) for i in range(12)]
    expected = [alone(geometry, precision, *request) for request in requests]

    ours = decoder(precision=precision, threads=threads)
    waiting, playing, free = list(range(len(requests))), {}, list(range(SLOTS))
    compared = 0
    while waiting or playing:
        while waiting and free and random.random() < 0.6:
            request, slot = waiting.pop(0), free.pop(int(random.integers(len(free))))
            ours.bind(slot, requests[request][0])
            playing[slot] = [request, 0]
        parts, done = [], []
        for slot, (request, at) in playing.items():
            if random.random() < 0.2:
                continue
            left = ROWS - sum(len(part.slot) for part in parts)
            count = min(int(random.choice([1, 1, 1, 2, 7, 13])), len(requests[request][1]) - at, left)
            if count:
                parts.append(rows(slot, at, requests[request][1][at : at + count], wanted=[count - 1]))
                playing[slot][1] = at + count
                done.append((slot, request, at + count))
        random.shuffle(order := list(range(len(parts))))
        if not parts:
            continue
        logits = ours.logits(together([parts[i] for i in order]))
        for index, i in enumerate(order):
            slot, request, at = done[i]
            assert np.array_equal(logits[index], expected[request][at - 1]), (request, at)
            compared += 1
            if at == len(requests[request][1]) or random.random() < 0.02:
                free.append(slot)
                del playing[slot]
    ours.close()
    assert compared > 40


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_a_prefix_may_come_in_pieces(precision):
    geometry, heard = CONDITIONS["prefix"]
    tokens = codes(11, 40, geometry)
    expected = alone(geometry, precision, heard, tokens)
    ours = decoder(geometry, precision, threads=2)
    ours.bind(2, heard)
    pieces = [ours.logits(rows(2, first, tokens[first:last])) for first, last in [(0, 5), (5, 24), (24, 25), (25, 40)]]
    ours.close()
    assert np.array_equal(np.concatenate(pieces), expected)


def test_codes_within_a_prefix_do_not_matter():
    geometry, heard = CONDITIONS["prefix"]
    tokens = codes(11, 23, geometry)
    nonsense = tokens.copy()
    nonsense[:21] = -(10**12)
    expected, logits = (alone(geometry, Precision.FP32, heard, of) for of in (tokens, nonsense))
    assert np.array_equal(logits[21:], expected[21:])


def test_a_step_draws_from_its_logits():
    ours, tokens = decoder(), codes(1, 10)
    draws = Draws(
        seed=np.array([7, 8], np.uint64),
        column=np.array([9, 9]),
        temperature=np.array([1.0, 0.0], np.float32),
        top_k=np.array([25, 0]),
        top_p=np.zeros(2, np.float32),
    )
    parts = together([rows(slot, 0, tokens, wanted=[9]) for slot in (0, 3)])
    results = []
    for method in (ours.logits, lambda rows: ours.step(rows, draws)):
        for slot in (0, 3):
            ours.bind(slot, CONDITIONS["text"][1])
        results.append(method(parts))
    logits, drawn = results
    assert drawn.shape == (2, TINY.codebooks)
    assert np.array_equal(drawn, draw(logits, draws))
    assert np.array_equal(drawn[1], logits[1].argmax(-1))


def test_a_step_may_want_nothing():
    ours, tokens = decoder(), codes(1, 10)
    ours.bind(0, CONDITIONS["text"][1])
    assert ours.logits(rows(0, 0, tokens, wanted=[])).shape == (0, TINY.codebooks, TINY.card)
    assert ours.logits(rows(0, 10, tokens[:1])).shape == (1, TINY.codebooks, TINY.card)


def test_the_condition_given_may_change_or_go_once_bound():
    geometry, heard = CONDITIONS["prefix"]
    tokens = codes(11, 30, geometry)
    expected = alone(geometry, Precision.FP32, heard, tokens)
    ours = decoder(geometry)
    given = replace(heard, prefix=heard.prefix.copy())
    ours.bind(0, given)
    given.prefix[:] = 99
    assert np.array_equal(
        np.concatenate([ours.logits(rows(0, 0, tokens[:20])), ours.logits(rows(0, 20, tokens[20:]))]), expected
    )


def test_what_does_not_fit_is_refused():
    ours = decoder()
    with pytest.raises(InvalidRequest, match=r"prompt: .*at most 32 text tokens.*33"):
        ours.bind(0, condition(cross=states(1, 33)))
    with pytest.raises(InvalidRequest, match=r"negative_prompt: .*at most 32 text tokens.*40"):
        ours.bind(0, condition(null_cross=states(1, 40)))
    with pytest.raises(InvalidRequest, match=r"prefix: .*at most 63 columns.*64"):
        ours.bind(0, condition(prefix=states(1, 64)))
    with pytest.raises(InvalidRequest, match=r"precision: .*CUDA.*fp8"):
        decoder(precision=Precision.FP8)
    with pytest.raises(InvalidRequest, match=r"model: .*steps of 16"):
        memory_bytes(lm_geometry(40, 4, 2), 1, 8, 8, Precision.FP32)


def test_rows_that_do_not_follow_are_refused_and_change_nothing():
    ours, tokens = decoder(), codes(1, POSITIONS + 1)
    with pytest.raises(ValueError, match="slot 1 has not been bound"):
        ours.logits(rows(1, 0, tokens[:1]))
    ours.bind(1, CONDITIONS["text"][1])
    with pytest.raises(ValueError, match="position 1 of slot 1, which has 0 of 64 columns"):
        ours.logits(rows(1, 1, tokens[:1]))
    with pytest.raises(ValueError, match="25 rows: this decoder takes at most 24"):
        ours.logits(rows(1, 0, tokens[:25]))
    with pytest.raises(ValueError, match=r"codes from .* to 124: this model has 0 to 123"):
        ours.logits(rows(1, 0, np.array([[0, 1, 2, 124]])))
    for first in range(0, POSITIONS, 16):
        ours.logits(rows(1, first, tokens[first : first + 16]))
    with pytest.raises(ValueError, match="position 64 of slot 1, which has 64 of 64 columns"):
        ours.logits(rows(1, 64, tokens[64:]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_memory_is_what_was_foretold(precision):
    sizes = {"slots": 32, "max_positions": 1500, "max_rows": 64, "precision": precision, "max_text": 200}
    before = psutil.Process().memory_info().vms
    ours = CpuDecoder(TINY, WEIGHTS[TINY], threads=1, **sizes)
    allocated = psutil.Process().memory_info().vms - before
    ours.close()
    foretold = memory_bytes(TINY, threads=1, **sizes)
    assert abs(allocated - foretold) < 0.02 * foretold + 2**20


@pytest.mark.parametrize(("precision", "bytes_a_weight"), [("fp32", 4), ("bf16", 2), ("int8", 1), ("int4", 9 / 16)])
def test_memory_of_a_published_model_is_its_weights_and_caches(precision, bytes_a_weight):
    """The small model: 16 d² a layer and 8,192 heads in the precision; embeddings and positions in float32."""
    weights = (24 * 16 * 1024**2 + 8192 * 1024) * bytes_a_weight + 4 * (4 * 2049 + 1504) * 1024
    cache = 8 * 2 * 24 * 2 * (1504 + 256) * 1024 * (4 if precision == "fp32" else 2)
    foretold = memory_bytes(SMALL, 8, 1504, 64, Precision(precision), 256)
    assert weights + cache < foretold < 1.03 * (weights + cache)


def crew_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("musicgen-decoder")}


def test_threads_end_when_the_decoder_is_closed_or_forgotten():
    before = crew_threads()
    closed, forgotten = decoder(threads=2), decoder(threads=3)
    started = crew_threads() - before
    assert len(started) == 5
    closed.close()
    del forgotten
    gc.collect()
    for thread in started:
        thread.join(10)
    assert crew_threads() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_a_closed_decoder_says_so(threads):
    ours = decoder(threads=threads)
    ours.bind(0, condition())
    ours.close()
    with pytest.raises(ValueError, match="this decoder has been closed"):
        ours.logits(rows(0, 0, codes(1, 1)))


def test_what_goes_wrong_in_a_thread_reaches_the_caller_and_the_crew_works_on():
    crew, seen = Crew(3), []

    def fail_on_one(threads, thread):
        if thread == 1:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        crew.run(fail_on_one)
    crew.run(lambda *numbers: seen.append(numbers))
    crew.close()
    assert sorted(seen) == [(3, 0), (3, 1), (3, 2)]


def overflowing_keys():
    """A model whose keys overflow float16 for some codes only: one channel of them sees one input, enlarged."""
    weights = WEIGHTS[TINY]
    first = weights.layers[0]
    qkv = first.qkv.clone()
    qkv[TINY.dim] = 0
    qkv[TINY.dim, 0] = 1e5
    return replace(weights, layers=(replace(first, qkv=qkv), *weights.layers[1:]))


def codes_by_key(weights, positions):
    """For each position, codes whose key stays within float16 and codes whose key does not: 2 x [positions, 4]."""
    x = weights.embeddings[:, : TINY.card].sum(0) + plan.positions(positions, TINY.dim)[:, None]
    norm = weights.layers[0].attention_norm
    keys = functional.layer_norm(x, (TINY.dim,), norm.weight, norm.bias)[:, :, 0].abs() * 1e5
    return np.repeat(keys.argmin(1)[:, None].numpy(), 4, 1), np.repeat(keys.argmax(1)[:, None].numpy(), 4, 1)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.INT8, Precision.INT4])
def test_a_key_too_large_for_the_cache_fails_its_slot_and_no_other(precision):
    weights, columns = overflowing_keys(), 6
    good, bad = codes_by_key(weights, columns)
    silent = Condition(None, None, None, None, 1.0)

    def made():
        return CpuDecoder(
            TINY, weights, slots=2, max_positions=16, max_rows=8, precision=precision, threads=1, max_text=8
        )

    alone, both = made(), made()
    for slot in (0, 1):
        both.bind(slot, silent)
    alone.bind(0, silent)
    for at in range(columns):
        own = rows(0, at, good[at : at + 1])
        # The other slot has one overflow, in a column that nothing is drawn from, and is well-behaved afterwards.
        other = rows(1, at, (bad if at == 2 else good)[at : at + 1], wanted=[] if at == 2 else None)
        expected, answers = alone.logits(own), both.logits(together([own, other]))
        assert np.array_equal(answers[0], expected[0])
        assert np.isfinite(expected).all()
        if at != 2:
            assert np.isfinite(answers[1]).all() == (at < 2)
    both.bind(1, silent)
    assert np.isfinite(both.logits(rows(1, 0, good[:1]))).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])  # The last one is a number whose square is none.
def test_a_prefix_or_text_without_numbers_is_drawn_nothing_from(precision, value):
    spoilt = states(1, 9, TINY_MELODY)
    spoilt[4, 7] = value
    prefixed = decoder(TINY_MELODY, precision, slots=2)
    for slot, prefix in enumerate((states(1, 9, TINY_MELODY), spoilt)):
        prefixed.bind(slot, Condition(None, None, prefix, None, 1.0))
    given = np.zeros((10, 4), np.int64)
    draws = Draws(np.zeros(2, np.uint64), np.zeros(2, np.int64), *(np.zeros(2, kind) for kind in ("f4", "i8", "f4")))
    codes = prefixed.step(together([rows(slot, 0, given, wanted=[9]) for slot in (0, 1)]), draws)

    assert (codes[0] >= 0).all()
    assert (codes[1] == NO_CODE).all()

    said = states(1, 9)
    said[4, 7] = value
    texts = decoder(TINY, precision, slots=2)
    texts.bind(0, Condition(states(1, 9), None, None, None, 1.0))
    texts.bind(1, Condition(said, None, None, None, 1.0))
    codes = texts.step(together([rows(slot, 0, given[:1]) for slot in (0, 1)]), draws)
    assert (codes[0] >= 0).all()
    assert (codes[1] == NO_CODE).all()


def test_a_later_window_finds_its_text_there():
    ours, heard = decoder(slots=2), condition(cross=states(1, 9))
    given = np.full((1, 4), 5)
    ours.bind(0, heard)
    first = ours.logits(rows(0, 0, given))
    for other in (condition(cross=states(2, 20)), condition(cross=states(1, 9)), heard, heard):
        ours.bind(0, other)
        assert np.array_equal(ours.logits(rows(0, 0, given)), first) == (other.text_states == 9)
