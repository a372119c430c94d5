"""What it means that the API refused a request, and what the API itself says about it.

Sources: RFC 9110, sections 10.2.3 (Retry-After) and 6.6.1 (Date).
"""

from __future__ import annotations

import email.utils
import http
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Final

from exporter.errors import (
    AuthError,
    BadResponseError,
    ClientError,
    ExporterError,
    PollError,
    RateLimitedError,
    ServerError,
)
from exporter.logs import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.api.transport import Answer

LONGEST_MESSAGE: Final = 200
"""Characters of the API's own message that are shown."""

_LONGEST_RETRY_AFTER: Final = 86_400.0  # longer than any poll: all that matters is that it doesn't fit
_MESSAGE_KEYS: Final = ("message", "error_description", "detail", "error", "title", "errors", "name", "field")
_MESSAGE_DEPTH: Final = 3
_URL: Final = re.compile(r"(?:\w+:)?//\S+|\S*[?&]\S*=\S*|\S*/rest/\S*")


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of an attempt that brought no answer.

    `code` is the value of the label ``code``, `retry_after` the server's wish, in seconds.
    """

    kind: type[ExporterError]
    text: str
    status: int | None = None
    code: str = ""
    retry: bool = False
    retry_after: float = 0.0

    def __post_init__(self) -> None:
        if not self.code:
            word = self.kind.reason if issubclass(self.kind, PollError) else "stopped"
            object.__setattr__(self, "code", word)

    @property
    def is_forbidden(self) -> bool:
        """Whether the token was refused in a way that may be about this one resource."""
        return self.kind is AuthError and self.status == http.HTTPStatus.FORBIDDEN

    def of_one_resource(self, resource: str) -> Failure:
        """Return the failure of a token that is accepted elsewhere."""
        text = f"the API forbids the {resource} (HTTP 403), but accepts the token elsewhere; ask InTarget why"
        return replace(self, kind=ClientError, text=text)

    def error(self, note: str = "") -> ExporterError:
        """Return the exception, its text followed by `note`."""
        if issubclass(self.kind, PollError):
            return self.kind(self.text + note, status=self.status)
        return self.kind(self.text + note)


def refusal(answer: Answer, *, asked: str, wall_clock: float) -> Failure:
    """Say what an answer with a status other than 200 means; `asked` says for what it was asked."""
    status = answer.status
    known = 100 <= status < 600  # noqa: PLR2004 - the classes that HTTP has
    kind, text = _meaning(answer, asked)
    is_temporary = kind in {RateLimitedError, ServerError}
    return Failure(
        kind,
        text.format(status=status) + own_words(answer.body),
        status=status if known else None,
        code=str(status) if known else "other",
        retry=is_temporary,
        retry_after=_retry_after(answer.headers, wall_clock) if is_temporary else 0.0,
    )


def _meaning(answer: Answer, asked: str) -> tuple[type[PollError], str]:
    status = answer.status
    if status == http.HTTPStatus.FORBIDDEN:
        if "retry-after" in answer.headers:
            status = http.HTTPStatus.TOO_MANY_REQUESTS
        elif _is_web_page(answer):
            return _FIREWALL
    if status in _MEANING:
        return _MEANING[http.HTTPStatus(status)]
    if status // 100 == 4:  # noqa: PLR2004 - HTTP's class
        return ClientError, f"the API rejected a request for {asked} (HTTP {{status}})"
    return _MEANING_OF_CLASS.get(
        status // 100, (BadResponseError, "status {status} instead of 200; is base_url the API?")
    )


_FIREWALL: Final = (
    ClientError,
    (
        "a web page says that access is forbidden (HTTP {status}): a firewall before the API refuses this"
        " machine, not the token; ask InTarget to let its address pass"
    ),
)
_REFUSED_TOKEN: Final = (AuthError, "the API refused the access token (HTTP {status}); check the token")
_MISPLACED: Final = (ClientError, "the API isn't at this address (HTTP {status}); check base_url")
_MEANING: Final[Mapping[http.HTTPStatus, tuple[type[PollError], str]]] = {
    http.HTTPStatus.UNAUTHORIZED: _REFUSED_TOKEN,
    http.HTTPStatus.FORBIDDEN: _REFUSED_TOKEN,
    http.HTTPStatus.NOT_FOUND: _MISPLACED,
    http.HTTPStatus.METHOD_NOT_ALLOWED: _MISPLACED,
    http.HTTPStatus.NOT_ACCEPTABLE: _MISPLACED,
    http.HTTPStatus.GONE: _MISPLACED,
    http.HTTPStatus.MISDIRECTED_REQUEST: _MISPLACED,
    http.HTTPStatus.TOO_MANY_REQUESTS: (
        RateLimitedError,
        "the API asks for fewer requests (HTTP {status}); lower api.requests_per_second",
    ),
}
_MEANING_OF_CLASS: Final[Mapping[int, tuple[type[PollError], str]]] = {
    3: (
        ClientError,
        "base_url redirects (HTTP {status}), which is not followed; set base_url to the final address",
    ),
    5: (ServerError, "the API failed (HTTP {status}); if this lasts, ask InTarget's support"),
}


def own_words(body: bytes) -> str:
    """Return ``; the API says: …`` with the message of a JSON error, or an empty text if it has none.

    Secrets and addresses are taken out, and it is cut to `LONGEST_MESSAGE` characters on one line.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    words = redact(_message(document))
    words = "".join(char if char.isprintable() else " " for char in words)
    words = " ".join(_URL.sub("…", words).split())
    if len(words) > LONGEST_MESSAGE:
        words = words[: LONGEST_MESSAGE - 1].rstrip() + "…"
    return f"; the API says: {words}" if words else ""


def http_date(value: str) -> float | None:
    """Return seconds since the epoch of an HTTP date, or None if it isn't one."""
    try:
        parsed = email.utils.parsedate_to_datetime(value)
        # HTTP dates are in GMT; Python reads one without a zone, or with -0000, as local time.
        return (parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _message(document: object) -> str:
    """Return the first text under a name that messages have, at most three levels deep."""
    for _ in range(_MESSAGE_DEPTH):
        if isinstance(document, list) and document:
            document = document[0]
        if isinstance(document, dict):
            document = next((document[key] for key in _MESSAGE_KEYS if document.get(key)), None)
    return document if isinstance(document, str) else ""


def _is_web_page(answer: Answer) -> bool:
    return "html" in answer.headers.get("content-type", "").lower() or answer.body.lstrip()[:1] == b"<"


def _retry_after(headers: Mapping[str, str], wall_clock: float) -> float:
    """Return the seconds of Retry-After; 0 if there is none, or none that can be read."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]+", value):
        return min(float(value[:20]), _LONGEST_RETRY_AFTER)
    until = http_date(value)
    if until is None:
        return 0.0
    now = http_date(headers.get("date", ""))
    return min(max(0.0, until - (wall_clock if now is None else now)), _LONGEST_RETRY_AFTER)
