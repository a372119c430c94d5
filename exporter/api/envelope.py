"""From the body of an answer to its rows, each still in JSON.

The vendor's page shows one bare row ("Example Response"). Servers of this kind also answer with an array, with
an object that holds one array (``data``, ``items``, …, or ``{"data": {"items": […]}}``), and, where PHP made
the array, with an object of numeric keys. Anything else, above all an error object with status 200, is a
failed request and never "no campaigns".
"""

from __future__ import annotations

import json
import math
from typing import Final, TypeAlias

import msgspec

from exporter.api.fields import IDENTITY_FIELDS
from exporter.api.refusal import own_words
from exporter.errors import BadResponseError

_Members: TypeAlias = "dict[str, bytes]"

_ROWS_KEYS: Final = frozenset({"data", "items", "rows", "results", "result", "statistics", "campaigns"})
_ERROR_KEYS: Final = frozenset({"error", "errors", "exception", "error_message", "errorMessage", "error_code"})
_STATUS_KEYS: Final = frozenset({"success", "ok", "status", "code"})
NOT_JSON: Final = (msgspec.DecodeError, ValueError, RecursionError)


def raw_rows(body: bytes) -> list[bytes]:
    """Return every row of an answer as the JSON text of that row. Raises BadResponseError if it holds none."""
    try:
        return _rows(body)
    except NOT_JSON:
        strict = strict_json(body)
    if strict is not None:
        return _rows(strict)
    if body.lstrip()[:1] == b"<":
        raise BadResponseError("the answer is a web page; is base_url the API's address?")
    raise BadResponseError("the answer is not JSON; is base_url the API's address?")


def strict_json(body: bytes) -> bytes | None:
    """Return the document without what only lenient parsers take, or None if it is no JSON even to them.

    Broken UTF-8 and lone surrogates become U+FFFD, NaN and infinities become strings.
    """
    try:
        text = body.decode(json.detect_encoding(body), "replace")
        document = json.loads(text, parse_constant=str, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    text = json.dumps(document, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _rows(document: bytes) -> list[bytes]:
    rows = _array(document)
    if rows is not None:
        return rows
    members = _members(document)
    if members is None:
        raise BadResponseError(f"the answer ({_kind(document)}) holds no rows")
    if IDENTITY_FIELDS[0] in members:
        return [document]
    if _are_rows(members):
        return list(members.values())
    _refuse_errors(members, document)
    held = {key: rows for key, value in members.items() if (rows := _held(key, value)) is not None}
    found = _only(held)
    if found is None:
        raise BadResponseError("the answer is an object that does not hold one array of rows")
    return found


def _held(key: str, value: bytes) -> list[bytes] | None:
    """Return the rows of one member of the outermost object, or None if it is something else."""
    if key in _ERROR_KEYS:
        return None
    rows = _array(value)
    members = None if rows is not None else _members(value)
    if members is None:
        return rows
    if _are_rows(members):
        return list(members.values())
    _refuse_errors(members, value)
    return _only({key: rows for key, inner in members.items() if (rows := _array(inner)) is not None})


def _only(held: dict[str, list[bytes]]) -> list[bytes] | None:
    """Return the only array; of several, the only one with a name that rows usually have."""
    if len(held) > 1:
        held = {key: rows for key, rows in held.items() if key.lower() in _ROWS_KEYS}
    return next(iter(held.values())) if len(held) == 1 else None


def _array(document: bytes) -> list[bytes] | None:
    if document.lstrip()[:1] != b"[":
        return None
    return [bytes(row) for row in msgspec.json.decode(document, type=list[msgspec.Raw])]


def _members(document: bytes) -> _Members | None:
    if document.lstrip()[:1] != b"{":
        msgspec.json.decode(document, type=msgspec.Raw)  # raises if it isn't JSON at all
        return None
    members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    return {key: bytes(value) for key, value in members.items()}


def _are_rows(members: _Members) -> bool:
    """Whether an object stands for an array: its keys are numbers, or all its values are rows."""
    inner = [_members(value) for value in members.values()]
    if not inner or not all(inner):
        return False
    return all(key.isdecimal() for key in members) or all(IDENTITY_FIELDS[0] in one for one in inner if one)


def _refuse_errors(members: _Members, document: bytes) -> None:
    """Raise BadResponseError if an object reports an error, even if it holds an (empty) array besides."""
    stated = {key: msgspec.json.decode(members[key]) for key in members.keys() & (_ERROR_KEYS | _STATUS_KEYS)}
    status = stated.get("status", stated.get("code"))
    failed = (
        any(stated.get(key) for key in _ERROR_KEYS)
        or stated.get("success") in (False, "false")
        or stated.get("ok") is False
        or (isinstance(status, str) and status.lower() in {"error", "fail", "failed", "failure"})
        or (isinstance(status, int) and status >= 400)  # noqa: PLR2004 - HTTP's first error code
    )
    if failed:
        raise BadResponseError(f"the answer reports an error and holds no rows{own_words(document)}")


def _kind(document: bytes) -> str:
    value = msgspec.json.decode(document)
    if value is None:
        return "null"
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names[type(value)]
