"""Prometheus exporter for InTarget's campaign statistics."""

from importlib.resources import files
from typing import Final

__version__ = "0.1.0"

_REVISION: Final = files(__name__) / "REVISION"
__revision__: Final = _REVISION.read_text("ascii").strip() if _REVISION.is_file() else "unknown"
"""The commit that it was built from, which the release's recipe puts into the package."""
