"""Attacks on a web server, as a program: ``python _attacks.py KIND PORT SECONDS [CA_FILE]``.

Each goes on for its time, whatever the server does, and prints how many times it did what it does.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import random
import socket
import ssl
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000 04 00 00000000")
PING = bytes.fromhex("000008 06 00 00000000") + bytes(8)
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


class Attack:
    """One run: where, until when, and with which certificate authority."""

    def __init__(self, port: int, seconds: float, ca_file: str | None) -> None:
        self.port = port
        self.end = time.monotonic() + seconds
        self.ca_file = ca_file
        self.folder = None if ca_file is None else Path(ca_file).parent
        self.context = None if ca_file is None else ssl.create_default_context(cafile=ca_file)
        self.done = 0
        self._lock = threading.Lock()

    def going(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.end

    def count(self, number: int = 1) -> None:
        """Note that something was done."""
        with self._lock:
            self.done += number

    def connect(self, *, alpn: str | None = None, version: ssl.TLSVersion | None = None) -> socket.socket:
        """Return a connection, with TLS if there is an authority."""
        raw = socket.create_connection(("127.0.0.1", self.port), 5)
        if self.context is None:
            return raw
        context = self.context
        if alpn is not None or version is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = version or ssl.TLSVersion.TLSv1_3
            context.set_alpn_protocols([alpn or "http/1.1"])
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(raw, server_hostname="localhost")


def frames(attack: Attack, frame: bytes) -> None:
    """Speak HTTP/2 by prior knowledge and by ALPN, and send nothing but `frame`."""
    while attack.going():
        with contextlib.suppress(OSError), attack.connect(alpn="h2") as peer:
            peer.sendall(PREFACE)
            while attack.going():
                peer.sendall(frame * 1000)
                attack.count(1000)


def pipeline(attack: Attack) -> None:
    """Send requests as fast as they are taken, and read the answers."""
    while attack.going():
        with contextlib.suppress(OSError), attack.connect() as peer:
            threading.Thread(target=drain, args=(peer,), daemon=True).start()
            while attack.going():
                peer.sendall(GET % b"/-/healthy" * 100)
                attack.count(100)


def drain(peer: socket.socket) -> None:
    """Read until the end."""
    with contextlib.suppress(OSError):
        while peer.recv(1 << 16):
            pass


def connections(attack: Attack) -> None:
    """Connect and close, over and over."""
    while attack.going():
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", attack.port), 5).close()
            attack.count()


def hold(attack: Attack, sent: bytes, *, number: int, drip: bytes = b"") -> None:
    """Keep `number` connections open that have sent `sent`, and drip into them; open closed ones again."""
    peers: list[Any] = [None] * number
    while attack.going():
        for index, peer in enumerate(peers):
            with contextlib.suppress(OSError):
                if peer is None or not is_open(peer, drip):
                    peers[index] = socket.create_connection(("127.0.0.1", attack.port), 5)
                    peers[index].settimeout(0)
                    peers[index].sendall(sent)
                    attack.count()
        time.sleep(0.2)


def is_open(peer: socket.socket, drip: bytes) -> bool:
    """Send `drip`, read a little, and return whether the other side has not closed the connection."""
    try:
        if drip:
            peer.sendall(drip)
        return peer.recv(1024) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def slow_readers(attack: Attack) -> None:
    """Ask for the whole exposition a hundred times, and read a kilobyte of each now and then."""
    hold(attack, GET % b"/metrics", number=100)


def endless_bodies(attack: Attack) -> None:
    """Send a request whose body has no end."""
    while attack.going():
        with contextlib.suppress(OSError), attack.connect() as peer:
            peer.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            while attack.going():
                peer.sendall(bytes(1 << 16))
                attack.count()


def large_heads(attack: Attack) -> None:
    """Send a header without end."""
    while attack.going():
        with contextlib.suppress(OSError), attack.connect() as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
            while attack.going():
                peer.sendall(b"a" * (1 << 16))
                attack.count()


def handshakes(attack: Attack) -> None:
    """End TLS connections before, during and after the handshake, cleanly and by reset."""
    endings = itertools.cycle(ENDINGS)
    while attack.going():
        with contextlib.suppress(OSError):
            next(endings)(attack)
            attack.count()


def before(attack: Attack) -> None:
    """Connect and leave."""
    socket.create_connection(("127.0.0.1", attack.port), 5).close()


def during(attack: Attack) -> None:
    """Begin a handshake and leave."""
    with socket.create_connection(("127.0.0.1", attack.port), 5) as peer:
        peer.sendall(b"\x16\x03\x01\x02")


def senseless(attack: Attack) -> None:
    """Send what is no handshake."""
    with socket.create_connection(("127.0.0.1", attack.port), 5) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        peer.recv(100)


def after(attack: Attack) -> None:
    """Leave after a handshake, without a word."""
    attack.connect().close()


def after_12(attack: Attack) -> None:
    """Likewise with TLS 1.2."""
    attack.connect(version=ssl.TLSVersion.TLSv1_2).close()


def certified(attack: Attack) -> None:
    """Likewise with a client's certificate."""
    context = ssl.create_default_context(cafile=attack.ca_file)
    context.load_cert_chain(f"{attack.folder}/client.pem", f"{attack.folder}/client.key")
    with socket.create_connection(("127.0.0.1", attack.port), 5) as raw:
        context.wrap_socket(raw, server_hostname="localhost").close()


def stranger(attack: Attack) -> None:
    """Offer a certificate that the server doesn't know."""
    context = ssl.create_default_context(cafile=attack.ca_file)
    context.load_cert_chain(f"{attack.folder}/stranger.pem", f"{attack.folder}/stranger.key")
    with socket.create_connection(("127.0.0.1", attack.port), 5) as raw:
        context.wrap_socket(raw, server_hostname="localhost").recv(1)


def reset(attack: Attack) -> None:
    """Reset the connection after a handshake."""
    with attack.connect() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def clean(attack: Attack) -> None:
    """Say goodbye, as TLS wants it."""
    with attack.connect() as peer:
        assert isinstance(peer, ssl.SSLSocket)
        peer.unwrap().close()


def answered(attack: Attack) -> None:
    """Ask something, and leave."""
    with attack.connect() as peer:
        peer.sendall(GET % b"/-/healthy")
        peer.recv(1000)


ENDINGS: tuple[Callable[[Attack], None], ...] = (
    before,
    during,
    senseless,
    after,
    after_12,
    certified,
    stranger,
    reset,
    clean,
    answered,
)


def passwords(attack: Attack) -> None:
    """Guess passwords."""
    while attack.going():
        with contextlib.suppress(OSError), attack.connect() as peer:
            for guess in guesses():
                peer.sendall(GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Basic %s\r\n\r\n") % (b"/", guess))
                if not attack.going() or not peer.recv(1 << 16):
                    break
                attack.count()


def guesses() -> Iterator[bytes]:
    """Yield names and passwords, encoded."""
    while True:
        yield base64.b64encode(b"alice:%d" % random.getrandbits(64))


def pages(attack: Attack) -> None:
    """Ask for pages that are work to make."""
    while attack.going():
        with contextlib.suppress(OSError), attack.connect() as peer:
            while attack.going():
                peer.sendall(GET % b"/campaigns?q=%d&sort=bounce" % random.getrandbits(8))
                received = b""
                while b"</html>" not in received[-20:]:
                    data = peer.recv(1 << 16)
                    if not data:
                        raise ConnectionResetError
                    received += data
                attack.count()


KINDS: dict[str, tuple[Callable[[Attack], None], int]] = {
    "settings": (lambda attack: frames(attack, SETTINGS), 2),
    "ping": (lambda attack: frames(attack, PING), 2),
    "pipeline": (pipeline, 2),
    "connections": (connections, 4),
    "silent": (lambda attack: hold(attack, b"", number=400), 1),
    "slow heads": (lambda attack: hold(attack, b"GET / HTTP/1.1\r\nX: ", number=300, drip=b"x"), 1),
    "slow readers": (slow_readers, 1),
    "endless bodies": (endless_bodies, 4),
    "large heads": (large_heads, 4),
    "handshakes": (handshakes, 4),
    "passwords": (passwords, 8),
    "pages": (pages, 8),
}
"""What each does, and how many at once."""


def main() -> None:
    """Run one attack."""
    kind, port, seconds, *rest = sys.argv[1:]
    attack = Attack(int(port), float(seconds), rest[0] if rest else None)
    work, number = KINDS[kind]
    threads = [threading.Thread(target=work, args=(attack,), daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(float(seconds) + 10)
    sys.stdout.write(f"{attack.done}\n")


if __name__ == "__main__":
    main()
