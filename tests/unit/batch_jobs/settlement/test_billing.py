"""The arithmetic of the bill: it adds up, whatever the figures, and nothing is free."""

import math
from datetime import UTC, datetime, timedelta

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
    bill = split_bill(direct_usd, waste_usd, node_bills(workers, prices()))
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


@given(runs(), st.randoms(use_true_random=False))
def test_each_moment_of_a_machine_is_paid_once_whoever_settles_first(workers, random):
    """Each machine of each run is settled at some time, in any order; a run has a machine from first to last."""
    together = {}
    for one in workers:
        together.setdefault((one.run_id, one.node.machine), []).append(one)
    settlements = list(together.values())
    random.shuffle(settlements)

    bills, known = [], []
    for those in settlements:
        new = split_bill(random.choice([0.0, 1.0]), 0.0, node_bills(those, prices(), known)).nodes
        known += [bill.hours for bill in new]
        bills += new

    for machine in {one.machine for one in bills}:
        hulls = [
            (min(one.up_from for one in those), max(one.seen_at for one in those))
            for (_, on), those in together.items()
            if on == machine
        ]
        here = [one for one in bills if one.machine == machine]
        up_s = union_s(hulls)
        paid = [one for one in here if one.cost_usd > 0.0]
        assert union_s([(one.up_from, one.up_to) for one in paid]) == pytest.approx(up_s)
        assert math.fsum(one.hours.seconds for one in paid) == pytest.approx(up_s), "no two of them overlap"
        assert math.fsum(one.cost_usd for one in here) == pytest.approx(up_s / 3600 * here[0].node.usd_per_node_hour)
        reserved_s = math.fsum(one.reserved_device_seconds for one in here)
        assert reserved_s <= here[0].node.devices * up_s * (1 + 1e-9)
        assert math.fsum(one.unallocated_usd for one in here) >= -1e-9 * math.fsum(one.cost_usd for one in here)


def union_s(stretches):
    """Seconds that at least one of them covers."""
    covered_s, until = 0.0, datetime.min.replace(tzinfo=UTC)
    for begins, ends in sorted(stretches):
        covered_s += max(0.0, (ends - max(begins, until)).total_seconds())
        until = max(until, ends)
    return covered_s


def test_a_machine_is_not_paid_twice_for_the_same_minute():
    [first] = node_bills([worker("w1", from_s=0, to_s=60)], prices())
    shared, alone = node_bills([worker("w2", from_s=30, to_s=90)], prices(), [first.hours])

    assert (first.cost_usd, shared.cost_usd, alone.cost_usd) == (60.0, 0.0, 30.0)
    assert shared.up_from == START + timedelta(seconds=30)
    assert shared.up_to == alone.up_from == START + timedelta(seconds=60)


def test_a_gap_that_another_run_has_paid_for_is_not_paid_again():
    [middle] = node_bills([worker("w1", "run-1", from_s=40, to_s=60)], prices())

    around = node_bills([worker("w2", "run-2", from_s=0, to_s=100)], prices(), [middle.hours])

    assert [one.cost_usd for one in around] == [40.0, 0.0, 40.0]


def test_two_commands_with_a_ray_of_their_own_on_one_machine_are_one_machine():
    """Each Ray gives the machine another node id, and each believes that it has all of its devices."""
    one, other = (node(name, devices=2, machine_id="m-1") for name in ("of-ray-1", "of-ray-2"))

    bills = node_bills(
        [worker("w1", "run-1", one, 0, 100, devices=2), worker("w2", "run-2", other, 50, 150, devices=2)], prices()
    )

    assert math.fsum(bill.cost_usd for bill in bills) == 150.0
    assert math.fsum(bill.reserved_device_seconds for bill in bills) == 300.0, "a machine has no more devices than two"
    assert {bill.machine for bill in bills} == {"m-1"}


def test_what_a_run_had_of_a_machine_that_another_paid_for_is_taken_off_what_was_nobodys():
    """Two jobs have one device each of a machine's two, for the same time."""
    first = split_bill(20.0, 0.0, node_bills([worker("w1", "run-1")], prices()))
    second = split_bill(20.0, 0.0, node_bills([worker("w2", "run-2")], prices(), [one.hours for one in first.nodes]))

    assert (first.node_usd, second.node_usd) == (100.0, 0.0)
    assert (first.unallocated_usd, second.unallocated_usd) == (50.0, -50.0)
    # What tracks carry is the same, whoever settled first.
    assert first.direct_usd + first.idle_usd == second.direct_usd + second.idle_usd == 50.0
    assert second.direct_usd + second.waste_usd + second.idle_usd + second.unallocated_usd == second.node_usd


def test_hours_end_at_midnight_so_that_a_day_has_its_own():
    bills = node_bills([worker("w1", from_s=0.5 * DAY_S, to_s=2.25 * DAY_S)], prices())

    assert [one.hours.seconds / DAY_S for one in bills] == [0.5, 1.0, 0.25]
    assert [one.up_from.date().day for one in bills] == [1, 2, 3]
    assert [one.workers for one in bills] == [1, 0, 0], "a process is counted once"


def test_a_machine_is_called_as_its_scheduler_calls_it_and_not_as_its_driver_does():
    driver = worker("driver-1", on=node("m-1", machine_id="m-1"), from_s=0, to_s=100, devices=0.0)
    renders = worker("w1", on=node("of-ray", machine_id="m-1"), from_s=10, to_s=90)

    [bill] = node_bills([driver, renders], prices())

    assert (bill.node.node_id, bill.machine, bill.workers, bill.cost_usd) == ("of-ray", "m-1", 1, 100.0)


def test_the_example_of_the_documentation():
    # docs/ledger.md, "Who pays for what": two machines at 3.60 USD an hour, so 0.1 cents a second.
    machines = [node("n1", 2, 3.6), node("n2", 2, 3.6)]
    workers = [
        worker("w1", on=machines[0], to_s=1000, devices=2),
        worker("w2", on=machines[1], to_s=800, devices=1),
    ]
    bill = split_bill(0.8, 0.2, node_bills(workers, prices()))
    waste, idle = (shares.to_pylist() for shares in bill.shares(pa.chunked_array([[0.6, 0.2, 0.0]])))

    assert [one.cost_usd for one in bill.nodes] == pytest.approx([1.0, 0.8])
    assert [one.unallocated_usd for one in bill.nodes] == pytest.approx([0.0, 0.4])
    assert (bill.waste_usd, bill.idle_usd) == pytest.approx((0.2, 0.4))
    assert (waste, idle) == (pytest.approx([0.15, 0.05, 0.0]), pytest.approx([0.3, 0.1, 0.0]))


def test_without_a_track_nobody_is_charged_and_all_of_the_bill_is_shown():
    bill = split_bill(
        0.0, 5.0, node_bills([worker("w1", on=node("n1"), to_s=50), worker("w2", on=node("n2"))], prices())
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
    [bill] = node_bills([worker("w1", on=node(devices=2), devices=2e9, to_s=10)], prices())

    assert bill.reserved_device_seconds == 20.0
    assert split_bill(1.0, 0.0, [bill]).unallocated_usd == 0.0
