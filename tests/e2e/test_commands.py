"""Every command as its user runs it: what it prints, how it ends."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from tests._apiserver import CONVERSIONS, STATISTICS, TOKEN, ApiServer, conversion, row
from tests._program import DEADLINE, Program, Samples, command, environment, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

SENT = "intarget_campaign_messages_sent_total"
ANYWHERE = "--web.listen-address=127.0.0.1:0"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Serve one campaign."""
    with ApiServer() as one:
        start = time.time() - 3600
        one.api.rows = {STATISTICS: [row(1, start)], CONVERSIONS: [conversion(1, start)]}
        yield one
        assert [] == one.api.violations


@pytest.fixture
def file(tmp_path: Path, server: ApiServer) -> Path:
    """Return a config file for that server."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"accounts:\n  - {{name: main, access_token: {TOKEN}, base_url: '{server.url}'}}\n"
        "api: {requests_per_second: 1000, retries: 0}\n"
    )
    path.chmod(0o600)
    return path


def test_serve(file: Path, tmp_path: Path) -> None:
    """It serves what the API has, in both formats, compressed or not, until SIGTERM."""
    with Program("--config.file", str(file), ANYWHERE, cwd=tmp_path) as program:
        until(lambda: program.value("intarget_up") == 1, "up")
        assert 1250 == program.value(SENT, account="main", campaign_id="1", channel="email")
        assert f'version="{__version__}"' in program.get("/metrics")[1]
        openmetrics = "application/openmetrics-text; version=1.0.0"
        _, body, headers = program.fetch("/metrics", Accept=openmetrics, Accept_Encoding="gzip")
        assert ("gzip", True) == (headers["content-encoding"], headers["content-type"].startswith(openmetrics))
        assert gzip.decompress(body).endswith(b"# EOF\n")
        for path in ("/", "/campaigns", "/campaigns/main/1", "/-/healthy", "/-/ready"):
            assert 200 == program.get(path)[0]
        begun = time.monotonic()
        assert 0 == program.stop()
        assert 5 > time.monotonic() - begun
    assert (tmp_path / "intarget-exporter.db").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_cleanly(tmp_path: Path, number: int) -> None:
    """SIGTERM and SIGINT end it with exit code 0 before it polls, too: here while it reads the file."""
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)

    def is_read() -> bool:
        try:
            ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody has opened it for reading
            return False
        return True

    ends: list[int] = []
    with Program("--config.file", str(pipe), ANYWHERE, cwd=tmp_path) as program:
        until(is_read, "reading the file")
        assert (0, "") == (program.stop(number), program.output)
    os.close(ends[0])


def test_serve_with_a_token_alone(tmp_path: Path) -> None:
    """INTARGET_ACCESS_TOKEN is enough: one account, `default`, until it is told to stop."""
    variables = {
        "INTARGET_ACCESS_TOKEN": TOKEN,
        "INTARGET_EXPORTER_API_PROXY": "http://127.0.0.1:9",  # nothing leaves the machine
        "INTARGET_EXPORTER_STATE_PATH": "null",
    }
    with Program(ANYWHERE, cwd=tmp_path, env=variables) as program:
        assert 0 == program.value("intarget_up", account="default")
        assert 0 == program.stop(signal.SIGINT)


def test_demo(tmp_path: Path) -> None:
    """The demo shows campaigns within ten seconds of its start, and leaves nothing behind."""
    begun = time.monotonic()
    with Program("--demo", ANYWHERE, cwd=tmp_path) as program:
        until(lambda: program.value(SENT), "campaigns")
        seconds = time.monotonic() - begun
        until(lambda: program.value("intarget_up") == 1, "up")
        assert 10 < (program.value("intarget_tracked_campaigns", account="demo") or 0)
        assert 0 == program.stop()
    assert ["0.stderr", "0.stdout"] == sorted(path.name for path in tmp_path.iterdir())
    assert 10 > seconds


def test_once(file: Path, tmp_path: Path) -> None:
    """One poll, the exposition on stdout, nothing but logs on stderr, nothing on disk, nothing held."""
    result = run("once", "--config.file", str(file), cwd=tmp_path)
    assert 0 == result.returncode
    found = Samples(result.stdout)
    assert (1250, 1) == (found.value(SENT), found.value("intarget_up"))
    assert 154 == found.value("intarget_campaign_deposits")
    assert [file] == list(tmp_path.iterdir())


def test_once_as_json(file: Path, tmp_path: Path) -> None:
    """The reconciliation: vendor value, exported value and overcount of each campaign."""
    result = run("once", "--config.file", str(file), "--output=json", cwd=tmp_path)
    assert 0 == result.returncode
    account = json.loads(result.stdout)["accounts"][0]
    assert ("main", True) == (account["account"], account["resources"]["statistics"]["success"])
    expected = {"vendor": 1250, "exported": 1250, "overcount": 0}
    assert expected == account["campaigns"][0]["counters"]["sent"]
    assert "18752.40" == account["campaigns"][0]["conversions"][0]["amount"]


def test_once_beside_a_state(file: Path, tmp_path: Path, server: ApiServer) -> None:
    """It goes on from the saved state, reads it only, and holds no new campaign at 0."""
    flags = ("--config.file", str(file))
    with Program(*flags, ANYWHERE, cwd=tmp_path) as program:
        until(lambda: program.value("intarget_up") == 1, "up")
        assert 0 == program.stop()
    rows = server.api.rows[STATISTICS]
    rows[0]["sent"] = 1240
    rows.append(row(2, time.time(), sent=7))
    states = [path for path in tmp_path.iterdir() if path.name.startswith("intarget-exporter.db")]
    before = {path: path.read_bytes() for path in states}
    result = run("once", *flags, "--output=json", cwd=tmp_path)
    campaigns = {one["campaign_id"]: one for one in json.loads(result.stdout)["accounts"][0]["campaigns"]}
    expected = {"vendor": 1240, "exported": 1250, "overcount": 10}
    assert expected == campaigns[1]["counters"]["sent"]
    found = Samples(run("once", *flags, cwd=tmp_path).stdout)
    assert (1250, 7) == (found.value(SENT, campaign_id="1"), found.value(SENT, campaign_id="2"))
    assert before == {path: path.read_bytes() for path in states}


def test_once_with_a_refused_token(file: Path, tmp_path: Path, server: ApiServer) -> None:
    """A failed account is exit code 1, said in a line; the exposition comes all the same."""
    server.api.tokens = frozenset()
    result = run("once", "--config.file", str(file), cwd=tmp_path)
    assert 1 == result.returncode
    assert "account main was not polled successfully" in result.stderr.splitlines()[-1]
    assert "check the token" in result.stderr
    assert "Traceback" not in result.stderr
    found = Samples(result.stdout)
    assert (0, None) == (found.value("intarget_up"), found.value(SENT))
    for path in (STATISTICS, CONVERSIONS):
        assert 1 == server.api.count(path)


def test_environment_beats_the_file(file: Path, tmp_path: Path, server: ApiServer) -> None:
    """A variable replaces a key of the file."""
    env = {"INTARGET_EXPORTER_POLL_CONVERSIONS_EVERY": "null", "INTARGET_EXPORTER_API_PER_PAGE": "77"}
    assert 0 == run("once", "--config.file", str(file), cwd=tmp_path, env=env).returncode
    assert 0 == server.api.count(CONVERSIONS)
    assert {"77"} == {asked.parameters["perPage"][0] for asked in server.api.asked}


def test_simulate(tmp_path: Path) -> None:
    """The simulated API runs alone, says where and with which token, and ends cleanly."""
    with Program("simulate", ANYWHERE, "--scenario=calm", cwd=tmp_path) as program:
        until(lambda: "access-token=" in program.output, "its address")
        found = re.search(r"scenario calm: (http://\S+) \(access-token=(\S+)\)", program.output)
        assert found is not None
        config = tmp_path / "config.yaml"
        config.write_text(
            f"accounts:\n  - {{name: main, access_token: {found[2]}, base_url: '{found[1]}'}}\n"
            "state: {path: null}\n"
        )
        config.chmod(0o600)
        once = run("once", "--config.file", str(config), cwd=tmp_path)
        assert 0 == once.returncode
        assert 0 < (Samples(once.stdout).value(SENT) or 0)
        assert 0 == program.stop()


def lines_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was said on stderr; there is no traceback, and nothing on stdout."""
    assert "Traceback" not in result.stderr
    assert "" == result.stdout
    return result.stderr.splitlines()


def test_port_in_use(file: Path, tmp_path: Path) -> None:
    """A port that another program has is one line, from serving and from simulating."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}"
        for flags in (("--config.file", str(file)), ("simulate",), ("--demo",)):
            result = run(*flags, address, cwd=tmp_path)
            assert 2 == result.returncode
            lines = lines_of(result)
            assert (1, True) == (len(lines), "in use" in lines[0].lower())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--web.listen-address=nonsense",), "nonsense"),
        (("--web.listen-address=127.0.0.1:99999",), "99999"),
        (("--log.level=loud",), "--log.level"),
        (("--log.format=xml",), "--log.format"),
        (("--web.config.file=missing.yaml",), "missing.yaml"),
        (("--web.config.file=bad-web.yaml",), "bad-web.yaml:1"),
    ],
)
def test_bad_flags(file: Path, tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    """One line that says which flag, and code 2."""
    (tmp_path / "bad-web.yaml").write_text("tls_server_config: {cert_file: nowhere.pem}\n")
    flags = flags if flags[0].startswith("--web.listen") else (ANYWHERE, *flags)
    result = run("--config.file", str(file), *flags, cwd=tmp_path)
    assert 2 == result.returncode
    assert any(said in line for line in lines_of(result))


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ("access_token_file: /nowhere/token", "the file does not exist"),
        ("access_token_file: /", "is a directory"),
        ("access_token_env: INTARGET_TEST_UNSET", "is not set"),
        ("access_token: ''", "access_token"),
        (f"access_token: {TOKEN}, base_url: 'not a url'", "base_url"),
        (f"access_token: {TOKEN}, base_url: 'ftp://127.0.0.1'", "base_url"),
        (f"access_token: {TOKEN}, base_url: 'http://127.0.0.1/?access-token=hush-hush'", "base_url"),
    ],
)
@pytest.mark.parametrize("flag", [ANYWHERE, "once"])
def test_bad_accounts(tmp_path: Path, flag: str, account: str, said: str) -> None:
    """An unreadable token or a bad address is one line and code 2, before anything is asked."""
    (tmp_path / "config.yaml").write_text(f"accounts:\n  - {{name: main, {account}}}\n")
    result = run(flag, "--config.file=config.yaml", cwd=tmp_path)
    assert 2 == result.returncode
    lines = lines_of(result)
    assert (1, True) == (len(lines), said in lines[0])
    assert "hush-hush" not in result.stderr


def test_a_reader_that_leaves(file: Path, tmp_path: Path) -> None:
    """`once | head -1` ends without a traceback."""
    with subprocess.Popen(
        command("once", "--config.file", str(file)),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read().decode()
        process.wait(DEADLINE)
    assert "Traceback" not in error
    assert "Exception ignored" not in error
