"""The benchmark that asks taggers about styles: what it listens for, and what it calls worse."""

from __future__ import annotations

import json

from benchmarks.styles import TAGS, compare, worse
from orchestrion.tracks.vocabulary import STYLES


def test_judges_are_told_what_to_listen_for_in_every_style() -> None:
    tags = json.loads(TAGS.read_text(encoding="utf-8"))
    assert list(tags) == list(STYLES)
    assert all(any(meant for meant in judges.values()) for judges in tags.values())


def test_a_style_is_heard_worse_only_beyond_chance_and_placed_among_all() -> None:
    before = {"metal": {"metal": 0.5, "soft": 0.0}, "folk": {"metal": 0.1, "soft": 0.6}}
    today = {"metal": {"metal": 0.2, "soft": 0.0}, "folk": {"metal": 0.3, "soft": 0.595}}

    rows = compare({"metal": ["metal"], "folk": ["soft"]}, before, today)

    assert worse(rows) == ["metal"]
    assert (rows["metal"]["place_before"], rows["metal"]["place_today"]) == (1, 2)
