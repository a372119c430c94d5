"""The exception tree."""

from __future__ import annotations

import re

import pytest

from exporter import errors
from exporter.errors import REASONS, ConfigError, ExporterError, InternalError, PollError

OWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def test_reasons_are_the_documented_ones() -> None:
    """The label's values are those that alerts and dashboards know, each once."""
    documented = {
        "timeout",
        "connection",
        "auth",
        "rate_limited",
        "server_error",
        "client_error",
        "bad_response",
        "too_large",
        "deadline",
        "internal",
    }
    assert documented == set(REASONS)
    assert len(documented) == len(REASONS)


@pytest.mark.parametrize(
    "kind", [kind for kind in OWN if issubclass(kind, PollError) and kind is not PollError]
)
def test_each_failure_of_a_poll_has_a_reason_of_its_own(kind: type[PollError]) -> None:
    """The reason stands in the class itself, so that none is inherited by accident."""
    assert vars(kind)["reason"] in REASONS


def test_one_base_catches_all() -> None:
    """Whatever the exporter raises on purpose is an ExporterError."""
    assert [] == [kind for kind in OWN if not issubclass(kind, ExporterError)]


def test_the_drawn_tree_is_the_real_one() -> None:
    """The module's docstring shows every class below its base."""
    drawn, above = {}, [""]
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([ │├└─]*)(\w+(?:Error|Exception))\b", line):
            depth = len(found[1]) // 4
            above[depth + 1 :] = [found[2]]
            drawn[found[2]] = above[depth]
    assert {kind.__name__: kind.__base__.__name__ for kind in OWN if kind is not ExporterError} == {
        name: base for name, base in drawn.items() if base
    }
    assert [""] == [base for name, base in drawn.items() if name == "ExporterError"]


def test_a_config_error_prints_every_fault_on_a_line() -> None:
    """Its text is what the user is shown."""
    error = ConfigError(["config.yaml:1: poll: unknown key", "config.yaml:2: api.retries: not a number"])
    assert 2 == len(error.faults)
    assert "\n".join(error.faults) == str(error)


def test_an_unforeseen_fault_counts_as_internal() -> None:
    """The reason of faults that nobody thought of."""
    assert "internal" == InternalError().reason
