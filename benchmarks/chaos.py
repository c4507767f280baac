"""What is left of a catalog job when nodes, driver, head and S3 server die under it: all of it, once, and the bill.

2,000 short tracks on three spot raylets, a seeded list of faults, the same command again after the death of its driver;
then everything that the job left is audited from outside (`tests/cluster/job_audit.py`). Once with ledger and store in
a folder, once in a real S3 server that is slow, stalls, and is killed and restarted. The baseline is what must hold: no
row lost, none twice, the bill shared out to the cent, less than 5 % of the device time spent twice, and a bill that is
what the render processes lived, as seen from outside, within 3 %. Then the same of a command that starts Ray on its own
machine, whose driver is killed twelve times (`driver` in the JSON). Only the seconds depend on how fast the machine is.
Exit code 1 if anything does not hold.

    .venv/bin/python -m benchmarks.chaos [--quick] [--store folder|s3|both|none] [--out benchmarks/results/chaos.json]
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray

from benchmarks.document import machine_now, publish
from tests.cluster.chaos import Chaos, FaultKind, run_chaos
from tests.cluster.killed_driver import Moment, run_killed

SEED = 20261122
#: Of the device time of all tries.
MOST_RE_RENDERED = 0.05
FAULTS = {
    FaultKind.KILL_NODE: 5,
    FaultKind.DRAIN_NODE: 3,
    FaultKind.KILL_DRIVER: 3,
    FaultKind.KILL_HEAD: 2,
}
STORE_FAULTS = {FaultKind.KILL_STORE: 3, FaultKind.STALL_STORE: 3}
#: Of the bill from what was measured outside.
MOST_DIFFERENCE = 0.03
#: When the driver of a Ray of its own is killed, one death after the other.
KILLS = [Moment.STARTING, Moment.RENDERING, Moment.RENDERING] * 4
QUICK_KILLS = [Moment.RENDERING]
QUICK_FAULTS = {FaultKind.KILL_NODE: 1, FaultKind.KILL_DRIVER: 1}


def chaos(store: str, rows: int, quick: bool, deadline_s: float) -> Chaos:
    """What is done to the job."""
    faults = QUICK_FAULTS if quick else FAULTS | (STORE_FAULTS if store == "s3" else {})
    return Chaos(
        seed=SEED, rows=rows, faults=faults, nodes=2 if quick else 3, deadline_s=deadline_s, compared=5 if quick else 20
    )


def survive(store: str, plan: Chaos) -> dict[str, Any]:
    """One job through its faults; what it came to."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        outcome = run_chaos(plan, Path(folder), store == "s3", lambda what: print(f"{store}: {what}", file=sys.stderr))
    document = outcome.document()
    share = document.get("re_rendered_share")
    # In a job of a minute the attempts in progress at a fault are a large part of all there are.
    if share is not None and share >= MOST_RE_RENDERED and plan.faults != QUICK_FAULTS:
        document["problems"].append(f"{share:.1%} of the device time was spent again")
    # In a minute the two seconds before a death are much.
    if plan.faults != QUICK_FAULTS:
        document["problems"] += _difference(document)
    if document["problems"]:
        print(f"{store}: the end of the command's log:\n{outcome.last_words}", file=sys.stderr)
    return document


def kill_drivers(quick: bool) -> dict[str, Any]:
    """One command through the deaths of its driver; what it came to."""
    kills = QUICK_KILLS if quick else KILLS
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        say = lambda what: print(f"driver: {what}", file=sys.stderr)  # noqa: E731
        outcome = run_killed(Path(folder), 8 * len(kills), kills, say)
    document = outcome.document()
    if None in outcome.gone_after_s:
        document["problems"].append("processes of a dead driver were left after five seconds")
    if not quick:
        document["problems"] += _difference(document)
    if document["problems"]:
        print(f"driver: the end of the command's log:\n{outcome.last_words}", file=sys.stderr)
    return document


def _difference(document: dict[str, Any]) -> list[str]:
    differs_by = document.get("bill_differs_by")
    is_near = differs_by is not None and abs(differs_by) <= MOST_DIFFERENCE
    return [] if is_near else [f"the bill differs by {differs_by} from what the processes lived"]


def main() -> int:
    """Run the jobs and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 rows, two faults, in a folder: shows that it works")
    parser.add_argument(
        "--store", default="both", choices=("folder", "s3", "both", "none"), help="where ledger and store lie"
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--deadline-s", type=float, default=3600.0, help="each job is given up after this time")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    rows = 60 if arguments.quick else arguments.rows
    chosen = {"both": ("folder", "s3"), "none": ()}.get(arguments.store, (arguments.store,))
    stores = ("folder",) if arguments.quick else chosen
    # A signal that ends this program ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    jobs = {store: survive(store, chaos(store, rows, arguments.quick, arguments.deadline_s)) for store in stores}
    jobs["driver"] = kill_drivers(arguments.quick)
    document = {
        "benchmark": "chaos",
        "question": "is a catalog job exactly-once in effect while everything around it dies?",
        "quick": arguments.quick,
        "machine": machine_now(),
        "ray": ray.__version__,
        "seed": SEED,
        "jobs": jobs,
    }
    publish(document, arguments.out)
    return 1 if any(job["problems"] for job in jobs.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
