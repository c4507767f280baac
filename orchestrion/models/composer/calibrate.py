"""Measure the loudness of every preset and of every style's mix, and write `levels.py`.

    python -m orchestrion.models.composer.calibrate [--passes N] [style ...]

Run it again after a change of sound font, synthesiser, recipes or mixer. The first table is measured note by note; the
second from short pieces of each style, so that the unmastered mix of each lands at `mixer.TARGET_LUFS`. Styles that are
not named keep their trim, and so their bytes.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyloudnorm

from orchestrion.models.composer.band.players import PROGRAMS
from orchestrion.models.composer.composition.recipes import kit, melodic
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.mixer import TARGET_LUFS, mix
from orchestrion.models.composer.model import compose
from orchestrion.models.composer.sound import electronic, levels
from orchestrion.models.composer.sound.synth import SAMPLE_RATE_HZ, Mono, NoteSynth
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.vocabulary import STYLES

_LENGTH_S: Final = 0.5
_MELODIC_PITCHES: Final = (28, 36, 44, 52, 60, 68, 76, 84, 92)
_DRUM_PITCHES: Final = tuple(range(27, 88))
_VELOCITY: Final = 100
_FLOOR_LUFS: Final = -60.0
#: Compression makes the answer to a trim less than the trim: from any start two passes are enough.
_PASSES: Final = 2
_SEEDS: Final = (101, 102, 103)


def main(passes: int, styles: Sequence[str]) -> None:
    """Measure and write, starting from the table there is."""
    synth = NoteSynth()
    notes = measure_notes(synth)
    levels.NOTE_LUFS.clear()
    levels.NOTE_LUFS.update(notes)
    trims = {style: levels.STYLE_TRIM_DB.get(style, 0.0) for style in STYLES}
    for _ in range(passes):
        levels.STYLE_TRIM_DB.clear()
        levels.STYLE_TRIM_DB.update(trims)
        for style in styles:
            trims[style] = round(trims[style] + TARGET_LUFS - measure_style(style, synth), 1)
            sys.stderr.write(f"{style} {trims[style]:+.1f} dB\n")
    Path(levels.__file__).write_text(_module_text(notes, trims), encoding="utf-8")


def measure_notes(synth: NoteSynth) -> dict[str, dict[int, float]]:
    """Loudness of notes: "bank:program" → pitch → LUFS of a note of half a second at velocity 100."""
    programs = {voice.program for recipe in RECIPES.values() for voice in recipe.voices} | set(electronic.VOICES)
    programs |= {p for recipe in RECIPES.values() for p in recipe.other_leads} | PROGRAMS
    kits = {recipe.kit for recipe in RECIPES.values()}
    tables = {}
    for instrument in [*map(melodic, sorted(programs)), *map(kit, sorted(kits))]:
        pitches = _DRUM_PITCHES if instrument.is_drums else _MELODIC_PITCHES
        table = {pitch: note_lufs(synth.note(instrument, pitch, _VELOCITY, _LENGTH_S)) for pitch in pitches}
        tables[f"{instrument.bank}:{instrument.program}"] = table
    return tables


def note_lufs(pcm: Mono) -> float:
    """Loudness of the note's first 0.4 s, both channels alike at constant power."""
    piece = pcm[: round(0.4 * SAMPLE_RATE_HZ)].astype(np.float64)
    piece = np.pad(piece, (0, round(0.4 * SAMPLE_RATE_HZ) - len(piece)))
    stereo = np.stack([piece, piece], 1) * np.sqrt(0.5)
    loudness = float(pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(stereo))
    return round(max(_FLOOR_LUFS, loudness), 1)


def measure_style(style: str, synth: NoteSynth) -> float:
    """The median loudness of a few unmastered pieces."""
    return float(np.median([piece_lufs(style, seed, synth) for seed in _SEEDS]))


def piece_lufs(style: str, seed: int, synth: NoteSynth) -> float:
    """Loudness of one unmastered piece of 24 s."""
    conditioning = Conditioning(style, "", style, None, None, None, 24.0, seed, None)
    plan, score = compose(conditioning)
    audio = np.concatenate(list(mix(plan, score, synth)))
    return float(pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(audio.astype(np.float64)))


def _entry(name: str, table: dict[int, float]) -> list[str]:
    cells = ", ".join(f"{pitch}: {lufs}" for pitch, lufs in table.items())
    indent = " " * 8
    rows = textwrap.wrap(f"{cells},", 110, initial_indent=indent, subsequent_indent=indent)
    return [f'    "{name}": {{', *rows, "    },"]


def _module_text(notes: dict[str, dict[int, float]], trims: dict[str, float]) -> str:
    lines = [
        '"""Measured loudness; written by `python -m orchestrion.models.composer.calibrate`, not by hand."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        '#: "bank:program" → pitch → LUFS of a note of 0.5 s at velocity 100, unity gain.',
        "NOTE_LUFS: Final[dict[str, dict[int, float]]] = {",
        *(line for name, table in notes.items() for line in _entry(name, table)),
        "}  # fmt: skip",
        "",
        "#: Style → dB that bring its unmastered mix to `mixer.TARGET_LUFS`.",
        "STYLE_TRIM_DB: Final[dict[str, float]] = {",
        *(f'    "{name}": {trim},' for name, trim in trims.items()),
        "}",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=_PASSES)
    parser.add_argument("styles", nargs="*", metavar="style", help="measure the mixes of these alone")
    arguments = parser.parse_args()
    main(arguments.passes, arguments.styles or list(STYLES))
