"""The report of `doctor`, about accounts and files that are well and others that aren't."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.config.model import Config, PollConfig
from exporter.doctor import examine as doctor
from exporter.doctor.report import OK, PROBLEM, WARNING, Finding, Report
from exporter.exposition.self_metrics import SelfMetrics
from exporter.tracking.state_file import State
from tests._accounts import everything
from tests._apiserver import CONVERSIONS, STATISTICS, TOKEN, Api, ApiServer, Asked, conversion, row, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests._apiserver import Asked

HOUR = 3600.0
DAY = 86400.0


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Return an API with three campaigns, which saw nothing undocumented when the test ends."""
    now = time.time()
    starts = [now - HOUR / 2, now - HOUR, now - 5 * DAY]
    rows = {STATISTICS: spread(1, starts), CONVERSIONS: [conversion(1, starts[0])]}
    with ApiServer(Api(rows=rows)) as one:
        yield one
    assert set(one.api.violations) <= {"undocumented parameters ['page']"}


def account(url: str, name: str = "main", **keys: object) -> dict[str, Any]:
    """Return the configuration of one account."""
    return {"name": name, "access_token": TOKEN, "base_url": url} | keys


def config(*accounts: dict[str, Any], state: Path | None = None, **sections: dict[str, object]) -> Config:
    """Return a configuration with few retries and no limits."""
    api = {"requests_per_second": 1000, "retries": 0, **sections.pop("api", {})}
    return Config.model_validate({"accounts": accounts, "api": api, "state": {"path": state}, **sections})


def examine(settings: Config, *, wall: Callable[[], float] = time.time) -> Report:
    """Return the report."""
    return doctor.examine(settings, wall=wall, monotonic=time.monotonic)


def found(report: Report, check: str, resource: str | None = None, name: str = "main") -> Finding:
    """Return the one finding of this kind, about an account or else about the state."""
    findings = [finding for one in report.accounts if one.account == name for finding in one.findings]
    (one,) = [
        finding
        for finding in (*findings, *report.state)
        if (finding.check, finding.resource) == (check, resource)
    ]
    return one


def test_a_good_account(server: ApiServer) -> None:
    """Everything is ok, with figures: latency, clock, cap, campaigns, series, requests."""
    report = examine(config(account(server.url)))
    assert (OK, 0, 0) == (report.level, report.count(PROBLEM), report.count(WARNING)), report.text()
    for resource in ("statistics", "conversions"):
        answered = found(report, "question", resource)
        assert answered.values["accepted"] is True
        assert 0 < answered.values["latency_seconds"] < 30
        assert 0 < found(report, "poll", resource).values["requests"]
    assert "at least 3" == found(report, "page_cap", "statistics").values["page_cap"]
    assert "at least 1" == found(report, "page_cap", "conversions").values["page_cap"]
    assert abs(found(report, "clock").values["ahead_seconds"]) < 30
    values = found(report, "campaigns").values
    assert (3, 0) == (values["campaigns"], values["dropped"])
    assert values["series"] > 3 * 12
    assert found(report, "requests").values["requests_per_hour"] > 12


def test_the_question_is_small_and_comes_first(server: ApiServer) -> None:
    """Each resource is asked once for ten rows of the last hour, and counted apart from its poll."""
    report = examine(config(account(server.url)))
    first = server.api.asked[:2]
    assert {STATISTICS, CONVERSIONS} == {asked.path for asked in first}
    for asked in first:
        assert ("start", ["10"]) == (asked.kind, asked.parameters["perPage"])
        assert HOUR == asked.bound("startTo") - asked.bound("startFrom")
    for server_read in report.accounts[0].servers:
        path = {"statistics": STATISTICS, "conversions": CONVERSIONS}[server_read.resource]
        polled = found(report, "poll", server_read.resource).values["requests"]
        assert server.api.count(path) == 1 + server_read.requests + polled
        assert 10 < server_read.requests <= server_read.most_requests


def test_a_rejected_token(server: ApiServer) -> None:
    """It is a problem at both resources, asked once each; other accounts are reported all the same."""
    bad = account(server.url, "bad", access_token="another-token-0123")
    report = examine(config(bad, account(server.url)))
    assert PROBLEM == report.level
    for resource in ("statistics", "conversions"):
        finding = found(report, "question", resource, "bad")
        assert (PROBLEM, False, "auth") == (
            finding.level,
            finding.values["accepted"],
            finding.values["reason"],
        )
        assert "check the token" in finding.text
    tokens = [asked.parameters["access-token"] for asked in server.api.asked]
    assert 2 == tokens.count(["another-token-0123"])
    assert 3 == found(report, "campaigns").values["campaigns"]
    assert None is found(report, "campaigns", name="bad").values["campaigns"]
    assert None is found(report, "requests", name="bad").values["requests_per_hour"]
    for text in (report.text(), report.json()):
        assert [] == [hidden for hidden in ("another-token", TOKEN, "access-token=") if hidden in text]


def test_one_endpoint_fails(server: ApiServer) -> None:
    """The other one is polled and reported in full."""
    server.api.fault = lambda asked: (403, {}, b"") if asked.path == CONVERSIONS else None
    report = examine(config(account(server.url)))
    assert OK == found(report, "poll", "statistics").level
    assert PROBLEM == found(report, "question", "conversions").level
    assert 3 == found(report, "campaigns").values["campaigns"]
    assert 1 == report.count(PROBLEM)


def test_a_poll_fails_after_the_question(server: ApiServer) -> None:
    """An answer to the question doesn't hide that the poll then failed, nor what was known until then."""
    asked: set[str] = set()

    def fault(request: Asked) -> tuple[int, dict[str, str], bytes] | None:
        is_question = request.path not in asked
        asked.add(request.path)
        return None if is_question else (500, {}, b"")

    server.api.fault = fault
    report = examine(config(account(server.url)))
    assert OK == found(report, "question", "statistics").level
    finding = found(report, "poll", "statistics")
    assert (PROBLEM, "server_error", 2) == (
        finding.level,
        finding.values["reason"],
        finding.values["requests"],
    )


def test_a_poll_that_takes_too_long(server: ApiServer) -> None:
    """What a running exporter would go on with is a warning, not a problem."""
    # After the question the next turn comes too late
    limits = {"deadline": "1m", "requests_per_second": 0.001}
    report = examine(config(account(server.url), poll={"conversions_every": None}, api=limits))
    finding = found(report, "poll", "statistics")
    assert (WARNING, "deadline") == (finding.level, finding.values["reason"])
    assert "api.deadline" in finding.text
    assert (WARNING, 0) == (report.level, report.count(PROBLEM))


def test_a_server_that_is_down() -> None:
    """Each resource has its problem, in words; the token's file and the state are reported all the same."""
    with ApiServer() as gone:
        url = gone.url
    report = examine(config(account(url)))
    assert OK == found(report, "token").level
    for resource in ("statistics", "conversions"):
        assert "connection" == found(report, "question", resource).values["reason"]
    assert 2 == report.count(PROBLEM)
    assert [] == [one for one in report.accounts[0].findings if one.check in {"clock", "poll", "page_cap"}]


def test_an_answer_after_failures_is_suspicious(server: ApiServer) -> None:
    """A question that was answered only when repeated is a warning."""
    faults = iter([(500, {}, b"")])
    server.api.fault = lambda _: next(faults, None)
    report = examine(config(account(server.url), poll={"conversions_every": None}, api={"retries": 1}))
    finding = found(report, "question", "statistics")
    assert (WARNING, 1) == (finding.level, finding.values["failed_attempts"])


def test_a_fault_of_the_exporter(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a problem of the resource like any other, and says that it is ours."""

    def fail(*_: object) -> None:
        raise ValueError("access-token=abcdef")

    monkeypatch.setattr(doctor.AccountPoller, "ask", fail)
    report = examine(config(account(server.url)))
    finding = found(report, "question", "statistics")
    assert (PROBLEM, "internal") == (finding.level, finding.values["reason"])
    assert "abcdef" not in report.text()


@pytest.fixture
def examination() -> Iterator[doctor.AccountExamination]:
    """Return an account that wasn't asked yet."""
    with closing(State.open(None, clock=time.time)) as state:
        settings = config(account("http://127.0.0.1:9"), api={"timeout": "10s"})
        one = doctor.AccountExamination(
            settings.accounts[0],
            settings,
            state=state,
            metrics=SelfMetrics(),
            wall=time.time,
            monotonic=time.monotonic,
        )
        yield one
        one.poller.stop()


@pytest.mark.parametrize(("seconds", "level"), [(4.9, OK), (5.1, WARNING)])
def test_slow_answers(examination: doctor.AccountExamination, seconds: float, level: str) -> None:
    """More than half of the timeout is too close to it."""
    examination.answers["statistics"] = doctor._Answer(0, seconds, None, frozenset())
    examination._failed_attempts["statistics"] = 0
    finding = examination._answered("statistics")
    assert (level, seconds) == (finding.level, finding.values["latency_seconds"])


def test_an_api_without_a_clock(examination: doctor.AccountExamination) -> None:
    """Where no answer has a date, the difference is said to be unknown."""
    examination.answers["statistics"] = doctor._Answer(0, 0.1, None, frozenset())
    (finding,) = examination._clock()
    assert (WARNING, None) == (finding.level, finding.values["ahead_seconds"])


def test_a_page_that_is_no_statistics(server: ApiServer) -> None:
    """Status 200 alone is no success."""
    server.api.render = lambda _: b"<html>Welcome</html>"
    report = examine(config(account(server.url)))
    assert "bad_response" == found(report, "question", "statistics").values["reason"]
    assert "Welcome" not in report.text()


@pytest.mark.parametrize(
    ("offset", "level", "word"),
    [(0, OK, ""), (-30, OK, "ahead"), (100, WARNING, "behind"), (-100, WARNING, "ahead")],
)
def test_clocks(server: ApiServer, offset: float, level: str, word: str) -> None:
    """The API's clock is compared with ours; more than a minute is a warning."""
    report = examine(config(account(server.url)), wall=lambda: time.time() + offset)
    finding = found(report, "clock")
    assert level == finding.level
    assert word in finding.text
    assert finding.values["ahead_seconds"] == pytest.approx(-offset, abs=10)


def test_what_the_poll_has_learned(server: ApiServer) -> None:
    """What a poll has to work around is told, as on the status page."""

    def refuse(asked: Asked) -> tuple[int, dict[str, str], bytes] | None:
        return (400, {}, b"") if int(asked.parameters["perPage"][0]) > 100 else None

    server.api.fault = refuse
    report = examine(config(account(server.url)))
    assert "100" == found(report, "learned").values["learned"]["Largest perPage"]
    assert "Largest perPage: 100" in report.text()


def test_a_capped_server(server: ApiServer) -> None:
    """The cap that was found is shown for each resource, and the poll is complete all the same."""
    now = time.time()
    server.api.rows[STATISTICS] = spread(1, [now - HOUR * (index + 1) for index in range(60)])
    server.api.cap = 12
    report = examine(config(account(server.url)))
    values = found(report, "page_cap", "statistics").values
    assert ("12", 500, False) == (values["page_cap"], values["per_page"], values["incomplete"])
    assert 60 == found(report, "campaigns").values["campaigns"]
    assert OK == report.level


def test_rows_that_cannot_be_proven(server: ApiServer) -> None:
    """More rows of one campaign than a page holds are a warning that says what to raise."""
    start = time.time() - HOUR
    server.api.rows[STATISTICS] = [row(1, start, title=f"Message {index}") for index in range(40)]
    server.api.cap = 10
    finding = found(examine(config(account(server.url))), "page_cap", "statistics")
    assert (WARNING, True) == (finding.level, finding.values["incomplete"])
    assert "api.per_page" in finding.text


def test_a_remembered_cap_counts(server: ApiServer, tmp_path: Path) -> None:
    """What the state file knows of the server is used, as the exporter would."""
    path = tmp_path / "state.db"
    state = State.open(path, clock=time.time)
    learned = {"asked": 500, "since": time.time(), "largest": {"start": [77, 77, 77]}}
    notes = {"cap/statistics": json.dumps(learned)}
    state.save("main", server.url, replace(everything(), notes=notes))
    state.close()
    report = examine(config(account(server.url), state=path))
    assert "at least 77" == found(report, "page_cap", "statistics").values["page_cap"]


def test_no_campaigns(server: ApiServer) -> None:
    """An account without campaigns is probably not the one that was meant."""
    server.api.rows = {STATISTICS: [], CONVERSIONS: []}
    finding = found(examine(config(account(server.url))), "campaigns")
    assert (WARNING, 0, 0) == (finding.level, finding.values["campaigns"], finding.values["series"])


def test_dropped_campaigns(server: ApiServer) -> None:
    """Campaigns beyond the limit are counted, and the setting named."""
    finding = found(examine(config(account(server.url), metrics={"max_campaigns": 2})), "campaigns")
    assert (WARNING, 2, 1) == (finding.level, finding.values["campaigns"], finding.values["dropped"])
    assert "metrics.max_campaigns" in finding.text


def test_undocumented_fields(server: ApiServer) -> None:
    """Fields that the documentation doesn't have are counted in the answer to the question."""
    server.api.rows[STATISTICS][0]["novelty"] = 1
    report = examine(config(account(server.url)))
    assert 1 == found(report, "fields", "statistics").values["unknown_fields"]


def test_conversions_that_are_off(server: ApiServer) -> None:
    """They aren't asked, and the report says so."""
    report = examine(config(account(server.url), poll={"conversions_every": None}))
    assert "poll.conversions_every" in found(report, "question", "conversions").text
    assert 0 == server.api.count(CONVERSIONS)
    assert OK == report.level


def test_a_token_that_cannot_be_read(server: ApiServer, tmp_path: Path) -> None:
    """It is said where it was looked for, and nothing is asked without it."""
    missing = {"access_token_file": tmp_path / "none", "access_token": None}
    report = examine(config(account(server.url, **missing)))
    finding = found(report, "token")
    assert (PROBLEM, True) == (finding.level, "access_token_file: the file does not exist" in finding.text)
    assert "auth" == found(report, "question", "statistics").values["reason"]
    assert 0 == server.api.count()


# Requests per hour


def test_requests_are_shared_by_age() -> None:
    """Each tier costs its campaigns' share of the requests, at its interval."""
    poll = PollConfig.model_validate(
        {
            "window": "10d",
            "refresh": [{"younger_than": "1d", "every": "10m"}, {"younger_than": "5d", "every": "1h"}],
            "still_sending": {"every": "30m"},
        }
    )
    ages = (HOUR, 2 * HOUR, 2 * DAY, 9 * DAY, 20 * DAY)
    # 2/5 six times an hour, 2/5 (the last tier extends to the window) once, 1/5 twice
    assert 20 * 6 + 20 * 1 + 10 * 2 == doctor.statistics_per_hour(poll, 50, ages)
    assert 1 * 6 + 1 * 1 + 1 * 2 == doctor.statistics_per_hour(poll, 1, ())


def test_tiers_that_are_never_used_cost_nothing() -> None:
    """A tier beyond the window has no campaigns, and no search is none."""
    poll = PollConfig.model_validate(
        {
            "window": "1d",
            "refresh": [{"younger_than": "2d", "every": "1h"}, {"younger_than": "5d", "every": "1s"}],
            "still_sending": None,
        }
    )
    assert 8 == doctor.statistics_per_hour(poll, 8, (HOUR,))


def test_more_requests_than_allowed(server: ApiServer) -> None:
    """An estimate over the limit is a warning that names it."""
    poll = {"refresh": [{"younger_than": "14d", "every": "10ms"}]}
    finding = found(
        examine(config(account(server.url), poll=poll, api={"requests_per_second": 50})), "requests"
    )
    assert WARNING == finding.level
    assert "api.requests_per_second allows 180000" in finding.text


# The state file


def test_no_state_file(server: ApiServer) -> None:
    """None is fine where none is wanted."""
    report = examine(config(account(server.url)))
    assert [("path", OK)] == [(finding.check, finding.level) for finding in report.state]


def test_a_state_file_yet_to_come(server: ApiServer, tmp_path: Path) -> None:
    """It isn't made; that its directory exists is checked."""
    report = examine(config(account(server.url), state=tmp_path / "state.db"))
    assert (OK, True) == (report.level, found(report, "use").values["writable"])
    assert [] == list(tmp_path.iterdir())
    report = examine(config(account(server.url), state=tmp_path / "missing" / "state.db"))
    assert (PROBLEM, False) == (found(report, "use").level, found(report, "use").values["writable"])
    assert "make it" in found(report, "use").text


def test_a_state_file_is_read_and_not_written(server: ApiServer, tmp_path: Path) -> None:
    """Its size is told, and afterwards it and its directory are as before."""
    path = tmp_path / "state.db"
    state = State.open(path, clock=time.time)
    state.save("main", server.url, everything())
    state.close()
    before = {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in tmp_path.iterdir()}
    report = examine(config(account(server.url), state=path))
    assert OK == found(report, "content").level
    assert False is found(report, "use").values["in_use"]
    assert path.stat().st_size == found(report, "content").values["size_bytes"]
    assert before == {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in tmp_path.iterdir()}


def test_a_state_file_in_use(server: ApiServer, tmp_path: Path) -> None:
    """A running exporter has it, and goes on to have it."""
    path = tmp_path / "state.db"
    owner = State.open(path, clock=time.time)
    owner.save("main", server.url, everything())
    report = examine(config(account(server.url), state=path))
    owner.save("main", server.url, everything(200))
    owner.close()
    finding = found(report, "use")
    assert (OK, True) == (finding.level, finding.values["in_use"])
    assert finding.values["pid"].isdecimal()
    assert OK == found(report, "content").level


def test_a_state_file_out_of_reach(server: ApiServer, tmp_path: Path) -> None:
    """What can't even be looked at is a problem that hides nothing else."""
    (tmp_path / "file").touch()
    report = examine(config(account(server.url), state=tmp_path / "file" / "state.db"))
    assert (PROBLEM, True) == (found(report, "access").level, "state.path" in found(report, "access").text)
    assert 3 == found(report, "campaigns").values["campaigns"]


def test_a_state_file_that_is_broken(server: ApiServer, tmp_path: Path) -> None:
    """It is a problem, and left as it is; the account is reported all the same."""
    path = tmp_path / "state.db"
    path.write_bytes(b"no database" * 1000)
    report = examine(config(account(server.url), state=path))
    finding = found(report, "content")
    assert (PROBLEM, 11000) == (finding.level, finding.values["size_bytes"])
    assert "put back a copy" in finding.text
    assert b"no database" * 1000 == path.read_bytes()
    assert 3 == found(report, "campaigns").values["campaigns"]
    assert 1 == report.count(PROBLEM)


def test_a_state_file_with_broken_content(server: ApiServer, tmp_path: Path) -> None:
    """A database whose rows make no sense is a problem as well."""
    path = tmp_path / "state.db"
    state = State.open(path, clock=time.time)
    state.save("main", server.url, everything())
    state.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE record SET data = 'nonsense'")
    db.close()
    finding = found(examine(config(account(server.url), state=path)), "content")
    assert (PROBLEM, True) == (finding.level, "put back a copy" in finding.text)


def test_the_database_of_another_program(server: ApiServer, tmp_path: Path) -> None:
    """It is told apart from ours."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    finding = found(examine(config(account(server.url), state=path)), "content")
    assert (PROBLEM, True) == (finding.level, "choose another state.path" in finding.text)


# The forms


def report_with(*findings: Finding) -> Report:
    """Return a report with findings about the configuration alone."""
    return Report(0.0, findings, (), ())


def test_levels() -> None:
    """The worst finding decides."""
    good, odd, bad = (Finding("x", level, "y") for level in (OK, WARNING, PROBLEM))
    assert OK == report_with().level
    assert OK == report_with(good).level
    assert WARNING == report_with(odd, good).level
    assert PROBLEM == report_with(odd, bad, good).level


def test_text_has_one_line_for_each_finding(server: ApiServer) -> None:
    """Every finding is a line with its level, below the title of what it is about."""
    server.api.fault = lambda asked: (403, {}, b"") if asked.path == CONVERSIONS else None
    report = examine(config(account(server.url)))
    lines = report.text().splitlines()
    findings = [*report.configuration, *report.state, *report.accounts[0].findings]
    (table,) = report.accounts[0].servers
    expected = [*(finding.line for finding in findings), *table.lines()]
    assert expected == [line for line in lines if line.startswith("  ")]
    assert f"account main ({server.url})" in lines
    assert "1 problem, 1 warning" == lines[-1]
    assert any(line.startswith("  problem  conversions question: the API forbids") for line in lines)


def test_json_has_the_same(server: ApiServer) -> None:
    """The JSON has every finding with its figures, by account."""
    report = examine(config(account(server.url)))
    document = json.loads(report.json())
    assert {
        "version", "time", "level", "problems", "warnings", "configuration", "state", "accounts"
    } == set(document)  # fmt: skip
    assert ("ok", 0, 0) == (document["level"], document["problems"], document["warnings"])
    (one,) = document["accounts"]
    assert ("main", server.url) == (one["account"], one["base_url"])
    assert [finding.document for finding in report.accounts[0].findings] == one["findings"]
    assert {"statistics", "conversions"} == set(one["server"])
    for table in report.accounts[0].servers:
        assert table.document == one["server"][table.resource]
        assert {reading.point for reading in table.readings} == set(table.document["readings"])
    caps = {each["resource"]: each["page_cap"] for each in one["findings"] if each["check"] == "page_cap"}
    assert {"statistics": "at least 3", "conversions": "at least 1"} == caps


def test_findings_hold_no_secret() -> None:
    """Whatever a text was made of, tokens are taken out."""
    finding = Finding("x", OK, "GET /?access-token=abcdef&x=1")
    assert "abcdef" not in finding.line + json.dumps(finding.document)


def test_time_is_utc() -> None:
    """The time of the report is written as the API writes its own, in UTC."""
    assert "1970-01-01T00:00:00+00:00" == json.loads(report_with().json())["time"]
