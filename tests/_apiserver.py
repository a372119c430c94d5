"""A statistics API of the tests' own, over loopback: written from the vendor's page alone, as by an outsider.

It shares nothing with `exporter.simulator`: rows are what a test puts in, and every looseness that the vendor's
page leaves open is an attribute that may be changed between two requests.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STATISTICS = "/rest/campaign/statistics"
CONVERSIONS = "/rest/campaign/statistic-conversions"
TOKEN = "apiserver-token-0123456789"
COUNTS = {
    "skipped": 5,
    "sent": 1250,
    "delivered": 1234,
    "opened": 587,
    "clicked": 142,
    "bounced": 16,
    "softBounced": 7,
    "complaint": 4,
    "rejected": 12,
    "unsubscribed": 27,
    "failed": 85,
    "temporaryFailed": 13,
}
_DOCUMENTED = {
    "access-token", "startFrom", "startTo", "sendFrom", "sendTo", "campaignIds[]", "perPage"
}  # fmt: skip


def stamp(start: float, offset: str = "+00") -> str:
    """Return a start as the vendor's example writes it, with its fraction of a second if it has one."""
    moment = datetime.fromtimestamp(start, UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}{offset}"


def row(
    campaign_id: int, start: float, channel: str = "Email", title: str = "Hello", **fields: object
) -> dict[str, Any]:
    """Return one row of the statistics; `fields` replace counts, and whatever else."""
    return {
        "campaign_id": campaign_id,
        "message_title": title,
        "type": channel,
        "campaign_start_at": stamp(start),
        **COUNTS,
        **fields,
    }


def conversion(campaign_id: int, start: float, channel: str = "Email", **fields: object) -> dict[str, Any]:
    """Return one row of the conversions."""
    return {
        "campaign_id": campaign_id,
        "message_title": "Hello",
        "type": channel,
        "campaign_start_at": stamp(start),
        "campaign_stop_at": None,
        "campaign_name": f"Campaign {campaign_id}",
        "conversion_event": "Opened",
        "conversion_period": "1 day",
        "deposits_count": "154",
        "deposits_amount": "18752.40",
        "converted_users": "102",
        **fields,
    }


@dataclass(frozen=True)
class Asked:
    """One question as it came: `parameters` by name, each a list of decoded values."""

    path: str
    parameters: dict[str, list[str]]

    @property
    def kind(self) -> str:
        """What it selects by: ``start``, ``send``, ``ids``, or several with ``+``."""
        kinds = {"start": "startFrom", "send": "sendFrom", "ids": "campaignIds[]"}
        return "+".join(kind for kind, name in kinds.items() if name in self.parameters)

    def bound(self, name: str) -> float:
        """Return one of the time bounds, in seconds since the epoch."""
        return _seconds(self.parameters[name][0])


Fault = tuple[int, dict[str, str], bytes]
"""Status, headers, body; the connection is cut off after a body that is shorter than its Content-Length."""


@dataclass
class Api:
    """What the server knows and how loosely it answers.

    `rows` by path, unless `find` brings the rows of an answer; `sent` has the seconds at which a campaign sent
    (else: its start). `cap` bounds each answer silently. `fault` may answer a question in the API's place: by a
    status, headers and body, or by None to let it pass; it may block, too. `violations` collects every breach
    of the documented rules.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {STATISTICS: [], CONVERSIONS: []})
    find: Callable[[Asked], list[dict[str, Any]]] | None = None
    sent: dict[int, list[float]] = field(default_factory=dict)
    cap: int | None = None
    from_inclusive: bool = True
    to_inclusive: bool = True
    newest_first: bool = False
    send_filter: bool = True
    envelope: Callable[[list[dict[str, Any]]], Any] = list
    total_header: str | None = None
    render: Callable[[Any], bytes] = lambda document: json.dumps(document).encode()
    fault: Callable[[Asked], Fault | None] = lambda _asked: None
    tokens: frozenset[str] = frozenset({TOKEN})
    asked: list[Asked] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def count(self, path: str | None = None) -> int:
        """Return how many questions came, to one path or to all."""
        return sum(1 for asked in list(self.asked) if path in (None, asked.path))

    def answer(self, asked: Asked) -> Fault:
        """Answer one question."""
        self.asked.append(asked)
        self._check(asked)
        if not self.tokens & set(asked.parameters.get("access-token", ())):
            return 401, {}, b'{"error": "unauthorized"}'
        fault = self.fault(asked)
        if fault is not None:
            return fault
        if asked.path not in self.rows:
            return 404, {}, b"{}"
        return self.page(asked)

    def page(self, asked: Asked) -> Fault:
        """Return what a question is answered with, if all is well."""
        if self.find is None:
            found = [one for one in list(self.rows[asked.path]) if self.selects(one, asked)]
            found.sort(key=lambda one: str(one.get("campaign_start_at")), reverse=self.newest_first)
        else:
            found = self.find(asked)
        per_page = int(asked.parameters.get("perPage", ["10"])[0])
        page = found[: min(per_page, self.cap or per_page)]
        headers = {} if self.total_header is None else {self.total_header: str(len(found))}
        return 200, headers, self.render(self.envelope(page))

    def selects(self, one: dict[str, Any], asked: Asked) -> bool:
        """Whether the question's filters let a row pass."""
        ids = asked.parameters.get("campaignIds[]")
        if ids is not None and str(one["campaign_id"]) not in ids:
            return False
        start = _seconds(one["campaign_start_at"])
        if "startFrom" in asked.parameters:
            low, high = asked.bound("startFrom"), asked.bound("startTo")
            after = start >= low if self.from_inclusive else start > low
            before = start <= high if self.to_inclusive else start < high
            if not (after and before):
                return False
        if "sendFrom" in asked.parameters and self.send_filter:
            low, high = asked.bound("sendFrom"), asked.bound("sendTo")
            return any(low <= sent <= high for sent in self.sent.get(one["campaign_id"], [start]))
        return True

    def _check(self, asked: Asked) -> None:
        unknown = asked.parameters.keys() - _DOCUMENTED
        if unknown:
            self.violations.append(f"undocumented parameters {sorted(unknown)}")
        if not asked.kind:
            self.violations.append("an unfiltered request")


@cache
def _seconds(text: str) -> float:
    bare = text.replace("T", " ").removesuffix("Z").removesuffix("+00:00").removesuffix("+00")
    form = "%Y-%m-%d %H:%M:%S.%f" if "." in bare else "%Y-%m-%d %H:%M:%S"
    return datetime.strptime(bare, form).replace(tzinfo=UTC).timestamp()


class ApiServer:
    """Serves an `Api` in threads until it is closed."""

    def __init__(self, api: Api | None = None) -> None:
        self.api = api or Api()
        shared = self.api

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def do_GET(self) -> None:
                target = urlsplit(self.path)
                if "+" in target.query:
                    shared.violations.append("a space sent as +, not as %20")
                asked = Asked(unquote(target.path), parse_qs(target.query, keep_blank_values=True))
                status, headers, body = shared.answer(asked)
                headers = {"Content-Length": str(len(body)), **headers}
                self.close_connection = headers["Content-Length"] != str(len(body))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """Peers that have gone are no fault."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def spread(first_id: int, starts: Iterable[float], **fields: object) -> list[dict[str, Any]]:
    """Return one row for each start, with rising identifiers."""
    return [row(first_id + index, start, **fields) for index, start in enumerate(starts)]
