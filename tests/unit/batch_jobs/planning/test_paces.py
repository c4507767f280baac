"""How long tracks take, from constructed ledgers: means, kinds before models, shipped figures where there are none."""

import math
import random
from datetime import timedelta

import pytest

from batch_jobs.ledger.manifests import read_snapshot
from batch_jobs.ledger.tables import TRACKS_SCHEMA
from batch_jobs.planning.paces import (
    ENOUGH_OF_A_KIND,
    FILES_READ,
    Kind,
    Work,
    measured,
    paces_of,
    shipped_paces,
)
from batch_jobs.planning.speed_table import SpeedTable
from tests.unit.batch_jobs.sample_ledger import START, any_row, write


def rows_of(count, seconds, first_line=1, **values):
    """Rendered tracks; `seconds` says from its length how long one held a device."""
    dice = random.Random(first_line)
    known = {
        "job_id": "job-1", "run_id": "run-1", "model": "composer", "style": "jazz", "format": "flac",
        "node_type": "g5.xlarge", "cache_hit": False, "settled_at": START, "model_revision": "r1",
        "recipe_version": "1", "schema_version": 4,
    }  # fmt: skip
    rows = []
    for line in range(first_line, first_line + count):
        duration_s = values.get("duration_s", dice.uniform(16.0, 29.0))
        row = any_row(TRACKS_SCHEMA, **known | {"line": line, "track_id": f"trk_{line}", "duration_s": duration_s})
        rows.append(row | values | {"device_seconds": seconds(duration_s)})
    return rows


def of(rows):
    return paces_of(rows, "composer", "a test")


def asked(tracks, audio_s, style="jazz", format_="flac", duration_s=20.0):
    return Work(Kind.of("composer", style, format_, duration_s), tracks, audio_s)


def from_ledger(path, model="composer", node_type="g5.xlarge"):
    return measured(str(path), {}, read_snapshot(str(path), {}), model, node_type)


def test_the_mean_counts_and_not_the_median():
    """Nine of ten tracks take 1 s, the tenth 91 s: what is paid for a hundred is a thousand seconds."""
    rows = rows_of(90, lambda _: 1.0, duration_s=20.0) + rows_of(10, lambda _: 91.0, 100, duration_s=20.0)

    said = of(rows).device_seconds([asked(100, 2000.0)])

    assert said.middle == pytest.approx(1000.0) and said.low < 1000.0 < said.high


def test_what_each_track_takes_is_told_from_what_each_second_takes():
    rows = [row for length in (2.0, 20.0, 200.0) for row in rows_of(15, lambda s: 0.5 + 0.02 * s, duration_s=length)]
    # Of another style in another length: only the line over all lengths can say.
    pace = of(rows).pace(Kind.of("composer", "folk", "wav", 400.0))[1]

    assert (pace.track_s, pace.per_audio_s) == (pytest.approx(0.5), pytest.approx(0.02))
    assert pace.device_seconds(10, 4000.0) == pytest.approx(10 * 0.5 + 80.0) and pace.variance == pytest.approx(0.0)


@pytest.mark.parametrize("seconds", [lambda s: 0.1 * s - 0.5, lambda s: 50.0 - 0.1 * s], ids=["below 0", "falling"])
def test_no_part_of_a_time_is_less_than_nothing_and_the_sum_stays_what_it_was(seconds):
    lengths = (10.0, 40.0, 150.0)
    rows = [row for length in lengths for row in rows_of(20, seconds, duration_s=length)]

    pace = of(rows).pace(Kind.of("composer", None, "wav", 600.0))[1]

    assert min(pace.track_s, pace.per_audio_s) == 0.0
    audio_s, took = (sum(row[name] for row in rows) for name in ("duration_s", "device_seconds"))
    assert pace.device_seconds(len(rows), audio_s) == pytest.approx(took)


def test_the_nearest_kind_with_enough_tracks_is_taken():
    rows = (
        rows_of(ENOUGH_OF_A_KIND, lambda s: 0.1 * s, 1)
        + rows_of(ENOUGH_OF_A_KIND, lambda s: 0.3 * s, 100, style="folk")
        + rows_of(ENOUGH_OF_A_KIND - 1, lambda s: 0.9 * s, 200, style="waltz")
        + rows_of(ENOUGH_OF_A_KIND, lambda s: 0.2 * s, 300, style="jazz", duration_s=100.0)
        + rows_of(ENOUGH_OF_A_KIND, lambda s: 0.6 * s, 400, format="mp3")
    )
    paces = of(rows)

    levels = {
        name: paces.pace(Kind.of("composer", *kind))[0]
        for name, kind in {
            "style": ("jazz", "flac", 20.0),
            "few": ("waltz", "flac", 20.0),
            "length": ("folk", "flac", 3.0),
            "format": ("folk", "opus", 20.0),
        }.items()
    }
    assert levels == {"style": 0, "few": 1, "length": 2, "format": 3}
    together = [row for row in rows if row["format"] == "flac" and row["duration_s"] < 30.0]
    for style, same in (
        ("celtic", together),
        *((s, [r for r in together if r["style"] == s]) for s in ("jazz", "folk")),
    ):
        said = paces.device_seconds([asked(len(same), sum(row["duration_s"] for row in same), style=style)])
        assert said.middle == pytest.approx(sum(row["device_seconds"] for row in same)), style


def test_tracks_of_another_length_of_their_class_take_what_each_track_takes_and_no_share_of_that():
    """Known are 3, 20 and 200 s, asked is 4 s, which is in the class of 3 s."""
    rows = [row for length in (3.0, 20.0, 200.0) for row in rows_of(15, lambda s: 0.5 + 0.02 * s, duration_s=length)]

    assert of(rows).device_seconds([asked(100, 400.0, duration_s=4.0)]).middle == pytest.approx(58.0)


@pytest.mark.parametrize("count, least", [(1, 3.0), (3, 4.0), (9, 5.0)])
def test_a_style_of_few_tracks_is_believed_as_far_as_there_are_some(count, least):
    """A track of 20 s takes 2 s, one of trance three times as long; by style and length there are too few of each."""
    styles = ("blues", "celtic", "folk", "house", "latin", "pop", "soul", "waltz")
    rows = [row for n, style in enumerate(styles) for row in rows_of(9, lambda s: 0.1 * s, 100 * n, style=style)]
    rows += rows_of(count, lambda s: 0.3 * s, 1000, style="trance")

    took = {
        style: of(rows).device_seconds([asked(1, 20.0, style=style)]).middle for style in ("trance", "folk", "nobody's")
    }

    assert least < took["trance"] < 6.0
    assert 2.0 < took["folk"] < took["nobody's"] < took["trance"] and took["folk"] < 2.2


def test_a_style_of_two_tracks_is_believed_where_styles_differ_and_their_tracks_do_not():
    styles = ("blues", "celtic", "folk", "house", "latin", "pop", "soul", "waltz")

    def slowest(spread_within):
        """A style's tracks take from 2 to 9 s, and one of each pair is so many times as long as the other."""
        rows = []
        for n, style in enumerate(styles):
            for line, times in enumerate((spread_within, 1.0)):
                took_s = (2.0 + n) * times
                rows += rows_of(1, lambda _, took_s=took_s: took_s, 10 * n + line, style=style, duration_s=20.0)
        rows += rows_of(8, lambda _: 5.5, 1000, style="rock", duration_s=20.0)
        return of(rows).device_seconds([asked(1, 20.0, style="waltz")]).middle / (9.0 * (1 + spread_within) / 2)

    assert slowest(1.05) > 0.9 > 0.75 > slowest(4.0)


def test_the_range_is_wider_where_runs_differ_and_where_tracks_do():
    calm = of(rows_of(40, lambda s: 0.1 * s) + rows_of(40, lambda s: 0.1 * s, 100, run_id="run-2"))
    runs = of(rows_of(40, lambda s: 0.05 * s) + rows_of(40, lambda s: 0.15 * s, 100, run_id="run-2"))
    dice = random.Random(3)
    tracks = of(rows_of(80, lambda s: 0.2 * s * dice.random()))

    width = {
        name: math.log(span.high / span.low)
        for name, span in ((n, p.device_seconds([asked(3, 60.0)])) for n, p in vars_of(calm, runs, tracks))
    }
    assert width["calm"] < width["tracks"] and width["calm"] < width["runs"]
    many = tracks.device_seconds([asked(3000, 60_000.0)])
    assert math.log(many.high / many.low) < width["tracks"], "chance is less in a large sum"


def vars_of(calm, runs, tracks):
    return [("calm", calm), ("runs", runs), ("tracks", tracks)]


def test_tracks_that_were_there_already_and_other_machines_do_not_count(tmp_path):
    rows = rows_of(200, lambda s: 0.2 * s)
    hits = rows_of(50, lambda s: 9.0 * s, 1000, cache_hit=True)
    others = rows_of(50, lambda s: 9.0 * s, 2000, node_type="local-cpu")
    write(tmp_path / "ledger", {"tracks": rows + hits + others + rows_of(50, lambda s: s, 3000, model="lab/large")})

    found = from_ledger(tmp_path / "ledger")

    assert (found.tracks, found.versions) == (200, ("r1", "1"))
    assert found.paces.device_seconds([asked(10, 200.0)]).middle == pytest.approx(40.0)
    assert found.paces.describe([asked(10, 200.0)]) == (
        "200 tracks of this ledger on g5.xlarge; of the tracks to render, 10 by format, style and length"
    )


def test_too_few_tracks_say_nothing_but_of_which_revision_the_model_is(tmp_path):
    old = rows_of(10, lambda s: s)
    new = rows_of(9, lambda s: s, 100, model_revision="r2", settled_at=START + timedelta(days=1))
    write(tmp_path / "ledger", {"tracks": new + old})

    found = from_ledger(tmp_path / "ledger")

    assert (found.tracks, found.paces, found.versions) == (19, None, ("r2", "1"))
    assert from_ledger(tmp_path / "ledger", model="lab/large").versions is None


def test_only_so_many_of_the_newest_files_are_read(tmp_path):
    rows = rows_of(100, lambda s: 50.0 * s)
    for number in range(1, FILES_READ + 1):
        rows += rows_of(3, lambda s: 0.2 * s, 1000 * number, settled_at=START + timedelta(days=number))
    write(tmp_path / "ledger", {"tracks": rows})

    assert from_ledger(tmp_path / "ledger").paces.device_seconds([asked(1, 1.0)]).middle == pytest.approx(0.2)


def test_the_shipped_figures_are_by_format_and_of_an_unknown_format_the_dearest():
    paces = shipped_paces(SpeedTable.load().models["composer"]["local-cpu"])

    flac, mp3 = (paces.device_seconds([asked(10, 600.0, format_=name)]) for name in ("flac", "mp3"))
    assert 0.0 < flac.low < flac.middle < flac.high and flac.middle < mp3.middle
    assert "2026" in paces.source
    assert paces.device_seconds([]).middle == 0.0
