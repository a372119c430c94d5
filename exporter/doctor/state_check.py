"""What is found about the state file. Nothing is written to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.doctor.report import OK, PROBLEM, Finding, Findings
from exporter.errors import StateError
from exporter.tracking.database import holder
from exporter.tracking.state_file import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.config.model import Config


def examine_state(config: Config, wall: Callable[[], float]) -> tuple[State, Findings]:
    """Return a copy of the state, an empty one if it can't be read, and what was found about the file."""
    path = config.state.path
    if path is None:
        text = "none is kept (state.path: null); counters begin anew at every start"
        return State.open(None, clock=wall), (Finding("path", OK, text, values={"path": None}),)
    findings = [Finding("path", OK, str(path), values={"path": str(path)})]
    state: State | None = None
    try:
        exists = path.exists()
        if exists:
            state, content = _contents(path, config, wall)
            findings.append(content)
        else:
            findings.append(Finding("content", OK, "doesn't exist yet; the exporter begins it"))
        findings.append(_use(path, exists=exists))
    except OSError as error:
        text = (
            f"can't be looked at ({error.strerror}); run this as the exporter's user, fix the permissions of"
            " its directory and files, or choose another state.path"
        )
        findings.append(Finding("access", PROBLEM, text))
    return state or State.open(None, clock=wall), tuple(findings)


def _loaded(path: Path, config: Config, wall: Callable[[], float]) -> State:
    """Return a copy of the file from which every account can be loaded. Raises StateError, OSError."""
    state = State.open_readonly(path, clock=wall)
    try:
        for account in config.accounts:
            state.load(account.name, account.base_url)
    except StateError as error:
        state.close()
        raise StateError(f"state file {path}: {error}") from None
    return state


def _contents(path: Path, config: Config, wall: Callable[[], float]) -> tuple[State | None, Finding]:
    """Return a copy of the file, if it can be read, and what was found in it. Raises OSError."""
    journal = Path(f"{path}-wal")
    size = path.stat().st_size + (journal.stat().st_size if journal.exists() else 0)
    values = {"size_bytes": size}
    try:
        state = _loaded(path, config, wall)
    except StateError as error:
        return None, Finding("content", PROBLEM, str(error), values=values)
    text = f"readable, with the schema of this version, {_size(size)}"
    return state, Finding("content", OK, text, values=values)


def _use(path: Path, *, exists: bool) -> Finding:
    """Say whether a process has the file, or could begin to use it. Raises OSError."""
    pid = holder(path)
    if pid is not None:
        text = f"in use by the running exporter (pid {pid}), which is fine"
        return Finding("use", OK, text, values={"in_use": True, "pid": pid})
    folder = path.absolute().parent
    values = {"in_use": False, "writable": False}
    if not folder.is_dir():
        text = f"the directory {folder} doesn't exist; make it, or choose another state.path"
        return Finding("use", PROBLEM, text, values=values)
    if not os.access(folder, os.W_OK | os.X_OK) or (exists and not os.access(path, os.W_OK)):
        text = (
            f"this user may not write to it and its directory {folder}; run this as the exporter's user, mend"
            " their modes, or choose another state.path"
        )
        return Finding("use", PROBLEM, text, values=values)
    return Finding("use", OK, "free, and its directory is writable", values={**values, "writable": True})


def _size(count: int) -> str:
    return f"{count / 1024:.0f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"
