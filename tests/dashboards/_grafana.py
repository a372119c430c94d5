"""What Grafana does with a dashboard before and after it asks Prometheus, restated as far as ours need it.

Sources: `packages/grafana-prometheus` (escaping.ts, metric_find_query.ts, result_transformer.ts), the variable
format registry of `@grafana/scenes`, and the merge, filterFieldsByName and organize transformers of
`@grafana/data`, all of Grafana 11 and 12.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.dashboards._world import Prometheus

Json = dict[str, Any]
ALL = "$__all"

_REGEX_CHARACTERS = re.compile(r"[\\^$*+?.()|\[\]{}/]")
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}")
_LABEL_VALUES = re.compile(r"^label_values\((?:(.+),\s*)?([a-zA-Z_][a-zA-Z0-9_]*)\)\s*$", re.DOTALL)
_QUERY_RESULT = re.compile(r"^query_result\((.+)\)\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a variable: what is shown and what is put into queries."""

    text: str
    value: str


@dataclass(slots=True)
class View:
    """A dashboard as it is looked at: a time range, a scrape interval, and the chosen values.

    `chosen` has a value, several, or `ALL` by the variable's name; `width` is in pixels, one point each.
    """

    dashboard: Json
    begin: float
    end: float
    chosen: dict[str, str | list[str]] = field(default_factory=dict)
    scrape: int = 60
    width: int = 400

    def variable(self, name: str) -> Json:
        """Return a variable's model."""
        return next(v for v in self.dashboard["templating"]["list"] if v["name"] == name)

    def choose_defaults(self, prometheus: Prometheus) -> None:
        """Choose what Grafana does when the dashboard is opened without parameters."""
        for variable in self.dashboard["templating"]["list"]:
            name = variable["name"]
            if name in self.chosen:
                continue
            if variable["type"] == "datasource":
                self.chosen[name] = "prometheus"
            elif variable["type"] == "custom":
                self.chosen[name] = variable["current"]["value"]
            elif variable["includeAll"]:
                self.chosen[name] = ALL
            else:
                found = self.options(prometheus, name)
                self.chosen[name] = found[0].value if found else ""

    def options(self, prometheus: Prometheus, name: str) -> list[Option]:
        """Return the choices of a query variable, with the others as they are chosen."""
        variable = self.variable(name)
        query = self.interpolate(variable["query"]["query"])
        values: list[str]
        if match := _LABEL_VALUES.match(query):
            parameters = {"match[]": match[1], "start": self.begin, "end": self.end}
            values = prometheus.ask(f"label/{match[2]}/values", **parameters)
        elif match := _QUERY_RESULT.match(query):
            values = [_as_text(series) for series in prometheus.query(match[1], self.end)]
        else:
            raise AssertionError(f"Grafana doesn't know the query of {name}: {query}")
        return _shown(values, variable)

    def step(self, panel: Json) -> int:
        """Return the step of the panel's range queries, in seconds."""
        least = _seconds(panel.get("interval", f"{self.scrape}s"))
        return max(
            least, math.ceil((self.end - self.begin) / panel.get("maxDataPoints", self.width)), self.scrape
        )

    def interpolate(self, text: str, step: int = 60) -> str:
        """Put values for variables."""

        def replaced(match: re.Match[str]) -> str:
            name, fmt = match[1] or match[2], match[4]
            if name.isdigit():  # a group of label_replace: Grafana leaves what is no variable of its own
                return match[0]
            return self._global(name, step) or self._value(name, fmt)

        return _VARIABLE.sub(replaced, text)

    def _global(self, name: str, step: int) -> str | None:
        span = int(self.end - self.begin)
        return {
            "__from": str(int(self.begin * 1000)),
            "__to": str(int(self.end * 1000)),
            "__interval": f"{step}s",
            "__rate_interval": f"{max(step + self.scrape, 4 * self.scrape)}s",
            "__range": f"{span}s",
        }.get(name)

    def _value(self, name: str, fmt: str | None) -> str:
        variable, value = self.variable(name), self.chosen[name]
        if value == ALL:
            assert variable.get("allValue"), f"{name} has no value for All"
            return variable["allValue"]
        values = value if isinstance(value, list) else [value]
        if fmt == "regex":
            escaped = [_REGEX_CHARACTERS.sub(r"\\\g<0>", v) for v in values]
            return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
        assert fmt is None, fmt
        assert not variable.get("multi"), f"{name} may have several values and needs a format"
        return values[0].replace("\\", "\\\\").replace("'", "\\\\'")


def _as_text(series: Json) -> str:
    """Return what query_result gives to the variable's pattern; note that nothing is escaped."""
    name = series["metric"].pop("__name__", "")
    labels = ",".join(f'{k}="{v}"' for k, v in series["metric"].items())
    at, value = series["value"]
    return f"{name}{{{labels}}} {value} {int(at * 1000)}"


def _shown(values: list[str], variable: Json) -> list[Option]:
    found: dict[str, Option] = {}
    pattern = variable["regex"]
    for text in values:
        option = Option(text, text)
        if pattern:
            match = re.search(pattern.strip("/").replace("(?<", "(?P<"), text)
            if match is None:
                continue
            option = Option(match["text"], match["value"])
        found.setdefault(option.value, option)
    return sorted(found.values(), key=lambda o: o.text) if variable["sort"] == 1 else list(found.values())


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield every panel but the rows' headings."""
    for panel in dashboard["panels"]:
        for one in (panel, *panel.get("panels", ())):
            if one["type"] != "row":
                yield one


def legend(target: Json, labels: Mapping[str, str]) -> str:
    """Return a series' name."""
    if target["legendFormat"] == "__auto":
        pairs = ", ".join(f'{k}="{v}"' for k, v in labels.items() if k != "__name__")
        return f"{labels.get('__name__', '')}{{{pairs}}}"
    return re.sub(r"\{\{\s*(.+?)\s*\}\}", lambda m: labels.get(m[1], ""), target["legendFormat"])


@dataclass(slots=True)
class Column:
    """A table's column: the field's name and what is shown, and its cells."""

    name: str
    heading: str
    cells: list[Any]


def table(panel: Json, results: Mapping[str, list[Json]]) -> list[Column]:
    """Return a table panel's columns after its transformations; `results` are instant results by refId."""
    frames = [
        _frame(f"Value #{ref}" if len(results) > 1 else "Value", result) for ref, result in results.items()
    ]
    rows = _merged(frames)
    options = {t["id"]: t["options"] for t in panel["transformations"]}
    names = options["filterFieldsByName"]["include"]["names"]
    there = {name for row in rows for name in row}
    order, heading = options["organize"]["indexByName"], options["organize"]["renameByName"]
    columns = [
        Column(name, heading.get(name, name), [row.get(name) for row in rows])
        for name in sorted((n for n in names if n in there), key=lambda n: order[n])
    ]
    for sort in panel["options"]["sortBy"]:
        key = next((c for c in columns if c.heading == sort["displayName"]), None)
        if key is not None:
            cells = key.cells
            ranked = sorted(
                range(len(rows)),
                key=lambda i, cells=cells: (cells[i] is not None, cells[i] or 0),
                reverse=sort["desc"],
            )
            for column in columns:
                column.cells = [column.cells[i] for i in ranked]
    return columns


def _frame(value: str, result: list[Json]) -> tuple[list[str], list[Json]]:
    """Return a table's fields and rows. A query without a result has a frame too, and so is numbered."""
    names = sorted({label for series in result for label in series["metric"]})  # __name__ is one of them
    rows = [
        {"Time": series["value"][0]}
        | {name: series["metric"].get(name, "") for name in names}
        | {value: float(series["value"][1])}
        for series in result
    ]
    return ["Time", *names, value], rows


def _merged(frames: list[tuple[list[str], list[Json]]]) -> list[Json]:
    """Return one table's rows: those that agree in all fields that both have, `__name__` too, are joined."""
    keys = [name for name in frames[-1][0] if all(name in names for names, _ in frames)]
    rows: list[Json] = []
    by_key: dict[str, list[Json]] = {}
    for _, added in frames:
        for row in added:
            there = by_key.setdefault("".join(str(row[key]) for key in keys), [])
            like = [other for other in there if all(other.get(k, v) == v for k, v in row.items())]
            for other in like:
                other.update(row)
            if not like:
                there.append(dict(row))
                rows.append(there[-1])
    return rows


def configured(panel: Json, name: str) -> Json:
    """Return a field's options after overrides, by dotted name."""
    defaults = panel["fieldConfig"]["defaults"]
    found: Json = {k: v for k, v in defaults.items() if k != "custom"}
    found |= {f"custom.{k}": v for k, v in defaults["custom"].items()}
    for override in panel["fieldConfig"]["overrides"]:
        kind, options = override["matcher"]["id"], override["matcher"]["options"]
        hit = (kind == "byName" and options == name) or (
            kind == "byRegexp" and re.search(options.strip("/"), name) is not None
        )
        if hit:
            found |= {p["id"]: p["value"] for p in override["properties"]}
    return found


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]
