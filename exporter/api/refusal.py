"""What the API itself says about a request that it refuses."""

from __future__ import annotations

import json
import re
from typing import Final

from exporter.logs import redact

LONGEST: Final = 200
"""Characters of the API's own message that are shown."""

_MESSAGE_KEYS: Final = ("message", "error_description", "detail", "error", "title", "errors", "name", "field")
_URL: Final = re.compile(r"(?:\w+:)?//\S+|\S*[?&]\S*=\S*|\S*/rest/\S*")


def own_words(body: bytes) -> str:
    """Return ``; the API says: …`` with the message of a JSON error, or an empty text if it has none.

    Secrets and addresses are taken out, and it is cut to `LONGEST` characters on one line.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    told = redact(_message(document))
    told = "".join(char if char.isprintable() else " " for char in told)
    told = " ".join(_URL.sub("…", told).split())
    if len(told) > LONGEST:
        told = told[: LONGEST - 1].rstrip() + "…"
    return f"; the API says: {told}" if told else ""


def _message(document: object) -> str:
    """Return the first text under a name that messages have, at most three levels deep."""
    for _ in range(3):
        if isinstance(document, list) and document:
            document = document[0]
        if isinstance(document, dict):
            document = next((document[key] for key in _MESSAGE_KEYS if document.get(key)), None)
    return document if isinstance(document, str) else ""
