"""The report against an independent sum over the same Parquet, and the page as a browser would be handed it."""

import math
import re
from html.parser import HTMLParser

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from batch_jobs.catalog import RefusedRow
from batch_jobs.cost_report import DIMENSIONS, cost_report, main, write_report
from batch_jobs.ledger import Ledger
from batch_jobs.outcomes import outcomes_table, refused_row
from batch_jobs.report_page import usd
from orchestrion.errors import NotFound
from tests.unit.batch_jobs.conftest import HOSTILE


def test_every_split_adds_up_to_an_independent_sum(ledger):
    url, rows, failures = ledger
    paid = math.fsum(row["charged_usd"] for row in rows)
    saved = math.fsum(row["cost_usd"] for row in rows if row["cache_hit"])
    minutes = math.fsum(row["duration_s"] for row in rows) / 60
    device_s = math.fsum(row["device_seconds"] for row in rows if not row["cache_hit"])

    report = cost_report(url)

    for dimension in DIMENSIONS:
        split = report.by(dimension)
        assert len(split) >= 2
        assert sum(row["tracks"] for row in split) == len(rows)
        totals = {"cost_usd": paid, "saved_usd": saved, "audio_minutes": minutes, "device_seconds": device_s}
        for name, total in totals.items():
            assert math.fsum(row[name] for row in split) == pytest.approx(total, abs=1e-9)
            assert report.totals[name] == pytest.approx(total, abs=1e-9)
        known = [row["failures"] for row in split if row["failures"] is not None]
        assert sum(known) == (0 if dimension in ("pool", "market") else len(failures))
    assert sum(row["rows"] for row in report.failures) == report.totals["failures"] == len(failures)
    assert report.jobs == 2


def test_a_cost_per_track_is_per_rendered_track(ledger):
    url, rows, _ = ledger
    jazz = [row for row in rows if row["style"] == "jazz" and not row["cache_hit"]]
    paid = math.fsum(row["charged_usd"] for row in jazz)

    [found] = [row for row in cost_report(url).by("style") if row["value"] == "jazz"]

    assert found["cost_per_track_usd"] == pytest.approx(paid / len(jazz), rel=1e-12)
    assert found["cost_per_audio_minute_usd"] == pytest.approx(
        paid / math.fsum(row["duration_s"] / 60 for row in jazz), rel=1e-12
    )


def test_one_job_can_be_asked_for(ledger):
    url, rows, _ = ledger

    report = cost_report(url, job_id="job-2")

    assert report.totals["tracks"] == sum(row["job_id"] == "job-2" for row in rows)
    with pytest.raises(NotFound, match="job-9"):
        cost_report(url, job_id="job-9")


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_loads_nothing_runs_nothing_and_shows_prompts_as_text(ledger, tmp_path):
    page = write_report(ledger[0], tmp_path / "report", Console(quiet=True))

    html = page.read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(html)
    assert parsed.links == [] and "url(" not in html and "@import" not in html
    assert {"script", "img", "i", "iframe", "link"} & parsed.tags == set() and "svg" in parsed.tags
    assert HOSTILE in "".join(parsed.text)


def test_the_page_shows_the_figures_of_the_tables(ledger, tmp_path):
    page = write_report(ledger[0], tmp_path / "report", Console(quiet=True)).read_text(encoding="utf-8")

    totals = cost_report(ledger[0]).totals
    shown = re.findall(r'<div class="figure">([^<]*)</div>', page)
    assert usd(totals["cost_usd"]) in shown and f"{totals['tracks']:,}" in shown


def test_csv_and_parquet_hold_the_same_breakdown(ledger, tmp_path):
    write_report(ledger[0], tmp_path / "report", Console(quiet=True))

    parquet = pq.read_table(tmp_path / "report" / "costs.parquet")
    assert pa_csv.read_csv(tmp_path / "report" / "costs.csv").to_pylist() == parquet.to_pylist()
    assert parquet["dimension"].unique().to_pylist() == list(DIMENSIONS)


def test_the_terminal_never_cuts_money_at_80_columns(ledger, capsys):
    assert main(["--ledger", ledger[0], "--report", ledger[0] + "-report"]) == 0

    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    spot = next(row for row in cost_report(ledger[0]).by("market") if row["value"] == "spot")
    assert usd(spot["cost_usd"]) in next(line for line in out.splitlines() if line.startswith("spot"))


def test_a_ledger_without_tracks_is_reported_too(tmp_path, clock):
    ledger = Ledger(str(tmp_path / "ledger"), {}, clock)
    ledger.add(outcomes_table([refused_row("job-1", RefusedRow(1, None, None, "bad"), clock.now())]))
    ledger.commit()

    page = write_report(str(tmp_path / "ledger"), tmp_path / "report", Console(quiet=True))

    assert "No row failed" not in page.read_text() and "Nothing was rendered" in page.read_text()


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
        (0.000213, "213 µ$"),
        (8.94e-6, "8.9 µ$"),
    ],
)
def test_amounts_have_the_places_that_they_need(amount, shown):
    assert usd(amount) == shown
