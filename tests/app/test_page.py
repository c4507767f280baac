"""The web page in Chromium, as a person uses it."""

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.browser import chromium

COLOURS_OF = """
const canvas = document.getElementById(arguments[0]);
const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
const columns = new Set(), colours = new Set();
for (let i = 0; i < pixels.length; i += 4) {
  if (!pixels[i + 3]) continue;
  colours.add((pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2]);
  const y = Math.floor(i / 4 / canvas.width);
  if (Math.abs(y - canvas.height / 2) > 4) columns.add((i / 4) % canvas.width);
}
return [colours.size, columns.size / canvas.width];
"""


#: One entry of the list of models.
FREE = {
    "name": "free",
    "sample_rate_hz": 44100,
    "weights_licence": "Apache-2.0",
    "commercial_use": True,
    "max_duration_s": 600,
    "controls": ["theme"],
    "hears": [],
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def ask(browser, prompt, **fields):
    box = browser.find_element(By.ID, "prompt")
    box.clear()
    box.send_keys(prompt)
    for name, value in fields.items():
        field = browser.find_element(By.ID, name)
        field.clear()
        field.send_keys(value)
    browser.find_element(By.ID, "make").click()
    body = browser.find_element(By.TAG_NAME, "body")
    WebDriverWait(browser, 60).until(lambda _: body.get_attribute("data-state") in ("done", "error"))
    return body.get_attribute("data-state")


def test_a_track_is_made_heard_and_drawn(browser, service, tmp_path_factory):
    browser.get(service.url)

    state = ask(browser, "happy ska, 140 bpm", duration_s="5")

    screenshot = tmp_path_factory.getbasetemp() / "page.png"
    assert browser.save_screenshot(str(screenshot))
    assert state == "done", browser.find_element(By.ID, "notice").text
    _, drawn = browser.execute_script(COLOURS_OF, "waveform")
    assert drawn > 0.8
    colours, _ = browser.execute_script(COLOURS_OF, "spectrogram")
    assert colours > 50
    WebDriverWait(browser, 10).until(lambda _: browser.find_element(By.ID, "position").text != "0:00")
    assert browser.find_element(By.ID, "length").text == "0:05"
    assert "LUFS" in browser.find_element(By.ID, "f-loudness").text
    assert float(browser.find_element(By.ID, "f-first").text.split()[0]) > 0
    links = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "#links a")]
    assert [link.rsplit("/", 1)[1] for link in links] == ["audio", "midi", "provenance"]
    # Severe entries are scripts that broke and what the content security policy refused.
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_reference_shows_every_route(browser, service, client):
    browser.get(f"{service.url}/docs")

    WebDriverWait(browser, 10).until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".route h2 code"))
    shown = {heading.text for heading in browser.find_elements(By.CSS_SELECTOR, ".route h2 code")}
    paths = client.get("/openapi.json").json()["paths"]
    assert shown == {
        f"{method.upper()} {path}" for path, operations in paths.items() for method in operations if method != "head"
    }
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def shown(browser, *names):
    return [name for name in names if browser.find_element(By.ID, name).is_displayed()]


def test_non_commercial_weights_are_asked_for_research(browser, service):
    browser.get(f"{service.musicgen_url}/")
    purpose = browser.find_element(By.ID, "purpose")
    WebDriverWait(browser, 10).until(lambda _: purpose.get_attribute("value") == "research")

    assert "CC-BY-NC-4.0" in browser.find_element(By.ID, "purpose-help").text
    assert shown(browser, "model", "theme", "continuation", "drawing") == ["model", "continuation", "drawing"]
    assert ask(browser, "happy rock song", duration_s="2") == "done", browser.find_element(By.ID, "notice").text
    assert "no commercial use" in browser.find_element(By.ID, "facts").text
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_form_follows_the_chosen_model(browser, service):
    browser.get(service.url)
    WebDriverWait(browser, 10).until(lambda _: "composer" in browser.find_element(By.ID, "models").text)
    assert shown(browser, "model", "theme", "continuation", "drawing") == ["theme"]

    answer = {"models": [FREE, FREE | {"name": "bound", "commercial_use": False, "controls": ["guidance"]}]}
    offer_two_models = f"""
    const real = window.fetch;
    window.fetch = (url, ...rest) =>
      url === "v1/models" ? Promise.resolve(Response.json({json.dumps(answer)})) : real(url, ...rest);
    """
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": offer_two_models})
    try:
        browser.get(service.url)
        model, purpose = (Select(browser.find_element(By.ID, name)) for name in ("model", "purpose"))
        WebDriverWait(browser, 10).until(lambda _: len(model.options) == 2)

        assert purpose.first_selected_option.get_attribute("value") == "commercial"
        model.select_by_value("bound")
        assert purpose.first_selected_option.get_attribute("value") == "research"
        assert shown(browser, "model", "theme", "drawing") == ["model", "drawing"]
        model.select_by_value("free")
        assert purpose.first_selected_option.get_attribute("value") == "commercial"
        assert shown(browser, "model", "theme", "drawing", "purpose-help") == ["model", "theme"]
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_mistake_is_explained_at_its_field(browser, service):
    browser.get(service.url)

    assert ask(browser, "techno", tempo_bpm="900") == "error"

    assert "300" in browser.find_element(By.ID, "tempo_bpm-error").text
    assert browser.find_element(By.ID, "tempo_bpm").get_attribute("aria-invalid") == "true"


def chip(browser, start):
    """The chip of what was understood whose text starts like this, or None."""
    script = "return [...document.querySelectorAll('.chip')].find((each) => each.textContent.startsWith(arguments[0]))"
    return browser.execute_script(script, start)


def test_what_is_understood_while_one_types_becomes_a_field_of_the_track(browser, service, client):
    browser.get(service.url)
    box = browser.find_element(By.ID, "prompt")
    box.clear()
    box.send_keys("langsamer Walzer ohne Schlagzeug, 3 Sekunden, im 11/8-Takt")
    WebDriverWait(browser, 20).until(lambda _: chip(browser, "without drums"))

    for start in ("without drums", "tempo 70 bpm", "length 3 s"):
        chip(browser, start).click()

    assert browser.find_element(By.ID, "tempo_bpm").get_attribute("value") == "70"
    browser.find_element(By.ID, "make").click()
    body = browser.find_element(By.TAG_NAME, "body")
    WebDriverWait(browser, 60).until(lambda _: body.get_attribute("data-state") in ("done", "error"))
    assert body.get_attribute("data-state") == "done", browser.find_element(By.ID, "notice").text
    [link] = browser.find_elements(By.CSS_SELECTOR, "#links a[href$='/audio']")
    record = client.get(link.get_attribute("href").removesuffix("/audio")).json()["record"]
    assert (record["exclude"], record["tempo_bpm"], record["duration_s"]) == (["drums"], 70, 3)
    assert "no model plays in 11/8" in browser.find_element(By.ID, "unfollowed").text
    # Of the network are refusals that are meant.
    log = browser.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE" and entry["source"] != "network"] == []


def test_what_only_another_model_follows_is_said_while_one_types(browser, service):
    browser.get(f"{service.musicgen_url}/")
    WebDriverWait(browser, 20).until(
        lambda _: browser.find_element(By.ID, "purpose").get_attribute("value") == "research"
    )
    box = browser.find_element(By.ID, "prompt")
    box.clear()
    box.send_keys("calm piano, intro 2 seconds, then verse 8 seconds")
    WebDriverWait(browser, 20).until(lambda _: "does not follow sections" in browser.find_element(By.ID, "intent").text)

    assert chip(browser, "sections").tag_name == "span"
