"""What runs took besides their tracks, from constructed ledgers: every figure can be worked out by hand."""

from datetime import timedelta

import pytest

from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.tables import ATTEMPTS_SCHEMA, NODES_SCHEMA
from batch_jobs.planning.run_costs import RUNS_READ, known_run_costs, most_at_once
from batch_jobs.planning.speed_table import SpeedTable
from tests.unit.batch_jobs.sample_ledger import START, any_row, write

SHIPPED = SpeedTable.load().run


def at(seconds):
    return START + timedelta(seconds=seconds)


def machine(run_id, up_from, up_to, reserved, node_id="n1", workers=2, node_type="local-cpu"):
    return any_row(
        NODES_SCHEMA, job_id="job-1", run_id=run_id, node_id=node_id, node_type=node_type, workers=workers,
        up_from=at(up_from), up_to=at(up_to), reserved_device_seconds=reserved,
    )  # fmt: skip


def tried(run_id, worker_id, started, ended, device_seconds, how="track"):
    return any_row(
        ATTEMPTS_SCHEMA, attempt_id=f"{run_id}-{worker_id}-{started}", job_id="job-1", run_id=run_id,
        worker_id=worker_id, started_at=at(started), ended_at=at(ended), device_seconds=device_seconds, ended=how,
    )  # fmt: skip


def known(path, nodes, attempts, node_type="local-cpu", devices=1.0):
    write(path, {"nodes": nodes, "attempts": attempts})
    return known_run_costs(str(path), {}, read_snapshot(str(path), {}), node_type, devices, SHIPPED)


def test_start_end_waiting_and_waste_of_one_run(tmp_path):
    """Up for 100 s; two workers from second 6 to 98; tracks from second 10 to 95 hold 150 s, another attempt 10 s."""
    attempts = [
        tried("run-1", "w1", 10, 95, 80.0),
        tried("run-1", "w2", 12, 90, 70.0),
        tried("run-1", "w2", 90, 95, 10.0, "failed"),
    ]

    run = known(tmp_path / "l", [machine("run-1", 0, 100, 2 * 92.0)], attempts)

    assert (run.start_s.middle, run.end_s.middle, run.without_worker_s) == (10.0, 5.0, pytest.approx(8.0))
    assert run.held.middle == pytest.approx(2 * 85.0 / 160.0) and run.attempts == pytest.approx(160.0 / 150.0)
    assert (run.workers, run.workers_per_machine) == (2, None)
    assert run.start_s.low < 10.0 < run.start_s.high and run.held.low < run.held.middle < run.held.high
    assert run.source == "as in the last run of this ledger on local-cpu"


def test_large_runs_say_more_of_waiting_than_small_ones_and_each_start_counts_once(tmp_path):
    nodes = [machine("run-1", 0, 120, 200.0), machine("run-2", 1000, 1030, 50.0)]
    attempts = [tried("run-1", "w1", 10, 110, 95.0), tried("run-1", "w2", 10, 110, 95.0)]
    attempts += [tried("run-2", "w3", 1020, 1028, 4.0), tried("run-2", "w4", 1020, 1028, 4.0)]

    run = known(tmp_path / "l", nodes, attempts)

    assert run.held.middle == pytest.approx((200.0 + 16.0) / (190.0 + 8.0))
    assert (run.start_s.middle, run.end_s.middle) == (15.0, 6.0)
    assert "the last 2 runs" in run.source


def test_runs_that_rendered_nothing_or_ran_elsewhere_say_nothing(tmp_path):
    nodes = [
        machine("idle", 0, 50, 80.0),
        machine("gpu", 0, 50, 40.0, node_type="g5.xlarge"),
        machine("mixed", 0, 50, 40.0),
        machine("mixed", 0, 50, 40.0, "n2", node_type="g5.xlarge"),
    ]
    attempts = [
        tried("idle", "w1", 5, 9, 3.0, "failed"),
        tried("gpu", "w2", 5, 9, 3.0),
        tried("mixed", "w3", 5, 9, 3.0),
    ]

    run = known(tmp_path / "l", nodes, attempts)

    assert run.workers is None and run.held.middle == SHIPPED.held.middle and run.source == SHIPPED.dated_source


def test_only_the_newest_runs_are_read_and_machines_are_counted_where_there_were_several(tmp_path):
    nodes, attempts = [machine("old", 0, 1000, 10.0)], [tried("old", "w", 900, 990, 80.0)]
    for number in range(RUNS_READ):
        begin = 10_000 * (number + 1)
        run_id = f"run-{number:02}"
        nodes += [machine(run_id, begin, begin + 100, 200.0, node_id=f"n{n}") for n in (1, 2)]
        attempts += [tried(run_id, f"w{number}-{n}", begin + 10, begin + 90, 70.0) for n in range(4)]

    run = known(tmp_path / "l", nodes, attempts)

    assert (run.start_s.middle, run.workers, run.workers_per_machine) == (10.0, 4, 2.0)


def test_a_worker_in_the_place_of_a_dead_one_is_no_second_worker():
    spans = [("w1", 0, 10), ("w1", 10, 40), ("w2", 5, 50), ("w3", 40, 90)]

    assert most_at_once((name, at(first), at(last)) for name, first, last in spans) == 2
    assert most_at_once([]) == 0
