"""Every recipe of docs/analysts.md runs on a ledger, and its figures are those of the report and of plain sums.

Whatever the folders above the ledger are called, and whichever of its tables are empty.
"""

import math
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import duckdb
import pytest

from batch_jobs.compact_ledger import main as compact_ledger
from batch_jobs.ledger.dataset import ledger_dataset
from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.reports.costs import WhatIf, cost_report
from tests.unit.batch_jobs.older_ledger import make_older, make_schema_4
from tests.unit.batch_jobs.sample_ledger import REFERENCES, sample, write  # noqa: F401 (fixture)

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "analysts.md").read_text(encoding="utf-8")
#: Readers that look for columns in the names of folders find other ones there.
HIVE_LIKE = "day=2020-01-01/model=other/run_id=x"


def run_blocks(text: str, names: dict) -> dict:
    """The names that the blocks leave behind, run one after the other."""
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/analysts.md", "exec"), names)
    return names


def without_polars(ledger) -> dict:
    text, polars = PAGE.split("\n## polars\n")
    assert text.count("```python") >= 20 and polars.count("```python") >= 9
    return run_blocks(text, {"ledger": str(ledger), "job_id": "job-2"})


def with_polars(names: dict) -> dict:
    pytest.importorskip("polars")
    return run_blocks(PAGE.split("\n## polars\n")[1], dict(names))


@pytest.fixture(scope="module", params=["plain", HIVE_LIKE])
def told(request, sample, tmp_path_factory):  # noqa: F811
    """The names that the page's blocks leave behind, but for those for polars."""
    place = tmp_path_factory.mktemp("place") / request.param
    shutil.copytree(sample.url, place)
    return without_polars(place)


@pytest.fixture(scope="module")
def report(sample):  # noqa: F811
    return cost_report(sample.url, what_if=WhatIf({("g5.xlarge", "spot"): 0.30}))


def usd(rows):
    return math.fsum(row["charged_usd"] if row["total_usd"] is None else row["total_usd"] for row in rows)


def of(rows, **values):
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


@pytest.mark.parametrize(
    "column, dimension", [("style", "style"), ("market", "market"), ("requested_by", "requester"), ("day", "day")]
)
def test_cost_per_track_is_that_of_the_report_and_of_a_plain_sum(told, sample, report, column, dimension):  # noqa: F811
    in_report = {row["value"]: row for row in report.by(dimension)}
    rows = [row | {"day": str(row["settled_at"].date())} for row in sample.tracks]
    found = told["cost_per_track"][column]

    assert math.fsum(row[2] for row in found) == pytest.approx(usd(rows), abs=1e-9)
    for value, tracks, total_usd, usd_per_track, render_usd, waste_usd, idle_usd in found:
        same, plain = in_report[str(value or "(not given)")], of(rows, **{column: value})
        assert (tracks, total_usd) == (same["tracks"], pytest.approx(usd(plain), rel=1e-12))
        assert usd_per_track == pytest.approx(usd(plain) / len(of(plain, cache_hit=False)), rel=1e-12)
        names = ("carried_usd", "carried_per_track_usd", "render_usd", "waste_usd", "idle_usd")
        assert [same[name] for name in names] == pytest.approx(
            [total_usd, usd_per_track, render_usd, waste_usd, idle_usd], rel=1e-12
        )


def test_one_model_in_one_week_reads_only_the_rows_of_both(told, sample):  # noqa: F811
    in_week = [row for row in of(sample.tracks, model="composer") if row["settled_at"].day >= 2]

    for week in (told["week"], told["week_of_picked"]):
        assert week == (len(in_week), pytest.approx(usd(in_week), rel=1e-12))
    assert told["week_usd"] == pytest.approx(usd(in_week), rel=1e-12)
    files = told["manifest"]["tables"]["tracks"]
    wanted = [file for file in files[1:] if file["model"] == "composer" and file["day"] >= "2026-01-02"]
    assert told["picked"] == [f"{told['ledger']}/{file['path']}" for file in (files[0], *wanted)]
    assert sorted(told["connection"].execute("SELECT unnest(getvariable('picked'))").fetchall()) == sorted(
        (path,) for path in told["picked"]
    )
    assert 1 < len(told["picked"]) < len(files)
    skipped = told["connection"].execute("EXPLAIN ANALYZE " + told["one_week"].format(table="tracks")).fetchall()[0][1]
    scanned, of_all = map(int, re.search(r"Row Groups Scanned:\s*(\d+)\s*/\s*(\d+)", skipped).groups())
    assert (scanned, of_all) == (len(wanted), len(files))


def test_waste_has_the_causes_of_the_tries(told, sample, report):  # noqa: F811
    wasted = [row for row in sample.attempts if row["ended"] != "track"]

    assert {row[:3] for row in told["waste"]} == {
        (*cause, tries) for cause, tries in Counter((row["ended"], row["reason"]) for row in wasted).items()
    }
    for ended, reason, _, seconds, cost in told["waste"]:
        plain = of(wasted, ended=ended, reason=reason)
        assert cost == pytest.approx(math.fsum(row["cost_usd"] for row in plain), rel=1e-12)
        assert seconds == pytest.approx(math.fsum(row["device_seconds"] for row in plain), rel=1e-12)
    in_report = [(row["ended"], row["reason"], row["tries"]) for row in report.waste]
    assert [row[:3] for row in told["waste"]] == in_report


def test_the_bill_of_each_job_adds_up(told, sample, report):  # noqa: F811
    assert [row[0] for row in told["reconciliation"]] == ["job-1", "job-2"]
    in_report = {row["job_id"]: row for row in report.reconciliation}
    for job_id, tracks_usd, unallocated_usd, machines_usd, difference_cents in told["reconciliation"]:
        bill = math.fsum(row["cost_usd"] for row in of(sample.nodes, job_id=job_id))
        assert machines_usd == pytest.approx(bill, rel=1e-12)
        assert tracks_usd == pytest.approx(usd(of(sample.tracks, job_id=job_id)), rel=1e-12)
        assert abs(difference_cents) < 1e-6
        same = in_report[job_id]
        assert (same["carried_usd"], same["unallocated_usd"]) == pytest.approx((tracks_usd, unallocated_usd), rel=1e-12)


def test_spot_is_compared_as_in_the_report(told, report):
    paid_usd, on_demand_usd, lost_usd, net_saving_usd = told["spot"]

    spot = report.spot
    assert paid_usd == pytest.approx(spot["paid_usd"] - spot["unknown_paid_usd"], rel=1e-12)
    assert (on_demand_usd, lost_usd, net_saving_usd) == pytest.approx(
        (spot["on_demand_usd"], spot["lost_on_demand_usd"], spot["net_saving_usd"]), rel=1e-9
    )
    assert lost_usd > 0


def test_other_prices_give_the_same_bill_as_in_the_report_and_in_a_plain_sum(told, sample, report):  # noqa: F811
    then = defaultdict(list)
    for row in sample.nodes:
        pair = (row["node_type"], row["market"])
        hourly = 0.30 if pair == ("g5.xlarge", "spot") else row["usd_per_node_hour"]
        then[pair].append(row["cost_usd"] / row["usd_per_node_hour"] * hourly)
    in_report = {(row["node_type"], row["market"]): row for row in report.what_if}

    assert len(told["what_if"]) == len(then) == 3
    for node_type, market, now_usd, then_usd in told["what_if"]:
        same = in_report[node_type, market]
        assert then_usd == pytest.approx(math.fsum(then[node_type, market]), rel=1e-12)
        assert (same["now_usd"], same["then_usd"]) == pytest.approx((now_usd, then_usd), rel=1e-12)


def test_the_rows_to_mend_are_the_failures_of_the_job(told, sample):  # noqa: F811
    assert [row[0] for row in told["to_mend"]] == sorted(row["line"] for row in of(sample.failures, job_id="job-2"))


def test_tracks_are_found_by_what_they_came_from(told, sample):  # noqa: F811
    expected = {
        row["track_id"]
        for row in of(sample.tracks, model_revision="r1", prompt="slow sad piano")
        if "a" in (row["requester"], row["requested_by"])
    }
    assert expected and [row[0] for row in told["came_from"]] == sorted(expected)
    found = {(row["job_id"], row["line"]) for row in told["with_it"].to_pylist()}
    theme = REFERENCES[0]
    assert found == {
        (row["job_id"], row["line"]) for row in sample.tracks if theme in (row["theme"], row["continuation"])
    }


def test_what_the_cache_saved_what_a_job_cost_and_what_a_day_cost(told, sample, report):  # noqa: F811
    saved = math.fsum(row["cost_usd_sum"] for row in told["saved"])
    assert saved == pytest.approx(math.fsum(row["cost_usd"] for row in of(sample.tracks, cache_hit=True)), rel=1e-12)
    assert saved == pytest.approx(report.totals["saved_usd"], rel=1e-12)
    assert told["job_usd"] == pytest.approx(usd(of(sample.tracks, job_id="job-2")), rel=1e-12)
    assert float(told["cost"].sum().sum()) == pytest.approx(report.totals["carried_usd"], rel=1e-12)
    days = {row["value"]: row["carried_usd"] for row in report.by("day")}
    assert {str(day): total for day, total in told["cost"].sum(axis=1).items()} == pytest.approx(days, rel=1e-12)


def test_records_come_back_from_their_rows_and_the_slow_tracks_are_the_slowest(told, sample):  # noqa: F811
    assert sorted(record.cost_usd for record in told["records"]) == sorted(row["cost_usd"] for row in sample.tracks)
    slowness = sorted(row["device_seconds"] / row["duration_s"] for row in sample.rendered)
    found = sorted(told["slowest"].device_seconds / told["slowest"].duration_s)
    assert found == pytest.approx(slowness[-len(found) :]) and abs(len(found) - len(slowness) / 10) <= 1
    assert float(told["where"].sum()) > 0


def test_rows_are_told_by_run_and_failures_by_reason_in_every_reader(told, sample):  # noqa: F811
    [(run_id, tracks, of_run)] = told["by_run"]
    assert (run_id, tracks) == ("run-job-2", len(of(sample.tracks, job_id="job-2")))
    assert of_run == pytest.approx(usd(of(sample.tracks, job_id="job-2")), rel=1e-12)

    expected = Counter((row["reason"], row["stage"]) for row in sample.failures)
    rows = told["reasons"].to_pylist()
    assert {(row["reason"], row["stage"]): row["count_all"] for row in rows} == expected
    assert told["failed_most"].to_dict() == expected


def test_the_catalog_s_own_columns_are_told_by_every_reader(told, sample):  # noqa: F811
    expected = Counter(dict(row["kept"] or ()).get("label") for row in sample.tracks)
    assert expected.keys() == {"Blue", "=Red", None}

    assert {label: tracks for label, tracks, _ in told["by_label"]} == expected
    for label, _, found in told["by_label"]:
        plain = [row for row in sample.tracks if dict(row["kept"] or ()).get("label") == label]
        assert found == pytest.approx(usd(plain), rel=1e-12)
    assert Counter(told["labels"].to_pylist()) == expected
    own = told["own"]
    assert {*own.columns} == {"label", "isrc"}
    assert Counter(own.label[own.label.notna()]) + Counter({None: int(own.label.isna().sum())}) == expected


def test_polars_gives_the_figures_of_duckdb(told):
    of_polars = with_polars(told)

    def same(found, expected):
        found, expected = (sorted(rows, key=str) for rows in (found, expected))
        figures = [
            [pytest.approx(cell, rel=1e-9, abs=1e-9) if isinstance(cell, float) else cell for cell in row]
            for row in expected
        ]
        assert [list(row) for row in found] == figures

    for column, expected in told["cost_per_track"].items():
        found = [(None if row[0] is None else str(row[0]), *row[1:]) for row in of_polars["pl_cost_per_track"][column]]
        same(found, expected)
    for name in ("waste", "reconciliation", "what_if", "to_mend", "by_label"):
        assert told[name]
        same(of_polars[f"pl_{name}"], told[name])
    same([of_polars["pl_week"], of_polars["pl_spot"]], [told["week"], told["spot"]])
    assert of_polars["pl_came_from"] == [track_id for (track_id,) in told["came_from"]]
    same(of_polars["pl_saved"], [(row["requested_by"], row["cost_usd_sum"]) for row in told["saved"]])


@pytest.mark.parametrize("place", ["plain", HIVE_LIKE])
@pytest.mark.parametrize("kept", [(), ("tracks",), ("failures",), ("attempts", "nodes")], ids="-".join)
def test_every_recipe_runs_where_tables_are_empty(sample, tmp_path, place, kept):  # noqa: F811
    write(tmp_path / place, {name: getattr(sample, name) for name in kept})

    told = without_polars(tmp_path / place)

    assert bool(told["cost_per_track"]["day"]) == bool(told["records"]) == bool(len(told["cost"])) == ("tracks" in kept)
    assert (
        bool(told["to_mend"])
        == bool(told["reasons"].num_rows)
        == bool(len(told["failed_most"]))
        == ("failures" in kept)
    )
    assert bool(told["waste"]) == bool(told["reconciliation"]) == bool(told["what_if"]) == ("nodes" in kept)
    if "tracks" not in kept:
        assert told["week"] == told["week_of_picked"] == (0, 0)
        assert (told["saved"], told["job_usd"], told["week_usd"], len(told["slowest"])) == ([], 0, 0, 0)
    if "nodes" not in kept:
        assert told["spot"] == (None, None, None, None)


@pytest.mark.parametrize("kept", [(), ("tracks",), ("attempts", "nodes")], ids="-".join)
def test_every_recipe_for_polars_runs_where_tables_are_empty(sample, tmp_path, kept):  # noqa: F811
    write(tmp_path / HIVE_LIKE, {name: getattr(sample, name) for name in kept})

    told = with_polars(without_polars(tmp_path / HIVE_LIKE))

    assert bool(told["pl_cost_per_track"]["day"]) == bool(told["pl_week"][0]) == ("tracks" in kept)
    assert told["pl_to_mend"] == []
    assert bool(told["pl_waste"]) == bool(told["pl_reconciliation"]) == ("nodes" in kept)


def test_the_views_say_what_an_older_ledger_needs_and_are_right_after_it(sample, tmp_path):  # noqa: F811
    place = tmp_path / HIVE_LIKE
    shutil.copytree(sample.url, place)
    make_older(place)

    with pytest.raises(duckdb.InvalidInputException, match=r"run python -m batch_jobs\.compact_ledger"):
        without_polars(place)
    assert compact_ledger(["--ledger", str(place)]) == 0

    days = {row[0]: row[1] for row in without_polars(place)["cost_per_track"]["day"]}
    assert days == Counter(str(row["settled_at"].date()) for row in sample.tracks)


def test_a_ledger_from_before_kept_columns_is_read_and_has_them_after_a_compaction(sample, tmp_path):  # noqa: F811
    place = tmp_path / "ledger"
    shutil.copytree(sample.url, place)
    make_schema_4(place)
    tracks = ledger_dataset(str(place), {}, "tracks").to_table()
    assert tracks.num_rows == len(sample.tracks) == tracks["kept"].null_count
    with pytest.raises(duckdb.BinderException, match="kept"):
        without_polars(place)

    assert compact_ledger(["--ledger", str(place)]) == 0

    assert [row[:2] for row in without_polars(place)["by_label"]] == [(None, len(sample.tracks))]
    number = read_snapshot(str(place), {}).number
    assert compact_ledger(["--ledger", str(place)]) == 0 and read_snapshot(str(place), {}).number == number


def test_a_compaction_brings_new_columns_where_no_file_is_to_be_joined(sample, tmp_path):  # noqa: F811
    write(tmp_path / "ledger", {"tracks": sample.tracks[:1]})
    make_schema_4(tmp_path / "ledger")

    assert compact_ledger(["--ledger", str(tmp_path / "ledger")]) == 0

    assert [row[:2] for row in without_polars(tmp_path / "ledger")["by_label"]] == [(None, 1)]


def test_what_stands_and_what_was_withdrawn_is_told_apart(told, sample):  # noqa: F811
    withdrawn = [row for row in sample.tracks if row["withdrawn_at"] is not None]

    assert told["standing"] == len(sample.tracks) - len(withdrawn) > 0
    for reason, tracks, total_usd in told["withdrawn"]:
        plain = of(withdrawn, withdrawn_reason=reason)
        assert tracks == len({row["track_id"] for row in plain})
        assert total_usd == pytest.approx(usd(plain), rel=1e-12)
    assert {row[0] for row in told["withdrawn"]} == {row["withdrawn_reason"] for row in withdrawn} != set()


def test_the_views_need_no_more_than_the_folder_they_are_run_in(sample, monkeypatch):  # noqa: F811
    """As `duckdb -init views.sql` does in the ledger's folder."""
    monkeypatch.chdir(sample.url)
    connection = duckdb.connect()

    for statement in connection.extract_statements((ROOT / "batch_jobs" / "ledger" / "views.sql").read_text("utf-8")):
        connection.execute(statement)

    views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    told_views = set(re.findall(r"`(\w+)`", re.search(r"\| View \|.*?\n\n", PAGE, re.DOTALL)[0]))
    assert {name for (name,) in views} <= told_views
    for name in [*(name for (name,) in views), "ledger_files"]:
        assert connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] > 0
    assert connection.execute("SELECT count(*) FROM tracks").fetchall() == [(len(sample.tracks),)]


def test_the_views_name_no_file_outside_the_ledger(sample, tmp_path):  # noqa: F811
    shutil.copytree(sample.url, tmp_path / "ledger")
    manifest = tmp_path / "ledger" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tracks/2026-01-01/', '"tracks/../../secret/2026-01-01/'))

    with pytest.raises(duckdb.InvalidInputException, match="outside the ledger"):
        without_polars(tmp_path / "ledger")
