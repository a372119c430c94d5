"""What the API answered, without anything that says whose it is: fit to be attached to a bug report.

Token, address and account are not in it. Titles and names are replaced, identifiers renumbered in their order
with as many digits as before, amounts of money drawn anew; the same value always has the same replacement.
Times, channels, conversion events and periods, counts, numbers about pages, and the shape of each answer stay
as they are, since what goes wrong depends on them. ``intarget-exporter simulate --replay=FILE`` serves it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Final

from exporter import __version__
from exporter.api.client import query_parameters
from exporter.api.envelope import strict_json
from exporter.api.fields import COUNTER_FIELDS, PATHS
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.api.client import ApiClient
    from exporter.api.model import Query, Reply

FORMAT: Final = 1
"""What the key ``intarget_recording`` says."""

_ID: Final = "campaign_id"
_TITLES: Final = {"message_title": "Title", "campaign_name": "Name"}
_COUNTS: Final = frozenset({*COUNTER_FIELDS, "deposits_count", "converted_users"})
_TIMES: Final = frozenset({"campaign_start_at", "campaign_stop_at"})
_WORDS: Final = frozenset({"type", "conversion_event", "conversion_period"})
_TIME: Final = re.compile(r"[-+0-9TZUCz:., ]*|[-+]?infinity", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\s*[-+]?[0-9]*\.?[0-9]*\s*")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z ]{0,30}|[0-9]{1,3} (?:hour|day|week|month)s?")
_KEY: Final = re.compile(r"[A-Za-z_$][\w.$-]{0,40}")
_ABOUT_PAGES: Final = re.compile(
    "(?:total|current|last|next|per|page)?_?(?:total|count|page|items|rows|limit|offset|size|status|code)s?",
    re.IGNORECASE,
)
"""Names of numbers beside the rows that say nothing of whose they are."""
_STATES: Final = frozenset({"ok", "success", "error", "fail", "failed", "failure", "true", "false", ""})
_HEADERS: Final = {
    "date": re.compile(r"[A-Za-z0-9,: +-]{1,40}"),
    "content-type": re.compile(r"[a-z]+/[a-z+.-]+(?:; ?charset=[A-Za-z0-9-]+)?", re.IGNORECASE),
    "retry-after": re.compile(r"[0-9]{1,6}"),
    "x-pagination-total-count": re.compile(r"[0-9]{1,16}"),
    "x-total-count": re.compile(r"[0-9]{1,16}"),
    "x-total": re.compile(r"[0-9]{1,16}"),
    "x-pagination-total": re.compile(r"[0-9]{1,16}"),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it: a reply, or an error."""

    resource: str
    query: Query
    reply: Reply | None = None
    error: PollError | None = None


@dataclass(frozen=True, slots=True)
class Recorder:
    """Passes requests on to a client and keeps what came back."""

    client: ApiClient
    exchanges: list[Exchange] = field(default_factory=list)

    def get(self, resource: str, query: Query, *, deadline: float, retries: int | None = None) -> Reply:
        """Ask as `ApiClient.get` does."""
        try:
            reply = self.client.get(resource, query, deadline=deadline, retries=retries)
        except PollError as error:
            self.exchanges.append(Exchange(resource, query, error=error))
            raise
        self.exchanges.append(Exchange(resource, query, reply))
        return reply

    def close(self) -> None:
        """Close the client."""
        self.client.close()


def recording(exchanges: Iterable[Exchange], *, at: float) -> str:
    """Return the recording of exchanges that began at `at` (seconds since the epoch), as JSON."""
    exchanges = list(exchanges)
    documents = [_document(one.reply) for one in exchanges]
    disguise = Disguise(documents, [number for one in exchanges for number in one.query.campaign_ids])
    answers = [_answer(one, document, disguise) for one, document in zip(exchanges, documents, strict=True)]
    whole = {"intarget_recording": FORMAT, "version": __version__, "at": round(at), "answers": answers}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


_NO_JSON: Final = object()


def _document(reply: Reply | None) -> object:
    """Return the body of a reply, read; `_NO_JSON` if it is none."""
    strict = None if reply is None else strict_json(reply.body)
    return _NO_JSON if strict is None else json.loads(strict)


def _answer(exchange: Exchange, document: object, disguise: Disguise) -> dict[str, Any]:
    parameters: dict[str, list[str]] = {}
    for name, value in query_parameters(exchange.query):
        kept = str(disguise.identifier(int(value))) if name == "campaignIds[]" else value
        parameters.setdefault(name, []).append(kept)
    answer: dict[str, Any] = {"path": PATHS[exchange.resource], "parameters": parameters}
    if exchange.reply is None:
        error = exchange.error
        return answer | {"status": error and error.status, "reason": error and error.reason}
    answer |= {"status": 200, "seconds": round(exchange.reply.seconds, 3)}
    answer["headers"] = {
        name: value
        for name, value in exchange.reply.headers.items()
        if name in _HEADERS and _HEADERS[name].fullmatch(value)
    }
    if document is _NO_JSON:
        return answer | {"no_json": "web page" if exchange.reply.body.lstrip()[:1] == b"<" else "other"}
    return answer | {"body": disguise.value(document)}


class Disguise:
    """Replaces what says whose an answer is; consistently, for all answers of one recording."""

    def __init__(self, documents: Iterable[object], ids: Iterable[int]) -> None:
        found = set(ids)
        for document in documents:
            found |= _identifiers(document)
        self._ids = _renumbered(found)
        self._texts: dict[tuple[str, str], str] = {}
        self._amounts: dict[str, str] = {}
        self._random = SystemRandom()

    def identifier(self, number: int) -> int:
        """Return the new identifier."""
        return self._ids[number]

    def value(self, value: object, key: str = "", *, is_row: bool = False) -> object:
        """Return a value of a document, and everything in it, replaced."""
        if isinstance(value, dict):
            is_row = is_row or _ID in value
            return {self._key(name): self.value(one, name, is_row=is_row) for name, one in value.items()}
        if isinstance(value, list):
            return [self.value(one, key, is_row=is_row) for one in value]
        if isinstance(value, str):
            return self._text(value, key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value, key, is_row=is_row)
        return value

    def _number(self, value: float, key: str, *, is_row: bool) -> float:
        if key == _ID and isinstance(value, int) and value in self._ids:
            return self._ids[value]
        if key in _COUNTS or (not is_row and _ABOUT_PAGES.fullmatch(key)):
            return value
        return type(value)(self._amount(repr(value)))

    def _text(self, text: str, key: str) -> str:
        stripped = text.strip()
        if key == _ID and stripped.isdecimal() and int(stripped) in self._ids:
            return str(self._ids[int(stripped)])
        patterns = {_TIME: key in _TIMES, _WORD: key in _WORDS, _NUMBER: key in _COUNTS}
        if any(applies and pattern.fullmatch(text) for pattern, applies in patterns.items()):
            return text
        if key == "deposits_amount" and _NUMBER.fullmatch(text):
            return self._amount(text)
        if stripped.lower() in _STATES:
            return text
        return self._replacement(_TITLES.get(key, "Text"), text)

    def _key(self, name: str) -> str:
        if name.isdecimal():
            return str(self._ids.get(int(name), name))
        return name if _KEY.fullmatch(name) else self._replacement("Key", name)

    def _replacement(self, kind: str, text: str) -> str:
        number = 1 + sum(other == kind for other, _ in self._texts)
        return self._texts.setdefault((kind, text), f"{kind} {number}")

    def _amount(self, text: str) -> str:
        """Return another number with as many digits before and behind the point; nothing stays nothing."""
        if not text.strip(" 0.-+"):
            return text
        if text not in self._amounts:
            self._amounts[text] = re.sub("[0-9]", lambda _: str(self._random.randint(1, 9)), text)
        return self._amounts[text]


def _identifiers(document: object) -> set[int]:
    """Return every identifier of a document."""
    found: set[int] = set()
    if isinstance(document, dict):
        value = document.get(_ID)
        if isinstance(value, int | str) and str(value).strip().isdecimal():
            found.add(int(value))
        for one in document.values():
            found |= _identifiers(one)
    elif isinstance(document, list):
        for one in document:
            found |= _identifiers(one)
    return found


def _renumbered(ids: Iterable[int]) -> Mapping[int, int]:
    """Return new identifiers, in the same order, each with as many digits as the old one."""
    new: dict[int, int] = {}
    last = 0
    for number in sorted(ids):
        last = max(last + 1, 10 ** (len(str(number)) - 1))
        new[number] = last
    return new
