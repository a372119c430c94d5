"""What `doctor` found, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter import __version__
from exporter.logs import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OK, WARNING, PROBLEM = LEVELS = ("ok", "warning", "problem")
"""What a finding can be, from good to bad."""


UNKNOWN: Final = "unknown"
"""The value of a reading that could not be found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `text` says what is the case and, unless it is ok, what to do next.

    `check` names what was looked at, `resource` where, if at one resource; `values` are its figures,
    for machines.
    """

    check: str
    level: str
    text: str
    resource: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", redact(self.text))

    @property
    def line(self) -> str:
        """The finding for a person."""
        where = "" if self.resource is None else f"{self.resource} "
        return f"  {self.level:<8} {where}{self.check.replace('_', ' ')}: {self.text}"

    @property
    def document(self) -> dict[str, Any]:
        """The finding for a machine."""
        place = {} if self.resource is None else {"resource": self.resource}
        return {"check": self.check, **place, "level": self.level, "text": self.text, **self.values}


Findings: TypeAlias = tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a server reads one point that the documentation leaves open, and how that was found.

    `value` is in words, `values` has the figures for machines. Not ok is what the exporter has to work around.
    """

    point: str
    value: str
    how: str
    level: str = OK
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "how", redact(self.how))

    @property
    def document(self) -> dict[str, Any]:
        """The reading for a machine."""
        return {"reading": self.value, "how": self.how, "level": self.level, **self.values}


@dataclass(frozen=True, slots=True)
class Server:
    """How one resource of a server reads what is open, found with so many requests of at most so many."""

    resource: str
    readings: tuple[Reading, ...]
    requests: int
    most_requests: int

    def lines(self) -> Iterable[str]:
        """Yield the table for a person."""
        yield (
            f"  how this server reads what the documentation leaves open, {self.resource}"
            f" ({self.requests} of at most {self.most_requests} requests)"
        )
        points = max((len(one.point) for one in self.readings), default=0)
        values = max((len(one.value) for one in self.readings), default=0)
        for one in self.readings:
            point = one.point.replace("_", " ")
            yield f"  {one.level:<8} {point:<{points}}  {one.value:<{values}}  {one.how}"

    @property
    def document(self) -> dict[str, Any]:
        """The table for a machine."""
        return {
            "requests": self.requests,
            "most_requests": self.most_requests,
            "readings": {one.point: one.document for one in self.readings},
        }


@dataclass(frozen=True, slots=True)
class AccountReport:
    """What was found about one account."""

    account: str
    base_url: str
    findings: Findings
    servers: tuple[Server, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found at the time `at`, in seconds since the epoch."""

    at: float
    configuration: Findings
    state: Findings
    accounts: tuple[AccountReport, ...]

    def count(self, level: str) -> int:
        """Return how many findings are of this level."""
        return sum(found == level for found in self._levels())

    @property
    def level(self) -> str:
        """The worst level that was found."""
        return max(self._levels(), key=LEVELS.index, default=OK)

    def _levels(self) -> Iterable[str]:
        yield from (finding.level for finding in (*self.configuration, *self.state))
        for account in self.accounts:
            yield from (finding.level for finding in account.findings)
            yield from (reading.level for server in account.servers for reading in server.readings)

    def text(self) -> str:
        """Return the report for a person, one line for each finding."""
        lines = [f"intarget-exporter {__version__}, {self._time()}"]
        for title, findings in (("configuration", self.configuration), ("state file", self.state)):
            lines += ["", title, *(finding.line for finding in findings)]
        for one in self.accounts:
            lines += [
                "",
                f"account {one.account} ({one.base_url})",
                *(finding.line for finding in one.findings),
            ]
            for server in one.servers:
                lines += ["", *server.lines()]
        problems, warnings = self.count(PROBLEM), self.count(WARNING)
        lines += ["", f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}"]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """Return the same for a machine."""
        document = {
            "version": __version__,
            "time": self._time(),
            "level": self.level,
            "problems": self.count(PROBLEM),
            "warnings": self.count(WARNING),
            "configuration": [finding.document for finding in self.configuration],
            "state": [finding.document for finding in self.state],
            "accounts": [
                {
                    "account": one.account,
                    "base_url": one.base_url,
                    "findings": [finding.document for finding in one.findings],
                    "server": {server.resource: server.document for server in one.servers},
                }
                for one in self.accounts
            ],
        }
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"

    def _time(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds")


def counted(number: int, noun: str) -> str:
    """Return ``1 row``, ``2 rows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
