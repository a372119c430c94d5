"""The values that pass between the modules."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest

from exporter import status
from exporter.api import model as api_model
from exporter.api.fields import COUNTER_FIELDS
from exporter.api.model import INVALID, Conversion, MessageStats, Query, Reply, TimeRange, add_up
from exporter.collect import model as collect_model
from exporter.tracking import model as tracking_model

VALUES = (1,) * len(COUNTER_FIELDS)
KINDS = [
    kind
    for module in (api_model, collect_model, tracking_model, status)
    for kind in vars(module).values()
    if dataclasses.is_dataclass(kind)
]


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_values(kind: type) -> None:
    """Every record is frozen, and slotted: thousands of them are in memory."""
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind)


@pytest.mark.parametrize(
    ("start", "inside"), [(9.999, False), (10, True), (10.5, True), (12, True), (12.999, True), (13, False)]
)
def test_a_range_has_whole_seconds(start: float, inside: bool) -> None:  # noqa: FBT001
    """A row belongs to the second that its start lies in; both ends are included."""
    assert inside is (start in TimeRange(10, 12))


@pytest.mark.parametrize(("first", "last", "seconds"), [(10, 12, 3), (10, 10, 1), (10, 9, 0), (10, 2, 0)])
def test_the_length_of_a_range_is_never_negative(first: int, last: int, seconds: int) -> None:
    """A range that ends before it begins is empty."""
    assert seconds == TimeRange(first, last).seconds


@pytest.mark.parametrize(
    ("query", "filtered"),
    [
        (Query(), False),
        (Query(start_from=1), False),
        (Query(send_to=2), False),
        (Query(start_from=1, send_to=2), False),
        (Query(start_from=0, start_to=0), True),
        (Query(send_from=1, send_to=2), True),
        (Query(campaign_ids=(0,)), True),
    ],
)
def test_half_a_filter_is_none(query: Query, filtered: bool) -> None:  # noqa: FBT001
    """The vendor forbids questions without a filter; one bound alone isn't one."""
    assert filtered is query.filtered


def test_rows_of_one_message_each_are_one_group() -> None:
    """Neither title nor counts tell rows apart: both may change between two answers."""
    row = MessageStats(7, "email", 10.5, "a", VALUES)
    assert row.group == dataclasses.replace(row, title="b", counts=VALUES[::-1]).group
    for other in ({"campaign_id": 8}, {"channel": "sms"}, {"start": 10.0}):
        assert row.group != dataclasses.replace(row, **other).group


def test_conversions_group_by_event_and_period_too() -> None:
    """Rows of one campaign that differ in event or period are different groups; amounts don't matter."""
    row = Conversion(7, "email", 10.5, None, "a", "A", "Clicked", "1 day", 1, None, 1)
    assert row.group == dataclasses.replace(row, title="b", deposits=5, stop=11.0).group
    for other in ({"event": "Opened"}, {"period": "2 days"}, {"campaign_id": 8}):
        assert row.group != dataclasses.replace(row, **other).group


def test_a_reply_shows_no_content() -> None:
    """Bodies and headers stay out of logs that print a record."""
    assert "secret" not in repr(Reply(body=b"secret", headers={"x": "secret"}, seconds=0.1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), None),
        ((None, None), None),
        ((0, None), 0),
        ((1, None, 2), 3),
        ((Decimal("0.1"), Decimal("0.2")), Decimal("0.3")),
        ((1, INVALID, 2), INVALID),
        ((None, INVALID), INVALID),
    ],
)
def test_add_up(values: tuple[Any, ...], expected: Any) -> None:  # noqa: ANN401 - whatever can be summed
    """What is absent is left out; what can't be read makes the sum unknown."""
    assert expected == add_up(values)
