"""The simulator behind a socket: HTTP/1.1 with keep-alive, one thread for each connection."""

from __future__ import annotations

import gzip
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

if TYPE_CHECKING:
    from collections import Counter, deque
    from types import TracebackType

    from exporter.simulator.replay import Replay
    from exporter.simulator.service import Answer, Asked, Simulator

_IDLE_SECONDS: Final = 120.0
_DRIPS_PER_SECOND: Final = 10
_CLOSING_SECONDS: Final = 10.0
Service: TypeAlias = "Simulator | Replay"
_Request: TypeAlias = "socket.socket | tuple[bytes, socket.socket]"


class RunningServer:
    """A simulator that is being served. Close it, or use it as a context manager."""

    def __init__(self, simulator: Service, host: str, port: int) -> None:
        self.simulator = simulator
        self._server = _Server((host, port), simulator)
        self.host, self.port = self._server.server_address[:2]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="simulator", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        host = str(self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def requests(self) -> Counter[str]:
        """How many requests came, by endpoint: ``statistics`` and ``conversions``."""
        return self.simulator.requests

    @property
    def log(self) -> deque[Asked]:
        """The last requests, oldest first."""
        return self.simulator.log

    def close(self) -> None:
        """Stop serving: break every connection and wait for its thread. May be called twice."""
        self._server.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.break_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve(simulator: Service, host: str = "127.0.0.1", port: int = 0) -> RunningServer:
    """Serve the simulator on a thread of its own; port 0 lets the kernel choose.

    Raises OSError if the address can't be had.
    """
    return RunningServer(simulator, host, port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], simulator: Service) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.simulator = simulator
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, as the base class does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        # The stubs allow for Unix sockets, whose addresses are no pairs; this server has none
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment] # a pair, see above

    def process_request(self, request: _Request, client_address: Any) -> None:  # noqa: ANN401 - as the base
        with self._changed:
            # The stubs allow for datagrams; a stream server's requests are sockets
            self._connections.add(request)  # type: ignore[arg-type] # a socket, see above
        super().process_request(request, client_address)

    def process_request_thread(self, request: _Request, client_address: Any) -> None:  # noqa: ANN401 - as above
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._connections.discard(request)
                self._changed.notify_all()

    def handle_error(self, request: _Request, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Stay silent when a client is gone; else say so as the base class does."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def break_connections(self) -> None:
        with self._changed:
            for connection in self._connections:
                _shut(connection)
            self._changed.wait_for(lambda: not self._connections, _CLOSING_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "simulator"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        answer = self.server.simulator.answer(self.path)
        fault = answer.fault
        kind = fault.kind if fault else None
        seconds = fault.seconds if fault else 0.0
        if kind in ("hang", "slow") and self.server.stopping.wait(seconds):
            self.close_connection = True
            return
        if kind in ("hang", "reset"):
            self.close_connection = True
            _shut(self.connection)
            return
        head, body = self._render(answer)
        if kind == "cut_body":
            self.close_connection = True
            self.wfile.write(head + body[: len(body) // 2])
        elif kind == "drip_headers":
            self._drip(head, seconds)
            self.wfile.write(body)
        elif kind == "drip":
            self.wfile.write(head)
            self._drip(body, seconds)
        else:
            self.wfile.write(head + body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing: a request line holds a token."""

    def _render(self, answer: Answer) -> tuple[bytes, bytes]:
        """Return the head and the body as they go over the wire."""
        body = answer.body
        names = dict(answer.headers)
        if answer.gzip and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 1, mtime=0)
            names["Content-Encoding"] = "gzip"
        if answer.chunked and self.request_version == "HTTP/1.1":
            names["Transfer-Encoding"] = "chunked"
            pieces = [body[at : at + 4096] for at in range(0, len(body), 4096)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            names["Content-Length"] = str(len(body))
        phrase = self.responses[answer.status][0] if answer.status in self.responses else ""
        lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in names.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body

    def _drip(self, data: bytes, seconds: float) -> None:
        """Write the data in small pieces, evenly over so many seconds."""
        pieces = max(1, min(len(data), int(seconds * _DRIPS_PER_SECOND)))
        for number in range(pieces):
            if self.server.stopping.wait(seconds / pieces):
                self.close_connection = True
                return
            self.wfile.write(data[number * len(data) // pieces : (number + 1) * len(data) // pieces])
            self.wfile.flush()


def _shut(connection: socket.socket) -> None:
    """End a connection from another thread; whoever reads from it finds its end."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
