"""``--web.config.file``: TLS, client certificates, users and headers, as all exporters of Prometheus have them.

The format is that of the exporter-toolkit, by its documentation,
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. Differences, each
reported and never passed over: Python can't ask for a client certificate without verifying it
(``RequestClientCert``, ``RequireAnyClientCert``), can't order several ``curve_preferences``, and HTTP/2 isn't
served.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from exporter.config.faults import Models
from exporter.config.values import DurationOrZero, FilePath, Secret, Section, fault
from exporter.config.yaml_file import FileKind, Location, Tree, YamlFile, open_yaml
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

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
_BCRYPT: Final = re.compile(r"\$2[abxy]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_FILES: Final = ("cert_file", "key_file", "client_ca_file")


# Values


def _one_of(values: Mapping[str, Any]) -> Callable[[object], Any]:
    """Return a validator that takes the names of `values` to what they stand for."""

    def look_up(name: object) -> Any:  # noqa: ANN401 - whatever the values are
        if isinstance(name, str):
            if name not in values:
                raise fault(f"must be one of {', '.join(values)}")
            return values[name]
        return name

    return look_up


def _client_auth(name: object) -> object:
    if name in _UNVERIFIED:
        raise fault(f"{name} verifies nothing and isn't supported; use RequireAndVerifyClientCert")
    return _one_of(_CLIENT_AUTH)(name)


def _cipher(name: str) -> str:
    if name not in _CIPHERS and name not in _CIPHERS_13:
        raise fault("must be a name of Go's tls.CipherSuites()")
    return _CIPHERS.get(name, "")


def _bcrypt_hash(text: str) -> str:
    if not _BCRYPT.fullmatch(text):
        raise fault("must be a bcrypt hash; make one with: htpasswd -nBC 10 USER")
    return text


def _user(name: str) -> str:
    if ":" in name:
        raise fault("must not have a colon in a user's name")
    return name


def _header(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise fault("must not hold control characters, nor others than ASCII")
    return text


def _choice(*values: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text and text.lower() not in values:
            raise fault(f"must be one of {', '.join(values)}, or empty for none")
        return text

    return check


def _interval(value: object) -> object:
    return "0s" if value == "0" else value


_Version = Annotated[ssl.TLSVersion, BeforeValidator(_one_of(_VERSIONS))]
_Header = Annotated[str, AfterValidator(_header)]


# The model


class TlsServerConfig(Section):
    """``tls_server_config``, in OpenSSL's terms. Of each pair such as cert and cert_file, one is given."""

    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    client_ca_file: FilePath | None = None
    cert: str | None = Field(default=None, repr=False)
    key: Secret | None = None
    client_ca: str | None = Field(default=None, repr=False)
    client_auth_type: Annotated[ssl.VerifyMode, BeforeValidator(_client_auth)] = ssl.CERT_NONE
    client_allowed_sans: tuple[str, ...] = ()
    min_version: _Version = ssl.TLSVersion.TLSv1_2
    max_version: _Version = ssl.TLSVersion.TLSv1_3
    cipher_suites: tuple[Annotated[str, AfterValidator(_cipher)], ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[Annotated[str, BeforeValidator(_one_of(_CURVES))], ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it names."""
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path is not None)


class HeadersConfig(Section):
    """``http_server_config.headers``: an empty one is left out of every answer."""

    content_security_policy: _Header | None = Field(default=None, alias="Content-Security-Policy")
    x_frame_options: Annotated[_Header, AfterValidator(_choice("deny", "sameorigin"))] | None = Field(
        default=None, alias="X-Frame-Options"
    )
    x_content_type_options: Annotated[_Header, AfterValidator(_choice("nosniff"))] | None = Field(
        default=None, alias="X-Content-Type-Options"
    )
    x_xss_protection: _Header | None = Field(default=None, alias="X-XSS-Protection")
    strict_transport_security: _Header | None = Field(default=None, alias="Strict-Transport-Security")


class HttpServerConfig(Section):
    """``http_server_config``; `http2` has no effect."""

    http2: bool = False
    headers: HeadersConfig = HeadersConfig()


class RateLimitConfig(Section):
    """``rate_limit``: one request every `interval` seconds (0: no limit), and `burst` of them at once."""

    interval: Annotated[DurationOrZero, BeforeValidator(_interval)] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


class ToolkitConfig(Section):
    """The whole file. `basic_auth_users` maps names to bcrypt hashes."""

    tls_server_config: TlsServerConfig | None = None
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: dict[
        Annotated[str, AfterValidator(_user)],
        Annotated[str, AfterValidator(_bcrypt_hash)],
    ] = Field(default_factory=dict, repr=False)
    rate_limit: RateLimitConfig = RateLimitConfig()

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every answer by their names in lower case; an empty value unsets one."""
        return {
            name.replace("_", "-"): value
            for name, value in self.http_server_config.headers.model_dump(exclude_none=True).items()
        }


# Loading


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that was read: what it says, what of it has no effect, and how a fault names a place in it."""

    config: ToolkitConfig
    warnings: tuple[str, ...]
    sentence: Callable[[Location, str], str]


EMPTY: Final = ToolkitConfig()
_MODELS: Final = Models(ToolkitConfig)
_KIND: Final = FileKind(
    flag="--web.config.file",
    outline="a mapping with keys such as tls_server_config: and basic_auth_users:",
    keys=_MODELS.keys,
    named_by_user=frozenset({("basic_auth_users",)}),
    may_be_empty=True,
)


def load(path: Path) -> Loaded:
    """Return the file at `path`, checked. Raises ConfigError with a line for each fault, without values."""
    file, _ = open_yaml(path, _KIND)
    faults = list(file.faults)
    config = None
    if file.tree is not None:
        tree = _without_nulls(file.tree)
        _resolve(tree, path.parent)
        found = list(_cross_checks(tree))
        try:
            config = ToolkitConfig.model_validate(tree)
        except ValidationError as error:
            found += _MODELS.faults(error, tree)
        faults += [(file.line(location), file.sentence(location, text)) for location, text in found]
    if config is None or faults:
        raise ConfigError([text for _, text in sorted(faults, key=lambda one: one[0])])
    return Loaded(config, tuple(_without_effect(file)), file.sentence)


def _without_nulls(tree: Tree) -> Tree:
    """Return `tree` as the exporter-toolkit sees it: a key with null is left out, a user with it is empty."""
    if not isinstance(tree, dict):
        return tree
    kept = {key: _without_nulls(value) for key, value in tree.items() if value is not None}
    users = kept.get("basic_auth_users")
    if isinstance(users, dict):
        kept["basic_auth_users"] = {name: value or "" for name, value in tree["basic_auth_users"].items()}
    tls = kept.get("tls_server_config")
    if isinstance(tls, dict):
        kept["tls_server_config"] = {key: value for key, value in tls.items() if value != ""} or None
    return kept


def _resolve(tree: dict[str, Tree], folder: Path) -> None:
    """Make the names of files relative to the folder of the configuration."""
    tls = tree.get("tls_server_config")
    if isinstance(tls, dict):
        for key in _FILES:
            name = tls.get(key)
            if isinstance(name, str) and not name.startswith("~"):
                tls[key] = str(folder / name)


def _cross_checks(tree: dict[str, Tree]) -> Iterator[tuple[Location, str]]:
    """Yield the faults between keys. Each looks at raw values, so that faults elsewhere don't hide them."""
    tls = tree.get("tls_server_config")
    if isinstance(tls, dict):
        for key, text in (*_certificate_faults(tls), *_client_faults(tls), *_protocol_faults(tls)):
            yield ("tls_server_config", key) if key in tls else ("tls_server_config",), text
    limit = tree.get("rate_limit")
    if (
        isinstance(limit, dict)
        and limit.get("interval", "0") not in ("0", "0s")
        and _is_zero(limit.get("burst"))
    ):
        yield ("rate_limit", "burst"), "must be at least 1, or no request is answered"


def _is_zero(burst: Tree) -> bool:
    return burst is None or (isinstance(burst, str) and burst.strip("0") == "")


def _certificate_faults(tls: Mapping[str, Tree]) -> Iterator[tuple[str, str]]:
    for key in ("cert", "key", "client_ca"):
        if key in tls and f"{key}_file" in tls:
            yield key, f"is one too many; {key}_file is given already"
        elif key != "client_ca" and key not in tls and f"{key}_file" not in tls:
            yield f"{key}_file", f"has no {key}; give {key}_file"


def _client_faults(tls: Mapping[str, Tree]) -> Iterator[tuple[str, str]]:
    mode = tls.get("client_auth_type", "NoClientCert")
    authority = next((key for key in ("client_ca_file", "client_ca") if key in tls), None)
    if mode in _CLIENT_AUTH and mode != "NoClientCert" and authority is None:
        yield "client_auth_type", f"{mode} needs client_ca_file"
    if mode == "NoClientCert" and authority is not None:
        yield authority, "needs client_auth_type: RequireAndVerifyClientCert"
    if "client_allowed_sans" in tls and mode != "RequireAndVerifyClientCert":
        yield "client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert"


def _protocol_faults(tls: Mapping[str, Tree]) -> Iterator[tuple[str, str]]:
    low, high = (
        _VERSIONS.get(text) if isinstance(text, str) else None
        for text in (tls.get("min_version", "TLS12"), tls.get("max_version", "TLS13"))
    )
    if low is not None and high is not None and low > high:
        yield "max_version", "is below min_version"
    curves = tls.get("curve_preferences")
    if isinstance(curves, list) and len(curves) > 1:
        yield "curve_preferences", "only one can be set here; leave out the others, or all"


def _without_effect(file: YamlFile) -> Iterator[str]:
    http = file.tree.get("http_server_config")
    if isinstance(http, dict) and http.get("http2") is not None:
        yield file.sentence(("http_server_config", "http2"), "has no effect: only HTTP/1.1 is served")
