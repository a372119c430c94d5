"""The modules keep to their places: who may import whom, who may read the clock, who has tests."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"

# A row says which parts of the package one part may import, for type checking too. A part is a module or, for
# `web` and `simulator`, a subpackage. "exporter" is the package itself: its version.
_ANSWERS = {"api", "errors", "evidence", "paging", "parse", "ranges", "records"}
_POLLING = _ANSWERS | {"config", "exposition", "logs", "schedule", "state", "window"}
MAY_IMPORT: dict[str, set[str]] = {
    "exporter": set(),
    "errors": {"records"},
    "records": {"errors"},
    "logs": set(),
    "config": {"errors", "logs"},
    "api": {"config", "errors", "exporter", "records"},
    "ranges": {"records"},
    "schedule": {"ranges", "records"},
    "evidence": {"ranges", "records"},
    "paging": {"errors", "evidence", "ranges", "records"},
    "parse": {"errors", "records"},
    "counters": {"records"},
    "window": {"counters", "records"},
    "state": {"errors", "records"},
    "catalogue": {"records"},
    "negotiation": set(),
    "writer": {"catalogue", "records"},
    "exposition": {"catalogue", "errors", "exporter", "negotiation", "records", "writer"},
    "web": {"errors", "exporter", "records"},
    "simulator": set(),
    "poller": _POLLING,
    "app": _POLLING | {"exporter", "poller", "simulator", "web"},
    "doctor": {
        "api",
        "config",
        "errors",
        "evidence",
        "exporter",
        "exposition",
        "logs",
        "poller",
        "records",
        "state",
    },
    "journal": {"errors", "records"},
    "history": {"catalogue", "config", "evidence", "journal", "ranges", "records", "writer"},
    "backfill": _ANSWERS | {"config", "history", "journal", "logs"},
    "cli": _POLLING | {"app", "backfill", "doctor", "exporter", "poller", "simulator", "web"},
}

# Modules with effects or time in them, and the only parts that may import them. Third-party ones are all here.
ONLY_IN: dict[str, set[str]] = {
    "apscheduler": {"app"},
    "bcrypt": {"web"},
    "hypercorn": {"web"},
    "prometheus_client": {"exposition"},
    "pydantic": {"config"},
    "pydantic_core": {"config"},
    "requests": {"api"},
    "tqdm": {"backfill"},
    "urllib3": {"api"},
    "yaml": {"config", "web"},
    "argparse": {"cli"},
    "asyncio": {"app", "cli", "web"},
    "http.client": {"api"},
    "http.server": {"simulator"},
    "signal": {"app", "cli"},
    "sqlite3": {"state"},
    "subprocess": set(),
    "time": {"api", "app", "cli"},
    "urllib.request": set(),
}

# These only compute: no I/O, no threads of their own, no clock.
PURE = {
    "catalogue",
    "counters",
    "errors",
    "evidence",
    "negotiation",
    "paging",
    "parse",
    "ranges",
    "records",
    "schedule",
    "window",
    "writer",
}
EFFECTS = {
    "asyncio",
    "datetime",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "sqlite3",
    "threading",
    "time",
}

CLOCKS = {
    ("date", "today"),
    ("datetime", "now"),
    ("datetime", "today"),
    ("datetime", "utcnow"),
    ("time", "monotonic"),
    ("time", "monotonic_ns"),
    ("time", "perf_counter"),
    ("time", "sleep"),
    ("time", "time"),
    ("time", "time_ns"),
}
READS_THE_CLOCK = {"app", "cli"}
DEFAULTS_TO_THE_CLOCK = {"api"}
"""Has clocks as default values of arguments, and calls only these arguments."""

TESTED_ELSEWHERE = {
    "web.site": "protocols only; test_web_asgi has them implemented",
    "web.style": "constants; a browser judges them in e2e/test_status_page",
    "simulator.faults": "test_service has each of them happen",
    "simulator.scenarios": "test_plan and test_service run them",
    "simulator.texts": "texts only; test_plan draws from them",
}


class Module(NamedTuple):
    """One source file: its name below `exporter` (that itself for the package), part and syntax tree."""

    name: str
    part: str
    tree: ast.Module


def modules() -> Iterator[Module]:
    """Read every module of the package."""
    for path in sorted((ROOT / "exporter").rglob("*.py")):
        names = path.relative_to(ROOT / "exporter").with_suffix("").parts
        if names[-1] == "__init__":
            names = names[:-1]
        name = ".".join(names) or "exporter"
        yield Module(name, name.split(".")[0], ast.parse(path.read_text(encoding="utf-8")))


MODULES = list(modules())
NAMES = {module.name for module in MODULES}
EACH = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def imported(tree: ast.Module) -> set[str]:
    """Return the dotted names that are imported anywhere, those of `from` imports with what they import."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, "absolute imports only: the table is read by names"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(tree: ast.Module, names: set[str]) -> set[str]:
    """Return which modules of the package are imported, by their names below it."""
    found = set()
    for full in imported(tree):
        if full == "exporter" or full.startswith("exporter."):
            name = full.removeprefix("exporter").removeprefix(".")
            while name and name not in names:
                name = name.rpartition(".")[0]
            found.add(name or "exporter")
    return found


def foreign(tree: ast.Module) -> set[str]:
    """Return every prefix of the imported names that aren't the package's own."""
    found = set()
    for full in imported(tree):
        names = full.split(".")
        if names[0] != "exporter":
            found |= {".".join(names[: end + 1]) for end in range(len(names))}
    return found


def clocks(tree: ast.Module) -> dict[tuple[str, str], int]:
    """Count the mentions of clocks outside the defaults of arguments."""
    defaults = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            given = [*node.defaults, *(default for default in node.kw_defaults if default is not None)]
            defaults |= {id(inner) for default in given for inner in ast.walk(default)}
    count: dict[tuple[str, str], int] = defaultdict(int)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in defaults:
            base = node.value
            owner = (
                base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
            )
            if (owner, node.attr) in CLOCKS:
                count[owner, node.attr] += 1
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if ("time", alias.name) in CLOCKS:
                    count["time", alias.name] += 1
    return count


def graph() -> dict[str, set[str]]:
    """Return who imports whom, by module; a subpackage's own `__init__` counts as a module."""
    return {module.name: own(module.tree, NAMES) - {module.name} for module in MODULES}


def below(parts: Mapping[str, set[str]], start: str) -> set[str]:
    """Return everything that `start` may reach in the table."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for part in parts[waiting.pop()] - seen:
            seen.add(part)
            waiting.append(part)
    return seen


def test_scanner_finds_every_form_of_import() -> None:
    """Plain, aliased, nested, for type checking: all are seen, and named to the module."""
    tree = ast.parse(
        "import exporter.api as a\n"
        "from exporter import __version__, window\n"
        "from exporter.web.site import Site\n"
        "def f():\n    import sqlite3\n"
        "if TYPE_CHECKING:\n    from http.client import HTTPConnection\n"
    )
    assert {"api", "exporter", "window", "web.site"} == own(tree, {"api", "window", "web", "web.site"})
    assert {"sqlite3", "http", "http.client", "http.client.HTTPConnection"} == foreign(tree)


def test_scanner_finds_every_form_of_clock() -> None:
    """Calls and bare mentions count, imported names too; defaults of arguments don't."""
    tree = ast.parse(
        "from time import sleep\n"
        "def f(now=time.time, *, wait=time.sleep): return time.monotonic()\n"
        "x = datetime.datetime.now\n"
    )
    assert {("time", "sleep"): 1, ("time", "monotonic"): 1, ("datetime", "now"): 1} == clocks(tree)


@EACH
def test_imports_only_what_the_table_allows(module: Module) -> None:
    """A part imports other parts only by its row."""
    assert module.part in MAY_IMPORT, f"give {module.part} a row in MAY_IMPORT"
    parts = {name.split(".")[0] for name in own(module.tree, NAMES)} - {module.part}
    assert set() == parts - MAY_IMPORT[module.part]


@EACH
def test_effects_have_one_home(module: Module) -> None:
    """The scheduler, HTTP, SQLite, processes and the rest are imported only where they belong."""
    names = foreign(module.tree)
    assert set() == {name for name in ONLY_IN if name in names and module.part not in ONLY_IN[name]}


@EACH
def test_third_party_modules_have_a_home(module: Module) -> None:
    """Whatever isn't in the standard library has a row in ONLY_IN."""
    tops = {name.split(".")[0] for name in foreign(module.tree)}
    assert set() == tops - set(sys.stdlib_module_names) - set(ONLY_IN)


@EACH
def test_pure_modules_have_no_effects(module: Module) -> None:
    """What only computes imports nothing that could do I/O, read a clock or draw lots."""
    names = foreign(module.tree) if module.part in PURE else set()
    opened = [
        node for node in ast.walk(module.tree) if isinstance(node, ast.Name) and node.id in {"open", "print"}
    ]
    assert set() == names & EFFECTS
    assert [] == (opened if module.part in PURE else [])


@EACH
def test_time_is_an_argument(module: Module) -> None:
    """Only app and cli read clocks or sleep; api may have clocks as default arguments."""
    if module.part in READS_THE_CLOCK:
        return
    assert {} == clocks(module.tree)
    if module.part not in DEFAULTS_TO_THE_CLOCK:
        assert "time" not in foreign(module.tree)


@EACH
def test_has_a_mirrored_test_module(module: Module) -> None:
    """x.py is tested in test_x.py or test_x_*.py, web/x.py in test_web_x.py, simulator/x.py in simulator/."""
    if module.name in {"exporter", "web", "simulator", *TESTED_ELSEWHERE}:
        return
    folder = TESTS / "simulator" if module.part == "simulator" else TESTS
    stem = "test_" + module.name.removeprefix("simulator.").replace(".", "_")
    assert [] != [*folder.glob(f"{stem}.py"), *folder.glob(f"{stem}_*.py")]


def test_no_import_cycles() -> None:
    """The modules can be put in an order, also with the imports for type checking."""
    order = list(TopologicalSorter(graph()).static_order())
    assert NAMES == set(order)


def test_table_has_no_cycles_but_of_values_and_errors() -> None:
    """No row lets two parts import each other, even in a round-about way."""
    assert {"errors", "records"} == {part for part in MAY_IMPORT if part in below(MAY_IMPORT, part)}


def test_exceptions_are_needed() -> None:
    """Modules that are said to be tested elsewhere exist."""
    assert set() == set(TESTED_ELSEWHERE) - NAMES
