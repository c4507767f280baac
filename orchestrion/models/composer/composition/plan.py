"""From a request to a plan: every decision that is taken before the first note.

Decisions that the request makes are kept exactly (tempo, key, length); the rest follow the style's recipe, the mood
and the seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.band.players import Excluded, excluded, players
from orchestrion.models.composer.band.seating import Band, asked_band, recipe_drums
from orchestrion.models.composer.chance import seeded
from orchestrion.models.composer.composition.form import asked_form, build_form, loop_form
from orchestrion.models.composer.composition.recipes import SAFE_STYLES, Recipe, Voice
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.composition.timing import Timing, decide_timing
from orchestrion.models.composer.metre import METRES, Metre
from orchestrion.models.composer.score import Section, TempoMap
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.instruments import check_players
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.said import Hints, said_in
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
#: How often a lead is another than the style's first.
_OTHER_LEADS_SHARE: Final = 0.5
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
    hints = _hints(conditioning)
    conditioning = _as_hinted(conditioning, hints)
    unwanted = excluded(conditioning.exclude or ())
    says_who = (conditioning.instruments, conditioning.exclude, conditioning.ensemble) != (None, None, None)
    style = conditioning.style or _choose_style(conditioning, hints, unwanted, rng)
    recipe = RECIPES[style]
    theme_metre = None if theme_metre in _EVEN_METRES else theme_metre
    metre = METRES[conditioning.metre or theme_metre or STYLE_METRES.get(style, f"{recipe.beats_per_bar}/4")]
    valence, energy = _mood(conditioning, unwanted)
    if conditioning.energy is not None:
        energy = min(energy, _LOW_ENERGY) if conditioning.energy == "low" else max(energy, _HIGH_ENERGY)
    key = conditioning.key or theme_key or _choose_key(recipe, valence, hints.mode, rng)
    timing = decide_timing(conditioning, recipe, metre, energy, theme_tempo_bpm, hints.tempo_bpm, rng)
    sections = _form(conditioning, recipe, metre, timing, energy)
    voices = _choose_voices(recipe, rng)
    if says_who:
        band = asked_band(conditioning, recipe, voices, style, key.tonic, unwanted)
    else:
        band = Band(voices, recipe_drums(recipe))
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


def _choose_style(conditioning: Conditioning, hints: Hints, unwanted: Excluded, rng: np.random.Generator) -> str:
    asked = [player for name in conditioning.instruments or () for player in players(name, unwanted)[:1]]
    if conditioning.ensemble == "a cappella":
        if "choral" in RECIPES:
            return "choral"
        asked = players("choir", unwanted)[:1]
    suiting = [style for style in hints.styles if style not in unwanted.names]
    for program in (player.program for player in asked if not player.is_percussion):
        style = _STYLE_OF_PROGRAM.get(program)
        if style is not None and style not in unwanted.names and (not suiting or style in suiting):
            return style
    if suiting:
        return suiting[int(rng.integers(len(suiting)))]
    mood = conditioning.mood
    choices = _STYLES_OF_MOOD[mood] if mood is not None else SAFE_STYLES
    allowed = [style for style in choices if style not in unwanted.names]
    allowed = allowed or [style for style in (*SAFE_STYLES, *RECIPES) if style not in unwanted.names] or list(choices)
    return allowed[int(rng.integers(len(allowed)))]


def _choose_key(recipe: Recipe, valence: float, mode: str | None, rng: np.random.Generator) -> Key:
    tonic = int(rng.choice((0, 2, 4, 5, 7, 9, 10, 3)))
    if mode is not None:
        return Key(tonic, mode)
    key = Key(tonic, recipe.mode)
    if valence < _DARK_BELOW and not key.is_minor:
        return Key(tonic, "minor")
    if valence > _BRIGHT_ABOVE and key.is_minor:
        return Key(tonic, "major")
    return key


def _choose_voices(recipe: Recipe, rng: np.random.Generator) -> tuple[Voice, ...]:
    """The recipe's voices, now and then with another of its leads."""
    if not recipe.other_leads or rng.random() >= _OTHER_LEADS_SHARE:
        return recipe.voices
    program = int(rng.choice(recipe.other_leads))
    return tuple(replace(voice, program=program) if voice.role == "lead" else voice for voice in recipe.voices)


def _hints(conditioning: Conditioning) -> Hints:
    """What the prompt's words suggest, unless a field has named another style than they."""
    said = said_in(conditioning.prompt)
    return said.hints if conditioning.style in (None, said.fields.get("style")) else Hints()


def _as_hinted(conditioning: Conditioning, hints: Hints) -> Conditioning:
    """The request with what suits it where it leaves that open."""
    exclude = conditioning.exclude or ()
    wanted = conditioning.instruments or ()
    mood = next((name for name in hints.moods if name not in exclude), None)
    without = tuple(sorted({*exclude, *hints.exclude})) or None
    instruments = wanted or (hints.instruments if conditioning.ensemble is None else ())
    try:
        check_players(instruments, conditioning.ensemble, without or ())
    except InvalidRequest:
        instruments, without = wanted, conditioning.exclude
    return replace(
        conditioning,
        mood=conditioning.mood or mood,
        metre=conditioning.metre or hints.metre,
        energy=conditioning.energy or hints.energy,
        instruments=instruments or None,
        exclude=without,
    )
