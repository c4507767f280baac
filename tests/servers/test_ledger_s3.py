"""The ledger in a bucket, on a real S3 server: settlements that race, a compaction, and readers."""

import json
import threading

import duckdb
import pytest

from batch_jobs.compact_ledger import compact
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.manifests import read_snapshot
from orchestrion.errors import NotFound, StoreUnavailable
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.committed_job import CommittedJob, node, worker
from tests.unit.batch_jobs.conftest import SteppingClock


@pytest.fixture
def job_in(s3_server):
    def make(url, job_id="job-1"):
        clock = SteppingClock()
        clock.reading_s = 100_000.0
        return CommittedJob(url, clock, job_id, Objects(url, s3_server.storage_options))

    return make


def test_closings_at_the_same_time_publish_everything_once(s3_server, job_in, tmp_path):
    url, options = s3_server.new_url(), s3_server.storage_options
    jobs = [job_in(url, job_id) for job_id in ("job-1", "job-1", "job-2")]
    for name, job in (("n1", jobs[1]), ("n2", jobs[2])):
        job.commit("01-a", (1, 1.0), (2, 3.0))
        job.folder.write_journal(worker("w1", on=node(name)))

    # Two drivers of one job, and one of another.
    closings = [threading.Thread(target=job.close, kwargs={"rows": 2}) for job in jobs]
    for each in closings:
        each.start()
    for each in closings:
        each.join(timeout=60)

    snapshot = read_snapshot(url, options)
    tracks = ledger_dataset(url, options, "tracks", snapshot).to_table()
    found = sorted(zip(tracks["job_id"].to_pylist(), tracks["line"].to_pylist(), strict=True))
    assert found == [(job_id, line) for job_id in ("job-1", "job-2") for line in (1, 2)]
    assert [entry.totals.node_usd for entry in snapshot.jobs.values()] == [100.0, 100.0]
    assert ledger_dataset(url, options, "failures", snapshot).count_rows() == 0
    jobs[0].assert_reconciled()

    compact(jobs[0].ledger)
    schema, file = json.loads(jobs[0].objects.read("manifest.json"))["tables"]["tracks"]
    assert (schema["rows"], file["rows"]) == (0, 4)
    # As any client fetches it.
    copied = tmp_path / file["path"]
    copied.parent.mkdir(parents=True)
    copied.write_bytes(s3_server.client().cat_file(f"{url.removeprefix('s3://')}/{file['path']}"))
    query = f"SELECT sum(total_usd), any_value(model) FROM read_parquet(['{copied}'], hive_partitioning = false)"
    assert duckdb.sql(query).fetchall() == [(pytest.approx(100.0), "composer")]


def test_a_bucket_without_a_ledger_and_one_that_is_not_there(s3_server):
    options = s3_server.storage_options
    with pytest.raises(NotFound, match="no ledger in"):
        read_snapshot(s3_server.new_url(), options)
    with pytest.raises(StoreUnavailable, match="check that the bucket exists"):
        read_snapshot("s3://no-such-bucket/x", options)
