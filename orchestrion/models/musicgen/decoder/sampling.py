"""Which code comes next: a draw that depends on its seed, column, codebook and logits, and on nothing else.

A generator with a state would tie a request's music to how many draws were made before it. Here every candidate gets
its own random number, computed from where it stands: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", SC 2011) keyed by the seed and counting (column, codebook, code, domain). The code with the largest
logit / temperature plus Gumbel noise is then a draw from the softmax (Gumbel-max), in whatever order one looks.

numpy and torch, on any device, give the same codes. Logarithm and exponential are therefore written out in float64
additions, multiplications and divisions, which IEEE 754 rounds alike everywhere, and probabilities are added up as
integers, so that no order of summation matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from orchestrion.models.musicgen.decoder.decoder import Draws, Floats, Ints
from orchestrion.models.musicgen.native.emitter import compiled

#: Stands where there is no draw, because a logit is infinite or not a number: that request's model has failed.
NO_CODE: Final = -1

#: What a stream of random numbers is for, the last word of its counter: other uses of a seed take another.
CODES_DOMAIN: Final = 0

_u64 = np.uint64
_WORD: Final = 0xFFFFFFFF
_MULTIPLIER_0: Final = 0xD2511F53
_MULTIPLIER_1: Final = 0xCD9E8D57
_KEY_STEP_0: Final = 0x9E3779B9
_KEY_STEP_1: Final = 0xBB67AE85
_ROUNDS: Final = 10

LN_2: Final = 0.6931471805599453
LOG2_E: Final = 1.4426950408889634
MANTISSA_BITS: Final = 52
EXPONENT_BIAS: Final = 1023
#: sqrt(1/2) as the bits of a float64: mantissas are taken from there to sqrt(2).
SQRT_HALF_BITS: Final = 0x3FE6A09E667F3BCD
#: Half the difference between two of the 2**32 uniform numbers, which stand in the middle of their intervals.
HALF_STEP: Final = 2.0**-33
#: log(m) = 2 s (1 + s²/3 + s⁴/5 …), s = (m - 1) / (m + 1): with these it is right to 2e-12 between sqrt(1/2) and
#: sqrt(2). Highest power first.
LOG_SERIES: Final = tuple(1 / n for n in (13, 11, 9, 7, 5, 3, 1))
#: exp(r) for r in [0, ln 2), right to 2e-12. Highest power first.
EXP_SERIES: Final = tuple(1 / math.factorial(n) for n in (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0))
#: Relative weights, exp(logit - largest logit), in units of 2**-40: 8,192 of them add up exactly even in a float64.
WEIGHT_UNIT: Final = 2.0**40
#: Below this a weight is 0 in those units.
LOWEST_EXPONENT: Final = -64.0


@dataclass(frozen=True, slots=True)
class DeviceDraws:
    """`Draws` as tensors on one device, each [w]."""

    #: int64: the bits of the uint64.
    seed: Tensor
    #: int64.
    column: Tensor
    #: float64.
    temperature: Tensor
    #: int64.
    top_k: Tensor
    #: float64.
    top_p: Tensor

    @classmethod
    def of(cls, draws: Draws, device: torch.device | str) -> DeviceDraws:
        """`draws`, copied to `device`."""

        def moved(array: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        return cls(
            moved(draws.seed.view(np.int64)),
            moved(draws.column),
            moved(draws.temperature.astype(np.float64)),
            moved(draws.top_k),
            moved(draws.top_p.astype(np.float64)),
        )


def draw(logits: Floats, draws: Draws) -> Ints:
    """The next codes: [w, codebooks], from `logits` [w, codebooks, card].

    Each is drawn from softmax(logits / temperature), restricted to the likeliest codes that have `top_p` together, or
    else to the `top_k` likeliest, as `Draws` says; at temperature 0 it is the likeliest code, the lowest of equals.
    Where a logit is infinite or not a number, the codebook's code is `NO_CODE`: the request has failed, its neighbours
    have not.
    """
    codes = np.empty(logits.shape[:2], np.int64)
    _draw_all(
        np.ascontiguousarray(logits),
        draws.seed,
        draws.column,
        draws.temperature.astype(np.float64),
        draws.top_k,
        draws.top_p.astype(np.float64),
        codes,
    )
    return codes


# --- numpy, compiled -------------------------------------------------------------------------------------------------


def _bitcast(source: types.Type, target: types.Type, llvm_target: ir.Type) -> object:
    """A compiled function that reads the bits of one type as another."""

    def cast_bits(typing_context: Any, value: types.Type) -> tuple[Any, Callable[..., ir.Value]]:  # noqa: ANN401
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: tuple[ir.Value]) -> ir.Value:  # noqa: ANN401
            return builder.bitcast(arguments[0], llvm_target)

        return target(source), emit

    return intrinsic(cast_bits)


_bits_of = cast("Callable[[np.float64], np.int64]", _bitcast(types.float64, types.int64, ir.IntType(64)))
_float_of = cast("Callable[[np.int64], np.float64]", _bitcast(types.int64, types.float64, ir.DoubleType()))


@compiled
def philox(
    key_0: np.uint64, key_1: np.uint64, c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Four random words for a counter of four words and a key of two; of each uint64, 32 bits are in use."""
    for _ in range(_ROUNDS):
        product_0 = _u64(_MULTIPLIER_0) * c0
        product_1 = _u64(_MULTIPLIER_1) * c2
        c0 = (product_1 >> _u64(32)) ^ c1 ^ key_0
        c1 = product_1 & _u64(_WORD)
        c2 = (product_0 >> _u64(32)) ^ c3 ^ key_1
        c3 = product_0 & _u64(_WORD)
        key_0 = (key_0 + _u64(_KEY_STEP_0)) & _u64(_WORD)
        key_1 = (key_1 + _u64(_KEY_STEP_1)) & _u64(_WORD)
    return c0, c1, c2, c3


@compiled
def _log(x: np.float64) -> np.float64:
    bits = _bits_of(x)
    exponent = (bits - SQRT_HALF_BITS) >> MANTISSA_BITS
    mantissa = _float_of(bits - (exponent << MANTISSA_BITS))
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = 0.0
    for coefficient in LOG_SERIES:
        series = series * z + coefficient
    return exponent * LN_2 + (s + s) * series


@compiled
def _weight(x: np.float64) -> np.int64:
    """exp(x) for x <= 0, in weight units."""
    x = max(x, np.float64(LOWEST_EXPONENT))
    exponent = np.floor(x * LOG2_E)
    r = x - exponent * LN_2
    series = 0.0
    for coefficient in EXP_SERIES:
        series = series * r + coefficient
    scale = _float_of((np.int64(exponent) + EXPONENT_BIAS) << MANTISSA_BITS)
    return np.int64(series * scale * WEIGHT_UNIT)


@compiled
def _order_keys(logits: Floats, keys: npt.NDArray[np.int32]) -> bool:
    """Integers ordered as the logits are, and whether all logits are finite."""
    # Adding 0 makes -0 the 0 that it equals.
    bits = (logits + np.float32(0)).view(np.int32)
    finite = True
    for i in range(len(bits)):
        finite &= (bits[i] & np.int32(0x7F800000)) != np.int32(0x7F800000)
        keys[i] = bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF))
    return finite


@compiled
def _kth_largest(keys: npt.NDArray[np.int32], k: np.int64) -> np.int64:
    # By halving the range of keys: 32 counts over one array in the first-level cache beat any selection that moves it.
    low, high = np.int64(keys.min()), np.int64(keys.max())
    while low < high:
        middle = (low + high + 1) >> 1
        count = np.int32(0)
        for i in range(len(keys)):
            count += np.int32(keys[i] >= np.int32(middle))
        if count >= k:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def _nucleus(keys: npt.NDArray[np.int32], weights: Ints, top_p: np.float64) -> tuple[np.int64, np.int64]:
    """The least key of the likeliest codes with `top_p` together, and how many of those that have just this key."""
    budget = top_p * weights.sum()
    low, high = np.int64(keys.min()), np.int64(keys.max())
    while low < high:
        middle = (low + high) >> 1
        above = np.int64(0)
        for i in range(len(keys)):
            above += weights[i] if keys[i] > np.int32(middle) else 0
        if above <= budget:
            high = middle
        else:
            low = middle + 1
    above, equal = np.int64(0), np.int64(0)
    for i in range(len(keys)):
        above += weights[i] if keys[i] > low else 0
        equal = weights[i] if keys[i] == low else equal
    # A code is kept while what comes before it is within the budget; equals stand in the order of their codes.
    return low, np.int64((budget - above) // equal) + 1 if equal > 0 else np.int64(len(keys))


@compiled
def _uniforms(
    seed: np.uint64, column: np.int64, codebook: int, codes: npt.NDArray[np.int32], uniforms: npt.NDArray[np.float64]
) -> None:
    key_0, key_1 = seed & _u64(_WORD), seed >> _u64(32)
    c0, c1 = _u64(column) & _u64(_WORD), _u64(codebook)
    for i in range(len(codes)):
        word = np.int64(philox(key_0, key_1, c0, c1, _u64(codes[i]), _u64(CODES_DOMAIN))[0])
        uniforms[i] = (2 * word + 1) * HALF_STEP


@compiled
def _draw_one(
    logits: Floats,
    seed: np.uint64,
    column: np.int64,
    codebook: int,
    temperature: np.float64,
    top_k: np.int64,
    top_p: np.float64,
    keys: npt.NDArray[np.int32],
    weights: Ints,
    kept: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float64],
) -> np.int64:
    card = np.int64(len(logits))
    if not _order_keys(logits, keys):
        return np.int64(NO_CODE)
    largest = np.int64(keys.max())
    threshold, equals = np.int64(keys.min()), card
    peak = np.float64(logits.max())
    if temperature <= 0:
        threshold, equals = largest, np.int64(1)
    elif top_p > 0:
        for i in range(card):
            weights[i] = _weight((logits[i] - peak) / temperature)
        threshold, equals = _nucleus(keys, weights, top_p)
    elif 0 < top_k < card:
        threshold = _kth_largest(keys, top_k)
    count = 0
    for i in range(card):
        if keys[i] > threshold or (keys[i] == threshold and equals > 0):
            equals -= keys[i] == threshold
            kept[count] = i
            count += 1
    if count == 1:
        return np.int64(kept[0])
    _uniforms(seed, column, codebook, kept[:count], scores)
    # Apart from the integers above and the gathering below, this loop runs in vectors.
    for i in range(count):
        scores[i] = -_log(-_log(scores[i]))
    for i in range(count):
        scores[i] += (logits[kept[i]] - peak) / temperature
    best = 0
    for i in range(1, count):
        if scores[i] > scores[best]:
            best = i
    return np.int64(kept[best])


@compiled
def _draw_all(
    logits: Floats,
    seed: npt.NDArray[np.uint64],
    column: Ints,
    temperature: npt.NDArray[np.float64],
    top_k: Ints,
    top_p: npt.NDArray[np.float64],
    codes: Ints,
) -> None:
    rows, codebooks, card = logits.shape
    keys, kept = np.empty(card, np.int32), np.empty(card, np.int32)
    weights, scores = np.empty(card, np.int64), np.empty(card, np.float64)
    for row in range(rows):
        for codebook in range(codebooks):
            codes[row, codebook] = _draw_one(
                logits[row, codebook],
                seed[row],
                column[row],
                codebook,
                temperature[row],
                top_k[row],
                top_p[row],
                keys,
                weights,
                kept,
                scores,
            )


# --- torch -----------------------------------------------------------------------------------------------------------


def draw_torch(logits: Tensor, draws: DeviceDraws) -> Tensor:
    """As `draw`, the same codes, on the device of `logits` and without waiting for it: [w, codebooks], int64."""
    codebooks, card = logits.shape[1:]
    by_request = (-1, 1, 1)
    temperature = draws.temperature.view(by_request)
    top_k, top_p = draws.top_k.view(by_request), draws.top_p.view(by_request)

    # Adding 0 makes -0 the 0 that it equals.
    ordered, order = torch.sort(logits.float() + 0.0, dim=-1, descending=True, stable=True)
    wide = ordered.double()
    peak = wide[..., :1]
    # Where nothing is drawn by chance any temperature will do.
    scaled = (wide - peak) / torch.where(temperature > 0, temperature, 1.0)

    weights = _weights_torch(scaled)
    cumulative = weights.cumsum(-1)
    in_nucleus = (cumulative - weights).double() <= top_p * cumulative[..., -1:].double()
    last = torch.where(top_k > 0, top_k, card).clamp(max=card) - 1
    in_top_k = ordered >= ordered.gather(-1, last.expand(-1, codebooks, 1))
    likeliest = torch.arange(card, device=logits.device) == 0
    kept = torch.where(temperature > 0, torch.where(top_p > 0, in_nucleus, in_top_k), likeliest)

    codebook = torch.arange(codebooks, device=logits.device).view(1, -1, 1)
    domain = torch.full_like(codebook, CODES_DOMAIN)
    word = philox_torch(draws.seed.view(by_request), draws.column.view(by_request), codebook, order, domain)[0]
    uniform = (2 * word + 1).double() * HALF_STEP
    scores = torch.where(kept, scaled - _log_torch(-_log_torch(uniform)), -torch.inf)
    best = torch.where(scores == scores.amax(-1, keepdim=True), order, card).amin(-1)
    return torch.where(logits.isfinite().all(-1), best, NO_CODE)


def philox_torch(seed: Tensor, c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words in int64, of the broadcast shape of the counter's four, for int64 seeds."""
    key_0, key_1 = seed & _WORD, (seed >> 32) & _WORD
    c0 = c0 & _WORD
    for _ in range(_ROUNDS):
        # The product of two words fills 64 bits and may look negative; the mask takes the copied sign off.
        product_0, product_1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0 = ((product_1 >> 32) & _WORD) ^ c1 ^ key_0
        c1 = product_1 & _WORD
        c2 = ((product_0 >> 32) & _WORD) ^ c3 ^ key_1
        c3 = product_0 & _WORD
        key_0, key_1 = (key_0 + _KEY_STEP_0) & _WORD, (key_1 + _KEY_STEP_1) & _WORD
    return c0, c1, c2, c3


def _log_torch(x: Tensor) -> Tensor:
    bits = x.view(torch.int64)
    exponent = (bits - SQRT_HALF_BITS) >> MANTISSA_BITS
    mantissa = (bits - (exponent << MANTISSA_BITS)).view(torch.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = torch.zeros_like(z)
    for coefficient in LOG_SERIES:
        series = series * z + coefficient
    return exponent.double() * LN_2 + (s + s) * series


def _weights_torch(x: Tensor) -> Tensor:
    x = x.clamp(min=LOWEST_EXPONENT)
    exponent = torch.floor(x * LOG2_E)
    r = x - exponent * LN_2
    series = torch.zeros_like(r)
    for coefficient in EXP_SERIES:
        series = series * r + coefficient
    scale = ((exponent.long() + EXPONENT_BIAS) << MANTISSA_BITS).view(torch.float64)
    return (series * scale * WEIGHT_UNIT).long()
