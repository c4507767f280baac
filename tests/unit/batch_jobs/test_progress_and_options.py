"""What a person or a scheduler sees of a job, and what the command line takes."""

import io
import json

import pytest

from batch_jobs.ledger import Totals
from batch_jobs.progress import JobProgress, ProgressLines
from batch_jobs.render_catalog import RenderOptions, main
from orchestrion.errors import InvalidRequest


def test_progress_says_rate_cost_and_time_left():
    progress = JobProgress(24, Totals(tracks=10, failures=2, cache_hits=3, cost_usd=0.00012), elapsed_s=8.0)

    assert (progress.tracks_per_s, progress.left_s) == (1.25, 8.0)
    assert progress.describe() == "12/24 rows · 10 tracks, 2 failed, 3 cached · 1.25 tracks/s · $0.000120 · 8 s left"


def test_lines_come_every_few_seconds_and_always_at_the_end():
    out, now = io.StringIO(), iter([0, 0, 1, 6, 6, 7, 7, 7])
    lines = ProgressLines(out, lambda: next(now))
    for done in range(1, 5):
        lines(JobProgress(4, Totals(tracks=done), elapsed_s=done))

    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["1/4", "3/4", "4/4"]


def test_the_key_lies_beside_the_store_as_the_orchestrion_command_has_it(tmp_path):
    config = RenderOptions(catalog="c.csv", out=str(tmp_path / "out")).render_config()

    assert config.store_url == str(tmp_path / "out" / "store")
    assert config.signing_key_path == str(tmp_path / "out" / "signing-key.pem")


def test_a_market_that_nobody_sells_is_refused():
    with pytest.raises(InvalidRequest, match="market"):
        RenderOptions(catalog="c.csv", out="out", market="black").render_config()


@pytest.mark.parametrize(
    "more, said",
    [
        (["--catalog", "nowhere.csv"], "nowhere.csv"),
        (["--catalog", "bad.csv"], "artist"),
        (["--catalog", "good.jsonl", "--node-type", "mainframe"], "mainframe"),
    ],
)
def test_what_cannot_be_used_is_exit_code_2_before_ray_starts(tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("prompt,artist\na,b\n")
    (tmp_path / "good.jsonl").write_text(json.dumps({"prompt": "a"}) + "\n")

    assert main([*more, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("workers", ["0", "3:2", "x", "1:2:3"])
def test_impossible_worker_counts_are_exit_code_2(workers, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--catalog", "c.csv", "--out", "out", "--workers", workers])

    assert exit_.value.code == 2 and "--workers" in capsys.readouterr().err


def test_a_catalog_of_bad_rows_only_needs_no_cluster(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text('{"prompt": ""}\nnot json\n')

    assert main(["--catalog", "c.jsonl", "--out", "out"]) == 1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["rows"], manifest["totals"]["failures"], manifest["state"]) == (2, 2, "complete")
