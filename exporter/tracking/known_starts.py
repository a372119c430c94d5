"""Where the rows of an account are known to be, to plan its polls with."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from exporter.api.fields import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from exporter.api.model import Row
    from exporter.tracking.campaigns import Campaigns
    from exporter.tracking.conversions import Conversions
    from exporter.tracking.model import CampaignRecord, ConversionsRecord, Key
    from exporter.tracking.still_sending import StillSending


class KnownStarts:
    """Looks up starts in what is tracked of both resources; changes nothing. `window` in seconds."""

    def __init__(
        self, campaigns: Campaigns, conversions: Conversions, still_sending: StillSending, window: float
    ) -> None:
        self._campaigns = campaigns
        self._conversions = conversions
        self._still_sending = still_sending
        self._window = window

    def _records(self, resource: str) -> Mapping[Key, CampaignRecord | ConversionsRecord]:
        return self._campaigns.records if resource == STATISTICS else self._conversions.records

    def old_campaigns(self, wall: float) -> frozenset[int]:
        """Return the tracked campaigns that started before the window: they must be read by their ids."""
        first = wall - self._window
        return frozenset(
            key[0]
            for records in (self._campaigns.records, self._conversions.records)
            for key, record in records.items()
            if key[0] in self._still_sending.times and max(record.starts) < first
        )

    def moved(
        self, resource: str, rows: Iterable[Row], loaded: Iterable[CampaignRecord] = ()
    ) -> frozenset[int]:
        """Return the campaigns of which `rows` have a start that isn't the one known so far.

        Their start was changed, maybe while they were being read: under both starts they would count twice.
        Who reads them again by their ids gets them once. `loaded` as for `Window.merge_statistics`.
        """
        archive = {record.key: record for record in loaded}
        seen: dict[Key, set[float]] = defaultdict(set)
        for row in rows:
            seen[row.campaign_id, row.channel].add(row.start)
        moved = set()
        for key, starts in seen.items():
            record: CampaignRecord | ConversionsRecord | None = self._conversions.records.get(key)
            if resource == STATISTICS:
                record = self._campaigns.known(key) or archive.get(key)
            known = set() if record is None else set(record.starts)
            if len(starts | known) > 1 and not starts <= known:
                moved.add(key[0])
        return frozenset(moved)

    def starts(self, resource: str, ids: AbstractSet[int]) -> set[float]:
        """Return all starts that are known of some campaigns."""
        records = self._records(resource)
        return {start for key, record in records.items() if key[0] in ids for start in record.starts}

    def rows(self, resource: str) -> list[tuple[int, str, float, int]]:
        """Return where rows are known to be: campaign, channel, start, and how many."""
        counts: Counter[tuple[int, str, float]] = Counter()
        for key, record in self._records(resource).items():
            for group in record.groups:
                counts[*key, group.start] += group.rows
        return [(*place, rows) for place, rows in counts.items()]
