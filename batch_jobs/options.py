"""What one catalog job is to do, as a value and as a command line."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, get_args

from pydantic import ValidationError

from batch_jobs.catalog.columns import KEEP_ALL, ColumnNames
from batch_jobs.catalog.location import folder_above
from orchestrion.cli.arguments import add_storage_options
from orchestrion.errors import InvalidRequest
from orchestrion.models.registry import absolute_entry
from orchestrion.rendering.config import PrecisionName, RenderConfig, lies_in
from orchestrion.resilience.store_retry import STORE_RETRY_S
from orchestrion.trust.signing_keys import default_signing_key

ProgressForm = Literal["auto", "bar", "lines", "json"]
#: What `--max-cost` limits: what the machines cost, or what renders of tracks hold of their devices.
MaxCostOf = Literal["bill", "render"]

#: The custom Ray resource that preemptible nodes carry and only render processes ask for.
SPOT_RESOURCE: Final = "spot"
EPILOG: Final = (
    "Exit codes: 0 every row is a track, 5 every row is done and some failed, 2 unusable arguments or catalog, "
    "3 infrastructure failed, 4 stopped at --max-cost, 130 and 143 stopped by a signal. After 1, 3, 4, 130 and 143 the "
    "same command goes on."
)


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What one job is to do. `out` and `store_url` are folders or fsspec URLs that every render process can reach."""

    catalog: str
    out: str
    #: Default: the folder `store` in `out`.
    store_url: str | None = None
    #: Default: this person's own, `signing_keys.default_signing_key`. Never in `out`, the store or the catalog.
    signing_key_path: str | None = None
    #: Whose records count besides those of the signing key: a PEM file, or a folder of them.
    trusted_keys_path: str | None = None
    #: fsspec's options for `catalog`, `out` and the store.
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    #: Tells jobs on the same catalog apart; a job is named by this, the catalog's content and what is rendered of it.
    job_name: str = ""
    #: Of our columns, those that the catalog calls otherwise, and how: {"prompt": "Beschreibung"}.
    column_map: Mapping[str, str] = field(default_factory=dict)
    #: Columns that are none of ours and go to the ledger as they are; `columns.KEEP_ALL` for all of them.
    keep_columns: Sequence[str] = ()
    #: Only the first so many rows; of those, this share, the same rows each time.
    limit: int | None = None
    sample: float = 1.0
    #: Refuse to begin a job: there must be one to go on with.
    resume: bool = False
    #: Repeat what failed when the job was last complete.
    retry_failures: bool = False
    #: Begin nothing new when the job would cost more, over all its runs: its machines, or its renders.
    max_cost_usd: float | None = None
    max_cost_of: MaxCostOf = "bill"
    models: tuple[str, ...] = ("composer",)
    precision: PrecisionName = "auto"
    #: For workers whose node has no label that says it.
    node_type: str = "local-cpu"
    market: str = "on-demand"
    prices_path: str | None = None
    min_workers: int = 1
    #: Default: one for each CPU (GPU, if workers have one) of the cluster.
    max_workers: int | None = None
    #: Tracks that a process makes at the same time, where its model can.
    batch_size: int = 4
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    #: How long a store or a ledger that does not answer, or takes nothing, is waited for.
    patience_s: float = STORE_RETRY_S
    #: Custom Ray resources of one worker, e.g. {"pool_batch": 1}: keeps it off the nodes of other pools.
    resources_per_worker: Mapping[str, float] = field(default_factory=dict)

    @property
    def threads_per_worker(self) -> int:
        """One for each whole CPU of a worker: a second one would take the core of another worker."""
        return max(1, int(self.cpus_per_worker))

    @property
    def custom_resources(self) -> dict[str, float]:
        """What a worker asks of Ray besides CPUs and GPUs: on the spot market, a place that may vanish."""
        spot = {SPOT_RESOURCE: 1.0} if self.market == "spot" else {}
        return spot | dict(self.resources_per_worker)

    @property
    def ledger_url(self) -> str:
        """Where the ledger is, absolute."""
        return _absolute(self.out)

    def render_config(self) -> RenderConfig:
        """What each render process needs to know.

        Raises:
            InvalidRequest: a value of it cannot be used.
        """
        store = _absolute(self.store_url or f"{self.out.rstrip('/')}/store")
        key = _absolute(self.signing_key_path or str(default_signing_key(os.environ)))
        trusted = _absolute(self.trusted_keys_path) if self.trusted_keys_path else None
        for name, place in (("ledger", self.out), ("catalog", self.catalog)):
            for path in filter(None, (key, trusted)):
                if place and lies_in(path, _absolute(place)):
                    raise InvalidRequest.of(
                        "signing_key", path, f"is in the {name} {place}, which others may read and write; move it"
                    )
        if self.catalog and _rows_may_name(key, _absolute(self.catalog)):
            raise InvalidRequest.of(
                "signing_key", key, "is in the catalog's folder, where its rows could name it as a theme; move it"
            )
        try:
            return RenderConfig(
                store_url=store,
                storage_options=dict(self.storage_options),
                signing_key_path=key,
                trusted_keys_path=trusted,
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
            raise InvalidRequest.of(str((*first["loc"], "signing_key")[0]), first["input"], first["msg"]) from None


@dataclass(frozen=True, slots=True)
class Command:
    """The options of a job, and how the command line that gave them is to behave."""

    options: RenderOptions
    address: str | None
    dry_run: bool
    #: Of a dry run: where to write the rows that cannot be rendered.
    bad_rows: Path | None
    progress: ProgressForm


def parse(argv: Sequence[str] | None) -> Command:
    """Read a command line; argparse exits with 2 on one that it cannot read."""
    command_line = parser()
    arguments = command_line.parse_args(argv)
    min_workers, max_workers = arguments.workers
    if arguments.bad_rows is not None and not arguments.dry_run:
        command_line.error("argument --bad-rows: give it with --dry-run; after a run, cost_report writes failures.csv")
    column_map = _column_map(command_line, arguments.column_map)
    options = RenderOptions(
        catalog=arguments.catalog,
        out=arguments.out,
        store_url=arguments.store,
        signing_key_path=arguments.signing_key,
        trusted_keys_path=arguments.trusted_keys,
        storage_options=arguments.storage_options,
        column_map=column_map,
        keep_columns=_keep_columns(command_line, arguments.keep_columns, column_map),
        job_name=arguments.job_name,
        limit=arguments.limit,
        sample=arguments.sample,
        resume=arguments.resume,
        retry_failures=arguments.retry_failures,
        max_cost_usd=arguments.max_cost,
        max_cost_of=arguments.max_cost_of,
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
        patience_s=arguments.patience,
    )
    return Command(options, arguments.address, arguments.dry_run, arguments.bad_rows, arguments.progress)


def parser() -> argparse.ArgumentParser:
    """The command line of `render_catalog`."""
    made = argparse.ArgumentParser(
        prog="python -m batch_jobs.render_catalog",
        description="Render a catalog of tracks with Ray Data. Running the same command again goes on where it was.",
        epilog=EPILOG,
    )
    what = made.add_argument_group("what")
    what.add_argument(
        "--catalog", required=True, help="CSV, JSON, Parquet or Arrow, or a folder of Parquet; a path or fsspec URL"
    )
    what.add_argument(
        "--map",
        action="append",
        default=[],
        dest="column_map",
        metavar="OURS=THEIRS",
        help="the catalog calls our column so, e.g. prompt=Beschreibung; repeat for more",
    )
    what.add_argument(
        "--keep-columns",
        action="append",
        default=[],
        metavar="NAME[,NAME]",
        help=f"columns of the catalog's own to carry into the ledger, or {KEEP_ALL} (default: they are refused)",
    )
    what.add_argument("--limit", type=at_least_one, metavar="N", help="only the first N rows")
    what.add_argument(
        "--sample", type=_share, default=1.0, metavar="SHARE", help="only this share of the rows, e.g. 0.01 or 1%%"
    )
    what.add_argument("--job-name", default="", help="tells jobs on the same catalog apart")
    what.add_argument(
        "--resume", action="store_true", help="only go on with a job that was begun; never begin one by mistake"
    )
    what.add_argument(
        "--retry-failures", action="store_true", help="of a job that is complete, try again the rows that failed"
    )
    where = made.add_argument_group("where")
    where.add_argument("--out", required=True, help="folder or s3:// URL of the ledger")
    where.add_argument("--store", help="folder or s3:// URL of the audio (default: OUT/store)")
    where.add_argument(
        "--signing-key",
        help="Ed25519 key in PEM, on every node (default: $ORCHESTRION_SIGNING_KEY or ~/.orchestrion/…)",
    )
    where.add_argument("--trusted-keys", help="more public keys (PEM file or folder) whose records in the store count")
    add_storage_options(where)
    how = made.add_argument_group("how")
    how.add_argument("--model", action="append", dest="models", help="model to load; repeat for more (composer)")
    how.add_argument(
        "--precision", default="auto", choices=get_args(PrecisionName), help="of the models' weights (default: auto)"
    )
    how.add_argument("--workers", type=_workers, default=(1, None), metavar="N|MIN:MAX", help="render processes")
    how.add_argument(
        "--batch-size", type=at_least_one, default=4, help="tracks that a process makes at once (default: %(default)s)"
    )
    how.add_argument("--cpus-per-worker", type=float, default=1.0)
    how.add_argument("--gpus-per-worker", type=float, default=0.0)
    how.add_argument("--resources", type=_json_object, default={}, help="custom Ray resources, '{\"pool_batch\": 1}'")
    how.add_argument(
        "--patience",
        type=_positive,
        default=STORE_RETRY_S,
        metavar="SECONDS",
        help="how long a store or ledger that is away or takes nothing is waited for (default: %(default)g)",
    )
    how.add_argument("--address", help="Ray cluster (default: RAY_ADDRESS, or one started on this machine)")
    how.add_argument(
        "--progress", default="auto", choices=get_args(ProgressForm), help="auto: a bar on a terminal, else lines"
    )
    _add_money(made)
    return made


def _add_money(made: argparse.ArgumentParser) -> None:
    money = made.add_argument_group("money")
    money.add_argument("--dry-run", action="store_true", help="read the catalog, estimate time and cost, and stop")
    money.add_argument(
        "--bad-rows", type=Path, metavar="FILE", help="with --dry-run: write all rows that cannot be rendered, as CSV"
    )
    money.add_argument("--max-cost", type=_positive, metavar="USD", help="begin nothing new beyond that, in all runs")
    money.add_argument(
        "--max-cost-of",
        default="bill",
        choices=get_args(MaxCostOf),
        help="bill: what the machines cost, waste and idle time included; render: the renders of tracks alone",
    )
    money.add_argument("--node-type", default="local-cpu", help="row of the price table (default: %(default)s)")
    money.add_argument(
        "--market", default="on-demand", choices=("on-demand", "spot"), help="spot: only on nodes that may vanish"
    )
    money.add_argument("--prices", help="price table in YAML (default: the one that ships with the project)")


def _rows_may_name(path: str, catalog: str) -> bool:
    """Whether a file lies below the catalog's folder under no hidden name: then it can be asked for as a theme."""
    folder = os.path.normpath(folder_above(catalog.removeprefix("file://")))
    if not lies_in(path, folder):
        return False
    below = PurePosixPath(os.path.normpath(path)).relative_to(folder)
    return not any(part.startswith(".") for part in below.parts)


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())


def _column_map(command_line: argparse.ArgumentParser, pairs: Sequence[str]) -> dict[str, str]:
    """What `--map` says; a column that we do not have, or one given twice, ends the command as any wrong option."""
    mapped: dict[str, str] = {}
    for pair in pairs:
        ours, is_pair, theirs = (part.strip() for part in pair.partition("="))
        if not (is_pair and ours and theirs):
            command_line.error(f"argument --map: {pair!r} is not OURS=THEIRS, as in prompt=Beschreibung")
        if ours in mapped:
            command_line.error(f"argument --map: {ours} is given twice; give it once")
        mapped[ours] = theirs
    try:
        ColumnNames(mapped)
    except InvalidRequest as error:
        command_line.error(f"argument --map: {error}")
    return mapped


def _keep_columns(
    command_line: argparse.ArgumentParser, given: Sequence[str], column_map: Mapping[str, str]
) -> tuple[str, ...]:
    """What `--keep-columns` says, in one order whatever the order was."""
    names = {name for part in given for name in map(str.strip, part.split(",")) if name}
    try:
        ColumnNames(column_map, names)
    except InvalidRequest as error:
        command_line.error(f"argument --keep-columns: {error}")
    return tuple(sorted(names))


def _workers(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    workers = (int(low), int(high if colon else low))
    if not 1 <= workers[0] <= workers[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not N or MIN:MAX with 1 <= MIN <= MAX")
    return workers


def at_least_one(text: str) -> int:
    """A count from a command line.

    Raises:
        argparse.ArgumentTypeError: it is less than 1.
        ValueError: it is no integer.
    """
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1")
    return int(text)


def _positive(text: str) -> float:
    if not 0.0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return float(text)


def _share(text: str) -> float:
    share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; give more than 0 and at most 1, or a percentage")
    return share


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value
