"""The web server: sockets that are bound before anything else starts, and what serves their connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from exporter.web.http1 import Connections
from exporter.web.listen import bind, describe
from exporter.web.routes import WebApp
from exporter.web.tls import ToolkitFile

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from exporter.web.site import Site

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 256
"""Open connections over all addresses: a quarter of the usual limit of 1024 files; polling keeps the rest."""
_GRACE: Final = 1.0
"""Seconds that answers under way get when the server stops; then their connections are broken off."""
_ACCEPT_AT_ONCE: Final = 32
_ACCEPT_PAUSE: Final = 0.2
"""Seconds without accepting after a failure, which is a lack of files or memory."""


class WebServer:
    """Serves `site` on `listen_addresses`, with the exporter-toolkit file `web_config` if there is one.

    The addresses are bound at construction, so that a port in use is known before anything else starts; until
    `serve` or `close`, connections wait in the kernel. Raises ConfigError with a line for each fault of the
    addresses or the file.
    """

    def __init__(self, site: Site, listen_addresses: Sequence[str], web_config: Path | None) -> None:
        self._file = None if web_config is None else ToolkitFile(web_config)
        self._listeners = bind(listen_addresses)
        self.addresses = tuple(map(describe, self._listeners))
        """The addresses as bound, such as ``127.0.0.1:41234`` or ``[::]:10095``."""
        self._app = WebApp(site) if self._file is None else WebApp(site, self._file.current)
        self._connections = Connections(self._app, MAX_CONNECTIONS)

    @property
    def tls(self) -> bool:
        """Whether it speaks TLS."""
        return self._file is not None and self._file.current().tls_server_config is not None

    def close(self) -> None:
        """Let go of sockets and threads. `serve` does it at its end."""
        for listener in self._listeners:
            listener.close()
        self._app.close()

    async def serve(self, stop: asyncio.Event, started: Callable[[Sequence[str]], None]) -> None:
        """Serve until `stop` is set, then end within 2 s, open connections or not.

        `started` is called with `addresses` once connections are answered.
        """
        accepting = [asyncio.create_task(self._accept(listener)) for listener in self._listeners]
        try:
            for address in self.addresses:
                log.info("listening on %s://%s", "https" if self.tls else "http", address)
            started(self.addresses)
            await stop.wait()
        finally:
            for task in accepting:
                task.cancel()
            await asyncio.gather(*accepting, return_exceptions=True)
            await self._connections.close(_GRACE)
            self.close()

    async def _accept(self, listener: socket.socket) -> None:
        """Hand on the connections that come to `listener`, for ever."""
        loop = asyncio.get_running_loop()
        failing = False
        while True:
            await self._connections.make_room()
            try:
                sock, _ = await loop.sock_accept(listener)
                self._begin(sock)
                # Those that wait behind it come at once: a full queue makes newcomers wait for a second.
                with contextlib.suppress(BlockingIOError):
                    for _ in range(_ACCEPT_AT_ONCE):
                        if not self._connections.full:
                            self._begin(listener.accept()[0])
            except OSError as error:
                if not failing:
                    log.error("connections can't be accepted: %s", error.strerror)  # noqa: TRY400 - says it all
                failing = True
                await asyncio.sleep(_ACCEPT_PAUSE)
            else:
                failing = False

    def _begin(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003 - the socket module's way
        self._connections.begin(sock, None if self._file is None or not self.tls else self._file.context())
