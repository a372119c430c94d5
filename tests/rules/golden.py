"""Write the texts that alerts really have into their unit tests.

``python -m tests.rules.golden grafana/rules/tests/*.yaml``: promtool compares annotations word for word. After
a change of a text, run this and read the diff: only lines ``exp_annotations`` of alerts whose labels are as
expected are touched.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

LABELS = re.compile(r"\s*- exp_labels: \{(.*)\}$")
Key: TypeAlias = tuple[str, int, frozenset[tuple[str, str]]]
"""Alert, time in seconds, labels."""
PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def _pairs(text: str) -> dict[str, str]:
    """Return the pairs of ``{name="value", …}`` as promtool prints them."""
    return {name: json.loads(f'"{value}"') for name, value in PAIR.findall(text)}


def _seconds(duration: str) -> int:
    """Return a duration such as ``1d2h`` or ``1570m`` in seconds: promtool prints ``1570m`` as ``1d2h10m``."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)([dhms])", duration))


def _expected(text: str) -> dict[str, str]:
    """Return the labels of the one-line YAML mapping `text`."""
    return {name: value.strip("\"'") for name, value in re.findall(r'(\w+): ("[^"]*"|[^,]+)', text)}


def _rendered(path: Path) -> dict[Key, dict[str, str]]:
    """Return the annotations that promtool got, by alert, time and labels."""
    run = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    got: dict[Key, dict[str, str]] = {}
    alert, time, labels, reading = "", 0, {}, False
    for line in (run.stdout + run.stderr).splitlines():
        if found := re.match(r"\s*alertname: ?(\w+), time: ?(\S+),", line):
            alert, time, reading = found[1], _seconds(found[2]), False
        elif line.strip().startswith("got:"):
            reading = True
        elif reading and line.strip().startswith("Labels:"):
            labels = _pairs(line)
            labels.pop("alertname")
        elif reading and line.strip().startswith("Annotations:"):
            got[alert, time, frozenset(labels.items())] = _pairs(line)
    return got


def update(path: Path) -> bool:
    """Rewrite `path` in place; return whether a text changed."""
    before = path.read_text()
    lines = [line for line in before.splitlines() if not line.strip().startswith("exp_annotations:")]
    path.write_text("\n".join(lines) + "\n")
    rendered = _rendered(path)
    result: list[str] = []
    alert, time = "", 0
    for line in lines:
        result.append(line)
        if found := re.match(r"\s*- eval_time: (\S+)$", line):
            time = _seconds(found[1])
        elif found := re.match(r"\s*alertname: (\w+)$", line):
            alert = found[1]
        elif found := LABELS.match(line):
            annotations = rendered.get((alert, time, frozenset(_expected(found[1]).items())))
            if annotations is not None:
                indent = " " * (line.index("-") + 2)
                result.append(f"{indent}exp_annotations: {json.dumps(annotations, ensure_ascii=False)}")
    path.write_text("\n".join(result) + "\n")
    return path.read_text() != before


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {'changed' if update(Path(name)) else 'as it was'}")
