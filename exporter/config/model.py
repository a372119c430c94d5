"""The configuration: a YAML file, the environment and flags, to one frozen `Config`.

All faults are reported at once, each with its line, and none of them shows a value: a value may be a token.
``python -m exporter.config.model`` prints the JSON Schema of the file.
"""

import difflib
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, Self, TypeAlias
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from exporter.errors import ConfigError
from exporter.logs import register_secret

ENVIRONMENT_PREFIX: Final = "INTARGET_EXPORTER_"
TOKEN_VARIABLE: Final = "INTARGET_ACCESS_TOKEN"  # noqa: S105 - a name
"""Holds the token of the account `default` when there is no file."""
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

_MAX_FILE_BYTES: Final = 1 << 20
_MAX_TOKEN_BYTES: Final = 1 << 16
_MAX_NODES: Final = 100_000  # aliases of aliases grow exponentially
_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset(
    _TAG + name for name in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "value", "merge")
)
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})

_Location: TypeAlias = tuple[str | int, ...]
_Tree: TypeAlias = Any  # mappings, lists, text and None: scalars stay as they were written


# Durations

_UNITS: Final = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION_PATTERN: Final = "".join(f"([0-9]{{1,15}}{unit})?" for unit in _UNITS)
_DURATION: Final = re.compile("".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in _UNITS))
_LONGEST_SECONDS: Final = 3660 * 86400.0  # ten years: keeps every date within what datetime has
_DURATION_FORMS: Final = "write it as 500ms, 30s, 5m, 1h30m, 14d or 2w"


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``1h30m``; raises ValueError, with what to do."""
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text):
        raise ValueError(f"has no unit; {_DURATION_FORMS}")
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"is not a duration; {_DURATION_FORMS}")
    milliseconds = sum(
        int(number or 0) * round(unit * 1000)
        for number, unit in zip(match.groups(), _UNITS.values(), strict=True)
    )
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """Return `seconds` as `parse_duration` reads it, rounded to milliseconds: ``14d``, ``1h30m``, ``0s``.

    A negative one has a minus in front, for people; no setting takes that.
    """
    rest = round(abs(seconds) * 1000)
    if rest == 0:
        return "0s"
    parts = ["-"] if seconds < 0 else []
    for unit, length in _UNITS.items():
        if unit == "w":
            continue  # 14d reads easier than 2w beside 13d
        count, rest = divmod(rest, round(length * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


# Values


def _fault(message: str) -> PydanticCustomError:
    return PydanticCustomError("config", "{message}", {"message": message})


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value  # null, a wrong kind (pydantic says so), or seconds given by code
    try:
        return parse_duration(value)
    except ValueError as error:
        raise _fault(str(error)) from None


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise _fault("must be longer than 0s")
    return _bounded(seconds)


def _bounded(seconds: float) -> float:
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise _fault(f"must be at most {format_duration(_LONGEST_SECONDS)}")
    return seconds


def _visible(text: str) -> str:
    if not text.strip():
        raise _fault("is empty")
    if not text.isprintable() or text != text.strip():
        raise _fault("must not hold control characters, nor begin or end with a space")
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
        raise _fault(str(error)) from None


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise _fault("is not the name of an environment variable")
    return name


def _path(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or not value.isprintable()):
        raise _fault("is not a path")
    return value


def _check_url(text: str) -> str | None:
    """Return what is wrong with `text` as an http(s) URL of a server, or None."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return "is not a URL"
    if url.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not url.hostname or port == 0 or not text.isprintable() or re.search(r"[\s\\]", text):
        return "is not a URL"
    if "?" in text or "#" in text:
        return "must end before the ? or #"
    return None


def _base_url(text: str) -> str:
    problem = _check_url(text)
    if problem is None and "@" in urlsplit(text).netloc:
        problem = "must not hold a user or password"
    if problem is not None:
        raise _fault(problem)
    return text.rstrip("/")


def _proxy(secret: SecretStr) -> SecretStr:
    problem = _check_url(secret.get_secret_value())
    if problem is not None:
        raise _fault(problem)
    return secret


def _currency(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise _fault("must be three capital letters, such as EUR")
    return text


class Secret(SecretStr):
    """A text that shows only as asterisks, and that refuses to be pickled."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret can't be pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


_DURATION_SCHEMA: Final = {"type": "string", "pattern": f"^(?=.){_DURATION_PATTERN}$"}
_Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema({**_DURATION_SCHEMA, "examples": ["500ms", "30s", "5m", "1h30m", "14d"]}),
]
_Duration = Annotated[_Seconds, AfterValidator(_positive)]
_DurationOrZero = Annotated[_Seconds, AfterValidator(_bounded)]
_Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_visible)]
_Currency = Annotated[str, AfterValidator(_currency), Field(json_schema_extra={"pattern": "^[A-Z]{3}$"})]
_FilePath = Annotated[Path, BeforeValidator(_path)]


def _default_duration(text: str) -> Any:  # noqa: ANN401 - as pydantic's Field
    return Field(default=parse_duration(text), json_schema_extra={"default": text})


# The model. Its docstrings become the descriptions in the JSON Schema.


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class AccountConfig(_Section):
    """One InTarget account. Exactly one of access_token_file, access_token_env and access_token is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [key]} for key in ("access_token_file", "access_token_env", "access_token")],
        },
    )

    name: _Name
    """Value of the label `account`; unique."""
    access_token_file: _FilePath | None = None
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
        register_secret(token)
        try:
            return _readable_token(token)
        except ValueError as error:
            raise self._token_error(key, f"the token {error}") from None

    def _read_token_file(self, path: Path) -> str:
        key = "access_token_file"
        try:
            data = _read_at_most(path, _MAX_TOKEN_BYTES)[0]
        except FileNotFoundError:
            problem = "the file does not exist"
        except IsADirectoryError:
            problem = "is a directory; name the file in it"
        except PermissionError:
            problem = "may not be read; check the owner and mode of the file and its folders"
        except (OSError, ValueError) as error:
            problem = f"can't be read: {_os_problem(error)}"
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


class Refresh(_Section):
    """One tier: campaigns younger than this are read again this often."""

    younger_than: _Duration
    """Age of a campaign, from its start. The last tier reaches to the end of the window."""
    every: _Duration
    """Interval between two reads."""


class StillSending(_Section):
    """How campaigns that started before the window, but still send, are found."""

    lookback: _Duration = _default_duration("1d")
    """A campaign that sent within it is found."""
    every: _Duration = _default_duration("15m")
    """Interval between two searches."""


class PollConfig(_Section):
    """What is asked, and how often."""

    window: _Duration = _default_duration("14d")
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
    conversions_every: _Duration | None = _default_duration("15m")
    """Interval between two reads of the conversions; null: off."""
    stale_after: _Duration = _default_duration("30m")
    """Without a success for so long, the account's campaign series are withdrawn."""


class ApiConfig(_Section):
    """How the API is asked; all limits hold for each account on its own."""

    timeout: _Duration = _default_duration("30s")
    """One request in total: connect, headers and body."""
    deadline: _Duration = _default_duration("4m")
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
    proxy: Annotated[Secret, AfterValidator(_proxy)] | None = None
    """HTTP proxy for the API, with its user and password if it wants them; null: none."""
    ca_file: _FilePath | None = None
    """PEM file of the certificate authorities to trust instead of the usual ones; null: the usual ones."""


class MetricsConfig(_Section):
    """What is exported."""

    per_message: bool = False
    """Adds the label message_title to the campaign counters."""
    zero_hold: _DurationOrZero = _default_duration("1m")
    """How long the counters of a new campaign stand at 0, so that increase() sees its first step; 0s: off."""
    created_timestamps: bool = False
    """Adds _created series, in OpenMetrics only."""
    max_campaigns: Annotated[int, Field(ge=1)] = 20_000
    """Campaigns tracked for each account; the newest stay."""


class StateConfig(_Section):
    """What survives a restart."""

    path: _FilePath | None = Path("intarget-exporter.db")
    """SQLite file, relative to the working directory; null: none, counters begin anew at every start."""


class Config(_Section):
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

    def changes(self, other: "Config") -> tuple[str, ...]:
        """Return the keys in which `other` differs: ``poll.window``, ``accounts[main]``."""
        ours, theirs = ({account.name: account for account in config.accounts} for config in (self, other))
        names = dict.fromkeys((*ours, *theirs))
        changed = [f"accounts[{name}]" for name in names if ours.get(name) != theirs.get(name)]
        for section in _SECTIONS:
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


_SECTIONS: Final[dict[str, type[_Section]]] = {
    "poll": PollConfig,
    "api": ApiConfig,
    "metrics": MetricsConfig,
    "state": StateConfig,
}
# By location, with list indexes left out.
_MODELS: Final[dict[tuple[str, ...], type[_Section]]] = {
    (): Config,
    ("accounts",): AccountConfig,
    **{(name,): model for name, model in _SECTIONS.items()},
    ("poll", "refresh"): Refresh,
    ("poll", "still_sending"): StillSending,
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "intarget-exporter configuration",
        "description": "The config file of intarget-exporter.",
    }


def _settable() -> dict[str, _Location]:
    """Return the dotted keys that flags and the environment can set: every scalar outside accounts."""
    keys = [(name, key) for name, model in _SECTIONS.items() for key in model.model_fields if key != "refresh"]
    nested = [("poll", "still_sending", key) for key in StillSending.model_fields]
    return {".".join(location): location for location in (*keys, *nested)}


SETTABLE: Final[Mapping[str, _Location]] = _settable()
ENVIRONMENT: Final[Mapping[str, str]] = {
    ENVIRONMENT_PREFIX + dotted.replace(".", "_").upper(): dotted for dotted in SETTABLE
}
"""Environment variables by name, with the dotted key that each sets."""


# The file


def _read_at_most(path: Path, limit: int) -> tuple[bytes, int]:
    """Return up to `limit` + 1 bytes of the file, and its mode."""
    with path.open("rb") as file:
        return file.read(limit + 1), os.fstat(file.fileno()).st_mode


def _os_problem(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


_NOTICED_LATER: Final = ("could not find expected ':'", "found unexpected end of stream")
"""Problems that YAML notices lines below their cause, which is at the context's mark."""


class _Document:
    """A YAML text as a tree of plain values, with the line of everything in it."""

    def __init__(self, text: str) -> None:
        self.tree: _Tree = None
        self.lines: dict[_Location, int] = {}
        self.faults: list[tuple[int, _Location, str]] = []
        self._text = text
        self._nodes = 0
        try:
            root = yaml.SafeLoader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if error.context_mark is not None and str(error.problem).startswith(_NOTICED_LATER):
                mark = error.context_mark
            self._add(mark.line + 1 if mark else 1, (), f"is not valid YAML: {_yaml_problem(error)}")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self._add(line, (), "is not valid YAML: a character that YAML doesn't allow")
        except RecursionError:
            self._add(1, (), "is nested too deeply")
        else:
            if root is None or (isinstance(root, yaml.ScalarNode) and root.value == ""):
                self._add(1, (), "is empty; config.example.yaml shows what it may hold")
            elif not isinstance(root, yaml.MappingNode):
                self._add(root.start_mark.line + 1, (), "must be a mapping that begins with accounts:")
            else:
                self.lines[()] = root.start_mark.line + 1
                self.tree = self._build(root, (), ())

    def line(self, location: _Location) -> int:
        """Return the line of the nearest thing that stands in the file."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location, 1)

    def _add(self, line: int, location: _Location, message: str) -> None:
        self.faults.append((line, location, message))

    def _build(self, node: yaml.Node, location: _Location, outer: tuple[int, ...]) -> _Tree:
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            if self._nodes == _MAX_NODES + 1:
                self._add(line, location, "the aliases make the file too large")
            return None
        if id(node) in outer:
            self._add(line, location, "an alias refers to what it stands in")
            return None
        if node.tag not in _TAGS:
            self._add(line, location, "has a tag; a value that begins with ! needs quotes")
        inside = (*outer, id(node))
        if isinstance(node, yaml.MappingNode):
            tree = {}
            for key, (key_node, value) in self._pairs(node, location, inside).items():
                self.lines[(*location, key)] = key_node.start_mark.line + 1
                tree[key] = self._build(value, (*location, key), inside)
            return tree
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.lines[(*location, index)] = item.start_mark.line + 1
                items.append(self._build(item, (*location, index), inside))
            return items
        return None if node.tag == f"{_TAG}null" else node.value

    def _pairs(
        self,
        node: yaml.MappingNode,
        location: _Location,
        inside: tuple[int, ...],
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the pairs of a mapping by key, with those that ``<<`` merges in."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_TAG}merge":
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        self._add(line, location, "<< must name a mapping")
                    elif id(source) in inside:
                        self._add(line, location, "an alias refers to what it stands in")
                    else:
                        pairs = self._pairs(source, location, (*inside, id(source)))
                        merged = {**pairs, **merged}
            elif not self._is_key(key_node, value):
                self._add(
                    line, location, "a key that can't be read; write key: value, with a space after the colon"
                )
            elif key_node.value in own:
                first = own[key_node.value][0].start_mark.line + 1
                self._add(line, (*location, key_node.value), f"appears twice; it is in line {first} already")
            else:
                own[key_node.value] = (key_node, value)
        return {**merged, **own}

    def _is_key(self, key: yaml.Node, value: yaml.Node) -> bool:
        """Whether it is a key that can be shown: in ``{name:abc}`` all of it is one, perhaps with a token."""
        between = self._text[key.end_mark.index : value.start_mark.index + 1]
        return (
            isinstance(key, yaml.ScalarNode)
            and re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,31}", key.value) is not None
            and ":" in between
        )


_TELLS_NOTHING: Final = re.compile(r".?|<[a-z ]+>")


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """Return PyYAML's description of a syntax error without what it quotes from the file."""
    problem = error.problem or error.context or "syntax error"
    hints = {
        "found undefined alias": "an unknown alias; a value that begins with * needs quotes",
        "second occurrence": "an anchor twice; a value that begins with & needs quotes",
        "found undefined tag handle": "an unknown tag; a value that begins with ! needs quotes",
        "but found another document": "more than one document; keep what is before the second ---",
        r"found character '\t'": "a tab; indent with spaces",
        "mapping values are not allowed": "a misplaced colon; indent evenly, quote values with colons",
        "could not find expected ':'": "a line without a colon; write key: value, with a space after the colon",
    }
    for beginning, hint in hints.items():
        if problem.startswith(beginning):
            return hint
    # One character, or the name of a token such as '<block end>', says nothing about a value.
    quoted = re.compile(r"""'([^']*)'|"([^"]*)\"""")
    return quoted.sub(lambda match: match[0] if _TELLS_NOTHING.fullmatch(match[0][1:-1]) else "…", problem)


def _open(path: Path) -> tuple[_Document, int]:
    """Return the file's document and mode. Raises ConfigError with one line if it has none."""
    try:
        data, mode = _read_at_most(path, _MAX_FILE_BYTES)
    except FileNotFoundError:
        problem = "does not exist; give the path of the config file with --config.file"
    except IsADirectoryError:
        problem = "is a directory; name the config file in it"
    except PermissionError:
        problem = "may not be read; check the owner and mode of the file and its folders"
    except (OSError, ValueError) as error:
        problem = f"can't be read: {_os_problem(error)}"
    else:
        if len(data) > _MAX_FILE_BYTES:
            raise ConfigError([f"{path}: is larger than 1 MiB, so it can't be a config file"])
        try:
            return _Document(data.decode("utf-8-sig")), mode
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            problem = f"is not text in UTF-8 (line {line}); save the file with that encoding"
    raise ConfigError([f"{path}: {problem}"])


# Faults


def _dotted(location: Iterable[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _at(tree: _Tree, location: _Location) -> _Tree:
    for part in location:
        tree = tree[part]
    return tree


def _unknown_key(location: _Location) -> str:
    """Return the fault of an unknown key, with what was probably meant."""
    parents = tuple(part for part in location[:-1] if isinstance(part, str))
    key = str(location[-1])
    here = list(_MODELS[parents].model_fields)
    close = difflib.get_close_matches(key.lower().replace("-", "_"), here, n=1)
    if close:
        return f"unknown key; did you mean {_dotted((*location[:-1], close[0]))}?"
    for names, model in _MODELS.items():
        if key in model.model_fields:
            return f"unknown key; did you mean {_dotted((*names, key))}?"
    return f"unknown key; known here: {', '.join(here)}"


_MESSAGES: Final[dict[str, str]] = {
    "missing": "is missing",
    "too_short": "must have at least one entry",
    "string_too_short": "is empty",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "config": "{message}",
}
_KINDS: Final = (
    ("int", "must be a whole number"),
    ("float", "must be a number"),
    ("finite", "must be a number"),
    ("bool", "must be true or false"),
    ("tuple", "must be a list, each entry beginning with -"),
    ("model", "must be a mapping, key: value"),
)


def _message(kind: str, context: Mapping[str, Any], location: _Location, tree: _Tree) -> str:
    """Return the fault for pydantic's error `kind` at `location`."""
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if kind in _MESSAGES:
        return _MESSAGES[kind].format_map(context)
    if _at(tree, location) is None:
        keys = tuple(part for part in location if isinstance(part, str))
        required = isinstance(location[-1], int) or _MODELS[keys[:-1]].model_fields[keys[-1]].is_required()
        return "must not be null" if required else "must not be null; leave it out for the default"
    for beginning, message in _KINDS:
        if kind.startswith(beginning):
            return message
    return "must be a single text"


def _cross_checks(tree: _Tree) -> Iterator[tuple[_Location, str]]:
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


def _suspicions(config: Config, mode: int) -> Iterator[tuple[_Location, str]]:
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


# Loading


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration of the file at `path`, with `environ` over it and `overrides` over both.

    Without a `path` there is one account, `default`, whose token is in ``INTARGET_ACCESS_TOKEN``. `overrides`
    maps dotted keys (``poll.window``) to what the flag ``--poll.window`` says. Raises ConfigError with every
    fault. Literal secrets are registered for redaction.
    """
    return _Loader(path, environ, overrides or {}).load()


class _Loader:
    """One run of `load`: what was found so far, and where everything came from."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._overrides = overrides
        self._document: _Document | None = None
        self._mode = 0
        self._origins: dict[_Location, str] = {}  # what doesn't come from the file
        self._faults: list[tuple[int, str]] = []

    def load(self) -> Config:
        tree = self._read()
        for section in _SECTIONS:
            if tree.get(section, ...) is None:
                tree[section] = {}  # all its keys are commented out
        for name, dotted in ENVIRONMENT.items():
            if self._environ.get(name, "").strip():  # an empty variable is one that isn't set
                self._set(tree, name, dotted, self._environ[name])
        for dotted, text in self._overrides.items():
            self._set(tree, f"--{dotted}", dotted, text)
        config = self._validate(tree)
        if config is None or self._faults:
            in_order = (text for _, text in sorted(self._faults, key=lambda fault: fault[0]))
            raise ConfigError(list(dict.fromkeys(in_order)))
        suspicions = sorted(
            (self._line(location), self._said(location, text))
            for location, text in _suspicions(config, self._mode)
        )
        config._warnings = (*(text for _, text in suspicions), *_unknown_variables(self._environ))  # noqa: SLF001
        _register_secrets(config)
        return config

    def _read(self) -> dict[str, _Tree]:
        """Return the file's tree; where there is none, one without faults, to check the rest against."""
        if self._path is not None:
            try:
                self._document, self._mode = _open(self._path)
            except ConfigError as error:
                self._faults += [(0, fault) for fault in error.faults]
            else:
                for line, location, text in self._document.faults:
                    self._faults.append((line, self._said(location, text, line)))
                if isinstance(self._document.tree, dict):
                    return self._document.tree
        elif not self._environ.get(TOKEN_VARIABLE, "").strip():
            message = f"no config file and no token; give --config.file=config.yaml, or set {TOKEN_VARIABLE}"
            self._faults.append((0, message))
        return {"accounts": [{"name": "default", "access_token_env": TOKEN_VARIABLE}]}

    def _set(self, tree: dict[str, _Tree], origin: str, dotted: str, text: str) -> None:
        """Put `text` of a variable or flag into the tree."""
        location = SETTABLE.get(dotted)
        if location is None:
            self._faults.append((sys.maxsize, f"{origin}: {dotted}: is not a key that a flag can set"))
            return
        value = None if text.strip() in _NULLS else text.strip()
        if location == ("poll", "still_sending") and value is not None:
            message = f"{origin}: {dotted}: can only be null here, for off; its keys are set one by one"
            self._faults.append((sys.maxsize, message))
            return
        parent: _Tree = tree
        for part in location[:-1]:
            if parent.get(part) is None:
                parent[part] = {}
            parent = parent[part]
            if not isinstance(parent, dict):
                return  # a fault of the file, which the model reports
        parent[location[-1]] = value
        self._origins[location] = origin

    def _validate(self, tree: dict[str, _Tree]) -> Config | None:
        config = None
        try:
            config = Config.model_validate(tree)
        except ValidationError as error:
            for found in error.errors(include_url=False, include_input=False):
                location = found["loc"]
                if found["type"] == "too_short" and _at(tree, location):
                    continue  # pydantic doesn't count the entries that have faults of their own
                self._fault(location, _message(found["type"], found.get("ctx", {}), location, tree))
        for location, text in _cross_checks(tree):
            self._fault(location, text)
        return config

    def _fault(self, location: _Location, text: str) -> None:
        self._faults.append((self._line(location), self._said(location, text)))

    def _origin(self, location: _Location) -> str | None:
        """Return the variable or flag that set `location`, or None for the file."""
        return next(
            (
                self._origins[location[:end]]
                for end in range(len(location), 0, -1)
                if location[:end] in self._origins
            ),
            None,
        )

    def _line(self, location: _Location) -> int:
        """Return the line for sorting; variables and flags come after the file."""
        if self._document is None or self._origin(location) is not None:
            return sys.maxsize
        return self._document.line(location)

    def _said(self, location: _Location, text: str, line: int | None = None) -> str:
        """Return `text` with where it applies in front."""
        origin = self._origin(location)
        if origin is None:
            origin = "configuration" if self._path is None else f"{self._path}:{line or self._line(location)}"
        return ": ".join(part for part in (origin, _dotted(location), text) if part)


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
            register_secret(account.access_token.get_secret_value())
    if config.api.proxy is not None:
        proxy = config.api.proxy.get_secret_value()
        register_secret(proxy)
        password = urlsplit(proxy).password
        if password:
            register_secret(password)
            register_secret(unquote(password))


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
