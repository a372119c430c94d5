"""The ASGI application: routes, and what stands around them (rate limit, passwords, headers)."""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.errors import ConfigError
from exporter.web import listing, views
from exporter.web.auth import BasicAuth, Verdict
from exporter.web.toolkit_config import EMPTY, RateLimitConfig, ToolkitConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from exporter.tracking.model import Snapshot
    from exporter.web.site import Site

    Configured: TypeAlias = Callable[[], ToolkitConfig]

log = logging.getLogger(__name__)

_CHUNK: Final = 256 * 1024
_SCRAPE_WORKERS: Final = 2
_MAX_COMPUTING: Final = 40
"""Pages under way at once. Scrapes aren't refused: connections are bounded, and each waits for milliseconds."""
_CHANGE: Final = ["POST", "PUT"]
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""No script, no request to anywhere else, one style sheet."""
_ID: Final = re.compile(r"[0-9]{1,1000}", re.ASCII)
"""As many digits as one of the API may have."""


class WebApp:
    """The application for `site`. `config` gives the web configuration of the moment; close it after use."""

    def __init__(self, site: Site, config: Configured = lambda: EMPTY) -> None:
        self._site = site
        self._auth = BasicAuth()
        # Pages wait for each other, and scrapes for none of them.
        self._page_executor = ThreadPoolExecutor(1, "web-pages")
        self._scrape_executor = ThreadPoolExecutor(_SCRAPE_WORKERS, "web-scrapes")
        self._computing = 0
        self._app = Starlette(
            routes=self._routes(),
            middleware=[
                Middleware(_ResponseHeaders, config),
                Middleware(_RateLimit, config),
                Middleware(_Authentication, config, self._auth),
            ],
            exception_handlers={HTTPException: _refuse},
        )
        self._app.router.redirect_slashes = False

    def close(self) -> None:
        """Let go of the threads."""
        self._auth.close()
        for executor in (self._page_executor, self._scrape_executor):
            executor.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        try:
            await self._app(scope, receive, send)
        except ConnectionError:
            pass  # the peer is gone
        except Exception:
            log.exception("a request could not be answered")  # the peer has been told no more than that

    def _routes(self) -> list[Route]:
        return [
            Route("/", self._status),
            Route("/campaigns", self._campaigns),
            Route("/campaigns/{account:path}/{campaign_id}", self._campaign),
            Route("/config", self._configuration),
            Route("/static/style.css", _file(views.STYLE, "text/css")),
            Route("/static/icon.svg", _file(views.ICON, "image/svg+xml")),
            Route("/-/healthy", _healthy),
            Route("/-/ready", self._ready),
            Route("/-/reload", self._reload, methods=_CHANGE),
            Route("/-/quit", self._quit, methods=_CHANGE),
            Route(self._site.telemetry_path, self._metrics),
        ]

    async def _compute(self, work: Callable[[], Response]) -> Response:
        """Return what `work` returns, on a thread, so that health stays quick meanwhile."""
        if self._computing >= _MAX_COMPUTING:
            raise HTTPException(503, "too many requests under way; try again", {"retry-after": "1"})
        self._computing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._page_executor, work)
        finally:
            self._computing -= 1

    async def _metrics(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        asked = request.headers.get("accept"), request.headers.get("accept-encoding"), loop.time()
        exposition = self._site.exposition_at_hand(*asked)
        if exposition is None:
            exposition = await loop.run_in_executor(self._scrape_executor, self._site.exposition, *asked)
        headers = {"vary": "Accept, Accept-Encoding", "content-type": exposition.content_type}
        if exposition.content_encoding is not None:
            headers["content-encoding"] = exposition.content_encoding
        return _PartsResponse(exposition.parts, headers)

    async def _ready(self, _request: Request) -> Response:
        waiting = [account for account in self._site.accounts() if not account.ready]
        if not waiting:
            return _text("ready")
        lines = [
            f"account {account.account}: {account.problem or 'no poll has finished yet'}" for account in waiting
        ]
        return _text("\n".join(" ".join(line.split()) for line in lines), 503)

    async def _reload(self, request: Request) -> Response:
        self._check_lifecycle(request)
        try:
            await asyncio.to_thread(self._site.reload)  # reads files, and may wait for a save
        except ConfigError as error:
            reason = "configuration reload failed, keeping the previous one:\n" + "\n".join(error.faults)
            return _text(reason, 500)
        return _text("configuration reloaded")

    async def _quit(self, request: Request) -> Response:
        self._check_lifecycle(request)
        self._site.quit()
        return _text("stopping")

    def _check_lifecycle(self, request: Request) -> None:
        if not self._site.lifecycle:
            raise HTTPException(403, "the lifecycle endpoints are off; start with --web.enable-lifecycle")
        if _is_cross_site(request.headers):
            raise HTTPException(403, "refused: another web site asked for this")

    def _frame(self) -> views.Frame:
        site = self._site
        return views.Frame(site.clock(), site.version, site.telemetry_path, site.documentation)

    async def _status(self, _request: Request) -> Response:
        frame, exporter, accounts = self._frame(), self._site.status(), self._site.accounts()
        return await self._compute(lambda: _html(views.status(frame, exporter, accounts)))

    async def _configuration(self, _request: Request) -> Response:
        frame = self._frame()
        return await self._compute(lambda: _html(views.configuration(frame, self._site.configuration())))

    async def _campaigns(self, request: Request) -> Response:
        frame, snapshot = self._frame(), self._site.snapshot()
        query = listing.ListQuery.decode(request.scope.get("query_string", b""))
        return await self._compute(
            lambda: _html(views.campaigns(frame, snapshot, listing.select(snapshot, query))),
        )

    async def _campaign(self, request: Request) -> Response:
        account, number = request.path_params["account"], request.path_params["campaign_id"]
        if not _ID.fullmatch(number):
            raise HTTPException(404)
        frame, snapshot = self._frame(), self._site.snapshot()
        return await self._compute(lambda: _campaign_page(frame, snapshot, account, int(number)))


def _campaign_page(frame: views.Frame, snapshot: Snapshot, account: str, campaign_id: int) -> Response:
    rows = listing.find(snapshot, account, campaign_id)
    if not rows:
        return _html(views.campaign_not_found(frame), 404)
    return _html(views.campaign(frame, rows))


async def _healthy(_request: Request) -> Response:
    return _text("ok")


def _is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that another site's page asks; over plain http only Origin does."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


# Responses


class _PartsResponse(Response):
    """An answer whose body is handed on in parts, which are shared by all who are sent them at the moment."""

    def __init__(self, parts: Sequence[bytes], headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        self._parts = parts
        self.headers["content-length"] = str(sum(map(len, parts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Send it. Raises ConnectionError if the peer is gone."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            for chunk in _chunks(self._parts):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await asyncio.sleep(0)  # however fast this peer reads, others have their turn
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _chunks(parts: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    """Yield `parts` in pieces of up to _CHUNK bytes: large ones cut without a copy, small neighbours joined."""
    small: list[bytes] = []
    for part in parts:
        if small and sum(map(len, small)) + len(part) > _CHUNK:
            yield b"".join(small)
            small = []
        if len(part) <= _CHUNK:
            small.append(part)
            continue
        view = memoryview(part)
        for first in range(0, len(part), _CHUNK):
            yield view[first : first + _CHUNK]
    if small:
        yield b"".join(small)


def _text(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n".encode("utf-8", "replace"), status, headers)


def _html(page: str, status: int = 200) -> Response:
    return HTMLResponse(page.encode("utf-8", "replace"), status)


async def _refuse(request: Request, error: Exception) -> Response:
    """Return the answer to a request that a route or the router refused."""
    assert isinstance(error, HTTPException)  # noqa: S101 - that's what it is registered for
    text = error.detail
    if error.status_code == 404:  # noqa: PLR2004 - not found
        text = "not found; / has links to what there is"
    elif error.status_code == 405:  # noqa: PLR2004 - method not allowed
        text = f"{request.method} is not for this; see the header Allow"
    return _text(text, error.status_code, dict(error.headers or {}))


def _file(content: bytes, media_type: str) -> Callable[[Request], Response]:
    """Return an endpoint for a file of ours, which browsers may keep: a new version has a new address."""
    headers = {"cache-control": "private, max-age=604800"}
    return lambda _request: Response(content, media_type=media_type, headers=headers)


# Middleware


class _ResponseHeaders:
    """Puts our headers on every answer, with those of the web configuration over them."""

    def __init__(self, app: ASGIApp, config: Configured) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        configured = self._config().headers

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, **configured}.items():
                    if name in configured or name not in headers:
                        headers[name] = value
                    if not value:
                        del headers[name]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _RateLimit:
    """A token bucket for ``rate_limit``, full at first."""

    def __init__(self, app: ASGIApp, config: Configured) -> None:
        self._app = app
        self._config = config
        self._limit = RateLimitConfig()
        self._tokens = 0.0
        self._since = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._take(self._config().rate_limit):
            await self._app(scope, receive, send)
        else:
            await _text("too many requests", 429)(scope, receive, send)

    def _take(self, limit: RateLimitConfig) -> bool:
        if not limit.interval:
            return True
        now = asyncio.get_running_loop().time()
        if limit != self._limit:
            self._limit, self._tokens, self._since = limit, float(limit.burst), now
        self._tokens = min(limit.burst, self._tokens + (now - self._since) / limit.interval)
        self._since = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Authentication:
    """Lets nobody without a password of ``basic_auth_users`` through, to whatever path."""

    def __init__(self, app: ASGIApp, config: Configured, auth: BasicAuth) -> None:
        self._app = app
        self._config = config
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if scope["type"] == "http" and (users := self._config().basic_auth_users):
            verdict = await self._auth.check(Headers(scope=scope).get("authorization"), users)
            if verdict is Verdict.BUSY:
                app = _text("too many passwords to check; try again", 503, {"retry-after": "1"})
            elif verdict is Verdict.REFUSED:
                app = _text("unauthorized", 401, {"www-authenticate": 'Basic realm="intarget-exporter"'})
        await app(scope, receive, send)
