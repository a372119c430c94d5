"""Grafana's own code over our dashboards: the process of `tests/grafana/judge.js`, and what it answers.

Its libraries interpolate variables, transform frames, apply overrides, format cells and fill links. Not
published, and so ours: the data source, how the model becomes a scene, and which options a panel's fields have.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests._tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Json = dict[str, Any]
SOURCES = Path(__file__).parents[1] / "grafana"
VERSIONS = tuple(sorted(path.parent.name for path in SOURCES.glob("*/package.json")))
"""Each has a folder with its lock."""
FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"
MODELS: dict[str, Json] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}


def bundle(version: str, what: str, folder: Path) -> Path:
    """Bundle the judge or the page with a version of Grafana's libraries into a folder; return its script."""
    if not (SOURCES / version / "node_modules").is_dir():
        pytest.skip(f"the libraries of Grafana {version} are missing: run npm ci in tests/grafana/{version}")
    script = folder / {"judge": "judge.cjs", "page": "page.js"}[what]
    done = subprocess.run(
        [tool("node"), SOURCES / "build.mjs", version, what, script],
        check=False,
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stderr
    return script


def iso(seconds: float) -> str:
    """Return a time as Grafana's URLs have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table's cell, or what a stat or a bar shows under `title`."""

    text: str
    colour: str | None
    links: tuple[str, ...]
    value: Any
    title: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel as it is displayed: columns of a table or names of series, and the figures of stats and bars."""

    title: str
    kind: str
    error: str | None
    columns: Mapping[str, Sequence[Cell]]
    figures: Sequence[Cell]

    @property
    def rows(self) -> list[dict[str, Cell]]:
        """The rows of a table, by heading."""
        return [
            dict(zip(self.columns, cells, strict=True)) for cells in zip(*self.columns.values(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Answer:
    """A dashboard as it is displayed: panels and variables by name, queries, annotations."""

    panels: Mapping[str, Panel]
    variables: Mapping[str, Json]
    asked: Sequence[Json]
    annotations: Sequence[Json]

    @property
    def empty(self) -> set[str]:
        """The titles of panels none of whose queries had a series."""
        return set(self.panels) - {query["panel"] for query in self.asked if query["series"]}


class Judge:
    """The running judge of one version over one Prometheus; a context manager."""

    def __init__(self, version: str, script: Path, prometheus: str, scrape: int) -> None:
        environment = {**os.environ, "NODE_PATH": str(SOURCES / version / "node_modules")}
        self._process = subprocess.Popen(
            [tool("node"), script, version, prometheus, str(scrape)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def show(
        self,
        uid: str,
        begin: float,
        end: float,
        *,
        only: Sequence[str] | None = None,
        **chosen: str | list[str],
    ) -> Answer:
        """Return a dashboard over a time range, with what is chosen, or only the panels of these titles."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"model": MODELS[uid], "from": iso(begin), "to": iso(end), "chosen": chosen, "only": only}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "failed" not in answer, answer["failed"]
        variables = {variable["name"]: variable for variable in answer["variables"]}
        return Answer(
            {panel["title"]: _panel(panel) for panel in answer["panels"]},
            variables,
            answer["asked"],
            answer["annotations"],
        )


def _cell(model: Json) -> Cell:
    links = tuple(model.get("links") or ())
    return Cell(model["text"], model.get("colour"), links, model.get("value"), model.get("title") or "")


def _panel(model: Json) -> Panel:
    fields = [
        field
        for frame in model["frames"]
        for field in frame
        if model["type"] == "table" or field["type"] != "time"
    ]
    columns = {field["heading"]: [_cell(cell) for cell in field["cells"]] for field in fields}
    return Panel(
        model["title"],
        model["type"],
        model.get("error"),
        columns,
        [_cell(one) for one in model.get("stats") or ()],
    )


def panels(model: Json) -> Iterator[Json]:
    """Yield every panel but the rows' headings."""
    for panel in model["panels"]:
        yield from (one for one in (panel, *panel.get("panels", ())) if one["type"] not in ("row", "text"))
