"""YAML files with line numbers: the one reader of the configuration and of the web configuration.

A text becomes a tree in which scalars stay as they were written, so that the models say what they may be. Every
fault has its line, and none shows a value: a value may be a token.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from exporter.errors import ConfigError

Location: TypeAlias = tuple[str | int, ...]
"""Keys and list indexes from the root to a value."""
Tree: TypeAlias = Any
"""Mappings, lists, text and None."""

_MAX_FILE_BYTES: Final = 1 << 20
_MAX_NODES: Final = 100_000  # aliases of aliases grow exponentially
_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset(
    _TAG + name for name in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "value", "merge")
)
_NOTICED_LATER: Final = ("could not find expected ':'", "found unexpected end of stream")
"""Problems that YAML notices lines below their cause, which is at the context's mark."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is for: `flag` names it, `outline` describes it, `keys` are those that it may have.

    Below the locations in `named_by_user`, any text may be a key; such keys are never shown.
    """

    flag: str
    outline: str
    keys: frozenset[str]
    named_by_user: frozenset[Location] = frozenset()
    may_be_empty: bool = False


def dotted(location: Iterable[str | int]) -> str:
    """Return a location as people write it: ``accounts[0].name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def read_at_most(path: Path, limit: int) -> tuple[bytes, int]:
    """Return up to `limit` + 1 bytes of the file, and its mode. Raises OSError, or ValueError for no path."""
    with path.open("rb") as file:
        return file.read(limit + 1), os.fstat(file.fileno()).st_mode


def read_problem(error: OSError | ValueError) -> str:
    """Return in words why a file could not be read, and what to do."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, IsADirectoryError):
        return "is a directory; name the file in it"
    if isinstance(error, PermissionError):
        return "may not be read; check the owner and mode of the file and its folders"
    return f"can't be read: {(isinstance(error, OSError) and error.strerror) or type(error).__name__}"


class YamlFile:
    """The text of the file at `path` as a tree of plain values, with the line of everything in it.

    `faults` holds (line, sentence) for everything that the tree can't hold.
    """

    def __init__(self, text: str, path: Path, kind: FileKind) -> None:
        self.tree: Tree = None
        self.faults: list[tuple[int, str]] = []
        self._path = path
        self._kind = kind
        self._lines: dict[Location, int] = {}
        self._text = text
        self._nodes = 0
        try:
            root = yaml.SafeLoader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if error.context_mark is not None and str(error.problem).startswith(_NOTICED_LATER):
                mark = error.context_mark
            self._add(mark.line + 1 if mark else 1, (), f"is not valid YAML: {_yaml_problem(error)}")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self._add(line, (), "is not valid YAML: a character that YAML doesn't allow")
        except RecursionError:
            self._add(1, (), "is nested too deeply")
        else:
            if root is None or (isinstance(root, yaml.ScalarNode) and root.value == ""):
                self.tree = {}
                if not kind.may_be_empty:
                    self._add(1, (), f"is empty; must be {kind.outline}")
            elif not isinstance(root, yaml.MappingNode):
                self._add(root.start_mark.line + 1, (), f"must be {kind.outline}")
            else:
                self._lines[()] = root.start_mark.line + 1
                self.tree = self._build(root, (), ())

    def line(self, location: Location) -> int:
        """Return the line of the nearest thing that stands in the file."""
        while location not in self._lines and location:
            location = location[:-1]
        return self._lines.get(location, 1)

    def sentence(self, location: Location, text: str, line: int | None = None) -> str:
        """Return `text` with path, line and location in front."""
        where = f"{self._path}:{line or self.line(location)}"
        return ": ".join(part for part in (where, dotted(self._shown(location)), text) if part)

    def _shown(self, location: Location) -> Location:
        """Return `location` without what a user named."""
        hidden = (location[:end] for end in range(len(location)) if location[:end] in self._kind.named_by_user)
        return next(hidden, location)

    def _add(self, line: int, location: Location, message: str) -> None:
        self.faults.append((line, self.sentence(location, message, line)))

    def _build(self, node: yaml.Node, location: Location, outer: tuple[int, ...]) -> Tree:
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            if self._nodes == _MAX_NODES + 1:
                self._add(line, location, "the aliases make the file too large")
            return None
        if id(node) in outer:
            self._add(line, location, "an alias refers to what it stands in")
            return None
        if node.tag not in _TAGS:
            self._add(line, location, "has a tag; a value that begins with ! needs quotes")
        inside = (*outer, id(node))
        if isinstance(node, yaml.MappingNode):
            tree = {}
            for key, (key_node, value) in self._pairs(node, location, inside).items():
                self._lines[(*location, key)] = key_node.start_mark.line + 1
                tree[key] = self._build(value, (*location, key), inside)
            return tree
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self._lines[(*location, index)] = item.start_mark.line + 1
                items.append(self._build(item, (*location, index), inside))
            return items
        return None if node.tag == f"{_TAG}null" else node.value

    def _pairs(
        self,
        node: yaml.MappingNode,
        location: Location,
        inside: tuple[int, ...],
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the pairs of a mapping by key, with those that ``<<`` merges in."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_TAG}merge":
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        self._add(line, location, "<< must name a mapping")
                    elif id(source) in inside:
                        self._add(line, location, "an alias refers to what it stands in")
                    else:
                        pairs = self._pairs(source, location, (*inside, id(source)))
                        merged = {**pairs, **merged}
            elif not self._is_key(key_node, value, location):
                self._add(
                    line, location, "a key that can't be read; write key: value, with a space after the colon"
                )
            elif key_node.value in own:
                first = own[key_node.value][0].start_mark.line + 1
                self._add(line, (*location, key_node.value), f"appears twice; it is in line {first} already")
            else:
                own[key_node.value] = (key_node, value)
        return {**merged, **own}

    def _is_key(self, key: yaml.Node, value: yaml.Node, location: Location) -> bool:
        """Whether it is a key that can be shown: in ``{name:abc}`` all of it is one, perhaps with a token."""
        between = self._text[key.end_mark.index : value.start_mark.index + 1]
        if not isinstance(key, yaml.ScalarNode) or ":" not in between:
            return False
        if location in self._kind.named_by_user:
            return bool(key.value)
        return key.value in self._kind.keys or re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,31}", key.value) is not None


def open_yaml(path: Path, kind: FileKind) -> tuple[YamlFile, int]:
    """Return the file, read, and its mode. Raises ConfigError, with one line, if there is no text in it."""
    try:
        data, mode = read_at_most(path, _MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        problem = read_problem(error)
        if isinstance(error, FileNotFoundError):
            problem += f"; give the path of the file with {kind.flag}"
    else:
        if len(data) > _MAX_FILE_BYTES:
            raise ConfigError([f"{path}: is larger than 1 MiB, so it can't be a config file"])
        try:
            return YamlFile(data.decode("utf-8-sig"), path, kind), mode
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            problem = f"is not text in UTF-8 (line {line}); save the file with that encoding"
    raise ConfigError([f"{path}: {problem}"])


_TELLS_NOTHING: Final = re.compile(r".?|<[a-z ]+>")


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """Return PyYAML's description of a syntax error without what it quotes from the file."""
    problem = error.problem or error.context or "syntax error"
    hints = {
        "found undefined alias": "an unknown alias; a value that begins with * needs quotes",
        "second occurrence": "an anchor twice; a value that begins with & needs quotes",
        "found undefined tag handle": "an unknown tag; a value that begins with ! needs quotes",
        "but found another document": "more than one document; keep what is before the second ---",
        r"found character '\t'": "a tab; indent with spaces",
        "mapping values are not allowed": "a misplaced colon; indent evenly, quote values with colons",
        "could not find expected ':'": "a line without a colon; write key: value, with a space after the colon",
    }
    for beginning, hint in hints.items():
        if problem.startswith(beginning):
            return hint
    # One character, or the name of a token such as '<block end>', says nothing about a value.
    quoted = re.compile(r"""'([^']*)'|"([^"]*)\"""")
    return quoted.sub(lambda match: match[0] if _TELLS_NOTHING.fullmatch(match[0][1:-1]) else "…", problem)
