"""The band: who plays which role, from a recipe and from what a request asks for and excludes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.band.players import (
    KINDS,
    ORCHESTRA_KIT,
    Excluded,
    Player,
    gm_program,
    name_of,
    percussion_groove,
    players,
)
from orchestrion.models.composer.composition import recipes
from orchestrion.models.composer.composition.drums import GROOVES, Groove
from orchestrion.models.composer.composition.recipes import Recipe, Voice
from orchestrion.models.composer.sound.electronic import RISER
from orchestrion.models.protocol import Conditioning


@dataclass(frozen=True, slots=True)
class Percussion:
    """A part of the drums: its role, its kit and what it plays."""

    role: str
    kit: int
    groove: Groove
    #: How many beats the groove is written in.
    beats: int = 4


@dataclass(frozen=True, slots=True)
class Band:
    """Who plays. `drums` come first, then other percussion that was asked for."""

    voices: tuple[Voice, ...]
    percussion: tuple[Percussion, ...] = ()
    #: Percussion keys that must not sound.
    silent_keys: frozenset[int] = frozenset()
    #: Instrument that was asked for → what plays it: "ukulele" → "Nylon Guitar (comp)".
    played_by: tuple[tuple[str, str], ...] = ()
    #: Whether noise may rise into sections that open up.
    rises: bool = True
    #: Whether the melody also has the intro and the outro, for want of others.
    leads_throughout: bool = False


#: How many play.
_SIZES: Final = {"solo": 1, "duo": 2, "trio": 3, "quartet": 4}
#: Styles whose small ensembles have no rhythm section.
_CHAMBER_STYLES: Final = frozenset({"classical", "waltz", "cinematic", "choral"})
#: Groups of which so many players are these; the first of each is the highest.
_CHAMBER: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "strings": (("violin",), ("violin", "cello"), ("violin", "viola", "cello"), ("violin", "violin", "viola", "cello")),
    "brass": (("trumpet",), ("trumpet", "french horn"), ("trumpet", "french horn", "brass"),
              ("trumpet", "trumpet", "french horn", "brass")),
    "winds": (("flute",), ("flute", "clarinet"), ("flute", "oboe", "clarinet"),
              ("flute", "oboe", "clarinet", "french horn")),
    "woodwinds": (("flute",), ("flute", "clarinet"), ("flute", "oboe", "clarinet"),
                  ("flute", "oboe", "clarinet", "bassoon")),
}  # fmt: skip
#: Groups that play by themselves.
_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "strings": ("violin", "strings", "viola", "cello"), "brass": ("trumpet", "brass", "french horn"),
    "choir": ("choir",) * 4,
}  # fmt: skip
#: Who sings without instruments.
_VOICES: Final = ("choir",) * 4
#: Who plays with the piano in a trio: usually, and in chamber music.
_PIANO_TRIO: Final = (("bass", "drums"), ("violin", "cello"))
#: Instruments of which several may play, where an ensemble names one and more are missing.
_OF_ONE_KIND: Final = frozenset({"guitar", "nylon guitar", "acoustic guitar", "saxophone", "choir", "french horn"})
#: The roles that a kind of player takes beside the melody, the likeliest first.
_SEATS: Final[dict[str, tuple[str, ...]]] = {
    "single": ("counter", "comp3", "comp2", "pad3"), "synth lead": ("counter", "arp", "comp3"),
    "plucked": ("arp", "comp2", "comp3"), "guitar": ("comp", "comp2", "comp3"), "keys": ("comp", "comp2", "comp3"),
    "organ": ("pad", "comp2", "pad2"), "section": ("pad", "counter", "pad2", "comp3"), "pad": ("pad", "pad2", "pad3"),
    "bass": ("bass",),
}  # fmt: skip
_CHORDS: Final = frozenset({"comp", "comp2", "comp3", "arp", "pad", "pad2", "pad3", "brass"})
_ALL_SEATS: Final = ("comp", "comp2", "comp3", "arp", "pad", "pad2", "pad3", "brass", "counter", "bass", "lead")
#: How a role is played that a recipe does not have.
_USUAL: Final[dict[str, Voice]] = {
    voice.role: voice
    for voice in (
        Voice("lead", 0, "lyrical", 0, 0.1, 0.3),
        Voice("counter", 0, "counter", -2, 0.3, 0.3),
        Voice("comp", 0, "pop", 0, -0.2, 0.2),
        Voice("comp2", 0, "strum", -1, 0.4, 0.2),
        Voice("comp3", 0, "hold", -1, -0.4, 0.25),
        Voice("arp", 0, "arp8", -2, 0.3, 0.3),
        Voice("brass", 0, "brass-hits", -2, 0.2, 0.25),
        Voice("pad", 0, "hold", -1, 0.0, 0.45),
        Voice("pad2", 0, "hold", -2, -0.2, 0.45),
        Voice("pad3", 0, "swell", -2, 0.2, 0.45),
        Voice("bass", 0, "root-fifth", 0, 0.0, 0.05),
    )
}
#: What patterns only guitars play, and what others play instead.
_GUITAR_PATTERNS: Final = {"power": "marcato", "chug": "marcato", "strum": "pop", "folk-strum": "alberti",
                           "pick": "arp8", "boom-chick": "stabs", "banjo": "arp8"}  # fmt: skip
#: What inner voices play that have one note at a time.
_INNER: Final = ("inner", "low inner")
#: Who plays a role instead of an instrument that must not sound.
_SUBSTITUTES: Final[dict[str, tuple[int, ...]]] = {
    "lead": (73, 11, 0, 80, 56, 40, 27, 22), "counter": (48, 40, 73, 71, 11, 0), "bass": (33, 32, 43, 42, 0),
    "comp": (0, 4, 16, 25, 24, 46, 11, 48, 90, 71), "arp": (46, 11, 0, 12, 25, 73, 90),
    "pad": (49, 89, 16, 52, 60, 21, 0, 71),
}  # fmt: skip
#: Saturation is for guitars.
_DRIVEN: Final = frozenset({29, 30})
#: How many of a group play where it joins others.
_OF_A_GROUP: Final = 3
#: What plays the bass reaches down to this pitch: a left hand to C3, a voice to E2.
_LOW_ENOUGH: Final = 48
_LOW_VOICE: Final = 40


def asked_band(
    conditioning: Conditioning, recipe: Recipe, voices: Sequence[Voice], style: str, tonic: int, unwanted: Excluded
) -> Band:
    """The band for a request that says who plays or who must not.

    Args:
        conditioning: the request.
        recipe: that of its style.
        voices: those of the recipe, with the lead that was drawn.
        style: its style.
        tonic: the key's, for drums that are tuned.
        unwanted: what the request excludes.

    Raises:
        InvalidRequest: what is excluded leaves nobody to play.
    """
    names = conditioning.instruments or ()
    there = {voice.role: voice for voice in voices}
    if conditioning.ensemble is None or (conditioning.ensemble == "only" and not names):
        band = _joined_band(recipe, there, names, tonic, unwanted)
    else:
        line_up = _line_up(conditioning.ensemble, names, recipe, there, style, unwanted)
        band = _ensemble(recipe, there, line_up, tonic, unwanted)
    played_by = tuple((name, _list_of(by for asked, by in band.played_by if asked == name)) for name in names)
    band = replace(
        band,
        voices=_without(band.voices, recipe, unwanted),
        silent_keys=unwanted.keys,
        played_by=played_by,
        rises=band.rises and not unwanted.has(RISER),
    )
    if not band.voices and not band.percussion:
        raise InvalidRequest.of("exclude", ", ".join(sorted(unwanted.names)), "leaves nobody to play; exclude less")
    return band


def _list_of(players_of_one: Iterable[str]) -> str:
    return " + ".join(players_of_one) or "nothing, for want of a sound near it"


def recipe_drums(recipe: Recipe) -> tuple[Percussion, ...]:
    """The drums of a style, if it has any."""
    return (Percussion("drums", recipe.kit, GROOVES[recipe.groove], recipe.beats_per_bar),) if recipe.groove else ()


def _joined_band(recipe: Recipe, there: dict[str, Voice], names: Sequence[str], tonic: int, unwanted: Excluded) -> Band:
    """The style's own band, joined by who was asked for."""
    voices = dict(there)
    asked = [player for name in names for player in players(name, unwanted)[:_OF_A_GROUP]]
    seated: dict[str, Player] = {}
    waiting = []
    for player in asked:
        if not player.is_percussion:
            role = next((role for role, voice in voices.items() if role not in seated and _is(player, voice)), None)
            if role is None:
                waiting.append(player)
            else:
                seated[role] = player
    for player in sorted(waiting, key=lambda player: KINDS.index(player.kind)):
        role = _seat(player, voices, seated, can_lead="lead" not in unwanted.roles)
        seated[role] = player
        voices[role] = _voice(role, player, voices.get(role))
    for role in seated:
        voices[role] = replace(voices[role], enters=1)
    drums, played = _asked_percussion(recipe, [p for p in asked if p.is_percussion], tonic, unwanted, is_free=True)
    played += [
        (player.name, f"{recipes.melodic(voices[role].program).name} ({role})") for role, player in seated.items()
    ]
    return Band(tuple(voices.values()), drums, played_by=tuple(played))


def _is(player: Player, voice: Voice) -> bool:
    return gm_program(voice.program) in player.called_so


def _seat(player: Player, voices: dict[str, Voice], seated: dict[str, Player], *, can_lead: bool) -> str:
    """The role for a player who is new to the band: the melody, then what suits the instrument, then what is free."""
    if can_lead and "lead" not in seated and KINDS.index(player.kind) <= KINDS.index("organ"):
        return "lead"
    suited = _SEATS[player.kind]
    taken_over = [role for role in suited if role in voices and role not in seated]
    new = [role for role in (*suited, *_ALL_SEATS) if role not in voices]
    others = [role for role in _ALL_SEATS if role not in seated]
    return next(iter((*taken_over, *new, *others)), "lead")


def _voice(role: str, player: Player, there: Voice | None, joins: str = "") -> Voice:
    """`role` as a player plays it: as the recipe has it, as far as the instrument can."""
    base = there or _USUAL[role]
    low, high = player.range
    pattern = base.pattern
    if role not in ("lead", "counter", "bass") and not player.has_chords:
        pattern = _INNER[0]
    elif player.kind != "guitar":
        pattern = _GUITAR_PATTERNS.get(pattern, pattern)
    drive = (base.drive or 0.5) if player.program in _DRIVEN else 0.0
    return replace(
        base, role=role, program=player.program, pattern=pattern, low=low, high=high, drive=drive, joins=joins
    )


def _line_up(
    ensemble: str, names: Sequence[str], recipe: Recipe, there: dict[str, Voice], style: str, unwanted: Excluded
) -> list[Player]:
    """The players of an ensemble, those who were asked for first."""
    if ensemble == "a cappella":
        return [player for name in _VOICES for player in players(name, unwanted)]
    size = _SIZES.get(ensemble)
    if size is None:
        expanded = [(name, each) for name in names for each in _SECTIONS.get(name, (name,))]
        return _called(expanded, unwanted, _OF_A_GROUP)
    found = _called(_grown(list(names) or [name_of(there["lead"].program)], size, style), unwanted, 1)
    for name in _others(found, recipe, there, style):
        if len(found) >= size:
            break
        found += [player for player in players(name, unwanted)[:1] if player.sound not in [p.sound for p in found]]
    return found


def _called(names: Sequence[tuple[str, str]], unwanted: Excluded, most: int) -> list[Player]:
    """The players of pairs of (name that was asked for, instrument that is meant), each under the name."""
    return [replace(player, name=name) for name, meant in names for player in players(meant, unwanted)[:most]]


def _grown(names: list[str], size: int, style: str) -> list[tuple[str, str]]:
    """The names and who is meant: a group is as many players as are missing, and some instruments come in numbers."""
    alike = [(name, name) for name in names]
    for at, name in enumerate(names):
        seats = size - len(names) + 1
        if name in _CHAMBER and seats >= 1:
            return [*alike[:at], *((name, each) for each in _CHAMBER[name][seats - 1]), *alike[at + 1 :]]
    if len(names) == 1 and size > 1:
        name = names[0]
        if name in _OF_ONE_KIND and (size == 4 or name in ("guitar", "choir")):
            return alike * size
        if name == "violin" and size > 2:
            return [(name, each) for each in _CHAMBER["strings"][size - 1]]
        if name in ("piano", "grand piano") and size == 3:
            return [*alike, *((each, each) for each in _PIANO_TRIO[style in _CHAMBER_STYLES])]
    return alike


def _others(found: Sequence[Player], recipe: Recipe, there: dict[str, Voice], style: str) -> list[str]:
    """Who else plays in a small ensemble of a style, the likeliest first."""
    by_role = {role: name_of(voice.program) for role, voice in there.items()}
    chords = [*(by_role[role] for role in ("comp", "comp2", "arp", "pad") if role in by_role), "piano", "guitar"]
    melody = [by_role["lead"], "flute", "cello", "violin"]
    bass = [by_role.get("bass", "double bass"), "cello"]
    has_chords = any(not player.is_percussion and player.has_chords for player in found)
    first = melody[0] if has_chords else chords[0]
    if style in _CHAMBER_STYLES or not recipe.groove:
        return [first, "cello", *melody, *chords, "viola"]
    if has_chords or len(found) > 1:
        return [*bass[:1], "drums", first, *chords, *melody]
    # A duo needs chords more than a bass; a trio of a wind has both bass and drums.
    return [first, *bass[:1], "drums", *chords, *melody]


def _ensemble(
    recipe: Recipe, there: dict[str, Voice], line_up: Sequence[Player], tonic: int, unwanted: Excluded
) -> Band:
    """Nobody but the players of `line_up`, each in a part of its own."""
    seats = _seats([player for player in line_up if not player.is_percussion])
    voices: list[Voice] = []
    inner = list(_INNER)
    for player, roles in seats:
        for role in roles:
            voice = _voice(role, player, there.get(role), joins="" if role == roles[0] else roles[0])
            if voice.pattern in _INNER:
                voice = replace(voice, pattern=inner.pop(0) if len(inner) > 1 else inner[0])
            elif role == "bass" and player.kind == "section":
                voice = replace(voice, pattern="pedal")
            voices.append(replace(voice, enters=1))
    percussion = [player for player in line_up if player.is_percussion]
    drums, played = _asked_percussion(recipe, percussion, tonic, unwanted, is_free=False)
    played += [(player.name, f"{player.sound} ({roles[0]})") for player, roles in seats]
    return Band(tuple(voices), drums, played_by=tuple(played), rises=False, leads_throughout=len(line_up) <= 4)


def _seats(line_up: Sequence[Player]) -> list[tuple[Player, list[str]]]:
    """The roles of each player, the first of which names its part."""
    roles: list[list[str]] = [[] for _ in line_up]

    def waiting() -> list[int]:
        return [number for number, taken in enumerate(roles) if not taken]

    def taken_roles() -> set[str]:
        return {role for taken in roles for role in taken}

    leaders = [number for number in waiting() if line_up[number].kind not in ("pad", "bass")]
    if leaders:
        # Of equals the one that goes highest.
        leader = min(leaders, key=lambda n: (KINDS.index(line_up[n].kind), -line_up[n].range[1], n))
        roles[leader].append("lead")
    basses = [number for number in waiting() if line_up[number].kind == "bass"]
    if leaders and not basses and not any(_plays_chords(line_up[number]) for number in waiting()):
        low = [number for number in waiting() if line_up[number].range[0] <= _LOW_VOICE]
        low = [number for number in low if line_up[number].kind in ("single", "section")]
        basses = sorted(low, key=lambda number: (line_up[number].range[0], -number))
    if basses:
        roles[basses[0]].append("bass")
    for number in waiting():
        seats = (*_SEATS[line_up[number].kind], *_ALL_SEATS)
        roles[number].append(next((role for role in seats if role not in {"lead", "bass"} | taken_roles()), "comp3"))
    with_chords = [number for number, player in enumerate(line_up) if player.has_chords]
    if _CHORDS.isdisjoint(taken_roles()) and with_chords:
        kind = line_up[with_chords[0]].kind
        roles[with_chords[0]].append({"organ": "pad", "section": "pad", "plucked": "arp"}.get(kind, "comp"))
    left_hands = [number for number in with_chords if _plays_chords(line_up[number])]
    left_hands = [number for number in left_hands if line_up[number].range[0] <= _LOW_ENOUGH]
    if "bass" not in taken_roles() and left_hands:
        roles[left_hands[0]].append("bass")
    return list(zip(line_up, roles, strict=True))


def _plays_chords(player: Player) -> bool:
    """Whether it plays chords by itself, as a piano does and one of several voices does not."""
    return player.has_chords and player.kind not in ("section", "pad")


def _asked_percussion(
    recipe: Recipe, asked: Sequence[Player], tonic: int, unwanted: Excluded, *, is_free: bool
) -> tuple[tuple[Percussion, ...], list[tuple[str, str]]]:
    """The drums, and percussion that was asked for and that they have not; `is_free`: whether drums play unasked."""
    if unwanted.percussion:
        return (), []
    drums = recipe_drums(recipe)
    wants_kit = any(player.sound == "drums" for player in asked)
    if not drums and wants_kit:
        drums = (Percussion("drums", recipe.kit, GROOVES["pop"]),)
    if not is_free and not wants_kit:
        drums = ()
    played, extra, tuned = [], [], []
    for player in asked:
        lanes = drums[0].groove.lanes if drums else ()
        if player.sound == "drums" or any(lane.key in player.keys for lane in lanes if not player.kit):
            kit = drums[0]
            heard = tuple(
                replace(lane, enters=1, leaves=9) if lane.key in player.keys and player.sound != "drums" else lane
                for lane in lanes
            )
            if all(lane.enters > 1 for lane in heard):
                heard = tuple(replace(lane, enters=1) if lane.enters <= 2 else lane for lane in heard)
            drums = (replace(kit, groove=replace(kit.groove, lanes=heard)), *drums[1:])
            played.append((player.name, f"{recipes.kit(kit.kit).name} (drums)"))
        elif player.kit == ORCHESTRA_KIT:
            tuned.append(player)
            played.append((player.name, f"{player.sound} (timpani)"))
        else:
            extra.append(player)
            played.append((player.name, f"{player.sound} (percussion)"))
    if extra:
        drums = (*drums, Percussion("percussion", 0, percussion_groove(extra, tonic)))
    if tuned:
        drums = (*drums, Percussion("timpani", ORCHESTRA_KIT, percussion_groove(tuned, tonic)))
    return drums, played


def _without(voices: Sequence[Voice], recipe: Recipe, unwanted: Excluded) -> tuple[Voice, ...]:
    """The voices less what must not sound; another instrument takes the role of one that must not."""
    kept: list[Voice] = []
    for voice in voices:
        if voice.role in unwanted.roles:
            continue
        if not unwanted.has(voice.program):
            kept.append(voice)
            continue
        own = recipe.other_leads if voice.role == "lead" else ()
        others = (*own, *_SUBSTITUTES.get(voice.role.rstrip("23"), _SUBSTITUTES["comp"]))
        allowed = [program for program in others if not unwanted.has(program)]
        there = {other.program for other in kept}
        # Somebody who does not play already, if there is anybody.
        found = next((program for program in allowed if program not in there), allowed[0] if allowed else None)
        if found is not None:
            kept.append(_voice(voice.role, Player("", "", found), voice, voice.joins))
    return _regrouped(kept)


def _regrouped(voices: Sequence[Voice]) -> tuple[Voice, ...]:
    """Voices whose part has lost the role that named it join the first that is left of it."""
    roles = {voice.role for voice in voices}
    heirs: dict[str, str] = {}
    regrouped = []
    for voice in voices:
        joins = voice.joins
        if joins and joins not in roles:
            heir = heirs.setdefault(joins, voice.role)
            joins = "" if heir == voice.role else heir
        regrouped.append(replace(voice, joins=joins))
    return tuple(regrouped)
