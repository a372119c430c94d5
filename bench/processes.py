"""Programs that run for as long as they are measured, and what they use."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Popen = subprocess.Popen[str]

_TICKS = os.sysconf("SC_CLK_TCK")


PACKAGES = {
    "nginx": "nginx-light",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus-pushgateway": "prometheus-pushgateway",
    "wrk": "wrk",
}
"""The programs that are compared with and measured by, and the Debian packages that have them."""


class MissingError(Exception):
    """A program isn't installed; the text says how to."""


def program(name: str) -> str:
    """Return the path of one of PACKAGES; raises MissingError."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/bin")
    if path is None:
        raise MissingError(f"{name} is missing: apt-get install {' '.join(PACKAGES.values())}")
    return path


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _environment() -> dict[str, str]:
    """Return the environment, in which our modules are found from any folder."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


@contextmanager
def running(command: Sequence[str], *, cwd: Path | None = None) -> Iterator[Popen]:
    """Run a program until the block ends; its standard output can be read."""
    process = subprocess.Popen(
        command, cwd=cwd, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def fake_api(campaigns: int) -> Iterator[str]:
    """Run the fake API, and return its address."""
    with running([sys.executable, "-m", "bench.fake_api", str(campaigns)]) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


def change(url: str, share: float) -> None:
    """Let a share of the fake API's campaigns grow."""
    urllib.request.urlopen(
        urllib.request.Request(f"{url}/change?share={share}", method="POST"), timeout=60
    ).close()


def until(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until `condition` holds; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def insecure() -> ssl.SSLContext:
    """Return a TLS context that believes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def answers(url: str) -> bool:
    """Whether something answers at `url` with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=10, context=insecure()) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def listens(port: int) -> bool:
    """Whether something accepts connections, for programs whose every answer takes long."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def cpu_seconds(pid: int) -> float:
    """Return what a process has used of CPU so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int | str) -> dict[str, float]:
    """Return the memory of a process in MB: now (VmRSS) and at most (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {name: int(status[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")}
