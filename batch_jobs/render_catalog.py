"""Render a whole catalog: `python -m batch_jobs.render_catalog --catalog songs.csv --out out/catalog`.

catalog → plan → shards → Ray Data actors around the Renderer that serves HTTP, each shard committed where it was
rendered → settlement into the ledger. Running the command again resumes the job: committed shards are done, finished
tracks are found in the store, and only what a killed process was working on is rendered again.

Exit codes: 0 every row is a track · 2 arguments or catalog are unusable · 3 Ray, the store or the ledger failed · 4
stopped at --max-cost · 5 every row is done and some failed, `failures` says why · 130 or 143 stopped by Ctrl-C or
SIGTERM. 1 is what Python and Ray end a process with that they have given up. After all but 0, 2 and 5 the same command
goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Final

from ray.exceptions import RayError

from batch_jobs.budget import STOPPED_AT_MAX_COST, Stop, watch
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.snapshot import JobState, Totals
from batch_jobs.options import RenderOptions, parse
from batch_jobs.planning.dry_run import dry_run
from batch_jobs.planning.job import Job, begin_next_round, prices_of, read_job
from batch_jobs.planning.plan import Plan
from batch_jobs.progress import JobProgress, progress_view
from batch_jobs.rendering.execution import execute, ray_running, refuse_spot_driver
from batch_jobs.rendering.malloc_tuning import share_one_arena
from batch_jobs.rendering.render_stage import Assignment
from batch_jobs.settlement.outcomes import refused_row, shard_table
from batch_jobs.settlement.settlement import settle
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed
from orchestrion.rendering.config import RenderConfig
from orchestrion.resilience.store_retry import Retry, StoreRetry
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import have_signing_key

logger = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_UNUSABLE: Final = 2
EXIT_INFRASTRUCTURE: Final = 3
EXIT_MAX_COST: Final = 4
#: Not 1: a driver that loses Ray's head is ended with 1 by Ray itself, a minute later, and its job is not done.
EXIT_SOME_FAILED: Final = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run of a job went, and how the job stands. `manifest_path` names the Parquet files that hold its rows."""

    job_id: str
    run_id: str
    #: complete, interrupted or budget.
    state: JobState
    #: Rows of the catalog, and what has become of them over all runs; what is missing is still to do.
    row_count: int
    totals: Totals
    #: What this run did of it.
    run_totals: Totals
    elapsed_s: float
    manifest_path: str

    @property
    def exit_code(self) -> int:
        """0 if every row is a track, 5 if some failed, 4 if the money ran out first, 3 if rows are still to do."""
        if self.state == "budget":
            return EXIT_MAX_COST
        if self.state != "complete":
            return EXIT_INFRASTRUCTURE
        return EXIT_SOME_FAILED if self.totals.failures else EXIT_OK

    def describe(self) -> str:
        """The job in a few lines."""
        totals, run = self.totals, self.run_totals
        hits = f" ({totals.cache_hits} were there already, worth ${totals.saved_usd:.6f})" if totals.cache_hits else ""
        to_do = self.row_count - totals.tracks - totals.failures
        left = f", {to_do} still to do" if to_do else ""
        return (
            f"job {self.job_id} is {self.state}: {self.row_count} rows: {totals.tracks} tracks{hits}, "
            f"{totals.failures} failures{left}; {totals.audio_s / 60:.1f} min of audio\n"
            f"this run: {run.tracks + run.failures} rows in {self.elapsed_s:.1f} s\n"
            f"cost: ${totals.charged_usd:.6f} rendering + ${totals.waste_usd:.6f} waste + ${totals.idle_usd:.6f} idle "
            f"+ ${totals.unallocated_usd:.6f} not this job's = ${totals.node_usd:.6f} for its nodes\n"
            f"ledger: {self.manifest_path}"
        )


def render_catalog(
    options: RenderOptions,
    on_progress: Callable[[JobProgress], None] = lambda _: None,
    clock: Clock | None = None,
    stop: Stop | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Summary:
    """Have every row of a catalog rendered. Uses the Ray that runs in this process, or starts one and stops it again.

    How this process allocates memory is left as it is. Call `malloc_tuning.share_one_arena()` first, as the command
    does, where it is to run for days.

    Args:
        options: what to render, and where.
        on_progress: called after each shard, in this thread.
        clock: for moments and durations.
        stop: asked to stop, the run finishes or keeps what is in progress and ends in order.
        sleep: waits for a store or a ledger that was there when the run began, and is away.

    Raises:
        InvalidRequest: options, price or catalog cannot be used; nothing was rendered.
        NotFound: there is no such catalog.
        StoreUnavailable: the store or the ledger did not take what was written.
        ray.exceptions.RayError: the cluster failed.
    """
    clock, stop = clock or SystemClock(), stop or Stop()
    # Also for a run that is to stop: it is settled all the same.
    retrying = StoreRetry(clock, sleep, is_over=lambda: False)
    config = options.render_config()
    prices = prices_of(options)
    _check_key(options, config)
    objects = Objects(options.ledger_url, options.storage_options)
    ledger = Ledger(objects, clock)
    with Plan() as plan:
        job = read_job(options, config, objects, plan, clock)
        run_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        assignment = Assignment(config, job.folder, prices, run_id, options.cpus_per_worker, options.gpus_per_worker)
        close = partial(settle, ledger, job.folder, job.description, prices, run_id)
        if options.retry_failures and not job.open_rows():
            close("complete", job.rows, clock, retrying)
            begin_next_round(job, ledger)
        done_before = job.rows - job.open_rows()
        run_totals = Totals()
        started_s = clock.monotonic_s()
        state: JobState = "failed"
        try:
            for reported in _reports(job, assignment, options, clock, stop, retrying):
                run_totals.add(reported)
                on_progress(JobProgress(job.rows, done_before, run_totals, clock.monotonic_s() - started_s))
            state = _state(job, stop)
        except (KeyboardInterrupt, SystemExit):
            state = "interrupted"
            raise
        finally:
            entry = close(state, job.rows, clock, retrying)
            retrying(lambda: job.folder.end_run(run_id))
        if entry.state == "complete":
            ledger.sweep()
    return Summary(
        job_id=job.folder.job_id,
        run_id=run_id,
        state=entry.state,
        row_count=job.rows,
        totals=entry.totals,
        run_totals=run_totals,
        elapsed_s=clock.monotonic_s() - started_s,
        manifest_path=f"{options.out}/manifest.json",
    )


def _reports(
    job: Job, assignment: Assignment, options: RenderOptions, clock: Clock, stop: Stop, retrying: Retry
) -> Iterator[Totals]:
    """Sums over each shard, as it is committed: first those that only say what is wrong with their rows."""
    for shard in job.plan.open_refused():
        rows = [refused_row(job.folder.job_id, assignment.run_id, row, clock.now()) for row in shard.rows]
        retrying(partial(job.folder.commit, shard.name, shard_table(rows, [])))
        job.plan.note_committed([shard.name])
        yield Totals(failures=len(rows))
    if next(job.plan.open_shards(), None) is None:
        return
    begun_at = datetime.fromisoformat(job.description["begun_at"])

    def spent_usd() -> float:
        now = clock.now()
        return assignment.prices.spent_usd(journal.within(begun_at, now) for journal in job.folder.journals())

    with ray_running(), watch(stop, job.folder, assignment.run_id, options.max_cost_usd, spent_usd):
        refuse_spot_driver()
        reports = execute(job.plan, job.folder, assignment, options, clock, lambda: stop.reason is not None, retrying)
        with closing(reports):
            yield from (report.totals for report in reports)


def _check_key(options: RenderOptions, config: RenderConfig) -> None:
    """The key must be there before anything is rendered; only this person's own is made, here and not by a worker."""
    if options.signing_key_path is None:
        have_signing_key(config.signing_key_path, lambda text: logger.warning("%s", text))
    else:
        Signer.load(config.signing_key_path)


def _state(job: Job, stop: Stop) -> JobState:
    if not job.open_rows():
        return "complete"
    return "budget" if stop.reason == STOPPED_AT_MAX_COST else "interrupted"


# Command line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    command = parse(argv)
    if command.address:
        os.environ["RAY_ADDRESS"] = command.address
    clock = SystemClock()
    stop = Stop()
    try:
        if command.dry_run:
            sys.stdout.write(dry_run(command.options) + "\n")
            return EXIT_OK
        # Here and not in the function: the process is the command's own.
        share_one_arena()
        with _signals_stop(stop), progress_view(command.progress, clock.monotonic_s) as view:
            summary = render_catalog(command.options, view, clock, stop)
    except (InvalidRequest, NotFound, VerificationFailed) as error:
        sys.stderr.write(f"render_catalog: {error}\n")
        return EXIT_UNUSABLE
    except (RayError, StoreUnavailable, ConnectionError) as error:
        sys.stderr.write(f"render_catalog: {type(error).__name__}: {error}\nRun the same command again to go on.\n")
        return EXIT_INFRASTRUCTURE
    except KeyboardInterrupt:
        sys.stderr.write("render_catalog: stopped; what is rendered is kept. Run the same command again to go on.\n")
        return 128 + signal.SIGINT
    sys.stdout.write(summary.describe() + "\n")
    if stop.signal_number is not None and summary.state != "complete":
        sys.stderr.write("render_catalog: stopped in order. Run the same command again to go on.\n")
        return 128 + stop.signal_number
    return summary.exit_code


@contextmanager
def _signals_stop(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops the run in order, the second at once."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.reason is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        stop.by_signal(number)
        # What the signal interrupted may be writing there itself.
        with suppress(RuntimeError):
            sys.stderr.write("render_catalog: finishing what is in progress; once more to leave at once\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
