"""Deployment files that are made from others: ``python -m deploy.generator`` writes them."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HEAD = "# Made of grafana/rules by: python -m deploy.generator\n"
RULE = """\
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: intarget-exporter-{name}
  labels:
    app.kubernetes.io/name: intarget-exporter
spec:
"""


def prometheus_rules(rule_files: Iterable[Path]) -> str:
    """Return rule files as YAML of the Prometheus operator: one object for each file, text as it is."""
    objects = [
        RULE.format(name=path.stem) + indent(path.read_text(encoding="utf-8"), "  ")
        for path in sorted(rule_files)
    ]
    return HEAD + "".join(objects)
