"""One step of the decoder in compiled code: phases, each cut into parts that any thread may take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from orchestrion.models.musicgen.decoder.cpu.linear import (
    ADD,
    STORE,
    STORE_GELU,
    Bytes,
    linear,
    write_row,
)
from orchestrion.models.musicgen.decoder.cpu.plan import (
    FP16_OVERFLOW,
    NORM_EPSILON,
    PARTS_OF_A_PRODUCT,
    Plan,
)
from orchestrion.models.musicgen.decoder.decoder import Floats, Ints
from orchestrion.models.musicgen.native.attention import (
    keep_fp16,
    keep_fp32,
    mix_fp16,
    mix_fp32,
    scores_fp16,
    scores_fp32,
)
from orchestrion.models.musicgen.native.emitter import LANES, PANEL, address_of, bytes_at, compiled, floats_at
from orchestrion.models.musicgen.native.vector_math import exp, row_largest, row_least, row_square_sum, row_sum
from orchestrion.models.musicgen.native.waiting import claim, wait_for


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
