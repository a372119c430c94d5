"""The application: routes, methods, headers, lifecycle, load."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import ConfigError
from exporter.tracking.model import Snapshot
from exporter.web.routes import WebApp, _chunks
from exporter.web.toolkit_config import ToolkitConfig
from tests._websites import (
    EXPOSITION,
    Answer,
    Exposed,
    Parsed,
    acall,
    account,
    call,
    campaign,
    site,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import MutableMapping

HASH = "$2b$04$KE5g5VRrB3ckO9FN3OC.a.DRzSMLwTOAMDnDYGRZ0gYMwYSXbBm1q"


def test_metrics() -> None:
    """The exposition is sent as negotiated, with its length and what it varies by."""
    asked: list[tuple[str | None, str | None]] = []

    def exposition(accept: str | None, encoding: str | None, _now: float) -> Exposed:
        asked.append((accept, encoding))
        return Exposed((b"zipped",), "application/openmetrics-text; version=1.0.0; charset=utf-8", "gzip")

    answer = call(site(exposition=exposition), "/metrics", accept="a/b", accept_encoding="gzip")
    assert [("a/b", "gzip")] == asked
    assert (200, b"zipped", "gzip", "6") == (
        answer.status,
        answer.body,
        answer.headers["content-encoding"],
        answer.headers["content-length"],
    )
    assert "application/openmetrics-text; version=1.0.0; charset=utf-8" == answer.headers["content-type"]
    assert "Accept, Accept-Encoding" == answer.headers["vary"]


def test_metrics_without_headers() -> None:
    """A client that says nothing gets None for both, and no Content-Encoding."""
    asked: list[tuple[str | None, str | None]] = []

    def exposition(accept: str | None, encoding: str | None, _now: float) -> Exposed:
        asked.append((accept, encoding))
        return Exposed()

    answer = call(site(exposition=exposition), "/metrics")
    assert [(None, None)] == asked
    assert "content-encoding" not in answer.headers


def test_telemetry_path() -> None:
    """--web.telemetry-path moves the exposition."""
    moved = site(telemetry_path="/own")
    assert [EXPOSITION, 404] == [call(moved, "/own").body, call(moved, "/metrics").status]


def test_metrics_at_hand() -> None:
    """What is at hand is sent without a thread."""

    def exposition(*_: object) -> Exposed:
        raise AssertionError

    at_hand = {"exposition": exposition, "exposition_at_hand": lambda *_: Exposed((b"at hand",))}
    assert b"at hand" == call(site(**at_hand), "/metrics").body


def test_a_large_body_is_sent_in_pieces() -> None:
    """An exposition of megabytes is never handed over in one piece."""
    body = bytes(range(256)) * 4096
    sizes: list[int] = []

    async def main() -> None:
        app = WebApp(site(exposition=lambda *_: Exposed((body,))))

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            sizes.append(len(message.get("body", b"")))

        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
        await app(scope, receive, send)
        answer = await acall(app, "/metrics")
        assert body == answer.body
        app.close()

    asyncio.run(main())
    assert len(body) == sum(sizes)
    assert max(sizes) <= 262144


def test_a_peer_that_left_is_not_sent_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    """Once the client is gone, sending stops, without a line in the log."""
    sent: list[str] = []

    async def main() -> None:
        app = WebApp(site(exposition=lambda *_: Exposed((bytes(1 << 20),))))

        async def receive() -> MutableMapping[str, Any]:
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message["type"])
            if len(sent) == 3:
                raise ConnectionResetError

        await app({"type": "http", "method": "GET", "path": "/metrics", "headers": []}, receive, send)
        app.close()

    asyncio.run(main())
    assert (3, "") == (len(sent), caplog.text)


@pytest.mark.parametrize("path", ["/", "/metrics", "/campaigns", "/-/healthy", "/-/ready"])
def test_head(path: str) -> None:
    """HEAD has the headers of GET, the length too, and no body."""
    get, head = call(site(), path), call(site(), path, "HEAD")
    assert (get.status, get.headers, b"") == (head.status, head.headers, head.body)


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("/", "POST", "GET, HEAD"),
        ("/metrics", "DELETE", "GET, HEAD"),
        ("/campaigns/main/1", "PUT", "GET, HEAD"),
        ("/-/reload", "GET", "POST, PUT"),
        ("/-/quit", "HEAD", "POST, PUT"),
    ],
)
def test_other_methods(path: str, method: str, allow: str) -> None:
    """A wrong method is told which are right."""
    answer = call(site(lifecycle=True), path, method)
    assert (405, set(allow.split(", "))) == (answer.status, set(answer.headers["allow"].split(", ")))


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/campaigns/main", "/static/other.css"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_unknown_path(path: str, method: str) -> None:
    """A path that isn't there is a plain 404, whatever is wanted of it."""
    answer = call(site(), path, method)
    assert (404, "text/plain; charset=utf-8") == (answer.status, answer.headers["content-type"])


@pytest.mark.parametrize("path", ["/", "/metrics", "/campaigns", "/nothing", "/-/ready", "/-/reload"])
def test_security_headers(path: str) -> None:
    """Every answer has the policy and forbids sniffing, framing, referrers and storing."""
    headers = call(site(), path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; ")
    assert ["nosniff", "DENY", "no-referrer", "no-store"] == [
        headers[name]
        for name in ("x-content-type-options", "x-frame-options", "referrer-policy", "cache-control")
    ]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_healthy() -> None:
    """Health is 200 and says ok."""
    answer = call(site(), "/-/healthy")
    assert (200, "ok\n") == (answer.status, answer.text)


def test_ready() -> None:
    """Ready once every account is."""
    answer = call(site(), "/-/ready")
    assert (200, "ready\n") == (answer.status, answer.text)


def test_not_ready() -> None:
    """Otherwise 503, with a line for each account that isn't ready and why."""
    accounts = (
        account("a"),
        account("b", ready=False, problem="stale for\n2 hours"),
        account("c", ready=False),
    )
    answer = call(site(accounts=lambda: accounts), "/-/ready")
    assert (503, "account b: stale for 2 hours\naccount c: no poll has finished yet\n") == (
        answer.status,
        answer.text,
    )


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", ["/-/reload", "/-/quit"])
def test_lifecycle(path: str, method: str) -> None:
    """With --web.enable-lifecycle, reload and quit do what they say, once."""
    done: list[str] = []
    built = site(lifecycle=True, reload=lambda: done.append("/-/reload"), quit=lambda: done.append("/-/quit"))
    assert 200 == call(built, path, method).status
    assert [path] == done


@pytest.mark.parametrize("path", ["/-/reload", "/-/quit"])
def test_lifecycle_off(path: str) -> None:
    """Without the flag nothing is done, and the answer says what to do."""
    done: list[int] = []
    answer = call(site(reload=lambda: done.append(1), quit=lambda: done.append(1)), path, "POST")
    assert (403, []) == (answer.status, done)
    assert "--web.enable-lifecycle" in answer.text


def test_lifecycle_from_another_site() -> None:
    """A foreign web page can't make a browser reload or stop the exporter."""
    done: list[int] = []
    built = site(lifecycle=True, quit=lambda: done.append(1))
    assert (403, []) == (call(built, "/-/quit", "POST", sec_fetch_site="cross-site").status, done)


def test_reload_failure() -> None:
    """A bad file is a 500 with every fault."""

    def reload() -> None:
        raise ConfigError(["config.yaml:3: poll.window: not a duration", "config.yaml:9: api: unknown key"])

    answer = call(site(lifecycle=True, reload=reload), "/-/reload", "POST")
    assert 500 == answer.status
    assert "config.yaml:3: poll.window: not a duration\nconfig.yaml:9: api: unknown key\n" in answer.text


def test_a_fault_inside_tells_the_peer_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is a 500 without its text, and is logged."""

    def exposition(*_: object) -> Exposed:
        raise RuntimeError("inner detail")

    answer = call(site(exposition=exposition), "/metrics")
    assert (500, False) == (answer.status, "inner" in answer.text)
    assert "a request could not be answered" in caplog.text


@pytest.mark.parametrize("number", ["x", "9" * 5000, "\u0663", "1.0", "-1"])
def test_what_is_no_campaign_id(number: str) -> None:
    """Anything but a whole number is not found, however long."""
    assert 404 == call(site(), f"/campaigns/main/{number}").status


@pytest.mark.parametrize("digits", [19, 40, 1000])
def test_identifiers_have_no_upper_bound(digits: int) -> None:
    """A campaign with a long identifier has its page."""
    number = int("7" * digits)
    built = site(snapshot=lambda: snapshot(replace(campaign(), campaign_id=number)))
    assert 200 == call(built, f"/campaigns/main/{number}").status


def test_static_files() -> None:
    """The style sheet and the icon are ours, typed, and may be kept by browsers."""
    for name, kind in (("style.css", "text/css; charset=utf-8"), ("icon.svg", "image/svg+xml")):
        answer = call(site(), f"/static/{name}")
        assert (200, kind) == (answer.status, answer.headers["content-type"])
        assert answer.headers["cache-control"].startswith("private, max-age=")


def test_configuration() -> None:
    """/config shows what is in force, as text."""
    answer = call(site(configuration=lambda: "accounts: <b>"), "/config")
    assert "accounts: <b>" in Parsed(answer.text).text


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"origin": "http://evil.example", "host": "exporter.example:10095"}, True),
        ({"origin": "null", "host": "exporter.example:10095"}, True),
        ({"origin": "http://exporter.example:10095", "host": "exporter.example:10095"}, False),
        ({"host": "exporter.example:10095"}, False),
    ],
)
def test_lifecycle_from_another_origin(headers: dict[str, str], refused: bool) -> None:  # noqa: FBT001
    """Over plain http browsers send no Sec-Fetch-Site: the Origin must be the host that is asked."""
    done: list[int] = []
    built = site(lifecycle=True, quit=lambda: done.append(1))
    assert (403 if refused else 200) == call(built, "/-/quit", "POST", **headers).status
    assert ([] if refused else [1]) == done


def test_large_parts_are_not_copied() -> None:
    """Pieces of a large part are views of it; small neighbours are sent as one."""
    large = bytes(800_000)
    chunks = list(_chunks((b"a", b"b", large, b"c", b"d")))
    assert [2, 262144, 262144, 262144, 13568, 2] == [len(chunk) for chunk in chunks]
    assert all(chunk.obj is large for chunk in chunks if isinstance(chunk, memoryview))


def test_pages_are_html() -> None:
    """/, /campaigns and a campaign's page are HTML documents."""
    for path in ("/", "/campaigns?q=camp", "/campaigns/main/1"):
        answer = call(site(), path)
        assert (200, "text/html; charset=utf-8") == (answer.status, answer.headers["content-type"])
        assert answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("target", "status"), [("/campaigns/main/2", 404), ("/campaigns/none/1", 404)])
def test_unknown_campaign(target: str, status: int) -> None:
    """A campaign that isn't tracked is a 404 page with a way back."""
    answer = call(site(), target)
    assert status == answer.status
    assert "../../campaigns" in Parsed(answer.text).attributes("a", "href")


def test_every_link_of_the_list_leads_somewhere() -> None:
    """An account's name may hold a slash, a question mark or a percent sign."""
    built = site(snapshot=lambda: snapshot(campaign(7), account="a/b?%2F\u00e9"))
    hrefs = Parsed(call(built, "/campaigns").text).attributes("a", "href")
    (href,) = [href for href in hrefs if href.startswith("./campaigns/")]
    answer = call(built, href.removeprefix("."))
    assert 200 == answer.status
    assert "a/b?%2F\u00e9" in Parsed(answer.text).text


def test_health_answers_while_the_exposition_is_rendered() -> None:
    """A first rendering of a second doesn't hold up health."""
    begun, go_on = threading.Event(), threading.Event()

    def exposition(*_: object) -> Exposed:
        begun.set()
        assert go_on.wait(60)
        return Exposed()

    async def main() -> tuple[Answer, Answer]:
        app = WebApp(site(exposition=exposition))
        scrape = asyncio.create_task(acall(app, "/metrics"))
        await asyncio.to_thread(begun.wait, 60)
        health = await acall(app, "/-/healthy")
        assert not scrape.done()
        go_on.set()
        answers = (health, await scrape)
        app.close()
        return answers

    assert [200, 200] == [answer.status for answer in asyncio.run(main())]


def test_too_many_pages_at_once() -> None:
    """Beyond 40 pages under way further ones are turned away, and scrapes wait for none of them."""
    go_on = threading.Event()

    def configuration() -> str:
        assert go_on.wait(60)
        return "accounts: []"

    async def main() -> list[int]:
        app = WebApp(site(configuration=configuration))
        pages = [asyncio.create_task(acall(app, "/config")) for _ in range(45)]
        done, _ = await asyncio.wait(pages, return_when=asyncio.FIRST_COMPLETED)
        assert {503} == {task.result().status for task in done}
        assert 200 == (await acall(app, "/metrics")).status
        go_on.set()
        statuses = [answer.status for answer in await asyncio.gather(*pages)]
        app.close()
        return statuses

    assert [200] * 40 + [503] * 5 == sorted(asyncio.run(main()))


def with_config(config: ToolkitConfig, *requests: tuple[str, dict[str, str]]) -> list[Answer]:
    """Return what one application with `config` answers to `requests`, in turn."""

    async def main() -> list[Answer]:
        app = WebApp(site(lifecycle=True), lambda: config)
        try:
            return [await acall(app, path, **headers) for path, headers in requests]
        finally:
            app.close()

    return asyncio.run(main())


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/nothing"])
def test_authentication_covers_everything(path: str) -> None:
    """Without the password there is nothing to see, not even which paths exist."""
    (answer,) = with_config(ToolkitConfig(basic_auth_users={"alice": HASH}), (path, {}))
    assert (401, 'Basic realm="intarget-exporter"') == (answer.status, answer.headers["www-authenticate"])


def test_configured_headers_replace_ours() -> None:
    """Headers of the web configuration win; a blank one is unset."""
    config = ToolkitConfig.model_validate(
        {"http_server_config": {"headers": {"X-Frame-Options": "sameorigin", "Content-Security-Policy": ""}}}
    )
    (answer,) = with_config(config, ("/", {}))
    assert "sameorigin" == answer.headers["x-frame-options"]
    assert "content-security-policy" not in answer.headers


def test_rate_limit() -> None:
    """Beyond the burst, requests are refused."""
    answers = with_config(
        ToolkitConfig.model_validate({"rate_limit": {"interval": "1h", "burst": 2}}), *[("/-/healthy", {})] * 3
    )
    assert [200, 200, 429] == [answer.status for answer in answers]


def test_empty_site() -> None:
    """A shard without accounts is ready, and its pages work."""
    empty = site(accounts=tuple, snapshot=Snapshot)
    assert [200] * 3 == [call(empty, path).status for path in ("/", "/campaigns", "/-/ready")]
