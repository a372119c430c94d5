"""What a server refuses, where it cuts, and what it counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from exporter.api.model import Query
from exporter.collect.server_limits import FURTHEST
from exporter.doctor.asker import DAY, HOUR, keys, units, words
from exporter.doctor.report import OK, UNKNOWN, WARNING, Reading, counted

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from exporter.doctor.asker import Asker, Probe, Row

RANGES: Final = (365, 90, 30, 14, 7, 3, 1)  # days
IDS: Final = (100, 50, 20, 10, 5, 1)
SMALL: Final = range(2, 10)  # below the documented default, so that no cap cuts them


def largest_per_page(server: Asker) -> Reading:
    """Find the largest perPage that isn't refused."""
    point, refused = "largest_per_page", ""
    for size in server.page_sizes:
        if server.put(server.starts(server.now - DAY, server.now, size)):
            server.per_page = size
            return _largest(point, str(size), refused, {"per_page": size})
        refused = server.refusal
    return Reading(point, UNKNOWN, f"every size is refused: {refused}", WARNING)


def longest_range(server: Asker) -> Reading:
    """Find the longest range of starts that isn't refused; its rows are those that other probes look for."""
    point, refused = "longest_range", ""
    for days in RANGES:
        answer = server.put(server.starts(server.now - days * DAY, server.now))
        if answer is not None:
            server.days, server.rows = days, answer.page.rows
            return _largest(point, counted(days, "day"), refused, {"days": days})
        refused = server.refusal
    return Reading(point, UNKNOWN, f"every range is refused: {refused}", WARNING)


def _largest(point: str, value: str, refused: str, values: dict[str, Any]) -> Reading:
    values["refused"] = bool(refused)
    if refused:
        return Reading(point, value, f"more is refused: {refused}", values=values)
    return Reading(point, f"{value} or more", "the most that was tried is accepted", values=values)


def start_to_in_future(server: Asker) -> Reading:
    """Say whether a startTo in the future is accepted."""
    accepted = server.put(server.starts(server.now - HOUR, server.now + FURTHEST)) is not None
    value, how = ("accepted", "14 h ahead") if accepted else ("refused", server.refusal)
    return Reading("start_to_in_future", value, how, values={"accepted": accepted})


def page_cap(server: Asker) -> Reading:
    """Find the cap of requests by start."""
    starts = sorted(row.start for row in server.rows)
    middle = math.floor(starts[len(starts) // 2]) if starts else server.now
    first, last = server.now - server.days * DAY, server.now
    halves = (server.starts(first, middle), server.starts(middle, last))
    reading = _cap(server, "page_cap", server.widest(), halves)
    server.is_cut = bool(reading.values.get("is_cut"))
    return reading


def page_cap_by_send(server: Asker) -> Reading:
    """Find the cap of requests by send."""
    first, last, middle = server.now - 14 * DAY, server.now, server.now - 2 * DAY
    first = max(first, server.now - server.days * DAY)
    answer = server.put(server.sends(first, last))
    if answer is None:
        return Reading("page_cap_by_send", UNKNOWN, f"refused: {server.refusal}")
    return _cap(server, "page_cap_by_send", answer, (server.sends(first, middle), server.sends(middle, last)))


def _cap(server: Asker, point: str, whole: Probe | None, halves: tuple[Query, Query]) -> Reading:
    """Say whether an answer was cut: its halves then have rows that it lacks."""
    size = 0 if whole is None else whole.page.size
    if whole is None or not size:
        return Reading(point, UNKNOWN, "no rows to try it with")
    asked, rows = whole.query.per_page, counted(units(whole.page.rows)[server.unit], server.unit)
    how = f"a request for {asked} returned {words(units(whole.page.rows))}"
    if units(whole.page.rows)[server.unit] >= asked:
        return Reading(point, f"none up to {asked}", how, values={"largest_answer": size, "is_cut": False})
    parts = [answer.page for query in halves if (answer := server.put(query)) is not None]
    known = keys(whole.page.rows).union(*(keys(part.rows) for part in parts))
    largest = max(size, *(part.size for part in parts), 0)
    is_cut = len(known) > len(keys(whole.page.rows))
    values = {"largest_answer": largest, "is_cut": is_cut}
    if is_cut:
        return Reading(point, rows, f"{how}, and its halves have {counted(len(known), 'row')}", values=values)
    return Reading(point, f"at least {rows}", f"{how}, and its halves no more", values=values)


def per_page_counts(server: Asker) -> Reading:
    """Say what perPage counts: pages of rows, campaigns, campaigns and channels differ."""
    point = "per_page_counts"
    number = _telling_size(server.rows)
    if number is None:
        return Reading(point, UNKNOWN, "too few campaigns with several rows or channels to tell")
    answer = server.put(server.everything(number))
    if answer is None:
        return Reading(point, UNKNOWN, f"refused: {server.refusal}")
    found, expected = units(answer.page.rows), _rows_by_unit(server.rows, number)
    how = f"perPage {number} returned {words(found)}"
    fitting = [unit for unit, n in found.items() if n == number and expected[unit] == found["row"]]
    if not fitting:
        level = WARNING if found["row"] > number else OK
        return Reading(point, "nothing" if level == WARNING else UNKNOWN, how, level, {"unit": None})
    names = {"row": "rows", "campaign": "campaigns", "channel": "campaigns and channels"}
    server.unit = fitting[0]
    value = " or ".join(names[unit] for unit in fitting)
    return Reading(point, value, how, values={"unit": names[fitting[0]] if len(fitting) == 1 else None})


def page_cap_by_ids(server: Asker) -> Reading:
    """Find how many campaigns can be asked for, and the cap of such requests."""
    point, refused = "page_cap_by_ids", ""
    known = list(dict.fromkeys(row.campaign_id for row in server.rows))
    for number in IDS:
        ids = tuple(known[:number])
        if not ids:
            return Reading(point, UNKNOWN, "no campaigns to ask for")
        if len(known) < number and number != IDS[0] and refused == "":
            continue
        answer = server.put(Query(campaign_ids=ids, per_page=server.per_page))
        if answer is not None:
            return _judge_ids(server, ids, answer, refused)
        refused = server.refusal
    return Reading(point, UNKNOWN, f"even one campaign is refused: {refused}", WARNING)


def _judge_ids(server: Asker, ids: tuple[int, ...], answer: Probe, refused: str) -> Reading:
    point = "page_cap_by_ids"
    come = {row.campaign_id for row in answer.page.rows}
    lacking = [number for number in ids if number not in come]
    values = {"ids": len(ids), "refused": bool(refused), "largest_answer": answer.page.size}
    more = f"; more campaigns are refused: {refused}" if refused else ""
    rows = counted(units(answer.page.rows)[server.unit], server.unit)
    asked = f"a request for {counted(len(ids), 'campaign')} returned {counted(answer.page.size, 'row')}"
    if not lacking:
        return Reading(point, f"at least {rows}", asked + more, values=values)
    pair = server.put(Query(campaign_ids=tuple(lacking[:2]), per_page=server.per_page))
    missing = f"{asked} of {counted(len(come), 'campaign')}{more}"
    if pair is not None and {row.campaign_id for row in pair.page.rows} >= set(lacking[:2]):
        return Reading(point, rows, missing, values=values | {"is_cut": True})
    return Reading(point, "only some of the campaigns count", missing, WARNING, values | {"is_cut": None})


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

    sizes = [number for number in SMALL if number < campaigns]
    best = max(sizes, key=differences, default=None)
    return best if best is not None and differences(best) > 1 else None
