"""The channels of an account: sums of what its campaigns grew by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.tracking.counters import NEW
from exporter.tracking.model import ChannelRecord, ChannelSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from exporter.tracking.counters import Counters, Step


class Channels:
    """The counters of all channels that were ever seen.

    `unsaved` has what changed since the last save (None: forgotten).
    """

    def __init__(self, records: Iterable[ChannelRecord]) -> None:
        self.records = {record.channel: record for record in records}
        self.unsaved: dict[str, ChannelRecord | None] = {}
        self.has_changed = True

    def add(self, channel: str, step: Step, *, hold_until: float | None) -> None:
        """Add what a campaign of the channel grew by; a field's first value begins it at 0, held."""
        before = self.records.get(channel)
        counters = (NEW if before is None else before.counters).add(step, hold_until=hold_until)
        record = ChannelRecord(channel, counters)
        if record != before:
            self._put(record)

    def _put(self, record: ChannelRecord) -> None:
        self.records[record.channel] = self.unsaved[record.channel] = record
        self.has_changed = True

    def forget_all_but(self, used: AbstractSet[str]) -> None:
        """Forget the channels that aren't in `used`."""
        for name in self.records.keys() - used:
            del self.records[name]
            self.unsaved[name] = None

    @property
    def release_at(self) -> float:
        """When the next hold ends, in steady seconds; infinity: none does."""
        return min((record.counters.release_at for record in self.records.values()), default=math.inf)

    def release(self, steady: float) -> bool:
        """End the holds that are due; return whether there were any."""
        released = self._changed_by(lambda counters: counters.release(steady))
        for record in released:
            self._put(record)
        return bool(released)

    def hold_anew(self, until: float | None) -> None:
        """Begin every hold that hasn't ended anew. Nothing to save: every load does the same."""
        for record in self._changed_by(lambda counters: counters.hold_anew(until)):
            self.records[record.channel] = record
            self.has_changed = True

    def _changed_by(self, change: Callable[[Counters], Counters]) -> list[ChannelRecord]:
        changed = [(record, change(record.counters)) for record in self.records.values()]
        return [
            replace(record, counters=counters)
            for record, counters in changed
            if counters is not record.counters
        ]

    def snapshots(self, *, hold: bool) -> tuple[ChannelSnapshot, ...]:
        """Return what to export, by name."""
        return tuple(
            [
                ChannelSnapshot(
                    name, record.counters.exported(hold=hold), record.counters.exported_overcount(hold=hold)
                )
                for name, record in sorted(self.records.items())
            ]
        )
