"""Complete answers for one account and resource, poll after poll. See the package's docstring."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import R, TimeRange
from exporter.collect.asking import Asker
from exporter.collect.by_ids import IdReader
from exporter.collect.by_start import StartReader
from exporter.collect.dense_second import DenseSeconds
from exporter.collect.model import Answers, Collected, merge
from exporter.collect.page_cap import Kind, Sizes
from exporter.collect.poisoned import Poisoned
from exporter.collect.ranges import intersect, subtract, union
from exporter.collect.senders import Search, Senders
from exporter.collect.server_limits import ServerLimits
from exporter.collect.split_plan import KnownRows
from exporter.errors import PollError, RequestsSpentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from exporter.api.model import Page, Query
    from exporter.collect.ranges import Ranges
    from exporter.collect.refresh_plan import Rounds

WINDOW_SHARE: Final = 0.85
SENDERS_SHARE: Final = 0.9
"""How much of what a poll may ask for is used by then at most."""
SAME_SENDS: Final = 6 * 3600
"""Seconds between two searches for senders that are expected to find nearly the same."""


class Collector(Generic[R]):
    """Keeps what outlives a poll. One poll at a time."""

    def __init__(
        self,
        *,
        per_page: int,
        concurrency: int = 1,
        pages: bool = False,
        rounds: Rounds | None = None,
        saved: Mapping[str, object] | None = None,
        known: Iterable[tuple[int, str, float, int]] = (),
    ) -> None:
        self.per_page = per_page
        self.concurrency = concurrency
        self.pages = pages
        self.rounds = rounds
        self.limits = ServerLimits.load(saved)
        self.known = KnownRows(known)
        self.poisoned = Poisoned((saved or {}).get("poisoned"))
        self.dense: dict[int, float] = {}
        done = (saved or {}).get("done")
        self.done = {number for number in done if isinstance(number, int)} if isinstance(done, list) else set()
        self.unproven: Ranges = ()
        self.older: frozenset[int] = frozenset()
        self.unproven_ids: frozenset[int] = frozenset()
        self.read_at: dict[int, float] = {}  # campaigns read by their identifiers, and when
        self.unseen_senders = ""
        self.search: Search | None = None  # for senders, and not ended yet
        self.senders: frozenset[int] = frozenset()  # all that sent since `searched`, in the last search
        self.searched = 0
        if rounds is not None:
            rounds.load((saved or {}).get("left"))

    def poll(
        self,
        ask: Callable[[Query], Page[R]],
        *,
        now: float,
        clock: float = 0.0,
        whole: TimeRange | None = None,
    ) -> Poll[R]:
        """Begin a poll; `whole` is what is being watched where there are no `rounds`."""
        if whole is None:
            assert self.rounds is not None  # noqa: S101 - one of both is given
            whole = self.rounds.whole(now)
        return Poll(self, ask, now, clock, whole)

    def save(self) -> dict[str, object]:
        """Return what to keep over a restart, as plain values for JSON."""
        left = [] if self.rounds is None else self.rounds.save()
        own = {"left": left, "done": sorted(self.done), "poisoned": self.poisoned.save()}
        return self.limits.save() | own

    def restart(self) -> None:
        """Make everything due again: what was read is lost."""
        if self.rounds is not None:
            self.rounds.restart()
        self.done.clear()

    @property
    def page_cap(self) -> str:
        """What is known of the page cap of requests by start, in words."""
        rows = self.limits.largest.get(Kind.START, Sizes()).rows
        if not rows:
            return "unknown"
        if rows >= self.per_page:
            return f"none below perPage ({self.per_page})"
        return str(rows) if len(self.known) > rows else f"at least {rows}"

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Why rows may be lacking, in words."""
        seconds, ids, limits = _seconds(self.unproven), len(self.unproven_ids), self.limits
        failing = _seconds(intersect(self.unproven, self.poisoned.starts))
        failing_ids = len(self.unproven_ids & self.poisoned.ids.keys())
        reasons = (
            (seconds, f"{seconds} seconds of starts may have more rows than could be read{_of_which(failing)}"),
            (ids, f"{ids} campaigns may have more rows than could be read{_of_which(failing_ids)}"),
            (self.unseen_senders, self.unseen_senders),
            (
                limits.filters is None
                and (limits.ahead is not None or limits.largest.get(Kind.SEND, Sizes()).rows),
                "start filters can't be tested yet",
            ),
            (
                limits.is_margin_short,
                "start filters select by days, and no request may span a day and its zones",
            ),
            (limits.filters is False, "start filters don't select what starts then"),
        )
        return tuple(words for reason, words in reasons if reason)


def _seconds(ranges: Ranges) -> int:
    return sum(part.seconds for part in ranges)


def _of_which(failing: int) -> str:
    return f" (every answer about {failing} of them fails)" if failing else ""


class Poll(Generic[R]):
    """The jobs of one poll. Each returns what it read, whatever else fails."""

    def __init__(
        self,
        collector: Collector[R],
        ask: Callable[[Query], Page[R]],
        now: float,
        clock: float,
        whole: TimeRange,
    ) -> None:
        self._collector = collector
        self._now = now
        self._clock = clock
        self._whole = whole
        self._asker = Asker(
            ask,
            collector.limits,
            collector.known,
            now=now,
            whole=whole,
            per_page=collector.per_page,
            concurrency=collector.concurrency,
            pages=collector.pages,
            bounded=collector.rounds is not None,
            poisoned=collector.poisoned,
        )
        self._jobs: list[Collected[R]] = []
        collector.known.forget_before(whole.first, collector.older)
        collector.poisoned.forget_before(whole.first, now)

    @property
    def requests(self) -> int:
        """How many requests were made."""
        return self._asker.budget.spent

    @property
    def collected(self) -> Collected[R]:
        """What all jobs read; a later one has the last word."""
        return merge(self._jobs)

    def window(self) -> Collected[R]:
        """Read what is due by start."""
        collector, rounds, whole = self._collector, self._collector.rounds, self._whole
        assert rounds is not None  # noqa: S101 - whoever asks for what is due has said when it is
        due, zone = rounds.due(self._now, self._clock), collector.limits.zone
        self._asker.budget.share = WINDOW_SHARE
        collected, read = self._by_start(due)
        if collector.limits.zone != zone:  # what earlier polls of this round have read was something else
            rounds.restart()
            rounds.due(self._now, self._clock)
        rounds.read(read)
        if not rounds.unfinished:
            collector.done.clear()
        proven = collected.ranges
        unproven = union([*subtract(collector.unproven, proven), *subtract(read, proven)])
        collector.unproven = subtract(unproven, [TimeRange(0, whole.first - 1)])
        return collected

    def by_start(self, ranges: Iterable[TimeRange]) -> Collected[R]:
        """Read every row that starts in `ranges`, whether it is due or not."""
        self._asker.budget.share = 1.0
        return self._by_start(ranges)[0]

    def _by_start(self, ranges: Iterable[TimeRange]) -> tuple[Collected[R], list[TimeRange]]:
        collector, answers = self._collector, Answers[R]()
        ids = IdReader(self._asker, answers)
        dense = DenseSeconds(self._asker, answers, ids, searched=collector.dense, done=collector.done)
        reader = StartReader(self._asker, answers, ids, dense)
        self._run(answers, lambda: reader.read(ranges))
        return self._jobs[-1], answers.read

    def by_ids(self, ids: Collection[int], *, filtered: bool = False) -> Collected[R]:
        """Read every row of the campaigns `ids`; `filtered`: `ask` adds filters, so that some may have none.

        What one poll can't read is read by the next ones: the campaigns come in turn.
        """
        collector, answers = self._collector, Answers[R]()
        self._asker.budget.share = 1.0
        reader = IdReader(self._asker, answers, filtered=filtered)
        read_at = {number: collector.read_at.get(number, 0.0) for number in ids}
        order = sorted(ids, key=lambda number: (read_at[number], -number))
        self._run(answers, lambda: reader.read(order))
        collector.read_at = read_at | dict.fromkeys(answers.ids | reader.unproven, self._now)
        collector.older = frozenset(ids)
        collector.unproven_ids = frozenset(ids) - answers.ids
        return self._jobs[-1]

    def senders(self, sent: TimeRange, before: int) -> Senders:
        """Find the campaigns that started before `before` and sent during `sent`."""
        collector = self._collector
        age = sent.first - collector.searched
        is_recent = 0 <= age <= SAME_SENDS
        earlier = collector.senders if is_recent else frozenset()
        self._asker.budget.share = SENDERS_SHARE
        search = collector.search or Search(earlier)
        found = search.find(self._asker, sent, before)
        collector.search = None if search.has_ended else search
        if search.has_ended and found.seen:
            collector.searched, collector.senders = sent.first, found.seen
        collector.unseen_senders = found.unseen
        collector.unproven = union([*collector.unproven, *found.overlooked])
        return found

    def moved(self, ids: Collection[int], starts: Iterable[float]) -> Collected[R]:
        """Read campaigns whose start changed: by their ids, else by all `starts` known of them."""
        answers = Answers[R]()
        self._asker.budget.share = 1.0
        reader = IdReader(self._asker, answers)
        self._run(answers, lambda: reader.read(sorted(ids)))
        if answers.ids >= set(ids) or answers.failure is not None:
            return self._jobs[-1]
        seconds = union(TimeRange(math.floor(start), math.floor(start)) for start in starts)
        between = TimeRange(seconds[0].first, seconds[-1].last)
        self.by_start([between] if self._asker.pages(between) < len(seconds) else seconds)
        return merge(self._jobs[-2:])

    def _run(self, answers: Answers[R], job: Callable[[], None]) -> None:
        try:
            job()
        except PollError as error:
            cause, answers.incomplete = self._asker.cause(error), True
            answers.failure = None if isinstance(cause, RequestsSpentError) else cause
        self._jobs.append(answers.collected)
