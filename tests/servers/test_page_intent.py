"""What the studio's page says of a prompt while it is written, in Chromium, read by the reader that the service has."""

import json
import threading

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from orchestrion.tracks.musical_key import SCALE_STEPS, TONIC_NAMES
from orchestrion.tracks.request import SAMPLE_RATES_HZ, AudioFormat
from orchestrion.tracks.vocabulary import DYNAMICS, ENERGIES, ENSEMBLES, METRES
from tests.browser import on_device

GERMAN = "Langsames trauriges Klavierstück in h-Moll ohne Schlagzeug, 1½ Minuten, im 11/8-Takt, wie Blurghfax"
#: Something for every field that words can fill, and what the form then asks for.
EVERYTHING = (
    "sad waltz in 3/4, speeding up from 90 to 140 bpm, from C major to D major, a trio of piano and cello, no drums, "
    "no harp, sparse, crescendo, mono, 48 kHz, flac, -20 LUFS, fade in 3 s, fade out 5 s, 40 seconds"
)


@pytest.fixture
def page(page):
    page.until(lambda: page.text("intent-summary") != "")
    return page


def type_prompt(page, prompt):
    """Types a prompt in place of what is there, and waits until all of it was understood or refused."""
    box = page.find("prompt")
    box.send_keys(Keys.CONTROL + "a")
    box.send_keys(prompt or Keys.DELETE)
    page.until(lambda: page.api.read[-1]["prompt"] == prompt)


# In one step each: the page may write them anew between two.
def texts(page, selector):
    return page.js("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector)


def chips(page):
    return texts(page, "#intent-chips .chip")


def chip(page, start):
    script = "return [...document.querySelectorAll('.chip')].find((each) => each.textContent.startsWith(arguments[0]))"
    return page.js(script, start)


def unfollowed(page, place="intent-unfollowed"):
    return texts(page, f"#{place} li")


def value(page, name):
    return page.find(name).get_property("value")


def test_a_prompt_is_told_in_words_while_it_is_written_and_one_press_makes_a_field(page, api):
    type_prompt(page, GERMAN)

    page.until(
        lambda: (
            chips(page)
            == [
                "style piano, from “Klavierstück”",
                "mood sad, from “trauriges”",
                "tempo 70 bpm, from “Langsames”",
                "key B minor, from “h-Moll”",
                "length 90 s, from “1½ Minuten”",
                "with piano, from “Klavierstück”",
                "without drums, from “ohne Schlagzeug”",
            ]
        )
    )
    refused, unknown = unfollowed(page)
    assert refused.startswith("“11/8-Takt”: no model plays in 11/8; use one of 2/4, 3/4")
    assert unknown == "not understood: “Blurghfax”"
    assert page.text("intent-summary") == "7 understood. Not followed: “11/8-Takt”. Not understood: “Blurghfax”."
    assert api.asked == []

    chip(page, "tempo").send_keys(Keys.SPACE)
    chip(page, "key").click()
    chip(page, "without").send_keys(Keys.ENTER)

    page.until(lambda: api.read[-1].get("exclude") == ["drums"])
    assert [value(page, name) for name in ("tempo_bpm", "tonic", "mode", "exclude")] == ["70", "B", "minor", "drums"]
    assert chip(page, "without").text == "without drums, a field, from “ohne Schlagzeug”"
    assert page.browser.switch_to.active_element == chip(page, "without")
    pressed = {each: chip(page, each).get_attribute("aria-pressed") for each in ("tempo", "key", "without", "mood")}
    assert pressed == {"tempo": "true", "key": "true", "without": "true", "mood": "false"}
    assert page.text("more-set") == "1 set"
    page.find("make").click()
    page.until(lambda: page.state == "done")
    sent = json.loads(api.bodies("/v1/tracks/stream")[-1])
    assert {"tempo_bpm": 70, "key": "B minor", "exclude": ["drums"]}.items() <= sent.items()
    assert sent.keys().isdisjoint({"mood", "style", "duration_s", "format"})


def test_everything_that_words_say_can_become_a_field_and_be_taken_back(page, api):
    type_prompt(page, EVERYTHING)
    page.until(lambda: "tempo 90 bpm" in " ".join(chips(page)))
    understood = {**api.read[-1], **asked_for(page)}
    expected = {
        "style": "waltz", "mood": "sad", "tempo_bpm": 90, "tempo_end_bpm": 140, "metre": "3/4", "key": "C major",
        "key_end": "D major", "duration_s": 40, "ensemble": "trio", "instruments": ["piano", "cello"],
        "exclude": ["drums", "harp"], "energy": "low", "dynamics": "crescendo", "fade_in_s": 3, "fade_out_s": 5,
        "loudness_lufs": -20, "channels": 1, "format": "flac", "sample_rate_hz": 48000,
    }  # fmt: skip
    assert understood.keys() == {"prompt", "model"}

    for button in page.browser.find_elements(By.CSS_SELECTOR, "#intent-chips button"):
        button.send_keys(Keys.ENTER)

    page.until(lambda: asked_for(page).keys() == expected.keys() | {"prompt", "model"})
    asked = asked_for(page)
    assert {name: sorted(asked[name]) if name == "exclude" else asked[name] for name in expected} == expected
    buttons = page.browser.find_elements(By.CSS_SELECTOR, "#intent-chips button")
    assert len(buttons) == len(expected)
    page.until(lambda: {button.get_attribute("aria-pressed") for button in buttons} == {"true"})

    for button in buttons:
        button.send_keys(Keys.ENTER)

    page.until(lambda: asked_for(page).keys() == {"prompt", "model"})
    page.until(lambda: {button.get_attribute("aria-pressed") for button in buttons} == {"false"})


def asked_for(page):
    """What the page asked last."""
    return page.api.read[-1]


@pytest.mark.parametrize(
    ("prompt", "start", "field", "text", "asked"),
    [
        ("intro 8 bars, verse 16 bars", "sections", "sections", "intro 8 bars, verse 16 bars",
         [{"name": "intro", "bars": 8}, {"name": "verse", "bars": 16}]),
        ("intro 8 seconds, then verse 20 seconds", "sections", "sections", "intro 8 s, verse 20 s",
         [{"name": "intro", "duration_s": 8}, {"name": "verse", "duration_s": 20}]),
        ("8 bars of techno at 120 bpm", "8 bars", "bars", "8", 8),
        ("a seamless techno loop", "a loop", "loop", "true", True),
        ("solo cello, nothing else", "with cello", "instruments", "cello", ["cello"]),
    ],
)  # fmt: skip
def test_forms_and_players_become_fields(page, prompt, start, field, text, asked):
    type_prompt(page, prompt)
    page.until(lambda: any(each.startswith(start) for each in chips(page)))

    chip(page, start).click()

    page.until(lambda: field in asked_for(page))
    assert (value(page, field), asked_for(page)[field]) == (text, asked)
    page.until(lambda: chip(page, start).get_attribute("aria-pressed") == "true")


def test_a_field_that_is_set_is_said_to_win(page):
    type_prompt(page, "slow techno without drums")
    page.find("tempo_bpm").send_keys("100")
    page.js("document.getElementById('more').open = true")
    page.find("exclude").send_keys("vocals")

    page.until(lambda: asked_for(page).get("exclude") == ["vocals"] and unfollowed(page))
    assert unfollowed(page) == ["“slow”: the field tempo_bpm says 100"]
    page.until(lambda: not any("tempo" in each for each in chips(page)))
    # What must not sound is added to what the field has.
    chip(page, "without drums").click()
    page.until(lambda: value(page, "exclude") == "vocals, drums")
    assert page.text("more-set") == "1 set"


def test_what_does_not_go_together_is_named(page):
    type_prompt(page, "fast and slow techno for a boss fight")

    page.until(lambda: unfollowed(page) == ["“fast” and “slow” do not go together"])
    use = chip(page, "for boss fight")
    assert (use.tag_name, use.text) == ("span", "for boss fight, from “boss fight”")
    assert page.text("intent-summary") == "3 understood. Not both: “fast” and “slow”."


def test_a_slow_answer_never_takes_the_place_of_a_newer_one(page, api):
    api.slow["calm piano"] = threading.Event()
    type_prompt(page, "calm piano")
    type_prompt(page, "fast techno")
    page.until(lambda: "style techno, from “techno”" in chips(page))

    api.slow["calm piano"].set()

    after_a_while = "const [done] = arguments; setTimeout(done, 500);"
    page.browser.execute_async_script(after_a_while)
    assert chips(page) == ["style techno, from “techno”", "tempo 144 bpm, from “fast”"]
    assert page.js("return most_reading") == 1


def test_nothing_is_asked_for_each_letter_nor_for_nothing(page, api):
    type_prompt(page, "fast techno")
    page.until(lambda: "tempo 144 bpm, from “fast”" in chips(page))
    asked = len(api.read)
    letter_by_letter = """
    const box = document.getElementById("prompt");
    box.value = "";
    for (const letter of "slow waltz") {
      box.value += letter;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    """
    page.js(letter_by_letter)
    page.until(lambda: "tempo 70 bpm, from “slow”" in chips(page))
    assert [each["prompt"] for each in api.read[asked:]] == ["slow waltz"]

    page.find("prompt").send_keys(Keys.CONTROL + "a", Keys.DELETE)

    page.until(lambda: chips(page) == [] and page.text("intent-summary") == "")
    assert len(api.read) == asked + 1


def test_nothing_is_asked_in_the_middle_of_a_word_of_an_input_method(page, api):
    page.find("prompt").send_keys(Keys.CONTROL + "a", Keys.DELETE)
    asked = len(api.read)
    composing = {"text": "しずかなぴあの", "selectionStart": 7, "selectionEnd": 7}
    page.browser.execute_cdp_cmd("Input.imeSetComposition", composing)
    after_a_while = "const [done] = arguments; setTimeout(done, 600);"
    page.browser.execute_async_script(after_a_while)
    assert (value(page, "prompt"), len(api.read)) == ("しずかなぴあの", asked)

    page.browser.execute_cdp_cmd("Input.insertText", {"text": "静かなピアノ"})

    page.until(lambda: api.read[-1]["prompt"] == "静かなピアノ")
    page.until(lambda: "with piano, from “ピアノ”" in chips(page))


def test_what_cannot_be_is_told_at_its_field_until_it_can(page):
    type_prompt(page, "slow waltz at 900 bpm")

    page.until(lambda: page.text("tempo_bpm-error").startswith("The prompt asks for 900; give tempo_bpm between 30"))
    assert page.find("tempo_bpm").get_attribute("aria-invalid") == "true"
    assert page.text("intent-summary") == "Please look at: Tempo."
    assert not page.find("notice").is_displayed()

    type_prompt(page, "slow waltz at 90 bpm")

    page.until(lambda: page.text("tempo_bpm-error") == "")
    assert page.find("tempo_bpm").get_attribute("aria-invalid") is None
    # A part of the form that is closed would hide it.
    write = "const box = document.getElementById('instruments'); box.value = 'piano, pianno';"
    page.js(f"{write} box.dispatchEvent(new Event('input', {{ bubbles: true }}))")
    page.until(lambda: page.text("instruments-error").startswith("'pianno' is not an instrument that is known here"))
    assert page.text("intent-summary") == "Please look at: Plays."


def test_a_field_that_the_model_does_not_follow_is_not_offered(page, api):
    type_prompt(page, "slow waltz in 3/4")
    page.until(lambda: any(each.startswith("metre 3/4") for each in chips(page)))
    assert chip(page, "metre").tag_name == "button"
    chip(page, "metre").click()
    page.until(lambda: "metre" in asked_for(page))

    api.controls = ["theme"]
    page.open()
    type_prompt(page, "slow waltz in 3/4")

    page.until(lambda: any(each.startswith("metre 3/4") for each in chips(page)))
    assert chip(page, "metre").tag_name == "span"
    assert chip(page, "tempo").tag_name == "button"
    assert "metre" not in asked_for(page)


def test_a_tracks_card_says_what_of_its_words_is_not_followed(page):
    page.play(GERMAN)

    line, unknown = unfollowed(page, "unfollowed")
    assert line.startswith("“11/8-Takt”: no model plays in 11/8")
    assert unknown == "not understood: “Blurghfax”"
    page.play("calm piano")
    assert not page.find("not-followed").is_displayed()


def test_words_stay_text(page):
    type_prompt(page, "<img src=x onerror=\"document.title='pwned'\"> slow")

    page.until(lambda: any("tempo" in each for each in chips(page)))
    assert page.browser.title == "Orchestrion"
    assert page.browser.find_elements(By.CSS_SELECTOR, "#intent img") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_jumps_while_somebody_types(page, width, scheme, tmp_path_factory):
    on_device(page.browser, width, 1400, scheme)
    try:
        place = (
            "const box = document.getElementById('make').getBoundingClientRect(); return [box.top + scrollY, box.left];"
        )
        type_prompt(page, "calm piano")
        page.until(lambda: "mood calm, from “calm”" in chips(page))
        before = page.js(place)
        for prompt, told in ((EVERYTHING, "19 understood."), (GERMAN, "7 understood. Not followed")):
            type_prompt(page, prompt)
            page.until(lambda told=told: page.text("intent-summary").startswith(told))
            assert page.js(place) == before
        assert page.js("return document.documentElement.scrollWidth") == width
        inside = """
        const right = (element) => element.getBoundingClientRect().right;
        const edge = right(document.getElementById("intent"));
        return [...document.querySelectorAll(".chip")].every((chip) => right(chip) <= edge);
        """
        assert page.js(inside)
        chip(page, "tempo").click()
        picture = tmp_path_factory.getbasetemp() / f"intent-{width}-{scheme}.png"
        assert page.browser.save_screenshot(str(picture))
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_form_offers_what_a_request_may_have(page):
    offered = {
        "ensemble": ENSEMBLES,
        "metre": METRES,
        "energy": ENERGIES,
        "dynamics": DYNAMICS,
        "mode": SCALE_STEPS,
        "mode_end": SCALE_STEPS,
        "tonic": TONIC_NAMES,
        "tonic_end": TONIC_NAMES,
        "format": [each.value for each in AudioFormat],
        "sample_rate_hz": sorted({str(rate) for rates in SAMPLE_RATES_HZ.values() for rate in rates}, key=int),
        "channels": ["1", "2"],
        "loop": ["true", "false"],
    }
    for name, values in offered.items():
        options = [option.get_property("value") for option in Select(page.find(name)).options]
        assert [each for each in options if each] == list(values), name
