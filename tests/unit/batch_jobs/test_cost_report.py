"""The report against independent sums over the same rows, and the page as a browser would be handed it."""

import csv
import math
import random
import re
from collections import Counter

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from batch_jobs.cost_report import main, write_report
from batch_jobs.formatting import places_for, spot_line, usd, what_if_line
from batch_jobs.ledger.tables import FAILURES_SCHEMA
from batch_jobs.reports.costs import DIMENSIONS, WhatIf, cost_report, repriced, spot_savings
from orchestrion.errors import InvalidRequest, NotFound
from tests.unit.batch_jobs.sample_ledger import (  # noqa: F401 (fixture)
    HOSTILE,
    START,
    any_row,
    node,
    sample,
    track,
    write,
)

COLUMN = {"requester": "requested_by", "job": "job_id", "run": "run_id"}
PRICES = """
node_types:
  local-cpu:
    device: cpu-core
    devices: 8
    markets: {on-demand: {usd_per_node_hour: 0.10, as_of: 2026-01-01, source: a test}}
  g5.xlarge:
    device: gpu
    devices: 1
    markets: {spot: {usd_per_node_hour: 0.30, as_of: 2026-01-01, source: a test}}
"""


@pytest.fixture(scope="module")
def report(sample):  # noqa: F811
    return cost_report(sample.url)


def total(row):
    return row["charged_usd"] if row["total_usd"] is None else row["total_usd"]


def value(row, dimension):
    if dimension == "day":
        return row["settled_at"].date().isoformat()
    return row[COLUMN.get(dimension, dimension)] or "(not given)"


def test_every_split_adds_up_to_an_independent_sum(sample, report):  # noqa: F811
    rows = sample.tracks
    sums = {
        "render_usd": math.fsum(row["charged_usd"] for row in rows),
        "waste_usd": math.fsum(row["waste_usd"] or 0.0 for row in rows),
        "idle_usd": math.fsum(row["idle_usd"] or 0.0 for row in rows),
        "carried_usd": math.fsum(total(row) for row in rows),
        "saved_usd": math.fsum(row["cost_usd"] for row in rows if row["cache_hit"]),
        "audio_minutes": math.fsum(row["duration_s"] for row in rows) / 60,
        "rendered_minutes": math.fsum(row["duration_s"] for row in sample.rendered) / 60,
        "device_seconds": math.fsum(row["device_seconds"] for row in sample.rendered),
    }

    for dimension in DIMENSIONS:
        split = report.by(dimension)
        assert len(split) >= 2
        assert sum(row["tracks"] for row in split) == len(rows)
        for name, expected in sums.items():
            assert math.fsum(row[name] for row in split) == pytest.approx(expected, abs=1e-9)
            assert report.totals[name] == pytest.approx(expected, abs=1e-9)
        known = [row["failures"] for row in split if row["failures"] is not None]
        assert sum(known) == (0 if dimension in ("pool", "market") else len(sample.failures))
    assert sum(row["rows"] for row in report.failures) == report.totals["failures"] == len(sample.failures)
    assert report.jobs == 3


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_cost_per_track_is_all_that_was_paid_over_the_rendered_tracks(sample, report, dimension):  # noqa: F811
    for found in report.by(dimension):
        rows = [row for row in sample.tracks if value(row, dimension) == found["value"]]
        rendered = [row for row in rows if not row["cache_hit"]]
        if not rendered:
            assert found["carried_per_track_usd"] is None
            continue
        cost = math.fsum(total(row) for row in rows)

        assert found["carried_usd"] == pytest.approx(cost, rel=1e-12)
        assert found["carried_per_track_usd"] == pytest.approx(cost / len(rendered), rel=1e-12)
        minutes = math.fsum(row["duration_s"] / 60 for row in rendered)
        assert found["carried_per_audio_minute_usd"] == pytest.approx(cost / minutes, rel=1e-12)


def test_tracks_and_what_no_track_is_charged_are_the_bill_of_the_machines(sample, report):  # noqa: F811
    bill = math.fsum(row["cost_usd"] for row in sample.nodes)
    unallocated = math.fsum(row["unallocated_usd"] for row in sample.nodes)
    charged = math.fsum(row["total_usd"] for row in sample.tracks if row["total_usd"] is not None)
    assert charged + unallocated == pytest.approx(bill, rel=1e-12), "the sample itself does not add up"

    totals = report.totals
    assert (totals["billed_usd"], totals["unallocated_usd"], totals["bill_usd"]) == pytest.approx(
        (charged, unallocated, bill), rel=1e-12
    )
    assert abs(totals["difference_usd"]) < 1e-9
    assert {row["job_id"] for row in report.reconciliation} == {"job-1", "job-2"}
    assert all(abs(row["difference_usd"]) < 1e-9 for row in report.reconciliation)


def test_books_that_a_job_closed_add_up(ledger):
    url, tracks, _ = ledger

    totals = cost_report(url).totals

    assert totals["carried_usd"] == pytest.approx(math.fsum(row["total_usd"] for row in tracks), rel=1e-12)
    assert totals["bill_usd"] > totals["carried_usd"] > totals["render_usd"] > 0
    assert abs(totals["difference_usd"]) < 1e-9 and totals["unshared_tracks"] == 0


def test_money_that_is_missing_shows_in_the_difference(tmp_path, capsys):
    machine = node("job-1", "n1", "local-cpu", "on-demand", 0.16, 0.16) | {"cost_usd": 2.0, "unallocated_usd": 0.5}
    dice = random.Random(1)
    one = track(dice, "job-1", 1, machine, []) | {"charged_usd": 1.0, "waste_usd": 0.2, "idle_usd": 0.29}
    write(tmp_path / "ledger", {"tracks": [one | {"total_usd": 1.49}], "nodes": [machine]})

    assert main(["--ledger", str(tmp_path / "ledger"), "--report", str(tmp_path / "report")]) == 0

    assert cost_report(str(tmp_path / "ledger")).totals["difference_usd"] == pytest.approx(-0.01, rel=1e-9)
    assert "difference −1.0000¢" in " ".join(capsys.readouterr().out.split())


def test_rows_of_an_older_release_count_with_their_own_render_and_that_is_said(sample, report, tmp_path, capsys):  # noqa: F811
    old = [row for row in sample.tracks if row["total_usd"] is None]

    assert main(["--ledger", sample.url, "--report", str(tmp_path)]) == 0

    totals = report.totals
    assert totals["unshared_tracks"] == sum(not row["cache_hit"] for row in old)
    assert totals["unshared_usd"] == pytest.approx(math.fsum(row["charged_usd"] for row in old), rel=1e-12)
    said = f"{totals['unshared_tracks']} rendered tracks have no share of waste and idle time"
    assert said in " ".join(capsys.readouterr().out.split()) and said in (tmp_path / "index.html").read_text()
    assert said not in write_report(sample.url, tmp_path, Console(quiet=True), job_id="job-1").read_text()


def test_waste_is_counted_by_cause(sample, report):  # noqa: F811
    wasted = [row for row in sample.attempts if row["ended"] != "track"]
    tries = Counter((row["ended"], row["reason"]) for row in wasted)
    assert len(tries) == 6

    waste = report.waste

    assert {(row["ended"], row["reason"]): row["tries"] for row in waste} == tries
    for row in waste:
        same = [w for w in wasted if (w["ended"], w["reason"]) == (row["ended"], row["reason"])]
        assert row["cost_usd"] == pytest.approx(math.fsum(w["cost_usd"] for w in same), rel=1e-12)
        assert row["device_seconds"] == pytest.approx(math.fsum(w["device_seconds"] for w in same), rel=1e-12)


def test_spot_is_held_against_the_same_hours_on_demand_and_pays_for_what_it_lost(sample, report):  # noqa: F811
    spot = [row for row in sample.nodes if row["market"] == "spot"]
    known = [row for row in spot if row["on_demand_usd_per_node_hour"] is not None]
    ratio = {
        (row["job_id"], row["node_id"]): row["on_demand_usd_per_node_hour"] / row["usd_per_node_hour"] for row in known
    }
    on_demand = math.fsum(row["cost_usd"] * ratio[row["job_id"], row["node_id"]] for row in known)
    lost = [
        row["cost_usd"] * ratio[row["job_id"], row["node_id"]]
        for row in sample.attempts
        if row["ended"] in ("preempted", "stopped") and (row["job_id"], row["node_id"]) in ratio
    ]
    saving = on_demand - math.fsum(row["cost_usd"] for row in known)

    found = report.spot

    assert found["paid_usd"] == pytest.approx(math.fsum(row["cost_usd"] for row in spot), rel=1e-12)
    assert found["unknown_paid_usd"] == pytest.approx(
        math.fsum(row["cost_usd"] for row in spot if row not in known), rel=1e-12
    )
    assert (found["on_demand_usd"], found["saving_usd"]) == pytest.approx((on_demand, saving), rel=1e-12)
    assert found["lost_tries"] == len(lost) > 0
    assert found["net_saving_usd"] == pytest.approx(saving - math.fsum(lost), rel=1e-12)


def test_a_price_on_demand_that_nobody_knows_is_not_zero():
    nodes = {"machines": 2, "node_hours": 3.0, "paid_usd": 0.6, "unknown_paid_usd": 0.6, "on_demand_usd": None}
    lost = {"lost_tries": 0, "lost_usd": 0.0, "lost_on_demand_usd": 0.0}

    savings = spot_savings(nodes, lost)

    assert savings["saving_usd"] is None and savings["net_saving_usd"] is None
    assert "not known" in spot_line(savings) and "$0.00" not in spot_line(savings)
    assert spot_savings(nodes | {"machines": 0}, lost) is None


def test_machines_at_other_prices_cost_their_hours_times_these(sample, report):  # noqa: F811
    others = {("g5.xlarge", "spot"): 0.30, ("local-cpu", "on-demand"): 0.32}
    then = tracks_then = 0.0
    for row in sample.nodes:
        factor = others.get((row["node_type"], row["market"]), row["usd_per_node_hour"]) / row["usd_per_node_hour"]
        then += row["cost_usd"] * factor
        tracks_then += (row["cost_usd"] - row["unallocated_usd"]) * factor

    rows = repriced(report.nodes, WhatIf(others))

    def total_of(name):
        return math.fsum(row[name] for row in rows)

    assert total_of("then_usd") == pytest.approx(then, rel=1e-12)
    assert total_of("then_carried_usd") == pytest.approx(tracks_then, rel=1e-12)
    assert total_of("now_usd") == pytest.approx(report.totals["bill_usd"], rel=1e-12)
    assert total_of("now_carried_usd") == pytest.approx(report.totals["billed_usd"], rel=1e-12)
    minutes = math.fsum(row["duration_s"] / 60 for row in sample.rendered if row["total_usd"] is not None)
    assert f"per audio minute now {usd(total_of('now_usd') / minutes)}, then {usd(then / minutes)}" in what_if_line(
        rows, report.totals
    )


def test_a_price_table_must_know_every_machine_of_the_ledger(sample, tmp_path, capsys):  # noqa: F811
    (tmp_path / "prices.yaml").write_text(PRICES)
    command = ["--ledger", sample.url, "--report", str(tmp_path / "report"), "--prices", str(tmp_path / "prices.yaml")]

    assert main(command) == 2
    assert "<b>lab</b>=spot" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()

    assert main([*command, "--what-if", "<b>lab</b>=spot:0.2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "per audio minute now" in out and "At other prices" in (tmp_path / "report" / "index.html").read_text()


def test_a_price_for_a_machine_that_is_not_in_the_ledger_is_an_error(sample, capsys):  # noqa: F811
    assert main(["--ledger", sample.url, "--what-if", "g5.xlarge=on-demand:0.3", "--what-if", "p9=spot:1"]) == 2
    error = capsys.readouterr().err
    assert "g5.xlarge=on-demand" in error and "p9=spot" in error and "local-cpu=on-demand" in error


@pytest.mark.parametrize("text", ["g5.xlarge", "g5.xlarge=spot", "=spot:1", "g5.xlarge=spot:0", "g5.xlarge=spot:nan"])
def test_a_price_that_cannot_be_read_is_refused(text, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--ledger", "x", "--what-if", text])
    assert stop.value.code == 2 and "TYPE=MARKET:USD" in capsys.readouterr().err


def test_prices_of_nothing_are_refused_when_they_are_changed():
    assert repriced([], WhatIf(table={("a", "spot"): 1.0})) == []
    with pytest.raises(InvalidRequest, match="no machines"):
        repriced([], WhatIf({("a", "spot"): 1.0}))


def test_one_job_can_be_asked_for(sample):  # noqa: F811
    report = cost_report(sample.url, job_id="job-2")

    assert report.totals["tracks"] == sum(row["job_id"] == "job-2" for row in sample.tracks)
    bill = math.fsum(row["cost_usd"] for row in sample.nodes if row["job_id"] == "job-2")
    assert report.totals["bill_usd"] == pytest.approx(bill, rel=1e-12)
    assert {row["node_id"] for row in report.nodes} == {"n2", "n3"}
    with pytest.raises(NotFound, match="job-9"):
        cost_report(sample.url, job_id="job-9")


def test_the_files_hold_the_same_figures_as_the_page(sample, report, tmp_path):  # noqa: F811
    write_report(sample.url, tmp_path, Console(quiet=True))

    parquet = pq.read_table(tmp_path / "costs.parquet")
    assert parquet["dimension"].unique().to_pylist() == list(DIMENSIONS)
    with (tmp_path / "costs.csv").open(newline="") as file:
        costs = list(csv.DictReader(file))
    assert [float(row["carried_usd"]) for row in costs] == parquet["carried_usd"].to_pylist()
    assert [row["value"] for row in costs] == parquet["value"].to_pylist()
    waste = pa_csv.read_csv(tmp_path / "waste.csv").to_pylist()
    assert [(row["ended"], row["tries"], row["cost_usd"]) for row in waste] == [
        (row["ended"], row["tries"], row["cost_usd"]) for row in report.waste
    ]
    nodes = pa_csv.read_csv(tmp_path / "nodes.csv").to_pylist()
    assert math.fsum(row["cost_usd"] for row in nodes) == pytest.approx(report.totals["bill_usd"], rel=1e-12)
    assert [row["on_demand_usd"] for row in nodes if row["node_id"] == "n3"] == [None]
    failures = pa_csv.read_csv(tmp_path / "failures.csv").to_pylist()
    assert [(row["job_id"], row["line"], row["reason"], row["stage"], row["message"]) for row in failures] == [
        (row["job_id"], row["line"], row["reason"], row["stage"], row["message"])
        for row in sorted(sample.failures, key=lambda row: (row["job_id"], row["line"]))
    ]


#: What spreadsheets run, and what they show.
FORMULAS = ["=1+1", '=HYPERLINK("http://x";"y")', "+2", "-3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "－1"]
PLAIN = ["Lied für Ægir", "a=b", "A; B-C", "1-2", "-", "", "7"]


def no_formula(cell: str) -> bool:
    return not re.search(r"(\A|[;|\t\r\n])[=+\-@＝＋－＠]|\A[\t\r\n]", cell)


def test_the_rows_that_failed_are_safe_in_a_spreadsheet_and_say_what_to_mend(tmp_path):
    titles = [*FORMULAS, *PLAIN, "x;=cmd|'/c calc'!A1;y", "first\r\n+second"]
    rows = [
        any_row(FAILURES_SCHEMA, job_id="job-1", line=line, row_id=title, title=title, requested_by=title,
                reason="invalid-request", stage="catalog", message=title, settled_at=START)
        for line, title in enumerate(titles, start=1)
    ]  # fmt: skip
    other = any_row(
        FAILURES_SCHEMA, job_id="job-2", line=1, reason="stalled", stage="worker", message="", transient=True
    )
    costs = [track(random.Random(1), "job-1", 99, node("job-1", "=n", "=box", "spot", 1.0, 1.0), [])]
    costs[0] |= {"requested_by": "=who", "style": "@style"}
    write(tmp_path / "ledger", {"failures": [*reversed(rows), other], "tracks": costs})

    write_report(str(tmp_path / "ledger"), tmp_path / "report", Console(quiet=True), job_id="job-1")

    with (tmp_path / "report" / "failures.csv").open(newline="", encoding="utf-8-sig") as file:
        found = list(csv.DictReader(file))
    assert [int(row["line"]) for row in found] == list(range(1, len(titles) + 1))
    for row, title in zip(found, titles, strict=True):
        for name in ("row_id", "title", "requested_by", "message"):
            assert no_formula(row[name]), row[name]
            assert row[name].replace("'", "") == title.replace("'", "")
    assert {row["title"] for row in found} >= {title for title in PLAIN if title != "-"}
    with (tmp_path / "report" / "costs.csv").open(newline="", encoding="utf-8") as file:
        values = {row["value"] for row in csv.DictReader(file)}
    assert {"'=who", "'@style"} <= values and all(map(no_formula, values))


def test_a_report_without_failures_has_an_empty_file_of_them(tmp_path):
    write(tmp_path / "ledger", {"nodes": [node("job-1", "n1", "box", "spot", 1.0, 1.0)]})

    write_report(str(tmp_path / "ledger"), tmp_path / "report", Console(quiet=True))

    with (tmp_path / "report" / "failures.csv").open(encoding="utf-8-sig") as file:
        assert list(csv.reader(file)) == [
            ["job_id", "line", "row_id", "title", "requested_by", "reason", "stage", "message", "transient"]
        ]


def test_the_terminal_never_cuts_money_at_80_columns_and_obeys_no_name(sample, report, capsys):  # noqa: F811
    assert main(["--ledger", sample.url, "--report", sample.url + "-report"]) == 0

    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    spot = next(row for row in report.by("market") if row["value"] == "spot")
    assert usd(spot["carried_usd"], places_for(row["carried_usd"] for row in report.by("market"))) in next(
        line for line in out.splitlines() if line.startswith("spot")
    )
    assert "\x1b[2J" not in out and "[/red]" in out


def test_a_ledger_without_tracks_is_reported_too(sample, tmp_path):  # noqa: F811
    write(tmp_path / "ledger", {"failures": sample.failures})

    page = write_report(str(tmp_path / "ledger"), tmp_path / "report", Console(quiet=True)).read_text()

    assert "Nothing was rendered" in page and "no job has been settled" in page
    assert cost_report(str(tmp_path / "ledger")).totals["carried_per_track_usd"] is None


def test_no_ledger_is_exit_code_2(tmp_path, capsys):
    assert main(["--ledger", str(tmp_path)]) == 2
    assert "no ledger" in capsys.readouterr().err


@pytest.mark.parametrize(
    "amount, shown",
    [
        (None, "–"),
        (0.0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.0123, "$0.0123"),
        (0.000213, "$0.000213"),
        (8.94e-6, "$0.00000894"),
        (1e-15, "<$0.000000001"),
        (-1e-15, "−<$0.000000001"),
        (-2.0, "−$2.00"),
    ],
)
def test_amounts_have_the_places_that_they_need(amount, shown):
    assert usd(amount) == shown
