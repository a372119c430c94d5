"""Content negotiation, with what real scrapers send."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.exposition.negotiation import Format, accepts_gzip, choose_format

TEXT, OM, OM_DRAFT = Format.TEXT, Format.OPENMETRICS, Format.OPENMETRICS_0_0_1

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2_42_NATIVE_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    + PROMETHEUS_3
)
PROMETHEUS_3_TEXT_ONLY = (
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("expected", "accept"),
    [
        (TEXT, None),
        (TEXT, ""),
        (TEXT, "*/*"),
        (TEXT, FIREFOX),
        (OM, PROMETHEUS_2_42),
        (OM, PROMETHEUS_2_42_NATIVE_HISTOGRAMS),
        (OM, PROMETHEUS_3),
        (OM, PROMETHEUS_3_PROTOBUF_FIRST),
        (TEXT, PROMETHEUS_3_TEXT_ONLY),
        (TEXT, "text/plain;version=0.0.4"),
        (TEXT, "text/*"),
        (OM, "application/*"),
        (OM, "application/openmetrics-text"),
        (OM, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (OM, 'APPLICATION/OpenMetrics-Text ; Version="1.0.0" ; Q=0.5'),
        (OM_DRAFT, "application/openmetrics-text; version=0.0.1"),
        (OM, "application/openmetrics-text; version=0.0.1;q=0.5, application/openmetrics-text; version=1.0.0"),
        # An unknown version or charset is not taken.
        (TEXT, "application/openmetrics-text; version=2.0.0"),
        (TEXT, "application/openmetrics-text; version=1.0.0; charset=utf-16"),
        (TEXT, "application/openmetrics-text; version=2.0.0, text/plain; version=0.0.4; q=0.1"),
        (OM, "text/plain; version=1.0.0, application/openmetrics-text; version=1.0.0; q=0.1"),
        (TEXT, "text/plain; version=9, application/json"),
        # The highest q wins, then what is named, then what is named first.
        (TEXT, "application/openmetrics-text; version=1.0.0; q=0.4, text/plain; version=0.0.4; q=0.5"),
        (OM, "text/plain; version=0.0.4; q=0.499, application/openmetrics-text; version=1.0.0; q=0.5"),
        (OM, "application/openmetrics-text, text/plain; version=0.0.4"),
        (TEXT, "text/plain, application/openmetrics-text; version=1.0.0"),
        (OM, "*/*, application/openmetrics-text; version=1.0.0"),
        # The most specific range decides, and q=0 refuses.
        (TEXT, "application/openmetrics-text; version=1.0.0; q=0, */*"),
        (TEXT, "application/*; q=0, */*; q=0.1"),
        (OM, "text/plain; q=0, */*; q=0.1"),
        (OM, "text/*; q=0, */*; q=0.1"),
        (
            OM_DRAFT,
            "application/openmetrics-text; version=1.0.0; q=0, application/openmetrics-text, text/plain; q=0",
        ),
        (TEXT, "text/plain; q=0, application/openmetrics-text; q=0"),
        (TEXT, "application/openmetrics-text; q=0"),
        # Malformed elements are passed over.
        (TEXT, "application/openmetrics-text; version=1.0.0; q=high"),
        (TEXT, "application/openmetrics-text; q=1.5, application/openmetrics-text; q=-1"),
        (TEXT, "application/openmetrics-text; q=nan, text/plain; q=0.001"),
        (OM, ',, ; , =, "a,b;c" , application/openmetrics-text;version=1.0.0'),
        (TEXT, 'text/plain; note="a, application/openmetrics-text"; q=0.5'),
    ],
)
def test_format(expected: Format, accept: str | None) -> None:
    """The format is the one the header prefers, and text where it accepts none."""
    assert expected == choose_format(accept)


def test_content_types() -> None:
    """Content types are spelled exactly as scrapers compare them."""
    assert Format.TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert Format.OPENMETRICS.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert Format.OPENMETRICS_0_0_1.content_type == "application/openmetrics-text; version=0.0.1; charset=utf-8"


@pytest.mark.parametrize(
    ("expected", "accept_encoding"),
    [
        (False, None),
        (False, ""),
        (True, "gzip"),
        (True, "x-gzip"),
        (True, "GZip;q=0.5"),
        (True, "gzip, deflate, br, zstd"),
        (True, "*"),
        (True, "deflate, *;q=0.1"),
        (False, "identity"),
        (False, "deflate, br"),
        (False, "gzip;q=0"),
        (False, "gzip;q=0.0, *"),
        (False, "*;q=0"),
        (False, "identity, gzip;q=0.5"),
        (True, "identity;q=0.5, gzip"),
        (True, "identity, gzip"),
        (False, "gzip;q=yes"),
        (False, "notgzip"),
    ],
)
def test_gzip(expected: bool, accept_encoding: str | None) -> None:  # noqa: FBT001
    """Gzip is used only where the header accepts it."""
    assert expected == accepts_gzip(accept_encoding)


@given(st.text(st.sampled_from('*/;,="\\ q01.ab'), max_size=40))
@example("")
@example('"' * 10_000)
def test_any_header_is_read(header: str) -> None:
    """No header, however broken, is an error."""
    assert choose_format(header) in Format
    assert accepts_gzip(header) in (True, False)
