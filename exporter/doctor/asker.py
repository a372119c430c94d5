"""Requests to one resource, counted and limited, and what is known of its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from exporter.api.model import Conversion, MessageStats, Query
from exporter.doctor.report import counted
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from exporter.api.model import Page, Reply

MOST_REQUESTS: Final = 60
"""Requests that one resource is asked at most."""

HOUR: Final = 3600
DAY: Final = 24 * HOUR
NOBODY_SENT: Final = 946_684_800
"""A second in which no campaign started and nothing was sent: the turn of 2000."""

_PAGE_SIZES: Final = (1000, 500, 100, 50, 10)

Row = MessageStats | Conversion


@dataclass(frozen=True, slots=True)
class Probe:
    """A request and its answer."""

    query: Query
    page: Page[Any]
    reply: Reply


class SpentError(Exception):
    """All requests were used up."""


class Asker:
    """Asks one resource, and keeps what the probes before have found.

    `ask` makes one request without retries, or raises PollError; `now` is in whole seconds. `refusal` says why
    the last refused request was refused. `per_page` and `days` are the most that is accepted, `rows` those of
    the widest answer, which may be cut (`is_cut`); `zone` is what the server adds to UTC, in seconds, and
    `unit` what perPage counts.
    """

    def __init__(
        self, ask: Callable[[Query], tuple[Reply, Page[Any]]], *, now: int, per_page: int, page_parameter: str
    ) -> None:
        self._ask = ask
        self.now = now
        self.page_sizes = sorted({*_PAGE_SIZES, per_page}, reverse=True)
        self.page_name = page_parameter
        self.answers: list[Probe] = []
        self.refusal = ""
        self.per_page = _PAGE_SIZES[-1]
        self.days = 0
        self.rows: Sequence[Row] = ()
        self.is_cut = False
        self.zone = 0
        self.unit = "row"
        self.requests = 0

    def put(self, query: Query) -> Probe | None:
        """Return the answer, or None if the request was refused or failed. Raises SpentError."""
        if self.requests >= MOST_REQUESTS:
            raise SpentError
        self.requests += 1
        try:
            reply, page = self._ask(query)
        except PollError as error:
            self.refusal = _reason(error)
            return None
        self.answers.append(Probe(query, page, reply))
        return self.answers[-1]

    def starts(self, first: int, last: int, per_page: int | None = None, page: int | None = None) -> Query:
        """Return a request by start, in the server's zone."""
        return Query(
            start_from=first + self.zone,
            start_to=last + self.zone,
            per_page=self.per_page if per_page is None else per_page,
            page=page,
        )

    def sends(self, first: int, last: int) -> Query:
        """Return a request by send, in the server's zone."""
        return Query(send_from=first + self.zone, send_to=last + self.zone, per_page=self.per_page)

    def everything(self, per_page: int | None = None, page: int | None = None) -> Query:
        """Return a request for the longest range of starts that is accepted."""
        return self.starts(self.now - self.days * DAY, self.now, per_page, page)

    def widest(self) -> Probe | None:
        """Return the answer that has all the rows that are known."""
        return next((one for one in reversed(self.answers) if one.page.rows is self.rows), None)

    def sample(self, *, on_the_second: bool = False) -> Row | None:
        """Return the row with the fewest others that start near it, an older one rather than one that grows.

        `on_the_second`: only of those that start at a whole second.
        """
        rows = [row for row in self.rows if row.start.is_integer() or not on_the_second]
        settled = [row for row in rows if row.start < self.now - HOUR] or rows
        minutes = Counter(row.start // 60 for row in settled)
        return min(settled, key=lambda row: (minutes[row.start // 60], -row.start), default=None)

    def finds(self, row: Row, query: Query) -> bool:
        """Whether a request brings the campaign of this row."""
        answer = self.put(query)
        return answer is not None and any(
            (one.campaign_id, one.start) == (row.campaign_id, row.start) for one in answer.page.rows
        )


def _reason(error: PollError) -> str:
    """Return why a request failed, without what it asked for."""
    said = str(error).partition("; the API says: ")[2]
    status = error.reason if error.status is None else f"HTTP {error.status}"
    return f"{status}, {said}" if said else status


def keys(rows: Iterable[Row]) -> set[Hashable]:
    """Return what tells rows apart."""
    return {(row.group, row.title) for row in rows}


def units(rows: Iterable[Row]) -> dict[str, int]:
    """Count rows, campaigns, and campaigns and channels."""
    listed = list(rows)
    return {
        "row": len(listed),
        "campaign": len({row.campaign_id for row in listed}),
        "channel": len({(row.campaign_id, row.channel) for row in listed}),
    }


def words(found: dict[str, int]) -> str:
    """Return counted units in words."""
    return ", ".join(counted(number, unit) for unit, number in found.items())
