"""A server that does to a client whatever a test wants, byte by byte, over real sockets on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came. `headers` has lower-case names."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """Path without the query."""
        return urlsplit(self.target).path

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Decoded query, in order."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True, strict_parsing=True)


class Peer:
    """The server's end of a connection, in the middle of one request."""

    def __init__(self, sock: socket.socket, request: Request, closing: threading.Event) -> None:
        self._sock = sock
        self._closing = closing
        self.request = request
        self.keep = True

    def send(self, data: bytes) -> None:
        """Send all of `data` at once."""
        self._sock.sendall(data)

    def drip(self, data: bytes, interval: float = 0.1) -> None:
        """Send one byte every `interval` seconds."""
        for byte in data:
            self._sock.sendall(bytes([byte]))
            if self._closing.wait(interval):
                return

    def hold(self) -> None:
        """Say nothing until the client goes away."""
        with contextlib.suppress(OSError):
            while self._sock.recv(4096):
                pass

    def close(self) -> None:
        """Close the connection after this answer."""
        self.keep = False

    def tunnel(self, port: int) -> None:
        """Accept a CONNECT, and pass bytes to and from `port` until both ends have finished."""
        with socket.create_connection(("127.0.0.1", port)) as target:
            self.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(target, self._sock), daemon=True)
            back.start()
            _pass_on(self._sock, target)
            back.join(10)
        self.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if TYPE_CHECKING:
    Answer = Callable[[Peer], None]


def reply(
    status: int | str = 200,
    body: bytes = b"[]",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Return an answer with a Content-Length that is right unless `headers` has another."""
    fields = {"Content-Length": str(len(body))} | (headers or {})
    head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return raw(head.encode("latin-1") + b"\r\n" + body, close=False)


def raw(data: bytes, *, close: bool = True) -> Answer:
    """Return an answer of exactly these bytes."""

    def answer(peer: Peer) -> None:
        peer.send(data)
        if close:
            peer.close()

    return answer


class RawServer:
    """Accepts connections in threads and answers request number n with ``answers[n]``; the last one repeats.

    With `mute` connections are accepted and never read. `connections` counts the accepted ones.
    """

    def __init__(
        self, answers: Sequence[Answer] = (), *, mute: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answers = list(answers) or [reply()]
        self._mute = mute
        self._tls = tls
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.requests: list[Request] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Cut every connection and wait for the threads."""
        self._closing.set()
        self._cut(self._listener)
        with self._lock:
            sockets, threads = list(self._sockets), list(self._threads)
        for sock in sockets:
            self._cut(sock)
        for thread in threads:
            thread.join(10)

    @staticmethod
    def _cut(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        sock.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name="rawserver", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        if self._mute:
            self._closing.wait()
            return
        with contextlib.suppress(OSError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._sockets.append(sock)
            with sock:
                while self._one(sock):
                    pass

    def _one(self, sock: socket.socket) -> bool:
        """Answer one request; tell whether another may follow."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(4096)
            if not data:
                return False
            head += data
        line, *fields = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        named = (one.partition(":") for one in fields)
        request = Request(method, target, {name.lower(): value.strip() for name, _, value in named})
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
        peer = Peer(sock, request, self._closing)
        self._answers[min(number, len(self._answers) - 1)](peer)
        return peer.keep
