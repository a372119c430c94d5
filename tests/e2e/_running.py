"""The exporter as a process of its own, to be killed and started again; and Prometheus scraping it."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import exporter
from tests.rules.prometheus import Prometheus, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 90.0


def until(condition: Callable[[], object], what: str, *, deadline: float = DEADLINE) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(0.05)


class Exporter:
    """The exporter with the configuration `config` (YAML), always on the same port; a context manager."""

    def __init__(self, folder: Path, config: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        (folder / "config.yaml").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """Everything that it has logged, in all its lives."""
        return (self.folder / "log").read_text()

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, without waiting for anything."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "exporter.cli",
                    "--config.file=config.yaml",
                    f"--web.listen-address={self.address}",
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(Path(exporter.__file__).parents[1])},
            )

    def serve(self) -> None:
        """Start it and wait until it serves."""
        self.start()
        until(lambda: self.serves() or not self.running, "the exporter serves")
        assert self.running, self.log[-2000:]

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def serves(self) -> bool:
        """Tell whether it answers."""
        try:
            return self.get("/-/healthy")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str, accept: str = "text/plain") -> tuple[int, str]:
        """Return status and body of one page."""
        host, _, port = self.address.partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def samples(self) -> dict[str, float]:
        """Return all samples of the text format, by name and labels as they stand there."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def scraping(folder: Path, exporter_: Exporter, *, options: tuple[str, ...] = ()) -> Prometheus:
    """Return a Prometheus that scrapes the exporter every second."""
    return Prometheus(
        folder,
        options=options,
        config=f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: intarget, static_configs: [{{targets: ["{exporter_.address}"]}}]}}]
""",
    )


Series = dict[str, str]


def raw(prometheus: Prometheus, names: str, seconds: int) -> list[tuple[Series, list[tuple[float, int]]]]:
    """Return the raw samples of the last so many seconds: labels, and (time, value) of each series."""
    query = f'{{__name__=~"{names}"}}[{seconds}s]'
    result: list[dict[str, Any]] = prometheus.get("query", query=query)["result"]
    return [(one["metric"], [(at, int(float(value))) for at, value in one["values"]]) for one in result]
