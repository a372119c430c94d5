"""The container image: built from the Dockerfile by buildah, on a base made by debootstrap, and run."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

from exporter import __version__
from tests.deploy.test_lock import RUNTIME, pins
from tests.e2e._debian import UnavailableError, base, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
STOP_WITHIN = 5.0
UID = PORT = 10095
ANY_UID = 1_000_670_000
"""A user as OpenShift chooses them, who isn't in /etc/passwd."""
REVISION = "0123456789abcdef0123456789abcdef01234567"
COUNTER = "intarget_campaign_messages_sent_total"
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


def _run(*command: str | Path) -> str:
    """Run a command and return what it prints; its complaints are the failure's text."""
    try:
        return run(*command)
    except UnavailableError as error:
        pytest.fail(str(error))


NETWORK_SETTINGS = (
    "index-url",
    "extra-index-url",
    "proxy",
    "cert",
    "trusted-host",
    "default-timeout",
    "timeout",
)
"""Settings of pip that say how it reaches the package index; the others may name files of this machine."""


def _pip_files(folder: Path) -> list[str]:
    """Return the mounts that let pip in the build reach the index that it reaches here."""
    settings = {}
    for line in _run("pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        words = [word for word in value.strip("'\"").split() if not word.startswith("file:")]
        if words and name.rpartition(".")[2] in NETWORK_SETTINGS:
            settings[name.rpartition(".")[2]] = " ".join(words)
    mounts = []
    if certificates := settings.get("cert"):
        settings["cert"] = "/run/pip/certificates.pem"
        shutil.copy(certificates, folder / "certificates.pem")
        mounts.append(f"--volume={folder}:/run/pip:ro")
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    return [*mounts, f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro"]


class Image(NamedTuple):
    """The built image, a container of it, and its file system."""

    buildah: tuple[str, ...]
    config: dict[str, Any]
    size: int
    container: str
    root: Path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the image as the Dockerfile says and make a container of it."""
    missing = [name for name in ("buildah", "debootstrap", "unshare") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}")
    suite = re.search(r"^ARG BASE=(debian:(\w+)-slim)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert suite is not None
    folder = tmp_path_factory.mktemp("image")
    (folder / "pip").mkdir()
    store = f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"
    buildah = ("buildah", *store)
    try:
        scratch = _run(*buildah, "from", "scratch")
        _run(*buildah, "add", "--quiet", scratch, base(suite[2]), "/")
        _run(*buildah, "commit", "--quiet", "--rm", scratch, suite[1])
        options = ("--isolation=chroot", "--format=docker", "--pull-never", "--quiet")
        mounts = _pip_files(folder / "pip")
        arguments = (f"--build-arg=VERSION={__version__}", f"--build-arg=REVISION={REVISION}")
        _run(*buildah, "build", *options, *mounts, *arguments, "--tag=intarget-exporter", ROOT)
        about = json.loads(_run(*buildah, "images", "--json", "intarget-exporter"))[0]
        inspected = json.loads(_run(*buildah, "inspect", "--type=image", "intarget-exporter"))
        container = _run(*buildah, "from", "--pull-never", "intarget-exporter")
        root = Path(_run(*buildah, "mount", container))
        size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        print(f"image: {about['size']}, {size / 1e6:.0f} MB of files")
        yield Image(buildah, inspected["Docker"]["config"], size, container, root)
    finally:
        subprocess.run([*buildah, "rm", "--all"], check=False, capture_output=True)
        shutil.rmtree(folder)


def _eventually(what: str, look: Callable[[], T], output: list[str]) -> T:
    """Return what `look` finds, once it does; before the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"no {what} within {DEADLINE:.0f} s\n" + "".join(output)[-8000:])
        time.sleep(0.1)
    return found


def _children(pid: int) -> Iterator[int]:
    """Walk the processes below one."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _children(child)


def _exporter(above: int) -> int | None:
    """Return the process of the exporter, which is the one that runs Python."""
    for pid in _children(above):
        with suppress(OSError):
            if Path(f"/proc/{pid}/exe").readlink().name.startswith("python"):
                return pid
    return None


def _status(pid: int, name: str) -> list[str]:
    """Return the values of a field of a process's status."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return fields[name].split()


def _get(port: int, path: str) -> str:
    """Return the body of a page, empty as long as there is none."""
    with (
        suppress(OSError, http.client.HTTPException),
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection,
    ):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        return body if answer.status == http.HTTPStatus.OK else ""
    return ""


@contextmanager
def _running(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a command in the background; its output grows in the list."""
    output: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        lines = process.stdout
        assert lines is not None
        reader = threading.Thread(target=lambda: output.extend(lines))
        reader.start()
        try:
            yield process, output
        finally:
            with suppress(ProcessLookupError):
                for pid in [*_children(process.pid), process.pid]:
                    os.kill(pid, signal.SIGKILL)
            reader.join()


def _in_container(image: Image, *command: str) -> list[str]:
    """Return the command that runs another in the container, as the image's user, without its first process."""
    return [*image.buildah, "run", "--isolation=chroot", image.container, "--", *command]


def _as_first_process(image: Image, *command: str) -> list[str]:
    """Return the command that runs another as a container engine does: as process 1 of its own."""
    config = image.config
    return [
        *("unshare", "--pid", "--fork", "--kill-child"),
        *("chroot", f"--userspec={config['User']}", str(image.root)),
        *("env", "--ignore-environment", f"--chdir={config['WorkingDir']}", *config["Env"]),
        *command,
    ]


def _as_any_user(image: Image, *command: str) -> list[str]:
    """Return the command that runs another as OpenShift does, and as hardened as it can be.

    The user has any number and group 0, no capabilities and no way to get some; of the file system only the
    state's directory and /tmp can be written.
    """
    config, root = image.config, str(image.root)
    mounts = [
        'mount --bind "$0" "$0"',
        f'mount --bind "$0{config["WorkingDir"]}" "$0{config["WorkingDir"]}"',
        'mount -o remount,bind,ro "$0"',
        'mount -t tmpfs tmpfs "$0/tmp"',
        'exec chroot "$0" "$@"',
    ]
    user = (f"--reuid={ANY_UID}", "--regid=0", "--clear-groups", "--bounding-set=-all", "--no-new-privs")
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", " && ".join(mounts), root),
        *("setpriv", *user, "--inh-caps=-all", "env", "--ignore-environment"),
        *(f"--chdir={config['WorkingDir']}", *config["Env"], *command),
    ]


@pytest.mark.parametrize(
    ("launch", "uid", "capabilities"),
    [(_in_container, UID, None), (_as_first_process, UID, None), (_as_any_user, ANY_UID, 0)],
)
def test_runs_and_stops(
    image: Image, launch: Callable[..., list[str]], uid: int, capabilities: int | None
) -> None:
    """The demo serves campaigns as a plain user, is healthy, and ends cleanly soon after SIGTERM."""
    command = launch(image, *image.config["Entrypoint"], "--demo", "--web.listen-address=127.0.0.1:0")
    with _running(command) as (process, output):
        listening = _eventually("listener", lambda: LISTENING.search("".join(output)), output)
        port = int(listening[1])
        _eventually("campaigns", lambda: f"{COUNTER}{{" in _get(port, "/metrics"), output)
        assert f'revision="{REVISION}"' in _get(port, "/metrics")
        pid = _exporter(process.pid)
        assert pid is not None
        health = [part.replace(str(PORT), str(port)) for part in image.config["Healthcheck"]["Test"][1:]]
        check = launch(image, *health)
        assert [str(uid)] * 4 == _status(pid, "Uid")
        assert (launch is not _in_container) == (_status(pid, "NSpid")[-1] == "1")
        if capabilities is not None:
            assert capabilities == int(_status(pid, "CapBnd")[0], 16)
            assert ["1"] == _status(pid, "NoNewPrivs")
        assert 0 == subprocess.run(check, check=False).returncode
        begun = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        assert 0 == process.wait(DEADLINE)
        assert time.monotonic() - begun < STOP_WITHIN
        assert 0 != subprocess.run(check, check=False, capture_output=True).returncode


def test_says_what_it_needs(image: Image) -> None:
    """The image's settings: a numeric user that isn't root, the port, the state's directory, the labels."""
    config = image.config
    assert f"{UID}:{UID}" == config["User"]
    assert ["intarget-exporter"] == config["Entrypoint"]
    assert {f"{PORT}/tcp": {}} == config["ExposedPorts"]
    assert {config["WorkingDir"]: {}} == config["Volumes"]
    assert __version__ == config["Labels"]["org.opencontainers.image.version"]
    assert REVISION == config["Labels"]["org.opencontainers.image.revision"]


def test_has_the_locked_versions(image: Image) -> None:
    """Of Python's packages there are the exporter and what is locked for this platform, and nothing else."""
    locked = {f"{name}=={version}" for name, version, marker in pins(RUNTIME) if "win32" not in marker}
    script = (
        "from importlib.metadata import distributions\n"
        "for d in distributions(): print(d.name.lower().replace('_', '-') + '==' + d.version)"
    )
    assert {*locked, f"intarget-exporter=={__version__}"} == set(
        _run(*_in_container(image, "/opt/intarget-exporter/bin/python", "-c", script)).split()
    )


@pytest.mark.parametrize("launch", [_in_container, _as_any_user])
def test_may_write_its_state_and_nothing_else(image: Image, launch: Callable[..., list[str]]) -> None:
    """The user can make the state file in the working directory, and change nothing of the program."""
    places = ["intarget-exporter.db", "/opt/intarget-exporter/x", "/etc/x", "/x"]
    script = (
        "import os, sys\nfor place in sys.argv[1:]: print(os.access(os.path.dirname(place) or '.', os.W_OK))"
    )
    seen = _run(*launch(image, "python3", "-c", script, *places))
    assert ["True", "False", "False", "False"] == seen.split()


def test_is_small(image: Image) -> None:
    """No tools of the build are left in it, and it has less than 200 MB."""
    tools = ("pip", "pip3", "gcc", "cc", "git", "curl")
    leftovers = [*image.root.glob("var/lib/apt/lists/*_*"), *image.root.glob("src"), *image.root.glob("dist")]
    assert [] == [name for name in tools if list(image.root.glob(f"**/bin/{name}"))]
    assert [] == leftovers
    assert image.size < 200e6
