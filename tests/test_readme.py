"""The README: every name, command, default and link in it is the program's."""

from __future__ import annotations

import argparse
import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from exporter import cli
from exporter.api.fields import COUNTER_FIELDS
from exporter.config.durations import format_duration
from exporter.config.loading import SERVING_VARIABLES, SETTABLE, load
from exporter.errors import REASONS
from exporter.exposition.catalogue import ALL_METRICS, CAMPAIGN_COUNTERS, CHANNEL_COUNTERS
from exporter.exposition.writer import MAX_LABEL_LENGTH
from exporter.web.routes import WebApp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE: Final = FENCE.sub("", README)
PROGRAM: Final = "intarget-exporter"


def blocks(language: str) -> list[str]:
    """Return the fenced blocks in `language`."""
    return [text for name, text in FENCE.findall(README) if name == language]


def table(*header: str) -> list[list[str]]:
    """Return the rows of all tables with this header."""
    rows: list[list[str]] = []
    inside = False
    for line in PROSE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells == list(header):
            inside = True
        elif not cells:
            inside = False
        elif inside and set("".join(cells)) != {"-"}:
            rows.append(cells)
    assert rows, f"the README has no table {header}"
    return rows


def code(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


# Metrics


def test_metrics_are_those_of_the_catalogue() -> None:
    """Every metric stands in exactly one table, and no other does."""
    counters = table("API field", "by campaign", "by channel", "meaning")
    others = table("metric", "type", "labels", "meaning")
    listed = [name for row in counters for cell in row[1:3] for name in code(cell)]
    listed += [name for row in others for name in code(row[0])]
    assert sorted(ALL_METRICS) == sorted(listed)


def test_counters_stand_beside_their_fields() -> None:
    """Each field of the API leads to its two counters, with their help."""
    expected = [
        [f"`{field}`", f"`{campaign.name}`", f"`{channel.name}`", campaign.help.partition(", by campaign")[0]]
        for field in COUNTER_FIELDS
        for campaign, channel in [(CAMPAIGN_COUNTERS[field], CHANNEL_COUNTERS[field])]
    ]
    assert expected == table("API field", "by campaign", "by channel", "meaning")


def test_other_metrics_are_described_as_in_the_catalogue() -> None:
    """Type, labels and help are those of the exposition."""
    for name, kind, labels, meaning in table("metric", "type", "labels", "meaning"):
        metric = ALL_METRICS[code(name)[0]]
        described = (metric.type, list(metric.labels), metric.help.removesuffix("."))
        assert described == (kind, code(labels), meaning)


def test_text_names_only_metrics_that_exist() -> None:
    """Every word that looks like a metric is one, in prose as in queries."""
    names = set(re.findall(r"\bintarget_\w+", README))
    samples = {name for metric in ALL_METRICS.values() for name in metric.sample_names}
    assert set() == names - samples - ALL_METRICS.keys()


def test_length_of_label_values() -> None:
    """The length at which label values are cut is the true one."""
    assert [str(MAX_LABEL_LENGTH)] == re.findall(r"cut at (\d+) characters", README)


# Commands


def shell_commands() -> Iterator[list[str]]:
    """Yield the words of each command in the shell blocks, in the unit and in backquotes."""
    texts = blocks("sh") + [text for text in code(PROSE.replace("\n", " ")) if " " in text]
    for unit in blocks("ini"):
        texts += re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    for text in texts:
        for command in re.split(r"&&|;|\n(?!\s)", text.replace("\\\n", " ")):
            words = shlex.split(command, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                yield words


def exporter_commands() -> list[list[str]]:
    """Return the arguments of each command that runs the exporter, also in a container."""
    found = []
    for words in shell_commands():
        if words[:2] == ["docker", "run"]:
            found.append(words[words.index(PROGRAM) + 1 :])
        elif Path(words[0]).name == PROGRAM:
            found.append(words[1:])
    return found


def exit_code(arguments: Sequence[str]) -> int | str | None:
    """Return the code with which the real parser ends; 0 if it takes the arguments."""
    try:
        cli._parser().parse_args(arguments)
    except SystemExit as end:
        return end.code
    return 0


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by name."""
    actions = cli._parser()._actions
    return dict(next(one for one in actions if isinstance(one, argparse._SubParsersAction)).choices)


def flags(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the parser's flags by their long names."""
    return {
        name: action for action in parser._actions for name in action.option_strings if name.startswith("--")
    }


def test_commands_parse(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command line of the exporter is one that its parser takes."""
    commands = exporter_commands()
    refused = [shlex.join(arguments) for arguments in commands if exit_code(arguments)]
    capsys.readouterr()
    assert [] == refused
    assert ["--demo"] in commands
    assert ["once"] in commands
    assert len(commands) >= 8, "the commands are no longer found"


def test_commands_are_all_there_and_no_others() -> None:
    """The table of commands has each command of the parser, and serving."""
    listed = [code(row[0])[0] for row in table("command", "does")]
    assert [PROGRAM, *(f"{PROGRAM} {name}" for name in subcommands())] == listed


def test_commands_are_described_with_flags_that_they_have() -> None:
    """A flag in a command's row is one of that command, whose own flags are all there."""
    general = set(flags(cli._parser())) - {"--scenario", "--web.listen-address"}
    for first, does in table("command", "does"):
        name = code(first)[0].removeprefix(PROGRAM).strip()
        mentioned = set(re.findall(r"--[a-z.-]+", does))
        own = set(flags(subcommands()[name])) if name else set()
        assert mentioned <= own, name
        assert own - general - mentioned <= {"--web.listen-address"}, name


def test_flags_are_all_there_and_no_others() -> None:
    """The table of flags has each flag of the serving command."""
    listed = [flag for row in table("flag", "default", "meaning") for flag in code(row[0])]
    assert sorted(flags(cli._parser())) == sorted(listed)


def test_flags_have_the_defaults_that_their_help_tells() -> None:
    """Where the help of a flag names a default, the table has the same."""
    actions = flags(cli._parser())
    told = 0
    for names, default, _meaning in table("flag", "default", "meaning"):
        for flag, value in zip(code(names), code(default), strict=False):
            match = re.search(r"\(default: ([^)]+)\)", actions[flag].help or "")
            assert match is not None, flag
            assert match[1] == value, flag
            told += 1
    assert told >= 7


def test_flags_can_be_set_in_the_environment_as_it_says() -> None:
    """All but the last four rows have a variable; the examples are variables that exist."""
    rows = table("flag", "default", "meaning")
    settable = [flag for row in rows[:-3] for flag in code(row[0])]
    variables = {"INTARGET_EXPORTER_" + re.sub(r"\W", "_", flag.strip("-")).upper() for flag in settable}
    assert SERVING_VARIABLES == variables
    assert [["--demo"], ["--scenario"], ["--version", "--help"]] == [code(row[0]) for row in rows[-3:]]
    named = set(re.findall(r"INTARGET_EXPORTER_[A-Z_]+", README))
    assert named <= variables | {f"INTARGET_EXPORTER_{key.replace('.', '_').upper()}" for key in SETTABLE}


def test_modules_that_are_run_exist() -> None:
    """Each `python -m` names a module of the tree."""
    named = re.findall(r"python3? -m\s+([\w.]+)", README)
    paths = [ROOT / name.replace(".", "/") for name in named if name not in {"venv", "pip"}]
    missing = [path for path in paths if not path.with_suffix(".py").exists() and not path.is_dir()]
    assert [] == missing
    assert paths != []


def test_setup_takes_two_commands() -> None:
    """The first block starts the demo from nothing, the second is the tests."""
    demo, tests, *_ = blocks("sh")
    assert 1 == len(demo.strip().splitlines())
    assert ["python3 -m venv .venv", ".venv/bin/pip install .", f".venv/bin/{PROGRAM} --demo"] == [
        part.strip() for part in demo.split("&&")
    ]
    assert "tests/run" == tests.strip()
    assert os.access(ROOT / "tests" / "run", os.X_OK)


# Pages, configuration, failures


def test_paths_are_those_that_are_served() -> None:
    """The table of paths has every route of the web application."""
    listed = {path for row in table("path", "shows") for path in code(row[0])}
    site: Any = type("Site", (), {"telemetry_path": "/metrics"})()
    assert set(WebApp(site)._routes) == listed


def test_configurations_load(tmp_path: Path) -> None:
    """Each configuration is one without fault or warning."""
    found = [text for text in blocks("yaml") if text.startswith("accounts:")]
    for text in found:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        assert () == load(path, environ={}).warnings
    assert found != []


def test_configuration_keys_have_their_defaults() -> None:
    """Each key of the table exists, with the default that it has there."""
    config = load(None, environ={"INTARGET_ACCESS_TOKEN": "t0ken"})
    for first, second, _when in table("key", "default", "change it when"):
        (key,), (default,) = code(first), code(second)
        value: Any = config
        for part in SETTABLE[key]:
            value = getattr(value, str(part))
        if isinstance(value, float) and not default.isdigit():
            value = format_duration(value)
        assert str(yaml.safe_load(default)) == str(int(value) if value == 2.0 else value), key


def test_keys_in_the_text_exist() -> None:
    """Every `section.key` in the prose is a key of the configuration."""
    sections = {key.partition(".")[0] for key in SETTABLE}
    named = {text for text in code(PROSE) if re.fullmatch(r"[a-z]+(\.[a-z_]+)+", text)}
    keys = {text for text in named if text.partition(".")[0] in sections}
    assert set() == keys - set(SETTABLE) - {"poll.refresh", "poll.still_sending"}
    assert keys != set()


def test_every_reason_of_a_failure_is_explained() -> None:
    """The table of failures has each value of the label `reason`, in the order of the exceptions."""
    assert [f"`{reason}`" for reason in REASONS] == [row[0] for row in table("reason", "means", "do")]


# Prometheus


def promtool(*arguments: str | Path) -> None:
    """Run promtool, which must find no fault."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_prometheus_takes_the_scrape_configuration(tmp_path: Path) -> None:
    """The configuration for Prometheus is right, and its rule files exist."""
    (text,) = [text for text in blocks("yaml") if text.startswith("scrape_configs:")]
    (tmp_path / "prometheus.yml").write_text(text, encoding="utf-8")
    (tmp_path / "grafana").symlink_to(ROOT / "grafana")
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_scrape_interval_is_short_enough() -> None:
    """Two scrapes fit into the hold of the default configuration."""
    (text,) = [text for text in blocks("yaml") if text.startswith("scrape_configs:")]
    scrape = yaml.safe_load(text)["scrape_configs"][0]["scrape_interval"]
    hold = load(None, environ={"INTARGET_ACCESS_TOKEN": "t0ken"}).metrics.zero_hold
    assert 2 * int(scrape.removesuffix("s")) <= hold


def test_queries_are_promql(tmp_path: Path) -> None:
    """Prometheus can read each query."""
    (text,) = blocks("promql")
    queries = [query for query in text.split("\n\n") if query.strip()]
    rules = [{"record": f"readme:query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "readme", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", path)


# Files


def test_unit_is_one_that_systemd_reads() -> None:
    """The unit has its three sections, and keeps the state where it works."""
    (text,) = blocks("ini")
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    assert ["Unit", "Service", "Install"] == unit.sections()
    assert f"/var/lib/{unit['Service']['StateDirectory']}" == unit["Service"]["WorkingDirectory"]


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings in a Markdown text."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    """Relative links name files of the tree, and anchors headings."""
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", PROSE) if "://" not in target]
    for target in targets:
        path, _, anchor = target.partition("#")
        file = ROOT / path if path else ROOT / "README.md"
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target
    assert len(targets) >= 8


def test_files_in_the_text_exist() -> None:
    """What stands in backquotes as a path of the tree is one."""
    folders = ("exporter", "grafana", "tests")
    paths = [text for text in code(PROSE) if re.fullmatch(rf"({'|'.join(folders)})/[\w./-]+", text)]
    assert [] == [path for path in paths if not (ROOT / path).exists()]
    assert paths != []


def test_addresses_are_those_of_the_stack() -> None:
    """The table of addresses has the published port of each service of compose.yaml."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    published = {port.rsplit(":", 2)[1] for service in services.values() for port in service["ports"]}
    listed = [re.findall(r"http://localhost:(\d+)", row[0]) for row in table("address", "look at")]
    assert [[port] for port in sorted(published)] == sorted(listed)


def test_readme_is_short_enough() -> None:
    """Somebody with ten minutes gets through it, tables aside."""
    text = re.sub(r"^\|.*$", "", PROSE, flags=re.MULTILINE)
    assert len(text.split()) <= 2200
