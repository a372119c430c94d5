"""``python -m exporter``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import exporter


def test_module_is_the_command(tmp_path: Path) -> None:
    """The package runs as a module, as the command of the same name does."""
    env = os.environ | {"PYTHONPATH": str(Path(exporter.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "--version"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=env,
    )
    assert (0, f"intarget-exporter, version {exporter.__version__}\n") == (done.returncode, done.stdout)
