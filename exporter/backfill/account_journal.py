"""The journal of one account, and what its records say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.api.fields import CONVERSIONS, STATISTICS
from exporter.api.model import Conversion, MessageStats, TimeRange
from exporter.backfill.arguments import format_time
from exporter.backfill.journal import FORMAT, Journal
from exporter.backfill.resource_history import CONVERSIONS_KIND, STATISTICS_KIND, ResourceHistory
from exporter.backfill.span import Span
from exporter.collect.ranges import subtract
from exporter.config.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from exporter.backfill.arguments import Order
    from exporter.backfill.journal import Record
    from exporter.config.model import AccountConfig

_NAMED = 5  # campaigns that a message names before it says "and more"


class AccountJournal:
    """What one account was answered so far. Every `note_…` is on the disk before it returns.

    `until` is where the history ends if the journal is new. Raises ConfigError, OSError.
    """

    def __init__(
        self, path: Path, account: AccountConfig, order: Order, *, until: int, with_conversions: bool
    ) -> None:
        header = {
            "backfill": FORMAT,
            "account": account.name,
            "base_url": account.base_url,
            "from": format_time(order.first),
            "to": format_time(order.last),
            "step": format_duration(order.step),
            "conversions": with_conversions,
            "until": until,
        }
        self._journal = Journal(path, header)
        self.span = Span(order.first, self._journal.header["until"], order.step)
        self.statistics: ResourceHistory[MessageStats] = ResourceHistory(STATISTICS_KIND)
        self.conversions: ResourceHistory[Conversion] | None = (
            ResourceHistory(CONVERSIONS_KIND) if with_conversions else None
        )
        self.histories: dict[str, ResourceHistory[Any]] = {STATISTICS: self.statistics}
        if self.conversions is not None:
            self.histories[CONVERSIONS] = self.conversions
        self.senders: list[Record] = []
        self.files: dict[str, int] | None = None
        self._faults: dict[str, None] = {}
        for record in self._journal.records:
            self._apply(record)
        self._journal.records.clear()  # what they say is known now

    def close(self) -> None:
        """Let go of the file."""
        self._journal.close()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to ask; then `files` has how many samples each file has."""
        return self.files is not None

    def note_answer(self, history: ResourceHistory[Any], kind: str, **more: object) -> None:
        """Note what was answered about a resource."""
        self._note({"kind": kind, "endpoint": history.name, **more})

    def note_senders(self, part: TimeRange, ids: Collection[int], *, settled: bool, lacking: str) -> None:
        """Note which older campaigns sent in a part of the span; not `settled`: smaller parts may tell more."""
        tried = [part.first, part.last]
        ranges = [tried] if settled else []
        self._note(
            {"kind": "senders", "tried": tried, "ranges": ranges, "ids": sorted(ids), "lacking": lacking}
        )

    def note_finished(self, files: dict[str, int]) -> None:
        """Note which files were written, and how many samples each has."""
        self._note({"kind": "finished", "files": files})

    def lacks_senders_of(self, part: TimeRange) -> bool:
        """Whether nobody looked yet for older campaigns that sent in this part."""
        if any(record["tried"] == [part.first, part.last] for record in self.senders):
            return False
        settled = [TimeRange(*one) for record in self.senders for one in record["ranges"]]
        return bool(subtract([part], settled))

    @property
    def faults(self) -> tuple[str, ...]:
        """What is missing, in words, each once."""
        divides = any(history.divides for history in self.histories.values())
        lacking = {record["lacking"]: None for record in self.senders if record["lacking"] and divides}
        unproven = [
            f"{history.name} of {_campaigns(sorted(history.unproven))} may lack rows; raise api.per_page"
            for history in self.histories.values()
            if history.unproven
        ]
        return (*lacking, *unproven, *self._faults)

    def _note(self, record: Record) -> None:
        self._journal.add(record)
        self._apply(record)

    def _apply(self, record: Record) -> None:
        if record.get("fault"):
            self._faults[record["fault"]] = None
        kind = record["kind"]
        if kind == "senders":
            self.senders.append(record)
        elif kind == "finished":
            self.files = record["files"]
        elif kind != "checked":  # 0.1.0 compared sums at the end
            self.histories[record["endpoint"]].apply(record)


def _campaigns(ids: Sequence[int]) -> str:
    """Name some campaigns."""
    named = ", ".join(str(number) for number in ids[:_NAMED])
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{'campaign' if len(ids) == 1 else 'campaigns'} {named}{more}"
