"""Finds out how a server reads what the vendor's page leaves open, by asking it.

Every probe makes a few small requests and compares what comes back with rows that are known; together they make
at most `MOST_REQUESTS`. Nothing is concluded where no row could tell the readings apart.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.api.model import Conversion, MessageStats, Query
from exporter.doctor.report import OK, UNKNOWN, WARNING, Reading, counted
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from exporter.api.model import Page, Reply

MOST_REQUESTS: Final = 60
"""Requests that one resource is asked at most."""

HOUR: Final = 3600
DAY: Final = 24 * HOUR
FURTHEST_ZONE: Final = 14 * HOUR
QUARTER: Final = 900
NOBODY_SENT: Final = 946_684_800
"""A second in which no campaign started and nothing was sent: the turn of 2000."""

_PAGE_SIZES: Final = (1000, 500, 100, 50, 10)
_RANGES: Final = (365, 90, 30, 14, 7, 3, 1)  # days
_IDS: Final = (100, 50, 20, 10, 5, 1)
_SMALL: Final = range(2, 10)  # below the documented default, so that no cap cuts them

Row = MessageStats | Conversion


@dataclass(frozen=True, slots=True)
class Probe:
    """A request of ours and its answer."""

    query: Query
    page: Page[Any]
    reply: Reply


class _Spent(Exception):  # noqa: N818 - an end, no error
    """All requests were used up."""


class ServerReader:
    """Asks one resource; `ask` makes one request without retries, or raises PollError."""

    def __init__(
        self, ask: Callable[[Query], tuple[Reply, Page[Any]]], *, now: int, per_page: int, page_parameter: str
    ) -> None:
        self._ask = ask
        self._now = now
        self._page_sizes = sorted({*_PAGE_SIZES, per_page}, reverse=True)
        self._page_parameter = page_parameter
        self._answers: list[Probe] = []
        self._refusal = ""
        self._per_page = _PAGE_SIZES[-1]
        self._days = 0
        self._rows: Sequence[Row] = ()
        self._is_cut = False
        self._zone = 0
        self._unit = "row"
        self.requests = 0

    def readings(self) -> tuple[Reading, ...]:
        """Try everything. Raises StoppedError, and PollError if not even the smallest request succeeds."""
        probes: dict[str, Callable[[], Reading]] = {
            "largest_per_page": self._largest_per_page,
            "longest_range": self._longest_range,
            "start_to_in_future": self._future,
            "zone": self._find_zone,
            "bounds": self._bounds,
            "per_page_counts": self._find_unit,
            "page_cap": self._cap_by_start,
            "page_cap_by_ids": self._cap_by_ids,
            "page_cap_by_send": self._cap_by_send,
            "send_filter": self._send_filter,
            "filters_combined": self._combination,
            "total_header": self._total,
            "page_parameter": self._pages,
            "order": self._order,
            "latency": self._latency,
        }
        return tuple(self._try(point, probe) for point, probe in probes.items())

    def _try(self, point: str, probe: Callable[[], Reading]) -> Reading:
        try:
            return probe()
        except _Spent:
            return Reading(point, UNKNOWN, f"not tried: {MOST_REQUESTS} requests were used up")

    # Asking

    def _put(self, query: Query) -> Probe | None:
        """Return the answer, or None if the request was refused or failed; `_refusal` says why."""
        if self.requests >= MOST_REQUESTS:
            raise _Spent
        self.requests += 1
        try:
            reply, page = self._ask(query)
        except PollError as error:
            self._refusal = _reason(error)
            return None
        self._answers.append(Probe(query, page, reply))
        return self._answers[-1]

    def _starts(self, first: int, last: int, per_page: int | None = None, page: int | None = None) -> Query:
        return Query(
            start_from=first + self._zone,
            start_to=last + self._zone,
            per_page=self._per_page if per_page is None else per_page,
            page=page,
        )

    def _sends(self, first: int, last: int) -> Query:
        return Query(send_from=first + self._zone, send_to=last + self._zone, per_page=self._per_page)

    def _all(self, per_page: int | None = None, page: int | None = None) -> Query:
        return self._starts(self._now - self._days * DAY, self._now, per_page, page)

    # Sizes and ranges

    def _largest_per_page(self) -> Reading:
        point, refused = "largest_per_page", ""
        for size in self._page_sizes:
            if self._put(self._starts(self._now - DAY, self._now, size)):
                self._per_page = size
                return self._largest(point, str(size), refused, {"per_page": size})
            refused = self._refusal
        return Reading(point, UNKNOWN, f"every size is refused: {refused}", WARNING)

    def _longest_range(self) -> Reading:
        point, refused = "longest_range", ""
        for days in _RANGES:
            answer = self._put(self._starts(self._now - days * DAY, self._now))
            if answer is not None:
                self._days, self._rows = days, answer.page.rows
                return self._largest(point, counted(days, "day"), refused, {"days": days})
            refused = self._refusal
        return Reading(point, UNKNOWN, f"every range is refused: {refused}", WARNING)

    @staticmethod
    def _largest(point: str, value: str, refused: str, values: dict[str, Any]) -> Reading:
        values["refused"] = bool(refused)
        if refused:
            return Reading(point, value, f"more is refused: {refused}", values=values)
        return Reading(point, f"{value} or more", "the most that was tried is accepted", values=values)

    def _future(self) -> Reading:
        accepted = self._put(self._starts(self._now - HOUR, self._now + FURTHEST_ZONE)) is not None
        value, how = ("accepted", "14 h ahead") if accepted else ("refused", self._refusal)
        return Reading("start_to_in_future", value, how, values={"accepted": accepted})

    # Caps

    def _cap_by_start(self) -> Reading:
        starts = sorted(row.start for row in self._rows)
        middle = math.floor(starts[len(starts) // 2]) if starts else self._now
        first, last = self._now - self._days * DAY, self._now
        halves = (self._starts(first, middle), self._starts(middle, last))
        reading = self._cap("page_cap", self._wide(), halves)
        self._is_cut = bool(reading.values.get("is_cut"))
        return reading

    def _cap_by_send(self) -> Reading:
        first, last, middle = self._now - 14 * DAY, self._now, self._now - 2 * DAY
        first = max(first, self._now - self._days * DAY)
        answer = self._put(self._sends(first, last))
        if answer is None:
            return Reading("page_cap_by_send", UNKNOWN, f"refused: {self._refusal}")
        return self._cap("page_cap_by_send", answer, (self._sends(first, middle), self._sends(middle, last)))

    def _wide(self) -> Probe | None:
        """Return the answer that has all the rows that are known."""
        return next((one for one in reversed(self._answers) if one.page.rows is self._rows), None)

    def _cap(self, point: str, whole: Probe | None, halves: tuple[Query, Query]) -> Reading:
        """Say whether an answer was cut: its halves then have rows that it lacks."""
        size = 0 if whole is None else whole.page.size
        if whole is None or not size:
            return Reading(point, UNKNOWN, "no rows to try it with")
        asked, rows = whole.query.per_page, counted(_units(whole.page.rows)[self._unit], self._unit)
        how = f"a request for {asked} returned {_words(_units(whole.page.rows))}"
        if _units(whole.page.rows)[self._unit] >= asked:
            return Reading(point, f"none up to {asked}", how, values={"largest_answer": size, "is_cut": False})
        parts = [answer.page for query in halves if (answer := self._put(query)) is not None]
        known = _keys(whole.page.rows).union(*(_keys(part.rows) for part in parts))
        largest = max(size, *(part.size for part in parts), 0)
        is_cut = len(known) > len(_keys(whole.page.rows))
        values = {"largest_answer": largest, "is_cut": is_cut}
        if is_cut:
            return Reading(
                point, rows, f"{how}, and its halves have {counted(len(known), 'row')}", values=values
            )
        return Reading(point, f"at least {rows}", f"{how}, and its halves no more", values=values)

    def _find_unit(self) -> Reading:
        point = "per_page_counts"
        number = _telling_size(self._rows)
        if number is None:
            return Reading(point, UNKNOWN, "too few campaigns with several rows or channels to tell")
        answer = self._put(self._all(number))
        if answer is None:
            return Reading(point, UNKNOWN, f"refused: {self._refusal}")
        found, expected = _units(answer.page.rows), _rows_by_unit(self._rows, number)
        how = f"perPage {number} returned {_words(found)}"
        units = [unit for unit, n in found.items() if n == number and expected[unit] == found["row"]]
        if not units:
            level = WARNING if found["row"] > number else OK
            return Reading(point, "nothing" if level == WARNING else UNKNOWN, how, level, {"unit": None})
        names = {"row": "rows", "campaign": "campaigns", "channel": "campaigns and channels"}
        self._unit = units[0]
        value = " or ".join(names[unit] for unit in units)
        return Reading(point, value, how, values={"unit": names[units[0]] if len(units) == 1 else None})

    def _cap_by_ids(self) -> Reading:
        point, refused = "page_cap_by_ids", ""
        known = list(dict.fromkeys(row.campaign_id for row in self._rows))
        for number in _IDS:
            ids = tuple(known[:number])
            if not ids:
                return Reading(point, UNKNOWN, "no campaigns to ask for")
            if len(known) < number and number != _IDS[0] and refused == "":
                continue
            answer = self._put(Query(campaign_ids=ids, per_page=self._per_page))
            if answer is not None:
                return self._judge_ids(ids, answer, refused)
            refused = self._refusal
        return Reading(point, UNKNOWN, f"even one campaign is refused: {refused}", WARNING)

    def _judge_ids(self, ids: tuple[int, ...], answer: Probe, refused: str) -> Reading:
        point = "page_cap_by_ids"
        come = {row.campaign_id for row in answer.page.rows}
        lacking = [number for number in ids if number not in come]
        values = {"ids": len(ids), "refused": bool(refused), "largest_answer": answer.page.size}
        more = f"; more campaigns are refused: {refused}" if refused else ""
        rows = counted(_units(answer.page.rows)[self._unit], self._unit)
        asked = f"a request for {counted(len(ids), 'campaign')} returned {counted(answer.page.size, 'row')}"
        if not lacking:
            return Reading(point, f"at least {rows}", asked + more, values=values)
        pair = self._put(Query(campaign_ids=tuple(lacking[:2]), per_page=self._per_page))
        missing = f"{asked} of {counted(len(come), 'campaign')}{more}"
        if pair is not None and {row.campaign_id for row in pair.page.rows} >= set(lacking[:2]):
            return Reading(point, rows, missing, values=values | {"is_cut": True})
        return Reading(point, "only some of the campaigns count", missing, WARNING, values | {"is_cut": None})

    # What filters mean

    def _sample(self) -> Row | None:
        """Return the row with the fewest others that start near it, an older one rather than one that grows."""
        settled = [row for row in self._rows if row.start < self._now - HOUR] or list(self._rows)
        minutes = Counter(row.start // 60 for row in settled)
        return min(settled, key=lambda row: (minutes[row.start // 60], -row.start), default=None)

    def _finds(self, row: Row, query: Query) -> bool:
        answer = self._put(query)
        return answer is not None and any(
            (one.campaign_id, one.start) == (row.campaign_id, row.start) for one in answer.page.rows
        )

    def _find_zone(self) -> Reading:
        point, row = "zone", self._sample()
        if row is None:
            return Reading(point, UNKNOWN, "no campaign to look for")
        second = math.floor(row.start)
        if self._finds(row, self._starts(second - 1, second + 1)):
            return Reading(point, "UTC", "a campaign is found by its own start", values={"offset_seconds": 0})
        low, high = -FURTHEST_ZONE, FURTHEST_ZONE
        while high - low >= QUARTER:
            middle = (low + high) // 2 // QUARTER * QUARTER
            if self._finds(row, self._starts(second + low - 1, second + middle + 1)):
                high = middle
            else:
                low = middle + QUARTER
        self._zone = low
        if self._finds(row, self._starts(second - 1, second + 1)):
            again = self._put(self._all())  # the recent ones came too early, or not at all
            self._rows = self._rows if again is None else again.page.rows
            how = "a campaign is found by its own start in this zone, not in UTC"
            return Reading(point, f"UTC{low / HOUR:+g} h", how, WARNING, {"offset_seconds": low})
        self._zone = 0
        how = "a known campaign isn't found by its own start in any zone; see bounds"
        return Reading(point, UNKNOWN, how, WARNING, {"offset_seconds": None})

    def _bounds(self) -> Reading:
        point, row = "bounds", self._sample()
        if row is None:
            return Reading(point, UNKNOWN, "no campaign to look for")
        second = math.floor(row.start)
        if not self._finds(row, self._starts(second - 1, second + 1)):
            return self._odd_bounds(row, second)
        included = {
            "startFrom": self._finds(row, self._starts(second, second + 2)),
            "startTo": self._finds(row, self._starts(second - 2, second)),
        }
        words = {True: "inclusive", False: "exclusive"}
        value = ", ".join(f"{name} {words[is_in]}" for name, is_in in included.items())
        how = "a campaign was asked for with its start as each bound"
        if row.start % 1:
            how += "; starts have fractions of a second"
        values = {"from_inclusive": included["startFrom"], "to_inclusive": included["startTo"]}
        return Reading(point, value, how, values=values | {"fractions": bool(row.start % 1)})

    def _odd_bounds(self, row: Row, second: int) -> Reading:
        """Say what else bounds could mean where a campaign isn't found by its own start."""
        midnight = second // DAY * DAY
        if self._finds(row, self._starts(midnight, midnight + DAY)):
            how = "a campaign is found by the midnights around its start, not by its start"
            return Reading("bounds", "cut to days", how, WARNING, {"cut_to_days": True})
        if self._finds(row, self._starts(second - 1, self._now + FURTHEST_ZONE)):
            how = "a campaign is found with a much later startTo only"
            return Reading("bounds", "startTo bounds the end of a campaign", how, WARNING, {"to_is_end": True})
        return Reading("bounds", UNKNOWN, "a known campaign isn't found by its start", WARNING)

    def _send_filter(self) -> Reading:
        point = "send_filter"
        nothing = self._put(self._sends(NOBODY_SENT, NOBODY_SENT + 1))
        if nothing is None:
            return Reading(point, UNKNOWN, f"refused: {self._refusal}")
        if nothing.page.size:
            how = f"a second in which nothing was sent has {counted(nothing.page.size, 'row')}"
            return Reading(point, "ignored", how, WARNING, {"send_filter": "ignored"})
        biggest = sorted(self._rows, key=_measure, reverse=True)[:3]
        for row in biggest:
            total = sum(_measure(one) for one in self._rows if one.campaign_id == row.campaign_id)
            for seconds in (60, HOUR):
                first = math.floor(row.start) + self._zone
                query = Query(
                    send_from=first - 1,
                    send_to=first + seconds,
                    campaign_ids=(row.campaign_id,),
                    per_page=self._per_page,
                )
                answer = self._put(query)
                part = 0 if answer is None else sum(_measure(one) for one in answer.page.rows)
                how = f"a campaign of {total} has {part} in its first {seconds} s"
                if 0 < part < total:
                    return Reading(point, "restricts the counts", how, values={"send_filter": "restricts"})
                if part and part >= total:
                    return Reading(point, "selects campaigns", how, values={"send_filter": "selects"})
        return Reading(point, UNKNOWN, "no campaign whose sends could tell")

    def _combination(self) -> Reading:
        point = "filters_combined"
        first, last = self._now - self._days * DAY + self._zone, self._now + self._zone
        never = (NOBODY_SENT, NOBODY_SENT + 1)
        unsent = self._put(Query(first, last, *never, per_page=self._per_page))
        unstarted = self._put(Query(*never, first, last, per_page=self._per_page))
        if unsent is None or unstarted is None or not self._rows:
            return Reading(point, UNKNOWN, "refused, or no campaigns to try it with")
        if unsent.page.size and unstarted.page.size:
            value, how = "either is enough", "campaigns come that pass one filter and not the other"
        elif unsent.page.size:
            value, how = "start alone counts", "campaigns come that nothing was sent of in the range of sends"
        elif unstarted.page.size:
            value, how = "send alone counts", "campaigns come that didn't start in the range of starts"
        else:
            return Reading(
                point, "both must hold", "no campaign passes with one filter alone", values={"and": True}
            )
        return Reading(point, value, how, WARNING, {"and": False})

    # Pages

    def _total(self) -> Reading:
        point = "total_header"
        if all(one.page.total is None for one in self._answers):
            return Reading(point, "none", f"in {counted(len(self._answers), 'answer')}", values={"total": None})
        one = self._put(self._all(1))
        none = self._put(self._starts(NOBODY_SENT, NOBODY_SENT + 1, 1))
        if one is None or none is None or one.page.total is None or not self._rows:
            return Reading(point, UNKNOWN, "it doesn't stand in every answer, or there are no rows")
        total, known = one.page.total, _units(self._rows)
        how = f"perPage 1 says {total}, and known are {_words(known)}"
        value, kind = "contradicts the answers", "wrong"
        if total <= 1 < known["campaign"]:
            value, kind = "counts the page alone", "page"
        elif not none.page.size and none.page.total:
            value, how = "counts more than the answer", f"a range without rows has a total of {none.page.total}"
        elif not self._is_cut and total in known.values():
            kind = next(f"{unit}s" for unit, number in known.items() if number == total)
            value = f"counts all {kind}"
        elif self._is_cut and total >= min(known.values()):
            value, kind = "counts beyond the page", "beyond"
        return Reading(point, value, how, WARNING if kind == "wrong" else OK, {"total": kind})

    def _pages(self) -> Reading:
        point, name = "page_parameter", self._page_parameter
        size = min(3, len(self._rows) // 3)
        if not size:
            return Reading(point, UNKNOWN, "too few rows for two pages")
        first, second = self._put(self._all(size)), self._put(self._all(size, page=2))
        if first is None or second is None:
            return Reading(point, "none", f"{name}=2 is refused: {self._refusal}", values={"pages": False})
        keys = _keys(first.page.rows), _keys(second.page.rows)
        if keys[0] == keys[1]:
            return Reading(point, "none", f"{name}=2 returns the first page again", values={"pages": False})
        if keys[1] and not keys[0] & keys[1]:
            how = f"{name}=2 returns other rows; api.page_parameter: {name} reads pages instead of splitting"
            return Reading(point, name, how, values={"pages": True, "name": name})
        return Reading(point, UNKNOWN, f"{name}=2 returns some rows of the first page, or none")

    def _order(self) -> Reading:
        point = "order"
        starts = [row.start for row in self._rows]
        ids = [row.campaign_id for row in self._rows]
        if len(set(ids)) < 3:  # noqa: PLR2004 - two may stand in any order
            return Reading(point, UNKNOWN, "too few campaigns")
        orders = {
            "by start": starts == sorted(starts),
            "by start, latest first": starts == sorted(starts, reverse=True),
            "by id": ids == sorted(ids),
            "by id, highest first": ids == sorted(ids, reverse=True),
        }
        value = " and ".join(name for name, holds in orders.items() if holds) or "none"
        small = [self._put(self._all(5)) for _ in range(2)]
        again = [[row.group for row in one.page.rows] for one in small if one is not None]
        same = len(again) > 1 and again[0] == again[1]
        how = (
            f"{counted(len(ids), 'row')}; the same request twice returns {'the same' if same else 'other'} rows"
        )
        return Reading(point, value, how, values={"order": value, "stable": same})

    def _latency(self) -> Reading:
        point = "latency"
        timed = sorted((one.page.size, one.reply.seconds) for one in self._answers)
        if not timed:
            return Reading(point, UNKNOWN, "no answer")
        (fewest, fast), (most, slow) = timed[0], timed[-1]
        slowest = max(one.reply.seconds for one in self._answers)
        value = f"{fast:.3f} s for {counted(fewest, 'row')}, {slow:.3f} s for {counted(most, 'row')}"
        how = f"{len(timed)} answers, the slowest {slowest:.3f} s"
        return Reading(point, value, how, values={"slowest_seconds": round(slowest, 3), "largest_answer": most})


def _keys(rows: Iterable[Row]) -> set[Hashable]:
    return {(row.group, row.title) for row in rows}


def _units(rows: Iterable[Row]) -> dict[str, int]:
    """Count rows, campaigns, and campaigns and channels."""
    listed = list(rows)
    return {
        "row": len(listed),
        "campaign": len({row.campaign_id for row in listed}),
        "channel": len({(row.campaign_id, row.channel) for row in listed}),
    }


def _words(units: dict[str, int]) -> str:
    return ", ".join(counted(number, unit) for unit, number in units.items())


def _rows_by_unit(rows: Sequence[Row], number: int) -> dict[str, int]:
    """Return how many rows a first page of so many rows, campaigns, campaigns and channels has."""
    kinds: dict[str, list[Hashable]] = {
        "row": list(range(len(rows))),
        "campaign": [row.campaign_id for row in rows],
        "channel": [(row.campaign_id, row.channel) for row in rows],
    }
    return {
        unit: sum(one in set(list(dict.fromkeys(kind))[:number]) for one in kind)
        for unit, kind in kinds.items()
    }


def _telling_size(rows: Sequence[Row]) -> int | None:
    """Return the small perPage for which pages of rows, of campaigns and of channels differ most."""
    campaigns = len({row.campaign_id for row in rows})

    def differences(number: int) -> int:
        return len(set(_rows_by_unit(rows, number).values()))

    sizes = [number for number in _SMALL if number < campaigns]
    best = max(sizes, key=differences, default=None)
    return best if best is not None and differences(best) > 1 else None


def _reason(error: PollError) -> str:
    """Return why a request failed, without what it asked for."""
    said = str(error).partition("; the API says: ")[2]
    status = error.reason if error.status is None else f"HTTP {error.status}"
    return f"{status}, {said}" if said else status


def _measure(row: Row) -> int:
    """Return what a send filter could restrict of a row."""
    value = row.counts.sent if isinstance(row, MessageStats) else row.deposits
    return value if isinstance(value, int) else 0
