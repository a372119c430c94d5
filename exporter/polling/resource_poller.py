"""Reads one resource of one account: what is due of the window, then its other jobs."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import R, TimeRange
from exporter.collect.collector import Collector
from exporter.collect.evidence import DOCUMENTED_DEFAULT, Evidence, RowMap
from exporter.collect.ranges import subtract, union
from exporter.collect.refresh_plan import Rounds
from exporter.errors import InternalError, PollError, StoppedError
from exporter.logs import fields
from exporter.polling.poll import Poll
from exporter.status import ResourceStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.api.model import Page, Query, Reply
    from exporter.collect.ranges import Ranges
    from exporter.polling.client import Client
    from exporter.polling.resource import Job, Resource
    from exporter.polling.store import AccountStore

log = logging.getLogger(__name__)

HOUR: Final = 3600.0


class ResourcePoller(Generic[R]):
    """Reads one resource, and knows what is due, what the server has taught, and how the polls went.

    `largest_elsewhere` returns the size of the largest answer of the account's other resources. One poll at a
    time; `count_request` and `status` may be called meanwhile.
    """

    def __init__(
        self,
        resource: Resource[R],
        *,
        account: str,
        client: Client,
        store: AccountStore,
        window: float,
        per_page: int,
        concurrency: int,
        largest_elsewhere: Callable[[], int],
        on_page: Callable[[Page[R]], None],
    ) -> None:
        self.resource = resource
        self.name = resource.name
        self.account = account
        self.store = store
        self.rounds = Rounds(list(resource.tiers), window, resource.interval)
        self.evidence = Evidence()
        self.rows = RowMap()
        self.failure: PollError | None = None
        self.failed_jobs: dict[str, PollError] = {}
        self.polls = 0
        self.last_poll: float | None = None
        self.last_duration: float | None = None
        self.unproven_ids: frozenset[int] = frozenset()
        self.unproven_senders = False
        self._unproven: Ranges = ()
        self._begun = False
        self._succeeded_jobs: dict[str, float] = {}
        self._client = client
        self._per_page = per_page
        self._concurrency = concurrency
        self._largest_elsewhere = largest_elsewhere
        self._on_page = on_page
        self._requests = _RequestLog()

    # Reading

    def begin(self, *, now: float, began: float, deadline: float) -> Poll[R]:
        """Return a new poll, which may ask until `deadline` (monotonic, as `began`)."""

        def ask(query: Query) -> Page[R]:
            _, page = self.ask(query, deadline)
            self._on_page(page)
            return page

        def spawn() -> Collector[R]:
            return Collector(
                ask,
                self.evidence,
                self.rows,
                now=now,
                per_page=self._per_page,
                concurrency=self._concurrency,
                shared_most=self._largest_elsewhere,
            )

        return Poll(spawn, now=now, began=began)

    def ask(self, query: Query, deadline: float) -> tuple[Reply, Page[R]]:
        """Make one request; return the answer and what was read in it. Raises PollError, StoppedError."""
        reply = self._client.get(self.name, query, deadline=deadline)
        return reply, self.resource.parse(reply)

    def read(self, poll: Poll[R]) -> None:
        """Read what is due of the window, then run the jobs; only the window's failure is raised."""
        with self.store.lock:
            old = self.store.window.old_campaigns(poll.now)
        self.rows.forget_before(self.window(poll.now).first, old)
        self._read_window(poll)
        for job in self.resource.jobs:
            last, slack = self._succeeded_jobs.get(job.name), self.resource.interval / 2
            if last is None or poll.began - last >= job.every - slack:
                self._run(job, poll)

    def window(self, now: float) -> TimeRange:
        """Return the starts that are tracked at `now`."""
        return self.rounds.whole(now)

    def _read_window(self, poll: Poll[R]) -> None:
        """Read what is due; what was read stands also if that fails."""
        due = self.rounds.due(poll.now)
        collector = poll.collector()
        try:
            collector.by_start(due)
        except BaseException:
            proven = collector.collected.ranges
            self._begun = self._begun or bool(proven)
            self.rounds.read(proven)
            self._unproven = subtract(self._unproven, proven)
            raise
        self._begun = False
        self.rounds.read(due)
        unproven = union([*subtract(self._unproven, due), *subtract(due, collector.collected.ranges)])
        self._unproven = subtract(unproven, [TimeRange(0, self.window(poll.now).first - 1)])

    def _run(self, job: Job[R], poll: Poll[R]) -> None:
        """Run a job that the data don't depend on: its failure is told, and the poll goes on."""
        try:
            job.run(self, poll)
        except StoppedError:
            raise
        except PollError as error:
            failure = error
        except Exception as error:
            log.exception("job failed by a fault of the exporter", extra=fields(account=self.account))
            failure = internal(error)
        else:
            self._succeeded_jobs[job.name] = poll.began
            self.failed_jobs = {name: error for name, error in self.failed_jobs.items() if name != job.name}
            return
        self._succeeded_jobs.pop(job.name, None)  # due again with the next poll
        self.failed_jobs = self.failed_jobs | {job.name: failure}
        log.warning(
            "part of a poll failed",
            extra=fields(
                account=self.account,
                resource=self.name,
                part=job.name,
                reason=failure.reason,
                error=str(failure),
            ),
        )

    def read_by_ids(self, poll: Poll[R], ids: frozenset[int]) -> None:
        """Read campaigns that started before the window by their identifiers."""
        self.unproven_ids = ids
        collector = poll.collector()
        collector.by_ids(ids)
        self.unproven_ids = ids - collector.collected.ids

    def cover_starts(self, starts: Iterable[float]) -> Ranges:
        """Return what to read for these starts: their seconds, or all between if that takes fewer requests."""
        seconds = union(TimeRange(math.floor(start), math.floor(start)) for start in starts)
        between = TimeRange(seconds[0].first, seconds[-1].last)
        requests = self.rows.rows(between) / max(DOCUMENTED_DEFAULT, self.evidence.most)
        return (between,) if requests < len(seconds) else seconds

    # How it goes

    @property
    def succeeded(self) -> bool:
        """Whether there was a poll, and the last one succeeded."""
        return self.polls > 0 and self.failure is None

    @property
    def incomplete(self) -> bool:
        """Whether rows may exist, anywhere in the window, that could not be read."""
        return bool(
            self._begun or self._unproven or self.unproven_ids or self.unproven_senders or self.failed_jobs
        )

    @property
    def requests(self) -> int:
        """How many requests were ever sent."""
        return self._requests.total

    def ended(self, failure: PollError | None, *, at: float, seconds: float) -> None:
        """Note how a poll went that ended at `at` after some seconds."""
        self.polls += 1
        self.last_poll, self.last_duration, self.failure = at, seconds, failure

    def broke_down(self, failure: PollError, *, at: float) -> None:
        """Note that what a poll read was lost: everything is due again."""
        self.rounds.restart()
        self._succeeded_jobs.clear()
        self.evidence.unfinished.clear()
        self.polls += 1
        self.last_poll, self.failure = at, failure

    def count_request(self, at: float) -> None:
        """Note a request that was sent at `at` (monotonic); several threads send some."""
        self._requests.add(at)

    def status(self, *, last_success: float | None, now: float) -> ResourceStatus:
        """Say how it goes; `now` is monotonic."""
        failure = self.failure
        return ResourceStatus(
            resource=self.name,
            interval=self.resource.interval,
            polls=self.polls,
            last_poll=self.last_poll,
            last_success=last_success,
            last_duration=self.last_duration,
            error=None if failure is None else str(failure),
            reason=None if failure is None else failure.reason,
            incomplete=self.incomplete,
            failed_jobs={name: str(error) for name, error in self.failed_jobs.items()},
            requests_per_hour=float(self._requests.within(HOUR, now)),
            page_cap=self.evidence.cap(self._per_page),
        )

    # What is saved of the server

    @property
    def note_key(self) -> str:
        """The key under which `note` is saved."""
        return f"cap/{self.name}"

    def note(self) -> str:
        """Return what to save about the server."""
        return json.dumps([self.evidence.since, self.evidence.most, self.evidence.cut])

    def load_note(self, note: str | None) -> None:
        """Go on with what was saved about the server."""
        if note is not None:
            self.evidence.since, self.evidence.most, self.evidence.cut = json.loads(note)


class _RequestLog:
    """When requests were sent; at least of the last hour."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()
        self._times: deque[float] = deque()

    def add(self, at: float) -> None:
        with self._lock:
            self.total += 1
            self._times.append(at)
            while self._times[0] < at - HOUR:
                self._times.popleft()

    def within(self, seconds: float, now: float) -> int:
        with self._lock:
            return sum(1 for at in self._times if at > now - seconds)


def internal(error: Exception) -> InternalError:
    """Return the failure that a bug of ours is to a poll."""
    return InternalError(f"a fault of the exporter ({type(error).__name__}); its log says more")
