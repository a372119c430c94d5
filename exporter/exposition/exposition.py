"""What a scrape gets: the campaigns as they were last published, and the exporter's own metrics, as bytes.

Publishing renders and compresses, in the thread of the poll, what has changed, and ends with one assignment. A
scrape sends those bytes, which all scrapes share, and behind them the exporter's metrics about itself: rendered
again only if one has changed, and compressed on their own. Those of the process are read for each scrape, but
just a few times a second: many scrapers at once get the same answer. In gzip all of it is one member
(RFC 1952), put together of pieces.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from functools import partial
from operator import is_not
from threading import Lock
from typing import TYPE_CHECKING, Final

from exporter.exposition import catalogue
from exporter.exposition.negotiation import accepts_gzip, choose_format
from exporter.exposition.rendering import AccountRenderer, Block, pack
from exporter.exposition.self_metrics import END
from exporter.exposition.writer import clean, metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.exposition.negotiation import Format
    from exporter.exposition.rendering import RenderedAccount
    from exporter.exposition.self_metrics import RenderedMetrics, SelfMetrics
    from exporter.tracking.model import AccountSnapshot, Snapshot

_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflate, without a name and a time, from an unknown system."""
_MOMENT: Final = 0.25
"""Seconds in which scrapers get the same answer if nothing is published meanwhile."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a scrape is answered with. `content_encoding` is ``gzip`` or None.

    `parts` make the body one after another; all but the last are shared by the scrapes of one publish.
    """

    parts: tuple[bytes, ...]
    content_type: str
    content_encoding: str | None

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)


class Exposition:
    """Answers scrapes with what was published last, and with `metrics` as they are.

    `publish` is for one thread at a time, all else for any.
    """

    def __init__(
        self, metrics: SelfMetrics, *, per_message: bool = False, created_timestamps: bool = False
    ) -> None:
        self._metrics = metrics
        self._new_renderer = partial(AccountRenderer, per_message=per_message, created=created_timestamps)
        self._renderers: dict[str, AccountRenderer] = {}
        self._published = _Published(())
        self._own: dict[bool, _Own] = {}
        self._made: dict[tuple[Format, bool], _Made] = {}
        self._asked: frozenset[bool] = frozenset()

    def publish(self, snapshot: Snapshot) -> None:
        """Let every scrape from now on show `snapshot`.

        An account is rendered anew only if its `AccountSnapshot` is another object than before, and of it only
        what has changed. If nothing has, what is published stays the same object.
        """
        accounts = _distinct(snapshot.accounts)
        self._renderers = {name: self._renderers.get(name) or self._new_renderer() for name in accounts}
        rendered = tuple([self._renderers[name].render(account) for name, account in accounts.items()])
        before = self._published.accounts
        if len(rendered) != len(before) or any(map(is_not, rendered, before)):
            published = _Published(rendered)
            for openmetrics in self._asked:  # a format that nobody asks for costs nothing
                published.body(openmetrics=openmetrics)
            self._published = published
            self._made = {}  # those answers would keep the old bytes

    def series(self) -> Mapping[str, int]:
        """Return how many campaign and channel series each account has."""
        return {account.snapshot.account: account.series for account in self._published.accounts}

    def at_hand(self, accept: str | None, accept_encoding: str | None, now: float) -> Response | None:
        """Return what `respond` would if that takes no time: the answer of a moment ago, if it still holds."""
        made = self._made.get((choose_format(accept), accepts_gzip(accept_encoding)))
        if (
            made is None
            or made.published is not self._published
            or made.changes != self._metrics.changes
            or now >= made.until
        ):
            return None
        return made.response

    def respond(self, accept: str | None, accept_encoding: str | None, now: float = -math.inf) -> Response:
        """Return the answer to a scrape with these values of ``Accept`` and ``Accept-Encoding``.

        For a moment from `now` on (steady seconds) it is at hand.
        """
        format_, packed = choose_format(accept), accepts_gzip(accept_encoding)
        openmetrics = format_.openmetrics
        self._asked |= {openmetrics}
        published = self._published
        body = published.body(openmetrics=openmetrics)
        own = self._own_metrics(openmetrics=openmetrics)
        live = self._metrics.render_process(openmetrics=openmetrics) + (END if openmetrics else b"")
        if packed:
            parts = (*body.packed, own.packed, body.end(own.plain, live))
        else:
            parts = (*body.plain, own.plain, live)
        response = Response(parts, format_.content_type, "gzip" if packed else None)
        self._made[format_, packed] = _Made(response, published, own.rendered.changes, now + _MOMENT)
        return response

    def _own_metrics(self, *, openmetrics: bool) -> _Own:
        """Return the exporter's metrics about itself, the same object while none has changed."""
        rendered = self._metrics.render(openmetrics=openmetrics)
        own = self._own.get(openmetrics)
        if own is None or own.rendered is not rendered:
            known = {} if own is None else own.pieces
            pieces = {family: known.get(family) or pack(family) for family in rendered.families}
            own = _Own(rendered, pieces, b"".join(pieces), b"".join(pieces.values()))
            self._own[openmetrics] = own
        return own


@dataclass(frozen=True, slots=True)
class _Own:
    """The exporter's metrics about itself, plain and as a piece of a deflate stream; `pieces` by family."""

    rendered: RenderedMetrics
    pieces: Mapping[bytes, bytes]
    plain: bytes
    packed: bytes


@dataclass(frozen=True, slots=True)
class _Made:
    """An answer, and what it holds for: what was `published`, so many `changes`, a time."""

    response: Response
    published: _Published
    changes: int
    until: float


@dataclass(frozen=True, slots=True)
class _Body:
    """The campaign part in one format: plain, and as the beginning of a gzip member with its checksum."""

    plain: tuple[bytes, ...]
    packed: tuple[bytes, ...]
    checksum: int
    size: int

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> _Body:
        """Put blocks together."""
        plain, packed = [], [_GZIP_HEADER]
        checksum = 0
        for block in blocks:
            plain.append(block.plain)
            packed.append(block.packed)
            checksum = block.crc(checksum)
        return cls(tuple(plain), (b"".join(packed),), checksum, sum(map(len, plain)))

    def end(self, own: bytes, live: bytes) -> bytes:
        """Return the end of a gzip member after the piece `own`: `live`, checksum and size."""
        compressor = zlib.compressobj(1, wbits=-15)
        last = compressor.compress(live) + compressor.flush()
        checksum = zlib.crc32(live, zlib.crc32(own, self.checksum))
        size = (self.size + len(own) + len(live)) % 2**32
        return last + checksum.to_bytes(4, "little") + size.to_bytes(4, "little")


class _Published:
    """What scrapes get of campaigns: a body for each format, made once."""

    def __init__(self, accounts: tuple[RenderedAccount, ...]) -> None:
        self.accounts = accounts
        self._lock = Lock()
        self._bodies: dict[bool, _Body] = {}

    def body(self, *, openmetrics: bool) -> _Body:
        """Return the body in one format."""
        body = self._bodies.get(openmetrics)
        if body is None:
            with self._lock:
                body = self._bodies.get(openmetrics)
                if body is None:
                    body = self._bodies[openmetrics] = _Body.of(self._blocks(openmetrics=openmetrics))
        return body

    def _blocks(self, *, openmetrics: bool) -> Iterator[Block]:
        """Yield it family by family: metadata, then each account's samples."""
        by_account = [account.openmetrics if openmetrics else account.text for account in self.accounts]
        for position, metric in enumerate(catalogue.CAMPAIGN_METRICS):
            blocks = [blocks[position] for blocks in by_account if blocks[position].plain]
            if blocks:
                head = metadata(metric, openmetrics=openmetrics)
                yield Block(head, pack(head))
                yield from blocks


def _distinct(accounts: Iterable[AccountSnapshot]) -> dict[str, AccountSnapshot]:
    """Return `accounts` by their label value, those with the same one as one."""
    found: dict[str, AccountSnapshot] = {}
    for account in accounts:
        name = clean(account.account)
        first = found.get(name)
        found[name] = (
            account
            if first is None
            else replace(
                first,
                campaigns=first.campaigns + account.campaigns,
                channels=first.channels + account.channels,
            )
        )
    return found
