"""What nothing changed costs nothing: exact counts of what a poll parses, writes, renders and compresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exporter.api import parse
from exporter.exposition import rendering
from exporter.tracking import state_file
from tests._apiserver import CONVERSIONS, STATISTICS, conversion, row
from tests.polling.test_account import HOUR, NOW, World

if TYPE_CHECKING:
    from collections.abc import Iterator

CAMPAIGNS = 3 * rendering.CHUNK


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world with campaigns that have conversions, all read and published."""
    one = World()
    one.api.rows[STATISTICS] = [row(number, NOW - HOUR - number) for number in range(1, CAMPAIGNS + 1)]
    one.api.rows[CONVERSIONS] = [conversion(number, NOW - HOUR - number) for number in range(1, CAMPAIGNS + 1)]
    one.start(
        poll={
            "refresh": [{"younger_than": "14d", "every": "1m"}],
            "still_sending": None,
            "conversions_every": "1m",
        }
    )
    for at in (NOW, NOW + 60):
        for resource in ("statistics", "conversions"):
            assert one.poll(resource, at=at)
    one.scrape()
    yield one
    assert one.poller is not None
    one.poller.stop()
    one.state.close()


class Counted:
    """How often some functions are called."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.parsed = self.written = self.rendered = self.packed = 0
        read, rows = parse.Reader._parse, state_file._rows
        lines, pack = rendering.campaign_lines, rendering.pack

        def count_parsed(*given: Any) -> Any:  # noqa: ANN401 - handed through
            self.parsed += 1
            return read(*given)

        def count_written(*given: Any) -> Any:  # noqa: ANN401 - handed through
            for one in rows(*given):
                self.written += 1
                yield one

        def count_rendered(campaigns: Any, **given: Any) -> Any:  # noqa: ANN401 - handed through
            found = list(campaigns)
            self.rendered += len(found)
            return lines(found, **given)

        def count_packed(plain: bytes) -> bytes:
            self.packed += bool(plain)
            return pack(plain)

        patch.setattr(parse.Reader, "_parse", count_parsed)
        patch.setattr(state_file, "_rows", count_written)
        patch.setattr(rendering, "campaign_lines", count_rendered)
        patch.setattr(rendering, "pack", count_packed)


@pytest.fixture
def counted(world: World, monkeypatch: pytest.MonkeyPatch) -> Counted:  # noqa: ARG001 - once it is read
    """Return counts that begin once everything has been published."""
    return Counted(monkeypatch)


def test_an_unchanged_poll(world: World, counted: Counted) -> None:
    """It parses no row, writes none, renders no campaign, compresses nothing, and publishes the same object."""
    assert world.poller is not None
    before, published = world.poller.snapshot, world.exposition._published
    for resource in ("statistics", "conversions"):
        assert world.poll(resource, at=NOW + 120)
    assert (0, 0, 0, 0) == (counted.parsed, counted.written, counted.rendered, counted.packed)
    assert before is world.poller.snapshot
    assert published is world.exposition._published


def test_one_changed_campaign(world: World, counted: Counted) -> None:
    """Its row is parsed; it, its channel and its account are written; of its chunk one metric is compressed."""
    world.api.rows[STATISTICS][0]["sent"] += 1
    assert world.poll(at=NOW + 120)
    assert (1, 3, 2) == (counted.parsed, counted.written, counted.rendered)  # as it was, and as it is
    assert 2 == counted.packed  # the same metric of the channel is the other one
