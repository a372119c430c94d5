"""What `doctor` does: ask each account, find out how its server reads what is open, poll it once, and report.

Each resource gets one small request first, so that a token or an address that is wrong is told in seconds.
Nothing is written, the state file neither.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import CONVERSIONS, RESOURCES, STATISTICS
from exporter.api.model import Query
from exporter.api.parse import conversions_reader, statistics_reader
from exporter.api.refusal import http_date
from exporter.config.durations import format_duration
from exporter.doctor.asker import MOST_REQUESTS, Asker
from exporter.doctor.readings import read_server
from exporter.doctor.recording import Recorder, recording
from exporter.doctor.report import (
    OK,
    PROBLEM,
    WARNING,
    AccountReport,
    Finding,
    Findings,
    Report,
    Server,
    counted,
)
from exporter.doctor.state_check import examine_state
from exporter.errors import ConfigError, DeadlineError, InternalError, PollError
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.polling.account import AccountPoller
from exporter.polling.resource_poller import HOUR
from exporter.polling.threads import run_concurrently
from exporter.tracking.model import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Event

    from exporter.api.model import Page, Reply
    from exporter.config.model import AccountConfig, Config, PollConfig
    from exporter.status import ResourceStatus
    from exporter.tracking.state_file import State

log = logging.getLogger(__name__)

CLOCK_TOLERANCE: Final = 60.0
"""Seconds by which the API's clock may differ from ours without a warning."""
DOCUMENTED_PER_PAGE: Final = 10
"""The documented default of perPage."""


def examine(
    config: Config,
    *,
    wall: Callable[[], float],
    monotonic: Callable[[], float],
    record: Callable[[str], object] | None = None,
) -> Report:
    """Ask and poll every account once, all at the same time, and report. Nothing is written.

    `wall` gives seconds since the epoch, `monotonic` any that never jump. `record` is called with the recording
    of what the first account's server answered.
    """
    at = wall()
    state, state_findings = examine_state(config, wall)
    metrics = SelfMetrics()
    examinations = [
        AccountExamination(account, config, state=state, metrics=metrics, wall=wall, monotonic=monotonic)
        for account in config.accounts
    ]
    run_concurrently(partial(one.ask, resource) for one in examinations for resource in one.poller.intervals)
    run_concurrently(partial(one.learn, resource) for one in examinations for resource in one.answers)
    run_concurrently(partial(one.poller.poll, resource) for one in examinations for resource in one.answers)
    exposition = Exposition(
        metrics,
        per_message=config.metrics.per_message,
        created_timestamps=config.metrics.created_timestamps,
    )
    exposition.publish(Snapshot(tuple(one.poller.snapshot_without_holds() for one in examinations)))
    series = exposition.series()
    accounts = tuple(one.report(series.get(one.account.name, 0)) for one in examinations)
    if record is not None:
        record(recording(examinations[0].recorder.exchanges, at=at))
    for one in examinations:
        one.poller.stop()
    state.close()
    return Report(at, _configuration(config), state_findings, accounts)


def _configuration(config: Config) -> Findings:
    accounts = Finding("accounts", OK, counted(len(config.accounts), "account"))
    return (accounts, *(Finding("setting", WARNING, warning) for warning in config.warnings))


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer to the small request. `ahead` is how far the API's clock is ahead, if it sent the time."""

    rows: int
    seconds: float
    ahead: float | None
    unknown: frozenset[str]


class AccountExamination:
    """Asks one account, and says what was found. `ask` and `poller.poll` may run at the same time."""

    def __init__(
        self,
        account: AccountConfig,
        config: Config,
        *,
        state: State,
        metrics: SelfMetrics,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.account = account
        self._config = config
        self._wall = wall
        self._monotonic = monotonic
        self.poller = AccountPoller(
            account,
            config,
            state=state,
            metrics=metrics,
            publish=lambda _: None,
            wall=wall,
            monotonic=monotonic,
            save=False,
            connect=self._connect,
        )
        self._servers: dict[str, Server] = {}
        self.answers: dict[str, _Answer] = {}
        self._failures: dict[str, PollError] = {}
        self._asked: dict[str, float] = {}
        self._failed_attempts: dict[str, int] = {}

    def _connect(self, *, stop: Event, on_request: Callable[[str, str, float], None]) -> Recorder:
        client = ApiClient(
            ApiSettings.of(self.account, self._config.api),
            token=self.account.read_token,
            stop=stop,
            on_request=on_request,
            monotonic=self._monotonic,
        )
        self.recorder = Recorder(client)
        return self.recorder

    def ask(self, resource: str) -> None:
        """Ask for a page of what started within the last hour."""
        self._ask(resource)
        self._failed_attempts[resource] = round(self._status(resource).requests_per_hour) - 1

    def learn(self, resource: str) -> None:
        """Find out how the server reads what is open."""
        read = statistics_reader() if resource == STATISTICS else conversions_reader()

        def put(query: Query) -> tuple[Reply, Page[Any]]:
            deadline = self._monotonic() + self._config.api.timeout
            reply = self.recorder.get(resource, query, deadline=deadline, retries=0)
            return reply, read(reply)

        asker = Asker(
            put,
            now=math.floor(self._wall()),
            per_page=self._config.api.per_page,
            page_parameter=self._config.api.page_parameter or "page",
        )
        try:
            readings = read_server(asker)
        except Exception:
            log.exception("the server could not be looked at, by a fault of the exporter")
            readings = ()
        self._servers[resource] = Server(resource, readings, asker.requests, MOST_REQUESTS)
        self._asked[resource] = self._status(resource).requests_per_hour

    def _ask(self, resource: str) -> None:
        now = math.floor(self._wall())
        query = Query(start_from=now - 3600, start_to=now, per_page=DOCUMENTED_PER_PAGE)
        try:
            reply, page = self.poller.ask(resource, query)
            date = http_date(reply.headers.get("date", ""))
            # A Date has whole seconds; it was most probably written in the middle of the request
            ahead = None if date is None else date + 0.5 - (self._wall() - reply.seconds / 2)
            self.answers[resource] = _Answer(page.size, reply.seconds, ahead, page.unknown)
        except PollError as error:
            self._failures[resource] = error
        except Exception as error:
            log.exception("the request failed by a fault of the exporter")
            self._failures[resource] = InternalError(f"{type(error).__name__}; report this, with the log above")

    def report(self, series: int) -> AccountReport:
        """Say what was found; `series` is how many the account has."""
        findings = [self._token()]
        for resource in RESOURCES:
            findings += self._resource(resource)
        findings += [*self._learned(), *self._clock(), self._campaigns(series), self._requests()]
        servers = tuple(self._servers[resource] for resource in RESOURCES if resource in self._servers)
        return AccountReport(self.account.name, self.account.base_url, tuple(findings), servers)

    def _status(self, resource: str) -> ResourceStatus:
        return next(one for one in self.poller.status().resources if one.resource == resource)

    def _polled_with(self, resource: str) -> int:
        """Return how many requests the poll made: all within the last hour but those before it."""
        return round(self._status(resource).requests_per_hour - self._asked[resource])

    def _token(self) -> Finding:
        try:
            self.account.read_token()
        except ConfigError as error:
            return Finding("token", PROBLEM, f"{error}; put it there, or configure where it is")
        return Finding("token", OK, "can be read")

    def _resource(self, resource: str) -> list[Finding]:
        if resource not in self.poller.intervals:
            return [Finding("question", OK, "not asked: poll.conversions_every is null", resource)]
        if resource in self._failures:
            error = self._failures[resource]
            values = {"accepted": False, "reason": error.reason}
            return [Finding("question", PROBLEM, str(error), resource, values)]
        return [
            self._answered(resource),
            self._poll(resource),
            self._page_cap(resource),
            *self._drift(resource),
        ]

    def _answered(self, resource: str) -> Finding:
        answer, timeout = self.answers[resource], self._config.api.timeout
        values = {"accepted": True, "latency_seconds": round(answer.seconds, 3)}
        text = f"token accepted, answered in {answer.seconds:.3f} s"
        if answer.seconds > timeout / 2:
            text += f", which is close to api.timeout ({format_duration(timeout)}); raise that"
            return Finding("question", WARNING, text, resource, values)
        failed = self._failed_attempts[resource]
        if failed:
            text += (
                f", but only after {counted(failed, 'failed attempt')}; run this again, and check the network"
            )
            return Finding("question", WARNING, text, resource, {**values, "failed_attempts": failed})
        return Finding("question", OK, text, resource, values)

    def _poll(self, resource: str) -> Finding:
        status, requests = self._status(resource), self._polled_with(resource)
        seconds = status.last_duration or 0.0
        values: dict[str, Any] = {"seconds": round(seconds, 3), "requests": requests, "reason": status.reason}
        done = f"{counted(requests, 'request')} in {seconds:.1f} s"
        if status.error is None:
            return Finding("poll", OK, f"succeeded with {done}", resource, values)
        if status.reason == DeadlineError.reason:
            text = (
                f"not finished: {done} did not suffice for all campaigns. A running exporter goes on from there"
                " with its next poll; if it never gets through, raise api.deadline or api.requests_per_second"
            )
            return Finding("poll", WARNING, text, resource, values)
        return Finding("poll", PROBLEM, f"failed after {done}: {status.error}", resource, values)

    def _page_cap(self, resource: str) -> Finding:
        status, asked = self._status(resource), self._config.api.per_page
        values = {"page_cap": status.page_cap, "per_page": asked, "incomplete": status.incomplete}
        text = f"{status.page_cap} (api.per_page asks for {asked})"
        if status.incomplete and status.error is None:
            text += (
                "; there may be rows that could not be read: raise api.per_page, or ask InTarget for its"
                " largest value"
            )
            return Finding("page_cap", WARNING, text, resource, values)
        return Finding("page_cap", OK, text, resource, values)

    def _drift(self, resource: str) -> list[Finding]:
        unknown = len(self.answers[resource].unknown)
        if not unknown:
            return []
        text = (
            f"the answers have {counted(unknown, 'field')} that InTarget's documentation doesn't; the metrics"
            " are right, but look for a newer version of the exporter"
        )
        return [Finding("fields", WARNING, text, resource, {"unknown_fields": unknown})]

    def _learned(self) -> list[Finding]:
        """Say what the poll, or the running exporter before it, has learned of the server."""
        learned = self.poller.status().learned
        text = "; ".join(f"{name}: {value}" for name, value in learned)
        return [Finding("learned", OK, text, values={"learned": dict(learned)})] if learned else []

    def _clock(self) -> list[Finding]:
        if not self.answers:
            return []  # nothing to compare with, and that is reported already
        told = [answer.ahead for answer in self.answers.values() if answer.ahead is not None]
        if not told:
            text = "the API's answers have no date to compare with; check this machine's clock with timedatectl"
            return [Finding("clock", WARNING, text, values={"ahead_seconds": None})]
        ahead = min(told, key=abs)
        values = {"ahead_seconds": round(ahead, 1)}
        direction = "ahead of" if ahead > 0 else "behind"
        text = f"the API's is {abs(ahead):.0f} s {direction} this machine's"
        if abs(ahead) > CLOCK_TOLERANCE:
            text += "; check this one with timedatectl, and if it is right tell InTarget"
            return [Finding("clock", WARNING, text, values=values)]
        if abs(ahead) < 1:
            text = "the API's agrees with this machine's"
        return [Finding("clock", OK, text, values=values)]

    def _campaigns(self, series: int) -> Finding:
        window = format_duration(self._config.poll.window)
        if not self._succeeded(STATISTICS):
            text = "not known, since the statistics were not read to the end; see above"
            return Finding("campaigns", WARNING, text, values={"campaigns": None, "series": None})
        status = self.poller.status()
        values = {"campaigns": status.campaigns, "series": series, "dropped": status.dropped}
        text = f"{counted(status.campaigns, 'campaign')}, {series} series"
        if status.dropped:
            text += f"; {status.dropped} more are not exported: raise metrics.max_campaigns if they matter"
            return Finding("campaigns", WARNING, text, values=values)
        if not status.campaigns:
            text += (
                f"; if some did start within poll.window ({window}), the token is another account's: check it"
            )
            return Finding("campaigns", WARNING, text, values=values)
        return Finding("campaigns", OK, text, values=values)

    def _succeeded(self, resource: str) -> bool:
        return resource in self.answers and self._status(resource).error is None

    def _requests(self) -> Finding:
        poll, limit = self._config.poll, self._config.api.requests_per_second * HOUR
        if not all(self._succeeded(resource) for resource in self.poller.intervals):
            text = "not estimated, since not all polls succeeded; see above"
            return Finding("requests", WARNING, text, values={"requests_per_hour": None})
        now = self._wall()
        ages = {one.campaign_id: now - one.start for one in self.poller.snapshot_without_holds().campaigns}
        requests = self._polled_with(STATISTICS)
        hourly = statistics_per_hour(poll, requests, tuple(ages.values()))
        text = (
            f"the {requests} of this poll of the statistics, shared among the ages in poll.refresh"
            " by their campaigns, at least 1 each, at their intervals"
        )
        if poll.conversions_every is not None:
            count = self._polled_with(CONVERSIONS)
            hourly += count * HOUR / poll.conversions_every
            text += f", and the {count} of the conversions every {format_duration(poll.conversions_every)}"
        values = {"requests_per_hour": round(hourly)}
        text = f"about {round(hourly)} an hour in the steady state: {text}"
        if hourly > limit:
            text += (
                f". api.requests_per_second allows {round(limit)}, so polls will lag: raise it if InTarget"
                " agrees, or lengthen the intervals"
            )
            return Finding("requests", WARNING, text, values=values)
        return Finding("requests", OK, text, values=values)


def statistics_per_hour(poll: PollConfig, requests: int, ages: Sequence[float]) -> float:
    """Estimate how many requests an hour the statistics cost, from a poll of everything that took `requests`.

    `ages` are the campaigns', in seconds. Each tier of `poll.refresh` is taken to cost its campaigns' share of
    the requests, and at least one; so are the campaigns older than the window, with the search for them. That
    is rather too much: a poll that knows the page cap, and where the campaigns are, needs fewer requests.
    """
    intervals: list[tuple[float, float]] = []
    for index, tier in enumerate(poll.refresh):
        last = index == len(poll.refresh) - 1
        intervals.append((poll.window if last else min(tier.younger_than, poll.window), tier.every))
        if intervals[-1][0] >= poll.window:
            break
    if poll.still_sending is not None:
        intervals.append((math.inf, poll.still_sending.every))
    hourly, younger = 0.0, -math.inf
    for oldest, every in intervals:
        share = sum(younger < age <= oldest for age in ages) / max(1, len(ages))
        hourly += max(1.0, requests * share) * HOUR / every
        younger = oldest
    return hourly
