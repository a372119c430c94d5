"""TLS contexts from the web configuration, and the file that is followed as it changes.

The file, the users and the certificates take effect on change, without a restart: the file is looked at on
every request, certificates on every handshake. A change that can't be used is logged once, and what was good
stays; what could not be read is tried again until it can. Turning TLS on or off needs a restart.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import tempfile
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.config.yaml_file import read_at_most, read_problem
from exporter.errors import ConfigError
from exporter.logs import fields
from exporter.web.toolkit_config import ToolkitConfig, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.web.toolkit_config import Loaded, TlsServerConfig

log = logging.getLogger(__name__)

_DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_SECTION: Final = "tls_server_config"
_Stamp: TypeAlias = "tuple[int, ...] | None"


def check(path: Path) -> tuple[str, ...]:
    """Return what has no effect in the file at `path`. Raises ConfigError if it or its certificates are bad."""
    loaded = load(path)
    if loaded.config.tls_server_config is not None:
        build_context(loaded)
    return loaded.warnings


class ToolkitFile:
    """The file at `path`, followed as it changes. Raises ConfigError if it can't be used from the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._loaded = load(path)
        self._complaint = ""
        self._context: ssl.SSLContext | None = None
        self._context_for: object = None
        for warning in self._loaded.warnings:
            log.warning(warning)
        tls = self._loaded.config.tls_server_config
        if tls is not None:
            self._context_for = _stamps(tls)
            self._context = build_context(self._loaded)

    def current(self) -> ToolkitConfig:
        """Return the newest good reading."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            try:
                loaded = load(self._path)
                self._refuse_without_restart(loaded.config)
            except ConfigError as error:
                self._complain("web configuration reload failed, keeping the previous one", error)
                if _is_readable(self._path):
                    self._stamp = stamp
            else:
                self._stamp, self._loaded, self._complaint = stamp, loaded, ""
                log.info("web configuration reloaded")
        return self._loaded.config

    def context(self) -> ssl.SSLContext:
        """Return a context with the newest good certificates. Only with TLS."""
        tls = self.current().tls_server_config
        if tls is None or self._context is None:
            raise ssl.SSLError("TLS is off")
        wanted = _stamps(tls)
        if wanted != self._context_for:
            try:
                self._context = build_context(self._loaded)
            except ConfigError as error:
                self._complain("certificate reload failed, keeping the previous ones", error)
                if all(map(_is_readable, tls.files)):
                    self._context_for = wanted
            else:
                self._context_for, self._complaint = wanted, ""
                log.info("certificates reloaded")
        return self._context

    def _refuse_without_restart(self, config: ToolkitConfig) -> None:
        before = self._loaded.config
        if (config.tls_server_config is None) != (before.tls_server_config is None):
            raise ConfigError([f"{self._path}: turning TLS on or off needs a restart"])
        if before.basic_auth_users and not config.basic_auth_users:
            # A file that is being rewritten is empty for a moment, in which everybody would be let in
            raise ConfigError([f"{self._path}: removing all basic_auth_users needs a restart"])

    def _complain(self, message: str, error: ConfigError) -> None:
        faults = "; ".join(error.faults)
        if faults != self._complaint:
            log.error(message, extra=fields(faults=faults))
        self._complaint = faults


def build_context(loaded: Loaded) -> ssl.SSLContext:
    """Return a server context for ``tls_server_config``, reading its files. Raises ConfigError."""
    tls = loaded.config.tls_server_config
    if tls is None:
        raise ConfigError(["tls_server_config: is missing"])
    faults = [loaded.sentence((_SECTION, key), text) for key, text in _unreadable(tls)]
    if faults:
        raise ConfigError(faults)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No tickets: a resumed session would keep what an old certificate authority had vouched for.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.minimum_version = tls.min_version
    context.maximum_version = tls.max_version
    context.set_alpn_protocols(["http/1.1"])
    context.set_ciphers(":".join(filter(None, tls.cipher_suites)) or _DEFAULT_CIPHERS)
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.curve_preferences:
        context.set_ecdh_curve(tls.curve_preferences[0])
    faults = [loaded.sentence((_SECTION, key), text) for key, text in _load_certificates(context, tls)]
    if faults:
        raise ConfigError(faults)
    context.verify_mode = tls.client_auth_type
    if tls.client_allowed_sans:
        context.sslobject_class = _san_checking(frozenset(tls.client_allowed_sans))
    return context


def _unreadable(tls: TlsServerConfig) -> Iterator[tuple[str, str]]:
    for key in ("cert_file", "key_file", "client_ca_file"):
        path: Path | None = getattr(tls, key)
        if path is not None:
            try:
                read_at_most(path, 0)
            except (OSError, ValueError) as error:
                yield key, read_problem(error)


def _load_certificates(context: ssl.SSLContext, tls: TlsServerConfig) -> Iterator[tuple[str, str]]:
    """Load what `tls` names into `context`; yield what can't be."""
    key_text = None if tls.key is None else tls.key.get_secret_value()
    try:
        with _as_file(tls.cert_file, tls.cert) as cert, _as_file(tls.key_file, key_text) as key:
            # An encrypted key must fail, not ask on the terminal.
            context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError, ValueError):
        keys = ("cert" if tls.cert_file is None else "cert_file", "key" if tls.key_file is None else "key_file")
        yield keys[0], f"is not a PEM certificate with a matching, unencrypted {keys[1]}"
    if tls.client_ca is None and tls.client_ca_file is None:
        return
    try:
        with _as_file(tls.client_ca_file, tls.client_ca) as authority:
            context.load_verify_locations(authority)
    except (ssl.SSLError, OSError, ValueError):
        pass
    if not context.get_ca_certs():
        yield "client_ca" if tls.client_ca_file is None else "client_ca_file", "holds no PEM certificate"


@contextlib.contextmanager
def _as_file(path: Path | None, text: str | None) -> Iterator[str]:
    """Yield a file name for `path` or `text`: the ssl module loads keys from files only."""
    if path is not None:
        yield str(path)
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.NamedTemporaryFile(buffering=0))  # readable by the owner only
            file.write((text or "").encode())
        except OSError as error:
            why = f"what it holds can't be put into a temporary file: {error.strerror}"
            remedy = "set TMPDIR to a folder with space that the exporter may write, or name files"
            raise ConfigError([f"{_SECTION}: {why}; {remedy}"]) from error
        yield file.name


def _san_checking(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    """Return an SSLObject whose handshake fails unless the peer's certificate has an `allowed` name."""

    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert() or {}
            names = {str(entry[1]) for entry in certificate.get("subjectAltName", ()) if len(entry) > 1}
            if not names & allowed:
                raise ssl.SSLCertVerificationError("no allowed name in the client's certificate")

    return Checked


def _stamp(path: Path) -> _Stamp:
    """Return what changes with the file's content, its owner or its mode."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)


def _stamps(tls: TlsServerConfig) -> object:
    return (tls, tuple(map(_stamp, tls.files)))


def _is_readable(path: Path) -> bool:
    try:
        read_at_most(path, 0)
    except (OSError, ValueError):
        return False
    return True
