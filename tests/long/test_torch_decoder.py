"""The torch decoder equals a forward pass over the whole sequence, and no request changes another's bits."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.decoder import Condition, Draws, Precision, Rows
from orchestrion.models.musicgen.decoder.pytorch.cuda_graphs import GRAPH_ROWS, graph_rows, graphs_up_to
from orchestrion.models.musicgen.decoder.pytorch.torch_arithmetic import (
    CHUNK,
    PlainArithmetic,
    activation_dtype,
    quantise,
)
from orchestrion.models.musicgen.decoder.pytorch.torch_decoder import TorchDecoder, memory_bytes
from orchestrion.models.musicgen.decoder.sampling import DeviceDraws, draw
from tests.musicgen_checkpoints import TINY, TINY_MELODY, TINY_STEREO, random_lm
from tests.triton_interpreter import interpreted

FP32, BF16, FP8 = Precision.FP32, Precision.BF16, Precision.FP8
CPU, CUDA, INTERPRETER = "cpu", "cuda", "triton's interpreter"
PLACES = [(CPU, FP32), (CPU, BF16)]
if torch.cuda.is_available():
    PLACES += [(CUDA, FP32), (CUDA, BF16)] + [(CUDA, FP8)] * (torch.cuda.get_device_capability() >= (8, 9))
EXACT_PLACES = [place for place, precision in PLACES if precision is FP32]
#: The kernels for CUDA run on a card, or else in Triton's interpreter; there is no Triton but for Linux.
KERNEL_PLACES = EXACT_PLACES
if sys.platform == "linux" and not torch.cuda.is_available():
    KERNEL_PLACES = [CPU, INTERPRETER]
#: Small enough to be quick, large enough that a wrong mask, position or codebook shows.
GEOMETRIES = {
    "mono": replace(TINY, card=64),
    "stereo": replace(TINY_STEREO, card=64),
    "melody": replace(TINY_MELODY, card=64, chroma_frames=5),
    # For the interpreter: a program of a few microseconds takes it ten milliseconds.
    "one layer": replace(TINY_STEREO, card=32, layers=1),
}
NAMES = ["mono", "stereo", "melody"]
WEIGHTS = {name: random_lm(geometry) for name, geometry in GEOMETRIES.items()}


@pytest.fixture(autouse=True)
def _one_thread():
    """Products this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def decoder(name="mono", place=CPU, precision=FP32, slots=3, arithmetic=None, **sizes) -> TorchDecoder:
    if place == INTERPRETER:
        arithmetic, place = interpreted(precision), CPU
    return TorchDecoder(
        GEOMETRIES[name],
        WEIGHTS[name],
        slots=slots,
        precision=precision,
        device=place,
        arithmetic=arithmetic,
        **({"max_positions": 40, "max_rows": 64, "max_text": 16} | sizes),
    )


def condition(name, rng, *, guidance=3.0, text=7, null_text=0) -> Condition:
    def states(n):
        return rng.normal(size=(n, GEOMETRIES[name].dim)).astype(np.float32) if n else None

    if name == "melody":
        prefix = text + GEOMETRIES[name].chroma_frames
        return Condition(None, None, states(prefix), states(prefix) if null_text else None, guidance)
    return Condition(states(text), states(null_text), None, None, guidance)


def one_slot(slot, position, tokens, wanted=None) -> Rows:
    n = len(position)
    return Rows(np.full(n, slot), position, tokens, np.arange(n) if wanted is None else wanted)


def full_sequence(geometry, weights, tokens, cross, prefix) -> torch.Tensor:
    """Logits [columns, codebooks, card] of one stream, the whole sequence at once and nothing cached."""
    heads, dim = geometry.heads, geometry.dim

    def attention(queries, keys, values, mask):
        q, k, v = (t.view(len(t), heads, -1).transpose(0, 1) for t in (queries, keys, values))
        scores = q @ k.transpose(1, 2) * geometry.head_dim**-0.5
        return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v).transpose(0, 1).reshape(len(queries), dim)

    def normal(x, norm):
        return F.layer_norm(x, (dim,), norm.weight, norm.bias)

    x = sum(weights.embeddings[q][torch.from_numpy(tokens[:, q])] for q in range(geometry.codebooks))
    x = torch.cat([prefix, x])
    half = torch.arange(dim // 2)
    phase = torch.arange(len(x))[:, None] / 10_000 ** (half / (dim // 2 - 1))
    x = x + torch.cat([phase.cos(), phase.sin()], 1)
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    for layer in weights.layers:
        q, k, v = F.linear(normal(x, layer.attention_norm), layer.qkv).chunk(3, dim=1)
        x = x + F.linear(attention(q, k, v, causal), layer.out)
        if cross is not None:
            queries = F.linear(normal(x, layer.cross.norm), layer.cross.query)
            everything = torch.ones(len(x), len(cross), dtype=torch.bool)
            keys, values = F.linear(cross, layer.cross.key), F.linear(cross, layer.cross.value)
            x = x + F.linear(attention(queries, keys, values, everything), layer.cross.out)
        x = x + F.linear(F.gelu(F.linear(normal(x, layer.feed_forward_norm), layer.up)), layer.down)
    return torch.einsum("td,qcd->tqc", normal(x, weights.out_norm)[len(prefix) :], weights.heads)


def reference(name, heard: Condition, tokens) -> np.ndarray:
    geometry, weights = GEOMETRIES[name], WEIGHTS[name]
    as_tensor = lambda a: None if a is None else torch.from_numpy(a)  # noqa: E731
    prefix = torch.zeros(0, geometry.dim) if heard.prefix is None else torch.from_numpy(heard.prefix)
    conditional = full_sequence(geometry, weights, tokens, as_tensor(heard.cross), prefix)
    if heard.guidance == 1:
        return conditional.numpy()
    null_prefix = torch.zeros_like(prefix) if heard.null_prefix is None else torch.from_numpy(heard.null_prefix)
    null = full_sequence(geometry, weights, tokens, as_tensor(heard.null_cross), null_prefix)
    return (null + (conditional - null) * heard.guidance).numpy()


@pytest.mark.parametrize("place", EXACT_PLACES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "choice",
    [{}, {"null_text": 4}, {"guidance": 1.0}, {"text": 0, "guidance": 1.0}],
    ids=["empty null", "negative prompt", "no guidance", "unconditional"],
)
def test_logits_are_those_of_the_whole_sequence_at_once(name, place, choice):
    equals_the_whole_sequence(name, place, choice, columns=12)


@pytest.mark.parametrize("place", KERNEL_PLACES)
def test_the_kernels_logits_are_those_of_the_whole_sequence_at_once(place):
    equals_the_whole_sequence("one layer", place, {"null_text": 4}, columns=7)


def equals_the_whole_sequence(name, place, choice, columns):
    """Half of it prefilled in two chunks, the rest column by column."""
    rng = np.random.default_rng(3)
    heard = condition(name, rng, **choice)
    tokens = rng.integers(0, GEOMETRIES[name].card + 1, (columns, GEOMETRIES[name].codebooks))
    prefix = heard.prefix_columns
    padded = np.concatenate([np.full((prefix, tokens.shape[1]), -1), tokens])
    theirs = decoder(name, place)
    theirs.bind(2, condition(name, rng))
    theirs.bind(2, heard)
    got = []
    ends = [4, prefix + 6, *range(prefix + 7, prefix + columns + 1)]
    for begin, end in zip([0, *ends], ends, strict=False):
        places = np.arange(begin, end)
        got.append(theirs.logits(one_slot(2, places, padded[begin:end], np.flatnonzero(places >= prefix))))
    expected = reference(name, heard, tokens)
    assert np.abs(np.concatenate(got) - expected).max() < 1e-5 * np.abs(expected).max()


class Request:
    """A piece as a schedule sees it: what it hears, its next column, the codes so far."""

    def __init__(self, name, seed) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        guidance = (1.0, 2.0, 3.0)[seed % 3]
        self.heard = condition(name, rng, guidance=guidance, text=int(rng.integers(0, 16)), null_text=seed % 2 * 3)
        self.columns = self.heard.prefix_columns + int(rng.integers(3, 12))
        self.prompt = rng.integers(0, GEOMETRIES[name].card, (self.columns, GEOMETRIES[name].codebooks))
        self.temperature, self.top_k, self.top_p = [(0.0, 0, 0.0), (1.0, 20, 0.0), (0.8, 0, 0.9)][seed % 3]
        # Given columns, prefilled in chunks: the prefix and a few codes.
        self.given = self.heard.prefix_columns + int(rng.integers(1, 4))
        self.done = 0
        self.codes: list[np.ndarray] = []

    def chunk(self, limit: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """Positions and tokens of its next rows, and whether the last of them is drawn from."""
        end = min(self.done + limit, self.given) if self.done < self.given else self.done + 1
        positions = np.arange(self.done, end)
        tokens = np.stack([self.prompt[p] if p < self.given else self.codes[p - self.given] for p in positions])
        self.done = end
        return positions, tokens, end >= self.given


def run(theirs: TorchDecoder, requests: list[Request], rng: np.random.Generator) -> None:
    """Play all requests through `theirs` in random company, slots and chunks."""
    waiting, playing = list(requests), {}
    while waiting or playing:
        free = [s for s in range(theirs.slots) if s not in playing]
        while free and waiting and (not playing or rng.random() < 0.5):
            slot = free.pop(rng.integers(len(free)))
            playing[slot] = waiting.pop(0)
            theirs.bind(slot, playing[slot].heard)
        active = [s for s in rng.permutation(list(playing)) if rng.random() < 0.8] or list(playing)[:1]
        chunks = {slot: playing[slot].chunk(int(rng.integers(1, 9))) for slot in active}
        ends = np.cumsum([len(positions) for positions, _, _ in chunks.values()])
        rows = Rows(
            slot=np.repeat(list(chunks), [len(positions) for positions, _, _ in chunks.values()]),
            position=np.concatenate([positions for positions, _, _ in chunks.values()]),
            tokens=np.concatenate([tokens for _, tokens, _ in chunks.values()]),
            wanted=np.array([end - 1 for end, chunk in zip(ends, chunks.values(), strict=True) if chunk[2]], np.int64),
        )
        drawn = [playing[slot] for slot in chunks if chunks[slot][2]]
        draws = Draws(
            seed=np.array([r.seed for r in drawn], np.uint64),
            column=np.array([r.done for r in drawn], np.int64),
            temperature=np.array([r.temperature for r in drawn], np.float32),
            top_k=np.array([r.top_k for r in drawn], np.int64),
            top_p=np.array([r.top_p for r in drawn], np.float32),
        )
        for request, codes in zip(drawn, theirs.step(rows, draws), strict=True):
            request.codes.append(codes)
        playing = {slot: r for slot, r in playing.items() if r.done < r.columns}


@pytest.mark.parametrize(("place", "precision"), PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_codes_do_not_depend_on_company_slot_or_chunks(name, place, precision):
    theirs = decoder(name, place, precision, slots=4)
    together = [Request(name, seed) for seed in range(9)]
    run(theirs, together, np.random.default_rng(4))
    for seed, request in enumerate(together):
        alone = Request(name, seed)
        run(theirs, [alone], np.random.default_rng(100 + seed))
        assert np.array_equal(request.codes, alone.codes)


@pytest.mark.parametrize(("place", "precision"), PLACES)
def test_logits_do_not_depend_on_company_bit_by_bit(place, precision):
    have_the_same_logits_alone_and_together("mono", place, precision, requests=20, columns=6)


@pytest.mark.parametrize("place", KERNEL_PLACES)
def test_the_kernels_logits_do_not_depend_on_company_bit_by_bit(place):
    have_the_same_logits_alone_and_together("one layer", place, FP32, requests=4, columns=1)


def have_the_same_logits_alone_and_together(name, place, precision, requests, columns):
    """Codes forgive a last bit; logits do not. All requests column by column, against each of them alone at once."""
    rng = np.random.default_rng(5)
    theirs = decoder(name, place, precision, slots=requests)
    tokens = rng.integers(0, GEOMETRIES[name].card, (requests, columns, GEOMETRIES[name].codebooks))
    for slot in range(requests):
        theirs.bind(slot, condition(name, rng, guidance=1.0 if slot % 5 == 0 else 3.0, null_text=slot % 3))
    last = np.array([columns - 1])
    alone = [theirs.logits(one_slot(s, np.arange(columns), tokens[s], last)) for s in range(requests)]
    for column in range(columns):
        order = rng.permutation(requests)
        together = theirs.logits(Rows(order, np.full(requests, column), tokens[order, column], np.arange(requests)))
    assert np.array_equal(together, np.concatenate(alone)[order])


@pytest.mark.parametrize(
    ("place", "precision"), [(place, FP32) for place in KERNEL_PLACES] + [p for p in PLACES if p[0] == CUDA]
)
def test_a_sum_is_the_same_bits_whether_programs_share_it_or_one_has_it_all(place, precision):
    """Few rows are shared out in parts, many are not."""
    theirs, generator = decoder(place=place, precision=precision), torch.Generator().manual_seed(14)
    device = CUDA if place == CUDA else CPU
    inputs = torch.randn(150, 256, generator=generator).to(device, activation_dtype(precision))
    streams = torch.randn(150, 64, generator=generator).to(device)
    do, layer = theirs._arithmetic, theirs._layers[0]
    of_few, of_many = streams[:3].clone(), streams.clone()
    for x in (of_few, of_many):
        do.norm(x, do.parts(inputs[: len(x)], layer.down), layer.attention_norm)
    assert torch.equal(of_many[:3], of_few)
    assert not torch.equal(of_few, streams[:3])


class PaddedSteps:
    """What a replayed graph computes, without the graph."""

    def __init__(self, theirs: TorchDecoder) -> None:
        self.theirs = theirs

    def replay(self, table, shape):
        padding = self.theirs._padding.repeat(graph_rows(len(table)) - len(table), 1)
        return self.theirs._codes(torch.cat([table, padding]), shape)[: len(table)]


@pytest.mark.parametrize("name", NAMES)
def test_the_padding_of_a_graph_changes_nobody(name):
    theirs, padded = decoder(name, slots=7), decoder(name, slots=7)
    padded._graphs = PaddedSteps(padded)
    pieces, padded_pieces = ([Request(name, seed) for seed in range(9)] for _ in range(2))
    run(theirs, pieces, np.random.default_rng(12))
    run(padded, padded_pieces, np.random.default_rng(12))
    for piece, padded_piece in zip(pieces, padded_pieces, strict=True):
        assert np.array_equal(piece.codes, padded_piece.codes)


if torch.cuda.is_available():

    def test_a_graph_is_recorded_while_another_thread_takes_memory():
        """As the codec does, when a request is the first without guidance in the middle of other music."""
        theirs, over = decoder(place=CUDA, slots=64), threading.Event()
        rng = np.random.default_rng(15)
        rows = Rows(np.arange(40), np.zeros(40, np.int64), rng.integers(0, 64, (40, 4)), np.arange(40))
        draws = Draws(*(np.zeros(40, dtype) for dtype in (np.uint64, np.int64, np.float32, np.int64, np.float32)))
        for slot in range(40):
            theirs.bind(slot, condition("mono", rng, guidance=1.0))

        def take():
            with torch.cuda.stream(torch.cuda.Stream()):
                taken = []
                while not over.is_set() and len(taken) < 400:
                    taken.append(torch.zeros(1 << 22, device=CUDA))
                return len(taken)

        with ThreadPoolExecutor(1) as other:
            taken = other.submit(take)
            for n in (1, 2, 4, 40):
                codes = theirs.step(
                    Rows(rows.slot[:n], rows.position[:n], rows.tokens[:n], rows.wanted[:n]),
                    Draws(draws.seed[:n], draws.column[:n], draws.temperature[:n], draws.top_k[:n], draws.top_p[:n]),
                )
            over.set()
            assert taken.result()
        assert np.array_equal(theirs.step(rows, draws), codes)


@pytest.mark.parametrize(("n", "graphs"), [(1, [1]), (5, [1, 2, 4, 8]), (130, [*GRAPH_ROWS, 192])])
def test_every_number_of_rows_has_a_graph_and_no_graph_is_made_in_vain(n, graphs):
    assert list(graphs_up_to(n)) == graphs
    assert {graph_rows(rows) for rows in range(1, n + 1)} == set(graphs)


def test_bf16_is_close_to_fp32_and_fp8_not_far():
    rng = np.random.default_rng(6)
    heard, tokens = condition("mono", rng), rng.integers(0, 64, (20, 4))
    logits = {}
    for precision in (FP32, BF16, FP8):
        theirs = decoder("mono", precision=precision)
        theirs.bind(0, heard)
        logits[precision] = theirs.logits(one_slot(0, np.arange(20), tokens))
    spread = logits[FP32].std()
    assert (logits[BF16] - logits[FP32]).std() < 0.05 * spread
    assert (logits[FP8] - logits[FP32]).std() < 0.3 * spread


def test_fp8_keeps_a_row_within_the_format_s_rounding():
    rows = torch.randn(4, 100, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-6, 1, 1e6, 0])[:, None]
    quantised, scale = quantise(rows)
    # Three bits of mantissa: half of 2**-3, and below the smallest normal number an absolute step.
    assert torch.all((quantised.float() * scale[:, None] - rows).abs() <= rows.abs() / 16 + scale[:, None] * 2**-10)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
def test_a_precision_of_the_other_decoder_is_refused(precision):
    with pytest.raises(InvalidRequest, match=r"fp32, bf16, fp8.*int"):
        decoder(precision=precision)


def test_too_long_a_text_or_prefix_is_refused():
    rng = np.random.default_rng(7)
    with pytest.raises(InvalidRequest, match="shorten it to 16 tokens"):
        decoder().bind(0, condition("mono", rng, text=17))
    with pytest.raises(InvalidRequest, match="negative_prompt"):
        decoder().bind(0, condition("mono", rng, null_text=17))
    with pytest.raises(InvalidRequest, match="share 12"):
        decoder("melody", max_positions=12).bind(0, condition("melody", rng))


def test_steps_beyond_the_caches_are_refused_before_they_write():
    rng = np.random.default_rng(8)
    theirs = decoder(max_positions=8, max_rows=4)
    theirs.bind(0, condition("mono", rng))
    tokens = rng.integers(0, 64, (5, 4))
    with pytest.raises(ValueError, match="5 rows; this decoder takes 1 to 4"):
        theirs.logits(one_slot(0, np.arange(5), tokens))
    with pytest.raises(ValueError, match="position 8"):
        theirs.logits(one_slot(0, np.arange(6, 9), tokens[:3]))


@pytest.mark.parametrize("name", ["mono", "stereo"])
@pytest.mark.parametrize("precision", [FP32, BF16, FP8])
def test_its_memory_is_what_was_foretold(name, precision):
    """What is allocated for good; the foretold work of a step, here of few rows, may come on top."""
    sizes = {"slots": 6, "max_positions": 600, "max_rows": 1, "max_text": 200}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        theirs = decoder(name, precision=precision, **sizes)
    taken = sum(event.self_cpu_memory_usage for event in profiler.key_averages())
    theirs.close()
    foretold = memory_bytes(GEOMETRIES[name], precision=precision, **sizes)
    assert 0.85 * foretold < taken <= foretold


class Full(PlainArithmetic):
    """A device whose memory is full while `is_full`."""

    is_full = False

    def attend(self, *arguments):
        if Full.is_full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().attend(*arguments)


def test_no_room_on_the_device_is_a_memory_error_and_a_new_bind_mends_it(monkeypatch):
    rng = np.random.default_rng(9)
    heard, rows = condition("mono", rng), one_slot(0, np.arange(3), rng.integers(0, 64, (3, 4)))
    theirs = decoder(arithmetic=Full(FP32))
    theirs.bind(0, heard)
    expected = theirs.logits(rows)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Full, "is_full", True)
        with pytest.raises(MemoryError):
            theirs.logits(rows)
    theirs.bind(0, heard)
    assert np.array_equal(theirs.logits(rows), expected)


@pytest.mark.parametrize("place", KERNEL_PLACES)
def test_attention_weighs_each_place_of_its_own_stream_and_none_beyond(place):
    """Also over more places than one program takes, and over none."""
    generator = torch.Generator().manual_seed(13)
    places = 2 * CHUNK + 50
    cache = torch.randn(2, 5, 3, places, 16, generator=generator)
    queries = torch.randn(5, 3, 16, generator=generator)
    streams, lengths = torch.tensor([0, 4, 1, 2, 0]), torch.tensor([1, places, 0, CHUNK, CHUNK + 1])
    device = CUDA if place == CUDA else CPU
    attend = decoder(place=place)._arithmetic.attend
    attended = attend(*(tensor.to(device) for tensor in (queries, cache, streams, lengths))).cpu()
    for row, (stream, length) in enumerate(zip(streams, lengths, strict=True)):
        keys, values = cache[:, stream, :, :length].double()
        weights = torch.einsum("hd,hpd->hp", queries[row].double(), keys).div(4).softmax(-1)
        expected = torch.einsum("hp,hpd->hd", weights, values).flatten()
        assert torch.allclose(attended[row].double(), expected, atol=1e-6)


@pytest.mark.parametrize("place", KERNEL_PLACES)
def test_the_device_draws_the_codes_that_numpy_draws(place):
    """Through the decoder's own draw: on a card, a kernel."""
    rng = np.random.default_rng(10)
    w, card = (6, 20) if place == INTERPRETER else (400, 500)
    logits = (rng.normal(size=(w, 4, card)) * 3).astype(np.float16).astype(np.float32)
    logits[1, 2, 3] = np.nan
    draws = Draws(
        seed=rng.integers(0, 2**64, w, np.uint64),
        column=rng.integers(0, 3000, w),
        temperature=rng.choice(np.array([0, 0.7, 1, 1.3], np.float32), w),
        top_k=rng.choice([0, 5, 1000], w),
        top_p=rng.choice(np.array([0, 0, 0.9], np.float32), w),
    )
    device = CUDA if place == CUDA else CPU
    theirs = decoder(place=place)._arithmetic.draw(torch.from_numpy(logits).to(device), DeviceDraws.of(draws, device))
    assert np.array_equal(theirs.cpu().numpy(), draw(logits, draws))


@pytest.mark.parametrize(("place", "precision"), [*PLACES, (CPU, FP8)])
def test_a_slot_without_numbers_draws_nothing_and_changes_no_other(place, precision):
    rng = np.random.default_rng(3)
    good = condition("melody", rng)
    prefix = good.prefix.copy()
    prefix[2, 5] = np.nan
    tokens = np.zeros((good.prefix_columns + 1, 4), np.int64)
    columns = np.arange(len(tokens))
    draws = Draws(
        np.zeros(2, np.uint64), np.zeros(2, np.int64), np.ones(2, np.float32), np.zeros(2, np.int64), np.ones(2, "f4")
    )
    alone, both = decoder("melody", place, precision), decoder("melody", place, precision)
    alone.bind(0, good)
    both.bind(0, good)
    both.bind(1, replace(good, prefix=prefix))
    own, other = (one_slot(slot, columns, tokens, np.array([len(columns) - 1])) for slot in (0, 1))
    together = Rows(
        *(np.concatenate([getattr(own, name), getattr(other, name)]) for name in ("slot", "position", "tokens")),
        np.array([len(columns) - 1, 2 * len(columns) - 1]),
    )

    assert np.array_equal(both.logits(together)[0], alone.logits(own)[0])
    codes = both.step(together, draws)
    assert (codes[0] >= 0).all()
    assert (codes[1] == -1).all()
