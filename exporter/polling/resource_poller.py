"""Reads one resource of one account: what is due of the window, then its other jobs."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import R
from exporter.collect.collector import Collector
from exporter.collect.refresh_plan import Rounds
from exporter.config.durations import format_duration
from exporter.errors import DeadlineError, InternalError, PollError, StoppedError
from exporter.logs import fields
from exporter.polling.poll import Poll
from exporter.status import ResourceStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.api.model import Page, Query, Reply, TimeRange
    from exporter.polling.client import Client
    from exporter.polling.resource import Job, Resource
    from exporter.polling.store import AccountStore

log = logging.getLogger(__name__)

HOUR: Final = 3600.0


class ResourcePoller(Generic[R]):
    """Reads one resource, and knows what is due, what the server has taught, and how the polls went.

    One poll at a time; `count_request` and `status` may be called meanwhile.
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
        pages: bool,
        on_page: Callable[[Page[R]], Page[R]],
    ) -> None:
        self.resource = resource
        self.name = resource.name
        self.account = account
        self.store = store
        self.rounds = Rounds(list(resource.tiers), window, resource.interval)
        self.failure: PollError | None = None
        self.failed_jobs: dict[str, PollError] = {}
        self.polls = 0
        self.last_poll: float | None = None
        self.last_duration: float | None = None
        self._succeeded_jobs: dict[str, float] = {}
        self._client = client
        self._per_page = per_page
        self._concurrency = concurrency
        self._pages = pages
        self._on_page = on_page
        self._requests = _RequestLog()
        self._begun = False
        self._unsettled: frozenset[int] = frozenset()
        self.load_note(None)

    # Reading

    def begin(self, *, now: float, began: float, deadline: float) -> Poll[R]:
        """Return a new poll, which may ask until `deadline` (monotonic, as `began`)."""

        def ask(query: Query) -> Page[R]:
            _, page = self.ask(query, deadline)
            return self._on_page(page)

        return Poll(self.collector.poll(ask, now=now, clock=began), now=now, began=began)

    def ask(self, query: Query, deadline: float) -> tuple[Reply, Page[R]]:
        """Make one request; return the answer and what was read in it. Raises PollError, StoppedError."""
        reply = self._client.get(self.name, query, deadline=deadline)
        return reply, self.resource.parse(reply)

    def read(self, poll: Poll[R]) -> None:
        """Read what is due of the window, then run the jobs; only the window's failure is raised."""
        window = poll.requests.window()
        has_begun = self._begun or bool(window.ranges or window.rows) or window.failure is None
        self._begun = self.rounds.unfinished and has_begun
        interrupted = isinstance(window.failure, DeadlineError) and window.ranges
        if (
            window.failure is not None and not interrupted
        ):  # what was read in time counts; the next poll goes on
            raise window.failure
        for job in self.resource.jobs:
            last, slack = self._succeeded_jobs.get(job.name), self.resource.interval / 2
            if last is None or poll.began - last >= job.every - slack:
                self._run(job, poll)
        self._unsettled = poll.unsettled

    def window(self, now: float) -> TimeRange:
        """Return the starts that are tracked at `now`."""
        return self.rounds.whole(now)

    def _run(self, job: Job[R], poll: Poll[R]) -> None:
        """Run a job that the data don't depend on: its failure is reported, and the poll goes on."""
        try:
            has_ended = job.run(self, poll)
        except StoppedError:
            raise
        except PollError as error:
            failure = error
        except Exception as error:
            log.exception("job failed by a fault of the exporter", extra=fields(account=self.account))
            failure = internal(error)
        else:
            self._succeeded_jobs[job.name] = poll.began if has_ended else -math.inf
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
        read = poll.requests.by_ids(ids)
        if read.failure is not None:
            raise read.failure

    # How it goes

    @property
    def succeeded(self) -> bool:
        """Whether there was a poll, and the last one succeeded."""
        return self.polls > 0 and self.failure is None

    @property
    def incomplete(self) -> bool:
        """Whether rows may exist, anywhere in the window, that could not be read."""
        return bool(self._begun or self.lacking or self.failed_jobs)

    @property
    def lacking(self) -> tuple[str, ...]:
        """What may be lacking, in words."""
        unsettled = f"{len(self._unsettled)} campaigns whose start was changed couldn't be read again"
        return (*self.collector.incomplete, *([unsettled] if self._unsettled else []))

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
        self.collector.restart()
        self._succeeded_jobs.clear()
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
            page_cap=self.collector.page_cap,
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        """Yield what else is worth knowing: what may be missing, and what runs besides the window."""
        yield from self.lacking
        for job in self.resource.jobs:
            if job.every:
                yield f"older campaigns ({job.name}) are looked for every {format_duration(job.every)}"

    # What is saved of the server

    @property
    def note_key(self) -> str:
        """The key under which `note` is saved."""
        return f"cap/{self.name}"

    def note(self) -> str:
        """Return what to save about the server."""
        return json.dumps(self.collector.save())

    def load_note(self, note: str | None) -> None:
        """Go on with what was saved about the server."""
        saved = None if note is None else json.loads(note)
        self.collector: Collector[R] = Collector(
            per_page=self._per_page,
            concurrency=self._concurrency,
            pages=self._pages,
            rounds=self.rounds,
            saved=saved if isinstance(saved, dict) else None,  # 0.1.0 saved a list
            known=self.store.window.known.rows(self.name),
        )


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
