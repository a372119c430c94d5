"""Requests to the two statistics endpoints of InTarget: limits, retries, and what became of them.

The access token is part of every URL: nothing that is raised here holds a URL, a header, or another library's
exception.

Sources: the vendor's page on the campaign statistics API (parameters, default of perPage); "Exponential Backoff
And Jitter", AWS Architecture Blog (full jitter).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from exporter.api.fields import PATHS
from exporter.api.limiter import DEADLINE_TEXT, STOPPED_TEXT, RateLimiter
from exporter.api.model import Query, Reply, format_bound
from exporter.api.network_fault import explain, unused_proxy
from exporter.api.refusal import Failure, refusal
from exporter.api.transport import Budget, Transport
from exporter.errors import (
    AuthError,
    ConfigError,
    ConnectionFailedError,
    DeadlineError,
    InternalError,
    PollError,
    RateLimitedError,
    RequestTimeoutError,
    StoppedError,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from exporter.config.model import AccountConfig, ApiConfig

_BACKOFF_BASE: Final = 0.5
_BACKOFF_CAP: Final = 30.0
_FRESH: Final = 60.0  # seconds for which an accepted token proves that the token is good
_TOKEN_PROBE: Final = Query(campaign_ids=(1,), per_page=1)  # the smallest request there is


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How one account's API is asked.

    `timeout` is for one request in total, in seconds; `retries` come on top of the first attempt; `concurrency`
    and `requests_per_second` hold for all requests of the client together, retries included;
    `max_response_bytes` bounds one decompressed body. `ca_file` replaces the public certificate authorities.
    `page_parameter` is the name of the parameter for `Query.page`.
    """

    base_url: str
    timeout: float
    retries: int
    concurrency: int
    requests_per_second: float
    max_response_bytes: int
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    page_parameter: str = "page"

    @classmethod
    def of(cls, account: AccountConfig, api: ApiConfig) -> ApiSettings:
        """Return the settings of one account as they are configured."""
        return cls(
            base_url=account.base_url,
            timeout=api.timeout,
            retries=api.retries,
            concurrency=api.concurrency,
            requests_per_second=api.requests_per_second,
            max_response_bytes=api.max_response_bytes,
            proxy=None if api.proxy is None else api.proxy.get_secret_value(),
            ca_file=None if api.ca_file is None else str(api.ca_file),
            page_parameter=api.page_parameter or "page",
        )


class ApiClient:
    """Asks one account's API. Safe to use from several threads.

    `token` is called for every attempt, so that a rotated token is taken up. `stop` ends every wait and every
    request in flight within a fraction of a second. `on_request(resource, code, seconds)` is called once per
    HTTP attempt: `code` is the status, or, where no whole answer came, one of ``timeout``, ``deadline``,
    ``connection``, ``too_large``, ``bad_response``, ``stopped``, ``internal``, ``other`` (a status outside
    100 to 599). `wall_clock` (seconds since the epoch) is only for a Retry-After date in an answer without a
    Date.
    """

    def __init__(
        self,
        settings: ApiSettings,
        *,
        token: Callable[[], str],
        stop: threading.Event,
        on_request: Callable[[str, str, float], None] = lambda _resource, _code, _seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        random: Random | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._token = token
        self._stop = stop
        self._on_request = on_request
        self._monotonic = monotonic
        self._wait = stop.wait if wait is None else wait
        self._random = Random() if random is None else random  # noqa: S311 - jitter is no secret
        self._wall_clock = wall_clock
        self._closed = False
        self._accepted: dict[str, tuple[str, float]] = {}  # by resource: the token, and when
        self._limiter = RateLimiter(
            requests_per_second=settings.requests_per_second,
            concurrency=settings.concurrency,
            stopping=self._stopping,
            wait=self._wait,
            monotonic=monotonic,
        )
        self._transport = Transport(
            max_response_bytes=settings.max_response_bytes,
            proxy=settings.proxy,
            ca_file=settings.ca_file,
            monotonic=monotonic,
        )

    def get(self, resource: str, query: Query, *, deadline: float, retries: int | None = None) -> Reply:
        """Ask `resource` (``statistics`` or ``conversions``) and return the whole answer, status 200.

        Connection faults, timeouts, 429 and 5xx are tried again, as long as that fits before `deadline`
        (monotonic clock), at most `retries` times (default: as configured). A 429 with Retry-After holds back
        all requests of this client for that long, at most until `deadline`. Raises StoppedError, or the
        PollError that fits.
        """
        self._check(resource, query)
        attempts = 1 + (self._settings.retries if retries is None else retries)
        for attempt in range(1, attempts + 1):
            with self._limiter.slot(deadline):
                outcome = self._attempt(resource, query, deadline)
                if isinstance(outcome, Reply):
                    return outcome
                failure = outcome
                if failure.kind is RateLimitedError and failure.retry_after > 0:
                    self._limiter.hold(min(self._monotonic() + failure.retry_after, deadline))
            if not failure.retry or attempt == attempts:
                break
            ceiling = min(_BACKOFF_CAP, _BACKOFF_BASE * 2 ** min(attempt - 1, 10))
            pause = max(failure.retry_after, self._random.uniform(0, ceiling))
            if self._monotonic() + pause >= deadline:
                break
            if self._wait(pause):
                raise StoppedError(STOPPED_TEXT)
        if failure.is_forbidden and self._is_token_good(resource, deadline):
            failure = failure.of_one_resource(resource)
        raise failure.error("" if attempt == 1 else f" (after {attempt} attempts)")

    def close(self) -> None:
        """Close every connection and end what is in flight; `get` raises StoppedError from now on."""
        self._closed = True
        self._transport.close()

    def _stopping(self) -> bool:
        return self._closed or self._stop.is_set()

    def _check(self, resource: str, query: Query) -> None:
        if resource not in PATHS:
            raise InternalError("a request to an unknown resource was refused; please report this")
        if not query.filtered:
            raise InternalError(
                "a request without a filter was refused, the vendor forbids them; please report this"
            )

    def _address(self, resource: str, query: Query, token: str) -> str:
        parameters = query_parameters(query, self._settings.page_parameter)
        parameters.append(("access-token", token))
        base = self._settings.base_url.rstrip("/")
        return f"{base}{PATHS[resource]}?{urlencode(parameters, quote_via=quote, safe='')}"

    def _attempt(self, resource: str, query: Query, deadline: float) -> Reply | Failure:
        """Make one request, report it to `on_request`, and return the answer or what became of it."""
        token = self._read_token()
        if token is None:
            return Failure(
                AuthError, "the access token can't be read, or is empty; check where it is configured"
            )
        begun = self._monotonic()
        budget = Budget(min(begun + self._settings.timeout, deadline), self._stopping, self._monotonic)
        outcome = self._send(resource, query, token, budget)
        seconds = self._monotonic() - begun
        if isinstance(outcome, Reply):
            self._accepted[resource] = token, self._monotonic()
            self._on_request(resource, "200", seconds)
            return outcome
        outcome = self._blame(outcome, is_last=budget.expires >= deadline)
        self._on_request(resource, outcome.code, seconds)
        return outcome

    def _read_token(self) -> str | None:
        try:
            return self._token() or None
        except (OSError, ValueError, ConfigError):
            return None

    def _send(self, resource: str, query: Query, token: str, budget: Budget) -> Reply | Failure:
        begun = self._monotonic()
        try:
            answer = self._transport.get(self._address(resource, query, token), budget)
        except PollError as error:
            return Failure(type(error), str(error), retry=isinstance(error, ConnectionFailedError))
        except Exception as error:  # noqa: BLE001 - whatever it is, its text and frames may hold the URL
            return explain(error, ca_file=self._settings.ca_file)
        if answer.status != 200:  # noqa: PLR2004 - OK
            return refusal(answer, asked=str(query), wall_clock=self._wall_clock())
        return Reply(body=answer.body, headers=answer.headers, seconds=self._monotonic() - begun)

    def _blame(self, failure: Failure, *, is_last: bool) -> Failure:
        """Say whose time was up (`is_last`: the deadline's), and mention a proxy that isn't used."""
        note = unused_proxy(self._settings.base_url, proxy=self._settings.proxy)
        if failure.kind is ConnectionFailedError:
            return Failure(ConnectionFailedError, f"{failure.text}{note}", retry=True)
        if failure.kind is not RequestTimeoutError:
            return failure
        if self._stopping():
            return Failure(StoppedError, STOPPED_TEXT)
        if is_last:
            return Failure(DeadlineError, DEADLINE_TEXT)
        text = (
            f"no complete answer within {self._settings.timeout:g} s; check the network, or raise api.timeout"
        )
        return Failure(RequestTimeoutError, f"{text}{note}", retry=True)

    def _is_token_good(self, resource: str, deadline: float) -> bool:
        """Whether another resource accepts the token; it is asked, unless it was within the last minute."""
        token = self._read_token()
        for other in PATHS.keys() - {resource}:
            accepted, moment = self._accepted.get(other, (None, 0.0))
            if accepted == token and self._monotonic() - moment < _FRESH:
                return True
            try:
                with self._limiter.slot(deadline):
                    if isinstance(self._attempt(other, _TOKEN_PROBE, deadline), Reply):
                        return True
            except (PollError, StoppedError):
                return False
        return False


def query_parameters(query: Query, page_parameter: str = "page") -> list[tuple[str, str]]:
    """Return the parameters of `query` but the token, in a fixed order."""
    bounds = (
        ("startFrom", query.start_from),
        ("startTo", query.start_to),
        ("sendFrom", query.send_from),
        ("sendTo", query.send_to),
    )
    pairs = [(name, format_bound(second)) for name, second in bounds if second is not None]
    pairs += [("campaignIds[]", str(number)) for number in query.campaign_ids]
    pairs.append(("perPage", str(query.per_page)))
    return pairs if query.page is None else [*pairs, (page_parameter, str(query.page))]
