"""The model: tokens that never show, what changed, shards, and the JSON Schema."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from exporter.config.loading import load
from exporter.config.model import AccountConfig, json_schema
from exporter.errors import ConfigError
from exporter.logs import redact

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
CANARY = "kanarienvogel-4711-TOKEN"
ENV = {"INTARGET_ACCESS_TOKEN": "t0ken"}


# Tokens


def test_token_file_is_read_anew(tmp_path: Path) -> None:
    """A rotated token file is noticed at the next call; a byte order mark and line ends are dropped."""
    path = tmp_path / "token"
    account = AccountConfig(name="a", access_token_file=path)
    path.write_bytes(b"\xef\xbb\xbffirst\r\n")
    first = account.read_token()
    path.write_text("  second\n\n")

    assert ("first", "second") == (first, account.read_token())


def test_token_file_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative token file is looked for in the working directory."""
    (tmp_path / "token").write_text("here")
    monkeypatch.chdir(tmp_path)

    assert "here" == AccountConfig(name="a", access_token_file=Path("token")).read_token()


def test_token_from_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's environment is read, anew each time."""
    account = AccountConfig(name="a", access_token_env="SOME_TOKEN")
    monkeypatch.setenv("SOME_TOKEN", "one")
    first = account.read_token()
    monkeypatch.setenv("SOME_TOKEN", "two")

    assert ("one", "two") == (first, account.read_token())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "the file does not exist"),
        (b"", "the token is empty"),
        (b" \n", "the token is empty"),
        (f"{CANARY} x".encode(), "the token must not hold spaces, line breaks or control characters"),
        (f"{CANARY}\nx".encode(), "the token must not hold spaces, line breaks or control characters"),
        (f"{CANARY}\0".encode(), "the token must not hold spaces, line breaks or control characters"),
        (f"{CANARY}\xff".encode("latin-1"), "is not text in UTF-8"),
        (CANARY.encode() * 5000, "is too large for a token"),
    ],
)
def test_token_file_faults(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """Each way in which a token file can be wrong gives one line without path or content, chains included."""
    path = tmp_path / CANARY
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        AccountConfig(name="a", access_token_file=path).read_token()

    assert (f"account a: access_token_file: {problem}",) == caught.value.faults
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_token_path_is_a_directory(tmp_path: Path) -> None:
    """A directory in place of the token file gives one line."""
    with pytest.raises(
        ConfigError, match=r"^account a: access_token_file: is a directory; name the file in it$"
    ):
        AccountConfig(name="a", access_token_file=tmp_path).read_token()


def test_token_file_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable token file gives one line."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        ConfigError, match=r"^account a: access_token_file: may not be read; check the owner and mode"
    ):
        AccountConfig(name="a", access_token_file=Path("t")).read_token()


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "the environment variable that it names is not set"),
        ({"A": ""}, "the token is empty"),
        ({"A": "a\udcffb"}, "the token must not hold spaces, line breaks or control characters"),
    ],
)
def test_token_variable_faults(environ: dict[str, str], problem: str) -> None:
    """A variable that isn't set, is empty or isn't text gives one line."""
    with pytest.raises(ConfigError) as caught:
        AccountConfig(name="a", access_token_env="A").read_token(environ)

    assert (f"account a: access_token_env: {problem}",) == caught.value.faults


def test_token_is_registered_for_redaction() -> None:
    """A token that was read, and a proxy's password, can't be logged any more."""
    AccountConfig(name="a", access_token_env="A").read_token({"A": "rotated-in-8462"})
    load(None, environ={**ENV, "INTARGET_EXPORTER_API_PROXY": "http://user:p%40ss-9173@proxy:1"})

    assert "*** *** ***" == redact("rotated-in-8462 p%40ss-9173 p@ss-9173")


def test_secrets_never_show(write: Callable[[str], Path]) -> None:
    """Neither the token nor the proxy shows in repr, str, dumps, pickles or validation errors."""
    config = load(
        write(f"accounts: [{{name: a, access_token: {CANARY}}}]\napi: {{proxy: 'http://u:{CANARY}@p'}}\n"),
        environ={},
    )
    account = config.accounts[0]
    shown = [repr(config), str(config), f"{account}", repr(account.access_token), str(config.model_dump())]
    shown += [config.model_dump_json(), str(vars(account)), str(dict(account)), repr(config.api.proxy)]

    assert CANARY == account.read_token()
    assert CANARY not in "".join(shown)
    for value in (config, account, account.access_token):
        with pytest.raises(TypeError, match=r"^a secret can't be pickled"):
            pickle.dumps(value)
    assert config == copy.deepcopy(config)
    with pytest.raises(ValidationError) as caught:
        AccountConfig.model_validate({"name": [CANARY], "access_token": CANARY + " x", "x": CANARY})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_fault_has_no_chain(write: Callable[[str], Path]) -> None:
    """The traceback of a config fault shows no value either."""
    with pytest.raises(ConfigError) as caught:
        load(write(f"accounts: [{{name: a, access_token: {CANARY} x, currency: {CANARY}}}]"), environ={})

    assert CANARY not in "".join(traceback.format_exception(caught.value))


# The model


def test_frozen() -> None:
    """A config can't be changed."""
    config = load(None, environ=ENV)
    for model, key in ((config, "poll"), (config.poll, "window"), (config.accounts[0], "name")):
        with pytest.raises(ValidationError):
            setattr(model, key, None)


def test_masked(write: Callable[[str], Path]) -> None:
    """What is in force can be shown: every key, durations as people write them, secrets as asterisks."""
    text = f"accounts: [{{name: main, access_token: {CANARY}}}]\napi: {{proxy: 'http://u:{CANARY}@p:1'}}\n"
    shown = load(write(text), environ={}).masked()
    assert CANARY not in shown
    assert ["**********", "14d"] == [
        yaml.safe_load(shown)["accounts"][0]["access_token"],
        yaml.safe_load(shown)["poll"]["window"],
    ]


def test_changes(write: Callable[[str], Path]) -> None:
    """A reload can tell what changed; comments, order, line numbers and warnings are no change."""
    base = "accounts: [{name: a, access_token: one}, {name: b, access_token: x}]\n"
    before = load(write(base + "poll: {window: 7d, stale_after: 5m}\n"), environ={})
    same = load(write("# more\n\n" + base + "poll: {stale_after: 300s, window: 1w}\n"), environ={})
    after = load(
        write("accounts: [{name: a, access_token: two}, {name: c, access_token: x}]\napi: {retries: 9}\n"),
        environ={},
    )

    assert before.warnings != same.warnings
    assert (before, hash(before), ()) == (same, hash(same), before.changes(same))
    assert before != after
    assert before != "config"
    assert (
        "accounts[a]",
        "accounts[b]",
        "accounts[c]",
        "poll.window",
        "poll.stale_after",
        "api.retries",
    ) == before.changes(after)


def test_shards_share_the_accounts(write: Callable[[str], Path]) -> None:
    """Every account is in exactly one shard, by its name alone."""
    accounts = ", ".join(f"{{name: a{number}, access_token_env: A}}" for number in range(20))
    config = load(write(f"accounts: [{accounts}]"), environ={})
    shards = [[account.name for account in config.shard(index, 3).accounts] for index in range(3)]

    assert sorted(account.name for account in config.accounts) == sorted(
        name for shard in shards for name in shard
    )
    assert all(shards)
    assert config == config.shard(0, 1)
    assert config.poll == config.shard(2, 3).poll


def test_shard_of_a_name_is_stable() -> None:
    """The hash is md5 of the name, whatever the process: replicas must agree."""
    default = load(None, environ=ENV)  # md5("default") modulo 5 is 0

    assert [1, 0, 0, 0, 0] == [len(default.shard(index, 5).accounts) for index in range(5)]


@pytest.mark.parametrize(("index", "total"), [(-1, 2), (2, 2), (0, 0)])
def test_shard_out_of_range(index: int, total: int) -> None:
    """A shard that doesn't exist is refused."""
    with pytest.raises(ValueError, match="shard"):
        load(None, environ=ENV).shard(index, total)


# Schema


def test_schema_is_current() -> None:
    """The committed schema is what the model says, as `python -m exporter.config.model` prints it."""
    committed = (ROOT / "exporter" / "config" / "schema.json").read_text()
    printed = subprocess.run(
        [sys.executable, "-m", "exporter.config.model"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert json_schema() == json.loads(committed)
    assert committed == printed.stdout


def test_example_names_the_schema() -> None:
    """Editors find the schema by the example's first line."""
    first = (ROOT / "config.example.yaml").read_text().splitlines()[0]
    marker = "# yaml-language-server: $schema="

    assert marker == first[: len(marker)]
    assert (ROOT / first[len(marker) :]).is_file()


def test_schema_accepts_the_example() -> None:
    """The schema is valid and accepts config.example.yaml."""
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(yaml.safe_load((ROOT / "config.example.yaml").read_text()), json_schema())


@pytest.mark.parametrize(
    "change",
    [
        {"accounts": []},
        {"accounts": [{"name": "a"}]},
        {"accounts": [{"name": "a", "access_token": "x", "access_token_env": "A"}]},
        {"accounts": [{"name": "a", "access_token": "x", "currency": "eur"}]},
        {"poll": {"window": 14}},
        {"poll": {"window": "fast"}},
        {"poll": {"window": ""}},
        {"poll": {"refresh": []}},
        {"poll": {"windw": "1d"}},
        {"api": {"per_page": 0}},
        {"metrics": {"per_message": "x"}},
    ],
)
def test_schema_refuses(change: dict[str, Any]) -> None:
    """The schema refuses what loading refuses, so that editors mark it."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"accounts": [{"name": "a", "access_token": "x"}], **change}, json_schema())


def test_schema_describes_every_key() -> None:
    """Every key has a description and, where it isn't required, a default or an own section."""
    for name, model in json_schema()["$defs"].items():
        for key, schema in model["properties"].items():
            assert schema.get("description"), f"{name}.{key}"
            assert "default" in schema or key in model.get("required", ()), f"{name}.{key}"
