"""Write the PrometheusRule objects of the rule files."""

from __future__ import annotations

from pathlib import Path

from deploy.generator import prometheus_rules

ROOT = Path(__file__).parents[2]
RULES = ROOT / "grafana" / "rules"
OUTPUT = ROOT / "deploy" / "kubernetes" / "components" / "prometheus-operator" / "rules.yaml"

if __name__ == "__main__":
    OUTPUT.write_text(prometheus_rules(RULES.glob("*.yaml")), encoding="utf-8")
