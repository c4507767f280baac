"""Measure whether the composer does what it is asked, fast enough, and sounds like music.

    .venv/bin/python -m benchmarks.composer [--out benchmarks/results/composer.json] [--quick]

Forty held-out prompts (nothing was tuned on them) are rendered and mastered for real: is the asked tempo what a beat
tracker finds, is the asked key what a chroma profile finds, are loudness and true peak where they should be, how much
faster than real time is one core, how soon does a stream begin, and how near does its loudness come. Spectral balance
and dynamics are tabled against the real tracks of the package `immich-memories-music`. The speed of each style is
measured apart, by its name alone, in the time of the process and on the clock: where the two differ, other work had the
core. The measurement is checked first: the same prompt twice must be the same bits, and joined chunks must equal the
whole. Ends in one JSON document; exits with 1 where a style is slower than `FLOOR`.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

# Before numpy is imported: the speed that is reported is that of one core.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import immich_memories_music
import librosa
import numpy as np
import numpy.typing as npt
import pyloudnorm
import soundfile
from scipy.signal import resample_poly

from benchmarks.document import publish
from orchestrion.audio.mastering import FinishSpec, finish
from orchestrion.audio.streaming import StreamFinisher
from orchestrion.models.composer.model import Composer
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.intent.passage import read_vocabulary
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.request import TrackRequest
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import STYLES

DURATION_S: Final = 30.0
STREAM_DURATION_S: Final = 60.0
LOUDNESS_LUFS: Final = -14.0
ANALYSIS_RATE_HZ: Final = 22_050
#: How many times faster than real time every style is made, composing and mastering, by the time of the process.
FLOOR: Final = 25.0
SPEED_ROUNDS: Final = 3
#: A found tempo may be this far from the asked one, or from its half or double.
TEMPO_TOLERANCE: Final = 0.04
REFERENCE_TRACKS: Final = 14

#: Every style once, then mixtures, moods and plain descriptions.
PROMPTS: Final = (
    "rainy window lofi, 78 bpm, E minor",
    "ambient drone for stargazing, 62 bpm, G major",
    "epic trailer for a mountain film, 96 bpm, C minor",
    "garage rock for a road movie, 132 bpm, A major",
    "thrash metal, furious, 160 bpm, E minor",
    "sunny pop for a product video, 112 bpm, D major",
    "late night house, 124 bpm, F minor",
    "hypnotic techno in a warehouse, 130 bpm, A minor",
    "euphoric trance, 138 bpm, G minor",
    "liquid drum and bass, 174 bpm, B minor",
    "neon synthwave drive, 100 bpm, F# minor",
    "boom bap hip-hop with dusty keys, 90 bpm, C minor",
    "dark trap, 140 bpm, D minor",
    "swing jazz quartet, 144 bpm, Bb major",
    "bossa nova at the beach, 126 bpm, F major",
    "salsa party, 100 bpm, G minor",
    "dramatic tango, 120 bpm, D minor",
    "slap bass funk, 106 bpm, E minor",
    "glittering disco, 118 bpm, A minor",
    "warm soul ballad, 80 bpm, Eb major",
    "roots reggae, 74 bpm, G major",
    "campfire folk song, 100 bpm, C major",
    "bluegrass country picking, 120 bpm, G major",
    "irish celtic dance, 112 bpm, D major",
    "baroque chamber music, classical, 104 bpm, A minor",
    "viennese waltz, 150 bpm, D major",
    "solo piano lullaby, 72 bpm, Ab major",
    "8-bit chiptune boss fight, 150 bpm, A minor",
    "slow blues with guitar, 92 bpm, E major",
    "happy ukulele-like tune with flute, 104 bpm, F major",
    "sad cello over strings, 70 bpm, B minor",
    "energetic workout music, 128 bpm, C minor",
    "mysterious forest at night, 84 bpm, F# minor",
    "romantic dinner piano jazz, 96 bpm, Db major",
    "triumphant fanfare with brass, 110 bpm, Bb major",
    "playful cartoon music with clarinet, 116 bpm, C major",
    "calm kalimba for meditation, 66 bpm, E major",
    "tense chase scene, 128 bpm, D minor",
    "nostalgic 80s theme, 104 bpm, E minor",
    "hopeful acoustic guitar, no drums, 96 bpm, A major",
)
BANDS_HZ: Final = ((0, 60), (60, 250), (250, 1000), (1000, 4000), (4000, 10_000), (10_000, 22_050))
#: Krumhansl and Kessler's probe-tone profiles (1982).
PROFILES: Final = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sound:
    """What is measured of any track, composed or real."""

    bands_db: tuple[float, ...]
    slope_db_per_octave: float
    crest_db: float
    left_right_correlation: float
    loudness_range_lu: float


@dataclass(frozen=True, slots=True)
class Result:
    """One prompt's outcome."""

    prompt: str
    style: str
    asked_bpm: float
    found_bpm: float
    asked_key: str
    found_key: str
    tempo_found: bool
    key_found: bool
    premaster_lufs: float
    loudness_lufs: float
    #: Of the same piece, mastered as a stream.
    stream_lufs: float
    true_peak_db: float
    cpu_s: float
    sound: Sound


@dataclass(frozen=True, slots=True)
class Speed:
    """How many times faster than real time a style is made, in the middle of the rounds."""

    of_process: float
    of_clock: float


def request_for(prompt: str, duration_s: float, seed: int = 0) -> TrackRequest:
    """The request exactly as the service would resolve it."""
    return TrackSpec.from_json({"prompt": prompt, "duration_s": duration_s, "seed": seed}).resolve()


def measure_prompt(composer: Composer, prompt: str) -> Result:
    """Render, master and measure one prompt."""
    request = request_for(prompt, DURATION_S)
    if request.composition.tempo_bpm is None or request.composition.key is None:
        raise ValueError(f"{prompt!r} asks for no tempo or no key")
    started = time.process_time()
    performance = composer.perform(Conditioning.of(request.composition, None, None))
    raw = np.concatenate(list(performance.chunks))
    master = finish(raw, composer.info.sample_rate_hz, FinishSpec.of(request))
    cpu_s = time.process_time() - started
    finisher = StreamFinisher(composer.info.sample_rate_hz, 2, FinishSpec.of(request), performance.expected_lufs)
    streamed = np.concatenate([finisher.push(raw), finisher.flush()])
    rate_hz = request.delivery.sample_rate_hz
    meter = pyloudnorm.Meter(rate_hz)
    mono = librosa.resample(master.mean(1), orig_sr=rate_hz, target_sr=ANALYSIS_RATE_HZ)
    found_bpm, found_key = find_tempo(mono), find_key(mono)
    return Result(
        prompt=prompt,
        style=str(performance.choices["style"]),
        asked_bpm=request.composition.tempo_bpm,
        found_bpm=round(found_bpm, 1),
        asked_key=str(request.composition.key),
        found_key=str(found_key),
        tempo_found=min(abs(found_bpm * k / request.composition.tempo_bpm - 1) for k in (0.5, 1, 2)) <= TEMPO_TOLERANCE,
        key_found=same_or_relative(found_key, request.composition.key),
        premaster_lufs=round(float(meter.integrated_loudness(raw.astype(np.float64))), 2),
        loudness_lufs=round(float(meter.integrated_loudness(master.astype(np.float64))), 2),
        stream_lufs=round(float(meter.integrated_loudness(streamed.astype(np.float64))), 2),
        true_peak_db=round(max(true_peak_db(master), true_peak_db(streamed)), 2),
        cpu_s=round(cpu_s, 3),
        sound=measure_sound(master, rate_hz),
    )


def find_tempo(mono: Audio) -> float:
    """The tempo of librosa's beat tracker, refined by a line through its beats, in bpm."""
    onsets = librosa.onset.onset_strength(y=mono, sr=ANALYSIS_RATE_HZ)
    tempo, beats = librosa.beat.beat_track(onset_envelope=onsets, sr=ANALYSIS_RATE_HZ)
    if len(beats) < 4:
        return float(np.atleast_1d(tempo)[0])
    times = librosa.frames_to_time(beats, sr=ANALYSIS_RATE_HZ)
    return float(60 / np.polyfit(np.arange(len(times)), times, 1)[0])


def find_key(mono: Audio) -> Key:
    """The key whose profile correlates best with the mean chroma of the harmonic part."""
    chroma = librosa.feature.chroma_cqt(y=librosa.effects.harmonic(mono), sr=ANALYSIS_RATE_HZ).mean(1)
    fits = {
        (tonic, mode): np.corrcoef(np.roll(profile, tonic), chroma)[0, 1]
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    tonic, mode = max(fits, key=lambda key: float(fits[key]))
    return Key(tonic, mode)


def same_or_relative(found: Key, asked: Key) -> bool:
    """Whether `found` is `asked` or its relative major or minor."""
    if found.is_minor == asked.is_minor:
        return found.tonic == asked.tonic
    shift = 3 if asked.is_minor else 9
    return found.tonic == (asked.tonic + shift) % 12


def true_peak_db(audio: Audio) -> float:
    """Peak after fourfold oversampling, in dBTP."""
    return float(20 * np.log10(np.abs(resample_poly(audio, 4, 1, axis=0)).max()))


def measure_sound(audio: Audio, rate_hz: int) -> Sound:
    """Spectral balance, slope, crest, stereo correlation and loudness range."""
    mono = audio.mean(1).astype(np.float32)
    power = (np.abs(librosa.stft(mono, n_fft=4096, hop_length=2048)) ** 2).mean(1)
    frequency_hz = np.linspace(0, rate_hz / 2, len(power))
    bands = [power[(frequency_hz >= low) & (frequency_hz < high)].sum() / power.sum() for low, high in BANDS_HZ]
    centres = 100 * 2 ** (np.arange(20) / 3)
    thirds = [power[(frequency_hz >= c / 2 ** (1 / 6)) & (frequency_hz < c * 2 ** (1 / 6))].sum() for c in centres]
    slope = np.polyfit(np.log2(centres), 10 * np.log10(np.array(thirds) + 1e-12), 1)[0]
    rms = float(np.sqrt((mono**2).mean()))
    return Sound(
        bands_db=tuple(round(float(10 * np.log10(max(band, 1e-9))), 1) for band in bands),
        slope_db_per_octave=round(float(slope), 1),
        crest_db=round(float(20 * np.log10(np.abs(mono).max() / rms)), 1),
        left_right_correlation=round(float(np.corrcoef(audio[:, 0], audio[:, 1])[0, 1]), 2),
        loudness_range_lu=round(loudness_range(audio, rate_hz), 1),
    )


def loudness_range(audio: Audio, rate_hz: int) -> float:
    """EBU Tech 3342: the spread between the 10th and 95th percentile of gated 3 s loudness, in LU."""
    meter = pyloudnorm.Meter(rate_hz)
    window, hop = 3 * rate_hz, rate_hz
    starts = range(0, max(1, len(audio) - window + 1), hop)
    short = np.array([meter.integrated_loudness(audio[s : s + window].astype(np.float64)) for s in starts])
    audible = short[np.isfinite(short) & (short > -70)]
    gate = 10 * np.log10((10 ** (audible / 10)).mean()) - 20
    kept = audible[audible >= gate]
    return float(np.percentile(kept, 95) - np.percentile(kept, 10))


def reference_sounds(count: int) -> list[Sound]:
    """The same measures of real tracks, 30 s from their middle."""
    folder = Path(immich_memories_music.__file__).parent / "tracks"
    sounds = []
    for path in sorted(folder.rglob("*.opus"))[:: max(1, 28 // count)][:count]:
        audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        first = max(0, len(audio) // 2 - round(DURATION_S / 2 * rate_hz))
        sounds.append(measure_sound(audio[first : first + round(DURATION_S * rate_hz)], rate_hz))
    return sounds


def mean_sound(sounds: Sequence[Sound]) -> dict[str, object]:
    """The means of several tracks' measures."""
    return {
        "bands_db": [round(statistics.fmean(s.bands_db[i] for s in sounds), 1) for i in range(len(BANDS_HZ))],
        "slope_db_per_octave": round(statistics.fmean(s.slope_db_per_octave for s in sounds), 1),
        "crest_db": round(statistics.fmean(s.crest_db for s in sounds), 1),
        "left_right_correlation": round(statistics.fmean(s.left_right_correlation for s in sounds), 2),
        "loudness_range_lu": round(statistics.fmean(s.loudness_range_lu for s in sounds), 1),
    }


def first_chunk_fractions(composer: Composer, prompts: Sequence[str]) -> list[float]:
    """For each prompt, the share of a whole 60 s render (mastered) that passes before the first chunk is there."""
    fractions = []
    for prompt in prompts:
        request = request_for(prompt, STREAM_DURATION_S, seed=7)
        started = time.process_time()
        performance = composer.perform(Conditioning.of(request.composition, None, None))
        chunks = [next(performance.chunks)]
        first_s = time.process_time() - started
        chunks += performance.chunks
        finish(np.concatenate(chunks), composer.info.sample_rate_hz, FinishSpec.of(request))
        fractions.append(first_s / (time.process_time() - started))
    return fractions


def style_speeds(composer: Composer, rounds: int) -> dict[str, Speed]:
    """Every style, by its name alone; each round is another seed, and goes through all styles.

    So a style finds few of its notes in the cache: those of the others have taken their place.
    """
    process_s: dict[str, list[float]] = {style: [] for style in STYLES}
    clock_s: dict[str, list[float]] = {style: [] for style in STYLES}
    for seed in range(rounds):
        for style in STYLES:
            request = request_for(style, DURATION_S, seed)
            began, began_clock = time.process_time(), time.perf_counter()
            performance = composer.perform(Conditioning.of(request.composition, None, None))
            finish(np.concatenate(list(performance.chunks)), composer.info.sample_rate_hz, FinishSpec.of(request))
            process_s[style].append(time.process_time() - began)
            clock_s[style].append(time.perf_counter() - began_clock)
    return {
        style: Speed(*(round(DURATION_S / statistics.median(each[style]), 1) for each in (process_s, clock_s)))
        for style in STYLES
    }


def check_measurement(composer: Composer) -> None:
    """The same prompt twice gives the same bits, and the key finder knows a key."""
    conditioning = Conditioning.of(request_for(PROMPTS[0], 6.0).composition, None, None)
    once, twice = (np.concatenate(list(composer.perform(conditioning).chunks)) for _ in range(2))
    if not np.array_equal(once, twice):
        raise SystemExit("the same request gave different audio: nothing measured here would mean anything")
    seconds = np.arange(ANALYSIS_RATE_HZ * 4) / ANALYSIS_RATE_HZ
    tones = (np.sin(2 * np.pi * f * seconds) for f in (261.63, 329.63, 392.0, 523.25))
    triad = sum(tones, np.zeros_like(seconds)).astype(np.float32)
    if find_key(triad) != Key.parse("C major"):
        raise SystemExit(f"the key finder takes a C major triad for {find_key(triad)}")


def main() -> int:
    """Measure, print the table, end in one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the JSON document here")
    parser.add_argument("--quick", action="store_true", help="measure only every fifth prompt")
    arguments = parser.parse_args()
    prompts = PROMPTS[:: 5 if arguments.quick else 1]
    # As a replica begins.
    read_vocabulary()
    composer = Composer()
    # As a replica does after loading, so that no collection of what is loaded falls into a measurement.
    gc.freeze()
    check_measurement(composer)
    list(composer.perform(Conditioning.of(request_for("warm up, pop", 5.0).composition, None, None)).chunks)
    results = []
    for prompt in prompts:
        result = measure_prompt(composer, prompt)
        results.append(result)
        sys.stderr.write(row(result) + "\n")
    document = report(results, first_chunk_fractions(composer, prompts))
    speeds = style_speeds(composer, 1 if arguments.quick else SPEED_ROUNDS)
    slow = [style for style, speed in speeds.items() if speed.of_process < FLOOR]
    document["style_speeds"] = {style: asdict(speed) for style, speed in speeds.items()}
    document["slowest_style"] = min(speeds, key=lambda style: speeds[style].of_process)
    document["slower_than_floor"] = slow
    publish(document | {"load_average": os.getloadavg()}, arguments.out)
    return 1 if slow else 0


def row(result: Result) -> str:
    """One line of the table."""
    bands = " ".join(f"{band:6.1f}" for band in result.sound.bands_db)
    return (
        f"{result.style:14} {'ok ' if result.tempo_found else 'BPM'} {result.asked_bpm:5.0f} {result.found_bpm:6.1f}  "
        f"{'ok ' if result.key_found else 'KEY'} {result.asked_key:9} {result.found_key:9} "
        f"{result.premaster_lufs:6.1f} → {result.loudness_lufs:6.2f} LUFS {result.true_peak_db:6.2f} dBTP | {bands} | "
        f"{result.sound.slope_db_per_octave:5.1f} {result.sound.crest_db:5.1f} "
        f"{result.sound.left_right_correlation:5.2f} {result.sound.loudness_range_lu:5.1f} | "
        f"{DURATION_S / result.cpu_s:5.1f}x"
    )


def mean_and_worst(errors_lu: Sequence[float]) -> dict[str, float]:
    """The mean of all errors, and the one that is farthest from zero."""
    worst: float = max(errors_lu, key=abs)
    return {"mean": round(statistics.fmean(errors_lu), 2), "worst": round(worst, 2)}


def report(results: Sequence[Result], first_fractions: Sequence[float]) -> dict[str, object]:
    """The JSON document."""
    count = len(results)
    references = reference_sounds(REFERENCE_TRACKS)
    return {
        "prompts": count,
        "tempo_found": sum(r.tempo_found for r in results) / count,
        "key_found": sum(r.key_found for r in results) / count,
        "within_loudness": sum(abs(r.loudness_lufs - LOUDNESS_LUFS) <= 0.5 for r in results) / count,
        "max_true_peak_db": max(r.true_peak_db for r in results),
        "real_time_factor": round(count * DURATION_S / sum(r.cpu_s for r in results), 1),
        "first_chunk_fraction": round(max(first_fractions), 4),
        "first_chunk_fraction_median": round(statistics.median(first_fractions), 4),
        "stream_loudness_error_lu": mean_and_worst([r.stream_lufs - LOUDNESS_LUFS for r in results]),
        "premaster_error_lu": mean_and_worst([r.premaster_lufs + 18 for r in results]),
        "sound": {
            "bands_hz": BANDS_HZ,
            "composer": mean_sound([r.sound for r in results]),
            "immich_memories_music": mean_sound(references),
            "reference_tracks": len(references),
        },
        "missed": [
            {"prompt": r.prompt, "bpm": r.found_bpm, "key": r.found_key}
            for r in results
            if not (r.tempo_found and r.key_found)
        ],
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }


if __name__ == "__main__":
    sys.exit(main())
