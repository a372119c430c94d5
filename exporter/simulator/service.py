"""The simulated service: one request to one answer, without a socket.

It follows the vendor's page to the letter and refuses what that doesn't document. Where the page is open,
`Looseness` says which reading holds.
"""

from __future__ import annotations

import http
import json
import math
import random
import threading
import urllib.parse
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.simulator.faults import Fault, FaultKind
from exporter.simulator.model import FIELDS, FOREVER, Campaign, Goal, Message, Timeline
from exporter.simulator.paging import cut, page_size, wrap
from exporter.simulator.plan import Plan
from exporter.simulator.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exporter.simulator.scenarios import Incident, Looseness

PATHS: Final[Mapping[str, str]] = {
    "/rest/campaign/statistics": "statistics",
    "/rest/campaign/statistic-conversions": "conversions",
}
"""Endpoints by path."""

DEFAULT_PER_PAGE: Final = 10
DEMO_TOKEN: Final = "simulated-access-token"  # noqa: S105 - it opens nothing but the simulator
DEMO_SPEED: Final = 350.0
DEMO_HISTORY_DAYS: Final = 15.0

_DATES: Final = ("startFrom", "startTo", "sendFrom", "sendTo")
_IDS: Final = "campaignIds[]"
_TOKEN: Final = "access-token"  # noqa: S105 - the parameter's name
_JSON: Final = ("Content-Type", "application/json; charset=UTF-8")
_HTML: Final = ("Content-Type", "text/html; charset=UTF-8")
_INVALID: Final[tuple[object, ...]] = (-1, 1.5, True, "many", "-3", [], {})
_LOG_SIZE: Final = 10_000
_DAY: Final = 86_400.0

Row: TypeAlias = "dict[str, object]"
_Line: TypeAlias = "tuple[float, Campaign, int, Goal | None, int]"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, for the log: never its token. Bounds are seconds since the epoch."""

    number: int
    endpoint: str
    start_from: float | None = None
    start_to: float | None = None
    send_from: float | None = None
    send_to: float | None = None
    campaign_ids: tuple[int, ...] | None = None
    per_page: int = DEFAULT_PER_PAGE
    page: int = 1
    status: int = 0
    rows: int = 0
    fault: FaultKind | None = None

    @property
    def by_start(self) -> bool:
        """Whether it has a whole start filter."""
        return self.start_from is not None and self.start_to is not None

    @property
    def by_ids(self) -> bool:
        """Whether it has identifiers."""
        return self.campaign_ids is not None

    @property
    def longest_range(self) -> float:
        """How many seconds its longer range has; 0 without one."""
        starts = (self.start_to or 0.0) - (self.start_from or 0.0) if self.by_start else 0.0
        sends = (self.send_to or 0.0) - (self.send_from or 0.0) if self.by_send else 0.0
        return max(0.0, starts, sends)

    @property
    def by_send(self) -> bool:
        """Whether it has a whole send filter."""
        return self.send_from is not None and self.send_to is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back, and the transport fault to send it with."""

    status: int
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = (_JSON,)
    fault: Fault | None = None
    gzip: bool = False
    chunked: bool = False


class _RefusedError(Exception):
    """The request isn't a documented one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Simulator:
    """A simulated InTarget account. Safe to use from several threads.

    `clock` gives seconds since the epoch. `origin` is when the scenario begins (default: now), `speed` how much
    faster than the clock campaigns are started and grow after it. `token` None: none is needed.
    `looseness`, `faults` and `token` are the scenario's and may be replaced at any time, as may the fields of
    fixed campaigns. `requests` counts requests by endpoint, `log` holds the last ten thousand.
    """

    def __init__(
        self,
        seed: int,
        clock: Callable[[], float],
        scenario: Scenario,
        token: str | None = DEMO_TOKEN,
        *,
        speed: float = 1.0,
        origin: float | None = None,
    ) -> None:
        self.seed = seed
        self.clock = clock
        self.scenario = scenario
        self.token = token
        self.origin = clock() if origin is None else origin
        self.looseness = scenario.looseness
        self.faults = scenario.faults
        self.requests: Counter[str] = Counter()
        self.log: deque[Asked] = deque(maxlen=_LOG_SIZE)
        self._timeline = Timeline(self.origin, speed, scenario.diurnal)
        self._plan = Plan(seed, scenario, self._timeline)
        self._injected: deque[Fault] = deque()
        self._number = 0
        self._lock = threading.RLock()

    def inject(self, fault: FaultKind | Fault, times: int = 1) -> None:
        """Let the next `times` authorised requests have this fault, whatever the scenario says."""
        made = fault if isinstance(fault, Fault) else Fault(kind=fault)
        with self._lock:
            self._injected.extend([made] * times)

    # What is true

    def campaigns(
        self, now: float | None = None, *, first: float = 0.0, last: float = FOREVER
    ) -> list[Campaign]:
        """Return the campaigns that have started by `now` (default: the clock), between `first` and `last`."""
        now = self.clock() if now is None else now
        with self._lock:
            return sorted(self._plan.between(first, last, now), key=lambda c: (c.start, c.campaign_id))

    def truth(
        self, now: float | None = None, *, first: float = 0.0, last: float = FOREVER
    ) -> dict[tuple[int, str], dict[str, int | None]]:
        """Return the cumulative counts by (campaign id, channel), before corrections and nulls.

        Channels are in lower case. `first` and `last` bound the starts, in seconds since the epoch. A field is
        None if no message of the campaign and channel has it. Values that are no counts are left out.
        """
        now = self.clock() if now is None else now
        result: dict[tuple[int, str], dict[str, int | None]] = {}
        with self._lock:
            for campaign in self._plan.between(first, last, now):
                age = self._age(campaign, now)
                for message in campaign.messages:
                    key = (campaign.campaign_id, _channel(campaign, message).lower())
                    total = result.setdefault(key, dict.fromkeys(FIELDS))
                    for name, value in message.counts(age, FOREVER).items():
                        if name in total and isinstance(value, int) and not isinstance(value, bool):
                            total[name] = (total[name] or 0) + value
        return result

    def truth_conversions(
        self, now: float | None = None, *, first: float = 0.0, last: float = FOREVER
    ) -> dict[tuple[int, str, str, str], tuple[int, Decimal, int]]:
        """Return deposits, their amount and converted users by (campaign id, channel, event, period)."""
        now = self.clock() if now is None else now
        result: dict[tuple[int, str, str, str], tuple[int, Decimal, int]] = {}
        with self._lock:
            for campaign in self._plan.between(first, last, now):
                age = self._age(campaign, now)
                for index, goal in enumerate(campaign.goals):
                    for message in campaign.messages:
                        channel = _channel(campaign, message).lower()
                        key = (campaign.campaign_id, channel, goal.event, goal.period)
                        deposits, amount, users = result.get(key, (0, Decimal(0), 0))
                        got = message.conversions(age, FOREVER, index)
                        result[key] = (
                            deposits + got.deposits,
                            amount + Decimal(got.amount),
                            users + got.users,
                        )
        return result

    def incidents(self) -> list[tuple[Incident, Campaign]]:
        """Return the scenario's incidents that have a volume, each with its campaign, started or not."""
        return list(self._plan.incidents)

    # What is answered

    def answer(self, target: str) -> Answer:
        """Answer a GET of this request target, path and query."""
        path, _, query = target.partition("?")
        with self._lock:
            now = self.clock()
            answer = self._answer(path, query, now)
        told = formatdate(now + self.looseness.clock_ahead, usegmt=True)
        return replace(answer, headers=(*answer.headers, ("Date", told)))

    def _answer(self, path: str, query: str, now: float) -> Answer:
        endpoint = PATHS.get(path)
        if endpoint is None:
            return refusal(404, "Not Found", "Page not found.")
        if len(path) + len(query) >= self.looseness.longest_target:
            return refusal(414, "URI Too Long", "The request is too long.")
        self._number += 1
        self.requests[endpoint] += 1
        asked = Asked(self._number, endpoint)
        fault = None
        try:
            parameters = _parameters(query)
            _authorise(parameters, self.token)
            fault = self._fault(endpoint, now)
            asked = _read(asked, parameters, self.looseness)
            _refuse(asked, self.looseness, now)
        except _RefusedError as refused:
            answer = refusal(refused.status, http.HTTPStatus(refused.status).phrase, str(refused))
            rows = 0
        else:
            answer, rows = self._page(asked, fault, now)
            late = self.looseness.seconds_per_day * asked.longest_range / _DAY
            if fault is not None:
                answer = _spoil(answer, fault)
            elif late:
                answer = replace(answer, fault=Fault(kind="slow", seconds=late))
        kind = fault.kind if fault else None
        self.log.append(replace(asked, status=answer.status, rows=rows, fault=kind))
        return answer

    def _fault(self, endpoint: str, now: float) -> Fault | None:
        if self._injected:
            return self._injected.popleft()
        return self.faults.find(
            seed=self.seed, number=self._number, since_origin=now - self.origin, endpoint=endpoint
        )

    def _page(self, asked: Asked, fault: Fault | None, now: float) -> tuple[Answer, int]:
        """Return the right answer, and how many rows it has."""
        loose = self.looseness
        lines = [] if fault and fault.kind == "empty" else list(self._lines(asked, now))
        if fault and fault.kind == "vanish":
            lines = [line for line in lines if not self._vanished(line[1], asked.number)]
        if loose.order == "start":
            lines.sort(key=lambda line: (line[0], line[1].campaign_id, line[4]))
        elif loose.order == "start_desc":
            lines.sort(key=lambda line: (-line[0], -line[1].campaign_id, line[4]))
        elif loose.order == "id":
            lines.sort(key=lambda line: (line[1].campaign_id, line[4]))
        else:
            random.Random(f"{self.seed}:{asked.number}").shuffle(lines)
        found = cut(
            lines,
            unit=loose.unit,
            size=page_size(asked.per_page, loose.cap_of(by_ids=asked.by_ids, by_start=asked.by_start)),
            page=asked.page,
            key=lambda line: (line[1].campaign_id, _channel(line[1], line[1].messages[line[2]])),
        )
        headers = [_JSON]
        if loose.total != "none":
            total = {"true": found.total, "page": found.units, "all": len(self.campaigns(now))}[loose.total]
            headers.append(("X-Pagination-Total-Count", str(total)))
        rows = [self._row(asked, line, now) for line in found.lines]
        body = json.dumps(wrap(rows, loose.envelope), ensure_ascii=True).encode()
        return Answer(200, body, tuple(headers), gzip=loose.gzip, chunked=loose.chunked), len(rows)

    def _vanished(self, campaign: Campaign, number: int) -> bool:
        rng = random.Random(f"{self.seed}:vanish:{number}:{campaign.campaign_id}")
        return rng.random() < 1 / 3

    def _lines(self, asked: Asked, now: float) -> Iterator[_Line]:
        """Yield what the rows of the whole answer are about: start, campaign, message, goal, ordinal."""
        for campaign in self._matching(asked, now):
            start = self._start(campaign)
            ordinal = 0
            for index, message in enumerate(campaign.messages):
                if self._filters_send(asked) and not self._sends(asked, campaign, message, now):
                    continue
                for goal in (None,) if asked.endpoint == "statistics" else campaign.goals:
                    yield start, campaign, index, goal, ordinal
                    ordinal += 1

    def _filters_start(self, asked: Asked) -> bool:
        ignored = self.looseness.filters_combine == "send_wins" and asked.by_send
        return asked.by_start and not ignored

    def _filters_send(self, asked: Asked) -> bool:
        loose = self.looseness
        ignored = loose.send_filter_ignored or (loose.filters_combine == "start_wins" and asked.by_start)
        return asked.by_send and not ignored

    def _matching(self, asked: Asked, now: float) -> Iterator[Campaign]:
        """Yield the campaigns that pass the filters, but for the sends of each message."""
        loose = self.looseness
        by_start = self._filters_start(asked)
        start_from, start_to = self._bound(asked.start_from), self._bound(asked.start_to)
        found: Iterable[Campaign]
        if asked.campaign_ids is not None:
            found = self._plan.by_ids(asked.campaign_ids[: loose.ids_considered], now)
        elif by_start:
            # A second wider on both sides: a start is compared as it is served, rounded or with milliseconds.
            found = self._plan.between(start_from - 1, FOREVER if loose.bounds == "end" else start_to + 1, now)
        elif self._filters_send(asked):
            found = self._plan.may_send_between(self._moment(asked.send_from), self._moment(asked.send_to), now)
        else:
            found = self._plan.between(0.0, FOREVER, now)
        for campaign in found:
            start = self._start(campaign)
            last = start
            if loose.bounds == "end":
                last = FOREVER if campaign.stop is None else campaign.stop
            after = start >= start_from if loose.inclusive_from else start > start_from
            before = last <= start_to if loose.inclusive_to else last < start_to
            if not by_start or (after and before):
                yield campaign

    def _moment(self, text: float | None) -> float:
        """Return the moment that the service takes a time of a request for."""
        return (text or 0.0) - 3600 * self.looseness.zone

    def _bound(self, text: float | None) -> float:
        """Return the same for a bound of starts, which may be cut to midnight."""
        if self.looseness.bounds == "days":
            text = (text or 0.0) // _DAY * _DAY
        return self._moment(text)

    def _send_ages(self, asked: Asked, campaign: Campaign, now: float) -> tuple[float, float]:
        """Return between which ages of the campaign messages have to be sent to pass the send filter."""
        first = min(self._moment(asked.send_from), now)
        last = min(self._moment(asked.send_to), now)
        if self.looseness.inclusive_to and last < now:
            last = min(now, last + 1)  # whole seconds: the last one belongs to the range with all its sends
        if not self.looseness.inclusive_from:
            first = min(now, first + 1)
        return self._age(campaign, first), self._age(campaign, last)

    def _sends(self, asked: Asked, campaign: Campaign, message: Message, now: float) -> bool:
        first, last = self._send_ages(asked, campaign, now)
        return message.sent_between(first, last)

    def _start(self, campaign: Campaign) -> float:
        """Return the start as it is served: whole seconds, or with milliseconds."""
        if not self.looseness.subsecond_starts:
            return math.floor(campaign.start)
        if campaign.start % 1:
            return math.floor(campaign.start * 1000) / 1000
        return campaign.start + campaign.campaign_id * 613 % 1000 / 1000

    def _age(self, campaign: Campaign, clock: float) -> float:
        return self._timeline.progress(clock) - self._timeline.progress(campaign.start)

    def _row(self, asked: Asked, line: _Line, now: float) -> Row:
        start, campaign, index, goal, _ = line
        message = campaign.messages[index]
        age = self._age(campaign, now)
        head: Row = {
            "campaign_id": campaign.campaign_id,
            "message_title": message.title,
            "type": _channel(campaign, message),
            "campaign_start_at": self._time(start),
        }
        restricted = self.looseness.send_filter_restricts_counts and self._filters_send(asked)
        cuts = self._send_ages(asked, campaign, now) if restricted else (-1.0, FOREVER)
        values: dict[str, object]
        if goal is None:
            values = self._counts(campaign, message, age, cuts, now)
        else:
            position = campaign.goals.index(goal)
            got = message.conversions(age, cuts[1], position) - message.conversions(age, cuts[0], position)
            head["campaign_stop_at"] = None if campaign.stop is None else self._time(campaign.stop)
            head["campaign_name"] = campaign.name
            head["conversion_event"] = goal.event
            head["conversion_period"] = goal.period
            values = {
                "deposits_count": str(got.deposits),
                "deposits_amount": got.amount,
                "converted_users": str(got.users),
            }
        row = {**head, **self._damaged(f"{campaign.campaign_id}:{index}:{goal}:{int(now)}", values)}
        if self.looseness.unknown_fields:
            row["segment_hash"] = f"{campaign.campaign_id:x}"
        return row

    def _counts(
        self, campaign: Campaign, message: Message, age: float, cuts: tuple[float, float], now: float
    ) -> dict[str, object]:
        values: dict[str, object] = dict(message.counts(age, cuts[1]))
        if cuts[0] >= 0:
            before = message.counts(age, cuts[0])
            for name, value in values.items():
                earlier = before.get(name)
                if isinstance(value, int) and isinstance(earlier, int):
                    values[name] = value - earlier
        for correction in self.faults.corrections:
            if correction.applies(
                seed=self.seed,
                since_origin=now - self.origin,
                campaign_id=campaign.campaign_id,
                channel=_channel(campaign, message),
            ):
                values = correction.correct(values)
        if self.looseness.opened_absent and values.get("opened", 0) is None:
            del values["opened"]
        if self.looseness.strings:
            values = {
                name: str(value) if isinstance(value, int) and not isinstance(value, bool) else value
                for name, value in values.items()
            }
        return values

    def _damaged(self, key: str, values: dict[str, object]) -> dict[str, object]:
        """Return the values with some of them null or invalid, the same all through one second."""
        loose = self.looseness
        if not loose.null_rate and not loose.invalid_rate:
            return values
        rng = random.Random(f"{self.seed}:damage:{key}")
        result = dict(values)
        for name in values:
            drawn = rng.random()
            if drawn < loose.null_rate:
                result[name] = None
            elif drawn < loose.null_rate + loose.invalid_rate:
                result[name] = rng.choice(_INVALID)
        return result

    def _time(self, seconds: float) -> str:
        """Write a time as the vendor does: ``2025-03-17 10:04:21+00``, or as the options have it."""
        whole = math.floor(seconds)
        text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%d %H:%M:%S")
        milliseconds = round((seconds - whole) * 1000)
        if milliseconds:
            text += f".{milliseconds:03d}"
        return text + self.looseness.offset


def demo(clock: Callable[[], float], scenario: str = "calm", seed: int = 1) -> Simulator:
    """Make the simulator of ``--demo``: a fortnight of campaigns behind it, then time compressed.

    A new campaign starts about every 45 s and is sent within three minutes. Raises KeyError on an unknown name.
    """
    chosen = replace(SCENARIOS[scenario], history_days=DEMO_HISTORY_DAYS)
    return Simulator(seed, clock, chosen, DEMO_TOKEN, speed=DEMO_SPEED)


def _channel(campaign: Campaign, message: Message) -> str:
    return message.channel or campaign.channel


def refusal(status: int, name: str, message: str) -> Answer:
    """Return an error as the service words it."""
    body = {"name": name, "message": message, "code": 0, "status": status}
    return Answer(status, json.dumps(body).encode())


def _parameters(query: str) -> dict[str, list[str]]:
    """Split a query string. A space is %20: a plus sign stands for itself."""
    parameters: dict[str, list[str]] = {}
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        parameters.setdefault(urllib.parse.unquote(name), []).append(urllib.parse.unquote(value))
    return parameters


def _authorise(parameters: Mapping[str, list[str]], token: str | None) -> None:
    if token is not None and parameters.get(_TOKEN) != [token]:
        raise _RefusedError(401, "Your request was made with invalid credentials.")


def _refuse(asked: Asked, loose: Looseness, now: float) -> None:
    """Raise `_RefusedError` if the service has a limit that the request exceeds."""
    if loose.largest_per_page is not None and asked.per_page > loose.largest_per_page:
        raise _RefusedError(loose.refusal, f"perPage must be no greater than {loose.largest_per_page}.")
    if loose.longest_range is not None and asked.longest_range > loose.longest_range:
        raise _RefusedError(loose.refusal, f"A period may have {loose.longest_range / _DAY:g} days at most.")
    if loose.most_ids is not None and len(asked.campaign_ids or ()) > loose.most_ids:
        raise _RefusedError(loose.refusal, f"No more than {loose.most_ids} campaignIds[] are allowed.")
    if loose.future_refused and asked.by_start and (asked.start_to or 0.0) - 3600 * loose.zone > now:
        raise _RefusedError(loose.refusal, "startTo must not lie in the future.")


def _read(asked: Asked, parameters: Mapping[str, list[str]], loose: Looseness) -> Asked:
    """Read the documented parameters; raise `_RefusedError` on anything else."""
    unknown = set(parameters) - {*_DATES, _IDS, _TOKEN, "perPage", loose.page_parameter}
    if unknown and not loose.unknown_ignored:
        raise _RefusedError(400, f"Unknown parameters: {', '.join(sorted(unknown))}")
    for name, values in parameters.items():
        if name != _IDS and len(values) > 1:
            raise _RefusedError(400, f"Parameter given twice: {name}")
    start_from, start_to, send_from, send_to = (_date(parameters, name) for name in _DATES)
    asked = replace(
        asked,
        start_from=start_from,
        start_to=start_to,
        send_from=send_from,
        send_to=send_to,
        campaign_ids=_ids(parameters),
        per_page=_positive(parameters, "perPage", DEFAULT_PER_PAGE),
        page=_positive(parameters, loose.page_parameter, 1),
    )
    if not (asked.by_start or asked.by_send or asked.campaign_ids):
        raise _RefusedError(400, "Filter by startFrom and startTo, sendFrom and sendTo, or campaignIds[].")
    return asked


def _date(parameters: Mapping[str, list[str]], name: str) -> float | None:
    if name not in parameters:
        return None
    text = parameters[name][0]
    try:
        moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise _RefusedError(422, f"{name} is no date of the form YYYY-MM-DD HH:MM:SS.") from None
    return moment.timestamp()


def _ids(parameters: Mapping[str, list[str]]) -> tuple[int, ...] | None:
    if _IDS not in parameters:
        return None
    values = parameters[_IDS]
    if not all(value.isascii() and value.isdigit() for value in values):
        raise _RefusedError(422, "campaignIds[] must be integers.")
    return tuple(int(value) for value in values)


def _positive(parameters: Mapping[str, list[str]], name: str | None, default: int) -> int:
    value = str(default) if name is None else parameters.get(name, [str(default)])[0]
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise _RefusedError(422, f"{name} must be a positive integer.")
    return int(value)


_REPLACED: Final[Mapping[FaultKind, Answer]] = {
    "server_error": refusal(500, "Internal Server Error", "An internal server error occurred."),
    "unauthorized": refusal(401, "Unauthorized", "Your request was made with invalid credentials."),
    "forbidden": refusal(403, "Forbidden", "You are not allowed to perform this action."),
    "redirect": Answer(302, b"", (_HTML, ("Location", "/login"))),
    "html200": Answer(200, b"<!doctype html><title>Maintenance</title><h1>Back soon</h1>", (_HTML,)),
    "error200": replace(refusal(500, "Error", "Something went wrong."), status=200),
    "number200": Answer(200, b"0"),
}
"""Answers that take the place of the right one."""


def _spoil(answer: Answer, fault: Fault) -> Answer:
    """Return what the client gets instead of the right answer. Transport faults are left to the server."""
    if fault.kind in _REPLACED:
        return _REPLACED[fault.kind]
    if fault.kind == "rate_limited":
        refused = refusal(429, "Too Many Requests", "Rate limit exceeded.")
        return replace(refused, headers=(_JSON, ("Retry-After", str(math.ceil(fault.seconds)))))
    if fault.kind == "cut_json":
        return replace(answer, body=answer.body[: len(answer.body) // 2])
    if fault.kind == "huge":
        return Answer(200, b'{"data": "' + b"x" * fault.size + b'"}')
    return replace(answer, fault=fault)
