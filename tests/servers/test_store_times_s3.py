"""What a real S3 server tells of time and room: how old objects are by its own clock, and whether it takes bytes."""

from datetime import timedelta

import pytest

from batch_jobs.job_store.job_folder import LEASE_S, JobFolder
from orchestrion.errors import StoreUnavailable
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.committed_job import worker


@pytest.fixture
def objects(s3_server):
    return Objects(s3_server.new_url(), s3_server.storage_options)


def test_the_server_tells_when_an_object_was_written_and_what_time_it_is(objects):
    objects.replace("jobs/a", b"text")

    dated = objects.read_dated("jobs/a", 100)

    assert dated.data == b"text"
    assert timedelta(0) <= dated.read_at - dated.written_at < timedelta(seconds=LEASE_S)
    assert 0.0 <= objects.ages("jobs")["jobs/a"] < LEASE_S


def test_an_empty_object_has_no_age_and_breaks_nothing(objects):
    objects.replace("jobs/a", b"")

    assert objects.read_dated("jobs/a", 100).data == b""


def test_a_worker_is_alive_by_the_servers_clock_whatever_its_own_says(objects):
    folder = JobFolder(objects, "job-1")
    folder.write_journal(worker("w-1", from_s=1e8, to_s=1e9))

    journal = folder.journal("w-1")

    assert journal.is_alive(journal.seen_at + timedelta(hours=5))
    assert (journal.seen_at - journal.up_from).total_seconds() == pytest.approx(9e8)


def test_a_probe_leaves_nothing_and_is_refused_as_a_write_is(objects, s3_server):
    objects.probe(10_000)
    assert objects.keys("tmp") == []

    stranger = Objects(objects.url, s3_server.storage_options | {"key": "nobody"})
    with pytest.raises(StoreUnavailable, match="InvalidAccessKeyId"):
        stranger.probe(10_000)


def test_unfinished_objects_are_swept_by_age_and_those_of_others_stay(objects):
    ours, theirs = f"tmp/{'ab' * 16}.part", "tmp/movie.part"
    for key in (ours, theirs):
        objects.replace(key, b"half")

    assert objects.sweep_unfinished(timedelta(hours=1)) == []
    assert objects.sweep_unfinished(timedelta(0)) == [ours]
    assert objects.keys("tmp") == [theirs]
