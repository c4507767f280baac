"""The recipes of all styles: those of `recipes`, and twelve more. Data only."""

from __future__ import annotations

from typing import Final

from orchestrion.models.composer.composition.recipes import FIRST_RECIPES, Recipe, V
from orchestrion.models.composer.sound.electronic import (
    ANALOG_PAD,
    COWBELL,
    PLUCK,
    SLOW_DRONE,
    SUB_BASS,
    SUPERSAW,
    TANPURA,
    WOBBLE_BASS,
)

#: Every style that can be asked for.
RECIPES: Final[dict[str, Recipe]] = FIRST_RECIPES | {
    "dubstep": Recipe(
        tempo_bpm=(138, 142), mode="minor", progressions="dubstep", groove="half-time", kit=24, drums_level=3,
        drums_send=0.08, looseness_ms=1, reverb_s=1.8, bass_db=2, duck=0.35, rises=True, other_leads=(SUPERSAW, 81),
        voices=(
            V("lead", PLUCK, "sparse", -3, 0.1, 0.4, 2, echo=0.3),
            V("comp", SUPERSAW, "wobble-stabs", -1, -0.2, 0.25, 3),
            V("pad", ANALOG_PAD, "hold", -2, 0, 0.5),
            V("bass", WOBBLE_BASS, "wobble", 5, 0, 0.02, 2),
        ),
    ),
    "reggaeton": Recipe(
        tempo_bpm=(88, 100), mode="minor", progressions="reggaeton", groove="dembow", kit=25, drums_level=3,
        looseness_ms=3, reverb_s=1.3, bass_db=2, duck=0.25, rises=True, other_leads=(12, 24, 81),
        voices=(
            V("lead", PLUCK, "hook", 0, 0.1, 0.3, 2, echo=0.25),
            V("comp", 12, "dembow", 0, -0.3, 0.2),
            V("comp2", 24, "stabs", -3, 0.4, 0.2, 3),
            V("pad", ANALOG_PAD, "hold", -3, 0, 0.45, 3),
            V("bass", SUB_BASS, "dembow", 2, 0, 0, 2),
        ),
    ),
    "k-pop": Recipe(
        tempo_bpm=(112, 130), mode="major", progressions="k-pop", groove="k-pop", kit=24, drums_level=2, looseness_ms=2,
        reverb_s=1.6, treble_db=1, duck=0.35, rises=True, other_leads=(SUPERSAW, 80),
        voices=(
            V("lead", 81, "hook", -1, 0.05, 0.3, echo=0.25),
            V("comp", 0, "k-pop", 1, -0.2, 0.2),
            V("comp2", 25, "strum", -1, 0.5, 0.1, 1),
            V("comp3", SUPERSAW, "k-pop", 0, -0.2, 0.25, 3),
            V("arp", PLUCK, "arp16", -5, 0.35, 0.3, 3, 1),
            V("brass", 61, "brass-hits", -4, -0.35, 0.2, 4),
            V("pad", 50, "hold", -2, 0, 0.45, 1),
            V("bass", 33, "k-pop", 1, 0, 0, 1),
        ),
    ),
    "gospel": Recipe(
        tempo_bpm=(68, 92), mode="major", progressions="gospel", groove="gospel", drums_level=2, drums_send=0.12,
        swing=0.66, looseness_ms=10, backbeat_late_ms=8, glue=0.8, reverb_s=1.3, slows_at_end=True,
        voices=(
            V("lead", 52, "lyrical", 2, 0.05, 0.4),
            V("counter", 52, "double", 0, -0.3, 0.45, 3),
            V("comp", 0, "gospel", 1, -0.3, 0.2),
            V("comp2", 4, "soul", 0, 0.3, 0.2, 2),
            V("pad", 16, "hold", -1, 0.35, 0.3, 1),
            V("pad2", 52, "hold", 2, 0, 0.5, 2),
            V("bass", 33, "gospel", 0, 0, 0.02, 2),
        ),
    ),
    "flamenco": Recipe(
        tempo_bpm=(144, 192), mode="phrygian", progressions="flamenco", groove="bulerias", drums_level=-4,
        drums_send=0.14, beats_per_bar=3, looseness_ms=9, glue=0.6, reverb_s=1.2, slows_at_end=True,
        voices=(
            V("lead", 24, "falseta", 1, 0.2, 0.2),
            V("comp", 24, "rasgueado", 1, -0.3, 0.15),
            V("comp2", 25, "rasgueado", -3, 0.5, 0.15, 4),
            V("arp", 24, "arpegio", -3, -0.5, 0.2, 3),
            V("bass", 32, "compas", -2, 0, 0.05, 2),
        ),
    ),
    "samba": Recipe(
        tempo_bpm=(92, 108), mode="major", progressions="samba", groove="batucada", drums_level=3, drums_send=0.12,
        swing=0.53, swing_grid=0.25, looseness_ms=8, glue=0.8, reverb_s=1.2, other_leads=(56, 66, 61),
        voices=(
            V("lead", 73, "bossa", 0, 0.2, 0.25),
            V("comp", 24, "cavaquinho", 1, -0.35, 0.12, 1, 1),
            V("comp2", 24, "bossa", -1, 0.4, 0.12, 2),
            V("brass", 61, "brass-hits", -3, 0.2, 0.2, 4),
            V("bass", 32, "surdo", 0, 0, 0.04, 2),
        ),
    ),
    "raga": Recipe(
        tempo_bpm=(84, 108), mode="lydian", progressions="raga", groove="teental", drums_level=-1, drums_send=0.15,
        looseness_ms=14, glue=0.5, reverb_s=2.0,
        voices=(
            V("lead", 104, "gat", 5, 0.1, 0.2),
            V("comp", TANPURA, "tanpura", -3, -0.25, 0.3),
            V("pad", 104, "sruti", -4, 0.3, 0.3),
            V("bass", TANPURA, "tonic", -5, 0, 0.2),
        ),
    ),
    "choral": Recipe(
        tempo_bpm=(60, 84), mode="major", progressions="choral", looseness_ms=16, glue=0.3, reverb_s=2.8,
        slows_at_end=True,
        voices=(
            V("lead", 52, "hymn", 0, 0.25, 0.55),
            V("comp", 52, "chorale", 2, -0.15, 0.55),
            V("bass", 52, "chorale", 2, 0.1, 0.5, 1, 1),
        ),
    ),
    "march": Recipe(
        tempo_bpm=(112, 124), mode="major", progressions="march", groove="march", kit=48, drums_level=-3,
        drums_send=0.2, looseness_ms=7, glue=0.4, reverb_s=2.0, other_leads=(61,),
        voices=(
            V("lead", 56, "march", 1, 0.15, 0.3),
            V("counter", 73, "double", -2, 0.45, 0.35, 3, 1),
            V("comp", 60, "after-beats", 0, -0.3, 0.3),
            V("comp2", 71, "after-beats", -1, 0.35, 0.3, 1, 1),
            V("comp3", 61, "marcato", 0, 0.35, 0.3, 4),
            V("pad", 60, "hold", -3, -0.1, 0.4, 3),
            V("bass", 60, "march", 2, 0.05, 0.2, 1),
        ),
    ),
    "drone": Recipe(
        tempo_bpm=(42, 52), mode="minor", progressions="drone", looseness_ms=60, glue=0.2, reverb_s=4.5,
        voices=(
            V("lead", 91, "timeless", -3, 0.2, 0.8, 2, echo=0.4),
            V("comp", SLOW_DRONE, "drone-late", 1, 0.35, 0.6),
            V("pad", SLOW_DRONE, "drone-slow", 4, -0.3, 0.6),
            V("pad2", 89, "drone-slow", -4, -0.1, 0.7),
            V("pad3", 91, "drone-late", 3, 0.2, 0.8, 2),
            V("bass", SLOW_DRONE, "tonic", 2, 0, 0.3),
        ),
    ),
    "afrobeats": Recipe(
        tempo_bpm=(98, 112), mode="major", progressions="afrobeats", groove="afrobeats", kit=25, drums_level=2,
        swing=0.54, swing_grid=0.25, looseness_ms=6, reverb_s=1.4, bass_db=1, duck=0.2, other_leads=(12, 66, 73),
        voices=(
            V("lead", 108, "syncopated", 0, 0.1, 0.3, echo=0.2),
            V("comp", 4, "off-keys", 0, -0.25, 0.2),
            V("comp2", 27, "highlife", -2, 0.45, 0.15, 1, 1),
            V("arp", 12, "arp8", -4, -0.45, 0.2, 3, 1),
            V("pad", ANALOG_PAD, "hold", -4, 0, 0.45, 3),
            V("bass", SUB_BASS, "afrobeats", 2, 0, 0, 2),
        ),
    ),
    "phonk": Recipe(
        tempo_bpm=(124, 144), mode="phrygian", progressions="phonk", groove="phonk", kit=25, drums_level=4,
        looseness_ms=2, reverb_s=1.4, treble_db=-1, bass_db=3, low_pass_hz=12_000, duck=0.45, crackle=0.01,
        voices=(
            V("lead", COWBELL, "cowbell", 1, 0.05, 0.25, 1, echo=0.2, drive=0.6),
            V("comp", 52, "trap-keys", -2, -0.1, 0.5, 3),
            V("pad", 50, "hold", -3, 0, 0.45, 2),
            V("bass", SUB_BASS, "phonk", 4, 0, 0, 2, drive=2.0),
        ),
    ),
}  # fmt: skip
