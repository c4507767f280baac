"""Whole catalog jobs on a real Ray: complete, repeatable, the same bytes as anywhere else, and alive after a kill."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pytest
import ray
from prometheus_client import CollectorRegistry

from batch_jobs.job_store.job_folder import LEASE_S
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.options import RenderOptions
from batch_jobs.render_catalog import render_catalog
from batch_jobs.rendering import worker
from batch_jobs.rendering.render_stage import RenderStage
from batch_jobs.reports.costs import cost_report
from cluster.ray_internals import start_private_ray
from orchestrion.errors import StoreUnavailable
from orchestrion.rendering.renderer import build_renderer
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signed_record import verify
from tests.malformed_requests import MALFORMED_ROWS

STYLES = ("piano", "ambient", "waltz", "jazz", "chiptune", "folk")
GOOD = [
    {"prompt": f"{style} sketch", "duration_s": 2.0, "seed": seed, "format": "flac", "row_id": f"{style}-{seed}"}
    for seed, style in enumerate(STYLES)
]


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests of this file; each worker is a core of its two."""
    start_private_ray(num_cpus=2)
    yield
    ray.shutdown()


def catalog(folder: Path, rows) -> str:
    path = folder / "catalog.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows_of(out: Path, kind: str, job_id: str) -> list[dict]:
    return ledger_dataset(str(out), {}, kind).to_table(filter=ds.field("job_id") == job_id).to_pylist()


def assert_the_bill_is_explained(out: Path, job_id: str) -> None:
    tracks, nodes = (rows_of(out, kind, job_id) for kind in ("tracks", "nodes"))
    bill = sum(node["up_s"] * node["usd_per_node_hour"] / 3600 for node in nodes_with_hours(nodes))
    explained = sum(row["total_usd"] for row in tracks) + sum(node["unallocated_usd"] for node in nodes)
    assert explained == pytest.approx(bill, rel=1e-6) and bill > 0


def nodes_with_hours(nodes):
    return [node | {"up_s": (node["up_to"] - node["up_from"]).total_seconds()} for node in nodes]


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


def test_every_row_is_a_track_or_a_failure_and_has_its_tries(first_run):
    options, summary, out = first_run
    lines = Path(options.catalog).read_text().count("\n")

    tracks, failures, attempts = (rows_of(out, kind, summary.job_id) for kind in ("tracks", "failures", "attempts"))

    assert sorted(row["line"] for row in tracks + failures) == list(range(1, lines + 1))
    totals = summary.totals
    assert (summary.row_count, totals.tracks, totals.failures) == (lines, len(tracks), len(failures))
    assert len(tracks) == len(GOOD) + 1 and all(row["message"] and row["reason"] for row in failures)
    assert {row["reason"] for row in failures} == {"invalid-request", "not-found"}
    assert summary.exit_code == 5
    assert sorted(row["line"] for row in attempts if row["ended"] == "track") == list(range(1, len(GOOD) + 1))


def test_what_the_node_cost_is_what_the_tracks_carry_and_what_is_left_over(first_run):
    _, summary, out = first_run
    totals = summary.totals

    assert_the_bill_is_explained(out, summary.job_id)
    parts = totals.charged_usd + totals.waste_usd + totals.idle_usd + totals.unallocated_usd
    assert parts == pytest.approx(totals.node_usd, rel=1e-9)
    assert "that no track carries" in summary.describe()


def test_a_duplicate_row_is_rendered_once_and_reported_twice(first_run):
    _, summary, out = first_run

    twins = [row for row in rows_of(out, "tracks", summary.job_id) if row["row_id"] in ("piano-0", "again")]

    assert twins[0]["track_id"] == twins[1]["track_id"]
    assert sorted(row["cache_hit"] for row in twins) == [False, True]
    assert sum(row["charged_usd"] for row in twins) == twins[0]["cost_usd"] > 0


def test_every_track_verifies_and_one_flipped_byte_does_not(first_run):
    options, summary, out = first_run
    renderer = build_renderer(options.render_config(), "test", PrometheusRecorder(CollectorRegistry()))
    keys = renderer.trusted_keys

    for row in rows_of(out, "tracks", summary.job_id):
        stored = renderer.tracks.newest(row["track_id"])
        signed = stored.signed
        audio = renderer.store.get_blob(row["audio_key"])
        verify(signed, audio, keys)
        assert row["version"] == stored.version == 1
        assert signed.record.audio_sha256 == row["audio_sha256"] and signed.record.cost_usd == row["cost_usd"]
    with pytest.raises(Exception, match="SHA-256"):
        verify(signed, bytes([audio[0] ^ 1]) + audio[1:], keys)


def test_the_renderer_without_ray_makes_the_same_track_byte_for_byte(first_run, tmp_path):
    _, summary, out = first_run
    alone = RenderOptions(catalog="", out=str(tmp_path)).render_config()
    renderer = build_renderer(alone, "test", PrometheusRecorder(CollectorRegistry()))
    spec = {name: value for name, value in GOOD[1].items() if name != "row_id"}

    track = renderer.render(TrackSpec.from_json(spec).resolve())

    [row] = [row for row in rows_of(out, "tracks", summary.job_id) if row["row_id"] == GOOD[1]["row_id"]]
    assert (track.track_id, track.record.audio_sha256) == (row["track_id"], row["audio_sha256"])


def test_the_same_command_again_does_nothing_and_another_job_finds_every_track(first_run):
    options, first, out = first_run

    again = render_catalog(options)
    other = render_catalog(replace(options, job_name="other"))

    assert (again.job_id, again.run_totals.tracks) == (first.job_id, 0)
    # Processes of the first run may have lived a moment longer than its settlement; that moment is paid now.
    without_machines = {"unallocated_usd": 0.0, "node_usd": 0.0}
    assert replace(again.totals, **without_machines) == replace(first.totals, **without_machines)
    usd_per_s = rows_of(out, "nodes", first.job_id)[0]["usd_per_node_hour"] / 3600
    later_s = (again.totals.node_usd - first.totals.node_usd) / usd_per_s
    assert 0.0 <= later_s < LEASE_S
    assert other.job_id != first.job_id and "were there already" in other.describe()
    assert other.totals.cache_hits == other.totals.tracks == first.totals.tracks
    assert other.totals.charged_usd == 0.0 and other.totals.saved_usd > 0
    report = cost_report(str(out))
    assert report.totals["render_usd"] == pytest.approx(first.totals.charged_usd, abs=1e-12)


def render_processes() -> list[psutil.Process]:
    """The processes of this job's pool; they are children of our own Ray."""
    ours = psutil.Process().children(recursive=True)
    return [process for process in ours if "MapWorker" in " ".join(process.cmdline())]


def test_a_job_whose_render_process_is_killed_is_complete_all_the_same(cluster, tmp_path):
    rows = [row | {"duration_s": 6.0, "seed": 100 + i, "row_id": None} for i, row in enumerate(GOOD * 2)]
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
    assert_the_bill_is_explained(tmp_path / "out", summary.job_id)


def test_an_interrupted_job_keeps_what_it_has_and_the_next_run_goes_on(cluster, tmp_path):
    options = RenderOptions(catalog=catalog(tmp_path, GOOD), out=str(tmp_path / "out"), batch_size=1, max_workers=1)

    def interrupt(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_catalog(options, interrupt)
    [(job_id, job)] = json.loads((tmp_path / "out" / "manifest.json").read_text())["jobs"].items()
    second = render_catalog(options)

    assert job["state"] == "interrupted" and 2 <= job["totals"]["tracks"] < len(GOOD)
    assert (second.job_id, second.state, second.totals.tracks) == (job_id, "complete", len(GOOD))
    tracks = rows_of(tmp_path / "out", "tracks", job_id)
    assert [row["cache_hit"] for row in tracks] == [False] * len(GOOD)
    assert_the_bill_is_explained(tmp_path / "out", job_id)


def test_a_job_that_may_cost_no_more_stops_in_order_and_goes_on_with_more_money(cluster, tmp_path):
    rows = [GOOD[0] | {"duration_s": 20.0, "seed": seed, "row_id": None} for seed in range(16)]
    options = RenderOptions(
        catalog=catalog(tmp_path, rows), out=str(tmp_path / "out"), batch_size=1, max_workers=1, max_cost_usd=1e-6
    )

    first = render_catalog(options)
    second = render_catalog(replace(options, max_cost_usd=None))

    assert (first.state, first.exit_code) == ("budget", 4)
    assert first.totals.tracks < len(rows) and "still to do" in first.describe()
    assert (second.state, second.totals.tracks, second.exit_code) == ("complete", len(rows), 0)
    ended = {row["ended"] for row in rows_of(tmp_path / "out", "attempts", first.job_id)}
    assert ended == {"track"}, "something that was in progress was thrown away"


#: One machine of two devices, for a dollar a second.
DOLLAR_A_SECOND = """
node_types:
  local-cpu:
    device: cpu-core
    devices: 2
    markets:
      on-demand: {usd_per_node_hour: 3600, as_of: 2026-11-29, source: for this test}
"""


def test_a_limit_holds_for_the_bill_and_over_five_more_runs(cluster, tmp_path):
    rows = [GOOD[0] | {"duration_s": 60.0, "seed": seed, "row_id": None} for seed in range(60)]
    (tmp_path / "prices.yaml").write_text(DOLLAR_A_SECOND)
    limit_usd = 30.0
    options = RenderOptions(
        catalog=catalog(tmp_path, rows), out=str(tmp_path / "out"), batch_size=1, max_workers=1,
        prices_path=str(tmp_path / "prices.yaml"), max_cost_usd=limit_usd,
    )  # fmt: skip

    first = render_catalog(options)
    attempts = rows_of(tmp_path / "out", "attempts", first.job_id)
    again = [render_catalog(options) for _ in range(5)]

    assert first.state == "budget" and first.totals.tracks < len(rows)
    a_track_usd = max(((row["ended_at"] - row["started_at"]).total_seconds() for row in attempts), default=0.0)
    assert first.totals.node_usd <= limit_usd + max(0.02 * limit_usd, a_track_usd)
    assert [run.totals.node_usd for run in again] == [first.totals.node_usd] * 5, "nothing is begun"
    assert {run.state for run in again} == {"budget"}


class StageWithoutStore(RenderStage):
    def __init__(self, *arguments):
        def away(*_):
            raise StoreUnavailable("store s3://songs: nobody answers; check the endpoint")

        # In this process alone, which is the only one that stores.
        TrackStore.put_blob = TrackStore.probe = away
        super().__init__(*arguments)


def test_a_store_that_goes_away_for_good_ends_the_run_and_no_row_and_the_next_run_goes_on(
    cluster, tmp_path, monkeypatch
):
    options = RenderOptions(
        catalog=catalog(tmp_path, GOOD), out=str(tmp_path / "out"), batch_size=2, max_workers=1, patience_s=3.0
    )
    with monkeypatch.context() as patched:
        patched.setattr("batch_jobs.rendering.execution.RenderStage", StageWithoutStore)
        with pytest.raises(StoreUnavailable, match="s3://songs: nobody answers; check the endpoint"):
            render_catalog(options)
    [(job_id, job)] = json.loads((tmp_path / "out" / "manifest.json").read_text())["jobs"].items()
    assert (job["state"], job["totals"]["tracks"], job["totals"]["failures"]) == ("failed", 0, 0)

    second = render_catalog(options)

    assert (second.job_id, second.totals.tracks, second.exit_code) == (job_id, len(GOOD), 0)
    assert_the_bill_is_explained(tmp_path / "out", job_id)


class StageThatDies(RenderStage):
    def __init__(self, *arguments):
        # As the constants are, it would take five deaths.
        worker.DEATHS_BEFORE_EXCLUSIVE, worker.DEATHS_ALONE = 1, 1
        super().__init__(*arguments)
        join = self._executor.join

        def deadly(request, track_id, **options):
            if request.composition.seed == 13:
                os.kill(os.getpid(), signal.SIGKILL)
            return join(request, track_id, **options)

        self._executor.join = deadly


def test_a_row_that_kills_every_process_costs_only_itself_and_can_be_tried_again(cluster, tmp_path, monkeypatch):
    """A row whose process always dies (as a crash in native code would have it) ends as a failure row."""
    rows = [*GOOD[:2], GOOD[2] | {"seed": 13}, *GOOD[3:4]]
    options = RenderOptions(catalog=catalog(tmp_path, rows), out=str(tmp_path / "out"), batch_size=4, max_workers=1)
    with monkeypatch.context() as patched:
        patched.setattr("batch_jobs.rendering.execution.RenderStage", StageThatDies)
        summary = render_catalog(options)

    [failure] = rows_of(tmp_path / "out", "failures", summary.job_id)
    assert (failure["line"], failure["stage"], failure["transient"]) == (3, "worker", True)
    assert summary.totals.tracks == 3

    again = render_catalog(replace(options, retry_failures=True))

    assert (again.totals.tracks, again.totals.failures, again.exit_code) == (4, 0, 0)
    assert rows_of(tmp_path / "out", "failures", summary.job_id) == []
    assert len(rows_of(tmp_path / "out", "tracks", summary.job_id)) == 4
