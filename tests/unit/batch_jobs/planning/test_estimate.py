"""What is said before anything is rendered: figures that follow from measured ones, and none where nothing is known."""

import random
import statistics
from dataclasses import replace
from datetime import timedelta

import pytest

from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.snapshot import Change, JobEntry, Totals
from batch_jobs.planning.estimate import (
    FILES_READ,
    Overhead,
    Span,
    Speed,
    SpeedTable,
    Work,
    estimate,
    known_overhead,
    known_speeds,
    ledger_speeds,
)
from orchestrion.accounting.cost import Node, PriceTable, describe_node
from orchestrion.errors import InvalidRequest
from orchestrion.storage.object_store import Objects
from tests.unit.batch_jobs.sample_ledger import START, StillClock, node, track, write

NODE = Node("n", "g5.xlarge", "gpu", "spot", 0.36, "a test")
NO_OVERHEAD = Overhead(1.0, "a test")
SPEED = Speed(Span(0.1, 0.2, 0.4), "a test")


def rows_of(count, pace, first_line=1, **values):
    """Rendered tracks that held a device `pace()` seconds for each second of audio."""
    dice = random.Random(first_line)
    machine = node("job-1", "n1", "g5.xlarge", "spot", 0.45, 1.006)
    rows = []
    for line in range(first_line, first_line + count):
        row = track(dice, "job-1", line, machine, []) | {"model": "composer", "settled_at": START} | values
        rows.append(row | {"device_seconds": row["duration_s"] * pace()})
    return rows


def test_time_and_money_follow_from_seconds_of_audio_speed_waste_workers_and_price():
    work = [Work("composer", 1000, 36_000.0), Work("lab/large", 10, 600.0)]
    speeds = {"composer": SPEED, "lab/large": Speed(Span(1.0, 2.0, 3.0), "a test")}

    said = estimate(work, speeds, Overhead(1.25, "a test"), NODE, workers=4)

    assert said.models[0].device_seconds == Span(4500.0, 9000.0, 18_000.0)
    assert said.models[0].usd.middle == pytest.approx(9000.0 * 0.36 / 3600)
    assert said.device_seconds == Span(4500.0 + 750.0, 9000.0 + 1500.0, 18_000.0 + 2250.0)
    assert said.wall_s.middle == pytest.approx(10_500.0 / 4)
    assert said.usd.middle == pytest.approx(10_500.0 * 0.36 / 3600) and said.usd.low < said.usd.middle < said.usd.high


def test_workers_without_a_track_do_not_make_it_faster():
    said = estimate([Work("composer", 2, 100.0)], {"composer": SPEED}, NO_OVERHEAD, NODE, workers=50)

    assert said.wall_s == Span(5.0, 10.0, 20.0)


def test_one_model_whose_speed_nobody_knows_leaves_no_total_and_says_what_to_do():
    work = [Work("composer", 10, 100.0), Work("lab/large", 10, 100.0)]

    said = estimate(work, {"composer": SPEED}, NO_OVERHEAD, NODE, workers=1)

    assert said.models[0].usd is not None and said.models[1].usd is None
    assert said.usd is said.wall_s is said.device_seconds is None
    text = said.describe()
    assert "lab/large: 10 tracks, 1.7 min of audio; it was never measured on g5.xlarge" in text and "--limit" in text
    assert "in all: not known" in text


def test_a_person_reads_the_range_the_price_and_where_each_figure_comes_from():
    text = estimate([Work("composer", 1000, 36_000.0)], {"composer": SPEED}, NO_OVERHEAD, NODE, workers=2).describe()

    assert "composer: 1,000 tracks, 10.0 h of audio: 2.0 h (60.0 min to 4.0 h) of devices" in text
    assert "0.2 (0.1 to 0.4) device-seconds a second of audio: a test" in text
    assert "in all: $0.7200 ($0.3600 to $1.44), 60.0 min (30.0 min to 2.0 h) on 2 workers" in text
    assert "$0.3600 an hour for a gpu of g5.xlarge, spot: a test" in text
    assert "waste and idle time: × 1.00, a test" in text


def test_nothing_to_do_takes_nothing():
    said = estimate([], {}, NO_OVERHEAD, NODE, workers=2)

    assert said.usd == said.wall_s == Span(0.0, 0.0, 0.0) and "$0.00" in said.describe()


def test_the_ledger_says_how_fast_a_model_was_on_a_node_type(tmp_path):
    dice = random.Random(5)
    rows = rows_of(200, lambda: dice.uniform(0.1, 0.3))
    hits = rows_of(50, lambda: 9.0, 1000, cache_hit=True)
    others = rows_of(50, lambda: 9.0, 2000, model="lab/large") + rows_of(50, lambda: 9.0, 3000, node_type="local-cpu")
    write(tmp_path / "ledger", {"tracks": rows + hits + others})
    paces = [row["device_seconds"] / row["duration_s"] for row in rows]

    speed = ledger_speeds(str(tmp_path / "ledger"), {}, ["composer"], "g5.xlarge")["composer"]

    assert speed.device_seconds.middle == pytest.approx(statistics.median(paces), rel=1e-9)
    deciles = statistics.quantiles(paces, n=10, method="inclusive")
    assert (speed.device_seconds.low, speed.device_seconds.high) == pytest.approx((deciles[0], deciles[-1]), rel=1e-9)
    assert speed.source == "200 tracks of this ledger on g5.xlarge"


def test_a_few_tracks_are_not_enough_and_the_shipped_figure_stands(tmp_path):
    write(tmp_path / "ledger", {"tracks": rows_of(19, lambda: 9.0, node_type="local-cpu")})

    speeds = known_speeds(str(tmp_path / "ledger"), {}, ["composer", "lab/large"], "local-cpu")

    assert set(speeds) == {"composer"} and speeds["composer"].device_seconds.middle < 1.0
    assert "2026" in speeds["composer"].source


def test_the_ledgers_own_figure_goes_before_the_shipped_one(tmp_path):
    write(tmp_path / "ledger", {"tracks": rows_of(20, lambda: 9.0, node_type="local-cpu")})

    speeds = known_speeds(str(tmp_path / "ledger"), {}, ["composer"], "local-cpu")

    assert speeds["composer"].device_seconds.middle == pytest.approx(9.0)


def test_only_so_many_of_the_newest_files_are_read(tmp_path):
    rows = rows_of(100, lambda: 50.0)
    for number in range(1, FILES_READ + 1):
        rows += rows_of(3, lambda: 0.2, 1000 * number, settled_at=START + timedelta(days=number))
    write(tmp_path / "ledger", {"tracks": rows})

    speed = ledger_speeds(str(tmp_path / "ledger"), {}, ["composer"], "g5.xlarge")["composer"]

    assert speed.device_seconds.high == pytest.approx(0.2)


def test_waste_and_idle_time_are_as_in_the_jobs_before(tmp_path):
    ledger = Ledger(Objects(str(tmp_path / "ledger")), StillClock())
    job = JobEntry("c", "s", "store", "complete", 1, Totals(charged_usd=8.0, waste_usd=1.0, idle_usd=1.0), ())
    nothing = replace(job, totals=Totals(cache_hits=5))
    cheap = replace(job, totals=Totals(charged_usd=2.0, idle_usd=0.5))
    ledger.commit(lambda _: Change(jobs={"a": job, "b": nothing, "c": cheap}))

    overhead = known_overhead(str(tmp_path / "ledger"), {})

    assert overhead.factor == pytest.approx((10.0 + 2.5) / 10.0) and "2 jobs" in overhead.source


def test_without_a_ledger_nothing_is_made_up_and_nothing_is_made(tmp_path):
    url = str(tmp_path / "none")

    assert ledger_speeds(url, {}, ["composer"], "local-cpu") == {}
    overhead = known_overhead(url, {})
    assert overhead.factor == 1.0 and "no job in this ledger" in overhead.source
    assert not (tmp_path / "none").exists()


def test_the_speeds_that_ship_are_of_node_types_that_have_a_price():
    prices = PriceTable.load()

    for model, by_node_type in SpeedTable.load().models.items():
        for node_type in by_node_type:
            machine = describe_node(node_type, "on-demand", prices)
            speeds = SpeedTable.load().speeds(node_type)
            assert estimate([Work(model, 1, 60.0)], speeds, NO_OVERHEAD, machine, workers=1).usd.middle > 0


@pytest.mark.parametrize(
    "text, where",
    [
        ("models: {a: {b: {low: 2, middle: 1.0, high: 3.0, as_of: 2026-01-01, source: s}}}", "order"),
        ("models: {a: {b: {low: 0.0, middle: 1.0, high: 3.0, as_of: 2026-01-01, source: s}}}", "low"),
        ("models: {a: {b: {low: 1.0, middle: 1.0, high: 3.0, as_of: 2026-01-01}}}", "source"),
        ("models: {}", "models"),
        ("a: [", "YAML"),
    ],
)
def test_a_table_of_speeds_with_a_mistake_is_refused_with_its_place(tmp_path, text, where):
    (tmp_path / "speeds.yaml").write_text(text)

    with pytest.raises(InvalidRequest, match=where):
        SpeedTable.load(tmp_path / "speeds.yaml")
