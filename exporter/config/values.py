"""What the values of the configuration files may be, and the section that every model of them begins from."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from exporter.config.durations import DURATION_PATTERN, format_duration, parse_duration

_LONGEST_SECONDS: Final = 3660 * 86400.0  # ten years: keeps every date within what datetime has


class Section(BaseModel):
    """A mapping of a configuration file: frozen, without unknown keys; errors hold no values."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class Secret(SecretStr):
    """A text that shows only as asterisks, and that refuses to be pickled."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret can't be pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def fault(message: str) -> PydanticCustomError:
    """Return the error of a validator, whose message is shown as it is and holds no value."""
    return PydanticCustomError("config", "{message}", {"message": message})


def _seconds(value: object) -> object:
    if isinstance(value, list | dict):
        raise fault("must be a single duration, such as 5m")
    if not isinstance(value, str):
        return value  # null (pydantic says so), or seconds given by code
    try:
        return parse_duration(value)
    except ValueError as error:
        raise fault(str(error)) from None


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise fault("must be longer than 0s")
    return _bounded(seconds)


def _bounded(seconds: float) -> float:
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise fault(f"must be at most {format_duration(_LONGEST_SECONDS)}")
    return seconds


def _path(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip() or not value.isprintable():
        raise fault("is not a path")
    if value.startswith("~"):
        raise fault("begins with ~, which only a shell replaces; write the whole path")
    return value


def default_duration(text: str) -> Any:  # noqa: ANN401 - as pydantic's Field
    """Return the field of a duration with a default as people write it."""
    return Field(default=parse_duration(text), json_schema_extra={"default": text})


_Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "examples": ["500ms", "30s", "5m", "1h30m", "14d"],
        }
    ),
]
Duration = Annotated[_Seconds, AfterValidator(_positive)]
DurationOrZero = Annotated[_Seconds, AfterValidator(_bounded)]
FilePath = Annotated[Path, BeforeValidator(_path)]


def check_url(text: str) -> str | None:
    """Return what is wrong with `text` as an http(s) URL of a server, or None."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return "is not a URL"
    if url.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not url.hostname or port == 0 or not text.isprintable() or re.search(r"[\s\\]", text):
        return "is not a URL"
    if "?" in text or "#" in text:
        return "must end before the ? or #"
    return None
