"""Records survive as JSON by name, whatever they have."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from exporter.api.fields import COUNTER_FIELDS, Counts
from exporter.api.model import INVALID, TimeRange
from exporter.tracking import codec
from exporter.tracking.counters import PENDING, Counters
from exporter.tracking.model import AccountRecord, CampaignRecord, ChannelRecord, Group, MessageRecord
from tests._builders import counts


def by_field(each: st.SearchStrategy[object]) -> st.SearchStrategy[Counts[object]]:
    """Return counts of drawn values."""
    return st.builds(Counts, *[each] * len(COUNTER_FIELDS))


numbers = st.one_of(st.none(), st.integers(0, 10**30))
titles = st.text(max_size=4)
counters = st.builds(
    Counters,
    by_field(numbers),
    by_field(numbers),
    by_field(st.sampled_from([None, None, PENDING])),
    by_field(st.booleans()),
)
values = by_field(st.one_of(numbers, st.just(INVALID)))
groups = st.builds(
    Group,
    start=st.floats(0, 1e10),
    rows=st.integers(1, 9),
    counted=by_field(st.integers(0, 9)),
    values=values,
    titles=st.lists(titles, max_size=3).map(tuple),
    messages=st.lists(st.tuples(titles, values), max_size=2).map(tuple),
)
campaigns = st.builds(
    CampaignRecord,
    campaign_id=st.integers(0, 2**70),
    channel=titles,
    counters=counters,
    groups=st.lists(groups, max_size=2).map(tuple),
    past=st.one_of(st.none(), groups),
    messages=st.lists(st.builds(MessageRecord, titles, counters, st.booleans()), max_size=2).map(tuple),
    evicted=st.one_of(st.none(), st.floats(0, 1e10)),
)


@given(campaigns)
def test_campaigns_survive(record: CampaignRecord) -> None:
    """Counters of every kind, unreadable values, hostile titles, earlier runs."""
    data = json.loads(codec.dump(codec.pack_campaign(record)))
    assert record == codec.unpack_campaign(data, record.evicted)


@given(counters, titles)
def test_channels_survive(each: Counters, name: str) -> None:
    """Totals, overcounts and holds."""
    record = ChannelRecord(name, each)
    assert record == codec.unpack_channel(json.loads(codec.dump(codec.pack_channel(record))))


def test_counts_stand_under_the_api_s_names() -> None:
    """One that stands where it should is its value, and absent fields aren't written."""
    packed = codec.pack_counters(Counters(counts(sent=7, soft_bounced=5), counts(sent=6, soft_bounced=5)))
    assert {"sent": {"top": 7, "present": 6}, "softBounced": 5} == packed


def test_what_is_unknown_or_absent_is_no_fault() -> None:
    """Fields and resources of other versions are left out, and what they don't have is at its default."""
    data = {"since": 5.0, "successes": {"statistics": 7.0, "journeys": 8.0}, "colour": "red"}
    assert AccountRecord(5.0, {"statistics": 7.0}) == codec.unpack_account(data)
    assert (TimeRange(1, 2),) == codec.unpack_account({"since": 5.0, "proven": [[1, 2]]}).proven
    assert Counters(counts(sent=3), counts(sent=3)) == codec.unpack_counters({"sent": 3, "invented": 4})
