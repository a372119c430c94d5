"""What an answer may look like, and that everything else is a BadResponseError."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.api import parse, values
from exporter.api.model import INVALID, Conversion, MessageStats, Reply
from exporter.errors import BadResponseError
from tests._apiserver import conversion, row
from tests._builders import counts
from tests._examples import examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.api.model import Page

START = 1_742_205_861
"""2025-03-17 10:04:21 UTC, the start in the vendor's example."""
EXAMPLE = {
    "campaign_id": 111,
    "message_title": "Spring Promo — 25% Discount",
    "type": "Email",
    "campaign_start_at": "2025-03-17 10:04:21+00",
    "skipped": 5,
    "sent": 12500,
    "delivered": 12340,
    "opened": 5870,
    "clicked": 1422,
    "bounced": 160,
    "softBounced": 73,
    "complaint": 4,
    "rejected": 12,
    "unsubscribed": 27,
    "failed": 85,
    "temporaryFailed": 13,
}
CONVERSION_EXAMPLE = {
    "campaign_id": 1903,
    "message_title": "Deposit Bonus — Get +30%",
    "type": "Email",
    "campaign_start_at": "2025-10-13 13:19:35+00",
    "campaign_stop_at": "2025-10-14 06:00:00+00",
    "campaign_name": "Email: Deposit Bonus October",
    "conversion_event": "Opened",
    "conversion_period": "1 day",
    "deposits_count": "154",
    "deposits_amount": "18752.40",
    "converted_users": "102",
}


def reply(document: object, **headers: str) -> Reply:
    """Return an answer with this JSON document; `_` in names of headers stands for ``-``."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Reply(body, {name.replace("_", "-"): value for name, value in headers.items()}, 0.1)


def statistics(answer: Reply) -> Page[MessageStats]:
    """Read one answer with rows of the statistics."""
    return parse.statistics_reader()(answer)


def conversions(answer: Reply) -> Page[Conversion]:
    """Read one answer with rows of the conversions."""
    return parse.conversions_reader()(answer)


def read(**fields: object) -> Page[MessageStats]:
    """Read one row of the statistics with some fields replaced."""
    return statistics(reply([EXAMPLE | fields]))


def count(value: object) -> tuple[Any, int]:
    """Return what becomes of a count, and how many values were counted as invalid."""
    page = read(sent=value)
    return page.rows[0].counts.sent, page.invalid.get("sent", 0)


def amount(value: object) -> tuple[Any, int]:
    """As `count`, for a sum of money."""
    page = conversions(reply([CONVERSION_EXAMPLE | {"deposits_amount": value}]))
    return page.rows[0].amount, page.invalid.get("deposits_amount", 0)


def start(text: object) -> float | None:
    """Return the start that a text is read as; None: the row can't be read."""
    page = statistics(reply([EXAMPLE, EXAMPLE | {"campaign_start_at": text}]))
    return page.rows[1].start if len(page.rows) > 1 else None


def test_texts_that_never_come_again_are_not_kept() -> None:
    """An API that invents a title with each row leaves only the latest of them, and no long one."""
    for number in range(10_000):
        values.text(f"Title {number}")
    kept = values.shared.cache_info().currsize
    values.text("x" * 10_000)
    assert kept == values.shared.cache_info().currsize <= 4096


def test_vendors_example_of_statistics() -> None:
    """The bare object of the vendor's page is read, field by field."""
    page = statistics(reply(EXAMPLE))
    values = counts(
        skipped=5,
        sent=12500,
        delivered=12340,
        opened=5870,
        clicked=1422,
        bounced=160,
        soft_bounced=73,
        rejected=12,
        failed=85,
        temporary_failed=13,
        complaint=4,
        unsubscribed=27,
    )
    expected = MessageStats(111, "email", START, "Spring Promo — 25% Discount", values)
    assert (expected,) == page.rows
    assert (1, None, {}, frozenset()) == (page.size, page.total, page.invalid, page.unknown)


def test_vendors_example_of_conversions() -> None:
    """Numbers in strings and times with a short offset are read."""
    page = conversions(reply(CONVERSION_EXAMPLE))
    expected = Conversion(
        campaign_id=1903,
        channel="email",
        start=1_760_361_575,
        stop=1_760_421_600,
        title="Deposit Bonus — Get +30%",
        campaign_name="Email: Deposit Bonus October",
        event="Opened",
        period="1 day",
        deposits=154,
        amount=Decimal("18752.40"),
        converted_users=102,
    )
    assert (expected,) == page.rows
    assert ({}, frozenset()) == (page.invalid, page.unknown)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: rows,
        lambda rows: {"data": rows},
        lambda rows: {"items": rows, "_meta": {"totalCount": 2}},
        lambda rows: {"anything": rows},
        lambda rows: {"data": rows, "links": []},
        lambda rows: {"data": {"items": rows, "total": 2}},
        lambda rows: {"success": True, "response": {"items": rows, "links": []}, "errors": []},
        lambda rows: {"success": True, "status": 200, "error": None, "errors": [], "data": rows},
        lambda rows: {"status": "ok", "message": "", "code": 0, "rows": rows},
    ],
)
@pytest.mark.parametrize("rows", [[], [EXAMPLE], [EXAMPLE, EXAMPLE]])
def test_envelopes(wrap: Callable[[Any], Any], rows: list[Any]) -> None:
    """An array, and an object with one array of rows, are read under any name; no rows are no campaigns."""
    page = statistics(reply(wrap(rows)))
    assert (len(rows), len(rows)) == (len(page.rows), page.size)


@pytest.mark.parametrize(
    "document",
    [
        {"error": "quota exceeded"},
        {"error": "quota exceeded", "data": []},
        {"errors": ["no"], "data": []},
        {"success": False, "data": []},
        {"ok": False, "data": []},
        {"status": "error", "data": []},
        {"status": 500, "data": []},
        {"code": 401, "items": []},
        {"message": "Not found"},
        {"errors": []},
        {"a": [], "b": []},
        {"data": {"items": [], "errors": ["no"]}},
        {"data": {"a": [], "b": []}},
        {"data": {"first": {"items": []}}},
        {"data": {}},
        {"data": None},
        {"0": {"a": 1}},
        {"0": EXAMPLE, "1": 1},
        {},
        None,
        True,
        17,
        1.5,
        "rows",
        [1, 2],
        [None],
        [[]],
        b"",
        b"   ",
        b"<html><body>Maintenance</body></html>",
        b'[{"campaign_id": 1',
        b'[{"campaign_id": 111, "type": "Ema',
        b"\xff\xfe\x00",
        b"\x80abc",
        b"[" * 100_000,
        b"[1" + b"0" * 5000 + b"]",
        b'{"campaign_id": 1}',
    ],
)
def test_anything_else_is_a_failure(document: object) -> None:
    """An error object with status 200, a web page, cut JSON, a number: never "no campaigns"."""
    with pytest.raises(BadResponseError) as caught:
        statistics(reply(document))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_failures_quote_nothing() -> None:
    """What the answer says, which may be the token, is not in the error; the place is."""
    for document in ({"colour": "hush-hush"}, ["hush-hush"], b"<hush-hush>", [{"campaign_id": "hush-hush"}]):
        with pytest.raises(BadResponseError) as caught:
            statistics(reply(document))
        assert "hush" not in repr(caught.value)
    with pytest.raises(BadResponseError, match=r"\$\[1\]\.type"):
        statistics(reply([{}, EXAMPLE | {"type": None}]))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (7, 7), ("7", 7), (" 7 ", 7), ("7.0", 7), (7.0, 7), ("+7", 7), (0.0, 0), (2**53, 2**53)],
)
def test_counts(value: object, expected: int) -> None:
    """Integers are read, and numbers and strings that say one."""
    assert (expected, 0) == count(value)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        "-1",
        1.5,
        "1.5",
        True,
        False,
        "many",
        "1,250",
        "1 250",
        "0x10",
        "1e3",
        "NaN",
        "Infinity",
        [],
        {},
        [7],
        2**53 + 1,
        10**40,
        1e300,
        5e-324,
        float("nan"),
        float("inf"),
        float("-inf"),
    ],
)
def test_invalid_counts(value: object) -> None:
    """Negative, fractional, boolean, not finite, not a number: counted as invalid, never a value."""
    assert (INVALID, 1) == count(value)


def test_absent_counts() -> None:
    """A null, empty or absent count is none, and not invalid."""
    assert (None, 0) == count(None) == count("") == count("  ")
    page = statistics(reply([{name: value for name, value in EXAMPLE.items() if name != "sent"}]))
    assert page.rows[0].counts.sent is None
    assert {} == page.invalid


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("18752.40", "18752.40"),
        (0.1, "0.1"),
        (12, "12"),
        ("0", "0"),
        (1e-7, "1E-7"),
        ("0.005", "0.005"),
        (".50", "0.50"),
        ("5.", "5"),
    ],
)
def test_amounts(value: object, expected: str) -> None:
    """Amounts keep the digits that the answer has."""
    assert (Decimal(expected), 0) == amount(value)


@pytest.mark.parametrize("value", ["-0.01", -1, True, float("nan"), "12,50", "€12", ".", [], 2**54, 1e300])
def test_invalid_amounts(value: object) -> None:
    """Amounts below 0, and what is no number, are invalid."""
    assert (INVALID, 1) == amount(value)


def test_absent_amount() -> None:
    """A null or empty amount is none."""
    assert (None, 0) == amount(None) == amount("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-17 10:04:21+00", START),
        ("2025-03-17 10:04:21+00:00", START),
        ("2025-03-17 10:04:21+0000", START),
        ("2025-03-17T10:04:21Z", START),
        ("2025-03-17 10:04:21 UTC", START),
        (" 2025-03-17 10:04:21 ", START),
        ("2025-03-17 12:04:21+02", START),
        ("2025-03-17 15:34:21+05:30", START),
        ("2025-03-17 05:04:21-05", START),
        ("2025-03-17 06:34:21-03:30", START),
        ("2025-03-17 10:04:21.5+00", START + 0.5),
        ("2025-03-17 10:04:21.123456+00", START + 0.123456),
        ("2025-03-17T10:04:21,25Z", START + 0.25),
        ("2025-03-17 10:04:21.999999999", START + 0.999999),
        ("2024-02-29 00:00:00", 1_709_164_800),
    ],
)
def test_times(text: str, expected: float) -> None:
    """Offsets may be short, long, Z or missing (UTC), and seconds may have a fraction."""
    assert expected == start(text)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        0,
        START,
        True,
        "yesterday",
        "2025-03-17",
        "17.03.2025 10:04:21",
        "2025-13-01 00:00:00",
        "2025-02-29 00:00:00",
        "2025-03-00 00:00:00",
        "2025-03-17 24:00:00",
        "2025-03-17 10:60:00",
        "2025-03-17 10:04:21+00 or so",
        "0000-00-00 00:00:00",
        "9999-12-31 23:59:59",
    ],
)
def test_invalid_times(text: object) -> None:
    """What is no time makes the row unreadable."""
    assert start(text) is None


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9990, 1, 1)),  # noqa: DTZ001 - the offset is put to it below
    st.integers(-23 * 60, 23 * 60),
)
@examples(100)
def test_times_against_datetime(moment: datetime, minutes: int) -> None:
    """Every time that Python writes is read as the same moment."""
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (zoned - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    assert expected == pytest.approx(start(zoned.isoformat(sep=" ")), abs=2e-6)


@pytest.mark.parametrize(
    "broken",
    [
        {"campaign_id": None},
        {"campaign_id": "x"},
        {"campaign_id": True},
        {"campaign_id": -1},
        {"campaign_id": 1.5},
        {"campaign_id": 1e17},
        {"campaign_id": ""},
        {"type": None},
        {"type": "  "},
        {"type": 3},
        {"campaign_start_at": None},
        {"campaign_start_at": "soon"},
        {"campaign_start_at": "0000-00-00 00:00:00"},
    ],
)
def test_unreadable_rows_are_skipped_and_counted(broken: dict[str, object]) -> None:
    """A row that doesn't say what it is about is passed over, counts as a row, and is counted by its field."""
    page = statistics(reply([EXAMPLE, EXAMPLE | broken]))
    assert (1, 2, {next(iter(broken)): 1}) == (len(page.rows), page.size, page.invalid)
    with pytest.raises(BadResponseError):
        statistics(reply([EXAMPLE | broken, EXAMPLE | broken]))


def test_readable_identities() -> None:
    """A campaign_id may be a numeric string; channels are an open set, in lower case."""
    page = read(campaign_id="111", type=" Web Push ")
    assert (111, "web push") == (page.rows[0].campaign_id, page.rows[0].channel)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, 2**64 + 1, 10**40 + 1])
def test_identifiers_have_no_upper_bound(number: int) -> None:
    """No digit of a large campaign_id is lost, be it a number or a string."""
    assert [number, number] == [read(campaign_id=value).rows[0].campaign_id for value in (number, str(number))]


def test_texts() -> None:
    """Titles are taken as they are: null is empty, and what UTF-8 can't say is replaced."""
    titles = [None, "", '😀 שלום\n"x"', "bad \ud800 half", 17]
    page = statistics(reply([EXAMPLE | {"message_title": title} for title in titles]))
    expected = ["", "", '😀 שלום\n"x"', "bad � half", "17"]
    assert expected == [one.title for one in page.rows]


@pytest.mark.parametrize(
    ("text", "stop", "invalid"),
    [
        (None, None, 0),
        ("", None, 0),
        ("0000-00-00 00:00:00", None, 0),
        ("0001-01-01T00:00:00Z", None, 0),
        ("9999-12-31 23:59:59+00", None, 0),
        ("infinity", None, 0),
        ("-Infinity", None, 0),
        ("never", None, 1),
        ("2025-02-29 00:00:00", None, 1),
        (17, None, 1),
    ],
)
def test_stop(text: object, stop: float | None, invalid: int) -> None:
    """A campaign may have no end; one that can't be read is counted, and the row stays."""
    page = conversions(reply([CONVERSION_EXAMPLE | {"campaign_stop_at": text}]))
    assert (stop, invalid) == (page.rows[0].stop, page.invalid.get("campaign_stop_at", 0))


def test_unknown_fields_are_named() -> None:
    """Fields that the vendor's page doesn't have are reported, those of the other resource, too."""
    assert {"colour", "deposits_count"} == read(colour="red", deposits_count="1").unknown
    assert {"sent"} == conversions(reply([CONVERSION_EXAMPLE | {"sent": 1}])).unknown


@pytest.mark.parametrize("name", ["x_pagination_total_count", "x_total_count", "x_total"])
@pytest.mark.parametrize(("text", "total"), [("17", 17), (" 0 ", 0), ("many", None), ("-1", None), ("", None)])
def test_total_headers(name: str, text: str, total: int | None) -> None:
    """A total-count header is read where it is a number."""
    assert total == statistics(reply([], **{name: text})).total


def test_rows_of_the_test_server() -> None:
    """The rows that other tests serve are rows of the vendor's page."""
    assert frozenset() == statistics(reply([row(1, START)])).unknown
    assert frozenset() == conversions(reply([conversion(1, START)])).unknown


ANSWERS = Path(__file__).parent / "answers"


def answer(name: str) -> Page[Any]:
    """Read one of the stored answers."""
    read_page = statistics if name.startswith("statistics") else conversions
    return read_page(reply((ANSWERS / f"{name}.json").read_bytes()))


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("statistics-object-with-numeric-keys", [111, 113]),
        ("statistics-data-with-numeric-keys", [111, 113]),
        ("statistics-nested-data-items", [111]),
        ("statistics-one-invalid-byte", [111, 113]),
        ("statistics-64-bit-ids", [1234567890123456789, 1234567890123456790]),
        ("statistics-empty-strings", [111, 113]),
        ("conversions-empty-strings", [111]),
        ("conversions-stop-infinity", [111]),
        ("conversions-stop-zero-date", [111]),
        ("conversions-amount-without-leading-zero", [111]),
    ],
)
def test_answers_of_servers_in_the_field(name: str, ids: list[int]) -> None:
    """What PHP and databases make of an answer costs no campaign and counts as nothing invalid."""
    page = answer(name)
    assert ids == [one.campaign_id for one in page.rows]
    assert {} == page.invalid


def test_values_of_servers_in_the_field() -> None:
    """Empty strings and odd stop times are none; a broken byte is replaced in its title alone."""
    assert ["Caf\ufffd", "Autumn"] == [one.title for one in answer("statistics-one-invalid-byte").rows]
    first = answer("statistics-empty-strings").rows[0]
    assert (None, None, 1000) == (first.counts.opened, first.counts.complaint, first.counts.sent)
    empty = answer("conversions-empty-strings").rows[0]
    assert (None, None, None) == (empty.deposits, empty.amount, empty.converted_users)
    assert None is answer("conversions-stop-infinity").rows[0].stop
    assert None is answer("conversions-stop-zero-date").rows[0].stop
    assert Decimal("0.5") == answer("conversions-amount-without-leading-zero").rows[0].amount


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(encoding: str) -> None:
    """An answer may be in any encoding of Unicode, with or without a byte order mark."""
    page = statistics(reply(json.dumps([EXAMPLE], ensure_ascii=False).encode(encoding)))
    assert EXAMPLE["message_title"] == page.rows[0].title


def test_unchanged_row_is_not_parsed_again() -> None:
    """A row that comes again byte by byte is the same object, in whatever company; a changed one is not."""
    reader = parse.statistics_reader()
    first, second = reader(reply([EXAMPLE, EXAMPLE | {"campaign_id": 112}])).rows
    changed, same = reader(reply([EXAMPLE | {"sent": 12501}, EXAMPLE | {"campaign_id": 112}])).rows
    assert same is second
    assert (12501, 12500) == (changed.counts.sent, first.counts.sent)


def test_reader_repeats_what_was_invalid() -> None:
    """Invalid values and unknown fields are told again with a row that isn't parsed again."""
    reader = parse.statistics_reader()
    for _ in range(2):
        page = reader(reply([EXAMPLE | {"sent": True, "colour": "red"}, EXAMPLE | {"type": None}]))
        assert ({"sent": 1, "type": 1}, {"colour"}) == (page.invalid, page.unknown)


def test_reader_keeps_one_row_of_each_message() -> None:
    """Rows that changed take the place of their former selves, so memory doesn't grow with time."""
    reader = parse.statistics_reader()
    for sent in range(50):
        reader(reply([EXAMPLE | {"sent": sent}, EXAMPLE | {"sent": sent, "message_title": "B"}]))
    assert 2 == len(reader)


def test_reader_forgets_rows_that_no_longer_come() -> None:
    """Campaigns that left are not kept for ever; those that still come are never parsed again."""
    reader = parse.statistics_reader()
    staying = [EXAMPLE | {"campaign_id": number} for number in range(100)]
    before = reader(reply(staying)).rows
    for number in range(1000, 11_000, 10):
        page = reader(reply([*staying, *(EXAMPLE | {"campaign_id": number + one} for one in range(10))]))
    assert all(one is other for one, other in zip(before, page.rows, strict=False))
    assert len(reader) < 1000


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["2025-03-17 10:04:21+00", "154", "-1", "NaN", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*EXAMPLE, *CONVERSION_EXAMPLE, "data", "items", "error", "status"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(JSON)
@examples(200)
@example([{**EXAMPLE, "campaign_id": 10**400}])
@example([{**EXAMPLE, "message_title": {"\ud800": [float("nan")]}}])
@example([EXAMPLE, {**EXAMPLE, "sent": -0.0}])
def test_any_json_is_read_or_refused(document: object) -> None:
    """Whatever JSON comes, there are rows of the documented shape, or a BadResponseError."""
    for read_page in (statistics, conversions):
        try:
            page = read_page(reply(document))
        except BadResponseError:
            continue
        assert len(page.rows) <= page.size
        for one in page.rows:
            assert one.campaign_id >= 0
            assert one.channel
            (one.channel + one.title).encode()


@given(st.binary(max_size=200), st.integers(0, 400))
@examples(150)
def test_any_bytes_are_read_or_refused(noise: bytes, cut: int) -> None:
    """Noise, and answers cut anywhere or with noise in them, raise nothing else."""
    whole = json.dumps([EXAMPLE]).encode()
    for body in (noise, whole[:cut] + noise, whole[:cut] + noise + whole[cut:]):
        try:
            statistics(reply(body))
        except BadResponseError:
            continue


@pytest.mark.parametrize(
    ("channel", "expected"), [("Email", 0), ("Push", 0), ("Web Push", 0), ("SMS", None), ("WhatsApp", None)]
)
def test_opens_are_of_email_and_push(channel: str, expected: int | None) -> None:
    """Where an open can't be seen, a 0 in the answer is no count."""
    page = statistics(reply([EXAMPLE | {"type": channel, "opened": 0}]))
    assert expected == page.rows[0].counts.opened
