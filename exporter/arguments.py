"""An argument parser that refuses what it doesn't know with advice, and shows no value: it may be a token."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_FLAG: Final = re.compile(r"--[a-z][a-z.-]*")
_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*\"""")


class Parser(argparse.ArgumentParser):
    """An argparse parser for the whole command line or, by `add_subparsers`, for one command."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - as argparse
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(  # type: ignore[override] # of two overloads
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401 - as argparse
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; whatever is left over is an error of this parser, with the usage of its command."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._describe_unknown(unknown))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with the usage and `message`, in which no value is left."""
        super().error(_QUOTED.sub("\N{HORIZONTAL ELLIPSIS}", message))

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - as argparse
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            text = f"must be one of {', '.join(names)}{suggestion(str(value), names)}"
            raise argparse.ArgumentError(action, text)

    def _describe_unknown(self, unknown: Iterable[str]) -> str:
        flags = [match[0] for text in unknown if (match := _FLAG.match(text))]
        if not flags:
            return "there is an argument too many"
        known = list(self._option_string_actions)
        return "; ".join(f"{flag} is unknown here{suggestion(flag, known)}" for flag in dict.fromkeys(flags))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` for a `word` that is like one of `known`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return an argparse type for one of `names`, whose error shows them instead of the value."""
    known = list(names)

    def check(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(known)}{suggestion(text, known)}")
        return text

    return check


def whole_number(text: str) -> int:
    """Return a whole number, which may be negative; an argparse type whose error shows no value."""
    if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("must be a whole number")
    return int(text)
