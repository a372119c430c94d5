"""What is installed: version, files, script, dependencies; and what the project says of itself."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

import exporter
from exporter import shipped

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SEMVER = r"\d+\.\d+\.\d+"


@pytest.fixture(scope="module")
def wheel() -> metadata.Distribution:
    """Return the distribution, installed from a wheel; `tests/run fast` installs the tree, which CI may not."""
    try:
        found = metadata.distribution("intarget-exporter")
    except metadata.PackageNotFoundError:
        pytest.skip("intarget-exporter is not installed: tests/run does it")
    if (ROOT / "exporter").samefile(Path(exporter.__file__).parent):
        pytest.skip("the tree is installed, and no wheel: tests/run does it")
    return found


def test_the_installed_package_is_tested(wheel: metadata.Distribution) -> None:
    """The package under test is the one that the metadata are of."""
    assert Path(str(wheel.locate_file("exporter"))) == Path(exporter.__file__).parent


def test_version_has_one_source(wheel: metadata.Distribution) -> None:
    """The metadata's version is the package's, which has three numbers."""
    assert exporter.__version__ == wheel.version
    assert re.fullmatch(SEMVER, exporter.__version__)
    assert "version" in PROJECT["dynamic"]


def test_changelog_begins_with_the_version() -> None:
    """The newest dated entry is the version's; entries are in order, each once."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(rf"^## \[({SEMVER})\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert exporter.__version__ == versions[0]
    assert sorted(set(numbers), reverse=True) == numbers


def test_wheel_has_what_it_needs_and_no_more(wheel: metadata.Distribution) -> None:
    """Every file of the package, such as modules, schema and templates, and the licence; nothing else."""
    ours = [file for file in wheel.files or () if file.suffix != ".pyc"]
    inside = {str(file) for file in ours if file.parts[0] == "exporter"}
    tree = {
        str(PurePosixPath(path.relative_to(ROOT)))
        for path in (ROOT / "exporter").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    info = {file.parts[0] for file in ours if file.parts[0].endswith(".dist-info")}
    printed = {file for file in inside if file.startswith("exporter/files/")}
    assert tree == inside - printed
    assert sum(len(shipped.files(kind)) for kind in shipped.KINDS if kind != "schema") == len(printed)
    assert {"exporter/py.typed", "exporter/config/schema.json"} < inside
    assert 1 == len(info)
    assert {"exporter", "..", *info} == {file.parts[0] for file in ours}, ".. is the script"
    assert "LICENSE" in {file.name for file in ours}


def test_console_script_tells_the_version() -> None:
    """The installed script runs."""
    script = shutil.which("intarget-exporter", path=sysconfig.get_path("scripts"))
    assert script is not None
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert exporter.__version__ in done.stdout
    assert "" == done.stderr


def test_metadata(wheel: metadata.Distribution) -> None:
    """What a package index shows: the readme as Markdown, the licence, the Pythons, types."""
    about = wheel.metadata
    classifiers = about.get_all("Classifier") or []
    pythons = [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert "text/markdown" == about["Description-Content-Type"]
    assert (ROOT / "README.md").read_text().strip() == about.get_payload().strip()
    assert "Apache-2.0" == about["License-Expression"]
    assert f">={pythons[0]}" == about["Requires-Python"]
    assert ["3.11", "3.12", "3.13", "3.14"] == pythons
    assert "Typing :: Typed" in classifiers
    assert len(set(classifiers)) == len(classifiers)


def test_readme_renders() -> None:
    """Its pictures are in the tree, and fences are closed."""
    readme = (ROOT / "README.md").read_text()
    images = re.findall(r"!\[[^\]]*\]\(([^)\s]+)", readme) + re.findall(r"<img[^>]+src=\"([^\"]+)", readme)
    assert 0 == len(re.findall(r"^\s*```", readme, re.MULTILINE)) % 2
    assert [] == [image for image in images if not (ROOT / image).exists()]
    assert readme.startswith("# ")


def _requirement(line: str) -> str:
    """Return the name of a requirement."""
    return re.split(r"[<>=!~;\[ ]", line)[0].lower()


def test_every_dependency_has_a_reason() -> None:
    """Each line of a requirement ends with a comment that says what it is for, or its name does."""
    self_evident = {"mypy", "pytest", "ruff", "types-pyyaml", "types-requests", "types-tqdm"}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    text = (ROOT / "pyproject.toml").read_text()
    commented = set(re.findall(r'^  "([^"]+)", +# \w', text, re.MULTILINE))
    assert [] == [line for line in wanted if line not in commented and _requirement(line) not in self_evident]


def test_every_dependency_is_used_and_declared() -> None:
    """The package imports each declared dependency, and no third-party module that isn't declared."""
    names = map(_requirement, PROJECT["dependencies"])
    declared = {"yaml" if name == "pyyaml" else name.replace("-", "_") for name in names}
    used = set()
    for path in (ROOT / "exporter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module.split(".")[0])
    third_party = used - set(sys.stdlib_module_names) - {"exporter"}
    # pydantic_core is pydantic's own, in its exact version; typing_extensions is imported for mypy alone
    assert declared == third_party - {"pydantic_core", "typing_extensions"}
