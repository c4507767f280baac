"""What goes out beside the audio: each track's signed record, a playlist, and a table for people's spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from batch_jobs.export.names import Row
from batch_jobs.spreadsheet import safe_text
from orchestrion.tracks.record import TrackRecord, signed_values
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signed_record import SignedRecord

#: ISO 639-2: there are no words in it.
NO_LANGUAGE: Final = "zxx"
_NOBODY: Final = TrackSpec.model_fields["requester"].default


@dataclass(frozen=True, slots=True)
class Delivered:
    """A track that is in the destination, and whose record was verified."""

    name: str
    row: Row
    record: TrackRecord

    @property
    def title(self) -> str:
        """As the catalog has it; else its own id, else the track's."""
        given = (one_line(self.row[name] or "") for name in ("title", "row_id"))
        return next(filter(None, given), self.record.track_id)

    @property
    def kept(self) -> dict[str, str]:
        """The catalog's own columns, as far as they were kept."""
        return dict(self.row["kept"] or ())

    def chosen(self, field: str) -> str:
        """What was asked for, or what the model chose; empty if nobody knows."""
        asked = getattr(self.record, field)
        return _number(asked) if asked is not None else self.record.choices.get(field, "")


def sidecar(name: str, row: Row, signed: SignedRecord) -> bytes:
    """The signed record of a track as anybody may have it, with what its catalog calls it: JSON.

    `signed` in it is an envelope as `orchestrion verify --record` reads it, once it is canonical JSON again.
    """
    public = signed.without_caller()
    told = {
        "file": name.rpartition("/")[2],
        "title": row["title"],
        "row_id": row["row_id"],
        "kept": dict(row["kept"] or ()),
        # What its `to_bytes` writes, without making it canonical only to read it again.
        "signed": {"record": signed_values(public.record), "signature": public.signature.to_json()},
    }
    return (json.dumps(told, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8", "backslashreplace")


def playlist(tracks: Iterable[Delivered]) -> bytes:
    """An M3U8 playlist: each track's length and title, and its file as seen from the playlist."""
    lines = ["#EXTM3U"]
    for track in tracks:
        lines += [f"#EXTINF:{round(track.record.duration_s)},{track.title}", track.name]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


#: The table's columns, in words, and what stands in them. The words of DDEX where it has some; a test holds
#: docs/catalogs.md to them.
CSV_COLUMNS: Final = {
    "file": "name of the audio file, as seen from the table",
    "title": "the catalog's `title`, else its `row_id`, else the track id",
    "display_artist": "the row's `requester`, where one was given",
    "duration": "asked for, ISO 8601: `PT2M30S`",
    "tempo_bpm": "asked for, or chosen by the model",
    "key": "asked for, or chosen by the model",
    "genre": "the style asked for, or chosen by the model",
    "language": "`zxx`: no words in it (ISO 639-2)",
    "isrc": "what the catalog has in a kept column `isrc`; else empty: yours to give",
    "ai_generated": "`yes`",
    "ai_model": "the model that made it",
    "ai_model_revision": "hash of its code, weights and sound font",
    "ai_weights_licence": "licence of its weights or sound font",
    "ai_commercial_use": "whether that licence allows commercial use: `yes`, `no`",
    "format": "container and codec",
    "sample_rate_hz": "sampling rate",
    "bytes": "size of the file",
    "sha256": "of the file",
    "created_at": "when the render ended, UTC",
    "track_id": "the track",
    "version": "of its record; empty in the oldest records",
    "job_id": "the job that the row is from",
    "line": "its line in the catalog",
    "row_id": "the catalog's own id of the row",
}


#: Before the names of kept columns, which may be any.
KEPT_PREFIX: Final = "kept: "


def tracks_csv(tracks: Sequence[Delivered]) -> bytes:
    """The table of all tracks. No cell of it is a formula to a spreadsheet; UTF-8, which Excel sees by the mark.

    Behind its own columns stands each column that any of the tracks has kept.
    """
    out = io.StringIO(newline="")
    table = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    kept = sorted({name for track in tracks for name in track.kept})
    table.writerow([*CSV_COLUMNS, *(safe_cell(f"{KEPT_PREFIX}{name}") for name in kept)])
    for track in tracks:
        of_track = track.kept
        table.writerow([*_cells(track), *(safe_cell(of_track.get(name, "")) for name in kept)])
    return out.getvalue().encode("utf-8-sig", "replace")


def _cells(track: Delivered) -> Sequence[str]:
    record, row = track.record, track.row
    requester = row["requested_by"]
    cells = {
        "file": track.name,
        "title": track.title,
        "display_artist": "" if requester == _NOBODY else requester,
        "duration": iso_duration(record.duration_s),
        "tempo_bpm": track.chosen("tempo_bpm"),
        "key": track.chosen("key"),
        "genre": track.chosen("style"),
        "language": NO_LANGUAGE,
        "isrc": next((text for name, text in track.kept.items() if name.casefold() == "isrc"), ""),
        "ai_generated": "yes",
        "ai_model": record.model,
        "ai_model_revision": record.model_revision,
        "ai_weights_licence": record.weights_licence,
        "ai_commercial_use": "yes" if record.commercial_use else "no",
        "format": record.format,
        "sample_rate_hz": str(record.sample_rate_hz),
        "bytes": str(record.audio_bytes),
        "sha256": record.audio_sha256,
        "created_at": record.created_at,
        "track_id": record.track_id,
        "version": "" if record.version is None else str(record.version),
        "job_id": row["job_id"],
        "line": str(row["line"]),
        "row_id": row["row_id"] or "",
    }
    return [safe_cell(cells[name]) for name in CSV_COLUMNS]


def safe_cell(text: str) -> str:
    """One line that no spreadsheet takes for a formula: an apostrophe stands before what would begin one."""
    return safe_text(one_line(text))


def one_line(text: str) -> str:
    """Text without line ends and other control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def iso_duration(seconds: float) -> str:
    """Seconds as ISO 8601 has them: 150 is "PT2M30S"."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    told = f"{hours}H" * (hours > 0) + f"{minutes}M" * (minutes > 0)
    return f"PT{told}{_number(rest / 1000)}S" if rest or not told else f"PT{told}"


def _number(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
