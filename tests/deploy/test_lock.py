"""The locked versions: hashed, current, and naming nobody's package index."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy._objects import ROOT

PIN = re.compile(r"^([a-z0-9.-]+)==(\S+?)(?: ; (.+?))?(?: \\)?$", re.MULTILINE)
RUNTIME, BUILD = (ROOT / "deploy" / name for name in ("requirements.txt", "requirements-build.txt"))
UV = Path(sys.executable).with_name("uv")


def pins(path: Path) -> set[tuple[str, ...]]:
    """Return names, versions and markers of a lock."""
    return set(PIN.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [RUNTIME, BUILD])
def test_lock_has_hashes_and_no_address(path: Path) -> None:
    """Every version has a hash; where it was found is not said."""
    text = path.read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    assert all("--hash=sha256:" in entry for entry in entries if entry.strip())
    assert len(pins(path)) == sum(bool(entry.strip()) for entry in entries)
    assert "://" not in text
    assert "index-url" not in text


@pytest.mark.parametrize("path", [RUNTIME, BUILD])
def test_lock_is_current(path: Path, tmp_path: Path) -> None:
    """Resolving again, with these versions preferred, changes none: deploy/lock has been run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    source = project["project"]["dependencies"] if path == RUNTIME else project["build-system"]["requires"]
    (tmp_path / "wanted.in").write_text("\n".join(source))
    output = shutil.copy(path, tmp_path / path.name)
    done = subprocess.run(
        [
            *(UV, "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--no-annotate"),
            *("--no-header", f"--output-file={output}", tmp_path / "wanted.in"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert pins(path) == pins(Path(output))
