"""Tests of the state file."""

from __future__ import annotations

import collections
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.api.fields import COUNTER_FIELDS
from exporter.errors import StateError, StateLockedError, StateLostError
from exporter.tracking import codec, database, schema
from exporter.tracking import counters as counters_module
from exporter.tracking.model import ARCHIVE_SECONDS, AccountRecord, Changes, SavedAccount
from exporter.tracking.schema import MIGRATIONS
from exporter.tracking.state_file import State
from tests._accounts import ACCOUNT, campaign, conversions, everything, everything_saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.tracking.model import CampaignRecord

URL = "https://api.example"
FLIPS = 200
MEMORY = Path("/dev/shm")
"""Hundreds of files would wait for a real disk."""
ROOT = Path(__file__).parents[2]


def clock() -> float:
    """Return the time of every test: 2026-11-23 12:00:00 UTC."""
    return 1795435200.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the state file will be."""
    return tmp_path / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    """Return an open state."""
    with closing(State.open(path, clock=clock)) as opened:
        yield opened


def execute(path: Path, statement: str) -> tuple[object, ...] | None:
    """Execute a statement on the file, as anybody may who has it; return its first row, if any."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement).fetchone()


def names(path: Path) -> list[str]:
    """Return the files beside `path`."""
    return sorted(item.name for item in path.parent.iterdir())


def test_new_file_knows_nothing(state: State) -> None:
    """An account that was never saved loads as None."""
    assert state.load("main", URL) is None
    assert [] == state.load_campaigns("main", URL, [(1, "email")])
    assert state.load_note("main", URL, "plan") is None


def test_saved_is_loaded_by_the_next_process(path: Path) -> None:
    """Every field survives, also hostile titles, unreadable values and numbers beyond 64 bits."""
    with closing(State.open(path, clock=clock)) as first:
        first.save("main", URL, everything())
    with closing(State.open(path, clock=clock)) as second:
        assert everything_saved() == second.load("main", URL)
        assert "{}" == second.load_note("main", URL, "plan")


def test_archive_is_recalled_by_key(state: State) -> None:
    """Evicted campaigns aren't loaded, but found by id and channel; unknown keys are left out."""
    state.save("main", URL, everything())
    assert [campaign(2, evicted=700.0)] == state.load_campaigns(
        "main", URL, [(2, "email"), (2, "sms"), (9, "email")]
    )
    assert [] == state.load_campaigns("main", URL, [])


def test_changes_replace_only_what_they_name(state: State) -> None:
    """A save leaves everything else as it was."""
    state.save("main", URL, everything())
    state.save(
        "main",
        URL,
        Changes(
            account=replace(ACCOUNT, successes={"statistics": 900.0}, discovered={2: 900.0}),
            campaigns=(campaign(1, 200),),
            conversions=(conversions(3),),
            conversions_gone=((1, "email"),),
        ),
    )
    expected = replace(
        everything_saved(),
        account=replace(ACCOUNT, successes={"statistics": 900.0}, discovered={2: 900.0}),
        campaigns=(campaign(1, 200),),
        conversions=(conversions(3),),
    )
    assert expected == state.load("main", URL)
    assert "{}" == state.load_note("main", URL, "plan")


def test_only_changed_rows_are_written(state: State) -> None:
    """A save of one campaign changes one row."""
    state.save("main", URL, everything())
    before = state._database.connection.total_changes
    state.save("main", URL, Changes(campaigns=(campaign(1, 300),)))
    assert 1 == state._database.connection.total_changes - before


def test_whole_changes_replace_the_account(state: State) -> None:
    """After a save of everything nothing older of the account is left, and other accounts keep theirs."""
    state.save("main", URL, everything())
    state.save("other", URL, everything(7))
    state.save("main", URL, Changes(AccountRecord(800.0), whole=True))
    assert SavedAccount(AccountRecord(800.0)) == state.load("main", URL)
    assert everything_saved(7) == state.load("other", URL)


def test_notes_are_kept_by_account_and_key(state: State) -> None:
    """A note replaces the last one of its key."""
    for account, note in (("main", "1"), ("main", "2"), ("other", "3")):
        state.save(account, URL, Changes(AccountRecord(800.0), notes={"plan": note}, whole=True))
    assert ["2", "3", None] == [
        state.load_note("main", URL, "plan"),
        state.load_note("other", URL, "plan"),
        state.load_note("main", URL, "cap"),
    ]


def test_another_server_begins_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another base_url begins anew, with a warning; the old state comes back with its server."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
        assert state.load("main", "http://simulator") is None
        assert "begins anew" in caplog.text
        assert [] == state.load_campaigns("main", "http://simulator", [(2, "email")])
        assert state.load_note("main", "http://simulator", "plan") is None
        with pytest.raises(StateLostError):
            state.save("main", "http://simulator", Changes(campaigns=(campaign(9),)))
        state.save("main", "http://simulator", Changes(AccountRecord(900.0), whole=True))
    with closing(State.open(path, clock=clock)) as state:
        assert AccountRecord(900.0) == state.load("main", "http://simulator").account
        assert everything_saved() == state.load("main", URL)
        assert [campaign(2, evicted=700.0)] == state.load_campaigns("main", URL, [(2, "email")])


def test_a_field_may_be_added_removed_or_moved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are saved by the API's names: a change of the list of fields touches no other count."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
    fields = [name for name in COUNTER_FIELDS if name != "opened"]
    fields[fields.index("sent")], fields[fields.index("delivered")] = "delivered", "sent"
    fields.insert(3, "added")
    made = collections.namedtuple("Counts", [name.lower() for name in fields])  # noqa: PYI024 - of strings
    for module in (codec, counters_module):
        monkeypatch.setattr(module, "Counts", made)
    monkeypatch.setattr(codec, "COUNTER_FIELDS", tuple(fields))
    monkeypatch.setattr(codec, "NO_HOLDS", made(*[None] * len(fields)))
    monkeypatch.setattr(codec, "NONE_UNREAD", made(*[False] * len(fields)))
    with closing(State.open(path, clock=clock)) as state:
        saved = state.load("main", URL)
        state.save("main", URL, Changes(campaigns=saved.campaigns, channels=saved.channels))
        assert saved == state.load("main", URL)
    was = campaign(1)
    now = saved.campaigns[0]
    for name in set(fields) - {"added"}:
        index = COUNTER_FIELDS.index(name)
        for part in ("top", "present", "held", "unread"):
            expected = getattr(was.counters, part)[index]
            assert expected == getattr(getattr(now.counters, part), name.lower()), (name, part)
        assert was.groups[0].values[index] == getattr(now.groups[0].values, name.lower())
        assert was.groups[0].counted[index] == getattr(now.groups[0].counted, name.lower())
    assert (None, None, None, False) == (
        now.counters.top.added,
        now.groups[0].values.added,
        now.counters.held.added,
        now.counters.unread.added,
    )


def test_archive_is_pruned_after_400_days(state: State) -> None:
    """What left the window more than 400 days ago is forgotten; what is tracked never is."""
    state.save("main", URL, everything())
    assert 0 == state.prune(700.0 + ARCHIVE_SECONDS)
    assert 1 == state.prune(700.1 + ARCHIVE_SECONDS)
    assert [] == state.load_campaigns("main", URL, [(2, "email")])
    assert everything_saved() == state.load("main", URL)


def test_no_path_keeps_everything_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path it works the same, and leaves no file."""
    monkeypatch.chdir(tmp_path)
    with closing(State.open(None, clock=clock)) as state:
        state.save("main", URL, everything())
        assert everything_saved() == state.load("main", URL)
    assert [] == list(tmp_path.iterdir())


def test_commits_wait_for_the_disk(path: Path, state: State) -> None:
    """The journal is a write-ahead log and every commit is synced, so that a power cut takes nothing back."""
    assert ("wal", 2) == (
        *execute(path, "PRAGMA journal_mode"),
        state._database.connection.execute("PRAGMA synchronous").fetchone()[0],
    )


def test_threads_share_a_state(state: State) -> None:
    """Accounts save from their own threads."""

    def work(account: str) -> None:
        state.save(account, URL, everything())
        for value in range(30):
            state.save(account, URL, Changes(campaigns=(campaign(1, value),)))

    threads = [threading.Thread(target=work, args=(f"account-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert (campaign(1, 29),) == state.load(f"account-{number}", URL).campaigns


# What can be wrong with the file


def test_second_process_is_refused(path: Path, state: State) -> None:
    """The file belongs to one process; the message has the other's pid."""
    with pytest.raises(StateLockedError, match=rf"pid {os.getpid()}"):
        State.open(path, clock=clock)
    state.save("main", URL, everything())


def test_lock_ends_with_the_process(path: Path) -> None:
    """A closed state can be opened again, whatever the lock file says."""
    State.open(path, clock=clock).close()
    State.open(path, clock=clock).close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_broken_file_is_set_aside(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A file that can't be read is renamed, a new one begun, and a log line says so."""
    path.write_bytes(content)
    with closing(State.open(path, clock=clock)) as state:
        assert state.load("main", URL) is None
        state.save("main", URL, everything())
        assert everything_saved() == state.load("main", URL)
    aside = path.with_name("state.db.broken-20261123T120000Z")
    assert content == aside.read_bytes()
    assert str(aside) in caplog.text


def test_two_broken_files_of_one_second_are_both_kept(path: Path) -> None:
    """Setting aside never overwrites what was set aside before."""
    for _ in range(2):
        path.write_bytes(b"broken" * 1000)
        State.open(path, clock=clock).close()
    assert 2 == sum(".broken-" in name for name in names(path))


def break_pages(path: Path) -> None:
    """Overwrite everything behind the first page."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def test_file_that_breaks_later_is_set_aside(path: Path) -> None:
    """Damage that shows only when the account is read makes a new state, not a crash."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
    break_pages(path)
    with closing(State.open(path, clock=clock)) as state:
        assert state.load("main", URL) is None
        state.save("main", URL, everything(5))
    with closing(State.open(path, clock=clock)) as state:
        assert everything_saved(5) == state.load("main", URL)
    assert any(".broken-" in name for name in names(path))


def test_save_into_a_broken_file_asks_for_everything(path: Path) -> None:
    """A save that finds the file broken fails as lost; the whole account can be saved at once."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
    break_pages(path)
    with closing(State.open(path, clock=clock)) as state:
        with pytest.raises(StateLostError):
            state.save("main", URL, Changes(campaigns=(campaign(1, 300),)))
        with pytest.raises(StateLostError):
            state.save("main", URL, Changes(campaigns=(campaign(1, 300),)))
        state.save("main", URL, everything())
        assert everything_saved() == state.load("main", URL)


@pytest.mark.parametrize("kind", ["account", "campaign", "channel", "conversions"])
def test_unreadable_record_is_a_broken_file(path: Path, kind: str) -> None:
    """A record that isn't what was written makes the file broken, too."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
        execute(path, f"UPDATE record SET data = data || ' ' WHERE kind = '{kind}'")
        assert state.load("main", URL) is None
    assert any(".broken-" in name for name in names(path))


def test_damage_in_the_archive_is_noticed_at_once(path: Path) -> None:
    """A campaign that left is looked at with the others: once it comes back, it would count twice."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
        execute(path, "DROP INDEX record_evicted")
        execute(path, "UPDATE record SET evicted = 701 WHERE evicted IS NOT NULL")
        assert state.load("main", URL) is None


def test_no_flipped_bit_goes_unseen(path: Path) -> None:
    """Whatever bit of the file flips: what is loaded is what was saved, or the file is refused or set aside."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
        state.save("other", URL, everything(7))
    whole, rng, noticed = path.read_bytes(), random.Random(153), 0
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.exists() else path.parent))
    used = [index for index, byte in enumerate(whole) if byte]
    for number in range(FLIPS):
        flipped = bytearray(whole)
        flipped[rng.choice(used if number % 2 else range(len(whole)))] ^= 1 << rng.randrange(8)
        copy = folder / f"{number}.db"
        copy.write_bytes(flipped)
        try:
            with closing(State.open(copy, clock=clock)) as state:
                found = (state.load("main", URL), state.load("other", URL), archive(state))
        except StateError:
            noticed += 1
            continue
        if any(copy.name in item.name and ".broken-" in item.name for item in folder.iterdir()):
            noticed += 1
        else:
            assert (everything_saved(), everything_saved(7), [campaign(2, evicted=700.0)]) == found
    shutil.rmtree(folder)
    assert FLIPS / 4 < noticed


def archive(state: State) -> list[CampaignRecord]:
    """Return the campaign that left, if it can be found."""
    return state.load_campaigns("main", URL, [(2, "email")])


def test_a_rollback_journal_where_shared_memory_cant_be_had(path: Path) -> None:
    """Where there can be no shared memory, the file has a rollback journal, also one that was in WAL mode."""
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
    path.with_name("state.db-shm").mkdir()  # so that none can be made
    with closing(State.open(path, clock=clock)) as state:
        assert everything_saved() == state.load("main", URL)
        state.save("main", URL, everything(7))
        assert ("delete",) == execute(path, "PRAGMA journal_mode")
        with closing(State.open_readonly(path, clock=clock)) as copy:
            assert everything_saved(7) == copy.load("main", URL)
    assert ["state.db", "state.db-shm", "state.db.lock"] == names(path)


def test_a_state_that_cant_be_opened_may_be_later(tmp_path: Path) -> None:
    """Who keeps using it gets errors until the place is usable."""
    path = tmp_path / "later" / "state.db"
    with closing(State(path, clock=clock)) as state:
        with pytest.raises(StateError):
            state.load("main", URL)
        path.parent.mkdir()
        assert state.load("main", URL) is None
        state.save("main", URL, everything())
        assert everything_saved() == state.load("main", URL)


def test_removed_file_asks_for_everything(path: Path, state: State, caplog: pytest.LogCaptureFixture) -> None:
    """A file that was deleted while in use is begun anew rather than written into the void."""
    state.save("main", URL, everything())
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    with pytest.raises(StateLostError):
        state.save("main", URL, Changes(notes={}))
    state.save("main", URL, everything(8))
    assert "removed or replaced" in caplog.text
    with closing(State.open_readonly(path, clock=clock)) as copy:
        assert everything_saved(8) == copy.load("main", URL)


def test_newer_schema_is_left_alone(path: Path) -> None:
    """A file of a newer version is refused and not touched."""
    State.open(path, clock=clock).close()
    execute(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    with pytest.raises(StateError, match="newer version"):
        State.open(path, clock=clock)
    assert before == path.read_bytes()
    with pytest.raises(StateError, match="newer version"):
        State.open_readonly(path, clock=clock)


def test_another_programs_database_is_left_alone(path: Path) -> None:
    """A database that isn't ours is refused and not touched."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE accounts (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StateError, match="another program"):
        State.open(path, clock=clock)
    assert before == path.read_bytes()


def add_note(db: sqlite3.Connection) -> None:
    """Stand for a migration."""
    db.execute("ALTER TABLE site ADD COLUMN note TEXT")
    db.execute("UPDATE site SET note = 'migrated'")


def fail_late(db: sqlite3.Connection) -> None:
    """Stand for a migration that fails."""
    add_note(db)
    db.execute("UPDATE nothing SET note = 1")


def test_older_schema_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an older version gets what is missing, and keeps its data; a copy of it is migrated, too."""
    with closing(State.open(path, clock=clock)) as old:
        old.save("main", URL, everything())
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, add_note))
    with closing(State.open_readonly(path, clock=clock)) as copy:
        assert everything_saved() == copy.load("main", URL)
    with closing(State.open(path, clock=clock)) as new:
        assert everything_saved() == new.load("main", URL)
        assert ("migrated",) == execute(path, "SELECT note FROM site")
        assert (len(MIGRATIONS) + 1,) == execute(path, "PRAGMA user_version")


def test_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is one transaction."""
    with closing(State.open(path, clock=clock)) as old:
        old.save("main", URL, everything())
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, fail_late))
    with pytest.raises(StateError, match="nothing"):
        State.open(path, clock=clock)
    monkeypatch.undo()
    with closing(State.open(path, clock=clock)) as again:
        assert everything_saved() == again.load("main", URL)


def test_full_disk_fails_one_save(state: State) -> None:
    """A save that finds no room changes nothing, and works again when there is room."""
    state.save("main", URL, everything())
    (pages,) = state._database.connection.execute("PRAGMA page_count").fetchone()
    state._database.connection.execute(f"PRAGMA max_page_count = {pages}")
    many = Changes(campaigns=tuple(campaign(number) for number in range(10, 500)))
    with pytest.raises(StateError, match=r"full.*make room"):
        state.save("main", URL, many)
    assert everything_saved() == state.load("main", URL)
    state._database.connection.execute("PRAGMA max_page_count = 1000000")
    state.save("main", URL, many)
    assert 491 == len(state.load("main", URL).campaigns)


def test_no_room_at_start_is_one_clear_error(path: Path) -> None:
    """Where not even the lock file can be written, the state says so, and can be used once there is room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = State(path, clock=clock)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(StateError, match="can't lock"):
            state.load("main", URL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with closing(state):
        assert state.load("main", URL) is None


def test_locked_file_fails_one_save(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's lock is waited for, then the save fails and says why; later it works again."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StateError, match="locked"):
                state.save("main", URL, Changes(notes={}))
        state.save("main", URL, everything(9))
        assert everything_saved(9) == state.load("main", URL)


@pytest.mark.parametrize("place", ["missing/state.db", "file/state.db", "."])
def test_unusable_place_says_what_to_do(tmp_path: Path, place: str) -> None:
    """A path that can't be a file is one clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"choose another state\.path"):
        State.open(tmp_path / place, clock=clock)


AS_ANOTHER_USER = """
import sys, os
sys.path.insert(0, sys.argv[1])
from exporter.tracking.state_file import State
from exporter.errors import StateError
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    getattr(State, sys.argv[3])(sys.argv[2], clock=lambda: 0.0)
except StateError as error:
    print(error)
"""


def told_another_user(path: Path, method: str) -> str:
    """Open the state as a user without rights, and return the error."""
    command = [sys.executable, "-c", AS_ANOTHER_USER, str(ROOT), str(path), method]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("what", ["file", "directory"])
def test_read_only_place_is_left_alone(what: str) -> None:
    """A file or directory that may not be written is one clear error at start, and isn't changed."""
    # Not tmp_path: its parents are closed to the other user that root has to become for this.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "state.db"
        with closing(State.open(path, clock=clock)) as state:
            state.save("main", URL, everything())
        path.with_name("state.db.lock").chmod(0o666)
        path.chmod(0o444)
        directory.chmod(0o777 if what == "file" else 0o555)
        if what == "directory":
            path.with_name("state.db.lock").unlink()
        before = path.read_bytes()
        assert "choose another state.path" in told_another_user(path, "open")
        assert before == path.read_bytes()


# Reading beside a running process


def test_read_only_copy_sees_the_last_commit(path: Path, state: State) -> None:
    """`once` and `doctor` read while the server has the file open, without a trace."""
    state.save("main", URL, everything())
    before = names(path)
    with closing(State.open_readonly(path, clock=clock)) as copy:
        assert everything_saved() == copy.load("main", URL)
        copy.save("main", URL, everything(1))
    assert before == names(path)
    assert everything_saved() == state.load("main", URL)


def test_read_only_copy_creates_no_file(path: Path) -> None:
    """Neither where there is no state nor beside one that isn't in use."""
    with closing(State.open_readonly(path, clock=clock)) as copy:
        assert copy.load("main", URL) is None
    assert [] == names(path)
    with closing(State.open(path, clock=clock)) as state:
        state.save("main", URL, everything())
    before = names(path)
    with closing(State.open_readonly(path, clock=clock)) as copy:
        assert everything_saved() == copy.load("main", URL)
    assert before == names(path)


def test_read_only_copy_of_a_closed_folder_is_an_error() -> None:
    """A state that this user may not look for isn't taken for an empty one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "closed"
        folder.mkdir()
        folder.chmod(0)
        told = told_another_user(folder / "state.db", "open_readonly")
        folder.chmod(0o700)
    assert "can't be looked at" in told
    assert "choose another state.path" in told


def test_read_only_copy_of_a_broken_file_is_an_error(path: Path) -> None:
    """What can't be read is said, and left where it is."""
    path.write_bytes(b"broken" * 1000)
    with pytest.raises(StateError, match="can't read"):
        State.open_readonly(path, clock=clock)
    assert ["state.db"] == names(path)


# Kills

VICTIMS = r"""
import os, sys
sys.path.insert(0, sys.argv[1])
from exporter.tracking.model import Changes
from exporter.tracking.state_file import State
from tests._accounts import campaign, everything

def save_for_ever():
    state = State.open(sys.argv[2], clock=lambda: 0.0)
    saved = state.load("main", "url")
    number = saved.channels[0].counters.top.sent if saved else 0
    if not saved:
        state.save("main", "url", everything(0))
    while True:
        number += 1
        changes = everything(number)
        campaigns = tuple(campaign(key, number) for key in range(20))
        notes = {"plan": str(number)}
        state.save("main", "url", Changes(None, campaigns, changes.channels, notes=notes))
        os.write(1, b"saved %d\n" % number)

for line in sys.stdin:  # one victim for each line; forking saves 500 starts of an interpreter
    child = os.fork()
    if not child:
        save_for_ever()
    os.write(1, b"pid %d\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead 0\n")
"""


@pytest.mark.e2e
def test_500_kills_lose_no_acknowledged_save(path: Path) -> None:
    """However often a process is killed amid saves, the state opens and has the last acknowledged save."""
    rng = random.Random(500)
    last = 0
    victims = subprocess.Popen(
        [sys.executable, "-c", VICTIMS, str(ROOT), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        for _ in range(500):
            acknowledged = max(last, _kill_one(victims, rng))
            with closing(State.open(path, clock=clock)) as state:
                saved = state.load("main", "url")
                plan = state.load_note("main", "url", "plan")
            assert saved is not None or acknowledged == 0
            if saved is None:
                continue
            last = saved.channels[0].counters.top.sent or 0
            assert acknowledged <= last <= acknowledged + 1
            if last:
                assert [last] * 20 == [item.counters.top.sent for item in saved.campaigns]
                assert str(last) == plan
    finally:
        victims.stdin.close()
        assert 0 == victims.wait(60)
        victims.stdout.close()
    assert not any(".broken-" in name for name in names(path))
    assert last > 0


def _kill_one(victims: subprocess.Popen[str], rng: random.Random) -> int:
    """Let a process save in a loop and kill it at a random moment; return the last save it acknowledged."""
    victims.stdin.write("\n")
    acknowledged = 0
    for word, number in (line.split() for line in victims.stdout):
        if word == "pid":
            threading.Event().wait(rng.uniform(0, 0.05))
            os.kill(int(number), signal.SIGKILL)
        elif word == "saved":
            acknowledged = int(number)
        else:
            break
    return acknowledged
