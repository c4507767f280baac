"""What is old and nobody's goes, by the clock of the place it lies in; what is young, needed or others' stays."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from batch_jobs.housekeeping import JOBS_KEPT, UNFINISHED_KEPT, sweep, sweep_unfinished
from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.render_catalog import main
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import private_keys_in
from tests.unit.batch_jobs.committed_job import START, CommittedJob, worker

HEX = "0123456789abcdef" * 2


def aged(path: Path, by: timedelta) -> Path:
    """The same file, as if it had been written so long ago."""
    written = path.lstat().st_mtime - by.total_seconds()
    os.utime(path, (written, written), follow_symlinks=False)
    return path


def unfinished(folder: Path, name=f"{HEX}.part", by=UNFINISHED_KEPT + timedelta(minutes=1)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"half")
    return aged(folder / name, by)


def test_unfinished_files_go_when_their_writers_are_dead_and_only_they(tmp_path):
    old = unfinished(tmp_path / "tmp")
    young = unfinished(tmp_path / "tmp", f"{HEX[::-1]}.part", UNFINISHED_KEPT - timedelta(minutes=1))
    others = unfinished(tmp_path / "tmp", "movie.part")
    below = unfinished(tmp_path / "tmp" / "mine")
    link = tmp_path / "tmp" / f"{'ab' * 16}.part"
    link.symlink_to(others)
    aged(link, 2 * UNFINISHED_KEPT)

    assert sweep_unfinished(Objects(str(tmp_path)), Objects(str(tmp_path))) == 1

    assert not old.exists()
    assert all(path.exists() for path in (young, others, below)) and link.is_symlink()


def test_where_people_look_into_a_folder_it_is_the_hidden_one_that_is_swept(tmp_path):
    ours, theirs = unfinished(tmp_path / ".orchestrion/tmp"), unfinished(tmp_path / "tmp")

    assert sweep_unfinished(Objects(str(tmp_path), readable_names=True)) == 1
    assert not ours.exists() and theirs.exists()


@pytest.fixture
def job(tmp_path, clock):
    """A complete job of two workers, one of whom died, with all that rendering leaves."""
    made = CommittedJob(tmp_path / "out", clock)
    clock.reading_s = 1000.0
    made.commit("01-a", (1, 1.0), (2, 2.0))
    made.folder.claim("01-a", "w-1", START)
    made.folder.begin_alone("01-a", 2, "w-2")
    made.folder.stop("run-1", "SIGTERM", ("bill", 9.0))
    made.folder.end_run("run-1")
    made.objects.replace(f"jobs/job-1/partials/trk_{'a' * 32}", b"codes")
    made.folder.write_journal(replace(worker("w-1"), left=True))
    made.folder.write_journal(worker("w-2", to_s=50.0))
    made.close(rows=2)
    return made


def age(job, by=JOBS_KEPT + timedelta(minutes=1)):
    for path in Path(job.objects.url).rglob("*"):
        if path.is_file():
            aged(path, by)


def files(job):
    folder = Path(job.objects.url) / "jobs/job-1"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_rendering_took_goes_once_a_job_has_been_complete_for_days(job):
    before = job.folder.journals()
    age(job)

    swept = sweep(job.ledger)

    assert swept.of_jobs == 6
    assert {name.partition("/")[0] for name in files(job)} == {"shards", "stops", "closings", "journals.json"}
    again = JobFolder(job.objects, "job-1")
    assert sorted(again.journals(), key=lambda each: each.worker_id) == [replace(each, age_s=None) for each in before]
    assert again.committed() == ["01-a"] and again.stopped_at_usd("bill") == 9.0
    assert sweep(job.ledger).of_jobs == 0


def test_a_job_that_was_swept_is_settled_as_before_and_bills_nobody_twice(job):
    before = job.ledger.snapshot().jobs["job-1"].totals
    age(job)
    sweep(job.ledger)

    job.folder.write_journal(worker("w-3", "run-2", from_s=500.0, to_s=600.0))
    after = CommittedJob(job.objects.url, job.clock).close("run-2", rows=2)

    assert after.node_usd - before.node_usd == pytest.approx(100.0) and after.tracks == before.tracks
    age(job)
    sweep(job.ledger)
    assert {each.worker_id for each in JobFolder(job.objects, "job-1").journals()} == {"w-1", "w-2", "w-3"}


@pytest.mark.parametrize("state", ["interrupted", "budget", "failed"])
def test_a_job_that_somebody_may_go_on_with_stays_as_it_is(job, state):
    job.folder.write_journal(worker("w-3", "run-2"))
    job.entry("run-2", state, rows=3)
    age(job)
    before = files(job)

    assert sweep(job.ledger).of_jobs == 0 and files(job) == before


def test_one_young_file_keeps_all_of_a_job(job):
    age(job)
    job.folder.claim("02-b", "w-9", START)
    before = files(job)

    assert sweep(job.ledger).of_jobs == 0 and files(job) == before


def test_a_worker_that_no_settlement_has_counted_keeps_all_of_a_job(job):
    job.folder.write_journal(worker("w-3", "run-2"))
    age(job)
    before = files(job)

    assert sweep(job.ledger).of_jobs == 0 and files(job) == before


def test_what_others_put_into_a_jobs_folder_is_not_ours_to_delete(job, caplog):
    theirs = ["claims/01-a/notes.txt", "workers/w-8.json", "partials/readme", "alone/01-a/x/w-2"]
    for name in theirs:
        job.objects.replace(f"jobs/job-1/{name}", b"something else")
    age(job)

    sweep(job.ledger)

    assert set(theirs) <= files(job)


# Keys


def test_a_private_key_near_the_top_of_a_folder_is_found_and_public_ones_are_not(tmp_path):
    Signer.create(tmp_path / "store" / "keys" / "signing-key.pem")
    Signer.create(tmp_path / "store" / "blobs" / "as-audio.pem")
    (tmp_path / "notes.txt").write_text("-----BEGIN a story about a PRIVATE KEY")

    assert private_keys_in(str(tmp_path)) == [tmp_path / "store" / "keys" / "signing-key.pem"]
    assert private_keys_in(f"file://{tmp_path}") == private_keys_in(str(tmp_path))
    assert private_keys_in("s3://songs/ledger") == [] == private_keys_in(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("where", ["out/old-key.pem", "out/store/signing-key.pem", "elsewhere/signing-key.pem"])
def test_no_run_begins_where_a_private_key_lies_in_what_is_handed_on(tmp_path, capsys, where):
    (tmp_path / "catalog.csv").write_text("prompt\na waltz\n")
    Signer.create(tmp_path / where)
    command = ["--catalog", str(tmp_path / "catalog.csv"), "--out", str(tmp_path / "out")]

    assert main([*command, "--store", str(tmp_path / "elsewhere")] if "elsewhere" in where else command) == 2

    said = capsys.readouterr().err
    assert "is a private key in the" in said and str(tmp_path / where) in said
    assert not (tmp_path / "out" / "jobs").exists()


def test_the_sweep_warns_of_a_private_key(job, caplog):
    Signer.create(Path(job.objects.url) / "signing-key.pem")

    sweep(job.ledger)

    assert "is a private key" in caplog.text
