"""The names that a request may use, and the words of a prompt that mean a style or a mood.

Every model is given the canonical names; the composer has one recipe for each style. Instruments have a module of their
own, `instruments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

#: Canonical style name → words and phrases in a prompt that mean it (the name itself always does).
STYLES: Final[dict[str, tuple[str, ...]]] = {
    "lofi": ("lo-fi", "lo fi", "chillhop", "study beats", "chill beats", "chill"),
    "ambient": ("meditation", "ethereal", "soundscape", "atmospheric", "space", "new age", "sleep"),
    "cinematic": ("epic", "trailer", "orchestral", "film score", "soundtrack", "adventure", "battle", "fantasy"),
    "rock": ("indie rock", "punk", "grunge", "garage rock", "rock anthem", "alternative"),
    "metal": ("heavy metal", "thrash", "doom", "metalcore", "djent"),
    "pop": ("corporate", "commercial", "feel-good", "feelgood", "jingle"),
    "house": ("edm", "dance", "club", "deep house", "electronic", "rave"),
    "techno": ("minimal techno", "warehouse", "acid", "industrial"),
    "trance": ("uplifting trance", "psytrance", "goa"),
    "drum-and-bass": ("drum and bass", "drum'n'bass", "drum & bass", "dnb", "d&b", "jungle", "breakbeat"),
    "synthwave": ("retrowave", "80s", "eighties", "neon", "outrun", "vaporwave", "retro synth"),
    "hip-hop": ("hip hop", "hiphop", "rap", "boom bap", "old school beat"),
    "trap": ("drill", "808", "trap beat"),
    "jazz": ("swing", "bebop", "big band", "smoky", "noir", "lounge", "cool jazz"),
    "bossa-nova": ("bossa nova", "bossa", "brazilian"),
    "latin": ("salsa", "mambo", "cuban", "montuno", "cha-cha", "mariachi", "cumbia"),
    "tango": ("tango argentino", "milonga"),
    "funk": ("funky", "groove", "slap bass"),
    "disco": ("nu-disco", "70s", "seventies", "roller"),
    "soul": ("r&b", "rnb", "motown", "neo-soul", "neo soul"),
    "reggae": ("dub", "ska", "island", "jamaica", "jamaican", "rocksteady"),
    "folk": ("acoustic", "campfire", "singer-songwriter", "americana", "indie folk"),
    "country": ("bluegrass", "western", "honky-tonk", "nashville", "banjo"),
    "celtic": ("irish", "scottish", "jig", "reel", "fiddle tune"),
    "classical": ("baroque", "chamber", "string quartet", "symphony", "mozart", "bach", "elegant"),
    "waltz": ("viennese", "ballroom", "3/4"),
    "piano": ("solo piano", "nocturne", "lullaby", "piano ballad"),
    "chiptune": ("8-bit", "8bit", "8 bit", "arcade", "retro game", "nes", "pixel"),
    "blues": ("bluesy", "shuffle", "twelve bar", "12-bar", "delta blues"),
    "dubstep": ("brostep", "riddim", "wobble bass"),
    "reggaeton": ("dembow", "perreo"),
    "k-pop": ("kpop",),
    "gospel": ("worship", "spiritual", "praise"),
    "flamenco": ("bulerias", "solea", "rumba flamenca"),
    "samba": ("batucada", "pagode", "rio carnival"),
    "raga": ("hindustani", "carnatic", "indian", "sitar and tabla"),
    "choral": ("chorale", "choir music", "hymn", "gregorian", "madrigal"),
    "march": ("marching band", "military", "parade", "brass band"),
    "drone": ("drones", "drone music"),
    "afrobeats": ("afrobeat", "afropop", "amapiano", "highlife"),
    "phonk": ("drift phonk", "memphis rap"),
}


@dataclass(frozen=True, slots=True)
class Mood:
    """Russell's circumplex: valence −1 (negative) … 1 (positive), energy 0 (still) … 1 (driven)."""

    valence: float
    energy: float
    words: tuple[str, ...]


#: Canonical mood name → where it lies and the words of a prompt that mean it (the name itself always does).
MOODS: Final[dict[str, Mood]] = {
    "happy": Mood(0.9, 0.7, ("joyful", "cheerful", "cheery", "sunny", "bright", "upbeat")),
    "uplifting": Mood(0.8, 0.75, ("inspiring", "inspirational", "motivational", "positive", "feel-good")),
    "hopeful": Mood(0.6, 0.5, ("optimistic",)),
    "playful": Mood(0.8, 0.65, ("quirky", "funny", "whimsical", "bouncy", "cute")),
    "triumphant": Mood(0.8, 0.9, ("heroic", "victorious", "victory")),
    "energetic": Mood(0.4, 0.95, ("driving", "powerful", "workout", "fast-paced", "intense", "hype")),
    "groovy": Mood(0.4, 0.65, ("cool", "laid-back groove")),
    "romantic": Mood(0.4, 0.35, ("tender", "loving", "love", "sweet")),
    "warm": Mood(0.4, 0.4, ("cosy", "cozy", "mellow", "smooth")),
    "calm": Mood(0.3, 0.15, ("relaxing", "relaxed", "peaceful", "gentle", "soothing", "quiet", "serene", "soft")),
    "dreamy": Mood(0.3, 0.3, ("floating", "hazy", "airy")),
    "nostalgic": Mood(-0.2, 0.35, ("wistful", "bittersweet")),
    "mysterious": Mood(-0.5, 0.35, ("enigmatic", "eerie", "curious")),
    "sad": Mood(-0.8, 0.25, ("melancholic", "melancholy", "heartbroken", "lonely", "mournful", "sorrowful", "gloomy")),
    "tense": Mood(-0.7, 0.65, ("suspenseful", "suspense", "nervous", "chase", "anxious")),
    "dark": Mood(-0.8, 0.5, ("ominous", "scary", "sinister", "brooding", "haunting")),
    "angry": Mood(-0.6, 0.95, ("aggressive", "furious", "rage", "fierce")),
}

#: Metre → how many beats of `tempo_bpm` a bar has. A beat is a quarter; in 6/8 and 12/8 a dotted quarter, as they are
#: conducted.
METRES: Final[dict[str, float]] = {"2/4": 2.0, "3/4": 3.0, "4/4": 4.0, "5/4": 5.0, "6/8": 2.0, "7/8": 3.5, "12/8": 4.0}
#: Styles that are not in 4/4 where no metre is asked for.
STYLE_METRES: Final[dict[str, str]] = {"waltz": "3/4", "flamenco": "3/4"}
#: Who plays: this many, nothing but the named instruments, or voices alone.
A_CAPPELLA: Final = "a cappella"
ENSEMBLES: Final = ("solo", "duo", "trio", "quartet", "only", A_CAPPELLA)
#: How much goes on.
ENERGIES: Final = ("low", "high")
#: How loud it is played, and how that changes.
DYNAMICS: Final = ("soft", "loud", "crescendo", "diminuendo")
SECTION_NAMES: Final = ("intro", "verse", "chorus", "bridge", "build-up", "drop", "part a", "part b", "outro")
#: What the voices of a piece are there for, whichever instruments they are.
PARTS: Final = ("drums", "bass", "chords", "melody", "pad")
#: Sung voices, whichever.
VOCALS: Final = "vocals"

#: Typographic forms → the plain ones that the vocabulary is written in.
_PLAIN: Final = str.maketrans({"’": "'", "‘": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "\u00a0": " "})


def canonical_name(text: str, vocabulary: Mapping[str, Iterable[str]]) -> str | None:
    """The name that `text` is or means ("Lo-Fi" → "lofi"), or None."""
    wanted = " ".join(text.translate(_PLAIN).casefold().replace("_", " ").split())
    for name, words in vocabulary.items():
        if wanted in {name, name.replace("-", " "), *words}:
            return name
    return None
