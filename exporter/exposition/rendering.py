"""One account's snapshot to blocks of bytes, plain and compressed; what didn't change is taken over.

Campaigns are rendered in *chunks*, because a poll seldom changes all of them. The lines of one metric must
stand together, so a block has the lines of one metric from all chunks. A chunk whose campaigns are the same
objects as before is neither rendered nor compressed again. Where few of its campaigns have changed, only their
lines are put in the place of those that they had.

Blocks are compressed piece by piece, without reference to each other, so that pieces can be put together as
they are (RFC 1951: a stream of deflate blocks, each of which ends on a byte).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from exporter.exposition.catalogue import ACCOUNT_INFO, CAMPAIGN_METRICS
from exporter.exposition.checksum import SMALL, Checksum
from exporter.exposition.writer import account_label, account_lines, campaign_labels, campaign_lines, clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.exposition.writer import Lines
    from exporter.tracking.model import AccountSnapshot, CampaignSnapshot

CHUNK: Final = 64
"""Campaigns rendered and compressed together: fewer compress less well, more are rendered in vain."""
FEW: Final = 8
"""Changed campaigns of a chunk up to which their lines are exchanged; beyond it the chunk is rendered whole."""
LEVEL: Final = 6
"""Of compression."""

Key: TypeAlias = "tuple[int, str]"
"""Campaign and channel, as they stand in labels."""
Units: TypeAlias = "dict[Key, tuple[CampaignSnapshot, ...]]"
"""Campaigns by their key; hardly ever more than one."""
Fresh: TypeAlias = "tuple[dict[int, bytes], ...]"
"""New lines by format and by the metric's position in CAMPAIGN_METRICS."""


@dataclass(frozen=True, slots=True)
class Block:
    """The sample lines of one metric, the same as a piece of a deflate stream, and how many they are."""

    plain: bytes = b""
    packed: bytes = b""
    series: int = 0
    checksum: Checksum | None = None

    @classmethod
    def of(cls, plain: bytes, packed: bytes, series: int) -> Self:
        """Make a block, with a checksum if it is big."""
        return cls(plain, packed, series, Checksum.of(plain) if len(plain) > SMALL else None)

    def crc(self, before: int) -> int:
        """Return the CRC of bytes that have the CRC `before`, and the lines behind them."""
        return zlib.crc32(self.plain, before) if self.checksum is None else self.checksum.behind(before)


@dataclass(frozen=True, slots=True)
class RenderedAccount:
    """The sample lines of one account: one block for each of CAMPAIGN_METRICS, in its order.

    `text` and `openmetrics` share their blocks, except where ``_created`` stands. `series` counts the campaign
    and channel series.
    """

    snapshot: AccountSnapshot
    text: tuple[Block, ...] = field(repr=False)
    openmetrics: tuple[Block, ...] = field(repr=False)
    series: int


def pack(plain: bytes) -> bytes:
    """Return `plain` compressed, as a piece of a deflate stream that can follow and precede any other."""
    if not plain:
        return b""
    compressor = zlib.compressobj(LEVEL, wbits=-12, memLevel=5)  # a small window: pieces are
    return compressor.compress(plain) + compressor.flush(zlib.Z_FULL_FLUSH)


class AccountRenderer:
    """Renders one account, again and again.

    With `per_message`, campaign counters are by message title; with `created`, OpenMetrics has ``_created``.
    """

    def __init__(self, *, per_message: bool = False, created: bool = False) -> None:
        self._per_message = per_message
        self._created = created
        self._chunks: list[_Chunk] = []
        self._account = _Chunk()
        self._last: RenderedAccount | None = None

    def render(self, snapshot: AccountSnapshot) -> RenderedAccount:
        """Return the lines of `snapshot`; the same object as the last time if that had the same snapshot."""
        if self._last is not None and self._last.snapshot is snapshot:
            return self._last
        account = account_label(snapshot.account)
        nothing = (Block(),) * len(CAMPAIGN_METRICS)
        old = (nothing, nothing) if self._last is None else (self._last.text, self._last.openmetrics)
        is_moved = self._assign(_units(snapshot.campaigns))
        for chunk in self._chunks:
            if chunk.units != chunk.rendered:
                fresh = self._exchanged(account, chunk, old) or self._rendered(account, chunk, old)
                chunk.take(fresh)
        self._account.take(
            self._account.differing(self._encoded(account_lines(snapshot, created=self._created)), old)
        )
        blocks = [self._blocks(number, old[number], is_moved=is_moved) for number in range(1 + self._created)]
        series = sum(
            block.series
            for metric, block in zip(CAMPAIGN_METRICS, blocks[0], strict=True)
            if metric is not ACCOUNT_INFO
        )
        self._last = RenderedAccount(snapshot, blocks[0], blocks[-1], series)
        return self._last

    def _assign(self, units: Units) -> bool:
        """Keep campaigns in the chunks that they were in; new ones and those of shrunken chunks get others.

        Return whether there are other chunks than before.
        """
        kept = []
        for chunk in self._chunks:
            present = {key: units[key] for key in chunk.units if key in units}
            if len(present) >= CHUNK // 2 or (present and chunk is self._chunks[-1]):
                chunk.units = present
                kept.append(chunk)
                for key in present:
                    del units[key]
        is_moved = len(kept) != len(self._chunks) or bool(units)
        rest = iter(units.items())
        if kept and len(kept[-1].units) < CHUNK:
            kept[-1].units |= dict(islice(rest, CHUNK - len(kept[-1].units)))
        while added := dict(islice(rest, CHUNK)):
            kept.append(_Chunk(added))
        self._chunks = kept
        return is_moved

    def _exchanged(self, account: str, chunk: _Chunk, old: Sequence[Sequence[Block]]) -> Fresh | None:
        """Return the lines of `chunk` with those of its few changed campaigns exchanged.

        None if many have changed, or if one has lines where it had none: their place is unknown.
        """
        if len(chunk.units) != len(chunk.rendered):
            return None
        changed = [(chunk.rendered.get(key, ()), unit) for key, unit in chunk.units.items()]
        changed = [(before, unit) for before, unit in changed if before != unit]
        if len(changed) > FEW:
            return None
        fresh: Fresh = tuple({} for _ in range(1 + self._created))
        for before, unit in changed:
            for number, formats in enumerate(
                zip(self._lines(account, before), self._lines(account, unit), strict=True)
            ):
                for position, (was, now) in enumerate(zip(*formats, strict=True)):
                    if was == now:
                        continue
                    if not was:
                        return None
                    plain = fresh[number].get(position) or chunk.pieces[number][position].of(
                        old[number][position]
                    )
                    fresh[number][position] = plain.replace(was, now, 1)
        return fresh

    def _rendered(self, account: str, chunk: _Chunk, old: Sequence[Sequence[Block]]) -> Fresh:
        """Return the lines of `chunk`, rendered whole, where they differ from those that it had."""
        units = [campaign for unit in chunk.units.values() for campaign in unit]
        return chunk.differing(self._lines(account, units), old)

    def _lines(self, account: str, campaigns: Iterable[CampaignSnapshot]) -> tuple[tuple[bytes, ...], ...]:
        """Return the lines of campaigns by format (text, OpenMetrics if it has ``_created``) and metric."""
        labelled = ((campaign_labels(account, campaign), campaign) for campaign in campaigns)
        return self._encoded(campaign_lines(labelled, per_message=self._per_message, created=self._created))

    def _encoded(self, lines: Lines) -> tuple[tuple[bytes, ...], ...]:
        return tuple(
            tuple([of_metric.get(metric.name, "").encode() for metric in CAMPAIGN_METRICS])
            for of_metric in (lines.text, lines.openmetrics)[: 1 + self._created]
        )

    def _blocks(self, number: int, old: Sequence[Block], *, is_moved: bool) -> tuple[Block, ...]:
        """Return the blocks of a format (0: text, 1: OpenMetrics with ``_created``)."""
        chunks = (*self._chunks, self._account)
        if is_moved:
            changed: Iterable[int] = range(len(CAMPAIGN_METRICS))
        else:
            changed = {position for chunk in chunks for position in chunk.fresh[number]}
        blocks = list(old)
        for position in changed:
            blocks[position] = _block(chunks, number, position, old[position])
        for chunk in chunks:
            chunk.fresh[number].clear()
        return tuple(blocks)


@dataclass(slots=True)
class _Piece:
    """What a block has from one chunk: `size` bytes from `first` on, the same compressed, their lines."""

    first: int
    size: int
    packed: bytes
    lines: int

    def of(self, block: Block) -> bytes:
        return block.plain[self.first : self.first + self.size]


@dataclass(slots=True)
class _Chunk:
    """Campaigns that are rendered together, and the pieces that came of them, by format and metric.

    `rendered` are the campaigns as the pieces have them. `fresh` is what differs from the blocks made last.
    """

    units: Units = field(default_factory=dict)
    rendered: Units = field(default_factory=dict)
    pieces: tuple[list[_Piece], ...] = ()
    fresh: Fresh = ()

    def differing(self, lines: Sequence[Sequence[bytes]], old: Sequence[Sequence[Block]]) -> Fresh:
        """Return, by format and metric, those of all `lines` that differ from what the old blocks have."""
        if not self.pieces:
            return tuple(dict(enumerate(of_format)) for of_format in lines)
        return tuple(
            {
                position: plain
                for position, plain in enumerate(of_format)
                if plain != self.pieces[number][position].of(old[number][position])
            }
            for number, of_format in enumerate(lines)
        )

    def take(self, fresh: Fresh) -> None:
        """Make pieces of new lines; what is as before isn't compressed again."""
        self.rendered, self.fresh = self.units, fresh
        if not self.pieces:
            self.pieces = tuple([_Piece(0, 0, b"", 0) for _ in CAMPAIGN_METRICS] for _ in fresh)
        for pieces, of_format in zip(self.pieces, fresh, strict=True):
            for position, plain in of_format.items():
                pieces[position] = _Piece(pieces[position].first, len(plain), pack(plain), plain.count(b"\n"))


def _block(chunks: Sequence[_Chunk], number: int, position: int, old: Block) -> Block:
    """Put the pieces of one metric together."""
    source = memoryview(old.plain)
    pieces = [chunk.pieces[number][position] for chunk in chunks]
    parts: list[bytes | memoryview] = []
    first = 0
    for chunk, piece in zip(chunks, pieces, strict=True):
        plain = chunk.fresh[number].get(position)
        parts.append(source[piece.first : piece.first + piece.size] if plain is None else plain)
        piece.first = first
        first += piece.size
    return Block.of(
        b"".join(parts), b"".join([piece.packed for piece in pieces]), sum([piece.lines for piece in pieces])
    )


def _units(campaigns: Iterable[CampaignSnapshot]) -> Units:
    units: Units = {}
    channels: dict[str, str] = {}
    for campaign in campaigns:
        channel = channels.get(campaign.channel)
        if channel is None:
            channel = channels[campaign.channel] = clean(campaign.channel)
        key = (campaign.campaign_id, channel)
        units[key] = (*units[key], campaign) if key in units else (campaign,)
    return units
