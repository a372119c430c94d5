"""Loading: what is read from file and environment, what every fault says, and that no value shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.faults import Models
from exporter.config.loading import ENVIRONMENT, load
from exporter.config.model import Config
from exporter.errors import ConfigError
from tests._examples import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
CANARY = "kanarienvogel-4711-TOKEN"
ENV = {"INTARGET_ACCESS_TOKEN": "t0ken"}
OUTLINE = "a mapping that begins with accounts:; `intarget-exporter print example-config` shows one"
ACCOUNTS = "accounts: [{name: main, access_token_env: TOKEN}]\n"


def faults(path: Path | None, environ: Mapping[str, str] = {}) -> list[str]:
    """Return the faults that loading reports."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ)
    return list(caught.value.faults)


# Defaults and sources


def test_defaults_without_file() -> None:
    """Without a file, a token in the environment gives one account with the contract's defaults."""
    config = load(None, environ=ENV)

    assert {
        "accounts": [
            {
                "name": "default",
                "access_token_file": None,
                "access_token_env": "INTARGET_ACCESS_TOKEN",
                "access_token": None,
                "base_url": "https://api.intarget.app",
                "currency": None,
            },
        ],
        "poll": {
            "window": "14d",
            "refresh": [{"younger_than": "2d", "every": "5m"}, {"younger_than": "14d", "every": "1h"}],
            "still_sending": {"lookback": "1d", "every": "15m"},
            "conversions_every": "15m",
            "stale_after": "30m",
        },
        "api": {
            "timeout": "30s",
            "deadline": "4m",
            "per_page": 500,
            "concurrency": 2,
            "requests_per_second": 2.0,
            "retries": 3,
            "max_response_bytes": 67108864,
            "page_parameter": None,
            "proxy": None,
            "ca_file": None,
        },
        "metrics": {
            "per_message": False,
            "zero_hold": "1m",
            "created_timestamps": False,
            "max_campaigns": 20000,
        },
        "state": {"path": "intarget-exporter.db"},
    } == config.model_dump(mode="json")
    assert () == config.warnings
    assert "t0ken" == config.accounts[0].read_token(ENV)


def test_example_shows_the_defaults() -> None:
    """config.example.yaml loads as it is and means the same as no file, but for its account."""
    config = load(ROOT / "config.example.yaml", environ=ENV)

    assert ("accounts[main]", "accounts[default]") == config.changes(load(None, environ=ENV))
    assert () == config.warnings
    assert "t0ken" == config.accounts[0].read_token(ENV)


def test_example_names_every_key() -> None:
    """Every key of the model stands in config.example.yaml, at least as a comment."""
    text = (ROOT / "config.example.yaml").read_text()
    keys = Models(Config).keys

    assert set() == {key for key in keys if f"{key}: " not in text and f"{key}:\n" not in text}


def test_example_with_its_commented_lines(write: Callable[[str], Path]) -> None:
    """The example's commented keys load too, once uncommented."""
    text = (ROOT / "config.example.yaml").read_text()
    for line in ("- name: second", "  access_token_file", "proxy:", "ca_file:"):
        assert f"  # {line}" in text
        text = text.replace(f"  # {line}", f"  {line}")
    config = load(write(text), environ=ENV)

    assert ["main", "second"] == [account.name for account in config.accounts]
    assert Path("/etc/ssl/certs/company.pem") == config.api.ca_file


def test_no_source() -> None:
    """Without a file and without a token the fault says what to do."""
    expected = ["no config file and no token; give --config.file=config.yaml, or set INTARGET_ACCESS_TOKEN"]

    assert expected == faults(None)
    assert expected == faults(None, {"INTARGET_ACCESS_TOKEN": " "})


def test_tiny_values(write: Callable[[str], Path]) -> None:
    """Values far below the defaults are accepted: test set-ups use them."""
    config = load(
        write(
            ACCOUNTS + "poll:\n  window: 1h\n  refresh: [{younger_than: 1h, every: 1s}]\n"
            "  still_sending: null\n  conversions_every: ~\n  stale_after: 3s\n"
            "api: {timeout: 500ms, deadline: 2s, per_page: 1, requests_per_second: 0.5, retries: 0}\n"
            "metrics: {zero_hold: 0s, per_message: yes}\nstate:\n  path: null\n",
        ),
        environ={},
    )

    assert (3600.0, None, None, 3.0) == (
        config.poll.window,
        config.poll.still_sending,
        config.poll.conversions_every,
        config.poll.stale_after,
    )
    assert (0.5, 1, 0.5, 0) == (
        config.api.timeout,
        config.api.per_page,
        config.api.requests_per_second,
        config.api.retries,
    )
    assert (0.0, True, None) == (config.metrics.zero_hold, config.metrics.per_message, config.state.path)
    assert () == config.warnings


def test_text_stays_as_written(write: Callable[[str], Path]) -> None:
    """YAML's ideas of numbers, booleans and dates don't change a text; quoted numbers are numbers."""
    text = 'accounts:\n  - {name: 007, access_token: 2026-01-01}\n  - {name: on, access_token: "1:30"}\n'
    config = load(write(text + 'api: {per_page: "50"}\n'), environ={})

    assert ["007", "on"] == [account.name for account in config.accounts]
    assert ["2026-01-01", "1:30"] == [account.read_token() for account in config.accounts]
    assert 50 == config.api.per_page


def test_anchors_and_merges(write: Callable[[str], Path]) -> None:
    """Aliases and merge keys work: own keys win, then the first merged mapping."""
    config = load(
        write(
            "accounts:\n  - &first {name: a, access_token_env: A, currency: EUR, base_url: https://a.example}\n"
            "  - &second {<<: *first, name: b, base_url: https://b.example}\n"
            "  - {<<: [*second, *first], name: c}\n",
        ),
        environ={},
    )

    assert [("a", "EUR"), ("b", "EUR"), ("c", "EUR")] == [(a.name, a.currency) for a in config.accounts]
    assert "https://b.example" == config.accounts[2].base_url


def test_commented_out_section(write: Callable[[str], Path]) -> None:
    """A section of which every key is commented out has the defaults."""
    config = load(write(ACCOUNTS + "poll:\n  # window: 7d\nstate:\n"), environ={})

    assert load(write(ACCOUNTS), environ={}) == config


def test_byte_order_mark_and_crlf(write: Callable[[bytes], Path]) -> None:
    """A file saved on Windows loads, and its lines are counted right."""
    assert load(write(b"\xef\xbb\xbf" + ACCOUNTS.encode()), environ={}).accounts[0].name == "main"
    assert ["config.yaml:3: x: unknown key; known here: accounts, poll, api, metrics, state"] == faults(
        write(b"\xef\xbb\xbf" + ACCOUNTS.encode() + b"poll:\r\nx: 1\r\n"),
    )


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://x.example/", "https://x.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/prefix//", "http://[::1]:8080/prefix"),
    ],
)
def test_base_url(write: Callable[[str], Path], written: str, kept: str) -> None:
    """A base URL keeps its port and path, and loses the slash at its end."""
    config = load(write(f"accounts: [{{name: a, access_token_env: A, base_url: '{written}'}}]"), environ={})

    assert kept == config.accounts[0].base_url
    assert () == config.warnings


# Environment and flags


def test_precedence(write: Callable[[str], Path]) -> None:
    """The environment beats the file."""
    path = write(ACCOUNTS + "poll: {window: 1d, stale_after: 1h}\napi: {retries: 1}\n")
    environ = {"INTARGET_EXPORTER_POLL_WINDOW": "2d", "INTARGET_EXPORTER_POLL_STALE_AFTER": "2h"}
    config = load(path, environ=environ)

    assert (2 * 86400.0, 7200.0, 1) == (config.poll.window, config.poll.stale_after, config.api.retries)


def test_every_scalar_has_a_variable() -> None:
    """The environment can set every key outside accounts, except the list of tiers."""
    assert {
        "INTARGET_EXPORTER_POLL_WINDOW": "poll.window",
        "INTARGET_EXPORTER_POLL_STILL_SENDING": "poll.still_sending",
        "INTARGET_EXPORTER_POLL_STILL_SENDING_LOOKBACK": "poll.still_sending.lookback",
        "INTARGET_EXPORTER_POLL_STILL_SENDING_EVERY": "poll.still_sending.every",
        "INTARGET_EXPORTER_POLL_CONVERSIONS_EVERY": "poll.conversions_every",
        "INTARGET_EXPORTER_POLL_STALE_AFTER": "poll.stale_after",
        "INTARGET_EXPORTER_API_TIMEOUT": "api.timeout",
        "INTARGET_EXPORTER_API_DEADLINE": "api.deadline",
        "INTARGET_EXPORTER_API_PER_PAGE": "api.per_page",
        "INTARGET_EXPORTER_API_CONCURRENCY": "api.concurrency",
        "INTARGET_EXPORTER_API_REQUESTS_PER_SECOND": "api.requests_per_second",
        "INTARGET_EXPORTER_API_RETRIES": "api.retries",
        "INTARGET_EXPORTER_API_MAX_RESPONSE_BYTES": "api.max_response_bytes",
        "INTARGET_EXPORTER_API_PAGE_PARAMETER": "api.page_parameter",
        "INTARGET_EXPORTER_API_PROXY": "api.proxy",
        "INTARGET_EXPORTER_API_CA_FILE": "api.ca_file",
        "INTARGET_EXPORTER_METRICS_PER_MESSAGE": "metrics.per_message",
        "INTARGET_EXPORTER_METRICS_ZERO_HOLD": "metrics.zero_hold",
        "INTARGET_EXPORTER_METRICS_CREATED_TIMESTAMPS": "metrics.created_timestamps",
        "INTARGET_EXPORTER_METRICS_MAX_CAMPAIGNS": "metrics.max_campaigns",
        "INTARGET_EXPORTER_STATE_PATH": "state.path",
    } == ENVIRONMENT


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("POLL_CONVERSIONS_EVERY", "null", lambda config: config.poll.conversions_every is None),
        ("POLL_STILL_SENDING", "null", lambda config: config.poll.still_sending is None),
        ("POLL_STILL_SENDING_EVERY", "1m", lambda config: config.poll.still_sending.every == 60),
        ("STATE_PATH", "null", lambda config: config.state.path is None),
        ("STATE_PATH", "", lambda config: config.state.path == Path("intarget-exporter.db")),
        ("POLL_WINDOW", "", lambda config: config.poll.window == 14 * 86400),
        ("STATE_PATH", "/data/x.db", lambda config: config.state.path == Path("/data/x.db")),
        ("API_REQUESTS_PER_SECOND", " 0.5 ", lambda config: config.api.requests_per_second == 0.5),
        ("METRICS_PER_MESSAGE", "true", lambda config: config.metrics.per_message is True),
        ("API_PROXY", "http://p:1", lambda config: config.api.proxy.get_secret_value() == "http://p:1"),
    ],
)
def test_environment_values(variable: str, text: str, read: Callable[[Config], bool]) -> None:
    """Text of the environment becomes each kind of value; null is none, nothing leaves the default."""
    assert read(load(None, environ={**ENV, f"INTARGET_EXPORTER_{variable}": text}))


def test_faults_of_the_environment(write: Callable[[str], Path]) -> None:
    """Faults of variables name them, stand after the file's, and are all there."""
    environ = {
        "INTARGET_EXPORTER_API_PER_PAGE": "null",
        "INTARGET_EXPORTER_API_TIMEOUT": "",
        "INTARGET_EXPORTER_POLL_STILL_SENDING": "5m",
        "INTARGET_EXPORTER_POLL_WINDOW": CANARY,
    }

    assert [
        "config.yaml:2: poll.stale_after: has no unit; write it as 500ms, 30s, 5m, 1h30m, 14d or 2w",
        (
            "INTARGET_EXPORTER_POLL_STILL_SENDING: poll.still_sending: "
            "can only be null here, for off; its keys are set one by one"
        ),
        (
            "INTARGET_EXPORTER_POLL_WINDOW: poll.window: "
            "is not a duration; write it as 500ms, 30s, 5m, 1h30m, 14d or 2w"
        ),
        "INTARGET_EXPORTER_API_PER_PAGE: api.per_page: must not be null; leave it out for the default",
    ] == faults(write(ACCOUNTS + "poll: {stale_after: 5}\n"), environ)


def test_environment_is_checked_beside_a_missing_file() -> None:
    """A missing file doesn't hide what is wrong elsewhere."""
    assert [
        "/nowhere/c.yaml: does not exist; give the path of the file with --config.file",
        "INTARGET_EXPORTER_API_RETRIES: api.retries: must be a whole number",
    ] == faults(Path("/nowhere/c.yaml"), {"INTARGET_EXPORTER_API_RETRIES": "many"})


# Faults


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "config.yaml:1: is empty; must be " + OUTLINE),
        ("# nothing\n", "config.yaml:1: is empty; must be " + OUTLINE),
        ("- 1\n", "config.yaml:1: must be " + OUTLINE),
        (f"\n{CANARY}\n", "config.yaml:2: must be " + OUTLINE),
        (b"accounts:\n\xff", "config.yaml: is not text in UTF-8 (line 2); save the file with that encoding"),
        ("a:\n  - [1\n", "config.yaml:3: is not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b\n\tc: d\n", "config.yaml:2: is not valid YAML: a tab; indent with spaces"),
        (
            f"a: *{CANARY}\n",
            "config.yaml:1: is not valid YAML: an unknown alias; a value that begins with * needs quotes",
        ),
        (
            f"a: !x!{CANARY} 1\n",
            "config.yaml:1: is not valid YAML: an unknown tag; a value that begins with ! needs quotes",
        ),
        (
            f"a: [&{CANARY} 1, &{CANARY} 2]\nb: [\n",
            "config.yaml:1: is not valid YAML: an anchor twice; a value that begins with & needs quotes",
        ),
        (
            f"a: b: {CANARY}\n",
            "config.yaml:1: is not valid YAML: a misplaced colon; indent evenly, quote values with colons",
        ),
        (
            f"a: 1\naccess_token:{CANARY}\nc: d\n",
            (
                "config.yaml:2: is not valid YAML: "
                "a line without a colon; write key: value, with a space after the colon"
            ),
        ),
        (
            f'a: 1\nb: "{CANARY}\nc: 1\n',
            "config.yaml:2: is not valid YAML: found unexpected end of stream",
        ),
        (
            f'a: "{CANARY}\\q"\n',
            "config.yaml:1: is not valid YAML: found unknown escape character 'q'",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "config.yaml:2: is not valid YAML: more than one document; keep what is before the second ---",
        ),
        ("a: 1\nb: \x07\n", "config.yaml:2: is not valid YAML: a character that YAML doesn't allow"),
        ("[" * 5000, "config.yaml:1: is nested too deeply"),
        (" " * (1 << 20) + "a", "config.yaml: is larger than 1 MiB, so it can't be a config file"),
        ("poll: {window: 1d}\n", "config.yaml:1: accounts: is missing"),
        ("poll:\naccounts: []\n", "config.yaml:2: accounts: must have at least one entry"),
        ("accounts:\n", "config.yaml:1: accounts: must not be null"),
        (
            "accounts: [{name: a, access_token: b, base_url: null}]\n",
            "config.yaml:1: accounts[0].base_url: must not be null; leave it out for the default",
        ),
        (
            ACCOUNTS + "poll: {refresh: [null]}\n",
            "config.yaml:2: poll.refresh[0]: must not be null",
        ),
        (f"accounts: {CANARY}\n", "config.yaml:1: accounts: must be a list, each entry beginning with -"),
        (
            ACCOUNTS + "api: {retries: !secret 5}\n",
            "config.yaml:2: api.retries: has a tag; a value that begins with ! needs quotes",
        ),
        (
            ACCOUNTS + "state: &a [*a]\n",
            [
                "config.yaml:2: state[0]: an alias refers to what it stands in",
                "config.yaml:2: state: must be a mapping, key: value",
            ],
        ),
        (ACCOUNTS + "api: &a {<<: *a}\n", "config.yaml:2: api: an alias refers to what it stands in"),
        (ACCOUNTS + "api: {<<: 3}\n", "config.yaml:2: api: << must name a mapping"),
        (
            ACCOUNTS + "api: {retries: 1}\napi: {}\n",
            "config.yaml:3: api: appears twice; it is in line 2 already",
        ),
        (
            ACCOUNTS + f"api: {{proxy:{CANARY}}}\n",
            "config.yaml:2: api: a key that can't be read; write key: value, with a space after the colon",
        ),
        (
            ACCOUNTS + f"api: {{{CANARY}: 1}}\n",
            "config.yaml:2: api: a key that can't be read; write key: value, with a space after the colon",
        ),
        (
            ACCOUNTS + "api: {kanarienvogel}\n",
            "config.yaml:2: api: a key that can't be read; write key: value, with a space after the colon",
        ),
        (
            ACCOUNTS + "api: {? [a] : b}\n",
            "config.yaml:2: api: a key that can't be read; write key: value, with a space after the colon",
        ),
        (ACCOUNTS + "pol: {}\n", "config.yaml:2: pol: unknown key; did you mean poll?"),
        (
            ACCOUNTS + "api:\n  per-page: 3\n",
            "config.yaml:3: api.per-page: unknown key; did you mean api.per_page?",
        ),
        (ACCOUNTS + "per_page: 3\n", "config.yaml:2: per_page: unknown key; did you mean api.per_page?"),
        (
            ACCOUNTS + "state: {colour: 3}\n",
            "config.yaml:2: state.colour: unknown key; known here: path",
        ),
        (
            ACCOUNTS + "warnings: []\n",
            "config.yaml:2: warnings: unknown key; known here: accounts, poll, api, metrics, state",
        ),
        (ACCOUNTS + "state: 3\n", "config.yaml:2: state: must be a mapping, key: value"),
        (ACCOUNTS + "poll: {window: 0s}\n", "config.yaml:2: poll.window: must be longer than 0s"),
        (ACCOUNTS + "poll: {window: 600w}\n", "config.yaml:2: poll.window: must be at most 3660d"),
        (
            ACCOUNTS + "poll: {window: null}\n",
            "config.yaml:2: poll.window: must not be null; leave it out for the default",
        ),
        (
            ACCOUNTS + "poll: {window: [1d]}\n",
            "config.yaml:2: poll.window: must be a single duration, such as 5m",
        ),
        (ACCOUNTS + "poll: {refresh: []}\n", "config.yaml:2: poll.refresh: must have at least one entry"),
        (
            ACCOUNTS
            + "poll:\n  refresh:\n  - {younger_than: 1d, every: 1m}\n  - {younger_than: 1d,\n     every: 1m}\n",
            "config.yaml:5: poll.refresh[1].younger_than: must be longer than in the tier before it",
        ),
        (
            ACCOUNTS + "poll:\n  refresh:\n    - younger_than: 1d\n      every: 0s\n",
            "config.yaml:5: poll.refresh[0].every: must be longer than 0s",
        ),
        (
            ACCOUNTS + "poll:\n  refresh:\n  - every: 1m\n",
            "config.yaml:4: poll.refresh[0].younger_than: is missing",
        ),
        (
            ACCOUNTS + "metrics: {zero_hold: 0}\n",
            "config.yaml:2: metrics.zero_hold: has no unit; write it as 500ms, 30s, 5m, 1h30m, 14d or 2w",
        ),
        (ACCOUNTS + "api: {per_page: 0}\n", "config.yaml:2: api.per_page: must be at least 1"),
        (ACCOUNTS + "api: {per_page: 100001}\n", "config.yaml:2: api.per_page: must be at most 100000"),
        (ACCOUNTS + "api: {concurrency: 65}\n", "config.yaml:2: api.concurrency: must be at most 64"),
        (ACCOUNTS + "api: {retries: -1}\n", "config.yaml:2: api.retries: must be at least 0"),
        (ACCOUNTS + "api: {retries: 1.5}\n", "config.yaml:2: api.retries: must be a whole number"),
        (ACCOUNTS + f"api: {{retries: {'9' * 5000}}}\n", "config.yaml:2: api.retries: must be a whole number"),
        (
            ACCOUNTS + "api: {requests_per_second: 0}\n",
            "config.yaml:2: api.requests_per_second: must be more than 0.0",
        ),
        (
            ACCOUNTS + "api: {requests_per_second: .inf}\n",
            "config.yaml:2: api.requests_per_second: must be a number",
        ),
        (
            ACCOUNTS + "api: {requests_per_second: nan}\n",
            "config.yaml:2: api.requests_per_second: must be a number",
        ),
        (
            ACCOUNTS + "api: {max_response_bytes: 1}\n",
            "config.yaml:2: api.max_response_bytes: must be at least 1024",
        ),
        (
            ACCOUNTS + "metrics: {max_campaigns: 0}\n",
            "config.yaml:2: metrics.max_campaigns: must be at least 1",
        ),
        (ACCOUNTS + "metrics: {per_message: 2}\n", "config.yaml:2: metrics.per_message: must be true or false"),
        (ACCOUNTS + 'state: {path: ""}\n', "config.yaml:2: state.path: is not a path"),
        (
            ACCOUNTS + "state: {path: ~/x.db}\n",
            "config.yaml:2: state.path: begins with ~, which only a shell replaces; write the whole path",
        ),
        (
            ACCOUNTS + "api: {page_parameter: 'page='}\n",
            "config.yaml:2: api.page_parameter: is not the name of a query parameter, such as page",
        ),
        (
            ACCOUNTS + "api: {page_parameter: perPage}\n",
            "config.yaml:2: api.page_parameter: is a parameter that the exporter sends itself",
        ),
        (ACCOUNTS + 'state: {path: "a\\0b"}\n', "config.yaml:2: state.path: is not a path"),
        (ACCOUNTS + "state: {path: [a]}\n", "config.yaml:2: state.path: must be a single text"),
        (
            ACCOUNTS + f"api: {{proxy: 'socks5://{CANARY}'}}\n",
            "config.yaml:2: api.proxy: must begin with http:// or https://",
        ),
    ],
)
def test_fault(write: Callable[[str | bytes], Path], text: str | bytes, expected: str | list[str]) -> None:
    """Each fault is one line that names the place and says what is wrong, never the value."""
    found = faults(write(text))

    assert ([expected] if isinstance(expected, str) else expected) == found
    assert CANARY not in "".join(found)
    assert "\n" not in "".join(found)


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ("{access_token_env: A}", "[0].name: is missing"),
        ("{name: [a], access_token_env: A}", "[0].name: must be a single text"),
        ("{name: '', access_token_env: A}", "[0].name: is empty"),
        ("{name: ' ', access_token_env: A}", "[0].name: is empty"),
        (
            '{name: "a\\nb", access_token_env: A}',
            "[0].name: must not hold control characters, nor begin or end with a space",
        ),
        (f"{{name: {'a' * 101}, access_token_env: A}}", "[0].name: must have at most 100 characters"),
        ("{name: a}", "[0]: has no token; give one of access_token_file, access_token_env, access_token"),
        (
            "{name: a, access_token: null}",
            "[0]: has no token; give one of access_token_file, access_token_env, access_token",
        ),
        (
            f"{{name: a, access_token: {CANARY}, access_token_file: f}}",
            "[0].access_token: is one token too many; access_token_file is given already",
        ),
        (
            f"{{name: a, access_token: {CANARY} x}}",
            "[0].access_token: must not hold spaces, line breaks or control characters",
        ),
        ("{name: a, access_token: ' '}", "[0].access_token: is empty"),
        (
            f"{{name: a, access_token_env: {CANARY}}}",
            "[0].access_token_env: is not the name of an environment variable",
        ),
        ("{name: a, access_token_file: ''}", "[0].access_token_file: is not a path"),
        (
            "{name: a, access_token_env: A, currency: eur}",
            "[0].currency: must be three capital letters, such as EUR",
        ),
        (
            "{name: a, access_token_env: A, currency: NO}",
            "[0].currency: must be three capital letters, such as EUR",
        ),
        (
            "{name: a, access_token_env: A, base_url: ftp://x}",
            "[0].base_url: must begin with http:// or https://",
        ),
        (
            "{name: a, access_token_env: A, base_url: 'https://x/api/rest/'}",
            "[0].base_url: must end before /rest, which the exporter adds itself",
        ),
        ("{name: a, access_token_env: A, base_url: 'https://'}", "[0].base_url: is not a URL"),
        ("{name: a, access_token_env: A, base_url: 'https://x:port'}", "[0].base_url: is not a URL"),
        ("{name: a, access_token_env: A, base_url: 'https://[::1'}", "[0].base_url: is not a URL"),
        ("{name: a, access_token_env: A, base_url: 'https://x y'}", "[0].base_url: is not a URL"),
        (
            f"{{name: a, access_token_env: A, base_url: 'https://x?t={CANARY}'}}",
            "[0].base_url: must end before the ? or #",
        ),
        ("{name: a, access_token_env: A, base_url: 'https://x#'}", "[0].base_url: must end before the ? or #"),
        (
            f"{{name: a, access_token_env: A, base_url: 'https://u:{CANARY}@x'}}",
            "[0].base_url: must not hold a user or password",
        ),
    ],
)
def test_account_fault(write: Callable[[str], Path], account: str, expected: str) -> None:
    """The faults of one account, each alone and without its value."""
    assert [f"config.yaml:2: accounts{expected}"] == faults(write(f"accounts:\n  - {account}\n"))


def test_all_faults_at_once(write: Callable[[str], Path]) -> None:
    """Faults of syntax, single keys and between keys come together, in the order of the file."""
    text = f"""\
accounts:
  - name: main
    access_token: {CANARY}
    access_token_env: A
    colour: red
  - name: main
    access_token_env: A
poll:
  windw: 3d
  refresh:
    - {{younger_than: 2d, every: 0s}}
    - {{younger_than: 1d, every: {CANARY}}}
  stale_after: 5
  stale_after: 5m
"""
    assert [
        "config.yaml:3: accounts[0].access_token: is one token too many; access_token_env is given already",
        (
            "config.yaml:5: accounts[0].colour: unknown key; known here: "
            "name, access_token_file, access_token_env, access_token, base_url, currency"
        ),
        "config.yaml:6: accounts[1].name: is the name of accounts[0] already; names are unique",
        "config.yaml:9: poll.windw: unknown key; did you mean poll.window?",
        "config.yaml:11: poll.refresh[0].every: must be longer than 0s",
        (
            "config.yaml:12: poll.refresh[1].every: is not a duration; "
            "write it as 500ms, 30s, 5m, 1h30m, 14d or 2w"
        ),
        "config.yaml:12: poll.refresh[1].younger_than: must be longer than in the tier before it",
        "config.yaml:13: poll.stale_after: has no unit; write it as 500ms, 30s, 5m, 1h30m, 14d or 2w",
        "config.yaml:14: poll.stale_after: appears twice; it is in line 13 already",
    ] == faults(write(text))


def test_alias_bomb(write: Callable[[str], Path]) -> None:
    """Aliases of aliases are cut off, not expanded."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{this}: &{this} [{', '.join(['*' + last] * 10)}]"
        for last, this in zip("abcdefgh", "bcdefghi", strict=True)
    ]

    assert any(
        fault.endswith("the aliases make the file too large") for fault in faults(write("\n".join(lines)))
    )


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, a file without permission and an I/O error each give one line."""
    assert [f"{tmp_path}: is a directory; name the file in it"] == faults(tmp_path)
    for error, expected in (
        (
            PermissionError(13, "Permission denied"),
            "may not be read; check the owner and mode of the file and its folders",
        ),
        (OSError(5, "Input/output error"), "can't be read: Input/output error"),
    ):

        def fail(*_: object, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(Path, "open", fail)
        assert [f"c.yaml: {expected}"] == faults(Path("c.yaml"))


@examples(150)
@given(
    st.text(alphabet=st.sampled_from("ab:-,{}[]&*!|>'\"%@`#\\ \n\t?<~0"), max_size=40),
    st.sampled_from(["", "a: ", "accounts:\n- "]),
)
def test_any_text_is_a_config_or_faults(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    before: str,
) -> None:
    """No text makes loading raise anything else, nor shows the token in it."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(f"{before}{text}{CANARY}{text}")

    assert CANARY not in "\n".join(faults(path))


# Warnings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "poll:\n  stale_after: 5m\n",
            (
                "config.yaml:3: poll.stale_after: is not longer than the shortest refresh interval (5m): "
                "campaign series will come and go"
            ),
        ),
        (
            "poll: {window: 1d}\n",
            "config.yaml:2: poll.refresh[1]: is never used: the tier before it reaches beyond poll.window",
        ),
        (
            "poll:\n  still_sending:\n    lookback: 5m\n",
            (
                "config.yaml:4: poll.still_sending.lookback: "
                "is shorter than poll.still_sending.every: what sends in between is not found"
            ),
        ),
        (
            "api: {deadline: 10s}\n",
            "config.yaml:2: api.deadline: is shorter than api.timeout, so it ends requests before their time",
        ),
    ],
)
def test_warning(write: Callable[[str], Path], text: str, expected: str) -> None:
    """What works but was probably not meant is named, and loads."""
    assert (expected,) == load(write(ACCOUNTS + text), environ={}).warnings


def test_warning_of_a_readable_token(write: Callable[[str], Path]) -> None:
    """A literal token in a file that everyone may read, and a plain-text address, are warned of."""
    path = write(f"accounts:\n  - name: a\n    access_token: {CANARY}\n    base_url: http://api.example\n")
    path.chmod(0o644)

    assert (
        (
            "config.yaml:3: accounts[0].access_token: "
            "every user may read this file; chmod o-r, or use a file of its own"
        ),
        "config.yaml:4: accounts[0].base_url: is not https: the token can be read on the way",
    ) == load(path, environ={}).warnings


def test_unknown_variables() -> None:
    """Variables that look like a setting are warned of; those of flags, of Kubernetes and others are not."""
    environ = {
        **ENV,
        "INTARGET_EXPORTER_POL_WINDOW": "1d",
        "INTARGET_EXPORTER_XYZ": CANARY,
        "INTARGET_EXPORTER_LOG_LEVEL": "debug",
        "INTARGET_EXPORTER_TOTAL_SHARDS": "3",
        "INTARGET_EXPORTER_PORT": "tcp://10.0.0.1:10095",
        "INTARGET_EXPORTER_PORT_10095_TCP_ADDR": "10.0.0.1",
        "INTARGET_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "INTARGET_EXPORTER_SERVICE_PORT_METRICS": "10095",
        "PATH": "/bin",
    }

    assert (
        "INTARGET_EXPORTER_POL_WINDOW: unknown variable, ignored; did you mean INTARGET_EXPORTER_POLL_WINDOW?",
        "INTARGET_EXPORTER_XYZ: unknown variable, ignored",
    ) == load(None, environ=environ).warnings


def test_account_of_the_environment() -> None:
    """Without a file, variables set what the file's account would."""
    variables = {
        "INTARGET_ACCOUNT_NAME": "brand",
        "INTARGET_BASE_URL": "https://x.example/",
        "INTARGET_CURRENCY": "EUR",
    }
    account = load(None, environ={**ENV, **variables}).accounts[0]

    assert ("brand", "https://x.example", "EUR") == (account.name, account.base_url, account.currency)


def test_faults_of_the_account_of_the_environment() -> None:
    """They name the variable, never its value."""
    assert ["INTARGET_CURRENCY: accounts[0].currency: must be three capital letters, such as EUR"] == faults(
        None, {**ENV, "INTARGET_CURRENCY": CANARY}
    )


def test_account_of_the_environment_beside_a_file(write: Callable[[str], Path]) -> None:
    """A file has its own accounts: the variables are told to be without effect."""
    config = load(write(ACCOUNTS), environ={"INTARGET_BASE_URL": "https://x.example"})

    assert "https://api.intarget.app" == config.accounts[0].base_url
    assert (
        "INTARGET_BASE_URL: ignored; it describes the account where there is no config file",
    ) == config.warnings


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "does not exist"), ("no certificate", "holds no certificate in PEM format")],
)
def test_authorities_are_looked_at(write: Callable[[str], Path], content: str | None, problem: str) -> None:
    """A ca_file that can't be used is told before the first request fails."""
    if content is not None:
        Path("ca.pem").write_text(content)
    path = write(ACCOUNTS + "api: {ca_file: ca.pem}\n")

    expected = (f"config.yaml:2: api.ca_file: {problem}; every request fails without it",)
    assert expected == load(path, environ={}).warnings
