"""Players: what plays an instrument that a request names, what it can play, and what must not sound.

Names and their General MIDI programs are `tracks.instruments`'; here is what the sound font has of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orchestrion.models.composer.composition import recipes
from orchestrion.models.composer.composition.drums import Groove, Lane
from orchestrion.models.composer.sound.electronic import (
    ACID_BASS,
    ANALOG_PAD,
    PLUCK,
    PULSE,
    REESE_BASS,
    RISER,
    SUB_BASS,
    SUPERSAW,
    TRIANGLE,
)
from orchestrion.tracks.instruments import INSTRUMENTS, Instrument, stand_ins

#: Kinds of players, those first that a listener expects to have the melody.
KINDS: Final = ("single", "synth lead", "plucked", "guitar", "keys", "organ", "section", "pad", "bass")
_KIND_PROGRAMS: Final[dict[str, tuple[int, ...]]] = {
    "single": (22, 40, 41, 42, 56, 60, 66, 68, 71, 73, 75),
    "synth lead": (80, 81, 87, SUPERSAW, PULSE),
    "plucked": (9, 10, 11, 12, 14, 46, 104, 105, 107, 108, PLUCK),
    "guitar": (24, 25, 26, 27, 29, 30),
    "keys": (0, 4),
    "organ": (16, 18, 21),
    "section": (48, 49, 50, 52, 61),
    "pad": (89, 90, 91, ANALOG_PAD),
    "bass": (32, 33, 34, 36, 38, 39, 43, SUB_BASS, REESE_BASS, ACID_BASS, TRIANGLE),
}
_KIND: Final = {program: kind for kind, programs in _KIND_PROGRAMS.items() for program in programs}
#: Every program that somebody may play.
PROGRAMS: Final = frozenset(_KIND)
#: Who plays one note at a time.
_ONE_VOICE: Final = frozenset({"single", "synth lead", "bass"})
#: The pitches that an instrument has, where the recipes could go beyond them.
_RANGES: Final[dict[int, tuple[int, int]]] = {
    9: (72, 108), 10: (60, 100), 11: (53, 89), 12: (45, 96), 14: (60, 79), 21: (41, 89), 22: (55, 96), 24: (40, 84),
    25: (40, 84), 26: (40, 86), 27: (40, 86), 29: (40, 88), 30: (40, 88), 40: (55, 100), 41: (48, 84), 42: (36, 76),
    43: (28, 60), 46: (28, 100), 48: (28, 96), 49: (28, 96), 52: (40, 84), 56: (54, 84), 60: (36, 77), 61: (36, 84),
    66: (44, 78), 68: (58, 91), 71: (50, 91), 73: (60, 96), 75: (60, 96), 104: (48, 84), 105: (48, 84), 107: (48, 88),
    108: (60, 88),
}  # fmt: skip
#: Percussion of which the font's orchestra kit has a better sound than the drum kits: its keys 41 to 53 are tuned.
_TUNED: Final = frozenset({"timpani", "taiko", "melodic tom"})
ORCHESTRA_KIT: Final = 48
_TUNED_LOW: Final = 41
#: The keys whose loudness was measured.
_KIT_KEYS: Final = range(35, 82)


@dataclass(frozen=True, slots=True)
class Player:
    """Who plays an instrument: a program, or percussion keys of a kit."""

    #: The name that was asked for, and that of what sounds; they differ where the font has no such sound.
    name: str
    sound: str
    program: int = 0
    #: Percussion keys; () for a player of notes.
    keys: tuple[int, ...] = ()
    kit: int = 0
    #: All General MIDI programs that are called by the name: any of them in a band is this player.
    called_so: frozenset[int] = frozenset()

    @property
    def is_percussion(self) -> bool:
        """Whether it plays no pitches."""
        return bool(self.keys)

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return _KIND[self.program]

    @property
    def has_chords(self) -> bool:
        """Whether it can play several notes at a time."""
        return self.kind not in _ONE_VOICE

    @property
    def range(self) -> tuple[int, int]:
        """Its lowest and its highest pitch."""
        return pitch_range(self.program)


def pitch_range(program: int) -> tuple[int, int]:
    """The lowest and the highest pitch of a program."""
    return _RANGES.get(program, (12, 115))


def gm_program(program: int) -> int:
    """The General MIDI program that stands for one of the composer's."""
    return recipes.melodic(program).midi_program


def name_of(program: int) -> str:
    """What a request calls the instrument of one of the composer's programs."""
    wanted = gm_program(program)
    named = [instrument for instrument in INSTRUMENTS.values() if wanted in instrument.programs]
    return min(named, key=lambda instrument: (instrument.programs.index(wanted), len(instrument.programs))).name


@dataclass(frozen=True, slots=True)
class Excluded:
    """What must not sound."""

    names: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    #: General MIDI programs.
    programs: frozenset[int] = frozenset()
    #: Percussion keys, and whether there is no percussion at all.
    keys: frozenset[int] = frozenset()
    percussion: bool = False

    def has(self, program: int) -> bool:
        """Whether a program must not sound."""
        # A riser is noise that a synthesiser makes, whatever stands for it in a MIDI file.
        return gm_program(program) in self.programs or (program == RISER and "synthesizer" in self.names)


_CHORD_ROLES: Final = ("comp", "comp2", "comp3", "arp", "brass", "pad", "pad2", "pad3")
#: What a part's name means: the roles that have it.
_PART_ROLES: Final[dict[str, tuple[str, ...]]] = {
    "drums": ("drums", "percussion", "timpani"),
    "percussion": ("drums", "percussion", "timpani"),
    "bass": ("bass",),
    "chords": _CHORD_ROLES,
    "melody": ("lead", "counter"),
    "pad": ("pad", "pad2", "pad3"),
}
#: Instruments that are meant with a part or with "vocals".
_MEANT_TOO: Final = {"pad": ("synth pad",), "vocals": ("choir", "voice lead", "choir pad"),
                     "choir": ("choir pad",), "drums": ("timpani", "percussion"),
                     "percussion": ("timpani", "drums")}  # fmt: skip


def excluded(names: Sequence[str]) -> Excluded:
    """What the names of `Composition.exclude` mean; styles and moods are only kept as names."""
    meant = {
        INSTRUMENTS[other] for name in names for other in (name, *_MEANT_TOO.get(name, ())) if other in INSTRUMENTS
    }
    return Excluded(
        names=frozenset(names),
        roles=frozenset(role for name in names for role in _PART_ROLES.get(name, ())),
        programs=frozenset(program for instrument in meant for program in instrument.programs),
        keys=frozenset(key for instrument in meant for key in instrument.notes),
        percussion=not {"drums", "percussion"}.isdisjoint(names),
    )


def players(name: str, unwanted: Excluded) -> list[Player]:
    """Who plays an instrument: one player, several for a group such as an orchestra.

    Where the font has no such sound, or it must not be heard, the nearest that can be had plays; nobody, where there
    is none.
    """
    named = INSTRUMENTS[name]
    for instrument in stand_ins(name):
        found = _who_plays(named, instrument, unwanted)
        if found:
            return found if named.is_group or instrument.is_group else found[:1]
    return []


def _who_plays(named: Instrument, instrument: Instrument, unwanted: Excluded) -> list[Player]:
    called_so = frozenset(named.programs or instrument.programs)
    if instrument.name in _TUNED and not unwanted.percussion and unwanted.programs.isdisjoint(instrument.programs):
        return [Player(named.name, "timpani", keys=(_TUNED_LOW,), kit=ORCHESTRA_KIT)]
    keys = tuple(key for key in instrument.notes if key in _KIT_KEYS and key not in unwanted.keys)
    if keys and not unwanted.percussion:
        return [Player(named.name, instrument.name, keys=keys)]
    return [
        Player(named.name, recipes.melodic(program).name, program, called_so=called_so)
        for program in instrument.programs
        if program in _KIND and not unwanted.has(program)
    ]


#: How a piece of percussion plays when nothing in the style's groove does: sixteen steps of a bar in four.
_RHYTHMS: Final[dict[int, str]] = {
    35: "9.......9.......", 36: "9.......9.......", 37: "....7.......7...", 38: "....8.......8...",
    39: "....8.......8...", 40: "....8.......8...", 42: "6.4.6.4.6.4.6.4.", 44: "....5.......5...",
    46: "..6...6...6...6.", 49: "7...............|................", 51: "6.4.6.4.6.4.6.4.",
    54: "4.5.7.5.4.5.7.5.", 56: "6...5...6...5.5.", 58: "........6.......|................",
    60: "6.35.35.6.35.35.", 61: "...4..6....4..6.", 62: "....4.......4...", 63: "6.5...5.6.5...5.",
    64: "...5..7....5..77", 65: "6..5..6.6..5..6.", 66: "....6.......6.6.", 67: "6..5..6...5.5...",
    68: "..5...5.5..5..5.", 69: "6.4.6.4.6.4.6.4.", 70: "6.4.6.4.6.4.6.4.", 71: "........5.......|................",
    72: "5...........5...|................", 73: "5...4...5...4...", 74: "6..4.4..6..4.4..", 75: "7..7..7...7.7...",
    76: "6..6..6..6..6.6.", 77: "..5...5...5...5.", 78: "6...5.....5.6...", 79: "6..5..5.6..5..5.",
    80: "..4...4...4...4.", 81: "6...5...6...5.5.",
}  # fmt: skip
_OTHER_RHYTHM: Final = "7..6..5.7..6..5."
#: Names whose sound takes more than one key.
_KEYS_AT_ONCE: Final = 2
#: What "percussion" is where a style has none.
_HAND_PERCUSSION: Final = (63, 64, 70)


def percussion_groove(of: Sequence[Player], tonic: int) -> Groove:
    """What percussion plays that a request asks for; tuned drums play the key's tonic and fifth."""
    lanes: list[Lane] = []
    for player in of:
        if player.kit == ORCHESTRA_KIT:
            root = _TUNED_LOW + (tonic - _TUNED_LOW) % 12
            fifth = root + 7 if root + 7 <= _TUNED_LOW + 12 else root - 5
            lanes += [Lane(root, "8.......7.....6.", 1), Lane(fifth, "......5.....6...", 1)]
            continue
        keys = _HAND_PERCUSSION if player.sound == "percussion" else player.keys[:_KEYS_AT_ONCE]
        usable = [key for key in keys if key in player.keys] or player.keys[:1]
        lanes += [Lane(key, _RHYTHMS.get(key, _OTHER_RHYTHM), 1) for key in usable]
    return Groove(tuple(dict.fromkeys(lanes)), crash=False)
