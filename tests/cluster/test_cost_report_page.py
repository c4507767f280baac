"""The report's page in a real browser: it opens from the disk, draws its plots in light and dark, and runs nothing."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from batch_jobs.cost_report import write_report
from tests.unit.batch_jobs.conftest import HOSTILE, clock, ledger, plan_of, renderer  # noqa: F401 (fixtures)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def chromium(*arguments) -> str:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1400"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=90, check=True)
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt install chromium")
@pytest.mark.parametrize("scheme, background", [("light", 0.97), ("dark", 0.08)])
def test_the_page_draws_itself_in_both_colour_schemes(ledger, tmp_path, scheme, background):  # noqa: F811
    page = write_report(ledger[0], tmp_path / "report", Console(quiet=True))
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={1 if scheme == 'light' else 0}"

    dom = chromium(setting, f"--screenshot={picture}", "--dump-dom", page.as_uri())

    pixels = np.asarray(Image.open(picture).convert("RGB")) / 255
    assert pixels.shape[:2] == (1400, 1200)
    assert pixels[2, 2].mean() == pytest.approx(background, abs=0.03)
    green = (pixels[..., 1] > pixels[..., 0] + 0.15).mean()
    assert green > 0.01, "no bars were drawn"
    assert "<script>" not in dom and HOSTILE.split(">")[1].split("<")[0] in dom
