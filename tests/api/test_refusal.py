"""What is shown of the API's own message."""

from __future__ import annotations

import json

import pytest

from exporter.api.refusal import LONGEST_MESSAGE, own_words
from exporter.logs import register_secret


@pytest.mark.parametrize(
    "document",
    [
        {"name": "Bad Request", "message": "perPage is too large", "code": 0, "status": 400},
        {"error": "perPage is too large"},
        {"error": {"code": 7, "message": "perPage is too large"}},
        {"errors": [{"detail": "perPage is too large"}]},
        [{"field": "perPage", "message": "perPage is too large"}],
        {"message": " perPage\n\tis  too large\u0000"},
    ],
)
def test_message_is_found(document: object) -> None:
    """The message is shown on one line, under whichever of the usual names it stands."""
    assert own_words(json.dumps(document).encode()) == "; the API says: perPage is too large"


@pytest.mark.parametrize(
    "body", [b"", b"<html>Forbidden</html>", b"[]", b"{}", b"17", b'"text', b'{"message": 7}', b"[" * 100_000]
)
def test_no_message(body: bytes) -> None:
    """Web pages, and documents without a text under a usual name, have no message."""
    assert own_words(body) == ""


def test_secrets_and_addresses_are_taken_out() -> None:
    """A server that repeats the request doesn't bring the token or the address into a log."""
    register_secret("canary-5512")
    told = own_words(
        b'{"message": "canary-5512 at https://api.example/rest/campaign?access-token=x is bad,'
        b' /rest/campaign/statistics?startFrom=1 too"}'
    )
    assert told == "; the API says: *** at … is bad, … too"


def test_long_message_is_cut() -> None:
    """A long message is cut."""
    told = own_words(json.dumps({"message": "word " * 1000}).encode())
    assert len(told) <= LONGEST_MESSAGE + len("; the API says: ")
    assert told.endswith("…")
