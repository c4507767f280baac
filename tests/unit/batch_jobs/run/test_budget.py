"""What a job may cost: it stops in time, says at what, and begins nothing more under a limit that it has reached."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_jobs.job_store.job_folder import AttemptRecord, JobFolder
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.tables import TRACK
from batch_jobs.options import RenderOptions, parse
from batch_jobs.planning.job import read_job
from batch_jobs.planning.plan import Plan
from batch_jobs.render_catalog import main, render_catalog
from batch_jobs.run.budget import ENDING_S, STOPPING_S, Budget, Meter, nothing_left
from batch_jobs.settlement.billing import node_bills
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing import Signer
from tests.unit.batch_jobs.committed_job import START, node, noted, prices, worker

#: USD a second of one machine, of a device of two.
MACHINE_USD_PER_S = 1.0
NOW = START + timedelta(seconds=100)


def spent(of, journals, rendered_usd=0.0, now=NOW):
    return Meter(of, prices()).read(journals, rendered_usd, now)


def test_the_bill_is_of_machines_also_while_they_wait_and_until_now():
    living = worker("a", to_s=99)
    gone = worker("b", "run-0", node("n2"), from_s=0, to_s=30, left=True)

    read = spent("bill", [living, gone])

    assert read.usd == pytest.approx(100.0 + 30.0), "of the living one until now"
    assert (read.usd_per_s, read.to_finish_usd) == (MACHINE_USD_PER_S, STOPPING_S), "until it knows that it is to stop"


def test_two_processes_on_a_machine_cost_one_machine():
    assert spent("bill", [worker("a", to_s=100), worker("b", to_s=100)]).usd == pytest.approx(100.0)


def test_the_machine_of_a_driver_counts_and_is_no_render_process():
    journals = [worker("driver-1", from_s=0, to_s=100, devices=0.0), worker("a", from_s=40, to_s=90)]

    [bill] = node_bills(journals, prices())

    assert (bill.cost_usd, bill.workers, bill.reserved_device_seconds) == (100.0, 1, 50.0)


def test_a_ray_that_was_started_for_the_job_has_to_end_too():
    journals = [worker("driver-1", to_s=100, devices=0.0), worker("a", to_s=100)]

    assert spent("bill", journals).to_finish_usd == STOPPING_S + ENDING_S


def test_two_runs_on_a_machine_cost_one_machine():
    runs = [worker(name, name, node(f"of-{name}", machine_id="m-1"), to_s=100) for name in ("run-1", "run-2")]

    read = spent("bill", runs)

    assert (read.usd, read.usd_per_s) == (pytest.approx(100.0), MACHINE_USD_PER_S)


def test_renders_cost_what_committed_and_open_ones_hold():
    journals = [worker("a", to_s=100, attempts=[noted("a-1", "01-a", 1, 20.0, TRACK), noted("a-2", "01-a", 2, 5.0)])]

    read = spent("render", journals, rendered_usd=7.0)

    assert read.usd == pytest.approx(7.0 + 0.5 * 25.0)
    # As the one that has ended: 20 s, of which 5 are held.
    assert (read.usd_per_s, read.to_finish_usd) == (0.5, 0.5 * (15.0 + STOPPING_S))


def test_what_the_bill_comes_to_when_open_tracks_are_finished_is_counted_too():
    attempts = [noted("a-1", "01-a", 1, 20.0, TRACK), noted("a-2", "01-a", 2, 5.0)]

    assert spent("bill", [worker("a", to_s=100, attempts=attempts)]).to_finish_usd == pytest.approx(20.0 + STOPPING_S)
    assert spent("bill", [worker("a", to_s=100, attempts=attempts[:1])]).to_finish_usd == STOPPING_S


@settings(max_examples=60)
@given(
    st.lists(st.floats(0.5, 60.0), min_size=40, max_size=40),
    st.integers(1, 6),
    st.floats(100.0, 5_000.0),
    st.sampled_from(["bill", "render"]),
)
def test_a_run_costs_at_most_two_percent_or_one_track_more(lengths_s, workers, max_usd, of):
    """Machines of two devices, a process on each, rendering tracks of these lengths over and over."""
    machines = [node(f"n{number}") for number in range(workers)]
    meter = Meter(of, prices())
    start_s, now_s, read_at_s = 20.0, 0.0, 0.0
    rendered_usd, stopped, numbers = 0.0, False, iter(range(10**9))
    open_tracks = {}
    free_at = dict.fromkeys(range(workers), start_s)
    recent = {number: [] for number in range(workers)}

    def journals():
        now = START + timedelta(seconds=now_s)
        for number in range(workers):
            attempts = list(recent[number])
            if number in open_tracks:
                name, began_s, _ = open_tracks[number]
                began = START + timedelta(seconds=began_s)
                attempts.append(AttemptRecord(name, "01-a", 1, None, "m", began, now, now_s - began_s, None))
            yield worker(f"w{number}", on=machines[number], to_s=now_s, attempts=attempts)

    while not stopped or open_tracks:
        for number in range(workers):
            if number in open_tracks and now_s >= open_tracks[number][2]:
                name, began_s, ends_s = open_tracks.pop(number)
                moments = (START + timedelta(seconds=at) for at in (began_s, ends_s))
                recent[number] = [AttemptRecord(name, "01-a", 1, None, "m", *moments, ends_s - began_s, TRACK)]
                free_at[number] = now_s
            if not stopped and number not in open_tracks and now_s >= free_at[number]:
                # What is committed leaves the journal.
                rendered_usd += sum(one.device_seconds for one in recent[number]) * 0.5
                recent[number] = []
                at = next(numbers)
                open_tracks[number] = (f"w{number}-{at}", now_s, now_s + lengths_s[at % len(lengths_s)])
        if not stopped and now_s >= read_at_s:
            read = meter.read(list(journals()), rendered_usd, START + timedelta(seconds=now_s))
            budget = Budget(max_usd, of, lambda read=read: read)
            stopped = budget.is_spent(read)
            read_at_s = now_s + budget.read_after_s(read)
        now_s += 0.5
        assert now_s < 50_000

    cost = meter.read(list(journals()), rendered_usd, START + timedelta(seconds=now_s)).usd
    a_track_usd = max(lengths_s) * (workers * MACHINE_USD_PER_S if of == "bill" else workers * 0.5)
    a_start_usd = (start_s + 2.0) * workers
    # A short job cannot be told more exactly than its journals are read: once a second, and half a second to act.
    between_reads_usd = 1.5 * workers
    assert cost <= max(max_usd * 1.02, max_usd + a_track_usd, a_start_usd + a_track_usd) + between_reads_usd


def test_journals_are_read_more_often_the_nearer_the_limit_is():
    budget = Budget(100.0, "bill", lambda: None)
    read = replace(spent("bill", [worker("a", to_s=100)]), to_finish_usd=0.0)
    far = budget.read_after_s(replace(read, usd=1.0))
    near = budget.read_after_s(replace(read, usd=96.0))

    assert far == 15.0 and near == pytest.approx((4.0 + 1.0) / 2.0)


@pytest.fixture
def options(tmp_path):
    catalog = tmp_path / "catalog.jsonl"
    catalog.write_text("".join(json.dumps({"prompt": "a tone", "seed": seed}) + "\n" for seed in range(3)))
    return RenderOptions(catalog=str(catalog), out=str(tmp_path / "out"), max_cost_usd=1e-4)


@pytest.fixture
def folder(options, clock, tmp_path) -> JobFolder:
    """The job of `options`, begun."""
    signer = Signer.create(tmp_path / "key.pem")
    with Plan() as plan:
        return read_job(options, options.render_config(), signer, Objects(options.out), plan, clock).folder


def test_a_job_that_has_cost_what_it_may_begins_nothing_and_not_even_ray(options, folder, clock, caplog):
    now = clock.now()
    folder.write_journal(
        replace(worker("w1"), up_from=now - timedelta(seconds=60), seen_at=now - timedelta(seconds=9), left=True)
    )

    # A Ray that is started fails a unit test.
    runs = [render_catalog(options, clock=clock) for _ in range(5)]

    assert {(run.state, run.exit_code, run.run_totals.tracks) for run in runs} == {("budget", 4, 0)}
    assert len({run.totals.node_usd for run in runs}) == 1, "the bill does not rise"
    assert "--max-cost 0.0001: its machines have cost $" in caplog.text and "nothing is begun" in caplog.text
    assert read_snapshot(options.out, {}).jobs[runs[0].job_id].state == "budget"


@pytest.mark.parametrize("limit, begins", [(50.0, False), (40.0, False), (51.0, True)])
def test_a_limit_at_which_a_run_has_stopped_is_not_tried_again(options, folder, limit, begins):
    folder.stop("run-1", "max-cost", ("bill", 50.0))
    folder.stop("run-2", "SIGTERM")
    budget = Budget(limit, "bill", lambda: spent("bill", []))

    why = nothing_left(budget, folder)

    assert (why is None) == begins
    assert begins or "an earlier run stopped at 50" in why
    assert nothing_left(replace(budget, of="render"), folder) is None, "that limit was of another cost"


def test_what_lies_among_the_stops_and_is_none_ends_nothing(options, folder):
    folder.objects.replace(f"jobs/{folder.job_id}/stops/run-1.json", b"{]")
    folder.objects.replace(f"jobs/{folder.job_id}/stops/run-2.json", b'{"why": "max-cost", "max_cost_usd": -1}')

    assert folder.stopped_at_usd("bill") is None


def test_the_command_says_which_cost_it_limits(options, capsys):
    parsed = parse(["--catalog", options.catalog, "--out", options.out, "--max-cost", "2", "--max-cost-of", "render"])

    assert (parsed.options.max_cost_usd, parsed.options.max_cost_of) == (2.0, "render")
    with pytest.raises(SystemExit):
        main(["--catalog", options.catalog, "--out", options.out, "--max-cost-of", "gpu"])
