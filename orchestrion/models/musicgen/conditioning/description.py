"""The text that a MusicGen hears: the prompt, and what fields of the request say beyond its words.

MusicGen was trained on short descriptions with tempo and key in words ("… 120 bpm, in D minor"), and has no other way
to be told of them. A field that only repeats what was read from the prompt adds nothing, so a prompt alone is given to
the model exactly as it was written.
"""

from __future__ import annotations

from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.said import said_in


def description(conditioning: Conditioning) -> str:
    """The prompt, followed by the style, mood, tempo and key that its own words do not say.

    Length and seed are never in it: the first is made to measure, the second is no music.
    """
    said = said_in(conditioning.prompt).fields
    added = []
    if conditioning.style is not None and conditioning.style != said.get("style"):
        added.append(conditioning.style.replace("-", " "))
    if conditioning.mood is not None and conditioning.mood != said.get("mood"):
        added.append(conditioning.mood)
    if conditioning.tempo_bpm is not None and conditioning.tempo_bpm != said.get("tempo_bpm"):
        added.append(f"{conditioning.tempo_bpm:g} bpm")
    if conditioning.key is not None and conditioning.key != said.get("key"):
        added.append(f"in {conditioning.key}")
    return ", ".join([conditioning.prompt.rstrip(" \n\t.,;:"), *added]) if added else conditioning.prompt
