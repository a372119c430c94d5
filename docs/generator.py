"""Writes the reference pages of docs/ from the code: metrics, flags, configuration.

``python docs/generator.py`` writes them beside itself; CI compares them with what is committed.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter import cli
from exporter.api.fields import COUNTERS
from exporter.config.loading import SERVING_VARIABLES
from exporter.config.model import json_schema
from exporter.exposition.catalogue import (
    CAMPAIGN_COUNTERS,
    CAMPAIGN_METRICS,
    CHANNEL_COUNTERS,
    SELF_METRICS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.exposition.catalogue import Metric

COMMON = {"--help", "--config.file", "--log.level", "--log.format"}
FOLDER = Path(__file__).parent
NOTE = "<!-- Written by docs/generator.py: change the code that it reads, then run `make generate`. -->"


def main() -> None:
    """Write every page."""
    for name, lines in (("metrics", metrics()), ("flags", flags()), ("configuration", configuration())):
        text = "\n".join([NOTE, "", *lines]).rstrip()
        (FOLDER / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table and an empty line."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def code(*words: str) -> str:
    """Return words as code."""
    return ", ".join(f"`{word}`" for word in words)


# Metrics


def metrics() -> Iterator[str]:
    """Yield the page of all metrics."""
    yield "# Metrics"
    yield ""
    yield "What the counters promise, and how to query them: [counters.md](counters.md)."
    yield ""
    yield "## Counters, by campaign and by channel"
    yield ""
    campaign = next(iter(CAMPAIGN_COUNTERS.values()))
    channel = next(iter(CHANNEL_COUNTERS.values()))
    yield f"By campaign with the labels {code(*campaign.labels)}, by channel with {code(*channel.labels)}."
    yield ""
    yield from table(
        ("API field", "by campaign", "by channel", "meaning"),
        (
            (
                code(field.name),
                code(CAMPAIGN_COUNTERS[field.name].name),
                code(CHANNEL_COUNTERS[field.name].name),
                field.help,
            )
            for field in COUNTERS
        ),
    )
    counters = {metric.name for metric in (*CAMPAIGN_COUNTERS.values(), *CHANNEL_COUNTERS.values())}
    yield "## Of campaigns, channels and accounts"
    yield ""
    yield from _metric_table(metric for metric in CAMPAIGN_METRICS if metric.name not in counters)
    yield "## Of the exporter itself"
    yield ""
    yield "The client library adds metrics of the process (`process_…`, `python_…`)."
    yield ""
    yield from _metric_table(SELF_METRICS)


def _metric_table(metrics: Iterable[Metric]) -> Iterator[str]:
    yield from table(
        ("metric", "type", "labels", "meaning"),
        (
            (code(metric.name), metric.type, code(*metric.labels) or "none", metric.help.removesuffix("."))
            for metric in metrics
        ),
    )


# Flags


def flags() -> Iterator[str]:
    """Yield the page of all commands and their flags."""
    parser = cli.build_parser()
    yield "# Commands and flags"
    yield ""
    yield "A flag beats the environment, which beats the file. `--config.file`, `--log.level` and"
    yield "`--log.format` go with every command. Exit codes: 0 for success, 1 for a failure, 2 for a wrong"
    yield "flag or configuration."
    yield ""
    yield "## `intarget-exporter`"
    yield ""
    yield "Polls and serves until SIGTERM or SIGINT."
    yield ""
    yield from _flag_table(parser, with_variables=True)
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - as above
            for name, command in action.choices.items():
                yield f"## `intarget-exporter {name}`"
                yield ""
                yield f"{helps[name][:1].upper()}{helps[name][1:]}."
                yield ""
                yield from _flag_table(command, with_variables=False)


def _flag_table(parser: argparse.ArgumentParser, *, with_variables: bool) -> Iterator[str]:
    rows = []
    for action in parser._actions:  # noqa: SLF001 - as above
        names = [name for name in action.option_strings if name.startswith("--")]
        if names and action.help != argparse.SUPPRESS and (with_variables or names[0] not in COMMON):
            value = f"={action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
            if action.choices is not None:
                value = f"={'|'.join(map(str, action.choices))}"
            help_ = re.sub(r"\s+", " ", (action.help or "") % {"default": action.default, "prog": parser.prog})
            variable = _variable(names[0])
            row = [code(f"{names[0]}{value}"), help_]
            rows.append([*row, code(variable) if variable in SERVING_VARIABLES else ""][: 2 + with_variables])
    header = ("flag", "meaning", "environment")[: 2 + with_variables]
    return table(header, rows)


def _variable(flag: str) -> str:
    return "INTARGET_EXPORTER_" + re.sub(r"\W", "_", flag.strip("-")).upper()


# Configuration


def configuration() -> Iterator[str]:
    """Yield the page of all keys of the configuration file."""
    schema = json_schema()
    yield "# Configuration"
    yield ""
    yield "[config.example.yaml](../config.example.yaml) has every key with its default and what speaks"
    yield "for another value; [schema.json](../exporter/config/schema.json) is the JSON Schema, with which"
    yield "editors complete and check. Durations are `500ms`, `30s`, `5m`, `1h30m`, `14d`, `2w`. Outside"
    yield "of lists, every key can be set in the environment too: `poll.window` is"
    yield "`INTARGET_EXPORTER_POLL_WINDOW`."
    yield ""
    yield from table(("key", "default", "meaning"), _keys(schema, schema, ""))


def _keys(schema: Mapping[str, Any], model: Mapping[str, Any], prefix: str) -> Iterator[Sequence[str]]:
    for name, description in model["properties"].items():
        key = f"{prefix}{name}"
        item, many = _model_of(schema, description)
        if item is None or "default" in description:
            default = "" if "default" not in description else code(_default(description["default"]))
            yield (code(key), default, re.sub(r"\s+", " ", description.get("description", "")))
        if item is not None:
            yield from _keys(schema, item, f"{key}[]." if many else f"{key}.")


def _model_of(
    schema: Mapping[str, Any], description: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the model that a key holds, if any, and whether it is a list of them."""
    for one in (description, *description.get("anyOf", ())):
        many = one.get("type") == "array"
        reference = (one.get("items", {}) if many else one).get("$ref", "")
        if reference:
            found = schema["$defs"][reference.rpartition("/")[2]]
            if "properties" in found:
                return found, many
    return None, False


def _default(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return "see the example"
    return "null" if value is None else str(value)


if __name__ == "__main__":
    main()
