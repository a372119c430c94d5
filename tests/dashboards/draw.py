"""Draw the dashboards for review, and the README's two pictures.

Run: python -m tests.dashboards.draw FOLDER [--version=…] [--images]

FOLDER gets each dashboard in both themes, at 1600 and 1280 pixels and as on a phone; with `--images`,
docs/images gets the README's pictures instead. Grafana's published components draw them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests._chromium import Browser
from tests.dashboards._judge import MODELS, VERSIONS
from tests.dashboards._picture import draw, gallery
from tests.dashboards._world import World, world
from tests.dashboards._worlds import PICTURE, WORST

IMAGES = Path(__file__).parents[2] / "docs" / "images"
HOURS = {"intarget-conversions": 168.0}
LOOKS = ((1600, True), (1600, False), (1280, True), (1280, False), (390, True))


def _review(browser: Browser, page: str, version: str, there: World, folder: Path) -> None:
    """Draw everything."""
    for uid in MODELS:
        for width, dark in LOOKS:
            hours = HOURS.get(uid, 24.0)
            wrong = draw(browser, page, version, there, uid, width=width, dark=dark, hours=hours)
            name = f"{uid}-{version}-{'dark' if dark else 'light'}-{width}.png"
            browser.screenshot(folder / name)
            print(name, *wrong)


def _images(browser: Browser, page: str, version: str, there: World) -> None:
    """Draw the README's pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    draw(browser, page, version, there, "intarget-overview", width=1400, dark=True)
    browser.screenshot(IMAGES / "overview.png")
    draw(browser, page, version, there, "intarget-campaign", width=1400, dark=False, hours=12, campaign=WORST)
    browser.screenshot(IMAGES / "campaign.png")


def main() -> int:
    """Make the world and draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards.draw", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version", default=VERSIONS[-1], choices=VERSIONS)
    parser.add_argument("--images", action="store_true", help="the README's pictures only")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        world(Path(name) / "world", PICTURE, int(time.time())) as there,
        gallery(options.version, Path(name)) as page,
        Browser(Path(name) / "profile") as browser,
    ):
        if options.images:
            _images(browser, page, options.version, there)
        else:
            _review(browser, page, options.version, there, options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
