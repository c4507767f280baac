"""Measure a MusicGen's decoding step: audiocraft's, transformers' and ours, each precision, side by side.

    .venv/bin/python -m benchmarks.engine [--out benchmarks/results/engine.json] [--quick]

The question is how long one step of musicgen-small's size takes on this CPU, with classifier-free guidance and drawing
from the 250 likeliest codes, for 1, 4, 8 and 16 requests at once, on one thread and on two; how near that is to what
the machine can do at all (the roofline, measured in the same run); and what a precision costs in accuracy. All
contestants have the same random weights, made in memory. They take their steps by turns, so that whatever else the
machine does hits all alike; a speed-up is the median of the ratios within each round.

The measurement is checked first: fp32 must choose audiocraft's code at every place, and a step of more requests must
not take less time. Ends in one JSON document; README.md beside this file says what its rows mean.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

# The makers of random MusicGens are part of the tests; the checkout's root is not on the path of a script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import EncodecConfig, MusicgenConfig, MusicgenForConditionalGeneration, T5Config
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.musicgen import MusicgenDecoderConfig

from benchmarks.document import publish
from orchestrion.models.audiocraft.imports import import_audiocraft
from orchestrion.models.audiocraft.turns import Turns
from orchestrion.models.musicgen.codec.codec import Codec
from orchestrion.models.musicgen.decoder.cpu.cpu_decoder import CpuDecoder
from orchestrion.models.musicgen.decoder.cpu.linear import kind_of, packed_bytes
from orchestrion.models.musicgen.decoder.cpu.plan import memory_bytes
from orchestrion.models.musicgen.decoder.decoder import Condition, Draws, Precision, Rows
from orchestrion.models.musicgen.geometry import CodecGeometry
from orchestrion.models.musicgen.weights import LmWeights
from tests.musicgen_checkpoints import (
    PUBLISHED_CODEC,
    SMALL,
    TINY,
    TINY_CODEC,
    audiocraft_lm,
    hugging_face_lm,
    random_codec,
    random_lm,
)

STARTED_S: Final = time.perf_counter()
PRECISIONS: Final = (Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4)
BATCHES: Final = (1, 4, 8, 16)
CONTEXT: Final = 120
LONG_CONTEXT: Final = 1000
LONG_BATCH: Final = 1
#: Tokens of a prompt of some ten words.
TEXT: Final = 12
GUIDANCE: Final = 3.0
TOP_K: Final = 250
#: A frame lasts so long: a step of this length keeps up with the listener.
FRAME_MS: Final = 20.0
#: Between two contestants, so that threads of the one before have stopped spinning.
REST_S: Final = 0.01
#: Larger than the caches of the machines that we know.
READ_BYTES: Final = 1 << 29
GEMM_SIZE: Final = 512

#: What is measured beside the contestants, for the roofline.
CEILINGS: Final = ("read", "multiply fp32", "multiply bf16", "multiply int8")

Step = Callable[[], object]
MemoryRow = dict[str, float]


def matrices() -> Iterator[tuple[int, int, bool]]:
    """(outputs, inputs, only of rows that hear text) of every matrix that a step reads."""
    dim, ffn = SMALL.dim, SMALL.ffn_dim
    for _ in range(SMALL.layers):
        yield from ((3 * dim, dim, False), (dim, dim, False), (dim, dim, True), (dim, dim, True))
        yield from ((ffn, dim, False), (dim, ffn, False))
    yield SMALL.codebooks * SMALL.card, dim, False


def bytes_read(precision: Precision, batch: int, context: int) -> float:
    """Weights once, and each stream's keys and values; null streams hear no text."""
    weights = sum(packed_bytes(kind_of(precision), outputs, inputs) for outputs, inputs, _ in matrices())
    element = 4 if precision is Precision.FP32 else 2
    return weights + batch * (2 * context + TEXT) * 2 * SMALL.layers * SMALL.dim * element


def operations(batch: int, context: int) -> float:
    """Multiplications and additions of a step."""
    products = sum(2 * outputs * inputs * (1 if heard else 2) for outputs, inputs, heard in matrices())
    return batch * (products + (2 * context + TEXT) * 4 * SMALL.layers * SMALL.dim)


# --- Contestants -----------------------------------------------------------------------------------------------------


class Contestant(Protocol):
    """What can be held between its steps."""

    def stepping(self, batch: int, context: int) -> AbstractContextManager[Step]:
        """A step of `batch` requests that have `context` columns behind them."""
        ...


class FixedText(nn.Module):
    """audiocraft's conditioning with the text states given, so that no text encoder is needed."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def tokenize(self, conditions: Sequence[Any]) -> int:
        """The second half of the conditions is the null one."""
        return len(conditions) // 2

    def forward(self, batch: int) -> dict[str, tuple[Tensor, Tensor]]:
        """States and mask of twice the batch."""
        states = self._states.expand(batch, -1, -1)
        mask = torch.ones(states.shape[:2])
        return {"description": (torch.cat([states, 0 * states]), torch.cat([mask, 0 * mask]))}


class Audiocraft:
    """audiocraft's own `generate`, held between its steps."""

    def __init__(self, weights: LmWeights, text: Tensor) -> None:
        audiocraft = import_audiocraft()
        modules = audiocraft.modules
        self._condition = modules.conditioners.ConditioningAttributes(text={"description": "given"})
        fused_by = {"sum": [], "prepend": [], "cross": ["description"], "input_interpolate": []}
        with torch.device("meta"):
            self.lm = audiocraft.models.LMModel(
                modules.codebooks_patterns.DelayedPatternProvider(SMALL.codebooks, delays=list(SMALL.delays)),
                nn.Module(),
                modules.conditioners.ConditionFuser(fused_by),
                n_q=SMALL.codebooks, card=SMALL.card, dim=SMALL.dim, num_heads=SMALL.heads, num_layers=SMALL.layers,
                hidden_scale=SMALL.ffn_dim // SMALL.dim, norm_first=True, bias_proj=False, bias_ff=False,
                bias_attn=False, activation="gelu", causal=True, memory_efficient=True, cross_attention=True,
                positional_embedding="sin", dropout=0.0,
            )  # fmt: skip
        tensors = audiocraft_lm(weights)
        state = {name: tensor for name, tensor in tensors.items() if not name.startswith("condition_provider")}
        self.lm.load_state_dict(state, assign=True)
        self.lm.eval().condition_provider = FixedText(text)

    def generate(self, batch: int, frames: int, after_step: Callable[[], None], **drawing: object) -> Tensor:
        """[batch, codebooks, frames]."""
        codes: Tensor = self.lm.generate(
            conditions=[self._condition] * batch,
            max_gen_len=frames,
            cfg_coef=GUIDANCE,
            callback=lambda done, of: after_step(),
            **drawing,
        )
        return codes

    @contextmanager
    def stepping(self, batch: int, context: int) -> Iterator[Step]:
        """A step of `batch` requests that have `context` columns behind them."""

        def work(pause: Callable[[], None]) -> Tensor:
            return self.generate(batch, context + 1000, pause, use_sampling=True, top_k=TOP_K)

        piece = Turns(work)
        piece.advance()
        for module in self.lm.modules():
            state = getattr(module, "_streaming_state", {})
            for name in state.keys() & {"past_keys", "past_values"}:
                batch_heads, width = state[name].shape[:2], state[name].shape[3]
                state[name] = torch.zeros(*batch_heads, context, width)
            if "offsets" in state:
                state["offsets"] = torch.full_like(state["offsets"], context)
        try:
            yield piece.advance
        finally:
            piece.give_up()


class Transformers:
    """transformers' MusicgenForConditionalGeneration, called as its `generate` does, without what that adds."""

    def __init__(self, weights: LmWeights, states: Tensor) -> None:
        decoder = MusicgenDecoderConfig(
            vocab_size=SMALL.card, hidden_size=SMALL.dim, ffn_dim=SMALL.ffn_dim, num_hidden_layers=SMALL.layers,
            num_attention_heads=SMALL.heads, num_codebooks=SMALL.codebooks, pad_token_id=SMALL.card,
            bos_token_id=SMALL.card,
        )  # fmt: skip
        # The text encoder and the codec are never called: their sizes do not matter, but for the width of the states.
        text = T5Config(d_model=SMALL.text_dim, d_ff=8, d_kv=8, num_heads=1, num_layers=1, vocab_size=8)
        config = MusicgenConfig(text_encoder=text, audio_encoder=EncodecConfig(num_filters=4), decoder=decoder)
        with torch.device("meta"):
            self._model = MusicgenForConditionalGeneration(config).eval()
        self._model.load_state_dict(hugging_face_lm(weights), strict=False, assign=True)
        positions = self._model.decoder.model.decoder.embed_positions
        positions.weights = positions.get_embedding(positions.num_positions, SMALL.dim)
        self._states = states

    @contextmanager
    def stepping(self, batch: int, context: int) -> Iterator[Step]:
        """A step of `batch` requests that have `context` columns behind them."""
        states = self._states.expand(batch, -1, -1)
        mask = torch.ones(states.shape[:2], dtype=torch.long)
        heard = BaseModelOutput(torch.cat([states, 0 * states]))
        heard_mask = torch.cat([mask, 0 * mask])
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        tokens = torch.full((batch * SMALL.codebooks, 1), SMALL.special_token)

        @torch.inference_mode()
        def step() -> None:
            nonlocal tokens
            logits = self._model(
                encoder_outputs=heard,
                attention_mask=heard_mask,
                decoder_input_ids=torch.cat([tokens, tokens]),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
            conditional, null = logits.chunk(2)
            likeliest, codes = (null + (conditional - null) * GUIDANCE).topk(TOP_K)
            tokens = codes.gather(1, torch.multinomial(likeliest.softmax(1), 1))

        step()
        for layer in cache.self_attention_cache.layers:
            heads = layer.keys.shape[:2]
            layer.keys = layer.values = torch.zeros(*heads, context, SMALL.head_dim)
        yield step


class Ours:
    """The decoder for CPUs of this project."""

    def __init__(
        self,
        weights: LmWeights,
        cross: npt.NDArray[np.float32],
        *,
        precision: Precision,
        threads: int,
        slots: int,
        positions: int,
    ) -> None:
        self._cross = cross
        self.decoder = CpuDecoder(
            SMALL,
            weights,
            slots=slots,
            max_positions=positions,
            max_rows=slots,
            precision=precision,
            threads=threads,
            max_text=TEXT,
        )

    def bind(self, batch: int) -> None:
        """Make the first slots empty."""
        for slot in range(batch):
            self.decoder.bind(slot, Condition(self._cross, None, None, None, GUIDANCE))

    @contextmanager
    def stepping(self, batch: int, context: int) -> Iterator[Step]:
        """A step of `batch` requests that have `context` columns behind them."""
        self.bind(batch)
        # As if so many columns had been fed, which would take longer than all that is measured; the cache holds zeros.
        self.decoder._filled[:batch] = context
        slots, position = np.arange(batch), context
        tokens = np.full((batch, SMALL.codebooks), SMALL.special_token)
        drawing = Draws(
            seed=np.arange(batch, dtype=np.uint64),
            column=np.zeros(batch, np.int64),
            temperature=np.ones(batch, np.float32),
            top_k=np.full(batch, TOP_K),
            top_p=np.zeros(batch, np.float32),
        )

        def step() -> None:
            nonlocal tokens, position
            tokens = self.decoder.step(Rows(slots, np.full(batch, position), tokens, slots), drawing)
            position += 1

        yield step


# --- Measurements ----------------------------------------------------------------------------------------------------


def side_by_side(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each contestant's steps, one for each round. The first round of all is not counted.

    Every turn is of two steps, and the second counts: it finds the caches as steps find them that follow each other.
    """
    times_ms: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            time.sleep(REST_S)
            step()
            started = time.perf_counter()
            step()
            times_ms[name].append(1e3 * (time.perf_counter() - started))
    return {name: times[1:] for name, times in times_ms.items()}


@numba.njit(nogil=True)
def read_all(numbers: npt.NDArray[np.int64]) -> int:
    """Their sum: as fast as memory gives them, since adding is free beside it."""
    total = 0
    for i in range(numbers.size):
        total += numbers[i]
    return total


class Ceiling:
    """What so many threads of this machine do at best, to be measured beside the contestants."""

    def __init__(self, threads: int) -> None:
        buffers = [np.ones(READ_BYTES // 8 // threads, np.int64) for _ in range(threads)]
        pool = ThreadPoolExecutor(threads)
        floats = torch.ones(GEMM_SIZE, GEMM_SIZE)
        halves, integers = floats.bfloat16(), floats.to(torch.int8)
        work: tuple[Step, ...] = (
            lambda: list(pool.map(read_all, buffers)),
            lambda: floats @ floats,
            lambda: halves @ halves,
            lambda: torch._int_mm(integers, integers),
        )
        self.steps = dict(zip(CEILINGS, work, strict=True))


def least_ms(precision: Precision, batch: int, context: int, times_ms: Mapping[str, Sequence[float]]) -> list[float]:
    """In each round, the least time that a step could take: to read what it needs, or to multiply it."""
    reading = bytes_read(precision, batch, context) / READ_BYTES
    multiplying = operations(batch, context) / (2 * GEMM_SIZE**3)
    # 4-bit weights are multiplied as bytes; a processor without instructions for a precision does it in float32.
    name = f"multiply {Precision.INT8 if precision is Precision.INT4 else precision}"
    return [
        max(read_ms * reading, min(own_ms, fp32_ms) * multiplying)
        for read_ms, own_ms, fp32_ms in zip(times_ms["read"], times_ms[name], times_ms["multiply fp32"], strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Walk:
    """What audiocraft chose on its way through a piece, and how likely it held every code to be."""

    #: [columns, codebooks]: what went into each step.
    tokens: npt.NDArray[np.int64]
    #: [columns, codebooks, card]: the guided logits that came out.
    logits: npt.NDArray[np.float32]
    #: [columns, codebooks]: places that have a frame, so that their code counts.
    counts: npt.NDArray[np.bool_]


def walk(audiocraft: Audiocraft, frames: int) -> Walk:
    """A piece of one request, greedy."""
    tokens: list[Tensor] = []
    logits: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        conditional, null = out[:, :, -1]
        tokens.append(given[0][0, :, -1].clone())
        logits.append(null + (conditional - null) * GUIDANCE)

    hook = audiocraft.lm.register_forward_hook(keep)
    audiocraft.generate(1, frames, lambda: None, use_sampling=False)
    hook.remove()
    frame = np.arange(len(tokens))[:, None] - np.array(SMALL.delays)
    return Walk(torch.stack(tokens).numpy(), torch.stack(logits).numpy(), (frame >= 0) & (frame < frames))


def follow(decoder: CpuDecoder, bound: Callable[[int], None], path: Walk) -> tuple[float, float]:
    """Along audiocraft's path: share of places where the likeliest code is its code, and the logits' relative error."""
    bound(1)
    columns, parts = len(path.tokens), []
    for start in range(0, columns, decoder.max_rows):
        position = np.arange(start, min(start + decoder.max_rows, columns))
        n = np.arange(len(position))
        parts.append(decoder.logits(Rows(np.zeros_like(n), position, path.tokens[position], n)))
    ours, theirs = np.concatenate(parts)[path.counts], path.logits[path.counts]
    equal = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    return equal, float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


class PeakMemory:
    """How much the process grew at most since this was made, as Linux counts; None where it does not."""

    def __init__(self) -> None:
        gc.collect()
        if platform.system() == "Linux":
            ctypes.CDLL(None).malloc_trim(0)
            # Makes the peak what is in use now (proc(5)).
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _peak_bytes()

    def growth(self) -> int | None:
        """Bytes."""
        now = _peak_bytes()
        return None if now is None or self._before is None else now - self._before


def _peak_bytes() -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


# --- The run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    threads: tuple[int, ...]
    batches: tuple[int, ...]
    rounds: int
    frames: int
    with_long_context: bool


QUICK: Final = Plan(threads=(1,), batches=(1, 8), rounds=3, frames=12, with_long_context=False)
FULL: Final = Plan(
    threads=tuple(sorted({1, min(2, os.cpu_count() or 1)})),
    batches=BATCHES,
    rounds=10,
    frames=100,
    with_long_context=True,
)


class Run:
    """The contestants, and what was found of them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        note("compiling the kernels")
        compile_kernels()
        note("making the weights")
        self._weights = random_lm(SMALL)
        states = torch.randn(1, TEXT, SMALL.text_dim, generator=torch.Generator().manual_seed(1))
        text = nn.functional.linear(states, self._weights.text.weight, self._weights.text.bias)
        self._cross = text[0].numpy()
        self._audiocraft = Audiocraft(self._weights, text)
        self._baselines: dict[str, Contestant] = {
            "audiocraft": self._audiocraft,
            "transformers": Transformers(self._weights, states),
        }
        self.accuracy: dict[Precision, tuple[float, float]] = {}
        self.memory: dict[Precision, MemoryRow] = {}
        self._codec_bytes = codec_growth(PUBLISHED_CODEC, max(plan.batches))

    def all(self) -> dict[str, Any]:
        """Every measurement, as the JSON document has it."""
        by_threads = {}
        for threads in self._plan.threads:
            torch.set_num_threads(threads)
            by_threads[str(threads)] = self._with_threads(threads)
        return {
            "model": "musicgen-small's geometry, random weights",
            "context_columns": CONTEXT,
            "by_threads": by_threads,
            "tokens_compared": self._plan.frames * SMALL.codebooks,
            "tokens_equal": {precision: equal for precision, (equal, _) in self.accuracy.items()},
            "logits_error": {precision: float(f"{error:.2g}") for precision, (_, error) in self.accuracy.items()},
            "memory": self.memory,
        }

    def _with_threads(self, threads: int) -> dict[str, Any]:
        note(f"{threads} thread{'s' * (threads > 1)}")
        ceiling = Ceiling(threads)
        ours = self._ours(threads, max(self._plan.batches), CONTEXT + 40)
        if not self.accuracy:
            self._compare_codes(ours)
        times_ms = {batch: self._steps(ceiling, ours, batch, CONTEXT) for batch in self._plan.batches}
        check_order(times_ms)
        document = summary(times_ms, CONTEXT)
        if self._plan.with_long_context:
            del ours
            ours = self._ours(threads, LONG_BATCH, LONG_CONTEXT + 40)
            long_ms = {LONG_BATCH: self._steps(ceiling, ours, LONG_BATCH, LONG_CONTEXT)}
            document["long_context"] = {"context_columns": LONG_CONTEXT} | summary(long_ms, LONG_CONTEXT)
        return document

    def _ours(self, threads: int, slots: int, positions: int) -> dict[Precision, Ours]:
        contestants = {}
        for precision in PRECISIONS:
            note(f"  packing {precision}")
            peak = PeakMemory()
            contestants[precision] = Ours(
                self._weights, self._cross, precision=precision, threads=threads, slots=slots, positions=positions
            )
            if precision not in self.memory:
                with contestants[precision].stepping(slots, CONTEXT) as step:
                    step()
                predicted = memory_bytes(SMALL, slots, positions, slots, precision, TEXT, threads)
                self.memory[precision] = memory_row(predicted, peak.growth(), *self._codec_bytes)
        return contestants

    def _compare_codes(self, ours: Mapping[Precision, Ours]) -> None:
        note(f"  following audiocraft through {self._plan.frames} frames")
        path = walk(self._audiocraft, self._plan.frames)
        self.accuracy = {
            precision: follow(contestant.decoder, contestant.bind, path) for precision, contestant in ours.items()
        }
        if self.accuracy[Precision.FP32][0] != 1.0:
            raise SystemExit(
                f"fp32 does not choose audiocraft's codes ({self.accuracy}): nothing here would mean anything"
            )

    def _steps(
        self, ceiling: Ceiling, ours: Mapping[Precision, Ours], batch: int, context: int
    ) -> dict[str, list[float]]:
        with ExitStack() as stack:
            steps = {
                str(name): stack.enter_context(contestant.stepping(batch, context))
                for name, contestant in (self._baselines | dict(ours)).items()
            }
            times_ms = side_by_side(steps | ceiling.steps, self._plan.rounds)
        note(
            f"  batch {batch:2} after {context}: "
            + ", ".join(f"{n} {statistics.median(t):.1f}" for n, t in times_ms.items())
            + " ms"
        )
        return times_ms


def check_order(times_ms: Mapping[int, Mapping[str, Sequence[float]]]) -> None:
    """Four times the requests, or sixteen, cannot take less time than one."""
    fewest, most = times_ms[min(times_ms)], times_ms[max(times_ms)]
    for name in fewest.keys() - set(CEILINGS):
        if min(most[name]) < min(fewest[name]):
            raise SystemExit(f"{name} is quicker with more requests: the machine is too busy to measure anything")


def summary(times_ms: Mapping[int, Mapping[str, Sequence[float]]], context: int) -> dict[str, Any]:
    """The rows of one number of threads, each by contestant or precision and then by batch."""

    def rows(figure: Callable[[Precision, int], float]) -> dict[str, dict[str, float]]:
        return {
            precision: {str(batch): round(figure(precision, batch), 3) for batch in times_ms}
            for precision in PRECISIONS
        }

    def speed_up(baseline: str) -> dict[str, dict[str, float]]:
        return rows(lambda precision, batch: median_ratio(times_ms[batch][baseline], times_ms[batch][precision]))

    def least(precision: Precision, batch: int) -> list[float]:
        return least_ms(precision, batch, context, times_ms[batch])

    everything = {name: [t for times in times_ms.values() for t in times[name]] for name in times_ms[min(times_ms)]}
    return {
        "step_ms": {
            name: {str(batch): round(statistics.median(times[name]), 2) for batch, times in times_ms.items()}
            for name in everything
            if name not in CEILINGS
        },
        "speedup_vs_audiocraft": speed_up("audiocraft"),
        "speedup_vs_transformers": speed_up("transformers"),
        "roofline_fraction": rows(
            lambda precision, batch: median_ratio(least(precision, batch), times_ms[batch][precision])
        ),
        "roofline_ms": rows(lambda precision, batch: statistics.median(least(precision, batch))),
        "real_time_factor": rows(lambda precision, batch: FRAME_MS / statistics.median(times_ms[batch][precision])),
        "ceiling": {
            "read_gb_per_s": round(READ_BYTES / 1e6 / statistics.median(everything["read"]), 1),
            "gflops": {
                name.removeprefix("multiply "): round(2 * GEMM_SIZE**3 / 1e6 / statistics.median(everything[name]))
                for name in CEILINGS[1:]
            },
        },
    }


def median_ratio(slow_ms: Sequence[float], quick_ms: Sequence[float]) -> float:
    """How many times quicker, within each round."""
    return statistics.median(slow / quick for slow, quick in zip(slow_ms, quick_ms, strict=True))


def compile_kernels() -> None:
    """What is compiled at the first call of a process shall not count as a contestant's time or memory."""
    decoder = CpuDecoder(
        TINY, random_lm(TINY), slots=1, max_positions=16, max_rows=1, precision=Precision.FP32, threads=1
    )
    decoder.bind(0, Condition(np.zeros((2, TINY.dim), np.float32), None, None, None, GUIDANCE))
    zeros = np.zeros(1, np.int64)
    decoder.logits(Rows(zeros, zeros, np.zeros((1, TINY.codebooks), np.int64), zeros))
    codec_growth(TINY_CODEC, slots=1)
    read_all(zeros)


def codec_growth(geometry: CodecGeometry, slots: int) -> tuple[int, int | None]:
    """What a codec of so many slots is predicted to need, and does, with a push of a second of codes for each."""
    weights = random_codec(geometry)
    peak = PeakMemory()
    codec = Codec(geometry, weights, slots=slots, threads=1)
    frames = round(geometry.frame_rate_hz)
    codes = np.zeros((codec.codebooks, frames), np.int64)
    codec.push([(codec.open(), codes, False) for _ in range(slots)])
    return Codec.memory_bytes(geometry, slots, frames), peak.growth()


def memory_row(predicted: int, measured: int | None, codec_predicted: int, codec_measured: int | None) -> MemoryRow:
    """Of a decoder (weights, cache and work space) together with a codec for as many slots."""
    row: MemoryRow = {"predicted_gb": round((predicted + codec_predicted) / 1e9, 3)}
    if measured is not None and codec_measured is not None:
        row["measured_gb"] = round((measured + codec_measured) / 1e9, 3)
        row["measured_over_predicted"] = round((measured + codec_measured) / (predicted + codec_predicted), 3)
    return row


def note(line: str) -> None:
    """Progress, beside the document."""
    sys.stderr.write(f"{time.perf_counter() - STARTED_S:6.1f} s  {line}\n")


def main() -> None:
    """Measure, end in one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    parser.add_argument("--quick", action="store_true", help="one thread, batches of 1 and 8, few rounds")
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    document = Run(QUICK if arguments.quick else FULL).all()
    document["hardware"] = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    publish(document, arguments.out)


if __name__ == "__main__":
    main()
