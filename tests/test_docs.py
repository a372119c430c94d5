"""README and docs: every name, command, default and link in them is the program's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from exporter import cli
from exporter.config.loading import SETTABLE, load
from exporter.errors import REASONS
from exporter.exposition.catalogue import ALL_METRICS
from tests._tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[1]
GENERATED: Final = ("metrics", "flags", "configuration")
PAGES: Final = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXT: Final = "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.stem not in GENERATED)
FENCE: Final = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PROSE: Final = FENCE.sub("", TEXT)
PROGRAM: Final = "intarget-exporter"


def blocks(language: str) -> list[str]:
    """Return the fenced blocks in `language`."""
    return [text for name, text in FENCE.findall(TEXT) if name == language]


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
    assert rows, f"no page has a table {header}"
    return rows


def code(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


# Metrics


def test_text_names_only_metrics_that_exist() -> None:
    """Every word that looks like a metric is one, in prose as in queries."""
    names = set(re.findall(r"\bintarget_\w+", TEXT))
    samples = {name for metric in ALL_METRICS.values() for name in metric.sample_names}
    assert set() == names - samples - ALL_METRICS.keys()


# Commands


def shell_commands() -> Iterator[list[str]]:
    """Yield the words of each command in the shell blocks and in backquotes."""
    texts = blocks("sh") + [text for text in code(PROSE.replace("\n", " ")) if " " in text]
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
        cli.build_parser().parse_args(arguments)
    except SystemExit as end:
        return end.code
    return 0


def test_commands_parse(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command line of the exporter is one that its parser takes."""
    commands = exporter_commands()
    refused = [shlex.join(arguments) for arguments in commands if exit_code(arguments)]
    capsys.readouterr()
    assert [] == refused
    assert ["--demo"] in commands
    assert len(commands) >= 8, "the commands are no longer found"


def test_modules_that_are_run_exist() -> None:
    """Each `python -m` names a module of the tree."""
    named = re.findall(r"python3? -m\s+([\w.]+)", TEXT)
    paths = [ROOT / name.replace(".", "/") for name in named if name not in {"venv", "pip", "build"}]
    missing = [path for path in paths if not path.with_suffix(".py").exists() and not path.is_dir()]
    assert [] == missing


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


def test_configurations_load(tmp_path: Path) -> None:
    """Each configuration is one without fault or warning."""
    found = [text for text in blocks("yaml") if text.startswith("accounts:")]
    for text in found:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        assert () == load(path, environ={}).warnings
    assert found != []


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
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, check=False)
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


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings in a Markdown text."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files of the tree, and anchors headings."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


def test_files_in_the_text_exist() -> None:
    """What stands in backquotes as a path of the tree is one."""
    folders = ("deploy", "docs", "exporter", "grafana", "tests")
    paths = [text for text in code(PROSE) if re.fullmatch(rf"({'|'.join(folders)})/[\w./-]+", text)]
    assert [] == [path for path in paths if not (ROOT / path).exists()]


def test_addresses_are_those_of_the_stack() -> None:
    """The table of addresses has the published port of each service of compose.yaml."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    published = {port.rsplit(":", 2)[1] for service in services.values() for port in service["ports"]}
    listed = [re.findall(r"http://localhost:(\d+)", row[0]) for row in table("address", "look at")]
    assert [[port] for port in sorted(published)] == sorted(listed)
