"""How many channels, conversion events and periods an account may have.

An API that invents one with every answer would make series, records and memory without bound. So the first ones
stay, and what comes on top of them is counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Final

from exporter.api.fields import CHANNEL, EVENT, LABEL_LIMITS, PERIOD
from exporter.api.model import Conversion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.api.model import R, Row
    from exporter.tracking.model import SavedAccount

OTHER: Final = "other"
"""The channel of messages whose own channel is one too many."""


class LabelLimits:
    """The values that were taken so far, by field; safe to use from several threads.

    `saved` is what the account had before a restart: what had too many labels then begins anew, so that an API
    that is healthy again gets its labels back. `overflowed` are the fields that have had too many since.
    """

    def __init__(self, saved: SavedAccount | None) -> None:
        self._lock = Lock()
        self._taken = _values(saved)
        self._taken |= {name: set() for name in (() if saved is None else saved.account.overflowed)}
        self.overflowed: tuple[str, ...] = ()

    def bounded(self, rows: Sequence[R]) -> tuple[Sequence[R], Mapping[str, int]]:
        """Return the rows to use, and how many values were too many, by field.

        Messages are counted as those of the channel `OTHER`: no message is in two channels. A conversion may
        be in several events and periods, whose sums mean nothing: its row is left out.
        """
        with self._lock:
            over = {labels: self._over(labels) for labels in dict.fromkeys(map(_labels, rows))}
        if not any(over.values()):
            return rows, {}
        bounded: list[R] = []
        excess: Counter[str] = Counter()
        for row in rows:
            fields = over[_labels(row)]
            excess.update(fields)
            if not fields:
                bounded.append(row)
            elif fields == [CHANNEL]:
                bounded.append(replace(row, channel=OTHER))  # type: ignore[type-var] # all rows are dataclasses
        self.overflowed = tuple(sorted({*self.overflowed, *excess}))
        return bounded, excess

    def _over(self, labels: Sequence[str]) -> list[str]:
        """Take the values of a row, or return the fields of which they are too many.

        What isn't exported takes no place.
        """
        values = dict(zip(LABEL_LIMITS, labels, strict=False))
        over = [name for name, value in values.items() if not self._has_room(name, value)]
        if not {EVENT, PERIOD} & set(over):
            for name in values.keys() - over:
                self._taken[name].add(values[name])
        return over

    def _has_room(self, name: str, value: str) -> bool:
        taken = self._taken[name]
        return value in taken or len(taken) < LABEL_LIMITS[name] or (name, value) == (CHANNEL, OTHER)


def _labels(row: Row) -> tuple[str, ...]:
    """Return a row's values of the fields in `LABEL_LIMITS`, in their order, as far as it has them."""
    channel = row.channel
    return (channel, row.event, row.period) if isinstance(row, Conversion) else (channel,)


def _values(saved: SavedAccount | None) -> dict[str, set[str]]:
    """Return the values that are known of each field."""
    if saved is None:
        return {name: set() for name in LABEL_LIMITS}
    gauges = [gauge for record in saved.conversions for gauge in record.gauges]
    channels = {record.channel for record in saved.channels}
    channels |= {record.channel for record in saved.campaigns} | {item.channel for item in saved.conversions}
    return {
        CHANNEL: channels - {OTHER},
        EVENT: {gauge.event for gauge in gauges},
        PERIOD: {gauge.period for gauge in gauges},
    }
