"""The exporter-toolkit file: what it means, and every fault with its line."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.web.toolkit_config import RateLimitConfig, ToolkitConfig, load

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


def written(folder: Path, text: str) -> Path:
    """Return a file with `text`."""
    path = folder / "web.yml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str) -> list[str]:
    """Return the faults of a file with `text`, without its path."""
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [fault.removeprefix(f"{path}:") for fault in caught.value.faults]


@pytest.mark.parametrize(
    "text", ["", "{}", "tls_server_config:\n", "tls_server_config: {}", "basic_auth_users: {}"]
)
def test_an_empty_file_changes_nothing(tmp_path: Path, text: str) -> None:
    """No TLS, no users, no limit."""
    assert ToolkitConfig() == load(written(tmp_path, text)).config


def test_everything(tmp_path: Path) -> None:
    """Every documented key is read; paths are relative to the file."""
    config = load(
        written(
            tmp_path,
            f"""
tls_server_config:
  cert_file: server.pem
  key_file: /keys/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [prometheus.example, 10.0.0.1]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256]
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: default-src 'self'
    X-Frame-Options: sameorigin
    X-Content-Type-Options: nosniff
    X-XSS-Protection: ""
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  alice: {HASH}
rate_limit:
  interval: 1s500ms
  burst: 20
""",
        ),
    ).config
    tls = config.tls_server_config
    assert tls is not None
    assert (tmp_path / "server.pem", Path("/keys/server.key"), tmp_path / "ca.pem") == tls.files
    assert (ssl.CERT_REQUIRED, ("prometheus.example", "10.0.0.1")) == (
        tls.client_auth_type,
        tls.client_allowed_sans,
    )
    assert (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3) == (tls.min_version, tls.max_version)
    assert (("", "ECDHE-RSA-AES128-GCM-SHA256"), False, ("prime256v1",)) == (
        tls.cipher_suites,
        tls.prefer_server_cipher_suites,
        tls.curve_preferences,
    )
    assert ("", "sameorigin") == (config.headers["x-xss-protection"], config.headers["x-frame-options"])
    assert {"alice": HASH} == config.basic_auth_users
    assert RateLimitConfig(interval=1.5, burst=20) == config.rate_limit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing: 1", ["1: nothing: unknown key"]),
        ("[]", ["1: must be a mapping with keys"]),
        ("a: [", ["1: is not valid YAML: "]),
        ("http_server_config:\n  http2: perhaps", ["2: http_server_config.http2: must be true or false"]),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: all",
            ["3: http_server_config.headers.X-Frame-Options"],
        ),
        (
            "http_server_config:\n  headers:\n    x-frame-option: deny",
            ["3: http_server_config.headers.x-frame-option: unknown key; did you mean http_server_config."],
        ),
        ("basic_auth_user: {}", ["1: basic_auth_user: unknown key; did you mean basic_auth_users?"]),
        (
            "tls_server_config:\n  cert_file: ~/a\n  key_file: b",
            ["2: tls_server_config.cert_file: begins with ~"],
        ),
        (
            "http_server_config:\n  headers:\n    X-Own: all",
            ["3: http_server_config.headers.X-Own: unknown key"],
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nb: c"',
            ["3: http_server_config.headers.X-XSS-Protection: must not hold control"],
        ),
        ("basic_auth_users:\n  alice: secret", ["2: basic_auth_users: must be a bcrypt hash"]),
        ("basic_auth_users:\n  alice:", ["2: basic_auth_users: must be a bcrypt hash"]),
        (
            "basic_auth_users:\n  'a:b': x",
            ["2: basic_auth_users: must not have a colon", "2: basic_auth_users: must be a bcrypt hash"],
        ),
        ("basic_auth_users: [a]", ["1: basic_auth_users: must be a mapping"]),
        (
            f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}",
            ["3: basic_auth_users: appears twice; it is in line 2 already"],
        ),
        ("rate_limit: {interval: 5, burst: 1}", ["1: rate_limit.interval: has no unit"]),
        ("rate_limit: {interval: 1s}", ["1: rate_limit.burst: must be at least 1"]),
        (
            "rate_limit: {interval: 1s, burst: -1}",
            ["1: rate_limit.burst: must be at least 0"],
        ),
        ("tls_server_config:\n  key_file: a", ["1: tls_server_config: has no cert; give cert_file"]),
        ("tls_server_config:\n  cert_file: a", ["1: tls_server_config: has no key; give key_file"]),
        (
            "tls_server_config:\n  cert: x\n  cert_file: a\n  key_file: b",
            ["2: tls_server_config.cert: is one too many; cert_file is given already"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS14\n  max_version: SSL3",
            [
                "4: tls_server_config.min_version: must be one of TLS10",
                "5: tls_server_config.max_version: must be one of TLS10",
            ],
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, min_version: TLS13, max_version: TLS12}",
            ["1: tls_server_config.max_version: is below min_version"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequireAndVerifyClientCert",
            ["4: tls_server_config.client_auth_type: RequireAndVerifyClientCert needs client_ca_file"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequireAnyClientCert",
            ["4: tls_server_config.client_auth_type: RequireAnyClientCert verifies nothing"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: Sometimes",
            ["4: tls_server_config.client_auth_type: must be one of"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_ca_file: c",
            ["4: tls_server_config.client_ca_file: needs client_auth_type"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_allowed_sans: [x]",
            ["4: tls_server_config.client_allowed_sans: needs client_auth_type"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  cipher_suites: [TLS_FAST]",
            ["4: tls_server_config.cipher_suites[0]: must be a name of Go's"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  curve_preferences: [CurveP256, Own]",
            [
                "4: tls_server_config.curve_preferences: only one",
                "4: tls_server_config.curve_preferences[1]: must be one of CurveP256",
            ],
        ),
        (
            "tls_server_config:\n  cert_file: [a]\n  key_file: b",
            ["2: tls_server_config.cert_file: must be a single text"],
        ),
        (
            "tls_server_config:\n  cipher_suites: x\n  cert_file: a\n  key_file: b",
            ["2: tls_server_config.cipher_suites"],
        ),
    ],
)
def test_faults(tmp_path: Path, text: str, expected: list[str]) -> None:
    """Each fault has its line and key, and says what to do."""
    found = faults(tmp_path, text)
    assert len(expected) == len(found), found
    assert [True] * len(found) == [
        fault.startswith(start) for fault, start in zip(found, expected, strict=True)
    ], found


def test_all_faults_at_once(tmp_path: Path) -> None:
    """One run tells everything, in the order of the file."""
    found = faults(tmp_path, "x: 1\nhttp_server_config: {http2: 3}\nbasic_auth_users: {a: b}\ny: 2\n")
    assert ["1", "2", "3", "4"] == [fault.split(":")[0] for fault in found]


@given(st.text(alphabet="abchtp_users:[]{}&*!|>'\"%@`#,?- \n\t$2y", max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """No text makes it fail otherwise than with faults, each on one line."""
    path = written(tmp_path_factory.getbasetemp(), text)
    lines: tuple[str, ...] = ("read",)
    try:
        load(path)
    except ConfigError as error:
        lines = error.faults
    assert lines
    assert not any("\n" in line for line in lines)


def test_no_value_in_a_fault(tmp_path: Path) -> None:
    """A password or key that was put in a wrong place isn't printed."""
    text = "\n".join(
        f"  {line}: CANARY"
        for line in ("cert", "key", "min_version", "client_auth_type", "http2", "curve_preferences")
    )
    found = faults(
        tmp_path, f"tls_server_config:\n{text}\nbasic_auth_users:\n  alice: CANARY\nrate_limit: CANARY\n"
    )
    assert "CANARY" not in "".join(found)


@pytest.mark.parametrize("kind", ["missing", "folder", "large"])
def test_a_file_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    """One line says why."""
    path = tmp_path / "web.yml"
    if kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_text("#" * (2 << 20))
    with pytest.raises(ConfigError) as caught:
        load(path)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{path}: ")


def test_users_and_keys_do_not_print() -> None:
    """The configuration's repr has no hash."""
    assert HASH not in repr(ToolkitConfig(basic_auth_users={"alice": HASH}))
