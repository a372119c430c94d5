"""HTML from values: everything that isn't markup made here is escaped."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_VOID: Final = frozenset({"br", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML already. Only this module and constants make it."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"
"""Text to escape, markup to keep, several of these, or nothing."""


def clean(text: str) -> str:
    """Return `text` with what HTML can't hold (control characters, lone surrogates) replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def join(*children: Child) -> Markup:
    """Return `children` as one piece of markup."""
    return Markup("".join(_pieces(children)))


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Markup:
    """Return an element.

    Attribute names lose a trailing underscore (``class_``) and get hyphens for inner ones; True gives a bare
    attribute, None and False none.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(f" {attribute}" if value is True else f' {attribute}="{escape(clean(value))}"')
    parts.append(">")
    if name not in _VOID:
        parts.extend(_pieces(children))
        parts.append(f"</{name}>")
    return Markup("".join(parts))


def isolated(text: str, limit: int = 300) -> Markup:
    """Return a foreign text, cut at `limit` characters, that can't reorder what stands around it."""
    return tag("bdi", text if len(text) <= limit else text[: limit - 1] + "\u2026")


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield escape(clean(child))
        elif child is not None:
            yield from _pieces(child)
