"""The same money over time, and against the length of tracks: aggregated in DuckDB, so its size is that of a plot.

The queries are over the tables `chosen_…` that `costs.py` makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import duckdb

from batch_jobs.ledger.tables import TRACK
from batch_jobs.reports.query import fetch

#: The longest span that is shown by each unit: at most about a hundred bars.
UNITS: Final = (("hour", timedelta(days=2)), ("day", timedelta(days=92)), ("week", timedelta(days=730)))
COARSEST: Final = "month"
#: Widths of a bin of lengths, in seconds; the first that needs no more bins than this.
WIDTHS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600)
MAX_BINS: Final = 20
#: Models that have bins of their own; the others share theirs.
MAX_MODELS: Final = 3

_SPAN: Final = """
    WITH moments AS (
        SELECT min(up_from) AS first, max(up_to) AS last FROM chosen_nodes UNION ALL
        SELECT min(ended_at), max(ended_at) FROM chosen_attempts UNION ALL
        SELECT min(settled_at), max(settled_at) FROM chosen_tracks)
    SELECT min(first) AT TIME ZONE 'UTC' AS first, max(last) AT TIME ZONE 'UTC' AS last FROM moments
"""
# Each machine's bill is spread evenly over the time that it was up in the run.
_BILL: Final = """
    WITH machine AS (SELECT up_from AT TIME ZONE 'UTC' AS up_from, up_to AT TIME ZONE 'UTC' AS up_to,
                            cost_usd, unallocated_usd FROM chosen_nodes),
         part AS (SELECT *, unnest(generate_series(date_trunc($unit, up_from), up_to, CAST($step AS INTERVAL)))
                            AS period FROM machine),
         share AS (SELECT period, cost_usd, unallocated_usd,
                          CASE WHEN up_to > up_from
                               THEN epoch(least(up_to, period + CAST($step AS INTERVAL)) - greatest(up_from, period))
                                    / epoch(up_to - up_from)
                               ELSE 1 END AS share FROM part)
    SELECT period, fsum(share * cost_usd) AS bill_usd, fsum(share * (cost_usd - unallocated_usd)) AS carried_usd,
           fsum(share * unallocated_usd) AS unallocated_usd
    FROM share WHERE share > 0 GROUP BY period ORDER BY period
"""
_WASTE: Final = f"""
    SELECT date_trunc($unit, ended_at AT TIME ZONE 'UTC') AS period, ended, reason, count(*) AS tries,
           fsum(cost_usd) AS cost_usd
    FROM chosen_attempts WHERE ended <> '{TRACK}' GROUP BY ALL ORDER BY period, ended, reason
"""  # noqa: S608
_LENGTHS: Final = """
    WITH rendered AS (SELECT * FROM chosen_tracks WHERE NOT cache_hit),
         dear AS (SELECT model FROM rendered GROUP BY model ORDER BY fsum(carried_usd) DESC, model LIMIT $models),
         binned AS (SELECT CASE WHEN model IN (FROM dear) THEN model ELSE 'other models' END AS model,
                           floor(duration_s / $width) * $width AS from_s, duration_s, carried_usd FROM rendered)
    SELECT model, from_s, from_s + $width AS to_s, count(*) AS tracks, fsum(duration_s) / 60 AS minutes,
           fsum(carried_usd) AS carried_usd, quantile_cont(carried_usd, 0.1) AS low_usd,
           quantile_cont(carried_usd, 0.5) AS middle_usd, quantile_cont(carried_usd, 0.9) AS high_usd
    FROM binned GROUP BY ALL ORDER BY model, from_s
"""


@dataclass(frozen=True, slots=True)
class Trends:
    """Money over time and against length. Moments are UTC, without a time zone."""

    #: The first and the last moment of the ledger; None if it has none.
    first: datetime | None
    last: datetime | None
    #: What a period is: hour, day, week or month.
    unit: str
    #: period, bill_usd, carried_usd, unallocated_usd.
    bill: list[dict[str, Any]]
    #: period, ended, reason, tries, cost_usd: attempts that gave no track, by the period in which they ended.
    waste: list[dict[str, Any]]
    #: Rendered tracks by model and length: model, from_s, to_s, tracks, minutes, carried_usd, and of the cost of a
    #: track the middle and the tenths from below and above (low_usd, middle_usd, high_usd).
    lengths: list[dict[str, Any]]


def read_trends(connection: duckdb.DuckDBPyConnection) -> Trends:
    """Ask a connection that has the tables `chosen_…`."""
    span = fetch(connection, _SPAN)[0]
    unit = unit_for(span["last"] - span["first"]) if span["first"] else "day"
    longest = fetch(connection, "SELECT max(duration_s) AS s FROM chosen_tracks WHERE NOT cache_hit")[0]["s"] or 0.0
    return Trends(
        first=span["first"],
        last=span["last"],
        unit=unit,
        bill=fetch(connection, _BILL, unit=unit, step=f"1 {unit}"),
        waste=fetch(connection, _WASTE, unit=unit),
        lengths=fetch(connection, _LENGTHS, width=width_for(longest), models=MAX_MODELS),
    )


def unit_for(span: timedelta) -> str:
    """The finest unit that shows a span in about a hundred bars."""
    return next((unit for unit, longest in UNITS if span <= longest), COARSEST)


def width_for(longest_s: float) -> int:
    """The width of a bin of lengths, in seconds."""
    return next((width for width in WIDTHS_S if longest_s < width * MAX_BINS), WIDTHS_S[-1])


def moment(at: datetime, unit: str) -> str:
    """A moment as precisely as the unit needs it: "2 Jan 2026 14:00", "2 Jan 2026", "Jan 2026"."""
    if unit == "month":
        return f"{at:%b %Y}"
    day = f"{at.day} {at:%b %Y}"
    return f"{day} {at:%H:%M}" if unit == "hour" else day
