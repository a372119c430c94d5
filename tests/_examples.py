"""How many examples a property test takes: a few where nobody wants to wait."""

from __future__ import annotations

import os
from typing import Any, Final

from hypothesis import settings

_FEW: Final = 10


def examples(number: int, **others: Any) -> settings:  # noqa: ANN401 - as of hypothesis.settings
    """Return settings for so many examples, or for a few of them with HYPOTHESIS_PROFILE=fast."""
    if os.environ.get("HYPOTHESIS_PROFILE") == "fast":
        number = min(number, _FEW)
        others |= {"stateful_step_count": _FEW} if "stateful_step_count" in others else {}
    return settings(max_examples=number, **others)
