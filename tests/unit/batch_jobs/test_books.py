"""The arithmetic of the bill: it adds up, whatever the figures, and nothing is free."""

import math
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.books.bill import balance, node_bills
from orchestrion.errors import InvalidRequest
from tests.unit.batch_jobs.committed_job import START, node, worker

DAY_S = 86_400.0


@st.composite
def runs(draw):
    """Workers on machines of various prices, each with one device or more of its machine's."""
    machines = [
        node(f"n{number}", draw(st.integers(1, 96)), draw(st.floats(0.001, 500.0)))
        for number in range(draw(st.integers(1, 4)))
    ]
    workers = []
    for number in range(draw(st.integers(1, 12))):
        on = draw(st.sampled_from(machines))
        from_s = draw(st.floats(0.0, DAY_S))
        to_s = from_s + draw(st.floats(0.0, DAY_S))
        run_id = draw(st.sampled_from(["run-1", "run-2"]))
        workers.append(worker(f"w{number}", run_id, on, from_s, to_s, draw(st.floats(0.01, 1.0)) * on.devices))
    return workers


charges = st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 100.0)), max_size=50)


@given(runs(), charges, st.floats(0.0, 100.0))
def test_what_tracks_carry_and_what_no_track_carries_is_the_bill(workers, charged, waste_usd):
    direct_usd = math.fsum(charged)
    books = balance(direct_usd, waste_usd, node_bills(workers, {}))
    waste, idle = (shares.to_pylist() for shares in books.shares(pa.chunked_array([pa.array(charged, pa.float64())])))

    totals = [own + wasted + idled for own, wasted, idled in zip(charged, waste, idle, strict=True)]
    largest = max(books.node_usd, direct_usd, waste_usd)
    assert abs(math.fsum(totals) + books.unallocated_usd - books.node_usd) <= 1e-9 * largest
    assert abs(books.direct_usd + books.waste_usd + books.idle_usd + books.unallocated_usd - books.node_usd) <= (
        1e-9 * largest
    )
    for own, wasted in zip(charged, waste, strict=True):
        assert wasted == pytest.approx(waste_usd * own / direct_usd if direct_usd else 0.0, rel=1e-12)
    assert all(wasted == 0.0 == idled for own, wasted, idled in zip(charged, waste, idle, strict=True) if own == 0.0)


@given(runs())
def test_a_machine_costs_its_hours_however_often_the_books_are_closed(workers):
    at_once = math.fsum(bill.cost_usd for bill in node_bills(workers, {}))

    paid_up_to, one_by_one = {}, 0.0
    for one in sorted(workers, key=lambda each: each.up_from):
        [bill] = node_bills([one], paid_up_to)
        paid_up_to[bill.run_id, bill.node.node_id] = bill.up_to
        one_by_one += bill.cost_usd

    # Between two workers a machine may stand empty, which only the first way of counting can know.
    assert one_by_one <= at_once * (1 + 1e-9)


def test_a_machine_is_not_paid_twice_for_the_same_minute():
    [first] = node_bills([worker("w1", from_s=0, to_s=60)], {})
    [second] = node_bills([worker("w2", from_s=30, to_s=90)], {("run-1", "n1"): first.up_to})

    assert (first.cost_usd, second.cost_usd) == (60.0, 30.0)
    assert second.up_from == START + timedelta(seconds=60)


def test_the_example_of_the_documentation():
    # docs/ledger.md, "Who pays for what": two machines at 3.60 USD an hour, so 0.1 cents a second.
    machines = [node("n1", 2, 3.6), node("n2", 2, 3.6)]
    workers = [
        worker("w1", on=machines[0], to_s=1000, devices=2),
        worker("w2", on=machines[1], to_s=800, devices=1),
    ]
    books = balance(0.8, 0.2, node_bills(workers, {}))
    waste, idle = (shares.to_pylist() for shares in books.shares(pa.chunked_array([[0.6, 0.2, 0.0]])))

    assert [bill.cost_usd for bill in books.nodes] == pytest.approx([1.0, 0.8])
    assert [bill.unallocated_usd for bill in books.nodes] == pytest.approx([0.0, 0.4])
    assert (books.waste_usd, books.idle_usd) == pytest.approx((0.2, 0.4))
    assert (waste, idle) == (pytest.approx([0.15, 0.05, 0.0]), pytest.approx([0.3, 0.1, 0.0]))


def test_without_a_track_nobody_is_charged_and_all_of_the_bill_is_shown():
    books = balance(0.0, 5.0, node_bills([worker("w1", on=node("n1"), to_s=50), worker("w2", on=node("n2"))], {}))

    assert (books.direct_usd, books.waste_usd, books.idle_usd) == (0.0, 0.0, 0.0)
    assert [bill.unallocated_usd for bill in books.nodes] == [50.0, 100.0]
    assert books.unallocated_usd == books.node_usd == 150.0


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_a_machine_without_a_price_is_refused_and_never_free(price):
    with pytest.raises(InvalidRequest, match=r"no price for box \(spot\).*worker w1"):
        node_bills([worker("w1", on=node(usd_per_node_hour=price))], {})


@pytest.mark.parametrize(("devices", "reserved"), [(0, 0.0), (2, 2.5), (2, math.nan)])
def test_more_devices_than_the_machine_has_are_refused(devices, reserved):
    with pytest.raises(InvalidRequest, match="fewer devices than the"):
        node_bills([worker("w1", on=node(devices=devices), devices=reserved)], {})
