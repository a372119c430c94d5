"""The running exporter: accounts side by side, reload, restart, readiness, the end."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter import demo, once
from exporter.app import App, Options
from exporter.config.loading import load
from exporter.errors import ConfigError, StateLockedError
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.polling.account import AccountPoller
from exporter.schedule import Schedule
from exporter.tracking.state_file import State
from tests._apiserver import CONVERSIONS, STATISTICS, TOKEN, ApiServer, Asked, conversion, row
from tests._program import Program, Samples, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.config.model import Config
    from exporter.tracking.model import SavedAccount

HOUR = 3600.0
SENT = "intarget_campaign_messages_sent_total"
CHANNEL_SENT = "intarget_channel_messages_sent_total"


class Hold:
    """Makes an API hang, until it is let go."""

    def __init__(self) -> None:
        self._go = threading.Event()

    def __call__(self, _: Asked) -> None:
        """Answer a question never, or later."""
        self._go.wait(120)

    def let_go(self) -> None:
        """Let everything that hangs be answered."""
        self._go.set()


class Site:
    """A directory with a config file, and APIs for its accounts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "config.yaml"
        self.servers: dict[str, ApiServer] = {}
        self.document: dict[str, Any] = {
            "accounts": [],
            "poll": {
                "refresh": [{"younger_than": "14d", "every": "300ms"}],
                "conversions_every": "300ms",
                "still_sending": {"every": "300ms"},
            },
            "api": {"requests_per_second": 1000, "retries": 0, "timeout": "60s"},
            "metrics": {"zero_hold": "1s"},
            "state": {"path": "state.db"},
        }

    def add(self, name: str, **keys: object) -> ApiServer:
        """Add an account with an API of its own, which has one campaign."""
        server = self.servers[name] = ApiServer()
        start = time.time() - HOUR
        server.api.rows = {STATISTICS: [row(1, start)], CONVERSIONS: [conversion(1, start)]}
        account = {"name": name, "access_token": TOKEN, "base_url": server.url}
        self.document["accounts"].append(account | keys)
        return server

    def write(self, **sections: dict[str, object]) -> Path:
        """Write the config file, with some keys changed."""
        for section, keys in sections.items():
            self.document[section] = self.document[section] | keys
        self.file.write_text(yaml.safe_dump(self.document))
        return self.file

    def serve(self, *flags: str) -> Program:
        """Start the exporter on the file."""
        flags = ("--config.file", str(self.file), "--web.listen-address=127.0.0.1:0", *flags)
        return Program(*flags, cwd=self.path)

    def load(self) -> Config:
        """Load the file in this process."""
        return load(self.file, environ={})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a site whose APIs saw nothing undocumented when the test ends."""
    one = Site(tmp_path)
    yield one
    violations = [fault for server in one.servers.values() for fault in server.api.violations]
    for server in one.servers.values():
        server.__exit__()
    assert [] == violations


def up(program: Program, account: str = "main") -> Callable[[], bool]:
    """Return the condition that the account's last polls succeeded."""
    return lambda: program.value("intarget_up", account=account) == 1


def saved_account(path: Path, server: ApiServer) -> SavedAccount | None:
    """Return what the state file has of the account."""
    with closing(State.open_readonly(path, clock=time.time)) as state:
        return state.load("main", server.url)


@pytest.fixture
def running(site: Site) -> Iterator[Callable[[], App]]:
    """Return what makes an app on the site's file, whose polls run only when a test makes them."""
    apps: list[App] = []

    def make() -> App:
        app = App(site.load, Options())
        app.open()
        app.accounts.poll(app.accounts.config, app.accounts.exposition)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.accounts.stop()
        app.close()


# In this process


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("access_token_file", "/nowhere/token"),
        ("access_token_env", "INTARGET_TEST_NO_SUCH_VARIABLE"),
    ],
)
def test_tokens_are_read_at_the_start(site: Site, key: str, value: str) -> None:
    """An unreadable token is a fault of the configuration, named with its account, before anything runs."""
    site.add("main")
    site.add("other")
    for account in site.document["accounts"]:
        del account["access_token"]
        account[key] = value
    site.write()
    with pytest.raises(ConfigError) as caught:
        App(site.load, Options())
    assert ["account main", "account other"] == [fault.partition(":")[0] for fault in caught.value.faults]


def test_an_app_may_have_no_accounts(site: Site) -> None:
    """A shard without accounts is ready, and its other accounts' tokens don't matter."""
    site.add("main")
    del site.document["accounts"][0]["access_token"]
    site.document["accounts"][0]["access_token_file"] = "/nowhere/token"
    site.write(state={"path": None})
    empty = [shard for shard in range(2) if not site.load().shard(shard, 2).accounts]
    assert 1 == len(empty)
    one = App(site.load, Options(shard=empty[0], total_shards=2))
    one.open()
    assert () == one.accounts.statuses()
    one.close()


def test_polling_without_a_usable_state(
    site: Site, running: Callable[[], App], caplog: pytest.LogCaptureFixture
) -> None:
    """A state file that can't be made is no reason not to poll; it is told, tried again, and taken up."""
    site.add("main")
    folder = site.path / "missing"
    site.write(state={"path": str(folder / "state.db")})
    app = running()

    def samples() -> Samples:
        return Samples(app.respond(None, None, 0.0).body.decode())

    assert app.accounts["main"].poll("statistics")
    assert (0, 1250) == (samples().value("intarget_state_persistent"), samples().value(SENT))
    assert 0 < (samples().value("intarget_state_save_failures_total") or 0)
    assert "missing" in (app.status().state_problem or "")
    assert "polling without a state file" in caplog.text
    assert str(folder / "state.db") == app.status().state_path
    app.retry_state()
    assert 0 == samples().value("intarget_state_persistent")
    folder.mkdir()
    app.retry_state()
    assert 1 == samples().value("intarget_state_persistent")
    assert app.status().state_problem is None
    saved = saved_account(folder / "state.db", site.servers["main"])
    assert saved is not None
    assert [1] == [campaign.campaign_id for campaign in saved.campaigns]


def test_no_state_file_is_no_problem(site: Site, running: Callable[[], App]) -> None:
    """Without a path there is nothing to be said of a file."""
    site.add("main")
    site.write(state={"path": None})
    app = running()
    assert app.status().state_problem is None
    assert Samples(app.respond(None, None, 0.0).body.decode()).value("intarget_state_persistent") is None


def test_the_state_of_another_process(site: Site) -> None:
    """Two processes never have one file."""
    site.add("main")
    site.write(state={"path": str(site.path / "state.db")})
    owner = State.open(site.path / "state.db", clock=time.time)
    with pytest.raises(StateLockedError, match="another running process"):
        App(site.load, Options()).open()
    owner.close()


def test_changed_settings_restart_every_account(site: Site, running: Callable[[], App]) -> None:
    """Accounts are left alone if nothing that they poll with has changed."""
    site.add("one")
    site.add("two")
    site.write(state={"path": None})
    app = running()

    def pollers() -> dict[str, AccountPoller]:
        return {name: app.accounts[name] for name in ("one", "two")}

    before = pollers()
    app.reload()
    assert before == pollers()
    site.document["accounts"][1]["currency"] = "EUR"
    site.write()
    app.reload()
    assert before["one"] is pollers()["one"]
    assert before["two"] is not pollers()["two"]
    site.write(api={"retries": 1})
    app.reload()
    assert before["one"] is not pollers()["one"]


def test_once_reports_which_account_failed(site: Site) -> None:
    """Every account is polled, at the same time; the good ones are exposed whatever becomes of the others."""
    site.add("good")
    site.add("bad").api.tokens = frozenset()
    site.write(state={"path": None})
    result = once.poll_once(site.load())
    assert ("bad",) == result.failed
    found = Samples(result.exposition)
    assert {"good": 1250} == {dict(labels)["account"]: value for labels, value in found.series(SENT).items()}
    assert (1, 0) == (
        found.value("intarget_up", account="good"),
        found.value("intarget_up", account="bad"),
    )
    assert 1 == found.value("intarget_poll_failures_total", account="bad", resource="statistics", reason="auth")


def test_the_demo_keeps_nothing() -> None:
    """Its configuration has no state file."""
    assert demo.demo_config("http://127.0.0.1:1").state.path is None


def test_a_reload_swaps_the_exposition_once_it_is_full(site: Site, running: Callable[[], App]) -> None:
    """No scrape finds the campaigns gone while a new way to export them takes over."""
    site.add("main")
    site.write(state={"path": None})
    app = running()
    assert app.accounts["main"].poll("statistics")
    before = app.accounts.exposition
    assert 1250 == Samples(app.respond(None, None, 0.0).body.decode()).value(SENT)
    begun = AccountPoller.__init__
    seen: list[float | None] = []

    def begin(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed through
        begun(*args, **kwargs)
        seen.append(Samples(app.respond(None, None, 0.0).body.decode()).value(SENT))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AccountPoller, "__init__", begin)
        site.write(metrics={"per_message": True})
        app.reload()
    assert [1250] == seen
    assert before is not app.accounts.exposition


def test_a_poll_that_ends_meanwhile_keeps_the_new_exposition(site: Site, running: Callable[[], App]) -> None:
    """Who waits to publish while a reload swaps the exposition doesn't bring the old one back."""
    site.add("main")
    site.write(state={"path": None})
    accounts = running().accounts
    lock, waits = accounts._publishing, threading.Event()

    class Watched:
        def __enter__(self) -> None:
            waits.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    accounts._publishing = Watched()
    poll = threading.Thread(target=accounts._on_change, args=(accounts["main"],), daemon=True)
    with lock:
        poll.start()
        assert waits.wait(30)
        new = accounts.exposition = Exposition(SelfMetrics())
    poll.join(30)
    assert new is accounts.exposition


def test_an_account_that_is_removed_is_forgotten(site: Site, running: Callable[[], App]) -> None:
    """Nothing that was to be done for it later keeps what is known of its campaigns."""
    site.add("main")
    site.add("other")
    site.write(state={"path": None})
    app = running()
    gone = weakref.ref(app.accounts["other"])
    del site.document["accounts"][1]
    site.write()
    app.reload()
    gc.collect()
    assert gone() is None


def test_a_fault_of_a_tick_is_no_busy_loop(
    site: Site, running: Callable[[], App], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where holds and staleness can't be updated, that is tried again after a while."""
    site.add("main")
    site.write(state={"path": None})
    planned: list[tuple[float, Callable[[], object]]] = []
    monkeypatch.setattr(Schedule, "once", lambda _, wait, call, __: planned.append((wait, call)))
    monkeypatch.setattr(AccountPoller, "tick", lambda _: 1 / 0)
    running().accounts["main"].next_event = -1.0
    _, tick = planned[-1]
    tick()
    assert 60.0 == planned[-1][0]


def test_a_reload_forgets_nothing_of_who_stays(site: Site, running: Callable[[], App]) -> None:
    """Other settings take nothing from what is counted of an account; conversions that end do, of theirs."""
    site.add("main")
    site.write(state={"path": None})
    app = running()
    for resource in ("statistics", "conversions"):
        assert app.accounts["main"].poll(resource)

    def samples() -> Samples:
        return Samples(app.respond(None, None, 0.0).body.decode())

    site.write(poll={"stale_after": "3h"})
    app.reload()
    assert 1 == samples().value("intarget_up")
    assert 1 == samples().value("intarget_polls_total", resource="statistics")
    site.write(poll={"conversions_every": None})
    app.reload()
    assert samples().value("intarget_polls_total", resource="conversions") is None


def test_a_changed_account_is_polled_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It doesn't wait for its interval, even while a poll with the old settings is still about to end."""
    site.add("main")
    every = {"refresh": [{"younger_than": "14d", "every": "1h"}], "still_sending": None}
    site.write(poll={**every, "conversions_every": None}, state={"path": None})
    polled: list[str | None] = []
    end = threading.Event()

    def poll(poller: AccountPoller, _: str) -> bool:
        polled.append(poller.account.currency)
        return end.wait(60)

    monkeypatch.setattr(AccountPoller, "poll", poll)
    app = App(site.load, Options())
    app.open()
    app.begin()
    try:
        until(lambda: polled == [None], "the first poll")
        site.document["accounts"][0]["currency"] = "EUR"
        site.write()
        app.reload()
        until(lambda: polled == [None, "EUR"], "the poll with the new settings")
    finally:
        end.set()
        app.end()
        app.close()


# As a program


@pytest.mark.e2e
def test_a_hanging_account_delays_no_other(site: Site) -> None:
    """While one API never answers, the other account is polled as ever, and only the first isn't ready."""
    hold = Hold()
    good, bad = site.add("good"), site.add("bad")
    bad.api.fault = hold
    site.write()
    with site.serve() as program:
        until(up(program, "good"), "good is up")
        before = good.api.count(STATISTICS)
        until(lambda: good.api.count(STATISTICS) >= before + 5, "good is polled on")
        status, text = program.get("/-/ready")
        assert 503 == status
        assert "bad" in text
        assert "good" not in text
        assert 200 == program.get("/-/healthy")[0]
        hold.let_go()
        until(up(program, "bad"), "bad is up, too")
        assert (200, "ready\n") == program.get("/-/ready")
        assert 0 == program.stop()


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_is_quick_and_clean(site: Site, number: int) -> None:
    """While requests hang, a signal ends the exporter with code 0 within five seconds, the state saved."""
    server = site.add("main")
    site.write()
    with site.serve() as program:
        until(up(program), "up")
        hold = Hold()
        server.api.fault = hold
        before = server.api.count()
        until(lambda: server.api.count() > before, "a request hangs")
        begun = time.monotonic()
        assert 0 == program.stop(number)
        assert 5 > time.monotonic() - begun
        assert "Traceback" not in program.output
        assert "msg=stopped" in program.output
        hold.let_go()
    saved = saved_account(site.path / "state.db", server)
    assert saved is not None
    assert [1] == [campaign.campaign_id for campaign in saved.campaigns]


@pytest.mark.e2e
def test_quit_by_request(site: Site) -> None:
    """With --web.enable-lifecycle a POST ends it; without, it is refused."""
    site.add("main")
    site.write()
    with site.serve() as program:
        assert 403 == program.get("/-/quit", "POST")[0]
        assert 403 == program.get("/-/reload", "POST")[0]
        assert 0 == program.stop()
    with site.serve("--web.enable-lifecycle") as program:
        assert 405 == program.get("/-/quit")[0]
        assert 200 == program.get("/-/quit", "POST")[0]
        assert 0 == program.process.wait(60)


@pytest.mark.e2e
def test_a_restart_serves_what_was_saved(site: Site) -> None:
    """After a kill the last data are there before the API answers; counters go on from there."""
    server = site.add("main")
    site.write()
    campaigns = server.api.rows[STATISTICS]
    with site.serve() as program:
        until(up(program), "up")
        campaigns[0]["sent"] = 1300
        until(lambda: program.value(CHANNEL_SENT) == 50, "growth, and the end of the channel's hold")
        program.process.kill()
        program.process.wait()
    hold = Hold()
    server.api.fault = hold
    campaigns[0]["sent"] = 1400
    campaigns.append(row(2, time.time(), sent=10))
    with site.serve() as program:
        assert (1300, 50) == (program.value(SENT), program.value(CHANNEL_SENT))
        assert (200, 0) == (program.get("/-/ready")[0], program.value("intarget_up"))
        seen: list[float | None] = []

        def complete() -> bool:
            seen.append(program.value(SENT, campaign_id="2"))
            return seen[-1] == 10

        hold.let_go()
        until(complete, "the new campaign")
        assert 0 in seen
        assert (1410, 160) == (program.value(SENT), program.value(CHANNEL_SENT))
        assert 0 == program.stop()


@pytest.mark.e2e
def test_stale_data_are_withdrawn(site: Site) -> None:
    """While all data are stale the exporter isn't ready, and says which account and why; then it recovers."""
    server = site.add("main")
    site.write(poll={"stale_after": "2s"})
    with site.serve() as program:
        until(up(program), "up")
        server.api.fault = lambda _: (503, {}, b"")
        until(lambda: program.value(SENT) is None, "withdrawn")
        status, text = program.get("/-/ready")
        assert 503 == status
        assert "account main: its data are stale" in text
        assert "HTTP 503" in text
        assert 0 == program.value("intarget_up")
        assert program.value("intarget_last_success_timestamp_seconds", resource="statistics")
        server.api.fault = lambda _: None
        until(lambda: program.get("/-/ready")[0] == 200, "ready again")
        assert 1250 == program.value(SENT)


@pytest.mark.e2e
def test_an_account_that_never_had_data_goes_on_past_stale_after(site: Site) -> None:
    """Polls go on and fail for their own reason, though time can bring nothing; then it recovers."""
    server = site.add("main")
    server.api.fault = lambda _: (401, {}, b"")
    site.write(poll={"stale_after": "1s"})
    failures = "intarget_poll_failures_total"
    with site.serve() as program:
        until(lambda: program.value(failures, resource="statistics", reason="auth") >= 10, "ten polls in 3 s")
        assert 0 == program.value(failures, resource="statistics", reason="internal")
        server.api.fault = lambda _: None
        until(up(program), "up")
        assert 1250 == program.value(SENT)


@pytest.mark.e2e
@pytest.mark.parametrize("how", ["signal", "request"])
def test_reload(site: Site, how: str) -> None:
    """Accounts are added, changed and removed; those that are as before are not disturbed."""
    kept = site.add("kept")
    site.add("changed")
    site.add("removed")
    site.write()

    def reload(program: Program) -> None:
        if how == "signal":
            program.process.send_signal(signal.SIGHUP)
        else:
            assert 200 == program.get("/-/reload", "POST")[0]

    with site.serve("--web.enable-lifecycle") as program:
        for name in ("kept", "changed", "removed"):
            until(up(program, name), name)
        polls = program.value("intarget_polls_total", account="kept") or 0
        # A request of the account to be changed hangs, and must not keep its new polls away
        hold = Hold()
        site.servers["changed"].api.fault = hold
        before = site.servers["changed"].api.count()
        until(lambda: site.servers["changed"].api.count() > before, "a request hangs")
        site.document["accounts"] = [one for one in site.document["accounts"] if one["name"] != "removed"]
        site.document["accounts"][1]["currency"] = "SEK"
        added = ApiServer(kept.api)
        site.servers["added"] = added
        account = {"name": "added", "access_token": TOKEN, "base_url": added.url}
        site.document["accounts"].append(account)
        site.write()
        site.servers["changed"].api.fault = lambda _: None
        reload(program)
        until(up(program, "added"), "added")
        assert 0 < (program.value("intarget_config_last_reload_success_timestamp_seconds") or 0)
        assert program.value("intarget_up", account="removed") is None
        assert program.value(SENT, account="removed") is None
        assert 1 == program.value("intarget_account_info", account="changed", currency="SEK")
        assert 1250 == program.value(SENT, account="changed")
        until(up(program, "changed"), "changed is polled")
        assert polls <= (program.value("intarget_polls_total", account="kept") or 0)
        assert 1 == program.value("intarget_config_last_reload_successful")
        hold.let_go()
        assert 0 == program.stop()


@pytest.mark.e2e
def test_a_bad_file_changes_nothing(site: Site) -> None:
    """A reload of a file with faults says which, without values; polling goes on; a good one heals it."""
    server = site.add("main")
    site.write()
    good = site.file.read_text()
    with site.serve("--web.enable-lifecycle") as program:
        until(up(program), "up")
        site.file.write_text(good.replace("retries: 0", "retries: sEcReT-value"))
        status, text = program.get("/-/reload", "POST")
        assert 500 == status
        assert "config.yaml:" in text
        assert "api.retries" in text
        assert "sEcReT" not in text + program.output
        assert 0 == program.value("intarget_config_last_reload_successful")
        assert "reload failed" in program.get("/")[1]
        before = server.api.count()
        until(lambda: server.api.count() > before, "polls go on")
        site.file.write_text(good.replace(f"access_token: {TOKEN}", "access_token_file: /nowhere/token"))
        program.process.send_signal(signal.SIGHUP)
        until(lambda: "the file does not exist" in program.output, "the fault is logged")
        assert 1 == program.value("intarget_up")
        site.file.write_text(good)
        assert 200 == program.get("/-/reload", "POST")[0]
        assert 1 == program.value("intarget_config_last_reload_successful")
        assert "reload failed" not in program.get("/")[1]


@pytest.mark.e2e
def test_a_reload_can_change_what_is_exported(site: Site) -> None:
    """Metrics settings take effect without a restart; counters go on. Another state file takes one."""
    server = site.add("main")
    site.write()
    with site.serve() as program:
        until(up(program), "up")
        server.api.rows[STATISTICS][0]["sent"] = 1300
        until(lambda: program.value(CHANNEL_SENT) == 50, "growth")
        site.write(metrics={"per_message": True}, state={"path": "other.db"})
        program.process.send_signal(signal.SIGHUP)
        until(lambda: program.value(SENT, message_title="Hello") == 1300, "per message")
        assert 50 == program.value(CHANNEL_SENT)
        assert "needs a restart" in program.output
        assert not (site.path / "other.db").exists()


@pytest.mark.e2e
def test_shards_share_the_accounts(site: Site) -> None:
    """Each account is polled by exactly one of the replicas; one without any is ready."""
    names = ["one", "two", "three"]
    for name in names:
        site.add(name)
    polled = []
    for shard in range(3):
        site.write(state={"path": f"{shard}.db"})
        with site.serve("--shard", str(shard), "--total-shards=3") as program:
            until(lambda program=program: program.get("/-/ready")[0] == 200, "ready")
            polled += [dict(labels)["account"] for labels in program.samples().series("intarget_up")]
            assert 200 == program.get("/")[0]
            assert 0 == program.stop()
    assert sorted(names) == sorted(polled)


@pytest.mark.e2e
def test_a_second_process_is_refused(site: Site) -> None:
    """Two processes can't have one state file; `once` only reads it, and may run beside them."""
    site.add("main")
    site.write()
    with site.serve() as program:
        until(up(program), "up")
        second = run("--config.file", str(site.file), "--web.listen-address=127.0.0.1:0", cwd=site.path)
        assert 1 == second.returncode
        last = second.stderr.splitlines()[-1]
        assert f"belongs to another running process (pid {program.process.pid})" in last
        assert "Traceback" not in second.stderr
        once = run("once", "--config.file", str(site.file), cwd=site.path)
        assert 0 == once.returncode
        assert 1250 == Samples(once.stdout).value(SENT)


@pytest.mark.e2e
def test_a_removed_directory_is_survived(site: Site) -> None:
    """If the state can't be saved any more, polling goes on and the failures are counted."""
    server = site.add("main")
    (site.path / "state").mkdir()
    site.write(state={"path": "state/state.db"})
    with site.serve() as program:
        until(up(program), "up")
        (site.path / "state").rename(site.path / "moved")
        server.api.rows[STATISTICS][0]["sent"] = 1300
        until(lambda: program.value(SENT) == 1300, "growth")
        assert 0 < (program.value("intarget_state_save_failures_total") or 0)
        assert 1 == program.value("intarget_up")
