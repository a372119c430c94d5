"""What was answered so far, on disk; how a backfill goes on from it is in test_backfill."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api.fields import COUNTER_FIELDS, STATISTICS, Counts
from exporter.api.model import INVALID, Conversion, MessageStats
from exporter.backfill.journal import (
    FORMAT,
    Journal,
    pack_conversion,
    pack_stats,
    unpack_conversion,
    unpack_stats,
)
from exporter.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden"
HEADER = {"backfill": FORMAT, "account": "main", "from": "a", "to": "b"}
COUNTS = st.one_of(st.none(), st.just(INVALID), st.integers(0, 2**53))


def reopened(path: Path, header: dict[str, Any] = HEADER) -> list[dict[str, Any]]:
    """Return the records that another run finds."""
    journal = Journal(path, header)
    journal.close()
    return journal.records


def test_what_was_added_is_found_again(tmp_path: Path) -> None:
    """Records come back in their order, without the header."""
    journal = Journal(tmp_path / "j", HEADER)
    journal.add({"kind": "one"})
    journal.add({"kind": "two", "rows": [[1, None]]})
    journal.close()
    assert [{"kind": "one"}, {"kind": "two", "rows": [[1, None]]}] == reopened(tmp_path / "j")


@pytest.mark.parametrize("torn", [b"{", b'{"kind":"three"}', b"\xff"])
def test_a_torn_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    """The last line counts only with its end; what is added next begins on a line of its own."""
    path = tmp_path / "j"
    Journal(path, HEADER).close()
    path.write_bytes(path.read_bytes() + torn)
    journal = Journal(path, HEADER)
    journal.add({"kind": "next"})
    journal.close()
    assert [{"kind": "next"}] == reopened(path)


def test_what_belongs_to_something_else(tmp_path: Path) -> None:
    """A journal of other arguments, or of another format, is refused and left alone."""
    path = tmp_path / "j"
    Journal(path, HEADER).close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="--to was b"):
        Journal(path, {**HEADER, "to": "c"})
    assert before == path.read_bytes()
    path.write_bytes(before.replace(b'"backfill":2', b'"backfill":3'))
    with pytest.raises(ConfigError, match="another version"):
        Journal(path, HEADER)


def test_a_line_that_was_refused_leaves_nothing(tmp_path: Path) -> None:
    """A full disk is an OSError, and the file is as before."""
    journal = Journal(tmp_path / "j", HEADER)
    with open("/dev/full", "r+b", buffering=0) as full:  # noqa: PTH123 - unbuffered, as the journal's own
        journal._file, own = full, journal._file
        with pytest.raises(OSError, match="No space left"):
            journal.add({"kind": "one"})
    journal._file = own
    journal.close()
    assert [] == reopened(tmp_path / "j")


@given(st.lists(COUNTS, min_size=len(COUNTER_FIELDS), max_size=len(COUNTER_FIELDS)))
def test_rows_of_statistics_survive(values: list[Any]) -> None:
    """What is packed comes back as it was, unreadable values too."""
    row = MessageStats(7, "email", 1.5, "title", Counts._make(values))
    assert row == unpack_stats(pack_stats(row))


@given(COUNTS, st.one_of(st.none(), st.just(INVALID), st.decimals(0, 10**9, places=2)), COUNTS)
def test_rows_of_conversions_survive(deposits: Any, amount: Any, users: Any) -> None:  # noqa: ANN401
    """Amounts keep every digit."""
    row = Conversion(7, "sms", 1.0, None, "t", "name", "Opened", "1 day", deposits, amount, users)
    again = unpack_conversion(pack_conversion(row))
    assert row == again
    if isinstance(amount, Decimal):
        assert str(amount) == str(again.amount)


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_journals_of_0_1_0_are_read(name: str) -> None:
    """Every row that 0.1.0 wrote comes back with its values under their names; fields since then have none."""
    lines = (GOLDEN / f"journal-0.1.0-{name}.jsonl").read_text().splitlines()
    rows = [
        _by_name(record["endpoint"], packed)
        for record in map(json.loads, lines[1:])
        for packed in record.get("rows", ())
    ]
    expected = json.loads((GOLDEN / f"journal-0.1.0-{name}.json").read_text())
    for row in expected:
        if "counts" in row:
            row["counts"] = dict.fromkeys(COUNTER_FIELDS) | row["counts"]
    assert expected == rows


def _by_name(resource: str, packed: list[Any]) -> dict[str, Any]:
    """Return a row as plain values by name."""
    if resource == STATISTICS:
        row = unpack_stats(packed)
        counts = {name: _plain(count) for name, count in zip(COUNTER_FIELDS, row.counts, strict=True)}
        return {
            "campaign_id": row.campaign_id,
            "channel": row.channel,
            "start": row.start,
            "title": row.title,
            "counts": counts,
        }
    conversion = unpack_conversion(packed)
    return {name: _plain(getattr(conversion, name)) for name in Conversion.__slots__}


def _plain(value: Any) -> Any:  # noqa: ANN401
    return "invalid" if value is INVALID else str(value) if isinstance(value, Decimal) else value


def test_a_journal_of_0_1_0_is_gone_on_with(tmp_path: Path) -> None:
    """What is added to a journal of 0.1.0 stands beside its records, and both are read."""
    path = tmp_path / "j"
    path.write_bytes((GOLDEN / "journal-0.1.0-interrupted.jsonl").read_bytes())
    header = json.loads(path.read_text().splitlines()[0]) | {"backfill": FORMAT}
    journal = Journal(path, header)
    row = MessageStats(7, "email", 1.5, "title", Counts._make([INVALID] * len(COUNTER_FIELDS)))
    journal.add({"kind": "starts", "rows": [pack_stats(row)]})
    journal.close()
    assert row == unpack_stats(reopened(path, header)[-1]["rows"][0])
