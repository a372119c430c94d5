"""The pages in a real browser: what they hold, that the policy holds, and that a phone shows them whole."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from exporter.web.server import WebServer
from tests._chromium import DEADLINE, Browser
from tests._websites import HOSTILE, hostile, lively

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.web.site import Site

pytestmark = pytest.mark.e2e

PAGES = (
    "/",
    "/campaigns",
    "/campaigns?sort=bounce&order=desc&page=2",
    "/campaigns/main/1001",
    "/campaigns/main/9",
    "/config",
)
PHONE, DESK = 360, 1280


@contextlib.contextmanager
def served(site: Site) -> Iterator[str]:
    """Serve `site`, and yield its URL."""
    server = WebServer(site, ["127.0.0.1:0"], None)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(server.serve(stop, lambda _: None))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://{server.addresses[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE)


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Serve the lively site, and return its URL."""
    with served(lively()) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start one browser for all tests."""
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("path", PAGES)
def test_fits_and_keeps_to_the_policy(browser: Browser, base: str, path: str, width: int, dark: bool) -> None:  # noqa: FBT001
    """No sideways scrolling of the page, no complaint of the browser, no request to anywhere else."""
    browser.entries.clear()
    browser.requested.clear()
    browser.open(base + path, width=width, dark=dark)
    inner, content, room = browser.evaluate(
        "[innerWidth, document.documentElement.scrollWidth, document.documentElement.clientWidth]",
    )
    assert (width, True) == (inner, content <= room)
    complaints = [entry for entry in browser.entries if "status of 404" not in entry]
    assert [] == complaints
    own = {url.removeprefix(base).partition("?")[0] for url in browser.requested if url.startswith(base)}
    assert len(set(browser.requested)) == len(own)
    assert own <= {path.partition("?")[0], "/static/style.css", "/static/icon.svg"}


def test_style_sheet_is_in_force(browser: Browser, base: str) -> None:
    """The style sheet is allowed by the policy; a script isn't."""
    browser.open(base + "/", width=DESK)
    assert "flex" == browser.evaluate("getComputedStyle(document.querySelector('header')).display")
    browser.entries.clear()
    probe = "(() => {const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
    assert "undefined" == browser.evaluate(probe + "document.head.append(s); return typeof window.ran})()")
    assert any("Content Security Policy" in entry for entry in browser.entries)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PAGES[:4])
def test_contrast(browser: Browser, base: str, path: str, dark: bool) -> None:  # noqa: FBT001
    """Every text has a contrast of at least 4.5 to 1 (WCAG 2, AA), in either scheme."""
    browser.open(base + path, width=DESK, dark=dark)
    assert [] == browser.evaluate(CONTRAST)


def test_hostile_titles_are_text(browser: Browser, base: str) -> None:
    """The list shows the markup of a title as text, and has no element of it."""
    browser.open(base + "/campaigns", width=DESK)
    names = "[...document.querySelectorAll('tbody th a')].map(a => a.textContent)"
    assert "<b>Bold</b> & \"quoted\" <script>alert('x')</script>" in browser.evaluate(names)
    assert 0 == browser.evaluate("document.querySelectorAll('script, main b').length")


def test_hostile_texts_run_nothing(browser: Browser) -> None:
    """Names, titles, accounts, channels, errors and paths are text on every page, and all of it is shown."""
    account = quote(HOSTILE, safe="")
    with served(hostile()) as url:
        for path in ("/", "/config", f"/campaigns?account={account}&q={account}", f"/campaigns/{account}/1"):
            browser.entries.clear()
            browser.open(url + path, width=DESK)
            assert HOSTILE[:60] in browser.evaluate("document.body.textContent"), path
            assert 0 == browser.evaluate(
                "document.querySelectorAll('script, img, [onfocus], [onerror]').length"
            )
            assert "undefined" == browser.evaluate("typeof window.ran")
            assert [] == browser.entries, path


def test_filters_and_sorting_work_by_click(browser: Browser, base: str) -> None:
    """A person can search, filter, sort and open a campaign without a script in the page."""
    browser.open(base + "/campaigns", width=DESK)
    browser.follow("document.querySelector('#q').value = 'cashback'; document.querySelector('form').submit()")
    names = browser.evaluate("[...document.querySelectorAll('tbody th')].map(th => th.textContent)")
    assert names
    assert all("Cashback" in name for name in names)
    browser.follow(
        "[...document.querySelectorAll('a.sort')].find(a => a.textContent.startsWith('Sent')).click()"
    )
    sent = browser.evaluate(
        "[...document.querySelectorAll('td[data-label=Sent]')].map(td => +td.textContent.replaceAll(',', ''))",
    )
    assert sorted(sent, reverse=True) == sent
    assert "descending" == browser.evaluate("document.querySelector('th[aria-sort]').ariaSort")
    browser.follow("document.querySelector('tbody th a').click()")
    assert "Reconciliation" in browser.evaluate("document.querySelector('caption').textContent")


def test_states_are_words_and_colours(browser: Browser, base: str) -> None:
    """Each state of an account is written out, and told apart by colour as well."""
    browser.open(base + "/", width=PHONE)
    badges = browser.evaluate(
        "[...document.querySelectorAll('.title .badge')].map(b => [b.textContent, getComputedStyle(b).color])",
    )
    words = ["state file not in use", "reload failed", "ok", "partly failing", "failing", "incomplete", "stale"]
    assert [*words, "starting"] == [word for word, _ in badges]
    assert 4 == len({colour for _, colour in badges})


def test_a_phone_shows_rows_as_cards(browser: Browser, base: str) -> None:
    """On a narrow screen each cell has its heading beside it, and sorting stands in the form."""
    browser.open(base + "/campaigns", width=PHONE)
    assert '"Bounce rate"' == browser.evaluate(
        "getComputedStyle(document.querySelector('td[data-label=\"Bounce rate\"]'), '::before').content",
    )
    assert "block" == browser.evaluate(
        "getComputedStyle(document.querySelector('#sort').parentElement).display"
    )


CONTRAST = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const bad = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    const a = light(parse(getComputedStyle(element).color));
    const b = light(ground(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.add(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return [...bad];
})()
"""
