"""Fixtures of the API client's tests."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.api.client import ApiClient
from tests._rawserver import RawServer
from tests._tools import tool
from tests.api._rig import BASE, SLOW, TOKEN, Rig

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests._rawserver import Answer
    from tests.api._rig import Clock


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    """Build rigs; afterwards nothing of them may be left running."""
    with contextlib.ExitStack() as stack:

        def build(
            *answers: Answer,
            server: RawServer | None = None,
            token: Callable[[], str] = lambda: TOKEN,
            stop: threading.Event | None = None,
            clock: Clock | None = None,
            rng: random.Random | None = None,
            wall_clock: Callable[[], float] = time.time,
            **changes: object,
        ) -> Rig:
            server = stack.enter_context(RawServer(answers) if server is None else server)
            stop = threading.Event() if stop is None else stop
            asked = threading.Event()

            def read_token() -> str:
                asked.set()
                return token()

            times = {} if clock is None else {"monotonic": clock, "wait": clock.wait}
            client = ApiClient(
                replace(BASE, **({"base_url": server.url} | changes)),
                token=read_token,
                stop=stop,
                on_request=lambda *report: rig.reported.append(report),
                random=rng,
                wall_clock=wall_clock,
                **times,
            )
            rig = Rig(client, server, stop, asked)
            stack.callback(client.close)
            return rig

        yield build
    until = time.monotonic() + SLOW
    while [one for one in threading.enumerate() if one.name.startswith("intarget-")]:
        assert time.monotonic() < until, "a thread of the client is left"
        time.sleep(0.005)


@pytest.fixture
def deaf() -> Iterator[str]:
    """Yield the base URL of a listener whose backlog is full: connecting hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)  # noqa: FBT003
            with contextlib.suppress(BlockingIOError):
                sock.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1, in one file with its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-keyout", folder / "key.pem", "-out", folder / "ca.pem"]
    subprocess.run([tool("openssl"), *command.split(), *files], check=True, capture_output=True)
    return folder


@pytest.fixture
def tls(certificate: Path) -> Callable[..., RawServer]:
    """Build TLS servers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "ca.pem", certificate / "key.pem")
    return lambda *answers: RawServer(answers, tls=context)
