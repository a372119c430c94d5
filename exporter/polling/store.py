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

    A state that can't be used is counted, logged and kept as `problem`, never raised: polling goes on, and the
    next save tries again. What can't be read isn't overwritten either: once it can be, what was found meanwhile
    goes into it, so that counters go on from what is exported. Without `writes` nothing is saved.
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
        self.problem: str | None = None
        self.notes: Mapping[str, str] = {}
        self._account = account
        self._base_url = base_url
        self._state = state
        self._metrics = metrics
        self._writes = writes
        self._saved_notes: dict[str, str] = {}
        self._is_loaded = False
        self.window = make_window(self._load(notes))

    def _load(self, keys: Iterable[str]) -> SavedAccount | None:
        try:
            saved = self._state.load(self._account, self._base_url)
            notes = {key: self._state.load_note(self._account, self._base_url, key) for key in keys}
        except StateError as error:
            self._failed(error, "state not loaded")
            return None
        self._is_loaded = True
        self.notes = {key: note for key, note in notes.items() if note is not None}
        self._succeeded()
        return saved

    def archived(self, keys: Iterable[tuple[int, str]]) -> list[CampaignRecord] | None:
        """Return what was saved of these campaigns and channels when they left the window; None: unreadable."""
        try:
            return self._state.load_campaigns(self._account, self._base_url, keys)
        except StateError as error:
            log.warning("archive not read", extra=fields(account=self._account, error=str(error)))
            return None

    def save(self, notes: Mapping[str, str], now: Moment) -> None:
        """Save what has changed, with `notes` by key; hold the lock."""
        if not self._writes:
            return
        try:
            if not self._is_loaded:
                self._take_up(notes, now)
            else:
                self._save(notes, now)
        except StateError as error:
            self._failed(error, "state not saved")
        else:
            self._succeeded()

    def _save(self, notes: Mapping[str, str], now: Moment) -> None:
        news = {key: note for key, note in notes.items() if self._saved_notes.get(key) != note}
        changes = replace(self.window.changes(now), notes=news)
        if changes == Changes():
            return
        try:
            self._put(changes, notes, now)
        except StateLostError as error:
            self._failed(error, "state not saved")
            # A new file was begun: everything has to go into it
            self._put(replace(self.window.changes(now, whole=True), notes=dict(notes)), notes, now)

    def _take_up(self, notes: Mapping[str, str], now: Moment) -> None:
        """Save into a file that could not be read before what was found meanwhile, beside what it has."""
        saved = self._state.load(self._account, self._base_url)
        changes = replace(self.window.changes(now, whole=True), notes=dict(notes))
        self._put(changes if saved is None else replace(changes, whole=False), notes, now)
        self._is_loaded = True
        log.info("state taken up", extra=fields(account=self._account))

    def _put(self, changes: Changes, notes: Mapping[str, str], now: Moment) -> None:
        self._state.save(self._account, self._base_url, changes)
        self.window.saved(changes, now)
        self._saved_notes = dict(notes)

    def _succeeded(self) -> None:
        if self.problem is not None:
            log.info("state can be used again", extra=fields(account=self._account))
        self.problem = None
        self._tell(usable=True)

    def _failed(self, error: StateError, message: str) -> None:
        self.problem = str(error)
        self._metrics.state_save_failed()
        self._tell(usable=False)
        log.error(message, extra=fields(account=self._account, error=str(error)))

    def _tell(self, *, usable: bool) -> None:
        if self._state.path is not None:
            self._metrics.state_usable(usable, self._account)
