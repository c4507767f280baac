"""Synthesised voices for what a sampled General MIDI font does badly: wide saws, sub bass, acid, chip sounds, risers.

Saws are band-limited by polynomial correction at their jumps (Välimäki and Huovilainen, 2007), so high notes don't
alias. A voice is a function of pitch and length only; loudness is the mixer's business, so notes repeat from the
cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt

from orchestrion.models.composer.chance import seeded

SAMPLE_RATE_HZ: Final = 44_100
#: One turn of a phase.
_TURN: Final = 2**32
_Samples = npt.NDArray[np.float64]

SUPERSAW, PLUCK, ANALOG_PAD, SUB_BASS, REESE_BASS, ACID_BASS, PULSE, TRIANGLE, RISER = range(200, 209)
WOBBLE_BASS, TANPURA, COWBELL, SLOW_DRONE = range(209, 213)


@dataclass(frozen=True, slots=True)
class ElectronicVoice:
    """A synthesised voice: its name, the General MIDI program that stands for it in a MIDI file, and its maker."""

    name: str
    midi_program: int
    make: Callable[[float, float], _Samples]


def render(program: int, pitch: int, hold_s: float) -> npt.NDArray[np.float32]:
    """One note: [samples] float32, about −20 dBFS RMS, held `hold_s` seconds and then released."""
    frequency_hz = 440.0 * 2 ** ((pitch - 69) / 12)
    return VOICES[program].make(frequency_hz, hold_s).astype(np.float32)


def _time(seconds: float) -> _Samples:
    return np.arange(max(1, round(seconds * SAMPLE_RATE_HZ))) / SAMPLE_RATE_HZ


def _envelope(samples: int, hold_s: float, attack_s: float, release_s: float, decay_s: float = 0.0) -> _Samples:
    """Linear attack, optional exponential decay, exponential release that ends at zero."""
    time_s = np.arange(samples) / SAMPLE_RATE_HZ
    shape: _Samples = np.minimum(1.0, time_s / attack_s)
    if decay_s:
        shape = shape * np.exp(-time_s / decay_s)
    released = np.clip(time_s - hold_s, 0, None) / release_s
    shape = shape * np.exp(-4 * released)
    end = min(samples, 441)
    shape[-end:] *= np.linspace(1, 0, end)
    return shape


def _saw(frequency_hz: float, samples: int, phase: float) -> _Samples:
    # The phase is a 32-bit integer that wraps by itself: a pad chord is 28 saws of several seconds, and a listener
    # waits for them.
    step = round(frequency_hz / SAMPLE_RATE_HZ * _TURN)
    position = np.arange(samples, dtype=np.uint32) * np.uint32(step) + np.uint32(round(phase * _TURN) % _TURN)
    wave = np.asarray(position * (2.0 / _TURN) - 1.0, np.float64)
    after = np.flatnonzero(position < step)
    before = np.flatnonzero(position > _TURN - step)
    x = position[after] / step
    wave[after] -= 2 * x - x * x - 1
    x = (position[before] - float(_TURN)) / step
    wave[before] -= x * x + 2 * x + 1
    return wave


def _saws(frequency_hz: float, samples: int, cents: Sequence[float]) -> _Samples:
    """Detuned saws at fixed, unrelated phases."""
    phases = (0.0, 0.37, 0.71, 0.13, 0.59, 0.83, 0.29)
    total = np.zeros(samples)
    for detune, phase in zip(cents, phases, strict=False):
        total += _saw(frequency_hz * 2 ** (detune / 1200), samples, phase)
    return total / math.sqrt(len(cents))


def _low_passed(wave: _Samples, cutoff_hz: float) -> _Samples:
    sections = butter(2, min(cutoff_hz, 18_000), "low", fs=SAMPLE_RATE_HZ, output="sos")
    filtered: _Samples = sosfilt(sections, wave)
    return filtered


def _supersaw(frequency_hz: float, hold_s: float) -> _Samples:
    release_s = 0.35
    samples = round((hold_s + release_s) * SAMPLE_RATE_HZ)
    wave = _saws(frequency_hz, samples, (0, -7, 7, -13, 13, -20, 20))
    return 0.16 * _low_passed(wave, 5500) * _envelope(samples, hold_s, 0.006, release_s)


def _pluck(frequency_hz: float, hold_s: float) -> _Samples:
    samples = round(max(0.45, hold_s + 0.2) * SAMPLE_RATE_HZ)
    wave = _saws(frequency_hz, samples, (0, -9, 9))
    bright = _envelope(samples, hold_s, 0.002, 0.3, 0.06)
    dark = _envelope(samples, hold_s, 0.002, 0.3, 0.22)
    return 0.32 * (_low_passed(wave, 7000) * bright + 0.8 * _low_passed(wave, 1100) * dark)


def _analog_pad(frequency_hz: float, hold_s: float) -> _Samples:
    release_s = 0.9
    samples = round((hold_s + release_s) * SAMPLE_RATE_HZ)
    wave = _saws(frequency_hz, samples, (0, -6, 6, -11, 11))
    attack_s = min(0.25, hold_s / 2)
    return 0.2 * _low_passed(wave, 1500) * _envelope(samples, hold_s, attack_s, release_s)


def _sub_bass(frequency_hz: float, hold_s: float) -> _Samples:
    """The long kick of a drum machine: a sine that falls to its pitch, pushed until small speakers hear it."""
    time_s = _time(hold_s + 0.15)
    glide = frequency_hz * (1 + 1.8 * np.exp(-time_s / 0.018))
    phase = 2 * np.pi * np.cumsum(glide) / SAMPLE_RATE_HZ
    body = np.sin(phase) * _envelope(len(time_s), hold_s, 0.003, 0.15, 1.3)
    return 0.3 * np.tanh(2.2 * body) + 0.05 * np.sin(2 * phase) * np.abs(body)


def _reese_bass(frequency_hz: float, hold_s: float) -> _Samples:
    samples = round((hold_s + 0.12) * SAMPLE_RATE_HZ)
    wave = _low_passed(_saws(frequency_hz, samples, (0, -17, 17)), 700)
    sub = np.sin(2 * np.pi * frequency_hz * np.arange(samples) / SAMPLE_RATE_HZ)
    return (0.22 * wave + 0.14 * sub) * _envelope(samples, hold_s, 0.006, 0.12)


def _acid_bass(frequency_hz: float, hold_s: float) -> _Samples:
    """A saw whose resonant filter falls: harmonics weighted by how near they lie to the moving cutoff."""
    time_s = _time(hold_s + 0.1)
    # The first harmonic's place against the cutoff, squared.
    place = (frequency_hz / (250 + 1900 * np.exp(-time_s / 0.09))) ** 2
    total = np.zeros(len(time_s))
    for harmonic, partial in enumerate(_partials(frequency_hz, time_s, min(40, int(9000 / frequency_hz))), 1):
        near = harmonic**2 * place
        weight = 1 / np.sqrt((1 - near) ** 2 + 0.22**2 * near)
        total += np.minimum(weight, 4.5) / harmonic * partial
    return 0.16 * np.tanh(0.9 * total) * _envelope(len(time_s), hold_s, 0.003, 0.1)


def _pulse(frequency_hz: float, hold_s: float) -> _Samples:
    """A pulse of a quarter's width with a little late vibrato, as the consoles had it."""
    samples = round((hold_s + 0.03) * SAMPLE_RATE_HZ)
    wave = _saw(frequency_hz, samples, 0.0) - _saw(frequency_hz, samples, 0.25)
    return 0.16 * wave * _envelope(samples, hold_s, 0.002, 0.04, 1.5)


def _triangle(frequency_hz: float, hold_s: float) -> _Samples:
    """A triangle in sixteen steps, as the consoles had it."""
    time_s = _time(hold_s + 0.02)
    wave = 2 * np.abs(2 * (time_s * frequency_hz % 1.0) - 1) - 1
    return 0.3 * np.round(wave * 7.5) / 7.5 * _envelope(len(time_s), hold_s, 0.002, 0.03)


def _riser(_: float, hold_s: float) -> _Samples:
    """Noise that grows and brightens over its length: a new section is coming."""
    time_s = _time(hold_s + 0.05)
    noise = seeded("riser").standard_normal(len(time_s))
    progress = np.clip(time_s / hold_s, 0, 1)
    total = np.zeros(len(time_s))
    centres_hz = (300, 600, 1200, 2400, 4800, 9000)
    for place, centre_hz in zip(np.linspace(0, 1, len(centres_hz)), centres_hz, strict=True):
        band = butter(2, [centre_hz / 1.5, centre_hz * 1.5], "band", fs=SAMPLE_RATE_HZ, output="sos")
        total += sosfilt(band, noise) * np.exp(-(((progress - place) / 0.25) ** 2))
    return 0.25 * total * progress**2 * _envelope(len(time_s), hold_s, 0.01, 0.03)


def _partials(frequency_hz: float, time_s: _Samples, count: int) -> Iterator[_Samples]:
    """The first `count` harmonics, each from the two before it: 2 cos x · sin nx = sin (n + 1)x + sin (n − 1)x."""
    turn = 2 * np.pi * frequency_hz * time_s
    doubled, before, partial = 2 * np.cos(turn), np.zeros(len(time_s)), np.sin(turn)
    for _ in range(count):
        yield partial
        before, partial = partial, doubled * partial - before


def _slow_times(time_s: _Samples) -> _Samples:
    """Every five milliseconds of `time_s`: often enough for what swells and dies slowly."""
    return np.arange(0.0, time_s[-1] + 0.01, 0.005)


#: Wobbles a second that a held note comes nearest to: eighths at 140 bpm. Notes of a beat and less wobble in triplets.
_WOBBLE_HZ: Final = 4.67
_TRIPLET_HOLD_S: Final = 0.6


def _wobble_bass(frequency_hz: float, hold_s: float) -> _Samples:
    """Saws behind a filter that a slow oscillator opens and closes a whole number of times while the note is held."""
    samples = round((hold_s + 0.06) * SAMPLE_RATE_HZ)
    time_s = np.arange(samples) / SAMPLE_RATE_HZ
    rate_hz = _WOBBLE_HZ if hold_s > _TRIPLET_HOLD_S else 1.5 * _WOBBLE_HZ
    cycles = max(1, int(rate_hz * hold_s + 0.25))
    wave = _saws(frequency_hz, samples, (0, -14, 14)) + 0.6 * _saw(2 * frequency_hz, samples, 0.21)
    opening = (0.5 - 0.5 * np.cos(2 * np.pi * cycles * np.minimum(time_s / hold_s, 1.0))) ** 1.5
    cutoffs_hz = (160, 420, 1000, 2300, 5000)
    place = opening * (len(cutoffs_hz) - 1)
    total = np.zeros(samples)
    for number, cutoff_hz in enumerate(cutoffs_hz):
        total += np.clip(1 - np.abs(place - number), 0, 1) * _low_passed(wave, cutoff_hz)
    sub = np.sin(2 * np.pi * frequency_hz * time_s)
    return (0.2 * np.tanh(1.6 * total) + 0.16 * sub) * _envelope(samples, hold_s, 0.004, 0.06)


#: How long a plucked string of the tanpura is heard: it rings on while the next ones are plucked.
_TANPURA_S: Final = 3.6


def _tanpura(frequency_hz: float, hold_s: float) -> _Samples:
    """A long string over a flat bridge: its partials speak one after the other, the low ones first, and die slowly."""
    time_s = _time(max(_TANPURA_S, hold_s + 0.5))
    slow_s = _slow_times(time_s)
    total = np.zeros(len(time_s))
    for number, partial in enumerate(_partials(frequency_hz, time_s, min(28, int(7000 / frequency_hz))), 1):
        peak_s = 0.004 + 0.045 * (number - 1)
        swell = np.exp(-(((slow_s - peak_s) / (0.12 + 0.03 * number)) ** 2))
        ring = np.exp(-slow_s / (2.2 / number**0.4))
        total += np.interp(time_s, slow_s, (0.35 * ring + 0.65 * swell) / number**0.7) * partial
    return 0.12 * total * _envelope(len(time_s), max(_TANPURA_S - 0.4, hold_s), 0.004, 0.4)


def _cowbell(frequency_hz: float, hold_s: float) -> _Samples:
    """The drum machine's bell, tuned: two squares in the ratio of its oscillators, 540 and 800 Hz, that die quickly."""
    samples = round(max(0.4, hold_s + 0.1) * SAMPLE_RATE_HZ)
    total = np.zeros(samples)
    for share in (1.0, 800 / 540):
        total += _saw(share * frequency_hz, samples, 0.0) - _saw(share * frequency_hz, samples, 0.5)
    sections = butter(1, (0.8 * frequency_hz, min(5 * frequency_hz, 16_000)), "band", fs=SAMPLE_RATE_HZ, output="sos")
    rung: _Samples = sosfilt(sections, total)
    knock, body = _envelope(samples, hold_s, 0.001, 0.1, 0.025), _envelope(samples, hold_s, 0.001, 0.1, 0.16)
    return 0.1 * rung * (knock + 0.8 * body)


def _slow_drone(frequency_hz: float, hold_s: float) -> _Samples:
    """Partials that come and go at their own slow pace: it has no beginning that an ear could count."""
    release_s = 2.5
    time_s = _time(hold_s + release_s)
    slow_s = _slow_times(time_s)
    total = np.zeros(len(time_s))
    for number, partial in enumerate(_partials(frequency_hz, time_s, 12), 1):
        breath = 0.6 + 0.4 * np.sin(2 * np.pi * (0.07 + 0.023 * number) * slow_s + 1.7 * number)
        total += np.interp(time_s, slow_s, breath / number**1.3) * partial
    return 0.2 * total * _envelope(len(time_s), hold_s, min(2.0, 0.4 * hold_s), release_s)


VOICES: Final[dict[int, ElectronicVoice]] = {
    SUPERSAW: ElectronicVoice("Supersaw", 81, _supersaw),
    PLUCK: ElectronicVoice("Synth Pluck", 87, _pluck),
    ANALOG_PAD: ElectronicVoice("Analog Pad", 90, _analog_pad),
    SUB_BASS: ElectronicVoice("Sub Bass", 39, _sub_bass),
    REESE_BASS: ElectronicVoice("Reese Bass", 38, _reese_bass),
    ACID_BASS: ElectronicVoice("Acid Bass", 38, _acid_bass),
    PULSE: ElectronicVoice("Pulse Lead", 80, _pulse),
    TRIANGLE: ElectronicVoice("Triangle Bass", 80, _triangle),
    RISER: ElectronicVoice("Riser", 119, _riser),
    WOBBLE_BASS: ElectronicVoice("Wobble Bass", 39, _wobble_bass),
    TANPURA: ElectronicVoice("Tanpura", 104, _tanpura),
    COWBELL: ElectronicVoice("Tuned Cowbell", 113, _cowbell),
    SLOW_DRONE: ElectronicVoice("Slow Drone", 95, _slow_drone),
}
