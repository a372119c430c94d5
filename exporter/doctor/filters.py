"""What the filters of a server mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exporter.api.model import MessageStats, Query
from exporter.collect.filters import QUARTER
from exporter.collect.server_limits import FURTHEST
from exporter.doctor.asker import DAY, HOUR, NOBODY_SENT
from exporter.doctor.report import UNKNOWN, WARNING, Reading, counted

if TYPE_CHECKING:
    from exporter.doctor.asker import Asker, Row


def zone(server: Asker) -> Reading:
    """Find the zone in which the server reads the times of filters."""
    point, row = "zone", server.sample()
    if row is None:
        return Reading(point, UNKNOWN, "no campaign to look for")
    second = math.floor(row.start)
    if server.finds(row, server.starts(second - 1, second + 1)):
        return Reading(point, "UTC", "a campaign is found by its own start", values={"offset_seconds": 0})
    low, high = -FURTHEST, FURTHEST
    while high - low >= QUARTER:
        middle = (low + high) // 2 // QUARTER * QUARTER
        if server.finds(row, server.starts(second + low - 1, second + middle + 1)):
            high = middle
        else:
            low = middle + QUARTER
    server.zone = low
    if server.finds(row, server.starts(second - 1, second + 1)):
        again = server.put(server.everything())  # the recent ones came too early, or not at all
        server.rows = server.rows if again is None else again.page.rows
        how = "a campaign is found by its own start in this zone, not in UTC"
        return Reading(point, f"UTC{low / HOUR:+g} h", how, WARNING, {"offset_seconds": low})
    server.zone = 0
    how = "a known campaign isn't found by its own start in any zone; see bounds"
    return Reading(point, UNKNOWN, how, WARNING, {"offset_seconds": None})


def bounds(server: Asker) -> Reading:
    """Say whether the bounds of a range belong to it, or what else they mean."""
    point, row = "bounds", server.sample(on_the_second=True) or server.sample()
    if row is None:
        return Reading(point, UNKNOWN, "no campaign to look for")
    second = math.floor(row.start)
    if not server.finds(row, server.starts(second - 1, second + 1)):
        return _odd_bounds(server, row, second)
    if row.start != second:
        how = "starts have fractions of a second, so no bound meets one"
        return Reading(point, UNKNOWN, how, values={"fractions": True})
    included = {
        "startFrom": server.finds(row, server.starts(second, second + 2)),
        "startTo": server.finds(row, server.starts(second - 2, second)),
    }
    words = {True: "inclusive", False: "exclusive"}
    value = ", ".join(f"{name} {words[is_in]}" for name, is_in in included.items())
    how = "a campaign was asked for with its start as each bound"
    values = {"from_inclusive": included["startFrom"], "to_inclusive": included["startTo"], "fractions": False}
    return Reading(point, value, how, values=values)


def _odd_bounds(server: Asker, row: Row, second: int) -> Reading:
    """Say what else bounds could mean where a campaign isn't found by its own start."""
    midnight = second // DAY * DAY
    if server.finds(row, server.starts(midnight, midnight + DAY)):
        how = "a campaign is found by the midnights around its start, not by its start"
        return Reading("bounds", "cut to days", how, WARNING, {"cut_to_days": True})
    if server.finds(row, server.starts(second - 1, server.now + FURTHEST)):
        how = "a campaign is found with a much later startTo only"
        return Reading("bounds", "startTo bounds the end of a campaign", how, WARNING, {"to_is_end": True})
    return Reading("bounds", UNKNOWN, "a known campaign isn't found by its start", WARNING)


def send_filter(server: Asker) -> Reading:
    """Say whether a send filter selects campaigns, restricts their counts, or is ignored."""
    point = "send_filter"
    nothing = server.put(server.sends(NOBODY_SENT, NOBODY_SENT + 1))
    if nothing is None:
        return Reading(point, UNKNOWN, f"refused: {server.refusal}")
    if nothing.page.size:
        how = f"a second in which nothing was sent has {counted(nothing.page.size, 'row')}"
        return Reading(point, "ignored", how, WARNING, {"send_filter": "ignored"})
    biggest = sorted(server.rows, key=_measure, reverse=True)[:3]
    for row in biggest:
        total = sum(_measure(one) for one in server.rows if one.campaign_id == row.campaign_id)
        for seconds in (60, HOUR):
            first = math.floor(row.start) + server.zone
            query = Query(
                send_from=first - 1,
                send_to=first + seconds,
                campaign_ids=(row.campaign_id,),
                per_page=server.per_page,
            )
            answer = server.put(query)
            part = 0 if answer is None else sum(_measure(one) for one in answer.page.rows)
            how = f"a campaign of {total} has {part} in its first {seconds} s"
            if 0 < part < total:
                return Reading(point, "restricts the counts", how, values={"send_filter": "restricts"})
            if part and part >= total:
                return Reading(point, "selects campaigns", how, values={"send_filter": "selects"})
    return Reading(point, UNKNOWN, "no campaign whose sends could tell")


def filters_combined(server: Asker) -> Reading:
    """Say what holds where both a start and a send filter are given."""
    point = "filters_combined"
    first, last = server.now - server.days * DAY + server.zone, server.now + server.zone
    never = (NOBODY_SENT, NOBODY_SENT + 1)
    unsent = server.put(Query(first, last, *never, per_page=server.per_page))
    unstarted = server.put(Query(*never, first, last, per_page=server.per_page))
    if unsent is None or unstarted is None or not server.rows:
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


def _measure(row: Row) -> int:
    """Return what a send filter could restrict of a row."""
    value = row.counts.sent if isinstance(row, MessageStats) else row.deposits
    return value if isinstance(value, int) else 0
