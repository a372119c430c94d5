"""``--web.listen-address`` to listening sockets."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_BACKLOG: Final = 1024
_SEND_BUFFER: Final = 512 * 1024
"""What the kernel holds for a slow reader; by itself it would take megabytes for each."""
_UNSENT_SECONDS: Final = 30
_ADDRESS = re.compile(r"(?:\[(?P<literal>[^\[\]]+)\]|(?P<host>[^:\[\]\s]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_MAX_PORT: Final = 65535
_IPV4: Final = re.compile(r"[0-9]+(\.[0-9]+){3}", re.ASCII)


def bind(addresses: Sequence[str]) -> tuple[socket.socket, ...]:
    """Return listening sockets for `addresses`, at least one for each.

    Forms: ``:PORT`` (all addresses, IPv4 and IPv6), ``HOST:PORT`` (every address of the name), ``[IPv6]:PORT``.
    Port 0 lets the kernel choose. ``[::]:PORT`` takes IPv4 too, unless an IPv4 address has the port. Raises
    ConfigError with one line for each address that can't be used; then nothing stays bound.
    """
    listeners: list[socket.socket] = []
    faults: list[str] = []
    if not addresses:
        faults.append("--web.listen-address: missing; give at least one, as :10095")
    ipv4_ports = {
        int(match["port"]) for match in map(_ADDRESS.fullmatch, addresses) if match and _is_ipv4(match)
    }
    for address in addresses:
        try:
            listeners.extend(_bind(address, ipv4_ports))
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


def describe(listener: socket.socket) -> str:
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


def _is_ipv4(match: re.Match[str]) -> bool:
    return _IPV4.fullmatch(match["host"] or "") is not None


def _bind(address: str, ipv4_ports: Collection[int]) -> list[socket.socket]:
    host, port = parse_address(address)
    if host in ("", "::"):
        return [_bind_all(port, with_ipv4=not host or port not in ipv4_ports)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    targets = list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    for family, (name, _, *rest) in targets:
        try:
            listener = _listen(family, (name, port, *rest))
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


def _bind_all(port: int, *, with_ipv4: bool) -> socket.socket:
    if not with_ipv4 or socket.has_dualstack_ipv6():
        return _listen(socket.AF_INET6, ("::", port), with_ipv4=with_ipv4)
    return _listen(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - what :PORT means


def _listen(family: int, address: tuple[Any, ...], *, with_ipv4: bool = False) -> socket.socket:
    # With its protocol named, asyncio knows that it is TCP, and doesn't let small answers wait (TCP_NODELAY).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not with_ipv4))
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
