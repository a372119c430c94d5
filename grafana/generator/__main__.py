"""Write the dashboards, or with ``--check`` tell which files are not what the code says (exit code 1)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from grafana.generator import dashboards, render

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(__file__).parent.parent / "dashboards"


def differences(folder: Path) -> list[str]:
    """Return the names of files that are missing, differ, or are there without being generated."""
    wanted = {name: render(model) for name, model in dashboards().items()}
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(folder: Path) -> None:
    """Make the folder's JSON files what the code says."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: render(model) for name, model in dashboards().items()}
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m grafana.generator", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: grafana/dashboards")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.folder)
        return 0
    stale = differences(options.folder)
    for name in stale:
        sys.stderr.write(f"{options.folder / name} is not current: run python -m grafana.generator\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
