"""The counter rules over any mix of polls, faults, corrections, restarts and kills, against an oracle.

At every moment, in every series: the counter never stepped down, and counter - overcount is the API's present
total; for a channel, the sum of what its campaigns changed by since they were first seen.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.api.model import INVALID, MessageStats, TimeRange
from exporter.collect.model import Collected
from exporter.tracking.model import WindowSettings
from exporter.tracking.state_file import State
from exporter.tracking.window import Window
from tests._builders import at, counts
from tests._examples import examples
from tests._prometheus import increase

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from exporter.api.model import Count
    from exporter.tracking.model import AccountSnapshot, Changes

MEMORY = Path("/dev/shm")
"""Thousands of saves would wait for a real disk; what a kill leaves behind is the same here."""

HOUR = 3600.0
WINDOW = 40 * HOUR
STALE = 2 * HOUR
HOLD = 60.0
URL = "https://api.example"
FIELDS = ("sent", "opened", "bounced")
CHANNELS = ("email", "sms", "push")

Key = tuple[int, str]
Series = tuple[str, object, str]


@dataclass
class Message:
    """One row that the simulated API would give."""

    title: str
    values: list[Count]


@dataclass
class Campaign:
    """A campaign in one channel, as the simulated API knows it."""

    start: float
    messages: list[Message]
    vanished: bool = False


@dataclass
class Line:
    """One counter as it should be: the highest total and the present one, None before the first value.

    `begun` is what it had when it was first seen, if that was no increase; `blind`: that could not be read.
    """

    top: int | None = None
    present: int | None = None
    begun: int = 0
    blind: bool = False

    def read(self, total: Count, *, is_baseline: bool) -> bool:
        """Read the API's total; return whether it was a first value that is an increase."""
        if not isinstance(total, int):
            self.blind = self.blind or (total is INVALID and self.top is None and is_baseline)
            return False
        first = self.top is None
        if first and (is_baseline or self.blind):
            self.begun = total
        self.top = max(self.top or 0, total)
        self.present = total
        return first and not (is_baseline or self.blind)


@dataclass
class Rows:
    """What is known of the rows of a campaign: how many, how many of them with a value, sums, sums by title."""

    start: float
    rows: int
    counted: list[int]
    sums: list[Count]
    titles: dict[str, list[Count]]


@dataclass
class Known:
    """What a poller with perfect memory knows of a campaign in a channel; `past` are earlier runs."""

    rows: Rows
    past: list[Rows] = field(default_factory=list)
    lines: dict[str, Line] = field(default_factory=lambda: {name: Line() for name in FIELDS})
    by_title: dict[str, dict[str, Line]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    moved_to: list[dict[str, int]] = field(default_factory=list)


@dataclass
class Truth:
    """The state of the oracle: what was read since the state began."""

    known: dict[Key, Known] = field(default_factory=dict)
    channels: dict[str, dict[str, Line]] = field(default_factory=dict)
    held: dict[Series, float] = field(default_factory=dict)
    discovered: dict[int, float] = field(default_factory=dict)
    tracked: set[Key] = field(default_factory=set)
    proven: list[tuple[float, float]] = field(default_factory=list)
    success: float | None = None


def add(values: Sequence[Count]) -> Count:
    """Add up as the API's readings say."""
    if INVALID in values:
        return INVALID
    numbers = [value for value in values if value is not None]
    return sum(numbers) if numbers else None


def latest(before: Count, now: Count, *, fewer: bool) -> Count:
    """Return what is known of a sum: the last good one, or the larger one if values are missing."""
    if not isinstance(now, int):
        return now if before is None else before
    return max(before, now) if fewer and isinstance(before, int) else now


def sum_up(messages: Sequence[Message], start: float) -> Rows:
    """Return what messages that were read come to."""
    columns = [[message.values[n] for message in messages] for n in range(3)]
    titles = {message.title for message in messages}
    return Rows(
        start,
        len(messages),
        [sum(value is not None for value in column) for column in columns],
        [add(column) for column in columns],
        {t: [add([m.values[n] for m in messages if m.title == t]) for n in range(3)] for t in titles},
    )


def merge(before: Rows, now: Rows, *, cut: bool) -> Rows:
    """Return what is known after a read."""
    fewer = [cut or a < b for a, b in zip(now.counted, before.counted, strict=True)]
    lacks_rows = cut or now.rows < before.rows
    titles = {
        title: [
            latest(before.titles.get(title, [None] * 3)[n], value, fewer=fewer[n])
            for n, value in enumerate(sums)
        ]
        for title, sums in now.titles.items()
    }
    return Rows(
        now.start,
        max(now.rows, before.rows) if lacks_rows else now.rows,
        [max(a, b) for a, b in zip(now.counted, before.counted, strict=True)] if any(fewer) else now.counted,
        [latest(b, a, fewer=f) for a, b, f in zip(now.sums, before.sums, fewer, strict=True)],
        before.titles | titles if lacks_rows else titles,
    )


def begins_anew(before: Rows, now: Rows) -> bool:
    """Whether most of the counts fell."""
    pairs = [
        (a, b)
        for a, b in zip(before.sums, now.sums, strict=True)
        if isinstance(a, int) and isinstance(b, int) and a > 0
    ]
    return sum(b < a for a, b in pairs) > len(pairs) / 2


class Machine(RuleBasedStateMachine):
    """Moves a simulated API and a clock; polls it as a poller would; samples what is published."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.exists() else None))
        self.files = 0
        self.now = 1_000_000.0
        self.campaigns: dict[Key, Campaign] = {}
        self.history: dict[Series, list[int]] = defaultdict(list)
        self.truth = Truth()
        self.since = self.now

    @initialize(per_message=st.booleans())
    def begin(self, per_message: bool) -> None:  # noqa: FBT001
        """Start the exporter on an empty state."""
        self.settings = WindowSettings(WINDOW, STALE, STALE, HOLD, 1000, per_message)
        self.state = State.open(self.next_path(), clock=lambda: 0.0)
        self.start()

    def teardown(self) -> None:
        """Check everything once more."""
        try:
            if hasattr(self, "state"):
                self.settle()
        finally:
            if hasattr(self, "state"):
                self.state.close()
            shutil.rmtree(self.directory)

    # The simulated API

    @rule(
        campaign_id=st.integers(1, 3),
        channel=st.sampled_from(CHANNELS),
        age=st.sampled_from([0.0, 300.0, 3 * HOUR, 30 * HOUR, 60 * HOUR]),
        sent=st.sampled_from([0, 1, 99, 150, 1000]),
        titles=st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
    )
    def launch(self, campaign_id: int, channel: str, age: float, sent: int, titles: list[str]) -> None:
        """Add a campaign, just started or older."""
        values: list[Count] = [sent, None if channel == "sms" else sent // 3, 0]
        messages = [Message(title, list(values)) for title in titles]
        self.campaigns.setdefault((campaign_id, channel), Campaign(self.now - age, messages))

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), amount=st.integers(1, 500))
    def grow(self, data: st.DataObject, amount: int) -> None:
        """Let a value grow."""
        message = self.any_message(data)
        index = data.draw(st.integers(0, 2))
        value = message.values[index]
        message.values[index] = (value if isinstance(value, int) else 0) + amount

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), kept=st.sampled_from([0.0, 0.05, 0.3, 0.49, 0.6, 0.99]))
    def correct(self, data: st.DataObject, kept: float) -> None:
        """Correct a campaign downwards, for good."""
        for message in self.any_campaign(data).messages:
            message.values = [int(v * kept) if isinstance(v, int) else v for v in message.values]

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), amount=st.integers(1, 3))
    def dip(self, data: st.DataObject, amount: int) -> None:
        """Correct a value downwards by a little."""
        message = self.any_message(data)
        message.values[0] = max(0, message.values[0] - amount) if isinstance(message.values[0], int) else 0

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), mark=st.sampled_from([INVALID, None]))
    def spoil(self, data: st.DataObject, mark: Count) -> None:
        """Make a value unreadable, or null."""
        self.any_message(data).values[data.draw(st.integers(0, 2))] = mark

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        """Hide a campaign from the answers, or bring it back."""
        campaign = self.any_campaign(data)
        campaign.vanished = not campaign.vanished

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), title=st.sampled_from("abcde"))
    def rename(self, data: st.DataObject, title: str) -> None:
        """Give a message another title, which may be another's."""
        self.any_message(data).title = title

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), channel=st.sampled_from(CHANNELS))
    def rename_channel(self, data: st.DataObject, channel: str) -> None:
        """Give a campaign's channel another name, if that isn't taken."""
        key = data.draw(st.sampled_from(sorted(self.campaigns)))
        if (key[0], channel) not in self.campaigns:
            self.campaigns[key[0], channel] = self.campaigns.pop(key)

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), title=st.sampled_from("abcde"), sent=st.integers(0, 300))
    def extend(self, data: st.DataObject, title: str, sent: int) -> None:
        """Give a campaign one more message."""
        self.any_campaign(data).messages.append(Message(title, [sent, None, 0]))

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Take a message from a campaign that has several."""
        messages = self.any_campaign(data).messages
        if len(messages) > 1:
            messages.pop()

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), anew=st.booleans())
    def reschedule(self, data: st.DataObject, anew: bool) -> None:  # noqa: FBT001
        """Move a campaign's start to now, with counts that go on or begin anew."""
        campaign = self.any_campaign(data)
        campaign.start = self.now
        for message in campaign.messages if anew else ():
            message.values = [v // 10 if isinstance(v, int) else v for v in message.values]

    def any_campaign(self, data: st.DataObject) -> Campaign:
        """Draw one."""
        return self.campaigns[data.draw(st.sampled_from(sorted(self.campaigns)))]

    def any_message(self, data: st.DataObject) -> Message:
        """Draw one."""
        return data.draw(st.sampled_from(self.any_campaign(data).messages))

    # Time and polls

    @rule(seconds=st.sampled_from([5.0, 59.0, 60.0, 300.0, HOUR, 3 * HOUR, 30 * HOUR, 50 * HOUR]))
    def wait(self, seconds: float) -> None:
        """Time passes, and the timer does what is due."""
        self.now += seconds
        self.release()
        self.window.tick(at(self.now))
        self.save_and_publish()

    @rule(data=st.data(), times=st.integers(1, 3), seconds=st.sampled_from([1.0, 20.0, 300.0]))
    def poll(self, data: st.DataObject, times: int, seconds: float) -> None:
        """Poll everything some times."""
        for _ in range(times):
            self.now += seconds
            self.read(data, None, succeeded=True)
            self.save_and_publish()

    @rule(data=st.data(), succeeded=st.booleans(), share=st.floats(0, 1))
    def poll_part(self, data: st.DataObject, succeeded: bool, share: float) -> None:  # noqa: FBT001
        """Poll the newest starts only, or fail on the way."""
        self.now += 300
        self.read(data, int(self.now - WINDOW * share), succeeded=succeeded)
        self.save_and_publish()

    @rule()
    def fail(self) -> None:
        """Poll without getting any answer."""
        self.now += 300
        self.release()
        self.window.merge_statistics(Collected(), now=at(self.now), succeeded=False)
        self.save_and_publish()

    @rule()
    def restart(self) -> None:
        """Restart the exporter with its state."""
        path = self.state.path
        self.state.close()
        self.state = State.open(path, clock=lambda: 0.0)
        self.start()

    @rule()
    def lose_state(self) -> None:
        """Restart the exporter without its state."""
        self.state.close()
        self.state = State.open(self.next_path(), clock=lambda: 0.0)
        self.start()

    @rule(data=st.data(), moment=st.integers(1, 20))
    def kill(self, data: st.DataObject, moment: int) -> None:
        """Kill the exporter before the n-th statement of a save: it finds what was on disk then."""
        before = copy.deepcopy(self.truth)
        self.read(data, None, succeeded=True)
        source, target = self.state.path, self.next_path()
        statements: list[str] = []

        def trace(statement: str) -> None:
            statements.append(statement)
            if len(statements) == moment:
                copy_files(source, target)

        connection = self.state._database.connection
        connection.set_trace_callback(trace)
        self.save()
        connection.set_trace_callback(None)
        if len(statements) < moment:
            copy_files(source, target)
        else:
            self.truth = before
        self.state.close()
        self.state = State.open(target, clock=lambda: 0.0)
        self.start()

    @rule()
    def settle(self) -> None:
        """Let every hold end, then compare everything with the truth."""
        self.now += 1
        self.release(recovers=True)
        self.window.merge_statistics(Collected(), now=at(self.now), succeeded=True)
        self.truth.success = self.now
        self.save_and_publish()
        self.wait(HOLD)
        self.compare_increases()

    # The exporter

    def next_path(self) -> Path:
        """Return a path of a state file to be."""
        self.files += 1
        return self.directory / f"{self.files}.db"

    def start(self) -> None:
        """Begin a window from what is saved, as after any start of the process."""
        saved = self.state.load("a", URL)
        self.window = Window("a", None, self.settings, saved=saved, now=at(self.now))
        if saved is None:
            self.truth = Truth()
            self.since = self.now
            self.history.clear()
        elif self.truth.success is not None:
            # Times alone are saved now and then only: what was saved may be a little older
            self.truth.success = saved.account.successes.get("statistics")
            self.truth.discovered = dict(saved.account.discovered)
        self.truth.held = dict.fromkeys(self.truth.held, self.now + HOLD)
        self.save_and_publish()

    def stale(self) -> bool:
        """Whether the account's data should be withdrawn now."""
        return self.now - (self.since if self.truth.success is None else self.truth.success) >= STALE

    def leaves(self, key: Key) -> float:
        """Return when a campaign should leave the window."""
        return max(self.truth.known[key].rows.start, self.truth.discovered.get(key[0], 0.0)) + WINDOW

    def release(self, *, recovers: bool = False) -> None:
        """End holds in the oracle, as of now."""
        if not self.stale():
            self.truth.held = {line: until for line, until in self.truth.held.items() if until > self.now}
        elif recovers:
            self.truth.held = dict.fromkeys(self.truth.held, self.now + HOLD)

    def read(self, data: st.DataObject, first: int | None, *, succeeded: bool) -> None:
        """Ask the simulated API what a poller would ask, and hand it to the window and to the oracle."""
        self.release(recovers=succeeded)
        begin = int(self.now - WINDOW) if first is None else first
        span = TimeRange(begin, int(self.now) + 1)
        old = {key[0] for key, item in self.campaigns.items() if item.start < self.now - WINDOW}
        discovered = None
        if old and data.draw(st.booleans()):
            discovered = frozenset(data.draw(st.sets(st.sampled_from(sorted(old)), min_size=1)))
        ids = self.window.known.old_campaigns(self.now) | (discovered or frozenset())
        rows, _ = self.answer(data, span, ids)
        archive = self.state.load_campaigns("a", URL, self.window.unknown(rows))
        moved = self.window.known.moved("statistics", rows, archive)
        rows, partial = self.answer(data, span, ids | moved)
        collected = Collected(
            tuple(data.draw(st.permutations(rows))), frozenset(partial), (span,), ids | moved, bool(partial)
        )
        self.see(collected, discovered, span)
        archive = self.state.load_campaigns("a", URL, self.window.unknown(rows))
        self.window.merge_statistics(
            collected, now=at(self.now), succeeded=succeeded, discovered=discovered, loaded=archive
        )
        if succeeded:
            self.truth.success = self.now

    def answer(
        self, data: st.DataObject, span: TimeRange, ids: frozenset[int]
    ) -> tuple[list[MessageStats], set[Hashable]]:
        """Return the rows of what is asked for, and the groups that were cut."""
        rows: list[MessageStats] = []
        partial: set[Hashable] = set()
        for key, campaign in self.campaigns.items():
            if campaign.vanished or not (key[0] in ids or campaign.start in span):
                continue
            group = campaign.messages
            if len(group) > 1 and key[0] not in ids and data.draw(st.integers(0, 2)) == 0:
                group = group[: data.draw(st.integers(1, len(group) - 1))]
                partial.add((*key, campaign.start))
            for message in group:
                values = dict(zip(FIELDS, message.values, strict=True))
                rows.append(MessageStats(*key, campaign.start, message.title, counts(**values)))
        return rows, partial

    def save(self) -> Changes:
        """Save what has changed."""
        changes = self.window.changes(at(self.now))
        self.state.save("a", URL, changes)
        self.window.saved(changes, at(self.now))
        return changes

    def save_and_publish(self) -> None:
        """Save, then take a sample of everything exported, and compare it with the truth."""
        self.save()
        self.truth.tracked = {key for key in self.truth.tracked if self.leaves(key) > self.now}
        snapshot = self.window.snapshot()
        assert self.stale() == snapshot.stale
        self.sample(snapshot)
        if not snapshot.stale:
            self.compare(self.window.snapshot_without_holds())

    def sample(self, snapshot: AccountSnapshot) -> None:
        """Scrape: no series ever stepped down."""
        samples: dict[Series, int | None] = {}
        for name in FIELDS:
            for campaign in snapshot.campaigns:
                key = (campaign.campaign_id, campaign.channel)
                samples["campaign", key, name] = getattr(campaign.values, name)
                for message in campaign.messages:
                    samples["message", (key, message.title), name] = getattr(message.values, name)
            for channel in snapshot.channels:
                samples["channel", channel.channel, name] = getattr(channel.values, name)
        for series, value in samples.items():
            if value is not None:
                # A hold that begins anew after a restart, or that comes back from the archive, was never seen
                assert value >= max(self.history[series], default=0), (series, self.history[series], value)
                self.history[series].append(value)

    # The oracle

    def see(
        self, collected: Collected[MessageStats], discovered: frozenset[int] | None, span: TimeRange
    ) -> None:
        """Read an answer with perfect memory."""
        for campaign_id in discovered or ():
            self.truth.discovered[campaign_id] = self.now
        by_key: dict[Key, list[MessageStats]] = defaultdict(list)
        for row in collected.rows:
            by_key[row.campaign_id, row.channel].append(row)
        absent = [
            key
            for key in sorted(self.truth.tracked - by_key.keys())
            if key[0] in collected.ids or self.truth.known[key].rows.start in span
        ]
        order = list(self.window._campaigns.records)
        absent.sort(key=order.index)
        proven = list(self.truth.proven)
        for key, rows in by_key.items():
            cut = (*key, rows[0].start) in collected.partial
            self.see_campaign(key, rows, absent, proven, cut=cut)
        first = max(span.first, self.now - WINDOW)
        self.truth.proven.append((first, span.last + 1))
        if span.first <= self.now:
            self.truth.proven.append((int(self.now), float("inf")))

    def see_campaign(
        self,
        key: Key,
        rows: list[MessageStats],
        absent: list[Key],
        proven: list[tuple[float, float]],
        *,
        cut: bool,
    ) -> None:
        """Read all rows of one campaign and channel."""
        messages = [Message(row.title, [getattr(row.counts, name) for name in FIELDS]) for row in rows]
        now = sum_up(messages, rows[0].start)
        known = self.truth.known.get(key)
        renamed = self.renamed(key, now, absent)
        source = self.truth.known[renamed] if renamed else known
        seen, past = now, list(source.past) if source else []
        if source is not None and source.rows.start != now.start:
            if cut:
                return
            if begins_anew(source.rows, now):
                past, source = [*past, source.rows], None
        if source is not None:
            seen = merge(source.rows, now, cut=cut)
        if max(now.start, self.truth.discovered.get(key[0], 0.0)) + WINDOW <= self.now:
            return
        if renamed:
            known = self.take_over(renamed, known)
        is_baseline = known is None and not any(first <= now.start < last for first, last in proven)
        self.truth.known[key] = known = known or Known(seen)
        known.rows, known.past = seen, past
        self.truth.tracked.add(key)
        self.count(key, known, is_baseline=is_baseline)
        if self.settings.per_message:
            self.see_titles(key, known, is_baseline=is_baseline)

    def renamed(self, key: Key, now: Rows, absent: list[Key]) -> Key | None:
        """Return under which channel's name a campaign was until now, if that was only renamed."""
        for old in absent if key not in self.truth.tracked else ():
            known = self.truth.known[old].rows
            is_candidate = old[0] == key[0] and old in self.truth.tracked
            if is_candidate and set(known.titles) == set(now.titles) and not begins_anew(known, now):
                return old
        return None

    def count(self, key: Key, known: Known, *, is_baseline: bool) -> None:
        """Read the sums of a campaign, and add to its channel what they grew by."""
        for n, name in enumerate(FIELDS):
            total = add([part.sums[n] for part in (known.rows, *known.past)])
            line = known.lines[name]
            before = (line.top or 0, line.present or 0, line.begun)
            if line.read(total, is_baseline=is_baseline):
                self.truth.held["campaign", key, name] = self.now + HOLD
            if isinstance(total, int):
                channel = self.truth.channels.setdefault(key[1], {}).setdefault(name, Line())
                if channel.top is None:
                    self.truth.held["channel", key[1], name] = self.now + HOLD
                begun = line.begun - before[2]
                channel.top = (channel.top or 0) + line.top - before[0] - begun
                channel.present = (channel.present or 0) + line.present - before[1] - begun

    def take_over(self, renamed: Key, known: Known | None) -> Known:
        """Let a campaign go on under another channel's name."""
        old = self.truth.known[renamed]
        self.truth.tracked.discard(renamed)
        new = Known(old.rows, gone=set(old.gone))
        for name, line in old.lines.items():
            top = known.lines[name].top if known else None
            tops = [n for n in (top, line.present) if n is not None]
            new.lines[name] = Line(max(tops, default=None), line.present, blind=line.blind)
        for title, lines in old.by_title.items():
            new.by_title[title] = {}
            for name, line in lines.items():
                top = known.by_title[title][name].top if known and title in known.by_title else None
                tops = [n for n in (top, line.present) if n is not None]
                new.by_title[title][name] = Line(max(tops, default=None), line.present, blind=line.blind)
        for title in set(known.by_title if known else ()) - set(old.by_title):
            new.by_title[title] = known.by_title[title]
            new.gone.add(title)
        return new

    def see_titles(self, key: Key, known: Known, *, is_baseline: bool) -> None:
        """Read the sums by title."""
        parts = (known.rows, *known.past)
        present = {title for part in parts for title in part.titles}
        absent = set(known.by_title) - known.gone - present
        added = present - set(known.by_title)
        known.gone -= present
        if added:
            known.gone |= absent
        for title in present:
            lines = known.by_title.setdefault(title, {name: Line() for name in FIELDS})
            quiet = is_baseline or (title in added and bool(absent))
            for n, name in enumerate(FIELDS):
                total = add([part.titles[title][n] for part in parts if title in part.titles])
                if lines[name].read(total, is_baseline=quiet):
                    self.truth.held["message", (key, title), name] = self.now + HOLD

    def compare(self, snapshot: AccountSnapshot) -> None:
        """Compare every counter and overcount with the truth, and what is published with what is tracked."""
        published = {(item.campaign_id, item.channel): item for item in snapshot.campaigns}
        assert self.truth.tracked == set(published)
        for key, campaign in published.items():
            known = self.truth.known[key]
            for name in FIELDS:
                self.check(known.lines[name], campaign, name)
            for message in campaign.messages:
                for name in FIELDS:
                    self.check(known.by_title[message.title][name], message, name)
            if self.settings.per_message:
                assert set(known.by_title) - known.gone == {message.title for message in campaign.messages}
        assert set(self.truth.channels) == {
            channel.channel for channel in snapshot.channels if any(v is not None for v in channel.values)
        }
        for channel in snapshot.channels:
            for name, line in self.truth.channels.get(channel.channel, {}).items():
                self.check(line, channel, name)

    @staticmethod
    def check(line: Line, item: object, name: str) -> None:
        """Compare one counter."""
        value, over = getattr(item.values, name), getattr(item.overcount, name)
        assert line.top == value, (line, item, name)
        if value is not None:
            assert line.present == value - over, (line, item, name)

    def compare_increases(self) -> None:
        """Compare what Prometheus counted of every channel with the truth: its first sample was 0."""
        for channel, lines in self.truth.channels.items():
            for name, line in lines.items():
                samples = self.history["channel", channel, name]
                assert [0] == samples[:1]
                assert line.top == increase(samples)

    @invariant()
    def never_less_than_saved(self) -> None:
        """Whatever is published now could be read back from the disk, by another process."""
        if not hasattr(self, "state"):
            return
        saved = State.open_readonly(self.state.path, clock=lambda: 0.0)
        again = Window("a", None, self.settings, saved=saved.load("a", URL), now=at(self.now))
        if not (self.window.snapshot().stale or again.snapshot().stale):
            assert self.window.snapshot() == again.snapshot()
        saved.close()


def copy_files(source: Path, target: Path) -> None:
    """Copy a state file with its journal, as a kill would leave them."""
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{source}{suffix}", f"{target}{suffix}")


TestMachine = Machine.TestCase
TestMachine.settings = examples(
    100,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
