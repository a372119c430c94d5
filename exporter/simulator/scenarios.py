"""The named worlds that the simulator can play, and what they are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from exporter.simulator.faults import Correction, Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.simulator.model import Campaign

Envelope: TypeAlias = Literal["object", "array", "data", "items", "nested", "keyed"]
Offset: TypeAlias = Literal["+00", "+00:00", "Z", ""]
Order: TypeAlias = Literal["start", "start_desc", "id", "shuffled"]
Combine: TypeAlias = Literal["and", "send_wins", "start_wins"]
Unit: TypeAlias = Literal["rows", "campaigns", "channels"]
Total: TypeAlias = Literal["none", "true", "page", "all"]
Bounds: TypeAlias = Literal["times", "days", "end"]
IncidentKind: TypeAlias = Literal["bounce", "complaint", "unsubscribe", "failed", "delivery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looseness:
    """Which of the readings that the vendor's page leaves open the simulated service follows.

    `cap`: most units of one answer, whatever `perPage` asks for; None: no cap. `cap_by_ids` and `cap_by_send`
    are those of requests by campaignIds[] and by send; None: as `cap`. `unit`: what `perPage` and the caps
    count: rows, campaigns, or campaigns and channels.
    `envelope`: "object" is a bare object for exactly one row, else an array; "data" and "items" an object
    around the array, "nested" one around "data" and "items", "keyed" an object with numeric keys.
    `inclusive_from`, `inclusive_to`: whether a bound itself belongs to the range. `zone`: hours that the
    service adds to UTC before it compares times. `bounds`: "times" as they are, "days" cut to midnight, "end"
    has startTo bound the end of a campaign.
    `ids_considered`: how many of the campaignIds[] count, the first ones; None: all.
    `subsecond_starts`: starts have milliseconds. `strings`: statistics give their numbers as strings.
    `null_rate`, `invalid_rate`: the share of counts that are null, or no counts (-1, 1.5, true, "many").
    `opened_absent`: a channel without opens has no such field, rather than null.
    `unknown_fields`: rows have fields that the page doesn't know. `total`: whether X-Pagination-Total-Count
    is sent, and if it counts the units of the whole answer, of the page, or of all campaigns there are.
    `send_filter_restricts_counts`: sendFrom/sendTo count only messages sent in between, rather than select
    campaigns. `send_filter_ignored`: they do nothing. `filters_combine`: what holds if both a send and a start
    filter are given.
    `page_parameter`: the name of a parameter for pages that the vendor's page doesn't have; None: there is
    none. `unknown_ignored`: parameters that don't exist are passed over rather than refused.
    `clock_ahead`: seconds by which the service's Date is ahead.
    `gzip`: compressed for a client that accepts it. `chunked`: transfer encoding without a length.
    `longest_target`: a longer path and query is refused with 414, as common web servers do. Refused with
    `refusal` are a perPage above `largest_per_page`, a range of more than `longest_range` seconds, more than
    `most_ids` identifiers and, with `future_refused`, a startTo that lies in the future.
    `seconds_per_day`: how many seconds late the answer to a range of one day is.
    """

    cap: int | None = None
    cap_by_ids: int | None = None
    cap_by_send: int | None = None
    unit: Unit = "rows"
    envelope: Envelope = "data"
    inclusive_from: bool = True
    inclusive_to: bool = True
    zone: float = 0.0
    bounds: Bounds = "times"
    ids_considered: int | None = None
    subsecond_starts: bool = False
    strings: bool = False
    null_rate: float = 0.0
    invalid_rate: float = 0.0
    opened_absent: bool = False
    unknown_fields: bool = False
    offset: Offset = "+00"
    total: Total = "none"
    order: Order = "start"
    send_filter_restricts_counts: bool = False
    send_filter_ignored: bool = False
    filters_combine: Combine = "and"
    page_parameter: str | None = None
    unknown_ignored: bool = False
    clock_ahead: float = 0.0
    gzip: bool = False
    chunked: bool = False
    longest_target: int = 8000
    largest_per_page: int | None = None
    longest_range: float | None = None
    most_ids: int | None = None
    future_refused: bool = False
    refusal: int = 400
    seconds_per_day: float = 0.0

    def cap_of(self, *, by_ids: bool, by_start: bool) -> int | None:
        """Return the cap of one kind of request."""
        kind = self.cap_by_ids if by_ids else None if by_start else self.cap_by_send
        return self.cap if kind is None else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something goes wrong with campaigns of one channel, `start` seconds after the simulator's origin.

    With a `volume`, one campaign of so many messages is sent over `duration` seconds. Its share of hard
    bounces (`bounce`), complaints or unsubscribes per delivered message, failures per message (`failed`, a
    third of them as rejected), or messages that never arrive (`delivery`) rises over `onset_seconds` from the
    usual to `ratio`. Without, every planned campaign of the channel that starts within `duration` has this
    ratio throughout. All times are of the real clock, whatever the speed.
    """

    kind: IncidentKind
    channel: str = "Email"
    start: float = 60.0
    ratio: float = 0.12
    volume: int | None = 20_000
    duration: float = 360.0
    onset_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A world: which campaigns there are, what happens to them, and how the service tells of it.

    `per_day` campaigns start on a day on average, over `history_days` before the simulator's origin and ever
    after; `recurring` are older and send every day. `channels` are weights by API ``type``. Volumes are drawn
    log-uniformly. `dense` more campaigns start in one same second, every fourth day. `campaigns` stand beside
    the planned ones, and are served from their start on. `diurnal`: activity has days and nights.
    """

    name: str
    description: str
    per_day: float = 5.5
    history_days: float = 400.0
    recurring: int = 3
    channels: Mapping[str, float] = field(default_factory=lambda: {"Email": 0.6, "Push": 0.22, "SMS": 0.18})
    volume: tuple[int, int] = (50, 500_000)
    max_messages: int = 3
    dense: int = 0
    hostile: bool = False
    conversions: float = 0.7
    incidents: tuple[Incident, ...] = ()
    looseness: Looseness = field(default_factory=Looseness)
    faults: Faults = field(default_factory=Faults)
    campaigns: Sequence[Campaign] = ()
    diurnal: bool = True

    @classmethod
    def fixed(
        cls,
        campaigns: Sequence[Campaign],
        *,
        looseness: Looseness | None = None,
        faults: Faults | None = None,
    ) -> Scenario:
        """Make a world of just these campaigns. The list is kept, not copied: change it between requests."""
        return cls(
            name="fixed",
            description="an explicit list of campaigns",
            per_day=0,
            recurring=0,
            campaigns=campaigns,
            looseness=looseness or Looseness(),
            faults=faults or Faults(),
            diurnal=False,
        )


_MINUTE: Final = 60.0
_EVERY_TWENTY: Final = 20 * _MINUTE

_ALL: Final = (
    Scenario(name="calm", description="ordinary campaigns, nothing goes wrong"),
    Scenario(
        name="bounce-spike",
        description="after a minute an Email campaign of which 12 % hard-bounce is sent for six minutes",
        incidents=(Incident(kind="bounce", ratio=0.12),),
    ),
    Scenario(
        name="complaint-spike",
        description="after a minute an Email campaign with 0.3 % spam complaints is sent for six minutes",
        incidents=(Incident(kind="complaint", ratio=0.003, volume=60_000),),
    ),
    Scenario(
        name="unsubscribe-spike",
        description="after a minute an Email campaign that 4 % unsubscribe from is sent for six minutes",
        incidents=(Incident(kind="unsubscribe", ratio=0.04),),
    ),
    Scenario(
        name="delivery-collapse",
        description="after a minute an SMS campaign is sent for ten minutes, and 60 % never arrive",
        incidents=(Incident(kind="delivery", channel="SMS", ratio=0.6, duration=600.0),),
    ),
    Scenario(
        name="failures",
        description="after a minute a Push campaign of which 20 % fail or are rejected is sent for six minutes",
        incidents=(Incident(kind="failed", channel="Push", ratio=0.2),),
    ),
    Scenario(
        name="outage",
        description="two minutes after the start, and every twenty minutes, the service fails for five",
        faults=Faults(
            (
                Fault(kind="hang", rate=0.2, windows=((120.0, 420.0),), every=_EVERY_TWENTY, seconds=60.0),
                Fault(kind="server_error", windows=((120.0, 420.0),), every=_EVERY_TWENTY),
            )
        ),
    ),
    Scenario(
        name="token-revoked",
        description="two minutes after the start the token is refused, for good",
        faults=Faults((Fault(kind="unauthorized", windows=((120.0, math.inf),)),)),
    ),
    Scenario(
        name="rate-limited",
        description="every third request is refused with 429 and Retry-After: 2",
        faults=Faults((Fault(kind="rate_limited", rate=0.33, seconds=2.0),)),
    ),
    Scenario(
        name="corrections",
        description="counts are taken back: by one for a minute, later by 40 % and by 80 % for good",
        faults=Faults(
            corrections=(
                Correction(minus=1, windows=((60.0, 120.0),), every=5 * _MINUTE, share=0.5),
                Correction(
                    factor=0.6,
                    fields=frozenset({"opened", "clicked"}),
                    windows=((180.0, math.inf),),
                    share=0.1,
                ),
                Correction(factor=0.2, windows=((600.0, math.inf),), share=0.05),
            )
        ),
    ),
    Scenario(
        name="recurring",
        description="twelve campaigns that are months old and send every day, beside ordinary ones",
        recurring=12,
    ),
    Scenario(
        name="dense",
        description="every fourth day three hundred campaigns start in one same second; pages capped at 50",
        dense=300,
        history_days=60,
        looseness=Looseness(cap=50),
    ),
    Scenario(
        name="many-messages",
        description="campaigns of up to 120 messages, many of one title; pages capped at 50",
        per_day=2.0,
        max_messages=120,
        history_days=60,
        looseness=Looseness(cap=50),
    ),
    Scenario(
        name="capped",
        description="pages silently capped at 10 rows, bounds exclusive, starts with milliseconds",
        history_days=60,
        looseness=Looseness(cap=10, inclusive_from=False, inclusive_to=False, subsecond_starts=True),
    ),
    Scenario(
        name="channels",
        description="WhatsApp and Viber beside Email, SMS and Push",
        channels={"Email": 0.4, "Push": 0.2, "SMS": 0.2, "WhatsApp": 0.12, "Viber": 0.08},
    ),
    Scenario(
        name="slow",
        description="answers come three seconds late, or drip over four",
        faults=Faults((Fault(kind="drip", rate=0.3, seconds=4.0), Fault(kind="slow", seconds=3.0))),
    ),
    Scenario(
        name="garbage",
        description="hostile titles, strings and nulls for numbers, HTML and cut JSON for answers",
        hostile=True,
        looseness=Looseness(
            strings=True, null_rate=0.02, invalid_rate=0.005, unknown_fields=True, order="shuffled"
        ),
        faults=Faults(
            (
                Fault(kind="html200", rate=0.05),
                Fault(kind="cut_json", rate=0.05),
                Fault(kind="error200", rate=0.05),
                Fault(kind="cut_body", rate=0.05),
                Fault(kind="vanish", rate=0.1),
            )
        ),
    ),
    Scenario(
        name="strict",
        description="perPage over 100, ranges over 7 days and a startTo in the future are refused; true totals",
        history_days=60,
        looseness=Looseness(
            largest_per_page=100, longest_range=7 * 86_400.0, future_refused=True, refusal=422, total="true"
        ),
    ),
    Scenario(
        name="campaign-pages",
        description="pages of 20 campaigns, whatever their rows; pages by number; a total of the page alone",
        history_days=60,
        looseness=Looseness(
            cap=20, unit="campaigns", page_parameter="page", total="page", envelope="nested", order="id"
        ),
    ),
    Scenario(
        name="local-time",
        description="filters in UTC+3, send filters ignored, bounds exclusive, a clock that is 2 minutes ahead",
        history_days=60,
        looseness=Looseness(
            zone=3.0,
            send_filter_ignored=True,
            inclusive_from=False,
            inclusive_to=False,
            unknown_ignored=True,
            clock_ahead=120.0,
            cap=50,
            order="start_desc",
        ),
    ),
    Scenario(
        name="big",
        description="an account with about five thousand campaigns in a fortnight",
        per_day=360.0,
        history_days=30,
    ),
)

SCENARIOS: Final[Mapping[str, Scenario]] = {scenario.name: scenario for scenario in _ALL}
"""Every named scenario."""
