"""How the polling of each account goes, for the status page and readiness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """How the polling of one resource goes. `error` is a sentence for people; `reason` its label value.

    `failed_jobs` names the parts of a poll besides the window that failed last, with a sentence for each.
    `notes` say what else is worth knowing, such as how the search for older campaigns goes, in sentences.
    """

    resource: str
    interval: float
    polls: int = 0
    last_poll: float | None = None
    last_success: float | None = None
    last_duration: float | None = None
    error: str | None = None
    reason: str | None = None
    incomplete: bool = False
    failed_jobs: Mapping[str, str] = field(default_factory=dict)
    requests_per_hour: float = 0.0
    page_cap: str = "unknown"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """How one account goes: the status page's and readiness' source.

    `ready` is true once it has data or one failed poll behind it, and its data are not stale; `problem` says in
    words why not. `learned` is what was learned of the server, as (name, value): its zone, its limits.
    """

    account: str
    base_url: str
    resources: tuple[ResourceStatus, ...] = ()
    campaigns: int = 0
    dropped: int = 0
    series: int = 0
    stale: bool = False
    ready: bool = False
    problem: str | None = None
    learned: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ExporterStatus:
    """How the whole process goes.

    `state_path` is None if none is configured; `state_problem` says why the file can't be used now,
    `reload_problem` why the last reload of the configuration failed. `shard` counts from 0.
    """

    state_path: str | None = None
    state_problem: str | None = None
    reload_problem: str | None = None
    shard: int = 0
    total_shards: int = 1
