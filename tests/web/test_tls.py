"""TLS contexts of the web configuration, and the file as it changes under a running server."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.web.tls import ToolkitFile, build_context
from exporter.web.toolkit_config import load
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


def block(name: str, path: Path) -> str:
    """Return what is in a file as a value of ``tls_server_config``."""
    return f"  {name}: |\n" + "".join(f"    {line}\n" for line in path.read_text().splitlines())


def test_context(certificates: tuple[Path, Certificate, Certificate]) -> None:
    """The context has the versions, curves and client verification of the file, and no session tickets."""
    folder, _, _ = certificates
    path = written(
        folder,
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: ca.pem\n"
        "  client_auth_type: VerifyClientCertIfGiven\n  max_version: TLS12\n  curve_preferences: [X25519]\n"
        "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n",
    )
    context = build_context(load(path))
    assert (ssl.CERT_OPTIONAL, ssl.TLSVersion.TLSv1_2) == (context.verify_mode, context.maximum_version)
    assert "ECDHE-ECDSA-CHACHA20-POLY1305" in [cipher["name"] for cipher in context.get_ciphers()]
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" not in [cipher["name"] for cipher in context.get_ciphers()]
    assert context.options & ssl.OP_NO_TICKET


def test_inline_certificates(certificates: tuple[Path, Certificate, Certificate]) -> None:
    """Certificate, key and authority may stand in the file itself."""
    folder, signer, server = certificates
    text = block("cert", server.cert) + block("key", server.key) + block("client_ca", signer.cert)
    path = written(folder, f"tls_server_config:\n{text}  client_auth_type: RequireAndVerifyClientCert\n")
    loaded = load(path)
    assert 1 == len(build_context(loaded).get_ca_certs())
    assert "PRIVATE" not in repr(loaded)


def test_inline_certificates_without_a_temporary_folder(
    certificates: tuple[Path, Certificate, Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be written is no fault of the certificate; the message says what to do."""
    folder, _, server = certificates
    path = written(folder, f"tls_server_config:\n{block('cert', server.cert)}{block('key', server.key)}")
    monkeypatch.setattr("tempfile.tempdir", str(folder / "gone"))
    with pytest.raises(ConfigError, match=r"temporary file: No such file or directory; set TMPDIR to a folder"):
        build_context(load(path))


@pytest.mark.parametrize(
    ("cert", "key", "authority_file", "expected"),
    [
        ("gone.pem", "server.key", "ca.pem", ["2: tls_server_config.cert_file: does not exist"]),
        (
            "server.pem",
            "ca.key",
            "ca.pem",
            ["2: tls_server_config.cert_file: is not a PEM certificate with a matching"],
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
        ToolkitFile(path)
    found = [fault.removeprefix(f"{path}:") for fault in caught.value.faults]
    assert [True] * len(expected) == [
        fault.startswith(start) for fault, start in zip(found, expected, strict=True)
    ]


def test_users_are_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A change takes effect; a bad change is logged once, and what was good stays."""
    path = written(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")
    file = ToolkitFile(path)
    path.write_text(f"basic_auth_users: {{alice: {HASH}, bob: {HASH}}}")
    assert {"alice", "bob"} == set(file.current().basic_auth_users)
    path.write_text("basic_auth_users: {alice: plain}")
    assert {"alice", "bob"} == set(file.current().basic_auth_users)
    file.current()
    assert 1 == caplog.text.count("web configuration reload failed")
    path.unlink()
    assert {"alice", "bob"} == set(file.current().basic_auth_users)
    path.write_text(f"basic_auth_users: {{carol: {HASH}}}")
    assert {"carol"} == set(file.current().basic_auth_users)


@pytest.mark.parametrize("text", ["", "basic_auth_users: {}"])
def test_a_running_server_lets_nobody_in_without_a_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """A file that is empty for a moment, while it is written anew, doesn't turn passwords off."""
    path = written(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")
    file = ToolkitFile(path)
    path.write_text(text)
    assert {"alice"} == set(file.current().basic_auth_users)
    assert "removing all basic_auth_users needs a restart" in caplog.records[-1].fields["faults"]


def test_turning_tls_on_needs_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A running server can't change its protocol; it says so."""
    path = written(tmp_path, "")
    file = ToolkitFile(path)
    path.write_text("tls_server_config: {cert_file: a, key_file: b}")
    assert None is file.current().tls_server_config
    assert "needs a restart" in caplog.records[-1].fields["faults"]


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
    file = ToolkitFile(path)
    first = file.context()
    assert first is file.context()
    other = leaf(tmp_path, "other", signer, "DNS:localhost")
    other.cert.replace(tmp_path / "a.pem")
    assert first is file.context()
    assert "certificate reload failed" in caplog.text
    other.key.replace(tmp_path / "a.key")
    assert first is not file.context()


def test_a_certificate_that_is_unreadable_for_a_moment(
    certificates: tuple[Path, Certificate, Certificate],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it can't be read the old one serves, with one line in the log; once it can, the new one does."""
    _, signer, server = certificates
    for source, name in ((server.cert, "a.pem"), (server.key, "a.key")):
        (tmp_path / name).write_bytes(source.read_bytes())
    file = ToolkitFile(written(tmp_path, "tls_server_config: {cert_file: a.pem, key_file: a.key}"))
    first = file.context()
    renewed = leaf(tmp_path, "renewed", signer, "DNS:localhost")
    renewed.key.replace(tmp_path / "a.key")
    renewed.cert.replace(tmp_path / "a.pem")
    unreadable = True
    opened = Path.open

    def open_(path: Path, *args: str) -> object:
        if unreadable and path.name == "a.key":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", open_)
    assert [first] * 3 == [file.context() for _ in range(3)]
    assert 1 == caplog.text.count("certificate reload failed, keeping the previous ones")
    unreadable = False  # nothing of the file itself has changed
    assert first is not file.context()


def test_a_web_configuration_that_is_unreadable_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the file itself."""
    path = written(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")
    file = ToolkitFile(path)
    path.write_text(f"basic_auth_users: {{bob: {HASH}}}")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
        assert {"alice"} == set(file.current().basic_auth_users)
    assert {"bob"} == set(file.current().basic_auth_users)


def test_http2_is_reported_to_have_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The key is read, as the toolkit's files have it, and a line says that it does nothing."""
    path = written(tmp_path, "http_server_config:\n  http2: true\n")
    ToolkitFile(path)
    assert f"{path}:2: http_server_config.http2: has no effect: only HTTP/1.1 is served" in caplog.text
