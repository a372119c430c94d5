"""The shipped rules, their tests, their runbook and the example Alertmanager configuration."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from exporter.exposition.catalogue import ALL_METRICS
from grafana.generator.rules import main as generate
from grafana.rules.analysis.false_alarms import LIMITS, boundary, ever_crosses, lower_bound
from grafana.rules.analysis.notify import inhibits, route
from tests._tools import tool
from tests.e2e._debian import from_testing

RULES = Path(__file__).parents[1] / "grafana" / "rules"
FILES = ("limits.yaml", "recording.yaml", "alerts.yaml")
SUITES = sorted((RULES / "tests").glob("*.yaml"))
SIGNALS = {"bounce", "complaint", "unsubscribe", "delivery", "conversion", "volume", "exporter"}
Document: TypeAlias = dict[str, Any]
EXPORTED = {name for metric in ALL_METRICS.values() for name in metric.sample_names}


@cache
def _read(path: Path) -> Document:
    return yaml.safe_load(path.read_text())


@cache
def _rules() -> tuple[dict[str, Any], ...]:
    return tuple(rule for file in FILES for group in _read(RULES / file)["groups"] for rule in group["rules"])


def _alerts() -> list[dict[str, Any]]:
    return [rule for rule in _rules() if "alert" in rule]


def _run(*command: str, cwd: Path = RULES) -> str:
    """Run a program; its output is what a failure shows."""
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def _id(rule: dict[str, Any]) -> str:
    return f"{rule['alert']}-{rule['labels']['severity']}-{rule['labels']['signal']}"


@pytest.mark.parametrize("rule", _alerts(), ids=_id)
def test_alerts_carry_what_the_contract_names(rule: dict[str, Any]) -> None:
    """Every alert has its labels and every annotation, the summary being one sentence."""
    assert rule["alert"].startswith("InTarget")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["signal"] in SIGNALS
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
    summary = rule["annotations"]["summary"]
    assert summary.endswith(".")
    assert ". " not in re.sub(r"\{\{.*?\}\}", "", summary)


@pytest.mark.parametrize("rule", _alerts(), ids=_id)
def test_runbook_has_the_section_that_the_alert_links_to(rule: dict[str, Any]) -> None:
    """Anchors are those that headings of the runbook get, and each section answers the five questions."""
    runbook = (RULES / "runbook.md").read_text()
    base, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert base == '{{ with query "intarget:link:info" }}{{ . | first | label "runbook_url" }}{{ end }}'
    assert anchor == rule["alert"].lower()
    section = re.search(rf"^## {rule['alert']}\n(.*?)(?=^## |\Z)", runbook, re.MULTILINE | re.DOTALL)
    assert section is not None
    for question in ("**Means.**", "**Computed.**", "**Check.**", "**Do.**", "**Silence**"):
        assert section[1].count(question) == 1


@pytest.mark.parametrize("rule", _alerts(), ids=_id)
def test_alerts_link_to_dashboards_that_exist(rule: dict[str, Any]) -> None:
    """The dashboard is among the shipped ones, and has every variable that the link sets."""
    url = rule["annotations"]["dashboard_url"]
    found = re.search(r"/d/([\w-]+)", url)
    assert found is not None
    dashboard = _read(RULES.parent / "dashboards" / f"{found[1]}.json")
    assert dashboard["uid"] == found[1]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"[?&]var-(\w+)=", url)) <= variables


def test_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    """Sections named like alerts and alerts are the same."""
    sections = set(re.findall(r"^## (InTarget\w+)$", (RULES / "runbook.md").read_text(), re.MULTILINE))
    assert {rule["alert"] for rule in _alerts()} == sections


def test_links_inside_the_runbook_lead_somewhere() -> None:
    """Every ``#anchor`` of the runbook is one of its headings."""
    runbook = (RULES / "runbook.md").read_text()
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", runbook, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", runbook)) <= headings


def test_expressions_use_only_what_exists() -> None:
    """Every metric in an expression or a template is exported by the exporter or recorded by a rule."""
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    optional = {"intarget:limit_override:ratio", "intarget:limit_override:messages"}
    for rule in _rules():
        texts = [rule["expr"], *rule.get("annotations", {}).values()]
        text = re.sub(r'"[^"]*"', "", " ".join(texts).replace("%s", "24h"))
        for name in re.findall(r"(?<![\w:/.-])(?:intarget_\w+|\w+:\w+:\w+)", text):
            assert name in EXPORTED | recorded | optional, f"{name} in {rule.get('alert') or rule['record']}"


def test_every_recorded_series_is_explained_at_the_top() -> None:
    """The list that dashboards are built from has every name, and no other."""
    for file in ("recording.yaml", "limits.yaml"):
        header = (RULES / file).read_text().split("groups:")[0]
        listed = set(re.findall(r"(?<![\w:])\w+:\w+:\w+(?:<w>)?", header))
        listed = {name.replace("<w>", w) for name in listed for w in ("1h", "24h", "7d")}
        recorded = {rule["record"] for group in _read(RULES / file)["groups"] for rule in group["rules"]}
        internal = {n for n in recorded if re.match(r"intarget:(limit_(default|scope|override)|channel)", n)}
        assert recorded - internal == {name for name in listed if name in recorded}
        elsewhere = {"level:metric:operations", "intarget:limit:ratio"}
        assert listed - recorded <= elsewhere


@pytest.mark.parametrize("rule", _alerts(), ids=_id)
def test_every_alert_has_a_firing_and_a_quiet_case(rule: dict[str, Any]) -> None:
    """Somewhere it is expected with its severity, and somewhere not at all."""
    firing: dict[str, set[str]] = defaultdict(set)
    quiet: set[str] = set()
    for suite in SUITES:
        for test in _read(suite)["tests"]:
            for case in test.get("alert_rule_test", []):
                firing[case["alertname"]] |= {a["exp_labels"]["severity"] for a in case["exp_alerts"]}
                if not case["exp_alerts"]:
                    quiet.add(case["alertname"])
    assert rule["labels"]["severity"] in firing[rule["alert"]]
    assert rule["alert"] in quiet


@pytest.mark.e2e
def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules` finds no fault."""
    assert _run(tool("promtool"), "check", "rules", *FILES).count("SUCCESS") == len(FILES)


@pytest.mark.e2e
@pytest.mark.parametrize("version", ["installed", "3"])
@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_promtool_unit_tests_pass(suite: Path, version: str) -> None:
    """`promtool test rules` agrees with the suite, the installed one and that of Prometheus 3."""
    promtool = tool("promtool") if version == "installed" else str(from_testing("promtool"))
    assert "SUCCESS" in _run(promtool, "test", "rules", suite.name, cwd=suite.parent)


@pytest.mark.e2e
def test_an_override_is_one_line_in_limits(tmp_path: Path) -> None:
    """The line that the runbook shows, put into limits.yaml, moves both thresholds of that channel only."""
    promtool = tool("promtool")
    line = re.search(
        r"^- \{record: intarget:limit_override.*$", (RULES / "runbook.md").read_text(), re.MULTILINE
    )
    assert line is not None
    limits = (RULES / "limits.yaml").read_text()
    marker = "      # Three events are"
    assert limits.count(marker) == 1
    (tmp_path / "limits.yaml").write_text(limits.replace(marker, f"      {line[0]}\n{marker}"))
    want = {
        ("email", "critical"): 0.05,
        ("email", "warning"): 0.03,
        ("sms", "critical"): 0.08,
        ("sms", "warning"): 0.048,
    }
    test = {
        "rule_files": ["limits.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {
                        "series": f'intarget_channel_messages_sent_total{{account="a", channel="{channel}"}}',
                        "values": "0x5",
                    }
                    for channel in ("email", "sms")
                ],
                "promql_expr_test": [
                    {
                        "expr": 'intarget:limit:ratio{signal="bounce"}',
                        "eval_time": "3m",
                        "exp_samples": [
                            {
                                "labels": f'intarget:limit:ratio{{account="a", channel="{channel}", '
                                f'severity="{severity}", signal="bounce"}}',
                                "value": value,
                            }
                            for (channel, severity), value in want.items()
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    assert "SUCCESS" in _run(promtool, "test", "rules", "test.yaml", cwd=tmp_path)


@pytest.mark.e2e
def test_amtool_accepts_the_example_configuration() -> None:
    """`amtool check-config` finds no fault in alertmanager.yml."""
    assert "SUCCESS" in _run(tool("amtool"), "check-config", "alertmanager.yml")


def _labels(alert: str) -> dict[str, str]:
    """Return the labels of ``name severity signal account channel campaign_id``, cut off where it ends."""
    names = ("alertname", "severity", "signal", "account", "channel", "campaign_id")
    labels = dict(zip(names, alert.split(), strict=False))
    return {**labels, "alertname": f"InTarget{labels['alertname']}"}


INHIBITION = [
    # Same thing, lower severity.
    ("CampaignBounceRate warning bounce a email 1", "CampaignBounceRate critical bounce a email 1", True),
    ("CampaignBounceRate warning bounce a email 2", "CampaignBounceRate critical bounce a email 1", False),
    (
        "CampaignComplaintRate warning complaint a email 1",
        "CampaignBounceRate critical bounce a email 1",
        False,
    ),
    ("BounceSpike warning bounce a email", "AccountBounceRate critical bounce a email", True),
    ("BounceSpike warning bounce a email", "AccountBounceRate critical bounce a sms", False),
    # No campaign is hidden by the account, nor by another campaign.
    ("CampaignBounceRate critical bounce a email 1", "AccountBounceRate critical bounce a email", False),
    ("CampaignBounceRate warning bounce a email 1", "AccountBounceRate critical bounce a email", False),
    ("CampaignBounceRate critical bounce a email 2", "CampaignBounceRate critical bounce a email 1", False),
    # The account's warning and the spike say less than the campaign.
    ("AccountBounceRate warning bounce a email", "CampaignBounceRate critical bounce a email 1", True),
    ("AccountBounceRate critical bounce a email", "CampaignBounceRate critical bounce a email 1", False),
    ("BounceSpike warning bounce a email", "CampaignBounceRate warning bounce a email 1", True),
    # Everything by an exporter that is down, of that account.
    ("AccountBounceRate critical bounce a email", "ExporterDown critical exporter a", True),
    ("AccountBounceRate critical bounce b email", "ExporterDown critical exporter a", False),
    ("AccountBounceRate critical bounce a email", "ExporterAbsent critical exporter", True),
    ("ExporterDown critical exporter a", "ExporterAbsent critical exporter", True),
    ("ExporterDown critical exporter a", "ShardMissing critical exporter", True),
    ("PollsFailing warning exporter a", "TokenRejected critical exporter a", True),
    # What was found before the data got old still holds.
    ("AccountBounceRate critical bounce a email", "DataStale critical exporter a", False),
    # No alert by itself.
    ("ExporterAbsent critical exporter", "ExporterAbsent critical exporter", False),
]


@pytest.mark.parametrize(("target", "source", "expected"), INHIBITION)
def test_inhibition(target: str, source: str, *, expected: bool) -> None:
    """What is quiet while something else says it better, and what is not."""
    assert expected == inhibits(_labels(source), _labels(target))


def test_inhibition_leaves_alerts_of_others_alone() -> None:
    """A critical account alert hides no warning that isn't of these rules."""
    foreign = {**_labels("X warning bounce a email"), "alertname": "NodeDown"}
    assert not inhibits(_labels("AccountBounceRate critical bounce a email"), foreign)


@pytest.mark.parametrize("rule", _alerts(), ids=_id)
def test_each_severity_has_a_receiver_of_its_own(rule: dict[str, Any]) -> None:
    """Only critical alerts page; nothing is repeated later than Alertmanager remembers."""
    way = route({**rule["labels"], "alertname": rule["alert"]})
    receivers = {"critical": "page", "warning": "chat", "info": "log"}
    assert way["receiver"] == receivers[rule["labels"]["severity"]]
    assert int(way["repeat_interval"].removesuffix("h")) < 120


def test_notifications_are_grouped_by_what_is_bad() -> None:
    """Alerts of one account, channel and signal go together; the exporter's are one page."""
    way = {"severity": "critical"}
    assert route({**way, "signal": "bounce"})["group_by"] == ["account", "channel", "signal"]
    assert route({**way, "signal": "exporter"})["group_by"] == ["signal"]


def test_the_rule_files_are_what_the_generator_writes() -> None:
    """Nobody has edited them by hand, and nobody has forgotten to generate them."""
    assert generate(["--check"]) == 0


def test_the_bound_that_is_tested_is_the_bound_of_the_rules() -> None:
    """The formula and z of the rules are those of the computation that the runbook cites."""
    z = {r["labels"]["level"]: r["expr"] for r in _rules() if r.get("record") == "intarget:limit:z"}
    assert z["campaign"] == "vector(3.1)"
    (case,) = [
        case
        for test in _read(RULES / "tests" / "campaign_bounces.yaml")["tests"]
        for case in test.get("promql_expr_test", [])
        if case["expr"] == "campaign:intarget_bounce:wilson_lower"
    ]
    assert case["exp_samples"][0]["value"] == pytest.approx(lower_bound(57, 3.1) / 600, rel=1e-12)


@pytest.mark.parametrize(("signal", "at_limit", "calm"), [("bounce", 0.025, 2e-5), ("complaint", 0.02, 1e-4)])
def test_repeated_looks_rarely_alarm(signal: str, at_limit: float, calm: float) -> None:
    """Over 14 days of polls the probabilities stay under those that the runbook cites."""
    limit = LIMITS[signal]
    assert ever_crosses(500_000, 4032, limit, limit, 3.1) < at_limit
    assert ever_crosses(5_000, 4032, 0.4 * limit, limit, 3.1) < calm


def test_few_events_prove_nothing() -> None:
    """1 of 5 is silent, as are 3 of 3; 4 of 4 is not."""
    assert [boundary(n, 0.05, 3.1) for n in (3, 4, 5)] == [4, 4, 4]
    assert boundary(100, 0.0005, 3.1) > 2
