"""What was learned of a server, in words."""

from __future__ import annotations

from exporter.collect.server_limits import ServerLimits
from exporter.polling.learned import describe


def test_nothing_is_said_of_what_is_not_known() -> None:
    """A server of which nothing was learned yet has no facts."""
    assert [] == list(describe(ServerLimits()))


def test_everything_known_is_said() -> None:
    """Each limit and habit has a name and a value that people read."""
    limits = ServerLimits(
        filters=True,
        zone=-12600,
        per_page=100,
        longest=7 * 86400,
        ids=25,
        send_filter=False,
        totals=["rows", "campaigns"],
        pages=True,
    )
    assert [
        ("Start filters", "in UTC-03:30"),
        ("Largest perPage", "100"),
        ("Longest range of starts", "7d"),
        ("Most ids in a request", "25"),
        ("Send filters", "are ignored"),
        ("Total-count header", "counts rows or campaigns"),
        ("Page parameter", "pages"),
    ] == list(describe(limits))


def test_filters_that_do_not_select() -> None:
    """That is worse than any zone."""
    assert [("Start filters", "don't select what starts then")] == list(describe(ServerLimits(filters=False)))
