"""A catalog job through three deaths, as a user of spot machines lives it; `benchmarks/chaos.py` is the long form."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster.chaos import Chaos, FaultKind, run_chaos
from tests.cluster.job_audit import audit_job

CHAOS = Chaos(
    seed=0,
    rows=60,
    faults={FaultKind.KILL_NODE: 1, FaultKind.DRAIN_NODE: 1, FaultKind.KILL_DRIVER: 1},
    nodes=2,
    deadline_s=600.0,
    compared=5,
    drain_s=4,
    replacement_s=1.0,
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run_chaos(CHAOS, tmp_path_factory.mktemp("chaos"), on_s3=False)


def test_a_job_whose_nodes_and_driver_die_leaves_every_row_once_and_a_bill_that_adds_up(outcome):
    assert outcome.audit.problems == [], outcome.last_words
    figures = outcome.audit.figures
    assert (figures["rows"], figures["lost"], figures["duplicates"]) == (CHAOS.rows, 0, 0)
    assert figures["tracks"] + figures["failures"] == CHAOS.rows and figures["failures"] >= 2


def test_all_three_died_and_the_same_command_went_on(outcome):
    died = [event["what"] for event in outcome.events if event.get("fault")]

    assert sorted(died) == ["drain-node", "kill-driver", "kill-node"]
    assert len(outcome.exit_codes) == 2 and outcome.exit_codes[-1] == 5, "some rows are bad"


def test_the_audit_would_have_seen_rows_lost_rows_twice_and_a_wrong_bill(outcome, tmp_path):
    forged = Path(shutil.copytree(outcome.job.out_url, tmp_path / "ledger"))
    manifest = json.loads((forged / "manifest.json").read_text())
    manifest["tables"] |= {"tracks": manifest["tables"]["tracks"] * 2, "failures": []}
    (forged / "manifest.json").write_text(json.dumps(manifest))

    problems = " ".join(audit_job(replace(outcome.job, out_url=str(forged)), compared=0).problems)

    assert all(seen in problems for seen in ("have no outcome", "have several outcomes", "but the nodes cost"))
