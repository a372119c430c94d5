"""Servers drawn at random: whether anything is short without a word or never ends, and what is flagged.

Run it as ``python -m tests.collect.worlds -n 4000``. A server is drawn from all readings and limits of the
API's page together; rows change and deadlines fall in the middle of polls.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from exporter.api.model import MessageStats, TimeRange
from exporter.collect.collector import Collector
from exporter.collect.refresh_plan import Rounds, Tier
from exporter.errors import DeadlineError
from tests._cutapi import CutApi, stats

if TYPE_CHECKING:
    from exporter.collect.collector import Poll

NOW = 1_763_000_000
DAY = 86400
WINDOW = 14 * DAY
INTERVAL = 300
POLLS = 120
"""How many polls a world has to finish its rounds."""
ENDLESS = 3000
"""Requests in one poll that count as never ending."""
ODD_READINGS = ("midnight", "day", "end", "ids_taken", "ids_ignored", "half")


@dataclass
class Outcome:
    """How one world ended."""

    silent: int = 0
    flagged: int = 0
    flagged_whole: int = 0
    clean: int = 0
    endless: int = 0
    over_cost: int = 0
    worst: str = ""
    reasons: Counter[tuple[str, bool]] = field(default_factory=Counter)


def bag(rows: object) -> Counter[object]:
    """Return how many rows each group has."""
    return Counter(row.group for row in rows)


def draw_rows(rng: random.Random, count: int) -> list[MessageStats]:
    """Draw campaigns: crowded or spread, with one message or many, identifiers in some order."""
    first = NOW - WINDOW
    clustering = rng.choice(("spread", "spread", "hours", "seconds", "daily"))
    moments = [rng.randint(first, NOW - 5) for _ in range(rng.randint(1, 12))]
    moments += [moment + 1 for moment in moments[:2]]
    fractions = rng.random() < 0.2
    messages = rng.choice(((1,), (1,), (1, 1, 1, 2, 3), (1, 2, 12)))
    draws = {
        "spread": lambda: rng.randint(first, NOW - 5),
        "hours": lambda: rng.randint(first // 3600 + 1, NOW // 3600 - 1) * 3600,
        "daily": lambda: (first // DAY + rng.randint(1, 13)) * DAY + 36000,
        "seconds": lambda: rng.choice(moments),
    }
    starts = [
        draws["spread" if clustering != "daily" and rng.random() < 0.3 else clustering]()
        + (rng.choice((0.25, 0.5)) if fractions and rng.random() < 0.5 else 0.0)
        for _ in range(count)
    ]
    starts.sort()
    numbers = rng.choice(("rising", "gaps", "sparse", "ahead", "random"))
    step = {"rising": 1, "gaps": 3, "sparse": 900, "ahead": 2, "random": 5}[numbers]
    ids = [10_000]
    for _ in range(count):
        ids.append(ids[-1] + rng.randint(1, step))
    if numbers == "random":
        rng.shuffle(ids)
    elif numbers == "ahead":
        for _ in range(count // 8):
            one, other = rng.randrange(count), rng.randrange(count)
            ids[one], ids[other] = ids[other], ids[one]
    return [
        stats(number, start, f"m{index % 2}", rng.choice(("email", "email", "sms")))
        for number, start in zip(ids, starts, strict=False)
        for index in range(rng.choice(messages))
    ]


def draw(seed: int) -> tuple[CutApi, random.Random, set[str]]:
    """Draw a server; return it, the dice of what happens to it, and its oddities."""
    rng = random.Random(seed)
    rows = draw_rows(rng, rng.choice((0, 3, 9, 20, 40, 80, 150, 300)))
    if rng.random() < 0.85:  # an account has a past
        rows += [
            stats(i + 1, float(NOW - WINDOW - rng.randint(DAY, 30 * DAY))) for i in range(rng.randint(5, 120))
        ]
    api = CutApi(
        rows,
        cap=rng.choice((10, 11, 17, 50, 50, 100, None)),
        unit=rng.choice(("rows", "rows", "campaigns", "pairs")),
        from_inclusive=rng.random() < 0.6,
        to_inclusive=rng.random() < 0.6,
        order=rng.choice(("start", "start_desc", "id", "shuffled")),
        total=rng.choice(("none", "none", "none", "true", "true", "all", "zero", "page")),
        zone=rng.choice((0, 0, 0, 0, 7200, 10800, -18000, 19800)),
        combine=rng.choice(("and", "and", "send", "start")),
        send_filter=rng.random() < 0.8,
        seed=seed,
    )
    if rng.random() < 0.3:
        api.caps = {"ids": rng.choice((10, 20, 50)), "send": rng.choice((10, 50))}
    for row in rows:
        api.sent[row.campaign_id] = [
            int(row.start),
            *([NOW - rng.randint(60, DAY - 60)] if rng.random() < 0.2 else []),
        ]
        length = rng.choice((60, 3600, DAY, 5 * DAY))
        api.stops[row.campaign_id] = None if rng.random() < 0.1 else row.start + length
    odd: set[str] = set()
    if rng.random() < 0.3:
        odd.add(rng.choice((*ODD_READINGS, "half")))
    if odd & {"midnight", "day", "end"}:
        api.to_means = next(iter(odd))
    if "ids_taken" in odd:
        api.ids_taken = rng.choice((1, 5, 20))
    api.ids_filter = "ids_ignored" not in odd
    if rng.random() < 0.35:
        api.most_per_page = rng.choice((None, None, 100, 50, 10))
        api.most_seconds = rng.choice((None, None, 7 * DAY, 2 * DAY))
        api.slowest = rng.choice((None, None, 3 * DAY))
        api.most_ids = rng.choice((None, None, 20, 1))
        api.future = rng.random() < 0.7
    return api, rng, odd


def change(api: CutApi, rng: random.Random, poll: int) -> None:
    """Let new campaigns start, old ones vanish, and the cap be lowered."""
    for _ in range(rng.choice((0, 1, 3))):
        number = max((row.campaign_id for row in api.rows), default=10_000) + 1
        start = float(api.now - rng.randint(1, INTERVAL))
        api.rows.append(stats(number, start))
        api.sent[number], api.stops[number] = [int(start)], start
    if api.rows and rng.random() < 0.2:
        del api.rows[rng.randrange(len(api.rows))]
    if poll == 2 and rng.random() < 0.1 and (api.cap or 0) >= 50:
        api.cap //= 2


class World:
    """One server and whoever polls it."""

    def __init__(self, seed: int) -> None:
        self.api, self.rng, self.odd = draw(seed)
        self.collector: Collector[MessageStats] = Collector(
            per_page=self.rng.choice((500, 500, 500, 30, 10)),
            rounds=Rounds([Tier(WINDOW, INTERVAL)], WINDOW, INTERVAL),
            concurrency=self.rng.choice((1, 1, 1, 2)),
        )
        self.deadlines, self.moves = self.rng.random() < 0.25, self.rng.random() < 0.25
        self.shortest = self.rng.choice((12, 30, 60))
        self.result = Outcome()
        self.exposed: Counter[object] = Counter()
        self.earlier: Counter[object] = Counter()
        self.changed: set[object] = set()
        self.done = 0
        self.senders_short = False

    def poll(self, number: int) -> None:
        """Poll once, and judge what a finished round brought."""
        api = self.api
        api.now = NOW + number * INTERVAL
        if number:
            change(api, self.rng, number)
        stable = bag(api.rows)
        self.earlier, stable = stable, stable & self.earlier if "half" in self.odd and self.done else stable
        self.changed = set()
        api.between = self.move if self.moves else lambda: None
        deadline = self.rng.randint(self.shortest, 2 * self.shortest)
        api.deadline = deadline if self.deadlines and number < POLLS - 20 else None
        api.half = 0.05 if "half" in self.odd and self.done else 0.0
        before = len(api.requests)
        if not self.collector.rounds.unfinished:
            self.exposed.clear()
        poll = self.collector.poll(api, now=api.now, clock=float(number * INTERVAL))
        window = poll.window()
        looks = self.rng.random() < 0.5 or self.collector.search is not None
        if looks and not self.deadlines:
            self.look_for_senders(poll, number)
        self.result.endless += len(api.requests) - before > ENDLESS
        self.exposed |= bag(window.rows)
        if window.failure is not None and not isinstance(window.failure, DeadlineError):
            self.result.worst = f"failed: {window.failure}"
            self.done = POLLS
        elif not self.collector.rounds.unfinished:
            self.judge(stable, number)

    def judge(self, stable: Counter[object], number: int) -> None:
        """Compare what a round brought with what there is."""
        first, result, reasons = self.api.now - WINDOW, self.result, self.collector.incomplete
        expected = {
            group: count
            for group, count in stable.items()
            if group not in self.changed and first <= group[2] <= self.api.now
        }
        short = Counter(expected) - self.exposed
        self.done += 1
        if reasons:
            lacks = bool(short) or (self.senders_short and bool(self.collector.unseen_senders))
            result.flagged += 1
            result.flagged_whole += not lacks
            for reason in reasons:
                result.reasons[re.sub(r"\d+", "n", reason)[:40], not lacks] += 1
        elif short:
            result.silent += 1
            result.worst = f"poll {number}: {sum(short.values())} of {sum(expected.values())} short"
        else:
            result.clean += 1

    def look_for_senders(self, poll: Poll[MessageStats], number: int) -> None:
        """Search for old campaigns that still send, and see whether any is missing without a word."""
        api, first, last = self.api, int(self.api.now) - DAY, int(self.api.now)
        before = last - WINDOW
        senders = poll.senders(TimeRange(first, last), before)
        old = {row.campaign_id for row in api.rows if row.start < before}
        still = {number for number in old if any(first <= at <= last for at in api.sent[number])}
        self.senders_short = not still <= senders.ids
        told = senders.unseen or senders.ignored or self.moves or api.half
        if not told and self.senders_short:
            self.result.silent += 1
            self.result.worst = f"poll {number}: {len(still - senders.ids)} senders short"

    def move(self) -> None:
        """Rename a row or take it away, in the middle of a poll."""
        rows, rng = self.api.rows, self.rng
        if rows and rng.random() < 0.05:
            index = rng.randrange(len(rows))
            if rng.random() < 0.5:
                rows[index] = replace(rows[index], title="renamed")
            else:
                self.changed.add(rows.pop(index).group)


def run(seed: int, *, rounds: int = 4, verbose: bool = False) -> Outcome:
    """Poll one world for some rounds; return how that went."""
    world = World(seed)
    for number in range(POLLS):
        world.poll(number)
        if verbose:
            print(
                number,
                len(world.api.requests),
                world.result,
                world.collector.incomplete,
                world.collector.limits,
            )
        if world.done >= rounds:
            return world.result
    world.result.endless += 1
    return world.result


def main() -> None:
    """Print what became of the worlds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="how many worlds")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--only", type=int, help="one world, with details")
    args = parser.parse_args()
    if args.only is not None:
        api, _, odd = draw(args.only)
        print(replace(api, rows=[], sent={}, stops={}, between=None), odd, len(api.rows))
        print(run(args.only, verbose=True))
        return
    total, reasons, silent, endless, failed = Counter(), Counter(), [], [], []
    for seed in range(args.seed, args.seed + args.n):
        outcome = run(seed)
        for name in ("silent", "flagged", "flagged_whole", "clean", "endless"):
            total[name] += getattr(outcome, name)
        odd = draw(seed)[2]
        reasons += outcome.reasons
        silent += [(seed, outcome.worst, *odd)] if outcome.silent else []
        endless += [seed] if outcome.endless else []
        failed += [seed] if outcome.worst.startswith("failed") else []
    share = total["flagged_whole"] / max(1, total["flagged"])
    print(f"{args.n} servers: {len(silent)} silently short, {len(endless)} never ending, {len(failed)} failed")
    print(f"results: {dict(total)}; of those flagged {share:.0%} lack nothing")
    for (reason, whole), count in sorted(reasons.items()):
        print(f"{count:6} {'lacks nothing' if whole else 'lacks rows   '} {reason}")
    for name, seeds in (("silent", silent), ("endless", endless), ("failed", failed)):
        print(name, seeds[:20])


if __name__ == "__main__":
    main()
