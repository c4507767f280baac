"""An export that ends between any two of its writes, and the next one that goes on from there."""

import io
import os
import shutil
import signal
import sys

import pytest

from batch_jobs.export.copying import export
from batch_jobs.export.destination import Destination
from batch_jobs.export.manifest import read_manifest
from batch_jobs.export.names import Template, name_tracks
from batch_jobs.export.selection import selected_rows
from batch_jobs.ledger.manifests import read_snapshot
from orchestrion.errors import StoreUnavailable
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.export.exported import files_in

TEMPLATE = Template.parse("{title}.{format}")


class Killed(BaseException):
    """Nothing of ours catches it."""


class MortalObjects(Objects):
    """Objects whose writer is killed: from then on nothing is written."""

    def __init__(self, url, writes_to_live=10**9, dies_of=Killed):
        super().__init__(url, readable_names=True)
        self.writes = 0
        self.written = []
        self._writes_to_live = writes_to_live
        self._dies_of = dies_of

    def _write(self, key):
        if self.writes >= self._writes_to_live:
            raise self._dies_of(key)
        self.writes += 1
        self.written.append(key)

    def replace(self, key, data):
        self._write(key)
        super().replace(key, data)

    def delete(self, key):
        self._write(key)
        super().delete(key)


def run(catalog, objects, *, job_id=None, workers=1, delete=True):
    snapshot = read_snapshot(catalog.url, {})
    rows = selected_rows(catalog.url, {}, snapshot, TEMPLATE.columns, job_id)
    return export(
        name_tracks(TEMPLATE, rows),
        TEMPLATE,
        lambda row: catalog.renderer.tracks,
        Destination(objects),
        with_midi=True,
        with_sidecars=True,
        delete=delete,
        workers=workers,
    )


@pytest.fixture
def changed(catalog):
    """A catalog of two jobs: the first lies exported in `first`, and until the second all happens that can happen."""
    rows = [
        {"title": title, "seed": seed}
        for seed, title in enumerate(["stays", "Old", "A", "B", "letters", "withdrawn", "gone"])
    ]
    *_, withdrawn, _ = catalog.add(*rows)
    run(catalog, MortalObjects(str(catalog.root / "first")), job_id="job-1")
    titles = ["stays", "New", "B", "A", "LETTERS", "withdrawn"]
    catalog.add(*({"title": title, "seed": seed} for seed, title in enumerate(titles)), {"title": "more", "seed": 9})
    catalog.withdraw(withdrawn)
    return catalog


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("dies_of", [Killed, StoreUnavailable])
def test_an_export_that_ends_between_any_two_writes_is_gone_on_with(changed, tmp_path, workers, dies_of):
    def destination(name):
        return shutil.copytree(tmp_path / "first", tmp_path / name)

    whole = MortalObjects(str(destination("whole")))
    run(changed, whole, job_id="job-2")
    expected, manifest = files_in(tmp_path / "whole"), read_manifest(whole)
    assert {"stays.flac", "New.flac", "A.flac", "B.flac", "LETTERS.flac", "more.flac"} < expected.keys()
    assert not {"Old.flac", "letters.flac", "withdrawn.flac", "gone.flac"} & expected.keys()
    assert manifest.keys() == expected.keys()
    # Where these are one name, what is deleted last would be gone.
    assert whole.written.index("letters.flac") < whole.written.index("LETTERS.flac")

    assert whole.writes > 20
    for writes_to_live in range(whole.writes):
        place = destination(f"killed-{writes_to_live}")
        with pytest.raises(dies_of):
            run(changed, MortalObjects(str(place), writes_to_live, dies_of), job_id="job-2", workers=workers)
        done = {name for name, data in files_in(place).items() if expected.get(name) == data}
        again = MortalObjects(str(place))

        summary = run(changed, again, job_id="job-2", workers=workers)

        assert files_in(place) == expected, f"after {writes_to_live} writes"
        assert read_manifest(again) == manifest
        assert summary.counts.failed == 0
        assert not done & set(again.written), "what was whole was written again"


def test_names_that_change_while_an_export_is_killed_leave_no_file_behind(catalog, tmp_path):
    catalog.add(*({"title": f"Old {seed}", "seed": seed} for seed in range(3)))
    dead = MortalObjects(str(tmp_path / "files"), writes_to_live=4)
    with pytest.raises(Killed):
        run(catalog, dead)
    assert [name for name in files_in(tmp_path / "files") if name.startswith("Old")], "it was killed too early"
    catalog.add(*({"title": f"New {seed}", "seed": seed} for seed in range(3)))

    run(catalog, MortalObjects(str(tmp_path / "files")), delete=False)

    assert not [name for name in files_in(tmp_path / "files") if name.startswith("Old")]


def test_names_that_go_to_other_tracks_are_theirs_before_anything_is_written(catalog, tmp_path):
    one, two = catalog.add({"title": "A", "seed": 1}, {"title": "B", "seed": 2})
    run(catalog, MortalObjects(str(tmp_path / "files")))
    catalog.add({"title": "B", "seed": 1}, {"title": "A", "seed": 2})

    with pytest.raises(Killed):
        run(catalog, MortalObjects(str(tmp_path / "files"), writes_to_live=1))

    files = read_manifest(Objects(str(tmp_path / "files"), readable_names=True))
    for title, track in (("A", two), ("B", one)):
        for name in (f"{title}.flac", f"{title}.flac.mid", f"{title}.flac.json"):
            assert (files[name].track_id, files[name].sha256) == (track.track_id, None)


def test_a_track_that_is_withdrawn_while_its_export_is_dead_is_not_forgotten(catalog, tmp_path):
    track, _ = catalog.add({"title": "a", "seed": 1}, {"title": "b", "seed": 2})
    with pytest.raises(Killed):
        # The names, and the first track's audio.
        run(catalog, MortalObjects(str(tmp_path / "files"), writes_to_live=2))
    assert files_in(tmp_path / "files").keys() == {"a.flac"}
    catalog.withdraw(track)

    summary = run(catalog, MortalObjects(str(tmp_path / "files")), delete=False)
    assert summary.withheld_files == ["a.flac"]
    run(catalog, MortalObjects(str(tmp_path / "files")))

    assert "a.flac" not in files_in(tmp_path / "files")


def test_what_a_killed_export_was_writing_is_swept(catalog, tmp_path):
    catalog.add({"title": "a", "seed": 1})
    unfinished = tmp_path / "files/.orchestrion/tmp/0123.part"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"half")

    run(catalog, MortalObjects(str(tmp_path / "files")))

    assert list(unfinished.parent.iterdir()) == []


def test_of_titles_that_change_places_none_is_lost_where_one_cannot_be_written(catalog, tmp_path):
    one, two = catalog.add({"title": "A", "seed": 1}, {"title": "B", "seed": 2})
    run(catalog, MortalObjects(str(tmp_path / "files")))
    before = files_in(tmp_path / "files")
    catalog.add({"title": "B", "seed": 1}, {"title": "A", "seed": 2})
    catalog.damage(one)

    run(catalog, MortalObjects(str(tmp_path / "files")))
    # The one that is sound has its new name and not the old one beside it.
    after = files_in(tmp_path / "files")
    assert after["A.flac"] == before["B.flac"] and "B.flac" not in after

    catalog.add({"title": "A", "seed": 1}, {"title": "B", "seed": 2})
    catalog.damage(two)
    run(catalog, MortalObjects(str(tmp_path / "files")))

    assert files_in(tmp_path / "files")["A.flac"] == before["B.flac"]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_an_export_in_order(catalog, tmp_path, monkeypatch, number, exit_code):
    class Stderr(io.StringIO):
        """Whoever reads it sends a signal when copying begins."""

        def write(self, text):
            if "copying" in text:
                os.kill(os.getpid(), number)
            return super().write(text)

    catalog.add(*({"title": f"t{seed}", "seed": seed} for seed in range(3)))
    before = signal.getsignal(signal.SIGTERM)
    # A shell that starts tests in the background has them ignore Ctrl-C.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", told := Stderr())
            assert catalog.export() == exit_code
    finally:
        signal.signal(signal.SIGINT, interrupt)

    assert signal.getsignal(signal.SIGTERM) is before
    assert "Run the same command again to go on." in told.getvalue()
    assert told.getvalue().splitlines()[-1].startswith("export: stopped: ")
    assert catalog.export() == 0
    assert {"t0-0.flac", "t1-1.flac", "t2-2.flac"} < files_in(tmp_path / "files").keys()


def test_a_long_export_says_in_between_what_it_has_written(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr("batch_jobs.export.copying.TRACKS_PER_CHECKPOINT", 2)
    catalog.add(*({"title": f"t{seed}", "seed": seed} for seed in range(5)))
    # Each track is three files; the names are written first, and again after two tracks.
    with pytest.raises(Killed):
        run(catalog, MortalObjects(str(tmp_path / "files"), writes_to_live=9))

    files = read_manifest(Objects(str(tmp_path / "files"), readable_names=True))
    assert files["t0.flac"].sha256 is not None and files["t4.flac"].sha256 is None
