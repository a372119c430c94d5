"""The dashboards drawn by Grafana's published components, at the sizes that people have."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests._chromium import Browser
from tests.dashboards._judge import MODELS, VERSIONS, panels
from tests.dashboards._picture import draw, gallery
from tests.dashboards._world import World, world
from tests.dashboards._worlds import PICTURE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

CUT = """[...document.querySelectorAll('[role=columnheader] > span, [role=columnheader] button > span')]
    .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.innerText)"""
TITLES = "[...document.querySelectorAll('section h2')].map((one) => one.innerText)"
TEXT = "document.body.innerText"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOOKS = {"wide and dark": (1600, True), "narrow and light": (1280, False)}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Serve a week of two accounts, with a campaign that went wrong today."""
    with world(tmp_path_factory.mktemp("picture"), PICTURE, int(time.time())) as made:
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser."""
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module", params=VERSIONS)
def shown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Serve the page with each version's libraries; return the version and the page's address."""
    with gallery(request.param, tmp_path_factory.mktemp("page")) as page:
        yield request.param, page


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("uid", MODELS)
def test_is_drawn_whole(there: World, browser: Browser, shown: tuple[str, str], uid: str, look: str) -> None:
    """Every panel is drawn without an error, no column is lost, and no heading of a table is cut."""
    version, page = shown
    width, dark = LOOKS[look]
    assert [] == draw(browser, page, version, there, uid, width=width, dark=dark)
    titles = [title.replace("24h", "$window") for title in browser.evaluate(TITLES)]
    assert {panel["title"] for panel in panels(MODELS[uid])} <= set(titles)
    assert [] == browser.evaluate(CUT)
    text = browser.evaluate(TEXT)
    assert "NaN" not in text
    assert "unexpected error" not in text
    assert browser.evaluate(OVERFLOW) <= 0


def test_a_phone_shows_the_answer_first(there: World, browser: Browser, shown: tuple[str, str]) -> None:
    """On a phone panels stand below each other, as wide as it is, and the first says how near the limit is."""
    version, page = shown
    assert [] == draw(browser, page, version, there, "intarget-overview", width=390, dark=True)
    widths = "[...document.querySelectorAll('section')].map((one) => one.offsetWidth)"
    assert all(width > 330 for width in browser.evaluate(widths))
    assert browser.evaluate(TITLES)[0].startswith("Closest to a limit")
    assert "%" in browser.evaluate("document.querySelector('section').innerText")
