"""The ledger as its writers and readers find it: one commit for all tables, and readers who see all of it or none."""

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from batch_jobs.compact_ledger import compact
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.manifests import MANIFESTS_KEPT, read_snapshot
from batch_jobs.ledger.record_rows import RECORD_SCHEMA
from batch_jobs.ledger.snapshot import TABLES, Change, Snapshot
from batch_jobs.ledger.tables import FAILURES_SCHEMA, TRACKS_SCHEMA
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.committed_job import START, CommittedJob, failure, node, track, worker

DOCS = Path(__file__).resolve().parents[4] / "docs" / "ledger.md"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def ledger(out, clock):
    return Ledger(Objects(str(out)), clock)


def tracks(*rows) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=TRACKS_SCHEMA)


def failures(*rows) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=FAILURES_SCHEMA)


def add(ledger, table, rows):
    """Commit rows to one table."""
    added = ledger.write(table, rows)
    return ledger.commit(lambda _: Change(added={table: added}))


def lines(url, table="tracks") -> list[int]:
    return sorted(ledger_dataset(str(url), {}, table).to_table()["line"].to_pylist())


def manifest_names(out) -> list[str]:
    return sorted(path.name for path in (out / "manifests").iterdir())


# What a commit leaves


def test_the_manifest_names_every_file_with_its_rows_and_hash(out, clock):
    job = CommittedJob(out, clock)
    job.commit("01-a", (1, 1.0), (2, 2.0))
    job.folder.write_journal(worker("w1"))
    job.close()

    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest == json.loads((out / "manifests" / "00000001.json").read_bytes())
    files = [file for name in TABLES for file in manifest["tables"][name]]
    lying = [path for name in TABLES for path in (out / name).rglob("*.parquet")]
    assert sorted(out / file["path"] for file in files) == sorted(lying)
    for file in files:
        data = (out / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        assert pq.ParquetFile(out / file["path"]).metadata.num_rows == file["rows"]
        assert file["sha256"][:32] in file["path"] and file["job_id"] == ("job-1" if file["rows"] else None)
    assert (manifest["number"], manifest["jobs"]["job-1"]["totals"]["tracks"]) == (1, 2)


def test_rows_lie_under_the_utc_day_of_their_moment_and_their_model(out, ledger):
    night = START - timedelta(seconds=1)
    rows = [track(1, settled_at=night), track(2, settled_at=START), track(3, model="lab/large:v1 %é")]
    add(ledger, "tracks", tracks(*rows))
    add(ledger, "failures", failures(failure(4, settled_at=night)))

    snapshot = ledger.snapshot()
    files = [(name, file) for name in ("tracks", "failures") for file in snapshot.tables[name]]
    assert sorted((file.path.rpartition("/")[0], file.day, str(file.model)) for _, file in files) == [
        ("failures/2025-12-31", "2025-12-31", "None"),
        ("tracks/2025-12-31", "2025-12-31", "composer"),
        ("tracks/2026-01-01", "2026-01-01", "composer"),
        ("tracks/2026-01-01", "2026-01-01", "lab/large:v1 %é"),
    ]
    for name, file in files:
        rows = pq.ParquetFile(out / file.path).read()
        assert rows["day"].to_pylist() == [date.fromisoformat(file.day)]
        assert rows["model"].to_pylist() == ([file.model] if name == "tracks" else [None])


def test_the_rows_of_a_job_lie_together_in_a_file_with_statistics(out, ledger):
    rows = [track(line, job_id=f"job-{line % 3}", settled_at=START + timedelta(seconds=line)) for line in range(30)]
    snapshot = add(ledger, "tracks", tracks(*reversed(rows)))

    file = pq.ParquetFile(out / snapshot.tables["tracks"][0].path)
    kept = file.read(columns=["job_id", "line"]).to_pylist()
    assert kept == sorted(kept, key=lambda row: (row["job_id"], row["line"]))
    statistics = file.metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == ("job-0", "job-2")
    assert snapshot.tables["tracks"][0].job_id is None


def test_pyarrow_pandas_duckdb_and_the_dataset_read_the_same_from_the_manifest(out, ledger):
    add(ledger, "tracks", tracks(track(1, 1.0), track(2, 2.0, model="lab/large:v1 %é")))
    paths = [str(out / file["path"]) for file in json.loads((out / "manifest.json").read_bytes())["tables"]["tracks"]]

    frame = pd.read_parquet(paths, partitioning=None)
    arrow = ds.dataset(paths).to_table()
    duck = duckdb.sql(f"SELECT line, model, day FROM read_parquet({paths}, hive_partitioning = false) ORDER BY line")
    ours = ledger_dataset(str(out), {}, "tracks").to_table().sort_by("line")

    expected = [(1, "composer", date(2026, 1, 1)), (2, "lab/large:v1 %é", date(2026, 1, 1))]
    assert duck.fetchall() == expected
    assert list(zip(*(ours[name].to_pylist() for name in ("line", "model", "day")), strict=True)) == expected
    assert sorted(arrow["model"].to_pylist()) == sorted(frame["model"]) == ["composer", "lab/large:v1 %é"]
    assert ours.schema.names == [*TRACKS_SCHEMA.names, "day"]


# Readers


class CountingFiles(LocalFileSystem):
    """Files of this machine; notes which Parquet files are opened."""

    protocol = "counted"
    opened: set = set()  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("counted://"))

    def _open(self, path, *args, **kwargs):
        if path.endswith(".parquet"):
            CountingFiles.opened.add(Path(path).name)
        return super()._open(path, *args, **kwargs)


@pytest.fixture
def two_models(out, ledger):
    """Two months of two models, a file for each on each tenth day."""
    rows = [
        track(10 * day + number, 1.0, model=model, settled_at=START + timedelta(days=10 * day))
        for day in range(6)
        for number, model in enumerate(["composer", "lab/large"])
    ]
    add(ledger, "tracks", tracks(*rows))
    return str(out)


def test_a_question_about_one_model_and_one_week_opens_only_its_files(two_models, monkeypatch):
    fsspec.register_implementation("counted", CountingFiles, clobber=True)
    monkeypatch.setattr(CountingFiles, "opened", set())
    snapshot = read_snapshot(two_models, {})
    week = (ds.field("day") >= date(2026, 2, 1)) & (ds.field("day") <= date(2026, 2, 16))

    dataset = ledger_dataset(f"counted://{two_models}", {}, "tracks", snapshot)
    found = dataset.to_table(filter=week & (ds.field("model") == "lab/large"))

    assert found["line"].to_pylist() == [41]
    assert CountingFiles.opened == {
        Path(file.path).name
        for file in snapshot.tables["tracks"]
        if (file.day, file.model) == ("2026-02-10", "lab/large")
    }


def test_duckdb_filters_reach_through_the_dataset(two_models):
    tracks = ledger_dataset(two_models, {}, "tracks")  # noqa: F841
    query = "SELECT line, day FROM tracks WHERE model = 'lab/large' AND day = DATE '2026-02-10'"

    assert duckdb.sql(query).fetchall() == [(41, date(2026, 2, 10))]


def test_a_reader_with_one_manifest_sees_one_moment_in_every_table(out, clock):
    job = CommittedJob(out, clock)
    job.commit("01-a", (1, 20.0))
    job.folder.write_journal(worker("w1", on=node("n1")))
    job.close()
    then = read_snapshot(str(out), {})

    job.commit("01-b", (2, 20.0))
    job.folder.write_journal(worker("w2", "run-2", on=node("n2")))
    job.close("run-2")

    seen = {name: ledger_dataset(str(out), {}, name, then).count_rows() for name in TABLES}
    assert seen == {"tracks": 1, "failures": 0, "attempts": 1, "nodes": 1}
    assert ledger_dataset(str(out), {}, "nodes").count_rows() == 2


def test_files_of_an_older_release_read_with_null_in_the_columns_that_came_later(out, ledger, monkeypatch):
    later = {"waste_usd", "idle_usd", "total_usd", "continuation", "guidance"}
    schema = pa.schema([field for field in TRACKS_SCHEMA if field.name not in later])
    with monkeypatch.context() as older:
        older.setitem(TABLES, "tracks", replace(TABLES["tracks"], schema=schema))
        add(ledger, "tracks", pa.Table.from_pylist([track(2, 1.0)], schema=schema))
    add(ledger, "tracks", tracks(track(1, 1.0, waste_usd=0.5)))

    rows = ledger_dataset(str(out), {}, "tracks").to_table().sort_by("line")
    assert rows["waste_usd"].to_pylist() == [0.5, None]
    assert rows.schema.names == [*TRACKS_SCHEMA.names, "day"]
    paths = [str(out / file.path) for file in read_snapshot(str(out), {}).tables["tracks"]]
    query = f"SELECT line, waste_usd FROM read_parquet({paths}, hive_partitioning = false, union_by_name = true)"
    assert sorted(duckdb.sql(query).fetchall()) == [(1, 0.5), (2, None)]


def test_a_table_without_rows_reads_as_one(out, ledger):
    add(ledger, "tracks", tracks(track(1)))

    nothing = ledger_dataset(str(out), {}, "attempts")
    assert (nothing.count_rows(), nothing.schema.names) == (0, [*TABLES["attempts"].schema.names, "day"])
    assert ledger.dataset("nodes").to_table().num_rows == 0


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_a_ledger_is_said_so_and_is_not_made_one(out, made):
    if made:
        out.mkdir()
    with pytest.raises(NotFound, match=r"no ledger in .*--out of render_catalog"):
        ledger_dataset(str(out), {}, "tracks")
    assert out.exists() == made and not list(out.rglob("*"))


def test_other_files_among_the_manifests_are_no_manifests(out, ledger):
    add(ledger, "tracks", tracks(track(1)))
    (out / "manifests" / "00000009.json.bak").write_text("a copy")
    (out / "manifests" / ".DS_Store").write_text("")

    add(ledger, "tracks", tracks(track(2)))
    assert (lines(out), read_snapshot(str(out), {}).number) == ([1, 2], 2)


def test_a_manifest_of_another_release_is_refused(out, ledger):
    add(ledger, "tracks", tracks(track(1)))
    manifest = json.loads((out / "manifests" / "00000001.json").read_bytes())
    (out / "manifests" / "00000002.json").write_text(json.dumps(manifest | {"manifest_version": 9, "number": 2}))

    with pytest.raises(InvalidRequest, match="another release"):
        read_snapshot(str(out), {})


def test_a_damaged_file_is_not_taken_for_rows(out, ledger):
    snapshot = add(ledger, "tracks", tracks(track(1)))
    [file] = snapshot.tables["tracks"]
    (out / file.path).write_bytes((out / file.path).read_bytes()[:-1] + b"?")

    with pytest.raises(StoreUnavailable, match="damaged"):
        ledger.read("tracks", file)


# Writers at the same time


def test_two_writers_at_once_both_get_their_rows_in(out, ledger, clock):
    second = Ledger(Objects(str(out)), clock)
    mine = ledger.write("tracks", tracks(track(1)))
    seen = []

    def build(newest: Snapshot) -> Change:
        seen.append(newest.number)
        if len(seen) == 1:
            add(second, "tracks", tracks(track(2)))
        return Change(added={"tracks": mine})

    ledger.commit(build)

    assert (seen, lines(out)) == ([0, 1], [1, 2])


def test_a_writer_that_slept_through_many_commits_does_not_take_an_old_number(out, ledger, clock):
    second = Ledger(Objects(str(out)), clock)
    others = second.write("tracks", tracks(track(2)))
    mine = ledger.write("tracks", tracks(track(1)))
    slept = []

    def build(newest: Snapshot) -> Change | None:
        if any(file in newest.tables["tracks"] for file in mine):
            return None
        if not slept:
            slept.append(True)
            second.commit(lambda _: Change(added={"tracks": others}))
            for _ in range(MANIFESTS_KEPT + 3):
                second.commit(lambda _: Change())
        return Change(added={"tracks": mine})

    ledger.commit(build)

    # Number 1 was free again: its manifest had been deleted.
    assert lines(out) == [1, 2]
    assert read_snapshot(str(out), {}).number == MANIFESTS_KEPT + 5


def test_a_commit_that_others_always_beat_gives_up_and_says_so(out, ledger, clock):
    second = Ledger(Objects(str(out)), clock)

    def build(_: Snapshot) -> Change:
        second.commit(lambda _: Change())
        return Change()

    with pytest.raises(StoreUnavailable, match="run the same command again"):
        ledger.commit(build)


def test_the_last_manifests_are_kept_and_older_ones_deleted(out, ledger):
    for _ in range(MANIFESTS_KEPT + 2):
        ledger.commit(lambda _: Change())

    assert manifest_names(out) == [f"{number:08}.json" for number in range(3, MANIFESTS_KEPT + 3)]


class SlowObjects(Objects):
    """Objects of a writer that another one overtakes just before it replaces manifest.json."""

    def __init__(self, url, meanwhile):
        super().__init__(url)
        self.meanwhile = [meanwhile]

    def replace(self, key, data):
        if self.meanwhile:
            self.meanwhile.pop()()
        super().replace(key, data)


def test_manifest_json_ends_as_the_newest_whoever_is_slow(out, ledger, clock):
    slow = Ledger(SlowObjects(str(out), lambda: add(ledger, "tracks", tracks(track(2)))), clock)

    add(slow, "tracks", tracks(track(1)))

    assert (out / "manifest.json").read_bytes() == (out / "manifests" / "00000002.json").read_bytes()
    assert lines(out) == [1, 2]


def test_a_crash_before_manifest_json_was_replaced_is_mended_by_the_next_commit(out, ledger):
    add(ledger, "tracks", tracks(track(1)))
    old = (out / "manifest.json").read_bytes()
    add(ledger, "tracks", tracks(track(2)))
    (out / "manifest.json").write_bytes(old)

    assert lines(out) == [1, 2]
    ledger.commit(lambda _: Change())
    assert json.loads((out / "manifest.json").read_bytes())["number"] == 3


# What other writers of the folder may leave


def manifest(ledger, number=None, **values) -> bytes:
    """The newest manifest with other values, or an empty one; `number` is its own if not given."""
    newest = ledger.snapshot()
    empty = replace(newest, number=1) if newest.number == 0 else newest
    text = json.loads(empty.to_bytes()) | values
    return json.dumps(text | ({} if number is None else {"number": number})).encode()


def a_file(**values) -> dict:
    known = {
        "path": f"tracks/day=2026-01-01/model=composer/part-20260101T000000Z-{'a' * 32}.parquet",
        "rows": 1, "bytes": 8, "sha256": "b" * 64, "job_id": None, "day": "2026-01-01", "model": "composer",
    }  # fmt: skip
    return known | values


def a_job(**values) -> dict:
    known = {"catalog": "c", "catalog_sha256": "", "store": "", "state": "failed", "rows": 1, "totals": {}}
    return {"job-1": known | {"closings": []} | values}


KEY = "jobs/job-1/closings/" + "0" * 32 + ".json"
JUNK_MANIFESTS = {
    "empty": b"",
    "not JSON": b"x",
    "other fields": b"{}",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "one field more": {"more": 1},
    "a table of another name": {"tables": {"secrets": []}},
    "NaN": {"jobs": a_job(totals={"node_usd": float("nan")})},
    "a sum that is a word": {"jobs": a_job(totals={"node_usd": "all"})},
    "a state that is none": {"jobs": a_job(state="done")},
    "a job's name that is a path": {"jobs": {"../x": a_job()["job-1"]}},
    **{
        f"the settlement {key}": {"jobs": a_job(closings=[key])}
        for key in (
            "../private.txt",
            "/etc/passwd",
            "jobs/job-2/closings/" + "0" * 32 + ".json",
            KEY + "/..",
            "",
        )
    },
    **{
        f"the file {path}": {"tables": {"tracks": [a_file(path=path)]}}
        for path in (
            "../private.txt",
            "/etc/passwd",
            "private.txt",
            "tracks/../../private.txt",
            a_file()["path"].replace("tracks/", "tracks/../"),
            a_file()["path"].replace("tracks/", "nodes/"),
            a_file()["path"].replace("composer", "%2e%2e"),
            a_file()["path"].replace("2026-01-01/", "2026-01-02/"),
            a_file()["path"] + "\n",
        )
    },
    "a day that is none": {"tables": {"tracks": [a_file(day="2026-99-99")]}},
    "a file of -1 rows": {"tables": {"tracks": [a_file(rows=-1)]}},
    "a hash that is none": {"tables": {"tracks": [a_file(sha256="x")]}},
    **{
        f"replaced {path}": {"replaced": [{"path": path, "at": "2020-01-01T00:00:00+00:00"}]}
        for path in ("../private.txt", "private.txt", "store/blobs/x.flac", "manifests/00000001.json")
    },
    "replaced at no time": {"replaced": [{"path": a_file()["path"], "at": "long ago"}]},
}


@pytest.fixture
def private(tmp_path):
    path = tmp_path / "private.txt"
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"


@pytest.mark.parametrize("kind", JUNK_MANIFESTS)
def test_a_manifest_that_is_none_is_skipped_and_commits_go_around_it(out, ledger, private, caplog, kind):
    add(ledger, "tracks", tracks(track(1)))
    junk = JUNK_MANIFESTS[kind]
    data = junk if isinstance(junk, bytes) else manifest(ledger, 2, **junk)
    (out / "manifests" / "00000002.json").write_bytes(data)
    assert (read_snapshot(str(out), {}).number, lines(out)) == (1, [1])
    caplog.clear()

    snapshot = add(ledger, "tracks", tracks(track(2)))
    ledger.sweep(timedelta(0))
    compact(ledger, timedelta(0))

    assert snapshot.number == 3 and lines(out) == [1, 2]
    assert (out / "manifests" / "00000002.json").read_bytes() == data
    assert json.loads((out / "manifest.json").read_bytes())["number"] == ledger.snapshot().number
    assert len([message for message in caplog.messages if "00000002" in message and "is skipped" in message]) == 1


@pytest.mark.parametrize("number", [30, 99_999_999])
@pytest.mark.parametrize("commits", [0, 1, MANIFESTS_KEPT + 3])
@pytest.mark.parametrize("is_valid", [False, True])
def test_a_manifest_far_from_the_others_does_not_count_and_stops_nobody(out, ledger, caplog, number, commits, is_valid):
    number += commits
    number = min(number, 99_999_999)
    for at in range(commits):
        add(ledger, "tracks", tracks(track(at)))
    (out / "manifests").mkdir(exist_ok=True)
    (out / "manifests" / f"{number:08}.json").write_bytes(manifest(ledger, number) if is_valid and commits else b"x")

    snapshot = add(ledger, "tracks", tracks(track(1000)))

    assert snapshot.number == commits + 1 and lines(out) == [*range(commits), 1000]
    assert json.loads((out / "manifest.json").read_bytes())["number"] == commits + 1
    assert f"{number:08}" in caplog.text


def test_many_commits_go_on_beside_junk(out, ledger, clock):
    second = Ledger(Objects(str(out)), clock)
    for at in range(1, 60):
        if at % 7 == 0:
            taken = max(int(name[:8]) for name in manifest_names(out))
            (out / "manifests" / f"{taken + 1:08}.json").write_bytes(b"junk")
        add((ledger, second)[at % 2], "tracks", tracks(track(at)))

    assert lines(out) == list(range(1, 60))
    assert len(manifest_names(out)) <= 2 * MANIFESTS_KEPT


def test_what_would_be_skipped_is_not_written(out, ledger):
    file = replace(ledger.write("tracks", tracks(track(1)))[0], path="../private.parquet")

    with pytest.raises(ValueError, match="is no file of 'tracks'"):
        ledger.commit(lambda _: Change(added={"tracks": [file]}))
    assert not (out / "manifests").exists()


def test_junk_that_comes_while_a_commit_is_made_is_gone_around(out, ledger):
    mine = ledger.write("tracks", tracks(track(1)))
    squats = iter(range(1, 4))

    def build(newest: Snapshot) -> Change:
        if (number := next(squats, None)) is not None:
            (out / "manifests").mkdir(exist_ok=True)
            (out / "manifests" / f"{number:08}.json").write_bytes(b"junk")
        return Change(added={"tracks": mine})

    assert ledger.commit(build).number == 4 and lines(out) == [1]


def test_other_names_among_the_manifests_are_named_once(out, ledger, caplog):
    add(ledger, "tracks", tracks(track(1)))
    (out / "manifests" / "newest.json").write_bytes(b"{}")
    for _ in range(3):
        ledger.snapshot()

    assert len([message for message in caplog.messages if "newest.json" in message]) == 1


def test_sweeping_deletes_nothing_that_only_looks_like_ours(out, ledger, clock):
    [kept] = add(ledger, "tracks", tracks(track(1))).tables["tracks"]
    name = Path(kept.path).name
    others = [
        f"tracks/{name}",
        f"tracks/day=2026-01-01/x/{name}",
        f"tracks/day=2026-01-01/model=a/b/{name}",
        f"nodes/day=today/{name}",
    ]
    for other in others:
        (out / other).parent.mkdir(parents=True, exist_ok=True)
        (out / other).write_bytes(b"somebody's")
    clock.reading_s += timedelta(days=300).total_seconds()

    assert ledger.sweep(timedelta(0)) == []
    assert all((out / other).exists() for other in others)


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_link_in_the_place_of_a_file_is_not_followed(out, ledger, tmp_path, where):
    [file] = add(ledger, "tracks", tracks(track(1))).tables["tracks"]
    place = out / file.path
    if where == "folder":
        place = place.parent
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(InvalidRequest, match="is a link"):
        lines(out)
    with pytest.raises(StoreUnavailable, match="damaged"):
        ledger.read("tracks", file)


# Sweeping


def parquet(out) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.parquet"))


def test_what_a_dead_writer_left_is_swept_and_what_a_living_one_wrote_is_not(out, ledger, clock):
    [kept] = add(ledger, "tracks", tracks(track(1))).tables["tracks"]
    [dead] = ledger.write("tracks", tracks(track(2)))
    (out / "tracks" / "mine.parquet").write_bytes(b"not the ledger's")
    clock.reading_s += timedelta(hours=23).total_seconds()
    [living] = ledger.write("tracks", tracks(track(3)))
    assert ledger.sweep(timedelta(0)) == []

    clock.reading_s += timedelta(hours=2).total_seconds()

    assert ledger.sweep() == [dead.path]
    schemas = [file.path for file in ledger.snapshot().schemas.values()]
    assert parquet(out) == sorted([kept.path, living.path, "tracks/mine.parquet", *schemas])
    ledger.commit(lambda _: Change(added={"tracks": [living]}))
    assert lines(out) == [1, 3]


def test_a_replaced_file_stays_for_readers_of_older_manifests(out, ledger, clock):
    [old] = add(ledger, "tracks", tracks(track(1))).tables["tracks"]
    then = read_snapshot(str(out), {})
    clock.reading_s += timedelta(days=300).total_seconds()
    new = ledger.write("tracks", tracks(track(1, 5.0)))
    ledger.commit(lambda _: Change(added={"tracks": new}, removed=[old.path]))
    for _ in range(MANIFESTS_KEPT):
        ledger.commit(lambda _: Change())

    assert ledger.sweep(timedelta(hours=1)) == []
    assert ledger_dataset(str(out), {}, "tracks", then).to_table()["charged_usd"].to_pylist() == [0.0]
    clock.reading_s += 3601

    assert ledger.sweep(timedelta(hours=1)) == [old.path]
    assert read_snapshot(str(out), {}).replaced == ()
    assert ledger.sweep(timedelta(hours=1)) == []
    assert ledger_dataset(str(out), {}, "tracks").to_table()["charged_usd"].to_pylist() == [5.0]


def test_files_that_may_be_swept_as_abandoned_are_not_committed(out, ledger, clock):
    files = ledger.write("tracks", tracks(track(1)))
    clock.reading_s += timedelta(hours=13).total_seconds()

    with pytest.raises(StoreUnavailable, match="run the same command again"):
        ledger.commit(lambda _: Change(added={"tracks": files}))
    assert ledger.snapshot() == Snapshot.empty()


def test_a_ledger_that_cannot_be_written_says_so(tmp_path, clock):
    ledger = Ledger(Objects(str(tmp_path / "out")), clock)
    (tmp_path / "out" / "tracks").write_text("a file is in the way")

    with pytest.raises(StoreUnavailable):
        ledger.write("tracks", tracks(track(1)))


def test_a_name_says_when_its_file_was_written(out, clock):
    clock.start = datetime(2026, 11, 22, 21, 55, 1, tzinfo=UTC)
    [file] = Ledger(Objects(str(out)), clock).write("tracks", tracks(track(1)))

    assert Path(file.path).name.startswith("part-20261122T215501Z-")


# The page about it


def test_the_documentation_has_every_column_as_it_is():
    page = DOCS.read_text(encoding="utf-8")
    for name, layout in TABLES.items():
        section = page.split(f"### `{name}`\n", 1)[1].partition("\n#")[0]
        told = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| (.+) \|$", section, re.MULTILINE)
        # The columns of the signed record have a page of their own, which another test holds.
        own = [field for field in layout.file_schema if name != "tracks" or field.name not in RECORD_SCHEMA.names]
        assert told == [
            (field.name, column_type(field), "yes" if field.nullable else "no", description(field)) for field in own
        ]


def column_type(field) -> str:
    return str(field.type).replace(" not null", "")


def description(field) -> str:
    described = field.metadata or RECORD_SCHEMA.field(field.name).metadata
    return described[b"description"].decode()
