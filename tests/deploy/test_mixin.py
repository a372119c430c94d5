"""The jsonnet mixin has everything that is shipped."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.deploy._objects import ROOT

_gojsonnet = pytest.importorskip("_gojsonnet")  # of the extra "deploy"

RULES = ROOT / "grafana" / "rules"


def test_mixin_has_every_rule_and_dashboard() -> None:
    """Alerts are those of alerts.yaml, rules those of the other rule files, dashboards all of them."""
    mixin = ROOT / "deploy" / "mixin" / "mixin.libsonnet"
    hidden = f"local m = import '{mixin}'; [m.prometheusAlerts, m.prometheusRules, m.grafanaDashboards]"
    alerts, rules, dashboards = json.loads(_gojsonnet.evaluate_snippet("test", hidden))
    groups = {
        path.name: yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for path in RULES.glob("*.yaml")
    }
    assert alerts["groups"] == groups.pop("alerts.yaml")
    assert rules["groups"] == [group for name in sorted(groups) for group in groups[name]]
    shipped = {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in (ROOT / "grafana" / "dashboards").glob("*.json")
    }
    assert shipped == dashboards
