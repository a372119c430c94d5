"""History as OpenMetrics files: what every campaign had at the end of each step of a span of time.

The API gives totals. If its send filter divides them, each step asks what was sent *from the beginning* until
its end, rather than within it: neighbouring steps then neither count a message twice nor leave one out,
whichever bounds are inclusive; a campaign that began long ago has its true value from the first step on; and
a step that is lost or asked again spoils no other. If it does not, there is no history within a campaign:
each stands at 0 before it started and at its total afterwards.

Everything that was answered goes into a journal in the output directory, record by record. Another run with
the same arguments reads it and asks only for the rest; the files are a function of the journal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import CONVERSIONS, STATISTICS
from exporter.backfill import files
from exporter.backfill.account_journal import AccountJournal
from exporter.backfill.arguments import format_time, usage_error
from exporter.backfill.reading import Reading
from exporter.backfill.requests import Requests
from exporter.backfill.send_filter import WORDS
from exporter.backfill.series import AccountSeries
from exporter.errors import PollError, StoppedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from exporter.backfill.arguments import Order
    from exporter.backfill.progress import Progress
    from exporter.backfill.resource_history import SendFilter
    from exporter.backfill.span import Span
    from exporter.config.model import AccountConfig, Config
    from exporter.polling.client import Client

_RESOURCE_WORDS: Final = {STATISTICS: "counts", CONVERSIONS: "conversions"}


class Connect(Protocol):
    """Makes the client of one account, whose requests and waits end when `stop` is set."""

    def __call__(self, account: AccountConfig, config: Config, *, stop: threading.Event) -> Client:
        """Return the client."""


def connect(account: AccountConfig, config: Config, *, stop: threading.Event) -> Client:
    """Return the client of the account's API."""
    return ApiClient(ApiSettings.of(account, config.api), token=account.read_token, stop=stop)


class AccountBackfill:
    """The backfill of one account: asks what its journal doesn't have yet, then writes the files."""

    def __init__(
        self,
        account: AccountConfig,
        config: Config,
        order: Order,
        *,
        until: int,
        client: Client,
        progress: Progress,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Open the journal. Raises ConfigError, OSError."""
        self.name = account.name
        self._account = account
        self._config = config
        self._order = order
        self._client = client
        self._progress = progress
        path = order.output / f".{files.file_stem(account.name)}.backfill.jsonl"
        with_conversions = config.poll.conversions_every is not None
        self._journal = AccountJournal(path, account, order, until=until, with_conversions=with_conversions)
        self._requests = Requests(
            client,
            config.api,
            self._journal.span,
            wall=wall,
            monotonic=monotonic,
        )
        self._progress.expect(0 if self._journal.finished else self._steps)

    @property
    def span(self) -> Span:
        """The time that the history covers."""
        return self._journal.span

    @property
    def faults(self) -> tuple[str, ...]:
        """What is missing, in words."""
        return self._journal.faults

    @property
    def _steps(self) -> int:
        """How many steps of the progress bar it is, if the send filter divides."""
        return len(self._journal.histories) * (len(self.span.months) + len(self.span.ends))

    def close(self) -> None:
        """Let go of journal and connections."""
        self._client.close()
        self._journal.close()

    def run(self) -> list[str]:
        """Ask for everything, write the files, and return what there is to say. Raises PollError and others."""
        written = self._journal.files
        if written is None:
            advance = partial(self._progress.advance, self.name)
            Reading(self._journal, self._requests, advance=advance, expect=self._progress.expect).run()
            made = self._write()
            self._journal.note_finished(made)
            return self._words(made, f"done with {self._requests.made} requests")
        if any(not (self._order.output / name).exists() for name in written):
            self._write()
        return self._words(written, "was finished before; nothing was asked")

    def _write(self) -> dict[str, int]:
        series = AccountSeries(
            self._account,
            self.span,
            statistics=self._journal.statistics,
            conversions=self._journal.conversions,
            window=self._config.poll.window,
            per_message=self._config.metrics.per_message,
            labels=self._order.labels,
        )
        return files.write(self._order.output, self.name, self.span, series)

    def _words(self, made: dict[str, int], done: str) -> list[str]:
        """Return what to tell the user."""
        told: defaultdict[SendFilter, list[str]] = defaultdict(list)
        for history in self._journal.histories.values():
            if history.send_filter is not None and history.totals:
                told[history.send_filter].append(_RESOURCE_WORDS[history.name])
        lines = [WORDS[found].format(what=" and ".join(what)) for found, what in told.items()]
        span = f"{format_time(self.span.first)} to {format_time(self.span.last)}"
        if made:
            output = self._order.output
            lines.append(f"{span} {done}: {len(made)} files with {sum(made.values())} samples in {output}")
        else:
            lines.append(
                f"{span} {done}: no campaign, so no files; if there were some, the token is another account's"
            )
        return [f"account {self.name}: {line}" for line in lines]


def run(
    config: Config,
    order: Order,
    *,
    stop: threading.Event,
    wall: Callable[[], float],
    monotonic: Callable[[], float],
    progress: Progress,
    connect: Connect = connect,
) -> tuple[str, ...]:
    """Make the history of every account, one after another; return what is missing in it, in words.

    What is done is said on the way. Raises ConfigError before anything is asked: if the directory can't be
    used, or has a backfill with other arguments, or a token can't be read.
    """
    until = min(order.last, math.floor(wall()))
    if until <= order.first:
        raise usage_error("--from: is still to come")
    config.check_tokens()
    make = partial(
        AccountBackfill,
        config=config,
        order=order,
        until=until,
        progress=progress,
        wall=wall,
        monotonic=monotonic,
    )
    faults: list[str] = []
    with ExitStack() as stack:
        stack.callback(progress.close)
        accounts = []
        try:
            order.output.mkdir(parents=True, exist_ok=True)
            for account in config.accounts:
                opened = make(account, client=connect(account, config, stop=stop))
                stack.callback(opened.close)
                accounts.append(opened)
        except OSError as error:
            raise usage_error(f"--output: {order.output} can't be used ({error.strerror})") from None
        for one in accounts:
            if one.span.last < order.last:
                end = format_time(one.span.last)
                progress.say(f"account {one.name}: --to was still to come; the history ends at {end}")
            faults += _run_one(one, progress)
            if stop.is_set():
                break
    return tuple(faults)


def _run_one(account: AccountBackfill, progress: Progress) -> Sequence[str]:
    """Run one account; return what is missing."""
    try:
        lines = account.run()
    except StoppedError:
        return [f"account {account.name}: stopped; the same command goes on from here"]
    except PollError as error:
        return [f"account {account.name}: {error}; the same command goes on from here"]
    except OSError as error:
        problem = f"{error.filename or 'the journal'} can't be written ({error.strerror})"
        return [f"account {account.name}: {problem}; once that is mended, the same command goes on from here"]
    for line in lines:
        progress.say(line)
    return [f"account {account.name}: {fault}" for fault in account.faults]
