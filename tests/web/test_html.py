"""Escaping: no text becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.html import Markup, clean, isolated, join, tag


class _One(HTMLParser):
    """Collects what it sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.data += data


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="<>&\"'/=! -abscript;\x00\ud800\u202e", max_size=60),
)


@given(HOSTILE)
def test_a_child_stays_text(text: str) -> None:
    """A parser reads back exactly the text that went in, and no element but ours."""
    seen = _One(tag("p", text))
    assert [("p", [])] == seen.tags
    assert clean(text) == seen.data


@given(HOSTILE)
def test_an_attribute_stays_an_attribute(text: str) -> None:
    """A value can't end its attribute."""
    assert [("a", [("title", clean(text))])] == _One(tag("a", title=text)).tags


@given(HOSTILE)
def test_any_text_can_be_encoded(text: str) -> None:
    """Lone surrogates and control characters are replaced, so that the page is valid UTF-8."""
    data = tag("p", text).encode()
    assert b"\x00" not in data


def test_markup_is_kept() -> None:
    """What the helper made isn't escaped twice."""
    assert "<p><b>&lt;</b>x</p>" == tag("p", tag("b", "<"), "x")


def test_children_may_be_nested_and_absent() -> None:
    """Lists are flattened, None is nothing."""
    assert "a<br>b" == join(["a", None, [tag("br"), ["b"]]])


def test_attribute_names() -> None:
    """Underscores become hyphens; True is bare; None and False vanish."""
    expected = '<option aria-sort="x" class="c" selected>t</option>'
    actual = tag("option", "t", aria_sort="x", class_="c", selected=True, hidden=False, title=None)
    assert expected == actual


@pytest.mark.parametrize(("length", "shown"), [(10, 10), (11, 10)])
def test_isolated_cuts(length: int, shown: int) -> None:
    """A long text is cut, visibly."""
    text = isolated("x" * length, 10)
    assert isinstance(text, Markup)
    assert shown == len(text) - len("<bdi></bdi>")
    assert (length > shown) == text.endswith("\u2026</bdi>")
