"""The decoder on CPUs: one step is one call into compiled code, split between the threads of a crew.

All that a decoder holds lies in one piece of memory whose plan is computed beforehand, so `memory_bytes` is not an
estimate. The surprising thing: threads do not own parts of the work. In each phase of a step they claim panels, heads
or rows from a counter until none is left, which is safe because who computes an output cannot change its bits.
"""

from __future__ import annotations

import mmap
import threading
import weakref
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder import Condition, Draws, Floats, Ints, Precision, Rows
from orchestrion.models.musicgen.geometry import LmGeometry
from orchestrion.models.musicgen.kernels import (
    FP32,
    LANES,
    PANEL,
    address_of,
    bytes_at,
    claim,
    compiled,
    exp,
    floats_at,
    keep_fp16,
    keep_fp32,
    mix_fp16,
    mix_fp32,
    row_largest,
    row_least,
    row_square_sum,
    row_sum,
    scores_fp16,
    scores_fp32,
    wait_for,
)
from orchestrion.models.musicgen.linear import (
    ADD,
    STORE,
    STORE_GELU,
    Bytes,
    kind_of,
    linear,
    pack,
    packed_bytes,
    row_bytes,
    write_row,
)
from orchestrion.models.musicgen.sampling import draw
from orchestrion.models.musicgen.threads import Home
from orchestrion.models.musicgen.weights import LmWeights, Norm

DEFAULT_MAX_TEXT: Final = 256
NORM_EPSILON: Final = np.float32(1e-5)
#: From here on a float32 becomes infinite in float16: half a step above the largest one, 65,504.
FP16_OVERFLOW: Final = np.float32(65_520)
POSITION_PERIOD: Final = 10_000.0
#: Streams of a slot: what it hears, and the null that guidance pushes away from.
STREAMS: Final = 2
PAGE: Final = 2 << 20
#: Parts of a product for each thread: more of them wait less for a thread that is late, and fetch less in advance.
PARTS_OF_A_PRODUCT: Final = 4


class Plan(NamedTuple):
    """Sizes of a decoder, and where in its memory each thing begins. Offsets and strides are bytes."""

    kind: int
    #: Whether the cache is float16.
    half: int
    dim: int
    heads: int
    head_dim: int
    layers: int
    ffn_dim: int
    codebooks: int
    card: int
    has_cross: int

    #: Of one layer, from its beginning.
    attention_norm: int
    qkv: int
    out: int
    cross_norm: int
    cross_query: int
    cross_key: int
    cross_value: int
    cross_out: int
    feed_forward_norm: int
    up: int
    down: int
    layer_bytes: int

    layers_at: int
    embeddings_at: int
    positions_at: int
    out_norm_at: int
    heads_at: int

    #: Caches are [layers, streams, heads] of keys, and so of values, each of `self_head` or `cross_head` bytes.
    streams: int
    self_head: int
    cross_head: int
    keys_at: int
    values_at: int
    cross_keys_at: int
    cross_values_at: int

    #: Work space of one step, a row for each column of each stream.
    x_at: int
    input_at: int
    input_stride: int
    qkv_at: int
    mixed_at: int
    hidden_at: int
    logits_at: int
    #: … and for each thread.
    scratch_at: int
    scratch_stride: int

    total: int


class _Shelf:
    """Hands out places one after another, each at the beginning of a cache line."""

    def __init__(self) -> None:
        self.used = 0

    def place(self, size: int) -> int:
        start = self.used
        self.used += -(-size // 64) * 64
        return start


def plan_of(
    geometry: LmGeometry,
    *,
    slots: int,
    max_positions: int,
    max_rows: int,
    precision: Precision,
    max_text: int = DEFAULT_MAX_TEXT,
    threads: int = 1,
) -> Plan:
    """Lays a decoder of these sizes out.

    Raises:
        InvalidRequest: the CPU lacks the precision, or its vectors do not fit the model's widths.
    """
    kind = kind_of(precision)
    if geometry.head_dim % LANES or geometry.dim % (2 * LANES) or geometry.ffn_dim % (2 * LANES):
        sizes = (geometry.dim, geometry.heads, geometry.ffn_dim)
        remedy = "the CPU decoder needs heads in steps of 16 and widths in steps of 32: use the torch decoder"
        raise InvalidRequest.of("model", sizes, remedy)
    dim, ffn, layers = geometry.dim, geometry.ffn_dim, geometry.layers
    half = kind != FP32
    element = 2 if half else 4
    streams, rows = STREAMS * slots, STREAMS * max_rows
    has_cross = not geometry.text_in_prefix
    positions, text = _whole_vectors(max_positions), _whole_vectors(max_text) * has_cross

    layer, whole = _Shelf(), _Shelf()
    square = packed_bytes(kind, dim, dim)
    places = {
        "attention_norm": layer.place(8 * dim),
        "qkv": layer.place(packed_bytes(kind, 3 * dim, dim)),
        "out": layer.place(square),
        "cross_norm": layer.place(8 * dim * has_cross),
        "cross_query": layer.place(square * has_cross),
        "cross_out": layer.place(square * has_cross),
        "feed_forward_norm": layer.place(8 * dim),
        "up": layer.place(packed_bytes(kind, ffn, dim)),
        "down": layer.place(packed_bytes(kind, dim, ffn)),
        # Read when a slot is bound, not at each step: outside what a step streams through.
        "cross_key": layer.place(square * has_cross),
        "cross_value": layer.place(square * has_cross),
    }
    self_head, cross_head = positions * geometry.head_dim * element, text * geometry.head_dim * element
    input_stride = row_bytes(kind, max(dim, ffn))
    work_rows = max(rows, text)
    scratch = 4 * max(positions, text, dim, ffn)
    return Plan(
        kind=kind,
        half=int(half),
        dim=dim,
        heads=geometry.heads,
        head_dim=geometry.head_dim,
        layers=layers,
        ffn_dim=ffn,
        codebooks=geometry.codebooks,
        card=geometry.card,
        has_cross=int(has_cross),
        **places,
        layer_bytes=layer.used,
        layers_at=whole.place(layer.used * layers),
        embeddings_at=whole.place(4 * geometry.codebooks * (geometry.card + 1) * dim),
        positions_at=whole.place(4 * max_positions * dim),
        out_norm_at=whole.place(8 * dim),
        heads_at=whole.place(packed_bytes(kind, geometry.codebooks * geometry.card, dim)),
        streams=streams,
        self_head=self_head,
        cross_head=cross_head,
        keys_at=whole.place(layers * streams * geometry.heads * self_head),
        values_at=whole.place(layers * streams * geometry.heads * self_head),
        cross_keys_at=whole.place(layers * streams * geometry.heads * cross_head),
        cross_values_at=whole.place(layers * streams * geometry.heads * cross_head),
        x_at=whole.place(4 * rows * dim),
        input_at=whole.place(work_rows * input_stride),
        input_stride=input_stride,
        qkv_at=whole.place(4 * work_rows * 3 * dim),
        mixed_at=whole.place(4 * rows * dim),
        hidden_at=whole.place(4 * rows * ffn),
        logits_at=whole.place(4 * rows * geometry.codebooks * geometry.card),
        scratch_at=whole.place(threads * scratch),
        scratch_stride=scratch,
        total=whole.used,
    )


def memory_bytes(
    geometry: LmGeometry,
    slots: int,
    max_positions: int,
    max_rows: int,
    precision: Precision,
    max_text: int = DEFAULT_MAX_TEXT,
    threads: int = 1,
) -> int:
    """What a decoder of these sizes allocates, all of it: weights, caches and work space."""
    plan = plan_of(
        geometry,
        slots=slots,
        max_positions=max_positions,
        max_rows=max_rows,
        precision=precision,
        max_text=max_text,
        threads=threads,
    )
    return plan.total + PAGE


def _whole_vectors(count: int) -> int:
    return -(-count // LANES) * LANES


# --- A step, in compiled code ----------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What one step is given, [rows] each unless said otherwise. Rows with text to attend to come first."""

    #: 2 · slot, + 1 for the null stream.
    stream: Ints
    position: Ints
    #: Text states it attends to.
    text: Ints
    #: Address of its column of the prefix, [dim] float32; 0 for a column of codes.
    prefix: Ints
    #: [rows, codebooks]
    tokens: Ints
    #: Rows that have text.
    crossing: int
    #: [wanted or twice that]: rows whose logits are needed, those of null streams last.
    final: Ints
    #: [wanted]: which of `final` is its null stream; -1 without guidance.
    null: Ints
    #: [wanted]
    guidance: Floats
    #: [wanted, codebooks · card]: the result.
    logits: Floats
    #: [rows]: 1 where something was no number, or too large for the cache. Bytes and float16 would hide it.
    broken: Bytes


@compiled
def run_step(plan: Plan, base: int, step: Step, counters: Ints, threads: int, thread: int) -> None:
    """One thread's part of a step. `counters` are zeros: two for each phase, parts claimed and threads done."""
    rows, crossing, finals = step.stream.size, step.crossing, step.final.size
    x, mixed, hidden, qkv = base + plan.x_at, base + plan.mixed_at, base + plan.hidden_at, base + plan.qkv_at
    scratch = base + plan.scratch_at + thread * plan.scratch_stride
    dim, ffn = plan.dim, plan.ffn_dim
    phase, broken = address_of(counters), address_of(step.broken)

    part = claim(phase)
    while part < rows:
        embed(plan, base, step, part)
        part = claim(phase)
    phase = finish_phase(phase, threads)

    for index in range(plan.layers):
        layer = base + plan.layers_at + index * plan.layer_bytes
        cache = index * plan.streams * plan.heads

        phase = normalise(plan, base, x, rows, layer + plan.attention_norm, scratch, broken, phase, threads)
        phase = project(plan, base, STORE, rows, layer + plan.qkv, dim, 3 * dim, qkv, phase, threads)
        part = claim(phase)
        while part < plan.heads:
            attend_head(plan, base, step, cache, part, scratch)
            part = claim(phase)
        phase = finish_phase(phase, threads)
        phase = take(plan, base, mixed, rows, dim, broken, phase, threads)
        phase = project(plan, base, ADD, rows, layer + plan.out, dim, dim, x, phase, threads)

        if crossing > 0:
            phase = normalise(plan, base, x, crossing, layer + plan.cross_norm, scratch, broken, phase, threads)
            phase = project(plan, base, STORE, crossing, layer + plan.cross_query, dim, dim, qkv, phase, threads)
            part = claim(phase)
            while part < plan.heads:
                cross_attend_head(plan, base, step, cache, part, scratch)
                part = claim(phase)
            phase = finish_phase(phase, threads)
            phase = take(plan, base, mixed, crossing, dim, broken, phase, threads)
            phase = project(plan, base, ADD, crossing, layer + plan.cross_out, dim, dim, x, phase, threads)

        phase = normalise(plan, base, x, rows, layer + plan.feed_forward_norm, scratch, broken, phase, threads)
        phase = project(plan, base, STORE_GELU, rows, layer + plan.up, dim, ffn, hidden, phase, threads)
        phase = take(plan, base, hidden, rows, ffn, broken, phase, threads)
        phase = project(plan, base, ADD, rows, layer + plan.down, ffn, dim, x, phase, threads)

    part = claim(phase)
    while part < finals:
        row, to = step.final[part], input_row(plan, base, part)
        if not normalise_row(plan, x + 4 * dim * row, base + plan.out_norm_at, scratch, to):
            step.broken[row] = 1
        part = claim(phase)
    phase = finish_phase(phase, threads)
    logits, outputs = base + plan.logits_at, plan.codebooks * plan.card
    phase = project(plan, base, STORE, finals, base + plan.heads_at, dim, outputs, logits, phase, threads)
    part = claim(phase)
    while part < step.null.size:
        guide(step, logits, outputs, part)
        part = claim(phase)
    finish_phase(phase, threads)


@compiled
def finish_phase(phase: int, threads: int) -> int:
    """Waits for all threads to have finished the phase; the next one's counters."""
    claim(phase + 8)
    wait_for(phase + 8, threads)
    return phase + 16


@compiled
def input_row(plan: Plan, base: int, row: int) -> int:
    """Where the next product reads its row of inputs."""
    return base + plan.input_at + row * plan.input_stride


@compiled
def embed(plan: Plan, base: int, step: Step, row: int) -> None:
    """The row's input: its codes' embeddings summed, or its column of the prefix; plus its position."""
    dim, place = plan.dim, step.position[row]
    x = floats_at(base + plan.x_at + 4 * dim * row, dim)
    position = floats_at(base + plan.positions_at + 4 * dim * place, dim)
    if step.prefix[row] != 0:
        column = floats_at(step.prefix[row], dim)
        for i in range(dim):
            x[i] = column[i] + position[i]
        return
    for i in range(dim):
        x[i] = np.float32(0)
    for codebook in range(plan.codebooks):
        code = codebook * (plan.card + 1) + step.tokens[row, codebook]
        embedding = floats_at(base + plan.embeddings_at + 4 * dim * code, dim)
        for i in range(dim):
            x[i] += embedding[i]
    for i in range(dim):
        x[i] += position[i]


@compiled
def normalise_row(plan: Plan, x: int, norm: int, scratch: int, to: int) -> bool:
    """Layer norm of the row at `x`, as a kernel reads it, to `to`; false if it has no finite one.

    At `norm` are weight and bias.
    """
    dim = plan.dim
    count, vectors = np.float32(dim), dim // LANES
    mean = row_sum(x, vectors) / count
    row, centred = floats_at(x, dim), floats_at(scratch, dim)
    for i in range(dim):
        centred[i] = row[i] - mean
    inverse = np.float32(1) / np.sqrt(row_square_sum(scratch, vectors) / count + NORM_EPSILON)
    weight, bias = floats_at(norm, dim), floats_at(norm + 4 * dim, dim)
    for i in range(dim):
        centred[i] = centred[i] * inverse * weight[i] + bias[i]
    write_row(plan.kind, centred, to)
    # One value that is not finite makes the variance so, and one too large to be squared makes this zero.
    has_one: bool = np.float32(0) < inverse < np.float32(np.inf)
    return has_one


@compiled
def normalise(
    plan: Plan, base: int, x: int, rows: int, norm: int, scratch: int, broken: int, phase: int, threads: int
) -> int:
    """Layer norm of rows [rows, dim] at `x`, to the inputs of the next product; marks those at `broken` without one."""
    part = claim(phase)
    while part < rows:
        if not normalise_row(plan, x + 4 * plan.dim * part, norm, scratch, input_row(plan, base, part)):
            bytes_at(broken + part, 1)[0] = 1
        part = claim(phase)
    return finish_phase(phase, threads)


@compiled
def take(plan: Plan, base: int, rows_at: int, rows: int, width: int, broken: int, phase: int, threads: int) -> int:
    """Rows [rows, width] as they are, to the inputs of the next product; marks those at `broken` that aren't finite."""
    part = claim(phase)
    while part < rows:
        row = rows_at + 4 * width * part
        write_row(plan.kind, floats_at(row, width), input_row(plan, base, part))
        if not np.isfinite(row_sum(row, width // LANES)):
            bytes_at(broken + part, 1)[0] = 1
        part = claim(phase)
    return finish_phase(phase, threads)


@compiled
def project(
    plan: Plan,
    base: int,
    finish: int,
    rows: int,
    weights: int,
    inputs: int,
    outputs: int,
    to: int,
    phase: int,
    threads: int,
) -> int:
    """The inputs [rows, inputs] times a packed matrix, brought to [rows, outputs] at `to` in the manner of `finish`."""
    panels = (outputs + PANEL - 1) // PANEL
    # Panels in a row, for the first ones are fetched while those before them are used.
    few = max(1, panels // (threads * PARTS_OF_A_PRODUCT)) if threads > 1 else panels
    x = base + plan.input_at
    first = few * claim(phase)
    while first < panels:
        last = min(first + few, panels)
        linear(plan.kind, finish, x, plan.input_stride, rows, weights, inputs, outputs, first, last, to, 4 * outputs)
        first = few * claim(phase)
    return finish_phase(phase, threads)


@compiled
def attend_head(plan: Plan, base: int, step: Step, cache: int, head: int, scratch: int) -> None:
    """Puts one head's keys and values of all rows into the cache, then lets each row attend to its stream so far."""
    for row in range(step.stream.size):
        place = (cache + step.stream[row] * plan.heads + head) * plan.self_head
        key = base + plan.qkv_at + 4 * (plan.dim * (3 * row + 1) + head * plan.head_dim)
        value = key + 4 * plan.dim
        keep_key(plan, key, base + plan.keys_at + place, step.position[row])
        keep_value(plan, value, base + plan.values_at + place, step.position[row])
        if not (fits_cache(plan, key) and fits_cache(plan, value)):
            step.broken[row] = 1
    for row in range(step.stream.size):
        place = (cache + step.stream[row] * plan.heads + head) * plan.self_head
        query = base + plan.qkv_at + 4 * (3 * plan.dim * row + head * plan.head_dim)
        out = base + plan.mixed_at + 4 * (plan.dim * row + head * plan.head_dim)
        keys, values = base + plan.keys_at + place, base + plan.values_at + place
        attend(plan, query, keys, values, step.position[row] + 1, scratch, out)


@compiled
def cross_attend_head(plan: Plan, base: int, step: Step, cache: int, head: int, scratch: int) -> None:
    """Lets each row that has text attend to it with one head."""
    for row in range(step.crossing):
        place = (cache + step.stream[row] * plan.heads + head) * plan.cross_head
        query = base + plan.qkv_at + 4 * (plan.dim * row + head * plan.head_dim)
        out = base + plan.mixed_at + 4 * (plan.dim * row + head * plan.head_dim)
        keys, values = base + plan.cross_keys_at + place, base + plan.cross_values_at + place
        attend(plan, query, keys, values, step.text[row], scratch, out)


@compiled
def fits_cache(plan: Plan, values: int) -> bool:
    """Whether one head's key or value at the address `values` stays finite in the cache."""
    if not plan.half:
        return True
    vectors = plan.head_dim // LANES
    fits: bool = row_largest(values, vectors) < FP16_OVERFLOW and row_least(values, vectors) > -FP16_OVERFLOW
    return fits


@compiled
def keep_key(plan: Plan, key: int, keys: int, position: int) -> None:
    """Puts a key [head_dim] into its head's cache."""
    element = 2 if plan.half else 4
    to = keys + element * (position // LANES * LANES * plan.head_dim + position % LANES)
    if plan.half:
        keep_fp16(key, plan.head_dim, to, element * LANES)
    else:
        keep_fp32(key, plan.head_dim, to, element * LANES)


@compiled
def keep_value(plan: Plan, value: int, values: int, position: int) -> None:
    """Puts a value [head_dim] into its head's cache."""
    if plan.half:
        keep_fp16(value, plan.head_dim, values + 2 * position * plan.head_dim, 2)
    else:
        keep_fp32(value, plan.head_dim, values + 4 * position * plan.head_dim, 4)


@compiled
def attend(plan: Plan, query: int, keys: int, values: int, positions: int, scratch: int, out: int) -> None:
    """Softmax attention of one query [head_dim] to the first `positions` of a head's cache."""
    blocks = (positions + LANES - 1) // LANES
    if plan.half:
        scores_fp16(query, keys, plan.head_dim, blocks, scratch)
    else:
        scores_fp32(query, keys, plan.head_dim, blocks, scratch)
    weights = floats_at(scratch, blocks * LANES)
    # Lanes after the last position must count for nothing, whatever an earlier request left there.
    for i in range(positions, weights.size):
        weights[i] = weights[0]
    scale = np.float32(1) / np.sqrt(np.float32(plan.head_dim))
    highest = row_largest(scratch, blocks)
    for i in range(weights.size):
        weights[i] = exp((weights[i] - highest) * scale)
    for i in range(positions, weights.size):
        weights[i] = np.float32(0)
    inverse = np.float32(1) / row_sum(scratch, blocks)
    for i in range(positions):
        weights[i] *= inverse
    if plan.half:
        mix_fp16(scratch, values, plan.head_dim, positions, out)
    else:
        mix_fp32(scratch, values, plan.head_dim, positions, out)


@compiled
def guide(step: Step, logits: int, outputs: int, wanted: int) -> None:
    """The guided logits of one wanted row: null + guidance · (conditional - null)."""
    conditional, result = floats_at(logits + 4 * outputs * wanted, outputs), step.logits[wanted]
    if step.null[wanted] < 0:
        for i in range(outputs):
            result[i] = conditional[i]
        return
    null, guidance = floats_at(logits + 4 * outputs * step.null[wanted], outputs), step.guidance[wanted]
    for i in range(outputs):
        result[i] = null[i] + guidance * (conditional[i] - null[i])


@compiled
def bind_text(
    plan: Plan, base: int, stream: int, states: Floats, broken: Bytes, counters: Ints, threads: int, thread: int
) -> None:
    """One thread's part of computing the keys and values of a stream's text `states` [text, dim] in every layer.

    Marks the states in `broken` [text] that give no numbers, or such as are too large for the cache.
    """
    count, dim = states.shape
    phase = address_of(counters)
    phase = take(plan, base, address_of(states), count, dim, address_of(broken), phase, threads)
    pair = base + plan.qkv_at
    for index in range(plan.layers):
        layer = base + plan.layers_at + index * plan.layer_bytes
        place = (index * plan.streams + stream) * plan.heads * plan.cross_head
        for value in range(2):
            weights = layer + (plan.cross_value if value else plan.cross_key)
            phase = project(plan, base, STORE, count, weights, dim, dim, pair, phase, threads)
            part = claim(phase)
            while part < plan.heads:
                to = base + (plan.cross_values_at if value else plan.cross_keys_at) + place + part * plan.cross_head
                for row in range(count):
                    at = pair + 4 * (dim * row + part * plan.head_dim)
                    if not fits_cache(plan, at):
                        broken[row] = 1
                    if value:
                        keep_value(plan, at, to, row)
                    else:
                        keep_key(plan, at, to, row)
                part = claim(phase)
            phase = finish_phase(phase, threads)


# --- Threads ---------------------------------------------------------------------------------------------------------


class Crew:
    """Threads that run one compiled function together. They sleep between calls and end with `close` or with the crew.

    All of the work is theirs and the caller only waits, so a caller that is interrupted leaves nobody waiting for it.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._home = Home()
        self._inboxes: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(threads if threads > 1 else 0)]
        for thread, inbox in enumerate(self._inboxes):
            name = f"musicgen-decoder-{thread}"
            threading.Thread(target=_work, args=(thread, inbox), name=name, daemon=True).start()
        self._dismiss = weakref.finalize(self, _dismiss, self._inboxes)

    def run(self, function: Any, *arguments: Any) -> None:  # noqa: ANN401
        """Calls `function(*arguments, threads, thread)` on every thread and waits for all.

        Raises:
            ValueError: the crew has been closed.
            ModelFailed: the process was forked since the crew was made.
        """
        self._home.require()
        if not self._dismiss.alive:
            raise ValueError("this decoder has been closed: make another")
        if not self._inboxes:
            function(*arguments, self.threads, 0)
            return
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        job = _Job(function, (*arguments, self.threads), done)
        for inbox in self._inboxes:
            inbox.put(job)
        for error in [done.get() for _ in self._inboxes]:
            if error is not None:
                raise error

    def close(self) -> None:
        """Ends the threads; they finish what they are at."""
        self._dismiss()


@dataclass(frozen=True, slots=True)
class _Job:
    function: Any
    arguments: tuple[Any, ...]
    done: SimpleQueue[BaseException | None]


def _work(thread: int, inbox: SimpleQueue[_Job | None]) -> None:
    while (job := inbox.get()) is not None:
        try:
            job.function(*job.arguments, thread)
        except BaseException as error:  # Whatever it is, the caller waits for an answer and gets it.
            job.done.put(error)
        else:
            job.done.put(None)
        del job


def _dismiss(inboxes: list[SimpleQueue[_Job | None]]) -> None:
    for inbox in inboxes:
        inbox.put(None)


# --- The decoder -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Hearing:
    """What a slot's two streams hear, and how many columns it has."""

    guidance: float
    text: tuple[int, int]
    #: One a stream, [columns, dim]; empty without a prefix.
    prefixes: tuple[Floats, Floats]

    @property
    def streams(self) -> int:
        return 1 if self.guidance == 1.0 else STREAMS

    @classmethod
    def of(cls, condition: Condition, dim: int) -> _Hearing:
        none = np.zeros((0, dim), np.float32)
        prefix = none if condition.prefix is None else np.array(condition.prefix, np.float32, order="C")
        null = condition.null_prefix
        return cls(
            guidance=condition.guidance,
            text=(_length(condition.cross), _length(condition.null_cross if condition.has_null else None)),
            prefixes=(prefix, np.zeros_like(prefix) if null is None else np.array(null, np.float32, order="C")),
        )

    def column(self, stream: int, position: int) -> int:
        """Address of the prefix's column at `position`; 0 after the prefix."""
        prefix = self.prefixes[stream]
        return prefix.ctypes.data + position * prefix.strides[0] if position < len(prefix) else 0


class CpuDecoder:
    """A MusicGen language model on a CPU's own kernels. Answers to `Decoder`."""

    def __init__(
        self,
        geometry: LmGeometry,
        weights: LmWeights,
        *,
        slots: int,
        max_positions: int,
        max_rows: int,
        precision: Precision,
        threads: int,
        max_text: int = DEFAULT_MAX_TEXT,
    ) -> None:
        self._geometry = geometry
        self._slots = slots
        self._max_positions = max_positions
        self._max_rows = max_rows
        self._max_text = max_text
        self._plan = plan_of(
            geometry,
            slots=slots,
            max_positions=max_positions,
            max_rows=max_rows,
            precision=precision,
            max_text=max_text,
            threads=threads,
        )
        self._memory = _pages(self._plan.total)
        self._base: int = self._memory.ctypes.data
        self._lay_out(weights)
        self._hearing: dict[int, _Hearing] = {}
        #: What each slot was last bound to.
        self._bound: dict[int, Condition] = {}
        #: Slots that had a column or a text without numbers since they were bound.
        self._broken = np.zeros(slots, np.bool_)
        self._filled = np.zeros(slots, np.int64)
        self._crew = Crew(threads)

    @property
    def geometry(self) -> LmGeometry:
        """The model's sizes."""
        return self._geometry

    @property
    def slots(self) -> int:
        """Requests it can hold at the same time."""
        return self._slots

    @property
    def max_positions(self) -> int:
        """Columns, prefix included, that a slot's cache holds."""
        return self._max_positions

    @property
    def max_rows(self) -> int:
        """Rows that one step takes at most."""
        return self._max_rows

    def close(self) -> None:
        """Ends the threads. The decoder cannot be used afterwards."""
        self._crew.close()

    def bind(self, slot: int, condition: Condition) -> None:
        """Make `slot` empty and give it what it hears; it holds that until it is bound again.

        Raises:
            InvalidRequest: the text or the prefix is longer than this decoder was made for.
        """
        crosses = (condition.cross, condition.null_cross if condition.has_null else None)
        for field, states in zip(("prompt", "negative_prompt"), crosses, strict=True):
            if _length(states) > self._max_text:
                raise InvalidRequest.of(field, _length(states), f"must be at most {self._max_text} text tokens")
        if condition.prefix_columns >= self._max_positions:
            limit = self._max_positions - 1
            raise InvalidRequest.of("prefix", condition.prefix_columns, f"must be at most {limit} columns")
        # A later window hears the same text: its keys and values are there, unless they were found broken.
        if self._bound.pop(slot, None) is not condition or self._broken[slot]:
            self._broken[slot] = False
            for number, states in enumerate(crosses):
                if states is not None and len(states):
                    self._broken[slot] |= not self._bind_text(STREAMS * slot + number, states)
        self._hearing[slot] = _Hearing.of(condition, self._plan.dim)
        self._filled[slot] = 0
        self._bound[slot] = condition

    def step(self, rows: Rows, draws: Draws) -> Ints:
        """Write the rows into the cache and draw from the wanted ones: [w, codebooks]."""
        return draw(self.logits(rows), draws)

    def logits(self, rows: Rows) -> Floats:
        """As `step`, but the guided logits themselves: [w, codebooks, card]; no numbers for a slot that is broken."""
        step = self._step_of(rows)
        counters = np.zeros(2 * self._phases, np.int64)
        self._crew.run(run_step, self._plan, self._base, step, counters)
        if step.broken.any():
            self._broken[step.stream[step.broken != 0] // STREAMS] = True
        if self._broken.any():
            step.logits[self._broken[rows.slot[rows.wanted]]] = np.nan
        return step.logits.reshape(len(rows.wanted), self._plan.codebooks, self._plan.card)

    @property
    def _phases(self) -> int:
        return 14 * self._plan.layers + 8

    def _bind_text(self, stream: int, states: Floats) -> bool:
        """Whether the keys and values of all states are numbers."""
        counters = np.zeros(2 * self._phases, np.int64)
        states, broken = np.ascontiguousarray(states, np.float32), np.zeros(len(states), np.uint8)
        self._crew.run(bind_text, self._plan, self._base, stream, states, broken, counters)
        return not broken.any()

    def _step_of(self, rows: Rows) -> Step:
        """The step's columns as rows of streams; notes that their slots have them."""
        self._check(rows)
        hearing = [self._hearing[slot] for slot in rows.slot.tolist()]
        streams: list[tuple[int, int]] = []  # (row, stream of its slot)
        for row, heard in enumerate(hearing):
            streams += [(row, number) for number in range(heard.streams)]
        streams.sort(key=lambda entry: hearing[entry[0]].text[entry[1]] == 0)
        number_of = {entry: index for index, entry in enumerate(streams)}

        of = np.array([row for row, _ in streams], np.int64)
        text = np.array([hearing[row].text[number] for row, number in streams], np.int64)
        wanted = rows.wanted.tolist()
        guided = [index for index, row in enumerate(wanted) if hearing[row].streams == 2]
        null = np.full(len(wanted), -1, np.int64)
        null[guided] = len(wanted) + np.arange(len(guided))
        final = [number_of[row, 0] for row in wanted] + [number_of[wanted[index], 1] for index in guided]
        np.maximum.at(self._filled, rows.slot, rows.position + 1)
        return Step(
            stream=STREAMS * rows.slot[of] + np.array([number for _, number in streams], np.int64),
            position=rows.position[of],
            text=text,
            prefix=np.array(
                [hearing[row].column(number, int(rows.position[row])) for row, number in streams], np.int64
            ),
            tokens=np.ascontiguousarray(rows.tokens[of], np.int64),
            crossing=int(np.count_nonzero(text)),
            final=np.array(final, np.int64),
            null=null,
            guidance=np.array([hearing[row].guidance for row in wanted], np.float32),
            logits=np.empty((len(wanted), self._plan.codebooks * self._plan.card), np.float32),
            broken=np.zeros(len(of), np.uint8),
        )

    def _check(self, rows: Rows) -> None:
        """Refuses rows that would read or write outside the cache.

        Raises:
            ValueError: the caller's bookkeeping is wrong.
        """
        if len(rows.slot) > self._max_rows:
            raise ValueError(f"a step of {len(rows.slot)} rows: this decoder takes at most {self._max_rows}")
        following = self._filled.copy()
        for slot, position in zip(rows.slot.tolist(), rows.position.tolist(), strict=True):
            if slot not in self._hearing:
                raise ValueError(f"slot {slot} has not been bound")
            if position != following[slot] or position >= self._max_positions:
                columns = f"{following[slot]} of {self._max_positions} columns"
                raise ValueError(f"position {position} of slot {slot}, which has {columns}")
            following[slot] += 1
        prefix_columns = [len(self._hearing[slot].prefixes[0]) for slot in rows.slot.tolist()]
        coded = rows.tokens[rows.position >= np.array(prefix_columns)]
        if coded.size and not 0 <= coded.min() <= coded.max() <= self._plan.card:
            raise ValueError(f"codes from {coded.min()} to {coded.max()}: this model has 0 to {self._plan.card}")

    def _lay_out(self, weights: LmWeights) -> None:
        """Packs the weights into their places."""
        plan = self._plan
        for index, layer in enumerate(weights.layers):
            at = plan.layers_at + index * plan.layer_bytes
            self._put_norm(at + plan.attention_norm, layer.attention_norm)
            self._put_matrix(at + plan.qkv, layer.qkv)
            self._put_matrix(at + plan.out, layer.out)
            if layer.cross is not None:
                self._put_norm(at + plan.cross_norm, layer.cross.norm)
                self._put_matrix(at + plan.cross_query, layer.cross.query)
                self._put_matrix(at + plan.cross_key, layer.cross.key)
                self._put_matrix(at + plan.cross_value, layer.cross.value)
                self._put_matrix(at + plan.cross_out, layer.cross.out)
            self._put_norm(at + plan.feed_forward_norm, layer.feed_forward_norm)
            self._put_matrix(at + plan.up, layer.up)
            self._put_matrix(at + plan.down, layer.down)
        self._put(plan.embeddings_at, weights.embeddings)
        self._put(plan.positions_at, positions(self._max_positions, plan.dim))
        self._put_norm(plan.out_norm_at, weights.out_norm)
        self._put_matrix(plan.heads_at, weights.heads.flatten(0, 1))

    def _put(self, at: int, values: Tensor) -> None:
        self._memory[at : at + 4 * values.numel()].view(np.float32)[:] = values.float().numpy(force=True).ravel()

    def _put_norm(self, at: int, norm: Norm) -> None:
        self._put(at, torch.stack([norm.weight, norm.bias]))

    def _put_matrix(self, at: int, weight: Tensor) -> None:
        size = packed_bytes(self._plan.kind, *weight.shape)
        pack(self._plan.kind, weight, None, self._memory[at : at + size])


def positions(count: int, dim: int) -> Tensor:
    """Sinusoidal positions [count, dim]: cosines in the first half, sines in the second."""
    half = dim // 2
    periods = torch.full([], POSITION_PERIOD) ** (torch.arange(half) / (half - 1))
    phases = torch.arange(count)[:, None] / periods
    return torch.cat([phases.cos(), phases.sin()], dim=1)


def _length(states: Floats | None) -> int:
    return 0 if states is None else len(states)


def _pages(count: int) -> npt.NDArray[np.uint8]:
    """Zeros in huge pages where the system has them: 4 KiB pages cost a table walk every 64 cache lines."""
    memory = mmap.mmap(-1, count + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    start = -whole.ctypes.data % PAGE
    return whole[start : start + count]
