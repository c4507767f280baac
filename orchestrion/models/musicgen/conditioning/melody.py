"""What a MusicGen hears of a theme: which of the twelve pitch classes is strongest in each frame, before the codes.

Melody models are given chroma, not sound: one-hot columns, projected, in front of the text's. They are computed here as
by MusicGen's reference code (Copet et al., 2023, section 3.2) with two differences. The whole recording is heard,
because no separator takes drums and bass out of it first: a single voice or a MIDI file makes the best theme. And a
MIDI file needs no instrument: its notes are weighed on the same frames as a recording's spectrum would be. Silence
counts as a C, for a model and for its null stream: the strongest of twelve zeros is the first.

The chroma filters follow D. Ellis, "Chroma Feature Analysis and Synthesis" (2007), with librosa's constants.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from orchestrion.audio.midi import DRUM_CHANNEL, Midi, is_midi, read_midi
from orchestrion.audio.uploads import converted, read_audio
from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.decoder import Floats
from orchestrion.models.musicgen.weights import Projection

#: Samples that one frame looks at, and samples between frames: at 32 kHz half a second, and an eighth.
FRAME_SAMPLES: Final = 2**14
HOP_SAMPLES: Final = FRAME_SAMPLES // 4
PITCH_CLASSES: Final = 12
#: The lowest A of a piano: octaves are counted from here.
_A0_HZ: Final = 27.5
#: Loudness of the octaves: a Gaussian around the fifth (880 Hz), two octaves wide, so that a tune outweighs its bass.
_CENTRE_OCTAVE: Final = 5.0
_OCTAVE_WIDTH: Final = 2.0
#: MIDI's name of A0.
_A0_PITCH: Final = 21

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recording:
    """A theme as sound."""

    #: [samples], mono.
    wave: Floats
    sample_rate_hz: int

    def chroma(self, frames: int) -> Floats:
        """[frames, 12]: the first frames, over and over where there are fewer."""
        return _one_hot(chroma_energy(self.wave, self.sample_rate_hz, frames), frames)

    def window(self, start_s: float, window_s: float) -> Recording:
        """What is heard from `start_s` on when the theme is played over and over."""
        samples = np.arange(int(window_s * self.sample_rate_hz)) + int(start_s * self.sample_rate_hz)
        return Recording(self.wave[samples % len(self.wave)], self.sample_rate_hz)


@dataclass(frozen=True, slots=True)
class Note:
    """A sounding note of a score; `start` and `end` in samples."""

    start: float
    end: float
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Score:
    """A theme as notes."""

    notes: tuple[Note, ...]
    samples: int
    sample_rate_hz: int

    def chroma(self, frames: int) -> Floats:
        """[frames, 12]: the first frames, over and over where there are fewer."""
        return _one_hot(note_energy(self.notes, min(frames, 1 + self.samples // HOP_SAMPLES)), frames)

    def window(self, start_s: float, window_s: float) -> Score:
        """What is heard from `start_s` on when the theme is played over and over."""
        start, samples = int(start_s * self.sample_rate_hz), int(window_s * self.sample_rate_hz)
        turns = range(start // self.samples, (start + samples) // self.samples + 1)
        shifts = [turn * self.samples - start for turn in turns]
        notes = tuple(
            Note(note.start + shift, note.end + shift, note.pitch, note.velocity)
            for shift in shifts
            for note in self.notes
            if note.start + shift < samples and note.end + shift > 0
        )
        return Score(notes, samples, self.sample_rate_hz)


class Melody:
    """What a piece hears of its theme, window by window. Any thread may ask; each window is worked out once."""

    def __init__(self, theme: Recording | Score, chroma_frames: int, window_s: float | None) -> None:
        """Of windows of `window_s` each hears its own part of the theme, over and over; None: all hear its beginning.

        Args:
            theme: what to hear.
            chroma_frames: columns of chroma of each window.
            window_s: length of a window of a piece that has several.
        """
        self._theme = theme
        self._chroma_frames = chroma_frames
        self._window_s = window_s
        self._known: dict[float, Floats] = {}
        self._lock = threading.Lock()

    def chroma(self, start_s: float) -> Floats:
        """[chroma_frames, 12]: what the window that begins at `start_s` hears."""
        with self._lock:
            if start_s not in self._known:
                heard = self._theme if self._window_s is None else self._theme.window(start_s, self._window_s)
                self._known[start_s] = heard.chroma(self._chroma_frames)
            return self._known[start_s]


def read_theme(theme: bytes, sample_rate_hz: int) -> Recording | Score:
    """A theme from the bytes of an audio or MIDI file, at the rate of the model that is to hear it.

    Raises:
        InvalidRequest: about `theme`: neither audio nor MIDI, or nothing sounds in it.
    """
    if is_midi(theme):
        return _score(read_midi(theme, "theme"), theme, sample_rate_hz)
    found = read_audio(theme, "theme")
    wave = converted(found.audio, found.rate_hz, sample_rate_hz, 1)[:, 0]
    if not wave.any():
        raise InvalidRequest.of("theme", f"{len(theme)} bytes", "the audio is silent; give a recording of a melody")
    return Recording(wave, sample_rate_hz)


def melody_prefix(
    chroma: Floats | None, text: Floats | None, null_text: Floats | None, projection: Projection, frames: int
) -> tuple[Floats, Floats]:
    """The columns before the codes, and those of the null stream: chroma first, then text.

    As in the reference, the two streams of a request are padded together: the shorter text is followed by zeros, an
    absent one is all zeros, and there is always a column of text. An absent theme is a silent one, in either stream.
    Hugging Face's implementation gives the same columns, but has no negative prompts and cannot do without a prompt.

    Args:
        chroma: [frames, 12]; None without a theme.
        text: [text, dim], projected, without padding; None for no text.
        null_text: the same for a negative prompt.
        projection: chroma to the model's width.
        frames: columns of chroma that the model was trained with.

    Returns:
        Prefix and null prefix, both [frames + columns of text, dim] float32.
    """
    silent = _one_hot(np.zeros((1, PITCH_CLASSES)), frames)
    columns = max(len(text) if text is not None else 0, len(null_text) if null_text is not None else 0, 1)

    def stream(heard: Floats, said: Floats | None) -> Floats:
        padded = np.zeros((columns, len(projection.bias)), np.float32)
        if said is not None:
            padded[: len(said)] = said
        return np.concatenate([_project(heard, projection), padded])

    return stream(silent if chroma is None else chroma, text), stream(silent, null_text)


def chroma_energy(wave: Floats, sample_rate_hz: int, frames: int) -> Doubles:
    """[at most `frames`, 12]: how loud each pitch class is around each frame of `wave` ([samples]).

    The frames of a wave stand at its beginning and every `HOP_SAMPLES` after that; what they see beyond its ends is its
    reflection. A wave of less than one frame is put in the middle of a silent one. In double precision, so that no
    processor and no number of threads finds another pitch class strongest.
    """
    missing = max(0, FRAME_SAMPLES - len(wave))
    padded = np.pad(np.pad(wave, (missing // 2, missing - missing // 2)), FRAME_SAMPLES // 2, mode="reflect")
    starts = range(0, len(padded) - FRAME_SAMPLES + 1, HOP_SAMPLES)[:frames]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_SAMPLES) / FRAME_SAMPLES)
    window /= np.sqrt(np.sum(window**2))
    filters = chroma_filters(sample_rate_hz)
    return np.stack([filters @ np.abs(np.fft.rfft(padded[at : at + FRAME_SAMPLES] * window)) ** 2 for at in starts])


@cache
def chroma_filters(sample_rate_hz: int) -> Doubles:
    """[12, FRAME_SAMPLES / 2 + 1]: the part that each frequency has in each pitch class, C first."""
    frequencies_hz = np.arange(1, FRAME_SAMPLES // 2 + 2) * (sample_rate_hz / FRAME_SAMPLES)
    semitones = PITCH_CLASSES * np.log2(frequencies_hz / _A0_HZ)
    # 0 Hz has no pitch: it counts as an octave and a half below the first that has.
    semitones = np.concatenate([[semitones[0] - 1.5 * PITCH_CLASSES], semitones])
    widths, semitones = np.maximum(np.diff(semitones), 1.0), semitones[:-1]
    from_a = np.arange(PITCH_CLASSES)[:, None] + 3  # Pitch class C is the third above A.
    half = PITCH_CLASSES / 2
    distances = (semitones - from_a + half) % PITCH_CLASSES - half
    shares = np.exp(-0.5 * (2 * distances / widths) ** 2)
    shares /= np.sqrt(np.sum(shares**2, axis=0))
    return shares * _octave_weight(semitones / PITCH_CLASSES)


def note_energy(notes: tuple[Note, ...], frames: int) -> Doubles:
    """[frames, 12]: as `chroma_energy`, of notes that sound evenly from start to end and have no overtones."""
    energy = np.zeros((frames, PITCH_CLASSES))
    half = FRAME_SAMPLES // 2
    for note in notes:
        first = max(0, math.ceil((note.start - half) / HOP_SAMPLES))
        centres = np.arange(first, min(frames, math.floor((note.end + half) / HOP_SAMPLES) + 1)) * HOP_SAMPLES
        begin, end = (np.clip((at - centres) / FRAME_SAMPLES, -0.5, 0.5) for at in (note.start, note.end))
        amplitude = note.velocity * (_hann_integral(end) - _hann_integral(begin))
        weight = _octave_weight(np.asarray((note.pitch - _A0_PITCH) / PITCH_CLASSES))
        energy[first : first + len(centres), note.pitch % PITCH_CLASSES] += amplitude**2 * weight
    return energy


def _hann_integral(at: Doubles) -> Doubles:
    """Of a Hann window that reaches from -0.5 to 0.5."""
    return at / 2 + np.sin(2 * np.pi * at) / (4 * np.pi)


def _octave_weight(octaves: Doubles) -> Doubles:
    weight: Doubles = np.exp(-0.5 * ((octaves - _CENTRE_OCTAVE) / _OCTAVE_WIDTH) ** 2)
    return weight


def _one_hot(energy: Doubles, frames: int) -> Floats:
    """[frames, 12]: 1 at the strongest pitch class (at a draw the first), repeated or cut to `frames`."""
    strongest = np.resize(energy.argmax(axis=1), frames)
    return np.eye(PITCH_CLASSES, dtype=np.float32)[strongest]


def _project(chroma: Floats, projection: Projection) -> Floats:
    projected: Floats = chroma @ projection.weight.numpy().T + projection.bias.numpy()
    return projected


def _score(midi: Midi, theme: bytes, sample_rate_hz: int) -> Score:
    """All voices but the drums, in the tempo of the file."""
    notes = tuple(
        Note(
            midi.seconds(note.start) * sample_rate_hz,
            midi.seconds(note.end) * sample_rate_hz,
            note.pitch,
            note.velocity,
        )
        for note in midi.notes
        if note.channel != DRUM_CHANNEL
    )
    if not notes:
        raise InvalidRequest.of("theme", f"{len(theme)} bytes", "the MIDI file has no notes; give one with a melody")
    return Score(notes, max(round(midi.seconds(midi.end) * sample_rate_hz), FRAME_SAMPLES), sample_rate_hz)
