"""Score → stereo PCM, block by block, with every filter's state carried from block to block.

Levels are set before the first sample is heard: `levels.py` knows how loud each preset is, so each part's loudness is
computed from its notes and its fader follows from that. Nothing is normalised afterwards, because a stream can't.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from heapq import merge
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter, sosfilt

from orchestrion.audio.pcm import Pcm
from orchestrion.models.composer.band.players import ORCHESTRA_KIT
from orchestrion.models.composer.band.seating import recipe_drums
from orchestrion.models.composer.chance import seeded
from orchestrion.models.composer.composition.drums import CHOKES, KICK
from orchestrion.models.composer.composition.plan import Plan
from orchestrion.models.composer.composition.recipes import Recipe, Voice
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.score import Instrument, Note, Part, Score
from orchestrion.models.composer.sound.electronic import RISER
from orchestrion.models.composer.sound.levels import NOTE_LUFS, STYLE_TRIM_DB
from orchestrion.models.composer.sound.synth import ELECTRONIC_BANK, RELEASE_S, SAMPLE_RATE_HZ, Mono, NoteSynth

#: Samples of one chunk: 0.25 s.
BLOCK: Final = 11_025
#: What the unmastered mix is calibrated to.
TARGET_LUFS: Final = -18.0
#: Each role's loudness in the mix while it plays, in LUFS, before the recipe's own level.
ROLE_LUFS: Final = {
    "drums": -21.0, "bass": -24.5, "lead": -21.5, "counter": -25.5, "comp": -24.5, "comp2": -26.0, "comp3": -27.0,
    "arp": -26.5, "brass": -26.0, "riser": -27.0, "pad": -26.0, "pad2": -27.5, "pad3": -29.0,
    "percussion": -24.0, "timpani": -24.0,
}  # fmt: skip
#: Roles with something to say below this; the others' rumble is cut, so that kick and bass stay clear.
_LOW_ROLES: Final = frozenset({"drums", "bass", "timpani"})
_HIGH_PASS_HZ: Final = 110.0
#: The kick pushes these aside in recipes that duck; drums and lead stay in front.
_NOT_DUCKED: Final = frozenset({"drums", "lead", "percussion", "timpani"})
#: The last moment of the track is silent; the ring fades over this long, or a fifth of a short track.
_FADE_S: Final = 1.2
#: What dynamics do to the level, at the start and at the end, in dB; players touch their notes accordingly as well.
_DYNAMICS_DB: Final = {"soft": (-6.0, -6.0), "loud": (2.0, 2.0), "crescendo": (-10.0, 2.0), "diminuendo": (2.0, -10.0)}
#: What is heard of a loop before its beginning: all that still rings from its end. In chunks.
_LEAD_IN: Final = 36
#: The background noise of a loop is joined over this many samples.
_JOIN: Final = 4096

_Block = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Hit:
    """A note as the mixer plays it."""

    start: int
    note: Note
    length_s: float
    left: float
    right: float
    #: Where a hi-hat is choked, in samples from the start; 0: never.
    choke: int


@dataclass(slots=True)
class _Sounding:
    pcm: Mono
    at: int
    left: float
    right: float


@dataclass(slots=True)
class _Strip:
    """One part's channel strip: its hits to come, in order of time, and its sounding notes."""

    part: Part
    voice: Voice
    hits: Iterator[_Hit]
    upcoming: _Hit | None = None
    has_begun: bool = False
    sounding: list[_Sounding] = field(default_factory=list)

    def block(self, start: int, samples: int, synth: NoteSynth) -> _Block | None:
        """[2, samples] of this part from `start` on; None while it is silent."""
        if not self.has_begun:
            self.upcoming, self.has_begun = next(self.hits, None), True
        while self.upcoming is not None and self.upcoming.start < start + samples:
            self._begin(self.upcoming, synth)
            self.upcoming = next(self.hits, None)
        if not self.sounding:
            return None
        out = np.zeros((2, samples), np.float32)
        still = []
        for sound in self.sounding:
            first = max(0, sound.at - start)
            offset = max(0, start - sound.at)
            piece = sound.pcm[offset : offset + samples - first]
            out[0, first : first + len(piece)] += piece * np.float32(sound.left)
            out[1, first : first + len(piece)] += piece * np.float32(sound.right)
            if sound.at + len(sound.pcm) > start + samples:
                still.append(sound)
        self.sounding = still
        return _driven(out, self.voice.drive) if self.voice.drive else out

    def _begin(self, hit: _Hit, synth: NoteSynth) -> None:
        pcm = synth.note(self.part.instrument, hit.note.pitch, hit.note.velocity, hit.length_s)
        if hit.choke:
            pcm = _choked(pcm, hit.choke)
        self.sounding.append(_Sounding(pcm, hit.start, hit.left, hit.right))


def _choked(pcm: Mono, at: int) -> Mono:
    end = min(len(pcm), at + 600)
    cut = pcm[:end].copy()
    if end > at:
        cut[at:] *= np.linspace(1.0, 0.0, end - at, dtype=np.float32)
    return cut


#: Peak level that `_driven` brings to the knee of the curve.
_DRIVE_KNEE: Final = 0.12


def _driven(block: _Block, drive: float) -> _Block:
    """Soft saturation: small signals pass unchanged, loud ones are rounded; above 1 all is pushed into the curve."""
    knee, push = np.float32(_DRIVE_KNEE / min(drive, 1.0)), np.float32(max(drive, 1.0))
    driven: _Block = knee * np.tanh(block * push / knee)
    return driven


def mix(plan: Plan, score: Score, synth: NoteSynth) -> Iterator[Pcm]:
    """The whole track in chunks of 0.25 s; together exactly round(duration · 44 100) samples.

    A loop is played from some way before its beginning, so that what rings on at its end is there when it begins.
    """
    total = round(plan.duration_s * SAMPLE_RATE_HZ)
    strips = _strips(plan, score, total)
    bus = _Bus(plan, score, total)
    if plan.is_loop:
        for start in range(-_LEAD_IN * BLOCK, 0, BLOCK):
            bus.process(strips, start, BLOCK, synth)
    for start in range(0, total, BLOCK):
        yield bus.process(strips, start, min(BLOCK, total - start), synth)


def expected_lufs(plan: Plan) -> float:
    """How loud the mix of a plan will be, about."""
    if plan.asked.dynamics is None:
        return TARGET_LUFS
    first_db, last_db = _DYNAMICS_DB[plan.asked.dynamics]
    levels = 10 ** (np.linspace(first_db, last_db, 64) / 10)
    return TARGET_LUFS + 10 * math.log10(float(levels.mean()))


def _strips(plan: Plan, score: Score, total: int) -> list[_Strip]:
    voices = {voice.role: voice for voice in plan.band.voices}
    voices["riser"] = Voice("riser", RISER, "", send=0.3)
    voices["drums"] = Voice("drums", plan.recipe.kit, "", plan.recipe.drums_level, 0.0, plan.recipe.drums_send)
    voices["percussion"] = Voice("percussion", 0, "", 0.0, 0.0, 0.15)
    voices["timpani"] = Voice("timpani", ORCHESTRA_KIT, "", 0.0, 0.0, 0.35)
    return [
        _Strip(part, voices[part.role], _around(_hits(score, part, voices[part.role]), plan, total))
        for part in score.parts
    ]


def _around(hits: Iterator[_Hit], plan: Plan, total: int) -> Iterator[_Hit]:
    """The hits of a track; of a loop also those of the rounds before that are still heard in it."""
    if not plan.is_loop:
        return hits
    once = list(hits)
    begins = -_LEAD_IN * BLOCK
    longest = max((_heard(hit) for hit in once), default=0)
    rounds = [
        [
            replace(hit, start=hit.start - number * total)
            for hit in once
            if hit.start - number * total + _heard(hit) > begins
        ]
        for number in range(math.ceil((longest - begins) / total), -1, -1)
    ]
    return merge(*rounds, key=lambda hit: hit.start)


def _heard(hit: _Hit) -> int:
    """How long a hit is heard at most, in samples."""
    return round((hit.length_s + RELEASE_S) * SAMPLE_RATE_HZ)


def _hits(score: Score, part: Part, voice: Voice) -> Iterator[_Hit]:
    """What a part plays, echoes included, in order of time; worked out as it is needed, for a listener waits."""
    gain = 10 ** ((ROLE_LUFS[part.role] + voice.level - part_lufs(score, part)) / 20)
    repeats = [_repeated(score, part, voice, gain, repeat) for repeat in range(4 if voice.echo else 1)]
    return merge(*repeats, key=lambda hit: hit.start)


def _repeated(score: Score, part: Part, voice: Voice, gain: float, repeat: int) -> Iterator[_Hit]:
    """The notes (`repeat` 0) or their first, second or third echo."""
    delay_s = repeat * 0.75 * 60 / score.tempo.bpm
    for number, note in enumerate(part.notes):
        start_s = score.tempo.seconds(note.start)
        length_s = score.tempo.seconds(note.start + note.length) - start_s
        level = gain * touch(part.instrument, note.velocity)
        if repeat:
            # The echo bounces between the sides.
            level *= voice.echo**repeat
            left, right = (0.35, 1.0) if repeat % 2 else (1.0, 0.35)
        else:
            left, right = _placed(part, voice, note, number)
        choke = 0 if repeat else _choke(score, part, number, start_s)
        start = round((start_s + delay_s) * SAMPLE_RATE_HZ)
        yield _Hit(start, note, length_s, level * left, level * right, choke)


#: Where the pieces of a kit stand, seen by the listener.
_KIT_PAN: Final = {42: 0.3, 44: 0.3, 46: 0.3, 49: -0.4, 51: -0.35, 53: -0.35, 57: 0.45, 48: 0.25, 45: -0.05, 43: -0.3,
                   41: -0.45, 54: 0.45, 56: -0.3, 60: 0.4, 61: 0.5, 62: -0.4, 63: -0.35, 64: -0.5, 65: 0.3, 69: 0.55,
                   70: -0.55, 75: 0.2, 81: 0.5, 37: -0.1, 39: 0.1}  # fmt: skip
#: Parts whose chord tones stand at different places.
_WIDE_ROLES: Final = frozenset({"pad", "pad2", "pad3", "comp", "comp2", "comp3", "arp", "brass"})


def _placed(part: Part, voice: Voice, note: Note, number: int) -> tuple[float, float]:
    """Gains left and right: constant power, kit pieces and chord tones spread."""
    if part.instrument.is_drums:
        pan = _KIT_PAN.get(note.pitch, 0.0)
    elif part.role in _WIDE_ROLES:
        pan = voice.pan + 0.32 * (1 if number % 2 else -1) * (1 - abs(voice.pan))
    else:
        pan = voice.pan
    angle = (pan + 1) * math.pi / 4
    return math.cos(angle), math.sin(angle)


def _choke(score: Score, part: Part, number: int, start_s: float) -> int:
    note = part.notes[number]
    if not part.instrument.is_drums or note.pitch not in CHOKES:
        return 0
    again = part.notes if score.is_loop else ()
    for later in chain(part.notes[number + 1 :], again):
        # What follows at the end of a loop is its beginning.
        start = later.start if later.start >= note.start else later.start + score.end_beat
        if start - note.start > 2:
            return 0
        if later.pitch in CHOKES[note.pitch] and start > note.start:
            return max(1, round((score.tempo.seconds(start) - start_s) * SAMPLE_RATE_HZ))
    return 0


def touch(instrument: Instrument, velocity: int) -> float:
    """The gain that a velocity gives a synthesised voice; sampled ones have it in their notes."""
    return (velocity / 100) ** 1.5 if instrument.bank == ELECTRONIC_BANK else 1.0


def part_lufs(score: Score, part: Part) -> float:
    """How loud `part` is while it plays, in LUFS at unity gain, computed from its notes.

    Each note brings the K-weighted energy that was measured for its preset; energies add, and the sum is spread over
    the beats in which the part plays at all.
    """
    energy, seconds_per_beat = 0.0, 60 / score.tempo.bpm
    last = math.ceil(score.end_beat) if score.is_loop else None
    active: set[int] = set()
    for note in part.notes:
        lufs = note_lufs(part, note)
        length_s = 0.4 if part.instrument.is_drums else max(0.15, note.length * seconds_per_beat)
        energy += 10 ** ((lufs + 0.691) / 10) * length_s
        beats = range(int(note.start), int(note.start + max(1.0, note.length) - 1e-6) + 1)
        # What rings on after the end of a loop sounds at its beginning.
        active.update(beats if last is None else (beat % last for beat in beats))
    seconds = max(0.25, len(active) * seconds_per_beat)
    return 10 * math.log10(max(energy / seconds, 1e-12)) - 0.691


def note_lufs(part: Part, note: Note) -> float:
    """Loudness of one note while it sounds: the preset's figure at velocity 100, moved by the velocity."""
    slope = 30 if part.instrument.bank == ELECTRONIC_BANK else 40
    return _preset_lufs(part.instrument, note.pitch) + slope * math.log10(note.velocity / 100)


@cache
def _preset_lufs(instrument: Instrument, pitch: int) -> float:
    table = NOTE_LUFS[f"{instrument.bank}:{instrument.program}"]
    return table[min(table, key=lambda measured: (abs(measured - pitch), measured))]


class _Bus:
    """Everything after the strips: ducking, reverb, tone, glue compression, the final fade."""

    def __init__(self, plan: Plan, score: Score, total: int) -> None:
        self._recipe = plan.recipe
        self._total = total
        self._is_loop = plan.is_loop
        self._dynamics_db = _DYNAMICS_DB[plan.asked.dynamics] if plan.asked.dynamics is not None else None
        self._gain = np.float32(10 ** ((STYLE_TRIM_DB.get(plan.style, 0.0) + _band_db(plan)) / 20))
        self._kicks = _kicks(score) if plan.recipe.duck else np.zeros(0, np.int64)
        if plan.is_loop and len(self._kicks):
            rounds = range(math.ceil(_LEAD_IN * BLOCK / total), -1, -1)
            self._kicks = np.sort(np.concatenate([self._kicks - number * total for number in rounds]))
        self._reverb = _Reverb(plan.recipe.reverb_s)
        self._high_pass = butter(2, _HIGH_PASS_HZ, "high", fs=SAMPLE_RATE_HZ, output="sos")
        self._high_pass_state = np.zeros((1, 3, 2))
        self._tone = _tone_sections(plan.recipe)
        self._tone_state = np.zeros((len(self._tone), 2, 2))
        self._level_state = np.zeros(1)
        self._crackle = _crackle(plan.style, plan.recipe.crackle) if plan.recipe.crackle else None

    def process(self, strips: Sequence[_Strip], start: int, samples: int, synth: NoteSynth) -> Pcm:
        """The finished samples [samples, 2] from `start` on."""
        low = np.zeros((3, samples), np.float32)  # left, right, reverb send
        high = np.zeros((3, samples), np.float32)
        duck = self._ducking(start, samples)
        for strip in strips:
            block = strip.block(start, samples, synth)
            if block is None:
                continue
            if duck is not None and strip.part.role not in _NOT_DUCKED:
                block *= duck
            group = low if strip.part.role in _LOW_ROLES else high
            group[:2] += block
            if strip.voice.send:
                group[2] += (block[0] + block[1]) * np.float32(0.7 * strip.voice.send)
        high, self._high_pass_state = sosfilt(self._high_pass, high, axis=1, zi=self._high_pass_state)
        mixed = low + high
        out = mixed[:2] + self._reverb.process(mixed[2])
        if self._crackle is not None:
            out += self._noise(self._crackle, start, samples)
        out, self._tone_state = sosfilt(self._tone, out, axis=1, zi=self._tone_state)
        out = _soft_clipped(self._glued(out) * self._gain)
        if self._dynamics_db is not None:
            place = np.arange(start, start + samples) / self._total
            out *= 10 ** (np.interp(place, (0.0, 1.0), self._dynamics_db) / 20)
        if not self._is_loop:
            _fade_edges(out, start, self._total)
        return np.ascontiguousarray(out.T, np.float32)

    def _noise(self, record: npt.NDArray[np.float32], start: int, samples: int) -> npt.NDArray[np.float32]:
        """The background noise; that of a loop turns at its end into what is heard before its beginning."""
        places = np.arange(start, start + samples)
        noise = record[places % len(record)]
        if self._is_loop and start + samples > self._total - _JOIN:
            share = np.clip((places - (self._total - _JOIN)) / _JOIN, 0.0, 1.0).astype(np.float32)
            noise = noise * (1 - share) + record[(places - self._total) % len(record)] * share
        return noise

    def _ducking(self, start: int, samples: int) -> _Block | None:
        if not len(self._kicks):
            return None
        last = np.searchsorted(self._kicks, np.arange(start, start + samples), "right") - 1
        since = np.where(last >= 0, np.arange(start, start + samples) - self._kicks[np.maximum(last, 0)], 10**9)
        envelope = 1 - self._recipe.duck * np.exp(-since / (0.11 * SAMPLE_RATE_HZ))
        # 4 ms of attack keep the gain from stepping.
        attack = np.minimum(1.0, since / (0.004 * SAMPLE_RATE_HZ))
        ducked: _Block = (1 + (envelope - 1) * attack).astype(np.float32)
        return ducked

    def _glued(self, block: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Bus compression above −24 dBFS RMS over 25 ms; 2.5:1 at full glue."""
        power = (block**2).mean(0)
        pole = math.exp(-1 / (0.025 * SAMPLE_RATE_HZ))
        level, self._level_state = lfilter([1 - pole], [1, -pole], power, zi=self._level_state)
        gain = np.minimum(1.0, (np.maximum(level, 1e-12) / _GLUE_POWER) ** (-0.3 * self._recipe.glue))
        glued: npt.NDArray[np.float64] = block * gain
        return glued


def _band_db(plan: Plan) -> float:
    """What another band than the style's own needs to be as loud as that, from the usual levels of their parts."""
    if not plan.has_asked_band:
        return 0.0
    recipe = plan.recipe
    own = [(voice.role, voice.level) for voice in recipe.voices] + [
        (percussion.role, recipe.drums_level) for percussion in recipe_drums(recipe)
    ]
    playing = [(voice.role, voice.level) for voice in plan.band.voices if not voice.joins] + [
        (percussion.role, recipe.drums_level if percussion.role == "drums" else 0.0)
        for percussion in plan.band.percussion
    ]
    return 10 * math.log10(_power(own) / _power(playing))


def _power(levels: Sequence[tuple[str, float]]) -> float:
    return sum(10 ** ((ROLE_LUFS[role] + level) / 10) for role, level in levels)


_GLUE_POWER: Final = 10 ** (-24 / 10)


_CLIP_KNEE: Final = 0.22


def _soft_clipped(block: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Peaks above the knee are rounded, at most to twice the knee: 11 dB over the loudness of the mix."""
    size = np.abs(block)
    over = size > _CLIP_KNEE
    if over.any():
        block = block.copy()
        block[over] = np.sign(block[over]) * _CLIP_KNEE * (1 + np.tanh(size[over] / _CLIP_KNEE - 1))
    return block


def _fade_edges(block: npt.NDArray[np.float64], start: int, total: int) -> None:
    """Fade the track's first 64 samples in and its ring out, in place."""
    fade = max(1, round(min(_FADE_S, 0.2 * total / SAMPLE_RATE_HZ) * SAMPLE_RATE_HZ))
    samples = block.shape[1]
    if start == 0:
        block[:, :64] *= np.linspace(0, 1, 64)[: min(64, samples)]
    if start + samples > total - fade:
        to_end = np.clip((total - 1 - np.arange(start, start + samples)) / fade, 0, 1)
        block *= np.sin(to_end * math.pi / 2) ** 2


def _kicks(score: Score) -> npt.NDArray[np.int64]:
    drums = score.part("drums")
    notes = drums.notes if drums is not None else ()
    return np.array([round(score.tempo.seconds(n.start) * SAMPLE_RATE_HZ) for n in notes if n.pitch == KICK], np.int64)


#: Every mix is tilted by these shelves (Hz, dB) towards the balance of finished records: sampled instruments are
#: recorded close and bright. Chosen so that the mean spectrum of all styles meets that of the reference tracks.
_HOUSE_TREBLE: Final = (1100.0, -5.0)
_HOUSE_BASS: Final = (250.0, 2.0)
#: … and the air that the first shelf took is given back above this.
_HOUSE_AIR: Final = (7500.0, 2.5)


def _tone_sections(recipe: Recipe) -> npt.NDArray[np.float64]:
    sections = [butter(2, 36, "high", fs=SAMPLE_RATE_HZ, output="sos")]
    sections.append(_shelf(_HOUSE_TREBLE[0], _HOUSE_TREBLE[1], high=True))
    sections.append(_shelf(_HOUSE_AIR[0], _HOUSE_AIR[1], high=True))
    sections.append(_shelf(_HOUSE_BASS[0], _HOUSE_BASS[1], high=False))
    sections.append(_shelf(3000, recipe.treble_db, high=True))
    sections.append(_shelf(150, recipe.bass_db, high=False))
    if recipe.low_pass_hz:
        sections.append(butter(2, recipe.low_pass_hz, "low", fs=SAMPLE_RATE_HZ, output="sos"))
    return np.concatenate(sections)


def _shelf(frequency_hz: float, gain_db: float, *, high: bool) -> npt.NDArray[np.float64]:
    """A shelving biquad (R. Bristow-Johnson, "Audio EQ Cookbook", slope 0.7)."""
    amplitude = 10 ** (gain_db / 40)
    omega = 2 * math.pi * frequency_hz / SAMPLE_RATE_HZ
    alpha = math.sin(omega) / 2 * math.sqrt((amplitude + 1 / amplitude) * (1 / 0.7 - 1) + 2)
    sign = 1 if high else -1
    cosine, root = sign * math.cos(omega), 2 * math.sqrt(amplitude) * alpha
    b = [
        amplitude * ((amplitude + 1) + (amplitude - 1) * cosine + root),
        sign * -2 * amplitude * ((amplitude - 1) + (amplitude + 1) * cosine),
        amplitude * ((amplitude + 1) + (amplitude - 1) * cosine - root),
    ]
    a = [
        (amplitude + 1) - (amplitude - 1) * cosine + root,
        sign * 2 * ((amplitude - 1) - (amplitude + 1) * cosine),
        (amplitude + 1) - (amplitude - 1) * cosine - root,
    ]
    return np.array([[b[0] / a[0], b[1] / a[0], b[2] / a[0], 1.0, a[1] / a[0], a[2] / a[0]]])


class _Reverb:
    """Uniformly partitioned convolution with a synthetic room; state is the spectra of the last blocks."""

    def __init__(self, decay_s: float) -> None:
        self._partitions = _room(decay_s)  # [partitions, 2, bins]
        self._past: list[npt.NDArray[np.complex64]] = []
        self._tail = np.zeros((2, BLOCK), np.float32)

    def process(self, send: npt.NDArray[np.float64]) -> _Block:
        """The wet signal [2, samples] for `send` [samples]; only a track's last block may be shorter than `BLOCK`."""
        samples = len(send)
        padded = np.zeros(2 * BLOCK, np.float32)
        padded[:samples] = send
        self._past.insert(0, np.fft.rfft(padded).astype(np.complex64, copy=False))
        del self._past[len(self._partitions) :]
        spectrum = self._past[0] * self._partitions[0]
        for past, partition in zip(self._past[1:], self._partitions[1:], strict=False):
            spectrum += past * partition
        wet: _Block = np.fft.irfft(spectrum, 2 * BLOCK, axis=1).astype(np.float32, copy=False)
        out: _Block = wet[:, :BLOCK] + self._tail
        self._tail = wet[:, BLOCK:]
        return out[:, :samples]


def warm_up() -> None:
    """Compute the rooms and worn records of all recipes now, so that no first chunk waits for one."""
    for style, recipe in RECIPES.items():
        _room(recipe.reverb_s)
        if recipe.crackle:
            _crackle(style, recipe.crackle)


@cache
def _room(decay_s: float) -> npt.NDArray[np.complex64]:
    """Spectra of a room's impulse response: noise in four bands that decay at their own pace, after 14 ms."""
    rng = seeded("room", f"{decay_s:.2f}")
    samples = math.ceil(decay_s * 1.1 * SAMPLE_RATE_HZ / BLOCK) * BLOCK
    time_s = np.arange(samples) / SAMPLE_RATE_HZ
    response = np.zeros((2, samples))
    for low_hz, high_hz, share in ((150, 600, 1.0), (600, 2000, 0.9), (2000, 5000, 0.6), (5000, 10000, 0.35)):
        band = butter(2, [low_hz, high_hz], "band", fs=SAMPLE_RATE_HZ, output="sos")
        noise = sosfilt(band, rng.standard_normal((2, samples)), axis=1)
        response += noise * np.exp(-6.9 * time_s / (decay_s * share))
    response[:, : round(0.014 * SAMPLE_RATE_HZ)] = 0
    # A real room's sides are alike in part: correlation 0.4.
    response = response + 0.25 * response[::-1]
    response /= np.sqrt((response**2).sum(1)).mean()
    parts = response.reshape(2, -1, BLOCK).transpose(1, 0, 2)
    spectra: npt.NDArray[np.complex64] = np.fft.rfft(parts, 2 * BLOCK, axis=2).astype(np.complex64)
    return spectra


@cache
def _crackle(style: str, level: float) -> npt.NDArray[np.float32]:
    """Ten seconds of a worn record: hiss and sparse clicks, [samples], looped."""
    rng = seeded("crackle", style)
    samples = 10 * SAMPLE_RATE_HZ
    clicks = (rng.random(samples) < 4e-5) * rng.standard_normal(samples) * 12
    noise = 0.12 * rng.standard_normal(samples) + clicks
    band = butter(1, [400, 6000], "band", fs=SAMPLE_RATE_HZ, output="sos")
    record: npt.NDArray[np.float32] = (level * sosfilt(band, noise)).astype(np.float32)
    return record
