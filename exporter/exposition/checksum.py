"""The checksum of bytes that are put together of pieces, from the checksums of the pieces.

A CRC is the remainder of a polynomial over GF(2): behind n more bytes it is multiplied by x^8n and gets theirs
added (the way of zlib's ``crc32_combine``, which Python doesn't offer). Polynomials stand here as RFC 1952
writes them: the highest power in the lowest bit.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Self

_POLYNOMIAL: Final = 0xEDB88320
_ONE: Final = 1 << 31
_EIGHTH_POWER: Final = 1 << 23

SMALL: Final = 16 * 1024
"""Bytes up to which it takes no longer to go through them again."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """The CRC-32 of some bytes, and what another's is multiplied by if these come behind it."""

    crc: int
    shift: int

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Go through `data`."""
        return cls(zlib.crc32(data), _shift(len(data)))

    def behind(self, crc: int) -> int:
        """Return the CRC of bytes that have `crc` and these behind them."""
        return _product(self.shift, crc) ^ self.crc


def _product(one: int, other: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ _POLYNOMIAL if other & 1 else other >> 1
    return product


def _shift(size: int) -> int:
    """Return x^(8 * size)."""
    power, square = _ONE, _EIGHTH_POWER
    while size:
        if size & 1:
            power = _product(power, square)
        square = _product(square, square)
        size >>= 1
    return power
