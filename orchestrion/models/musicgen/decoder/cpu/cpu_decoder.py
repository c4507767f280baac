"""The decoder on CPUs: one step is one call into compiled code, split between the threads of a crew.

All that a decoder holds lies in one piece of memory whose plan is computed beforehand, so `memory_bytes` is not an
estimate. In each phase of a step the threads take panels, heads or rows from a counter until none is left. Which thread
computes an output changes none of its bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.cpu.crew import Crew
from orchestrion.models.musicgen.decoder.cpu.linear import (
    pack,
    packed_bytes,
)
from orchestrion.models.musicgen.decoder.cpu.plan import DEFAULT_MAX_TEXT, STREAMS, length, pages, plan_of, positions
from orchestrion.models.musicgen.decoder.cpu.step import Step, bind_text, run_step
from orchestrion.models.musicgen.decoder.decoder import Condition, Draws, Floats, Ints, Precision, Rows
from orchestrion.models.musicgen.decoder.sampling import draw
from orchestrion.models.musicgen.geometry import LmGeometry
from orchestrion.models.musicgen.weights import LmWeights, Norm


@dataclass(frozen=True, slots=True)
class _BoundCondition:
    """What a slot's two streams hear, and how many columns it has."""

    guidance: float
    text: tuple[int, int]
    #: One a stream, [columns, dim]; empty without a prefix.
    prefixes: tuple[Floats, Floats]

    @property
    def streams(self) -> int:
        return 1 if self.guidance == 1.0 else STREAMS

    @classmethod
    def of(cls, condition: Condition, dim: int) -> _BoundCondition:
        none = np.zeros((0, dim), np.float32)
        prefix = none if condition.prefix is None else np.array(condition.prefix, np.float32, order="C")
        null = condition.null_prefix
        return cls(
            guidance=condition.guidance,
            text=(length(condition.cross), length(condition.null_cross if condition.has_null else None)),
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
        self._memory = pages(self._plan.total)
        self._base: int = self._memory.ctypes.data
        self._lay_out(weights)
        self._hearing: dict[int, _BoundCondition] = {}
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
            if length(states) > self._max_text:
                raise InvalidRequest.of(field, length(states), f"must be at most {self._max_text} text tokens")
        if condition.prefix_columns >= self._max_positions:
            limit = self._max_positions - 1
            raise InvalidRequest.of("prefix", condition.prefix_columns, f"must be at most {limit} columns")
        # A later window hears the same text: its keys and values are there, unless they were found broken.
        if self._bound.pop(slot, None) is not condition or self._broken[slot]:
            self._broken[slot] = False
            for number, states in enumerate(crosses):
                if states is not None and len(states):
                    self._broken[slot] |= not self._bind_text(STREAMS * slot + number, states)
        self._hearing[slot] = _BoundCondition.of(condition, self._plan.dim)
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
