"""The studio's page in a browser: what a person sees and does."""

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

#: Kept from the page's first script on: how often it asked for a frame, its audio contexts, and how many questions for
#: what a prompt means were under way at once.
WATCH = """
window.frames_asked = 0;
const request = window.requestAnimationFrame;
window.requestAnimationFrame = (...rest) => { window.frames_asked++; return request.apply(window, rest); };
window.contexts = [];
window.AudioContext = class extends window.AudioContext {
  constructor(...rest) { super(...rest); contexts.push(this); }
};
window.most_reading = 0;
const real = window.fetch, under_way = new Set();
window.fetch = async (address, options) => {
  if (address !== "v1/intent") return real(address, options);
  under_way.add(options.signal);
  window.most_reading = Math.max(window.most_reading, [...under_way].filter(({ aborted }) => !aborted).length);
  try { return await real(address, options); } finally { under_way.delete(options.signal); }
};
"""


class Page:
    """What a person sees and does."""

    def __init__(self, browser, api):
        self.browser, self.api = browser, api

    def open(self):
        self.browser.get(self.api.url)
        self.until(lambda: "composer" in self.text("models"))

    def until(self, condition):
        return WebDriverWait(self.browser, 20, poll_frequency=0.05).until(lambda _: condition())

    def find(self, name):
        return self.browser.find_element(By.ID, name)

    def text(self, name):
        return self.find(name).text

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    @property
    def state(self):
        return self.js("return document.body.dataset.state")

    @property
    def playing(self):
        return self.js("return document.body.hasAttribute('data-playing')")

    @property
    def focused(self):
        return self.js("return document.activeElement.id")

    @property
    def second(self):
        minutes, seconds = self.text("position").split(":")
        return 60 * int(minutes) + int(seconds)

    def write(self, prompt):
        self.js("document.getElementById('prompt').value = arguments[0]", prompt)

    def play(self, prompt, state="done"):
        self.write(prompt)
        self.find("make").click()
        self.until(lambda: self.state == state)

    def earlier(self):
        return [entry.text for entry in self.browser.find_elements(By.CSS_SELECTOR, "#earlier-list button")]
