"""The state file: what must survive a restart, in SQLite.

One save is one transaction and writes only what changed. The file is in WAL mode with ``synchronous=FULL``: a
commit has reached the disk before anything built on it is published, so that not even a power cut can take it
back. Nothing here is fatal to the exporter: what can't be read is set aside, what can't be written is a
`StateError`, and the next save writes what this one could not.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from exporter.api.fields import RESOURCES, Counts
from exporter.api.model import INVALID, Mark
from exporter.errors import StateError, StateLockedError, StateLostError
from exporter.tracking.model import (
    ConversionSnapshot,
    Counter,
    SavedAccount,
    SavedCampaign,
    SavedChannel,
    SavedConversionGroup,
    SavedConversions,
    SavedGroup,
    SavedMessage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exporter.api.model import Amount, Count
    from exporter.tracking.model import Changes

_LOG = logging.getLogger(__name__)

ARCHIVE_SECONDS: Final = 400 * 86400.0
"""A campaign that left the window is remembered for so long."""

BUSY_SECONDS: Final = 5.0
"""How long a save waits for another program that has the file locked."""

APPLICATION_ID: Final = 0x494E5445
"""Marks the file as ours (``PRAGMA application_id``)."""

MIGRATIONS: Final[tuple[str, ...]] = (
    f"""
    PRAGMA application_id = {APPLICATION_ID};
    CREATE TABLE account (account TEXT PRIMARY KEY, since REAL NOT NULL);
    CREATE TABLE success (
        account TEXT, endpoint TEXT, time REAL NOT NULL,
        PRIMARY KEY (account, endpoint));
    CREATE TABLE campaign (
        account TEXT, campaign_id TEXT, channel TEXT, evicted REAL, data TEXT NOT NULL,
        PRIMARY KEY (account, campaign_id, channel));
    CREATE INDEX campaign_evicted ON campaign (account, evicted);
    CREATE TABLE channel (
        account TEXT, channel TEXT, data TEXT NOT NULL,
        PRIMARY KEY (account, channel));
    CREATE TABLE conversions (
        account TEXT, campaign_id TEXT, channel TEXT, data TEXT NOT NULL,
        PRIMARY KEY (account, campaign_id, channel));
    CREATE TABLE discovered (
        account TEXT, campaign_id TEXT, time REAL NOT NULL,
        PRIMARY KEY (account, campaign_id));
    CREATE TABLE memory (
        account TEXT, key TEXT, value TEXT NOT NULL,
        PRIMARY KEY (account, key));
    """,
)
"""The statements that lead from schema version n to n + 1; version 0 is an empty file."""

_TABLES: Final = ("account", "success", "campaign", "channel", "conversions", "discovered")

_BROKEN: Final = (
    "a start of the exporter renames it and begins anew, so put back a copy that is whole, if there is one"
)
_HINTS: Final = {
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable, or choose another state.path",
    sqlite3.SQLITE_CANTOPEN: "make its directory, and make it writable, or choose another state.path",
    sqlite3.SQLITE_BUSY: "another program has it locked; close that program",
    sqlite3.SQLITE_LOCKED: "another program has it locked; close that program",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_CORRUPT: _BROKEN,
    sqlite3.SQLITE_NOTADB: _BROKEN,
}


class _UnreadableError(Exception):
    """What stands in the file isn't what was written to it."""


class State:
    """The saved state of all accounts; its methods may be called from any thread.

    Every method raises `StateError` where the file can't be used; it may work again later. `path` is None if
    nothing outlives the process.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float]) -> None:
        """Leave the opening to `open` and `open_readonly`."""
        self.path = path
        self._clock = clock
        self._mutex = threading.RLock()
        self._lock_file: IO[str] | None = None
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None, *, clock: Callable[[], float]) -> State:
        """Open the file, or begin it; None keeps everything in memory.

        A file that can't be read is renamed, with the time by `clock` (seconds since the epoch) in its name,
        and a new one begun. `StateLockedError`: another process has it; `StateError`: it can't be written, or a
        newer version or another program made it; then it is left as it is.
        """
        state = cls(None if path is None else Path(path), clock=clock)
        try:
            if state.path is not None:
                state._lock_file = _lock(state.path)
            state._connected()
        except BaseException:
            state.close()
            raise
        return state

    @classmethod
    def open_readonly(cls, path: str | os.PathLike[str] | None, *, clock: Callable[[], float]) -> State:
        """Return a copy of the file as of now, in memory; the file may be in use, and nothing is written to it.

        A file that doesn't exist is an empty state.
        """
        state = cls(None, clock=clock)
        connection = state._connected()
        if path is not None and Path(path).exists():
            try:
                _copy(Path(path), connection)
                _migrate(connection, Path(path))
            except sqlite3.Error as error:
                state.close()
                raise _state_error("read", Path(path), error) from None
            except BaseException:
                state.close()
                raise
        return state

    # Reading

    def load(self, account: str) -> SavedAccount | None:
        """Return what was last saved of the account, without the archive; None: nothing.

        Holds come back without their times: a restart begins them anew. After a `StateError` don't save the
        account as a whole, which would overwrite what couldn't be read; go on with ``State.open(None)``.
        """
        try:
            with self._transaction("read") as db:
                return _load(db, account)
        except StateLostError:
            return None

    def recall(self, account: str, keys: Iterable[tuple[int, str]]) -> list[SavedCampaign]:
        """Return the campaigns of these ids and channels that were ever saved, as far as they aren't pruned."""
        wanted = sorted(keys)
        if not wanted:
            return []
        try:
            with self._transaction("read") as db:
                query = (
                    "SELECT evicted, data FROM campaign WHERE account = ? AND campaign_id = ? AND channel = ?"
                )
                found = []
                for campaign_id, channel in wanted:
                    row = db.execute(query, (account, str(campaign_id), _text(channel))).fetchone()
                    if row is not None:
                        found.append(_decode_campaign(*row))
                return found
        except StateLostError:
            return []

    def recollect(self, account: str, key: str) -> str | None:
        """Return the note that was saved under `key`, if any."""
        try:
            with self._transaction("read") as db:
                query = "SELECT value FROM memory WHERE account = ? AND key = ?"
                row = db.execute(query, (account, key)).fetchone()
                return None if row is None else str(row[0])
        except StateLostError:
            return None

    # Writing

    def save(self, account: str, changes: Changes) -> None:
        """Save the changes in one transaction: afterwards all of them are on disk, or none.

        `StateLostError`: the file was begun anew meanwhile; save the account's whole changes.
        """
        with self._transaction("save") as db:
            known = db.execute("SELECT 1 FROM account WHERE account = ?", (account,)).fetchone()
            if changes.whole:
                for table in _TABLES:
                    db.execute(f"DELETE FROM {table} WHERE account = ?", (account,))  # noqa: S608
                db.execute("INSERT INTO account VALUES (?, ?)", (account, changes.since))
            elif known is None:
                raise StateLostError(f"{self.path} has nothing of account {account!r} any more")
            _write(db, account, changes)

    def remember(self, account: str, key: str, value: str) -> None:
        """Save one free-form note on its own."""
        with self._transaction("save") as db:
            db.execute("INSERT OR REPLACE INTO memory VALUES (?, ?, ?)", (account, key, value))

    def prune(self, now: float) -> int:
        """Forget the campaigns that left the window more than 400 days ago; return how many they were."""
        with self._transaction("save") as db:
            query = "DELETE FROM campaign WHERE evicted < ?"
            return db.execute(query, (now - ARCHIVE_SECONDS,)).rowcount

    def close(self) -> None:
        """Close the file and give it free for other processes."""
        with self._mutex:
            self._disconnect()
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None

    # The file

    @contextmanager
    def _transaction(self, verb: str) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction, and turn what goes wrong into a `StateError`.

        `StateLostError`: the file turned out to be broken; a new one has been begun.
        """
        with self._mutex:
            connection = self._connected()
            try:
                connection.execute("BEGIN" if verb == "read" else "BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._rollback(connection)
                if self.path is None or not _is_corrupt(error):
                    raise _state_error(verb, self.path, error) from None
                self._set_aside(self.path, str(error))
                raise StateLostError(f"{self.path} was broken and has been begun anew") from None
            except _UnreadableError as error:
                self._rollback(connection)
                if self.path is None:
                    raise StateError(f"can't read the state ({error}): {_BROKEN}") from None
                self._set_aside(self.path, str(error))
                raise StateLostError(f"{self.path} was broken and has been begun anew") from None
            except BaseException:
                self._rollback(connection)
                raise

    @staticmethod
    def _rollback(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _connected(self) -> sqlite3.Connection:
        """Return the connection, opened if it isn't yet, or if the file has been removed or replaced."""
        if self._connection is not None and self.path is not None and _inode(self.path) != self._inode:
            _LOG.warning(
                "state file %s was removed or replaced while in use; using what is there now", self.path
            )
            self._disconnect()
        if self._connection is not None:
            return self._connection
        try:
            self._connection = self._connect()
        except sqlite3.Error as error:
            if self.path is None or not _is_corrupt(error):
                raise _state_error("open", self.path, error) from None
            self._set_aside(self.path, str(error))
        return self._connected() if self._connection is None else self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            ":memory:" if self.path is None else self.path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _migrate(connection, self.path)
        except BaseException:
            connection.close()
            raise
        self._inode = None if self.path is None else _inode(self.path)
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_aside(self, path: Path, why: str) -> None:
        """Rename the broken file with its journal, so that the next use begins a new one."""
        self._disconnect()
        stamp = datetime.fromtimestamp(self._clock(), tz=UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = Path(f"{path}.broken-{stamp}")
        count = 0
        while aside.exists():
            count += 1
            aside = Path(f"{path}.broken-{stamp}-{count}")
        try:
            path.rename(aside)
            for suffix in ("-wal", "-shm"):
                journal = Path(f"{path}{suffix}")
                if journal.exists():
                    journal.rename(f"{aside}{suffix}")
        except OSError as error:
            raise StateError(
                f"state file {path} is broken ({why}) and can't be renamed ({error.strerror}):"
                " move it away or choose another state.path"
            ) from None
        _LOG.error(
            "state file %s is broken (%s); kept as %s, and a new state begins: counters go on from what the"
            " next poll finds",
            path,
            why,
            aside,
        )


def _lock(path: Path) -> IO[str]:
    """Take the file for this process, by a lock that the kernel drops however the process ends."""
    lock_path = Path(f"{path}.lock")
    try:
        file = os.fdopen(os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    except OSError as error:
        raise StateError(
            f"can't create {lock_path} ({error.strerror}): make sure that its directory exists and is"
            " writable, or choose another state.path"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BlockingIOError:
        with closing(file):
            holder = file.read(20).strip()
        raise StateLockedError(
            f"state file {path} belongs to another running process (pid {holder or 'unknown'}):"
            " stop it, or give each process a state.path of its own"
        ) from None
    except OSError as error:
        file.close()
        raise StateError(f"can't lock {lock_path} ({error.strerror}): choose another state.path") from None
    return file


def holder(path: Path) -> str | None:
    """Return the pid of the process that has the file at `path` ("unknown" if it can't be told), or None.

    Writes nothing. Raises OSError if the lock file may not be read.
    """
    try:
        file = Path(f"{path}.lock").open(encoding="ascii", errors="replace")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return None
    with file:
        try:
            # Shared, and let go at once: who opens the file right now is hardly ever kept out
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = file.read(20).strip()
            return pid if pid.isdecimal() else "unknown"
        fcntl.flock(file, fcntl.LOCK_UN)
    return None


def _migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    """Bring the file to the current schema; refuse a newer one and other programs' databases untouched."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or version):
        raise StateError(f"{path} is another program's database: choose another state.path")
    if version > len(MIGRATIONS):
        raise StateError(
            f"state file {path} was written by a newer version of the exporter (schema {version}, this one"
            f" knows {len(MIGRATIONS)}): upgrade the exporter or choose another state.path"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in MIGRATIONS[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        # Written always, so that a read-only file fails now rather than at the first save.
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _copy(path: Path, target: sqlite3.Connection) -> None:
    """Copy the file as of now into `target`, without creating a file beside it."""
    # Without a journal no process has it open, and SQLite would create one even to read.
    live = Path(f"{path}-wal").exists()
    uri = f"{path.resolve().as_uri()}?{'mode=ro' if live else 'immutable=1'}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as source:
        source.backup(target)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _is_corrupt(error: sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 if it isn't SQLite's error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _state_error(verb: str, path: Path | None, error: sqlite3.Error) -> StateError:
    hint = _HINTS.get(_code(error))
    return StateError(f"can't {verb} state file {path} ({error})" + (f": {hint}" if hint else ""))


# Rows


def _write(db: sqlite3.Connection, account: str, changes: Changes) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO success VALUES (?, ?, ?)",
        [(account, resource, time) for resource, time in changes.successes.items()],
    )
    db.executemany(
        "INSERT INTO campaign VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET evicted = excluded.evicted, data = excluded.data",
        (
            (account, str(item.campaign_id), _text(item.channel), item.evicted, _encode_campaign(item))
            for item in changes.campaigns
        ),
    )
    db.executemany(
        "INSERT OR REPLACE INTO channel VALUES (?, ?, ?)",
        ((account, _text(item.channel), _encode_channel(item)) for item in changes.channels),
    )
    db.executemany(
        "INSERT INTO conversions VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
        (
            (account, str(item.campaign_id), _text(item.channel), _encode_conversions(item))
            for item in changes.conversions
        ),
    )
    db.executemany(
        "DELETE FROM conversions WHERE account = ? AND campaign_id = ? AND channel = ?",
        ((account, str(campaign_id), _text(channel)) for campaign_id, channel in changes.conversions_gone),
    )
    for campaign_id, time in changes.discovered.items():
        if time is None:
            query = "DELETE FROM discovered WHERE account = ? AND campaign_id = ?"
            db.execute(query, (account, str(campaign_id)))
        else:
            query = "INSERT OR REPLACE INTO discovered VALUES (?, ?, ?)"
            db.execute(query, (account, str(campaign_id), time))
    db.executemany(
        "INSERT OR REPLACE INTO memory VALUES (?, ?, ?)",
        [(account, key, value) for key, value in changes.memory.items()],
    )


def _load(db: sqlite3.Connection, account: str) -> SavedAccount | None:
    row = db.execute("SELECT since FROM account WHERE account = ?", (account,)).fetchone()
    if row is None:
        return None
    active = "SELECT evicted, data FROM campaign WHERE account = ? AND evicted IS NULL"
    channels = "SELECT data FROM channel WHERE account = ?"
    conversions = "SELECT data FROM conversions WHERE account = ?"
    successes = "SELECT endpoint, time FROM success WHERE account = ?"
    discovered = "SELECT campaign_id, time FROM discovered WHERE account = ?"
    with _reading("a discovery"):
        times = {int(campaign_id): time for campaign_id, time in db.execute(discovered, (account,))}
    return SavedAccount(
        row[0],
        {resource: time for resource, time in db.execute(successes, (account,)) if resource in RESOURCES},
        tuple(_decode_campaign(*item) for item in db.execute(active, (account,))),
        tuple(_decode_channel(data) for (data,) in db.execute(channels, (account,))),
        tuple(_decode_conversions(data) for (data,) in db.execute(conversions, (account,))),
        times,
    )


def _text(value: str) -> str:
    """Return a key that SQLite can store; the true value, which may have lone surrogates, is in the data."""
    return value.encode("utf-8", "backslashreplace").decode()


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise _UnreadableError(f"{what} can't be read: {error}") from None


def _encode_count(count: Count) -> int | str | None:
    return "?" if isinstance(count, Mark) else count


def _decode_count(value: int | str | None) -> Count:
    return INVALID if isinstance(value, str) else value


def _encode_amount(amount: Amount) -> str | None:
    if amount is None:
        return None
    return "?" if isinstance(amount, Mark) else str(amount)


def _decode_amount(value: str | None) -> Amount:
    if value is None:
        return None
    return INVALID if value == "?" else Decimal(value)


def _encode_counters(counters: Iterable[Counter]) -> list[Any]:
    return [
        [item.top, item.vendor, item.low, item.corrections, int(item.held is not None), int(item.as_is)]
        if item != Counter()
        else 0
        for item in counters
    ]


_NO_COUNTER: Final = (None, None, 0, 0, 0, 0)


def _decode_counters(values: list[Any]) -> tuple[Counter, ...]:
    return tuple(
        Counter(top, vendor, low, corrections, 0.0 if held else None, bool(as_is))
        for top, vendor, low, corrections, held, as_is in (value or _NO_COUNTER for value in values)
    )


def _encode_campaign(item: SavedCampaign) -> str:
    groups = [
        [
            group.start,
            group.rows,
            [_encode_count(count) for count in group.values],
            group.titles,
            [[title, [_encode_count(count) for count in sums]] for title, sums in group.messages],
        ]
        for group in item.groups
    ]
    messages = [
        [message.title, _encode_counters(message.counters), int(message.gone)] for message in item.messages
    ]
    return _dump([item.campaign_id, item.channel, _encode_counters(item.counters), groups, messages])


def _decode_campaign(evicted: float | None, data: str) -> SavedCampaign:
    with _reading("a campaign"):
        campaign_id, channel, counters, groups, messages = json.loads(data)
        return SavedCampaign(
            campaign_id,
            channel,
            _decode_counters(counters),
            tuple(
                SavedGroup(
                    start,
                    rows,
                    tuple(_decode_count(count) for count in values),
                    tuple(titles),
                    tuple((title, tuple(_decode_count(count) for count in sums)) for title, sums in by_title),
                )
                for start, rows, values, titles, by_title in groups
            ),
            tuple(
                SavedMessage(title, _decode_counters(values), bool(gone)) for title, values, gone in messages
            ),
            evicted,
        )


def _encode_channel(item: SavedChannel) -> str:
    return _dump([item.channel, item.totals, [int(time is not None) for time in item.held]])


def _decode_channel(data: str) -> SavedChannel:
    with _reading("a channel"):
        channel, totals, held = json.loads(data)
        return SavedChannel(channel, Counts._make(totals), tuple(0.0 if flag else None for flag in held))


def _encode_conversions(item: SavedConversions) -> str:
    groups = [
        [
            group.start,
            group.event,
            group.period,
            group.rows,
            group.titles,
            group.stop,
            _encode_count(group.deposits),
            _encode_amount(group.amount),
            _encode_count(group.converted_users),
        ]
        for group in item.groups
    ]
    gauges = [
        [gauge.event, gauge.period, gauge.deposits, _encode_amount(gauge.amount), gauge.converted_users]
        for gauge in item.gauges
    ]
    return _dump([item.campaign_id, item.channel, item.campaign_name, groups, gauges])


def _decode_conversions(data: str) -> SavedConversions:
    with _reading("conversions"):
        campaign_id, channel, name, groups, gauges = json.loads(data)
        return SavedConversions(
            campaign_id,
            channel,
            name,
            tuple(
                SavedConversionGroup(
                    start,
                    event,
                    period,
                    rows,
                    tuple(titles),
                    stop,
                    _decode_count(deposits),
                    _decode_amount(amount),
                    _decode_count(users),
                )
                for start, event, period, rows, titles, stop, deposits, amount, users in groups
            ),
            tuple(
                ConversionSnapshot(event, period, deposits, None if amount is None else Decimal(amount), users)
                for event, period, deposits, amount, users in gauges
            ),
        )
