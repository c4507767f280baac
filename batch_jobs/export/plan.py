"""What an export has to do, from the ledger's rows and from what the last export left; nothing is read for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from batch_jobs.export.manifest import OF_ALL, ExportedFile
from batch_jobs.export.names import Row, collision_key

#: What a track needs: to be written, to be written over, or nothing.
Need = Literal["new", "changed", "there"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One track as it is to be in the destination."""

    #: Of the audio's file.
    name: str
    row: Row
    midi_name: str | None
    sidecar_name: str | None
    need: Need

    @property
    def track_id(self) -> str:
        """Which track it is."""
        return str(self.row["track_id"])

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its files."""
        return tuple(name for name in (self.name, self.midi_name, self.sidecar_name) if name is not None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be where, and what is left over of earlier exports."""

    tracks: tuple[Wanted, ...]
    #: Names that tracks of this export had before, by track id: they go when the track is there under its new name.
    former: Mapping[str, tuple[str, ...]]
    #: Names of tracks that this export does not have.
    gone: tuple[str, ...]
    #: Those of `former` and `gone` that differ from a wanted name in what some file systems do not tell apart. They
    #: have to go before anything is written, or deleting them later would delete what was written.
    in_the_way: tuple[str, ...]


def plan_export(
    named: Mapping[str, Row], before: Mapping[str, ExportedFile], *, with_midi: bool, with_sidecars: bool
) -> Plan:
    """Compare what is wanted with what is there.

    Args:
        named: the row of each file, by its name.
        before: what the last export wrote.
        with_midi: whether a track's score goes out beside it, where it has one.
        with_sidecars: whether each track's record goes out beside it.
    """
    tracks = tuple(
        Wanted(
            name,
            row,
            f"{name}.mid" if with_midi and row["midi_sha256"] is not None else None,
            f"{name}.json" if with_sidecars else None,
            _need(row, before.get(name)),
        )
        for name, row in named.items()
    )
    wanted_names = {name for wanted in tracks for name in wanted.names}
    wanted_ids = {wanted.track_id for wanted in tracks}
    former: dict[str, tuple[str, ...]] = {}
    gone = []
    for name, file in before.items():
        if name in wanted_names or file.track_id == OF_ALL:
            continue
        if file.track_id in wanted_ids:
            former[file.track_id] = (*former.get(file.track_id, ()), name)
        else:
            gone.append(name)
    left = [*gone, *(name for names in former.values() for name in names)]
    return Plan(tracks, former, tuple(gone), _in_the_way(left, wanted_names))


def _need(row: Row, before: ExportedFile | None) -> Need:
    if before is None:
        return "new"
    is_same = (before.track_id, before.sha256) == (row["track_id"], row["audio_sha256"])
    return "there" if is_same else "changed"


def _in_the_way(left: Iterable[str], wanted: Iterable[str]) -> tuple[str, ...]:
    keys = {collision_key(name) for name in wanted}
    return tuple(name for name in left if collision_key(name) in keys)
