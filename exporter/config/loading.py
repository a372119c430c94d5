"""Loading: a YAML file, the environment over it, to one frozen `Config`.

All faults are reported at once, each with its line, and none of them shows a value: a value may be a token.
"""

import difflib
import re
import ssl
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from exporter.config.durations import format_duration, parse_duration
from exporter.config.faults import Models
from exporter.config.model import SECTIONS, Config, StillSending
from exporter.config.yaml_file import (
    FileKind,
    Location,
    Tree,
    YamlFile,
    dotted,
    open_yaml,
    read_at_most,
    read_problem,
)
from exporter.errors import ConfigError
from exporter.logs import register_secret

ENVIRONMENT_PREFIX: Final = "INTARGET_EXPORTER_"
TOKEN_VARIABLE: Final = "INTARGET_ACCESS_TOKEN"  # noqa: S105 - a name
"""Holds the token of the only account when there is no file."""
ACCOUNT_VARIABLES: Final = {
    "INTARGET_ACCOUNT_NAME": "name",
    "INTARGET_BASE_URL": "base_url",
    "INTARGET_CURRENCY": "currency",
}
"""Set the other keys of that account."""
SERVING_VARIABLES: Final = frozenset(
    ENVIRONMENT_PREFIX + name
    for name in (
        "CONFIG_FILE",
        "WEB_LISTEN_ADDRESS",
        "WEB_TELEMETRY_PATH",
        "WEB_CONFIG_FILE",
        "WEB_ENABLE_LIFECYCLE",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "SHARD",
        "TOTAL_SHARDS",
    )
)
"""Environment variables that stand for a flag, not for a config key; read by `cli`."""

# Kubernetes sets these in every pod of a namespace that has a service named intarget-exporter.
_SERVICE_LINK: Final = re.compile(
    ENVIRONMENT_PREFIX
    + r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_MODELS: Final = Models(Config)
_KIND: Final = FileKind(
    flag="--config.file",
    outline="a mapping that begins with accounts:; `intarget-exporter print example-config` shows one",
    keys=_MODELS.keys,
)


def _settable() -> dict[str, Location]:
    """Return the dotted keys that the environment can set: every scalar outside accounts."""
    keys = [(name, key) for name, model in SECTIONS.items() for key in model.model_fields if key != "refresh"]
    nested = [("poll", "still_sending", key) for key in StillSending.model_fields]
    return {".".join(location): location for location in (*keys, *nested)}


SETTABLE: Final[Mapping[str, Location]] = _settable()
ENVIRONMENT: Final[Mapping[str, str]] = {
    ENVIRONMENT_PREFIX + key.replace(".", "_").upper(): key for key in SETTABLE
}
"""Environment variables by name, with the dotted key that each sets."""


def load(path: Path | None, *, environ: Mapping[str, str]) -> Config:
    """Return the configuration of the file at `path`, with `environ` over it.

    Without a `path` there is one account, `default`, whose token is in ``INTARGET_ACCESS_TOKEN``. Raises
    ConfigError with every fault. Literal secrets are registered for redaction.
    """
    return _Loader(path, environ).load()


class _Loader:
    """One run of `load`: what was found so far, and where everything came from."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._file: YamlFile | None = None
        self._mode = 0
        self._origins: dict[Location, str] = {}  # what doesn't come from the file
        self._faults: list[tuple[int, str]] = []

    def load(self) -> Config:
        tree = self._read()
        for section in SECTIONS:
            if tree.get(section, ...) is None:
                tree[section] = {}  # all its keys are commented out
        for name, key in ENVIRONMENT.items():
            if self._is_set(name):
                self._set(tree, name, SETTABLE[key], self._environ[name])
        config = self._validate(tree)
        if config is None or self._faults:
            in_order = (text for _, text in sorted(self._faults, key=lambda fault: fault[0]))
            raise ConfigError(list(dict.fromkeys(in_order)))
        suspicions = sorted(
            (self._line(location), self._sentence(location, text))
            for location, text in _suspicions(config, self._mode)
        )
        variables = (*self._unused_variables(), *_unknown_variables(self._environ))
        config._warnings = (*(text for _, text in suspicions), *variables)  # noqa: SLF001 - ours to set
        _register_secrets(config)
        return config

    def _is_set(self, name: str) -> bool:
        return bool(self._environ.get(name, "").strip())  # an empty variable is one that isn't set

    def _read(self) -> dict[str, Tree]:
        """Return the file's tree; where there is none, one without faults, to check the rest against."""
        if self._path is not None:
            try:
                self._file, self._mode = open_yaml(self._path, _KIND)
            except ConfigError as error:
                self._faults += [(0, fault) for fault in error.faults]
            else:
                self._faults += self._file.faults
                if self._file.tree:
                    return dict(self._file.tree)
        elif not self._is_set(TOKEN_VARIABLE):
            message = f"no config file and no token; give --config.file=config.yaml, or set {TOKEN_VARIABLE}"
            self._faults.append((0, message))
        account = {"name": "default", "access_token_env": TOKEN_VARIABLE}
        tree: dict[str, Tree] = {"accounts": [account]}
        if self._path is None:
            for name, key in ACCOUNT_VARIABLES.items():
                if self._is_set(name):
                    self._set(tree, name, ("accounts", 0, key), self._environ[name])
        return tree

    def _set(self, tree: dict[str, Tree], origin: str, location: Location, text: str) -> None:
        """Put `text` of a variable into the tree."""
        value = None if text.strip() in _NULLS else text.strip()
        if location == ("poll", "still_sending") and value is not None:
            message = (
                f"{origin}: {dotted(location)}: can only be null here, for off; its keys are set one by one"
            )
            self._faults.append((sys.maxsize, message))
            return
        parent: Tree = tree
        for part in location[:-1]:
            if isinstance(part, str) and parent.get(part) is None:
                parent[part] = {}
            parent = parent[part]
            if not isinstance(parent, dict | list):
                return  # a fault of the file, which the model reports
        parent[location[-1]] = value
        self._origins[location] = origin

    def _validate(self, tree: dict[str, Tree]) -> Config | None:
        config = None
        try:
            config = Config.model_validate(tree)
        except ValidationError as error:
            for location, text in _MODELS.faults(error, tree):
                self._fault(location, text)
        for location, text in _cross_checks(tree):
            self._fault(location, text)
        return config

    def _fault(self, location: Location, text: str) -> None:
        self._faults.append((self._line(location), self._sentence(location, text)))

    def _origin(self, location: Location) -> str | None:
        """Return the variable that set `location`, or None for the file."""
        above = (location[:end] for end in range(len(location), 0, -1))
        return next((self._origins[location] for location in above if location in self._origins), None)

    def _line(self, location: Location) -> int:
        """Return the line for sorting; variables come after the file."""
        if self._file is None or self._origin(location) is not None:
            return sys.maxsize
        return self._file.line(location)

    def _sentence(self, location: Location, text: str) -> str:
        """Return `text` with where it applies in front."""
        origin = self._origin(location)
        if origin is None and self._file is not None:
            return self._file.sentence(location, text)
        return ": ".join(part for part in (origin or "configuration", dotted(location), text) if part)

    def _unused_variables(self) -> Iterator[str]:
        if self._path is not None:
            for name in ACCOUNT_VARIABLES:
                if self._is_set(name):
                    yield f"{name}: ignored; it describes the account where there is no config file"


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for every variable that looks like a setting, but is none."""
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or _SERVICE_LINK.fullmatch(name):
            continue
        if name not in ENVIRONMENT and name not in SERVING_VARIABLES:
            known = [known.removeprefix(ENVIRONMENT_PREFIX) for known in (*ENVIRONMENT, *SERVING_VARIABLES)]
            close = difflib.get_close_matches(name.removeprefix(ENVIRONMENT_PREFIX), known, n=1)
            hint = f"; did you mean {ENVIRONMENT_PREFIX}{close[0]}?" if close else ""
            yield f"{name}: unknown variable, ignored{hint}"


def _register_secrets(config: Config) -> None:
    for account in config.accounts:
        if account.access_token is not None:
            register_secret(account.access_token.get_secret_value(), account.name)
    if config.api.proxy is not None:
        proxy = config.api.proxy.get_secret_value()
        register_secret(proxy)
        password = urlsplit(proxy).password
        if password:
            register_secret(password)
            register_secret(unquote(password))


def _cross_checks(tree: Tree) -> Iterator[tuple[Location, str]]:
    """Yield the faults between keys. Each looks at raw values, so that faults elsewhere don't hide them."""
    accounts = tree.get("accounts")
    seen: dict[str, int] = {}
    for index, account in enumerate(accounts if isinstance(accounts, list) else []):
        if not isinstance(account, dict):
            continue
        name = account.get("name")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            yield (
                ("accounts", index, "name"),
                f"is the name of accounts[{seen[name]}] already; names are unique",
            )
        keys = ("access_token_file", "access_token_env", "access_token")
        given = [key for key in keys if account.get(key) is not None]
        if not given:
            yield ("accounts", index), f"has no token; give one of {', '.join(keys)}"
        for key in given[1:]:
            yield ("accounts", index, key), f"is one token too many; {given[0]} is given already"
    poll = tree.get("poll")
    tiers = poll.get("refresh") if isinstance(poll, dict) else None
    before = 0.0
    for index, tier in enumerate(tiers if isinstance(tiers, list) else []):
        try:
            age = parse_duration(tier["younger_than"])
        except (LookupError, TypeError, ValueError):
            continue  # the model says what is wrong with it
        if index and age <= before:
            yield ("poll", "refresh", index, "younger_than"), "must be longer than in the tier before it"
        before = age


def _suspicions(config: Config, mode: int) -> Iterator[tuple[Location, str]]:
    """Yield what works but was probably not meant."""
    poll, api = config.poll, config.api
    shortest = min(tier.every for tier in poll.refresh)
    if poll.stale_after <= shortest:
        interval = f"the shortest refresh interval ({format_duration(shortest)})"
        yield ("poll", "stale_after"), f"is not longer than {interval}: campaign series will come and go"
    for index, tier in enumerate(poll.refresh[:-1]):
        if tier.younger_than >= poll.window:
            yield ("poll", "refresh", index + 1), "is never used: the tier before it reaches beyond poll.window"
            break
    still = poll.still_sending
    if still is not None and still.lookback < still.every:
        location = ("poll", "still_sending", "lookback")
        yield location, "is shorter than poll.still_sending.every: what sends in between is not found"
    if api.deadline < api.timeout:
        yield ("api", "deadline"), "is shorter than api.timeout, so it ends requests before their time"
    if api.ca_file is not None and (problem := _authorities_problem(api.ca_file)) is not None:
        yield ("api", "ca_file"), f"{problem}; every request fails without it"
    for index, account in enumerate(config.accounts):
        url = urlsplit(account.base_url)
        if url.scheme == "http" and not _is_loopback(url.hostname or ""):
            yield ("accounts", index, "base_url"), "is not https: the token can be read on the way"
        if account.access_token is not None and mode & stat.S_IROTH:
            yield (
                ("accounts", index, "access_token"),
                "every user may read this file; chmod o-r, or use a file of its own",
            )


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def _authorities_problem(path: Path) -> str | None:
    """Return why `path` can't be used as the certificate authorities, or None."""
    try:
        read_at_most(path, 0)
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "holds no certificate in PEM format"
    except (OSError, ValueError) as error:
        return read_problem(error)
    return None
