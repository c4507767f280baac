"""The report's page as a browser would be handed it, and its figures in the words of the terminal and the files."""

import csv
import math
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from batch_jobs.cost_report import FILES, main, write_report
from batch_jobs.formatting import column_of_usd, usd
from batch_jobs.ledger.tables import TRACKS_SCHEMA
from batch_jobs.reports.costs import WhatIf, cost_report
from batch_jobs.reports.headline import headline
from tests.test_imports import packages_loaded_by
from tests.unit.batch_jobs.realistic_ledger import realistic_ledger
from tests.unit.batch_jobs.sample_ledger import (  # noqa: F401 (fixture)
    HOSTILE,
    any_row,
    node,
    sample,
    write,
)

#: A page that can be sent by mail.
MOST_BYTES = 1_000_000
VOID = {"meta", "br"}


class Page(HTMLParser):
    """What a browser makes of it: the tags, the links, the ids and the text of each card of the headline."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.ids, self.text, self.open = set(), [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        self.ids += [value for name, value in attrs if name == "id"]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def page_of(url, folder, **options):
    return Page(write_report(str(url), folder, Console(quiet=True), **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def realistic(tmp_path_factory):
    return realistic_ledger(tmp_path_factory.mktemp("realistic") / "ledger")


def test_the_page_loads_nothing_runs_nothing_and_shows_what_came_from_outside_as_text(sample, tmp_path):  # noqa: F811
    page = page_of(sample.url, tmp_path, what_if=WhatIf({("<b>lab</b>", "spot"): 1.0}))

    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "url(" not in html and "@import" not in html and "unsafe" not in re.search(r"Policy.*", html)[0]
    assert {"script", "img", "i", "b", "iframe", "link", "image", "a:href"} & page.tags == set()
    text = "".join(page.text)
    assert HOSTILE in text and "<b>lab</b>" in text and "<i>c</i>" in text and "\x1b" not in html


def test_page_terminal_and_files_say_the_same_figures_in_the_same_words(realistic, tmp_path, capsys):
    assert main(["--ledger", realistic, "--report", str(tmp_path)]) == 0

    report = cost_report(realistic)
    out = " ".join(capsys.readouterr().out.split())
    words = Page((tmp_path / "index.html").read_text(encoding="utf-8")).words
    for figure in headline(report).figures():
        assert f"{figure.word} {figure.shown} {figure.note}" in words
        assert f"{figure.word} {figure.shown} {figure.note}" in out
    with (tmp_path / "summary.csv").open(newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    told = headline(report)
    shown = column_of_usd([float(row[f"{word}_usd"]) for word in ("bill", "carried", "unallocated")])
    assert shown == [told.bill.shown, told.carried.shown, told.unallocated.shown]
    assert usd(float(row["bill_per_audio_minute_usd"])) == told.per_audio_minute.shown
    assert usd(float(row["bill_per_kept_track_usd"])) == told.per_kept_track.shown
    assert row["dearest_style"] == told.dearest_style.shown
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", *FILES}
    assert all(name in out for name in FILES)


def test_the_page_shows_the_figures_of_the_tables(sample, tmp_path):  # noqa: F811
    others = WhatIf({("g5.xlarge", "spot"): 0.30})

    page = page_of(sample.url, tmp_path, what_if=others)

    report = cost_report(sample.url, what_if=others)
    for amount in (report.totals["bill_usd"], math.fsum(row["then_usd"] for row in report.what_if)):
        assert usd(amount) in page.words
    assert usd(report.spot["net_saving_usd"]) in page.words
    assert column_of_usd([row["cost_usd"] for row in report.waste])[0] in page.words
    assert "difference 0.0000¢" in page.words


def test_each_chart_says_its_figures_in_words_and_leads_to_its_table(realistic, tmp_path):
    page = page_of(realistic, tmp_path)

    report = cost_report(realistic)
    svg_titles = sum(one.endswith("-title") for one in page.ids)
    assert svg_titles == 7 == sum(one.endswith("-said") for one in page.ids)
    [first, *_] = report.by("style")
    assert f"{first['value']} {usd(first['carried_usd'])};" in page.words
    assert set(page.links) == {"#over-time", "#by-style", "#lengths", "#waste-by-time", "#spot"}


def test_idle_time_below_nothing_is_told(tmp_path):
    machine = node("job-1", "n1", "local-cpu", "on-demand", 0.16, 0.16) | {"cost_usd": 0.75}
    money = {"charged_usd": 1.0, "waste_usd": 0.0, "idle_usd": -0.25, "total_usd": 0.75}
    one = any_row(TRACKS_SCHEMA, job_id="job-1", line=1, duration_s=60.0, style="jazz", cost_usd=1.0, **money)
    write(tmp_path / "ledger", {"tracks": [one], "nodes": [machine]})

    page = page_of(tmp_path / "ledger", tmp_path / "report")

    assert "−$0.25" in page.words and "difference 0.0000¢" in page.words
    assert "carried $0.750 by 1 rendered track" in page.words


def test_a_name_with_characters_that_no_page_may_have_is_shown_without_them(tmp_path):
    name = "a\x00b\x1b[2J\u202ec\ufffe]]>&"
    texts = dict.fromkeys(("title", "prompt", "style", "model", "requested_by", "pool", "market"), name)
    one = any_row(TRACKS_SCHEMA, **texts, job_id="job-1", line=1, duration_s=3.0, charged_usd=1.0)
    write(tmp_path / "ledger", {"tracks": [one]})

    page = page_of(tmp_path / "ledger", tmp_path / "report")

    text = "".join(page.text)
    assert "]]>&" in text and not {"\x00", "\x1b", "\u202e", "\ufffe"} & set(text)


@pytest.mark.parametrize("empty", ["failures", "nothing"])
def test_a_ledger_without_money_is_a_page(sample, tmp_path, empty):  # noqa: F811
    write(tmp_path / "ledger", {"failures": sample.failures} if empty == "failures" else {})

    page = page_of(tmp_path / "ledger", tmp_path / "report")

    assert "bill – no job has been settled" in page.words and "svg" not in page.tags
    assert ("Failures by reason" in page.words) == (empty == "failures")


def test_a_page_of_many_values_is_small_and_says_what_it_left_out(tmp_path):
    rows = [
        any_row(
            TRACKS_SCHEMA, job_id=f"job-{line % 300}", run_id=f"run-{line % 300}", line=line, title="t" * 5000,
            prompt="p" * 5000, style=f"style-{line % 700}-" + "x" * 500, model=f"model-{line % 200}",
            requested_by=f"r{line}@example.org", duration_s=float(line % 600 + 1), charged_usd=float(line),
        )
        for line in range(1, 2001)
    ]  # fmt: skip
    machines = [node(f"job-{n}", f"n{n}", "box", "spot", 1.0, 2.0) | {"cost_usd": 1.0} for n in range(300)]
    write(tmp_path / "ledger", {"tracks": rows, "nodes": machines}, rows_per_file=2000)

    page = page_of(tmp_path / "ledger", tmp_path / "report")

    assert (tmp_path / "report" / "index.html").stat().st_size < MOST_BYTES
    assert "650 more in costs.csv" in page.words and "691 other styles" in page.words


def test_what_draws_the_page_is_loaded_when_a_page_is_written():
    assert {"vl_convert", "jinja2"} & packages_loaded_by(["batch_jobs.cost_report"]) == set()
