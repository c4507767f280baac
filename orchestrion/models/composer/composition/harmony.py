"""Chords: Roman numerals to pitches, the progressions each family of styles uses, and voice leading.

Progressions are written for a major third and for a minor third above the tonic; a numeral names its chord exactly
("bVII", "ii7", "V7"), so a mode's colour is in the table and nothing has to be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final

import numpy as np

from orchestrion.tracks.musical_key import Key

_QUALITIES: Final[dict[str, tuple[int, ...]]] = {
    "maj": (0, 4, 7), "min": (0, 3, 7), "dim": (0, 3, 6), "aug": (0, 4, 8), "sus2": (0, 2, 7), "sus4": (0, 5, 7),
    "5": (0, 7, 12), "maj7": (0, 4, 7, 11), "min7": (0, 3, 7, 10), "dom7": (0, 4, 7, 10), "m7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9), "maj9": (0, 4, 7, 11, 14), "min9": (0, 3, 7, 10, 14), "dom9": (0, 4, 7, 10, 14),
    "add9": (0, 4, 7, 14), "madd9": (0, 3, 7, 14), "6": (0, 4, 7, 9), "min6": (0, 3, 7, 9), "7sus4": (0, 5, 7, 10),
    "13": (0, 4, 10, 14, 21), "7b9": (0, 4, 7, 10, 13),
}  # fmt: skip
_DEGREES: Final = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
_NUMERAL = re.compile(r"(?P<accidental>[b#]?)(?P<degree>[ivIV]+)(?P<suffix>.*)")
#: Suffix → quality for upper-case and lower-case numerals.
_UPPER: Final = {"": "maj", "7": "dom7", "maj7": "maj7", "maj9": "maj9", "9": "dom9", "sus4": "sus4", "sus2": "sus2",
                 "add9": "add9", "6": "6", "5": "5", "+": "aug", "7sus4": "7sus4", "13": "13",
                 "7b9": "7b9"}  # fmt: skip
_LOWER: Final = {"": "min", "7": "min7", "9": "min9", "o": "dim", "o7": "dim7", "h7": "m7b5", "6": "min6",
                 "add9": "madd9", "5": "5"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord in a key. `root` is a pitch class; `intervals` are semitones above it, the root first."""

    root: int
    intervals: tuple[int, ...]

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        """The chord's tones as pitch classes, root first."""
        return tuple((self.root + interval) % 12 for interval in self.intervals)

    def tone(self, index: int) -> int:
        """Pitch class of the root (0), third (1), fifth (2) or, where it has one, seventh (3)."""
        return self.pitch_classes[min(index, len(self.intervals) - 1)]


def chord(numeral: str, key: Key) -> Chord:
    """The chord that a Roman numeral names in `key`, counted from the tonic in semitones of the major scale."""
    match = _NUMERAL.fullmatch(numeral)
    if match is None:
        raise ValueError(f"{numeral!r} is no Roman numeral; write for example 'ii7', 'bVII' or 'V7sus4'")
    degree = match["degree"]
    qualities = _UPPER if degree.isupper() else _LOWER
    shift = {"": 0, "b": -1, "#": 1}[match["accidental"]]
    root = (key.tonic + _DEGREES[degree.lower()] + shift) % 12
    return Chord(root, _QUALITIES[qualities[match["suffix"]]])


def tonic_chord(key: Key) -> Chord:
    """The plain triad that the piece ends on."""
    return Chord(key.tonic, _QUALITIES["dim" if key.mode == "locrian" else "min" if key.is_minor else "maj"])


#: Family → (for a major third, for a minor third) → choices of four bars ("/" splits a bar in two halves).
PROGRESSIONS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "pop": (
        ("I V vi IV", "I vi IV V", "I IV vi V", "I iii IV V", "I IV I V", "I V IV V"),
        ("i bVI bIII bVII", "i iv bVI bVII", "i bVII bVI bVII", "i bIII bVII iv", "i bVI iv v"),
    ),
    "soulful": (
        ("Imaj7 vi7 ii7 V7sus4", "Imaj7 iii7 vi7 IVmaj7", "IVmaj7 iii7 ii7 Imaj7", "Imaj9 IVmaj9 ii7 V9"),
        ("i9 iv9 i9 iv9", "i7 bVImaj7 iv7 i7", "i9 iv9 bVImaj7 v7", "i7 iv7 bVImaj7 i7"),
    ),
    "lofi": (
        ("Imaj9 vi7 ii9 V9", "IVmaj7 iii7 vi7 Imaj7", "Imaj7 IVmaj7 iii7 vi7", "Imaj9 iii7 IVmaj9 V7sus4"),
        ("i9 iv9 bVImaj7 v7", "i9 bIIImaj7 iv9 i7", "i7 bVImaj7 bIIImaj7 bVII", "i9 iv7 i9 bVII"),
    ),
    "jazz": (
        ("Imaj7 vi7 ii7 V7", "Imaj7 IV7 iii7/vi7 ii7/V7", "ii7 V7 Imaj7 vi7", "Imaj7 Imaj7 ii7 V7", "iii7 vi7 ii7 V7"),
        ("i7 iv7 iih7 V7", "i6 i6 iih7 V7", "i7 bVImaj7 iih7 V7", "iv7 bVII7 bIIImaj7 iih7/V7"),
    ),
    "bossa": (
        ("Imaj9 vi9 ii9 V13", "Imaj7 II9 ii9 V9", "Imaj9 iii7 ii9 V9", "IVmaj7 iii7 ii9 V9"),
        ("i9 iv9 V7b9 i9", "i9 bVImaj7 iih7 V7b9", "i6 iv6 i6 V7b9", "iv9 bVII9 bIIImaj7 V7b9"),
    ),
    "blues": (("I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7",), ("i7 i7 i7 i7 iv7 iv7 i7 i7 bVI7 V7 i7 V7",)),
    "classical": (
        ("I IV V I", "I I V7 I", "I vi IV V", "I ii V7 I", "I IV V7 I"),
        ("i iv V i", "i iv V7 i", "i bVI iv V", "i iv i V", "i bIII iv i"),
    ),
    "waltz": (
        ("I I V7 V7", "V7 V7 I I", "I vi ii V7", "IV I V7 I", "I I ii V7"),
        ("i i V7 V7", "V7 V7 i i", "i iv V7 i", "iv i V7 i", "i bVI iv V7"),
    ),
    "folk": (
        ("I IV I V", "I V vi IV", "I I IV V", "vi IV I V", "I IV V I"),
        ("i bVII i bVII", "i bIII bVII i", "i iv bVII bIII", "i bVI bVII i"),
    ),
    "country": (
        ("I I IV I", "I IV I V7", "I V7 I I", "IV I V7 I", "I I V7 V7"),
        ("i i iv i", "i iv i V7", "i bVII bVI V7", "i bIII bVII i"),
    ),
    "celtic": (
        ("I V IV V", "I IV V I", "I bVII I V", "I I IV V", "I ii IV V"),
        ("i bVII i i", "i bIII bVII i", "i i bVII i", "i IV i bVII"),
    ),
    "rock": (
        ("I5 bVII5 IV5 I5", "I5 IV5 V5 IV5", "I5 V5 vi5 IV5", "I5 IV5 I5 V5"),
        ("i5 bVI5 bVII5 i5", "i5 bVII5 bVI5 bVII5", "i5 bIII5 bVII5 iv5", "i5 iv5 bVI5 bVII5"),
    ),
    "metal": (
        ("I5 bVI5 bVII5 I5", "I5 V5 vi5 IV5", "I5 IV5 bVII5 I5"),
        ("i5 bIII5 bVI5 bVII5", "i5 bII5 i5 bVII5", "i5 bVI5 bIII5 bVII5", "i5 bIII5 iv5 bVI5", "i5 i5 bII5 bIII5",
        "i5 bVII5 bVI5 i5"),
    ),
    "edm": (
        ("I V vi IV", "vi IV I V", "IV V vi I", "I IV vi V"),
        ("i bVI bIII bVII", "i bVII bVI bVI", "bVI bVII i i", "i iv bVI bVII", "i bIII bVI bVII"),
    ),
    "techno": (("Isus2 Isus2 Isus2 bVII", "I5 I5 I5 I5"), ("i7 i7 i7 i7", "i i bVI i", "i i i bVII", "i7 i7 iv7 i7")),
    "ambient": (
        ("Iadd9 IVmaj7 Iadd9 vi7", "Imaj9 iii7 IVmaj7 IVmaj7", "Iadd9 V IVmaj7 IVmaj7", "Isus2 vi7 IVmaj9 Iadd9"),
        ("iadd9 bVImaj7 iadd9 bVII", "i9 iv9 bVImaj7 i9", "iadd9 bIIImaj7 bVImaj7 iv7", "i9 v7 bVImaj7 iv9"),
    ),
    "cinematic": (
        ("I V vi IV", "I bVI bVII I", "I iii IV V", "vi IV I V"),
        ("i bVI bIII bVII", "i bVI iv V", "i bIII bVII iv", "i iv bVI V", "i bVII bVI V"),
    ),
    "trap": (
        ("I vi IV iii", "vi IV I V", "IV iii vi I"),
        ("i bVI i bVII", "i i bVI v", "i bVI iv V", "i iv bVI V"),
    ),
    "funk": (
        ("I9 I9 IV9 I9", "I9 I9 I9 IV9", "I9 bVII9 IV9 I9", "I9 IV9 I9 V9"),
        ("i9 i9 IV9 i9", "i7 i7 iv7 bVII9", "i9 IV9 i9 IV9", "i7 bIIImaj7 iv7 v7"),
    ),
    "disco": (
        ("Imaj7 vi7 ii7 V7", "vi7 ii7 V7 Imaj7", "IVmaj7 iii7 vi7 V"),
        ("i7 iv7 bVII9 bIIImaj7", "i7 bVII bVImaj7 v7", "i7 iv7 i7 bVII", "i7 bVImaj7 bVII i7"),
    ),
    "reggae": (
        ("I IV I V", "I V vi IV", "I ii I ii", "I IV V IV"),
        ("i iv i v", "i bVII i bVII", "i iv bVII i", "i bVI bVII i"),
    ),
    "latin": (
        ("I IV V7 IV", "I ii V7 I", "I IV V7 V7", "ii V7 I I"),
        ("i iv V7 iv", "i bVII bVI V7", "i iv V7 V7", "i V7 i V7"),
    ),
    "tango": (
        ("I V7 V7 I", "I IV V7 I", "I vi ii V7", "IV I V7 I"),
        ("i iv V7 i", "i bVI iv i", "i bVI V7 i", "i iv i V7", "i bVII bVI V7"),
    ),
    "piano": (
        ("I V vi IV", "I iii vi IV", "Iadd9 IVmaj7 vi7 V", "I IV ii V", "vi IV I V"),
        ("i bVI bIII bVII", "i iv bVI V", "iadd9 bVImaj7 bIII bVII", "i v bVI iv", "i bIII iv V"),
    ),
    "blues scale": (("i7 iv7 i7 v7", "i7 i7 iv7 bVII", "i7 bIII iv7 i7"),) * 2,
    "chiptune": (
        ("I V vi IV", "I bVII IV I", "I IV V V", "vi IV V I", "I iii IV V"),
        ("i bVI bVII i", "i bVII bVI V", "i bVI iv V", "i bIII bVII bVI"),
    ),
    "dubstep": (
        ("I I bVI bVII", "vi vi IV V", "I V vi IV"),
        ("i i bVI bVII", "i i bVI v", "i bIII bVI bVI", "i i iv bVI"),
    ),
    "reggaeton": (
        ("vi IV I V", "I V vi IV", "IV V vi vi"),
        ("i bVI bIII bVII", "bVI bVII i i", "i iv bVI V", "i bVII bVI V"),
    ),
    "k-pop": (
        ("IVmaj7 V iii7 vi7", "vi7 IVmaj7 I V", "IVmaj7 V vi7 I", "ii7 V7sus4 iii7 vi7"),
        ("bVImaj7 bVII i7 bIII", "i7 bVImaj7 bIII bVII", "iv7 bVII bIIImaj7 bVI"),
    ),
    "gospel": (
        ("I/I7 IV/#ivo7 I/vi7 ii7/V9", "I I7 IV7 I/V7sus4", "Imaj7/iii7 vi7 ii9 V9", "IV #ivo7 I/vi7 ii7/V7"),
        ("i/i7 iv/bVI7 i/bVI7 V7", "i i7 iv7 i/V7", "i7 bVI7 V7 i"),
    ),
    "flamenco": (
        ("I bII I bII", "I iv bIII bII", "I I IV V7"),
        ("iv bIII bII I", "I bII I bII", "i bVII bVI V", "i iv V i", "i V7 iv V"),
    ),
    "samba": (
        ("I6 VI7 ii7 V7", "Imaj7 Imaj7 ii7 V9", "I6/VI7 ii7/V7 I6/VI7 ii7/V7", "IV6 iv6 iii7/VI7 ii7/V7"),
        ("i6 i6 iih7 V7", "i7 iv7 V7b9 i6", "i6/i7 iv7 iih7/V7 i6"),
    ),
    # Never sounded as chords: they say which notes a phrase of the sitar rests on, over a drone that stays.
    "raga": (("I I V I", "I vi I V", "I IV I V"), ("i i v i", "i bVII i v", "i iv i v")),
    "drone": (("I5 I5 I5 I5", "Isus2 Isus2 I5 I5"), ("i5 i5 i5 i5", "i5 i5 iadd9 i5")),
    "choral": (
        ("I/IV I/V vi/ii V", "I/vi IV/V I/ii V", "IV/I ii/V vi/IV V", "I/V vi/iii IV/I V"),
        ("i/iv i/V bVI/iv V", "i/bVII bVI/iv i/iv V", "iv/i bVI/bIII iv/i V"),
    ),
    "march": (
        ("I I V7 V7", "I IV I V7", "V7 V7 I I", "I IV/II7 I/V7 I", "IV I II7 V7"),
        ("i i V7 V7", "i iv i V7", "i bVI iv V7"),
    ),
    "afrobeats": (
        ("I IV vi V", "vi IV I V", "IV V iii vi", "I V IV IV"),
        ("i bVI bIII bVII", "i iv bVII bIII", "bVI bVII i i", "i bVII iv bVI"),
    ),
    "phonk": (("I bVI I bVII", "vi IV vi V"), ("i i bVI bVII", "i bVI i v", "i i i bVI", "i bII5 i bVII")),
}  # fmt: skip


#: Degrees of the major or minor tables that a mode has differently, and what stands in for them: a degree, or a whole
#: chord where no triad of the mode lies there.
_MODE_DEGREES: Final[dict[str, dict[str, str]]] = {
    "dorian": {"iv": "IV", "bVI": "IV", "V": "v"},
    "phrygian": {"V": "bII", "v": "bII", "bVII": "bvii", "IV": "iv", "ii": "bII"},
    "lydian": {"IV": "II", "ii": "II", "bVII": "V", "bVI": "vi"},
    "mixolydian": {"V": "bVII", "iii": "v", "bVI": "IV"},
    "locrian": {
        "i": "io", "V": "bV", "v": "bV", "bVII": "bvii", "bIII": "biii", "IV": "iv", "ii": "bII",
    },
    "harmonic minor": {"bVII": "V", "v": "V", "bIII": "i", "IV": "iv"},
    "melodic minor": {"bVII": "V", "v": "V", "bIII": "i", "iv": "IV", "bVI": "IV"},
    "pentatonic": {"IV": "vi", "V": "Vsus4", "ii": "IIsus4", "iii": "I", "bVII": "vi", "bVI": "vi", "II": "IIsus4"},
}  # fmt: skip
#: Modes in which a theme's usual chords would sound wrong.
_BENT: Final = frozenset({"locrian", "harmonic minor", "melodic minor", "pentatonic"})
#: Families whose colour is notes outside any mode.
_FREE_FAMILIES: Final = frozenset({"blues", "funk"})


def progression_choices(family: str, key: Key) -> tuple[str, ...]:
    """The progressions of `family` that suit the key's third, turned to its mode."""
    if key.mode == "blues":
        # Sevenths on a minor scale are the blues; other families take what its six notes allow.
        return PROGRESSIONS["blues"][0] if family == "blues" else PROGRESSIONS["blues scale"][0]
    choices = PROGRESSIONS[family][1 if key.is_minor else 0]
    if key.mode != "phrygian":
        # A flat second is the mark of the phrygian mode and a wrong note elsewhere.
        choices = tuple(text for text in choices if not _FLAT_SECOND.search(text))
    if key.mode not in _MODE_DEGREES or family in _FREE_FAMILIES:
        return choices
    return tuple(_NUMERAL_IN_TEXT.sub(lambda match: in_mode(match[0], key), text) for text in choices)


_NUMERAL_IN_TEXT: Final = re.compile(r"[^\s/]+")
_FLAT_SECOND: Final = re.compile(r"\bbII(?!I)")


def in_mode(numeral: str, key: Key) -> str:
    """`numeral` with the degree that the key's mode has there; tones outside the mode are left off the triad."""
    match = _NUMERAL.fullmatch(numeral)
    if match is None:
        raise ValueError(f"{numeral!r} is no Roman numeral; write for example 'ii7', 'bVII' or 'V7sus4'")
    degree = match["accidental"] + match["degree"]
    degree = _MODE_DEGREES.get(key.mode, {}).get(degree, degree)
    if not degree.lstrip("b#").isalpha() or set(degree) - set("b#ivIV"):
        return degree
    suffixes = _UPPER if match["degree"] == match["degree"].upper() else _LOWER
    changed_case = degree.lstrip("b#").isupper() != match["degree"].isupper()
    if match["suffix"] in suffixes and not changed_case:
        whole = degree + match["suffix"]
        scale = {(key.tonic + step) % 12 for step in key.steps}
        if set(chord(whole, key).pitch_classes) <= scale:
            return whole
    return degree + ("5" if match["suffix"] == "5" else "")


def parse_progression(text: str, key: Key) -> tuple[tuple[Chord, ...], ...]:
    """Bars of one or two chords each."""
    return tuple(tuple(chord(numeral, key) for numeral in bar.split("/")) for bar in text.split())


def with_third(item: Chord, key: Key) -> Chord:
    """A power chord with the third that the key gives it, for instruments that do not play power chords."""
    if item.intervals != _QUALITIES["5"]:
        return item
    scale = {(key.tonic + step) % 12 for step in key.steps}
    third = 3 if (item.root + 3) % 12 in scale else 4
    fifth = 6 if key.mode == "locrian" and (item.root + 7) % 12 not in scale else 7
    return Chord(item.root, (0, third, fifth))


def theme_numerals(key: Key) -> tuple[str, ...]:
    """What a theme in `key` may be harmonised with, the tonic first."""
    numerals = THEME_NUMERALS[1 if key.is_minor else 0]
    return tuple(dict.fromkeys(in_mode(numeral, key) for numeral in numerals)) if key.mode in _BENT else numerals


#: How far voicings may lie from their centre before they are pulled back, and what a semitone of that costs.
_CENTRE_PULL: Final = 0.45


@cache
def _voicings(pitch_classes: tuple[int, ...], low: int, high: int) -> tuple[tuple[int, ...], ...]:
    """Close-position voicings (each inversion) whose lowest note is in [low, high)."""
    found = []
    for rotation, bass in product(range(len(pitch_classes)), range(low, high)):
        if bass % 12 != pitch_classes[rotation]:
            continue
        notes = [bass]
        for step in range(1, len(pitch_classes)):
            wanted = pitch_classes[(rotation + step) % len(pitch_classes)]
            notes.append(notes[-1] + 1 + (wanted - notes[-1] - 1) % 12)
        found.append(tuple(notes))
    return tuple(found)


def lead_voices(chords: Sequence[Chord], centre: int) -> tuple[tuple[int, ...], ...]:
    """A voicing for each chord so that the voices move as little as they can around `centre`.

    Chords of five tones lose their fifth, which says least; the root stays, so that the key is plain.
    """
    voiced: list[tuple[int, ...]] = []
    previous: tuple[int, ...] | None = None
    for item in chords:
        tones = item.pitch_classes
        tones = (*tones[:2], *tones[3:]) if len(tones) == 5 else tones
        tones = tuple(dict.fromkeys(tones))
        options = _voicings(tones, centre - 13, centre + 5)
        previous = min(options, key=lambda notes: (_movement(notes, previous, centre), notes))
        voiced.append(previous)
    return tuple(voiced)


def _movement(notes: tuple[int, ...], previous: tuple[int, ...] | None, centre: int) -> float:
    mean = sum(notes) / len(notes)
    pull = abs(mean - centre) * _CENTRE_PULL
    # A second at the bottom of a chord is mud.
    mud = 2.0 if len(notes) > 1 and notes[1] - notes[0] < 3 else 0.0
    if previous is None:
        return pull * 4 + mud
    moved = sum(min(abs(note - other) for other in previous) for note in notes)
    top = abs(notes[-1] - previous[-1])
    return moved + 0.5 * top + pull + mud


def harmonise(
    weights: np.ndarray[tuple[int, int], np.dtype[np.float64]], key: Key, numerals: Sequence[str]
) -> list[str]:
    """The numeral for each bar that best holds a melody.

    Args:
        weights: [bars, 12], how long each pitch class sounds in each bar (accents weighted more).
        key: the key the melody is in.
        numerals: what may be used; the first is the tonic chord, which starts and ends the melody.

    Returns:
        One numeral for each bar: a path that covers the melody's notes and moves like music (Viterbi).
    """
    chords = [chord(numeral, key) for numeral in numerals]
    fit = np.full((len(weights), len(chords)), 0.0)
    for column, item in enumerate(chords):
        inside = np.isin(np.arange(12), item.pitch_classes)
        fit[:, column] = weights[:, inside].sum(1) - 0.7 * weights[:, ~inside].sum(1)
    fit[0, 0] += 1.5
    fit[-1, 0] += 1.5
    stay = np.where(np.eye(len(chords), dtype=bool), -0.35, 0.0)
    best, came_from = fit[0], []
    for row in fit[1:]:
        arriving = best[:, None] + stay
        came_from.append(arriving.argmax(0))
        best = arriving.max(0) + row
    path = [int(best.argmax())]
    for back in reversed(came_from):
        path.append(int(back[path[-1]]))
    return [numerals[column] for column in reversed(path)]


#: What a theme may be harmonised with, the tonic first.
THEME_NUMERALS: Final = (("I", "IV", "V", "vi", "ii"), ("i", "iv", "bVII", "bVI", "bIII", "V"))
