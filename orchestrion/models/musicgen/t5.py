"""The encoder half of T5 in plain torch: tokens to states.

It is here because transformers' own takes two core-seconds to import, more than all the rest of a replica's start,
and needs ten small functions of it. The surprising thing: T5 does not divide the scores of its attention by the root
of their width, and all layers share one table of relative distances, kept by the first.

Raffel et al., 2020, arXiv:1910.10683; gated feed-forward: Shazeer, 2020, arXiv:2002.05202.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from orchestrion.models.musicgen.checkpoint_files import Tensors
from orchestrion.models.musicgen.checkpoint_geometry import T5Geometry


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    feed_forward_norm: Tensor
    #: [ffn, dim]: of the plain feed-forward one matrix, of the gated one the gate's and the other's.
    up: tuple[Tensor, ...]
    down: Tensor


class T5Encoder:
    """Weights of a T5 encoder and its arithmetic, float32."""

    def __init__(self, geometry: T5Geometry, tensors: Tensors, prefix: str) -> None:
        """Copies the tensors whose names begin with `prefix`.

        Raises:
            InvalidRequest: one is missing or has another shape.
        """
        self._geometry = geometry
        dim, inner, ffn = geometry.dim, geometry.heads * geometry.head_dim, geometry.ffn_dim

        def take(name: str, *shape: int) -> Tensor:
            # A copy, because a kernel's choice may depend on where a tensor begins, and a file's do so anywhere.
            return tensors.take(prefix + name, *shape).clone()

        def layer(at: str) -> _Layer:
            attention, feed_forward = f"{at}.layer.0", f"{at}.layer.1"
            ups = ("wi_0", "wi_1") if geometry.feed_forward == "gated-gelu" else ("wi",)
            return _Layer(
                attention_norm=take(f"{attention}.layer_norm.weight", dim),
                query=take(f"{attention}.SelfAttention.q.weight", inner, dim),
                key=take(f"{attention}.SelfAttention.k.weight", inner, dim),
                value=take(f"{attention}.SelfAttention.v.weight", inner, dim),
                out=take(f"{attention}.SelfAttention.o.weight", dim, inner),
                feed_forward_norm=take(f"{feed_forward}.layer_norm.weight", dim),
                up=tuple(take(f"{feed_forward}.DenseReluDense.{up}.weight", ffn, dim) for up in ups),
                down=take(f"{feed_forward}.DenseReluDense.wo.weight", dim, ffn),
            )

        tied = "encoder.embed_tokens.weight"
        shared = "shared.weight" if prefix + "shared.weight" in tensors or prefix + tied not in tensors else tied
        self._embedding = take(shared, geometry.vocabulary, dim)
        distances = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        self._distance_bias = take(distances, geometry.distance_buckets, geometry.heads)
        self._layers = [layer(f"encoder.block.{n}") for n in range(geometry.layers)]
        self._norm = take("encoder.final_layer_norm.weight", dim)

    def states(self, tokens: Tensor) -> Tensor:
        """[tokens, dim] of one text's tokens, [tokens]."""
        bias = self._distance_bias[self._buckets(len(tokens))].permute(2, 0, 1)  # [heads, tokens, tokens]
        states = self._embedding[tokens]
        for layer in self._layers:
            states = states + self._attention(layer, self._normed(states, layer.attention_norm), bias)
            states = states + self._feed_forward(layer, self._normed(states, layer.feed_forward_norm))
        return self._normed(states, self._norm)

    def _normed(self, states: Tensor, weight: Tensor) -> Tensor:
        return weight * (states * torch.rsqrt(states.square().mean(-1, keepdim=True) + self._geometry.norm_epsilon))

    def _attention(self, layer: _Layer, states: Tensor, bias: Tensor) -> Tensor:
        split = (len(states), self._geometry.heads, self._geometry.head_dim)
        query, key, value = (
            functional.linear(states, weight).view(split).transpose(0, 1)  # [heads, tokens, head_dim]
            for weight in (layer.query, layer.key, layer.value)
        )
        weights = (query @ key.transpose(1, 2) + bias).softmax(-1)
        return functional.linear((weights @ value).transpose(0, 1).flatten(1), layer.out)

    def _feed_forward(self, layer: _Layer, states: Tensor) -> Tensor:
        up = [functional.linear(states, weight) for weight in layer.up]
        hidden = functional.relu(up[0]) if len(up) == 1 else functional.gelu(up[0], approximate="tanh") * up[1]
        return functional.linear(hidden, layer.down)

    def _buckets(self, count: int) -> Tensor:
        """The bucket of each token's distance from each other, [tokens, tokens].

        Half of the buckets are for what lies ahead. Of each half, one half is for single distances and the other grows
        with the logarithm up to the farthest.
        """
        half, farthest = self._geometry.distance_buckets // 2, self._geometry.farthest_distance
        places = torch.arange(count)
        ahead = places[None, :] - places[:, None]
        far = ahead.abs()
        single = half // 2
        share = torch.log(far.clamp(min=1).float() / single) / math.log(farthest / single)
        growing = (single + (share * (half - single)).long()).clamp(max=half - 1)
        return torch.where(ahead > 0, half, 0) + torch.where(far < single, far, growing)
