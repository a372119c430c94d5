"""What the tests take from Debian's archive without installing it: a base system, and a newer Prometheus."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intarget-exporter-tests"
LIFETIME = 7 * 86400
"""What is in the cache for more seconds is fetched anew, for its updates."""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class UnavailableError(Exception):
    """Debian's archive doesn't give it here; the text says why."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return what it prints. Raises UnavailableError with its complaints."""
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=cwd)
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed") from None
    if done.returncode:
        raise UnavailableError(
            f"{command[0]}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"[-4000:]
        )
    return done.stdout.strip()


def mirror() -> str | None:
    """Return the address of the machine's own Debian mirror, if it has one."""
    format_ = ("--format", "$(REPO_URI)", "Created-By: Packages", "Component: main")
    found = run("apt-get", "indextargets", *format_).split()
    return next((uri for uri in found if uri.rstrip("/").endswith("/debian")), None)


def cached(name: str) -> Path:
    """Return the place of a file in the cache; what is too old there is removed first."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / name
    if path.exists() and time.time() - path.stat().st_mtime > LIFETIME:
        path.unlink()
    return path


def base(suite: str) -> Path:
    """Return an archive of a minimal Debian, made once a week. Raises UnavailableError."""
    archive = cached(f"debian-{suite}.tar")
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            tree, packed = Path(name, "tree"), Path(name, "base.tar")
            source = mirror()
            run("debootstrap", "--variant=minbase", suite, tree, *([source] if source else []))
            leave_out = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")
            run("tar", "-C", tree, "-cf", packed, *(f"--exclude=./{path}/*" for path in leave_out), ".")
            packed.replace(archive)
    return archive


def from_testing(package: str) -> Path:
    """Return the program of the same name as its package, 3.x, from Debian's testing; fetched once a week.

    The package index is kept apart from the machine's, and the package is unpacked, not installed. Where it
    can't be had, or doesn't run here, the test that asks for it is expected to fail, also in CI: nobody can
    install it then.
    """
    try:
        return _from_testing(package)
    except UnavailableError as error:
        pytest.xfail(f"no {package} 3: {error}")


def _from_testing(package: str) -> Path:
    program = cached(f"{package}-3")
    if not program.exists():
        source = mirror()
        if source is None or not Path(KEYRING).exists():
            raise UnavailableError("this machine has no Debian mirror")
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            folder = Path(name)
            (folder / "lists" / "partial").mkdir(parents=True)
            (folder / "archives" / "partial").mkdir(parents=True)
            (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {source} testing main\n")
            options = {
                "Dir::Etc::sourcelist": folder / "sources.list",
                "Dir::Etc::sourceparts": "-",
                "Dir::State::lists": folder / "lists",
                "Dir::Cache": folder,
                "APT::Sandbox::User": "",
            }
            apt = ["apt-get", *(f"-o{key}={value}" for key, value in options.items())]
            run(*apt, "--quiet=2", "update")
            run(*apt, "--quiet=2", "download", package, cwd=folder)
            run("dpkg-deb", "--extract", next(folder.glob(f"{package}_*.deb")), folder / "root")
            found = folder / "root" / "usr" / "bin" / package
            version = run(found, "--version").split()[2]
            if not version.startswith("3."):
                raise UnavailableError(f"Debian's testing has {version}")
            shutil.copy(found, folder / "program")
            (folder / "program").replace(program)
    return program
