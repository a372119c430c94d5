"""What can be polled of an account: one `Resource` for each resource of the API, all of one kind.

A resource brings all that sets it apart from another one; whoever polls has no branch by its name. To poll one
more, describe it in a module beside `statistics` and `conversions`, and add it to `enabled`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias

from exporter.api.model import Page, R

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.api.model import Reply
    from exporter.collect.model import Collected
    from exporter.collect.refresh_plan import Tier
    from exporter.polling.poll import Poll
    from exporter.polling.resource_poller import ResourcePoller
    from exporter.polling.store import AccountStore
    from exporter.tracking.model import Moment
    from exporter.tracking.window import Merged


class Merge(Protocol[R]):
    """Merges what a poll has read into the account's window. The caller holds the store's lock."""

    def __call__(
        self, store: AccountStore, poll: Poll[R], collected: Collected[R], *, now: Moment, succeeded: bool
    ) -> Merged:
        """Return what changed; `succeeded`: the window was read as far as it was due."""


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """One part of a poll besides the window. Its failure is its own: it is reported, and the poll goes on.

    It is run again `every` seconds after it last succeeded, at most once in a poll; with the next poll where it
    returns False, since it hasn't ended.
    """

    name: str
    run: Callable[[ResourcePoller[R], Poll[R]], bool]
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Resource(Generic[R]):
    """One resource of the API and how it is polled; times in seconds.

    `parse` reads one answer. `tiers` say how often campaigns of an age are read again, `interval` how often a
    poll looks for what is due, `stale_after` how long the data may be shown without a success. `jobs` follow
    the reading of the window, in order.
    """

    name: str
    parse: Callable[[Reply], Page[R]]
    tiers: tuple[Tier, ...]
    interval: float
    stale_after: float
    jobs: tuple[Job[R], ...]
    merge: Merge[R]


AnyResource: TypeAlias = Resource[Any]
