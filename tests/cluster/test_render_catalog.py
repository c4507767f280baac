"""Whole catalog jobs on a real Ray: complete, repeatable, the same bytes as anywhere else, and alive after a kill."""

import json
import os
import signal
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from prometheus_client import CollectorRegistry

from batch_jobs.cost_report import cost_report
from batch_jobs.render_catalog import RenderOptions, render_catalog
from batch_jobs.render_stage import RenderStage
from orchestrion.metrics import PrometheusRecorder
from orchestrion.provenance import SignedRecord, load_trusted_keys, verify
from orchestrion.render import build_renderer
from orchestrion.request import TrackSpec
from orchestrion.store import TrackStore
from tests.malformed_requests import MALFORMED_ROWS

STYLES = ("piano", "ambient", "waltz", "jazz", "chiptune", "folk")
GOOD = [
    {"prompt": f"{style} sketch", "duration_s": 2.0, "seed": seed, "format": "flac", "row_id": f"{style}-{seed}"}
    for seed, style in enumerate(STYLES)
]


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests of this file; each worker is a core of its two."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()


def catalog(folder: Path, rows) -> str:
    path = folder / "catalog.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows_of(out: Path, kind: str, job_id: str) -> list[dict]:
    return pq.read_table(out / kind, filters=[("job_id", "=", job_id)]).to_pylist() if (out / kind).exists() else []


@pytest.fixture(scope="module")
def first_run(cluster, tmp_path_factory):
    """A catalog with good rows, a duplicate, every malformed row, and rows that only the renderer can refuse."""
    folder = tmp_path_factory.mktemp("catalog")
    bad = [cells for _, _, cells in MALFORMED_ROWS]
    late = [{"prompt": "x", "model": "no-such-model"}, {"prompt": "x", "theme": "sha256:" + "0" * 64}]
    again = [GOOD[0] | {"requester": "somebody-else", "row_id": "again"}]
    options = RenderOptions(
        catalog=catalog(folder, [*GOOD, *bad, "not json\n", *late, *again]), out=str(folder / "out"), batch_size=2
    )
    return options, render_catalog(options), folder / "out"


def test_every_row_is_a_track_or_a_failure(first_run):
    options, summary, out = first_run
    lines = Path(options.catalog).read_text().count("\n")

    tracks, failures = (rows_of(out, kind, summary.job_id) for kind in ("tracks", "failures"))

    assert sorted(row["line"] for row in tracks + failures) == list(range(1, lines + 1))
    assert (summary.row_count, summary.track_count, summary.failure_count) == (lines, len(tracks), len(failures))
    assert len(tracks) == len(GOOD) + 1 and all(row["message"] and row["reason"] for row in failures)
    assert {row["reason"] for row in failures} == {"invalid-request", "not-found"}
    assert summary.exit_code == 1


def test_a_duplicate_row_is_rendered_once_and_reported_twice(first_run):
    _, summary, out = first_run

    twins = [row for row in rows_of(out, "tracks", summary.job_id) if row["row_id"] in ("piano-0", "again")]

    assert twins[0]["track_id"] == twins[1]["track_id"]
    assert sorted(row["cache_hit"] for row in twins) == [False, True]
    assert sum(row["charged_usd"] for row in twins) == twins[0]["cost_usd"] > 0


def test_every_track_verifies_and_one_flipped_byte_does_not(first_run):
    options, summary, out = first_run
    config = options.render_config()
    store = TrackStore.open(config.store_url)
    renderer = build_renderer(config, "test", PrometheusRecorder(CollectorRegistry()))
    (out / "key.pem").write_bytes(renderer.signer.public_pem)
    keys = load_trusted_keys(out / "key.pem")

    for row in rows_of(out, "tracks", summary.job_id):
        signed = SignedRecord.from_bytes(store.latest(row["track_id"]))
        audio = store.get_blob(row["audio_key"])
        verify(signed, audio, keys)
        assert signed.record.audio_sha256 == row["audio_sha256"] and signed.record.cost_usd == row["cost_usd"]
    with pytest.raises(Exception, match="SHA-256"):
        verify(signed, bytes([audio[0] ^ 1]) + audio[1:], keys)


def test_the_renderer_without_ray_makes_the_same_track_byte_for_byte(first_run, tmp_path):
    _, summary, out = first_run
    alone = RenderOptions(catalog="", out=str(tmp_path)).render_config()
    renderer = build_renderer(alone, "test", PrometheusRecorder(CollectorRegistry()))
    spec = {name: value for name, value in GOOD[1].items() if name != "row_id"}

    [track] = renderer.render([TrackSpec.from_json(spec).resolve()])

    [row] = [row for row in rows_of(out, "tracks", summary.job_id) if row["row_id"] == GOOD[1]["row_id"]]
    assert (track.track_id, track.record.audio_sha256) == (row["track_id"], row["audio_sha256"])


def test_a_second_run_is_all_cache_hits_and_free(first_run):
    options, first, out = first_run

    second = render_catalog(options)

    assert (second.track_count, second.cache_hit_count) == (first.track_count, first.track_count)
    assert second.charged_usd == 0.0 and second.saved_usd > 0
    assert second.job_id != first.job_id and "were there already" in second.describe()
    report = cost_report(str(out))
    assert report.totals["cost_usd"] == pytest.approx(first.charged_usd, abs=1e-12)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["job_id"], manifest["state"]) == (second.job_id, "complete")


def render_processes() -> list[psutil.Process]:
    """The processes of this job's pool; they are children of our own Ray."""
    ours = psutil.Process().children(recursive=True)
    return [process for process in ours if "MapWorker" in " ".join(process.cmdline())]


def test_a_job_whose_render_process_is_killed_is_complete_all_the_same(cluster, tmp_path):
    rows = [row | {"duration_s": 6.0, "seed": 100 + i} for i, row in enumerate(GOOD * 2)]
    options = RenderOptions(catalog=catalog(tmp_path, rows), out=str(tmp_path / "out"), batch_size=1, max_workers=2)
    killed = []

    def kill_one_after_the_first_rows(progress):
        if progress.done >= 2 and not killed:
            victim = render_processes()[0]
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)

    summary = render_catalog(options, kill_one_after_the_first_rows)

    tracks = rows_of(tmp_path / "out", "tracks", summary.job_id)
    assert killed and summary.exit_code == 0
    assert sorted(row["line"] for row in tracks) == list(range(1, len(rows) + 1))
    assert len({row["track_id"] for row in tracks}) == len(rows)


def test_an_interrupted_job_keeps_what_it_has_and_the_next_run_goes_on(cluster, tmp_path):
    options = RenderOptions(catalog=catalog(tmp_path, GOOD), out=str(tmp_path / "out"), batch_size=1, max_workers=1)

    def stop(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_catalog(options, stop)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    second = render_catalog(options)

    assert (manifest["state"], manifest["totals"]["tracks"]) == ("interrupted", 2)
    assert second.track_count == len(GOOD) and 2 <= second.cache_hit_count < len(GOOD)


class StageThatDies(RenderStage):
    def __call__(self, block):
        if "deadly" in block["title"].to_pylist():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(block)


def test_a_row_that_kills_every_process_costs_only_itself(cluster, tmp_path, monkeypatch):
    """A row whose process always dies (as a crash in native code would have it) ends as a failure row."""
    monkeypatch.setattr("batch_jobs.render_catalog.RenderStage", StageThatDies)
    monkeypatch.setattr("batch_jobs.render_catalog.BLOCK_RETRIES", 0)
    rows = [*GOOD[:2], GOOD[2] | {"title": "deadly"}, *GOOD[3:4]]
    options = RenderOptions(catalog=catalog(tmp_path, rows), out=str(tmp_path / "out"), batch_size=2, max_workers=2)

    summary = render_catalog(options)

    [failure] = rows_of(tmp_path / "out", "failures", summary.job_id)
    assert (failure["line"], failure["stage"], failure["transient"]) == (3, "worker", True)
    assert summary.track_count == 3
