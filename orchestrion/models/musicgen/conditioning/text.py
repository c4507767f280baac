"""From a prompt to what the language model hears of it: the states of a T5 encoder, and their projection.

Prompts go through one at a time, on one thread and in float32, so that a prompt's states are the same bits whatever
other requests there are and however many cores a replica has. The empty prompt has no states at all: it is the null
condition, whose states audiocraft sets to zero afterwards.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from orchestrion.models.musicgen.checkpoint.bounds import check_texts
from orchestrion.models.musicgen.checkpoint.files import Tensors, refused
from orchestrion.models.musicgen.checkpoint.geometry import T5Geometry
from orchestrion.models.musicgen.conditioning.prompt_tokens import token_ids
from orchestrion.models.musicgen.one_thread import one_thread
from orchestrion.models.musicgen.weights import Projection

Floats = npt.NDArray[np.float32]

#: For the states of prompts asked for lately. 20 tokens take 60 kB at t5-base's width, and 0.2 core-seconds to make.
REMEMBERED_BYTES: Final = 32 << 20

_SHARED: Final = "shared.weight"
_TIED: Final = "encoder.embed_tokens.weight"


class TextEncoder:
    """A T5 encoder with its tokenizer. Any thread may ask it."""

    def __init__(
        self,
        geometry: T5Geometry,
        tensors: Tensors,
        prefix: str,
        tokenizer: Path,
        remembered_bytes: int = REMEMBERED_BYTES,
    ) -> None:
        """Weights are the tensors whose names begin with `prefix`; `tokenizer` is the folder of its files.

        Raises:
            InvalidRequest: the weights or the tokenizer cannot be used.
        """
        # Imported here because it takes three core-seconds, and a checkpoint's card does not need it.
        from transformers import T5Config, T5EncoderModel, T5Tokenizer

        config = T5Config(
            vocab_size=geometry.vocabulary,
            d_model=geometry.dim,
            d_kv=geometry.head_dim,
            d_ff=geometry.ffn_dim,
            num_layers=geometry.layers,
            num_heads=geometry.heads,
            relative_attention_num_buckets=geometry.distance_buckets,
            relative_attention_max_distance=geometry.farthest_distance,
            layer_norm_epsilon=geometry.norm_epsilon,
            feed_forward_proj=geometry.feed_forward,
        )
        # Without memory first: drawing random weights for t5-base would take seconds.
        with torch.device("meta"):
            self._model = T5EncoderModel(config)
        state = {}
        for name, place in self._model.state_dict().items():
            stored = prefix + (_SHARED if name == _TIED and prefix + _TIED not in tensors else name)
            stored = prefix + _TIED if stored not in tensors and name == _SHARED else stored
            # A copy, because a kernel's choice may depend on where a tensor begins, and a file's do so anywhere.
            state[name] = tensors.take(stored, *place.shape).clone()
        self._model.load_state_dict(state, assign=True)
        self._model.train(False)
        try:
            check_texts(tokenizer)
            self._tokenizer = T5Tokenizer.from_pretrained(tokenizer, local_files_only=True)
        except Exception as error:  # The tokenizers library raises no narrower type for a file that it cannot use.
            reason = str(error).partition("\n")[0]
            raise refused(tokenizer, f"it has no usable tokenizer ({reason}); it needs tokenizer.json") from error
        # transformers makes an almost empty tokenizer, and says nothing, where files are missing or mangled.
        words = len(self._tokenizer)
        if not geometry.vocabulary <= 2 * words <= 2 * geometry.vocabulary:
            raise refused(
                tokenizer,
                f"its tokenizer has {words} words and its text encoder {geometry.vocabulary}: they are not of one"
                " model, or tokenizer.json is missing; download it again",
            )
        self._remembered_bytes = remembered_bytes
        self._states: OrderedDict[str, Floats] = OrderedDict()
        #: Held while a prompt is encoded, so that equal prompts are encoded once.
        self._lock = threading.Lock()

    def encode(self, prompt: str) -> Floats | None:
        """The states of a prompt, [tokens, text_dim], read-only; its last token ends it. None for the empty prompt."""
        if not prompt:
            return None
        with self._lock:
            if prompt not in self._states:
                self._states[prompt] = self._encode(prompt)
            self._states.move_to_end(prompt)
            states = self._states[prompt]
            while sum(kept.nbytes for kept in self._states.values()) > self._remembered_bytes:
                self._states.popitem(last=False)
            return states

    def length(self, prompt: str) -> int:
        """Tokens of a prompt, the one that ends it included: as many as `encode` gives states."""
        return len(token_ids(self._tokenizer, prompt)) if prompt else 0

    def _encode(self, prompt: str) -> Floats:
        tokens = torch.tensor([token_ids(self._tokenizer, prompt)])
        with one_thread(), torch.inference_mode():
            output = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        states: Floats = output.last_hidden_state[0].numpy()
        states.flags.writeable = False
        return states


def project(states: Floats, projection: Projection) -> Floats:
    """States [tokens, text_dim] at the language model's width, [tokens, dim]."""
    with one_thread(), torch.inference_mode():
        projected: Floats = functional.linear(torch.tensor(states), projection.weight, projection.bias).numpy()
    return projected
