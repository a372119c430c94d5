"""What is known of one account, and its place in the state file."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.errors import StateError, StateLostError
from exporter.logs import fields
from exporter.tracking.model import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.exposition.self_metrics import SelfMetrics
    from exporter.tracking.model import CampaignRecord, Moment, SavedAccount
    from exporter.tracking.state_file import State
    from exporter.tracking.window import Window

log = logging.getLogger(__name__)


class AccountStore:
    """Loads and saves one account's `window`; whoever uses that holds `lock`.

    A state that can't be used is counted and logged, never raised: polling goes on, and the next save tries
    again. What can't be read isn't overwritten either. Without `writes` nothing is saved.
    """

    def __init__(
        self,
        account: str,
        base_url: str,
        make_window: Callable[[SavedAccount | None], Window],
        *,
        state: State,
        metrics: SelfMetrics,
        notes: Iterable[str],
        writes: bool = True,
    ) -> None:
        self.lock = threading.Lock()
        self._account = account
        self._base_url = base_url
        self._state = state
        self._metrics = metrics
        self._writes = writes
        self._saved_notes: dict[str, str] = {}
        self.notes: Mapping[str, str] = {}
        self.window = make_window(self._load(notes))

    def _load(self, keys: Iterable[str]) -> SavedAccount | None:
        try:
            saved = self._state.load(self._account, self._base_url)
            notes = {key: self._state.load_note(self._account, self._base_url, key) for key in keys}
        except StateError as error:
            self._report(error)
            self._writes = False
            return None
        self.notes = {key: note for key, note in notes.items() if note is not None}
        return saved

    def archived(self, keys: Iterable[tuple[int, str]]) -> list[CampaignRecord]:
        """Return what was saved of these campaigns and channels when they left the window."""
        try:
            return self._state.load_campaigns(self._account, self._base_url, keys)
        except StateError as error:
            log.warning("archive not read", extra=fields(account=self._account, error=str(error)))
            return []

    def save(self, notes: Mapping[str, str], now: Moment) -> None:
        """Save what has changed, with `notes` by key; hold the lock."""
        if not self._writes:
            return
        news = {key: note for key, note in notes.items() if self._saved_notes.get(key) != note}
        for whole in (False, True):
            changes = self.window.changes(now, whole=whole)
            changes = replace(changes, notes=dict(notes) if whole else news)
            if changes == Changes():
                return
            try:
                self._state.save(self._account, self._base_url, changes)
            except StateLostError as error:
                self._report(error)
                continue  # a new file was begun: everything has to go into it
            except StateError as error:
                self._report(error)
                return
            self.window.saved(changes, now)
            self._saved_notes = dict(notes)
            return

    def _report(self, error: StateError) -> None:
        self._metrics.state_save_failed()
        log.error("state not saved", extra=fields(account=self._account, error=str(error)))
