"""Reads what the journal of one account doesn't have yet, in the order in which it is needed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from exporter.api.fields import STATISTICS
from exporter.api.model import R, TimeRange
from exporter.backfill.arguments import format_time
from exporter.backfill.resource_history import SendFilter
from exporter.backfill.send_filter import SendFilterProbe
from exporter.collect.asking import DAY
from exporter.collect.ranges import Ranges, intersect, subtract
from exporter.collect.senders import OLDEST

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from exporter.backfill.account_journal import AccountJournal
    from exporter.backfill.requests import Requests
    from exporter.backfill.resource_history import ResourceHistory
    from exporter.collect.model import Collected

_HOUR: Final = 3_600


class Reading:
    """Asks for the rest: the totals of what started in the span, what a send filter does, then every step.

    `advance` is called for each month and each step that is done, `expect` with how many more there are.
    """

    def __init__(
        self,
        journal: AccountJournal,
        requests: Requests,
        *,
        advance: Callable[[], None],
        expect: Callable[[int], None],
    ) -> None:
        self._journal = journal
        self._requests = requests
        self._span = journal.span
        self._advance = advance
        self._expect = expect

    def run(self) -> None:
        """Read everything. Raises PollError, StoppedError; OSError if the journal can't be written."""
        histories = self._journal.histories.values()
        for history in histories:
            self._read_starts(history)
        for history in histories:
            self._learn_send_filter(history)
        for history in histories:
            if history.divides:
                self._read_steps(history)
            else:
                self._expect(-len(self._span.ends))

    # Totals

    def _read_starts(self, history: ResourceHistory[R]) -> None:
        """Read the totals of what started in the span, month by month."""
        for month in self._span.months:
            todo = subtract([month], history.done)
            if todo:
                self._read_month(history, todo, format_time(month.first)[:7])
            self._advance()

    def _read_month(self, history: ResourceHistory[R], todo: Ranges, name: str) -> None:
        got = self._requests.poll(history).by_start(todo)
        if got.failure is not None:
            proven = intersect(got.ranges, todo)
            if proven:
                self._note_starts(history, proven, got, "")
            raise got.failure
        lacking = subtract(todo, got.ranges)
        fault = f"{history.name}: {name} may have more campaigns than could be read; raise api.per_page"
        self._note_starts(history, todo, got, fault if lacking else "")

    def _note_starts(self, history: ResourceHistory[R], ranges: Ranges, got: Collected[R], fault: str) -> None:
        rows = [history.kind.pack(row) for row in got.rows if any(row.start in part for part in ranges)]
        parts = [[part.first, part.last] for part in ranges]
        self._journal.note_answer(history, "starts", ranges=parts, rows=rows, fault=fault)

    # The send filter

    def _learn_send_filter(self, history: ResourceHistory[Any]) -> None:
        if history.send_filter is None:
            probe = SendFilterProbe(self._requests, history)
            found, sure = probe.probe(set(history.totals) - history.older)
            # A campaign that began long ago and still sends tells more than one that is sent in a moment
            if not sure and (history.name == STATISTICS or self._journal.statistics.divides):
                self._read_older(history, thorough=False)
                other, sure = probe.probe(history.older)
                found = other if sure or found is SendFilter.UNCLEAR else found
            self._journal.note_answer(history, "meaning", meaning=found.value)
        if history.divides:
            self._read_older(history, thorough=True)

    def _read_older(self, history: ResourceHistory[Any], *, thorough: bool) -> None:
        """Read the totals of the campaigns that started before the span and sent in it; or of some of them."""
        self._find_senders(thorough=thorough)
        found = {number for record in self._journal.senders for number in record["ids"]}
        self._read_ids(
            history, found - history.older, None, partial(self._journal.note_answer, history, "older")
        )

    def _find_senders(self, *, thorough: bool) -> None:
        """Find the campaigns that started before the span and sent in it: at once, or else part by part."""
        first, last = self._span.first, self._span.last
        whole = last - first + 1
        for size in (whole, DAY, _HOUR) if thorough else (whole,):
            for low in range(first, last + 1, size):
                part = TimeRange(low, min(low + size - 1, last))
                if self._journal.lacks_senders_of(part):
                    self._find_senders_in(part)

    def _find_senders_in(self, part: TimeRange) -> None:
        last_try = part.seconds <= _HOUR
        found = self._requests.poll(self._journal.statistics).senders(part, self._span.first)
        if found.failure is not None:
            raise found.failure
        incomplete = bool(found.unseen)
        lacking = ""
        if found.ignored:
            lacking = "InTarget doesn't select by send time, so campaigns older than --from can't be found"
        elif incomplete and last_try:
            lacking = "campaigns older than --from that sent in this time may be missing; raise api.per_page"
        self._journal.note_senders(part, found.ids, settled=last_try or not incomplete, lacking=lacking)

    # Steps

    def _read_steps(self, history: ResourceHistory[R]) -> None:
        """Read what was sent until each sample, of the campaigns that still grew then.

        The last sample comes first: a campaign that has reached it needn't be asked for any more.
        """
        final = len(self._span.ends) - 1
        self._read_until(history, final, set(history.totals))
        now: dict[int, list[R]] = {}
        waiting = {number: self._span.step_of(history.start(number)) for number in history.totals}
        self._advance()
        for sample in range(final):
            growing = {
                number
                for number, first in waiting.items()
                if first <= sample
                and not history.kind.reached(now.get(number, ()), history.until[final].get(number, ()))
            }
            self._read_until(history, sample, growing)
            now.update(history.until[sample])
            self._advance()

    def _read_until(self, history: ResourceHistory[Any], sample: int, ids: Collection[int]) -> None:
        sent = TimeRange(OLDEST, self._span.sent_until(sample))
        note = partial(self._journal.note_answer, history, "until", sample=sample)
        self._read_ids(history, set(ids) - history.until[sample].keys(), sent, note)

    def _read_ids(
        self,
        history: ResourceHistory[R],
        ids: Collection[int],
        send: TimeRange | None,
        note: Callable[..., None],
    ) -> None:
        """Read campaigns by their ids and note the answer; if that fails, as much of it as there is."""
        if not ids:
            return
        got = self._requests.poll(history, send).by_ids(ids, filtered=send is not None)
        answered = set(ids) if got.failure is None else set(got.ids)
        rows = [history.kind.pack(row) for row in got.rows if row.campaign_id in answered]
        if answered:
            note(ids=sorted(answered), rows=rows, unproven=sorted(answered - got.ids))
        if got.failure is not None:
            raise got.failure
