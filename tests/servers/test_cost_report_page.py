"""The report's page in Chromium: on a screen, on a phone and on paper, opened from the disk."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from batch_jobs.cost_report import write_report
from batch_jobs.ledger.tables import TRACKS_SCHEMA
from batch_jobs.reports.costs import WhatIf, cost_report
from batch_jobs.reports.headline import headline
from tests.browser import chromium, on_device
from tests.unit.batch_jobs.realistic_ledger import realistic_ledger
from tests.unit.batch_jobs.sample_ledger import HOSTILE, any_row, sample_ledger, write

SCREEN, PHONE = (1280, 800), (390, 844)
#: Elements that reach out of the window and do not scroll in themselves, and text that is cut off inside of charts.
OVERFLOW = """
const width = document.documentElement.clientWidth;
const wide = [...document.querySelectorAll("body *")].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width && (box.right > width + 1 || box.left < -1) && !element.parentElement.closest(".scroll");
});
const cut = [...document.querySelectorAll(".figures svg text")].filter((text) => {
  const box = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
  return box.width && (box.right > frame.right + 1 || box.left < frame.left - 1);
});
const said = (element) => element.tagName + " " + element.textContent.slice(0, 60);
return [document.documentElement.scrollWidth - width, wide.map(said), cut.map(said)];
"""
#: Where the text of the headline's figures ends, in CSS pixels from the top of the page.
BOTTOMS = """
return [...document.querySelectorAll(".headline .shown")].map(
  (figure) => [figure.innerText, figure.getBoundingClientRect().bottom]);
"""
#: Tables that paper would cut off: it does not scroll.
WIDE_TABLES = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll(".scroll table")].filter(
  (table) => table.getBoundingClientRect().right > width + 1
).map((table) => table.closest("details").querySelector("h3").textContent);
"""
LOADED = "return performance.getEntriesByType('resource').map((entry) => entry.name);"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def realistic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("realistic")
    url = realistic_ledger(folder / "ledger")
    return cost_report(url), write_report(url, folder / "report", Console(quiet=True))


def show(browser, page, size, scheme="light", medium="screen"):
    on_device(browser, *size, scheme, medium)
    browser.get(page.as_uri())


def assert_it_stands(browser):
    """Nothing is wider than the window, nothing was loaded, and nothing was refused."""
    assert browser.execute_script(OVERFLOW) == [0, [], []]
    assert browser.execute_script(LOADED) == []
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("size", [SCREEN, PHONE], ids=["1280", "390"])
def test_the_first_screen_says_the_bill_the_cost_of_a_minute_and_the_dearest_style(browser, realistic, size):
    report, page = realistic
    show(browser, page, size)

    shown = dict(browser.execute_script(BOTTOMS))

    told = headline(report)
    for figure in (told.bill, told.per_audio_minute, told.dearest_style):
        assert shown[figure.shown] <= size[1], f"{figure.word} is below the first screen"
    assert told.bill.shown in browser.title
    assert_it_stands(browser)


def test_a_table_opens_by_the_link_at_its_chart_and_scrolls_in_itself(browser, realistic):
    show(browser, realistic[1], PHONE)
    link = browser.find_element("css selector", "a[href='#lengths']")
    table = browser.find_element("css selector", "#lengths table")
    assert not table.is_displayed()

    link.click()

    assert table.is_displayed()
    inside, outside = browser.execute_script(
        "const scroll = document.querySelector('#lengths .scroll'); return [scroll.scrollWidth, scroll.clientWidth];"
    )
    assert inside > outside
    assert_it_stands(browser)


def test_a_chart_is_one_image_with_words_and_its_text_can_be_selected(browser, realistic):
    show(browser, realistic[1], SCREEN)

    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    images = [node for node in nodes if node["role"]["value"] in ("image", "img")]
    names = {node["name"]["value"]: node.get("description", {}).get("value", "") for node in images}
    assert len(images) == 7
    assert "lofi" in " ".join(names) + " ".join(names.values())
    found = browser.execute_script(
        "const text = [...document.querySelectorAll('.figures svg text')].find((e) => e.textContent === 'lofi');"
        "getSelection().selectAllChildren(text); return getSelection().toString();"
    )
    assert found == "lofi"


def test_paper_is_white_and_has_every_table(browser, realistic):
    _, page = realistic
    show(browser, page, SCREEN, scheme="dark", medium="print")

    picture = Image.open(io.BytesIO(base64.b64decode(browser.get_screenshot_as_base64()))).convert("RGB")
    assert (np.asarray(picture).min(axis=2) > 245).mean() > 0.7, "the paper is not white"
    hidden = "return [...document.querySelectorAll('details table')].filter((e) => !e.getBoundingClientRect().height)"
    assert browser.execute_script(hidden) == []
    # As wide as A4 with its margins, in CSS pixels.
    show(browser, page, (688, 1000), scheme="dark", medium="print")
    assert browser.execute_script(OVERFLOW) == [0, [], []]
    assert browser.execute_script(WIDE_TABLES) == []
    assert base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"]).startswith(b"%PDF")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme, background", [("light", 0.96), ("dark", 0.08)])
def test_the_page_draws_itself_in_both_colour_schemes(browser, realistic, scheme, background):
    show(browser, realistic[1], SCREEN, scheme)

    picture = Image.open(io.BytesIO(base64.b64decode(browser.get_screenshot_as_base64()))).convert("RGB")
    pixels = np.asarray(picture) / 255
    assert pixels[2, 2].mean() == pytest.approx(background, abs=0.03)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert ((blue > red + 0.3) & (green > red + 0.25)).mean() > 0.01, "no bars of rendering were drawn"
    assert ((red > blue + 0.35) & (green > blue + 0.2)).mean() > 0.0005, "nothing unallocated was drawn"


@pytest.mark.parametrize("size", [SCREEN, PHONE], ids=["1280", "390"])
def test_names_of_any_kind_and_idle_time_below_nothing_break_nothing(browser, tmp_path, size):
    made = sample_ledger(tmp_path / "sample")
    prices = WhatIf({("<b>lab</b>", "spot"): 1.0})
    page = write_report(made.url, tmp_path / "report", Console(quiet=True), what_if=prices)
    show(browser, page, size)

    assert_it_stands(browser)
    html = browser.execute_script(
        "document.querySelectorAll('details').forEach((e) => { e.open = true; }); return document.body.innerText;"
    )
    assert HOSTILE in html and "<b>lab</b>" in html
    assert_it_stands(browser)


@pytest.mark.parametrize("size", [SCREEN, PHONE], ids=["1280", "390"])
def test_one_track_with_endless_names_is_a_page_too(browser, tmp_path, size):
    endless = "Donaudampfschifffahrtsgesellschaft" * 40
    names = dict.fromkeys(("title", "prompt", "style", "model", "requested_by", "pool", "market"), endless)
    one = any_row(TRACKS_SCHEMA, **names, job_id="job-1", line=1, duration_s=3.0, charged_usd=3e-6, cost_usd=3e-6)
    write(tmp_path / "ledger", {"tracks": [one]})
    page = write_report(str(tmp_path / "ledger"), tmp_path / "report", Console(quiet=True))

    show(browser, page, size)

    assert_it_stands(browser)
