"""Hypercorn, started from code on sockets that are bound before anything else starts."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, cast

import hypercorn.asyncio
from hypercorn.config import Config, Sockets

from exporter.web.listen import Connections, Listener, bind, describe
from exporter.web.routes import WebApp
from exporter.web.tls import ReloadingContext, ToolkitFile
from exporter.web.toolkit_config import ToolkitConfig

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from exporter.web.site import Site

_log = logging.getLogger(__name__)

_GRACE: Final = 1.0
"""Seconds that answers under way get when the server stops; then their connections are broken off."""
_LAST_GRACE: Final = 0.5


class _Config(Config):
    """Hypercorn's configuration, on our sockets and our TLS context."""

    def __init__(self, listeners: Sequence[Listener], context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._listeners = list(listeners)
        self._context = context
        logger = logging.getLogger(f"{__name__}.hypercorn")
        logger.setLevel(logging.WARNING)
        self.errorlog = logger
        self.accesslog = None
        self.backlog = 128
        self.include_server_header = False
        self.h11_max_incomplete_size = 16 * 1024
        self.h2_max_header_list_size = 16 * 1024
        self.h2_max_concurrent_streams = 16
        # Also how long a peer may take to send a request's headers, and how long Hypercorn keeps a connection
        # that its idle peer has closed.
        self.keep_alive_timeout = 5.0
        self.keep_alive_max_requests = 10_000
        self.ssl_handshake_timeout = 10.0
        self.graceful_timeout = _GRACE + _LAST_GRACE
        self.shutdown_timeout = _GRACE

    @property
    def ssl_enabled(self) -> bool:
        return self._context is not None

    def create_sockets(self) -> Sockets:
        sockets: list[socket.socket] = list(self._listeners)
        return Sockets(sockets, [], []) if self.ssl_enabled else Sockets([], sockets, [])

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self._context


class WebServer:
    """Serves `site` on `listen_addresses`, with the exporter-toolkit file `web_config` if there is one.

    The addresses are bound at construction, so that a port in use is known before anything else starts; until
    `serve` or `close`, connections wait in the kernel. Raises ConfigError with a line for each fault of the
    addresses or the file.
    """

    def __init__(self, site: Site, listen_addresses: Sequence[str], web_config: Path | None) -> None:
        self._file = None if web_config is None else ToolkitFile(web_config)
        self._connections = Connections()
        self._listeners = bind(listen_addresses, self._connections)
        self._app = WebApp(site, ToolkitConfig if self._file is None else self._file.current)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses as bound, such as ``127.0.0.1:41234`` or ``[::]:10095``."""
        return tuple(describe(listener) for listener in self._listeners)

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
        config = _Config(
            self._listeners,
            ReloadingContext(self._file.context) if self._file is not None and self.tls else None,
        )
        serving = asyncio.create_task(
            # Hypercorn's own types of ASGI messages are narrower than the specification's.
            hypercorn.asyncio.serve(cast("Any", self._app), config, shutdown_trigger=stop.wait, mode="asgi"),
        )
        stopping = asyncio.create_task(stop.wait())
        try:
            for address in self.addresses:
                _log.info("listening on %s://%s", "https" if self.tls else "http", address)
            started(self.addresses)
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({serving}, timeout=_GRACE)
            self._app.end_answers()
            self._connections.break_off()
            await asyncio.wait({serving}, timeout=_LAST_GRACE)
            if not stop.is_set():
                serving.result()
        finally:
            stopping.cancel()
            serving.cancel()
            # What a broken connection raised doesn't matter any more.
            await asyncio.gather(serving, return_exceptions=True)
            self._connections.break_off()
            self.close()
