"""The dashboards as files: current, valid, linted, consistent with the catalogue, the rules and each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.parse
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from exporter.errors import REASONS
from exporter.exposition.catalogue import ALL_METRICS
from grafana.generator import dashboards, render
from grafana.generator.__main__ import FOLDER, differences, main
from grafana.generator.conversions import CURRENCIES
from grafana.generator.dashboard import ADDRESSES
from grafana.generator.exporter import REASON_COLOURS
from grafana.generator.panels import (
    BAD,
    BOUNCE_STEPS,
    CHANNEL_COLOURS,
    COMPLAINT_STEPS,
    GOOD,
    MUTED,
    OUTCOME_COLOURS,
    PLAIN,
    WARN,
)
from grafana.generator.problems import PROBLEMS
from tests.dashboards._judge import panels
from tests.dashboards._schema import DASHBOARD

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

ROOT = Path(__file__).parents[1]
MODELS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(model, panel, id=f"{uid}: {panel['title']}")
    for uid, model in MODELS.items()
    for panel in panels(model)
]
TARGETS = [
    pytest.param(model, panel, target, id=f"{uid}: {panel['title']}: {target['refId']}")
    for uid, model in MODELS.items()
    for panel in panels(model)
    for target in panel["targets"]
]
LINT = yaml.safe_load((FOLDER / ".lint").read_text(encoding="utf-8"))["exclusions"]
RULE_FILES = sorted((ROOT / "grafana" / "rules").glob("*.yaml"))
RULES = [
    rule
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PROMETHEUS_METRICS = {"ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds", "scrape_samples_scraped"}
PROCESS_METRICS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
UNITS = {*(f"currency{code}" for code in CURRENCIES)} | {
    "short",
    "locale",
    "none",
    "string",
    "percentunit",
    "s",
    "bytes",
    "dateTimeAsIso",
    "dateTimeFromNow",
}


def excluded(rule: str, model: Json, panel: Json) -> bool:
    """Whether the linter's exclusions name this panel, or the whole rule."""
    if rule not in LINT:
        return False
    entries = LINT[rule].get("entries")
    return entries is None or any(
        entry["dashboard"] == model["title"] and entry.get("panel") in (None, panel["title"])
        for entry in entries
    )


def queries(model: Json) -> Iterator[str]:
    """Yield every PromQL expression of a dashboard."""
    for panel in panels(model):
        for target in panel["targets"]:
            yield target["expr"]
    for annotation in model["annotations"]["list"][1:]:
        yield annotation["expr"]
    for variable in model["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"^(label_values|query_result)\((.*?)(, \w+)?\)$", r"\2", variable["query"]["query"])


def names(expr: str) -> set[str]:
    """Return the metrics that an expression asks for."""
    expr = re.sub(r"\$\{[^}]*\}", "", expr)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|`[^`]*`', "", expr)
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\([^()]*\)", "", bare)
    bare = re.sub(r"\{[^{}]*\}|\[[^\]]*\]", "", bare)
    found = set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:$]*(?!\s*\()\b", bare))
    functions = set(re.findall(r"([a-z_0-9]+)\s*\(", bare))
    words = {"and", "or", "unless", "by", "on", "offset", "end", "bool", "$__from", "__from"}
    return {n for n in found - functions - words if re.search(r"[_:]|ALERTS", n)}


# The files


def test_files_are_current() -> None:
    """What is committed is what the code says."""
    assert [] == differences(FOLDER)


def test_check_tells_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed, a missing and a left-over file are named, and the command fails; writing mends all."""
    assert 0 == main(["--folder", str(tmp_path)])
    assert 0 == main(["--check", "--folder", str(tmp_path)])
    changed = tmp_path / "intarget-campaign.json"
    changed.write_text(changed.read_text(encoding="utf-8").replace("Funnel", "Tunnel"), encoding="utf-8")
    (tmp_path / "intarget-overview.json").unlink()
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    assert 1 == main(["--check", "--folder", str(tmp_path)])
    named = re.findall(r"([\w-]+\.json) is not current", capsys.readouterr().err)
    assert ["intarget-campaign.json", "intarget-overview.json", "old.json"] == named
    assert 0 == main(["--folder", str(tmp_path)])
    assert [] == differences(tmp_path)


def test_command_runs_as_ci_runs_it() -> None:
    """``python -m grafana.generator --check`` succeeds from the root of the tree."""
    done = subprocess.run(
        [sys.executable, "-m", "grafana.generator", "--check"], cwd=ROOT, check=False, capture_output=True
    )
    assert (0, b"") == (done.returncode, done.stderr)


def test_generation_is_deterministic() -> None:
    """Two runs give the same bytes."""
    assert [render(m) for m in dashboards().values()] == [render(m) for m in dashboards().values()]


# The schema


@pytest.mark.parametrize("uid", MODELS)
def test_schema(uid: str) -> None:
    """The model keeps to Grafana's published schema, without any property that isn't in it."""
    jsonschema.Draft202012Validator(DASHBOARD).validate(MODELS[uid])


@pytest.mark.parametrize("change", ["panels.1.option", "panels.1.gridPos.w=25", "schemaVersion=38", "title="])
def test_schema_refuses(change: str) -> None:
    """A misspelt, an impossible, an old and an empty value are refused."""
    model = json.loads(render(dashboards()["intarget-overview.json"]))
    path, _, value = change.partition("=")
    *parents, last = path.split(".")
    at = model
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[name]
    at[last] = int(value) if value.isdigit() else value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(DASHBOARD).validate(model)


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2")
@pytest.mark.parametrize("uid", MODELS)
def test_the_official_sdk_reads_and_writes_it(uid: str) -> None:
    """Grafana's own SDK reads the model into its types and writes it again without loss."""
    from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415 - it warns while it loads

    plugins.register_default_plugins()
    assert [] == lost(MODELS[uid], json.loads(JSONEncoder().encode(Dashboard.from_json(MODELS[uid]))))


def lost(one: Any, other: Any, path: str = "") -> list[str]:  # noqa: ANN401 - any JSON
    """Return where the first of two JSON values has something that the second hasn't; absent is as empty."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [place for key, value in one.items() for place in lost(value, other.get(key), f"{path}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [place for i, value in enumerate(one) for place in lost(value, other[i], f"{path}[{i}]")]
    return [] if one == other or (one in ({}, [], None, "", False, 0) and not other) else [path]


def test_uids_are_those_that_alerts_link_to() -> None:
    """The uids are stable: alerts and bookmarks lead to them."""
    uids = ["intarget-campaign", "intarget-conversions", "intarget-exporter", "intarget-overview"]
    assert uids == list(MODELS)
    assert list(MODELS) == [model["uid"] for model in MODELS.values()]


@pytest.mark.parametrize("uid", MODELS)
def test_grid(uid: str) -> None:
    """Panels fill the 24 columns without gaps or overlaps, and have ids of their own."""
    model = MODELS[uid]
    cells: dict[tuple[int, int], int] = {}
    for panel in model["panels"]:
        grid = panel["gridPos"]
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert (x, y) not in cells, panel["title"]
                cells[x, y] = panel["id"]
    bottom = max(y for _, y in cells) + 1
    assert 24 * bottom == len(cells)
    ids = [panel["id"] for panel in model["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("uid", MODELS)
def test_portable(uid: str) -> None:
    """Nothing belongs to one Grafana: no id of an instance, no fixed data source, no absolute address."""
    text = render(MODELS[uid])
    assert "id" not in MODELS[uid]
    assert {"${datasource}", "-- Grafana --"} == set(
        re.findall(r'"datasource": \{\s*"type": "\w+",\s*"uid": "([^"]*)"', text)
    )
    assert set(ADDRESSES.values()) == set(re.findall(r"https?://[^\"]*", text))


# The rules of grafana/dashboard-linter


@pytest.mark.parametrize("uid", MODELS)
def test_lint_template_datasource(uid: str) -> None:
    """template-datasource-rule: one data source variable of this name and label."""
    (variable,) = [v for v in MODELS[uid]["templating"]["list"] if v["type"] == "datasource"]
    assert ("datasource", "Data source", "prometheus") == (
        variable["name"],
        variable["label"],
        variable["query"],
    )


@pytest.mark.parametrize("uid", MODELS)
def test_lint_template_reload(uid: str) -> None:
    """template-on-time-change-reload-rule: choices follow the time range."""
    refreshes = {v["name"]: v["refresh"] for v in MODELS[uid]["templating"]["list"] if v["type"] == "query"}
    assert dict.fromkeys(refreshes, 2) == refreshes


@pytest.mark.parametrize("uid", MODELS)
def test_lint_template_label_promql(uid: str) -> None:
    """template-label-promql-rule: queries of variables have a form that Grafana knows."""
    for variable in MODELS[uid]["templating"]["list"]:
        if variable["type"] == "query":
            assert re.match(r"^(label_values\(.+, \w+|query_result\(.+)\)$", variable["query"]["query"])
            assert variable["definition"] == variable["query"]["query"]


@pytest.mark.parametrize(("model", "panel"), PANELS)
def test_lint_panel(model: Json, panel: Json) -> None:
    """Panel rules: the templated data source, a title, a description, a known unit, queries."""
    del model
    assert "${datasource}" == panel["datasource"]["uid"]
    assert panel["title"]
    assert panel["description"]
    assert panel["targets"]
    units = [panel["fieldConfig"]["defaults"]["unit"]]
    for override in panel["fieldConfig"]["overrides"]:
        units += [p["value"] for p in override["properties"] if p["id"] == "unit"]
    assert set(units) <= UNITS


@pytest.mark.parametrize(("model", "panel", "target"), TARGETS)
def test_lint_target(model: Json, panel: Json, target: Json) -> None:
    """Target rules: rates over $__rate_interval, counters in a rate, buckets in a quantile, matchers of job."""
    expr = target["expr"]
    assert "${datasource}" == target["datasource"]["uid"]
    ranges = set(re.findall(r"\b(?:rate|irate|increase)\([^\[]*\[([^\]]*)\]", expr))
    if not excluded("target-rate-interval-rule", model, panel):
        assert ranges <= {"$__rate_interval"}
    if not excluded("target-counter-agg-rule", model, panel):
        counters = re.findall(r"(\w+_total)\b", expr)
        rated = re.findall(r"\b(?:rate|irate|increase)\((\w+_total)\b", expr)
        assert sorted(rated) == sorted(counters)
    if "_bucket" in expr:
        assert expr.startswith("histogram_quantile(")


@pytest.mark.parametrize("uid", MODELS)
def test_lint_uneditable(uid: str) -> None:
    """uneditable-dashboard-rule: provisioned dashboards are changed in code."""
    assert MODELS[uid]["editable"] is False


def test_lint_exclusions_have_reasons() -> None:
    """Every exclusion says why, and names panels that exist."""
    titles = {(m["title"], p["title"]) for m in MODELS.values() for p in panels(m)}
    for rule in LINT.values():
        assert rule["reason"]
        for entry in rule.get("entries", ()):
            assert "panel" not in entry or (entry["dashboard"], entry["panel"]) in titles
            assert entry["dashboard"] in {title for title, _ in titles}


@pytest.mark.parametrize("uid", MODELS)
def test_every_variable_is_used(uid: str) -> None:
    """No variable is there for nothing, and none is used that isn't there."""
    variables = {v["name"] for v in MODELS[uid]["templating"]["list"]}
    text = render(MODELS[uid])
    own = {"__rate_interval", "__interval", "__from", "__data", "__all", "__value"}
    used = set(re.findall(r"\$\{?(\w+)", text)) - own
    assert variables == {name for name in used if not name.isdigit()} | ADDRESSES.keys()


def test_links_between_dashboards_keep_what_is_chosen() -> None:
    """A variable of one name takes several values and All everywhere or nowhere: links pass it by name."""
    kinds: dict[str, set[tuple[bool, bool]]] = {}
    for model in MODELS.values():
        for variable in model["templating"]["list"]:
            kinds.setdefault(variable["name"], set()).add((variable["multi"], variable["includeAll"]))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}


# What every panel has


@pytest.mark.parametrize(("model", "panel"), PANELS)
def test_panel_is_complete(model: Json, panel: Json) -> None:
    """Every panel says what it shows, what it shows without data, and to how many decimals."""
    del model
    defaults = panel["fieldConfig"]["defaults"]
    assert len(panel["description"]) > 40
    assert defaults["noValue"]
    assert 0 <= defaults.get("decimals", 0) <= 3
    assert [None] == [step["value"] for step in defaults["thresholds"]["steps"]][:1]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(refs) == len(set(refs))


@pytest.mark.parametrize(("model", "panel"), PANELS)
def test_ratios_are_percentunit(model: Json, panel: Json) -> None:
    """What is queried is 0 to 1, so the unit multiplies; no query multiplies by a hundred."""
    del model
    for target in panel["targets"]:
        assert not re.search(r"\b100 \*|\* 100\b", target["expr"])
    if all(":ratio" in target["expr"] for target in panel["targets"]):
        assert "percentunit" == panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize(("model", "panel"), [p for p in PANELS if p.values[1]["type"] == "table"])
def test_tables_are_bounded(model: Json, panel: Json) -> None:
    """A table of what there may be many of has a hundred rows at most, and columns that its queries fill."""
    del model
    exprs = [target["expr"] for target in panel["targets"]]
    if "${campaign:doublequote}" not in exprs[0] and panel["title"] != "Exporters":
        assert any(re.search(r"topk\((100|50|15), ", expr) for expr in exprs)
    merge, wanted, shaped = panel["transformations"]
    assert "merge" == merge["id"]
    fields = wanted["options"]["include"]["names"]
    refs = {target["refId"] for target in panel["targets"]}
    assert {field.removeprefix("Value #") for field in fields if field.startswith("Value #")} <= refs
    assert all(target["format"] == "table" and target["instant"] for target in panel["targets"])
    headings = set(shaped["options"]["renameByName"].values())
    assert len(headings) == len(shaped["options"]["renameByName"])
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        assert matcher["options"] in headings | set(fields) or matcher == {"id": "byType", "options": "string"}
    for sort in panel["options"]["sortBy"]:
        assert sort["displayName"] in headings


@pytest.mark.parametrize(("model", "panel"), PANELS)
def test_data_links_lead_to_dashboards(model: Json, panel: Json) -> None:
    """Links lead to dashboards of ours, set variables that these have, and use fields that the table has."""
    del model
    for override in panel["fieldConfig"]["overrides"]:
        for prop in override["properties"]:
            for link in prop["value"] if prop["id"] == "links" else ():
                if link["url"].startswith("${"):
                    assert re.match(r"\$\{(\w+)\}", link["url"])[1] in ADDRESSES
                    continue
                url = urllib.parse.urlsplit(link["url"])
                target = MODELS[url.path.removeprefix("/d/")]
                variables = {v["name"] for v in target["templating"]["list"]}
                assert set(re.findall(r"\bvar-(\w+)=", url.query)) <= variables
                fields = panel["transformations"][1]["options"]["include"]["names"]
                named = re.findall(r'__data\.fields(?:\.(\w+)|\["([^"]+)"\])', link["url"])
                assert named
                assert {a or b for a, b in named} <= set(fields)


def test_every_alert_is_put_in_words() -> None:
    """The table of firing alerts has a phrase for each alert of the rules."""
    assert {rule["alert"] for rule in RULES if "alert" in rule} <= PROBLEMS.keys()


def test_alerts_link_to_dashboards() -> None:
    """The alerts' dashboard_url name uids and variables that exist."""
    found = 0
    for rule in RULES:
        url = rule.get("annotations", {}).get("dashboard_url")
        if url is None:
            continue
        found += 1
        uid = re.search(r"/d/([\w-]+)", url)
        assert uid is not None
        variables = {v["name"] for v in MODELS[uid[1]]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", url)) <= variables
    assert found > 10


# Against the catalogue and the rules


@pytest.mark.parametrize("uid", MODELS)
def test_metrics_exist(uid: str) -> None:
    """Every metric is in the exporter's catalogue, recorded by a rule, or Prometheus' own."""
    exported = {name for metric in ALL_METRICS.values() for name in metric.sample_names}
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    known = exported | recorded | PROMETHEUS_METRICS | PROCESS_METRICS
    windows = [v for v in MODELS[uid]["templating"]["list"] if v["name"] == "window"]
    choices = windows[0]["query"].split(",") if windows else [""]
    for expr in queries(MODELS[uid]):
        for choice in choices:
            assert names(expr.replace("$window", choice)) - known == set()


def test_the_name_finder_finds() -> None:
    """The helper of the test above sees metrics wherever they stand."""
    expr = 'max by (a_b) (rate(x_total{c_d="e_f"}[5m])) / on (g_h) group_left (i_j) sum(k:l_m:n) or ALERTS'
    assert {"x_total", "k:l_m:n", "ALERTS"} == names(expr)


def test_limits_are_those_of_the_rules() -> None:
    """The lines and colours stand at the default limits of limits.yaml, and at their warning share."""
    defaults = {
        (rule["record"], rule.get("labels", {}).get("signal")): float(rule["expr"][7:-1])
        for rule in RULES
        if rule.get("record", "").startswith("intarget:limit_default:")
    }
    share = defaults["intarget:limit_default:warning_share", None]
    for signal, steps in (("bounce", BOUNCE_STEPS), ("complaint", COMPLAINT_STEPS)):
        limit = defaults["intarget:limit_default:ratio", signal]
        assert [None, pytest.approx(share * limit), limit] == [value for value, _ in steps]


def test_every_reason_has_a_colour() -> None:
    """Failures of every reason that the exporter knows have a colour of their own."""
    assert set(REASONS) == set(REASON_COLOURS)


# Colours


def linear(colour: str) -> list[float]:
    """Return linear RGB."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def lab(rgb: list[float]) -> list[float]:
    """Return CIE L*a*b* of linear RGB, D65."""
    weights = (
        (0.4124564, 0.3575761, 0.1804375),
        (0.2126729, 0.7151522, 0.0721750),
        (0.0193339, 0.1191920, 0.9503041),
    )
    white = (0.95047, 1.0, 1.08883)
    f = []
    for row, reference in zip(weights, white, strict=True):
        t = sum(w * max(0.0, c) for w, c in zip(row, rgb, strict=True)) / reference
        f.append(t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116)
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


# fmt: off
VISION = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    # Machado, Oliveira and Fernandes 2009, severity 1.
    "protanopia": (
        (0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039),
    ),
}
# fmt: on


def difference(one: str, other: str, vision: str) -> float:
    """Return the CIE76 difference of two colours to an eye of this kind."""
    seen = []
    for colour in (one, other):
        rgb = linear(colour)
        seen.append(lab([sum(m * c for m, c in zip(row, rgb, strict=True)) for row in VISION[vision]]))
    return sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG defines it."""
    lights = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear(one), linear(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


@pytest.mark.parametrize("colour", [GOOD, WARN, BAD, PLAIN, MUTED])
def test_figures_can_be_read(colour: str) -> None:
    """Large text of this colour can be read on either page, and small white text on it."""
    assert contrast(colour, "#FFFFFF") > 4.5
    assert contrast(colour, "#181B1F") > 3


@pytest.mark.parametrize("vision", VISION)
def test_good_and_bad_are_told_apart(vision: str) -> None:
    """Good, warning and bad differ to every common kind of vision."""
    for one, other in combinations((GOOD, WARN, BAD), 2):
        assert difference(one, other, vision) > 15


@pytest.mark.parametrize("vision", VISION)
def test_channels_are_told_apart(vision: str) -> None:
    """Any two channels differ visibly in colour, to every common kind of vision."""
    for one, other in combinations(CHANNEL_COLOURS.values(), 2):
        assert difference(one, other, vision) > 15


@pytest.mark.parametrize("vision", VISION)
def test_the_funnel_is_told_apart(vision: str) -> None:
    """So do the steps of the funnel, which share charts."""
    steps = [OUTCOME_COLOURS[name] for name in ("Sent", "Delivered", "Opened", "Clicked")]
    for one, other in combinations(steps, 2):
        assert difference(one, other, vision) > 15


def test_colours_are_consistent() -> None:
    """A channel or an outcome has the same colour on every panel, and no other colour is its."""
    found: dict[str, set[str]] = {}
    for model in MODELS.values():
        for panel in panels(model):
            for override in panel["fieldConfig"]["overrides"]:
                pattern = r"/\^([a-z]+)\$/|/\^([A-Z][a-z ]+)\(,\|\$\)/"
                name = re.fullmatch(pattern, override["matcher"]["options"])
                for prop in override["properties"]:
                    if name and prop["id"] == "color":
                        found.setdefault(name[1] or name[2], set()).add(prop["value"]["fixedColor"])
    assert CHANNEL_COLOURS.keys() <= found.keys()
    for name, colours in found.items():
        assert {{**CHANNEL_COLOURS, **OUTCOME_COLOURS}[name]} == colours
