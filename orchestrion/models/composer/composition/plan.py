"""From a request to a plan: every decision that is taken before the first note.

Decisions that the request makes are kept exactly (tempo, key, length); the rest follow the style's recipe, the mood
and the seed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orchestrion.models.composer.chance import seeded
from orchestrion.models.composer.composition.recipes import INSTRUMENT_WORDS, SAFE_STYLES, Recipe, Voice
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.score import Section
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.vocabulary import MOODS

#: The mood where none is named: neither happy nor sad, moderately lively.
_NEUTRAL: Final = (0.0, 0.5)
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

    style: str
    mood: str | None
    recipe: Recipe
    voices: tuple[Voice, ...]
    has_drums: bool
    key: Key
    tempo_bpm: float
    duration_s: float
    #: Where the final chord falls, in beats, and the form before it.
    end_beat: float
    sections: tuple[Section, ...]
    valence: float
    energy: float
    seed_text: str

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator for one purpose: decisions of one kind do not disturb those of another."""
        return seeded(self.seed_text, purpose)


def make_plan(conditioning: Conditioning, theme_key: Key | None, theme_tempo_bpm: float | None) -> Plan:
    """Decide everything about the piece.

    Args:
        conditioning: the request.
        theme_key: the theme's key, used when the request names none.
        theme_tempo_bpm: the theme's own tempo, used when the request names none and it suits the style.
    """
    prompt = " ".join(conditioning.prompt.casefold().split())
    seed_text = f"{conditioning.seed}|{prompt}"
    rng = seeded(seed_text, "plan")
    removed = conditioning.negative_prompt.casefold() + "," + ",".join(_REMOVAL.findall(prompt))
    asked_programs = _asked_programs(_REMOVAL.sub(" ", prompt))
    style = conditioning.style or _choose_style(asked_programs, conditioning.mood, rng)
    recipe = RECIPES[style]
    valence, energy = _NEUTRAL
    if conditioning.mood is not None:
        mood = MOODS[conditioning.mood]
        valence, energy = mood.valence, mood.energy
    key = conditioning.key or theme_key or _choose_key(recipe, valence, rng)
    tempo_bpm, end_beat = _tempo_and_end(conditioning, recipe, energy, theme_tempo_bpm, rng)
    voices = _choose_voices(recipe, asked_programs, removed, rng)
    removed_roles = _removed_roles(removed)
    has_drums = bool(recipe.groove) and "drums" not in removed_roles
    return Plan(
        style=style,
        mood=conditioning.mood,
        recipe=recipe,
        voices=voices,
        has_drums=has_drums,
        key=key,
        tempo_bpm=tempo_bpm,
        duration_s=conditioning.duration_s,
        end_beat=end_beat,
        sections=build_form(int(end_beat // recipe.beats_per_bar), recipe.section_bars, energy),
        valence=valence,
        energy=energy,
        seed_text=seed_text,
    )


def _asked_programs(text: str) -> tuple[int, ...]:
    """The programs that the prompt names, in its order."""
    found: dict[int, int] = {}
    for word in sorted(INSTRUMENT_WORDS, key=len, reverse=True):
        for match in re.finditer(rf"(?<![\w-]){re.escape(word)}s?(?![\w])", text):
            found.setdefault(match.start(), INSTRUMENT_WORDS[word])
            text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    return tuple(dict.fromkeys(found[position] for position in sorted(found)))


def _choose_style(programs: tuple[int, ...], mood: str | None, rng: np.random.Generator) -> str:
    for program in programs:
        if program in _STYLE_OF_PROGRAM:
            return _STYLE_OF_PROGRAM[program]
    choices = _STYLES_OF_MOOD[mood] if mood is not None else SAFE_STYLES
    return choices[int(rng.integers(len(choices)))]


def _choose_key(recipe: Recipe, valence: float, rng: np.random.Generator) -> Key:
    tonic = int(rng.choice((0, 2, 4, 5, 7, 9, 10, 3)))
    key = Key(tonic, recipe.mode)
    if valence < _DARK_BELOW and not key.is_minor:
        return Key(tonic, "minor")
    if valence > _BRIGHT_ABOVE and key.is_minor:
        return Key(tonic, "major")
    return key


#: How long the final chord rings at least, and as a share of short pieces, in seconds.
_RING_S: Final = 1.8
_RING_SHARE: Final = 0.25
#: A tempo that was not asked for may be moved this much so that the piece ends on a bar line.
_NUDGE: Final = 0.06


def _tempo_and_end(
    conditioning: Conditioning, recipe: Recipe, energy: float, theme_tempo_bpm: float | None, rng: np.random.Generator
) -> tuple[float, float]:
    """The tempo and the beat of the final chord: a bar line, or half a bar where the asked tempo leaves more room."""
    beats = recipe.beats_per_bar
    ring_s = min(_RING_S + 0.3 * (recipe.reverb_s - 1.0), _RING_SHARE * conditioning.duration_s)
    # Slowing down at the end takes about as long as this many beats at full tempo.
    extra_beats = _RIT_EXTRA_BEATS if recipe.slows_at_end else 0.0
    play_s = conditioning.duration_s - ring_s
    if conditioning.tempo_bpm is not None:
        free = play_s * conditioning.tempo_bpm / 60 - extra_beats
        step = beats / 2 if beats % 2 == 0 else beats
        return conditioning.tempo_bpm, max(0.0, float(np.floor(free / step + 1e-6)) * step)
    low, high = recipe.tempo_bpm
    place = float(np.clip(energy + 0.12 * rng.standard_normal(), 0, 1))
    wanted = low + (high - low) * place
    if theme_tempo_bpm is not None and 0.8 * low <= theme_tempo_bpm <= 1.25 * high:
        wanted = theme_tempo_bpm
    bars = max(0, round((play_s * wanted / 60 - extra_beats) / beats))
    if bars == 0:
        return wanted, 0.0
    fitting = (bars * beats + extra_beats) * 60 / play_s
    # One decimal: the figure that is shown is the figure that is played.
    tempo = round(float(np.clip(fitting, wanted * (1 - _NUDGE), wanted * (1 + _NUDGE))), 1)
    while bars > 0 and (bars * beats + extra_beats) * 60 / tempo > play_s + 0.05:
        bars -= 1
    return tempo, float(bars * beats)


#: The slowing end: (beats before the final chord, share of the tempo).
RITARDANDO: Final = ((3.0, 0.94), (2.0, 0.86), (1.0, 0.74))
_RIT_EXTRA_BEATS: Final = sum(1 / share - 1 for _, share in RITARDANDO)

#: The order of sections after the intro, and how much is going on in each: 1 (bare) … 4 (everything).
_CYCLE: Final = (("A", 2), ("B", 3), ("A", 3), ("C", 2), ("B", 4), ("A", 3), ("B", 4), ("C", 1))


def build_form(bars: int, section_bars: int, energy: float) -> tuple[Section, ...]:
    """Sections for `bars` bars before the final chord: an intro, A, B and C in turn, an outro.

    The last section before the outro is the fullest. Calm pieces stay one level lower, driven ones start higher.
    """
    if bars <= 0:
        return ()
    intro = 0 if bars < 8 else 2 if bars < 24 else 4 if bars < 56 else 8
    outro = 0 if bars < 16 else 2 if bars < 24 else 4
    middle = bars - intro - outro
    half = section_bars // 2 if section_bars % 2 == 0 else section_bars
    unit = section_bars if middle >= 2 * section_bars else half
    lengths = [unit] * (middle // unit)
    rest = middle - sum(lengths)
    if rest >= 4 or not lengths:
        lengths.append(rest)
    elif rest:
        # Odd bars lengthen the outro where there is one, the intro where there is none.
        intro, outro = (intro, outro + rest) if outro else (intro + rest, outro)
    labels = [_CYCLE[i % len(_CYCLE)] for i in range(len(lengths))]
    if len(labels) > 2 and labels[-1][0] != "B":
        labels[-1] = ("B", 4) if labels[-2][0] != "B" else ("A", 4)
    plan = [("intro", intro, 1)] if intro else []
    plan += [(label, length, level) for (label, level), length in zip(labels, lengths, strict=True)]
    if len(lengths) > 1:
        label, length, level = plan[-1]
        plan[-1] = (label, length, 4 if len(lengths) > 2 else max(3, level))
    if outro:
        plan.append(("outro", outro, 2))
    shift = -1 if energy < 0.3 else 1 if energy > 0.8 else 0
    sections, first_bar = [], 0
    for label, length, level in plan:
        moved = level if label == "intro" else int(np.clip(level + shift, 1, 4))
        sections.append(Section(label, first_bar, length, moved))
        first_bar += length
    return tuple(sections)


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
