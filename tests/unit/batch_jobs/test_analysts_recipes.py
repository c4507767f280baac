"""Every recipe of docs/analysts.md runs on a ledger, and its figures are those of the report and of a plain sum."""

import math
import re

import pytest

from batch_jobs.cost_report import cost_report


@pytest.fixture
def told(ledger, pytestconfig):
    """The names that the page's blocks leave behind, run one after the other."""
    page = (pytestconfig.rootpath / "docs" / "analysts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 8
    names = {"ledger": ledger[0]}
    for block in blocks:
        exec(compile(block, "docs/analysts.md", "exec"), names)
    return names


def test_the_recipes_agree_with_the_report_and_with_a_plain_sum(told, ledger):
    url, rows, _ = ledger
    paid = math.fsum(row["charged_usd"] for row in rows)
    report = cost_report(url)
    styles = {row["value"]: row for row in report.by("style")}

    assert math.fsum(row[2] for row in told["by_style"]) == pytest.approx(paid, abs=1e-9)
    for style, tracks, paid_usd, per_minute in told["by_style"]:
        same = styles[style or "(not given)"]
        assert tracks == same["tracks"] and paid_usd == pytest.approx(same["cost_usd"], abs=1e-9)
        assert per_minute == pytest.approx(same["cost_per_audio_minute_usd"], rel=1e-12)
    composer = next(row for row in report.by("model") if row["value"] == "composer")
    assert told["week"] == (composer["tracks"], pytest.approx(composer["cost_usd"], abs=1e-9))
    saved = math.fsum(row["cost_usd_sum"] for row in told["saved"])
    assert saved == pytest.approx(report.totals["saved_usd"], abs=1e-9)
    assert float(told["paid"].sum().sum()) == pytest.approx(paid, abs=1e-9)
    device_s = math.fsum(row[2] for row in told["by_market"])
    assert device_s == pytest.approx(report.totals["device_seconds"], abs=1e-9)


def test_the_recipes_find_the_rows_to_mend_the_records_and_the_slow_tracks(told, ledger):
    _, rows, failures = ledger

    assert [row[0] for row in told["to_mend"]] == [row["line"] for row in failures if row["job_id"] == "job-2"]
    assert sorted(record.cost_usd for record in told["records"]) == sorted(row["cost_usd"] for row in rows)
    slow = {(row["device_seconds"] / row["duration_s"]) for row in rows if not row["cache_hit"]}
    assert set(told["slowest"].device_seconds / told["slowest"].duration_s) <= slow
    assert 0 < len(told["slowest"]) <= math.ceil(len(slow) / 10) + 1
