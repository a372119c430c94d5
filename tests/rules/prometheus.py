"""A real Prometheus for tests: started on a free port, fed from files, asked over its API."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

Labels = dict[str, str]


def free_port() -> int:
    """Return a port that the kernel just gave and took back; Prometheus doesn't tell which one it chose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def import_openmetrics(text: Path, data: Path) -> None:
    """Make blocks in `data` from an OpenMetrics file.

    Few large ones: promtool reads the whole file once for each block.
    """
    command = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=1500h", "openmetrics"]
    run = subprocess.run([*command, str(text), str(data)], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(run.stdout + run.stderr)


class Prometheus:
    """Prometheus in `folder`, with its data in `folder`/data; a context manager.

    $PROMETHEUS names another program than the one on the path.
    """

    def __init__(self, folder: Path, *, config: str = "{}", options: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prometheus.yml").write_text(config)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers queries."""
        executable = shutil.which(os.environ.get("PROMETHEUS", "prometheus"))
        if executable is None:
            raise FileNotFoundError("prometheus is not installed")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    executable,
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self._options,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError("Prometheus did not get ready within 60 s")

    @property
    def pid(self) -> int:
        """The id of its process."""
        if self._process is None:
            raise RuntimeError("Prometheus isn't running")
        return self._process.pid

    def stop(self) -> None:
        """Stop it; its data stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def get(self, path: str, **parameters: str | float) -> Any:  # noqa: ANN401 (whatever the API's JSON holds)
        """Return the `data` of an answer of the HTTP API."""
        body = urllib.parse.urlencode(parameters).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", data=body or None)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)["data"]

    def series(self, query: str, start: int, end: int, step: int) -> list[tuple[Labels, dict[int, float]]]:
        """Evaluate `query` from `start` to `end`, both included, every `step` seconds.

        Returns labels, and values by time. Names are dropped, as a recording rule drops them.
        """
        found: dict[str, tuple[Labels, dict[int, float]]] = {}
        for first in range(start, end + 1, 10_000 * step):
            last = min(end, first + 9_999 * step)
            data = self.get("query_range", query=query, start=first, end=last, step=step)
            for one in data["result"]:
                labels = one["metric"]
                labels.pop("__name__", None)
                _, values = found.setdefault(json.dumps(labels, sort_keys=True), (labels, {}))
                values.update((int(at), float(value)) for at, value in one["values"])
        return [(labels, dict(sorted(values.items()))) for labels, values in found.values()]
