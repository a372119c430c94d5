"""What a release hangs together by: one address, one version, one list of checks."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch

import yaml

from tests.deploy._objects import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
URLS = PYPROJECT["project"]["urls"]
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/intarget-exporter\b[^\s\"'<>)\]#]*")
FOLDERS = ("deploy", "docs", "exporter", "grafana")
BINARY = {".pyc", ".png"}


def test_repository_has_one_address() -> None:
    """Every mention of the project's repository is of the one in pyproject.toml."""
    files = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".yaml"}]
    for folder in FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in BINARY]
    found = {address for path in files for address in ADDRESS.findall(path.read_text(encoding="utf-8"))}
    assert all(f"{address}/".startswith(f"{URLS['Repository']}/") for address in found)
    assert {URLS["Runbook"]} == {address for address in found if "runbook" in address}


def test_addresses_are_of_files_that_exist() -> None:
    """What the links name is in the tree."""
    for url in URLS.values():
        _, _, path = url.partition("/blob/main/")
        assert (ROOT / path).exists()


def test_image_gets_all_that_the_wheel_is_made_of() -> None:
    """.dockerignore lets through every file that the build names."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.removeprefix("!") for line in lines if line.startswith("!")]
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    named = [*wheel["packages"], *wheel["force-include"], PYPROJECT["project"]["readme"], "pyproject.toml"]
    assert [] == [name for name in named if not any(fnmatch(name, pattern) for pattern in patterns)]


def test_hosted_ci_runs_what_everybody_runs() -> None:
    """The hosted checks are .ci/run and nothing else, with no right but to read."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert ".ci/run" == job["steps"][-1]["run"]
    assert {"contents": "read"} == workflow["permissions"]


def test_recipe_names_what_is_there() -> None:
    """The commands and files of the release recipe exist."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = text.partition("## Release")[2].partition("\n## ")[0]
    paths = set(re.findall(r"(?:deploy|\.ci)/[\w./-]+\w", recipe))
    assert {"deploy/lock", "deploy/requirements.txt", "deploy/helm/intarget-exporter"} <= paths
    assert all((ROOT / path).exists() for path in paths)
