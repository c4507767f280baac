import pytest
import yaml

from orchestrion.accounting.cost import PriceTable, cost_usd, describe_node
from orchestrion.errors import InvalidRequest

TABLE = {
    "node_types": {
        "box": {
            "device": "gpu",
            "devices": 8,
            "markets": {"on-demand": {"usd_per_node_hour": 40.0, "as_of": "2026-01-31", "source": "the invoice"}},
        }
    }
}


def load(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return PriceTable.load(path)


def table_text(**changes):
    """The table's text with fields of its one price changed; None removes one."""
    price = TABLE["node_types"]["box"]["markets"]["on-demand"] | changes
    price = {name: value for name, value in price.items() if value is not None}
    node = TABLE["node_types"]["box"] | {"markets": {"on-demand": price}}
    return yaml.safe_dump({"node_types": {"box": node}}).replace("'2026-01-31'", "2026-01-31")


@pytest.mark.parametrize(
    "device_seconds, price, usd", [(0.0, 5.0, 0.0), (3600.0, 5.0, 5.0), (1.8, 0.02, 0.00001), (90.0, 0.0, 0.0)]
)
def test_cost_is_time_on_the_device_times_its_price(device_seconds, price, usd):
    assert cost_usd(device_seconds, price) == pytest.approx(usd, rel=1e-12)


@pytest.mark.parametrize("device_seconds, price", [(-1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_a_cost_that_means_nothing_is_refused(device_seconds, price):
    with pytest.raises(ValueError, match="must be finite and not negative"):
        cost_usd(device_seconds, price)


def test_a_device_costs_its_share_of_the_node(tmp_path):
    node = describe_node("box", "on-demand", load(tmp_path, table_text()), node_id="node-7")

    assert (node.node_id, node.node_type, node.device, node.market) == ("node-7", "box", "gpu", "on-demand")
    assert node.price_usd_per_device_hour == 5.0
    assert node.price_source == "the invoice (as of 2026-01-31)"


def test_the_price_of_a_whole_node_is_asked_by_type_and_market(tmp_path):
    prices = load(tmp_path, table_text())

    assert prices.price("box", "on-demand").usd_per_node_hour == 40.0
    assert prices.usd_per_node_hour() == {("box", "on-demand"): 40.0}


def test_without_a_scheduler_the_node_still_has_a_name(tmp_path):
    assert describe_node("box", "on-demand", load(tmp_path, table_text())).node_id


@pytest.mark.parametrize(
    "node_type, market, remedy",
    [
        ("bax", "on-demand", "node_type: has no price; add it to the price table or use one of box"),
        ("box", "spot", "market: has no price for box; add it to the price table or use on-demand"),
    ],
)
def test_what_the_table_does_not_know_is_an_error_and_never_free(tmp_path, node_type, market, remedy):
    with pytest.raises(InvalidRequest, match=remedy):
        describe_node(node_type, market, load(tmp_path, table_text()))


@pytest.mark.parametrize(
    "text, where",
    [
        (table_text(usd_per_node_hour=0.0), "usd_per_node_hour"),
        (table_text(usd_per_node_hour=-1.0), "usd_per_node_hour"),
        (table_text(usd_per_node_hour=float("nan")), "usd_per_node_hour"),
        (table_text(usd_per_node_hour="40"), "usd_per_node_hour"),
        (table_text(source=None), "source"),
        (table_text(source=""), "source"),
        (table_text(as_of=None), "as_of"),
        (table_text(per="hour"), "per"),
        (table_text().replace("on-demand", "reserved"), "markets"),
        (table_text().replace("devices: 8", "devices: 0"), "devices"),
        (table_text() + "currency: EUR\n", "currency"),
        ("node_types: {}", "node_types"),
        ("", "prices"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_table_with_a_mistake_is_refused_with_its_place(tmp_path, text, where):
    with pytest.raises(InvalidRequest, match=where):
        load(tmp_path, text)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InvalidRequest, match="prices_path"):
        PriceTable.load(tmp_path / "none.yaml")


def test_the_table_that_ships_prices_every_node_in_it_and_says_what_its_figures_are():
    prices = PriceTable.load()

    assert "local-cpu" in prices.node_types
    for node_type, row in prices.node_types.items():
        for market in row.markets:
            node = describe_node(node_type, market, prices)
            assert 0 < node.price_usd_per_device_hour < 20
            assert any(word in node.price_source for word in ("estimate", "example"))
