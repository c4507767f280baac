"""The cost report as one HTML page: hand-written SVG, light and dark, no script and nothing to load.

Everything that came from a catalog is escaped; the page's own policy forbids scripts and requests besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from batch_jobs.formatting import cents, reconciled, spot_line, unshared, usd, waste_cause, what_if_line
from batch_jobs.reports.costs import CostReport

#: Bars in one plot; the smallest values are summed up in a last one.
MAX_BARS: Final = 30
#: Rows in one table; costs.csv has all of them.
MAX_ROWS: Final = 200
LABEL_CHARACTERS: Final = 25

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f7f6f3; --card: #fff; --ink: #1d1c1a; --soft: #6d6a64; --line: #e3e0da;
  --paid: #2f6f6a; --failed: #b4483c; --idle: #9aa5b1; }
@media (prefers-color-scheme: dark) { :root { --page: #151614; --card: #1e201d; --ink: #ecebe6; --soft: #a09d95;
  --line: #32342f; --paid: #63b3a8; --failed: #e07a6c; --idle: #77828d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 0 0 2px; } .note { color: var(--soft); font-size: 13px; margin: 0 0 14px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 12px; margin: 24px 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 16px;
  margin-top: 16px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; min-width: 0; }
.wide { margin-top: 16px; overflow-x: auto; }
.figure { font-size: 22px; white-space: nowrap; font-weight: 600;
  letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.name { color: var(--soft); font-size: 13px; }
svg { display: block; width: 100%; height: auto; font: inherit; font-size: 12.5px; }
svg text { fill: var(--ink); } svg .soft { fill: var(--soft); } svg .line { stroke: var(--line); }
svg .guide { stroke: var(--soft); stroke-dasharray: 4 4; }
.paid { fill: var(--paid); } .failed { fill: var(--failed); }
.idle { fill: var(--idle); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 4px 0 10px; }
.key.paid { background: var(--paid); } .key.failed { background: var(--failed); } .key.idle { background: var(--idle); }
.dot { fill: var(--paid); fill-opacity: .65; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; text-align: right; white-space: nowrap; }
td { text-align: right; white-space: nowrap; } th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; } tr:last-child td { border-bottom: 0; }
.words { text-align: left; white-space: normal; min-width: 16em; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: 13px; margin-top: 24px; }
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def report_page(report: CostReport) -> str:
    """The page."""
    totals = report.totals
    hits = f"{totals['cache_hits']} answered from the store" if totals["cache_hits"] else "none answered from the store"
    cards = [
        ("all of it", usd(totals["total_usd"])),
        ("rendering", usd(totals["render_usd"])),
        ("waste", usd(totals["waste_usd"])),
        ("idle time", usd(totals["idle_usd"])),
        ("per rendered track", usd(totals["cost_per_track_usd"])),
        ("per audio minute", usd(totals["cost_per_audio_minute_usd"])),
        ("tracks", f"{totals['tracks']:,}"),
        ("minutes of audio", f"{totals['audio_minutes']:,.1f}"),
        ("saved by the cache", usd(totals["saved_usd"])),
        ("failures", f"{totals['failures']:,}"),
    ]
    plots = [
        *(
            _card(f"Cost by {name}", _LEGEND, _stacked_bars(report.by(name)))
            for name in ("style", "requester", "model", "market", "pool", "job")
        ),
        _card(
            "Cost by day", _LEGEND, _stacked_bars(sorted(report.by("day"), key=lambda row: row["value"])[-MAX_BARS:])
        ),
        _card(
            "Cost of a minute by style",
            "Of rendered audio: how dear a style is, whatever its share.",
            _money_bars(_dearest_first(report.by("style"), "cost_per_audio_minute_usd"), "cost_per_audio_minute_usd"),
        ),
        _card(
            "Waste by cause",
            "Attempts that gave no track; what was kept, another attempt went on from.",
            _bars(
                [(waste_cause(row), row["cost_usd"]) for row in report.waste], usd, "failed", "No attempt was in vain."
            ),
        ),
        _card(
            "Device time of each track", "A dot is a rendered track; the dashed line is real time.", _scatter(report)
        ),
        _card("Failures by reason", "Each row is in <code>failures</code> with its message.", _failure_bars(report)),
    ]
    sections = [
        *([_what_if(report)] if report.what_if else []),
        *([_spot(report.spot)] if report.spot else []),
        *([_section("Waste", "Attempts that gave no track.", _waste_table(report))] if report.waste else []),
        *([_section("Machines", "The bill.", _node_table(report))] if report.node_types else []),
        _section("Dearest tracks", "", _dearest_table(report)),
        *(
            _section(f"By {name}", "", _breakdown_table(name, report.by(name)))
            for name in ("model", "style", "pool", "market", "requester", "day", "job")
        ),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What the tracks cost</title><style>{_STYLE}</style></head><body><main>"
        "<h1>What the tracks cost</h1>"
        f'<p class="note">{totals["rendered"]:,} rendered, {hits}, in {_jobs(report.jobs)} of ledger '
        f"{escape(report.ledger)}</p>"
        '<div class="cards">'
        + "".join(f'<div class="card"><div class="figure">{v}</div><div class="name">{n}</div></div>' for n, v in cards)
        + f'</div>{_bill(report)}<div class="plots">{"".join(plots)}</div>'
        + "".join(sections)
        + "<footer>Rendering is device-seconds times the price of the device, as each track's signed record says. "
        "Waste and idle time of a job are shared among the tracks that it rendered; idle time is below 0 where "
        "a worker mastered one track while it made the next. A cost per track or minute is all of it, over what was "
        "rendered and not over cache hits. 1 µ$ is a millionth of a dollar.</footer>"
        "</main></body></html>\n"
    )


_LEGEND: Final = "".join(
    f'<span class="key {kind}"></span>{name}'
    for kind, name in (("paid", "rendering"), ("failed", "waste"), ("idle", "idle time"))
)


def _bill(report: CostReport) -> str:
    """What the tracks are charged beside what the machines cost."""
    totals = report.totals
    note = f"{escape(unshared(totals))}." if totals["unshared_tracks"] else ""
    if not report.reconciliation:
        return _section("The bill", note, "<p>No job of this ledger has been settled.</p>")
    table = _html_table(
        ("job", "charged to tracks", "to no track", "machines", "difference"),
        [
            (
                escape(_shortened(row["job_id"])),
                *(usd(row[name]) for name in ("tracks_usd", "unallocated_usd", "nodes_usd")),
                cents(row["difference_usd"]),
            )
            for row in report.reconciliation[:MAX_ROWS]
        ],
    )
    return _section("The bill", f"{escape(reconciled(totals))}. {note}", table)


def _spot(spot: Mapping[str, Any]) -> str:
    rows = [
        ("spot machines, paid", usd(spot["paid_usd"])),
        ("of these, price on demand not known", usd(spot["unknown_paid_usd"])),
        ("the others on demand", usd(spot["on_demand_usd"])),
        ("saving", usd(spot["saving_usd"])),
        ("lost with their machine, paid", usd(spot["lost_usd"])),
        ("the same on demand, where it would not have been needed", usd(spot["lost_on_demand_usd"])),
        ("net saving", usd(spot["net_saving_usd"])),
    ]
    return _section("Spot", f"{escape(spot_line(spot))}.", _html_table(("", "USD"), rows))


def _what_if(report: CostReport) -> str:
    table = _html_table(
        ("machine", "market", "hours", "cost now", "then", "of it tracks, now", "then"),
        [
            (
                escape(_shortened(row["node_type"])),
                escape(row["market"]),
                f"{row['node_hours']:,.2f}",
                *(usd(row[name]) for name in ("now_usd", "then_usd", "now_tracks_usd", "then_tracks_usd")),
            )
            for row in report.what_if
        ],
    )
    return _section("At other prices", f"{escape(what_if_line(report.what_if, report.totals))}.", table)


def _section(title: str, note: str, content: str) -> str:
    said = f'<p class="note">{note}</p>' if note.strip() else ""
    return f'<section class="card wide"><h2>{title}</h2>{said}{content}</section>'


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _card(title: str, note: str, plot: str) -> str:
    return f'<section class="card"><h2>{title}</h2><p class="note">{note}</p>{plot}</section>'


def _shortened(text: str) -> str:
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"


# Plots: 480 wide, in CSS pixels

_WIDTH: Final = 480
_ROW: Final = 24
_LABEL_WIDTH: Final = 188
_FIGURE_WIDTH: Final = 84
#: What the cost of a track consists of, and the colour of each part.
_PARTS: Final = {"render_usd": "paid", "waste_usd": "failed", "idle_usd": "idle"}


def _empty(message: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} 40" role="img"><text class="soft" x="0" y="24">{message}</text></svg>'


def _dearest_first(rows: Iterable[Mapping[str, Any]], figure: str) -> list[Mapping[str, Any]]:
    return sorted((row for row in rows if row[figure] is not None), key=lambda row: -row[figure])


def _money_bars(rows: Sequence[Mapping[str, Any]], figure: str) -> str:
    values = [(row["value"], row[figure]) for row in rows if row[figure]]
    return _bars(values[:MAX_BARS], usd, "paid", "Nothing was rendered.")


def _failure_bars(report: CostReport) -> str:
    values = [(f"{row['reason']}, {row['stage']}", float(row["rows"])) for row in report.failures]
    return _bars(values[:MAX_BARS], lambda value: f"{value:,.0f}", "failed", "No row failed.")


def _bars(values: Sequence[tuple[str, float]], show: Callable[[float], str], kind: str, nothing: str) -> str:
    """Horizontal bars, label left, figure right of each bar."""
    if not values:
        return _empty(nothing)
    room = _WIDTH - _LABEL_WIDTH - _FIGURE_WIDTH
    largest = max(value for _, value in values) or 1.0
    parts = []
    for index, (label, value) in enumerate(values):
        y = index * _ROW
        length = max(2.0, room * value / largest)
        parts.append(
            f'<g><title>{escape(label)}: {show(value)}</title><text x="{_LABEL_WIDTH - 10}" y="{y + 16}" '
            f'text-anchor="end">{escape(_shortened(label))}</text>'
            f'<rect class="{kind}" x="{_LABEL_WIDTH}" y="{y + 4}" width="{length:.1f}" height="{_ROW - 8}" rx="3"/>'
            f'<text class="soft" x="{_LABEL_WIDTH + length + 8:.1f}" y="{y + 16}">{show(value)}</text></g>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {len(values) * _ROW}" role="img">{"".join(parts)}</svg>'


def _stacked_bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """Bars of rendering, waste and idle time, in the order of the rows."""
    parts_of = [(row["value"], [row[name] for name in _PARTS]) for row in rows if row["total_usd"]]
    if len(parts_of) > MAX_BARS:
        rest = parts_of[MAX_BARS - 1 :]
        sums = [math.fsum(parts[index] for _, parts in rest) for index in range(len(_PARTS))]
        parts_of = [*parts_of[: MAX_BARS - 1], (f"{len(rest)} others", sums)]
    if not parts_of:
        return _empty("Nothing was rendered.")
    room = _WIDTH - _LABEL_WIDTH - _FIGURE_WIDTH
    largest = max(math.fsum(max(0.0, part) for part in parts) for _, parts in parts_of) or 1.0
    bars = []
    for index, (label, parts) in enumerate(parts_of):
        y, x, rectangles = index * _ROW, float(_LABEL_WIDTH), ""
        for kind, part in zip(_PARTS.values(), parts, strict=True):
            length = room * max(0.0, part) / largest
            rectangles += f'<rect class="{kind}" x="{x:.1f}" y="{y + 4}" width="{length:.1f}" height="{_ROW - 8}"/>'
            x += length
        total = usd(math.fsum(parts))
        said = ", ".join(f"{name.removesuffix('_usd')} {usd(part)}" for name, part in zip(_PARTS, parts, strict=True))
        bars.append(
            f"<g><title>{escape(label)}: {total} ({said})</title>"
            f'<text x="{_LABEL_WIDTH - 10}" y="{y + 16}" text-anchor="end">{escape(_shortened(label))}</text>'
            f'{rectangles}<text class="soft" x="{x + 8:.1f}" y="{y + 16}">{total}</text></g>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {len(bars) * _ROW}" role="img">{"".join(bars)}</svg>'


def _scatter(report: CostReport) -> str:
    """Device-seconds over the length of the track."""
    if not report.points:
        return _empty("Nothing was rendered.")
    left, top, width, height = 40, 28, _WIDTH - 40 - 12, 250
    longest = _ceiling(max(point["duration_s"] for point in report.points))
    slowest = _ceiling(max(point["device_seconds"] for point in report.points))

    def at(duration_s: float, device_seconds: float) -> tuple[float, float]:
        return left + width * duration_s / longest, top + height * (1 - device_seconds / slowest)

    parts = []
    for step in range(5):
        x, y = at(longest * step / 4, slowest * step / 4)
        parts.append(
            f'<line class="line" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{slowest * step / 4:g}</text>'
            f'<text class="soft" x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{longest * step / 4:g}</text>'
        )
    end = min(longest, slowest)
    (x1, y1), (x2, y2) = at(0, 0), at(end, end)
    parts.append(f'<line class="guide" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    for point in report.points:
        x, y = at(point["duration_s"], point["device_seconds"])
        title = f"{point['style']}: {point['duration_s']:g} s in {point['device_seconds']:.2f} device-seconds"
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(title)}</title></circle>')
    parts.append(
        f'<text class="soft" x="{left + width}" y="{top + height + 38}" text-anchor="end">length of the track, s</text>'
        f'<text class="soft" x="0" y="12">device-seconds</text>'
    )
    return f'<svg viewBox="0 0 {_WIDTH} {top + height + 46}" role="img">{"".join(parts)}</svg>'


def _ceiling(value: float) -> float:
    """The next round number that four equal steps divide: 1, 2, 4 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value)


# Tables


def _html_table(headings: Sequence[str], rows: Iterable[Sequence[str]], words: frozenset[int] = frozenset()) -> str:
    """A table; cells come escaped. `words`: columns with running text."""
    head = "".join(f'<th class="words">{h}</th>' if i in words else f"<th>{h}</th>" for i, h in enumerate(headings))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="words">{c}</td>' if i in words else f"<td>{c}</td>" for i, c in enumerate(cells))
        + "</tr>"
        for cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _breakdown_table(dimension: str, rows: Sequence[Mapping[str, Any]]) -> str:
    figures = "tracks,rendered,cached,failed,audio min,device s,render,waste,idle,total,a track,a minute,saved"
    table = _html_table(
        (dimension, *figures.split(",")),
        (
            (
                escape(_shortened(row["value"])),
                f"{row['tracks']:,}",
                f"{row['rendered']:,}",
                f"{row['cache_hits']:,}",
                "–" if row["failures"] is None else f"{row['failures']:,}",
                f"{row['audio_minutes']:,.2f}",
                f"{row['device_seconds']:,.2f}",
                *(usd(row[name]) for name in (*_PARTS, "total_usd")),
                usd(row["cost_per_track_usd"]),
                usd(row["cost_per_audio_minute_usd"]),
                usd(row["saved_usd"]),
            )
            for row in rows[:MAX_ROWS]
        ),
    )
    more = f'<p class="note">{len(rows) - MAX_ROWS:,} more in costs.csv.</p>' if len(rows) > MAX_ROWS else ""
    return table + more


def _waste_table(report: CostReport) -> str:
    return _html_table(
        ("cause", "attempts", "device s", "cost"),
        (
            (
                escape(waste_cause(row)),
                f"{row['tries']:,}",
                f"{row['device_seconds']:,.2f}",
                usd(row["cost_usd"]),
            )
            for row in report.waste
        ),
    )


def _node_table(report: CostReport) -> str:
    return _html_table(
        ("type", "market", "machines", "hours", "cost", "charged to no track"),
        (
            (
                escape(_shortened(row["node_type"])),
                escape(row["market"]),
                f"{row['nodes']:,}",
                f"{row['node_hours']:,.2f}",
                usd(row["cost_usd"]),
                usd(row["unallocated_usd"]),
            )
            for row in report.node_types
        ),
    )


def _dearest_table(report: CostReport) -> str:
    return _html_table(
        ("title", "prompt", "style", "length", "device s", "cost"),
        (
            (
                escape(_shortened(row["title"] or "–")),
                escape(row["prompt"]),
                escape(row["style"] or "–"),
                f"{row['duration_s']:g} s",
                f"{row['device_seconds']:.2f}",
                usd(row["total_usd"]),
            )
            for row in report.dearest
        ),
        words=frozenset({1}),
    )
