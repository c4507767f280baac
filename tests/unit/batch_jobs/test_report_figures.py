"""The bill over time and by machine, costs against length, and what stands: against plain sums over the same rows."""

import math
from collections import defaultdict
from datetime import timedelta

import duckdb
import pytest

from batch_jobs.reports.charts import bill_over_time, cost_against_length
from batch_jobs.reports.costs import cost_report, report_of
from batch_jobs.reports.headline import headline
from batch_jobs.reports.page import report_page
from batch_jobs.reports.query import open_ledger
from batch_jobs.reports.trends import MAX_BINS, unit_for, width_for
from tests.unit.batch_jobs.realistic_ledger import realistic_ledger, realistic_tables
from tests.unit.batch_jobs.sample_ledger import START, node, sample, write  # noqa: F401 (fixture)

NAIVE = START.replace(tzinfo=None)


@pytest.fixture(scope="module")
def tables():
    return realistic_tables()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return cost_report(realistic_ledger(tmp_path_factory.mktemp("realistic") / "ledger"))


def total(rows, name):
    return math.fsum(row[name] for row in rows)


def test_the_bill_over_time_is_the_bill(report, tables):
    assert report.trends.unit == "day" and len(report.trends.bill) > 5
    for name, column in (("bill_usd", "cost_usd"), ("unallocated_usd", "unallocated_usd")):
        assert total(report.trends.bill, name) == pytest.approx(total(tables["nodes"], column), rel=1e-12)
    assert total(report.trends.bill, "carried_usd") == pytest.approx(report.totals["billed_usd"], rel=1e-9)


def test_a_machine_that_was_up_over_midnight_is_billed_to_both_days(tmp_path):
    machine = node("job-1", "n1", "box", "spot", 4.0, 4.0) | {"cost_usd": 4.0, "unallocated_usd": 1.0}
    machine |= {"up_from": START - timedelta(hours=1), "up_to": START + timedelta(hours=3)}
    far = node("job-2", "n2", "box", "spot", 4.0, 4.0) | {"cost_usd": 8.0, "up_from": START + timedelta(days=9)}
    far["up_to"] = far["up_from"]
    write(tmp_path / "ledger", {"nodes": [machine, far]})

    bill = cost_report(str(tmp_path / "ledger")).trends.bill

    assert [(row["period"], row["bill_usd"], row["unallocated_usd"]) for row in bill] == [
        (NAIVE - timedelta(days=1), pytest.approx(1.0), pytest.approx(0.25)),
        (NAIVE, pytest.approx(3.0), pytest.approx(0.75)),
        (NAIVE + timedelta(days=9), 8.0, 0.0),
    ]


@pytest.mark.parametrize(
    "span, unit",
    [
        (timedelta(minutes=4), "hour"),
        (timedelta(days=3), "day"),
        (timedelta(days=200), "week"),
        (timedelta(days=3000), "month"),
    ],
)
def test_a_longer_span_has_longer_periods(tmp_path, span, unit):
    machines = [node("job-1", name, "box", "spot", 1.0, 1.0) | {"cost_usd": 5.0} for name in ("n1", "n2")]
    for machine, begins in zip(machines, (START, START + span), strict=True):
        machine |= {"up_from": begins, "up_to": begins + timedelta(minutes=5)}
    write(tmp_path / "ledger", {"nodes": machines})

    report = cost_report(str(tmp_path / "ledger"))

    assert report.trends.unit == unit == unit_for(span)
    assert total(report.trends.bill, "bill_usd") == pytest.approx(10.0)
    assert "from" in bill_over_time(report).svg and len(report.trends.bill) <= 2 + 100


def test_waste_over_time_is_the_waste_of_each_cause(report, tables):
    plain = defaultdict(float)
    for row in tables["attempts"]:
        if row["ended"] != "track":
            day = row["ended_at"].replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
            plain[day, row["ended"], row["reason"]] += row["cost_usd"]

    found = {(row["period"], row["ended"], row["reason"]): row["cost_usd"] for row in report.trends.waste}

    assert len(plain) > 10 and found == pytest.approx(plain, rel=1e-9)


def test_costs_against_length_count_every_rendered_track_in_few_bins(report, tables):
    rendered = [row for row in tables["tracks"] if not row["cache_hit"]]
    bins = report.trends.lengths

    assert sum(row["tracks"] for row in bins) == len(rendered)
    assert total(bins, "carried_usd") == pytest.approx(total(rendered, "total_usd"), rel=1e-9)
    for one in bins:
        costs = sorted(
            row["total_usd"]
            for row in rendered
            if row["model"] == one["model"] and one["from_s"] <= row["duration_s"] < one["to_s"]
        )
        assert one["tracks"] == len(costs) and costs[0] <= one["low_usd"] <= one["middle_usd"] <= one["high_usd"]
        assert sum(cost <= one["middle_usd"] for cost in costs) >= len(costs) / 2
    assert {key.word for key in cost_against_length(report).keys} == {row["model"] for row in rendered}


@pytest.mark.parametrize("longest_s", [0.5, 19.9, 20.0, 180.0, 3599.0])
def test_lengths_need_few_bins(longest_s):
    assert longest_s / width_for(longest_s) < MAX_BINS


def test_a_machine_is_one_however_many_runs_and_processes_it_had(report, tables):
    names = {row["node_id"] for row in tables["nodes"]}

    assert len(report.nodes) == 9 and report.totals["machines"] == len(names) == 5
    assert {row["machine"] for row in report.machines} == names
    busy = next(row for row in report.machines if row["machine"] == "i-0a51")
    of_it = [row for row in tables["nodes"] if row["node_id"] == "i-0a51"]
    assert busy["runs"] == len(of_it) == 3
    assert busy["bill_usd"] == pytest.approx(total(of_it, "cost_usd"), rel=1e-12)
    tries = [row for row in tables["attempts"] if row["node_id"] == "i-0a51"]
    assert busy["tracks"] == sum(row["ended"] == "track" for row in tries)
    assert busy["lost_usd"] == pytest.approx(total((r for r in tries if r["ended"] != "track"), "cost_usd"), rel=1e-9)


def test_runs_are_billed_with_all_of_their_machines(report, tables):
    assert [row["run_id"] for row in report.runs] == ["r6", "r5", "r4", "r3", "r2", "r1"]
    for run in report.runs:
        machines = [row for row in tables["nodes"] if row["run_id"] == run["run_id"]]
        rows = [row for row in tables["tracks"] if row["run_id"] == run["run_id"] and not row["cache_hit"]]
        assert (run["machines"], run["rendered"]) == (len(machines), len(rows))
        assert run["bill_usd"] == pytest.approx(total(machines, "cost_usd"), rel=1e-12)
        assert run["carried_usd"] + run["unallocated_usd"] == pytest.approx(run["bill_usd"], rel=1e-12)


def test_an_audio_minute_and_a_kept_track_cost_their_part_of_the_whole_bill(report, tables):
    rendered = [row for row in tables["tracks"] if not row["cache_hit"]]
    bill = total(tables["nodes"], "cost_usd")

    totals = report.totals
    assert totals["bill_per_audio_minute_usd"] == pytest.approx(bill / (total(rendered, "duration_s") / 60), rel=1e-12)
    assert totals["bill_per_kept_track_usd"] == pytest.approx(bill / len(rendered), rel=1e-12)


def test_what_older_releases_wrote_is_in_no_cost_of_a_minute(sample):  # noqa: F811
    shared = [row for row in sample.rendered if row["total_usd"] is not None]
    bill = total(sample.nodes, "cost_usd")

    totals = cost_report(sample.url).totals

    kept = [row for row in shared if row["withdrawn_at"] is None]
    assert totals["bill_per_kept_track_usd"] == pytest.approx(bill / len(kept), rel=1e-12)
    assert totals["bill_per_audio_minute_usd"] == pytest.approx(bill / (total(shared, "duration_s") / 60), rel=1e-12)


def changed(url, tracks):
    """The tables of a ledger, with other rows of tracks: a query over `all_tracks`."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    with open_ledger(url, {}) as ledger:
        for name in ("tracks", "failures", "attempts", "nodes"):
            table = ledger.sql(f"FROM {name}").to_arrow_table()
            connection.register("all_tracks" if name == "tracks" else name, table)
    connection.execute(f"CREATE VIEW tracks AS {tracks}")
    return connection


def test_a_machine_is_one_whatever_its_node_is_called_in_each_run(tmp_path):
    first = node("job-1", "ray-1", "box", "spot", 4.0, 4.0) | {"cost_usd": 4.0, "machine_id": "desk"}
    later = node("job-2", "ray-2", "box", "spot", 4.0, 4.0) | {"cost_usd": 2.0, "machine_id": "desk"}
    write(tmp_path / "ledger", {"nodes": [first, later]})

    report = cost_report(str(tmp_path / "ledger"))

    assert report.totals["machines"] == 1
    assert [(row["machine"], row["bill_usd"]) for row in report.machines] == [("desk", 6.0)]


def test_tracks_that_were_withdrawn_are_not_kept(tmp_path, tables):
    url = realistic_ledger(tmp_path / "ledger")
    marked = """
        SELECT COLUMNS(lambda name: name NOT LIKE 'withdrawn%'),
               CASE WHEN line % 10 = 0 THEN settled_at END AS withdrawn_at,
               CASE WHEN line % 20 = 0 THEN 'a claim' WHEN line % 10 = 0 THEN 'a mistake' END AS withdrawn_reason
        FROM all_tracks
    """

    report = report_of(changed(url, marked), url)

    rendered = [row for row in tables["tracks"] if not row["cache_hit"]]
    withdrawn = [row for row in rendered if row["line"] % 10 == 0]
    totals = report.totals
    assert totals["withdrawn_tracks"] == len(withdrawn) > 20
    assert totals["withdrawn_usd"] == pytest.approx(total(withdrawn, "total_usd"), rel=1e-9)
    claims = [row for row in withdrawn if row["line"] % 20 == 0]
    by_reason = {row["reason"]: (row["rendered"], row["carried_usd"]) for row in report.withdrawn}
    assert by_reason["a claim"] == (len(claims), pytest.approx(total(claims, "total_usd"), rel=1e-9))
    assert by_reason["a mistake"][0] == len(withdrawn) - len(claims)
    kept = len(rendered) - len(withdrawn)
    assert totals["bill_per_kept_track_usd"] == pytest.approx(totals["bill_usd"] / kept, rel=1e-12)
    assert headline(report).per_kept_track.note == (
        f"bill ÷ {kept:,} rendered tracks that stand; {len(withdrawn):,} withdrawn"
    )


def test_a_hundred_thousand_tracks_are_summed_up_before_they_are_drawn(tmp_path):
    url = realistic_ledger(tmp_path / "ledger")
    few = cost_report(url)
    copies = 100_000 // few.totals["tracks"] + 1

    many = report_of(changed(url, f"SELECT all_tracks.* FROM all_tracks, range({copies})"), url)

    assert many.totals["tracks"] >= 100_000
    assert [row["tracks"] for row in many.trends.lengths] == [row["tracks"] * copies for row in few.trends.lengths]
    assert len(report_page(many).encode()) < 1.2 * len(report_page(few).encode()) < 200_000
