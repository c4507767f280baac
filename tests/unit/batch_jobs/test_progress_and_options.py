"""What a person or a scheduler sees of a job, and what the command line takes."""

import io
import json
import shutil
from pathlib import Path

import pytest

from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.snapshot import Totals
from batch_jobs.options import RenderOptions, parse
from batch_jobs.planning.dry_run import dry_run
from batch_jobs.render_catalog import Summary, main
from batch_jobs.run.progress import Ending, JobProgress, JsonLines, ProgressLines
from batch_jobs.shared_folder import RUN_ID
from orchestrion.errors import InvalidRequest


def test_progress_says_rate_cost_and_time_left_of_this_run_and_where_the_whole_job_is():
    done = Totals(tracks=10, failures=2, cache_hits=3, charged_usd=0.00012)
    progress = JobProgress(30, done_before=6, totals=done, elapsed_s=8.0)

    assert (progress.tracks_per_s, progress.left_s) == (1.25, pytest.approx(8.0 * 12 / 9))
    assert progress.describe() == "18/30 rows · 10 tracks, 2 failed, 3 cached · 1.25 tracks/s · $0.000120 · 11 s left"


def test_before_its_first_row_a_run_knows_no_time_left():
    progress = JobProgress(30, done_before=6, totals=Totals(), elapsed_s=8.0)

    assert progress.left_s is None and "time left unknown" in progress.describe()
    assert progress.to_values()["left_s"] is None


def test_what_was_in_the_store_says_nothing_of_the_time_left():
    assert JobProgress(1000, 0, Totals(tracks=400, cache_hits=400), elapsed_s=2.0).left_s is None


def json_lines(out):
    return [json.loads(line) for line in out.splitlines()]


def test_for_a_program_every_line_is_json_and_the_last_one_says_how_it_ended():
    out, now = io.StringIO(), iter([0.0, 1.5, 2.0, 9.0, 20.0])
    lines = JsonLines(out, lambda: next(now))
    lines.say("starting Ray")
    lines(JobProgress(4, 1, Totals(tracks=2, audio_s=3.5, charged_usd=0.25), elapsed_s=2.0))
    lines.say("2 of 2 render processes wait: the store has not answered")
    lines.end(Ending(3, "failed", "StoreUnavailable: nobody answers", {"bill_usd": 0.5}))

    phase, progress, waiting, end = json_lines(out.getvalue())
    assert phase == {"event": "phase", "waiting": "starting Ray", "elapsed_s": 1.5}
    assert progress == {
        "event": "progress", "rows": 4, "done": 3, "done_before": 1, "tracks": 2, "failures": 0, "cache_hits": 0,
        "audio_s": 3.5, "charged_usd": 0.25, "tracks_per_s": 1.0, "elapsed_s": 2.0, "left_s": 1.0, "waiting": None,
    }  # fmt: skip
    assert waiting["waiting"].startswith("2 of 2") and waiting["elapsed_s"] == 9.0, "time goes on while it waits"
    assert end == {
        "event": "end", "exit_code": 3, "state": "failed", "message": "StoreUnavailable: nobody answers",
        "elapsed_s": 20.0, "bill_usd": 0.5,
    }  # fmt: skip


def test_lines_come_every_few_seconds_and_always_at_the_end():
    out, now = io.StringIO(), iter([0, 0, 1, 6, 6, 7, 7, 7])
    lines = ProgressLines(out, lambda: next(now))
    for done in range(1, 5):
        lines(JobProgress(4, 0, Totals(tracks=done), elapsed_s=done))
    lines.end(Ending(0, "complete", "job j is complete"))

    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["1/4", "3/4", "4/4", "job"]


def test_lines_say_what_a_run_waits_for_once():
    out = io.StringIO()
    lines = ProgressLines(out, lambda: 0.0)
    for what in ("starting Ray", "starting Ray", None, "starting Ray"):
        lines.say(what)

    assert out.getvalue() == "starting Ray\nstarting Ray\n"


def test_a_run_without_ray_ends_with_its_figures_in_the_last_line(tmp_path, capfd):
    (tmp_path / "bad.jsonl").write_text(json.dumps({"prompt": " "}) + "\n")
    command = ["--catalog", str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "out"), "--progress", "json"]

    codes = [main(command), main(command)]

    lines = json_lines(capfd.readouterr().out)
    assert lines[0] == {"event": "phase", "waiting": "starting", "elapsed_s": lines[0]["elapsed_s"]}
    first, second = (line for line in lines if line["event"] == "end")
    assert codes == [5, 5] == [first["exit_code"], second["exit_code"]]
    assert (first["state"], first["rows"], first["failures"], first["bill_usd"]) == ("complete", 1, 1, 0.0)
    assert "nothing to do" in second["message"] and lines[-1] == second


def test_what_cannot_be_used_is_the_last_line_too(tmp_path, capfd):
    assert main(["--catalog", "nowhere.csv", "--out", str(tmp_path / "out"), "--progress", "json"]) == 2

    end = json_lines(capfd.readouterr().out)[-1]
    assert (end["event"], end["exit_code"], end["state"]) == ("end", 2, "unusable")
    assert "nowhere.csv" in end["message"]


def test_the_key_is_this_persons_own_unless_another_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRION_SIGNING_KEY", "/keys/mine.pem")

    config = RenderOptions(catalog="c.csv", out=str(tmp_path / "out")).render_config()
    named = RenderOptions(catalog="c.csv", out="out", signing_key_path="/keys/b.pem", trusted_keys_path="/keys/old")
    monkeypatch.delenv("ORCHESTRION_SIGNING_KEY")
    default = RenderOptions(catalog="c.csv", out="out").render_config()

    assert config.store_url == str(tmp_path / "out" / "store")
    assert (config.signing_key_path, config.trusted_keys_path) == ("/keys/mine.pem", None)
    assert named.render_config().signing_key_path == "/keys/b.pem"
    assert named.render_config().trusted_keys_path == "/keys/old"
    assert default.signing_key_path == str(Path.home() / ".orchestrion" / "signing-key.pem")


@pytest.mark.parametrize("name", ["signing_key_path", "trusted_keys_path"])
@pytest.mark.parametrize(
    "places",
    [
        {"out": "/shared/ledger", "store_url": "s3://bucket/store"},
        {"out": "/shared/ledger/../ledger/"},
        {"out": "/x", "store_url": "/shared/ledger"},
        {"out": "/x", "store_url": "file:///shared/ledger"},
        {"out": "/x", "catalog": "/shared/ledger"},
    ],
)
def test_keys_are_not_kept_where_others_read_and_write(name, places):
    common = {"catalog": "c.csv", "signing_key_path": "/k.pem"}
    options = RenderOptions(**common | places | {name: "/shared/ledger/k.pem"})

    with pytest.raises(InvalidRequest, match="others may"):
        options.render_config()


def test_a_key_is_not_kept_where_a_row_could_name_it_as_a_theme():
    beside = RenderOptions(catalog="/songs/c.csv", out="/out", signing_key_path="/songs/keys/key.pem")
    hidden = RenderOptions(catalog="/home/ann/c.csv", out="/out", signing_key_path="/home/ann/.orchestrion/key.pem")

    with pytest.raises(InvalidRequest, match="could name it as a theme"):
        beside.render_config()
    assert hidden.render_config().signing_key_path == "/home/ann/.orchestrion/key.pem"


def test_a_key_is_a_file_and_not_a_url():
    with pytest.raises(InvalidRequest, match=r"s3://bucket/key.pem.*|keys are not read from URLs"):
        RenderOptions(catalog="c.csv", out="out", signing_key_path="s3://bucket/key.pem").render_config()


def test_a_market_that_nobody_sells_is_refused():
    with pytest.raises(InvalidRequest, match="market"):
        RenderOptions(catalog="c.csv", out="out", market="black").render_config()


def test_spot_workers_ask_for_a_place_that_may_vanish_and_others_do_not():
    spot, on_demand = (RenderOptions(catalog="c", out="o", market=market) for market in ("spot", "on-demand"))

    assert spot.custom_resources == {"spot": 1.0} and on_demand.custom_resources == {}


@pytest.mark.parametrize(
    "more, said",
    [
        (["--catalog", "nowhere.csv"], "nowhere.csv"),
        (["--catalog", "bad.csv"], "artist"),
        (["--catalog", "good.jsonl", "--node-type", "mainframe"], "mainframe"),
        (["--catalog", "good.jsonl", "--market", "spot"], "spot"),
        (["--catalog", "good.jsonl", "--resume"], "never begun"),
        (["--catalog", "good.jsonl", "--node-type", "g6.xlarge"], "gpus_per_worker"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--dry-run"]], ids=["run", "dry-run"])
def test_what_cannot_be_used_is_exit_code_2_before_ray_starts(tmp_path, monkeypatch, capsys, more, said, form):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("prompt,artist\na,b\n")
    (tmp_path / "good.jsonl").write_text(json.dumps({"prompt": "a"}) + "\n")

    assert main([*more, *form, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    "option, value",
    [
        *(("--workers", value) for value in ("0", "3:2", "x", "1:2:3")),
        *(("--sample", value) for value in ("0", "1.5", "200%", "x")),
        *(("--max-cost", value) for value in ("0", "-1", "nan", "inf", "x")),
        ("--limit", "0"),
        ("--progress", "loud"),
        ("--market", "black"),
        ("--storage-options", "[]"),
    ],
)
def test_impossible_values_are_exit_code_2(option, value, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--catalog", "c.csv", "--out", "out", option, value])

    assert exit_.value.code == 2 and option in capsys.readouterr().err


@pytest.mark.parametrize("text, share", [("0.25", 0.25), ("1%", 0.01), ("100%", 1.0)])
def test_a_sample_is_a_share_or_a_percentage(text, share):
    assert parse(["--catalog", "c", "--out", "o", "--sample", text]).options.sample == share


BAD_ROWS = '{"prompt": ""}\nnot json\n'


def test_a_catalog_of_bad_rows_only_needs_no_cluster(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text(BAD_ROWS)

    assert main(["--catalog", "c.jsonl", "--out", "out"]) == 5

    [job] = json.loads((tmp_path / "out" / "manifest.json").read_text())["jobs"].values()
    assert (job["rows"], job["totals"]["failures"], job["state"]) == (2, 2, "complete")
    failures = ledger_dataset("out", {}, "failures").to_table().to_pylist()
    assert [row["line"] for row in failures] == [1, 2]
    [run_id] = {row["run_id"] for row in failures}
    assert RUN_ID.fullmatch(run_id)


def test_how_the_catalog_is_read_is_the_first_that_a_run_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.csv").write_bytes("\ufeffPrompt ;seed\n ;1\n".encode())

    assert main(["--catalog", "c.csv", "--out", "out", "--progress", "json"]) == 5

    said, errors = capsys.readouterr()
    first = "catalog: CSV in UTF-8; separated by semicolons; numbers with a decimal point or comma; columns: 'Prompt '"
    phases = [line["waiting"] for line in json_lines(said) if line["event"] == "phase"]
    assert phases[:2] == ["starting", first + " is prompt"]
    assert "semicolons" not in errors


def test_running_it_again_adds_nothing_and_says_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text(BAD_ROWS)
    main(["--catalog", "c.jsonl", "--out", "out"])
    before = (tmp_path / "out" / "manifest.json").read_bytes()

    assert main(["--catalog", "c.jsonl", "--out", "out", "--resume"]) == 5
    assert main(["--catalog", "c.jsonl", "--out", "out", "--retry-failures"]) == 5
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_a_limit_and_a_name_make_another_job(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text(BAD_ROWS)
    for more in ([], ["--limit", "1"], ["--job-name", "again"]):
        assert main(["--catalog", "c.jsonl", "--out", "out", *more]) == 5

    jobs = json.loads((tmp_path / "out" / "manifest.json").read_text())["jobs"]
    assert sorted(job["rows"] for job in jobs.values()) == [1, 2, 2]
    assert all(name.startswith("c-") for name in jobs)


@pytest.mark.parametrize("how", ["moved", "copied", "linked"])
def test_a_job_goes_on_in_a_ledger_that_was_moved_copied_or_linked_to(tmp_path, monkeypatch, capsys, how):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text(BAD_ROWS)
    main(["--catalog", "c.jsonl", "--out", "out"])
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    {"moved": shutil.move, "copied": shutil.copytree, "linked": lambda old, new: Path(new).symlink_to(old)}[how](
        tmp_path / "out", tmp_path / "elsewhere"
    )

    assert main(["--catalog", "c.jsonl", "--out", "elsewhere", "--resume"]) == 5

    assert (tmp_path / "elsewhere" / "manifest.json").read_bytes() == before
    written = [path for path in tmp_path.glob("elsewhere/**/*.json") if str(tmp_path) in path.read_text()]
    assert written == []


def test_a_job_stays_with_its_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text(BAD_ROWS)
    main(["--catalog", "c.jsonl", "--out", "out"])

    assert main(["--catalog", "c.jsonl", "--out", "out", "--store", "elsewhere"]) == 2
    assert str(tmp_path / "out" / "store") in capsys.readouterr().err


def test_a_dry_run_tells_rows_time_and_cost_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text(BAD_ROWS + json.dumps({"prompt": "a", "duration_s": 30.0}) + "\n")

    said = dry_run(RenderOptions(catalog="c.jsonl", out="out", max_workers=2)).describe()

    assert said.startswith("catalog: JSON lines in UTF-8\njob c-")
    assert "3 rows, 2 of them cannot be rendered; not begun" in said
    assert "composer: 1 track, 30 s of audio" in said and "the bill is " in said
    assert not (tmp_path / "out").exists()


def test_a_run_that_ran_out_of_money_is_exit_code_4_and_says_what_is_left():
    summary = Summary("j", "r", "budget", 10, Totals(tracks=4, failures=1), Totals(tracks=4), 3.0, "out/manifest.json")

    assert summary.exit_code == 4 and "5 still to do" in summary.describe()


def test_a_refused_option_is_an_invalid_request():
    with pytest.raises(InvalidRequest):
        RenderOptions(catalog="c.csv", out="out", batch_size=0).render_config()


def test_a_run_goes_on_whose_json_nobody_reads_any_more():
    class Gone(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    lines = JsonLines(Gone(), lambda: 0.0)

    lines.say("waiting")
    lines(JobProgress(2, 0, Totals(tracks=1), 1.0))
    lines.end(Ending(0, "complete", "done"))
