"""The web server: exposition, health, readiness, lifecycle and the pages for people.

It serves what it is handed in a `Site` and never waits for a poll.
"""

from __future__ import annotations

from exporter.web.server import WebServer
from exporter.web.site import Response, Site

__all__ = ["Response", "Site", "WebServer"]
