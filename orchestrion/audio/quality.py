"""The gate in front of the store: finished audio is measured, and a track that fails is never served.

Each `Finding` carries the measured figure, its limit and the verdict, so that a failure explains itself and a success
can be audited. Figures are finite for JSON's sake: a level of silence (−inf) is given as `SILENCE_FLOOR_DB`.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile

from orchestrion.audio.encode import decode
from orchestrion.audio.loudness import integrated_lufs, true_peak_dbtp
from orchestrion.audio.mastering import FinishSpec
from orchestrion.audio.pcm import Pcm
from orchestrion.finding import Finding
from orchestrion.tracks.request import AudioFormat

#: Stands for −inf dB and for levels below it.
SILENCE_FLOOR_DB: Final = -120.0

#: The two findings whose figures a record also carries by themselves.
LOUDNESS: Final = "loudness"
TRUE_PEAK: Final = "true peak"

LOUDNESS_TOLERANCE_LU: Final = 0.5
#: A lossy decoder's reading of loudness moves by less than this; peaks are not held by lossy codecs.
MAX_DECODED_TRUE_PEAK_DBTP: Final = 3.0
#: Three samples in a row at full scale are a flattened wave; one or two can be a peak that just fits.
CLIPPED_RUN_SAMPLES: Final = 3
FULL_SCALE: Final = 0.9999
MAX_SILENCE_S: Final = 3.0
#: Under −80 dBFS nothing is heard at any sane volume.
SILENCE_LEVEL: Final = 1e-4
MAX_DC_OFFSET: Final = 0.005
#: MP3 and Opus add encoder delay and padding where a decoder cannot trim it: at most two frames of 1,152 samples and
#: the decoder's own delay.
CODEC_PADDING_S: Final = 0.1

_EXPECTED_CODECS: Final[dict[AudioFormat, tuple[str, str]]] = {
    AudioFormat.WAV: ("WAV", "PCM_16"),
    AudioFormat.FLAC: ("FLAC", "PCM_16"),
    AudioFormat.MP3: ("MP3", "MPEG_LAYER_III"),
    AudioFormat.OGG: ("OGG", "VORBIS"),
    AudioFormat.OPUS: ("OGG", "OPUS"),
}
_LOSSLESS: Final = (AudioFormat.WAV, AudioFormat.FLAC)


def check(audio: Pcm, sample_rate_hz: int, spec: FinishSpec) -> list[Finding]:
    """Measure finished audio ([samples, channels]) against what it must be; every figure, passed or not."""
    broken = int(np.count_nonzero(~np.isfinite(audio)))
    findings = [
        _at_most("non-finite samples", broken, 0, "samples"),
        _between("length", len(audio), spec.samples - 1, spec.samples + 1, "samples"),
        _between("sampling rate", sample_rate_hz, spec.sample_rate_hz, spec.sample_rate_hz, "Hz"),
        _between("channels", audio.shape[1], spec.channels or 1, spec.channels or 2, "channels"),
    ]
    if broken or not len(audio):
        return findings
    dc_offset = float(np.abs(audio.mean(axis=0, dtype=np.float64)).max())
    return [
        *findings,
        _loudness(audio, sample_rate_hz, spec),
        _at_most(TRUE_PEAK, _level(true_peak_dbtp(audio, sample_rate_hz)), spec.true_peak_ceiling_dbtp, "dBTP"),
        _at_most("longest clipped run", _longest_clipped_run(audio), CLIPPED_RUN_SAMPLES - 1, "samples"),
        _at_most("longest silence", longest_silence_s(audio, sample_rate_hz), MAX_SILENCE_S, "s"),
        _at_most("DC offset", dc_offset, MAX_DC_OFFSET, "of full scale"),
    ]


def check_encoded(data: bytes, format: AudioFormat, spec: FinishSpec, channels: int) -> list[Finding]:
    """Decode a finished file and measure what a listener gets from it; `channels` is what it must have."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            codec = (file.format, file.subtype)
        audio, sample_rate_hz = decode(data)
    except (soundfile.SoundFileError, ValueError):
        return [_at_most("decoding errors", 1, 0, "files")]
    lossless = format in _LOSSLESS
    slack = 0 if lossless else round(CODEC_PADDING_S * spec.sample_rate_hz)
    peak_limit_dbtp = spec.true_peak_ceiling_dbtp if lossless else MAX_DECODED_TRUE_PEAK_DBTP
    findings = [
        _at_most("decoding errors", 0, 0, "files"),
        _at_most("codec mismatches", int(codec != _EXPECTED_CODECS[format]), 0, "files"),
        _between("decoded sampling rate", sample_rate_hz, spec.sample_rate_hz, spec.sample_rate_hz, "Hz"),
        _between("decoded channels", audio.shape[1], channels, channels, "channels"),
        _between("decoded length", len(audio), spec.samples - slack, spec.samples + slack, "samples"),
    ]
    if len(audio):
        peak_dbtp = _level(true_peak_dbtp(audio, sample_rate_hz))
        findings.append(_at_most("decoded true peak", peak_dbtp, peak_limit_dbtp, "dBTP"))
    return findings


def longest_silence_s(audio: Pcm, sample_rate_hz: int) -> float:
    """Longest stretch in which every channel stays under −80 dBFS."""
    quiet = np.all([np.abs(channel) < SILENCE_LEVEL for channel in audio.T], axis=0)
    return _longest_run(quiet) / sample_rate_hz


def _longest_clipped_run(audio: Pcm) -> int:
    return max(_longest_run(np.abs(audio[:, channel]) >= FULL_SCALE) for channel in range(audio.shape[1]))


def _longest_run(flags: npt.NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _loudness(audio: Pcm, sample_rate_hz: int, spec: FinishSpec) -> Finding:
    measured = _level(integrated_lufs(audio, sample_rate_hz))
    target = spec.loudness_lufs
    return _between(LOUDNESS, measured, target - LOUDNESS_TOLERANCE_LU, target + LOUDNESS_TOLERANCE_LU, "LUFS")


def _level(decibels: float) -> float:
    return max(SILENCE_FLOOR_DB, decibels)


def _at_most(name: str, measured: float, highest: float, unit: str) -> Finding:
    return Finding(name, float(measured), None, float(highest), unit, bool(measured <= highest))


def _between(name: str, measured: float, lowest: float, highest: float, unit: str) -> Finding:
    return Finding(name, float(measured), float(lowest), float(highest), unit, bool(lowest <= measured <= highest))
