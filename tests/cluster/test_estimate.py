"""An estimate beside what came of it: real catalogs, calibrated by real runs of the same ledger.

Nothing here is timed by the test. What is compared was paid: device-seconds and machine hours of the ledger. Where
other programs take the machine's time, now more and now less, a run costs several times what the one before did, and
no estimate could say so: then there is no comparison, and the test says that.
"""

import json
import math
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray

from batch_jobs.ledger.snapshot import Totals
from batch_jobs.options import RenderOptions
from batch_jobs.planning.dry_run import dry_run
from batch_jobs.render_catalog import render_catalog
from cluster.ray_internals import start_private_ray
from orchestrion.tracks.vocabulary import STYLES

#: Estimate divided by outcome.
LOW, HIGH = 0.8, 1.25
FEW = ("jazz", "ambient")
#: Of the machine's time, what others may take.
QUIET = 0.2


def expect_nothing_unless_quiet():
    """Look for two seconds at what others take of the machine; Ray's processes are children of this one."""
    (busy_s, own), start_s = busy(), time.monotonic()
    time.sleep(2.0)
    (later_s, own_later), wall_s = busy(), time.monotonic() - start_s
    ours_s = sum(seconds - own.get(pid, 0.0) for pid, seconds in own_later.items())
    others = (later_s - busy_s - ours_s) / (wall_s * psutil.cpu_count())
    if others > QUIET:
        pytest.xfail(f"other programs take {others:.0%} of this machine; what a run costs then says nothing")


def busy():
    """CPU seconds of the whole machine so far, and of each process of ours."""
    times, own = psutil.cpu_times(), {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):
            own[process.pid] = sum(process.cpu_times()[:2])
    return sum(times) - times.idle - getattr(times, "iowait", 0.0), own


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """One Ray, and a ledger of a job that has rendered a little of everything: what estimates are calibrated by."""
    expect_nothing_unless_quiet()
    start_private_ray(num_cpus=2)
    # The first job of a new Ray starts in twice the time of the next; ledgers of many runs have as many of each kind.
    few = [row("jazz", 3.0, seed) for seed in range(4)]
    render_catalog(options_for(tmp_path_factory.mktemp("first"), "first", few))
    folder = tmp_path_factory.mktemp("estimates")
    lengths = (3.0, 5.0, 10.0, 20.0, 45.0)
    styles = sorted(STYLES)
    rows = [row(styles[n % len(styles)], lengths[n % len(lengths)], 10_000 + n) for n in range(60)]
    render_catalog(options_for(folder, "calibration", rows))
    yield folder, rows
    ray.shutdown()


def row(style, duration_s, seed):
    return {"prompt": "a sketch", "style": style, "duration_s": duration_s, "seed": seed, "format": "flac"}


def options_for(folder, name, rows):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return RenderOptions(catalog=str(path), out=str(folder / "out"), batch_size=2, min_workers=2, max_workers=2)


def short_pieces(calibration):
    return [row(FEW[seed % 2], 3.0 + seed % 4, seed) for seed in range(110)]


def long_pieces(calibration):
    return [row(style, 30.0 + seed % 3 * 10, 1000 + seed) for seed, style in enumerate(sorted(STYLES)[:18])]


def half_done(calibration):
    return [row(FEW[seed % 2], 10.0, 2000 + seed) for seed in range(110)]


def duplicates(calibration):
    """Each row three times, and all that the ledger has from another job."""
    return [row(FEW[seed % 2], 12.0, 3000 + seed // 3) for seed in range(120)] + calibration


@pytest.mark.parametrize("make", [short_pieces, long_pieces, half_done, duplicates])
def test_tracks_and_the_bill_cost_what_was_said(ledger, make):
    folder, calibration = ledger
    options = options_for(folder, make.__name__, make(calibration))
    before = stopped_half_way(options) if make is half_done else Totals()

    said = dry_run(options)
    expect_nothing_unless_quiet()
    summary = render_catalog(options)
    expect_nothing_unless_quiet()

    paid = {
        "render": (said.estimate.render_usd, summary.totals.charged_usd - before.charged_usd),
        "carried": (said.estimate.carried_usd, carried(summary.totals) - carried(before)),
        "bill": (said.estimate.bill_usd, summary.totals.node_usd - before.node_usd),
    }
    ratios = {name: round(span.middle / usd, 3) for name, (span, usd) in paid.items()}
    print(json.dumps({make.__name__: ratios}))
    assert summary.exit_code == 0
    assert all(LOW <= ratio <= HIGH for ratio in ratios.values()), (ratios, said.describe())
    if make is not half_done:
        # There, tracks that were finished in a shard that was not are found, and are this job's own all the same.
        assert sum(work.tracks for work in said.left.work) == summary.totals.tracks - summary.totals.cache_hits


def carried(totals):
    return math.fsum((totals.charged_usd, totals.waste_usd, totals.idle_usd))


def stopped_half_way(options):
    """Stop a job in the middle; what it has cost so far."""

    def interrupt(progress):
        if progress.done >= progress.rows // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_catalog(options, interrupt)
    manifest = json.loads(Path(options.out, "manifest.json").read_text())
    [job] = [job for job_id, job in manifest["jobs"].items() if job_id.startswith("half-done-")]
    return Totals(**job["totals"])
