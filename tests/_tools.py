"""Programs that tests start."""

from __future__ import annotations

import shutil

import pytest


def tool(name: str) -> str:
    """Return the path of a program; skip the test where it is missing, which CI doesn't allow."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing")
    return path
