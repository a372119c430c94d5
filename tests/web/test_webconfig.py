"""The exporter-toolkit file: what it means, and every fault with its line."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.web.webconfig import RateLimit, WebConfig, WebConfigFile, build_context, load
from tests._certificates import Certificate, authority, leaf

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate, Certificate]:
    """Return a folder with an authority ``ca`` and a server certificate ``server``."""
    folder = tmp_path_factory.mktemp("certificates")
    signer = authority(folder, "ca")
    return folder, signer, leaf(folder, "server", signer, "DNS:localhost,IP:127.0.0.1")


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
    """No TLS, no users, HTTP/2 where there is TLS."""
    assert WebConfig() == load(written(tmp_path, text))


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
    )
    tls = config.tls
    assert tls is not None
    assert (tmp_path / "server.pem", Path("/keys/server.key"), tmp_path / "ca.pem") == tls.files
    assert (ssl.CERT_REQUIRED, {"prometheus.example", "10.0.0.1"}) == (tls.client_auth, tls.client_allowed_sans)
    assert (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3) == (tls.min_version, tls.max_version)
    assert ("ECDHE-RSA-AES128-GCM-SHA256", False, "prime256v1") == (
        tls.ciphers,
        tls.prefer_server_cipher_suites,
        tls.curve,
    )
    assert not config.http2
    assert "" == config.headers["X-XSS-Protection"]
    assert {"alice": HASH} == config.users
    assert RateLimit(1.5, 20) == config.rate_limit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing: 1", ["1: nothing: unknown key"]),
        ("[]", ["1: expected keys and values"]),
        ("a: [", ["1: not valid YAML"]),
        ("http_server_config:\n  http2: perhaps", ["2: http_server_config.http2: expected true or false"]),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: all",
            ["3: http_server_config.headers.X-Frame-Options"],
        ),
        (
            "http_server_config:\n  headers:\n    X-Own: all",
            ["3: http_server_config.headers.X-Own: unknown key"],
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nb: c"',
            ["3: http_server_config.headers.X-XSS-Protection: has characters"],
        ),
        ("basic_auth_users:\n  alice: secret", ["2: basic_auth_users: not a bcrypt hash"]),
        ("basic_auth_users:\n  alice:", ["2: basic_auth_users: a user without"]),
        ("basic_auth_users:\n  'a:b': x", ["2: basic_auth_users: a user name"]),
        ("basic_auth_users: [a]", ["1: basic_auth_users: expected keys"]),
        (f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}", ["3: basic_auth_users: stands here twice"]),
        ("rate_limit: {interval: 5, burst: 1}", ["1: rate_limit.interval: not a duration"]),
        ("rate_limit: {interval: 1s}", ["1: rate_limit.burst: must be at least 1"]),
        (
            "rate_limit: {interval: 1s, burst: -1}",
            ["1: rate_limit.burst: expected", "1: rate_limit.burst: must"],
        ),
        ("tls_server_config:\n  key_file: a", ["2: tls_server_config.cert_file: missing"]),
        ("tls_server_config:\n  cert_file: a", ["2: tls_server_config.key_file: missing"]),
        (
            "tls_server_config:\n  cert: x\n  cert_file: a\n  key_file: b",
            ["2: tls_server_config.cert: give either this or cert_file"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS14\n  max_version: SSL3",
            ["4: tls_server_config.min_version: unknown", "5: tls_server_config.max_version: unknown"],
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, min_version: TLS13, max_version: TLS12}",
            ["1: tls_server_config.max_version: below min_version"],
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
            ["4: tls_server_config.client_auth_type: unknown"],
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
            ["4: tls_server_config.cipher_suites[0]: unknown"],
        ),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  curve_preferences: [CurveP256, Own]",
            [
                "4: tls_server_config.curve_preferences: only one",
                "4: tls_server_config.curve_preferences[1]: unknown",
            ],
        ),
        (
            "tls_server_config:\n  cert_file: [a]\n  key_file: b",
            ["2: tls_server_config.cert_file: expected a text"],
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
    assert HASH not in repr(WebConfig(users={"alice": HASH}))


def test_context(certificates: tuple[Path, Certificate, Certificate]) -> None:
    """The context has the versions, curves and client verification of the file, and no session tickets."""
    folder, _, _ = certificates
    path = written(
        folder,
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: ca.pem\n"
        "  client_auth_type: VerifyClientCertIfGiven\n  max_version: TLS12\n  curve_preferences: [X25519]\n"
        "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n",
    )
    tls = load(path).tls
    assert tls is not None
    context = build_context(path, tls)
    assert (ssl.CERT_OPTIONAL, ssl.TLSVersion.TLSv1_2) == (context.verify_mode, context.maximum_version)
    assert "ECDHE-ECDSA-CHACHA20-POLY1305" in [cipher["name"] for cipher in context.get_ciphers()]
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" not in [cipher["name"] for cipher in context.get_ciphers()]
    assert context.options & ssl.OP_NO_TICKET


def test_inline_certificates(certificates: tuple[Path, Certificate, Certificate]) -> None:
    """Certificate, key and authority may stand in the file itself."""
    folder, signer, server = certificates

    def block(name: str, path: Path) -> str:
        return f"  {name}: |\n" + "".join(f"    {line}\n" for line in path.read_text().splitlines())

    text = block("cert", server.cert) + block("key", server.key) + block("client_ca", signer.cert)
    path = written(folder, f"tls_server_config:\n{text}  client_auth_type: RequireAndVerifyClientCert\n")
    tls = load(path).tls
    assert tls is not None
    assert 1 == len(build_context(path, tls).get_ca_certs())
    assert "PRIVATE" not in repr(tls)


@pytest.mark.parametrize(
    ("cert", "key", "authority_file", "expected"),
    [
        ("gone.pem", "server.key", "ca.pem", ["2: tls_server_config.cert_file: no such file or directory"]),
        (
            "server.pem",
            "ca.key",
            "ca.pem",
            ["2: tls_server_config.cert_file: not a PEM certificate with a matching"],
        ),
        (
            "server.pem",
            "server.key",
            "ca.key",
            ["5: tls_server_config.client_ca_file: holds no PEM certificate"],
        ),
        ("gone.pem", "gone.key", "gone", ["2: ", "3: ", "5: "]),
    ],
)
def test_certificate_faults(
    certificates: tuple[Path, Certificate, Certificate],
    cert: str,
    key: str,
    authority_file: str,
    expected: list[str],
) -> None:
    """Files that are missing or don't fit are named with the line that names them."""
    folder, _, _ = certificates
    path = written(
        folder,
        f"tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n"
        f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {authority_file}\n",
    )
    with pytest.raises(ConfigError) as caught:
        WebConfigFile(path)
    found = [fault.removeprefix(f"{path}:") for fault in caught.value.faults]
    assert [True] * len(expected) == [
        fault.startswith(start) for fault, start in zip(found, expected, strict=True)
    ]


def test_users_are_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A change takes effect; a bad change is logged once, and what was good stays."""
    path = written(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")
    file = WebConfigFile(path)
    path.write_text(f"basic_auth_users: {{alice: {HASH}, bob: {HASH}}}")
    assert {"alice", "bob"} == set(file.current().users)
    path.write_text("basic_auth_users: {alice: plain}")
    assert {"alice", "bob"} == set(file.current().users)
    file.current()
    assert 1 == caplog.text.count("web configuration not reloaded")
    path.unlink()
    assert {"alice", "bob"} == set(file.current().users)
    path.write_text(f"basic_auth_users: {{carol: {HASH}}}")
    assert {"carol"} == set(file.current().users)


@pytest.mark.parametrize("text", ["", "basic_auth_users: {}"])
def test_a_running_server_lets_nobody_in_without_a_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """A file that is empty for a moment, while it is written anew, doesn't turn passwords off."""
    path = written(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")
    file = WebConfigFile(path)
    path.write_text(text)
    assert {"alice"} == set(file.current().users)
    assert "removing all basic_auth_users needs a restart" in caplog.text


def test_turning_tls_on_needs_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A running server can't change its protocol; it says so."""
    path = written(tmp_path, "")
    file = WebConfigFile(path)
    path.write_text("tls_server_config: {cert_file: a, key_file: b}")
    assert None is file.current().tls
    assert "needs a restart" in caplog.text


def test_certificates_are_followed(
    certificates: tuple[Path, Certificate, Certificate],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """New files give a new context; a certificate without its key keeps the old one."""
    _, signer, server = certificates
    for source, name in ((server.cert, "a.pem"), (server.key, "a.key")):
        (tmp_path / name).write_bytes(source.read_bytes())
    path = written(tmp_path, "tls_server_config: {cert_file: a.pem, key_file: a.key}")
    file = WebConfigFile(path)
    first = file.context()
    assert first is file.context()
    other = leaf(tmp_path, "other", signer, "DNS:localhost")
    other.cert.replace(tmp_path / "a.pem")
    assert first is file.context()
    assert "certificates not reloaded" in caplog.text
    other.key.replace(tmp_path / "a.key")
    assert first is not file.context()
