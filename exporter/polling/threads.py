"""Several calls at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def run_concurrently(calls: Iterable[Callable[[], object]]) -> None:
    """Make all calls at the same time, each in a thread of its own, and return once all have ended."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
