"""The checksum of pieces: that of zlib over the whole."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition.checksum import Checksum
from tests._examples import examples


@examples(200)
@given(st.lists(st.binary(max_size=300)))
def test_is_that_of_the_whole(pieces: list[bytes]) -> None:
    """Piece by piece the checksum is what zlib has of them together."""
    crc = 0
    for piece in pieces:
        crc = Checksum.of(piece).behind(crc)
    assert zlib.crc32(b"".join(pieces)) == crc


def test_of_many_bytes() -> None:
    """So it is behind megabytes."""
    many = bytes(range(256)) * 9999
    assert zlib.crc32(b"head" + many) == Checksum.of(many).behind(zlib.crc32(b"head"))
