"""Logging: the two formats, and that no secret passes in any form, by any way."""

from __future__ import annotations

import gc
import io
import json
import logging
import re
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from exporter import logs
from exporter.logs import fields, redact, register_secret, setup
from tests._examples import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = 'k4nar1/+en&vo"g\\el=ü'
"""A token that looks different in URLs, JSON, reprs and logfmt."""


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave logging, the hooks and the secrets as they were."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    for module, hook in ((sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(module, hook, getattr(module, hook))
    monkeypatch.setattr(logs, "_secrets", logs._Secrets())
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    logging.getLogger("apscheduler").setLevel(logging.NOTSET)


@pytest.fixture
def out() -> io.StringIO:
    """Where the log goes."""
    return io.StringIO()


def parse_logfmt(line: str) -> dict[str, str]:
    """Return the pairs of a logfmt line, strictly: anything left over is an error."""
    pair = re.compile(r'([A-Za-z0-9_.-]+)=(?:("(?:[^"\\]|\\.)*")|([^\s"=]+))(?: |$)')
    pairs = {}
    position = 0
    while position < len(line):
        match = pair.match(line, position)
        assert match is not None, line[position:]
        assert match[1] not in pairs
        pairs[match[1]] = json.loads(match[2]) if match[2] else match[3]
        position = match.end()
    return pairs


def lines(out: io.StringIO) -> list[str]:
    """Return the lines logged, and check that nothing but a newline can end one."""
    text = out.getvalue()
    assert text.split("\n")[:-1] == text.splitlines()
    return text.splitlines()


def forms(secret: str) -> list[str]:
    """Return the ways in which a secret may stand in a log."""
    return [
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(quote(secret, safe=""), safe=""),
        re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quote(secret, safe="")),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    ]


def assert_hidden(text: str, secret: str = CANARY) -> None:
    """Fail if `text` holds the secret in any form."""
    for form in forms(secret):
        assert form not in text


# Formats


def test_logfmt_line(out: io.StringIO) -> None:
    """A logfmt line has time, level, logger, message and fields, quoted where needed."""
    setup("info", "logfmt", out)
    record = logging.makeLogRecord(
        {
            "name": "exporter.api",
            "levelno": logging.INFO,
            "levelname": "INFO",
            "created": 1795453500.12,
            "msg": "poll %s",
            "args": ("done",),
            **fields(
                account="main", rows=3, seconds=0.25, ok=True, error=None, why='say "no"', empty="", ids=[1, 2]
            ),
        },
    )
    logging.getLogger().handle(record)

    assert [
        (
            'ts=2026-11-23T17:05:00.120Z level=info logger=exporter.api msg="poll done" account=main rows=3 '
            'seconds=0.25 ok=true error=null why="say \\"no\\"" empty="" ids="[1, 2]"'
        ),
    ] == lines(out)


def test_json_line(out: io.StringIO) -> None:
    """A JSON line has the same pairs, typed."""
    setup("info", "json", out)
    logging.getLogger("exporter.api").warning(
        "poll done", extra=fields(account="Ünï", rows=3, nan=float("nan"), ok=False)
    )
    (line,) = lines(out)
    pairs = json.loads(line)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", pairs.pop("ts"))
    assert {
        "level": "warning",
        "logger": "exporter.api",
        "msg": "poll done",
        "account": "Ünï",
        "rows": 3,
        "nan": "nan",
        "ok": False,
    } == pairs


def test_keys_cannot_collide_or_break_the_line(out: io.StringIO) -> None:
    """Field names that are taken get an underscore, and other characters become one."""
    setup("info", "logfmt", out)
    logging.getLogger("x").info("m", extra=fields(**{"msg": 1, "level": 2, "a b=c": 3, "": 4}))

    assert {
        "msg": "m",
        "msg_": "1",
        "level": "info",
        "level_": "2",
        "a_b_c": "3",
        "_": "4",
    }.items() <= parse_logfmt(lines(out)[0]).items()


@pytest.mark.parametrize("format", logs.FORMATS)
@pytest.mark.parametrize(
    "title",
    [
        'x\nlevel=error msg="forged"',
        "a\r\nb",
        'q" level=error',
        "\u2028\u2029\x85\x0b\x1b[31m",
        "\ud800",
        "\u202egnp",
        "🎉",
    ],
)
def test_hostile_text_stays_in_its_value(out: io.StringIO, format: str, title: str) -> None:  # noqa: A002
    """Nothing in a title can end the line, begin a pair or colour a terminal."""
    setup("info", format, out)
    logging.getLogger("x").info("campaign %s", title, extra=fields(title=title))
    (line,) = lines(out)
    pairs = json.loads(line) if format == "json" else parse_logfmt(line)

    assert ["ts", "level", "logger", "msg", "title"] == list(pairs)
    assert ("info", f"campaign {title}", title) == (pairs["level"], pairs["msg"], pairs["title"])
    assert line.isprintable()


@examples(150)
@given(st.text(), st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(), max_size=3))
@example("", {})
def test_logfmt_reads_back(message: str, values: dict[str, str]) -> None:
    """What a parser reads from a logfmt line is what was logged."""
    values = {key: text for key, text in values.items() if not logs._SENSITIVE_KEY.search(key)}
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "msg": "%s", "args": (message,), "fields": values}
    )
    line = logs.LogfmtFormatter().format(record)
    pairs = parse_logfmt(line)
    taken = {"ts", "level", "logger", "msg", "exception", "stack"}

    assert [line] == line.splitlines()
    assert redact(message) == pairs["msg"]
    assert {
        f"{key}_" if key in taken else key: redact(text) for key, text in values.items()
    }.items() <= pairs.items()


def test_warn_is_warning() -> None:
    """Both spellings set the same level."""
    setup("warn", stream=io.StringIO())
    assert logging.WARNING == logging.getLogger().level


@pytest.mark.parametrize(("level", "format"), [("loud", "json"), ("info", "xml"), ("INFO", "logfmt")])
def test_unknown_level_or_format(level: str, format: str) -> None:  # noqa: A002
    """A level or format that doesn't exist is refused with those that do."""
    with pytest.raises(ValueError, match="must be one of"):
        setup(level, format)


def test_levels(out: io.StringIO) -> None:
    """Records below the level aren't written; setup may be called again."""
    setup("error", "logfmt", out)
    logging.getLogger("x").warning("no")
    setup("debug", "logfmt", out)
    logging.getLogger("x").debug("yes")

    assert ["yes"] == [parse_logfmt(line)["msg"] for line in lines(out)]


def test_the_scheduler_is_quiet_at_info(out: io.StringIO) -> None:
    """The two lines of apscheduler per run are for debugging."""
    logger = logging.getLogger("apscheduler.executors.default")
    setup("info", "logfmt", out)
    logger.info("Running job")
    logger.warning("missed")
    setup("debug", "logfmt", out)
    logger.info("Running job again")

    assert ["missed", "Running job again"] == [parse_logfmt(line)["msg"] for line in lines(out)]


def test_urllib3_is_quiet_about_headers(out: io.StringIO) -> None:
    """A header that isn't one is a warning of urllib3, with the URL in it: only for debugging."""
    logger = logging.getLogger("urllib3.connection")
    for level in ("info", "warning", "error", "debug"):
        setup(level, "logfmt", out)
        logger.warning("Failed to parse headers")
    assert ["Failed to parse headers"] == [parse_logfmt(line)["msg"] for line in lines(out)]


def test_levels_hold_for_quiet_loggers(out: io.StringIO) -> None:
    """What is quieter than the rest is never louder than what was asked for."""
    setup("error", "logfmt", out)
    logging.getLogger("apscheduler").warning("no")
    assert [] == lines(out)


def test_default_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream the log goes to stderr."""
    setup()
    logging.getLogger("x").info("here")

    assert "msg=here" in capsys.readouterr().err


# Redaction


@pytest.mark.parametrize("format", logs.FORMATS)
@pytest.mark.parametrize("form", forms(CANARY))
def test_registered_secret_in_every_form(out: io.StringIO, format: str, form: str) -> None:  # noqa: A002
    """A registered secret passes in no encoding: in message, arguments, fields, keys or logger name."""
    setup("debug", format, out)
    register_secret(CANARY)
    logger = logging.getLogger("x")
    logger.info(form)
    logger.info("a %s b", form)
    logger.info("m", extra=fields(plain=form, nested={"deep": [form]}, raw=form.encode()))
    logging.getLogger(form).info("m")

    assert 4 == len(lines(out))
    assert_hidden(out.getvalue())
    for line in lines(out):
        assert json.loads(line) if format == "json" else parse_logfmt(line)


@pytest.mark.parametrize("format", logs.FORMATS)
def test_tracebacks(out: io.StringIO, format: str) -> None:  # noqa: A002
    """Tracebacks stay on the line, with causes and notes, and are redacted; the record keeps no raw copy."""
    setup("info", format, out)
    register_secret(CANARY)
    kept = []
    root = logging.getLogger()
    second = logging.Handler()
    second.emit = kept.append
    root.addHandler(second)
    try:
        try:
            int(f"https://x/rest?access-token={quote(CANARY)}")
        except ValueError as error:
            error.add_note(f"note {CANARY}")
            raise KeyError(CANARY) from error
    except KeyError:
        root.exception("failed", stack_info=True)
    (line,) = lines(out)
    pairs = json.loads(line) if format == "json" else parse_logfmt(line)

    assert_hidden(line)
    assert pairs["exception"].startswith("Traceback (most recent call last):\n")
    assert "direct cause" in pairs["exception"]
    assert pairs["stack"].startswith("Stack (most recent call last)")
    assert kept[0].exc_text is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /rest?access-token=abc&perPage=10 200", "GET /rest?access-token=***&perPage=10 200"),
        ("/rest?startFrom=1&access-token=a%2Bb HTTP/1.1", "/rest?startFrom=1&access-token=*** HTTP/1.1"),
        ("url=%3Faccess-token%3Dabc", "url=%3Faccess-token%3D***"),
        ("?access%2Dtoken=abc", "?access%2Dtoken=***"),
        ("{'access-token': 'abc', 'b': 1}", "{'access-token': '***', 'b': 1}"),
        ('{"access_token": "abc"}', '{"access_token": "***"}'),
        (r'"{\"access-token\": \"abc\"}"', r'"{\"access-token\": \"***"}"'),
        ("access_token=abc", "access_token=***"),
        ("Access-Token: abc", "Access-Token: ***"),
        ("access-token=***", "access-token=***"),
        ("accounts[0].access_token: is empty", "accounts[0].access_token: is empty"),
        ("access_token_env: is no name", "access_token_env: is no name"),
        ("Authorization: Bearer abc\nX: 1", "Authorization: ***\nX: 1"),
        ('authorization: Digest username="u", response="r"', "authorization: ***"),
        ("{'Authorization': 'Basic abc', 'b': 1}", "{'Authorization': '***', 'b': 1}"),
        ("{'Authorization': b'Basic abc', 'b': 1}", "{'Authorization': b'***', 'b': 1}"),
        ('"Proxy-Authorization": "Basic abc"', '"Proxy-Authorization": "***"'),
        ("Authorization: ***", "Authorization: ***"),
        ("proxy http://user:pa:ss@proxy:3128/x", "proxy http://***@proxy:3128/x"),
        ("mail a@b.example about https://x/?q=@", "mail a@b.example about https://x/?q=@"),
        ("nothing secret", "nothing secret"),
    ],
)
def test_patterns(text: str, expected: str) -> None:
    """Tokens and credentials that nobody registered are recognised by where they stand."""
    assert expected == redact(text)


@examples(150)
@given(
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Z")), min_size=4, max_size=30), st.text(max_size=10)
)
def test_redact_leaves_no_registered_secret(secret: str, around: str) -> None:
    """Whatever the secret and its surroundings, no form of it is left but what stood around it."""
    secrets = logs._Secrets()
    secrets.add(secret)
    for form in forms(secret):
        cleaned = secrets.remove(f"{around} {form} {around}")
        assert form in "***" or form not in cleaned or form in around or form in f"{around} *** {around}"


@pytest.mark.parametrize("format", logs.FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "/rest?access-token=zebra&a=1",
        "Authorization: Bearer zebra",
        "http://user:zebra@proxy",
        "{'access-token': 'zebra'}",
    ],
)
def test_unregistered_secrets(out: io.StringIO, format: str, text: str) -> None:  # noqa: A002
    """Credentials known by their place alone are hidden in every part of a line."""
    setup("info", format, out)
    logging.getLogger(f"logger {text}").info("m %s", text, exc_info=ValueError(text), extra=fields(url=text))
    (line,) = lines(out)

    assert "zebra" not in line
    assert 4 == line.count("***")


def test_registered_secret_as_field_name(out: io.StringIO) -> None:
    """The finished line is redacted once more, field names included."""
    setup("info", "logfmt", out)
    register_secret("zebra-4711")
    logging.getLogger("x").info("m", extra=fields(**{"zebra-4711": 1}))

    assert lines(out)[0].endswith(" msg=m ***=1")


def test_short_secrets(out: io.StringIO) -> None:
    """A secret of less than four characters doesn't black out the log, but its parameter is hidden."""
    setup("info", "logfmt", out)
    for secret in ("", "a", "abc"):
        register_secret(secret)
    logging.getLogger("x").info("a cab has abc: access-token=abc")

    assert "a cab has abc: access-token=***" == parse_logfmt(lines(out)[0])["msg"]


def test_longer_secret_first() -> None:
    """A secret that begins with another one leaves no tail."""
    register_secret("abcd")
    register_secret("abcdefgh")

    assert "*** ***" == redact("abcd abcdefgh")


def test_sensitive_fields(out: io.StringIO) -> None:
    """Fields named like credentials are hidden whatever they hold."""
    setup("info", "json", out)
    hidden = {
        "access_token": "q1",
        "access-token": "q2",
        "Authorization": "q3",
        "password": 5,
        "client_secret": "q4",
    }
    logging.getLogger("x").info("m", extra=fields(**hidden))

    assert {"***"} == {json.loads(lines(out)[0])[key] for key in hidden}


@pytest.mark.parametrize("format", logs.FORMATS)
def test_numeric_secrets_leave_the_line_readable(out: io.StringIO, format: str) -> None:  # noqa: A002
    """A token of digits is hidden in numbers too, and the line still parses."""
    setup("info", format, out)
    register_secret("12345678")
    register_secret("true")
    logging.getLogger("x").info("m", extra=fields(n=9123456780, f=1.12345678, ok=True, other=7))
    (line,) = lines(out)
    pairs: dict[str, Any] = json.loads(line) if format == "json" else parse_logfmt(line)

    assert "12345678" not in line
    assert ("***", "***", "***", "7") == (pairs["n"], pairs["f"], pairs["ok"], str(pairs["other"]))


def test_registering_from_threads() -> None:
    """Secrets registered at the same time are all taken out."""
    secrets = [f"secret-number-{number}-of-many" for number in range(200)]
    threads = [
        threading.Thread(
            target=lambda part: [register_secret(secret, secret) for secret in part],
            args=(secrets[start::4],),
        )
        for start in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert " ".join(["***"] * 200) == redact(" ".join(secrets))


def test_rotated_secrets_are_let_go() -> None:
    """Of each owner the last few are kept, so that a log line costs no more with time."""
    for day in range(1000):
        register_secret(f"token-of-day-{day:04}", "main")
        register_secret("token-of-the-other", "other")

    kept = [day for day in range(1000) if redact(f"token-of-day-{day:04}") == "***"]
    assert list(range(1000 - logs.KEPT_SECRETS, 1000)) == kept
    assert "***" == redact("token-of-the-other")


# Ways around the formatter


def test_arguments_that_do_not_fit(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong number of arguments is logged, redacted; logging prints nothing of its own."""
    setup("info", "logfmt", out)
    register_secret(CANARY)
    logging.getLogger("x").info("a %s %s", *[CANARY])

    assert parse_logfmt(lines(out)[0])["msg"].startswith("a %s %s (")
    assert_hidden(out.getvalue())
    assert ("", "") == capsys.readouterr()


def test_values_without_a_text(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """A value whose str() fails costs its record, not the program, and shows nothing."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

        __repr__ = __str__

    setup("info", "logfmt", out)
    logging.getLogger("x").info("m", extra=fields(a=Broken()))
    logging.getLogger("x").info("%s", Broken())

    assert ["a log record could not be formatted: RuntimeError"] * 2 == [
        parse_logfmt(line)["msg"] for line in lines(out)
    ]
    assert ("", "") == capsys.readouterr()


def test_closed_stream(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """When the stream is gone, the record is dropped and not printed raw elsewhere."""
    setup("info", "logfmt", out)
    out.close()
    logging.getLogger("x").info(CANARY)

    assert ("", "") == capsys.readouterr()


def test_handlers_of_libraries_are_replaced(out: io.StringIO) -> None:
    """A library's own handler, which would not redact, is taken away; its records come through ours."""
    library = logging.getLogger("hypercorn.error")
    raw = io.StringIO()
    library.addHandler(logging.StreamHandler(raw))
    library.propagate = False
    setup("info", "logfmt", out)
    library.warning("access-token=%s", "unregistered")

    assert "" == raw.getvalue()
    assert "access-token=***" == parse_logfmt(lines(out)[0])["msg"]


def test_urllib3_at_debug(out: io.StringIO) -> None:
    """urllib3's own lines, which carry the URL, are redacted at DEBUG though the token isn't registered."""
    setup("debug", "logfmt", out)
    pool = urllib3.HTTPConnectionPool("127.0.0.1", 1, timeout=0.2)
    with pytest.raises(urllib3.exceptions.MaxRetryError) as caught:
        pool.request("GET", "/rest?access-token=unregistered-77", retries=1)
    pool.close()
    logging.getLogger("x").error("failed", exc_info=caught.value)

    assert "urllib3.connectionpool" in out.getvalue()
    assert "unregistered-77" in "".join(traceback.format_exception(caught.value))
    assert "unregistered-77" not in out.getvalue()


def test_uncaught_exception(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that ends the program is one redacted line."""
    setup("info", "logfmt", out)
    register_secret(CANARY)
    error = RuntimeError(CANARY)
    sys.excepthook(RuntimeError, error, None)
    pairs = parse_logfmt(lines(out)[0])

    assert ("critical", "uncaught exception", "RuntimeError: ***") == (
        pairs["level"],
        pairs["msg"],
        pairs["exception"],
    )
    assert ("", "") == capsys.readouterr()


def test_uncaught_exception_in_a_thread(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that ends a thread is one redacted line with the thread's name; SystemExit is none."""
    setup("info", "logfmt", out)
    register_secret(CANARY)

    def fail(error: BaseException) -> None:
        raise error

    for error in (SystemExit(1), RuntimeError(CANARY)):
        thread = threading.Thread(target=fail, args=(error,), name="poller-main")
        thread.start()
        thread.join()
    (line,) = lines(out)
    pairs = parse_logfmt(line)

    assert ("uncaught exception in thread", "poller-main") == (pairs["msg"], pairs["thread"])
    assert pairs["exception"].endswith("RuntimeError: ***")
    assert ("", "") == capsys.readouterr()


def test_exception_in_a_finalizer(out: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that Python can't raise is one redacted line."""
    setup("info", "logfmt", out)
    register_secret(CANARY)

    class Finalized:
        def __del__(self) -> None:
            raise RuntimeError(CANARY)

    Finalized()
    gc.collect()
    pairs = parse_logfmt(lines(out)[0])

    assert "exception ignored" == pairs["msg"]
    assert_hidden(out.getvalue())
    assert ("", "") == capsys.readouterr()


def test_warnings_are_captured(out: io.StringIO) -> None:
    """Python's warnings are log lines."""
    setup("info", "logfmt", out)
    register_secret(CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn(f"old {CANARY}", DeprecationWarning, stacklevel=1)
    pairs = parse_logfmt(lines(out)[0])

    assert "py.warnings" == pairs["logger"]
    assert "DeprecationWarning: old ***" in pairs["msg"]
