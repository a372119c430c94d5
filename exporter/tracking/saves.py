"""When the record of an account as a whole is to be saved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exporter.tracking.model import AccountRecord, Moment

TIMES_SAVED_EVERY: Final = 300.0
"""Times alone, of successes and discoveries, are saved once in so many seconds at most."""


class AccountSaves:
    """What was last saved of an account as a whole.

    Times alone can wait for something that changes, as long as they still let data look fresh after a restart;
    but a poll that fails saves when the last one succeeded.
    """

    def __init__(self, saved: AccountRecord | None, *, stale_after: float) -> None:
        self.is_first = saved is None
        self.has_failed = False
        self._saved = saved
        self._saved_at = -math.inf
        self._every = min(TIMES_SAVED_EVERY, stale_after / 4)

    def is_due(self, account: AccountRecord, now: Moment, *, with_others: bool) -> bool:
        """Whether `account` must be saved; `with_others`: something else will be."""
        before = self._saved
        if account == before:
            return False
        if before is None or with_others or self.has_failed or now.steady >= self._saved_at + self._every:
            return True
        has_same_ids = account.discovered.keys() == before.discovered.keys()
        return not (has_same_ids and account.proven == before.proven)

    def saved(self, account: AccountRecord | None, now: Moment) -> None:
        """Note that a save succeeded, of `account` if it had one."""
        self.is_first = False
        if account is not None:
            self._saved, self._saved_at = account, now.steady
            self.has_failed = False
