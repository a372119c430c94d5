"""Runs the exporter as a program of its own and looks at it from outside: pages, output, exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEADLINE = 60.0
_LISTENING = re.compile(r"listening on (https?://[^\s\"]+)")
_SITE = str(Path(__file__).parents[1])


def environment(**variables: str) -> dict[str, str]:
    """Return an environment without any setting of the exporter but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTARGET_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | variables


def command(*arguments: str) -> list[str]:
    """Return the command line of the exporter with `arguments`."""
    # At the end of the path, as in conftest.py: an installed exporter comes first
    start = "import sys; sys.path.append(sys.argv.pop(1)); from exporter.cli import main; main()"
    return [sys.executable, "-c", start, _SITE, *arguments]


def run(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = DEADLINE
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait until `condition` holds; fail after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Program:
    """A running exporter, in the directory `cwd`, whose output goes to files there."""

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        number = len(list(cwd.glob("*.stdout")))
        self._out, self._err = cwd / f"{number}.stdout", cwd / f"{number}.stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command(*arguments), cwd=cwd, env=environment(**(env or {})), stdout=out, stderr=err
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)

    @property
    def output(self) -> str:
        """Everything said so far, on stdout and then on stderr."""
        return self._out.read_text() + self._err.read_text()

    @property
    def url(self) -> str:
        """Base URL; waits until it is listening."""

        def listening() -> bool:
            assert self.process.poll() is None, self.output
            return _LISTENING.search(self.output) is not None

        until(listening, "listening")
        found = _LISTENING.search(self.output)
        assert found is not None
        return found[1].rstrip("/")

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Return status and body of a request."""
        status, body, _ = self.fetch(path, method, **headers)
        return status, body.decode()

    def fetch(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        """Return status, body and headers of a request; `_` in names of headers stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, method=method, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.read(), dict(answer.headers.items())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers.items())

    def samples(self) -> Samples:
        """Return what a scrape finds now."""
        return Samples(self.get("/metrics")[1])

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum of a metric over all its series with these labels; None: there are none."""
        return self.samples().value(name, **labels)

    def stop(self, number: int = signal.SIGTERM, seconds: float = DEADLINE) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


class Samples:
    """The samples of one exposition."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [one for family in text_string_to_metric_families(text) for one in family.samples]

    def series(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return values by labels."""
        return {
            tuple(sorted(one.labels.items())): one.value
            for one in self._samples
            if one.name == name and labels.items() <= one.labels.items()
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum over all series with these labels; None: there are none."""
        found = self.series(name, **labels)
        return sum(found.values()) if found else None
