"""HTTP/1.1 connections, from an accepted socket to the ASGI application.

h11 reads and writes the protocol; here stands what keeps one peer from costing the others anything: each step
has a time limit, a request's body isn't read, an answer is handed to the transport piece by piece, and a
connection that ended leaves nothing behind, not even for the garbage collector, which may come late.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from asyncio import sslproto
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import h11

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Message, Scope

log = logging.getLogger(__name__)

_HANDSHAKE_SECONDS: Final = 10.0
HEAD_SECONDS: Final = 5.0
"""How long a peer may take for the head of a request."""
IDLE_SECONDS: Final = 75.0
"""How long a connection may wait for its next request: longer than people let Prometheus scrape."""
ANSWER_SECONDS: Final = 60.0
_MOST_ANSWER_SECONDS: Final = 600.0
_CLOSE_SECONDS: Final = 1.0
_MAX_HEAD_BYTES: Final = 16 * 1024
_READ_BYTES: Final = 16 * 1024
_LINGER_BYTES: Final = 1 << 20
_COMPLAINT_SECONDS: Final = 60.0
MOMENT: Final = 0.25
"""Seconds in which a new connection, or one that was just asked something, isn't closed for another one."""

# Asyncio gives each TLS connection a buffer of 256 KiB to read into; ours only ever get requests.
sslproto.SSLProtocol.max_size = _READ_BYTES


class Connections:
    """The open connections, at most `limit`: for one more, the one that was quiet longest is closed.

    Each has a moment to send its request, though, in which newcomers wait.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._tasks: dict[asyncio.Task[None], float] = {}  # since when each is quiet
        self._answering: set[asyncio.Task[None]] = set()
        self._complained = float("-inf")

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._tasks)

    @property
    def answering(self) -> int:
        """How many are being answered at the moment."""
        return len(self._answering)

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._tasks) >= self._limit

    async def make_room(self) -> None:
        """Return once there is room for one more, closing the oldest if need be."""
        loop = asyncio.get_running_loop()
        while self.full:
            oldest, since = next(iter(self._tasks.items()))
            if loop.time() >= since + MOMENT:
                del self._tasks[oldest]
                oldest.cancel()
                self._complain()
            else:
                await asyncio.sleep(MOMENT / 10)

    def begin(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """Serve the connection `sock`, with TLS if there is a `context`."""
        task = asyncio.create_task(self._serve(sock, context))
        self._tasks[task] = asyncio.get_running_loop().time()
        task.add_done_callback(self._end)

    async def close(self, grace: float) -> None:
        """Close the quiet ones now, and after `grace` seconds those that are still answered then."""
        for task in self._tasks.keys() - self._answering:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        """Count the current task's connection as one that is being answered."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - called by the tasks of `begin`
        if self._tasks.pop(task, None) is not None:
            self._tasks[task] = asyncio.get_running_loop().time()
        self._answering.add(task)
        try:
            yield
        finally:
            self._answering.discard(task)

    async def _serve(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        streams = await _open_streams(sock, context)
        if streams is not None:
            await _Connection(self._app, *streams, tls=context is not None, busy=self._busy).serve()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection failed", exc_info=error)

    def _complain(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._complained + _COMPLAINT_SECONDS:
            self._complained = now
            log.warning("too many connections: %d are open, closing the oldest", self._limit)


async def _open_streams(
    sock: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Return the streams of an accepted socket, after the handshake if there is one; None if it failed."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    try:
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            sock,
            ssl=context,
            ssl_handshake_timeout=None if context is None else _HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=None if context is None else _CLOSE_SECONDS,
        )
    except BaseException as error:
        # What failed stands in the frames of its own traceback, with all that belongs to the connection.
        traceback.clear_frames(error.__traceback__)
        sock.close()
        if isinstance(error, OSError):  # TLS errors are some
            return None
        raise
    transport.set_write_buffer_limits(
        high=1
    )  # what was drained has left; with 0, a TLS transport never resumes
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _Connection:
    """The requests of one connection, one after another."""

    def __init__(
        self,
        app: ASGIApp,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        tls: bool,
        busy: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._app = app
        self._reader = reader
        self._writer = writer
        self._scheme = "https" if tls else "http"
        self._busy = busy
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)

    async def serve(self) -> None:
        """Answer requests until either side has enough, or a step takes too long."""
        try:
            while await self._exchange():
                pass
            self._writer.close()
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.wait_closed()
        except (OSError, TimeoutError) as error:  # it is gone, or it is too slow
            error.__traceback__ = None  # the reader keeps the error, and its frames would keep the reader
        finally:
            self._writer.transport.abort()

    async def _exchange(self) -> bool:
        """Answer one request, and return whether there may be another one."""
        try:
            request = await self._request()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
            return False
        if request is None:
            return False
        if request.http_version not in (b"1.0", b"1.1"):
            await self._refuse(505)
            return False
        with self._busy():
            async with asyncio.timeout(_answer_seconds(request)):
                await self._app(self._scope(request), _Body(), _Answer(self._protocol, self._writer, request))
        done = self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE
        if not done or self._writer.is_closing():
            return False
        self._protocol.start_next_cycle()
        await asyncio.sleep(0)  # requests that come all at once take turns with those of others
        return True

    async def _request(self) -> h11.Request | None:
        """Return the next request; None if the peer has no more. Of its body, only what has come is read."""
        request: h11.Request | None = None
        idle = self._protocol.their_http_version is not None and not self._protocol.trailing_data[0]
        async with asyncio.timeout(IDLE_SECONDS if idle else HEAD_SECONDS) as limit:
            while True:
                event = self._protocol.next_event()
                if isinstance(event, h11.Request):
                    request = event
                elif event is h11.NEED_DATA and request is None:
                    self._protocol.receive_data(await self._reader.read(_READ_BYTES))
                    if idle:
                        idle = False
                        limit.reschedule(asyncio.get_running_loop().time() + HEAD_SECONDS)
                elif not isinstance(event, h11.Data):
                    return request

    def _scope(self, request: h11.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode(),
            "scheme": self._scheme,
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": None,
            "server": None,
        }

    async def _refuse(self, status: int) -> None:
        """Answer what isn't a request, and read on for a moment: a peer still sends while it should read."""
        if self._protocol.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("content-length", "0"), ("connection", "close")]
        self._writer.write(self._protocol.send(h11.Response(status_code=status, headers=headers)) or b"")
        await self._writer.drain()
        if self._writer.can_write_eof():
            self._writer.write_eof()
            async with asyncio.timeout(_CLOSE_SECONDS):
                for _ in range(_LINGER_BYTES // _READ_BYTES):
                    if not await self._reader.read(_READ_BYTES):
                        return


class _Body:
    """What an application receives: nothing, for no route of ours takes a body."""

    def __init__(self) -> None:
        self._is_sent = False

    async def __call__(self) -> Message:
        """Return the empty body, and then that there is no more to come."""
        if self._is_sent:
            return {"type": "http.disconnect"}
        self._is_sent = True
        return {"type": "http.request", "body": b"", "more_body": False}


class _Answer:
    """Takes an application's answer to the peer: head and first piece in one write, the rest uncopied."""

    def __init__(self, protocol: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request) -> None:
        self._protocol = protocol
        self._writer = writer
        self._has_body = request.method != b"HEAD"
        self._head = b""

    async def __call__(self, message: Message) -> None:
        """Send one message of ASGI. Raises ConnectionError if the peer is gone."""
        if message["type"] == "http.response.start":
            response = h11.Response(status_code=message["status"], headers=list(message["headers"]))
            self._head = self._protocol.send(response) or b""
            return
        pieces: list[bytes | memoryview] = [self._head] if self._head else []
        self._head = b""
        body = message.get("body", b"")
        if body and self._has_body:
            pieces += self._protocol.send_with_data_passthrough(h11.Data(data=body)) or []
        if not message.get("more_body", False):
            pieces += self._protocol.send_with_data_passthrough(h11.EndOfMessage()) or []
        if sum(map(len, pieces)) <= _READ_BYTES:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            if piece:
                self._writer.write(piece)
        try:
            await self._writer.drain()
        except OSError as error:
            raise ConnectionResetError(error.strerror) from None


def _answer_seconds(request: h11.Request) -> float:
    """Return how long an answer may take: a minute, or what a patient Prometheus says it would wait."""
    patience = dict(request.headers).get(b"x-prometheus-scrape-timeout-seconds", b"")
    try:
        return max(ANSWER_SECONDS, min(float(patience), _MOST_ANSWER_SECONDS))
    except ValueError:
        return ANSWER_SECONDS
