"""How a model is run on this machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is run here. Only `precision`, `device` and `raw_prompts` can change what it sounds like."""

    #: "auto": the fastest that the device does well; else one of `musicgen.decoder.Precision`.
    precision: str = "auto"
    #: "auto": "cuda" where there is one, else "cpu".
    device: str = "auto"
    #: Pieces that are made at the same time.
    slots: int = 4
    #: CPU threads.
    threads: int = 1
    #: What the model may use at most, in GiB, weights included; None: what the device has free.
    memory_gib: float | None = None
    #: Length of the chunks that a running piece comes in; the first ones are shorter.
    chunk_s: float = 1.0
    #: Whether a MusicGen hears prompts as they were written, instead of captions made of what they ask for.
    raw_prompts: bool = False
