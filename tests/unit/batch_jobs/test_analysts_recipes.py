"""Every recipe of docs/analysts.md runs on a ledger, and its figures are those of the report and of plain sums."""

import math
import re
from collections import Counter, defaultdict

import duckdb
import pytest

from batch_jobs.reports.costs import WhatIf, cost_report
from tests.unit.batch_jobs.sample_ledger import REFERENCES, sample  # noqa: F401 (fixture)


@pytest.fixture(scope="module")
def told(sample, pytestconfig):  # noqa: F811
    """The names that the page's blocks leave behind, run one after the other."""
    page = (pytestconfig.rootpath / "docs" / "analysts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 15
    names = {"ledger": sample.url, "job_id": "job-2"}
    for block in blocks:
        exec(compile(block, "docs/analysts.md", "exec"), names)
    return names


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
    rows = [row | {"day": row["settled_at"].date()} for row in sample.tracks]
    found = told["cost_per_track"][column]

    assert math.fsum(row[2] for row in found) == pytest.approx(usd(rows), abs=1e-9)
    for value, tracks, total_usd, usd_per_track, render_usd, waste_usd, idle_usd in found:
        same, plain = in_report[str(value or "(not given)")], of(rows, **{column: value})
        assert (tracks, total_usd) == (same["tracks"], pytest.approx(usd(plain), rel=1e-12))
        assert usd_per_track == pytest.approx(usd(plain) / len(of(plain, cache_hit=False)), rel=1e-12)
        names = ("total_usd", "cost_per_track_usd", "render_usd", "waste_usd", "idle_usd")
        assert [same[name] for name in names] == pytest.approx(
            [total_usd, usd_per_track, render_usd, waste_usd, idle_usd], rel=1e-12
        )


def test_one_model_in_one_week_opens_only_the_files_of_both(told, sample):  # noqa: F811
    in_week = [row for row in of(sample.tracks, model="composer") if row["settled_at"].day >= 2]

    assert told["week"] == (len(in_week), pytest.approx(usd(in_week), rel=1e-12))
    tracks = told["tracks"]  # noqa: F841 (the query names it)
    plan = duckdb.sql("EXPLAIN ANALYZE " + told["one_week"]).fetchall()[0][1]
    opened, of_all = map(int, re.search(r"Scanning Files:\s*(\d+)/(\d+)", plan).groups())
    files = told["manifest"]["tables"]["tracks"]
    assert opened == len([file for file in files if file["model"] == "composer" and file["day"] >= "2026-01-02"])
    assert opened < of_all == len(files)
    assert {path.split("model=")[1].split("/")[0] for path in told["picked"]} == {"composer"}
    assert len(told["picked"]) == len([file for file in files if file["model"] == "composer"])


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
        assert (same["tracks_usd"], same["unallocated_usd"]) == pytest.approx((tracks_usd, unallocated_usd), rel=1e-12)


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
    assert float(told["cost"].sum().sum()) == pytest.approx(report.totals["total_usd"], rel=1e-12)
    days = {row["value"]: row["total_usd"] for row in report.by("day")}
    assert {str(day): total for day, total in told["cost"].sum(axis=1).items()} == pytest.approx(days, rel=1e-12)


def test_records_come_back_from_their_rows_and_the_slow_tracks_are_the_slowest(told, sample):  # noqa: F811
    assert sorted(record.cost_usd for record in told["records"]) == sorted(row["cost_usd"] for row in sample.tracks)
    slowness = sorted(row["device_seconds"] / row["duration_s"] for row in sample.rendered)
    found = sorted(told["slowest"].device_seconds / told["slowest"].duration_s)
    assert found == pytest.approx(slowness[-len(found) :]) and abs(len(found) - len(slowness) / 10) <= 1
    assert float(told["where"].sum()) > 0
