"""A simulated InTarget statistics API: for ``--demo``, ``simulate`` and the tests.

Everything is a function of a seed and a clock. It shares no code with the exporter's client and parser, so that
tests of the one against the other prove something.
"""

from __future__ import annotations

from exporter.simulator.faults import FAULT_KINDS, Correction, Fault, FaultKind, Faults
from exporter.simulator.model import (
    FIELDS,
    FOREVER,
    Campaign,
    Conversions,
    CurveMessage,
    DailyMessage,
    FixedMessage,
    Goal,
    Timeline,
)
from exporter.simulator.replay import Replay
from exporter.simulator.scenarios import SCENARIOS, Incident, Looseness, Scenario
from exporter.simulator.server import RunningServer, serve
from exporter.simulator.service import DEMO_SPEED, DEMO_TOKEN, Answer, Asked, Simulator, demo

__all__ = [
    "DEMO_SPEED",
    "DEMO_TOKEN",
    "FAULT_KINDS",
    "FIELDS",
    "FOREVER",
    "SCENARIOS",
    "Answer",
    "Asked",
    "Campaign",
    "Conversions",
    "Correction",
    "CurveMessage",
    "DailyMessage",
    "Fault",
    "FaultKind",
    "Faults",
    "FixedMessage",
    "Goal",
    "Incident",
    "Looseness",
    "Replay",
    "RunningServer",
    "Scenario",
    "Simulator",
    "Timeline",
    "demo",
    "serve",
]
