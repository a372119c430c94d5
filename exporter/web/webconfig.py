"""``--web.config.file``: TLS, client certificates, users and headers, as all exporters of Prometheus have them.

The format is that of the exporter-toolkit, by its documentation,
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. Differences, each reported
as a fault and never passed over: Python can't ask for a client certificate without verifying it
(``RequestClientCert``, ``RequireAnyClientCert``), and can't order several ``curve_preferences``.

The file, the users and the certificates take effect on change, without a restart: the file is looked at on
every request, certificates on every handshake. A change that can't be used is logged, and what was good stays.
Turning TLS or HTTP/2 on or off needs a restart.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import ssl
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

_log = logging.getLogger(__name__)

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert")
_CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
_CIPHERS: Final = {
    f"TLS_ECDHE_{key}_WITH_{standard}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for standard, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("CHACHA20_POLY1305", "CHACHA20-POLY1305"),
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
    )
}
_CIPHERS_13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Always on in TLS 1.3, in Go as in Python; naming them is allowed and changes nothing."""

_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}
_DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_BCRYPT = re.compile(r"\$2[abxy]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}", re.ASCII)
_DURATION = re.compile(
    r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?",
    re.ASCII,
)
_DURATION_UNITS: Final = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_MAX_BYTES: Final = 1 << 20

_Stamp: TypeAlias = "tuple[int, int, int] | None"


@dataclass(frozen=True)
class Pem:
    """A certificate or key: inline `text`, or the file `path`. `line` and `where` say where it is named."""

    where: str
    line: int
    path: Path | None = None
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TlsConfig:
    """``tls_server_config``, checked and in OpenSSL's terms."""

    cert: Pem
    key: Pem
    client_ca: Pem | None = None
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_allowed_sans: frozenset[str] = frozenset()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str | None = None
    prefer_server_cipher_suites: bool = True
    curve: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it names."""
        pems = (self.cert, self.key, self.client_ca)
        return tuple(pem.path for pem in pems if pem is not None and pem.path is not None)


@dataclass(frozen=True)
class RateLimit:
    """``rate_limit``: one request every `interval` seconds, and `burst` of them at once."""

    interval: float
    burst: int


@dataclass(frozen=True)
class WebConfig:
    """One reading of the file. `users` maps names to bcrypt hashes; "" in `headers` unsets one."""

    tls: TlsConfig | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    http2: bool = True
    rate_limit: RateLimit | None = None


class WebConfigFile:
    """The file at `path`, followed as it changes. Raises ConfigError if it can't be used from the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._config = load(path)
        self._context_for: tuple[TlsConfig | None, tuple[_Stamp, ...]] = (None, ())
        self._context: ssl.SSLContext | None = None
        if self._config.tls is not None:
            self._context_for = (self._config.tls, tuple(map(_stamp, self._config.tls.files)))
            self._context = build_context(path, self._config.tls, http2=self._config.http2)

    def current(self) -> WebConfig:
        """Return the newest good reading."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                config = load(self._path)
                if (config.tls is None) != (self._config.tls is None) or config.http2 != self._config.http2:
                    raise ConfigError([f"{self._path}: turning TLS or HTTP/2 on or off needs a restart"])  # noqa: TRY301
                if self._config.users and not config.users:
                    # A file that is being rewritten is empty for a moment, in which everybody would be let in
                    raise ConfigError([f"{self._path}: removing all basic_auth_users needs a restart"])  # noqa: TRY301
            except ConfigError as error:
                _log.error("web configuration not reloaded: %s", "; ".join(error.faults))
            else:
                self._config = config
                _log.info("web configuration reloaded")
        return self._config

    def context(self) -> ssl.SSLContext:
        """Return a context with the newest good certificates. Only with TLS."""
        tls = self.current().tls
        if tls is None or self._context is None:
            raise ssl.SSLError("TLS is off")
        wanted = (tls, tuple(map(_stamp, tls.files)))
        if wanted != self._context_for:
            self._context_for = wanted
            try:
                self._context = build_context(self._path, tls, http2=self._config.http2)
            except ConfigError as error:
                _log.error("certificates not reloaded: %s", "; ".join(error.faults))
            else:
                _log.info("certificates reloaded")
        return self._context


class ReloadingContext(ssl.SSLContext):
    """A server context that gives each connection the context which `source` returns at that moment."""

    _source: Callable[[], ssl.SSLContext]

    def __new__(cls, source: Callable[[], ssl.SSLContext]) -> Self:  # noqa: D102
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._source = source
        return self

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # noqa: ANN401 - passed through
        """As `SSLContext.wrap_bio`, on the newest context."""
        return self._source().wrap_bio(*args, **kwargs)


def build_context(path: Path, tls: TlsConfig, *, http2: bool = True) -> ssl.SSLContext:
    """Return a server context for `tls`, reading its files. Raises ConfigError; `path` stands in its faults."""
    faults = [
        f"{path}:{pem.line}: {pem.where}: {reason}"
        for pem in (tls.cert, tls.key, tls.client_ca)
        if pem is not None and (reason := _unreadable(pem)) is not None
    ]
    if faults:
        raise ConfigError(faults)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No tickets: a resumed session would keep what an old certificate authority had vouched for.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.minimum_version = tls.min_version
    context.maximum_version = tls.max_version
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    context.set_ciphers(tls.ciphers or _DEFAULT_CIPHERS)
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.curve is not None:
        context.set_ecdh_curve(tls.curve)
    if not _loaded(context, tls.cert, tls.key):
        where = f"{path}:{tls.cert.line}: {tls.cert.where}"
        faults.append(
            f"{where}: not a PEM certificate with a matching, unencrypted {tls.key.where.rpartition('.')[2]}"
        )
    if tls.client_ca is not None and not _trusted(context, tls.client_ca):
        faults.append(f"{path}:{tls.client_ca.line}: {tls.client_ca.where}: holds no PEM certificate")
    if faults:
        raise ConfigError(faults)
    context.verify_mode = tls.client_auth
    if tls.client_allowed_sans:
        context.sslobject_class = _san_checking(tls.client_allowed_sans)
    return context


def _unreadable(pem: Pem) -> str | None:
    """Return why the file of `pem` can't be read, if so."""
    try:
        if pem.path is not None:
            pem.path.read_bytes()
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    return None


def _loaded(context: ssl.SSLContext, cert: Pem, key: Pem) -> bool:
    try:
        with _as_file(cert) as cert_name, _as_file(key) as key_name:
            # An encrypted key must fail, not ask on the terminal.
            context.load_cert_chain(cert_name, key_name, password="")
    except (ssl.SSLError, OSError, ValueError):
        return False
    return True


def _trusted(context: ssl.SSLContext, authority: Pem) -> bool:
    try:
        with _as_file(authority) as name:
            context.load_verify_locations(name)
    except (ssl.SSLError, OSError, ValueError):
        return False
    return bool(context.get_ca_certs())


def load(path: Path) -> WebConfig:
    """Return the file at `path`, checked. Raises ConfigError with a line for each fault, without values."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: {os.strerror(error.errno or 0).lower()}"]) from None
    if len(data) > _MAX_BYTES:
        raise ConfigError([f"{path}: larger than {_MAX_BYTES} bytes"])
    fault: str | None = None
    node = None
    try:
        node = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        fault = f"{path}:{line}: not valid YAML; check indentation, quotes and colons"
    except (yaml.YAMLError, RecursionError):
        fault = f"{path}: not valid YAML"
    if fault is not None:
        raise ConfigError([fault])
    reader = _Reader(path)
    config = reader.config(node)
    if reader.faults:
        raise ConfigError([text for _, text in sorted(reader.faults)])
    return config


def _stamp(path: Path) -> _Stamp:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


@contextlib.contextmanager
def _as_file(pem: Pem) -> Iterator[str]:
    """Yield a file name for `pem`: the ssl module loads keys from files only."""
    if pem.path is not None:
        yield str(pem.path)
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:  # readable by the owner only
        file.write(pem.text or "")
        file.flush()
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


def _duration(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        return None
    return sum(int(part or 0) * unit for part, unit in zip(match.groups(), _DURATION_UNITS, strict=True))


class _Reader:
    """Walks the node tree, so that every fault has its line, and collects `faults` as (line, text)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[tuple[int, str]] = []

    def fault(self, node: yaml.Node, where: str, text: str) -> None:
        line = node.start_mark.line + 1
        self.faults.append(
            (line, f"{self.path}:{line}: {where}: {text}" if where else f"{self.path}:{line}: {text}")
        )

    def mapping(self, node: yaml.Node | None, where: str, known: Sequence[str] | None) -> dict[str, yaml.Node]:
        """Return the non-null entries of `node`. `known` None: any key."""
        if node is None or _is_null(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, where, "expected keys and values")
            return {}
        entries: dict[str, yaml.Node] = {}
        seen: set[str] = set()
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            dotted = f"{where}.{key}" if where else key
            if known is None and (not key or ":" in key):
                self.fault(key_node, where, "a user name is empty or has a colon")
            elif known is not None and key not in known:
                named = dotted if _KEY.fullmatch(key) else where
                self.fault(key_node, named, f"unknown key; known are {', '.join(known)}")
            elif key in seen:
                self.fault(key_node, where if known is None else dotted, "stands here twice")
            elif not _is_null(value):
                entries[key] = value
            seen.add(key)
        return entries

    def string(self, node: yaml.Node, where: str) -> str:
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self.fault(node, where, "expected a text")
        return ""

    def boolean(self, node: yaml.Node | None, where: str, *, default: bool) -> bool:
        if node is None:
            return default
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
            return str(node.value).lower() in {"true", "yes", "on"}
        self.fault(node, where, "expected true or false")
        return default

    def strings(self, node: yaml.Node | None, where: str) -> list[tuple[yaml.Node, str]]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.fault(node, where, "expected a list")
            return []
        return [(item, self.string(item, f"{where}[{index}]")) for index, item in enumerate(node.value)]

    def config(self, node: yaml.Node | None) -> WebConfig:
        top = self.mapping(
            node, "", ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
        )
        http = self.mapping(top.get("http_server_config"), "http_server_config", ("http2", "headers"))
        return WebConfig(
            tls=self.tls(top.get("tls_server_config")),
            users=self.users(top.get("basic_auth_users")),
            headers=self.headers(http.get("headers")),
            http2=self.boolean(http.get("http2"), "http_server_config.http2", default=True),
            rate_limit=self.rate_limit(top.get("rate_limit")),
        )

    def tls(self, node: yaml.Node | None) -> TlsConfig | None:
        where = "tls_server_config"
        known = (
            "cert_file",
            "key_file",
            "client_auth_type",
            "client_ca_file",
            "client_allowed_sans",
            "min_version",
            "max_version",
            "cipher_suites",
            "prefer_server_cipher_suites",
            "curve_preferences",
            "cert",
            "key",
            "client_ca",
        )
        entries = self.mapping(node, where, known)
        if node is None or not entries:
            return None
        cert = self.pem(entries, "cert", node)
        key = self.pem(entries, "key", node)
        client_ca = self.pem(entries, "client_ca", None)
        client_auth = self.client_auth(entries, client_ca)
        sans = self.strings(entries.get("client_allowed_sans"), f"{where}.client_allowed_sans")
        if sans and client_auth is not ssl.CERT_REQUIRED:
            self.fault(
                entries["client_allowed_sans"],
                f"{where}.client_allowed_sans",
                "needs client_auth_type: RequireAndVerifyClientCert",
            )
        low = self.version(entries, "min_version", ssl.TLSVersion.TLSv1_2)
        high = self.version(entries, "max_version", ssl.TLSVersion.TLSv1_3)
        if low > high:
            self.fault(entries.get("max_version", node), f"{where}.max_version", "below min_version")
        if cert is None or key is None:
            return None
        return TlsConfig(
            cert=cert,
            key=key,
            client_ca=client_ca,
            client_auth=client_auth,
            client_allowed_sans=frozenset(text for _, text in sans),
            min_version=low,
            max_version=high,
            ciphers=self.ciphers(entries),
            prefer_server_cipher_suites=self.boolean(
                entries.get("prefer_server_cipher_suites"),
                f"{where}.prefer_server_cipher_suites",
                default=True,
            ),
            curve=self.curve(entries),
        )

    def pem(self, entries: Mapping[str, yaml.Node], name: str, required_in: yaml.Node | None) -> Pem | None:
        """Return ``name`` (inline) or ``name_file``; with `required_in`, one of them must be there."""
        found = [key for key in (name, f"{name}_file") if key in entries and _text(entries[key])]
        if len(found) > 1:
            self.fault(entries[name], f"tls_server_config.{name}", f"give either this or {name}_file")
        if not found:
            if required_in is not None:
                self.fault(required_in, f"tls_server_config.{name}_file", "missing")
            return None
        key, node = found[0], entries[found[0]]
        where, line = f"tls_server_config.{key}", node.start_mark.line + 1
        text = self.string(node, where)
        if key == name:
            return Pem(where, line, text=text)
        return Pem(where, line, path=self.path.parent / text)

    def client_auth(self, entries: Mapping[str, yaml.Node], client_ca: Pem | None) -> ssl.VerifyMode:
        where = "tls_server_config.client_auth_type"
        node = entries.get("client_auth_type")
        name = "" if node is None else self.string(node, where)
        if node is not None and name in _UNVERIFIED:
            self.fault(
                node, where, f"{name} verifies nothing and isn't supported; use RequireAndVerifyClientCert"
            )
            return ssl.CERT_NONE
        if node is not None and name and name not in _CLIENT_AUTH:
            self.fault(node, where, f"unknown; expected one of {', '.join(_CLIENT_AUTH)}")
            return ssl.CERT_NONE
        mode = _CLIENT_AUTH[name or "NoClientCert"]
        if node is not None and mode is not ssl.CERT_NONE and client_ca is None:
            self.fault(node, where, f"{name} needs client_ca_file")
        if mode is ssl.CERT_NONE and client_ca is not None:
            ca_node = entries["client_ca_file" if client_ca.path is not None else "client_ca"]
            self.fault(ca_node, client_ca.where, "needs client_auth_type: RequireAndVerifyClientCert")
        return mode

    def version(self, entries: Mapping[str, yaml.Node], key: str, default: ssl.TLSVersion) -> ssl.TLSVersion:
        node = entries.get(key)
        name = "" if node is None else self.string(node, f"tls_server_config.{key}")
        if node is None or not name:
            return default
        if name not in _VERSIONS:
            self.fault(node, f"tls_server_config.{key}", f"unknown; expected one of {', '.join(_VERSIONS)}")
        return _VERSIONS.get(name, default)

    def ciphers(self, entries: Mapping[str, yaml.Node]) -> str | None:
        where = "tls_server_config.cipher_suites"
        names: list[str] = []
        for index, (node, name) in enumerate(self.strings(entries.get("cipher_suites"), where)):
            if name in _CIPHERS:
                names.append(_CIPHERS[name])
            elif name not in _CIPHERS_13:
                self.fault(node, f"{where}[{index}]", "unknown; expected a name of Go's tls.CipherSuites()")
        return ":".join(names) or None

    def curve(self, entries: Mapping[str, yaml.Node]) -> str | None:
        where = "tls_server_config.curve_preferences"
        names = self.strings(entries.get("curve_preferences"), where)
        for index, (node, name) in enumerate(names):
            if name not in _CURVES:
                self.fault(node, f"{where}[{index}]", f"unknown; expected one of {', '.join(_CURVES)}")
        if len(names) > 1:
            self.fault(
                entries["curve_preferences"], where, "only one can be set here; leave out the others, or all"
            )
        return _CURVES.get(names[0][1]) if names else None

    def users(self, node: yaml.Node | None) -> dict[str, str]:
        users: dict[str, str] = {}
        for name, value in self.mapping(node, "basic_auth_users", None).items():
            secret = self.string(value, "basic_auth_users")
            if _BCRYPT.fullmatch(secret):
                users[name] = secret
            else:
                # A password put here by mistake must not be echoed, nor a user name be a hint to it.
                self.fault(value, "basic_auth_users", "not a bcrypt hash; make one with: htpasswd -nBC 10 USER")
        if isinstance(node, yaml.MappingNode) and len(users) < len(node.value):
            for key, value in node.value:
                if _is_null(value):
                    self.fault(key, "basic_auth_users", "a user without a bcrypt hash")
        return users

    def headers(self, node: yaml.Node | None) -> dict[str, str]:
        where = "http_server_config.headers"
        headers: dict[str, str] = {}
        for name, value in self.mapping(node, where, tuple(_HEADERS)).items():
            text = self.string(value, f"{where}.{name}")
            if _HEADERS[name] and text and text.lower() not in _HEADERS[name]:
                self.fault(value, f"{where}.{name}", f"expected one of {', '.join(_HEADERS[name])}")
            elif not text.isascii() or not (text.isprintable()):
                self.fault(value, f"{where}.{name}", "has characters that a header can't hold")
            headers[name] = text
        return headers

    def rate_limit(self, node: yaml.Node | None) -> RateLimit | None:
        entries = self.mapping(node, "rate_limit", ("interval", "burst"))
        interval: float | None = 0.0
        burst = 0
        if (value := entries.get("interval")) is not None:
            interval = _duration(self.string(value, "rate_limit.interval"))
            if interval is None:
                self.fault(value, "rate_limit.interval", "not a duration; expected one such as 500ms or 1s")
        if (value := entries.get("burst")) is not None:
            text = self.string(value, "rate_limit.burst")
            if text.isascii() and text.isdecimal():
                burst = int(text[:9])
            else:
                self.fault(value, "rate_limit.burst", "expected a whole number, 0 or more")
        if not interval:
            return None
        if node is not None and burst < 1:
            self.fault(
                entries.get("burst", node), "rate_limit.burst", "must be at least 1, or no request is answered"
            )
        return RateLimit(interval, burst)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _text(node: yaml.Node) -> bool:
    """Return whether `node` is anything but an empty text."""
    return not (isinstance(node, yaml.ScalarNode) and node.value == "")
