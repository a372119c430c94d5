"""``--web.listen-address`` to listening sockets, with a bound on open connections."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import weakref
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 512
"""Open connections over all addresses: half of the usual limit of 1024 files; polling keeps the rest."""

_BACKLOG: Final = 128
_UNSENT_SECONDS: Final = 30
_ADDRESS = re.compile(r"(?:\[(?P<literal>[^\[\]]+)\]|(?P<host>[^:\[\]\s]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_MAX_PORT: Final = 65535


class Connections:
    """The accepted connections that are still open."""

    def __init__(self, limit: int = MAX_CONNECTIONS) -> None:
        self._limit = limit
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._full = False

    def admit(self, connection: socket.socket) -> bool:
        """Return whether there is room for `connection`, and if so count it until it is closed."""
        full = len(self.open()) >= self._limit
        if full and not self._full:
            _log.warning("refusing connections: %d are open", self._limit)
        self._full = full
        if not full:
            self._sockets.add(connection)
        return not full

    def open(self) -> list[socket.socket]:
        """Return the open connections."""
        return [connection for connection in self._sockets if connection.fileno() >= 0]

    def break_off(self) -> None:
        """End every open connection now, whatever its peer does; their owners see an end of file."""
        for connection in self.open():
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # its peer was faster
                continue


class Listener(socket.socket):
    """A listening socket that turns connections away when there are too many."""

    def __init__(self, family: int, connections: Connections) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._connections = connections

    def accept(self) -> tuple[socket.socket, Any]:
        """As `socket.accept`; one connection too many is closed and raises ConnectionAbortedError."""
        connection, address = super().accept()
        if not self._connections.admit(connection):
            connection.close()
            raise ConnectionAbortedError
        return connection, address


def bind(addresses: Sequence[str], connections: Connections) -> tuple[Listener, ...]:
    """Return listening sockets for `addresses`, at least one for each.

    Forms: ``:PORT`` (all addresses, IPv4 and IPv6), ``HOST:PORT`` (every address of the name), ``[IPv6]:PORT``.
    Port 0 lets the kernel choose. Raises ConfigError with one line for each address that can't be used; then
    nothing stays bound.
    """
    listeners: list[Listener] = []
    faults: list[str] = []
    if not addresses:
        faults.append("--web.listen-address: missing; give at least one, as :10095")
    for address in addresses:
        try:
            listeners.extend(_bind(address, connections))
        except OSError as error:
            faults.append(f"--web.listen-address: {address}: {_reason(error)}")
        except (ValueError, OverflowError):
            faults.append(
                f"--web.listen-address: {address}: not an address; expected :PORT, HOST:PORT or [IPv6]:PORT",
            )
    if faults:
        for listener in listeners:
            listener.close()
        raise ConfigError(faults)
    return tuple(listeners)


def describe(listener: Listener) -> str:
    """Return the address that `listener` has, as ``127.0.0.1:10095`` or ``[::]:10095``."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host; check the spelling"
    if error.errno == errno.EADDRINUSE:
        return "already in use; stop the program that has it, or choose another port"
    if error.errno == errno.EACCES:
        return "permission denied; choose a port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine doesn't have the address"
    return os.strerror(error.errno or 0).lower()


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of an address such as ``:10095``; no host means all. Raises ValueError."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError(address)
    return match["literal"] or match["host"] or "", int(match["port"])


def _bind(address: str, connections: Connections) -> list[Listener]:
    host, port = parse_address(address)
    if not host:
        return [_bind_all(port, connections)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    targets = list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))
    listeners: list[Listener] = []
    failure: OSError | None = None
    for family, (name, _, *rest) in targets:
        try:
            listener = _listen(family, (name, port, *rest), connections)
        except OSError as error:
            # localhost may name ::1 on a machine without IPv6
            failure = error
            continue
        listeners.append(listener)
        port = listener.getsockname()[1]
    if failure is not None and not (listeners and failure.errno != errno.EADDRINUSE):
        for listener in listeners:
            listener.close()
        raise failure
    return listeners


def _bind_all(port: int, connections: Connections) -> Listener:
    if socket.has_dualstack_ipv6():
        return _listen(socket.AF_INET6, ("::", port), connections)
    return _listen(socket.AF_INET, ("0.0.0.0", port), connections)  # noqa: S104 - what :PORT means


def _listen(family: int, address: tuple[Any, ...], connections: Connections) -> Listener:
    listener = Listener(family, connections)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Inherited by connections: the kernel gives up a peer that takes nothing for so long.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNSENT_SECONDS * 1000)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener
