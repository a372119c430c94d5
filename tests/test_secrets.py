"""A token that must never be seen, through every way that something can go wrong.

It has characters that need quoting, so that its quoted forms are looked for, too.
"""

from __future__ import annotations

import base64
import html
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from tests._apiserver import CONVERSIONS, STATISTICS, Api, ApiServer, Asked, conversion, row
from tests._program import Program, Samples, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

TOKEN = "cAn/ary+tok=en%25&x;'9f"
PASSWORD = "pr0xy-PassWord!9"
ANYWHERE = "--web.listen-address=127.0.0.1:0"


def forms(secret: str) -> set[str]:
    """Return every form in which a secret could appear."""
    plain = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        html.escape(secret),
        repr(secret)[1:-1],
    }
    plain |= {json.dumps(secret)[1:-1], secret.replace("&", "\\u0026")}
    plain |= {form.lower() for form in plain}
    # The beginning would be enough to go on with, and shows that a form above was overlooked
    plain |= {"cAn/ary", "cAn%2Fary", "can%2fary"} if secret == TOKEN else {secret[:8]}
    return plain | {base64.b64encode(secret.encode()).decode()}


def assert_hidden(where: str, text: str) -> None:
    """Fail, without showing the text, if a secret is in it."""
    for secret in (TOKEN, PASSWORD):
        found = [form for form in forms(secret) if form in text]
        assert [] == found, f"a secret is in {where}"


@pytest.mark.parametrize("form", [TOKEN, quote(TOKEN), quote(TOKEN, safe=""), PASSWORD, ascii(TOKEN)])
def test_the_search_finds_what_it_should(form: str) -> None:
    """A test that couldn't fail would prove nothing."""
    with pytest.raises(AssertionError):
        assert_hidden("here", f"so it is {form} then")


def config(path: Path, url: str, *, account: dict[str, Any] | None = None, **api: object) -> Path:
    """Write a config file for the server at `url`."""
    document = {
        "accounts": [{"name": "main", "access_token": TOKEN, "base_url": url} | (account or {})],
        "poll": {"refresh": [{"younger_than": "14d", "every": "500ms"}], "conversions_every": "500ms"},
        "api": {"requests_per_second": 1000, "retries": 1, "timeout": "1s", "deadline": "3s"} | api,
    }
    file = path / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    file.chmod(0o600)
    return file


def assert_nothing_leaks(
    path: Path, file: Path, until_seen: str, forms_of_logs: tuple[str, ...] = ("json",)
) -> str:
    """Run the exporter at debug level until its log has `until_seen`; look everywhere. Return its output."""
    for form in forms_of_logs:
        (path / form).mkdir()
        flags = ("--config.file", str(file), ANYWHERE, "--log.level=debug", f"--log.format={form}")
        with Program(*flags, "--web.enable-lifecycle", cwd=path / form) as program:
            until(lambda program=program: until_seen in program.output, f"{until_seen} in the log")
            for page in ("/metrics", "/", "/campaigns", "/campaigns/main/1", "/-/ready", "/-/healthy", "/no"):
                assert_hidden(page, program.get(page)[1])
            openmetrics = program.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")[1]
            assert_hidden("OpenMetrics", openmetrics)
            assert_hidden("the answer to a reload", program.get("/-/reload", "POST")[1])
            assert 0 == program.stop()
            output = program.output
        assert_hidden("the output", output)
        for state in (path / form).glob("intarget-exporter.db*"):
            assert_hidden("the state file", state.read_bytes().decode("latin-1"))
    result = run("once", "--output=json", "--config.file", str(file), "--log.level=debug", cwd=path)
    assert_hidden("stdout", result.stdout)
    assert_hidden("stderr", result.stderr)
    return output


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Serve one campaign to those who have the token."""
    with ApiServer(Api(tokens=frozenset({TOKEN}))) as one:
        start = time.time() - 3600
        one.api.rows = {STATISTICS: [row(1, start)], CONVERSIONS: [conversion(1, start)]}
        yield one
        assert one.api.asked
        assert {TOKEN} == {asked.parameters["access-token"][0] for asked in one.api.asked}


ECHO = f"you sent access-token={quote(TOKEN, safe='')} and {TOKEN}".encode()


def cut(asked: Asked) -> tuple[int, dict[str, str], bytes]:
    """Promise more than comes."""
    return 200, {"Connection": "close", "Transfer-Encoding": "chunked"}, b"fff\r\n" + ECHO + asked.path.encode()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: None, ""),
        (lambda _: (401, {}, ECHO), "auth"),
        (lambda _: (403, {"WWW-Authenticate": ECHO.decode()}, ECHO), "auth"),
        (lambda _: (404, {}, ECHO), "client_error"),
        (lambda _: (422, {}, json.dumps({"message": ECHO.decode()}).encode()), "client_error"),
        (lambda _: (429, {"Retry-After": ECHO.decode()}, ECHO), "rate_limited"),
        (lambda _: (500, {}, ECHO), "server_error"),
        (
            lambda _: (302, {"Location": f"http://127.0.0.1:1/?access-token={TOKEN}"}, ECHO),
            "client_error",
        ),
        (lambda _: (200, {"Content-Type": "text/html"}, b"<html>" + ECHO), "bad_response"),
        (lambda _: (200, {}, json.dumps({"error": ECHO.decode()}).encode()), "bad_response"),
        (lambda _: (200, {}, json.dumps({ECHO.decode(): 1, TOKEN: []}).encode()), ""),
        (
            lambda _: (200, {}, json.dumps([{"campaign_id": TOKEN, TOKEN: TOKEN}]).encode()),
            "bad_response",
        ),
        (lambda _: (200, {"Content-Encoding": "gzip"}, ECHO), "bad_response"),
        (lambda _: (200, {"X-Pagination-Total-Count": TOKEN, TOKEN: "x"}, b"[]"), ""),
        (cut, "connection"),
    ],
)
def test_answers(server: ApiServer, tmp_path: Path, answer: Callable[[Asked], Any], reason: str) -> None:
    """Whatever the API answers, be it the token itself, nothing of it is shown."""
    server.api.fault = answer
    file = config(tmp_path, server.url)
    logs = ("logfmt", "json") if reason in {"", "auth"} else ("json",)
    output = assert_nothing_leaks(tmp_path, file, "poll failed" if reason else "poll done", logs)
    assert "Traceback" not in output
    assert f'"reason": "{reason}"' in output or not reason


def test_a_title_with_the_token(server: ApiServer, tmp_path: Path) -> None:
    """Titles are data, and believed even if an API puts the token into one; but logs are redacted."""
    for path in (STATISTICS, CONVERSIONS):
        server.api.rows[path][0]["message_title"] = f"hello {TOKEN}"
    file = config(tmp_path, server.url)
    result = run("once", "--config.file", str(file), "--log.level=debug", cwd=tmp_path)
    assert 0 == result.returncode
    assert_hidden("stderr", result.stderr)


def refused() -> str:
    """Return the address of a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return f"127.0.0.1:{one.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("http://REFUSED", {}),
        (f"http://{'no-such-host' * 6}.invalid", {}),  # too long to be asked for outside
        ("http://REFUSED", {"proxy": f"http://user:{PASSWORD}@REFUSED"}),
        ("https://example.invalid", {"proxy": f"http://user:{PASSWORD}@REFUSED"}),
    ],
)
def test_no_connection(tmp_path: Path, url: str, api: dict[str, object]) -> None:
    """No connection, no such name, a proxy that isn't there: the reason is told, and no address."""
    nobody = refused()
    api = {key: str(value).replace("REFUSED", nobody) for key, value in api.items()}
    file = config(tmp_path, url.replace("REFUSED", nobody), **api)
    assert "connection" in assert_nothing_leaks(tmp_path, file, "poll failed")


def test_tls_to_a_plain_server(server: ApiServer, tmp_path: Path) -> None:
    """A failing TLS handshake shows nothing."""
    run("once", "--config.file", str(config(tmp_path, server.url)), cwd=tmp_path)
    url = server.url.replace("http:", "https:")
    output = assert_nothing_leaks(tmp_path, config(tmp_path, url), "poll failed")
    assert "TLS failed" in output


def test_a_refusing_proxy(server: ApiServer, tmp_path: Path) -> None:
    """A proxy sees the request, since that is its work; nobody else sees its password or the token."""
    server.api.fault = lambda _: (407, {"Proxy-Authenticate": ECHO.decode()}, ECHO)
    proxy = server.url.replace("//", f"//user:{PASSWORD}@")
    assert_nothing_leaks(tmp_path, config(tmp_path, "http://127.0.0.1:9", proxy=proxy), "poll failed")


def test_a_hanging_api(server: ApiServer, tmp_path: Path) -> None:
    """A timeout shows nothing."""
    go = threading.Event()

    def hang(_: Asked) -> None:
        go.wait(60)

    server.api.fault = hang
    output = assert_nothing_leaks(tmp_path, config(tmp_path, server.url, retries=0), "poll failed")
    assert "no complete answer" in output
    go.set()


@pytest.mark.parametrize(
    "broken",
    [
        {"base_url": f"http://127.0.0.1/?access-token={TOKEN}"},
        {"base_url": f"http://user:{PASSWORD}@127.0.0.1/"},
        {"base_url": TOKEN},
        {"currency": TOKEN},
        {"access_token": f"{TOKEN}\n{TOKEN}"},
        {"access_token": [TOKEN]},
        {"access_token_env": TOKEN},
        {"access_token_file": f"/nowhere/{TOKEN}", "access_token": None},
        {TOKEN: TOKEN},
        {"name": [TOKEN]},
    ],
)
def test_bad_configurations(tmp_path: Path, broken: dict[str, object]) -> None:
    """A wrong file is refused without a value of it in any fault; keys that aren't keys are values, too."""
    file = config(tmp_path, "http://127.0.0.1:9", account=broken)
    document = yaml.safe_load(file.read_text())
    document["accounts"][0] = {
        key: value for key, value in document["accounts"][0].items() if value is not None
    }
    file.write_text(yaml.safe_dump(document))
    for flags in ((ANYWHERE,), ("once",), ("check-config",)):
        result = run(*flags, "--config.file", str(file), "--log.level=debug", cwd=tmp_path)
        if flags != ("check-config",):
            assert 2 == result.returncode
        assert_hidden("stdout", result.stdout)
        assert_hidden("stderr", result.stderr)


def test_a_token_in_the_environment(server: ApiServer, tmp_path: Path) -> None:
    """So it is with a token from a variable, in a file that names the variable."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "accounts:\n  - {name: main, access_token_env: THE_TOKEN, "
        f"base_url: '{server.url}'}}\napi: {{retries: 0, requests_per_second: 100}}\n"
    )
    result = run(
        "once", "--config.file", str(file), "--log.level=debug", cwd=tmp_path, env={"THE_TOKEN": TOKEN}
    )
    assert 0 == result.returncode
    assert 1 == Samples(result.stdout).value("intarget_up")
    assert_hidden("stdout", result.stdout)
    assert_hidden("stderr", result.stderr)
    server.api.fault = lambda _: (500, {}, ECHO)
    result = run(
        "once", "--config.file", str(file), "--log.level=debug", cwd=tmp_path, env={"THE_TOKEN": TOKEN}
    )
    assert 1 == result.returncode
    assert_hidden("stdout", result.stdout)
    assert_hidden("stderr", result.stderr)
