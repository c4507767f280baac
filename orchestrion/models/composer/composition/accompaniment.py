"""What the chords, the bass and the pads play: patterns as text, and the players that read them.

A pattern's hits are "beat:length:tones:loudness" (beats, beats, see below, 1–9), bars are separated by "|".
Tones of a chord pattern: "all", "up" (without the lowest), "pow" (power chord, low), "root" (low), or digits that
index the voicing and go on upwards by octaves ("0", "2", "03"). "drone" is the key's tonic and fifth, "sa", "pa" and
"high" its tonic, fifth and upper tonic alone. "inner" leaves the root to the bass, "roll" spreads the chord like a
strum.
Tones of a bass pattern: "R" root, "5" fifth, "8" octave, "3" third, "7" seventh, "N" the next chord's root,
"A" a step into it, "T" the key's tonic. "arp STEP ORDER" and "walk" are written out by the players.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from orchestrion.models.composer.composition.harmony import Chord
from orchestrion.models.composer.metre import METRES, Metre, fitted_times
from orchestrion.models.composer.score import Note, as_velocity

COMPING: Final[dict[str, str]] = {
    "hold": "0:4:all:6",
    "hold3": "0:3:all:6",
    "stabs": "0:1.4:all:7 1.5:1:all:6 2.75:1:all:6|0:1.8:all:7 2.5:1.2:all:6",
    "lofi": "0:1.6:roll:7 1.5:.4:up:5 2.5:1.4:all:6|0:.9:roll:7 1.75:1.8:all:6 3.75:.25:up:4",
    "pop": "0:1.4:all:8 1.5:1.4:all:7 3:.9:all:6|0:1.4:all:8 1.5:.9:all:7 2.5:.4:all:6 3:.9:all:6",
    "strum": "0:.9:roll:8 1:.45:roll:6 1.5:.45:up:5 2.5:.45:up:6 3:.45:roll:7 3.5:.45:up:5",
    "folk-strum": (
        "0:.45:root:8 .5:.4:roll:5 1:.4:roll:7 1.5:.4:up:5 2:.45:root:7 2.5:.4:roll:5 3:.4:roll:7 "
        "3.5:.4:up:5"
    ),
    "boom-chick": "0:.5:root:7 1:.4:roll:7 2:.5:root:7 3:.4:roll:7 3.5:.3:up:5",
    "power": "0:.46:pow:9 .5:.46:pow:7 1:.46:pow:8 1.5:.46:pow:7 2:.46:pow:9 2.5:.46:pow:7 3:.46:pow:8 3.5:.46:pow:7",
    "chug": (
        "0:.2:pow:9 .25:.18:root:7 .5:.18:root:7 1:.45:pow:9 1.5:.18:root:7 1.75:.18:root:7 2:.2:pow:8 "
        "2.25:.18:root:7 2.5:.18:root:7 3:.9:pow:9|0:.2:pow:9 .25:.18:root:7 .5:.18:root:7 .75:.18:root:7 "
        "1:.45:pow:9 1.5:.45:pow:8 2:.2:pow:8 2.25:.18:root:7 2.5:.45:pow:8 3:.4:pow:9 3.5:.4:pow:9"
    ),
    "house-stab": (
        ".5:.3:all:7 1.25:.3:all:6 2:.25:all:6 2.5:.3:all:7 3.25:.3:all:6|.5:.3:all:7 1.25:.3:all:6 "
        "2.5:.5:all:7 3.5:.3:all:5"
    ),
    "techno-stab": ".75:.2:all:7 2.25:.2:all:6|.75:.2:all:7 2.25:.2:all:6 3.5:.15:all:5",
    "gate": (
        "0:.2:all:8 .5:.2:all:6 .75:.2:all:7 1.25:.2:all:6 1.5:.2:all:7 2:.2:all:8 2.5:.2:all:6 2.75:.2:all:7 "
        "3.25:.2:all:6 3.5:.2:all:7"
    ),
    "jazz": (
        ".667:.4:all:6 2.667:.5:all:6|0:1.2:all:6 1.667:.4:all:5|1:.4:all:5 2.667:1:all:6|0:.4:all:6 "
        "3.667:.5:all:6"
    ),
    "freddie": "0:.6:all:4 1:.45:all:6 2:.6:all:4 3:.45:all:6",
    "bossa": (
        "0:.4:up:6 0:.9:root:6 1:.4:up:7 1.5:.4:up:6 2:.9:root:5 2.5:.4:up:7 3.5:.4:up:6|"
        "0:.9:root:6 .5:.4:up:6 1.5:.4:up:7 2:.9:root:5 2:.4:up:6 3:.4:up:7"
    ),
    "montuno": (
        "0:.4:0:8 .5:.4:12:7 1:.4:03:8 1.5:.4:12:7 2.5:.4:03:8 3:.4:12:7 3.5:.4:03:8|"
        ".5:.4:12:7 1:.4:03:8 1.5:.4:12:7 2.5:.4:03:8 3:.4:12:7 3.5:.4:03:8"
    ),
    "brass-hits": "0:.3:all:8|.5:.25:all:7 1.5:.25:all:8|2.5:.3:all:7 3.5:.3:all:8|0:1.5:all:7",
    "tango": (
        "0:.35:all:8 1:.3:all:6 2:.3:all:7 3:.3:all:6 3.5:.4:all:8|0:.35:all:8 1.5:.35:all:7 2:.3:all:7 "
        "3:.3:all:6"
    ),
    "funk16": ".5:.1:up:6 .75:.16:up:8 1.25:.1:up:5 1.5:.16:up:7 2.5:.1:up:6 2.75:.18:up:8 3.5:.1:up:6 3.75:.1:up:5",
    "clav": (
        "0:.15:0:8 .5:.12:12:7 .75:.12:0:6 1.25:.15:12:8 1.75:.12:0:6 2:.15:0:8 2.75:.2:12:8 "
        "3.25:.12:0:6 3.5:.15:12:7"
    ),
    "disco-guitar": (
        ".5:.15:up:7 1:.1:up:5 1.5:.15:up:7 1.75:.1:up:5 2.5:.15:up:7 3:.1:up:5 3.5:.15:up:7 3.75:.1:up:6"
    ),
    "disco-strings": "0:1.9:up:7 2:.4:up:6 2.5:.4:up:7 3:.9:up:7|0:3.6:up:7",
    "soul": "0:.9:all:7 1:.3:up:5 1.75:.2:up:6 2.5:1.2:all:6|0:1.4:all:7 1.75:.2:up:5 2.5:.4:all:6 3.25:.5:up:6",
    "motown": "1:.2:up:8 3:.2:up:8",
    "skank": ".5:.16:up:8 1.5:.16:up:8 2.5:.16:up:8 3.5:.16:up:8",
    "bubble": (
        ".25:.12:0:5 .5:.14:all:7 .75:.12:0:5 1.25:.12:0:5 1.5:.14:all:7 1.75:.12:0:5 2.25:.12:0:5 2.5:.14:all:7 "
        "2.75:.12:0:5 3.25:.12:0:5 3.5:.14:all:7 3.75:.12:0:5"
    ),
    "drone": "0:4:drone:6",
    "jig": "0:.6:root:7 .667:.3:up:5 1:.4:up:6 1.667:.3:up:5 2:.6:root:7 2.667:.3:up:5 3:.4:up:6 3.667:.3:up:5",
    "um-pah": "1:.6:all:6 2:.6:all:6",
    "sweep": "0:2.9:all:6",
    "ostinato": (
        "0:.3:0:8 .5:.3:0:6 1:.3:2:7 1.5:.3:0:6 2:.3:1:8 2.5:.3:0:6 3:.3:2:7 3.5:.3:1:6"
    ),
    "ostinato16": (
        "0:.2:0:9 .25:.2:0:6 .5:.2:2:7 .75:.2:0:6 1:.2:1:8 1.25:.2:0:6 1.5:.2:2:7 1.75:.2:1:6 "
        "2:.2:0:9 2.25:.2:0:6 2.5:.2:2:7 2.75:.2:0:6 3:.2:1:8 3.25:.2:2:6 3.5:.2:1:7 3.75:.2:0:6"
    ),
    "marcato": "0:.9:all:8 1:.9:all:7 2:.9:all:8 3:.4:all:7 3.5:.4:all:7",
    "swell": "0:3.8:up:7",
    "trap-keys": "0:1.9:all:7 2:.9:all:6 3:.9:up:5|0:1.4:all:7 1.5:2.4:all:6",
    "blues": "0:.6:all:7 1.667:.3:all:6 2:.3:all:5 3.667:.3:all:7|1:.5:all:6 2.667:.3:all:6 3:.5:all:7",
    "boogie": (
        "0:.6:0:7 0:.6:2:7 .667:.3:0:5 1:.6:0:7 1:.6:3:7 1.667:.3:0:5 2:.6:0:7 2:.6:2:7 2.667:.3:0:5 3:.6:0:7 3:.6:3:7 "
        "3.667:.3:0:5"
    ),
    "arp8": "arp .5 01234321",
    "arp16": "arp .25 0123212301243213",
    "arp16-trance": "arp .25 0312031203120312",
    "arp-slow": "arp 1 0213",
    "arp-chip": "arp .25 0121012101210121",
    "pick": "arp .5 02130212",
    "banjo": "arp .25 0213021302130213",
    # Two bars as if cut from a record and played again.
    "sampled": "0:.7:all:8 .75:.2:all:6 1.75:.7:all:7 2.5:.4:up:6|0:.7:all:8 1.75:.2:up:5 2.25:1.2:all:7",
    "mambo": (
        ".5:.25:all:7 1:.25:all:8 1.5:.2:all:7 2.5:.25:all:8|0:.25:all:8 .5:.2:all:7 1.5:.25:all:8 3.5:.4:all:8|"
        "0:1.2:all:7|1.5:.25:all:7 2:.25:all:8 2.5:.25:all:7 3.5:.3:all:8"
    ),
    "twang": (
        "0:.3:0:7 .5:.25:1:6 .75:.25:2:7 1.5:.25:1:6 2:.3:0:7 2.5:.25:3:7 3:.25:2:6 3.5:.25:1:6|.5:.3:2:7 "
        "1:.25:1:6 1.5:.25:0:6 2.5:.25:12:7 3:.4:12:7"
    ),
    "wobble-stabs": "0:.4:all:8 1.5:.3:all:6|0:.4:all:8 2.5:.3:all:6 3.25:.3:all:7",
    "dembow": "0:.3:all:8 .75:.3:all:6 1.5:.3:all:7 2:.3:all:8 2.75:.3:all:6 3.5:.3:all:7",
    "k-pop": (
        "0:.65:all:8 .75:.2:all:6 1.5:.45:all:7 2.5:.45:all:7 3:.9:all:7|0:.65:all:8 .75:.65:all:7 1.5:.45:all:7 "
        "2:.4:all:6 2.5:.4:all:7 3:.4:all:7 3.5:.4:all:8"
    ),
    "gospel": (
        "0:.6:all:8 .667:.3:12:5 1:.6:all:7 1.667:.3:12:5 2:.6:all:8 2.667:.3:12:6 3:.6:all:7 3.333:.3:12:5 "
        "3.667:.3:12:6|0:.6:all:8 .667:.3:12:6 1:.3:all:7 1.333:.3:12:5 1.667:.3:12:6 2:.6:all:8 2.667:.3:12:5 "
        "3:.9:all:8"
    ),
    # Beats 12 to 11 of the compás in four bars of three; the accents are struck downwards over all strings.
    "rasgueado": (
        "0:.8:roll:9 1:.4:up:4 1.5:.4:up:4 2:.4:up:5 2.667:.3:up:6|0:.8:roll:9 1:.4:up:4 1.5:.4:up:5 2:.4:up:5|"
        "0:.8:roll:9 1:.4:up:5 1.5:.3:up:5 2:.8:roll:9|0:.4:up:5 .5:.4:up:5 1:.9:roll:9 2:.3:up:4 2.333:.3:up:5 "
        "2.667:.3:up:6"
    ),
    "arpegio": "arp .25 012321012321",
    "cavaquinho": (
        "0:.2:roll:8 .5:.2:up:6 1:.2:roll:7 1.5:.15:up:5 1.75:.2:up:7 2.25:.2:up:6 2.75:.2:roll:7 3.25:.15:up:6 "
        "3.5:.2:up:7"
    ),
    "tanpura": "0:4:pa:5 1:3:high:5 2:2:high:5 3:1:sa:6",
    "sruti": "0:4:drone:5",
    "drone-slow": "0:4:drone:6|",
    "drone-late": "|1.7:2.3:high:5|.9:3.1:pa:5|",
    "chorale": (
        "0:.97:inner:7 1:.97:inner:6 2:.97:inner:7 3:.97:inner:6|0:.97:inner:7 1:.97:inner:6 2:.97:inner:7 "
        "3:.97:inner:6|0:.97:inner:7 1:.97:inner:6 2:.97:inner:7 3:.97:inner:6|0:.97:inner:7 1:.97:inner:6 "
        "2:1.97:inner:7"
    ),
    "after-beats": ".5:.3:all:7 1.5:.3:all:6 2.5:.3:all:7 3.5:.3:all:6",
    "highlife": (
        "0:.3:0:7 .5:.25:2:6 .75:.25:1:6 1.25:.25:2:6 1.5:.3:3:7 2:.3:0:6 2.5:.25:2:7 2.75:.25:1:6 3.25:.25:3:6 "
        "3.5:.3:2:6"
    ),
    "off-keys": ".5:.3:all:6 1.5:.4:all:7 2.75:.4:all:6 3.5:.3:all:6|.5:.3:all:6 1.5:.4:all:7 2.5:.9:all:6",
    "alberti": "0:.45:01:9 .5:.4:2:5 1:.45:1:7 1.5:.4:2:5 2:.45:01:8 2.5:.4:2:5 3:.45:1:7 3.5:.4:2:5",
    "harp": "arp .5 01234543",
    "inner": "0:1.9:1:6 2:1.9:1:6",
    "low inner": "0:1.9:0:6 2:1.9:0:5",
}  # fmt: skip

BASS: Final[dict[str, str]] = {
    "pedal": "0:4:R:6",
    "marcato": "0:.9:R:9 1:.8:R:6 2:.9:R:8 3:.8:R:6|0:.9:R:9 1:.8:R:6 2:.9:5:8 3:.8:R:6",
    "root-fifth": "0:.95:R:8 2:.95:5:7|0:.95:R:8 2:.95:5:7 3.5:.45:A:6",
    "eighths": "0:.45:R:9 .5:.45:R:7 1:.45:R:8 1.5:.45:R:7 2:.45:R:9 2.5:.45:R:7 3:.45:R:8 3.5:.45:R:7",
    "pop": "0:1.4:R:9 1.5:.45:R:7 2:1.4:R:8 3.5:.45:A:7|0:1.4:R:9 1.5:.45:R:7 2:.9:R:8 3:.45:5:7 3.5:.45:A:7",
    "offbeat": (
        ".5:.42:R:9 1.5:.42:R:9 2.5:.42:R:9 3.5:.42:R:9|.5:.42:R:9 1.5:.42:R:9 2.5:.42:R:9 3.5:.2:R:8 "
        "3.75:.2:8:7"
    ),
    "rolling": (
        ".25:.2:R:7 .5:.2:R:8 .75:.2:R:7 1.25:.2:R:7 1.5:.2:R:8 1.75:.2:R:7 2.25:.2:R:7 2.5:.2:R:8 2.75:.2:R:7 "
        "3.25:.2:R:7 3.5:.2:R:8 3.75:.2:8:7"
    ),
    "dnb": "0:1.2:R:9 1.75:.2:R:7 2.5:.7:R:8 3.25:.6:5:7|0:1.2:R:9 1.75:.2:8:7 2.5:.7:7:8 3.25:.6:A:7",
    "octaves": "0:.42:R:8 .5:.42:8:7 1:.42:R:8 1.5:.42:8:7 2:.42:R:8 2.5:.42:8:7 3:.42:R:8 3.5:.42:8:7",
    "disco": (
        "0:.42:R:9 .5:.25:8:7 .75:.2:8:6 1:.42:R:8 1.5:.42:8:7 2:.42:R:9 2.5:.25:8:7 2.75:.2:8:6 "
        "3:.42:R:8 3.5:.42:A:7"
    ),
    "lofi": "0:1.3:R:8 1.75:.7:R:6 2.5:1:5:7|0:1.3:R:8 1.75:.4:8:6 2.5:.9:R:7 3.5:.4:A:6",
    "boombap": "0:.7:R:9 .75:.4:R:7 2.5:.6:R:8 3.25:.5:5:7|0:.7:R:9 1.75:.4:8:7 2.5:.9:R:8 3.5:.4:A:7",
    "808": "0:1.7:R:9 1.75:.6:R:7 2.5:1.4:R:8|0:1.4:R:9 1.5:.9:R:8 2.5:.7:5:8 3.25:.7:A:7",
    "bossa": "0:1.4:R:8 1.5:.45:5:7 2:1.4:5:8 3.5:.45:R:7",
    "tumbao": "1.5:1.4:5:8 3:.95:N:8",
    "tango": "0:.8:R:8 2:.8:5:7|0:.8:R:8 1.5:.4:5:7 2:.8:5:7 3:.8:A:7",
    "funk": (
        "0:.35:R:9 .75:.2:8:7 1.5:.2:R:7 1.75:.2:7:7 2.5:.3:8:8 3:.2:R:7 3.5:.3:A:7|"
        "0:.35:R:9 .75:.2:R:6 1.25:.2:7:7 1.5:.2:8:8 2.25:.2:R:6 2.5:.35:5:7 3.25:.2:7:7 3.5:.3:A:8"
    ),
    "soul": (
        "0:.9:R:9 1.5:.4:R:7 1.75:.2:5:6 2.5:.9:R:8 3.5:.4:A:7|0:.9:R:9 1.5:.4:8:7 2:.4:7:6 2.5:.4:5:7 "
        "3:.4:3:7 3.5:.4:A:7"
    ),
    "reggae": "0:.6:R:9 .75:.4:R:8 1.5:.4:3:8 2.25:.5:5:8 3:.7:R:8|.5:.4:R:9 1:.7:R:8 2:.4:5:8 2.5:.4:3:7 3:.8:R:8",
    "walk": "walk",
    "boogie": "0:.6:R:8 .667:.3:R:6 1:.6:3:7 1.667:.3:3:5 2:.6:5:8 2.667:.3:5:6 3:.6:7:7 3.667:.3:5:5",
    "waltz": "0:.95:R:8|0:.95:5:7",
    "classical": "0:.8:R:8 1:.6:R:5 2:.8:8:7 3:.6:3:5|0:.8:R:8 1:.6:3:5 2:.8:R:7 3:.6:R:5",
    "jig": "0:.9:R:8 2:.9:5:7",
    "chip": (
        "0:.24:R:9 .5:.24:8:7 .75:.2:R:7 1:.24:R:8 1.5:.24:8:7 2:.24:R:9 2.5:.24:8:7 2.75:.2:5:7 "
        "3:.24:R:8 3.5:.24:A:7"
    ),
    # The voice wobbles a whole number of times in each note: eighths in the long ones, triplets in the short ones.
    "wobble": (
        "0:2:R:9 2:1:R:8 3:.5:8:8 3.5:.5:R:7|0:1:R:9 1:1:8:8 2:2:R:9|0:2:R:9 2:1:7:8 3:1:R:8|0:1:R:9 1:.5:8:8 "
        "1.5:.5:R:7 2:1:R:8 3:1:A:8"
    ),
    "dembow": (
        "0:.7:R:9 .75:.5:R:7 1.5:.45:5:8 2:.7:R:9 2.75:.5:R:7 3.5:.45:5:8|0:.7:R:9 .75:.5:R:7 1.5:.45:8:8 "
        "2:.7:R:9 2.75:.5:5:7 3.5:.45:A:8"
    ),
    "k-pop": (
        "0:.4:R:9 .75:.2:R:7 1.5:.4:8:8 2:.4:R:9 2.75:.2:8:7 3.25:.2:5:7 3.5:.4:A:8|0:.4:R:9 .75:.2:R:7 1.25:.2:8:7 "
        "1.5:.4:R:8 2.5:.4:R:8 3:.4:5:7 3.5:.4:A:8"
    ),
    "gospel": (
        "0:.9:R:9 1:.6:3:7 1.667:.3:5:6 2:.9:R:8 2.667:.3:5:6 3:.6:8:7 3.667:.3:A:7|0:.9:R:9 1:.6:5:7 1.667:.3:7:6 "
        "2:.9:8:8 3:.6:5:7 3.667:.3:A:7"
    ),
    "compas": "0:2.8:R:8|0:2.8:R:7|0:1.8:R:8 2:.9:5:7|1:1.8:R:8",
    "surdo": "0:.7:R:7 .75:.2:R:5 1:.9:5:9 1.75:.2:5:6 2:.7:R:7 2.75:.2:R:5 3:.7:5:9 3.75:.2:A:6",
    "tonic": "0:4:T:6",
    "chorale": (
        "0:.97:R:8 1:.97:3:7 2:.97:R:8 3:.97:5:7|0:.97:R:8 1:.97:3:7 2:.97:R:8 3:.97:3:7|0:.97:R:8 1:.97:5:7 "
        "2:.97:R:8 3:.97:3:7|0:.97:R:8 1:.97:5:7 2:1.97:R:8"
    ),
    "march": "0:.45:R:9 1:.45:5:7 2:.45:R:8 3:.45:5:7|0:.45:R:9 1:.45:5:7 2:.45:R:8 3:.45:A:8",
    "afrobeats": (
        "0:.6:R:9 .75:.6:R:7 1.75:.4:5:7 2.5:.6:8:8 3.25:.5:5:7|0:.6:R:9 .75:.6:R:7 1.75:.4:5:7 2.5:.4:R:8 "
        "3:.7:A:8"
    ),
    "phonk": "0:1.4:R:9 1.5:.45:R:8 2:.9:8:8 3:.45:R:8 3.5:.45:A:8|0:.9:R:9 1.5:.9:R:8 2.5:.45:R:7 3:.9:5:8",
    "left-hand": "0:1.9:R:7 1:.9:5:5 2:1.9:8:6|0:1.9:R:7 2:1.9:5:6",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar as the players see it. `chords` and `voicings` have one entry, or two for half a bar each."""

    start: float
    #: Its length: that of the metre, or what the end of the piece leaves of it.
    beats: float
    chords: tuple[Chord, ...]
    voicings: tuple[tuple[int, ...], ...]
    next_root: int
    #: The key's tonic, for drones.
    tonic: int
    #: Index within its section, for patterns of more than one bar.
    index: int
    #: How loud this section is played, 1 is normal.
    dynamics: float
    #: The key's pitch classes, the tonic first.
    scale: tuple[int, ...]
    metre: Metre = METRES["4/4"]
    #: How many beats the patterns are written in.
    pattern_beats: int = 4

    @property
    def half(self) -> float:
        """Where the second half begins, counted from the bar line."""
        return self.metre.split if self.beats == self.metre.beats else self.beats / 2

    def at(self, beat: float) -> int:
        """Which of the bar's chords sounds at `beat` (counted from the bar line)."""
        return 0 if len(self.chords) == 1 or beat < self.half - 0.3 else 1


@dataclass(frozen=True, slots=True)
class _Hit:
    beat: float
    length: float
    tones: str
    loudness: int


def _hits(text: str, bar: Bar) -> tuple[_Hit, ...]:
    """What a pattern plays in `bar`."""
    pattern = _fitted(text, bar.pattern_beats, str(bar.metre))
    return pattern[bar.index % len(pattern)]


@cache
def _fitted(text: str, pattern_beats: int, metre_name: str) -> tuple[tuple[_Hit, ...], ...]:
    """The pattern in another metre than the one it is written in: each of its bars is one bar or two there."""
    metre, written = METRES[metre_name], _pattern(text)
    if metre.is_native(pattern_beats):
        return written
    bars = []
    for hits in written:
        count = len(metre.order(pattern_beats))
        fitted: list[dict[tuple[float, str], _Hit]] = [{} for _ in range(count)]
        for hit in hits:
            for bar, beat, length in fitted_times(hit.beat, hit.length, pattern_beats, metre):
                there = fitted[bar].get((round(beat, 3), hit.tones))
                if there is None or there.loudness < hit.loudness:
                    fitted[bar][round(beat, 3), hit.tones] = _Hit(beat, length, hit.tones, hit.loudness)
        bars += [tuple(sorted(bar.values(), key=lambda hit: hit.beat)) for bar in fitted]
    return tuple(bars)


@cache
def _pattern(text: str) -> tuple[tuple[_Hit, ...], ...]:
    bars = []
    for bar in text.split("|"):
        fields = (hit.split(":") for hit in bar.split())
        bars.append(tuple(_Hit(float(beat), float(length), tones, int(loud)) for beat, length, tones, loud in fields))
    return tuple(bars)


def play_chords(pattern: str, bars: Sequence[Bar], octave: int) -> list[Note]:
    """The chords of `bars` in a pattern of `COMPING`, `octave` octaves from where they are voiced."""
    text = COMPING[pattern]
    notes: list[Note] = []
    for bar in bars:
        hits = _arpeggio(text, bar) if text.startswith("arp ") else _hits(text, bar)
        for hit in hits:
            if hit.beat >= bar.beats:
                continue
            for voice, chord in _clipped(hit, bar):
                notes += _chord_notes(voice, bar, chord, octave)
    return notes


def _clipped(hit: _Hit, bar: Bar) -> list[tuple[_Hit, int]]:
    """`hit` cut at the bar line, and split where the chord changes under it."""
    length = min(hit.length, bar.beats - hit.beat)
    chord, half = bar.at(hit.beat), bar.half
    whole = _Hit(hit.beat, length, hit.tones, hit.loudness)
    if len(bar.chords) == 1 or chord == 1 or hit.beat + length <= half + 0.3:
        return [(whole, chord)]
    first = _Hit(hit.beat, half - hit.beat, hit.tones, hit.loudness)
    return [(first, 0), (_Hit(half, hit.beat + length - half, hit.tones, hit.loudness), 1)]


def _arpeggio(text: str, bar: Bar) -> tuple[_Hit, ...]:
    _, step_text, order = text.split()
    step = float(step_text)
    if bar.metre.is_compound and step < 1:
        # Eighths are thirds of the beat there, sixteenths its sixths.
        step = step * 2 / 3
    count = round(bar.beats / step)
    # Plucked notes ring over the next ones.
    ring = step * (2.5 if step >= 0.5 else 1.2)
    return tuple(
        _Hit(i * step, ring, order[i % len(order)], 7 if i * step % 2 == 0 else 6 if i * step % 1 == 0 else 5)
        for i in range(count)
    )


_STRUM_BEATS: Final = 0.02


def _chord_notes(hit: _Hit, bar: Bar, chord_index: int, octave: int) -> list[Note]:
    voicing, chord = bar.voicings[chord_index], bar.chords[chord_index]
    low_root = 40 + (chord.root - 40) % 12
    spread = 0.0
    match hit.tones:
        case "all":
            pitches = voicing
        case "roll":
            pitches, spread = voicing, _STRUM_BEATS
        case "up":
            pitches, spread = voicing[1:] if len(voicing) > 2 else voicing, _STRUM_BEATS / 2
        case "pow":
            pitches = (low_root, low_root + 7, low_root + 12)
        case "root":
            pitches = (low_root,)
        case "inner":
            pitches = tuple(pitch for pitch in voicing if pitch % 12 != chord.root)
        case "drone" | "sa" | "pa" | "high":
            low_tonic = 45 + (bar.tonic - 45) % 12
            # A scale without a pure fifth is played over its fourth, as tanpuras are tuned for such ragas.
            pa = 7 if (bar.tonic + 7) % 12 in bar.scale else 5
            steps = {"drone": (0, pa), "sa": (0,), "pa": (pa,), "high": (12,)}[hit.tones]
            pitches = tuple(low_tonic + step for step in steps)
        case digits:
            pitches = tuple(_extended(voicing, int(digit)) for digit in digits)
    fixed = hit.tones in ("pow", "root", "drone", "sa", "pa", "high")
    shift = 0 if fixed else 12 * octave
    velocity = _velocity(hit.loudness, bar.dynamics)
    return [
        Note(bar.start + hit.beat + spread * i, hit.length, pitch + shift, velocity) for i, pitch in enumerate(pitches)
    ]


def _extended(voicing: tuple[int, ...], index: int) -> int:
    return voicing[index % len(voicing)] + 12 * (index // len(voicing))


#: Lowest and highest bass notes: E1 to C3.
_BASS_LOW, _BASS_HIGH = 28, 48


def play_bass(pattern: str, bars: Sequence[Bar], octave: int, rng: np.random.Generator) -> list[Note]:
    """The bass line of `bars` in a pattern of `BASS`."""
    if BASS[pattern] == "walk":
        return _walk(bars, octave, rng)
    notes = []
    for bar in bars:
        for hit in _hits(BASS[pattern], bar):
            if hit.beat < bar.beats:
                pitch = _bass_pitch(hit.tones, bar, bar.at(hit.beat)) + 12 * octave
                length = min(hit.length, bar.beats - hit.beat)
                notes.append(Note(bar.start + hit.beat, length, pitch, _velocity(hit.loudness, bar.dynamics)))
        # The pattern may leave the second chord of a bar without its root.
        if len(bar.chords) == 2 and not any(abs(n.start - bar.start - bar.half) < 0.3 for n in notes):
            pitch = _bass_pitch("R", bar, 1) + 12 * octave
            notes.append(Note(bar.start + bar.half, 0.9, pitch, _velocity(7, bar.dynamics)))
    return notes


def _low(pitch_class: int) -> int:
    return _BASS_LOW + (pitch_class - _BASS_LOW) % 12


def _bass_pitch(tone: str, bar: Bar, chord_index: int) -> int:
    chord = bar.chords[chord_index]
    root = _low(chord.root)
    following = _low(bar.next_root)
    match tone:
        case "R":
            return root
        case "8":
            return root + 12
        case "5":
            fifth = chord.tone(2) if len(chord.intervals) > 2 else chord.root + 7
            return _nearest(fifth, root + (7 if root < 36 else -5))
        case "3":
            return _nearest(chord.tone(1) if chord.intervals[1] < 7 else chord.root + 7, root + 4)
        case "7":
            seventh = chord.intervals[3] % 12 if len(chord.intervals) > 3 else 10
            return root + (seventh if seventh >= 9 else 10)
        case "N":
            return following
        case "T":
            return _low(bar.tonic)
        case "A":
            # A semitone below from the left, a tone above from the right.
            return following - 1 if root <= following and following > _BASS_LOW else following + 2
    raise AssertionError(f"unknown bass tone {tone!r}")


def _nearest(pitch_class: int, pitch: int) -> int:
    return pitch + (pitch_class - pitch + 6) % 12 - 6


def _walk(bars: Sequence[Bar], octave: int, rng: np.random.Generator) -> list[Note]:
    """A note a beat: root first, chord tones and scale steps between, an approach note into the next bar."""
    notes = []
    pitch = _low(bars[0].chords[0].root) if bars else 0
    for bar in bars:
        count = math.ceil(bar.beats)
        for beat in range(count):
            chord = bar.chords[bar.at(beat)]
            starts_chord = beat == 0 or (len(bar.chords) == 2 and beat == int(bar.half))
            if starts_chord:
                pitch = _within(_nearest(chord.root, pitch))
            elif beat == count - 1:
                target = _within(_nearest(bar.next_root, pitch))
                pitch = target + int(rng.choice((-1, 1, 2 if (target + 2) % 12 in bar.scale else -1)))
            else:
                pitch = _step(pitch, chord, bar.scale, rng)
            velocity = _velocity(8 if beat % 2 == 0 else 7, bar.dynamics)
            length = 0.93 * min(1.0, bar.beats - beat)
            notes.append(Note(bar.start + beat, length, pitch + 12 * octave, velocity))
    return notes


def _within(pitch: int) -> int:
    while pitch < _BASS_LOW:
        pitch += 12
    while pitch > _BASS_HIGH:
        pitch -= 12
    return pitch


def _step(pitch: int, chord: Chord, scale: Sequence[int], rng: np.random.Generator) -> int:
    options = [p for p in range(max(_BASS_LOW, pitch - 5), min(_BASS_HIGH, pitch + 5) + 1) if p != pitch]
    weights = [
        3.0 if p % 12 in chord.pitch_classes else 1.0 if p % 12 in scale and abs(p - pitch) <= 2 else 0.0
        for p in options
    ]
    total = sum(weights)
    return int(rng.choice(options, p=[weight / total for weight in weights]))


def _velocity(loudness: int, dynamics: float) -> int:
    return as_velocity(loudness / 9 * 112 * dynamics, 12, 124)
