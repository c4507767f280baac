"""A dry run names what is bad, counts what is left, and leaves every place as it was."""

import csv
import json
import os
import re
from dataclasses import replace

import pytest

from batch_jobs.ledger.tables import TRACKS_SCHEMA
from batch_jobs.options import RenderOptions, parse
from batch_jobs.planning.bad_rows import COLUMNS
from batch_jobs.planning.dry_run import dry_run as run_dry
from batch_jobs.planning.job import read_job
from batch_jobs.planning.plan import Plan
from batch_jobs.settlement.outcomes import refused_row, shard_table
from orchestrion.errors import InvalidRequest
from orchestrion.storage import object_store
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from orchestrion.tracks.identity import track_id
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer
from tests.test_imports import ROOT
from tests.unit.batch_jobs.committed_job import failure, track
from tests.unit.batch_jobs.sample_ledger import START, StillClock, any_row, write


def dry_run(*arguments):
    return run_dry(*arguments).describe()


TONE = {"prompt": "a tone", "style": "jazz", "format": "flac", "duration_s": 20.0}


@pytest.fixture(autouse=True)
def _on_eight_cores_without_a_cluster(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def options_of(tmp_path):
    """The options of a run on these rows, which are tones unless they say otherwise."""

    def make(*rows, **more):
        path = tmp_path / "catalog" / "songs.jsonl"
        path.parent.mkdir(exist_ok=True)
        lines = (row if isinstance(row, str) else json.dumps(TONE | row) for row in rows)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        key = {"signing_key_path": str(tmp_path / "key.pem")}
        return RenderOptions(catalog=str(path), out=str(tmp_path / "out"), **{"max_workers": 2} | key | more)

    return make


@pytest.fixture
def begin(tmp_path_factory):
    """Begin a job as a run does, and commit its first shards: rows of `fail` as failures, the others as tracks."""

    signer = Signer.create(tmp_path_factory.mktemp("keys") / "key.pem")

    def make(options, shards=None, fail=()):
        objects = Objects(options.ledger_url)
        with Plan() as plan:
            job = read_job(options, options.render_config(), signer, objects, plan, StillClock())
            for refused in plan.open_refused():
                rows = [refused_row(job.folder.job_id, "run-1", row, START) for row in refused.rows]
                job.folder.commit(refused.name, shard_table(rows, []))
            for shard in list(plan.open_shards())[:shards]:
                rows = [
                    failure(row["line"], job.folder.job_id) if row["line"] in fail
                    else track(row["line"], 1.0, job.folder.job_id)
                    for row in shard.rows
                ]  # fmt: skip
                job.folder.commit(shard.name, shard_table(rows, []))
        return job

    return make


def tree(root):
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in root.rglob("*")
    }


def test_one_misspelt_model_costs_one_row_and_the_total_of_the_rest_stands(options_of):
    rows = [{"seed": seed} for seed in range(299)]
    rest = dry_run(options_of(*rows))

    said = dry_run(options_of(*rows, {"row_id": "x", "model": "compser"}))

    assert "300 rows, 1 of them cannot be rendered" in said
    [line] = [line for line in said.splitlines() if "line 300" in line]
    assert "row_id x" in line and "compser" in line and "is not loaded here; use composer" in line
    assert "NOT THE TOTAL" not in said
    assert said.splitlines()[-6:] == rest.splitlines()[-6:], "time and money are those of the other rows"


def test_rows_of_a_model_that_was_never_measured_are_counted_and_in_no_sum(options_of):
    own, other = [{"seed": seed} for seed in range(50)], [{"seed": seed, "model": "lab"} for seed in range(3)]
    models = ("composer", "lab=composer")

    said = dry_run(options_of(*own, *other, models=models))
    rest = dry_run(options_of(*own, models=models))

    assert "53 rows, 0 of them cannot be rendered" in said
    assert "NOT THE TOTAL: 3 tracks of lab was never measured on local-cpu" in said
    [bill], [bill_of_rest] = ([x for x in text.splitlines() if "the bill is" in x] for text in (said, rest))
    assert bill == f"without 3 tracks of lab: {bill_of_rest}"


def test_bad_rows_are_said_with_line_and_remedy_and_all_of_them_are_in_a_file(options_of, tmp_path):
    bad = [{"row_id": f"=r{n}", "title": "+1;=2", "duration_s": 900 + n, "requester": "ann"} for n in range(9)]
    options = options_of({}, *bad, "not json", {"model": "compser", "title": "@x"})

    said = dry_run(options, tmp_path / "bad.csv")

    assert "12 rows, 11 of them cannot be rendered" in said
    assert [f"line {number}, row_id =r{number - 2}: duration_s" in said for number in (2, 6, 7)] == [True, True, False]
    assert f"all 11 of them are in {tmp_path / 'bad.csv'}" in said
    with (tmp_path / "bad.csv").open(encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == COLUMNS
    assert [row[0] for row in rows] == [str(line) for line in range(2, 13)]
    assert rows[0][1:6] == ["'=r0", "'+1;'=2", "ann", "composer", "jazz"] and "900" in rows[0][6]
    assert rows[-1][2] == "'@x" and "use composer" in rows[-1][6]
    assert [path.name for path in tmp_path.iterdir() if "bad" in path.name] == ["bad.csv"]
    assert "and 6 more; --bad-rows FILE" in dry_run(options)


def test_the_documents_have_every_column_of_that_file():
    text = (ROOT / "docs" / "catalogs.md").read_text("utf-8")
    table = text.split("| column of the file of `--bad-rows`", 1)[1].split("\n\n", 1)[0]

    assert tuple(re.findall(r"`(\w+)`", table)) == COLUMNS


def test_a_file_that_cannot_be_written_is_told_and_nothing_is_left_of_it(options_of, tmp_path):
    before = tree(tmp_path)
    options = options_of({"duration_s": 900})

    with pytest.raises(InvalidRequest, match=r"bad_rows.*cannot be written"):
        dry_run(options, tmp_path / "catalog")
    with pytest.raises(InvalidRequest, match=r"bad_rows.*cannot be written"):
        dry_run(options, tmp_path / "no folder" / "bad.csv")

    assert [name for name in tree(tmp_path) if "songs" not in name and name != "catalog"] == list(before)


def test_bad_rows_are_asked_for_with_a_dry_run(capsys):
    command = ["--catalog", "c.csv", "--out", "out", "--bad-rows", "bad.csv"]
    assert str(parse([*command, "--dry-run"]).bad_rows) == "bad.csv"

    with pytest.raises(SystemExit) as exit_:
        parse(command)

    assert exit_.value.code == 2 and "--dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("begun", [False, True], ids=["nothing there", "half done"])
def test_not_one_file_or_folder_is_made_or_changed(options_of, begin, tmp_path, begun):
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "theme.wav").write_bytes(b"a theme")
    options = options_of(*({"seed": seed} for seed in range(90)), {"theme": "theme.wav"}, {"tempo_bpm": 1})
    if begun:
        begin(options, shards=2)
    before = tree(tmp_path)

    for each in (options, replace(options, retry_failures=True)):
        dry_run(each)

    assert tree(tmp_path) == before
    assert (tmp_path / "out").exists() == begun


class ReadOnlyBucket:
    """Objects as S3 has them, and no right to write."""

    url, remedy = "s3://songs/out", "look at the bucket"

    def __init__(self, objects):
        self.objects = objects

    def is_gone(self, error):
        return False

    def read(self, key):
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]

    def read_range(self, key, start, end):
        return self.read(key)[start:end]

    def exists(self, key):
        return key in self.objects

    def keys(self, folder, cuts):
        return [key for key in self.objects if key.startswith(f"{folder}/")]

    def create(self, key, data):
        pytest.fail(f"{key} was written")

    replace = create

    def delete(self, key):
        pytest.fail(f"{key} was deleted")


def test_a_bucket_that_may_only_be_read_is_enough(options_of, begin, tmp_path, monkeypatch):
    options = options_of(*({"seed": seed} for seed in range(90)))
    begin(options, shards=2)
    out = tmp_path / "out"
    objects = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    told = dry_run(options)
    monkeypatch.setattr(object_store, "_backend_for", lambda *_, **__: ReadOnlyBucket(objects))

    said = dry_run(replace(options, out="s3://songs/out"))

    assert "begun" in said and said == told


def to_do(said):
    """Tracks that are left to render."""
    [line] = [line for line in said.splitlines() if line.startswith("composer: ") and " of audio" in line]
    return int(line.removeprefix("composer: ").split()[0])


def test_what_is_committed_is_not_to_be_rendered(options_of, begin):
    options = options_of(*({"seed": seed} for seed in range(90)), {"seed": 1, "requester": "ann"})
    assert to_do(dry_run(options)) == 90

    job = begin(options, shards=3)
    done = len(job.folder.committed()) and sum(
        len(job.folder.shard(name, ["track.line"])) for name in job.folder.committed()
    )

    said = dry_run(options)
    assert f"begun, {91 - done:,} rows to do" in said and 90 - done <= to_do(said) <= 91 - done < 90
    begin(options)
    assert "complete: there is nothing to do" in dry_run(options) and "the bill is $0.00" in dry_run(options)


def test_a_later_round_is_about_what_failed_last(options_of, begin):
    options = options_of(*({"seed": seed} for seed in range(90)), {"tempo_bpm": 1})
    fail = (3, 50, 90)
    again = replace(options, retry_failures=True)
    assert "not begun" in dry_run(again) and to_do(dry_run(again)) == 90

    begin(options, shards=1, fail=fail)
    assert "rows to do; --retry-failures tries failed rows again once it is complete" in dry_run(again)

    job = begin(options, fail=fail)
    said = dry_run(again)
    assert "complete, 3 rows that failed are tried again" in said and to_do(said) == 3
    assert "complete: there is nothing to do" in dry_run(options)

    job.folder.begin_round(2, list(fail))
    assert "begun, 3 rows to do" in dry_run(options) and to_do(dry_run(options)) == 3
    begin(options, fail=(50,))
    assert "complete, 1 rows that failed are tried again" in dry_run(again) and to_do(dry_run(again)) == 1


def test_tracks_that_the_store_has_from_elsewhere_are_left_out_by_their_ids(options_of, tmp_path):
    options = options_of(*({"seed": seed} for seed in range(30)))
    assert "whether tracks are in the store already is not known" in dry_run(options)
    newest = any_row(
        TRACKS_SCHEMA, job_id="job-0", model="composer", model_revision="sha256:0123456789abcdef", recipe_version="7",
        settled_at=START, schema_version=4, cache_hit=True,
    )  # fmt: skip
    write(tmp_path / "out", {"tracks": [newest]})
    store = TrackStore.open(options.render_config().store_url)
    ids = [
        track_id(TrackSpec.from_json(TONE | {"seed": seed}).resolve(), "sha256:0123456789abcdef", "7")
        for seed in range(12)
    ]
    for each in ids[:10]:
        store.publish(each, lambda _: b"a record")
    for each in ids[9:]:
        store.create_tombstone(each, b"withdrawn")

    said = dry_run(options)

    assert "composer: of 30 tracks to do, 9 tracks are in the store already, 3 tracks were withdrawn" in said
    assert "if the model is still of revision 0123456789ab" in said
    assert to_do(said) == 18


def test_a_large_catalog_is_looked_at_in_part_and_every_model_with_it(options_of, tmp_path, monkeypatch):
    monkeypatch.setattr("batch_jobs.planning.open_work.LOOKED_AT", 50)
    rows = [{"seed": seed, "duration_s": 10.0 + seed % 7} for seed in range(400)]
    all_of = dry_run(options_of(*rows, {"model": "lab"}, models=("composer", "lab=composer")))

    assert "by 46 of them, evenly chosen" in all_of
    audio_min = sum(row["duration_s"] for row in rows) / 60
    assert f"composer: 400 tracks, {audio_min:.1f} min of audio" in all_of and "1 track of lab" in all_of


@pytest.mark.parametrize(
    "address, options, workers",
    [
        ("", {"max_workers": 2}, "2 workers on 1 local-cpu"),
        ("", {"max_workers": 50}, "8 workers on 1 local-cpu"),
        ("", {"max_workers": None, "cpus_per_worker": 4.0}, "2 workers on 1 local-cpu"),
        ("ray://head:1", {"max_workers": 50}, "50 workers on 7 local-cpu"),
        ("ray://head:1", {"max_workers": None}, "8 workers on 1 local-cpu"),
    ],
)
def test_workers_are_as_many_as_there_is_room_for(options_of, monkeypatch, address, options, workers):
    monkeypatch.setenv("RAY_ADDRESS", address)

    assert workers in dry_run(options_of(*({"seed": seed} for seed in range(90)), **options))
