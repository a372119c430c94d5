"""How far a backfill is, for whoever waits for it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, TextIO

from tqdm import tqdm

from exporter.logs import fields

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_LOG_EVERY: Final = 30.0


class Progress:
    """How far it is: a bar if `stream` is a terminal, else a log line now and then."""

    def __init__(self, stream: TextIO, out: TextIO, monotonic: Callable[[], float]) -> None:
        self._out = out
        self._monotonic = monotonic
        self._logged_at = monotonic()
        self._done = self._total = 0
        self._bar = tqdm(total=0, file=stream, unit="step", leave=False) if stream.isatty() else None

    def expect(self, steps: int) -> None:
        """Tell of more steps to come, or of fewer."""
        self._total += steps
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.refresh()

    def advance(self, account: str, steps: int = 1) -> None:
        """Tell that steps of an account are done."""
        self._done += steps
        if self._bar is not None:
            self._bar.set_description(account, refresh=False)
            self._bar.update(steps)
        elif self._monotonic() >= self._logged_at + _LOG_EVERY:
            self._logged_at = self._monotonic()
            log.info("backfill", extra=fields(account=account, done=self._done, of=self._total))

    def say(self, line: str) -> None:
        """Print a line of the result."""
        with tqdm.external_write_mode(self._out) if self._bar is not None else nullcontext():
            self._out.write(line + "\n")
            self._out.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
