"""The report's page in a real browser: it opens from the disk, draws its plots in light and dark, and runs nothing."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from batch_jobs.cost_report import write_report
from batch_jobs.reports.costs import WhatIf
from tests.unit.batch_jobs.sample_ledger import HOSTILE, sample  # noqa: F401 (fixture)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def chromium(*arguments) -> str:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1400"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=90, check=True)
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt install chromium")
@pytest.mark.parametrize("scheme, background", [("light", 0.97), ("dark", 0.08)])
def test_the_page_draws_itself_in_both_colour_schemes(sample, tmp_path, scheme, background):  # noqa: F811
    prices = WhatIf({("<b>lab</b>", "spot"): 1.0})
    page = write_report(sample.url, tmp_path / "report", Console(quiet=True), what_if=prices)
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={1 if scheme == 'light' else 0}"

    dom = chromium(setting, f"--screenshot={picture}", "--dump-dom", page.as_uri())

    pixels = np.asarray(Image.open(picture).convert("RGB")) / 255
    assert pixels.shape[:2] == (1400, 1200)
    assert pixels[2, 2].mean() == pytest.approx(background, abs=0.03)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert (green > red + 0.15).mean() > 0.01, "no bars of rendering were drawn"
    idle = (blue > red + 0.02) & (blue < red + 0.15) & (red > 0.4) & (red < 0.7)
    assert idle[(green > red + 0.15).any(axis=1)].mean() > 0.01, "no idle time was drawn beside them"
    assert "<script>" not in dom and HOSTILE.split(">")[1].split("<")[0] in dom
    for heading in ("The bill", "At other prices", "Spot", "Waste by cause"):
        assert f"<h2>{heading}</h2>" in dom
    assert "<b>" not in dom and "&lt;b&gt;lab&lt;/b&gt;" in dom
