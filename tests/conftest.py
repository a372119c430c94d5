"""What holds for every test: where imports come from, that CI skips nothing, no shared secrets, no haste."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# At the end of the path: `tests._helper` is found here, but `exporter` only where no installed one comes first.
sys.path.append(str(Path(__file__).parents[1]))

# How long an example takes depends on what else the machine does; the suite has time limits of its own.
hypothesis.settings.register_profile("exporter", deadline=None)
hypothesis.settings.register_profile("fast", deadline=None, max_examples=10, stateful_step_count=15)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "exporter"))

_CI = os.environ.get("CI") == "true"


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip. Expected failures, which pytest reports as skips, stay as they are."""
    if _CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nCI may skip no test: install what is missing (tests/run does)."


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Forbid skips of tests."""
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Forbid skips of whole modules."""
    report = yield
    _forbid_skip(report)
    return report


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a register of secrets of its own: one test's token may be another one's word."""
    from exporter import logs  # noqa: PLC0415 - only after the path is set

    monkeypatch.setattr(logs, "_secrets", type(logs._secrets)())
