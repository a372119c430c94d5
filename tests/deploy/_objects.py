"""Kubernetes objects as kustomize renders them, and what is asked of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests import _program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).parents[2]
KUSTOMIZE = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")

Json = dict[str, Any]


def kustomize(folder: Path) -> list[Json]:
    """Return what `kubectl kustomize` makes of a folder."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def overlay(
    folder: Path, *components: str, patches: Sequence[Json] = (), base: Path = KUSTOMIZE / "base"
) -> list[Json]:
    """Return the base with these components, and patches of the user's own, rendered in an empty folder."""

    def path(target: Path) -> str:
        return os.path.relpath(target, folder)

    model = {
        "resources": [path(base)],
        "components": [path(KUSTOMIZE / "components" / name) for name in components],
        "patches": [{"patch": yaml.safe_dump(patch)} for patch in patches],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(model))
    return kustomize(folder)


def of_kind(objects: Iterable[Json], kind: str) -> list[Json]:
    """Return the objects of one kind."""
    return [one for one in objects if one["kind"] == kind]


def the(objects: Iterable[Json], kind: str) -> Json:
    """Return the only object of a kind."""
    (found,) = of_kind(objects, kind)
    return found


def checked_config(objects: Iterable[Json], folder: Path) -> Json:
    """Return the exporter's configuration among the objects, which the exporter has found good."""
    (text,) = [
        one["data"]["config.yaml"] for one in of_kind(objects, "ConfigMap") if "config.yaml" in one["data"]
    ]
    path = folder / "config.yaml"
    path.write_text(text)
    done = _program.run("check-config", f"--config.file={path}", cwd=folder)
    assert (0, "OK\n") == (done.returncode, done.stdout), done.stderr
    found: Json = yaml.safe_load(text)
    return found


def is_generated(one: Json) -> bool:
    """Tell whether an object is made from the rules or dashboards, which change for other reasons."""
    return one["kind"] == "PrometheusRule" or "grafana_dashboard" in one["metadata"].get("labels", {})


def as_text(objects: Iterable[Json]) -> str:
    """Return objects as they are kept for comparison."""
    return yaml.safe_dump_all(objects, sort_keys=True, allow_unicode=True)
