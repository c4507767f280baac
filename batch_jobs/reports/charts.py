"""The report's charts: Vega-Lite specifications of a few aggregated rows, drawn to SVG without a browser or a network.

Colours are CSS variables and text is text, so that the page decides about light, dark and print, and words in a chart
can be selected. Each chart says in words what it shows; the page has a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from xml.etree import ElementTree

import vl_convert
from markupsafe import Markup

from batch_jobs.formatting import column_of_usd, counted, printable, usd, waste_cause
from batch_jobs.reports.costs import CostReport
from batch_jobs.reports.trends import moment

#: CSS pixels: a phone of 390 has this room, and three stand side by side on a screen of 1280.
WIDTH: Final = 326
HEIGHT: Final = 190
ROW_HEIGHT: Final = 26
#: Bars in one chart; the rest is summed up in a last one.
MAX_BARS: Final = 10
#: Room for a label, and what a character of it may take: the reader's font may be wider than the one measured here.
LABEL_PIXELS: Final = 104
CHARACTER_PIXELS: Final = 8
LABEL_CHARACTERS: Final = 60
#: Causes of waste that have a colour of their own.
MAX_CAUSES: Final = 5
#: A factor between the dearest and the cheapest track above which the axis is logarithmic.
LOGARITHMIC_FROM: Final = 50
#: Dollars with three digits, in d3's language.
AXIS_USD: Final = "$,.3~r"
#: What a carried amount consists of, and the colour of each part.
PARTS: Final = {"render_usd": "render", "waste_usd": "waste", "idle_usd": "idle"}
#: The version of the specifications below.
VEGA_LITE: Final = "6.4"

#: Names of periods below a time axis, and their form in d3's language.
MAX_DATES: Final = 5
_DATES: Final = {"hour": "%H:%M", "day": "%-d %b", "week": "%-d %b", "month": "%b %Y"}
#: How long a period is; of a month about.
_LENGTHS_MS: Final = {"hour": 3_600_000, "day": 86_400_000, "week": 7 * 86_400_000, "month": 30 * 86_400_000}
_NAMESPACE: Final = "http://www.w3.org/2000/svg"
_ELEMENTS: Final = {f"{{{_NAMESPACE}}}{name}" for name in ("svg", "g", "path", "text", "line", "rect", "tspan")}
_CONFIG: Final[dict[str, Any]] = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
}
_AMOUNT_AXIS: Final = {"format": AXIS_USD, "tickCount": 4, "domain": False, "ticks": False, "title": None}

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A colour of a chart and what it stands for; `colour` names a class of the page's style sheet."""

    colour: str
    word: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart: SVG with a title and a description of its own, and the key to its colours."""

    svg: Markup
    keys: tuple[Key, ...] = ()
    #: What a reader must know of its axes.
    remark: str = ""


_TRACK_KEYS: Final = tuple(Key(colour, colour) for colour in PARTS.values())
_BILL_KEYS: Final = (Key("render", "carried"), Key("unallocated", "unallocated"))


def bill_split(report: CostReport) -> Chart | None:
    """One bar that is the bill: what tracks carry, and what nobody does. It has no text and may be stretched."""
    totals = report.totals
    parts = [(Key(colour, colour), totals[name]) for name, colour in PARTS.items()]
    # Parts below nothing, or of tracks that are on no bill, are no parts of this whole.
    if totals["unshared_tracks"] or min(amount for _, amount in parts) < 0:
        parts = [(Key("render", "carried"), totals["billed_usd"])]
    parts.append((Key("unallocated", "unallocated"), totals["unallocated_usd"]))
    if totals["bill_usd"] <= 0 or min(amount for _, amount in parts) < 0:
        return None
    edges = _cumulated([amount for _, amount in parts])
    rows = [
        {"colour": f"var(--{key.colour})", "from": start, "to": end}
        for (key, _), (start, end) in zip(parts, pairwise(edges), strict=True)
    ]
    spec = {
        "width": 1000,
        "height": 20,
        "padding": 0,
        "data": {"values": rows},
        "mark": {"type": "bar", "height": 20},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "axis": None, "scale": {"domain": [0, edges[-1]]}},
            "x2": {"field": "to"},
            "color": _colour(),
        },
    }
    amounts = column_of_usd([amount for _, amount in parts])
    said = ", ".join(f"{key.word} {amount}" for (key, _), amount in zip(parts, amounts, strict=True))
    keys = tuple(Key(key.colour, f"{key.word} {amount / totals['bill_usd']:.0%}") for key, amount in parts)
    return Chart(_drawn("bill-split", spec, "The bill and its parts", said, stretched=True), keys)


def bill_over_time(report: CostReport) -> Chart | None:
    """What the machines cost in each period: carried by tracks, and unallocated."""
    trends = report.trends
    if not trends.bill:
        return None
    stacks = [
        (row["period"], [("render", row["carried_usd"]), ("unallocated", row["unallocated_usd"])])
        for row in trends.bill
    ]
    dearest = max(trends.bill, key=lambda row: row["bill_usd"])
    said = (
        f"{counted(len(trends.bill), trends.unit)} from {moment(trends.bill[0]['period'], trends.unit)}; the dearest "
        f"is {moment(dearest['period'], trends.unit)} with {usd(dearest['bill_usd'])}"
    )
    return Chart(_drawn("bill-over-time", _columns(stacks, trends.unit), "The bill over time", said), _BILL_KEYS)


def waste_over_time(report: CostReport) -> Chart | None:
    """What attempts without a track cost in each period, by cause."""
    rows = [row for row in report.trends.waste if row["cost_usd"]]
    if not rows:
        return None
    causes = [waste_cause(row) for row in report.waste[:MAX_CAUSES]]
    colours = {cause: f"c{index}" for index, cause in enumerate(causes, start=1)}
    stacks: dict[datetime, dict[str, float]] = {}
    for row in rows:
        stack = stacks.setdefault(row["period"], {})
        colour = colours.get(waste_cause(row), "c6")
        stack[colour] = stack.get(colour, 0.0) + row["cost_usd"]
    unit = report.trends.unit
    spec = _columns([(period, sorted(stack.items())) for period, stack in stacks.items()], unit)
    keys = [Key(colour, cause) for cause, colour in colours.items()]
    if len(report.waste) > MAX_CAUSES:
        keys.append(Key("c6", "other causes"))
    said = "; ".join(f"{waste_cause(row)} {usd(row['cost_usd'])}" for row in report.waste[:MAX_CAUSES])
    return Chart(_drawn("waste-over-time", spec, "Waste by cause over time", said), tuple(keys))


def carried_by_style(report: CostReport) -> Chart | None:
    """What the tracks of each style carry, dearest first."""
    bars = [(row["value"], [row[name] for name in PARTS]) for row in report.by("style") if row["carried_usd"]]
    if not bars:
        return None
    if len(bars) > MAX_BARS:
        rest = bars[MAX_BARS - 1 :]
        sums = [math.fsum(parts[index] for _, parts in rest) for index in range(len(PARTS))]
        bars = [*bars[: MAX_BARS - 1], (f"{len(rest)} other styles", sums)]
    rows, ends = [], []
    amounts = column_of_usd([math.fsum(parts) for _, parts in bars])
    for (label, parts), amount in zip(bars, amounts, strict=True):
        start, below = 0.0, 0.0
        for colour, part in zip(PARTS.values(), parts, strict=True):
            at = start if part >= 0 else below
            rows.append({"label": _label(label), "from": at, "to": at + part, "colour": f"var(--{colour})"})
            start, below = (start + part, below) if part >= 0 else (start, below + part)
        ends.append({"label": _label(label), "to": start, "from": below, "said": amount})
    said = "; ".join(f"{row['label']} {row['said']}" for row in ends)
    svg = _drawn("carried-by-style", _bars(rows, ends), "Carried by tracks of each style", said)
    return Chart(svg, _TRACK_KEYS)


def minute_by_style(report: CostReport) -> Chart | None:
    """What an audio minute of each style carries, dearest first."""
    name = "carried_per_audio_minute_usd"
    found = sorted((row for row in report.by("style") if row[name]), key=lambda row: -row[name])[:MAX_BARS]
    if not found:
        return None
    ends = [
        {"label": _label(row["value"]), "from": 0.0, "to": row[name], "said": amount}
        for row, amount in zip(found, column_of_usd([row[name] for row in found]), strict=True)
    ]
    rows = [row | {"colour": "var(--render)"} for row in ends]
    said = "; ".join(f"{row['label']} {row['said']}" for row in ends)
    return Chart(_drawn("minute-by-style", _bars(rows, ends), "Carried per audio minute, by style", said))


def spot_bars(report: CostReport) -> Chart | None:
    """What spot machines cost beside what they would have cost on demand."""
    spot = report.spot
    if spot is None or spot["net_saving_usd"] is None:
        return None
    amounts = [
        ("on demand", spot["on_demand_usd"], "c6"),
        ("paid on spot", spot["paid_usd"] - spot["unknown_paid_usd"], "render"),
        ("lost with it", spot["lost_on_demand_usd"], "waste"),
        ("net saving", spot["net_saving_usd"], "c5"),
    ]
    shown = column_of_usd([amount for _, amount, _ in amounts])
    ends = [
        {"label": label, "from": min(amount, 0.0), "to": max(amount, 0.0), "said": said}
        for (label, amount, _), said in zip(amounts, shown, strict=True)
    ]
    rows = [row | {"colour": f"var(--{colour})"} for row, (_, _, colour) in zip(ends, amounts, strict=True)]
    said = "; ".join(f"{row['label']} {row['said']}" for row in ends)
    return Chart(_drawn("spot-bars", _bars(rows, ends), "What spot saved", said))


def cost_against_length(report: CostReport) -> Chart | None:
    """What a track carries against its length: the middle of each bin, and from its lowest to its highest tenth."""
    bins = report.trends.lengths
    if not bins:
        return None
    models = list(dict.fromkeys(row["model"] for row in bins))
    rows = [
        {
            # Side by side in the bin, so that one model does not hide another.
            "at": row["from_s"] + (row["to_s"] - row["from_s"]) * (models.index(row["model"]) + 1) / (len(models) + 1),
            "low": row["low_usd"],
            "middle": row["middle_usd"],
            "high": row["high_usd"],
            "tracks": row["tracks"],
            "colour": f"var(--c{models.index(row['model']) + 1})",
        }
        for row in bins
    ]
    lowest, highest = min(row["low"] for row in rows), max(row["high"] for row in rows)
    logarithmic = lowest > 0 and highest / lowest >= LOGARITHMIC_FROM
    amount = {
        "type": "quantitative",
        "scale": {"type": "log", "nice": True} if logarithmic else {"zero": True},
        "axis": _AMOUNT_AXIS,
    }
    length = {
        "field": "at",
        "type": "quantitative",
        "scale": {"domain": [0, max(row["to_s"] for row in bins)]},
        "axis": {"title": "length of the track, s", "grid": False, "tickCount": 6},
    }
    spec = _frame(HEIGHT, beside=10) | {
        "data": {"values": rows},
        "encoding": {"x": length, "color": _colour()},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.45},
                "encoding": {"y": amount | {"field": "low"}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 1},
                "encoding": {
                    "y": amount | {"field": "middle"},
                    "size": {
                        "field": "tracks",
                        "type": "quantitative",
                        "scale": {"domain": [0, max(row["tracks"] for row in rows)], "range": [24, 160]},
                        "legend": None,
                    },
                },
            },
        ],
    }
    dearest = max(bins, key=lambda row: row["middle_usd"])
    said = (
        f"{counted(len(models), 'model')}, tracks up to {max(row['to_s'] for row in bins):g} s; dearest in the middle: "
        f"{_label(dearest['model'])}, {dearest['from_s']:g} to {dearest['to_s']:g} s, {usd(dearest['middle_usd'])}"
    )
    keys = tuple(Key(f"c{index}", _label(model)) for index, model in enumerate(models, start=1))
    remark = "The scale is logarithmic." if logarithmic else ""
    return Chart(_drawn("cost-against-length", spec, "Cost of a track against its length", said), keys, remark)


def _columns(stacks: Iterable[tuple[datetime, Sequence[tuple[str, float]]]], unit: str) -> Spec:
    """Columns over time, each a stack of colours."""
    rows: list[dict[str, Any]] = []
    for period, parts in stacks:
        for (colour, _), (start, end) in zip(parts, pairwise(_cumulated([p for _, p in parts])), strict=True):
            rows.append(
                {
                    "begins": _milliseconds(period),
                    "ends": _milliseconds(_after(period, unit)),
                    "from": start,
                    "to": end,
                    "colour": f"var(--{colour})",
                }
            )
    first, last = min(row["begins"] for row in rows), max(row["ends"] for row in rows)
    every = max(1, math.ceil((last - first) / _LENGTHS_MS[unit] / MAX_DATES))
    half = _LENGTHS_MS[unit] // 2
    return _frame(HEIGHT, beside=10) | {
        "data": {"values": rows},
        "mark": {"type": "bar", "stroke": "var(--card)", "strokeWidth": 0.75},
        "encoding": {
            "x": {
                "field": "begins",
                "type": "temporal",
                "scale": {"type": "utc", "domain": [first, last]},
                # A column is named below its middle by the moment at which its period begins.
                "axis": {
                    "values": list(range(first + half, last, every * _LENGTHS_MS[unit])),
                    "labelExpr": f"utcFormat(datum.value - {0 if unit == 'month' else half}, '{_DATES[unit]}')",
                    "title": None,
                    "grid": False,
                    "ticks": False,
                    "labelPadding": 6,
                },
            },
            "x2": {"field": "ends"},
            "y": {"field": "from", "type": "quantitative", "axis": _AMOUNT_AXIS},
            "y2": {"field": "to"},
            "color": _colour(),
        },
    }


def _bars(rows: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]]) -> Spec:
    """Bars from left to right in the order of `ends`, each with its amount behind it."""
    highest = max(row["to"] for row in ends)
    lowest = min(0.0, *(row["from"] for row in ends))
    labels, behind = (CHARACTER_PIXELS * max(len(row[name]) for row in ends) + 6 for name in ("label", "said"))
    labels = min(LABEL_PIXELS, labels)
    axis = {
        "title": None,
        "labelLimit": LABEL_PIXELS - 16,
        "minExtent": labels,
        "ticks": False,
        "domain": False,
        "labelPadding": 6,
    }
    label = {"field": "label", "type": "nominal", "sort": None, "axis": axis}
    # Room behind the longest bar for its amount.
    room = (WIDTH - labels) / (WIDTH - labels - behind)
    scale = {"domain": [lowest, lowest + (highest - lowest) * room or 1.0], "nice": False}
    return _frame(ROW_HEIGHT * len(ends)) | {
        "encoding": {"y": label},
        "layer": [
            {
                "data": {"values": list(rows)},
                "mark": {"type": "bar", "height": ROW_HEIGHT - 10},
                "encoding": {
                    "x": {"field": "from", "type": "quantitative", "scale": scale, "axis": None},
                    "x2": {"field": "to"},
                    "color": _colour(),
                },
            },
            {
                "data": {"values": list(ends)},
                "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 12, "color": "var(--ink)"},
                "encoding": {"x": {"field": "to", "type": "quantitative"}, "text": {"field": "said"}},
            },
        ],
    }


def _frame(height: int, beside: int = 1) -> Spec:
    """A chart of `WIDTH` whose plot has this height.

    `beside` is room for labels at the ends of the axes: the reader's font may be wider than the one measured here.
    """
    padding = {"left": 2 * beside, "right": beside, "top": 4, "bottom": 1}
    return {"width": WIDTH, "height": height, "autosize": {"type": "fit-x", "contains": "padding"}, "padding": padding}


def _colour() -> dict[str, Any]:
    """Each row says its own colour, a CSS variable."""
    return {"field": "colour", "type": "nominal", "scale": None, "legend": None}


def _drawn(key: str, spec: Spec, title: str, said: str, stretched: bool = False) -> Markup:
    """The SVG of a specification, as one image with a title and a description that a screen reader says."""
    drawn = vl_convert.vegalite_to_svg(spec | {"config": _CONFIG}, vl_version=VEGA_LITE, allowed_base_urls=[])
    ElementTree.register_namespace("", _NAMESPACE)
    # The library wrote it: no document type, no entities.
    root = ElementTree.fromstring(drawn)  # noqa: S314
    for element in root.iter():
        if element.tag not in _ELEMENTS:
            raise RuntimeError(f"a chart has an element {element.tag}, which the page does not take")
        # All of them are parts of one image: only the title and the description are said.
        for name in [name for name in element.attrib if name.startswith("aria-") or name in ("role", "style", "class")]:
            del element.attrib[name]
    for name in ("width", "height"):
        del root.attrib[name]
    root.attrib |= {"role": "img", "aria-labelledby": f"{key}-title {key}-said", "focusable": "false"}
    if stretched:
        root.set("preserveAspectRatio", "none")
    for position, (name, text) in enumerate((("title", title), ("desc", said))):
        element = ElementTree.Element(f"{{{_NAMESPACE}}}{name}", {"id": f"{key}-{'said' if position else 'title'}"})
        element.text = text
        root.insert(position, element)
    # ElementTree has escaped all text and attributes.
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704


def _label(text: str) -> str:
    return printable(text, LABEL_CHARACTERS)


def _cumulated(parts: Sequence[float]) -> list[float]:
    edges = [0.0]
    for part in parts:
        edges.append(edges[-1] + part)
    return edges


def _milliseconds(moment_utc: datetime) -> int:
    return round(moment_utc.replace(tzinfo=UTC).timestamp() * 1000)


def _after(period: datetime, unit: str) -> datetime:
    """When the period that begins then ends."""
    if unit == "month":
        return period.replace(year=period.year + period.month // 12, month=period.month % 12 + 1)
    return period + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}[unit]
