"""Shards: real processes that share many accounts of one simulated API, and accounts that move between them."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from exporter import simulator
from tests._apiserver import STATISTICS, TOKEN, ApiServer, row
from tests._program import Program, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.e2e

ACCOUNTS = [f"customer-{number}" for number in range(200)]
SHARDS = 3
HOUR = 3600.0
SENT = "intarget_campaign_messages_sent_total"
CHANNEL_SENT = "intarget_channel_messages_sent_total"


def configure(path: Path, url: str, token: str, accounts: Sequence[str], every: str) -> None:
    """Write a configuration for these accounts, all of which see the same campaigns."""
    account = {"access_token": token, "base_url": url}
    document = {
        "accounts": [{"name": name, **account} for name in accounts],
        "poll": {
            "refresh": [{"younger_than": "14d", "every": every}],
            "still_sending": None,
            "conversions_every": None,
        },
        "api": {"requests_per_second": 1000, "timeout": "60s"},
        "metrics": {"zero_hold": "0s"},
    }
    path.write_text(yaml.safe_dump(document))


def start(stack: ExitStack, config: Path, folder: Path, shard: int, total: int) -> Program:
    """Start one shard as its pod does: with flags from the environment, and a state of its own."""
    folder.mkdir(exist_ok=True)
    variables = {"INTARGET_EXPORTER_SHARD": str(shard), "INTARGET_EXPORTER_TOTAL_SHARDS": str(total)}
    flags = (f"--config.file={config}", "--web.listen-address=127.0.0.1:0")
    return stack.enter_context(Program(*flags, cwd=folder, env=variables))


def polled(program: Program) -> list[str]:
    """Return the accounts that a process has polled with success."""
    series = program.samples().series("intarget_up")
    return [dict(labels)["account"] for labels, value in series.items() if value == 1]


def polled_by(programs: Sequence[Program]) -> list[str]:
    """Return the accounts that processes have polled with success."""
    return sorted(name for program in programs for name in polled(program))


def values(programs: Sequence[Program], metric: str) -> list[tuple[str, float]]:
    """Return accounts and values of a metric of which each account has one series."""
    series = [one for program in programs for one in program.samples().series(metric).items()]
    return sorted((dict(labels)["account"], value) for labels, value in series)


def test_every_account_is_polled_once(tmp_path: Path) -> None:
    """Of 200 accounts each is polled by exactly one of three processes, and all three have about a third."""
    config = tmp_path / "config.yaml"
    small = replace(simulator.SCENARIOS["calm"], per_day=0.2, recurring=1, history_days=20)
    simulated = simulator.Simulator(1, time.time, small, simulator.DEMO_TOKEN)
    with ExitStack() as stack:
        server = stack.enter_context(simulator.serve(simulated))
        configure(config, server.url, simulator.DEMO_TOKEN, ACCOUNTS, every="1h")
        shards = [start(stack, config, tmp_path / str(shard), shard, SHARDS) for shard in range(SHARDS)]
        until(lambda: sum(len(polled(program)) for program in shards) >= len(ACCOUNTS), "all are polled")
        shares = [polled(program) for program in shards]
        ordinals = [program.value("intarget_shard_ordinal") for program in shards]
        totals = [program.value("intarget_total_shards") for program in shards]
        shown = [program.samples().series("intarget_account_info") for program in shards]
    assert sorted(ACCOUNTS) == sorted(name for share in shares for name in share)
    assert [len(share) for share in shares] == [len(series) for series in shown]
    assert ([0, 1, 2], [SHARDS] * SHARDS) == (ordinals, totals)
    assert all(40 <= len(share) <= 95 for share in shares)


def test_accounts_move_with_their_state(tmp_path: Path) -> None:
    """Two shards become four, with copies of their states: counters go on, with what was sent since."""
    names, config = ACCOUNTS[:12], tmp_path / "config.yaml"
    with ExitStack() as stack:
        server = stack.enter_context(ApiServer())
        server.api.rows = {STATISTICS: [row(1, time.time() - HOUR, sent=1250)]}
        configure(config, server.url, TOKEN, names, every="1s")
        old = [start(stack, config, tmp_path / f"old-{shard}", shard, 2) for shard in range(2)]
        until(lambda: polled_by(old) == sorted(names), "all are polled")
        server.api.rows[STATISTICS][0]["sent"] = 1300
        until(lambda: values(old, CHANNEL_SENT) == sorted((name, 50) for name in names), "growth")
        assert [0, 0] == [program.stop() for program in old]
        server.api.rows[STATISTICS][0]["sent"] = 1400
        for shard in range(4):
            shutil.copytree(tmp_path / f"old-{shard % 2}", tmp_path / str(shard))
        new = [start(stack, config, tmp_path / str(shard), shard, 4) for shard in range(4)]
        until(lambda: polled_by(new) == sorted(names), "all are polled again")
        assert sorted((name, 1400) for name in names) == values(new, SENT)
        assert sorted((name, 150) for name in names) == values(new, CHANNEL_SENT)
