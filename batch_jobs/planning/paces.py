"""How long tracks hold a device: by the tracks of a ledger, for each kind of track, else by `speeds.yaml`.

All of it is means: what is paid is a sum, and the median of tracks times their number is none. Tracks are of one kind
when they have model, format, style and about one length in common. Where a ledger has too few of a kind, more and more
kinds are taken together, down to all tracks of the model, and the style is a factor: what its tracks took beside what
they would have taken as tracks of any style.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.snapshot import Snapshot
from batch_jobs.planning.plan import LENGTHS_S
from batch_jobs.planning.spans import Span, around, eight_of_ten
from batch_jobs.planning.speed_table import ShippedSpeed

#: Fewer tracks of a model say little about the next thousand; fewer of a kind, less than those of more kinds together.
ENOUGH_TRACKS: Final = 20
ENOUGH_OF_A_KIND: Final = 10
#: What is read of a ledger for one model: its newest files, until there are so many tracks or so many files were read.
TRACKS_READ: Final = 20_000
FILES_READ: Final = 20
#: How far the mean of one run is from that of another on the same machines, where there are too few to tell: standard
#: deviation of the logarithm.
RUN_TO_RUN: Final = 0.10


@dataclass(frozen=True, slots=True)
class Kind:
    """What the time of a track depends on, as far as a request says it."""

    model: str
    #: None: the model chooses.
    style: str | None
    format: str
    #: Number of its class of lengths, see `plan.LENGTHS_S`.
    length: int

    @classmethod
    def of(cls, model: str, style: str | None, format_: str, duration_s: float) -> Kind:
        """The kind of a track."""
        return cls(model, style, format_, bisect_left(LENGTHS_S, duration_s))


@dataclass(frozen=True, slots=True)
class Work:
    """Tracks of one kind that are to be rendered, and their audio in seconds. Counts of a sample are no whole ones."""

    kind: Kind
    tracks: float
    audio_s: float


@dataclass(frozen=True, slots=True)
class Pace:
    """What one track holds of a device: `track_s` for each, and `per_audio_s` for each second of its audio."""

    track_s: float
    per_audio_s: float
    #: Tracks that it was measured on, and the variance of what one of them takes beside it, in square seconds.
    tracks: int
    variance: float

    def device_seconds(self, tracks: float, audio_s: float) -> float:
        """Of so many tracks with so much audio in all."""
        return self.track_s * tracks + self.per_audio_s * audio_s

    def times(self, factor: float) -> Pace:
        """Of tracks that take so many times as long."""
        return Pace(self.track_s * factor, self.per_audio_s * factor, self.tracks, self.variance * factor**2)


#: Which tracks are measured together, the nearest kind first, and whether their time is a line of its own over their
#: length or, as they are of about one length, that of their format, so many times as high.
LEVELS: Final[tuple[tuple[tuple[str, ...], bool], ...]] = (
    (("format", "style", "length"), False),
    (("format", "length"), False),
    (("format",), True),
    ((), True),
)
_BY_FORMAT: Final = LEVELS.index((("format",), True))
#: What of a level is said to people.
SAID: Final = ("format, style and length", "format and length", "format", "model")
#: A style's own tracks count as much as the others when there are so many of them: at least, at most, and (the middle)
#: where too few styles have several tracks to tell.
TRACKS_OF_A_STYLE: Final = Span(0.5, 3.0, 12.0)


@dataclass(frozen=True, slots=True)
class Paces:
    """What tracks of one model take on one node type."""

    #: For each of `LEVELS`: by the values of its fields.
    levels: Sequence[Mapping[tuple[object, ...], Pace]]
    #: How far sums of another run may be from these: factors for low and high; eight of ten are within.
    off: Span
    source: str
    #: How many times as long as others the tracks of a style take.
    styles: Mapping[str | None, float] = field(default_factory=dict)

    def pace(self, kind: Kind) -> tuple[int, Pace]:
        """The pace of this kind, and the level that it is from."""
        for number, ((names, _), known) in enumerate(zip(LEVELS, self.levels, strict=True)):
            if (found := known.get(tuple(getattr(kind, name) for name in names))) is not None:
                return number, found if "style" in names else found.times(self.styles.get(kind.style, 1.0))
        raise AssertionError("the last level has all tracks")

    def device_seconds(self, work: Sequence[Work]) -> Span:
        """What this work takes."""
        middle, together = 0.0, dict[Pace, float]()
        for each in work:
            _, pace = self.pace(each.kind)
            middle += pace.device_seconds(each.tracks, each.audio_s)
            together[pace] = together.get(pace, 0.0) + each.tracks
        if not middle:
            return Span(0.0, 0.0, 0.0)
        # Of the new tracks each by itself, and of the mean that all of them are taken to have.
        variance = math.fsum(p.variance * (n + n * n / max(1, p.tracks)) for p, n in together.items())
        by_chance = eight_of_ten(math.sqrt(variance) / middle)
        low = math.hypot(math.log(self.off.middle / self.off.low), by_chance)
        high = math.hypot(math.log(self.off.high / self.off.middle), by_chance)
        return Span(middle * math.exp(-low), middle, middle * math.exp(high))

    def describe(self, work: Sequence[Work]) -> str:
        """Where the figures come from."""
        tracks = [0.0] * len(LEVELS)
        for each in work:
            tracks[self.pace(each.kind)[0]] += each.tracks
        told = [f"{count:,.0f} by {said}" for count, said in zip(tracks, SAID, strict=True) if count >= 0.5]
        return f"{self.source}; of the tracks to render, {', '.join(told)}" if told else self.source


@dataclass(slots=True)
class _Sums:
    """Sums over tracks of seconds of audio (s) and of devices (d), and of their products and quotients."""

    n: int = 0
    s: float = 0.0
    d: float = 0.0
    ss: float = 0.0
    sd: float = 0.0
    dd: float = 0.0
    one_by_s: float = 0.0
    d_by_s: float = 0.0

    def add(self, s: float, d: float) -> None:
        self.n += 1
        self.s += s
        self.d += d
        self.ss += s * s
        self.sd += s * d
        self.dd += d * d
        self.one_by_s += 1.0 / s
        self.d_by_s += d / s

    def line(self) -> Pace:
        """A line over the length that gives the sum of the tracks measured; a share of it where all have one.

        That of least squares with weights of 1 / s: long tracks vary more, and would decide alone.
        """
        track_s, per_audio_s = 0.0, self.d / self.s
        spread = self.one_by_s * self.s - self.n * self.n
        if spread > 1e-9 * self.n * self.n:
            begins = (self.d_by_s * self.s - self.d * self.n) / spread
            slope = (self.one_by_s * self.d - self.n * self.d_by_s) / spread
            # Neither part of a time is less than nothing.
            if slope < 0:
                track_s, per_audio_s = self.d / self.n, 0.0
            elif begins > 0:
                track_s, per_audio_s = begins, slope
        return self._pace(track_s, per_audio_s)

    def beside(self, other: Pace) -> Pace:
        """The other line, so many times as high that it gives the sum of the tracks measured."""
        said = other.device_seconds(self.n, self.s)
        times = self.d / said if said > 0 else 1.0
        return self._pace(other.track_s * times, other.per_audio_s * times)

    def _pace(self, track_s: float, per_audio_s: float) -> Pace:
        squares = (
            self.dd
            + self.n * track_s**2
            + per_audio_s**2 * self.ss
            + 2 * (track_s * per_audio_s * self.s - track_s * self.d - per_audio_s * self.sd)
        )
        return Pace(track_s, per_audio_s, self.n, max(0.0, squares / self.n))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a ledger says of one model on one node type."""

    tracks: int
    #: None where they are too few.
    paces: Paces | None
    #: Of the newest track: model revision and recipe version.
    versions: tuple[str, str] | None


def measured(url: str, storage_options: Mapping[str, Any], snapshot: Snapshot, model: str, node_type: str) -> Measured:
    """The newest tracks of a model in a ledger, and what those rendered on this node type took.

    Reads a few columns of at most `FILES_READ` files.
    """
    of_model = [file for file in snapshot.tables["tracks"] if file.model == model]
    newest_first = sorted(of_model, key=lambda file: (file.day, file.path), reverse=True)
    columns = ["style", "format", "duration_s", "device_seconds", "run_id", "job_id", "node_type", "cache_hit"]
    versions = ["settled_at", "model_revision", "recipe_version"]
    tables: list[pa.Table] = []
    for file in newest_first[:FILES_READ]:
        one = replace(snapshot, tables={**snapshot.tables, "tracks": (file,)})
        tables.append(ledger_dataset(url, storage_options, "tracks", one).to_table(columns=[*columns, *versions]))
        if sum(map(len, tables)) >= TRACKS_READ:
            break
    if not tables:
        return Measured(0, None, None)
    rows = pa.concat_tables(tables)
    newest = rows.sort_by([("settled_at", "descending")]).slice(0, 1).to_pylist()
    rendered = rows.filter(~ds.field("cache_hit") & (ds.field("node_type") == node_type) & (ds.field("duration_s") > 0))
    named = next(((row["model_revision"], row["recipe_version"]) for row in newest), None)
    paces = paces_of(rendered.to_pylist(), model, f"{len(rendered):,} tracks of this ledger on {node_type}")
    return Measured(len(rendered), paces, named)


def paces_of(rows: Sequence[Mapping[str, Any]], model: str, source: str) -> Paces | None:
    """The paces of tracks that were rendered (rows of `tracks`); None if they are too few."""
    if len(rows) < ENOUGH_TRACKS:
        return None
    sums: list[dict[tuple[object, ...], _Sums]] = [{} for _ in LEVELS]
    kinds = [Kind.of(model, row["style"], row["format"], row["duration_s"]) for row in rows]
    for row, kind in zip(rows, kinds, strict=True):
        for (names, _), known in zip(LEVELS, sums, strict=True):
            key = tuple(getattr(kind, name) for name in names)
            known.setdefault(key, _Sums()).add(row["duration_s"], row["device_seconds"])
    lines = {format_: each.line() for (format_,), each in sums[_BY_FORMAT].items()}
    levels = []
    for (_, is_line), known in zip(LEVELS, sums, strict=True):
        enough = {key: each for key, each in known.items() if each.n >= ENOUGH_OF_A_KIND}
        # The first name of a level whose tracks are of about one length is the format.
        levels.append({key: each.line() if is_line else each.beside(lines[key[0]]) for key, each in enough.items()})
    paces = Paces(levels, Span(1.0, 1.0, 1.0), source, _styles(rows, kinds, levels))
    runs: dict[tuple[str, str | None], list[float]] = {}
    for row, kind in zip(rows, kinds, strict=True):
        of_run = runs.setdefault((row["job_id"], row["run_id"]), [0.0, 0.0])
        of_run[0] += row["device_seconds"]
        of_run[1] += paces.pace(kind)[1].device_seconds(1, row["duration_s"])
    known_runs = [(took, said) for took, said in runs.values() if took > 0 and said > 0]
    ratios = [took / said for took, said in known_runs]
    return replace(paces, off=around(1.0, ratios, [said for _, said in known_runs], usually=RUN_TO_RUN))


def _styles(
    rows: Sequence[Mapping[str, Any]], kinds: Sequence[Kind], levels: Sequence[Mapping[tuple[object, ...], Pace]]
) -> dict[str | None, float]:
    """What each style takes beside what is said of all of them; a few tracks of a style are believed in part."""
    of_any_style = Paces([{}, *levels[1:]], Span(1.0, 1.0, 1.0), "")
    tracks: dict[str | None, list[tuple[float, float]]] = {}
    for row, kind in zip(rows, kinds, strict=True):
        said = of_any_style.pace(kind)[1].device_seconds(1, row["duration_s"])
        tracks.setdefault(kind.style, []).append((row["device_seconds"], said))
    sums = {
        style: (math.fsum(took for took, _ in of), math.fsum(said for _, said in of)) for style, of in tracks.items()
    }
    ratios = [of_style for of in tracks.values() if (of_style := [took / said for took, said in of if said > 0])]
    usual = _tracks_that_tell(ratios) * math.fsum(said for _, said in sums.values()) / len(rows)
    return {style: (took + usual) / (said + usual) if said else 1.0 for style, (took, said) in sums.items()}


def _tracks_that_tell(ratios: Sequence[Sequence[float]]) -> float:
    """How many tracks of a style tell as much as all others do: the variance within styles by that between them.

    One-way random effects, by the method of moments.
    """
    count, groups = sum(map(len, ratios)), len(ratios)
    if groups < 2 or count - groups < groups:
        return TRACKS_OF_A_STYLE.middle
    means = [math.fsum(of) / len(of) for of in ratios]
    mean = math.fsum(map(math.fsum, ratios)) / count
    squares_within = math.fsum((each - own) ** 2 for of, own in zip(ratios, means, strict=True) for each in of)
    squares_between = math.fsum(len(of) * (own - mean) ** 2 for of, own in zip(ratios, means, strict=True))
    tracks_a_style = (count - math.fsum(len(of) ** 2 for of in ratios) / count) / (groups - 1)
    within = squares_within / (count - groups)
    between = (squares_between / (groups - 1) - within) / tracks_a_style
    if between <= 0:
        return TRACKS_OF_A_STYLE.high
    return min(max(within / between, TRACKS_OF_A_STYLE.low), TRACKS_OF_A_STYLE.high)


def shipped_paces(speed: ShippedSpeed) -> Paces:
    """The same from a row of `speeds.yaml`."""
    of_formats: dict[tuple[object, ...], Pace] = {
        (name,): Pace(speed.track_s, per_s, ENOUGH_TRACKS, 0.0) for name, per_s in speed.audio.items()
    }
    dearest = max(of_formats.values(), key=lambda pace: pace.per_audio_s)
    return Paces([{}, {}, of_formats, {(): dearest}], Span(speed.low, 1.0, speed.high), speed.dated_source)
