"""Pictures of the dashboards in a browser: Grafana's published components over a real Prometheus.

Drawn by Grafana's own code: the grid, panel frames, variables, stats, bars, charts and tables. Ours: which
component a panel's type stands for, and the data source. Not drawn: annotations, the menu around the dashboard.
"""

from __future__ import annotations

import http.server
import mimetypes
import threading
import time
import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tests.dashboards._judge import FOLDER, SOURCES, bundle, iso

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests._chromium import Browser
    from tests.dashboards._world import World

DEADLINE: Final = 120.0
TALL: Final = 4000
_BOTTOM = """Math.ceil(Math.max(...[...document.querySelectorAll('section, h6, button')]
    .map((one) => one.getBoundingClientRect().bottom)) + 12)"""


@contextmanager
def gallery(version: str, folder: Path) -> Iterator[str]:
    """Serve the page with a version's libraries; yield its address."""
    script = bundle(version, "page", folder)
    public = SOURCES / version / "node_modules" / "@grafana" / "ui" / "dist" / "public"
    places = {"/page.html": SOURCES / "page.html", "/page.js": script, "/page.css": script.with_suffix(".css")}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urllib.parse.urlsplit(self.path).path
            file = places.get(path)
            if path.startswith("/dashboards/"):
                file = FOLDER / path.rpartition("/")[2]
            elif path.startswith("/public/"):
                file = (public / path.removeprefix("/public/").removeprefix("build/")).resolve()
                file = file if file.is_relative_to(public) else None
            found = file is not None and file.is_file()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", mimetypes.guess_type(path)[0] or "application/octet-stream")
            self.end_headers()
            if found:
                self.wfile.write(file.read_bytes())

        def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as the base class has it
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/page.html"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def draw(
    browser: Browser,
    page: str,
    version: str,
    there: World,
    uid: str,
    *,
    width: int,
    dark: bool,
    hours: float = 24,
    **chosen: str,
) -> list[str]:
    """Show a dashboard as high as it is; return what went wrong."""
    view = {
        "dashboard": uid,
        "prometheus": there.prometheus.url,
        "from": iso(there.end - hours * 3600),
        "to": iso(there.end),
        "theme": "dark" if dark else "light",
        "version": version,
        "scrape": str(there.setup.every),
        **{f"var-{name}": value for name, value in chosen.items()},
    }
    browser.open(f"{page}?{urllib.parse.urlencode(view)}", width=width, height=TALL, dark=dark)
    _wait_until_drawn(browser, uid)
    height = int(browser.evaluate(_BOTTOM))
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.evaluate("window.settle()")
    _wait_until_drawn(browser, uid)
    return [failure for failure in browser.evaluate("window.failures") if "ResizeObserver" not in failure]


def _wait_until_drawn(browser: Browser, uid: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not browser.evaluate("window.drawn"):
        assert time.monotonic() < deadline, f"{uid} isn't drawn"
        time.sleep(0.1)
