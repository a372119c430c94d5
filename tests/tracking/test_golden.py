"""State files that released versions wrote are read by every later one, without a step in any value."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.api.fields import COUNTER_FIELDS
from exporter.tracking.model import Moment
from exporter.tracking.state_file import State
from exporter.tracking.window import Window
from tests._builders import SETTINGS

if TYPE_CHECKING:
    from exporter.api.model import Values
    from exporter.tracking.model import AccountSnapshot, CampaignRecord, CampaignSnapshot

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("state-*.db"))
URL = "https://api.example"


def by_name(values: Values) -> dict[str, int]:
    """Return the values that there are, by the API's field names."""
    return {name: value for name, value in zip(COUNTER_FIELDS, values, strict=True) if value is not None}


def campaign(item: CampaignSnapshot, held: CampaignSnapshot) -> dict[str, Any]:
    """Return a campaign as it stands in the golden files."""
    told = {
        "campaign_id": item.campaign_id,
        "channel": item.channel,
        "start": item.start,
        "stop": item.stop,
        "campaign_name": item.campaign_name,
        "message_title": item.message_title,
        "values": by_name(item.values),
        "vendor": by_name(item.vendor),
        "held": held.held,
        "messages": {message.title: by_name(message.values) for message in item.messages},
        "conversions": [
            [
                one.event,
                one.period,
                one.deposits,
                None if one.amount is None else str(one.amount),
                one.converted_users,
            ]
            for one in item.conversions
        ],
    }
    return told | {"values_while_held": by_name(held.values)} if held.held else told


def channels(now: AccountSnapshot, held: AccountSnapshot) -> dict[str, Any]:
    """Return the channels as they stand in the golden files."""
    told = {}
    for item, while_held in zip(now.channels, held.channels, strict=True):
        told[item.channel] = {"values": by_name(item.values)}
        if item.values != while_held.values:
            told[item.channel]["while_held"] = by_name(while_held.values)
    return told


def archived(record: CampaignRecord) -> dict[str, Any]:
    """Return a campaign that left the window as it stands in the golden files."""
    return {
        "campaign_id": record.campaign_id,
        "channel": record.channel,
        "evicted": record.evicted,
        "tops": by_name(record.counters.top),
        "vendor": by_name(record.counters.present),
        "starts": list(record.starts),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_an_earlier_version_goes_on(name: str, tmp_path: Path) -> None:
    """Every value that the earlier version exported from the file is exported from it now."""
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    path = tmp_path / "state.db"
    shutil.copyfile(GOLDEN / f"{name}.db", path)
    settings = replace(
        SETTINGS, window=expected["window"], max_campaigns=20000, per_message=expected["per_message"]
    )
    now = Moment(expected["now"], 0.0)
    with closing(State.open(path, clock=lambda: expected["now"])) as state:
        for account, then in expected["accounts"].items():
            saved = state.load(account, URL)
            window = Window(account, "EUR", settings, saved=saved, now=now)
            held, over = window.snapshot(), window.snapshot_without_holds()
            assert then["since"] == over.since
            assert then["campaigns"] == [
                campaign(*pair) for pair in zip(over.campaigns, held.campaigns, strict=True)
            ]
            assert then["channels"] == channels(over, held)
            assert then["successes"] == saved.account.successes
            assert then["discovered"] == {str(key): time for key, time in saved.account.discovered.items()}
            keys = [(one["campaign_id"], one["channel"]) for one in then["archive"]]
            assert then["archive"] == [archived(one) for one in state.load_campaigns(account, URL, keys)]
            for key, note in then["memory"].items():
                assert note == state.load_note(account, URL, key)


@pytest.mark.parametrize("name", NAMES)
def test_the_overcount_of_an_earlier_version_is_reported(name: str) -> None:
    """A channel's overcount is the sum over the campaigns that the file knows, those that left too."""
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    with closing(State.open_readonly(GOLDEN / f"{name}.db", clock=lambda: 0.0)) as state:
        for account, then in expected["accounts"].items():
            saved = state.load(account, URL)
            keys = [(one["campaign_id"], one["channel"]) for one in then["archive"]]
            campaigns = [*saved.campaigns, *state.load_campaigns(account, URL, keys)]
            for channel in saved.channels:
                parts = [one.counters.overcount for one in campaigns if one.channel == channel.channel]
                total = tuple(map(sum, zip(*parts, strict=True))) if parts else (0,) * len(COUNTER_FIELDS)
                assert total == channel.counters.overcount


def test_there_are_files_of_0_1_0() -> None:
    """Counts held at 0, dips, campaigns that left, titles and conversions are among what the files have."""
    accounts = [
        account
        for name in NAMES
        for account in json.loads((GOLDEN / f"{name}.json").read_text())["accounts"].values()
    ]
    campaigns = [one for account in accounts for one in account["campaigns"]]
    assert 4 == len(NAMES)
    assert any(account["archive"] for account in accounts)
    assert any(one["held"] for one in campaigns)
    assert any(one["messages"] for one in campaigns)
    assert any(one["conversions"] for one in campaigns)
    assert any(one["values"] != one["vendor"] for one in campaigns)
