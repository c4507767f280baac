"""Names that the service goes by, and whose web pages may use it."""

import pytest

from serve_app.errors import STATUS_OF_CODE
from serve_app.origins import Neighbours

POST = ("POST", "/v1/tracks")


def refused(neighbours, method="POST", path="/v1/tracks", **headers):
    """The status of the refusal, None if there is none."""
    headers = {"host": "localhost:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = neighbours.refusal(method, path, headers)
    return STATUS_OF_CODE[refusal.code][0] if refusal else None


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8000", "localhost.:8000", "app.localhost", "127.0.0.1:8000", "[::1]:8000", "10.0.0.7"],
)
def test_localhost_and_addresses_are_this_service(host):
    assert Neighbours().answers_to(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "attacker.example",
        "attacker.example:8000",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "notlocalhost",
        "localhost@attacker.example",
        "localhost, attacker.example",
        "attacker.example/localhost",
        "[::1]attacker.example",
        "localhost:",
        "a" * 300,
    ],
)
def test_a_name_that_was_turned_to_this_machine_is_not(host):
    assert not Neighbours().answers_to(host)
    for path in ("/", "/v1/tracks", "/v1/models"):
        assert refused(Neighbours(), "GET", path, host=host) == 421


def test_listed_names_are():
    neighbours = Neighbours(hosts=("music.example.com", "*.internal"))

    assert neighbours.answers_to("Music.example.com:443")
    assert neighbours.answers_to("a.b.internal")
    assert not neighbours.answers_to("internal")
    assert not neighbours.answers_to("evil-music.example.com")
    assert Neighbours(hosts=("*",)).answers_to("anything.example")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_reach_the_service_by_any_name(path):
    assert refused(Neighbours(), "GET", path, host="10-0-0-7.pod.cluster.local") is None
    assert refused(Neighbours(), "HEAD", path, host="whatever") is None


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, None),
        ({"origin": "http://localhost:8000"}, None),
        ({"origin": "https://localhost:8000"}, None),
        ({"host": "127.0.0.1", "origin": "http://127.0.0.1"}, None),
        ({"host": "127.0.0.1:443", "origin": "https://127.0.0.1"}, None),
        ({"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}, None),
        ({"sec_fetch_site": "none"}, None),
        ({"origin": "http://localhost:9000"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "https://attacker.example"}, 403),
        ({"origin": "http://localhost:8000.attacker.example"}, 403),
        ({"origin": "http://localhost:8000@attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "file://"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://localhost:8000", "sec_fetch_site": "cross-site"}, 403),
        ({"origin": "http://localhost:9000", "sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-origin, cross-site"}, 403),
        ({"origin": "http://localhost:8000, https://attacker.example"}, 403),
    ],
)
def test_what_another_origins_page_posts_is_refused(headers, status):
    assert refused(Neighbours(), **headers) == status


def test_pages_may_always_read_what_browsers_let_them():
    assert refused(Neighbours(), "GET", "/v1/models", origin="https://attacker.example") is None


def test_listed_origins_may_post():
    neighbours = Neighbours(origins=("https://app.example",))

    assert refused(neighbours, origin="https://app.example", sec_fetch_site="cross-site") is None
    assert refused(neighbours, origin="https://app.example:8443", sec_fetch_site="cross-site") == 403
    assert refused(neighbours, origin="http://app.example") == 403
    assert refused(Neighbours(origins=("*",)), origin="null", sec_fetch_site="cross-site") is None
