"""The counter rules over any mix of polls, faults, corrections, restarts and kills, against an oracle."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.api.model import INVALID, MessageStats, TimeRange
from exporter.collect.model import Collected
from exporter.tracking.state_file import State
from exporter.tracking.window import Window, WindowSettings
from tests._prometheus import Line, increase

if TYPE_CHECKING:
    from collections.abc import Hashable

    from exporter.api.model import Count
    from exporter.tracking.model import AccountSnapshot

MEMORY = Path("/dev/shm")
"""Thousands of saves would wait for a real disk; what a kill leaves behind is the same here."""

HOUR = 3600.0
WINDOW = 40 * HOUR
STALE = 2 * HOUR
HOLD = 60.0
FIELDS = (1, 3, 5)  # sent, opened, bounced

Key = tuple[int, str]
Series = tuple[str, object, int]


@dataclass
class Message:
    """One row that the simulated API would give."""

    title: str
    start: float
    values: list[Count]


@dataclass
class Campaign:
    """A campaign in one channel, as the simulated API knows it."""

    messages: list[Message]
    vanished: bool = False


@dataclass
class Known:
    """What a poller with perfect memory knows of a campaign: by start the sums, and those by title."""

    groups: dict[float, tuple[list[Count], dict[str, list[Count]]]] = field(default_factory=dict)
    titles: set[str] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)


@dataclass
class Truth:
    """The state of the oracle: what was read since the state began."""

    known: dict[Key, Known] = field(default_factory=dict)
    lines: dict[Series, Line] = field(default_factory=lambda: defaultdict(Line))
    held: dict[Series, float] = field(default_factory=dict)
    discovered: dict[int, float] = field(default_factory=dict)
    tracked: set[Key] = field(default_factory=set)
    siblings: dict[int, set[float]] = field(default_factory=lambda: defaultdict(set))
    success: float | None = None


def add(values: list[Count]) -> Count:
    """Add up as api-facts says."""
    if INVALID in values:
        return INVALID
    numbers = [value for value in values if value is not None]
    return sum(numbers) if numbers else None


def raised(before: Count, bound: Count) -> Count:
    """Return what is known of a value after a lower bound was read."""
    if bound is None:
        return before
    if bound is INVALID or before is INVALID or before is None:
        return bound
    return max(before, bound)


class Machine(RuleBasedStateMachine):
    """Moves a simulated API and a clock; polls it as a poller would; samples what is published."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.exists() else None))
        self.files = 0
        self.now = 1_000_000.0
        self.campaigns: dict[Key, Campaign] = {}
        self.history: dict[Series, list[int]] = defaultdict(list)
        self.first: dict[Series, int] = {}
        self.resets: dict[Series, int] = defaultdict(int)
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
        channel=st.sampled_from(["email", "sms"]),
        age=st.sampled_from([0.0, 300.0, 3 * HOUR, 30 * HOUR, 60 * HOUR]),
        sent=st.sampled_from([0, 1, 99, 150, 1000]),
        titles=st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
    )
    def launch(self, campaign_id: int, channel: str, age: float, sent: int, titles: list[str]) -> None:
        """Add a campaign, just started or older."""
        values: list[Count] = [sent, None if channel == "sms" else sent // 3, 0]
        messages = [Message(title, self.now - age, list(values)) for title in titles]
        self.campaigns.setdefault((campaign_id, channel), Campaign(messages))

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data(), sent=st.sampled_from([1, 150]))
    def join(self, data: st.DataObject, sent: int) -> None:
        """Let a campaign have a channel more, with the same start."""
        campaign_id, channel = data.draw(st.sampled_from(sorted(self.campaigns)))
        start = self.campaigns[campaign_id, channel].messages[0].start
        other = "sms" if channel == "email" else "email"
        self.campaigns.setdefault((campaign_id, other), Campaign([Message("a", start, [sent, None, 0])]))

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
    @rule(data=st.data(), title=st.sampled_from("abcde"), sent=st.integers(0, 300))
    def extend(self, data: st.DataObject, title: str, sent: int) -> None:
        """Give a campaign one more message, which starts now or with the others."""
        campaign = self.any_campaign(data)
        start = data.draw(st.sampled_from([self.now, campaign.messages[0].start]))
        campaign.messages.append(Message(title, start, [sent, None, 0]))

    @precondition(lambda self: self.campaigns)
    @rule(data=st.data())
    def reschedule(self, data: st.DataObject) -> None:
        """Move a campaign's start to now."""
        for message in self.any_campaign(data).messages:
            message.start = self.now

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
        self.window.tick(self.now)
        self.save_and_publish()

    @rule(data=st.data(), times=st.integers(1, 4), seconds=st.sampled_from([1.0, 20.0, 300.0]))
    def poll(self, data: st.DataObject, times: int, seconds: float) -> None:
        """Poll everything some times, as many as make a reset."""
        for _ in range(times):
            self.now += seconds
            self.merge(data, None, succeeded=True)
            self.save_and_publish()

    @rule(data=st.data(), succeeded=st.booleans(), share=st.floats(0, 1))
    def poll_part(self, data: st.DataObject, succeeded: bool, share: float) -> None:  # noqa: FBT001
        """Poll the newest starts only, or fail on the way."""
        self.now += 300
        self.merge(data, int(self.now - WINDOW * share), succeeded=succeeded)
        self.save_and_publish()

    @rule()
    def fail(self) -> None:
        """Poll without getting any answer."""
        self.now += 300
        self.release()
        self.window.merge_statistics(Collected(), now=self.now, succeeded=False)
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
        self.merge(data, None, succeeded=True)
        source, target = self.state.path, self.next_path()
        statements: list[str] = []

        def trace(statement: str) -> None:
            statements.append(statement)
            if len(statements) == moment:
                copy_files(source, target)

        self.state._connection.set_trace_callback(trace)
        changes = self.window.changes()
        self.state.save("a", changes)
        self.state._connection.set_trace_callback(None)
        if len(statements) < moment:
            copy_files(source, target)
        else:
            self.truth = before
        self.state.close()
        self.state = State.open(target, clock=lambda: 0.0)
        self.start()

    @rule()
    def settle(self) -> None:
        """Let every hold end, then compare what Prometheus counted with the truth."""
        self.now += 1
        self.release(recovers=True)
        self.window.merge_statistics(Collected(), now=self.now, succeeded=True)
        self.truth.success = self.now
        self.save_and_publish()
        self.wait(HOLD)
        self.compare()

    # The exporter

    def next_path(self) -> Path:
        """Return a path of a state file to be."""
        self.files += 1
        return self.directory / f"{self.files}.db"

    def start(self) -> None:
        """Begin a window from what is saved, as after any start of the process."""
        saved = self.state.load("a")
        self.window = Window("a", None, self.settings, saved=saved, now=self.now)
        if saved is None:
            self.truth = Truth()
            self.since = self.now
            self.history.clear()
            self.first.clear()
            self.resets.clear()
        self.truth.held = dict.fromkeys(self.truth.held, self.now + HOLD)
        self.save_and_publish()

    def stale(self) -> bool:
        """Whether the account's data should be withdrawn now."""
        return self.now - (self.since if self.truth.success is None else self.truth.success) >= STALE

    def leaves(self, key: Key) -> float:
        """Return when a campaign should leave the window."""
        return max(*self.truth.known[key].groups, self.truth.discovered.get(key[0], 0.0)) + WINDOW

    def release(self, *, recovers: bool = False) -> None:
        """End holds in the oracle, as of now."""
        if not self.stale():
            self.truth.held = {line: until for line, until in self.truth.held.items() if until > self.now}
        elif recovers:
            self.truth.held = dict.fromkeys(self.truth.held, self.now + HOLD)

    def merge(self, data: st.DataObject, first: int | None, *, succeeded: bool) -> None:
        """Ask the simulated API what a poller would ask, and hand it to the window and to the oracle."""
        self.release(recovers=succeeded)
        old = {key[0] for key, item in self.campaigns.items() if item.messages[0].start < self.now - WINDOW}
        discovered = None
        if old and data.draw(st.booleans()):
            discovered = frozenset(data.draw(st.sets(st.sampled_from(sorted(old)), min_size=1)))
        ids = self.window.old_campaigns(self.now) | (discovered or frozenset())
        begin = int(self.now - WINDOW) if first is None else first
        span = TimeRange(begin, int(self.now) + 1)
        rows: list[MessageStats] = []
        partial: set[Hashable] = set()
        for key, campaign in self.campaigns.items():
            if campaign.vanished:
                continue
            read = [m for m in campaign.messages if key[0] in ids or m.start in span]
            for start in sorted({m.start for m in read}):
                group = [m for m in read if m.start == start]
                if len(group) > 1 and key[0] not in ids and data.draw(st.integers(0, 2)) == 0:
                    group = group[: data.draw(st.integers(1, len(group) - 1))]
                    partial.add((*key, start))
                rows += [self.row(key, message) for message in group]
        collected = Collected(
            tuple(data.draw(st.permutations(rows))), frozenset(partial), (span,), ids, bool(partial)
        )
        self.see(collected, discovered, succeeded=succeeded)
        self.window.merge_statistics(
            collected,
            now=self.now,
            succeeded=succeeded,
            discovered=discovered,
            recalled=self.state.recall("a", self.window.unknown(collected.rows)),
        )
        if succeeded:
            self.truth.success = self.now

    @staticmethod
    def row(key: Key, message: Message) -> MessageStats:
        """Return the record of one row."""
        values: list[Count] = [None] * 12
        for index, value in zip(FIELDS, message.values, strict=True):
            values[index] = value
        return MessageStats(key[0], key[1], message.start, message.title, tuple(values))

    def save_and_publish(self) -> None:
        """Save, then take a sample of everything exported."""
        changes = self.window.changes()
        self.state.save("a", changes)
        self.window.saved(changes)
        self.truth.tracked = {key for key in self.truth.tracked if self.leaves(key) > self.now}
        self.sample(self.window.snapshot(self.now))

    def sample(self, snapshot: AccountSnapshot) -> None:
        """Scrape: note every sample, and that no series stepped down without a reset."""
        assert self.stale() == snapshot.stale
        samples: dict[Series, int | None] = {}
        for campaign in snapshot.campaigns:
            key = (campaign.campaign_id, campaign.channel)
            samples |= {("campaign", key, i): campaign.values[i] for i in FIELDS}
            for message in campaign.messages:
                samples |= {("message", (key, message.title), i): message.values[i] for i in FIELDS}
        for channel in snapshot.channels:
            samples |= {("channel", channel.channel, i): channel.values[i] for i in FIELDS}
        for series, value in samples.items():
            if value is None:
                continue
            line = self.truth.lines[series]
            resets = max(0, len(line.segments()) - 1)
            if self.history[series] and value < self.history[series][-1]:
                assert resets > self.resets[series], (series, self.history[series], value)
            self.resets[series] = resets
            if series not in self.first:
                self.first[series] = 0 if line.from_zero else line.total
            self.history[series].append(value)

    # The oracle

    def see(
        self, collected: Collected[MessageStats], discovered: frozenset[int] | None, *, succeeded: bool
    ) -> None:
        """Read an answer with perfect memory."""
        for campaign_id in discovered or ():
            self.truth.discovered[campaign_id] = self.now
        by_key: dict[Key, list[MessageStats]] = defaultdict(list)
        for row in collected.rows:
            by_key[row.campaign_id, row.channel].append(row)
        self.truth.siblings = defaultdict(set)
        for key in self.truth.tracked:
            self.truth.siblings[key[0]] |= set(self.truth.known[key].groups)
        for key, rows in by_key.items():
            self.see_campaign(key, rows, collected, succeeded=succeeded)

    def see_campaign(
        self, key: Key, rows: list[MessageStats], collected: Collected[MessageStats], *, succeeded: bool
    ) -> None:
        """Read all rows of one campaign and channel."""
        before = self.truth.known.get(key)
        known = copy.deepcopy(before) or Known()
        untracked = before is not None and not all(titles for _, titles in known.groups.values())
        starts = {row.start for row in rows}
        gone = {
            start
            for start in set(known.groups) - starts
            if key[0] in collected.ids or any(start in span for span in collected.ranges)
        }
        if not succeeded and starts - set(known.groups) and set(known.groups) - starts - gone:
            return  # either of them may be the other one, moved
        for start in gone:
            del known.groups[start]
        confirms = all(start in starts or start < self.now - WINDOW for start in known.groups)
        lower = False
        for start in starts:
            group = [row for row in rows if row.start == start]
            sums = [add([row.counts[i] for row in group]) for i in FIELDS]
            titles = {
                title: [add([row.counts[i] for row in group if row.title == title]) for i in FIELDS]
                for title in {row.title for row in group}
            }
            cut = (*key, start) in collected.partial
            lower = lower or cut
            if cut and start in known.groups:
                old_sums, old_titles = known.groups[start]
                sums = [raised(a, b) for a, b in zip(old_sums, sums, strict=True)]
                titles = old_titles | {
                    title: [
                        raised(a, b) for a, b in zip(old_titles.get(title, [None] * 3), values, strict=True)
                    ]
                    for title, values in titles.items()
                }
            known.groups[start] = (sums, titles)
        newest = max(*known.groups, self.truth.discovered.get(key[0], 0.0))
        if newest + WINDOW <= self.now:
            return
        self.truth.known[key] = known
        self.truth.tracked.add(key)
        success = self.truth.success
        new = before is None and (
            (success is not None and min(known.groups) > success - HOUR)
            or set(known.groups) <= self.truth.siblings[key[0]]
        )
        as_is = before is None and not new
        sums = [add([group[0][n] for group in known.groups.values()]) for n in range(3)]
        for i, value in zip(FIELDS, sums, strict=True):
            self.read(("campaign", key, i), value, as_is=as_is, counts=confirms and not lower)
        if self.settings.per_message:
            self.see_titles(key, known, as_is=as_is, untracked=untracked, counts=confirms and not lower)

    def see_titles(self, key: Key, known: Known, *, as_is: bool, untracked: bool, counts: bool) -> None:
        """Read the sums by title."""
        present = {title for _, titles in known.groups.values() for title in titles}
        absent = known.titles - known.retired - present
        added = present - known.titles
        known.titles |= present
        known.retired -= present
        if added:
            known.retired |= absent
        for title in present:
            groups = [titles[title] for _, titles in known.groups.values() if title in titles]
            quiet = as_is or (title in added and (untracked or bool(absent)))
            for n, i in enumerate(FIELDS):
                value = add([group[n] for group in groups])
                self.read(("message", (key, title), i), value, as_is=quiet, counts=counts)

    def read(self, series: Series, value: Count, *, as_is: bool, counts: bool) -> None:
        """Read one value of one series."""
        line = self.truth.lines[series]
        if value is INVALID and not line.readings and as_is:
            line.blind = True
        if not isinstance(value, int):
            return
        if not line.readings:
            line.from_zero = not (as_is or line.blind)
            if line.from_zero:
                self.truth.held[series] = self.now + HOLD
        line.readings.append((value, counts and series not in self.truth.held))

    def compare(self) -> None:
        """Compare every series' samples with the truth, and the published set with what is tracked."""
        snapshot = self.window.snapshot(self.now)
        published = {(item.campaign_id, item.channel): item for item in snapshot.campaigns}
        assert self.truth.tracked == set(published)
        channels: dict[tuple[str, int], int] = defaultdict(int)
        for series, line in list(self.truth.lines.items()):
            kind, owner, index = series
            if kind == "campaign":
                channels[owner[1], index] += line.total
                if owner in published:
                    assert line.level == published[owner].values[index]
                    assert line.total - self.first.get(series, line.total) == increase(self.history[series])
        for (channel, index), total in channels.items():
            samples = self.history["channel", channel, index]
            exists = any(
                line.readings and kind == "campaign" and owner[1] == channel and i == index
                for (kind, owner, i), line in self.truth.lines.items()
            )
            assert ([0] if exists else []) == samples[:1]
            assert total == increase(samples)
        for campaign in published.values():
            for message in campaign.messages:
                for index in FIELDS:
                    series = ("message", ((campaign.campaign_id, campaign.channel), message.title), index)
                    line = self.truth.lines[series]
                    assert line.level == message.values[index]
                    assert line.total - self.first.get(series, line.total) == increase(self.history[series])

    @invariant()
    def never_less_than_saved(self) -> None:
        """Whatever is published now could be read back from the disk, by another process."""
        if not hasattr(self, "state"):
            return
        saved = State.open_readonly(self.state.path, clock=lambda: 0.0)
        again = Window("a", None, self.settings, saved=saved.load("a"), now=self.now)
        assert self.window.snapshot(self.now) == again.snapshot(self.now)
        saved.close()


def copy_files(source: Path, target: Path) -> None:
    """Copy a state file with its journal, as a kill would leave them."""
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{source}{suffix}", f"{target}{suffix}")


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
