"""The decoder in torch: on CUDA a replayed graph per step, on any other device the same lines one by one.

Everything a step touches stays where it is: keys and values of all slots, the text's keys and values (made once, at
`bind`), tables of guidance and lengths. A step sends one small table of numbers to the device and waits once, for the
codes. Each slot has two streams, what it hears and the null that guidance pushes away from; a stream without a place of
its own, padding of a graph or a null that is not needed, runs in one spare stream that is never read.

A row's bits never depend on the size of its step: `torch_arithmetic.py` and `cuda_arithmetic.py` say how products and
attention achieve that.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.decoder import Condition, Draws, Floats, Ints, Precision, Rows
from orchestrion.models.musicgen.decoder.pytorch.cuda_graphs import CudaGraphs, graph_rows, graphs_up_to
from orchestrion.models.musicgen.decoder.pytorch.torch_arithmetic import (
    CHUNK,
    WEIGHT_DTYPES,
    Arithmetic,
    Packed,
    PlainArithmetic,
    activation_dtype,
    pack,
)
from orchestrion.models.musicgen.decoder.sampling import DeviceDraws
from orchestrion.models.musicgen.geometry import LmGeometry
from orchestrion.models.musicgen.weights import CrossAttentionWeights, LayerWeights, LmWeights, Norm

#: Text states that a slot holds unless told otherwise: a T5 prompt of 256 tokens is a page.
MAX_TEXT: Final = 256
#: Fields of a row before its tokens: slot and position.
ROW_FIELDS: Final = 2
#: Fields of a draw: seed, column, top-k, then temperature and top-p as the bits of float64.
DRAW_FIELDS: Final = 5
FLOAT_BYTES: Final = 4
#: What drawing takes for each guided logit: both streams', their mix, and for the plain draw a dozen words of 8 bytes.
LOGIT_BYTES: Final = 128
#: The first card with fp8 products.
FP8_CAPABILITY: Final = (8, 9)
#: The first card whose kernels can be launched before the one before has ended.
EARLY_CAPABILITY: Final = (9, 0)
#: Longest wavelength of the sinusoidal positions, in units of 2 pi columns (Vaswani et al. 2017).
MAX_PERIOD: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class _Cross:
    norm: Norm
    query: Packed
    #: [2 · dim, dim]
    key_value: Packed
    out: Packed


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Norm
    qkv: Packed
    out: Packed
    cross: _Cross | None
    feed_forward_norm: Norm
    up: Packed
    down: Packed


@dataclass(frozen=True, slots=True)
class _Shape:
    """What may differ between steps of the same number of rows: half the work when the other half is not needed."""

    #: 1, or 2 when any slot has a null stream.
    streams: int
    #: How many of these have a text to attend to.
    texts: int


class TorchDecoder:
    """See `decoder.Decoder`.

    `precision` is fp32, bf16, or fp8 (weights, with a scale for each row of weights and of activations); keys and
    values are float32 for fp32, else bf16. `max_text` is how many text states a slot can hold. `arithmetic` is the best
    for the device unless given.

    Raises:
        InvalidRequest: the precision is not one of these, or the card has no fp8.
        MemoryError: the device has no room for weights and caches.
    """

    def __init__(
        self,
        geometry: LmGeometry,
        weights: LmWeights,
        *,
        slots: int,
        max_positions: int,
        max_rows: int,
        precision: Precision,
        device: str,
        max_text: int = MAX_TEXT,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.geometry = geometry
        self.slots = slots
        self.max_positions = max_positions
        self.max_rows = max_rows
        self._max_text = max_text
        self._device = torch.device(device)
        self._spare = 2 * slots
        # What the host must know of each slot.
        self._streams, self._texts = np.ones(slots, np.int64), np.zeros(slots, np.int64)
        self._prefix_columns = np.zeros(slots, np.int64)
        #: What each slot was last bound to.
        self._bound: dict[int, Condition] = {}
        #: [2, prefix, dim] of each slot that has one, on the device.
        self._prefixes: dict[int, Tensor] = {}
        with _memory_errors(), torch.inference_mode():
            self._arithmetic = arithmetic or best_arithmetic(precision, self._device)
            self._load(weights, precision)
            self._allocate(activation_dtype(precision))
        # A row of the spare stream: slot `slots`, position 0, codes 0, drawn greedily.
        self._padding = torch.zeros(ROW_FIELDS + geometry.codebooks + DRAW_FIELDS, dtype=torch.int64)
        self._padding[0] = slots
        self._graphs: CudaGraphs[_Shape] | None = None
        if self._device.type == "cuda" and self._arithmetic.stays_on_device:
            self._graphs = CudaGraphs(self._codes, self._padding, most_rows=slots, device=self._device)
            with _memory_errors(), torch.inference_mode():
                # Guided, without a negative prompt: what nearly all steps are. The others wait until they are met.
                for rows in graphs_up_to(slots):
                    self._graphs.record(rows, _Shape(streams=2, texts=0 if geometry.text_in_prefix else 1))

    def _load(self, weights: LmWeights, precision: Precision) -> None:
        def packed(*parts: Tensor) -> Packed:
            return pack(torch.cat(parts), precision, self._device)

        def moved(norm: Norm) -> Norm:
            return Norm(norm.weight.to(self._device, copy=True), norm.bias.to(self._device, copy=True))

        def attention(cross: CrossAttentionWeights) -> _Cross:
            return _Cross(moved(cross.norm), packed(cross.query), packed(cross.key, cross.value), packed(cross.out))

        def layer(source: LayerWeights) -> _Layer:
            return _Layer(
                attention_norm=moved(source.attention_norm),
                qkv=packed(source.qkv),
                out=packed(source.out),
                cross=attention(source.cross) if source.cross else None,
                feed_forward_norm=moved(source.feed_forward_norm),
                up=packed(source.up),
                down=packed(source.down),
            )

        self._layers = tuple(layer(source) for source in weights.layers)
        self._out_norm = moved(weights.out_norm)
        self._heads = packed(weights.heads.flatten(0, 1))
        self._embeddings = weights.embeddings.to(self._device, activation_dtype(precision), copy=True)
        self._sinusoids = sinusoids(self.max_positions, self.geometry.dim).to(self._device)

    def _allocate(self, dtype: torch.dtype) -> None:
        geometry, streams, device = self.geometry, self._spare + 1, self._device
        by_head = (geometry.heads, self.max_positions, geometry.head_dim)
        texts = 0 if geometry.text_in_prefix else geometry.layers
        by_text = (geometry.heads, self._max_text, geometry.head_dim)
        #: [layers, keys and values, streams, heads, places, head_dim]
        self._cache = torch.zeros(geometry.layers, 2, streams, *by_head, dtype=dtype, device=device)
        self._text = torch.zeros(texts, 2, streams, *by_text, dtype=dtype, device=device)
        self._text_lengths = torch.zeros(streams, dtype=torch.int64, device=device)
        # One slot more than there are, for the padding of a graph.
        self._streams_of = torch.full((2, self.slots + 1), self._spare, dtype=torch.int64, device=device)
        self._streams_of[0, :-1] = torch.arange(self.slots)
        self._guidance = torch.ones(self.slots + 1, dtype=torch.float32, device=device)

    def bind(self, slot: int, condition: Condition) -> None:
        """See `Decoder.bind`.

        Raises:
            InvalidRequest: the text or the prefix is longer than a slot holds.
            MemoryError: the device has no room.
        """
        self._check(condition)
        null = self.slots + slot
        with _memory_errors(), torch.inference_mode():
            # A later window hears the same text: its keys and values are there.
            if self._bound.pop(slot, None) is not condition:
                self._hear(slot, condition.cross)
                self._hear(null, condition.null_cross if condition.has_null else None)
            self._streams_of[1, slot] = null if condition.has_null else self._spare
            self._guidance[slot] = condition.guidance
            self._prefixes.pop(slot, None)
            if condition.prefix is not None:
                self._prefixes[slot] = self._moved(_prefixes(condition.prefix, condition.null_prefix))
        self._streams[slot] = 2 if condition.has_null else 1
        self._texts[slot] = self._streams[slot] if condition.null_cross is not None else condition.cross is not None
        self._prefix_columns[slot] = condition.prefix_columns
        self._bound[slot] = condition

    def _check(self, condition: Condition) -> None:
        for name, states in (("prompt", condition.cross), ("negative_prompt", condition.null_cross)):
            if states is not None and len(states) > self._max_text:
                raise InvalidRequest.of(name, f"{len(states)} tokens", f"shorten it to {self._max_text} tokens")
        if condition.prefix_columns >= self.max_positions:
            columns = f"{condition.prefix_columns} columns of text and melody"
            raise InvalidRequest.of("prompt", columns, f"shorten it: they and the music share {self.max_positions}")

    def _hear(self, stream: int, states: Floats | None) -> None:
        """Keys and values of the text, in every layer."""
        length = 0 if states is None else len(states)
        self._text_lengths[stream] = length
        if states is None or not length:
            return
        inputs = self._moved(states).to(self._cache.dtype)
        crosses = (layer.cross for layer in self._layers if layer.cross)
        for cross, text in zip(crosses, self._text, strict=True):
            key_value = self._arithmetic.linear(inputs, cross.key_value)
            by_head = key_value.view(length, 2, self.geometry.heads, self.geometry.head_dim)
            text[:, stream, :, :length] = by_head.permute(1, 2, 0, 3)

    def step(self, rows: Rows, draws: Draws) -> Ints:
        """See `Decoder.step`; `sampling.NO_CODE` where a logit is not finite."""
        self._require_room(rows)
        with _memory_errors(), torch.inference_mode():
            if self._is_decoding(rows):
                codes = self._decode(rows, draws)
            else:
                codes = self._arithmetic.draw(self._guided_rows(rows), DeviceDraws.of(draws, self._device))
            fetched: Ints = codes.cpu().numpy()
            return fetched

    def logits(self, rows: Rows) -> Floats:
        """See `Decoder.logits`."""
        self._require_room(rows)
        with _memory_errors(), torch.inference_mode():
            guided: Floats = self._guided_rows(rows).cpu().numpy()
            return guided

    def close(self) -> None:
        """See `Decoder.close`. Without it the graphs, which know the decoder, would keep it until Python finds them."""
        self._graphs = None
        del self._layers, self._heads, self._embeddings, self._cache, self._text, self._prefixes

    def _require_room(self, rows: Rows) -> None:
        if not 0 < len(rows.slot) <= self.max_rows:
            raise ValueError(f"a step of {len(rows.slot)} rows; this decoder takes 1 to {self.max_rows}")
        if rows.position.max() >= self.max_positions:
            raise ValueError(f"position {rows.position.max()}; this decoder's slots hold {self.max_positions}")

    def _shape(self, rows: Rows) -> _Shape:
        return _Shape(int(self._streams[rows.slot].max()), int(self._texts[rows.slot].max()))

    def _in_prefix(self, rows: Rows) -> npt.NDArray[np.bool_]:
        in_prefix: npt.NDArray[np.bool_] = rows.position < self._prefix_columns[rows.slot]
        return in_prefix

    # --- any step -----------------------------------------------------------------------------------------------------

    def _guided_rows(self, rows: Rows) -> Tensor:
        """The guided logits of the wanted rows."""
        shape = self._shape(rows)
        hidden = self._run(rows, shape).view(shape.streams, len(rows.slot), -1)
        if not len(rows.wanted):
            return torch.empty(0, self.geometry.codebooks, self.geometry.card, device=self._device)
        return self._guided(hidden[:, self._moved(rows.wanted)], self._moved(rows.slot[rows.wanted]))

    def _run(self, rows: Rows, shape: _Shape) -> Tensor:
        in_prefix = self._in_prefix(rows)
        tokens = np.where(in_prefix[:, None], self.geometry.special_token, rows.tokens)
        x = self._embed(self._moved(tokens)).repeat(shape.streams, 1)
        if in_prefix.any():
            self._put_prefix(x.view(shape.streams, len(tokens), -1), rows, in_prefix)
        return self._transform(x, self._moved(rows.slot), self._moved(rows.position), shape)

    def _put_prefix(self, x: Tensor, rows: Rows, in_prefix: npt.NDArray[np.bool_]) -> None:
        """Overwrite the prefix's rows of `x` [streams, rows, dim] with their slots' prefixes."""
        for slot in set(rows.slot[in_prefix].tolist()):
            mine = np.flatnonzero(in_prefix & (rows.slot == slot))
            x[:, self._moved(mine)] = self._prefixes[slot][: len(x), self._moved(rows.position[mine])]

    def _moved(self, array: Ints | Floats) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    # --- a step of decoding -------------------------------------------------------------------------------------------

    def _is_decoding(self, rows: Rows) -> bool:
        """Whether the next codes of every row are wanted and none is of a prefix."""
        n = len(rows.slot)
        return n <= self.slots and np.array_equal(rows.wanted, np.arange(n)) and not self._in_prefix(rows).any()

    def _decode(self, rows: Rows, draws: Draws) -> Tensor:
        """The codes of each row, [n, codebooks], on the device; from a graph where there are graphs."""
        table, shape = torch.from_numpy(_table(rows, draws)), self._shape(rows)
        return self._graphs.replay(table, shape) if self._graphs else self._codes(table.to(self._device), shape)

    def _codes(self, table: Tensor, shape: _Shape) -> Tensor:
        """From a table of rows and draws to their codes, without the host."""
        slot, position = table[:, 0], table[:, 1]
        tokens, draws = table[:, ROW_FIELDS:-DRAW_FIELDS], table[:, -DRAW_FIELDS:]
        x = self._embed(tokens).repeat(shape.streams, 1)
        hidden = self._transform(x, slot, position, shape).view(shape.streams, len(table), -1)
        return self._arithmetic.draw(self._guided(hidden, slot), _draws(draws))

    # --- the model ----------------------------------------------------------------------------------------------------

    def _embed(self, tokens: Tensor) -> Tensor:
        """The codebooks' embeddings added up in order: [rows, dim], float32."""
        x = self._embeddings[0, tokens[:, 0]].float()
        for codebook in range(1, self.geometry.codebooks):
            x += self._embeddings[codebook, tokens[:, codebook]]
        return x

    def _transform(self, x: Tensor, slot: Tensor, position: Tensor, shape: _Shape) -> Tensor:
        """All layers and the last norm: `x` [streams · rows, dim] without positions to hidden states of that shape."""
        streams = self._streams_of[: shape.streams, slot].flatten()
        position = position.repeat(shape.streams)
        x += self._sinusoids[position]
        # The spare stream stays one column long, so that its rows cost nothing.
        place = torch.where(streams == self._spare, 0, position)
        lengths = place + 1
        heard = shape.texts * len(slot)
        heard_streams, text_lengths = streams[:heard], self._text_lengths[streams[:heard]]
        do, parts = self._arithmetic, None
        for index, layer in enumerate(self._layers):
            qkv = do.linear(do.norm(x, parts, layer.attention_norm), layer.qkv)
            qkv = qkv.view(-1, 3, self.geometry.heads, self.geometry.head_dim)
            do.remember(self._cache[index], qkv, streams, place)
            parts = do.parts(do.attend(qkv[:, 0], self._cache[index], streams, lengths), layer.out)
            if layer.cross and heard:
                queries = do.linear(do.norm(x, parts, layer.cross.norm)[:heard], layer.cross.query)
                queries = queries.view(heard, self.geometry.heads, self.geometry.head_dim)
                parts = do.parts(do.attend(queries, self._text[index], heard_streams, text_lengths), layer.cross.out)
            up = do.linear(do.norm(x, parts, layer.feed_forward_norm), layer.up, gelu=True)
            parts = do.parts(up, layer.down)
        return do.norm(x, parts, self._out_norm)

    def _guided(self, hidden: Tensor, slot: Tensor) -> Tensor:
        """`hidden` [streams, w, dim] to guided logits [w, codebooks, card]."""
        streams, w, dim = hidden.shape
        logits = self._arithmetic.logits(hidden.reshape(-1, dim), self._heads)
        logits = logits.view(streams, w, self.geometry.codebooks, -1)
        if streams == 1:
            return logits[0]
        conditional, null = logits
        guidance = self._guidance[slot][:, None, None]
        return torch.where(guidance == 1.0, conditional, null + (conditional - null) * guidance)


def memory_bytes(
    geometry: LmGeometry, slots: int, max_positions: int, max_rows: int, precision: Precision, max_text: int = MAX_TEXT
) -> int:
    """What a decoder of these sizes takes of its device at most: weights, caches, prefixes and a step's work.

    The last is an upper bound, reckoned from the shapes of a step's intermediates and not measured on a card.
    """
    dim, codes = geometry.dim, geometry.codebooks * geometry.card
    kept, active = WEIGHT_DTYPES[precision].itemsize, activation_dtype(precision).itemsize
    crosses = 0 if geometry.text_in_prefix else 1
    outputs = geometry.layers * ((5 + 4 * crosses) * dim + geometry.ffn_dim) + codes
    linear = geometry.layers * ((4 + 4 * crosses) * dim + 2 * geometry.ffn_dim) * dim + codes * dim
    norms = FLOAT_BYTES * 2 * dim * (geometry.layers * (2 + crosses) + 1)
    scales = FLOAT_BYTES * outputs if precision is Precision.FP8 else 0
    embeddings = active * (codes + geometry.codebooks) * dim
    weights = kept * linear + scales + norms + embeddings + FLOAT_BYTES * max_positions * dim

    places = max_positions + crosses * max_text
    caches = active * geometry.layers * 2 * (2 * slots + 1) * places * dim
    prefix_columns = 0 if crosses else geometry.chroma_frames + max_text
    prefixes = FLOAT_BYTES * 2 * slots * prefix_columns * dim

    # Of each of a step's rows: the residual stream, what one layer makes of it, and the parts of its attention.
    row = FLOAT_BYTES * (8 * dim + 2 * geometry.ffn_dim + -(-max_positions // CHUNK) * (dim + 2 * geometry.heads))
    # Graphs keep memory of their own for that.
    rows = 2 * (max_rows + graph_rows(slots))
    return weights + caches + prefixes + rows * row + slots * codes * LOGIT_BYTES


def sinusoids(positions: int, dim: int) -> Tensor:
    """The positions' embeddings, cosines before sines: [positions, dim], float32."""
    half = dim // 2
    periods = MAX_PERIOD ** (torch.arange(half, dtype=torch.float32) / (half - 1))
    phase = torch.arange(positions, dtype=torch.float32)[:, None] / periods
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


def best_arithmetic(precision: Precision, device: torch.device) -> Arithmetic:
    """The fastest that is right on `device`.

    Raises:
        InvalidRequest: fp8 on a card without it.
    """
    if device.type != "cuda":
        return PlainArithmetic(precision)
    capability = torch.cuda.get_device_capability(device)
    if precision is Precision.FP8 and capability < FP8_CAPABILITY:
        needed, has = (".".join(map(str, version)) for version in (FP8_CAPABILITY, capability))
        raise InvalidRequest.of("precision", "fp8", f"this card has capability {has}, fp8 needs {needed}: take bf16")
    if importlib.util.find_spec("triton") is None:
        return PlainArithmetic(precision)
    # Imported here because Triton comes only with torch's builds for CUDA.
    from orchestrion.models.musicgen.decoder.pytorch.cuda_arithmetic import CudaArithmetic

    return CudaArithmetic(precision, early=capability >= EARLY_CAPABILITY)


def _prefixes(prefix: Floats, null_prefix: Floats | None) -> Floats:
    """Of both streams, [2, prefix, dim]; an absent one is zero."""
    return np.stack([prefix, np.zeros_like(prefix) if null_prefix is None else null_prefix])


def _table(rows: Rows, draws: Draws) -> Ints:
    """What a graph is told, a row each: [n, ROW_FIELDS + codebooks + DRAW_FIELDS]."""
    chances = np.stack([draws.temperature, draws.top_p], axis=1).astype(np.float64).view(np.int64)
    places = np.stack([rows.slot, rows.position], axis=1)
    counts = np.stack([draws.seed.view(np.int64), draws.column, draws.top_k], axis=1)
    return np.concatenate([places, rows.tokens, counts, chances], axis=1)


def _draws(fields: Tensor) -> DeviceDraws:
    """The draws of a table's last columns, [n, DRAW_FIELDS]."""
    seed, column, top_k, temperature, top_p = fields.unbind(1)
    return DeviceDraws(
        seed, column, temperature.contiguous().view(torch.float64), top_k, top_p.contiguous().view(torch.float64)
    )


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
