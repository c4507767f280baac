"""Packed products are right in every precision, and a row's result does not depend on its company."""

import numba
import numpy as np
import pytest
import torch
from scipy.special import ndtr

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.cpu.linear import PackedLinear, pack, packed_bytes, panel_bytes
from orchestrion.models.musicgen.decoder.decoder import Precision
from orchestrion.models.musicgen.native import emitter, products, vector_math

PRECISIONS = [Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4]
#: [outputs, inputs]: whole panels and not, whole steps of k and not, the widest of the published models.
SHAPES = [(64, 64), (100, 66), (1, 3), (200, 1024), (70, 4096)]
#: Relative error of a product of random numbers, from the width of the weights (and, in bytes, of the inputs).
ERROR = {Precision.FP32: 3e-6, Precision.BF16: 3e-3, Precision.INT8: 2e-2, Precision.INT4: 0.1}


@emitter.compiled
def each(function: int, x, y) -> None:
    for i in range(x.size):
        y[i] = vector_math.exp(x[i]) if function == 0 else vector_math.gelu(x[i])


def layer(precision, outputs, inputs, rows=53):
    generator = torch.Generator().manual_seed(outputs + inputs)
    weight = torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    x = torch.randn(rows, inputs, generator=generator)
    return PackedLinear.of(weight, bias, precision), weight, bias, x.numpy()


def relative_error(value, exact):
    return float(np.linalg.norm(value - exact) / np.linalg.norm(exact))


def test_exp_is_right_to_a_ten_millionth_and_zero_far_below():
    x = np.linspace(-86, 87, 100_001, dtype=np.float32)
    y = np.empty_like(x)
    each(0, x, y)
    assert np.max(np.abs(y / np.exp(x.astype(np.float64)) - 1)) < 1.2e-7
    each(0, np.array([-200.0, -1e30], np.float32), y[:2])
    assert not y[:2].any()


def test_gelu_is_the_one_with_the_error_function():
    x = np.linspace(-20, 20, 100_001, dtype=np.float32)
    y = np.empty_like(x)
    each(1, x, y)
    exact = x * ndtr(x.astype(np.float64))
    assert np.max(np.abs(y - exact) / np.maximum(1, np.abs(exact))) < 2e-7


def test_a_number_has_the_same_bits_alone_and_in_a_vector():
    x = np.random.default_rng(3).normal(size=333).astype(np.float32) * 4
    for function in (0, 1):
        together, alone = np.empty_like(x), np.empty_like(x)
        each(function, x, together)
        for i in range(len(x)):
            each(function, x[i : i + 1], alone[i : i + 1])
        assert np.array_equal(together, alone)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_a_product_is_right(precision, outputs, inputs):
    packed, weight, bias, x = layer(precision, outputs, inputs)
    exact = x.astype(np.float64) @ weight.double().numpy().T + bias.double().numpy()
    assert relative_error(packed(x), exact) < ERROR[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_a_row_has_the_same_bits_in_any_company(precision, outputs, inputs):
    packed, _, _, x = layer(precision, outputs, inputs)
    together = packed(x)
    for first in range(0, len(x), 5):
        for count in (1, 2, 3, 4, 5, 7, 13):
            some = slice(first, first + count)
            assert np.array_equal(packed(x[some]), together[some]), (first, count)


def test_bf16_is_fp32_with_rounded_weights_bit_by_bit():
    packed, weight, bias, x = layer(Precision.BF16, 130, 512)
    rounded = PackedLinear.of(weight.bfloat16().float(), bias)
    assert np.array_equal(packed(x), rounded(x))


def test_int8_sums_integers_exactly():
    packed, weight, bias, x = layer(Precision.INT8, 64, 512)
    scale = weight.abs().amax(1).numpy() / np.float32(127)
    integers = np.rint(weight.numpy() / scale[:, None]).astype(np.int64)
    low, high = x.min(1), x.max(1)
    step = (high - low) / np.float32(255)
    levels = ((x - low[:, None]) * (np.float32(1) / step)[:, None] + np.float32(0.5)).astype(np.int64)
    sums = (np.minimum(levels, 255) @ integers.T).astype(np.float32)
    exact = sums * (scale[None] * step[:, None]) + low[:, None] * (scale * integers.sum(1).astype(np.float32))
    assert np.array_equal(packed(x), exact + bias.numpy())


def test_rows_without_range_and_weights_of_zero_are_exact_enough():
    for precision in PRECISIONS:
        constant = np.full((2, 64), 3.5, np.float32)
        ones = PackedLinear.of(torch.ones(5, 64), None, precision)
        assert np.allclose(ones(constant), 224, rtol=1e-6), precision
        assert not PackedLinear.of(torch.zeros(5, 64), None, precision)(constant).any(), precision


def test_overlapping_rows_make_a_convolution():
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(200, 8, generator=generator)  # [time, channels]
    weight, bias = torch.randn(16, 8, 7, generator=generator), torch.randn(16, generator=generator)
    packed = PackedLinear.of(weight.transpose(1, 2).reshape(16, 56), bias)
    windows = np.lib.stride_tricks.sliding_window_view(signal.numpy().reshape(-1), 56)[::8]
    expected = torch.nn.functional.conv1d(signal.T[None], weight, bias)[0].T.numpy()
    assert np.allclose(packed(windows), expected, atol=1e-4)


#: The dots of bytes that this machine can run.
DOTS = [products.dot_plain, products.DOT]
DOTS += [dot for feature, dot in products.X86_DOTS.items() if emitter.TARGET.is_x86 and emitter.TARGET.has(feature)]
INT4_BYTES = (emitter.GROUP // 2 + 2) * emitter.PANEL
#: (our product, another way to it, bytes of x and of weights in a step, kind of its sums, k of a step, inputs)
OTHER_WAYS = [(products.product_fp32, products.fp32_step, 4, 4 * emitter.PANEL, emitter.FLOATS, 1, 1500)]
for dot in dict.fromkeys(DOTS):
    OTHER_WAYS += [
        (products.product_int8, products.int8_step(dot), 4, 4 * emitter.PANEL, emitter.INTS, 4, 512),
        (
            products.product_int4,
            products.int4_step(dot),
            4 + emitter.GROUP,
            INT4_BYTES,
            emitter.FLOATS,
            emitter.GROUP,
            512,
        ),
    ]


@pytest.mark.parametrize(("ours", "step", "x_bytes", "weight_bytes", "sums", "k", "inputs"), OTHER_WAYS)
def test_machines_without_vnni_or_with_few_registers_get_the_same_bits(
    ours, step, x_bytes, weight_bytes, sums, k, inputs, monkeypatch
):
    monkeypatch.setattr(products, "TILE_ROWS", 1)
    other = products.product(step, x_bytes, weight_bytes, sums)
    rows, steps = 7, inputs // k
    kind = {products.product_fp32: emitter.FP32, products.product_int8: emitter.INT8}.get(ours, emitter.INT4)
    packed = np.zeros(packed_bytes(kind, emitter.PANEL, inputs) + 64, np.uint8)
    packed = packed[-packed.ctypes.data % 64 :][: panel_bytes(kind, inputs)]
    generator = np.random.default_rng(5)
    weight = generator.normal(size=(emitter.PANEL, inputs)).astype(np.float32)
    weight[0], weight[1] = 1, -1  # The largest bytes there are, all of one sign.
    pack(kind, torch.from_numpy(weight), None, packed)
    x = generator.normal(size=(rows, inputs)).astype(np.float32)
    if kind != emitter.FP32:
        x = generator.integers(0, 256, (rows, x_bytes * steps), np.uint8)
        x[0] = 255

    @numba.njit
    def run(x, packed, out, in_the_other_way):
        if in_the_other_way:
            other(x.ctypes.data, x.strides[0], rows, packed.ctypes.data, steps, 0, out.ctypes.data)
        else:
            ours(x.ctypes.data, x.strides[0], rows, packed.ctypes.data, steps, 0, out.ctypes.data)

    results = np.zeros((2, rows, emitter.PANEL), np.float32)
    run(x, packed, results[0], True)
    run(x, packed, results[1], False)
    assert results[0].any()
    assert np.array_equal(results[0], results[1])


def test_fp8_is_refused_with_what_there_is_instead():
    with pytest.raises(InvalidRequest, match=r"CUDA.*fp32, bf16, int8, int4.*fp8"):
        PackedLinear.of(torch.zeros(64, 64), None, Precision.FP8)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="rows of 65 numbers for a layer of 64 inputs"):
        PackedLinear.of(torch.zeros(64, 64), None)(np.zeros((1, 65), np.float32))
