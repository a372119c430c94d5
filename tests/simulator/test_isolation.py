"""What the simulator may know."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import exporter.simulator

FOLDER = Path(exporter.simulator.__file__).parent


def test_it_shares_no_code_with_the_exporter() -> None:
    """It imports the standard library and itself, so that it can't repeat a mistake of the client or parser."""
    imported = set()
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert 0 == node.level
                imported.add(node.module or "")
    foreign = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert foreign
    assert all(name.startswith("exporter.simulator.") for name in foreign)
