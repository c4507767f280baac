"""What the tests of this folder share: an S3 server, where a test does not kill its own, and the studio's page."""

import pytest

from tests.browser import chromium
from tests.servers.page_api import page_api
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.web_page import WATCH, Page


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running server: `endpoint`, `key`, `secret`, `storage_options`, `new_url()`."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        calm = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": calm})
        yield browser


@pytest.fixture(scope="module")
def running_api():
    with page_api() as api:
        yield api


@pytest.fixture
def api(running_api):
    running_api.reset()
    yield running_api
    running_api.go_on.set()


@pytest.fixture
def page(browser, api):
    page = Page(browser, api)
    browser.get(f"{api.url}page/icon.svg")
    page.js("localStorage.clear()")
    browser.get_log("browser")
    page.open()
    yield page
    # Severe entries but those of the network are scripts that broke and what the content security policy refused.
    log = browser.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE" and entry["source"] != "network"] == []
