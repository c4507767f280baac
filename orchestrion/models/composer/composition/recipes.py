"""One recipe for each style: who plays what, how it moves and how it sounds. Data only.

Levels are in LU against the role's usual place in a mix (`mixer.ROLE_LUFS`), so 0 means "as usual".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrion.models.composer.score import Instrument
from orchestrion.models.composer.sound import electronic
from orchestrion.models.composer.sound.electronic import (
    ACID_BASS,
    ANALOG_PAD,
    PLUCK,
    PULSE,
    REESE_BASS,
    SUB_BASS,
    SUPERSAW,
    TRIANGLE,
)

_GM_NAMES: Final = {
    0: "Grand Piano", 4: "Electric Piano", 9: "Glockenspiel", 10: "Music Box", 11: "Vibraphone", 12: "Marimba",
    14: "Tubular Bells", 16: "Drawbar Organ", 18: "Rock Organ", 21: "Accordion", 22: "Harmonica", 24: "Nylon Guitar",
    25: "Steel Guitar", 26: "Jazz Guitar", 27: "Clean Guitar", 29: "Overdrive Guitar", 30: "Distortion Guitar",
    32: "Double Bass", 33: "Fingered Bass", 34: "Picked Bass", 36: "Slap Bass", 38: "Synth Bass", 39: "Deep Synth Bass",
    40: "Violin", 41: "Viola", 42: "Cello", 43: "Contrabass", 46: "Harp", 48: "Strings", 49: "Slow Strings",
    50: "Synth Strings", 52: "Choir", 56: "Trumpet", 60: "French Horns", 61: "Brass Section", 66: "Tenor Saxophone",
    68: "Oboe", 71: "Clarinet", 73: "Flute", 75: "Pan Flute", 80: "Square Lead", 81: "Saw Lead", 87: "Bass and Lead",
    89: "Warm Pad", 90: "Polysynth", 91: "Space Voice", 104: "Sitar", 105: "Banjo", 107: "Koto", 108: "Kalimba",
}  # fmt: skip
_KIT_NAMES: Final = {
    0: "Standard Kit",
    16: "Power Kit",
    24: "Electronic Kit",
    25: "808 Kit",
    32: "Jazz Kit",
    48: "Orchestra Kit",
}


def melodic(program: int) -> Instrument:
    """A melodic preset of the sound font, or from 200 on a synthesised voice."""
    if program in electronic.VOICES:
        voice = electronic.VOICES[program]
        return Instrument(-1, program, voice.name, voice.midi_program)
    return Instrument(0, program, _GM_NAMES[program], program)


def kit(program: int) -> Instrument:
    """A drum kit of the sound font."""
    return Instrument(128, program, _KIT_NAMES[program], program)


@dataclass(frozen=True, slots=True)
class Voice:
    """One part of a recipe.

    `pattern` names an entry of `accompaniment.COMPING` or `BASS` (for a lead: of `melody.FEELS`); `pan` is −1 (left) …
    1 (right); `send` is the share that goes to the reverb; `enters` is the section level it joins at; `echo` the level
    of a dotted-eighth echo; `drive` how hard it is pushed into saturation (0 clean … 1).
    """

    role: str
    program: int
    pattern: str
    level: float = 0.0
    pan: float = 0.0
    send: float = 0.2
    enters: int = 1
    octave: int = 0
    echo: float = 0.0
    drive: float = 0.0
    #: The pitches its instrument has.
    low: int = 12
    high: int = 115
    #: The role of the part that plays this voice too, where one player has several.
    joins: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one style is made. Tempo is in bpm; `swing` is the place of the off-beat in its pair, 0.5 straight … 0.67."""

    tempo_bpm: tuple[float, float]
    mode: str
    progressions: str
    voices: tuple[Voice, ...]
    groove: str = ""
    kit: int = 0
    drums_level: float = 0.0
    drums_send: float = 0.06
    beats_per_bar: int = 4
    section_bars: int = 8
    swing: float = 0.5
    #: The pair that swings, in beats: eighths (0.5) or sixteenths (0.25).
    swing_grid: float = 0.5
    #: Standard deviation of human timing, and how late the back-beat lies, in milliseconds.
    looseness_ms: float = 7.0
    backbeat_late_ms: float = 0.0
    #: Whether the tempo slows into the final chord.
    slows_at_end: bool = False
    reverb_s: float = 1.4
    #: Gain above 3 kHz and below 150 Hz in dB, and a low-pass in Hz (0: none).
    treble_db: float = 0.0
    bass_db: float = 0.0
    low_pass_hz: float = 0.0
    #: How far the kick pushes bass and chords down, 0 … 1.
    duck: float = 0.0
    #: Vinyl crackle, peak amplitude.
    crackle: float = 0.0
    #: Other lead programs that a seed may choose.
    other_leads: tuple[int, ...] = ()
    #: Whether noise rises into the sections that open up.
    rises: bool = False
    #: How hard the mix is glued together: 1 for records, less for concert halls.
    glue: float = 1.0


V = Voice

#: The rest of them is in `repertoire`, which has the table of all.
FIRST_RECIPES: Final[dict[str, Recipe]] = {
    "lofi": Recipe(
        tempo_bpm=(70, 88), mode="minor", progressions="lofi", groove="lofi", swing=0.59, swing_grid=0.25,
        looseness_ms=11, backbeat_late_ms=14, reverb_s=1.5, treble_db=-4, bass_db=2, low_pass_hz=7500, crackle=0.012,
        duck=0.25, other_leads=(4, 108, 0, 26),
        voices=(
            V("lead", 11, "sparse", -1, 0.2, 0.35, echo=0.2),
            V("comp", 4, "lofi", 1, -0.15, 0.25),
            V("comp2", 26, "stabs", -4, 0.4, 0.25, 3),
            V("pad", 89, "hold", -3, 0, 0.5, 2),
            V("bass", 33, "lofi", 0, 0, 0.03),
        ),
    ),
    "ambient": Recipe(
        tempo_bpm=(56, 72), mode="lydian", progressions="ambient", looseness_ms=18, glue=0.4, reverb_s=4.5,
        treble_db=-2,
        slows_at_end=True, other_leads=(10, 73, 11, 108),
        voices=(
            V("lead", 0, "sparse", -3, 0.15, 0.7, 2, echo=0.35),
            V("arp", 46, "arp-slow", -3, -0.35, 0.7, 2, echo=0.3),
            V("pad", 91, "hold", 2, 0, 0.6),
            V("pad2", 49, "hold", 0, 0, 0.6, 2, 1),
            V("pad3", 52, "swell", -4, 0, 0.7, 3, 1),
            V("bass", 43, "pedal", -2, 0, 0.25),
        ),
    ),
    "cinematic": Recipe(
        tempo_bpm=(84, 124), mode="minor", progressions="cinematic", groove="epic", kit=48, drums_level=4,
        drums_send=0.3,
        glue=0.7, reverb_s=2.8, slows_at_end=True, looseness_ms=9, other_leads=(56, 48, 42),
        voices=(
            V("lead", 60, "heroic", 0, 0.15, 0.45),
            V("counter", 48, "counter", -2, -0.3, 0.45, 3, 1),
            V("arp", 0, "ostinato", 0, 0.2, 0.35, 1, -1),
            V("comp", 42, "ostinato16", 0, -0.25, 0.35, 2, -1),
            V("comp2", 61, "marcato", -2, 0.3, 0.4, 4),
            V("pad", 49, "hold", 1, 0, 0.5),
            V("pad2", 52, "hold", -1, 0, 0.6, 3, 1),
            V("bass", 43, "marcato", 2, 0.1, 0.2, 1),
        ),
    ),
    "rock": Recipe(
        tempo_bpm=(108, 144), mode="mixolydian", progressions="rock", groove="rock", kit=16, drums_level=1,
        looseness_ms=7, reverb_s=1.0, treble_db=-1, other_leads=(30, 29),
        voices=(
            V("lead", 29, "riff", 0, 0.1, 0.25, drive=0.5, echo=0.15),
            V("comp", 30, "power", 0, -0.65, 0.1, 1, drive=0.7),
            V("comp2", 29, "power", -1, 0.65, 0.1, 1, drive=0.6),
            V("pad", 18, "hold", -6, 0.1, 0.3, 3),
            V("bass", 34, "eighths", 1, 0, 0.02, 1, drive=0.3),
        ),
    ),
    "metal": Recipe(
        tempo_bpm=(130, 176), mode="phrygian", progressions="metal", groove="metal", kit=16, drums_level=1.5,
        looseness_ms=4, reverb_s=0.8, treble_db=1, bass_db=1,
        voices=(
            V("lead", 30, "riff", -1, 0.1, 0.15, 3, drive=4.0, echo=0.1),
            V("comp", 30, "chug", 5, -0.85, 0.03, 1, drive=6.0),
            V("comp2", 30, "chug", 6, 0.85, 0.03, 1, drive=6.0),
            V("comp3", 29, "power", 3, 0.1, 0.05, 2, drive=4.0),
            V("bass", 34, "eighths", 1, 0, 0.01, 1, drive=2.0),
        ),
    ),
    "pop": Recipe(
        tempo_bpm=(98, 124), mode="major", progressions="pop", groove="pop", drums_level=0, reverb_s=1.5,
        other_leads=(81, 27, 73),
        voices=(
            V("lead", 80, "syncopated", -2, 0.05, 0.3, echo=0.2),
            V("comp", 0, "pop", 1, -0.2, 0.2),
            V("comp2", 25, "strum", -1, 0.45, 0.2, 2),
            V("arp", 9, "arp8", -7, -0.4, 0.4, 4, 1),
            V("pad", 48, "hold", -1, 0, 0.45, 3),
            V("bass", 33, "pop", 0, 0, 0.03, 2),
        ),
    ),
    "house": Recipe(
        tempo_bpm=(120, 128), mode="minor", progressions="edm", groove="house", kit=24, drums_level=2, looseness_ms=2,
        reverb_s=1.6, duck=0.7, bass_db=1, rises=True, other_leads=(SUPERSAW, 80),
        voices=(
            V("lead", PLUCK, "hook", -1, 0.05, 0.3, 2, echo=0.3),
            V("comp", 0, "house-stab", 1, -0.15, 0.25),
            V("arp", PLUCK, "arp16", -4, 0.35, 0.3, 3),
            V("pad", ANALOG_PAD, "hold", 0, 0, 0.45, 1),
            V("bass", 38, "offbeat", 2, 0, 0, 2),
        ),
    ),
    "techno": Recipe(
        tempo_bpm=(126, 136), mode="minor", progressions="techno", groove="techno", kit=25, drums_level=3,
        looseness_ms=1,
        reverb_s=2.2, duck=0.6, bass_db=1, rises=True, other_leads=(87,),
        voices=(
            V("lead", 81, "hook", -5, 0.1, 0.4, 3, -1, echo=0.4),
            V("comp", PLUCK, "techno-stab", 0, -0.3, 0.5, 1, echo=0.4),
            V("arp", ACID_BASS, "arp16", -1, 0.25, 0.15, 2, -1, echo=0.2),
            V("pad", 91, "hold", -4, 0, 0.6, 3),
            V("bass", ACID_BASS, "rolling", 1, 0, 0, 2),
        ),
    ),
    "trance": Recipe(
        tempo_bpm=(132, 142), mode="minor", progressions="edm", groove="trance", kit=24, drums_level=2, looseness_ms=1,
        reverb_s=2.4, duck=0.65, bass_db=1, rises=True,
        voices=(
            V("lead", SUPERSAW, "anthem", 0, 0, 0.4, 2, echo=0.35),
            V("comp", SUPERSAW, "gate", 0, -0.2, 0.35, 3),
            V("arp", PLUCK, "arp16-trance", -1, 0.3, 0.4, 1, 1, echo=0.25),
            V("pad", ANALOG_PAD, "hold", 1, 0, 0.5),
            V("pad2", 52, "hold", -5, 0, 0.6, 3, 1),
            V("bass", 38, "rolling", 1, 0, 0, 2),
        ),
    ),
    "drum-and-bass": Recipe(
        tempo_bpm=(170, 176), mode="minor", progressions="lofi", groove="breaks", kit=24, drums_level=2.5,
        looseness_ms=3,
        reverb_s=1.8, bass_db=1, duck=0.3, rises=True, other_leads=(SUPERSAW, 4),
        voices=(
            V("lead", PLUCK, "sparse", -1, 0.1, 0.45, 2, echo=0.35),
            V("comp", 4, "hold", 0, -0.25, 0.4),
            V("arp", 11, "arp8", -5, 0.4, 0.4, 3, echo=0.25),
            V("pad", ANALOG_PAD, "hold", 0, 0, 0.5),
            V("bass", REESE_BASS, "dnb", 2, 0, 0, 2),
        ),
    ),
    "synthwave": Recipe(
        tempo_bpm=(84, 116), mode="minor", progressions="edm", groove="synthwave", kit=24, drums_level=1,
        drums_send=0.2,
        looseness_ms=2, reverb_s=2.2, duck=0.4, treble_db=-1, other_leads=(80, 87),
        voices=(
            V("lead", SUPERSAW, "anthem", 0, 0.05, 0.4, echo=0.35),
            V("comp", 90, "hold", -2, -0.25, 0.4, 3),
            V("arp", PLUCK, "arp16", -2, 0.35, 0.3, 2, echo=0.2),
            V("pad", ANALOG_PAD, "hold", 1, 0, 0.5),
            V("bass", REESE_BASS, "octaves", 1, 0, 0.02, 1),
        ),
    ),
    "hip-hop": Recipe(
        tempo_bpm=(84, 96), mode="minor", progressions="soulful", groove="boombap", kit=16, drums_level=6, swing=0.58,
        swing_grid=0.25, looseness_ms=8, backbeat_late_ms=10, reverb_s=0.8, treble_db=0, bass_db=4, crackle=0.012,
        duck=0.2, other_leads=(73, 11, 56),
        voices=(
            V("lead", 4, "hook", -7, 0.2, 0.15, 3, echo=0.15),
            V("comp", 0, "sampled", -3, -0.2, 0.05),
            V("comp2", 61, "brass-hits", -5, 0.35, 0.1, 3),
            V("bass", SUB_BASS, "boombap", 3, 0, 0, 1, drive=2.0),
        ),
    ),
    "trap": Recipe(
        tempo_bpm=(134, 150), mode="minor", progressions="trap", groove="trap", kit=25, drums_level=2, looseness_ms=3,
        reverb_s=1.8, rises=True, other_leads=(73, 108, PLUCK),
        voices=(
            V("lead", 10, "sparse", -1, 0.15, 0.4, 2, echo=0.3),
            V("comp", 0, "trap-keys", 0, -0.2, 0.35),
            V("arp", 46, "arp8", -5, 0.35, 0.4, 3, 1),
            V("pad", 52, "hold", -1, 0, 0.5, 2),
            V("bass", SUB_BASS, "808", 2, 0, 0, 2),
        ),
    ),
    "jazz": Recipe(
        tempo_bpm=(108, 168), mode="major", progressions="jazz", groove="swing", kit=32, drums_level=-3,
        drums_send=0.12,
        swing=0.645, looseness_ms=10, glue=0.6, reverb_s=1.2, treble_db=-1, slows_at_end=True, other_leads=(56, 26,
        11, 71),
        voices=(
            V("lead", 66, "swing", 1, 0.1, 0.25),
            V("comp", 0, "jazz", 0, -0.35, 0.2),
            V("comp2", 26, "freddie", -5, 0.45, 0.15, 3),
            V("bass", 32, "walk", 1, 0.05, 0.08, 1),
        ),
    ),
    "bossa-nova": Recipe(
        tempo_bpm=(116, 140), mode="major", progressions="bossa", groove="bossa", kit=32, drums_level=-5,
        looseness_ms=9,
        glue=0.6, reverb_s=1.4, treble_db=-1, slows_at_end=True, other_leads=(66, 11, 0),
        voices=(
            V("lead", 73, "bossa", 0, 0.2, 0.3),
            V("comp", 24, "bossa", 2, -0.25, 0.2),
            V("comp2", 0, "stabs", -5, 0.4, 0.25, 3),
            V("pad", 48, "hold", -4, 0, 0.45, 3),
            V("bass", 32, "bossa", 0, 0, 0.06, 1),
        ),
    ),
    "latin": Recipe(
        tempo_bpm=(92, 108), mode="minor", progressions="latin", groove="salsa", drums_level=4, drums_send=0.08,
        looseness_ms=7, reverb_s=1.0, treble_db=1, other_leads=(73, 61),
        voices=(
            V("lead", 56, "syncopated", 0, 0.15, 0.2),
            V("comp", 0, "montuno", 3, -0.3, 0.12, 1, 1),
            V("comp2", 61, "mambo", 1, 0.4, 0.15, 2),
            V("bass", 32, "tumbao", 3, 0, 0.03, 1),
        ),
    ),
    "tango": Recipe(
        tempo_bpm=(112, 128), mode="minor", progressions="tango", groove="tango", kit=48, drums_level=-8,
        looseness_ms=9,
        glue=0.5, reverb_s=1.6, slows_at_end=True, other_leads=(40,),
        voices=(
            V("lead", 21, "tango", 1, 0.1, 0.25),
            V("counter", 40, "counter", -2, 0.4, 0.35, 3, 1),
            V("comp", 0, "tango", 0, -0.35, 0.2),
            V("comp2", 48, "marcato", -3, -0.1, 0.35, 3),
            V("bass", 43, "tango", 1, 0.15, 0.15, 1),
        ),
    ),
    "funk": Recipe(
        tempo_bpm=(98, 116), mode="dorian", progressions="funk", groove="funk", kit=0, drums_level=2, swing=0.54,
        swing_grid=0.25, looseness_ms=5, reverb_s=0.8, other_leads=(61, 56, 18),
        voices=(
            V("lead", 66, "riff", -3, 0.1, 0.1, 3),
            V("comp", 27, "funk16", 3, -0.5, 0.04, 1, 1),
            V("comp2", 4, "clav", 0, 0.4, 0.06, 2, drive=1.5),
            V("brass", 61, "brass-hits", 1, 0.2, 0.12, 2),
            V("bass", 36, "funk", 4, 0, 0, 1),
        ),
    ),
    "disco": Recipe(
        tempo_bpm=(112, 124), mode="minor", progressions="disco", groove="disco", kit=0, drums_level=2, looseness_ms=4,
        reverb_s=1.4, other_leads=(56, 73, 81),
        voices=(
            V("lead", 48, "syncopated", 0, 0.1, 0.3, 2),
            V("comp", 27, "disco-guitar", 3, -0.5, 0.06, 1, 1),
            V("comp2", 4, "clav", -1, 0.35, 0.1),
            V("brass", 61, "brass-hits", 0, 0.25, 0.2, 2),
            V("pad", 48, "disco-strings", 1, -0.1, 0.35, 2, 1),
            V("bass", 33, "disco", 3, 0, 0.01, 1),
        ),
    ),
    "soul": Recipe(
        tempo_bpm=(72, 98), mode="major", progressions="soulful", groove="soul", drums_level=0, swing=0.55,
        swing_grid=0.25,
        looseness_ms=9, backbeat_late_ms=9, reverb_s=1.3, treble_db=-1, other_leads=(56, 18, 26),
        voices=(
            V("lead", 66, "blues", 0, 0.1, 0.25),
            V("comp", 4, "soul", 2, -0.2, 0.2),
            V("comp2", 27, "motown", 0, 0.5, 0.1, 1, 1),
            V("pad", 16, "hold", -1, -0.3, 0.25, 2),
            V("pad2", 52, "hold", 0, 0, 0.4, 2),
            V("brass", 61, "brass-hits", -2, 0.25, 0.25, 3),
            V("bass", 33, "soul", 3, 0, 0.02, 1),
        ),
    ),
    "reggae": Recipe(
        tempo_bpm=(68, 84), mode="major", progressions="reggae", groove="onedrop", drums_level=0, drums_send=0.14,
        swing=0.55,
        swing_grid=0.25, looseness_ms=7, reverb_s=1.6, bass_db=3, treble_db=-2, other_leads=(66, 73),
        voices=(
            V("lead", 22, "lyrical", -3, 0.15, 0.35, 2, echo=0.35),
            V("comp", 27, "skank", 4, 0.4, 0.1, 1, 1),
            V("comp2", 16, "bubble", 2, -0.4, 0.12, 1),
            V("comp3", 0, "skank", 2, -0.15, 0.15, 1, 1, echo=0.15),
            V("brass", 61, "brass-hits", -3, 0.2, 0.3, 3, echo=0.25),
            V("bass", 33, "reggae", 6, 0, 0.01, 1),
        ),
    ),
    "folk": Recipe(
        tempo_bpm=(88, 116), mode="major", progressions="folk", groove="folk", drums_level=-5, looseness_ms=10,
        glue=0.7, reverb_s=1.2,
        other_leads=(73, 22, 40),
        voices=(
            V("lead", 22, "lyrical", -1, 0.2, 0.25),
            V("comp", 25, "pick", 1, -0.3, 0.15),
            V("comp2", 25, "folk-strum", -1, 0.4, 0.15, 1),
            V("counter", 42, "counter", -3, -0.1, 0.35, 3, -1),
            V("bass", 32, "root-fifth", 0, 0, 0.06, 2),
        ),
    ),
    "country": Recipe(
        tempo_bpm=(104, 132), mode="major", progressions="country", groove="train", drums_level=-3, looseness_ms=7,
        reverb_s=1.1,
        other_leads=(22, 27, 25),
        voices=(
            V("lead", 40, "straight", -1, 0.2, 0.2),
            V("comp", 25, "boom-chick", 4, -0.35, 0.1),
            V("comp2", 105, "banjo", 1, 0.5, 0.1, 1),
            V("arp", 27, "twang", -2, -0.1, 0.12, 2),
            V("bass", 32, "root-fifth", 2, 0, 0.03, 1),
        ),
    ),
    "celtic": Recipe(
        tempo_bpm=(104, 124), mode="dorian", progressions="celtic", groove="celtic", kit=48, drums_level=-2,
        drums_send=0.2,
        swing=0.66, looseness_ms=7, glue=0.7, reverb_s=1.8, other_leads=(40, 75),
        voices=(
            V("lead", 73, "jig", 0, 0.15, 0.3),
            V("counter", 40, "double", -2, 0.45, 0.25, 3),
            V("comp", 25, "jig", 0, -0.35, 0.15),
            V("arp", 46, "harp", -2, -0.5, 0.35, 1),
            V("pad", 21, "drone", -5, 0, 0.3, 2),
            V("bass", 43, "jig", -1, 0, 0.12, 3),
        ),
    ),
    "classical": Recipe(
        tempo_bpm=(84, 120), mode="major", progressions="classical", looseness_ms=9, glue=0.35, reverb_s=2.2,
        slows_at_end=True,
        other_leads=(68, 73, 71),
        voices=(
            V("lead", 40, "classical", 1, 0.4, 0.4),
            V("counter", 68, "counter", -3, 0.15, 0.45, 3),
            V("comp", 41, "alberti", -1, -0.1, 0.4),
            V("pad", 48, "hold", -3, -0.25, 0.5, 2),
            V("comp2", 48, "marcato", -3, 0.1, 0.4, 2),
            V("bass", 42, "classical", 2, -0.4, 0.3),
        ),
    ),
    "waltz": Recipe(
        tempo_bpm=(132, 172), mode="major", progressions="waltz", groove="waltz", kit=48, drums_level=-8,
        beats_per_bar=3,
        looseness_ms=9, glue=0.4, reverb_s=2.0, slows_at_end=True, other_leads=(73, 71, 21),
        voices=(
            V("lead", 40, "waltz", 1, 0.3, 0.4),
            V("counter", 73, "double", -3, 0.1, 0.45, 3, 1),
            V("comp", 48, "um-pah", 0, -0.25, 0.35),
            V("comp2", 46, "sweep", -4, -0.45, 0.4, 3),
            V("pad", 60, "hold3", -4, 0.2, 0.5, 3),
            V("bass", 43, "waltz", 1, 0, 0.3),
        ),
    ),
    "piano": Recipe(
        tempo_bpm=(64, 88), mode="major", progressions="piano", looseness_ms=12, glue=0.35, reverb_s=2.4,
        slows_at_end=True,
        voices=(
            V("lead", 0, "lyrical", 1, 0.1, 0.35),
            V("comp", 0, "arp8", 0, -0.1, 0.35),
            V("bass", 0, "left-hand", 0, -0.2, 0.3),
        ),
    ),
    "chiptune": Recipe(
        tempo_bpm=(128, 160), mode="major", progressions="chiptune", groove="chip", kit=24, drums_level=-2,
        drums_send=0.0,
        looseness_ms=0, reverb_s=0.6, treble_db=-2, other_leads=(80,),
        voices=(
            V("lead", PULSE, "arcade", 0, 0.15, 0.03, echo=0.2),
            V("arp", PULSE, "arp-chip", -3, -0.4, 0.03, 1, 1),
            V("counter", PULSE, "double", -4, 0.45, 0.03, 3),
            V("bass", TRIANGLE, "chip", 2, 0, 0.0, 1),
        ),
    ),
    "blues": Recipe(
        tempo_bpm=(84, 116), mode="mixolydian", progressions="blues", groove="shuffle", section_bars=12, swing=0.655,
        looseness_ms=9, backbeat_late_ms=6, drums_level=-1, reverb_s=1.1, treble_db=-1, other_leads=(22, 66, 29),
        voices=(
            V("lead", 26, "blues", 1, 0.15, 0.2, drive=0.3),
            V("comp", 0, "blues", 0, -0.35, 0.15),
            V("comp2", 27, "boogie", -1, 0.4, 0.1, 2),
            V("pad", 16, "hold", -6, -0.1, 0.2, 3),
            V("bass", 32, "walk", 1, 0, 0.04, 1),
        ),
    ),
}  # fmt: skip

#: What may be chosen when neither words nor mood say a style: each is safe with any prompt.
SAFE_STYLES: Final = ("pop", "piano", "cinematic", "lofi", "folk", "ambient")

#: Where a lead of each program sounds best: its middle pitch. Others sit at 72 (C5).
LEAD_CENTRE: Final[dict[int, int]] = {
    4: 72, 9: 84, 10: 84, 14: 67, 16: 67, 18: 67, 22: 69, 24: 66, 25: 66, 26: 65, 27: 67, 29: 66, 30: 64, 41: 65,
    42: 57, 48: 72, 52: 69, 56: 69, 60: 62, 61: 65, 66: 62, 68: 72, 71: 69, 73: 77, 75: 77, 80: 74, 81: 72, 91: 62,
    104: 65, 105: 67, 107: 69, 108: 74,
}  # fmt: skip
