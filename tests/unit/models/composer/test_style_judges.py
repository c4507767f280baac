"""The benchmark that asks taggers about styles: what it listens for, and what it calls worse."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.styles import TAGS, Clips, compare, judged, look_again, suspects, worse
from orchestrion.tracks.vocabulary import STYLES


def test_judges_are_told_what_to_listen_for_in_every_style() -> None:
    tags = json.loads(TAGS.read_text(encoding="utf-8"))
    assert list(tags) == list(STYLES)
    assert all(any(meant for meant in judges.values()) for judges in tags.values())


def test_a_style_seems_worse_only_beyond_chance_and_is_placed_among_all() -> None:
    before = {"metal": [{"metal": 0.5, "soft": 0.0}], "folk": [{"metal": 0.1, "soft": 0.6}]}
    today = {"metal": [{"metal": 0.2, "soft": 0.0}], "folk": [{"metal": 0.3, "soft": 0.595}]}

    rows = compare({"metal": ["metal"], "folk": ["soft"]}, before, today)

    assert suspects(rows) == ["metal"]
    assert (rows["metal"]["place_before"], rows["metal"]["place_today"]) == (1, 2)


@pytest.mark.parametrize(
    ("today", "is_worse"),
    [
        pytest.param([0.30, 0.32, 0.31, 0.29], True, id="every take lost"),
        pytest.param([0.10, 0.70, 0.20, 0.50], False, id="takes differ by more than was lost"),
        pytest.param([0.395, 0.405, 0.395, 0.405], False, id="next to nothing lost"),
    ],
)
def test_a_loss_counts_where_more_takes_have_it_beyond_their_error(today: list[float], is_worse: bool) -> None:
    before = [0.40, 0.41, 0.40, 0.41]

    found = look_again(["metal"], [{"metal": p} for p in before], [{"metal": p} for p in today])

    assert found["is_worse"] is is_worse


class LoudnessJudge:
    """Hears "metal" in what is loud."""

    def hear(self, mono: np.ndarray) -> dict[str, float]:
        return {"metal": float(np.abs(mono).mean())}


def test_a_style_that_seems_worse_is_listened_to_again_in_takes_of_its_own() -> None:
    first_takes = {"metal": (0.8, 0.5), "folk": (0.6, 0.6), "march": (0.5, 0.3)}
    more_takes = {"metal": (0.8, 0.8), "march": (0.5, 0.3)}
    asked_for: list[tuple[range, list[str]]] = []

    def play(takes: range, styles: list[str]) -> tuple[Clips, Clips]:
        asked_for.append((takes, list(styles)))
        loud = first_takes if takes.start == 0 else more_takes
        played = {style: ["ambient" if style == "march" else style] * len(takes) for style in styles}
        return tuple(
            Clips({style: [np.full(9, loud[style][side], np.float32)] * len(takes) for style in styles}, played)
            for side in (0, 1)
        )

    expected = {style: {"MSD": ["metal"]} for style in first_takes}
    rows = judged({"MusiCNN MSD": LoudnessJudge()}, expected, play, range(2), range(2, 6))["MusiCNN MSD"]

    assert asked_for == [(range(2), ["metal", "folk", "march"]), (range(2, 6), ["metal", "march"])]
    assert worse(rows) == ["march"]
    assert rows["metal"]["again"]["today"] == 0.8
    assert rows["march"]["played_before"] == ["ambient", "ambient"]
    assert "again" not in rows["folk"]
