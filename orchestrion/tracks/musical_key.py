"""A musical key: parsed from text, printed one way.

One sounding key has many spellings ("D# minor", "E flat minor", "eb min"), and they must be one value, because the key
is part of a track's identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from orchestrion.errors import InvalidRequest

PITCH_CLASS: Final = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
TONIC_NAMES: Final = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

#: Semitones above the tonic for each mode's degrees: seven, of the blues scale six, of the pentatonic five.
SCALE_STEPS: Final[dict[str, tuple[int, ...]]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "blues": (0, 3, 5, 6, 7, 10),
    "pentatonic": (0, 2, 4, 7, 9),
}
_MODE_SPELLINGS: Final = {
    "major": "major", "maj": "major", "ionian": "major",
    "minor": "minor", "min": "minor", "m": "minor", "aeolian": "minor", "natural minor": "minor",
    "dorian": "dorian", "phrygian": "phrygian", "lydian": "lydian", "mixolydian": "mixolydian", "locrian": "locrian",
    "harmonic minor": "harmonic minor", "harmonic min": "harmonic minor", "melodic minor": "melodic minor",
    "melodic min": "melodic minor", "blues": "blues", "pentatonic": "pentatonic", "major pentatonic": "pentatonic",
}  # fmt: skip
_ACCIDENTALS: Final = {"": 0, "#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1}

#: A sign touches its letter, a word need not: "a b minor" is B minor, "a flat minor" is A flat minor.
_TONIC: Final = r"(?P<tonic>[a-gA-G])(?P<accidental>[#♯b♭]|[\s-]{0,3}(?:sharp|flat))?[\s-]{0,3}"
#: A key as it stands in a prompt, e.g. "D minor", "f# min", "B-flat major"; the groups are the arguments of `Key.of`.
#: Without the scales below: "a blues in E" has no key, and what was read of a prompt once is part of a track's id.
KEY_PATTERN: Final = _TONIC + r"(?P<mode>major|minor|maj|min|ionian|aeolian|dorian|phrygian|lydian|mixolydian)\b"
_BARE = re.compile(r"(?P<tonic>[a-gA-G])(?P<accidental>#|♯|b|♭)?(?P<mode>m)?")
#: Not "m": case does not count here, and "DM" is no D minor.
_SPELT_MODES: Final = "|".join(spelling.replace(" ", r"[\s-]{1,3}") for spelling in _MODE_SPELLINGS if spelling != "m")
_FULL = re.compile(_TONIC + rf"(?P<mode>{_SPELT_MODES})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Key:
    """Tonic as a pitch class (0 = C … 11 = B) and one of the modes of `SCALE_STEPS`."""

    tonic: int
    mode: str

    def __str__(self) -> str:
        return f"{TONIC_NAMES[self.tonic]} {self.mode}"

    @property
    def steps(self) -> tuple[int, ...]:
        """Semitones above the tonic for the degrees, five to seven."""
        return SCALE_STEPS[self.mode]

    @property
    def is_minor(self) -> bool:
        """Whether the third is minor."""
        return 3 in self.steps and 4 not in self.steps

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read "D minor", "Eb maj", "F♯ dorian", "c#m", "G", "A harmonic minor", "E blues".

        Raises:
            InvalidRequest: the text names no key.
        """
        stripped = text.strip()
        match = _FULL.fullmatch(stripped) or _BARE.fullmatch(stripped)
        if match is None:
            raise InvalidRequest.of("key", text, "not a key; write for example 'D minor', 'Eb major' or 'F# dorian'")
        return cls.of(match["tonic"], match["accidental"], match["mode"])

    @classmethod
    def of(cls, tonic: str, accidental: str | None, mode: str | None) -> Key:
        """The key spelt by a letter, "#", "sharp", "b", "flat" or nothing, and a mode (major when none is given)."""
        pitch = PITCH_CLASS[tonic.lower()] + _ACCIDENTALS[re.sub(r"[\s-]", "", accidental or "").lower()]
        return cls(pitch % 12, _MODE_SPELLINGS[" ".join(re.split(r"[\s-]+", (mode or "major").lower()))])
