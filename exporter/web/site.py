"""What the web layer may ask of the rest of the exporter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exporter.status import AccountStatus, ExporterStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.tracking.model import Snapshot


class Response(Protocol):
    """One negotiated exposition. `content_encoding` is None for an uncompressed body."""

    @property
    def parts(self) -> Sequence[bytes]:
        """The body; what other scrapes get too is the same object there, and not copied."""

    @property
    def content_type(self) -> str:
        """Value of Content-Type."""

    @property
    def content_encoding(self) -> str | None:
        """Value of Content-Encoding."""


@dataclass(frozen=True)
class Site:
    """Everything that the pages and endpoints show or do.

    `exposition` takes the request's Accept and Accept-Encoding and the steady time; `exposition_at_hand` too,
    and returns None if the answer takes a while. `exposition` and `reload` are called on worker threads and
    may take their time; the others are called on the event loop's thread and must return at once.
    `reload` raises ConfigError, whose faults are shown to whoever asked, so they must hold no values. `clock`
    gives seconds since the epoch. `configuration` returns what is in force as a text without secrets.
    `documentation` is a URL to link to.
    """

    exposition: Callable[[str | None, str | None, float], Response]
    snapshot: Callable[[], Snapshot]
    accounts: Callable[[], tuple[AccountStatus, ...]]
    reload: Callable[[], None]
    quit: Callable[[], None]
    clock: Callable[[], float]
    version: str
    telemetry_path: str = "/metrics"
    lifecycle: bool = False
    documentation: str | None = None
    status: Callable[[], ExporterStatus] = ExporterStatus
    configuration: Callable[[], str] = str
    exposition_at_hand: Callable[[str | None, str | None, float], Response | None] = lambda *_: None
