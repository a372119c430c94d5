"""`backfill` as its user runs it: interrupted, resumed, imported by promtool, asked for from Prometheus."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter import simulator
from exporter.backfill.arguments import format_time, parse_time
from exporter.exposition.catalogue import CAMPAIGN_COUNTERS
from tests._program import DEADLINE, command, environment, run, until
from tests.e2e._running import Exporter, raw, scraping
from tests.rules.prometheus import Prometheus, import_openmetrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

DAY = 86_400
FIRST = parse_time("2026-03-20", end=False)
LAST = parse_time("2026-04-12", end=True)
NOW = LAST + 3 * DAY
CHANNEL_SENT = "intarget_channel_messages_sent_total"
ARGUMENTS = ("backfill", "--config.file=config.yaml", "--from=2026-03-20", "--to=2026-04-12", "--output=out")


@pytest.fixture
def api() -> simulator.Simulator:
    """Return an account with months of campaigns, whose API divides counts by send time and cuts at 50 rows."""
    loose = simulator.Looseness(send_filter_restricts_counts=True, cap=50, inclusive_to=False)
    scenario = replace(simulator.SCENARIOS["calm"], looseness=loose, history_days=60.0)
    return simulator.Simulator(3, lambda: float(NOW), scenario)


@pytest.fixture
def folder(api: simulator.Simulator, tmp_path: Path) -> Iterator[Path]:
    """Return a folder with a config file for that API."""
    with simulator.serve(api) as server:
        account = (
            f"{{name: main, access_token: {simulator.DEMO_TOKEN}, base_url: '{server.url}', currency: EUR}}"
        )
        path = tmp_path / "config.yaml"
        path.write_text(f"accounts: [{account}]\napi: {{requests_per_second: 1000, retries: 0}}\n")
        path.chmod(0o600)
        yield tmp_path


def samples(output: Path) -> dict[str, dict[int, float]]:
    """Return all that the files hold, by series and time."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(output.glob("*.om")):
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                series, value, at = line.rsplit(" ", 2)
                assert int(at) not in found.setdefault(series, {})
                found[series][int(at)] = float(value)
    return found


def stored(prometheus: Prometheus) -> dict[str, dict[int, float]]:
    """Return all that Prometheus has, likewise; series are named as in the files."""
    query = f'{{__name__=~"intarget_.+"}}[{LAST - FIRST + DAY}s]'
    found: dict[str, dict[int, float]] = {}
    for one in prometheus.get("query", query=query, time=LAST)["result"]:
        labels: dict[str, str] = one["metric"]
        name = labels.pop("__name__")
        key = name + str(sorted(labels.items()))
        found[key] = {int(at): float(value) for at, value in one["values"]}
    return found


def named(series: str) -> str:
    """Return a series of a file as `stored` names it: to Prometheus a label without a value is none."""
    name, _, rest = series.partition("{")
    pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', rest)
    plain = {r"\n": "\n", r"\"": '"', r"\\": "\\"}
    labels = {key: re.sub(r"\\.", lambda match: plain[match[0]], value) for key, value in pairs if value}
    return name + str(sorted(labels.items()))


@pytest.mark.parametrize("options", [(), ("--max-block-duration=1500h",)], ids=["default", "few blocks"])
def test_prometheus_has_every_sample(options: tuple[str, ...], api: simulator.Simulator, folder: Path) -> None:
    """Promtool imports each file into the same data; Prometheus then has all samples, and they are true."""
    done = run(*ARGUMENTS, cwd=folder)
    assert (0, "") == (done.returncode, done.stderr)
    assert "divides counts and conversions" in done.stdout
    written = samples(folder / "out")
    for path in sorted((folder / "out").glob("*.om")):
        imported = subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", *options, "openmetrics", path, folder / "data"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == imported.returncode, imported.stderr
    with Prometheus(folder, options=("--storage.tsdb.retention.time=100y",)) as prometheus:
        assert {named(series): values for series, values in written.items()} == stored(prometheus)
        noon = FIRST + 5 * DAY + DAY // 2
        grown = f"last_over_time({CHANNEL_SENT}[1d]) - last_over_time({CHANNEL_SENT}[1d] offset 1d)"
        days = prometheus.series(grown, noon - noon % DAY, LAST, DAY)
    for labels, values in days:
        totals = next(
            values
            for series, values in written.items()
            if series.startswith(CHANNEL_SENT) and f'"{labels["channel"]}"' in series
        )
        for midnight, growth in values.items():
            assert growth == totals[midnight - 1] - totals[midnight - 1 - DAY], "as the README says"
    assert len(days) >= 3
    assert sum(len(values) for values in written.values()) > 10_000
    right = [
        key for key, counts in api.truth(first=FIRST, last=LAST).items() if counts == reached(written, *key)
    ]
    assert len(right) >= 0.9 * len(api.truth(first=FIRST, last=LAST)) > 50, "the others sent after the end, too"


def reached(written: dict[str, dict[int, float]], number: int, channel: str) -> dict[str, int | None]:
    """Return the last counts of a campaign by the API's fields."""
    labels = f'{{account="main",campaign_id="{number}",channel="{channel}"}}'
    counts = {name: written.get(metric.name + labels) for name, metric in CAMPAIGN_COUNTERS.items()}
    return {name: None if values is None else int(max(values.values())) for name, values in counts.items()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_interrupted(number: signal.Signals, api: simulator.Simulator, folder: Path) -> None:
    """It ends within a second; the same command goes on, asks the rest, and the next time nothing at all."""
    config = folder / "config.yaml"
    quick = config.read_text()
    config.write_text(quick.replace("requests_per_second: 1000", "requests_per_second: 20"))
    process = subprocess.Popen(
        command(*ARGUMENTS),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        until(lambda: sum(api.requests.values()) >= 40, "the middle")
        process.send_signal(number)
        begun = time.monotonic()
        _, error = process.communicate(timeout=DEADLINE)
        assert 1.5 > time.monotonic() - begun
    expected = -number if number == signal.SIGKILL else 1
    assert expected == process.returncode
    assert number == signal.SIGKILL or "stopped; the same command goes on from here" in error
    assert [] == list((folder / "out").glob("*.om"))
    before = sum(api.requests.values())
    config.write_text(quick)
    assert 0 == run(*ARGUMENTS, cwd=folder).returncode
    after = sum(api.requests.values())
    resumed = samples(folder / "out")
    assert 0 == run(*ARGUMENTS, cwd=folder).returncode
    assert after == sum(api.requests.values())
    (folder / "out").rename(folder / "resumed")
    assert 0 == run(*ARGUMENTS, cwd=folder).returncode
    assert samples(folder / "out") == resumed
    whole = sum(api.requests.values()) - after
    assert after <= whole + 25, f"{before} and {after - before}, at once {whole}"


def test_progress_bar(folder: Path) -> None:
    """On a terminal it shows a bar with the account's name, and leaves only the result."""
    main, sub = pty.openpty()
    fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        command(*ARGUMENTS), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=sub, text=True
    ) as process:
        os.close(sub)
        shown = b""
        while part := read(main):
            shown += part
        out, _ = process.communicate(timeout=DEADLINE)
    os.close(main)
    assert 0 == process.returncode
    assert re.search(rb"main: +\d+%\|", shown)
    assert out.splitlines()[-1].startswith(
        "account main: 2026-03-20T00:00:00Z to 2026-04-12T23:59:59Z done with"
    )


def read(terminal: int) -> bytes:
    """Return what was shown; nothing once it is closed."""
    try:
        return os.read(terminal, 10_000)
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (("--from=2026-03-21",), "--from was 2026-03-20T00:00:00Z"),
        (("--from=yesterday",), "--from: must be a day such as"),
        (("--step=0s",), "--step: must be"),
        (("--to=2026-03-01",), "--from: must be earlier than --to"),
        (("--from=2226-03-01", "--to=2226-03-02"), "--from: is still to come"),
        (("--output=config.yaml",), "--output: config.yaml can't be used (File exists)"),
        (("--output=",), "backfill needs --output as well"),
    ],
)
def test_wrong_usage(other: tuple[str, ...], said: str, folder: Path) -> None:
    """One clear line and code 2."""
    if "was" in said:
        assert 0 == run(*ARGUMENTS, cwd=folder).returncode
    done = run(*ARGUMENTS, *other, cwd=folder)
    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert said in done.stderr


def test_a_rejected_token(folder: Path) -> None:
    """It is one line, code 1, and nothing that holds the token."""
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(simulator.DEMO_TOKEN, "canary-token-0123456789"))
    done = run(*ARGUMENTS, cwd=folder)
    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "account main:" in done.stderr
    texts: list[Any] = [done.stderr, *(path.read_text() for path in (folder / "out").iterdir())]
    assert [] == [text for text in texts if "canary" in text]


def test_live_data_continue_it(tmp_path: Path) -> None:
    """With --job and --instance history and scrapes are one series: no step at the seam, nothing twice."""
    loose = simulator.Looseness(send_filter_restricts_counts=True)
    scenario = replace(simulator.SCENARIOS["calm"], looseness=loose, history_days=20.0)
    api = simulator.Simulator(3, time.time, scenario, speed=1500)
    with simulator.serve(api) as server:
        account = f"{{name: main, access_token: {simulator.DEMO_TOKEN}, base_url: '{server.url}'}}"
        live = Exporter(
            tmp_path / "live",
            f"accounts: [{account}]\n"
            "api: {requests_per_second: 1000}\n"
            "poll: {refresh: [{younger_than: 14d, every: 1s}], conversions_every: null}\n"
            "metrics: {zero_hold: 10s}\n",
        )
        (live.folder / "config.yaml").chmod(0o600)
        end = int(time.time()) - 1800
        history = tmp_path / "history"
        span = (f"--from={format_time(end - 6 * DAY)}", f"--to={format_time(end)}", "--step=1h")
        labels = ("--job=intarget", f"--instance={live.address}")
        done = run(
            "backfill", "--config.file=config.yaml", f"--output={history}", *span, *labels, cwd=live.folder
        )
        assert (0, "") == (done.returncode, done.stderr)
        for path in history.glob("*.om"):
            import_openmetrics(path, tmp_path / "prometheus" / "data")
        options = ("--storage.tsdb.retention.time=100y",)
        with live, scraping(tmp_path / "prometheus", live, options=options) as prometheus:
            live.serve()
            until(lambda: any(at > end and n > 0 for at, n in points(prometheus)), "live data have grown")
            whole = points(prometheus)
            campaigns = raw(prometheus, "intarget_campaign_messages_sent_total", 7 * DAY)
    imported = samples(history)
    (channel,) = [at for name, at in imported.items() if name.startswith(CHANNEL_SENT) and '"email"' in name]
    assert channel == {int(at): count for at, count in whole if at <= end}
    seam = [count for at, count in whole if at > end]
    assert 0 == seam[0], "live channel counters begin at 0: a reset that adds nothing"
    assert sorted(seam) == seam
    crossing = [one for _, one in campaigns if one[0][0] < end < one[-1][0]]
    assert len(crossing) > 5
    for one in crossing:
        counts = [count for _, count in one]
        assert sorted(counts) == counts, "a campaign steps nowhere down"


def points(prometheus: Prometheus) -> list[tuple[float, int]]:
    """Return all samples of the one series of the last week that counts what was sent by email."""
    (found,) = [
        found for labels, found in raw(prometheus, CHANNEL_SENT, 7 * DAY) if labels["channel"] == "email"
    ]
    return found
