"""Every dashboard through Grafana's own code, over a real Prometheus: variables, texts, colours, links."""

from __future__ import annotations

import re
import time
import urllib.parse
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from grafana.generator.panels import BAD, MUTED
from tests.dashboards._judge import MODELS, VERSIONS, Answer, Judge, bundle, panels
from tests.dashboards._world import Setup, World, world
from tests.dashboards._worlds import (
    CHANNEL,
    HOSTILE,
    HOSTILE_NAMES,
    IDS,
    MANY,
    NO_RULES,
    NOTHING,
    TEN,
    TITLES,
    TWO,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

WORLDS: dict[str, Setup] = {
    "names": HOSTILE_NAMES,
    "replicas": replace(HOSTILE_NAMES, replicas=2, per_message=True, other_targets=30),
    "nothing": NOTHING,
    "no rules": NO_RULES,
    "two": TWO,
    "ten": TEN,
    "many": MANY,
}


class Court:
    """The worlds and the judges over them, each made when it is first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.end = int(time.time())
        self._folder = folder
        self._stack = stack
        self._worlds: dict[str, World] = {}
        self._judges: dict[tuple[str, str], Judge] = {}
        self._scripts: dict[str, Path] = {}

    def world(self, name: str) -> World:
        """Return a running world."""
        if name not in self._worlds:
            self._worlds[name] = self._stack.enter_context(world(self._folder / name, WORLDS[name], self.end))
        return self._worlds[name]

    def show(self, version: str, name: str, uid: str, **chosen: str | list[str]) -> Answer:
        """Return a dashboard as a version of Grafana shows it over all of a world's time."""
        there = self.world(name)
        if version not in self._scripts:
            (self._folder / version).mkdir()
            self._scripts[version] = bundle(version, "judge", self._folder / version)
        if (version, name) not in self._judges:
            judge = Judge(version, self._scripts[version], there.prometheus.url, there.setup.every)
            self._judges[version, name] = self._stack.enter_context(judge)
        return self._judges[version, name].show(uid, there.begin, there.end, **chosen)


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """Return the worlds and judges of this module; they end with it."""
    with ExitStack() as stack:
        yield Court(tmp_path_factory.mktemp("court"), stack)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Return each version of Grafana in turn."""
    return request.param


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("uid", MODELS)
def test_no_query_fails(court: Court, version: str, uid: str, name: str) -> None:
    """Prometheus answers every panel, whatever names there are, however many, and where there is nothing."""
    shown = court.show(version, name, uid)
    assert {panel["title"] for panel in panels(MODELS[uid])} == set(shown.panels)
    assert {title: panel.error for title, panel in shown.panels.items() if panel.error} == {}


@pytest.mark.parametrize("uid", MODELS)
def test_only_what_is_chosen_is_shown(court: Court, version: str, uid: str) -> None:
    """One hostile account, and several channels: what is shown is theirs."""
    channels = {} if uid == "intarget-exporter" else {"channel": ["email", CHANNEL, "no such"]}
    campaign = {"campaign": "1e5"} if uid == "intarget-campaign" else {}
    shown = court.show(version, "names", uid, account=[HOSTILE], **channels, **campaign)
    for panel in shown.panels.values():
        for row in panel.rows if panel.kind == "table" else ():
            assert row.get("Account") is None or HOSTILE == row["Account"].text, panel.title
            assert row.get("Channel") is None or row["Channel"].text in ("email", CHANNEL), panel.title
    assert any(panel.rows for panel in shown.panels.values() if panel.kind == "table")


@pytest.mark.parametrize("name", ["names", "replicas"])
@pytest.mark.parametrize("uid", MODELS)
def test_text_stays_what_it_is(court: Court, version: str, uid: str, name: str) -> None:
    """No id, name or account is taken for a number or a date, and nothing reads "NaN", whatever the unit is."""
    shown = court.show(version, name, uid)
    accounts = {*HOSTILE_NAMES.accounts, ""}
    for panel in shown.panels.values():
        for heading, cells in panel.columns.items():
            for cell in cells:
                assert "NaN" not in cell.text, (panel.title, heading)
                if isinstance(cell.value, str) and heading not in ("Severity", "Problem"):
                    assert cell.text == cell.value, (panel.title, heading)
                if heading == "Account":
                    assert cell.text in accounts
                if heading == "Campaign" and panel.kind == "table":
                    assert cell.text in {*TITLES, *IDS, ""}


@pytest.mark.parametrize("uid", MODELS)
def test_links_lead_to_data(court: Court, version: str, uid: str) -> None:
    """Each row's link to a campaign opens the dashboard with that campaign's data."""
    followed = 0
    for panel in court.show(version, "names", uid).panels.values():
        for row in panel.rows if panel.kind == "table" else ():
            for link in (
                link for cell in row.values() for link in cell.links if link.startswith("/d/intarget-campaign")
            ):
                query = {k: v[0] for k, v in urllib.parse.parse_qs(urllib.parse.urlsplit(link).query).items()}
                if "var-campaign" not in query:
                    continue
                assert query["var-campaign"] in IDS, link
                assert query["var-account"] in HOSTILE_NAMES.accounts, link
                assert row["Account"].text == query["var-account"]
                followed += 1
        if panel.title == "Worst campaigns":
            opened = court.show(
                version, "names", "intarget-campaign",
                account=[query["var-account"]], channel=[query["var-channel"]], campaign=query["var-campaign"],
            )  # fmt: skip
            assert opened.panels["Funnel"].figures[0].text not in ("", "0")
    assert followed > 0 or uid in ("intarget-campaign", "intarget-exporter")


@pytest.mark.parametrize("uid", MODELS)
def test_what_is_not_known_is_grey(court: Court, version: str, uid: str) -> None:
    """Without any data, figures say why in grey: neither good nor bad."""
    for panel in court.show(version, "nothing", uid).panels.values():
        for figure in panel.figures:
            if figure.value is None or figure.value != figure.value:
                assert (MUTED, True) == (figure.colour, bool(figure.text)), panel.title


@pytest.mark.parametrize("uid", ["intarget-overview", "intarget-campaign", "intarget-conversions"])
def test_replicas_and_messages_change_nothing(court: Court, uid: str) -> None:
    """Two replicas with the metrics by message show the same figures as one without, and no stranger's."""
    one, two = (court.show(VERSIONS[-1], name, uid) for name in ("names", "replicas"))
    for title, panel in one.panels.items():
        if title == "Messages":
            continue
        assert panel.columns.keys() == two.panels[title].columns.keys(), title
        texts = [[(cell.title, cell.text) for cell in shown.figures] for shown in (panel, two.panels[title])]
        assert texts[0] == texts[1], title
        if panel.kind == "table":
            assert texts_of(panel.rows) == texts_of(two.panels[title].rows), title


def texts_of(rows: list[dict[str, object]]) -> list[list[str]]:
    """Return what a table shows, in any order."""
    return sorted([getattr(cell, "text", "") for cell in row.values()] for row in rows)


def test_no_other_targets_are_shown(court: Court, version: str) -> None:
    """The exporter's dashboard shows the processes of exporters, and none of the other thirty targets."""
    shown = court.show(version, "replicas", "intarget-exporter")
    instances = {
        name for title in ("Memory", "Processor time", "Series") for name in shown.panels[title].columns
    }
    assert {"exporter-1:10095", "exporter-2:10095"} == instances


@pytest.mark.parametrize("name", ["names", "replicas", "ten"])
@pytest.mark.parametrize("uid", MODELS)
def test_each_thing_is_there_once(court: Court, version: str, uid: str, name: str) -> None:
    """The queries of a table meet in its rows; no series has another's name, or one with a placeholder."""
    for panel in court.show(version, name, uid).panels.values():
        if panel.kind == "table":
            keys = [[cell.text for cell in row.values() if isinstance(cell.value, str)] for row in panel.rows]
            assert len(keys) == len({tuple(key) for key in keys}), panel.title
            assert len(keys) <= 100
        for name_ in panel.columns if panel.kind == "timeseries" else ():
            assert name_.strip()
            assert "{{" not in name_


def test_campaigns_are_chosen_by_name(court: Court, version: str) -> None:
    """Each campaign is offered once: its id is the value, its name is in the text, whatever it is."""
    offered = court.show(version, "names", "intarget-campaign").variables["campaign"]["options"]
    assert {campaign.campaign_id for campaign in HOSTILE_NAMES.campaigns} == {
        option["value"] for option in offered
    }
    assert len(offered) == len(HOSTILE_NAMES.campaigns)
    by_id = {campaign.campaign_id: campaign for campaign in HOSTILE_NAMES.campaigns}
    for option in offered:
        assert by_id[option["value"]].title in option["label"]


def test_the_campaign_that_sent_most_is_shown(court: Court, version: str) -> None:
    """The campaign dashboard opens on what sent most in the last day; the text has date, channel and title."""
    chosen = court.show(version, "names", "intarget-campaign").variables["campaign"]
    largest = max(HOSTILE_NAMES.campaigns, key=lambda campaign: campaign.messages)
    assert largest.campaign_id == chosen["value"]
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d · {largest.channel} · {re.escape(largest.title)}", chosen["text"])


def test_the_answer_comes_first(court: Court, version: str) -> None:
    """The overview's first panel says which limit is nearest, whose, and how near."""
    shown = court.show(version, "names", "intarget-overview")
    (first, *_) = shown.panels.values()
    assert first.title.startswith("Closest to a limit")
    (nearest,) = first.figures
    assert ("of bounces: main · email", "127%", BAD) == (nearest.title, nearest.text, nearest.colour)


def test_a_problem_is_one_row(court: Court, version: str) -> None:
    """What is a warning and critical is one row, with words, value, limit and a link to the alert."""
    rows = court.show(version, "names", "intarget-overview").panels["Firing alerts"].rows
    keys = [tuple(row[name].text for name in ("Problem", "Account", "Channel", "Campaign")) for row in rows]
    assert len(keys) == len(set(keys))
    first = rows[0]
    assert ("critical", BAD) == (first["Severity"].text, first["Severity"].colour)
    assert not first["Problem"].text.startswith("InTarget")
    assert "/alerts?search=InTarget" in first["Problem"].links[0]
    assert ("5%", True) == (first["Limit"].text, first["Value"].text.endswith("%"))


def test_nothing_is_quiet_without_rules(court: Court, version: str) -> None:
    """Where no rules are loaded, the number of alerts isn't known: that is no green 0."""
    shown = court.show(version, "no rules", "intarget-overview")
    (alerts,) = shown.panels["Alerts firing"].figures
    assert ("No rules loaded", MUTED) == (alerts.text, alerts.colour)


def test_money_has_its_currency(court: Court, version: str) -> None:
    """Amounts are written with their account's currency; without a configured one, as bare numbers."""
    figures = court.show(version, "names", "intarget-conversions").panels["Amount of deposits"].figures
    texts = {figure.title.strip(): figure.text for figure in figures}
    assert ("€", "$") == (texts["main EUR"][0], texts["007 USD"][0])
    assert texts[HOSTILE][0].isdigit()


def test_variables_follow_each_other(court: Court, version: str) -> None:
    """The campaigns offered are those of the chosen account and channel."""
    shown = court.show(version, "names", "intarget-conversions", account=[HOSTILE], channel=[CHANNEL])
    offered = {option["value"] for option in shown.variables["campaigns"]["options"]}
    assert {
        c.campaign_id for c in HOSTILE_NAMES.campaigns if (c.account, c.channel) == (HOSTILE, CHANNEL)
    } == offered


@pytest.mark.parametrize("uid", MODELS)
def test_the_default_data_source_is_chosen(court: Court, version: str, uid: str) -> None:
    """A dashboard opens on Grafana's default data source, whatever the first one's name is."""
    assert "default" in court.show(version, "names", uid).variables["datasource"]["value"]


@pytest.mark.parametrize("uid", MODELS)
def test_annotations(court: Court, version: str, uid: str) -> None:
    """Annotations stand within the time range, and no text has a label's name in place of its value."""
    chosen = {"campaign": "2024"} if uid == "intarget-campaign" else {}
    there = court.world("names")
    found = court.show(version, "names", uid, **chosen).annotations
    assert found
    for annotation in found:
        assert not re.search(
            r"\b(account|channel|campaign_id|campaign|severity|alertname)\b", annotation["text"]
        ), annotation
        assert all(there.begin - 600 <= moment / 1000 <= there.end for moment in annotation["times"])
