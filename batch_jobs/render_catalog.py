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

import atexit
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Final, NoReturn

if __name__ == "__main__":
    # Read when Arrow is loaded: what writes Parquet takes no other pool, and would keep its free pages.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

from ray.exceptions import RayError

from batch_jobs.catalog.rows import how_read
from batch_jobs.housekeeping import sweep_after_a_job
from batch_jobs.job_store.job_folder import JobFolder
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.snapshot import JobState, Totals
from batch_jobs.options import RenderOptions, parse
from batch_jobs.planning.dry_run import dry_run
from batch_jobs.planning.job import Job, begin_next_round, prices_of, read_job
from batch_jobs.planning.plan import Plan
from batch_jobs.rendering.driver_journal import driver_journal
from batch_jobs.rendering.execution import execute, needs_own_ray, ray_running, refuse_spot_driver
from batch_jobs.rendering.machine import process_began_at
from batch_jobs.rendering.malloc_tuning import share_one_arena
from batch_jobs.rendering.render_stage import Assignment
from batch_jobs.run.budget import STOPPED_AT_MAX_COST, Budget, Meter, Spent, Stop, nothing_left, watch
from batch_jobs.run.progress import Ending, JobProgress, ProgressView, progress_view
from batch_jobs.run.standing import RENDERING, Standing, ticking
from batch_jobs.settlement.outcomes import refused_row, shard_table
from batch_jobs.settlement.prices import JobPrices
from batch_jobs.settlement.settlement import charged_usd, settle
from orchestrion.cli.reader_gone import ending_quietly
from orchestrion.clock import Clock, SystemClock
from orchestrion.errors import InvalidRequest, NotFound, StoreUnavailable, VerificationFailed
from orchestrion.rendering.config import RenderConfig
from orchestrion.resilience.store_retry import Retry, StoreRetry, no_retry
from orchestrion.storage.object_store import Objects
from orchestrion.trust.signing import Signer
from orchestrion.trust.signing_keys import have_signing_key, private_keys_in

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

    def in_a_line(self) -> str:
        """How the run ended."""
        run = self.run_totals
        if self.state == "complete" and not run.tracks + run.failures:
            return f"job {self.job_id} is complete: there was nothing to do"
        to_do = self.row_count - self.totals.tracks - self.totals.failures
        left = f", {to_do} still to do" if to_do else ""
        return (
            f"job {self.job_id} is {self.state}: {self.totals.tracks} tracks, {self.totals.failures} failures{left}, "
            f"${self.totals.node_usd:.6f}"
        )

    def figures(self) -> dict[str, object]:
        """The job over all its runs, as JSON values; money in USD."""
        totals = self.totals
        return {
            "job_id": self.job_id,
            "run_id": self.run_id,
            "rows": self.row_count,
            "tracks": totals.tracks,
            "failures": totals.failures,
            "cache_hits": totals.cache_hits,
            "audio_s": round(totals.audio_s, 3),
            "charged_usd": totals.charged_usd,
            "waste_usd": totals.waste_usd,
            "idle_usd": totals.idle_usd,
            "unallocated_usd": totals.unallocated_usd,
            "bill_usd": totals.node_usd,
            "manifest": self.manifest_path,
        }

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
            f"+ ${totals.unallocated_usd:.6f} that no track carries = ${totals.node_usd:.6f} for its nodes\n"
            f"ledger: {self.manifest_path}"
        )


def render_catalog(
    options: RenderOptions,
    on_progress: Callable[[JobProgress], None] = lambda _: None,
    clock: Clock | None = None,
    stop: Stop | None = None,
    sleep: Callable[[float], None] = time.sleep,
    standing: Standing | None = None,
    up_from: datetime | None = None,
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
        standing: told what the run is at; another thread may look at it (`standing.ticking`).
        up_from: since when this machine is up for the run, if Ray is started on it; now if None.

    Raises:
        InvalidRequest: options, price or catalog cannot be used; nothing was rendered.
        NotFound: there is no such catalog.
        StoreUnavailable: the store or the ledger did not take what was written.
        ray.exceptions.RayError: the cluster failed.
    """
    clock, stop = clock or SystemClock(), stop or Stop()
    up_from, standing = up_from or clock.now(), standing or Standing()
    # Also for a run that is to stop: it is settled all the same.
    retrying = StoreRetry(clock, sleep, is_over=lambda: False, patience_s=options.patience_s)
    standing.away, standing.patience_s = lambda: retrying.away, options.patience_s
    standing.phase = "reading the catalog"
    config = options.render_config()
    prices = prices_of(options)
    signer = _signer(options, config)
    objects = Objects(options.ledger_url, options.storage_options)
    ledger = Ledger(objects, clock)
    # What is up for the run until it is settled: this machine, where Ray is started on it.
    with Plan() as plan, ExitStack() as here:
        job = read_job(options, config, signer, objects, plan, clock)
        standing.folder = job.folder
        run_id = standing.run_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        assignment = _assignment(options, config, job.folder, prices, run_id, clock.now())
        close = partial(settle, ledger, job.folder, job.description, prices, run_id)
        if options.retry_failures and not job.open_rows():
            close("complete", job.rows, clock, retrying)
            begin_next_round(job, ledger)
        done_before, run_totals = job.rows - job.open_rows(), Totals()
        started_s = clock.monotonic_s()
        state: JobState = "failed"
        settling: Retry = retrying
        try:
            budget = _budget(job, options, prices, clock, run_totals, retrying)
            for reported in _reports(job, assignment, options, clock, stop, budget, up_from, standing, retrying, here):
                run_totals.add(reported)
                on_progress(JobProgress(job.rows, done_before, run_totals, clock.monotonic_s() - started_s))
            state = _state(job, stop)
        except (KeyboardInterrupt, SystemExit):
            state = "interrupted"
            raise
        except StoreUnavailable:
            settling = no_retry  # It was waited for: what cannot be settled now is settled by the next run.
            raise
        finally:
            standing.phase = "settling the run"
            entry = close(state, job.rows, clock, settling)
            settling(lambda: job.folder.end_run(run_id))
        if entry.state == "complete":
            sweep_after_a_job(ledger, Objects(config.store_url, options.storage_options))
    elapsed_s = clock.monotonic_s() - started_s
    manifest = f"{options.out}/manifest.json"
    return Summary(job.folder.job_id, run_id, entry.state, job.rows, entry.totals, run_totals, elapsed_s, manifest)


def _assignment(
    options: RenderOptions, config: RenderConfig, folder: JobFolder, prices: JobPrices, run_id: str, begun_at: datetime
) -> Assignment:
    devices = options.cpus_per_worker, options.gpus_per_worker
    return Assignment(config, folder, prices, run_id, begun_at, *devices, options.patience_s)


def _reports(
    job: Job,
    assignment: Assignment,
    options: RenderOptions,
    clock: Clock,
    stop: Stop,
    budget: Budget | None,
    up_from: datetime,
    standing: Standing,
    retrying: StoreRetry,
    here: ExitStack,
) -> Iterator[Totals]:
    """Sums over each shard, as it is committed: first those that only say what is wrong with their rows.

    Where Ray is started on this machine, the bill has it from `up_from` on, until `here` is closed.
    """
    for shard in job.plan.open_refused():
        rows = [refused_row(job.folder.job_id, assignment.run_id, row, clock.now()) for row in shard.rows]
        retrying(partial(job.folder.commit, shard.name, shard_table(rows, [])))
        job.plan.note_committed([shard.name])
        yield Totals(failures=len(rows))
    if next(job.plan.open_shards(), None) is None:
        return
    if budget is not None and (why := retrying(lambda: nothing_left(budget, job.folder))) is not None:
        logger.warning("%s; nothing is begun. Give a higher --max-cost to go on", why)
        stop.at_max_cost()
        return
    standing.phase = "starting Ray"
    guardian = None
    if needs_own_ray():
        own = driver_journal(job.folder, assignment.run_id, options.node_type, options.market, up_from, clock, retrying)
        guardian = here.enter_context(own)
    with ray_running(guardian), watch(stop, job.folder, assignment.run_id, budget, clock):
        refuse_spot_driver()
        standing.phase = RENDERING
        reports = execute(
            job.plan, job.folder, assignment, options, clock, lambda: stop.reason is not None, retrying, standing
        )
        with closing(reports):
            yield from (report.totals for report in reports)


def _budget(
    job: Job, options: RenderOptions, prices: JobPrices, clock: Clock, run_totals: Totals, retrying: Retry
) -> Budget | None:
    """What the job may still cost; None for any sum. `run_totals` grows while the run goes on."""
    if options.max_cost_usd is None:
        return None
    begun_at = datetime.fromisoformat(job.description["begun_at"])
    before_usd = 0.0
    if options.max_cost_of == "render":
        before_usd = retrying(lambda: charged_usd(job.folder), works=True)
    meter = Meter(options.max_cost_of, prices)

    def spent() -> Spent:
        now = clock.now()
        journals = [journal.within(begun_at, now) for journal in job.folder.journals()]
        return meter.read(journals, before_usd + run_totals.charged_usd, now)

    return Budget(options.max_cost_usd, options.max_cost_of, spent)


def _signer(options: RenderOptions, config: RenderConfig) -> Signer:
    """The key must be there before anything is rendered; only this person's own is made, here and not by a worker."""
    if options.signing_key_path is None:
        signer = have_signing_key(config.signing_key_path, lambda text: logger.warning("%s", text))
    else:
        signer = Signer.load(config.signing_key_path)
    for what, place in (("ledger", options.ledger_url), ("store", config.store_url)):
        for path in private_keys_in(place):
            raise InvalidRequest.of(
                "signing_key",
                path.name,
                f"{path} is a private key in the {what}, which others read; move it, and if anybody may have read it, "
                "make a new one",
            )
    return signer


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
    if command.dry_run:
        try:
            said = dry_run(command.options, command.bad_rows).describe()
        except _FAILURES as error:
            ending = _ended_by(error)
            sys.stderr.write(ending.message + "\n")
            return ending.exit_code
        sys.stdout.write(said + "\n")
        return EXIT_OK
    clock = SystemClock()
    with progress_view(command.progress, clock.monotonic_s) as view:
        ending, summary = _run(command.options, view, clock)
        view.end(ending)
    if summary is not None and command.progress != "json":
        sys.stdout.write(summary.describe() + "\n")
    return ending.exit_code


def _run(options: RenderOptions, view: ProgressView, clock: Clock) -> tuple[Ending, Summary | None]:
    """One run to its end, whatever that is; `view` is told of all of it but the end."""
    stop, standing = Stop(), Standing()
    view.say(standing.phase)
    try:
        # Here and not in the function: the process is the command's own.
        share_one_arena()
        with _signals_stop(stop), ticking(standing, clock, view.say):
            # Before anything is spent: a dialect that was recognised wrongly shows here.
            names = (options.column_map, options.keep_columns)
            view.say("catalog: " + how_read(options.catalog, options.storage_options, *names))
            up_from = process_began_at(clock.now())
            summary = render_catalog(options, view, clock, stop, standing=standing, up_from=up_from)
    except _FAILURES as error:
        return _ended_by(error), None
    except (KeyboardInterrupt, SystemExit) as error:
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 128 + signal.SIGINT
        message = "render_catalog: stopped; what is rendered is kept. Run the same command again to go on."
        return Ending(code, "interrupted", message), None
    code, message = summary.exit_code, summary.in_a_line()
    if stop.signal_number is not None and summary.state != "complete":
        code, message = 128 + stop.signal_number, f"{message}; stopped in order, run the same command again to go on"
    return Ending(code, summary.state, message, summary.figures()), summary


#: What ends a run with a message instead of a traceback.
_FAILURES: Final = (InvalidRequest, NotFound, VerificationFailed, RayError, StoreUnavailable, ConnectionError)


def _ended_by(error: Exception) -> Ending:
    if isinstance(error, InvalidRequest | NotFound | VerificationFailed):
        return Ending(EXIT_UNUSABLE, "unusable", f"render_catalog: {error}")
    message = f"render_catalog: {type(error).__name__}: {error}\nRun the same command again to go on."
    return Ending(EXIT_INFRASTRUCTURE, "failed", message)


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


def _leave(exit_code: int) -> NoReturn:
    """End the process at once.

    Taking all of Ray and Arrow apart takes seconds, and what comes after the settlement is on no bill.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    _leave(ending_quietly(main))
