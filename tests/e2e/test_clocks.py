"""The running exporter while its system clock is set, by libfaketime, and while it is stopped."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests._apiserver import STATISTICS, TOKEN, ApiServer, row
from tests._program import Program, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

SENT = "intarget_campaign_messages_sent_total"
HOUR = 3600


class Clock:
    """The system clock as one program sees it: `set` puts it off by some seconds. Intervals stay true."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not found:
            if os.environ.get("CI") == "true":
                pytest.fail("libfaketime is not installed")
            pytest.skip("libfaketime is not installed (apt-get install faketime)")
        self._file = folder / "clock"
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0)

    def set(self, seconds: float) -> None:
        """Set it so far ahead of the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}")
        new.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """Return the exporter's system clock."""
    return Clock(tmp_path)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Return an API with a campaign that started an hour ago."""
    with ApiServer() as one:
        one.api.rows[STATISTICS] = [row(1, time.time() - HOUR)]
        yield one


def start(folder: Path, server: ApiServer, clock: Clock | None = None, **poll: object) -> Program:
    """Start the exporter, which polls the statistics every half second."""
    document = {
        "accounts": [{"name": "main", "access_token": TOKEN, "base_url": server.url}],
        "poll": {
            "refresh": [{"younger_than": "14d", "every": "500ms"}],
            "conversions_every": None,
            "still_sending": None,
            **poll,
        },
        "api": {"requests_per_second": 1000, "retries": 0},
        "metrics": {"zero_hold": "3s"},
        "state": {"path": None},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    flags = ("--config.file=config.yaml", "--web.listen-address=127.0.0.1:0")
    return Program(*flags, cwd=folder, env=None if clock is None else clock.environment)


def up(program: Program) -> bool:
    """Whether the last poll succeeded."""
    return program.value("intarget_up") == 1


def polled_again(server: ApiServer, seconds: float) -> None:
    """Wait for three more polls."""
    before = server.api.count(STATISTICS)
    until(lambda: server.api.count(STATISTICS) >= before + 3, "three more polls", seconds)


@pytest.mark.parametrize("jump", [-2 * HOUR, 2 * HOUR, -30 * 86400], ids=["back", "forward", "a month back"])
def test_a_clock_that_is_set_delays_no_poll(
    tmp_path: Path, server: ApiServer, clock: Clock, jump: float
) -> None:
    """Polls go on at their interval, and the end is as quick as ever."""
    with start(tmp_path, server, clock) as program:
        until(lambda: up(program), "up")
        clock.set(jump)
        polled_again(server, 10)
        assert up(program)
        until(lambda: "clock was set" in program.output, "the jump is told")
        clock.set(0)
        polled_again(server, 10)
        began = time.monotonic()
        assert 0 == program.stop()
        assert 5 > time.monotonic() - began


def test_from_1970_to_now(tmp_path: Path, server: ApiServer, clock: Clock) -> None:
    """A machine that finds the time only after the start costs neither memory nor CPU, and no poll."""
    clock.set(-time.time() + 86400)
    with start(tmp_path, server, clock) as program:
        until(lambda: up(program), "up")
        process = Path(f"/proc/{program.process.pid}")

        def memory() -> float:
            status = dict(line.split(":", 1) for line in process.joinpath("status").read_text().splitlines())
            return int(status["VmRSS"].split()[0]) / 1024

        def cpu() -> float:
            fields = process.joinpath("stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before, used = memory(), cpu()
        clock.set(0)
        until(lambda: program.value(SENT) == 1250, "the campaign is found", 15)
        polled_again(server, 10)
        assert before + 20 > memory()
        assert used + 5 > cpu()
        began = time.monotonic()
        assert 0 == program.stop()
        assert 5 > time.monotonic() - began


def test_stale_data_stay_stale(tmp_path: Path, server: ApiServer, clock: Clock) -> None:
    """While the API is away, a clock that is set back doesn't make the data look fresh."""
    with start(tmp_path, server, clock, stale_after="3s") as program:
        until(lambda: up(program), "up")
        server.api.fault = lambda _: (503, {}, b"")
        clock.set(-2 * HOUR)
        until(lambda: program.value(SENT) is None, "withdrawn", 15)
        assert 503 == program.get("/-/ready")[0]
        server.api.fault = lambda _: None
        until(lambda: program.value(SENT) == 1250, "back", 15)


def test_holds_end_in_time(tmp_path: Path, server: ApiServer, clock: Clock) -> None:
    """A new campaign stands at 0 for zero_hold, whatever is done to the clock meanwhile."""
    with start(tmp_path, server, clock) as program:
        until(lambda: up(program), "up")
        server.api.rows[STATISTICS].append(row(2, time.time()))
        until(lambda: program.value(SENT, campaign_id="2") == 0, "held at 0")
        clock.set(-2 * HOUR)
        until(lambda: program.value(SENT, campaign_id="2") == 1250, "released", 15)


def test_stopped_for_a_while(tmp_path: Path, server: ApiServer) -> None:
    """A process that was stopped withdraws what has become stale, and polls at once when it goes on."""
    with start(tmp_path, server, stale_after="3s") as program:
        until(lambda: up(program), "up")
        server.api.fault = lambda _: (503, {}, b"")
        program.process.send_signal(signal.SIGSTOP)
        time.sleep(4)  # the time that passes is what is tested
        before = server.api.count(STATISTICS)
        program.process.send_signal(signal.SIGCONT)
        until(lambda: server.api.count(STATISTICS) > before, "polled again", 5)
        until(lambda: program.value(SENT) is None, "withdrawn", 5)
        server.api.fault = lambda _: None
        until(lambda: up(program), "up again", 10)
