"""The files that are shipped beside the code: an example configuration, its schema, rules and dashboards.

The wheel has them in ``exporter/files/``; in a checkout they stand where they are worked on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent
_WHEEL: Final = _PACKAGE / "files"
_PLACES: Final = {
    "example-config": (_WHEEL, _PACKAGE.parent, "config.example.yaml"),
    "schema": (_PACKAGE / "config", _PACKAGE / "config", "schema.json"),
    "rules": (_WHEEL / "rules", _PACKAGE.parent / "grafana" / "rules", "*.yaml"),
    "dashboards": (_WHEEL / "dashboards", _PACKAGE.parent / "grafana" / "dashboards", "intarget-*.json"),
}

KINDS: Final = tuple(_PLACES)
"""What `files` knows."""


def files(kind: str) -> dict[str, str]:
    """Return the texts of the files of a kind by their names, which are in order."""
    wheel, checkout, pattern = _PLACES[kind]
    folder = wheel if wheel.is_dir() else checkout
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern))}


def one_text(kind: str) -> str | None:
    """Return a kind as one file: its only one, or all rules as one file of rules; None if it can't be one."""
    texts = list(files(kind).values())
    if kind == "rules":
        # Each has its comments, then its groups to the end.
        return texts[0] + "".join(text.partition("\ngroups:\n")[2] for text in texts[1:])
    return texts[0] if len(texts) == 1 else None
