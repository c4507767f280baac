"""The cost report as one HTML page: the headline, charts with a table each, no script and nothing to load.

Everything that came from a catalog is escaped by the template; the page's own policy allows its one style sheet and
nothing else, by hash.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from batch_jobs.formatting import counted, printable, reconciled, unshared, usd, what_if_line
from batch_jobs.reports import charts
from batch_jobs.reports.charts import Chart
from batch_jobs.reports.costs import CostReport
from batch_jobs.reports.headline import headline
from batch_jobs.reports.tables import Table, tables
from batch_jobs.reports.trends import moment

LEDGER_CHARACTERS: Final = 120
#: The table that is open when the page is.
OPEN: Final = "by-style"


@dataclass(frozen=True, slots=True)
class Card:
    """A chart with its words, and the table that has its figures."""

    title: str
    note: str
    #: What is said where there is nothing to draw.
    nothing: str
    chart: Chart | None
    table: Table | None


def report_page(report: CostReport) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("batch_jobs.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (resources.files("batch_jobs.reports") / "templates" / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    found = tables(report)
    return environment.get_template("report.html").render(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704
        ledger=printable(report.ledger, LEDGER_CHARACTERS),
        span=_span(report),
        headline=headline(report),
        split=charts.bill_split(report),
        facts=_facts(report),
        sentences=_sentences(report),
        figures=_figures(report, found),
        tables=found,
        open=OPEN,
    )


def _span(report: CostReport) -> str:
    jobs = counted(report.jobs, "job")
    trends = report.trends
    if trends.first is None or trends.last is None:
        return jobs
    first, last = (moment(at, "day") for at in (trends.first, trends.last))
    return f"{jobs}, {first}" if first == last else f"{jobs}, {first} to {last}"


def _facts(report: CostReport) -> list[tuple[str, str]]:
    """What was done for the money, in a line."""
    totals = report.totals
    facts = [
        ("rendered", f"{counted(totals['rendered'], 'track')}, {totals['rendered_minutes']:,.1f} min"),
        ("from the cache", f"{counted(totals['cache_hits'], 'track')}, saved {usd(totals['saved_usd'])}"),
        ("failed", counted(totals["failures"], "row")),
    ]
    if totals["withdrawn_tracks"]:
        withdrawn = f"{counted(totals['withdrawn_tracks'], 'track')}, carried {usd(totals['withdrawn_usd'])}"
        facts.append(("withdrawn", withdrawn))
    return facts


def _sentences(report: CostReport) -> list[str]:
    """What must be known to read the figures."""
    said = []
    if report.reconciliation:
        said.append(reconciled(report.totals))
    if report.totals["unshared_tracks"]:
        said.append(unshared(report.totals))
    if report.what_if:
        said.append("at other prices: " + what_if_line(report.what_if, report.totals))
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in said]


def _figures(report: CostReport, found: list[Table]) -> list[Card]:
    unit = report.trends.unit
    table = {one.key: one for one in found}.get
    return [
        Card(
            f"Bill by {unit}",
            "What the machines cost, UTC.",
            "No job has been settled.",
            charts.bill_over_time(report),
            table("over-time"),
        ),
        Card(
            "Carried by style",
            "What tracks carry of the bill, dearest first.",
            "Nothing was rendered.",
            charts.carried_by_style(report),
            table("by-style"),
        ),
        Card(
            "Per audio minute, by style",
            "Carried ÷ minutes rendered of the style.",
            "Nothing was rendered.",
            charts.minute_by_style(report),
            table("by-style"),
        ),
        Card(
            "Cost of a track against its length",
            "A dot is the middle of the tracks of that length, its line from their lowest to their highest tenth.",
            "Nothing was rendered.",
            charts.cost_against_length(report),
            table("lengths"),
        ),
        Card(
            f"Waste by {unit}",
            "Attempts that gave no track, by cause.",
            "No attempt was in vain.",
            charts.waste_over_time(report),
            table("waste-by-time"),
        ),
        Card(
            "Spot savings",
            "The same hours on demand, what was paid, and what was lost with machines that went away.",
            "No spot machine whose price on demand is known.",
            charts.spot_bars(report),
            table("spot"),
        ),
    ]
