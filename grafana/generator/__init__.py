"""The dashboards as code: ``python -m grafana.generator`` writes `grafana/dashboards/*.json`.

    promql      queries: selectors, replicas, names of campaigns
    panels      panels: what every one has, colours, thresholds
    dashboard   the frame: variables, annotations, links, the grid
    problems    firing alerts in words
    overview, campaign, conversions, exporter   one dashboard each

Everything is a pure function of the code and of the exporter's catalogue, so that the JSON can be compared.
Written for Grafana 11 and later (schema version 39, which 12 migrates by itself).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from grafana.generator import campaign, conversions, exporter, overview

if TYPE_CHECKING:
    from collections.abc import Mapping


def dashboards() -> Mapping[str, dict[str, Any]]:
    """Return every dashboard's JSON model by the name of its file."""
    models = (overview.dashboard(), campaign.dashboard(), conversions.dashboard(), exporter.dashboard())
    return {f"{model['uid']}.json": model for model in models}


def render(model: Mapping[str, Any]) -> str:
    """Return a model as it is committed."""
    return json.dumps(model, indent=2, ensure_ascii=False) + "\n"
