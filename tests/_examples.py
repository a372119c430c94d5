"""How many examples a test takes: a few in the fast lane, where nobody wants to wait."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_FAST: Final = os.environ.get("HYPOTHESIS_PROFILE") == "fast"
_FEW: Final = 5


def examples(number: int, **others: Any) -> settings:  # noqa: ANN401 - as of hypothesis.settings
    """Return settings for so many examples, or for a few of them in the fast lane."""
    if _FAST:
        number = min(number, _FEW)
        others |= {"stateful_step_count": _FEW} if "stateful_step_count" in others else {}
    return settings(max_examples=number, **others)


def some(cases: Sequence[T]) -> Sequence[T]:
    """Return all cases, or a few that are evenly spread over them in the fast lane."""
    return cases[:: max(1, len(cases) // _FEW)] if _FAST else cases
