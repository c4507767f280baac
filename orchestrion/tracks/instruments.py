"""Instruments by the names that requests use: all of General MIDI, its percussion, and those that it lacks.

Programs and notes are those of General MIDI (MIDI Association, RP-003 and RP-024; notes 82–85 are of level 2), programs
counted from 0. Which of them sound is up to a model's sound font; `near` says what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.vocabulary import A_CAPPELLA, MOODS, PARTS, STYLES, VOCALS

#: General MIDI's families of eight programs each.
FAMILIES: Final = (
    *("piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass"),
    *("reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects"),
)
#: The family of what is played on the drum channel.
DRUM_FAMILY: Final = "drums"


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a name stands for."""

    name: str
    #: One of `FAMILIES`, or `DRUM_FAMILY`.
    family: str
    #: Programs that are called so, the likeliest first.
    programs: tuple[int, ...]
    #: Notes of the drum channel that are called so, the likeliest first.
    notes: tuple[int, ...]
    #: Names of what else it may be played on, the nearest first.
    near: tuple[str, ...]
    #: Whether the programs sound together, as those of an orchestra; of others one is enough.
    is_group: bool = False

    @property
    def is_in_general_midi(self) -> bool:
        """Whether it has a sound of its own; one that has none is played on something near."""
        return bool(self.programs or self.notes)


#: Name → programs, and what is near.
_MELODIC: Final[dict[str, tuple[tuple[int, ...], tuple[str, ...]]]] = {
    "piano": ((0, 1, 2, 3), ("grand piano", "electric piano")),
    "grand piano": ((0,), ("piano",)),
    "bright piano": ((1,), ("piano",)),
    "electric grand piano": ((2,), ("electric piano", "piano")),
    "honky-tonk piano": ((3,), ("piano",)),
    "electric piano": ((4, 5), ("piano",)),
    "harpsichord": ((6,), ("clavinet", "nylon guitar", "piano")),
    "clavinet": ((7,), ("harpsichord", "electric piano")),
    "celesta": ((8,), ("glockenspiel", "music box")),
    "glockenspiel": ((9,), ("celesta", "music box")),
    "music box": ((10,), ("celesta", "glockenspiel")),
    "vibraphone": ((11,), ("marimba", "celesta")),
    "marimba": ((12,), ("xylophone", "vibraphone")),
    "xylophone": ((13,), ("marimba", "glockenspiel")),
    "tubular bells": ((14,), ("glockenspiel", "vibraphone")),
    "dulcimer": ((15,), ("harp", "koto", "harpsichord")),
    "drawbar organ": ((16,), ("organ",)),
    "percussive organ": ((17,), ("drawbar organ", "organ")),
    "rock organ": ((18,), ("drawbar organ", "organ")),
    "church organ": ((19,), ("organ", "reed organ")),
    "reed organ": ((20,), ("accordion", "church organ", "organ")),
    "organ": ((16, 18, 17, 19, 20), ("accordion",)),
    "accordion": ((21,), ("bandoneon", "reed organ")),
    "harmonica": ((22,), ("accordion", "reed organ")),
    "bandoneon": ((23,), ("accordion",)),
    "nylon guitar": ((24,), ("acoustic guitar", "guitar")),
    "steel guitar": ((25,), ("acoustic guitar", "guitar")),
    "jazz guitar": ((26,), ("clean guitar", "electric guitar", "guitar")),
    "clean guitar": ((27,), ("jazz guitar", "electric guitar", "guitar")),
    "muted guitar": ((28,), ("clean guitar", "electric guitar", "guitar")),
    "overdriven guitar": ((29,), ("distortion guitar", "electric guitar", "guitar")),
    "distortion guitar": ((30,), ("overdriven guitar", "electric guitar")),
    "guitar harmonics": ((31,), ("clean guitar", "guitar")),
    "acoustic guitar": ((25, 24), ("nylon guitar", "steel guitar", "guitar")),
    "electric guitar": (
        (27, 26, 29, 30, 28, 31),
        ("clean guitar", "muted guitar", "jazz guitar", "overdriven guitar", "distortion guitar", "guitar"),
    ),
    "guitar": ((25, 24, 27, 26, 28, 29, 30, 31), ("acoustic guitar", "electric guitar")),
    "double bass": ((32, 43), ("bass", "contrabass")),
    "fingered bass": ((33,), ("electric bass", "bass")),
    "picked bass": ((34,), ("electric bass", "bass")),
    "fretless bass": ((35,), ("electric bass", "bass")),
    "slap bass": ((36, 37), ("electric bass", "bass")),
    "synth bass": ((38, 39), ("bass",)),
    "electric bass": ((33, 34, 35, 36, 37), ("fingered bass", "picked bass", "bass")),
    "808 bass": ((39, 38), ("synth bass", "bass", "drums")),
    "bass": (
        (33, 34, 32, 35, 36, 37, 38, 39, 43),
        ("double bass", "electric bass", "fretless bass", "slap bass", "synth bass"),
    ),
    "violin": ((40,), ("fiddle", "strings")),
    "viola": ((41,), ("violin", "cello", "strings")),
    "cello": ((42,), ("viola", "contrabass", "strings")),
    "contrabass": ((43,), ("double bass", "cello", "strings")),
    "tremolo strings": ((44,), ("strings",)),
    "pizzicato strings": ((45,), ("strings",)),
    "harp": ((46,), ("nylon guitar", "koto")),
    "timpani": ((47,), ("taiko", "toms", "bass drum")),
    "strings": (
        (48, 49, 44, 45, 40, 41, 42, 43, 50, 51),
        ("violin", "viola", "cello", "double bass", "synth strings", "tremolo strings"),
    ),
    "synth strings": ((50, 51), ("strings", "synth pad")),
    "choir": ((52, 53, 54), ("voice oohs", "synth voice", "choir pad")),
    "voice oohs": ((53,), ("choir", "synth voice")),
    "synth voice": ((54,), ("choir", "voice oohs", "choir pad")),
    "orchestra hit": ((55,), ("brass", "strings")),
    "trumpet": ((56,), ("muted trumpet", "brass")),
    "trombone": ((57,), ("french horn", "brass")),
    "tuba": ((58,), ("trombone", "brass")),
    "muted trumpet": ((59,), ("trumpet",)),
    "french horn": ((60,), ("trombone", "brass")),
    "brass": ((61, 56, 57, 60, 58, 59, 62, 63), ("trumpet", "trombone", "tuba", "french horn", "synth brass")),
    "synth brass": ((62, 63), ("brass", "saw lead")),
    "soprano saxophone": ((64,), ("alto saxophone", "saxophone", "oboe")),
    "alto saxophone": ((65,), ("tenor saxophone", "saxophone")),
    "tenor saxophone": ((66,), ("alto saxophone", "saxophone")),
    "baritone saxophone": ((67,), ("tenor saxophone", "saxophone")),
    "saxophone": (
        (66, 65, 64, 67),
        ("tenor saxophone", "alto saxophone", "soprano saxophone", "baritone saxophone", "clarinet"),
    ),
    "oboe": ((68,), ("english horn", "clarinet")),
    "english horn": ((69,), ("oboe", "clarinet")),
    "bassoon": ((70,), ("clarinet", "english horn")),
    "clarinet": ((71,), ("oboe", "flute")),
    "piccolo": ((72,), ("flute",)),
    "flute": ((73,), ("recorder", "pan flute")),
    "recorder": ((74,), ("flute",)),
    "pan flute": ((75,), ("flute", "blown bottle")),
    "blown bottle": ((76,), ("pan flute", "ocarina")),
    "shakuhachi": ((77,), ("flute", "pan flute")),
    "whistle": ((78,), ("ocarina", "piccolo", "flute")),
    "finger whistle": ((78,), ("whistle",)),
    "ocarina": ((79,), ("whistle", "recorder", "flute")),
    "square lead": ((80,), ("saw lead", "synth lead")),
    "saw lead": ((81,), ("square lead", "synth lead")),
    "calliope lead": ((82,), ("pan flute", "synth lead")),
    "chiff lead": ((83,), ("calliope lead", "synth lead")),
    "charang lead": ((84,), ("saw lead", "distortion guitar", "synth lead")),
    "voice lead": ((85,), ("synth voice", "synth lead")),
    "fifths lead": ((86,), ("saw lead", "synth lead")),
    "bass and lead": ((87,), ("saw lead", "synth bass", "synth lead")),
    "synth lead": ((81, 80, 87, 84, 82, 83, 85, 86), ("synthesizer",)),
    "new age pad": ((88,), ("warm pad", "synth pad")),
    "warm pad": ((89,), ("polysynth pad", "synth strings", "synth pad")),
    "polysynth pad": ((90,), ("warm pad", "synth brass", "synth pad")),
    "choir pad": ((91,), ("synth voice", "choir", "synth pad")),
    "bowed pad": ((92,), ("warm pad", "synth pad")),
    "metallic pad": ((93,), ("polysynth pad", "synth pad")),
    "halo pad": ((94,), ("choir pad", "synth pad")),
    "sweep pad": ((95,), ("warm pad", "synth pad")),
    "synth pad": ((89, 90, 91, 88, 95, 92, 93, 94), ("synth strings", "synthesizer")),
    "rain effect": ((96,), ("synth pad",)),
    "soundtrack effect": ((97,), ("synth pad",)),
    "crystal effect": ((98,), ("celesta", "synth pad")),
    "atmosphere effect": ((99,), ("nylon guitar", "synth pad")),
    "brightness effect": ((100,), ("polysynth pad", "synth pad")),
    "goblins effect": ((101,), ("synth pad",)),
    "echoes effect": ((102,), ("synth pad",)),
    "sci-fi effect": ((103,), ("synth pad",)),
    "synthesizer": (
        (81, 80, 90, 89, 50, 51, 62, 63, 38, 39, *range(82, 89), *range(91, 104), 54, 118),
        ("synth lead", "synth pad", "synth bass", "synth strings"),
    ),
    "keyboards": (
        (0, 4, 16, 1, 2, 3, 5, 6, 7, 8, *range(17, 21), *range(80, 96)),
        ("piano", "electric piano", "organ", "synthesizer"),
    ),
    "sitar": ((104,), ("banjo", "shamisen")),
    "banjo": ((105,), ("steel guitar", "acoustic guitar")),
    "shamisen": ((106,), ("banjo", "koto")),
    "koto": ((107,), ("harp", "shamisen")),
    "kalimba": ((108,), ("music box", "marimba")),
    "bagpipe": ((109,), ("shanai", "reed organ", "accordion")),
    "fiddle": ((110, 40), ("violin",)),
    "shanai": ((111,), ("oboe", "bagpipe")),
    "tinkle bell": ((112,), ("triangle", "glockenspiel")),
    "steel drums": ((114,), ("marimba", "vibraphone", "kalimba")),
    "taiko": ((116,), ("drums", "percussion", "timpani")),
    "melodic tom": ((117,), ("toms", "taiko")),
    "synth drum": ((118,), ("melodic tom", "toms")),
    "reverse cymbal": ((119,), ("crash cymbal",)),
    "guitar fret noise": ((120,), ()),
    "breath noise": ((121,), ()),
    "seashore": ((122,), ()),
    "bird tweet": ((123,), ()),
    "telephone ring": ((124,), ()),
    "helicopter": ((125,), ()),
    "applause": ((126,), ("claps",)),
    "gunshot": ((127,), ()),
}
#: Several instruments that sound together.
_GROUPS: Final[dict[str, tuple[tuple[int, ...], tuple[str, ...]]]] = {
    "orchestra": (
        (48, 60, 56, 73, 68, 71, 47, 61, *range(40, 47), 49, 57, 58, 69, 70, 72),
        ("strings", "brass", "winds"),
    ),
    "winds": (
        (73, 68, 71, 70, *range(64, 68), 69, 72, 60, 56, 57, 58, 61),
        ("woodwinds", "flute", "oboe", "clarinet", "bassoon", "saxophone", "brass"),
    ),
    "woodwinds": ((73, 68, 71, 70, *range(64, 68), 69, 72), ("winds", "flute", "oboe", "clarinet", "bassoon")),
}
#: Name → notes of the drum channel, programs, and what is near.
_DRUMS: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]]] = {
    "drums": ((36, 35, 38, 40, 37, *range(41, 54), 55, 57, 59), (116, 117, 118), ("percussion",)),
    "percussion": (
        (
            63,
            64,
            62,
            60,
            61,
            54,
            70,
            56,
            39,
            58,
            *range(65, 70),
            *range(71, 86),
            *range(35, 39),
            *range(40, 54),
            55,
            57,
            59,
        ),
        (47, *range(112, 120)),
        ("drums",),
    ),
    "bass drum": ((36, 35), (), ("kick drum", "drums", "percussion")),
    "kick drum": ((36, 35), (), ("bass drum", "drums")),
    "snare drum": ((38, 40), (), ("drums",)),
    "side stick": ((37,), (), ("snare drum", "drums")),
    "claps": ((39,), (), ("percussion",)),
    "toms": ((45, 47, 50, 43, 48, 41), (117,), ("drums",)),
    "hi-hat": ((42, 46, 44), (), ("cymbals", "drums")),
    "cymbals": ((49, 51, 57, 59, 53, 55, 52), (119,), ("drums", "percussion")),
    "crash cymbal": ((49, 57), (), ("cymbals",)),
    "ride cymbal": ((51, 59, 53), (), ("cymbals",)),
    "china cymbal": ((52,), (), ("crash cymbal", "cymbals")),
    "splash cymbal": ((55,), (), ("crash cymbal", "cymbals")),
    "tambourine": ((54,), (), ("percussion",)),
    "cowbell": ((56,), (), ("percussion",)),
    "vibraslap": ((58,), (), ("percussion",)),
    "bongos": ((60, 61), (), ("congas", "percussion")),
    "congas": ((63, 64, 62), (), ("bongos", "percussion", "drums")),
    "timbales": ((65, 66), (), ("congas", "percussion")),
    "agogo": ((67, 68), (113,), ("cowbell", "percussion")),
    "cabasa": ((69,), (), ("shaker", "maracas", "percussion")),
    "maracas": ((70,), (), ("shaker", "percussion")),
    "samba whistle": ((72, 71), (), ("whistle", "percussion")),
    "guiro": ((74, 73), (), ("cabasa", "percussion")),
    "claves": ((75,), (), ("woodblock", "percussion")),
    "woodblock": ((76, 77), (115,), ("claves", "percussion")),
    "cuica": ((79, 78), (), ("percussion",)),
    "triangle": ((81, 80), (), ("tinkle bell", "percussion")),
    "shaker": ((82,), (), ("maracas", "cabasa", "percussion")),
    "sleigh bells": ((83,), (112,), ("tambourine", "glockenspiel", "triangle")),
    "bell tree": ((84,), (), ("tinkle bell", "glockenspiel")),
    "castanets": ((85,), (), ("claves", "percussion")),
}
#: Instruments that General MIDI has no sound for, and what is near.
_OUTSIDE: Final[dict[str, tuple[str, ...]]] = {
    "alfaia": ("drums", "taiko", "percussion"),
    "anvil": ("agogo", "tubular bells", "percussion"),
    "balalaika": ("mandolin", "steel guitar", "acoustic guitar", "banjo", "guitar"),
    "bandurria": ("mandolin", "acoustic guitar", "steel guitar", "nylon guitar", "guitar"),
    "basetla": ("cello", "double bass"),
    "basy": ("cello", "double bass"),
    "bells": ("tubular bells", "glockenspiel"),
    "berimbau": ("percussion", "koto", "banjo"),
    "binioù": ("bagpipe",),
    "bombarde": ("shanai", "oboe"),
    "bouzouki": ("mandolin", "steel guitar", "acoustic guitar", "guitar", "banjo"),
    "caja": ("drums", "percussion", "snare drum"),
    "cajon": ("percussion", "drums"),
    "cavaquinho": ("ukulele", "nylon guitar", "acoustic guitar", "guitar"),
    "charcheta": ("french horn", "brass"),
    "ciaramella": ("shanai", "oboe"),
    "daegeum": ("flute", "shakuhachi"),
    "darbuka": ("percussion", "drums", "congas", "bongos"),
    "dizi": ("flute", "shakuhachi"),
    "djembe": ("percussion", "congas", "bongos", "drums"),
    "domra": ("mandolin", "banjo", "acoustic guitar", "guitar"),
    "duduk": ("clarinet", "oboe", "english horn", "shanai"),
    "erhu": ("violin", "fiddle"),
    "fife": ("piccolo", "flute"),
    "flabiol": ("piccolo", "recorder", "flute"),
    "frame drum": ("drums", "percussion", "taiko"),
    "gayageum": ("koto",),
    "geomungo": ("koto",),
    "gong": ("cymbals", "percussion"),
    "guembri": ("bass", "double bass", "shamisen"),
    "guqin": ("koto",),
    "gusli": ("dulcimer", "harp"),
    "guzheng": ("koto",),
    "haegeum": ("violin", "fiddle"),
    "hurdy-gurdy": ("fiddle", "bagpipe", "reed organ"),
    "janggu": ("drums", "percussion", "taiko"),
    "jew's harp": ("percussion", "synth lead"),
    "jinghu": ("violin", "fiddle"),
    "kayamb": ("maracas", "shaker", "percussion"),
    "kkwaenggwari": ("gong", "agogo", "cymbals", "percussion"),
    "kora": ("harp", "kalimba"),
    "kuaiban": ("castanets", "woodblock", "percussion"),
    "mandolin": ("steel guitar", "acoustic guitar", "banjo", "guitar"),
    "marching band": ("brass", "winds"),
    "oud": ("nylon guitar", "acoustic guitar", "guitar"),
    "pandeiro": ("tambourine", "percussion"),
    "pedal steel": ("steel guitar", "slide guitar", "electric guitar", "guitar"),
    "pipa": ("shamisen", "koto", "banjo"),
    "portuguese guitar": ("mandolin", "steel guitar", "acoustic guitar", "guitar"),
    "qraqeb": ("castanets", "percussion"),
    "requinto": ("nylon guitar", "acoustic guitar", "guitar"),
    "rouler": ("drums", "percussion", "taiko"),
    "sanshin": ("shamisen", "banjo"),
    "sanxian": ("shamisen", "banjo"),
    "saz": ("banjo", "steel guitar", "acoustic guitar", "guitar", "sitar"),
    "singing bowls": ("tubular bells", "bells", "glockenspiel"),
    "slide guitar": ("steel guitar", "electric guitar", "acoustic guitar", "guitar"),
    "suona": ("shanai", "oboe"),
    "surdo": ("bass drum", "drums", "percussion", "taiko"),
    "tabla": ("percussion", "congas", "bongos", "drums"),
    "tanpura": ("sitar",),
    "tenora": ("shanai", "oboe"),
    "theremin": ("synth lead", "synthesizer"),
    "timbal": ("drums", "percussion", "congas", "timbales"),
    "tin whistle": ("whistle", "recorder", "piccolo", "flute"),
    "ukulele": ("nylon guitar", "acoustic guitar", "guitar"),
    "washboard": ("guiro", "percussion"),
    "xiao": ("shakuhachi", "flute"),
    "zabumba": ("bass drum", "drums", "percussion", "taiko"),
    "zampogna": ("bagpipe",),
    "zither": ("dulcimer", "koto", "harp"),
}
#: Other spellings of a name in a field of a request. What people say in a prompt is read elsewhere.
_SPELLINGS: Final = {
    "808 kit": "drums",
    "bagpipes": "bagpipe",
    "drum kit": "drums",
    "cymbal": "cymbals",
    "hand claps": "claps",
    "rhodes": "electric piano",
    "sax": "saxophone",
    "synth": "synthesizer",
    "synthesiser": "synthesizer",
    "upright bass": "double bass",
}


def _family(programs: tuple[int, ...], notes: tuple[int, ...]) -> str:
    return DRUM_FAMILY if notes or not programs else FAMILIES[programs[0] // 8]


def _instruments() -> dict[str, Instrument]:
    found = {
        name: Instrument(name, _family(programs, ()), programs, (), near, name in _GROUPS)
        for name, (programs, near) in (_MELODIC | _GROUPS).items()
    }
    for name, (notes, programs, near) in _DRUMS.items():
        found[name] = Instrument(name, DRUM_FAMILY, programs, notes, near)
    for name, near in _OUTSIDE.items():
        nearest = next(found[other].family for other in near if other in found)
        found[name] = Instrument(name, nearest, (), (), near)
    return found


#: Every instrument by its name.
INSTRUMENTS: Final[Mapping[str, Instrument]] = MappingProxyType(_instruments())

#: What a request may say that must not sound: instruments, parts, sung voices, styles and moods.
EXCLUDABLE: Final = tuple(dict.fromkeys([*INSTRUMENTS, *PARTS, VOCALS, *STYLES, *MOODS]))


def stand_ins(name: str) -> tuple[Instrument, ...]:
    """The instrument itself and all that it may be played on instead, the nearest first."""
    found = {name: INSTRUMENTS[name]}
    # A dictionary keeps its order: what is near comes before what is near to that.
    for instrument in (waiting := list(found.values())):
        for other in instrument.near:
            if other not in found:
                found[other] = INSTRUMENTS[other]
                waiting.append(found[other])
    return tuple(found.values())


def instrument_name(text: str) -> str | None:
    """The name that `text` spells, in any case, with hyphens or spaces, one or many of it; None if there is none."""
    wanted = " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
    for spelling in (wanted, wanted.removesuffix("s"), wanted.removesuffix("es"), wanted + "s"):
        if (name := _by_spelling().get(spelling)) is not None:
            return name
    return None


def excludable_name(text: str) -> str | None:
    """The name of `EXCLUDABLE` that `text` spells; None if there is none."""
    if (name := instrument_name(text)) is not None:
        return name
    wanted = " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
    return next((name for name in EXCLUDABLE if wanted == name.replace("-", " ")), None)


@cache
def _by_spelling() -> dict[str, str]:
    names = {name.replace("-", " "): name for name in INSTRUMENTS}
    return names | {spelling.replace("-", " "): name for spelling, name in _SPELLINGS.items()}


#: Choir, voices and the synthesisers that imitate them.
_VOICES: Final = (52, 53, 54, 85, 91)
#: How many play in each of these ensembles.
_PLAYERS: Final = {"solo": 1, "duo": 2, "trio": 3, "quartet": 4}


def check_players(instruments: Sequence[str], ensemble: str | None, exclude: Sequence[str]) -> None:
    """Do nothing, unless what is to play and what must not sound contradict each other.

    Args:
        instruments: names of `INSTRUMENTS`.
        ensemble: one of `vocabulary.ENSEMBLES`.
        exclude: names of `EXCLUDABLE`.

    Raises:
        InvalidRequest: they do.
    """
    for name in instruments:
        if (excluded := _excluded_by(name, exclude)) is not None:
            raise InvalidRequest.of(
                "exclude", excluded, f"excludes {name}, which instruments names; leave one of them out"
            )
    if set(PARTS) <= set(exclude):
        raise InvalidRequest.of("exclude", ", ".join(exclude), "leaves nothing that sounds; leave one of its parts out")
    most = _PLAYERS.get(ensemble or "", len(instruments))
    if len(instruments) > most:
        message = (
            f"has {most} instrument{'s' * (most > 1)}, but {len(instruments)} are named; name fewer, or take 'only'"
        )
        raise InvalidRequest.of("ensemble", ensemble, message)
    if ensemble == "only" and not instruments:
        raise InvalidRequest.of(
            "ensemble", ensemble, "says that only the named instruments play; name them in instruments"
        )
    if ensemble == A_CAPPELLA:
        if others := [name for name in instruments if not set(INSTRUMENTS[name].programs) <= set(_VOICES)]:
            message = f"has voices alone; leave out {', '.join(others)}, or the ensemble"
            raise InvalidRequest.of("ensemble", ensemble, message)
        if VOCALS in exclude or _excluded_by("choir", exclude):
            raise InvalidRequest.of(
                "exclude", ", ".join(exclude), "excludes the voices of an a cappella; leave one of them out"
            )


def _excluded_by(name: str, exclude: Sequence[str]) -> str | None:
    """Which of the excluded names leaves no sound of this instrument."""
    own = INSTRUMENTS[name]
    for excluded in exclude:
        other = INSTRUMENTS.get(excluded)
        if excluded == name or (
            other is not None
            and own.is_in_general_midi
            and set(own.programs) <= set(other.programs)
            and set(own.notes) <= set(other.notes)
        ):
            return excluded
    return None
