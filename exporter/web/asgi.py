"""The ASGI application: routes, methods, authentication, headers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

from exporter.errors import ConfigError
from exporter.web import campaigns, pages
from exporter.web.auth import BasicAuth, Verdict
from exporter.web.style import POLICY
from exporter.web.webconfig import RateLimit, WebConfig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from exporter.tracking.model import Snapshot
    from exporter.web.site import Site

    Scope: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)

_CHUNK: Final = 64 * 1024
_SEND_SECONDS: Final = 60.0
_WORKERS: Final = 4
_MAX_COMPUTING: Final = 40
"""Pages under way at once. Scrapes aren't refused: connections are bounded, and each waits for milliseconds."""
_TEXT: Final = "text/plain; charset=utf-8"
_READ: Final = ("GET", "HEAD")
_CHANGE: Final = ("POST", "PUT")
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    raw_path: str
    query: bytes
    headers: dict[str, str]


_Route: TypeAlias = "tuple[tuple[str, ...], Callable[[_Request], Awaitable[_Answer]]]"
"""Methods that are allowed, and what answers them."""


class WebApp:
    """The application for `site`. `config` gives the web configuration of the moment; close it after use."""

    def __init__(self, site: Site, config: Callable[[], WebConfig] = WebConfig) -> None:
        self._site = site
        self._config = config
        self._auth = BasicAuth()
        self._executor = ThreadPoolExecutor(_WORKERS, "web")
        self._computing = 0
        self._bucket: _Bucket | None = None
        self._limits: set[asyncio.Timeout] = set()
        self._routes: dict[str, _Route] = {
            "/": (_READ, self._status),
            "/campaigns": (_READ, self._campaigns),
            "/-/healthy": (_READ, self._healthy),
            "/-/ready": (_READ, self._ready),
            "/-/reload": (_CHANGE, self._reload),
            "/-/quit": (_CHANGE, self._quit),
            site.telemetry_path: (_READ, self._metrics),
        }

    def end_answers(self) -> None:
        """End every answer under way, short or not begun. On the event loop's thread."""
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """Let go of the threads."""
        self._auth.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            # A peer that reads too slowly is left: its answer ends short, and its connection is closed.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEND_SECONDS) as limit:
                    self._limits.add(limit)
                    try:
                        await self._http(scope, receive, send)
                    finally:
                        self._limits.discard(limit)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        request = _Request(
            method=scope["method"],
            path=scope["path"],
            raw_path=raw.decode("latin-1"),
            query=scope.get("query_string", b""),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        )
        config = self._config()
        try:
            answer = await self._answer(request, config)
        except Exception:  # noqa: BLE001 - whatever it is, it must not reach the peer
            _log.exception("a request could not be answered")
            answer = _text(500, "internal error; the log has more")
        await _reply(request, answer, config, receive, send)

    async def _answer(self, request: _Request, config: WebConfig) -> _Answer:
        if not self._allowed(config.rate_limit):
            return _text(429, "too many requests")
        if config.users:
            verdict = await self._auth.check(request.headers.get("authorization"), config.users)
            if verdict is Verdict.BUSY:
                return _text(503, "too many passwords to check; try again", ("retry-after", "1"))
            if verdict is Verdict.REFUSED:
                return _text(401, "unauthorized", ("www-authenticate", 'Basic realm="intarget-exporter"'))
        route = self._routes.get(request.path) or self._campaign_route(request)
        if route is None:
            return _text(404, "not found; / has links to what there is")
        methods, handler = route
        if request.method not in methods:
            return _text(405, f"use {' or '.join(methods)}", ("allow", ", ".join(methods)))
        return await handler(request)

    def _allowed(self, limit: RateLimit | None) -> bool:
        if limit is None:
            self._bucket = None
            return True
        now = asyncio.get_running_loop().time()
        if self._bucket is None or self._bucket.limit != limit:
            self._bucket = _Bucket(limit, now)
        return self._bucket.take(now)

    async def _compute(self, work: Callable[[], _Answer]) -> _Answer:
        """Return what `work` returns, on a thread, so that health stays quick meanwhile."""
        if self._computing >= _MAX_COMPUTING:
            return _text(503, "too many requests under way; try again", ("retry-after", "1"))
        self._computing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._computing -= 1

    async def _metrics(self, request: _Request) -> _Answer:
        work = partial(self._exposition, request)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _exposition(self, request: _Request) -> _Answer:
        response = self._site.exposition(request.headers.get("accept"), request.headers.get("accept-encoding"))
        headers = [("vary", "Accept, Accept-Encoding")]
        if response.content_encoding is not None:
            headers.append(("content-encoding", response.content_encoding))
        return _Answer(200, response.body, response.content_type, tuple(headers))

    async def _healthy(self, _request: _Request) -> _Answer:
        return _text(200, "ok")

    async def _ready(self, _request: _Request) -> _Answer:
        waiting = [account for account in self._site.accounts() if not account.ready]
        if not waiting:
            return _text(200, "ready")
        lines = [
            f"account {account.account}: {account.problem or 'no poll has finished yet'}" for account in waiting
        ]
        return _text(503, "\n".join(" ".join(line.split()) for line in lines))

    async def _reload(self, request: _Request) -> _Answer:
        refusal = self._lifecycle(request)
        if refusal is not None:
            return refusal
        try:
            await asyncio.to_thread(self._site.reload)  # reads files, and may wait for a save
        except ConfigError as error:
            return _text(500, "configuration not reloaded, the one before stays:\n" + "\n".join(error.faults))
        return _text(200, "configuration reloaded")

    async def _quit(self, request: _Request) -> _Answer:
        refusal = self._lifecycle(request)
        if refusal is not None:
            return refusal
        self._site.quit()
        return _text(200, "stopping")

    def _lifecycle(self, request: _Request) -> _Answer | None:
        if not self._site.lifecycle:
            return _text(403, "the lifecycle endpoints are off; start with --web.enable-lifecycle")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _text(403, "refused: another web site asked for this")
        return None

    def _frame(self) -> pages.Frame:
        site = self._site
        return pages.Frame(site.clock(), site.version, site.telemetry_path, site.documentation)

    async def _status(self, _request: _Request) -> _Answer:
        frame, accounts = self._frame(), self._site.accounts()
        return await self._compute(lambda: _html(200, pages.status(frame, accounts)))

    async def _campaigns(self, request: _Request) -> _Answer:
        frame, snapshot = self._frame(), self._site.snapshot()
        query = campaigns.ListQuery.decode(request.query)
        return await self._compute(
            lambda: _html(200, pages.campaigns(frame, snapshot, campaigns.select(snapshot, query))),
        )

    def _campaign_route(self, request: _Request) -> _Route | None:
        # From the raw path: an account's name may hold an encoded slash.
        match request.raw_path.split("/"):
            case ["", "campaigns", account, number] if _ID.fullmatch(number):
                return _READ, partial(self._campaign, unquote(account), int(number))
            case _:
                return None

    async def _campaign(self, account: str, number: int, _request: _Request) -> _Answer:
        frame, snapshot = self._frame(), self._site.snapshot()
        return await self._compute(partial(_campaign, frame, snapshot, account, number))


class _Bucket:
    """A token bucket for `limit`, full at first."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self._tokens = float(limit.burst)
        self._since = now

    def take(self, now: float) -> bool:
        self._tokens = min(self.limit.burst, self._tokens + (now - self._since) / self.limit.interval)
        self._since = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _text(status: int, text: str, *headers: tuple[str, str]) -> _Answer:
    return _Answer(status, f"{text}\n".encode("utf-8", "replace"), headers=headers)


def _html(status: int, page: str) -> _Answer:
    return _Answer(status, page.encode("utf-8", "replace"), "text/html; charset=utf-8")


def _campaign(frame: pages.Frame, snapshot: Snapshot, account: str, campaign_id: int) -> _Answer:
    found = campaigns.find(snapshot, account, campaign_id)
    if found is None:
        return _html(
            404, pages.not_found(frame, 2, "No such campaign is tracked: it may have left the window.")
        )
    return _html(200, pages.campaign(frame, *found))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _reply(request: _Request, answer: _Answer, config: WebConfig, receive: Receive, send: Send) -> None:
    headers = dict(_HEADERS)
    headers.update(answer.headers)
    for name, value in config.headers.items():
        headers[name.lower()] = value
    headers["content-type"] = answer.content_type
    headers["content-length"] = str(len(answer.body))
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items() if value]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    body = b"" if request.method == "HEAD" else answer.body
    if len(body) <= _CHUNK:
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return
    gone = asyncio.create_task(_disconnected(receive))
    try:
        for first in range(0, len(body), _CHUNK):
            # Writing to a peer that left fails without a pause, in which the news of it could come.
            await asyncio.sleep(0)
            if gone.done():
                return
            more = first + _CHUNK < len(body)
            await send({"type": "http.response.body", "body": body[first : first + _CHUNK], "more_body": more})
    finally:
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
