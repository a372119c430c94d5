"""The rule files as code: ``python -m grafana.generator.rules`` writes `grafana/rules/*.yaml` from `signals`.

    signals     the table: what is watched, limits, windows, texts
    thresholds  limits.yaml: every number that an alert compares with
    recording   recording.yaml: counts, ratios, bounds
    alerts      alerts.yaml

Here is what they are made of, and how it is written as YAML that people read.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER: Final = Path(__file__).parent.parent / "rules"
_WIDTH: Final = 118


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A recording rule, or an alert if it has `annotations`. `why` is the comment above it."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    wait: str | None = None
    keep: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules that are evaluated one after the other. `why` is the comment above it."""

    name: str
    rules: Sequence[Rule]
    interval: str = "1m"
    why: str = ""


def _comment(text: str, indent: int) -> list[str]:
    prefix = " " * indent + "# "
    return [f"{prefix}{line}" for line in textwrap.wrap(text, _WIDTH - len(prefix))]


def _scalar(text: str) -> str:
    """Return a YAML scalar: bare where nobody could misread it, else in double quotes."""
    plain = text.replace("_", "").replace("-", "").replace(" ", "").isalnum() and not text[0].isdigit()
    return text if plain else json.dumps(text, ensure_ascii=False)


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {_scalar(value)}" for name, value in labels.items()) + "}"


def _folded(name: str, text: str) -> list[str]:
    """Return a block scalar, one paragraph a line: what is one line here is one line in a notification."""
    lines = [f"          {name}: |-"]
    lines += [f"            {line}" for line in text.split("\n")]
    return lines


def _rule(rule: Rule) -> list[str]:
    kind = "alert" if rule.annotations else "record"
    lines = _comment(rule.why, 6)
    if rule.expr.startswith("vector("):
        labels = f"labels: {_labels(rule.labels)}, " if rule.labels else ""
        return [*lines, f"      - {{record: {rule.name}, {labels}expr: {rule.expr}}}"]
    lines.append(f"      - {kind}: {rule.name}")
    if not rule.annotations and rule.labels:
        lines.append(f"        labels: {_labels(rule.labels)}")
    if "\n" in rule.expr or rule.annotations:
        lines.append("        expr: |-")
        lines += [f"          {line}" for line in rule.expr.split("\n")]
    else:
        lines.append(f"        expr: {rule.expr}")
    if rule.wait:
        lines.append(f"        for: {rule.wait}")
    if rule.keep:
        lines.append(f"        keep_firing_for: {rule.keep}")
    if rule.annotations:
        lines.append(f"        labels: {_labels(rule.labels)}")
        lines.append("        annotations:")
        for name, text in rule.annotations.items():
            if name.endswith("_url"):
                lines.append(f"          {name}: '{text}'")
            else:
                lines += _folded(name, text)
    return lines


def render(header: str, groups: Sequence[Group]) -> str:
    """Return a rule file; `header` is the comment at its top, line by line."""
    lines = [f"# {line}".rstrip() for line in header.strip("\n").split("\n")]
    lines.append("groups:")
    for group in groups:
        lines += _comment(group.why, 2)
        lines += [f"  - name: {group.name}", f"    interval: {group.interval}", "    rules:"]
        for rule in group.rules:
            lines += _rule(rule)
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def rule_files() -> dict[str, str]:
    """Return every rule file's text by its name."""
    from grafana.generator import alerts, recording, thresholds  # noqa: PLC0415 (they are made of `Rule`)

    return {
        "limits.yaml": thresholds.text(),
        "recording.yaml": recording.text(),
        "alerts.yaml": alerts.text(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m grafana.generator.rules", description="Write the rules.")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: grafana/rules")
    options = parser.parse_args(arguments)
    stale = False
    for name, text in rule_files().items():
        path = options.folder / name
        if not options.check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{path} is not current: run python -m grafana.generator.rules\n")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
