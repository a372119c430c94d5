"""HTTP basic authentication against bcrypt hashes, off the event loop."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, Final

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_PASSWORD: Final = 72
"""Bytes. bcrypt reads no further, so a longer password would be checked by its beginning."""
CACHED: Final = 128
_THREADS: Final = 2
MAX_WAITING: Final = 64


class Verdict(Enum):
    """What a request's Authorization header is worth."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    BUSY = "busy"


class BasicAuth:
    """Checks Authorization headers. Close it after use.

    Passwords that were right are remembered under a keyed hash, so that a scrape costs no bcrypt; wrong ones
    are not, so that guessing stays slow. An unknown user costs what a known one does. Guessing keeps at most
    two threads and 64 places in their queue busy; beyond that the answer is BUSY.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._accepted: OrderedDict[bytes, None] = OrderedDict()
        self._waiting = 0
        self._executor = ThreadPoolExecutor(_THREADS, "web-auth")

    async def check(self, authorization: str | None, users: Mapping[str, str]) -> Verdict:
        """Return whether `authorization` names one of `users` (name to bcrypt hash) with its password."""
        credentials = _parse(authorization)
        if credentials is None or len(credentials[1]) > _MAX_PASSWORD:
            return Verdict.REFUSED
        name, password = credentials
        secret = users.get(name)
        digest = self._digest(name, secret or "", password)
        if secret is not None and digest in self._accepted:
            self._accepted.move_to_end(digest)
            return Verdict.ACCEPTED
        if self._waiting >= MAX_WAITING:
            return Verdict.BUSY
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._executor, _matches, password, secret or _decoy(users))
        finally:
            self._waiting -= 1
        if secret is None or not right:
            return Verdict.REFUSED
        self._accepted[digest] = None
        while len(self._accepted) > CACHED:
            self._accepted.popitem(last=False)
        return Verdict.ACCEPTED

    def close(self) -> None:
        """Let go of the threads; what waits for them is cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _digest(self, name: str, secret: str, password: bytes) -> bytes:
        parts = (name.encode("utf-8", "surrogatepass"), secret.encode(), password)
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, message, "sha256")


def _parse(authorization: str | None) -> tuple[str, bytes] | None:
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _decoy(users: Mapping[str, str]) -> str:
    """Return a hash that no password has, as costly as the costliest of `users`."""
    cost = max(secret.split("$")[2] for secret in users.values())
    return f"$2b${cost}${'.' * 53}"


def _matches(password: bytes, secret: str) -> bool:
    try:
        return bcrypt.checkpw(password, secret.encode())
    except ValueError:  # a NUL byte, or a hash that only looks like one
        return False
