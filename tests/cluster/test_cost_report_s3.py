"""The ledger in a bucket: written by one PUT a file, read by the report, on a real S3 server."""

import fsspec
import pytest

from batch_jobs.cost_report import cost_report
from batch_jobs.ledger import Ledger
from batch_jobs.render_stage import render_block
from batch_jobs.retry import RetryBudget
from tests.cluster.seaweedfs import s3_server  # noqa: F401 (fixture)
from tests.unit.batch_jobs.conftest import clock, plan_of, renderer  # noqa: F401 (fixtures)


def test_a_ledger_in_a_bucket_adds_up(s3_server, plan_of, renderer, clock):  # noqa: F811
    url, options = s3_server.new_url() + "/ledger", s3_server.storage_options
    [block] = plan_of({}, {"seed": 2}, {"requester": "b"}, {"prompt": "fail"}).blocks(10)
    ledger = Ledger(url, options, clock)
    ledger.add(render_block(block, renderer, "job-1", RetryBudget(), clock, lambda _: None))

    manifest = ledger.close({"job_id": "job-1", "state": "complete"})

    report = cost_report(url, options)
    assert report.totals["tracks"] == 3 and report.totals["failures"] == 1
    assert report.totals["cost_usd"] == pytest.approx(manifest["totals"]["cost_usd"], abs=1e-12) and report.jobs == 1
    fs, root = fsspec.url_to_fs(url, **options)
    assert {file["bytes"] for file in manifest["files"]} == {
        fs.size(f"{root}/{file['path']}") for file in manifest["files"]
    }
