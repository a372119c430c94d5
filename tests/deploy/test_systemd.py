"""The systemd unit, as systemd-analyze judges it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests._tools import tool

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "intarget-exporter.service"
EXPOSURE = 1.2
"""The most that is allowed, of 10; nothing but network and the host's file system, read-only, is left."""

pytestmark = pytest.mark.e2e


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(
        [tool("systemd-analyze"), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_unit_is_understood(tmp_path: Path) -> None:
    """Every line is understood; the program is replaced by one that is installed here."""
    text = UNIT.read_text(encoding="utf-8")
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = analyze("verify", "--man=no", unit)
    assert (0, "") == (done.returncode, done.stderr)


def test_unit_is_hardened() -> None:
    """The exposure is low, by systemd's own measure."""
    done = analyze("security", "--offline=true", UNIT)
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


def test_a_wrong_configuration_is_not_retried() -> None:
    """Exit code 2 ends it, as no restart mends a file; every other failure is retried for ever."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    assert "RestartPreventExitStatus=2" in lines
    assert "Restart=on-failure" in lines
    assert "StartLimitIntervalSec=0" in lines
