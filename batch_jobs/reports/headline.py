"""The figures that everybody asks for first, in the words that the page, the terminal and the files share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from batch_jobs.formatting import column_of_usd, counted, printable, usd
from batch_jobs.reports.costs import NOT_GIVEN, CostReport

_AMOUNTS: Final = (
    "bill_usd",
    "carried_usd",
    "unallocated_usd",
    "difference_usd",
    "render_usd",
    "waste_usd",
    "idle_usd",
)
_COUNTS: Final = ("jobs", "machines", "tracks", "rendered", "cache_hits", "failures", "withdrawn_tracks", "kept_tracks")
#: One row: the headline as a file.
SUMMARY_SCHEMA: Final = pa.schema(
    [
        *((name, pa.float64()) for name in _AMOUNTS),
        *((name, pa.float64()) for name in ("bill_per_audio_minute_usd", "billed_minutes", "bill_per_kept_track_usd")),
        *((name, pa.int64()) for name in _COUNTS),
        *((name, pa.float64()) for name in ("node_hours", "audio_minutes", "rendered_minutes", "saved_usd")),
        ("dearest_style", pa.string()),
        ("dearest_style_carried_usd", pa.float64()),
        ("dearest_style_carried_per_audio_minute_usd", pa.float64()),
        *((name, pa.float64()) for name in ("spot_net_saving_usd", "withdrawn_usd", "unshared_usd")),
        ("unshared_tracks", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the headline: what it is called, what it is, and what it is made of."""

    word: str
    shown: str
    note: str


@dataclass(frozen=True, slots=True)
class Headline:
    """All of them, in the order in which they are shown."""

    bill: Figure
    carried: Figure
    unallocated: Figure
    per_audio_minute: Figure
    per_kept_track: Figure
    dearest_style: Figure

    def figures(self) -> tuple[Figure, ...]:
        """From the whole to its parts."""
        return (
            self.bill,
            self.carried,
            self.unallocated,
            self.per_audio_minute,
            self.per_kept_track,
            self.dearest_style,
        )


def headline(report: CostReport) -> Headline:
    """The headline of a report."""
    totals = report.totals
    if not totals["machines"]:
        return Headline(
            bill=_not_settled("total bill"),
            carried=_not_settled("carried"),
            unallocated=_not_settled("unallocated"),
            per_audio_minute=_not_settled("per audio minute"),
            per_kept_track=_not_settled("per kept track"),
            dearest_style=_dearest_style(report),
        )
    bill, carried, unallocated = column_of_usd([totals[n] for n in ("bill_usd", "billed_usd", "unallocated_usd")])
    kept = f"bill ÷ {counted(totals['kept_tracks'], 'rendered track')}"
    if totals["withdrawn_tracks"]:
        kept += f" that stand; {totals['withdrawn_tracks']:,} withdrawn"
    return Headline(
        bill=Figure("total bill", bill, f"{counted(totals['machines'], 'machine')} for {hours(totals['node_hours'])}"),
        carried=Figure("carried", carried, f"by {counted(totals['billed_tracks'], 'rendered track')}"),
        unallocated=Figure("unallocated", unallocated, "carried by no track"),
        per_audio_minute=Figure(
            "per audio minute",
            usd(totals["bill_per_audio_minute_usd"]),
            f"bill ÷ {totals['billed_minutes']:,.1f} min rendered",
        ),
        per_kept_track=Figure("per kept track", usd(totals["bill_per_kept_track_usd"]), kept),
        dearest_style=_dearest_style(report),
    )


def summary_row(report: CostReport) -> dict[str, Any]:
    """The headline with all digits, of `SUMMARY_SCHEMA`."""
    totals = report.totals
    style = dearest_style(report) or {}
    return {name: totals.get(name) for name in SUMMARY_SCHEMA.names} | {
        "carried_usd": totals["billed_usd"],
        "jobs": report.jobs,
        "dearest_style": style.get("value"),
        "dearest_style_carried_usd": style.get("carried_usd"),
        "dearest_style_carried_per_audio_minute_usd": style.get("carried_per_audio_minute_usd"),
        "spot_net_saving_usd": report.spot["net_saving_usd"] if report.spot else None,
    }


def dearest_style(report: CostReport) -> Mapping[str, Any] | None:
    """The style that carries most; None if no track of a known style was paid for."""
    return next(
        (row for row in report.by("style") if row["carried_usd"] > 0 and row["value"] != NOT_GIVEN),
        None,
    )


def hours(count: float) -> str:
    """Hours of machines: "51.2 hours", "0.034 hours"."""
    return f"{count:,.1f} hours" if count >= 10 else f"{count:.3g} hours"


def _not_settled(word: str) -> Figure:
    return Figure(word, "–", "no job has been settled")


def _dearest_style(report: CostReport) -> Figure:
    style = dearest_style(report)
    if style is None:
        return Figure("dearest style in total", "–", "no track of a known style was rendered")
    of_all = style["carried_usd"] / report.totals["carried_usd"]
    note = (
        f"carried {usd(style['carried_usd'])}, {of_all:.0%} of all; "
        f"{usd(style['carried_per_audio_minute_usd'])} per audio minute"
    )
    known = [row for row in report.by("style") if row["carried_per_audio_minute_usd"] and row["value"] != NOT_GIVEN]
    by_minute = max(known, key=lambda row: row["carried_per_audio_minute_usd"])
    if by_minute is not style:
        dearest_minute = usd(by_minute["carried_per_audio_minute_usd"])
        note += f" (dearest minute: {printable(by_minute['value'], 40)}, {dearest_minute})"
    return Figure("dearest style in total", printable(style["value"], 40), note)
