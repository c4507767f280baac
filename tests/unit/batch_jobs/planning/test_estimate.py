"""What is said before anything is rendered: figures that follow from measured ones, and none where nothing is known."""

import math
from dataclasses import replace

import pytest

from batch_jobs.planning.estimate import Workers, estimate
from batch_jobs.planning.paces import Kind, Pace, Paces, Work, shipped_paces
from batch_jobs.planning.run_costs import RunCosts
from batch_jobs.planning.spans import NOTHING, Span, around
from batch_jobs.planning.speed_table import SpeedTable
from batch_jobs.settlement.prices import PricedNode
from orchestrion.accounting.cost import PriceTable
from orchestrion.errors import InvalidRequest

#: Four devices for 3,600 USD an hour: a device-second is a quarter of a dollar.
NODE = PricedNode("n", "box", "spot", "gpu", 4, 3600.0, None, "a test")
RUN = RunCosts(Span(5, 10, 20), Span(1, 2, 4), 6.0, Span(1.0, 1.5, 2.0), 1.2, None, None, "a test")
#: Tracks take a second, and a tenth of their length.
PACES = Paces([{}, {}, {}, {(): Pace(1.0, 0.1, 1000, 0.0)}], Span(0.5, 1.0, 2.0), "1,000 tracks")


def work(tracks, audio_s, model="composer"):
    return Work(Kind(model, "jazz", "flac", 3), tracks, audio_s)


def test_time_and_money_follow_from_tracks_audio_speed_workers_machines_and_price():
    said = estimate([work(100, 3000.0)], {"composer": PACES}, RUN, NODE, Workers(8, 2, 1.0))

    assert said.device_seconds.middle == pytest.approx(100 * 1.0 + 3000.0 * 0.1)
    assert said.render_usd.middle == pytest.approx(400.0 / 4)
    rendering_s = 400.0 * 1.2 * 1.5 / 8
    assert said.wall_s.middle == pytest.approx(10 + 2 + rendering_s)
    assert said.bill_usd.middle == pytest.approx(2 * (12 + rendering_s)), "both machines are paid for all of the time"
    assert said.carried_usd.middle == pytest.approx(8 * (12 + rendering_s - 6.0) / 4)
    for span in (said.device_seconds, said.render_usd, said.wall_s, said.bill_usd, said.carried_usd):
        assert span.low < span.middle < span.high
    assert said.wall_s.low == pytest.approx(5 + 1 + 200.0 * 1.2 * 1.0 / 8)


def test_workers_and_machines_without_a_track_do_not_count():
    few, many = (
        estimate([work(2, 20.0)], {"composer": PACES}, RUN, NODE, Workers(n, m, 1.0)) for n, m in ((2, 1), (50, 13))
    )

    assert few.wall_s == many.wall_s
    assert many.workers == Workers(2, 2, 1.0)


def test_tracks_carry_no_more_than_the_machines_cost():
    crowded = estimate([work(100, 3000.0)], {"composer": PACES}, RUN, NODE, Workers(8, 1, 1.0))

    assert crowded.carried_usd == crowded.bill_usd


def test_a_model_whose_speed_nobody_knows_is_counted_apart_and_no_sum_looks_like_the_total():
    other = [work(10, 100.0), work(7, 70.0, "lab/large")]
    known = estimate(other[:1], {"composer": PACES}, RUN, NODE, Workers(1, 1, 1.0))

    said = estimate(other, {"composer": PACES}, RUN, NODE, Workers(1, 1, 1.0))

    assert (said.bill_usd, said.wall_s) == (known.bill_usd, known.wall_s)
    assert [(each.model, each.tracks) for each in said.unknown] == [("lab/large", 7)]
    text = said.describe().splitlines()
    sums = [line for line in text if " carry " in line or "bill" in line or "it takes" in line]
    assert len(sums) == 3 and all(line.startswith("without 7 tracks of lab/large: ") for line in sums)
    assert text[-1].startswith("NOT THE TOTAL: 7 tracks of lab/large") and "--limit" in text[-1]


def test_without_any_speed_there_is_no_sum():
    text = estimate([work(7, 70.0, "lab/large")], {}, RUN, NODE, Workers(1, 1, 1.0)).describe()

    assert "$" not in text and "NOT THE TOTAL: 7 tracks of lab/large" in text


def test_a_person_reads_the_range_the_price_and_where_each_figure_comes_from():
    text = estimate([work(100, 3000.0)], {"composer": PACES}, RUN, NODE, Workers(8, 2, 1.0)).describe()

    assert "composer: 100 tracks, 50.0 min of audio: 6.7 min (3.3 min to 13.3 min) of GPUs, $100.00" in text
    assert "1,000 tracks; of the tracks to render, 100 by model" in text
    assert "tracks carry $192.00 (" in text and "$100.00 for their renders" in text
    assert "the bill is $204.00 (" in text and "8 workers on 2 box at $3,600.00 an hour each, spot: a test" in text
    assert "$12.00 is carried by no track" in text
    assert "it takes 1.7 min (" in text and "12 s to start and to end" in text


def test_nothing_to_do_starts_nothing_and_costs_nothing():
    said = estimate([], {}, RUN, NODE, Workers(2, 1, 1.0))

    assert said.bill_usd == said.wall_s == said.carried_usd == NOTHING and "$0.00" in said.describe()


def test_a_range_is_usual_without_measurements_and_follows_them_when_there_are_many():
    unknown, close, far = (
        around(10.0, ratios, [1.0] * len(ratios), 0.2) for ratios in ([], [1.0] * 97, [0.5, 2.0] * 50)
    )

    assert unknown.high == pytest.approx(10.0 * math.exp(1.2816 * 0.2)) and unknown.low == pytest.approx(
        100 / unknown.high
    )
    assert close.high < unknown.high < far.high == pytest.approx(10.0 * math.exp(1.2816 * math.log(2)), rel=0.05)
    assert around(10.0, [0.0], [1.0], 0.2).low > 0.0


def test_the_speeds_that_ship_are_of_node_types_that_have_a_price():
    prices = PriceTable.load()

    for model, by_node_type in SpeedTable.load().models.items():
        for node_type, speed in by_node_type.items():
            hourly = prices.price(node_type, "on-demand").usd_per_node_hour
            node = replace(NODE, node_type=node_type, usd_per_node_hour=hourly)
            said = estimate([work(1, 60.0, model)], {model: shipped_paces(speed)}, RUN, node, Workers(1, 1, 1.0))
            assert said.bill_usd.middle > 0


MODEL = (
    "models: {{a: {{b: {{track_s: 0.1, audio: {audio}, low: {low}, high: {high}, as_of: 2026-01-01, source: s}}}}}}\n"
    "run: {{start_s: {{low: {start}, middle: 1.0, high: 1.0}}, end_s: {{low: 1.0, middle: 1.0, high: 1.0}}, "
    "held: {{low: 1.0, middle: 1.0, high: 1.0}}, as_of: 2026-01-01, source: s}}\n"
)
RIGHT = {"audio": "{wav: 1.0, flac: 1.0, mp3: 1.0, ogg: 1.0, opus: 1.0}", "low": 0.5, "high": 2.0, "start": 1.0}


@pytest.mark.parametrize(
    "wrong, where",
    [
        ({"audio": "{wav: 1.0}"}, "each of wav, flac"),
        ({"audio": "{wav: 0.0, flac: 1.0, mp3: 1.0, ogg: 1.0, opus: 1.0}"}, "wav"),
        ({"low": 1.5}, "low"),
        ({"high": 0.5}, "high"),
        ({"start": 2.0}, "order"),
    ],
)
def test_a_table_of_speeds_with_a_mistake_is_refused_with_its_place(tmp_path, wrong, where):
    path = tmp_path / "speeds.yaml"
    path.write_text(MODEL.format(**RIGHT))
    assert SpeedTable.load(path).models["a"]["b"].track_s == 0.1

    path.write_text(MODEL.format(**RIGHT | wrong))

    with pytest.raises(InvalidRequest, match=where):
        SpeedTable.load(path)
