"""What a MIDI file and a recording play, measured without the composer's code: to hold it against what was asked.

Times in a score are in quarter notes, as MIDI files count; a beat is a quarter, and a dotted quarter in 6/8 and 12/8.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import mido
import numpy as np
import numpy.typing as npt
from scipy.signal import stft

from orchestrion.tracks.instruments import INSTRUMENTS, stand_ins
from orchestrion.tracks.musical_key import SCALE_STEPS, Key

#: Krumhansl and Kessler's probe-tone profiles (1982).
PROFILES: Final = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
_DRUM_CHANNEL: Final = 9
#: What the lowest note of the first or the last chord counts, as a share of all that sounds.
_HOME: Final = 0.15
#: What is struck on a bar's strong beats: bass drums, low toms and big drums, not the snare of the backbeat.
_LOW_DRUMS: Final = frozenset({35, 36, 41, 43, 45, 47, 64, 66})
#: A note belongs to a beat that it begins this near to: swing, strums and human timing.
_NEAR_QUARTERS: Final = 0.12
#: How much more alike music may be to itself after another time than after a bar, as 5/4 has threes and twos in it; and
#: where the other's bar lines have so many times the weight.
_MUCH_ALIKE: Final = 0.3
_ALIKE: Final = 0.05
_STRESSED: Final = 1.15
#: Metre → quarters of a bar.
BAR_QUARTERS: Final = {"2/4": 2.0, "3/4": 3.0, "4/4": 4.0, "5/4": 5.0, "6/8": 3.0, "7/8": 3.5, "12/8": 6.0}
_COMPOUND: Final = frozenset({"6/8", "12/8"})
#: Parts of a piece and what the tracks that have them are called.
_PART_TRACKS: Final = {"bass": ("bass",), "melody": ("lead", "counter"), "pad": ("pad", "pad2", "pad3")}
_VOICES: Final = frozenset({52, 53, 54, 85, 91})
_SIZES: Final = {"solo": 1, "duo": 2, "trio": 3, "quartet": 4}

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Note:
    """Start and length in quarters."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Track:
    """All that one player plays."""

    name: str
    program: int
    is_drums: bool
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Played:
    """A MIDI file's tracks that have notes, and its times."""

    tracks: tuple[Track, ...]
    #: (quarter, quarters a minute), (quarter, text).
    tempos: tuple[tuple[float, float], ...]
    markers: tuple[tuple[float, str], ...]
    metre: str
    #: Where the file ends.
    end: float

    def seconds(self, quarter: float) -> float:
        """When a quarter sounds."""
        at_s, ends = 0.0, [*(start for start, _ in self.tempos[1:]), quarter]
        for (start, bpm), end in zip(self.tempos, ends, strict=True):
            at_s += max(0.0, min(end, quarter) - start) * 60.0 / bpm
        return at_s

    @property
    def beat_quarters(self) -> float:
        """How long a beat is that a tempo counts."""
        return 1.5 if self.metre in _COMPOUND else 1.0

    @property
    def pitched(self) -> list[Note]:
        """All notes that are no percussion."""
        return [note for track in self.tracks if not track.is_drums for note in track.notes]

    @property
    def drum_keys(self) -> frozenset[int]:
        """The percussion that is struck."""
        return frozenset(note.pitch for track in self.tracks if track.is_drums for note in track.notes)

    @property
    def programs(self) -> frozenset[int]:
        """The General MIDI programs that have notes."""
        return frozenset(track.program for track in self.tracks if not track.is_drums)

    @property
    def last_start(self) -> float:
        """Where the last note begins: the final chord, unless the piece is a loop."""
        return max(note.start for track in self.tracks for note in track.notes)


def read_midi(data: bytes) -> Played:
    """Read a Standard MIDI File of one time signature."""
    file = mido.MidiFile(file=io.BytesIO(data))
    per_quarter = file.ticks_per_beat
    tracks: list[Track] = []
    tempos: list[tuple[float, float]] = []
    markers: list[tuple[float, str]] = []
    signatures: set[str] = set()
    end = 0.0
    for messages in file.tracks:
        at, name, program, is_drums = 0, "", 0, False
        sounding: dict[int, tuple[float, int]] = {}
        notes: list[Note] = []
        for message in messages:
            at += message.time
            quarter = at / per_quarter
            match message.type:
                case "track_name":
                    name = message.name
                case "program_change":
                    program = message.program
                case "set_tempo":
                    tempos.append((quarter, mido.tempo2bpm(message.tempo)))
                case "time_signature":
                    signatures.add(f"{message.numerator}/{message.denominator}")
                case "marker":
                    markers.append((quarter, message.text))
                case "note_on" if message.velocity:
                    is_drums = message.channel == _DRUM_CHANNEL
                    sounding[message.note] = (quarter, message.velocity)
                case "note_on" | "note_off" if message.note in sounding:
                    start, velocity = sounding.pop(message.note)
                    notes.append(Note(start, quarter - start, message.note, velocity))
        end = max(end, at / per_quarter)
        if notes:
            tracks.append(Track(name, program, is_drums, tuple(sorted(notes, key=lambda n: (n.start, n.pitch)))))
    (metre,) = signatures
    return Played(tuple(tracks), tuple(tempos), tuple(markers), metre, end)


# Who plays


def plays_excluded(played: Played, name: str) -> list[str]:
    """The tracks in which an instrument, a part or vocals sound that must not."""
    instrument = INSTRUMENTS.get(name)
    programs = frozenset(instrument.programs) if instrument is not None else frozenset[int]()
    keys = frozenset(instrument.notes) if instrument is not None else frozenset[int]()
    if name == "vocals":
        programs = _VOICES
    found = []
    for track in played.tracks:
        role = track.name.partition(":")[0]
        if track.is_drums:
            is_heard = name in ("drums", "percussion") or any(note.pitch in keys for note in track.notes)
        else:
            is_heard = track.program in programs or role in _PART_TRACKS.get(name, ())
            is_heard = is_heard or (name == "chords" and _has_chords(track))
        if is_heard:
            found.append(track.name)
    return found


def _has_chords(track: Track) -> bool:
    """Whether it strikes three notes together more than now and then."""
    together = Counter(round(note.start * 8) for note in track.notes)
    return sum(count > 2 for count in together.values()) > 0.1 * len(together)


def is_heard(played: Played, name: str) -> bool:
    """Whether an instrument plays, or the nearest that there is."""
    return any(_plays(track, (name,)) for track in played.tracks)


def _plays(track: Track, names: Collection[str]) -> bool:
    """Whether a track is one of these instruments or what may stand for it."""
    for name in names:
        # What is near, and what is near to that: "tin whistle" → "whistle" → "flute".
        for instrument in stand_ins(name):
            if track.is_drums and (
                "drums" in (name, instrument.name) or any(note.pitch in instrument.notes for note in track.notes)
            ):
                return True
            if not track.is_drums and track.program in instrument.programs:
                return True
            tuned = {"timpani", "taiko", "melodic tom", "toms"}
            if track.name.startswith("timpani") and instrument.name in tuned:
                return True
    return False


def ensemble_faults(played: Played, kind: str, names: Sequence[str]) -> list[str]:
    """What is wrong with who plays, in an ensemble of a kind and with these instruments."""
    faults = []
    # One track may have the keys of several who are named: a surdo and a triangle.
    drummers = [name for name in names if any(_plays(track, (name,)) for track in played.tracks if track.is_drums)]
    players = sum(not track.is_drums for track in played.tracks)
    players += max(sum(track.is_drums for track in played.tracks), len(drummers))
    if kind in _SIZES and players != _SIZES[kind]:
        faults.append(f"{players} players")
    if kind == "a cappella":
        faults += [track.name for track in played.tracks if track.is_drums or track.program not in _VOICES]
    if kind == "only" and names:
        faults += [track.name for track in played.tracks if not _plays(track, names)]
    return faults + [f"no {name}" for name in names if not is_heard(played, name)]


# Tempo, metre and form


def first_bpm(played: Played) -> float:
    """The tempo at the start, in beats: of a tempo that changes in even steps, what the first two come from."""
    (_, first), *others = played.tempos
    (begin, second), (end, _) = (*others, (0.0, first), (0.0, first))[:2]
    is_curve = len(others) > 4 and abs(end - 2 * begin) < 0.02
    return (1.5 * first - 0.5 * second if is_curve else first) / played.beat_quarters


def last_bpm(played: Played) -> float:
    """The tempo at the end, in beats."""
    return played.tempos[-1][1] / played.beat_quarters


def bar_contrast(played: Played, metre: str) -> float:
    """How much more weight falls on the bar lines of a metre than on its other beats; 1: as much.

    Weight is how loud and long notes are; backbeats are left out, as they accent what is no bar line.
    """
    bar = BAR_QUARTERS[metre]
    until = played.last_start - _NEAR_QUARTERS
    at_lines, at_beats, beats = 0.0, 0.0, 0
    unit = 0.5 if metre == "7/8" else 1.5 if metre in _COMPOUND else 1.0
    weights = _weights(played, until)
    lines = int(until / bar)
    if lines < 1:
        return 1.0
    for number in range(lines):
        at_lines += _weight_at(weights, number * bar)
        for beat in range(1, round(bar / unit)):
            at_beats += _weight_at(weights, number * bar + beat * unit)
            beats += 1
    return (at_lines / lines) / max(at_beats / max(beats, 1), 1e-9)


_CELLS: Final = 24


def _weights(played: Played, until: float) -> npt.NDArray[np.float64]:
    """Weight of what begins in each 24th of a quarter; of notes that a player strikes together, that of the longest."""
    weights = np.zeros(round(max(until, 0.0) * _CELLS) + 2 * _CELLS)
    for track in played.tracks:
        own = np.zeros_like(weights)
        for note in track.notes:
            if note.start < until and (not track.is_drums or note.pitch in _LOW_DRUMS):
                length = 0.5 if track.is_drums else min(note.length, 4.0)
                at = round(note.start * _CELLS)
                own[at] = max(own[at], note.velocity * length**0.5)
        weights += own
    return weights


def _weight_at(weights: npt.NDArray[np.float64], quarter: float) -> float:
    near = round(_NEAR_QUARTERS * _CELLS)
    at = round(quarter * _CELLS)
    return float(weights[max(0, at - near) : at + near + 1].sum())


def _rows(played: Played, until: float) -> npt.NDArray[np.float64]:
    """What begins in each 12th of a quarter, less what begins in every beat: a row a player or piece of percussion.

    A pulse repeats by every length, so that it says nothing of the bar. Metres of eighths have a pulse of eighths.
    """
    pulse = 12 if played.metre.endswith("/4") else 6
    rows: dict[tuple[str, int], npt.NDArray[np.float64]] = {}
    cells = round(max(until, 0.0) * 12) + 24
    for number, track in enumerate(played.tracks):
        for note in track.notes:
            if note.start < until:
                row = rows.setdefault((f"{number}", note.pitch if track.is_drums else 0), np.zeros(cells))
                row[round(note.start * 12)] += note.velocity * min(note.length, 2.0) ** 0.5
    smoothed = [np.convolve(row, (0.25, 0.5, 1.0, 0.5, 0.25), "same") for row in rows.values()]
    for row in smoothed:
        for phase in range(pulse):
            row[phase::pulse] -= row[phase::pulse].mean()
    return np.array([row / max(float(np.linalg.norm(row)), 1e-9) for row in smoothed])


def repetition(rows: npt.NDArray[np.float64], bar: float) -> float:
    """How alike rows are to themselves a bar later, 1 is the same."""
    lag = round(bar * 12)
    if rows.shape[1] <= 2 * lag:
        return 0.0
    before, after = rows[:, :-lag], rows[:, lag:]
    return float((before * after).sum() / max((np.linalg.norm(before) * np.linalg.norm(after)), 1e-9))


def metre_faults(played: Played, metre: str) -> list[str]:
    """What speaks against a metre: the time signature, a bar that repeats better, or bar lines without weight."""
    if played.metre != metre:
        return [f"time signature {played.metre}"]
    bar, until = BAR_QUARTERS[metre], played.last_start - _NEAR_QUARTERS
    if until < 3 * bar:
        return []
    rows, faults = _rows(played, until), []
    own, contrast = repetition(rows, bar), bar_contrast(played, metre)
    for other, length in BAR_QUARTERS.items():
        if length % bar == 0 or bar % length == 0:
            continue
        more = repetition(rows, length) - own
        is_stressed = other[-1] == metre[-1] and more > _ALIKE and bar_contrast(played, other) > _STRESSED * contrast
        if more > _MUCH_ALIKE or is_stressed:
            faults.append(f"repeats by bars of {other} rather ({own + more:.2f}, own {own:.2f})")
    if contrast < 1.0:
        faults.append(f"bar lines have {contrast:.2f} of the weight of other beats")
    return faults


def bars(played: Played) -> int:
    """How many bars have notes that begin in them, the final chord's among them."""
    return int((played.last_start + _NEAR_QUARTERS) / BAR_QUARTERS[played.metre]) + 1


# Key


def pitch_classes(played: Played, begin: float = 0.0, end: float = float("inf")) -> npt.NDArray[np.float64]:
    """How long each pitch class sounds in a span of quarters, as a share."""
    shares = np.zeros(12)
    for note in played.pitched:
        length = min(note.start + note.length, end) - max(note.start, begin)
        if length > 0:
            shares[note.pitch % 12] += min(length, 4.0) * note.velocity
    return shares / max(float(shares.sum()), 1e-9)


def with_home(played: Played, shares: npt.NDArray[np.float64], end: float) -> npt.NDArray[np.float64]:
    """The shares, and what is lowest in the chord that ends the piece, or begins it where the span ends before.

    Pitch classes alone do not tell a key from that of its fifth where only some bars are played in it, and music ends
    on its tonic.
    """
    shares = shares.copy()
    notes = played.pitched
    at = max(note.start for note in notes) if end >= played.last_start else min(note.start for note in notes)
    chord = [note.pitch for note in notes if abs(note.start - at) <= 2 * _NEAR_QUARTERS]
    shares[min(chord) % 12] += _HOME
    return shares / float(shares.sum())


def likeliest_key(shares: npt.NDArray[np.float64]) -> Key:
    """The major or minor key whose profile correlates best with how long pitch classes sound."""
    fits = {
        Key(tonic, mode): float(np.corrcoef(np.roll(profile, tonic), shares)[0, 1])
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    return max(fits, key=lambda key: fits[key])


def key_faults(played: Played, key: Key, begin: float = 0.0, end: float = float("inf")) -> list[str]:
    """What speaks against a key in a span: another is likelier, or, of a mode, notes that are not of its scale."""
    shares = pitch_classes(played, begin, end)
    if key.mode in PROFILES:
        found = likeliest_key(with_home(played, shares, end))
        return [] if found == key else [f"{found}"]
    steps = SCALE_STEPS[key.mode]
    inside = float(shares[[(key.tonic + step) % 12 for step in steps]].sum())
    # Chords have notes that scales of five and six have not; the seventh is raised where it leads home.
    least = 0.7 if len(steps) < 7 else 0.92
    faults = [] if inside >= least else [f"only {inside:.0%} in the scale"]
    if float(shares[key.tonic]) < 1.2 / 12:
        faults.append(f"its tonic has {float(shares[key.tonic]):.0%}")
    return faults


# The sound


def tempo_of_audio(mono: Audio, rate_hz: int, low_bpm: float = 50.0, high_bpm: float = 220.0) -> float:
    """The tempo that onsets repeat by best, by the autocorrelation of the spectral flux, in bpm.

    Of several that they repeat by, those about 110 are likelier, as people tap (Ellis, 2007).
    """
    hop = rate_hz // 200
    _, _, spectrum = stft(mono, rate_hz, nperseg=4 * hop, noverlap=3 * hop)
    loud = np.log1p(200.0 * np.abs(spectrum))
    flux = np.maximum(np.diff(loud, axis=1), 0.0).sum(0)
    flux -= flux.mean()
    frames_hz = rate_hz / hop
    size = 1 << (2 * len(flux) - 1).bit_length()
    power = np.fft.irfft(np.abs(np.fft.rfft(flux, size)) ** 2)[: len(flux)]
    power /= np.arange(len(flux), 0, -1)
    tempos = np.exp(np.linspace(np.log(low_bpm), np.log(high_bpm), 1500))
    lags = np.arange(len(power))
    usual = np.exp(-0.5 * (np.log2(tempos / 110.0) / 1.2) ** 2)
    most_s = min(12.0, 0.6 * len(flux) / frames_hz)
    scores = np.zeros(len(tempos))
    for number, bpm in enumerate(tempos):
        beat = 60.0 * frames_hz / bpm
        at = beat * np.arange(1, max(2, int(most_s * frames_hz / beat) + 1))
        scores[number] = np.interp(at, lags, power).mean()
    return float(tempos[(usual * np.maximum(scores, 0.0)).argmax()])


def is_same_tempo(found_bpm: float, asked_bpm: float, metre: str, tolerance: float = 0.04) -> bool:
    """Whether they are the same but for octaves, and for threes where a beat or a bar has three parts."""
    factors = [0.25, 0.5, 1.0, 2.0, 4.0]
    if metre in _COMPOUND or metre == "3/4":
        factors += [1 / 3, 2 / 3, 1.5, 3.0]
    return any(abs(found_bpm * factor / asked_bpm - 1) <= tolerance for factor in factors)


def rms_db(audio: Audio) -> float:
    """Level in dB below full scale."""
    return float(10 * np.log10((audio.astype(np.float64) ** 2).mean() + 1e-12)) if audio.size else -120.0


def rises_in(audio: Audio, rate_hz: int, fade_s: float) -> bool:
    """Whether it fades in: the first tenth of the fade is far softer than what follows it. Turned round: fades out."""
    count = round(fade_s * rate_hz)
    after = audio[count : count + max(rate_hz, count)]
    return rms_db(audio[: max(1, count // 10)]) < rms_db(after if len(after) else audio[count // 2 :]) - 8.0


def seam_step(audio: Audio) -> float:
    """The step from the last sample to the first, through the largest of a thousand steps elsewhere."""
    steps = np.abs(np.diff(audio, axis=0)).max(1)
    return float(np.abs(audio[0] - audio[-1]).max() / max(float(np.percentile(steps, 99.9)), 1e-9))


def mean_velocity(notes: Iterable[Note]) -> float:
    """How hard notes are played."""
    return float(np.mean([note.velocity for note in notes]))


def liveliness(played: Played) -> float:
    """How much is struck in a second, and how hard: the velocities that begin in it."""
    total = sum(note.velocity for track in played.tracks for note in track.notes)
    return total / max(played.seconds(played.last_start), 1.0)


def dynamics_of(played: Played) -> tuple[float, float]:
    """How hard the first and the last third are played."""
    notes = [note for track in played.tracks for note in track.notes if note.start < played.last_start - 0.5]
    notes = notes or [note for track in played.tracks for note in track.notes]
    first = [note for note in notes if note.start <= played.last_start / 3]
    last = [note for note in notes if note.start >= played.last_start * 2 / 3] or notes
    return mean_velocity(first or notes), mean_velocity(last)
