"""The configuration of the exporter, as one frozen `Config`. Its docstrings describe the JSON Schema."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, SecretStr

from exporter.config.durations import parse_duration
from exporter.config.values import (
    Duration,
    DurationOrZero,
    FilePath,
    Secret,
    Section,
    check_url,
    default_duration,
    fault,
)
from exporter.config.yaml_file import read_at_most, read_problem
from exporter.errors import ConfigError
from exporter.logs import register_secret

_MAX_TOKEN_BYTES: Final = 1 << 16
_API_PARAMETERS: Final = frozenset(
    {"access-token", "startFrom", "startTo", "campaignIds", "sendFrom", "sendTo", "perPage"}
)


def _visible(text: str) -> str:
    if not text.strip():
        raise fault("is empty")
    if not text.isprintable() or text != text.strip():
        raise fault("must not hold control characters, nor begin or end with a space")
    return text


def _readable_token(token: str) -> str:
    """Return `token` if it can be one; raises ValueError with the fault."""
    if not token:
        raise ValueError("is empty")
    if not token.isprintable() or " " in token:
        raise ValueError("must not hold spaces, line breaks or control characters")
    return token


def _token(secret: SecretStr) -> SecretStr:
    try:
        return Secret(_readable_token(secret.get_secret_value().strip()))
    except ValueError as error:
        raise fault(str(error)) from None


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise fault("is not the name of an environment variable")
    return name


def _base_url(text: str) -> str:
    problem = check_url(text)
    if problem is None and "@" in urlsplit(text).netloc:
        problem = "must not hold a user or password"
    if problem is not None:
        raise fault(problem)
    if urlsplit(text).path.rstrip("/").endswith("/rest"):
        raise fault("must end before /rest, which the exporter adds itself")
    return text.rstrip("/")


def _proxy(secret: SecretStr) -> SecretStr:
    problem = check_url(secret.get_secret_value())
    if problem is not None:
        raise fault(problem)
    return secret


def _parameter(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", name):
        raise fault("is not the name of a query parameter, such as page")
    if name in _API_PARAMETERS:
        raise fault("is a parameter that the exporter sends itself")
    return name


def _currency(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise fault("must be three capital letters, such as EUR")
    return text


_Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_visible)]
_Currency = Annotated[str, AfterValidator(_currency), Field(json_schema_extra={"pattern": "^[A-Z]{3}$"})]


class AccountConfig(Section):
    """One InTarget account. Exactly one of access_token_file, access_token_env and access_token is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [key]} for key in ("access_token_file", "access_token_env", "access_token")],
        },
    )

    name: _Name
    """Value of the label `account`; unique."""
    access_token_file: FilePath | None = None
    """File that holds the access token, read anew for every poll."""
    access_token_env: Annotated[str, AfterValidator(_variable)] | None = None
    """Environment variable that holds the access token."""
    access_token: Annotated[Secret, AfterValidator(_token)] | None = None
    """The access token itself; better kept in a file or in the environment."""
    base_url: Annotated[str, AfterValidator(_base_url)] = "https://api.intarget.app"
    """Address of the API, without /rest."""
    currency: _Currency | None = None
    """Currency of the deposits, for intarget_account_info; three capital letters."""

    def read_token(self, environ: Mapping[str, str] | None = None) -> str:
        """Return the access token as it is now in its file or in `environ` (default: the process's).

        It is registered for redaction first. Raises ConfigError, with one line, if none can be used.
        """
        if self.access_token is not None:
            key, token = "access_token", self.access_token.get_secret_value()
        elif self.access_token_file is not None:
            key, token = "access_token_file", self._read_token_file(self.access_token_file)
        elif self.access_token_env is not None:
            key = "access_token_env"
            found = (os.environ if environ is None else environ).get(self.access_token_env)
            if found is None:
                raise self._token_error(key, "the environment variable that it names is not set")
            token = found
        else:
            raise self._token_error("access_token_file", "no token is configured")
        token = token.strip()
        register_secret(token, self.name)
        try:
            return _readable_token(token)
        except ValueError as error:
            raise self._token_error(key, f"the token {error}") from None

    def _read_token_file(self, path: Path) -> str:
        key = "access_token_file"
        try:
            data = read_at_most(path, _MAX_TOKEN_BYTES)[0]
        except FileNotFoundError:
            problem = "the file does not exist"
        except (OSError, ValueError) as error:
            problem = read_problem(error)
        else:
            if len(data) > _MAX_TOKEN_BYTES:
                problem = "is too large for a token"
            else:
                try:
                    return data.decode("utf-8-sig")
                except UnicodeDecodeError:
                    problem = "is not text in UTF-8"
        raise self._token_error(key, problem)

    def _token_error(self, key: str, problem: str) -> ConfigError:
        return ConfigError([f"account {self.name}: {key}: {problem}"])


class Refresh(Section):
    """One tier: campaigns younger than this are read again this often."""

    younger_than: Duration
    """Age of a campaign, from its start. The last tier reaches to the end of the window."""
    every: Duration
    """Interval between two reads."""


class StillSending(Section):
    """How campaigns that started before the window, but still send, are found."""

    lookback: Duration = default_duration("1d")
    """A campaign that sent within it is found."""
    every: Duration = default_duration("15m")
    """Interval between two searches."""


class PollConfig(Section):
    """What is asked, and how often."""

    window: Duration = default_duration("14d")
    """Campaigns that started within it are tracked."""
    refresh: Annotated[tuple[Refresh, ...], Field(min_length=1)] = Field(
        default=(
            Refresh(younger_than=parse_duration("2d"), every=parse_duration("5m")),
            Refresh(younger_than=parse_duration("14d"), every=parse_duration("1h")),
        ),
        json_schema_extra={
            "default": [{"younger_than": "2d", "every": "5m"}, {"younger_than": "14d", "every": "1h"}],
        },
    )
    """How often a campaign is read again, by its age; tiers from young to old."""
    still_sending: StillSending | None = Field(
        default_factory=StillSending,
        json_schema_extra={"default": {"lookback": "1d", "every": "15m"}},
    )
    """Finds older campaigns that still send; null: off."""
    conversions_every: Duration | None = default_duration("15m")
    """Interval between two reads of the conversions; null: off."""
    stale_after: Duration = default_duration("30m")
    """Without a success for so long, the account's campaign series are withdrawn."""


class ApiConfig(Section):
    """How the API is asked; all limits hold for each account on its own."""

    timeout: Duration = default_duration("30s")
    """One request in total: connect, headers and body."""
    deadline: Duration = default_duration("4m")
    """One poll of one resource, retries included."""
    per_page: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Rows asked for in one request; the server may send fewer."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    """Requests at the same time."""
    requests_per_second: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 2.0
    """Rate of requests, retries included; may be a fraction."""
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    """Further attempts of a failed request."""
    max_response_bytes: Annotated[int, Field(ge=1024)] = 67_108_864
    """A larger answer fails the poll."""
    page_parameter: Annotated[str, AfterValidator(_parameter)] | None = None
    """Query parameter that takes the number of a page, such as page, if `doctor` finds that the server has it;
    null: none is sent, and answers are split by the campaigns' starts."""
    proxy: Annotated[Secret, AfterValidator(_proxy)] | None = None
    """HTTP proxy for the API, with its user and password if it wants them; null: none."""
    ca_file: FilePath | None = None
    """PEM file of the certificate authorities to trust instead of the usual ones; null: the usual ones."""


class MetricsConfig(Section):
    """What is exported."""

    per_message: bool = False
    """Adds the label message_title to the campaign counters."""
    zero_hold: DurationOrZero = default_duration("1m")
    """How long the counters of a new campaign stand at 0, so that increase() sees its first step; 0s: off."""
    created_timestamps: bool = False
    """Adds _created series, in OpenMetrics only."""
    max_campaigns: Annotated[int, Field(ge=1)] = 20_000
    """Campaigns tracked for each account; the newest stay."""


class StateConfig(Section):
    """What survives a restart."""

    path: FilePath | None = Path("intarget-exporter.db")
    """SQLite file, relative to the working directory; null: none, counters begin anew at every start."""


class Config(Section):
    """The whole configuration.

    Two are equal if they mean the same, wherever that was written; `changes` says what differs.
    """

    accounts: Annotated[tuple[AccountConfig, ...], Field(min_length=1)]
    """The InTarget accounts to poll."""
    poll: PollConfig = Field(default_factory=PollConfig)
    api: ApiConfig = Field(default_factory=ApiConfig)
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    state: StateConfig = Field(default_factory=StateConfig)

    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but was probably not meant, one line each, for the log."""
        return self._warnings

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and not self.changes(other)

    def __hash__(self) -> int:
        return hash((self.accounts, self.poll, self.api, self.metrics, self.state))

    def masked(self) -> str:
        """Return the configuration as YAML in which secrets are asterisks."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def changes(self, other: "Config") -> tuple[str, ...]:
        """Return the keys in which `other` differs: ``poll.window``, ``accounts[main]``."""
        ours, theirs = ({account.name: account for account in config.accounts} for config in (self, other))
        names = dict.fromkeys((*ours, *theirs))
        changed = [f"accounts[{name}]" for name in names if ours.get(name) != theirs.get(name)]
        for section in SECTIONS:
            mine, its = getattr(self, section), getattr(other, section)
            fields = type(mine).model_fields
            changed += [f"{section}.{key}" for key in fields if getattr(mine, key) != getattr(its, key)]
        return tuple(changed)

    def check_tokens(self, environ: Mapping[str, str] | None = None) -> None:
        """Raise ConfigError, with a line for each, if there are accounts whose token can't be read."""
        faults: list[str] = []
        for account in self.accounts:
            try:
                account.read_token(environ)
            except ConfigError as error:
                faults += error.faults
        if faults:
            raise ConfigError(faults)

    def shard(self, index: int, total: int) -> "Config":
        """Return the part that replica `index` of `total` polls: accounts by a hash of their names.

        An account's replica depends on nothing but its name and `total`. May have no accounts. Raises
        ValueError unless 0 <= index < total.
        """
        if not 0 <= index < total:
            raise ValueError(
                f"the shard must be from 0 to {total - 1}" if total > 0 else "there must be a shard"
            )
        mine = tuple(account for account in self.accounts if _hash(account.name) % total == index)
        return self.model_copy(update={"accounts": mine})


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest(), "big")


SECTIONS: Final[dict[str, type[Section]]] = {
    "poll": PollConfig,
    "api": ApiConfig,
    "metrics": MetricsConfig,
    "state": StateConfig,
}
"""The mappings beside `accounts`."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "intarget-exporter configuration",
        "description": "The config file of intarget-exporter.",
    }


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
