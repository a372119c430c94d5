"""Pydantic's errors as our sentences, for every file that the one reader reads."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from exporter.config.yaml_file import Location, Tree, dotted

_MESSAGES: Final[dict[str, str]] = {
    "missing": "is missing",
    "too_short": "must have at least one entry",
    "string_too_short": "is empty",
    "string_too_long": "must have at most {max_length} characters",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "config": "{message}",
}
_KINDS: Final = (
    ("int", "must be a whole number"),
    ("float", "must be a number"),
    ("finite", "must be a number"),
    ("bool", "must be true or false"),
    ("dict", "must be a mapping, key: value"),
    ("tuple", "must be a list, each entry beginning with -"),
    ("model", "must be a mapping, key: value"),
)


class Models:
    """The models below `root`, by their locations with list indexes left out."""

    def __init__(self, root: type[BaseModel]) -> None:
        self.by_location: dict[tuple[str, ...], type[BaseModel]] = dict(_walk(root, ()))

    @property
    def keys(self) -> frozenset[str]:
        """Every key that the file may have, at any place."""
        return frozenset(key for location in self.by_location for key in self.keys_at(location))

    def keys_at(self, location: tuple[str, ...]) -> list[str]:
        """Return the keys of the mapping at `location`."""
        return [field.alias or name for name, field in self.by_location[location].model_fields.items()]

    def faults(self, error: ValidationError, tree: Tree) -> Iterator[tuple[Location, str]]:
        """Yield what pydantic found wrong in `tree`, without values."""
        for found in error.errors(include_url=False, include_input=False):
            location = found["loc"]
            if found["type"] == "too_short" and _at(tree, location):
                continue  # pydantic doesn't count the entries that have faults of their own
            yield location, self._message(found["type"], found.get("ctx", {}), location, tree)

    def _message(self, kind: str, context: Mapping[str, Any], location: Location, tree: Tree) -> str:
        if kind == "extra_forbidden":
            return self._unknown_key(location)
        if kind in _MESSAGES:
            return _MESSAGES[kind].format_map(context)
        if _at(tree, location) is None:
            return f"must not be null{'' if self._is_required(location) else '; leave it out for the default'}"
        for beginning, message in _KINDS:
            if kind.startswith(beginning):
                return message
        return "must be a single text"

    def _is_required(self, location: Location) -> bool:
        keys = tuple(part for part in location if isinstance(part, str))
        model = self.by_location.get(keys[:-1])
        if isinstance(location[-1], int) or model is None:
            return True
        return any(
            field.is_required() for name, field in model.model_fields.items() if keys[-1] in (name, field.alias)
        )

    def _unknown_key(self, location: Location) -> str:
        """Return the fault of an unknown key, with what was probably meant."""
        key = str(location[-1])
        here = self.keys_at(tuple(part for part in location[:-1] if isinstance(part, str)))
        by_lower_case = {known.lower(): known for known in here}
        for spelling in (key.lower(), key.lower().replace("-", "_")):
            if close := difflib.get_close_matches(spelling, by_lower_case, n=1):
                return f"unknown key; did you mean {dotted((*location[:-1], by_lower_case[close[0]]))}?"
        for names in self.by_location:
            if key in self.keys_at(names):
                return f"unknown key; did you mean {dotted((*names, key))}?"
        return f"unknown key; known here: {', '.join(here)}"


def _walk(
    model: type[BaseModel], location: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    yield location, model
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            yield from _walk(inner, (*location, field.alias or name))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _at(tree: Tree, location: Location) -> Tree:
    for part in location:
        tree = tree[part]
    return tree
