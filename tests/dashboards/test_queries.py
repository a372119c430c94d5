"""Every query of every dashboard, asked of a real Prometheus with the variables put in as Grafana does."""

from __future__ import annotations

import html
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.simulator import SCENARIOS
from tests.dashboards._grafana import ALL, View, legend, panels, table
from tests.dashboards._world import Setup, World, world
from tests.dashboards.render import DARK, Drawing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dashboards._grafana import Json

pytestmark = pytest.mark.e2e

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"
MODELS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
HOSTILE = 'O\'Neil "x" a/b\\c|d.*(e)'
CHANNEL = 'we"ird/\\|$'
TITLES = (
    'He said "go", 100% \\o/',
    "back\\slash at the end\\",
    '",campaign_id="5"} 1 2',
    "Spring | Summer (2026)",
    "two\nlines",
    "🎉 مرحبا",
    "$account ${channel}",
    "plain",
)
# By dashboard, panel and refId: what has nothing to show in these worlds, and why.
EMPTY = {
    ("intarget-overview", "Bounce rate against the limit", "B"): "no limit is overridden",
    ("intarget-overview", "Complaint rate against the limit", "B"): "no limit is overridden",
    ("intarget-exporter", "Campaigns tracked", "dropped"): "no campaign is left out",
    ("intarget-exporter", "Values that could not be read", "A"): "every value can be read",
}
ACCOUNTS = {"main": "bounce-spike", HOSTILE: "calm"}


@pytest.fixture(scope="module")
def end() -> int:
    """Return the worlds' common last moment."""
    return int(time.time())


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, end: int) -> Iterator[World]:
    """Serve a world with one exporter and the default configuration."""
    setup = Setup(ACCOUNTS, hours=3, titles=TITLES, channels={"push": CHANNEL})
    with world(tmp_path_factory.mktemp("one"), setup, end) as made:
        yield made


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, end: int) -> Iterator[World]:
    """Serve the same with two replicas and the metrics by message."""
    setup = Setup(ACCOUNTS, hours=3, titles=TITLES, channels={"push": CHANNEL}, replicas=2, per_message=True)
    with world(tmp_path_factory.mktemp("two"), setup, end) as made:
        yield made


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, end: int) -> Iterator[World]:
    """Serve a small account an hour after its exporter was started."""
    small = replace(SCENARIOS["calm"], per_day=0.25, recurring=0)
    setup = Setup({"main": small}, hours=1)
    with world(tmp_path_factory.mktemp("few"), setup, end) as made:
        yield made


@pytest.fixture(params=["one", "two"])
def any_world(request: pytest.FixtureRequest) -> World:
    """Return each world in turn."""
    return request.getfixturevalue(request.param)


def look(there: World, uid: str, **chosen: str | list[str]) -> View:
    """Return a dashboard as it is opened over all of the world's time."""
    view = View(MODELS[uid], there.begin, there.end, dict(chosen))
    if uid == "intarget-campaign" and "campaign" not in chosen and len(there.accounts) > 1:
        view.chosen["campaign"] = rich_campaign(there)
    view.choose_defaults(there.prometheus)
    return view


def rich_campaign(there: World) -> str:
    """Return a campaign that has everything: opens, conversions, a stop."""
    expr = (
        "topk(1, intarget_campaign_messages_opened_total > 0"
        " and on (account, campaign_id, channel) intarget_campaign_converted_users > 0"
        " and on (account, campaign_id, channel) intarget_campaign_stop_timestamp_seconds)"
    )
    return there.prometheus.query(expr, there.end)[0]["metric"]["campaign_id"]


def ask(there: World, view: View, panel: Json) -> dict[str, list[Json]]:
    """Return each query's result by refId, as the panel asks."""
    step = view.step(panel)
    found = {}
    for target in panel["targets"]:
        expr = view.interpolate(target["expr"], step)
        if target["instant"]:
            found[target["refId"]] = there.prometheus.query(expr, view.end)
        else:
            found[target["refId"]] = there.prometheus.query_range(expr, view.begin, view.end, step)
    return found


def choices(uid: str) -> dict[str, dict[str, str | list[str]]]:
    """Return ways to choose from the variables: by default, one hostile value, several of them."""
    if uid == "intarget-exporter":
        return {
            "all": {},
            "one": {"account": [HOSTILE], "instance": ["exporter-1:10095"], "job": ["intarget"]},
            "several": {"account": [HOSTILE, "main"], "instance": ["exporter-1:10095", "exporter-2:10095"]},
        }
    if uid == "intarget-conversions":
        return {
            "all": {},
            "one": {"account": [HOSTILE], "conversion_event": ["Opened"]},
            "several": {"account": [HOSTILE, "main"], "channel": ["email", CHANNEL]},
        }
    return {
        "all": {},
        "one": {"account": [HOSTILE], "channel": [CHANNEL]},
        "several": {"account": [HOSTILE, "main"], "channel": ["email", CHANNEL, "no such"]},
    }


CHOICES = [
    pytest.param(uid, chosen, id=f"{uid}: {name}") for uid in MODELS for name, chosen in choices(uid).items()
]


@pytest.mark.parametrize(("uid", "chosen"), CHOICES)
def test_no_query_fails(any_world: World, uid: str, chosen: dict[str, str | list[str]]) -> None:
    """Whatever is chosen, Prometheus answers every panel, and with nothing else than was chosen."""
    view = look(any_world, uid, **chosen)
    for panel in panels(MODELS[uid]):
        for result in ask(any_world, view, panel).values():
            for series in result:
                for label in ("account", "channel", "instance", "conversion_event"):
                    values = view.chosen.get(label, ALL)
                    allowed = values == ALL or series["metric"].get(label, values[0]) in values
                    assert allowed, panel["title"]


@pytest.mark.parametrize("uid", MODELS)
def test_a_handful_of_campaigns(few: World, uid: str) -> None:
    """A small account's dashboards are answered and drawn too, and show all of its campaigns."""
    tracked = len(few.prometheus.query("intarget_campaign_info", few.end))
    assert 0 < tracked < 10
    view = look(few, uid)
    page, _ = Drawing(view, few.prometheus, DARK).page()
    for panel in panels(MODELS[uid]):
        assert html.escape(panel["title"]) in page
        if panel["title"] == "Worst campaigns":
            assert tracked == len(table(panel, ask(few, view, panel))[0].cells)


@pytest.mark.parametrize("uid", MODELS)
def test_every_query_has_data(any_world: World, uid: str, request: pytest.FixtureRequest) -> None:
    """With everything chosen, each query of each panel shows something, save those named above."""
    view = look(any_world, uid)
    by_message = "two" in request.node.name
    missing = set()
    for panel in panels(MODELS[uid]):
        for ref, result in ask(any_world, view, panel).items():
            if not result and (by_message or panel["title"] != "Messages"):
                missing.add((uid, panel["title"], ref))
    assert {key for key in EMPTY if key[0] == uid} == missing


@pytest.mark.parametrize("uid", ["intarget-overview", "intarget-campaign", "intarget-conversions"])
def test_replicas_and_messages_change_nothing(one: World, two: World, uid: str) -> None:
    """Two replicas with the metrics by message show the same figures as one without."""
    rich = rich_campaign(one)
    chosen = {"campaign": rich} if uid == "intarget-campaign" else {}
    views = [look(there, uid, **chosen) for there in (one, two)]
    for panel in panels(MODELS[uid]):
        if panel["title"] == "Messages":
            continue
        figures = []
        for there, view in zip((one, two), views, strict=True):
            found = ask(there, view, panel)
            figures.append(
                {
                    (ref, *sorted(series["metric"].items())): series.get("values") or series["value"]
                    for ref, result in found.items()
                    for series in result
                }
            )
        assert figures[0].keys() == figures[1].keys(), panel["title"]
        for key, expected in figures[0].items():
            assert numbers(expected) == pytest.approx(numbers(figures[1][key]), rel=1e-6, nan_ok=True), key


def numbers(samples: Any) -> list[float]:  # noqa: ANN401 - as Prometheus has it
    """Return the values of a sample, or of several."""
    pairs = samples if isinstance(samples[0], list) else [samples]
    return [float(value) for _, value in pairs]


@pytest.mark.parametrize("uid", MODELS)
def test_tables_have_one_row_for_each_thing(any_world: World, uid: str) -> None:
    """The queries of a table meet in its rows: none is there twice, and the first columns are never empty."""
    view = look(any_world, uid)
    for panel in panels(MODELS[uid]):
        if panel["type"] != "table" or (
            panel["title"] == "Messages" and not ask(any_world, view, panel)["sent"]
        ):
            continue
        columns = table(panel, ask(any_world, view, panel))
        keys = [c for c in columns if not c.name.startswith("Value")]
        rows = list(zip(*(c.cells for c in keys), strict=True))
        assert rows, panel["title"]
        assert len(rows) == len(set(rows)), panel["title"]
        assert len(rows) <= 50
        if panel["title"] == "Worst campaigns":
            assert all(cell for c in keys for cell in c.cells)
            assert all(
                cell is not None for c in columns if c.heading in ("Risk", "Bounced") for cell in c.cells
            )


@pytest.mark.parametrize("uid", MODELS)
def test_legends(any_world: World, uid: str) -> None:
    """Every series has a name of its own that fits its panel."""
    view = look(any_world, uid)
    for panel in panels(MODELS[uid]):
        if panel["type"] == "table":
            continue
        found = ask(any_world, view, panel)
        series = [legend(target, s["metric"]) for target in panel["targets"] for s in found[target["refId"]]]
        assert len(series) == len(set(series)), panel["title"]
        for name in series:
            assert name.strip()
            assert "{{" not in name
            assert len(name.replace(HOSTILE, "").replace(CHANNEL, "")) <= 45


@pytest.mark.parametrize("uid", ["intarget-campaign", "intarget-conversions"])
def test_campaigns_are_chosen_by_name(any_world: World, uid: str) -> None:
    """Each campaign is offered once, newest first: its id is the value, its name the text, whatever it is."""
    view = look(any_world, uid)
    offered = view.options(any_world.prometheus, "campaigns" if uid == "intarget-conversions" else "campaign")
    tracked = any_world.prometheus.query("intarget_campaign_start_timestamp_seconds", any_world.end)
    starts: dict[str, float] = {}
    for series in tracked:  # two accounts may have the same id
        key = series["metric"]["campaign_id"]
        starts[key] = max(starts.get(key, 0.0), float(series["value"][1]))
    assert len(offered) == len(starts)
    assert set(starts) == {option.value for option in offered}
    times = [starts[option.value] for option in offered]
    assert sorted(times, reverse=True) == times
    assert {option.text for option in offered} <= set(TITLES)
    assert len(TITLES) == len({option.text for option in offered})


@pytest.mark.parametrize("uid", MODELS)
def test_variables_offer_what_there_is(any_world: World, uid: str) -> None:
    """Each other variable offers the values that the data have, hostile ones as well."""
    view = look(any_world, uid)
    for variable in MODELS[uid]["templating"]["list"]:
        if variable["type"] != "query" or variable["name"] in ("campaign", "campaigns"):
            continue
        offered = [option.value for option in view.options(any_world.prometheus, variable["name"])]
        assert offered, variable["name"]
        if variable["name"] == "account":
            assert {"main", HOSTILE} == set(offered)
        if variable["name"] == "channel":
            assert {"email", "sms", CHANNEL} == set(offered)


def test_variables_follow_each_other(any_world: World) -> None:
    """The campaigns offered are those of the chosen account and channel."""
    view = look(any_world, "intarget-conversions", account=[HOSTILE], channel=[CHANNEL])
    offered = {option.value for option in view.options(any_world.prometheus, "campaigns")}
    every = any_world.prometheus.query("intarget_campaign_info", any_world.end)
    expected = {
        s["metric"]["campaign_id"]
        for s in every
        if (s["metric"]["account"], s["metric"]["channel"]) == (HOSTILE, CHANNEL)
    }
    assert expected == offered


@pytest.mark.parametrize("uid", MODELS)
def test_annotations(any_world: World, uid: str) -> None:
    """Starts stand where campaigns started, alerts where their condition began; both within the time range."""
    view = look(any_world, uid, **({"campaign": incident(any_world)} if uid == "intarget-campaign" else {}))
    if uid == "intarget-campaign":
        view.begin -= 14 * 86400
    for annotation in MODELS[uid]["annotations"]["list"][1:]:
        step = max(60, int((view.end - view.begin) / 100))
        expr = view.interpolate(annotation["expr"], step)
        result = any_world.prometheus.query_range(expr, view.begin, view.end, step)
        assert result, annotation["name"]
        for series in result:
            for _, value in series["values"]:
                assert view.begin - step <= float(value) / 1000 <= view.end
        if annotation["name"] == "Campaign starts":
            assert {s["metric"]["campaign"] for s in result} <= set(TITLES)
            starts = {
                (s["metric"]["campaign_id"], float(s["value"][1]))
                for s in any_world.prometheus.query("intarget_campaign_start_timestamp_seconds", view.end)
            }
            assert {(s["metric"]["campaign_id"], float(s["values"][0][1]) / 1000) for s in result} <= starts
        else:
            assert {"alertname", "severity"} <= set(result[0]["metric"])


def incident(there: World) -> str:
    """Return the campaign with the bounces."""
    found = there.prometheus.query("topk(1, campaign:intarget_bounce:wilson_lower)", there.end)
    return found[0]["metric"]["campaign_id"]


def test_the_incident_is_seen(any_world: World) -> None:
    """The campaign with the bounces leads the worst, over its limit, and its alert is firing."""
    view = look(any_world, "intarget-overview")
    by_title = {panel["title"]: panel for panel in panels(MODELS["intarget-overview"])}

    def shown(title: str) -> dict[str, list[Any]]:
        return {c.heading: c.cells for c in table(by_title[title], ask(any_world, view, by_title[title]))}

    worst, drivers, alerts = map(shown, ("Worst campaigns", "What drives it", "Firing alerts"))
    assert incident(any_world) == worst["Id"][0]
    assert worst["Risk"][0] > 1
    assert 0.1 < worst["Bounced"][0] < 0.14
    assert incident(any_world) in drivers["Id"][:3]
    assert ("critical", "InTargetCampaignBounceRate") in set(
        zip(alerts["Severity"], alerts["Alert"], strict=True)
    )


def test_a_link_leads_to_the_campaign(one: World) -> None:
    """A row's link, filled as Grafana does, opens the campaign with data since its start."""
    view = look(one, "intarget-overview")
    panel = next(p for p in panels(MODELS["intarget-overview"]) if p["title"] == "Worst campaigns")
    columns = {c.name: c.cells for c in table(panel, ask(one, view, panel))}
    url = next(
        p["value"][0]["url"]
        for o in panel["fieldConfig"]["overrides"]
        for p in o["properties"]
        if p["id"] == "links"
    )
    fields = re.findall(
        r'(var-\w+|from)=\$\{__data\.fields(?:\.(\w+):percentencode|\["([^"]+)"\]\.numeric)\}', url
    )
    filled = {name: columns[plain or quoted][0] for name, plain, quoted in fields}
    assert {"var-account", "var-channel", "var-campaign", "from"} == filled.keys()
    opened = look(
        one,
        "intarget-campaign",
        account=[filled["var-account"]],
        channel=[filled["var-channel"]],
        campaign=filled["var-campaign"],
    )
    opened.begin = filled["from"] / 1000
    funnel = next(p for p in panels(MODELS["intarget-campaign"]) if p["title"] == "Funnel")
    assert ask(one, opened, funnel)["sent"]
    started = one.prometheus.query(
        f'intarget_campaign_start_timestamp_seconds{{campaign_id="{filled["var-campaign"]}"}}', one.end
    )
    assert opened.begin == float(started[0]["value"][1])
