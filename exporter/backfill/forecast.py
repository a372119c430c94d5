"""What a backfill would do, before anything is asked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exporter.backfill.arguments import format_time, usage_error
from exporter.backfill.files import month_file
from exporter.backfill.span import Span
from exporter.config.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.backfill.arguments import Order
    from exporter.config.model import Config


def forecast(config: Config, order: Order, *, now: float) -> Iterator[str]:
    """Yield lines about the requests and files of each account. Raises ConfigError if the span is to come.

    How many campaigns there are isn't known, so the requests are the fewest that it can take: one for each
    resource and month, and, if the send filter divides counts, one for each resource and step.
    """
    last = min(order.last, math.floor(now))
    if last <= order.first:
        raise usage_error("--from: is still to come")
    span = Span(order.first, last, order.step)
    resources = 1 if config.poll.conversions_every is None else 2
    fewest = resources * len(span.months)
    if_divides = fewest + resources * len(span.ends)
    for account in config.accounts:
        start = f"account {account.name}: {format_time(span.first)} to {format_time(span.last)}"
        yield f"{start} in {span.steps} steps of {format_duration(order.step)}"
        seconds = format_duration(math.ceil(if_divides / config.api.requests_per_second))
        yield (
            f"account {account.name}: at least {if_divides} requests ({seconds} at api.requests_per_second) if"
            f" InTarget's send filter divides counts, {fewest} if not; more where one answer can't hold all"
        )
        for month in span.months:
            path = month_file(order.output, account.name, month)
            yield f"account {account.name}: {'has' if path.exists() else 'would write'} {path}"
