"""One account's snapshot to blocks of bytes, plain and compressed; what didn't change is taken over.

Campaigns are rendered in *chunks*, because a poll seldom changes all of them. The lines of one metric must
stand together, so a block has the lines of one metric from all chunks. A chunk whose campaigns are the same
objects as before is neither rendered nor compressed again.

Blocks are compressed piece by piece, without reference to each other, so that pieces can be put together as
they are (RFC 1951: a stream of deflate blocks, each of which ends on a byte).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.exposition.catalogue import ACCOUNT_INFO, CAMPAIGN_METRICS
from exporter.exposition.writer import account_label, account_lines, campaign_labels, campaign_lines, clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.exposition.writer import Lines
    from exporter.tracking.model import AccountSnapshot, CampaignSnapshot

CHUNK: Final = 64
"""Campaigns rendered and compressed together: fewer compress less well, more are rendered in vain."""
LEVEL: Final = 6
"""Of compression."""

Key: TypeAlias = "tuple[int, str]"
"""Campaign and channel, as they stand in labels."""
Units: TypeAlias = "dict[Key, tuple[CampaignSnapshot, ...]]"
"""Campaigns by their key; hardly ever more than one."""


@dataclass(frozen=True, slots=True)
class Block:
    """The sample lines of one metric, and the same as a piece of a deflate stream."""

    plain: bytes = b""
    packed: bytes = b""


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
        self._last: RenderedAccount | None = None

    def render(self, snapshot: AccountSnapshot) -> RenderedAccount:
        """Return the lines of `snapshot`; the same object as the last time if that had the same snapshot."""
        if self._last is not None and self._last.snapshot is snapshot:
            return self._last
        account = account_label(snapshot.account)
        self._assign(_units(snapshot.campaigns))
        for chunk in self._chunks:
            if chunk.changed:
                chunk.lines = self._lines(account, chunk.units)
        of_account = _encoded(account_lines(snapshot, created=self._created))
        text, *others = (
            self._blocks(number, lines) for number, lines in enumerate(of_account[: 1 + self._created])
        )
        openmetrics = others[0] if others else text
        for chunk in self._chunks:
            chunk.changed, chunk.lines = False, ()
        series = sum(chunk.series for chunk in self._chunks) + _series(of_account[0])
        self._last = RenderedAccount(snapshot, text, openmetrics, series)
        return self._last

    def _assign(self, units: Units) -> None:
        """Keep campaigns in the chunks that they were in; new ones and those of shrunken chunks get others."""
        kept = []
        for chunk in self._chunks:
            present = {key: units[key] for key in chunk.units if key in units}
            if len(present) >= CHUNK // 2 or (present and chunk is self._chunks[-1]):
                chunk.changed = chunk.changed or present != chunk.units
                chunk.units = present
                kept.append(chunk)
                for key in present:
                    del units[key]
        rest = iter(units.items())
        if kept and len(kept[-1].units) < CHUNK:
            added = dict(islice(rest, CHUNK - len(kept[-1].units)))
            kept[-1].units |= added
            kept[-1].changed = kept[-1].changed or bool(added)
        while added := dict(islice(rest, CHUNK)):
            kept.append(_Chunk(added))
        self._chunks = kept

    def _lines(self, account: str, units: Units) -> tuple[tuple[bytes, ...], ...]:
        labelled = (
            (campaign_labels(account, campaign), campaign) for unit in units.values() for campaign in unit
        )
        lines = campaign_lines(labelled, per_message=self._per_message, created=self._created)
        return _encoded(lines)[: 1 + self._created]

    def _blocks(self, number: int, of_account: Sequence[bytes]) -> tuple[Block, ...]:
        """Return the blocks of a format (0: text, 1: OpenMetrics with ``_created``)."""
        before: Sequence[Block] = ()
        if self._last is not None:
            before = (self._last.text, self._last.openmetrics)[number]
        old = before or (Block(),) * len(CAMPAIGN_METRICS)
        for chunk in self._chunks:
            if chunk.changed:
                chunk.replace(number, old)
        return tuple(
            self._block(number, position, lines, old[position]) for position, lines in enumerate(of_account)
        )

    def _block(self, number: int, position: int, of_account: bytes, old: Block) -> Block:
        """Put the pieces of one metric together."""
        pieces = [chunk.pieces[number][position] for chunk in self._chunks]
        source = memoryview(old.plain)
        parts: list[bytes | memoryview] = []
        first = 0
        for chunk, piece in zip(self._chunks, pieces, strict=True):
            parts.append(
                chunk.lines[number][position]
                if chunk.changed
                else source[piece.first : piece.first + piece.size]
            )
            chunk.pieces[number][position] = _Piece(first, piece.size, piece.packed)
            first += piece.size
        plain = b"".join((*parts, of_account))
        if plain == old.plain:
            return old
        return Block(plain, b"".join((*(piece.packed for piece in pieces), pack(of_account))))


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a block has from one chunk: `size` bytes from `first` on, and the same compressed."""

    first: int
    size: int
    packed: bytes


@dataclass(slots=True)
class _Chunk:
    """Campaigns that are rendered together, and the pieces that came of them, by format and metric.

    `lines` are new lines, by format and metric, if it has `changed`.
    """

    units: Units
    changed: bool = True
    lines: tuple[tuple[bytes, ...], ...] = ()
    pieces: list[list[_Piece]] = field(default_factory=list)
    series: int = 0

    def replace(self, number: int, old: Sequence[Block]) -> None:
        """Make pieces of the new lines of one format; those that are as before aren't compressed again."""
        lines = self.lines[number]
        before = self.pieces[number] if number < len(self.pieces) else ()
        pieces = []
        for position, plain in enumerate(lines):
            piece = before[position] if before else None
            if piece is None or old[position].plain[piece.first : piece.first + piece.size] != plain:
                piece = _Piece(0, len(plain), pack(plain))
            pieces.append(piece)
        self.pieces[number : number + 1] = [pieces]
        if number == 0:
            self.series = _series(lines)


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


def _encoded(lines: Lines) -> tuple[tuple[bytes, ...], ...]:
    """Return the lines by format and metric."""
    return tuple(
        tuple([of_metric.get(metric.name, "").encode() for metric in CAMPAIGN_METRICS])
        for of_metric in (lines.text, lines.openmetrics)
    )


def _series(lines: Sequence[bytes]) -> int:
    return sum(
        block.count(b"\n")
        for metric, block in zip(CAMPAIGN_METRICS, lines, strict=True)
        if metric is not ACCOUNT_INFO
    )
