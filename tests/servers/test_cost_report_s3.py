"""A ledger in a bucket, on a real S3 server: the report, the lineage and the estimate read it there."""

import math

import pytest

from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.lineage import main
from batch_jobs.planning.paces import measured
from batch_jobs.reports.costs import cost_report
from tests.servers.seaweedfs import options_argument
from tests.unit.batch_jobs.sample_ledger import sample_ledger


def test_a_ledger_in_a_bucket_adds_up_and_is_searched(s3_server, tmp_path, capsys):
    url, options = s3_server.new_url() + "/ledger", s3_server.storage_options
    made = sample_ledger(url, options)

    totals = cost_report(url, options).totals

    assert totals["tracks"] == len(made.tracks) and totals["failures"] == len(made.failures)
    assert totals["bill_usd"] == pytest.approx(math.fsum(row["cost_usd"] for row in made.nodes), rel=1e-12)
    assert abs(totals["difference_usd"]) < 1e-9
    where = ["--ledger", url, "--storage-options", options_argument(options, tmp_path)]
    assert main([*where, "--job", "job-1", "--format", "ids"]) == 0
    of_job = {row["track_id"] for row in made.tracks if row["job_id"] == "job-1"}
    assert set(capsys.readouterr().out.split()) == of_job
    found = measured(url, options, read_snapshot(url, options), "composer", "g5.xlarge")
    on_it = [row for row in made.rendered if (row["model"], row["node_type"]) == ("composer", "g5.xlarge")]
    assert found.tracks == len(on_it) and f"{len(on_it)} tracks" in found.paces.source
