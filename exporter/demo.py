"""The exporter beside the bundled simulator, in one process and with nothing on disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter import simulator
from exporter.app import App
from exporter.config.model import Config

if TYPE_CHECKING:
    from exporter.app import Options


def run_demo(scenario: str, options: Options) -> None:
    """Poll and serve the bundled simulator, with nothing on disk. Raises as `App.run`."""
    with simulator.serve(simulator.demo(time.time, scenario)) as server:
        App(lambda: demo_config(server.url), options).run()


def demo_config(base_url: str) -> Config:
    """Return the configuration of the demo, whose campaigns take minutes instead of days."""
    return Config.model_validate(
        {
            "accounts": [
                {
                    "name": "demo",
                    "access_token": simulator.DEMO_TOKEN,
                    "base_url": base_url,
                    "currency": "EUR",
                }
            ],
            "poll": {
                "refresh": [
                    {"younger_than": "1d", "every": "5s"},
                    {"younger_than": "14d", "every": "1m"},
                ],
                "still_sending": {"lookback": "1d", "every": "30s"},
                "conversions_every": "15s",
                "stale_after": "2m",
            },
            "api": {"requests_per_second": 20.0, "timeout": "5s", "deadline": "30s"},
            "metrics": {"zero_hold": "20s"},
            "state": {"path": None},
        }
    )
