"""Arguments to calls, errors to one line and an exit code; nothing is started here."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import shtab
import yaml

from exporter import __version__, app, cli, demo, once, simulator
from exporter.backfill import job
from exporter.backfill.arguments import Order, format_time
from exporter.config.loading import load
from exporter.doctor import examine as examination
from exporter.doctor import report as doctor
from exporter.errors import ConfigError, StateLockedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from exporter.backfill.progress import Progress
    from exporter.config.model import Config

CONFIG = """\
accounts:
  - {name: main, access_token: some-long-token, base_url: "http://127.0.0.1:9"}
  - {name: other, access_token: another-long-token, base_url: "http://127.0.0.1:9"}
"""
BACKFILL = ("backfill", "--from=2026-01-01", "--to=2026-01-31", "--output=out")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the process's logs and environment out of it."""
    monkeypatch.setattr(cli.logs, "setup", lambda *_: None)
    monkeypatch.setattr(cli, "_wait_for_signal", lambda: pytest.fail("it was started"))
    for name in list(cli.os.environ):
        if name.startswith("INTARGET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Return the path of a good config file."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return str(path)


def run(*arguments: str) -> int:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code if isinstance(caught.value.code, int) else 1


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Callable[[], Config], app.Options]]:
    """Return what is to be served, instead of serving it."""
    calls: list[tuple[Callable[[], Config], app.Options]] = []

    class Recorded:
        def __init__(self, load: Callable[[], Config], options: app.Options) -> None:
            calls.append((load, options))

        def run(self) -> None:
            """Do nothing."""

    monkeypatch.setattr(app, "App", Recorded)
    return calls


Served = "list[tuple[Callable[[], Config], app.Options]]"


def test_defaults(served: Served, file: str) -> None:
    """Without flags it serves on port 10095, all accounts, without lifecycle."""
    assert 0 == run("--config.file", file)
    load, options = served[0]
    assert app.Options() == options
    assert (":10095",) == options.listen_addresses
    assert ["main", "other"] == [account.name for account in load().accounts]


def test_flags(served: Served, file: str) -> None:
    """Every serving flag has its place."""
    flags = [
        f"--config.file={file}",
        "--web.listen-address=127.0.0.1:0",
        "--web.listen-address=[::1]:0",
        "--web.telemetry-path=/m",
        "--web.config.file=web.yaml",
        "--web.enable-lifecycle",
        "--shard=1",
        "--total-shards=3",
    ]
    assert 0 == run(*flags)
    expected = app.Options(
        ("127.0.0.1:0", "[::1]:0"), "/m", Path("web.yaml"), lifecycle=True, shard=1, total_shards=3
    )
    assert expected == served[0][1]


def test_environment(served: Served, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every serving flag has its variable, and so have the keys of the file."""
    variables = {
        "CONFIG_FILE": file,
        "WEB_LISTEN_ADDRESS": "127.0.0.1:0,[::1]:0",
        "WEB_TELEMETRY_PATH": "/m",
        "WEB_CONFIG_FILE": "web.yaml",
        "WEB_ENABLE_LIFECYCLE": "true",
        "SHARD": "1",
        "TOTAL_SHARDS": "3",
        "POLL_WINDOW": "7d",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"INTARGET_EXPORTER_{name}", value)
    assert 0 == run()
    load, options = served[0]
    expected = app.Options(
        ("127.0.0.1:0", "[::1]:0"), "/m", Path("web.yaml"), lifecycle=True, shard=1, total_shards=3
    )
    assert expected == options
    assert 7 * 86400 == load().poll.window


def test_flags_beat_the_environment(served: Served, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are given the flag counts."""
    monkeypatch.setenv("INTARGET_EXPORTER_CONFIG_FILE", "/nowhere.yaml")
    monkeypatch.setenv("INTARGET_EXPORTER_WEB_LISTEN_ADDRESS", ":1")
    monkeypatch.setenv("INTARGET_EXPORTER_WEB_TELEMETRY_PATH", "/e")
    monkeypatch.setenv("INTARGET_EXPORTER_SHARD", "2")
    monkeypatch.setenv("INTARGET_EXPORTER_TOTAL_SHARDS", "9")
    flags = ("--web.listen-address=:2", "--web.telemetry-path=/f", "--shard=0", "--total-shards=3")
    assert 0 == run("--config.file", file, *flags)
    assert app.Options((":2",), "/f", total_shards=3) == served[0][1]
    assert 2 == len(served[0][0]().accounts)


def test_a_token_alone_is_enough(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With INTARGET_ACCESS_TOKEN there is one account, named default."""
    monkeypatch.setenv("INTARGET_ACCESS_TOKEN", "a-token-of-the-environment")
    assert 0 == run()
    config = served[0][0]()
    assert ["default"] == [account.name for account in config.accounts]
    assert "a-token-of-the-environment" == config.accounts[0].read_token()


def test_logs_are_set_up_first(file: str, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level and format come from the flags, before or after the command, or from the environment."""
    given: list[tuple[str, str]] = []
    monkeypatch.setattr(cli.logs, "setup", lambda *how: given.append(how))
    run("--config.file", file)
    run("--config.file", file, "--log.level=DEBUG", "--log.format=json")
    run("check-config", "--config.file", file, "--log.level=error")
    run("--log.level=error", "check-config", "--config.file", file)
    monkeypatch.setenv("INTARGET_EXPORTER_LOG_LEVEL", "warning")
    monkeypatch.setenv("INTARGET_EXPORTER_LOG_FORMAT", "json")
    run("--config.file", file)
    expected = [
        ("info", "logfmt"),
        ("debug", "json"),
        ("error", "logfmt"),
        ("error", "logfmt"),
        ("warning", "json"),
    ]
    assert expected == given
    assert 3 == len(served)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--web.telemetry-path=metrics",), "--web.telemetry-path"),
        (("--web.telemetry-path=/",), "--web.telemetry-path"),
        (("--web.telemetry-path=/{name}",), "--web.telemetry-path"),
        (("--shard=-1",), "--shard"),
        (("--shard=x",), "--shard"),
        (("--shard=2", "--total-shards=2"), "--shard"),
        (("--total-shards=0",), "--total-shards"),
        (("--total-shards=1.5",), "--total-shards"),
    ],
)
def test_wrong_flags(
    flags: tuple[str, ...], named: str, served: Served, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that can't be is one line that names the flag, and code 2."""
    assert 2 == run("--config.file", file, *flags)
    error = capsys.readouterr().err
    assert (1, True) == (error.count("\n"), named in error)
    assert [] == served


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-flag",),
        ("--web.listen",),
        ("no-such-command",),
        ("--demo", "--scenario=none"),
        ("once", "--output=xml"),
        ("once", "--web.listen-address=:1"),
        ("backfill", "--too=2026-01-01"),
        ("simulate", "--seed=x"),
        ("simulate", "--speed=fast"),
    ],
)
def test_unknown_arguments(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """What isn't known is refused with code 2 and the usage; no flag is guessed from its beginning."""
    assert 2 == run(*arguments)
    error = capsys.readouterr().err
    assert error.startswith("usage: intarget-exporter")
    assert "error: " in error


@pytest.mark.parametrize(
    "arguments",
    [
        ("--access-token=CANARY",),
        ("--access-token", "CANARY"),
        ("CANARY",),
        ("once", "CANARY"),
        ("once", "--output=CANARY"),
        ("--demo=CANARY",),
        ("--demo", "--scenario=CANARY"),
        ("--shard=CANARY",),
        ("--web.telemetry-path=CANARY",),
        ("simulate", "--seed=CANARY"),
        ("simulate", "--speed=CANARY"),
        ("simulate", "--web.listen-address=CANARY"),
        ("print", "CANARY"),
        ("backfill", "--step=CANARY", "--from=CANARY", "--to=CANARY", "--output=x"),
    ],
)
def test_no_value_is_echoed(
    arguments: tuple[str, ...], served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token in a wrong place stands neither in the terminal nor in a log of it."""
    assert 2 == run(*arguments)
    out, error = capsys.readouterr()
    assert (False, True, []) == ("CANARY" in out + error, bool(error), served)


@pytest.mark.parametrize(
    ("arguments", "usage", "advice"),
    [
        (("--web.listen-adress=:1",), "usage: intarget-exporter [", "did you mean --web.listen-address?"),
        (("doctor", "--outptu=json"), "usage: intarget-exporter doctor", "did you mean --output?"),
        (("chek-config",), "usage: intarget-exporter [", "did you mean check-config?"),
        (("print", "rule"), "usage: intarget-exporter print", "did you mean rules?"),
        (("simulate", "--scenario=clam"), "usage: intarget-exporter simulate", "did you mean calm?"),
    ],
)
def test_advice(
    arguments: tuple[str, ...], usage: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong flag shows the usage of its command, and what was probably meant."""
    assert 2 == run(*arguments)
    error = capsys.readouterr().err
    assert error.startswith(usage)
    assert advice in error


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "-inf", "1e300"])
def test_simulate_refuses_impossible_speeds(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A speed is a number above 0."""
    assert 2 == run("simulate", "--web.listen-address=127.0.0.1:0", f"--speed={speed}")
    assert "--speed" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["8080", "127.0.0.1", "127.0.0.1:99999", ":-1", "http://x:1", ""])
def test_simulate_refuses_bad_addresses(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that can't be is one line and code 2."""
    assert 2 == run("simulate", f"--web.listen-address={address}")
    error = capsys.readouterr().err
    assert (1, True) == (error.count("\n"), "--web.listen-address" in error)


def test_flags_before_the_command(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration may be named before the command or after it; after it counts."""
    assert 0 == run("--config.file", file, "check-config")
    assert 0 == run("--config.file", "/nowhere.yaml", "check-config", "--config.file", file)
    assert "OK\nOK\n" == capsys.readouterr().out


def test_unknown_accounts(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An account that the file doesn't have is one line that names those it has."""
    assert 2 == run("once", "--config.file", file, "--account=main", "--account=typo")
    expected = "intarget-exporter: --account: there is no account 'typo'; the file has main, other\n"
    assert expected == capsys.readouterr().err


def test_accounts_of_once(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`once` polls the accounts named, in their order and each once; text or json; 1 if one failed."""
    polled: list[list[str]] = []

    def poll(config: Config) -> once.Once:
        polled.append([account.name for account in config.accounts])
        return once.Once("text\n", "json\n", ("main",) if len(polled) == 3 else ())

    monkeypatch.setattr(once, "poll_once", poll)
    assert 0 == run("once", "--config.file", file)
    assert 0 == run("once", "--config.file", file, "--account=other", "--account=other", "--output=json")
    assert 1 == run("once", "--config.file", file)
    assert [["main", "other"], ["other"], ["main", "other"]] == polled
    out, error = capsys.readouterr()
    assert "text\njson\ntext\n" == out
    assert "intarget-exporter: account main was not polled successfully; the log above says why\n" == error


def test_check_config(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A good file is OK; what works but was hardly meant is a warning."""
    assert 0 == run("check-config", "--config.file", file)
    assert ("OK\n", "") == capsys.readouterr()
    Path(file).chmod(0o644)
    assert 0 == run("check-config", "--config.file", file)
    out, error = capsys.readouterr()
    assert "OK\n" == out
    assert error.startswith("warning: ")


def test_check_config_warns_of_tokens(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A token that can't be read here is no fault of the file; without it the exporter won't start."""
    Path(file).write_text("accounts: [{name: main, access_token_file: /nowhere}]\n")
    assert 0 == run("check-config", "--config.file", file)
    out, error = capsys.readouterr()
    assert "OK\n" == out
    assert (
        "warning: account main: access_token_file: the file does not exist;"
        " without it the exporter doesn't start\n"
    ) == error


@pytest.mark.parametrize(
    "arguments",
    [
        ("--web.telemetry-path=/-/ready",),
        ("--web.telemetry-path=/campaigns",),
        ("--web.telemetry-path=/config",),
        ("--web.telemetry-path=/static/style.css",),
        ("--demo", "--config.file=/nowhere.yaml"),
        ("--demo", "check-config"),
        ("--scenario=calm",),
        ("--scenario=calm", "simulate"),
        ("--shard=0", "once"),
        ("--total-shards=2", "doctor"),
        ("--web.listen-address=:1", "check-config"),
        ("--web.telemetry-path=/m", "backfill"),
        ("--web.enable-lifecycle", "once"),
        ("--web.config.file=web.yml", "once"),
        ("--config.file=config.yaml", "simulate"),
    ],
)
def test_flags_that_contradict(
    arguments: tuple[str, ...], served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can't be meant is refused in one line, and not ignored."""
    assert 2 == run(*arguments)
    assert 1 == capsys.readouterr().err.count("\n")
    assert [] == served


def test_output_that_cannot_be_written(file: str) -> None:
    """A full disk is one line and code 1, no traceback."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "exporter.cli", "check-config", f"--config.file={file}"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (1, 1) == (done.returncode, done.stderr.count("\n"))


def test_check_config_says_every_fault(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All faults at once, each with file, line and path, none with a value."""
    Path(file).write_text(CONFIG + "poll:\n  window: hush\n  wimdow: 1d\napi:\n  retries: -7\n")
    assert 2 == run("check-config", "--config.file", file)
    out, error = capsys.readouterr()
    assert "" == out
    starts = [line.split(": ")[:2] for line in error.splitlines()]
    assert [[f"{file}:5", "poll.window"], [f"{file}:6", "poll.wimdow"], [f"{file}:8", "api.retries"]] == starts
    assert "hush" not in error
    assert "-7" not in error


def test_check_config_looks_at_the_web_configuration(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its faults come with those of the configuration, also those of the certificates that it names."""
    web = Path("web.yml")
    web.write_text("http_server_config:\n  http2: true\n")
    assert 0 == run("check-config", "--config.file", file, "--web.config.file=web.yml")
    assert (
        "OK\n",
        "warning: web.yml:2: http_server_config.http2: has no effect: only HTTP/1.1 is served\n",
    ) == (capsys.readouterr())
    web.write_text("tls_server_config:\n  cert_file: gone.pem\n  key_file: gone.key\n")
    assert 2 == run("--web.config.file=web.yml", "check-config", "--config.file", file)
    expected = ["web.yml:2: tls_server_config.cert_file: does not exist"]
    assert [*expected, "web.yml:3: tls_server_config.key_file: does not exist"] == (
        capsys.readouterr().err.splitlines()
    )
    Path(file).write_text(CONFIG + "poll: {window: hush}\n")
    assert 2 == run("check-config", "--config.file", file, "--web.config.file=web.yml")
    assert 3 == capsys.readouterr().err.count("\n")


@pytest.mark.parametrize("command", [("once",), BACKFILL])
def test_warnings_of_the_configuration_are_reported(
    command: tuple[str, ...], file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`once` and `backfill` tell what was probably not meant, as serving does."""
    monkeypatch.setattr(once, "poll_once", lambda _: once.Once("", "", ()))
    monkeypatch.setattr(job, "run", lambda *_, **__: ())
    Path(file).write_text(CONFIG + "api: {deadline: 1s}\n")
    assert 0 == run(*command, "--config.file", file)
    assert "warning: " in capsys.readouterr().err


def test_print(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The example is a configuration, the schema JSON, the rules one file; dashboards go into a folder."""
    assert 0 == run("print", "example-config")
    Path(file).write_text(capsys.readouterr().out)
    assert "main" == load(Path(file), environ={}).accounts[0].name
    assert 0 == run("print", "schema")
    assert "properties" in json.loads(capsys.readouterr().out)
    assert 0 == run("print", "rules")
    groups = [group["name"] for group in yaml.safe_load(capsys.readouterr().out)["groups"]]
    assert len(groups) == len(set(groups)) >= 3
    assert 2 == run("print", "dashboards")
    assert "--output" in capsys.readouterr().err
    assert 0 == run("print", "dashboards", "--output=boards")
    assert sorted(Path("boards").iterdir()) == sorted(map(Path, capsys.readouterr().out.split()))


@pytest.mark.parametrize("command", [(), ("once",), ("check-config",), ("doctor",), BACKFILL])
def test_missing_configuration(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither file nor token, or a file that isn't there: one line that says what to do, and code 2."""
    assert 2 == run(*command)
    assert "--config.file" in capsys.readouterr().err
    assert 2 == run(*command, "--config.file=/nowhere.yaml")
    error = capsys.readouterr().err
    assert (1, True) == (error.count("\n"), "/nowhere.yaml" in error)


def test_errors_become_lines(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the exporter raises on purpose is told in its own words, without secrets, and has its code."""
    cases: list[tuple[BaseException, int, str]] = [
        (ConfigError(["one", "two access-token=abcdef&x"]), 2, "one\ntwo access-token=***&x\n"),
        (StateLockedError("the file is taken"), 1, "intarget-exporter: the file is taken\n"),
        (KeyboardInterrupt(), 130, ""),
    ]
    for error, code, said in cases:

        def fail(_: Config, error: BaseException = error) -> once.Once:
            raise error

        monkeypatch.setattr(once, "poll_once", fail)
        assert code == run("once", "--config.file", file)
        assert said == capsys.readouterr().err


def test_the_version_is_printed_quickly() -> None:
    """Nothing is imported for it that only a command needs."""
    heavy = ("pydantic", "requests", "jinja2", "starlette", "sqlite3", "prometheus_client", "apscheduler")
    code = f"import sys, exporter.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Both go to stdout with code 0; the help names every command, flag and scenario there is."""
    assert 0 == run("--version")
    assert f"intarget-exporter, version {__version__}\n" == capsys.readouterr().out
    assert 0 == run("--help")
    text = capsys.readouterr().out
    named = (
        "once",
        "check-config",
        "doctor",
        "backfill",
        "simulate",
        "--demo",
        "--web.config.file",
        "INTARGET_ACCESS_TOKEN",
        "--shard",
    )
    assert [] == [name for name in named if name not in text]
    assert 0 == run("simulate", "--help")
    text = capsys.readouterr().out
    assert [] == [name for name in simulator.SCENARIOS if name not in text]


def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo needs no configuration, and takes a scenario."""
    run_with: list[tuple[str, app.Options]] = []
    monkeypatch.setattr(demo, "run_demo", lambda *given: run_with.append(given))
    assert 0 == run("--demo", "--scenario=bounce-spike", "--web.listen-address=:0")
    assert [("bounce-spike", app.Options((":0",)))] == run_with


def test_doctor(file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`doctor` reports on the accounts named, as text or JSON; only problems make it fail."""
    examined: list[list[str]] = []
    levels = iter(doctor.LEVELS)

    def examine(config: Config, **_: object) -> doctor.Report:
        examined.append([account.name for account in config.accounts])
        return doctor.Report(0.0, (doctor.Finding("accounts", next(levels), "two"),), (), ())

    monkeypatch.setattr(examination, "examine", examine)
    assert 0 == run("doctor", "--config.file", file)
    assert "  ok       accounts: two\n" in capsys.readouterr().out
    assert 0 == run("doctor", "--config.file", file, "--account=other", "--output=json")
    assert "warning" == json.loads(capsys.readouterr().out)["level"]
    assert 1 == run("--config.file", file, "doctor")
    assert [["main", "other"], ["other"], ["main", "other"]] == examined


def test_doctor_examines_for_real(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It asks with the true clocks: a good token is accepted, another one is a problem."""
    with simulator.serve(simulator.demo(time.time, "calm")) as server:
        text = CONFIG.replace("http://127.0.0.1:9", server.url).replace("some-long-token", simulator.DEMO_TOKEN)
        Path(file).write_text(text + "api: {requests_per_second: 1000}\n")
        assert 0 == run("doctor", "--config.file", file, "--account=main")
        assert capsys.readouterr().out.endswith("\n0 problems, 0 warnings\n")
        assert 1 == run("doctor", "--config.file", file)
    out = capsys.readouterr().out
    assert out.endswith("\n2 problems, 2 warnings\n")
    assert [] == [token for token in (simulator.DEMO_TOKEN, "another-long-token") if token in out]


def test_doctor_logs_only_errors(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says it all, unless a level is asked for."""
    given: list[str] = []
    monkeypatch.setattr(cli.logs, "setup", lambda level, _form: given.append(level))
    monkeypatch.setattr(examination, "examine", lambda _config, **_: doctor.Report(0.0, (), (), ()))
    run("doctor", "--config.file", file)
    run("doctor", "--config.file", file, "--log.level=info")
    assert ["error", "info"] == given


def test_backfill(file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`backfill` reads its arguments, takes the accounts named, and fails if something is missing."""
    made: list[tuple[list[str], Order]] = []
    faults = iter([(), ("account main: something is missing",)])

    def run_it(
        config: Config, wanted: Order, *, stop: threading.Event, progress: Progress, **_clocks: object
    ) -> tuple[str, ...]:
        assert not stop.is_set()
        made.append(([account.name for account in config.accounts], wanted))
        progress.say("done")
        return next(faults)

    monkeypatch.setattr(job, "run", run_it)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    assert 0 == run(*BACKFILL, "--config.file", file)
    assert ("done\n", "") == capsys.readouterr()
    assert 1 == run("--config.file", file, *BACKFILL, "--step=1h", "--account=other")
    assert ("done\n", "intarget-exporter: account main: something is missing\n") == capsys.readouterr()
    first, last = 1_767_225_600, 1_769_903_999
    expected = [
        (["main", "other"], Order(first, last, 86_400, Path("out"))),
        (["other"], Order(first, last, 3_600, Path("out"))),
    ]
    assert expected == made


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--from=2026-01-32",), ["--from"]),
        (("--from=2026-02-01",), ["--from"]),
        (("--to=31.1.2026", "--step=1"), ["--to", "--step"]),
        (("--step=0s",), ["--step"]),
        (("--from=", "--output="), ["backfill needs --from, --output as well; see backfill --help"]),
    ],
)
def test_wrong_times(
    flags: tuple[str, ...], named: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each fault is one line that names its flag, with code 2."""
    assert 2 == run(*BACKFILL, "--config.file", file, *flags)
    error = capsys.readouterr().err.splitlines()
    assert named == [line.split(": ")[1] for line in error]


def test_backfill_for_real(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It asks with the true clocks, stops on a signal, and says what a token that is no good means."""
    with simulator.serve(simulator.demo(time.time, "calm")) as server:
        text = CONFIG.replace("http://127.0.0.1:9", server.url).replace("some-long-token", simulator.DEMO_TOKEN)
        Path(file).write_text(text + "api: {requests_per_second: 1000}\n")
        first, today, last = (format_time(time.time() + days * 86400)[:10] for days in (-3, 0, 1))
        flags = (
            "backfill",
            "--config.file",
            file,
            f"--from={first}",
            f"--to={last}",
            "--output=out",
            "--step=1h",
        )
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        assert 0 == run(*flags, "--account=main")
        assert before == {number: signal.getsignal(number) for number in before}
        out, error = capsys.readouterr()
        assert "" == error
        assert "account main: --to was still to come" in out
        assert f"main-{today[:7]}.om" == max(path.name for path in (tmp_path / "out").glob("*.om"))
        assert 1 == run(*flags)
    out, error = capsys.readouterr()
    assert "nothing was asked" in out
    assert (1, True) == (error.count("\n"), "account other: " in error)
    assert [] == [token for token in (simulator.DEMO_TOKEN, "another-long-token") if token in out + error]


def test_completion_and_man_page_are_current() -> None:
    """What `tests/run generate` wrote into deploy/shell knows every command and flag of the parser."""
    folder = Path(__file__).parents[1] / "deploy" / "shell"
    completion = shtab.complete(cli.build_parser(), "bash", root_prefix="exporter")
    assert completion.strip() == (folder / "intarget-exporter.bash").read_text().strip()
    page = (folder / "intarget-exporter.1").read_text().replace("\\", "")
    flags = set(re.findall(r"--[a-z][a-z.-]+", cli.build_parser().format_help()))
    assert set() == {flag for flag in flags if flag not in page}
