"""The web page in Chromium against a stand-in for the service, which refuses, stalls and breaks off when told to."""

import json
import os
import re
from importlib.resources import files

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from serve_app.uploads.uploads import MAX_UPLOAD_BYTES

ANNOUNCEMENTS = """
window.announced = [];
new MutationObserver(() => announced.push(document.getElementById("announced").textContent))
  .observe(document.getElementById("announced"), { childList: true, characterData: true, subtree: true });
"""


def test_a_refused_request_takes_nothing_from_the_track_that_plays(page, api):
    api.duration_s = 60
    page.play("first")
    api.refuse("/v1/tracks/stream", 503, "No room at the moment", "8 tracks are being made", retry_after_s=4)

    page.play("second", state="error")

    notice = page.text("notice")
    assert notice == "No room at the moment: 8 tracks are being made. Try again in 4 s."
    assert page.text("title") == "first"
    assert page.text("length") == "1:00"
    assert page.playing and page.find("record").is_displayed()
    before = page.second
    page.until(lambda: page.second > before)


def test_a_track_is_made_to_its_end_while_another_is_refused(page, api):
    api.go_on.clear()
    page.play("first", state="streaming")
    problems = [{"field": "tempo_bpm", "message": "give at most 300"}]
    api.refuse("/v1/tracks/stream", 422, "The request cannot be used", "tempo_bpm", problems)

    page.find("make").click()

    page.until(lambda: page.text("tempo_bpm-error") == "Give at most 300.")
    assert page.text("notice") == "Please look at: Tempo."
    assert (page.state, page.text("title")) == ("streaming", "first")
    api.go_on.set()
    page.until(lambda: page.state == "done")
    assert page.earlier() == ["first"]


def test_a_request_that_is_given_up_leaves_the_track_that_plays(page, api):
    api.duration_s = 60
    page.play("first")
    api.accept.clear()
    page.play("second", state="waiting")

    page.find("stop").click()

    assert (page.state, page.text("title"), page.playing) == ("done", "first", True)
    api.accept.set()


def test_stop_keeps_what_was_made(page, api):
    api.duration_s = 20
    api.go_on.clear()
    page.play("first", state="streaming")
    page.until(lambda: page.text("progress").startswith("0:10"))

    page.find("stop").click()

    assert (page.state, page.playing, page.focused) == ("idle", False, "stop")
    assert page.text("progress") == "Stopped: 0:10 of 0:20 were made and can be played."
    assert page.text("length") == "0:10"
    stopped_at = page.second
    page.find("toggle").click()
    page.until(lambda: page.second > stopped_at)
    page.find("prompt").click()
    assert not page.find("stop").is_displayed()


def test_what_came_of_a_stream_that_broke_off_is_kept(page, api):
    api.duration_s, api.breaks_off = 20, True
    api.go_on.clear()
    page.play("first", state="streaming")
    page.until(lambda: page.text("progress").startswith("0:10"))

    api.go_on.set()

    page.until(lambda: page.state == "error")
    assert page.text("notice").startswith("The connection broke off before the track was whole.")
    assert page.text("progress") == "The rest did not come: 0:10 of 0:20 were made and can be played."
    assert (page.text("title"), page.text("length"), page.playing) == ("first", "0:10", True)


def test_a_refusal_lets_a_pause_be_one(page, api):
    api.refuse("/v1/tracks/stream", 503, "No room at the moment", "8 tracks are being made")
    page.play("first", state="error")
    page.until(lambda: page.js("return contexts.at(-1).state") == "suspended")
    api.duration_s = 60
    page.play("second")
    page.find("toggle").click()
    api.refuse("/v1/tracks/stream", 503, "No room at the moment", "8 tracks are being made")
    page.play("third", state="error")
    assert (page.playing, page.js("return contexts.at(-1).state")) == (False, "suspended")


@pytest.mark.parametrize("samples_more", [-7, 0, 7])
def test_the_button_offers_to_play_when_a_track_of_any_length_ends(page, api, samples_more):
    api.duration_s, api.samples_more = 1.16667, samples_more

    page.play("first")

    page.until(lambda: not page.playing)
    assert page.find("toggle").get_attribute("aria-label") == "Play"
    assert page.text("position") == page.text("length") == "0:01"
    assert page.js("return contexts.at(-1).state") == "suspended"
    page.find("toggle").click()
    assert page.playing
    page.until(lambda: not page.playing)


def test_nothing_is_drawn_while_nothing_plays(page, api):
    frames_in_a_while = """
    const [done] = arguments, before = frames_asked;
    setTimeout(() => done(frames_asked - before), 300);
    """
    assert page.browser.execute_async_script(frames_in_a_while) == 0
    api.duration_s = 60
    page.play("first")
    assert page.browser.execute_async_script(frames_in_a_while) > 0
    page.find("toggle").click()
    page.browser.execute_async_script("requestAnimationFrame(() => arguments[0]())")
    assert page.browser.execute_async_script(frames_in_a_while) == 0
    assert page.js("return contexts[0].state") == "suspended"


def test_a_hidden_page_does_not_ask_again(page, api):
    hide = """
    let hidden = true;
    Object.defineProperty(document, "hidden", { get: () => hidden });
    window.show = () => { hidden = false; document.dispatchEvent(new Event("visibilitychange")); };
    const later = window.setTimeout;
    window.timers = 0;
    window.setTimeout = (act) => later(() => { act(); timers++; }, 0);
    """
    script = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": hide})
    try:
        api.refuse("/v1/models", 503, "The service is starting", "ask again")
        page.browser.get(api.url)
        page.until(lambda: page.js("return timers") > 0)
        assert page.text("models") == "the models are still loading"
        asked = api.gets.count("/v1/models")
        page.js("show()")
        page.until(lambda: "composer" in page.text("models"))
        assert api.gets.count("/v1/models") == asked + 1
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_on_a_phone_the_stage_is_seen_after_play(page, api):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        api.go_on.clear()
        page.play("a title that is longer than the screen of a phone is wide " * 3, state="streaming")

        seen = "const box = document.getElementById(arguments[0]).getBoundingClientRect();"
        seen += "return box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;"
        page.until(lambda: all(page.js(seen, name) for name in ("toggle", "seek", "spectrogram", "progress")))
        api.go_on.set()
        page.until(lambda: page.state == "done")
        assert page.js("return document.documentElement.scrollWidth") == 390
        # What cannot be seen there, a refusal, is brought into view.
        api.refuse("/v1/tracks/stream", 503, "No room at the moment", "8 tracks are being made")
        page.play("second", state="error")
        assert page.js(seen, "notice")
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_focus_stays_on_what_was_pressed(page, api):
    api.duration_s = 0.5
    for name in ("make", "dice"):
        page.find(name).send_keys(Keys.ENTER)
        page.until(lambda: page.state == "done" and not page.playing)
        assert page.focused == name
    page.find("toggle").send_keys(Keys.SPACE)
    page.until(lambda: not page.playing)
    assert page.focused == "toggle"
    entry = page.browser.find_elements(By.CSS_SELECTOR, "#earlier-list button")[-1]
    entry.send_keys(Keys.ENTER)
    page.until(lambda: page.state == "done")
    assert page.browser.switch_to.active_element == entry
    page.find("prompt").send_keys("more")
    api.go_on.clear()
    page.find("tempo_bpm").send_keys(Keys.ENTER)
    page.until(lambda: page.state == "streaming")
    page.find("stop").send_keys(Keys.ENTER)
    assert page.focused == "stop"
    page.find("forget").send_keys(Keys.ENTER)
    assert page.focused == "make"


def test_the_slider_takes_every_key_of_a_slider(page, api):
    api.duration_s = 100
    slider = page.find("seek")
    assert slider.get_attribute("aria-disabled") == "true"
    slider.send_keys(Keys.END)
    page.play("first")
    page.find("toggle").click()

    expected = {
        Keys.HOME: 0,
        Keys.PAGE_UP: 10,
        Keys.ARROW_RIGHT: 15,
        Keys.ARROW_UP: 20,
        Keys.ARROW_LEFT: 15,
        Keys.PAGE_DOWN: 5,
        Keys.ARROW_DOWN: 0,
        Keys.END: 100,
    }
    for key, second in expected.items():
        slider.send_keys(key)
        assert (page.second, slider.get_attribute("aria-valuenow")) == (second, str(second))
    assert slider.get_attribute("aria-disabled") == "false"
    assert (slider.get_attribute("aria-valuemin"), slider.get_attribute("aria-valuemax")) == ("0", "100")
    assert slider.get_attribute("aria-valuetext") == "1:40 of 1:40"
    assert not page.playing and page.js("return document.activeElement.id") == "seek"
    page.find("toggle").click()
    slider.send_keys(Keys.PAGE_UP)
    assert page.playing and 10 <= page.second < 20


def test_each_turn_is_announced_once(page, api):
    page.js(ANNOUNCEMENTS)
    api.duration_s = 10
    page.play("first")

    announced = page.js("return announced")
    assert announced[:2] == ["Asked; waiting for the first sound.", "Playing while the rest is made."]
    assert len(announced) == 3 and announced[2].startswith("Made, checked and stored in")
    live = page.browser.find_elements(By.CSS_SELECTOR, "[aria-live], [role=status], [role=alert], [role=log]")
    assert [region.get_attribute("id") for region in live] == [
        "intent-summary",
        "purpose-help",
        "announced",
        "notice",
    ]


def test_a_theme_is_refused_in_words_and_can_be_removed(page, api, tmp_path):
    memo, melody = tmp_path / "memo.m4a", tmp_path / "melody.mid"
    memo.write_bytes(b"\0\0\0\x1cftypM4A mp42isom")
    melody.write_bytes(b"MThd")
    message = "this file is an M4A file, but it is damaged, or no recording; give another"
    api.refuse("/v1/themes", 422, "The request cannot be used", "theme", [{"field": "theme", "message": message}])
    page.find("theme").send_keys(str(memo))

    page.play("first", state="error")

    assert page.text("theme-error") == "This file is an M4A file, but it is damaged, or no recording; give another."
    assert page.text("notice") == "Please look at: Theme melody."
    assert page.find("theme").get_attribute("aria-invalid") == "true"
    page.find("theme-remove").send_keys(Keys.ENTER)
    assert (page.find("theme").get_attribute("value"), page.text("theme-error"), page.focused) == ("", "", "theme")
    assert not page.find("theme-remove").is_displayed()
    page.play("second")
    assert "theme" not in json.loads(api.bodies("/v1/tracks/stream")[-1])

    page.find("theme").send_keys(str(melody))
    page.play("third")
    assert json.loads(api.bodies("/v1/tracks/stream")[-1])["theme"].startswith("sha256:")
    # No type that a form of another site could send without being asked whether it may.
    types = [(path, headers["Content-Type"]) for path, headers, _ in api.asked]
    assert {type for path, type in types if path == "/v1/tracks/stream"} == {"application/json"}
    assert [type.split("/")[0] for path, type in types if path == "/v1/themes"] == ["audio", "audio"]


def test_a_file_that_is_too_large_is_not_sent(page, api, tmp_path):
    large = tmp_path / "large.wav"
    large.touch()
    os.truncate(large, MAX_UPLOAD_BYTES + 1)
    page.find("theme").send_keys(str(large))
    page.play("first", state="error")

    assert page.text("theme-error").startswith("This file has 21 MB and at most 20 can be taken")
    assert api.asked == []
    page.find("theme-remove").click()
    os.truncate(large, MAX_UPLOAD_BYTES)
    page.find("theme").send_keys(str(large))
    page.play("first")
    assert [len(body) for body in api.bodies("/v1/themes")] == [MAX_UPLOAD_BYTES]


def test_an_answer_that_is_no_problem_document_is_told_in_words(page, api):
    api.refuse("/v1/tracks/stream", 502, raw=b"<html><h1>Bad Gateway</h1></html>")
    page.play("first", state="error")
    assert page.text("notice") == "The server answered 502: it gave no reason."


def test_earlier_tracks_are_kept_and_played_again(page, api):
    api.duration_s = 30
    for title in ("first", "second"):
        page.play(title)
    page.open()
    assert page.earlier() == ["second", "first"]

    page.browser.find_elements(By.CSS_SELECTOR, "#earlier-list button")[1].click()
    page.until(lambda: page.state == "done")
    assert (page.text("title"), page.text("length"), page.playing) == ("first", "0:30", True)
    assert page.text("progress") == "This track was in the store: nothing was rendered."

    newest = next(reversed(api.tracks))
    api.refuse(f"/v1/tracks/{newest}", 410, "The track was withdrawn", "by its owner")
    page.browser.find_elements(By.CSS_SELECTOR, "#earlier-list button")[0].click()
    page.until(lambda: page.state == "error")
    assert page.earlier() == ["second (withdrawn)", "first"]
    assert (page.text("title"), page.playing) == ("first", True)
    stored = json.loads(page.js("return localStorage.getItem('orchestrion.tracks')"))
    assert stored == [{"id": next(iter(api.tracks)), "title": "first"}]
    page.play("third")
    assert page.earlier() == ["third", "second (withdrawn)", "first"]
    page.find("forget").click()
    assert page.js("return localStorage.length") == 0 and not page.find("earlier").is_displayed()


def test_the_list_of_earlier_tracks_is_bounded_and_survives_what_is_not_its_own(page, api):
    api.duration_s = 0.1
    entries = [{"id": "trk_" + "a" * 30 + f"{chr(97 + i // 5)}{chr(98 + i % 5)}", "title": "x"} for i in range(25)]
    page.js("localStorage.setItem('orchestrion.tracks', arguments[0])", json.dumps(entries))
    page.open()
    assert len(page.earlier()) == 20
    page.play("y" * 500)
    assert len(page.earlier()) == 20
    stored = json.loads(page.js("return localStorage.getItem('orchestrion.tracks')"))
    assert len(stored) == 20 and stored[0]["title"] == "y" * 120
    for garbage in ("{", "7", '[null, {"id": "../../v1/models", "title": "x"}, {"id": 1}]'):
        page.js("localStorage.setItem('orchestrion.tracks', arguments[0])", garbage)
        page.open()
        assert page.earlier() == []


def test_text_from_elsewhere_stays_text(page, api):
    hostile = "<img src=x onerror=\"document.title='pwned'\"><b>bold</b>"
    page.play(hostile)
    api.refuse("/v1/tracks/stream", 422, hostile, hostile, [{"field": "seed", "message": hostile}])
    page.play(hostile, state="error")
    page.open()

    assert page.earlier() == [hostile]
    assert page.browser.title == "Orchestrion"
    assert page.browser.find_elements(By.CSS_SELECTOR, "main img, main b") == []
    folder = files("serve_app") / "studio"
    for file in folder.iterdir():
        text = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
        if file.name.endswith(".html"):
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", text)


def test_the_page_follows_the_scheme_of_the_system(page, api):
    page.play("first")
    background = "return getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
    played = """
    const canvas = document.getElementById("waveform");
    return canvas.getContext("2d").getImageData(0, canvas.height / 2, 1, 1).data.join();
    """
    schemes, waves = {}, {""}
    for scheme in ("light", "dark"):
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        schemes[scheme] = sum(page.js(background))
        # The page hears of the change with its next frame.
        page.until(lambda: page.js(played) not in waves)
        waves.add(page.js(played))
    assert schemes["light"] > 600 > 100 > schemes["dark"]
