"""The arithmetic of the bill: it adds up, whatever the figures, and nothing is free."""

import math
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_jobs.job_store.job_folder import WorkerNode
from batch_jobs.settlement.billing import node_bills, split_bill
from batch_jobs.settlement.prices import JobPrices
from orchestrion.accounting.cost import NodeType, Price, PriceTable
from tests.unit.batch_jobs.committed_job import START, node, prices, worker

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
        workers.append(
            worker(f"w{number}", run_id, on, from_s, to_s, draw(st.floats(0.01, 1.0)) * prices().of(on).devices)
        )
    return workers


charges = st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 100.0)), max_size=50)


@given(runs(), charges, st.floats(0.0, 100.0))
def test_what_tracks_carry_and_what_no_track_carries_is_the_bill(workers, charged, waste_usd):
    direct_usd = math.fsum(charged)
    bill = split_bill(direct_usd, waste_usd, node_bills(workers, prices(), {}))
    waste, idle = (shares.to_pylist() for shares in bill.shares(pa.chunked_array([pa.array(charged, pa.float64())])))

    totals = [own + wasted + idled for own, wasted, idled in zip(charged, waste, idle, strict=True)]
    largest = max(bill.node_usd, direct_usd, waste_usd)
    assert abs(math.fsum(totals) + bill.unallocated_usd - bill.node_usd) <= 1e-9 * largest
    assert abs(bill.direct_usd + bill.waste_usd + bill.idle_usd + bill.unallocated_usd - bill.node_usd) <= (
        1e-9 * largest
    )
    for own, wasted in zip(charged, waste, strict=True):
        assert wasted == pytest.approx(waste_usd * own / direct_usd if direct_usd else 0.0, rel=1e-12)
    assert all(wasted == 0.0 == idled for own, wasted, idled in zip(charged, waste, idle, strict=True) if own == 0.0)


@given(runs())
def test_a_machine_costs_its_hours_however_often_the_books_are_closed(workers):
    no_retry = math.fsum(bill.cost_usd for bill in node_bills(workers, prices(), {}))

    paid_up_to, one_by_one = {}, 0.0
    for one in sorted(workers, key=lambda each: each.up_from):
        [bill] = node_bills([one], prices(), paid_up_to)
        paid_up_to[bill.run_id, bill.node.node_id] = bill.up_to
        one_by_one += bill.cost_usd

    # Between two workers a machine may stand empty, which only the first way of counting can know.
    assert one_by_one <= no_retry * (1 + 1e-9)


def test_a_machine_is_not_paid_twice_for_the_same_minute():
    [first] = node_bills([worker("w1", from_s=0, to_s=60)], prices(), {})
    [second] = node_bills([worker("w2", from_s=30, to_s=90)], prices(), {("run-1", "n1"): first.up_to})

    assert (first.cost_usd, second.cost_usd) == (60.0, 30.0)
    assert second.up_from == START + timedelta(seconds=60)


def test_the_example_of_the_documentation():
    # docs/ledger.md, "Who pays for what": two machines at 3.60 USD an hour, so 0.1 cents a second.
    machines = [node("n1", 2, 3.6), node("n2", 2, 3.6)]
    workers = [
        worker("w1", on=machines[0], to_s=1000, devices=2),
        worker("w2", on=machines[1], to_s=800, devices=1),
    ]
    bill = split_bill(0.8, 0.2, node_bills(workers, prices(), {}))
    waste, idle = (shares.to_pylist() for shares in bill.shares(pa.chunked_array([[0.6, 0.2, 0.0]])))

    assert [one.cost_usd for one in bill.nodes] == pytest.approx([1.0, 0.8])
    assert [one.unallocated_usd for one in bill.nodes] == pytest.approx([0.0, 0.4])
    assert (bill.waste_usd, bill.idle_usd) == pytest.approx((0.2, 0.4))
    assert (waste, idle) == (pytest.approx([0.15, 0.05, 0.0]), pytest.approx([0.3, 0.1, 0.0]))


def test_without_a_track_nobody_is_charged_and_all_of_the_bill_is_shown():
    bill = split_bill(
        0.0, 5.0, node_bills([worker("w1", on=node("n1"), to_s=50), worker("w2", on=node("n2"))], prices(), {})
    )

    assert (bill.direct_usd, bill.waste_usd, bill.idle_usd) == (0.0, 0.0, 0.0)
    assert [one.unallocated_usd for one in bill.nodes] == [50.0, 100.0]
    assert bill.unallocated_usd == bill.node_usd == 150.0


def test_a_machine_costs_what_the_drivers_table_says(caplog):
    table = PriceTable(node_types={
        "box": NodeType(device="gpu", devices=4, markets={"spot": price(1.0), "on-demand": price(3.0)}),
        "bin": NodeType(device="cpu-core", devices=2, markets={"on-demand": price(0.5)}),
    })  # fmt: skip
    of_driver = JobPrices(table, "bin", "on-demand")

    known = of_driver.of(WorkerNode("n", "box", "spot"))

    assert (known.device, known.devices, known.usd_per_node_hour, known.on_demand_usd_per_node_hour) == (
        "gpu", 4, 1.0, 3.0,
    )  # fmt: skip
    assert known.price_source == "a test (as of 2026-01-01)"
    assert caplog.messages == []


@pytest.mark.parametrize(
    "node_type, market, billed",
    [
        ("quantum-9000", "spot", ("bin", "on-demand", 0.5)),
        ("", "", ("bin", "on-demand", 0.5)),
        ("box", "gift", ("box", "on-demand", 3.0)),
        ("loft", "spot", ("loft", "reserved", 2.0)),
    ],
)
def test_a_machine_that_the_table_does_not_know_is_never_free_and_is_said_once(caplog, node_type, market, billed):
    table = PriceTable.model_construct(node_types={
        "box": NodeType(device="gpu", devices=4, markets={"spot": price(1.0), "on-demand": price(3.0)}),
        "bin": NodeType(device="cpu-core", devices=2, markets={"on-demand": price(0.5)}),
        "loft": NodeType.model_construct(device="gpu", devices=4, markets={"rented": price(1.0), "reserved": price(2)}),
    })  # fmt: skip
    of_driver = JobPrices(table, "bin", "on-demand")

    for _ in range(3):
        found = of_driver.of(WorkerNode("n", node_type, market))

    assert (found.node_type, found.market, found.usd_per_node_hour) == billed
    [said] = caplog.messages
    assert "is billed as " + billed[0] in said


def price(usd_per_node_hour):
    return Price(usd_per_node_hour=float(usd_per_node_hour), as_of=START.date(), source="a test")


def test_a_process_had_no_more_devices_than_its_machine_has():
    [bill] = node_bills([worker("w1", on=node(devices=2), devices=2e9, to_s=10)], prices(), {})

    assert bill.reserved_device_seconds == 20.0
    assert split_bill(1.0, 0.0, [bill]).unallocated_usd == 0.0
