"""Serves what `doctor --record` wrote, so that somebody without the account sees what that server answers.

All times are shifted, so that the recording begins when it is served. A request that was recorded gets its
answer; any other one gets what the recorded rows have for it, in pages no larger than the largest recorded one.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.simulator.faults import Fault
from exporter.simulator.service import PATHS, Answer, Asked, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMAT: Final = 1
TOLERANCE: Final = 900.0
"""Seconds by which the times of a request may differ from those of the recorded one."""

_DATES: Final = ("startFrom", "startTo", "sendFrom", "sendTo")
_TIME: Final = re.compile(r"((?!0000|0001|9999)\d{4}-\d\d-\d\d)([ T])(\d\d:\d\d:\d\d)(.*)", re.DOTALL)
_TIME_FIELDS: Final = ("campaign_start_at", "campaign_stop_at")
_JSON: Final = "application/json; charset=UTF-8"

Row: TypeAlias = dict[str, Any]
Parameters: TypeAlias = dict[str, list[str]]


@dataclass
class _Recorded:
    """One recorded answer. `what` is everything asked but times, `times` in seconds since the epoch."""

    what: tuple[object, ...]
    times: tuple[float, ...]
    status: int | None
    headers: dict[str, str]
    body: object
    is_json: bool
    served: int = field(default=0)


class Replay:
    """Answers as a recorded server did. Safe to use from several threads; any access token will do.

    `recording` is the text of the file; ValueError if it is none. `requests` and `log` are as of `Simulator`.
    """

    def __init__(self, recording: str, clock: Callable[[], float]) -> None:
        document = _read(recording)
        if not isinstance(document, dict) or document.get("intarget_recording") != FORMAT:
            raise ValueError("not a recording of this version")
        self.requests: Counter[str] = Counter()
        self.log: deque[Asked] = deque(maxlen=10_000)
        self._clock = clock
        try:
            self._shift = float(int(clock()) - int(document["at"]))
            self._answers = [self._recorded(one) for one in document["answers"]]
            self._ahead = self._clock_ahead(document)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a recording with something missing ({error})") from None
        rows = [(one, list(_rows(one.body))) for one in self._answers]
        self._rows = {str(one.what[0]): self._newest(str(one.what[0])) for one in self._answers}
        self._largest = max((len(found) for _, found in rows), default=0)
        self._lock = threading.Lock()

    def _recorded(self, answer: dict[str, Any]) -> _Recorded:
        what, times = _split(answer["path"], answer["parameters"])
        return _Recorded(
            what=what,
            times=tuple(time + self._shift for time in times),
            status=answer["status"],
            headers=dict(answer.get("headers", {})),
            body=self._shifted(answer.get("body")),
            is_json="body" in answer,
        )

    @staticmethod
    def _clock_ahead(document: dict[str, Any]) -> float:
        dates = [one["headers"]["date"] for one in document["answers"] if "date" in one.get("headers", {})]
        return parsedate_to_datetime(dates[0]).timestamp() - document["at"] if dates else 0.0

    def _shifted(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """Return a document with the times of its rows shifted."""
        if isinstance(value, list):
            return [self._shifted(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            name: self._later(one) if name in _TIME_FIELDS and isinstance(one, str) else self._shifted(one)
            for name, one in value.items()
        }

    def _later(self, text: str) -> str:
        match = _TIME.fullmatch(text.strip())
        if match is None:
            return text
        moment = datetime.fromtimestamp(_seconds(f"{match[1]} {match[3]}") + self._shift, UTC)
        return f"{moment:%Y-%m-%d}{match[2]}{moment:%H:%M:%S}{match[4]}"

    def _newest(self, path: str) -> list[Row]:
        """Return every row of one path once, as it was last recorded."""
        newest: dict[tuple[object, ...], Row] = {}
        for one in self._answers:
            for row in _rows(one.body) if one.what[0] == path else ():
                names = (
                    "campaign_id",
                    "message_title",
                    "type",
                    *_TIME_FIELDS,
                    "conversion_event",
                    "conversion_period",
                )
                newest[tuple(row.get(name) for name in names)] = row
        return sorted(newest.values(), key=lambda row: str(row.get("campaign_start_at")))

    def answer(self, target: str) -> Answer:
        """Answer a GET of this request target, path and query."""
        path, _, query = target.partition("?")
        if path not in PATHS:
            return refusal(404, "Not Found", "Page not found.")
        parameters: Parameters = urllib.parse.parse_qs(query, keep_blank_values=True)
        parameters.pop("access-token", None)
        with self._lock:
            self.requests[PATHS[path]] += 1
            self.log.append(Asked(self.requests.total(), PATHS[path]))
            try:
                what, times = _split(path, parameters)
                per_page = int(parameters.get("perPage", ["10"])[0])
            except ValueError:
                return refusal(422, "Unprocessable Entity", "A time or perPage has the wrong form.")
            recorded = self._find(what, times)
            if recorded is None:
                return self._improvised(path, parameters, per_page)
            recorded.served += 1
            return self._replayed(recorded)

    def _find(self, what: tuple[object, ...], times: tuple[float, ...]) -> _Recorded | None:
        """Return the recorded answer to the nearest request, of several the one that was served least."""

        def distance(one: _Recorded) -> float:
            return max((abs(a - b) for a, b in zip(one.times, times, strict=True)), default=0.0)

        alike = [one for one in self._answers if one.what == what and distance(one) <= TOLERANCE]
        return min(alike, key=lambda one: (distance(one), one.served), default=None)

    def _replayed(self, recorded: _Recorded) -> Answer:
        if recorded.status is None:
            return Answer(200, b"", fault=Fault(kind="reset"))
        headers = tuple((name.title(), value) for name, value in recorded.headers.items() if name != "date")
        date = ("Date", formatdate(self._clock() + self._ahead, usegmt=True))
        if recorded.status != 200:  # noqa: PLR2004 - OK
            refused = refusal(recorded.status, "Recorded", "The recorded server refused this request.")
            return Answer(refused.status, refused.body, (*refused.headers, *headers, date))
        body = json.dumps(recorded.body).encode() if recorded.is_json else b"<html></html>"
        return Answer(200, body, (*headers, date))

    def _improvised(self, path: str, parameters: Parameters, per_page: int) -> Answer:
        rows = [row for row in self._rows.get(path, []) if self._passes(row, parameters)]
        size = max(0, min(per_page, self._largest or 1))
        date = ("Date", formatdate(self._clock() + self._ahead, usegmt=True))
        return Answer(200, json.dumps(rows[:size]).encode(), (("Content-Type", _JSON), date))

    @staticmethod
    def _passes(row: Row, parameters: Parameters) -> bool:
        ids = parameters.get("campaignIds[]")
        if ids is not None and str(row.get("campaign_id")) not in ids:
            return False
        match = _TIME.fullmatch(str(row.get("campaign_start_at")).strip())
        bounds = [parameters[name][0] for name in ("startFrom", "startTo") if name in parameters]
        if match is None or len(bounds) < 2:  # noqa: PLR2004 - both
            return True
        return bounds[0] <= f"{match[1]} {match[3]}" <= bounds[1]


def _read(recording: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(recording)
    except (ValueError, RecursionError):
        return None


def _split(path: str, parameters: Parameters) -> tuple[tuple[object, ...], tuple[float, ...]]:
    """Return what is asked but for the times, and the times in seconds since the epoch. Raises ValueError."""
    others = sorted((name, tuple(sorted(values))) for name, values in parameters.items() if name not in _DATES)
    dates = [name for name in _DATES if name in parameters]
    return (path, tuple(dates), tuple(others)), tuple(_seconds(parameters[name][0]) for name in dates)


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()


def _rows(body: object) -> Iterator[Row]:
    """Yield the rows of a document, wherever they are."""
    if isinstance(body, list):
        for one in body:
            yield from _rows(one)
    elif isinstance(body, dict) and "campaign_id" in body:
        yield body
    elif isinstance(body, dict):
        for one in body.values():
            yield from _rows(one)
