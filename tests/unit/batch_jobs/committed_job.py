"""Jobs with committed shards and journals of their workers: what a settlement finds."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc

from batch_jobs.job_store.job_folder import AttemptRecord, JobFolder, WorkerJournal, WorkerNode
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.tables import ATTEMPTS_SCHEMA, FAILURES_SCHEMA, TRACK, TRACKS_SCHEMA
from batch_jobs.settlement.outcomes import shard_table
from batch_jobs.settlement.prices import JobPrices
from batch_jobs.settlement.settlement import settle
from orchestrion.accounting.cost import NodeType, Price, PriceTable
from orchestrion.storage.object_store import Dated, Objects
from orchestrion.tracks.record import SCHEMA_VERSION
from tests.unit.batch_jobs.sample_ledger import any_row

START = datetime(2026, 1, 1, tzinfo=UTC)
JOB = {
    "catalog": "songs.csv", "catalog_sha256": "ab" * 32, "store": "out/store", "begun_at": START.isoformat(),
}  # fmt: skip
#: What `node` has made so far, by node type.
_TYPES: dict[str, NodeType] = {}


def node(node_id="n1", devices=2, usd_per_node_hour=3600.0, machine_id=None) -> WorkerNode:
    """A machine, of a type in `prices()`; a device is one dollar for two seconds unless it says otherwise."""
    node_type = f"box-{devices}-{usd_per_node_hour}"
    price = Price(usd_per_node_hour=usd_per_node_hour, as_of=START.date(), source="a test")
    _TYPES[node_type] = NodeType(device="cpu-core", devices=devices, markets={"spot": price})
    return WorkerNode(node_id, node_type, "spot", machine_id)


def prices() -> JobPrices:
    """The prices of every `node`."""
    known = node()
    return JobPrices(PriceTable(node_types=dict(_TYPES)), known.node_type, known.market)


def worker(worker_id, run_id="run-1", on=None, from_s=0.0, to_s=100.0, devices=1.0, attempts=(), **values):
    """A process that was up from `from_s` to `to_s` after START."""
    moments = {"up_from": START + timedelta(seconds=from_s), "seen_at": START + timedelta(seconds=to_s)}
    return WorkerJournal(
        worker_id=worker_id, run_id=run_id, node=on or node(), reserved_devices=devices, attempts=tuple(attempts),
        **moments, **values,
    )  # fmt: skip


def noted(attempt_id, shard, line, seconds, ended=None) -> AttemptRecord:
    """A try as a journal has it."""
    end = START + timedelta(seconds=seconds)
    return AttemptRecord(attempt_id, shard, line, f"trk_{line}", "composer", START, end, seconds, ended)


def track(line, usd=0.0, job_id="job-1", **values) -> dict:
    """A row of tracks that was rendered for `usd`; for nothing, it is a cache hit."""
    known = {
        "job_id": job_id, "line": line, "settled_at": START + timedelta(seconds=line), "attempts": 1,
        "schema_version": SCHEMA_VERSION, "track_id": f"trk_{line}", "model": "composer", "duration_s": 60.0,
        "cache_hit": usd == 0.0, "charged_usd": usd, "cost_usd": usd,
    }  # fmt: skip
    return any_row(TRACKS_SCHEMA, **known | values)


def failure(line, job_id="job-1", **values) -> dict:
    """A row of failures."""
    known = {
        "job_id": job_id, "line": line, "settled_at": START + timedelta(seconds=line),
        "reason": "check-failed", "stage": "check", "message": "too loud",
    }  # fmt: skip
    return any_row(FAILURES_SCHEMA, **known | values)


def attempt(attempt_id, shard, line, usd, ended=TRACK, job_id="job-1", **values) -> dict:
    """A row of attempts."""
    known = {
        "attempt_id": attempt_id, "job_id": job_id, "shard": shard, "line": line, "cost_usd": usd, "ended": ended,
        "ended_at": START + timedelta(seconds=line), "model": "composer",
    }  # fmt: skip
    return any_row(ATTEMPTS_SCHEMA, **known | values)


def rendered(shard, *lines_and_usd, job_id="job-1"):
    """A shard whose rows are all tracks that were rendered for these sums, with the attempts that made them."""
    tracks = [track(line, usd, job_id) for line, usd in lines_and_usd]
    attempts = [attempt(f"{shard}/{line}", shard, line, usd, job_id=job_id) for line, usd in lines_and_usd]
    return shard_table(tracks, attempts)


def assert_readable(place):
    """The newest state, and the one that recipes take, name whole files, and the schema of each table first."""
    newest = Ledger(Objects(str(place)), None).snapshot()
    for data in [newest.to_bytes()] * (newest.number > 0) + [path.read_bytes() for path in place.glob("manifest.json")]:
        for files in json.loads(data)["tables"].values():
            assert [file["rows"] == 0 for file in files] == [True, *[False] * (len(files) - 1)]
            for file in files:
                assert hashlib.sha256((place / file["path"]).read_bytes()).hexdigest() == file["sha256"]


class TimelessObjects(Objects):
    """A folder that does not tell when its files were written: then the times count that journals say of themselves.

    Journals of these tests tell of a day of their own; by the file system's clock all are of today.
    """

    def read_dated(self, key, at_most):
        return Dated(self.read(key, at_most))


class CommittedJob:
    """One job in one ledger."""

    def __init__(self, url, clock, job_id="job-1", objects=None):
        self.objects = objects or TimelessObjects(str(url))
        self.clock = clock
        self.folder = JobFolder(self.objects, job_id)
        self.ledger = Ledger(self.objects, clock)

    def commit(self, shard, *lines_and_usd):
        assert self.folder.commit(shard, rendered(shard, *lines_and_usd, job_id=self.folder.job_id))

    def close(self, run_id="run-1", state="complete", rows=0):
        return self.entry(run_id, state, rows).totals

    def entry(self, run_id="run-1", state="complete", rows=0):
        return settle(self.ledger, self.folder, JOB, prices(), run_id, state, rows, self.clock)

    def rows(self, table, *columns):
        """The rows of a table, or the values of these columns, in order of lines."""
        found = self.ledger.dataset(table).to_table()
        order = "line" if "line" in found.schema.names else "up_from"
        found = found.sort_by([(order, "ascending")])
        return list(zip(*(found[name].to_pylist() for name in columns), strict=True)) if columns else found.to_pylist()

    def total(self, table, column):
        return pc.sum(self.ledger.dataset(table).to_table()[column]).as_py() or 0.0

    def assert_reconciled(self):
        """What tracks and machines say adds up to the bill."""
        bill = self.total("nodes", "cost_usd")
        told = self.total("tracks", "total_usd") + self.total("nodes", "unallocated_usd")
        assert abs(told - bill) <= 1e-9 * max(bill, self.total("tracks", "charged_usd"))
