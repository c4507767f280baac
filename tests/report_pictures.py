"""Pictures of the cost report for the documents: `python -m tests.report_pictures docs/images`.

The ledger is that of `tests/unit/batch_jobs/realistic_ledger.py`. Needs Chromium and its driver.
"""

import base64
import io
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from PIL import Image
from rich.console import Console

from batch_jobs.cost_report import write_report
from tests.browser import chromium, on_device
from tests.unit.batch_jobs.realistic_ledger import realistic_ledger

#: Name → width and height in CSS pixels, and the medium.
PICTURES = {
    "report-1280": (1280, 1130, "screen"),
    "report-390": (390, 844, "screen"),
    # A4 at 96 dots an inch.
    "report-print": (794, 1123, "print"),
}
#: Colours of a picture: the page has few, and a palette is a third of the size.
COLOURS = 128


def main(folder: Path) -> None:
    folder = folder.resolve()
    # The page says where its ledger is.
    with tempfile.TemporaryDirectory() as place, chdir(place), chromium() as browser:
        page = write_report(realistic_ledger("out/catalog"), Path("out/report"), Console(quiet=True)).resolve()
        browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        for name, (width, height, medium) in PICTURES.items():
            on_device(browser, width, height, medium=medium)
            browser.get(page.as_uri())
            picture = Image.open(io.BytesIO(base64.b64decode(browser.get_screenshot_as_base64()))).convert("RGB")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
