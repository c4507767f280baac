"""From a request to a plan: every decision that is taken before the first note.

Decisions that the request makes are kept exactly (tempo, key, length); the rest follow the style's recipe, the mood
and the seed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orchestrion.models.composer.band.players import Excluded, excluded, players
from orchestrion.models.composer.band.seating import Band, asked_band, recipe_drums
from orchestrion.models.composer.chance import seeded
from orchestrion.models.composer.composition.form import asked_form, build_form, loop_form
from orchestrion.models.composer.composition.recipes import INSTRUMENT_WORDS, SAFE_STYLES, Recipe, Voice
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.composition.timing import Timing, decide_timing
from orchestrion.models.composer.metre import METRES, Metre
from orchestrion.models.composer.score import Section, TempoMap
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.vocabulary import MOODS, STYLE_METRES

#: The mood where none is named: neither happy nor sad, moderately lively.
_NEUTRAL: Final = (0.0, 0.5)
#: Themes in these fit a style's own metre.
_EVEN_METRES: Final = frozenset({"2/4", "4/4"})
#: The energy of a request for little or much: at most, at least.
_LOW_ENERGY: Final = 0.1
_HIGH_ENERGY: Final = 0.92
#: Moods of at least so much valence are plainly happy or plainly sad.
_PLAIN_VALENCE: Final = 0.6
#: Moods below and above these valences turn the third minor or major.
_DARK_BELOW, _BRIGHT_ABOVE = -0.15, 0.35
#: The style that an instrument suggests when no style was named.
_STYLE_OF_PROGRAM: Final = {
    0: "piano", 4: "soul", 10: "piano", 11: "jazz", 14: "cinematic", 16: "soul", 21: "tango", 22: "blues",
    24: "bossa-nova",
    25: "folk", 26: "jazz", 27: "pop", 29: "rock", 30: "rock", 40: "classical", 41: "classical", 42: "classical",
    46: "ambient", 48: "cinematic", 52: "cinematic", 56: "jazz", 60: "cinematic", 61: "cinematic", 66: "jazz",
    68: "classical", 71: "classical", 73: "folk", 75: "ambient", 81: "synthwave", 104: "ambient", 105: "country",
    107: "ambient", 108: "lofi",
}  # fmt: skip
_STYLES_OF_MOOD: Final = {
    "happy": ("pop", "folk"), "uplifting": ("pop", "cinematic"), "hopeful": ("folk", "piano", "pop"),
    "playful": ("chiptune", "pop"), "triumphant": ("cinematic",), "energetic": ("rock", "house"),
    "groovy": ("funk", "disco"), "romantic": ("piano", "bossa-nova"), "warm": ("soul", "lofi"),
    "calm": ("ambient", "piano"), "dreamy": ("ambient", "lofi"), "nostalgic": ("lofi", "piano"),
    "mysterious": ("cinematic", "ambient"), "sad": ("piano",), "tense": ("cinematic",), "dark": ("cinematic", "techno"),
    "angry": ("metal",),
}  # fmt: skip
#: Words in a negative prompt → the roles they silence.
_ROLE_WORDS: Final = {
    "drums": ("drums",), "drum": ("drums",), "percussion": ("drums",), "beat": ("drums",), "beats": ("drums",),
    "bass": ("bass",), "lead": ("lead", "counter"), "melody": ("lead", "counter"), "pad": ("pad", "pad2", "pad3"),
    "pads": ("pad", "pad2", "pad3"), "chords": ("comp", "comp2", "comp3"), "arpeggio": ("arp",), "arpeggios": ("arp",),
}  # fmt: skip
#: Words in a negative prompt that silence a family of programs.
_FAMILY_WORDS: Final = {
    "guitar": (24, 25, 26, 27, 29, 30), "guitars": (24, 25, 26, 27, 29, 30), "synth": (38, 39, 50, 80, 81, 87, 89, 90,
    91),
    "synths": (38, 39, 50, 80, 81, 87, 89, 90, 91), "strings": (40, 41, 42, 43, 48, 49, 50), "brass": (56, 60, 61),
    "piano": (0, 4), "organ": (16, 18), "vocals": (52,), "voice": (52, 91), "choir": (52,),
    "distortion": (29, 30), "distorted guitar": (29, 30), "electric guitar": (26, 27, 29, 30),
}  # fmt: skip
_REMOVAL = re.compile(r"\b(?:no|without|minus)\s+([a-z][a-z ]*?)(?=[,.;]|\band\b|\bbut\b|\bwith\b|$)")


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be composed. `valence` and `energy` are the mood's coordinates."""

    asked: Conditioning
    style: str
    mood: str | None
    recipe: Recipe
    metre: Metre
    band: Band
    #: Whether the band is not the recipe's own, whose loudness is known.
    has_asked_band: bool
    key: Key
    #: Where another key begins, and which: (bar, key).
    modulation: tuple[int, Key] | None
    #: As it is said; `tempo` is as it is played.
    tempo_bpm: float
    tempo: TempoMap
    duration_s: float
    #: Where the final chord falls (a loop: where it begins again), in beats, and the form before it.
    end_beat: float
    sections: tuple[Section, ...]
    valence: float
    energy: float
    seed_text: str

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose: decisions of one kind do not disturb those of another."""
        return seeded(self.seed_text, purpose)

    @property
    def is_loop(self) -> bool:
        """Whether the end joins the beginning."""
        return bool(self.asked.loop)

    @property
    def bars(self) -> int:
        """How many bars there are, with that of the final chord where it has one of its own."""
        bars = math.ceil(self.end_beat / self.metre.beats)
        return bars if self.is_loop or bars == self.asked.bars else bars + 1

    def key_at(self, bar: int) -> Key:
        """The key of a bar."""
        return self.modulation[1] if self.modulation is not None and bar >= self.modulation[0] else self.key

    @property
    def final_key(self) -> Key:
        """The key of the final chord."""
        return self.modulation[1] if self.modulation is not None else self.key


def make_plan(
    conditioning: Conditioning, theme_key: Key | None, theme_tempo_bpm: float | None, theme_metre: str | None = None
) -> Plan:
    """Decide everything about the piece.

    Args:
        conditioning: the request.
        theme_key: the theme's key, used when the request names none.
        theme_tempo_bpm: the theme's own tempo, used when the request names none and it suits the style.
        theme_metre: the theme's metre, which the style plays in when the request names none; one of two or four beats
            leaves the style its own.

    Raises:
        InvalidRequest: what is excluded leaves nobody to play.
    """
    prompt = " ".join(conditioning.prompt.casefold().split())
    seed_text = f"{conditioning.seed}|{prompt}"
    rng = seeded(seed_text, "plan")
    unwanted = excluded(conditioning.exclude or ())
    says_who = (conditioning.instruments, conditioning.exclude, conditioning.ensemble) != (None, None, None)
    # Fields that say who plays were read from the prompt, or stand above it: its words are not read again.
    removed = conditioning.negative_prompt.casefold()
    removed += "" if says_who else "," + ",".join(_REMOVAL.findall(prompt))
    asked_programs = () if says_who else _asked_programs(_REMOVAL.sub(" ", prompt))
    style = conditioning.style or _choose_style(conditioning, asked_programs, unwanted, rng)
    recipe = RECIPES[style]
    theme_metre = None if theme_metre in _EVEN_METRES else theme_metre
    metre = METRES[conditioning.metre or theme_metre or STYLE_METRES.get(style, f"{recipe.beats_per_bar}/4")]
    valence, energy = _mood(conditioning, unwanted)
    if conditioning.energy is not None:
        energy = min(energy, _LOW_ENERGY) if conditioning.energy == "low" else max(energy, _HIGH_ENERGY)
    key = conditioning.key or theme_key or _choose_key(recipe, valence, rng)
    timing = decide_timing(conditioning, recipe, metre, energy, theme_tempo_bpm, rng)
    sections = _form(conditioning, recipe, metre, timing, energy)
    voices = _choose_voices(recipe, asked_programs, removed, rng)
    if says_who:
        band = asked_band(conditioning, recipe, voices, style, key.tonic, unwanted)
    else:
        band = Band(voices, () if "drums" in _removed_roles(removed) else recipe_drums(recipe))
    return Plan(
        asked=conditioning,
        style=style,
        mood=conditioning.mood,
        recipe=recipe,
        metre=metre,
        band=band,
        has_asked_band=says_who,
        key=key,
        modulation=_modulation(conditioning.key_end, sections),
        tempo_bpm=timing.bpm,
        tempo=timing.tempo,
        duration_s=conditioning.duration_s,
        end_beat=timing.end_beat,
        sections=sections,
        valence=valence,
        energy=energy,
        seed_text=seed_text,
    )


def _mood(conditioning: Conditioning, unwanted: Excluded) -> tuple[float, float]:
    """Valence and energy of the mood that is asked for, or away from those that are not wanted."""
    if conditioning.mood is not None:
        mood = MOODS[conditioning.mood]
        return mood.valence, mood.energy
    avoided = [MOODS[name] for name in unwanted.names if name in MOODS]
    # "Not romantic" says nothing about major and minor, "not sad" does.
    valences = [mood.valence for mood in avoided if abs(mood.valence) >= _PLAIN_VALENCE]
    energies = [mood.energy for mood in avoided]
    valence = _NEUTRAL[0] - float(np.mean(valences)) if valences else _NEUTRAL[0]
    energy = 2 * _NEUTRAL[1] - float(np.mean(energies)) if energies else _NEUTRAL[1]
    return valence, energy


def _form(
    conditioning: Conditioning, recipe: Recipe, metre: Metre, timing: Timing, energy: float
) -> tuple[Section, ...]:
    bars = int(timing.end_beat // metre.beats)
    # Where a bar of the pattern is two of the metre, sections last as long as they do otherwise.
    section_bars = recipe.section_bars * (2 if 2 * metre.beats == recipe.beats_per_bar else 1)
    if conditioning.sections:
        return asked_form(conditioning.sections, bars, metre, timing.tempo, energy)
    if conditioning.loop:
        return loop_form(bars, section_bars, energy)
    return build_form(bars, section_bars, energy)


def _modulation(key_end: Key | None, sections: Sequence[Section]) -> tuple[int, Key] | None:
    """The last section before the outro begins the other key; a piece of one section has it in its second half."""
    if key_end is None:
        return None
    last = next((section for section in reversed(sections) if section.motifs != "outro"), None)
    if last is None:
        return 0, key_end
    is_only = last.first_bar == 0 or all(section.motifs == "intro" for section in sections if section is not last)
    return last.first_bar + ((last.bars + 1) // 2 if is_only else 0), key_end


def _asked_programs(text: str) -> tuple[int, ...]:
    """The programs that the prompt names, in its order."""
    found: dict[int, int] = {}
    for word in sorted(INSTRUMENT_WORDS, key=len, reverse=True):
        for match in re.finditer(rf"(?<![\w-]){re.escape(word)}s?(?![\w])", text):
            found.setdefault(match.start(), INSTRUMENT_WORDS[word])
            text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    return tuple(dict.fromkeys(found[position] for position in sorted(found)))


def _choose_style(
    conditioning: Conditioning, programs: tuple[int, ...], unwanted: Excluded, rng: np.random.Generator
) -> str:
    asked = [player for name in conditioning.instruments or () for player in players(name, unwanted)[:1]]
    if conditioning.ensemble == "a cappella":
        if "choral" in RECIPES:
            return "choral"
        asked = players("choir", unwanted)[:1]
    for program in (*programs, *(player.program for player in asked if not player.is_percussion)):
        style = _STYLE_OF_PROGRAM.get(program)
        if style is not None and style not in unwanted.names:
            return style
    mood = conditioning.mood
    choices = _STYLES_OF_MOOD[mood] if mood is not None else SAFE_STYLES
    allowed = [style for style in choices if style not in unwanted.names]
    allowed = allowed or [style for style in (*SAFE_STYLES, *RECIPES) if style not in unwanted.names] or list(choices)
    return allowed[int(rng.integers(len(allowed)))]


def _choose_key(recipe: Recipe, valence: float, rng: np.random.Generator) -> Key:
    tonic = int(rng.choice((0, 2, 4, 5, 7, 9, 10, 3)))
    key = Key(tonic, recipe.mode)
    if valence < _DARK_BELOW and not key.is_minor:
        return Key(tonic, "minor")
    if valence > _BRIGHT_ABOVE and key.is_minor:
        return Key(tonic, "major")
    return key


def _choose_voices(recipe: Recipe, asked: tuple[int, ...], removed: str, rng: np.random.Generator) -> tuple[Voice, ...]:
    """The recipe's voices with the asked lead, less what the negative prompt names."""
    lead = next(voice for voice in recipe.voices if voice.role == "lead")
    accompanying = {voice.program for voice in recipe.voices if voice.role != "lead"}
    solo_asked = [program for program in asked if program not in accompanying]
    if solo_asked:
        lead = replace(lead, program=solo_asked[0], drive=lead.drive if solo_asked[0] in (29, 30) else 0.0)
    elif recipe.other_leads and lead.program not in asked and rng.random() < 0.5:
        lead = replace(lead, program=int(rng.choice(recipe.other_leads)))
    voices = [lead if voice.role == "lead" else voice for voice in recipe.voices]
    unwanted_roles, unwanted_programs = _removed_roles(removed), _removed_programs(removed)
    if lead.program in unwanted_programs:
        others = [p for p in (*recipe.other_leads, 73, 11, 0, 80) if p not in unwanted_programs]
        voices = [replace(v, program=others[0]) if v.role == "lead" and others else v for v in voices]
    kept = [v for v in voices if v.role not in unwanted_roles and v.program not in unwanted_programs]
    return tuple(kept)


def _removed_roles(text: str) -> frozenset[str]:
    words = set(re.findall(r"[a-z]+", text))
    return frozenset(role for word in words & set(_ROLE_WORDS) for role in _ROLE_WORDS[word])


def _removed_programs(text: str) -> frozenset[int]:
    found = set(_asked_programs(text))
    for words, programs in _FAMILY_WORDS.items():
        if re.search(rf"\b{words}\b", text):
            found |= set(programs)
    return frozenset(found)
