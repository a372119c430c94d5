"""Every exception that the exporter raises on purpose.

::

    ExporterError
    ├── ConfigError             the file, the environment or a flag is wrong; `faults` has all of it
    ├── StateError              the state file can't be used
    │   ├── StateLockedError    another process has it
    │   └── StateLostError      it had to be begun anew: everything must be saved again
    ├── StoppedError            a stop request interrupted a wait; not a failure
    └── PollError               one poll failed; `reason` is the label value
        ├── RequestTimeoutError     timeout
        ├── ConnectionFailedError   connection
        ├── AuthError               auth
        ├── RateLimitedError        rate_limited
        ├── ServerError             server_error
        ├── ClientError             client_error
        ├── BadResponseError        bad_response
        ├── TooLargeError           too_large
        ├── DeadlineError           deadline
        │   └── RequestsSpentError      deadline
        └── InternalError           internal

Messages never hold a URL or a token, and of a response body no more than the API's own error message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExporterError(Exception):
    """Base of everything below."""


class ConfigError(ExporterError):
    """The configuration can't be used.

    `faults` holds one line for each fault, ready to print: ``file:line: path.to.key: what is wrong``.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class StateError(ExporterError):
    """The state file can't be used."""


class StateLockedError(StateError):
    """The state file belongs to another running process."""


class StateLostError(StateError):
    """The state file was begun anew since the account was last saved; a save of everything is needed."""


class StoppedError(ExporterError):
    """A stop request came while waiting."""


class PollError(ExporterError):
    """One poll of one resource failed; `reason` is its value of the label ``reason``.

    `status` is the HTTP status, if an answer with one brought the failure.
    """

    reason: ClassVar[str] = "internal"

    def __init__(self, text: str = "", *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class RequestTimeoutError(PollError):
    """One request took longer than `api.timeout` in total."""

    reason = "timeout"


class ConnectionFailedError(PollError):
    """No connection, or it broke before the answer was complete."""

    reason = "connection"


class AuthError(PollError):
    """401, or a 403 that isn't a firewall's and came from both resources."""

    reason = "auth"


class RateLimitedError(PollError):
    """429, or 403 with Retry-After, still after the retries or for longer than the poll may last."""

    reason = "rate_limited"


class ServerError(PollError):
    """5xx, still after the retries."""

    reason = "server_error"


class ClientError(PollError):
    """A 4xx that is neither about the token nor about the rate, or a redirect."""

    reason = "client_error"


class BadResponseError(PollError):
    """Status 200, but no statistics in the body."""

    reason = "bad_response"


class TooLargeError(PollError):
    """The body exceeds `api.max_response_bytes`."""

    reason = "too_large"


class DeadlineError(PollError):
    """The poll took longer than `api.deadline`."""

    reason = "deadline"


class RequestsSpentError(DeadlineError):
    """The poll has made as many requests as one poll may; the next one goes on. No poll fails by it."""

    reason = "deadline"


class InternalError(PollError):
    """A fault of the exporter itself."""

    reason = "internal"


def _reasons(cls: type[PollError]) -> list[str]:
    """Return the reasons of all subclasses of `cls`, in the order of the tree above."""
    return [sub.reason for sub in cls.__subclasses__()]


REASONS: tuple[str, ...] = tuple(_reasons(PollError))
"""Every value of the label ``reason``."""
