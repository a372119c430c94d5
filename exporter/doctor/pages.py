"""Totals, pages and the order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.doctor.asker import NOBODY_SENT, keys, units, words
from exporter.doctor.report import OK, UNKNOWN, WARNING, Reading, counted

if TYPE_CHECKING:
    from exporter.doctor.asker import Asker


def total_header(server: Asker) -> Reading:
    """Say what the total-count header counts."""
    point = "total_header"
    if all(one.page.total is None for one in server.answers):
        return Reading(point, "none", f"in {counted(len(server.answers), 'answer')}", values={"total": None})
    one = server.put(server.everything(1))
    none = server.put(server.starts(NOBODY_SENT, NOBODY_SENT + 1, 1))
    if one is None or none is None or one.page.total is None or not server.rows:
        return Reading(point, UNKNOWN, "it doesn't stand in every answer, or there are no rows")
    total, known = one.page.total, units(server.rows)
    how = f"perPage 1 says {total}, and known are {words(known)}"
    value, kind = "contradicts the answers", "wrong"
    if total <= 1 < known["campaign"]:
        value, kind = "counts the page alone", "page"
    elif not none.page.size and none.page.total:
        value, how = "counts more than the answer", f"a range without rows has a total of {none.page.total}"
    elif not server.is_cut and total in known.values():
        kind = next(f"{unit}s" for unit, number in known.items() if number == total)
        value = f"counts all {kind}"
    elif server.is_cut and total >= min(known.values()):
        value, kind = "counts beyond the page", "beyond"
    return Reading(point, value, how, WARNING if kind == "wrong" else OK, {"total": kind})


def page_parameter(server: Asker) -> Reading:
    """Say whether the server has pages, though its documentation doesn't."""
    point, name = "page_parameter", server.page_name
    size = min(3, len(server.rows) // 3)
    if not size:
        return Reading(point, UNKNOWN, "too few rows for two pages")
    first, second = server.put(server.everything(size)), server.put(server.everything(size, page=2))
    if first is None or second is None:
        return Reading(point, "none", f"{name}=2 is refused: {server.refusal}", values={"pages": False})
    once, again = keys(first.page.rows), keys(second.page.rows)
    if once == again:
        return Reading(point, "none", f"{name}=2 returns the first page again", values={"pages": False})
    if again and not once & again:
        how = f"{name}=2 returns other rows; api.page_parameter: {name} reads pages instead of splitting"
        return Reading(point, name, how, values={"pages": True, "name": name})
    return Reading(point, UNKNOWN, f"{name}=2 returns some rows of the first page, or none")


def order(server: Asker) -> Reading:
    """Say how rows are sorted, and whether the same request brings the same ones."""
    point = "order"
    starts = [row.start for row in server.rows]
    ids = [row.campaign_id for row in server.rows]
    if len(set(ids)) < 3:  # noqa: PLR2004 - two may stand in any order
        return Reading(point, UNKNOWN, "too few campaigns")
    orders = {
        "by start": starts == sorted(starts),
        "by start, latest first": starts == sorted(starts, reverse=True),
        "by id": ids == sorted(ids),
        "by id, highest first": ids == sorted(ids, reverse=True),
    }
    value = " and ".join(name for name, holds in orders.items() if holds) or "none"
    small = [server.put(server.everything(5)) for _ in range(2)]
    again = [[row.group for row in one.page.rows] for one in small if one is not None]
    same = len(again) > 1 and again[0] == again[1]
    how = f"{counted(len(ids), 'row')}; the same request twice returns {'the same' if same else 'other'} rows"
    return Reading(point, value, how, values={"order": value, "stable": same})


def latency(server: Asker) -> Reading:
    """Say how long small and large answers took."""
    point = "latency"
    timed = sorted((one.page.size, one.reply.seconds) for one in server.answers)
    if not timed:
        return Reading(point, UNKNOWN, "no answer")
    (fewest, fast), (most, slow) = timed[0], timed[-1]
    slowest = max(one.reply.seconds for one in server.answers)
    value = f"{fast:.3f} s for {counted(fewest, 'row')}, {slow:.3f} s for {counted(most, 'row')}"
    how = f"{len(timed)} answers, the slowest {slowest:.3f} s"
    return Reading(point, value, how, values={"slowest_seconds": round(slowest, 3), "largest_answer": most})
