"""Render a whole catalog: `python -m batch_jobs.render_catalog --catalog songs.csv --out out/catalog`.

catalog → plan (bad rows go straight to the ledger) → Ray Data actors around the Renderer that serves HTTP → ledger.
This is the only place on this side that starts Ray. The surprising thing: running the command again is how a job is
resumed. What is in the store is a cache hit that costs nothing, so nothing else has to be remembered.

Exit codes: 0 every row is a track · 1 some rows failed, `failures` says why · 2 arguments or catalog are unusable ·
3 Ray, the store or the ledger failed · 130 or 143 stopped by Ctrl-C or SIGTERM. After 1, 3, 130 and 143 the same
command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, get_args

import pyarrow as pa
import ray
import ray.data
from pydantic import ValidationError
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from batch_jobs.catalog import RefusedRow, catalog_sha256, read_catalog
from batch_jobs.ledger import Ledger, Totals
from batch_jobs.outcomes import RowContext, failure_row, outcomes_table, refused_row
from batch_jobs.plan import Plan
from batch_jobs.progress import JobProgress, progress_view
from batch_jobs.render_stage import RenderStage
from orchestrion.clock import Clock, SystemClock
from orchestrion.config import PrecisionName, RenderConfig
from orchestrion.cost import PriceTable, describe_node
from orchestrion.errors import REASONS, InvalidRequest, ModelFailed, NotFound, StoreUnavailable
from orchestrion.models import absolute_entry, public_name
from orchestrion.provenance import utc_timestamp
from orchestrion.render import Failure
from orchestrion.request import TrackSpec
from orchestrion.store import TrackStore

EXIT_OK: Final = 0
EXIT_SOME_FAILED: Final = 1
EXIT_UNUSABLE: Final = 2
EXIT_INFRASTRUCTURE: Final = 3

#: Rows that one Ray Data execution takes on: bounds what the driver holds, whatever the length of the catalog. At one
#: track a second that is hours, so that starting the actors anew costs nothing.
ROWS_PER_EXECUTION: Final = 20_000
#: Refused rows are handed to the ledger so many at a time.
REFUSED_PER_BATCH: Final = 500
#: A block comes back so often after the process that had it died; then its rows are tried one by one, then given up.
BLOCK_RETRIES: Final = 3


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What one job is to do. `out` and `store_url` are folders or fsspec URLs that every render process can reach."""

    catalog: str
    out: str
    #: Default: the folder `store` in `out`.
    store_url: str | None = None
    #: Default: `signing-key.pem` beside the store's folder, or in ~/.orchestrion for a store that is no folder.
    signing_key_path: str | None = None
    #: fsspec's options for `catalog`, `out` and the store.
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ("composer",)
    precision: PrecisionName = "auto"
    node_type: str = "local-cpu"
    market: str = "on-demand"
    prices_path: str | None = None
    min_workers: int = 1
    #: Default: one for each CPU (GPU, if workers have one) of the cluster.
    max_workers: int | None = None
    #: Requests that a process takes at once: the batch that a model generates together.
    batch_size: int = 4
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    #: Custom Ray resources of one worker, e.g. {"pool_batch": 1}: keeps it off the nodes of other pools.
    resources_per_worker: Mapping[str, float] = field(default_factory=dict)

    @property
    def threads_per_worker(self) -> int:
        """One for each whole CPU of a worker: a second one would take the core of another worker."""
        return max(1, int(self.cpus_per_worker))

    def render_config(self) -> RenderConfig:
        """What each render process needs to know.

        Raises:
            InvalidRequest: a value of it cannot be used.
        """
        store = _absolute(self.store_url or f"{self.out.rstrip('/')}/store")
        beside = Path.home() / ".orchestrion" if "://" in store else Path(store).parent
        try:
            return RenderConfig(
                store_url=store,
                storage_options=dict(self.storage_options),
                signing_key_path=_absolute(self.signing_key_path or str(beside / "signing-key.pem")),
                models=self.models,
                precision=self.precision,
                slots=self.batch_size,
                threads=self.threads_per_worker,
                node_type=self.node_type,
                market=self.market,
                prices_path=_absolute(self.prices_path) if self.prices_path else None,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidRequest.of(str(first["loc"][0]), first["input"], first["msg"]) from None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a job went. `manifest_path` lists the Parquet files that hold its rows."""

    job_id: str
    row_count: int
    track_count: int
    failure_count: int
    cache_hit_count: int
    #: What this job paid, and what its cache hits would have cost.
    charged_usd: float
    saved_usd: float
    audio_s: float
    elapsed_s: float
    manifest_path: str

    @property
    def exit_code(self) -> int:
        """0 if every row is a track, else 1."""
        return EXIT_SOME_FAILED if self.failure_count else EXIT_OK

    def describe(self) -> str:
        """The job in two lines."""
        hits = (
            f" ({self.cache_hit_count} were there already, worth ${self.saved_usd:.6f})" if self.cache_hit_count else ""
        )
        return (
            f"{self.row_count} rows: {self.track_count} tracks{hits}, {self.failure_count} failures; "
            f"{self.audio_s / 60:.1f} min of audio for ${self.charged_usd:.6f} in {self.elapsed_s:.1f} s\n"
            f"ledger: {self.manifest_path}"
        )


def render_catalog(
    options: RenderOptions,
    on_progress: Callable[[JobProgress], None] = lambda _: None,
    clock: Clock | None = None,
) -> Summary:
    """Render every row of a catalog. Uses the Ray that runs in this process, or starts one and stops it again.

    Raises:
        InvalidRequest: options, price or catalog cannot be used; nothing was rendered.
        NotFound: there is no such catalog.
        StoreUnavailable: the store or the ledger did not take what was written.
        ray.exceptions.RayError: the cluster failed.
    """
    clock = clock or SystemClock()
    config = options.render_config()
    # A wrong price or node type is found here, not in each of a hundred actors.
    describe_node(config.node_type, config.market, PriceTable.load(config.prices_path))
    store = TrackStore.open(config.store_url, config.storage_options)
    sha256 = catalog_sha256(options.catalog, options.storage_options)
    started_at = clock.now()
    job_id = f"{started_at:%Y%m%dT%H%M%SZ}-{sha256[:8]}-{secrets.token_hex(2)}"
    job = {
        "job_id": job_id,
        "catalog": options.catalog,
        "catalog_sha256": sha256,
        "store": config.store_url,
        "node_type": config.node_type,
        "market": config.market,
        "started_at": utc_timestamp(started_at),
    }
    ledger = Ledger(_absolute(options.out), options.storage_options, clock)
    with Plan() as plan:
        _read_into(plan, ledger, options, job_id, store, clock)
        rows = ledger.totals.failures + plan.open_rows()
        state = "failed"
        started_s = clock.monotonic_s()
        try:
            for outcomes in _render(plan, config, job_id, options, clock):
                ledger.add(outcomes)
                on_progress(JobProgress(rows, ledger.totals, clock.monotonic_s() - started_s))
            state = "complete"
        except (KeyboardInterrupt, SystemExit):
            state = "interrupted"
            raise
        finally:
            ledger.close(job | {"state": state, "rows": rows, "ended_at": utc_timestamp(clock.now())})
    return _summary(job_id, rows, ledger.totals, clock.monotonic_s() - started_s, f"{options.out}/manifest.json")


def _summary(job_id: str, rows: int, totals: Totals, elapsed_s: float, manifest_path: str) -> Summary:
    return Summary(
        job_id=job_id,
        row_count=rows,
        track_count=totals.tracks,
        failure_count=totals.failures,
        cache_hit_count=totals.cache_hits,
        charged_usd=totals.cost_usd,
        saved_usd=totals.saved_usd,
        audio_s=totals.audio_s,
        elapsed_s=elapsed_s,
        manifest_path=manifest_path,
    )


def _read_into(
    plan: Plan, ledger: Ledger, options: RenderOptions, job_id: str, store: TrackStore, clock: Clock
) -> None:
    """The catalog's good rows into the plan, its bad rows into the ledger."""
    refused: list[dict[str, Any]] = []
    default_model = public_name(options.models[0])
    for row in read_catalog(options.catalog, options.storage_options, store.put_theme, default_model):
        if not isinstance(row, RefusedRow):
            plan.add(row)
            continue
        refused.append(refused_row(job_id, row, clock.now()))
        if len(refused) == REFUSED_PER_BATCH:
            ledger.add(outcomes_table(refused))
            refused.clear()
    if refused:
        ledger.add(outcomes_table(refused))


def _render(plan: Plan, config: RenderConfig, job_id: str, options: RenderOptions, clock: Clock) -> Iterator[pa.Table]:
    """An outcome for each row of the plan, as they come."""
    if plan.open_rows() == 0:
        return
    with _ray_running():
        # Two blocks on the way to each process, one in work and one waiting; more would only unbalance the end. Rows
        # that were lost with their process come alone the second time: one that kills it takes no other along.
        for requests_per_block, blocks_per_worker in ((options.batch_size, 2), (1, 1)):
            blocks = plan.blocks(requests_per_block)
            while some := list(islice(blocks, max(1, ROWS_PER_EXECUTION // requests_per_block))):
                for outcomes in _execute(some, blocks_per_worker, config, job_id, options):
                    yield from _first_answers(outcomes, plan)
    for block in plan.blocks(options.batch_size):
        lost = [_lost_row(row, job_id, clock) for row in block.to_pylist()]
        yield from _first_answers(outcomes_table(lost), plan)


def _execute(
    blocks: list[pa.Table], blocks_per_worker: int, config: RenderConfig, job_id: str, options: RenderOptions
) -> Iterator[pa.Table]:
    """Stream some blocks through a pool of render processes; outcomes come in the order in which they are ready."""
    workers = min(options.max_workers or _workers_that_fit(options), len(blocks))
    with warnings.catch_warnings():
        # Ray 2.60 deprecates every way to bound a block's retries and has no other yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_blocks(blocks).map_batches(
            RenderStage,
            fn_constructor_args=(config, job_id),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=min(options.min_workers, workers),
                max_size=workers,
                max_tasks_in_flight_per_actor=blocks_per_worker,
            ),
            num_cpus=options.cpus_per_worker,
            num_gpus=options.gpus_per_worker,
            resources=dict(options.resources_per_worker),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(options.threads_per_worker)}},
            # Ray Data's own default retries a block for ever, also one that kills every process it comes to.
            max_restarts=-1,
            max_task_retries=BLOCK_RETRIES,
        )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _workers_that_fit(options: RenderOptions) -> int:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    wanted = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker, **options.resources_per_worker}
    return max(1, min((int(resources.get(name, 0.0) / one) for name, one in wanted.items() if one > 0), default=1))


def _first_answers(outcomes: pa.Table, plan: Plan) -> Iterator[pa.Table]:
    """The outcomes of rows that had none yet."""
    rows = outcomes.to_pylist()
    lines = [(row["track"] or row["failure"])["line"] for row in rows]
    first = set(plan.settle(lines))
    kept = outcomes.filter(pa.array([line in first for line in lines], pa.bool_()))
    if kept.num_rows:
        yield kept


def _lost_row(row: Mapping[str, Any], job_id: str, clock: Clock) -> dict[str, Any]:
    failure = Failure(
        track_id=None,
        reason=REASONS[ModelFailed],
        stage="worker",
        message=(
            f"the process that rendered this row died or broke {2 * (BLOCK_RETRIES + 1)} times, the last ones with "
            "this row alone; Ray's logs say why"
        ),
        transient=True,
    )
    request = TrackSpec.from_json(json.loads(row["spec"])).resolve()
    at = RowContext(job_id, row["line"], row["row_id"], row["title"])
    return failure_row(at, request, failure, 2 * (BLOCK_RETRIES + 1), clock.now())


@contextmanager
def _ray_running() -> Iterator[None]:
    """Ray as this job wants it: errors of a block cost that block, and nothing but ours is printed."""
    started_here = not ray.is_initialized()
    if started_here:
        # RAY_ADDRESS names the cluster, as under `ray job submit`; without it Ray starts one on this machine.
        ray.init(logging_level=logging.WARNING, log_to_driver=False, include_dashboard=False)
    context = DataContext.get_current()
    before = (context.max_errored_blocks, context.enable_progress_bars, context.print_on_execution_start)
    context.max_errored_blocks, context.enable_progress_bars, context.print_on_execution_start = -1, False, False
    data_logger = logging.getLogger("ray.data")
    level_before = data_logger.level
    data_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        data_logger.setLevel(level_before)
        context.max_errored_blocks, context.enable_progress_bars, context.print_on_execution_start = before
        if started_here:
            ray.shutdown()


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())


# Command line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.address:
        os.environ["RAY_ADDRESS"] = arguments.address
    clock = SystemClock()
    try:
        with progress_view(clock.monotonic_s) as view:
            summary = render_catalog(_options(arguments), view, clock)
    except (InvalidRequest, NotFound) as error:
        sys.stderr.write(f"render_catalog: {error}\n")
        return EXIT_UNUSABLE
    except (RayError, StoreUnavailable, ConnectionError) as error:
        sys.stderr.write(f"render_catalog: {type(error).__name__}: {error}\nRun the same command again to go on.\n")
        return EXIT_INFRASTRUCTURE
    except KeyboardInterrupt:
        sys.stderr.write("render_catalog: stopped; what is rendered is kept. Run the same command again to go on.\n")
        return 128 + signal.SIGINT
    sys.stdout.write(summary.describe() + "\n")
    return summary.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m batch_jobs.render_catalog",
        description="Render a catalog of tracks with Ray Data. Running it again resumes it.",
        epilog="Exit codes: 0 all rendered, 1 some rows failed, 2 unusable arguments or catalog, 3 infrastructure.",
    )
    parser.add_argument("--catalog", required=True, help="CSV, JSONL or Parquet; a path or fsspec URL")
    parser.add_argument("--out", required=True, help="folder or URL of the ledger (Parquet and manifest)")
    parser.add_argument("--store", help="folder or URL of the audio (default: OUT/store)")
    parser.add_argument("--signing-key", help="Ed25519 key in PEM (default: signing-key.pem beside the store)")
    parser.add_argument(
        "--storage-options", type=_json_object, default={}, help="JSON for fsspec, e.g. an endpoint_url"
    )
    parser.add_argument("--model", action="append", dest="models", help="model to load; repeat for more (composer)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=get_args(PrecisionName),
        help="of the models' weights (default: %(default)s)",
    )
    parser.add_argument("--workers", type=_workers, default=(1, None), metavar="N|MIN:MAX", help="render processes")
    parser.add_argument("--batch-size", type=_at_least_one, default=4, help="requests per batch (default: %(default)s)")
    parser.add_argument("--cpus-per-worker", type=float, default=1.0)
    parser.add_argument("--gpus-per-worker", type=float, default=0.0)
    parser.add_argument(
        "--resources", type=_json_object, default={}, help="custom Ray resources, '{\"pool_batch\": 1}'"
    )
    parser.add_argument("--node-type", default="local-cpu", help="row of the price table (default: %(default)s)")
    parser.add_argument("--market", default="on-demand", choices=("on-demand", "spot"))
    parser.add_argument("--prices", help="price table in YAML (default: the one that ships with the project)")
    parser.add_argument("--address", help="Ray cluster (default: RAY_ADDRESS, or one started on this machine)")
    return parser


def _options(arguments: argparse.Namespace) -> RenderOptions:
    min_workers, max_workers = arguments.workers
    return RenderOptions(
        catalog=arguments.catalog,
        out=arguments.out,
        store_url=arguments.store,
        signing_key_path=arguments.signing_key,
        storage_options=arguments.storage_options,
        models=tuple(absolute_entry(entry) for entry in arguments.models or ("composer",)),
        precision=arguments.precision,
        node_type=arguments.node_type,
        market=arguments.market,
        prices_path=arguments.prices,
        min_workers=min_workers,
        max_workers=max_workers,
        batch_size=arguments.batch_size,
        cpus_per_worker=arguments.cpus_per_worker,
        gpus_per_worker=arguments.gpus_per_worker,
        resources_per_worker=arguments.resources,
    )


def _workers(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    workers = (int(low), int(high if colon else low))
    if not 1 <= workers[0] <= workers[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not N or MIN:MAX with 1 <= MIN <= MAX")
    return workers


def _at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1")
    return int(text)


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


if __name__ == "__main__":
    # `ray job stop` and schedulers send SIGTERM; the ledger is closed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
