"""One SQLite file that belongs to this process: opening, locking, transactions, and what to do where it breaks.

The file is in WAL mode, or has a rollback journal where shared memory can't be had, and is synced with every
commit: not even a power cut takes back what was built on one.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from exporter.errors import StateError, StateLockedError, StateLostError
from exporter.tracking.schema import UnreadableError, check, migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)

BUSY_SECONDS: Final = 5.0
"""How long a transaction waits for another program that has the file locked."""

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
_CORRUPT: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_SHARED_MEMORY: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}


class Database:
    """The file at `path`, or a database in memory (None). Its methods may be called from any thread.

    It is opened when it is first needed, and again after it could not be used. `clock` (seconds since the
    epoch) is for the names of files that are set aside.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float]) -> None:
        self.path = path
        self.connection: sqlite3.Connection | None = None
        self._clock = clock
        self._mutex = threading.RLock()
        self._lock_file: IO[bytes] | None = None
        self._inode: int | None = None

    def open(self) -> sqlite3.Connection:
        """Return the connection, opened if it isn't yet, or if the file has been removed or replaced.

        A file that can't be read is renamed and a new one begun. `StateLockedError`: another process has it;
        `StateError`: it can't be written, or a newer version or another program made it.
        """
        with self._mutex:
            if self.path is not None and self._lock_file is None:
                self._lock_file = _lock(self.path)
            if self.connection is not None and self.path is not None and _inode(self.path) != self._inode:
                _LOG.warning(
                    "state file %s was removed or replaced while in use; using what is there now", self.path
                )
                self._disconnect()
            if self.connection is None:
                self.connection = self._connect() or self._connect()
            if self.connection is None:
                raise StateError(f"state file {self.path} can't be begun anew: choose another state.path")
            return self.connection

    def copy_from(self, path: Path) -> None:
        """Become a copy of the file at `path` as of now; nothing is written to it."""
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            _copy(path, self.connection)
            migrate(self.connection, path)
            check(self.connection)
        except (sqlite3.Error, UnicodeError, UnreadableError) as error:
            raise _state_error("read", path, error) from None

    @contextmanager
    def transaction(self, verb: str) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction to "read" or "save"; what goes wrong is a `StateError`.

        `StateLostError`: the file turned out to be broken; a new one has been begun.
        """
        with self._mutex:
            connection = self.open()
            try:
                connection.execute("BEGIN" if verb == "read" else "BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except (sqlite3.Error, UnicodeError, UnreadableError) as error:
                _rollback(connection)
                if isinstance(error, sqlite3.Error) and not (_is_broken(error) and self.path):
                    raise _state_error(verb, self.path, error) from None
                if self.path is None:
                    raise StateError(f"can't read the state ({error}): {_BROKEN}") from None
                self._set_aside(self.path, str(error))
                raise StateLostError(f"{self.path} was broken and has been begun anew") from None
            except BaseException:
                _rollback(connection)
                raise

    def close(self) -> None:
        """Close the file and give it free for other processes."""
        with self._mutex:
            self._disconnect()
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None

    def _connect(self) -> sqlite3.Connection | None:
        """Return a connection; None: the file was broken, and has been set aside."""
        try:
            if self.path is None:
                return _connect(":memory:", None, "MEMORY")
            return _connect_to_file(self.path)
        except (sqlite3.Error, UnicodeError, UnreadableError) as error:
            if self.path is None or not _is_broken(error):
                raise _state_error("open", self.path, error) from None
            self._set_aside(self.path, str(error))
            return None
        finally:
            self._inode = None if self.path is None else _inode(self.path)

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _set_aside(self, path: Path, why: str) -> None:
        """Rename the broken file with its journals, so that the next use begins a new one."""
        self._disconnect()
        stamp = datetime.fromtimestamp(self._clock(), tz=UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = Path(f"{path}.broken-{stamp}")
        count = 0
        while aside.exists():
            count += 1
            aside = Path(f"{path}.broken-{stamp}-{count}")
        try:
            path.rename(aside)
            for suffix in ("-wal", "-shm", "-journal"):
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


def _connect(target: str | Path, path: Path | None, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(target, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        if mode == "DELETE":  # without shared memory a file in WAL mode can only be read by one alone
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        migrate(connection, path, journal_mode=mode)
        check(connection)
        if mode == "DELETE":
            connection.execute("PRAGMA locking_mode = NORMAL")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # lets go of the lock
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_file(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path, path, "WAL")
    except sqlite3.OperationalError as error:
        if _code(error) not in _NO_SHARED_MEMORY:
            raise
        try:
            connection = _connect(path, path, "DELETE")
        except sqlite3.Error:
            raise error from None  # it isn't the shared memory
        _LOG.warning("state file %s has a rollback journal, since it can't have a WAL (%s)", path, error)
        return connection


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _lock(path: Path) -> IO[bytes]:
    """Take the file for this process, by a lock that the kernel drops however the process ends."""
    lock_path = Path(f"{path}.lock")
    try:
        # Without a buffer, which would keep what a full disk refused, and fail again where it is closed
        file = os.fdopen(os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
    except OSError as error:
        raise StateError(
            f"can't create {lock_path} ({error.strerror}): make sure that its directory exists and is"
            " writable, or choose another state.path"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
    except BlockingIOError:
        with closing(file):
            pid = _pid(file)
        raise StateLockedError(
            f"state file {path} belongs to another running process (pid {pid}):"
            " stop it, or give each process a state.path of its own"
        ) from None
    except OSError as error:
        file.close()
        hint = "make room on the disk" if error.errno == errno.ENOSPC else "choose another state.path"
        raise StateError(f"can't lock {lock_path} ({error.strerror}): {hint}") from None
    return file


def _pid(file: IO[bytes]) -> str:
    """Return the pid that a lock file names, or "unknown"."""
    pid = (file.read(20) or b"").strip()
    return pid.decode() if pid.isdigit() else "unknown"


def holder(path: Path) -> str | None:
    """Return the pid of the process that has the file at `path` ("unknown" if it can't be told), or None.

    Writes nothing. Raises OSError if the lock file may not be read.
    """
    try:
        file = Path(f"{path}.lock").open("rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return None
    with file:
        try:
            # Shared, and let go at once: who opens the file right now is hardly ever kept out
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid(file)
        fcntl.flock(file, fcntl.LOCK_UN)
    return None


def _copy(path: Path, target: sqlite3.Connection) -> None:
    """Copy the file as of now into `target`, without creating a file beside it."""
    # Without a journal no process has it open, and SQLite would create one even to read.
    live = any(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-journal"))
    uri = f"{path.resolve().as_uri()}?{'mode=ro' if live else 'immutable=1'}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as source:
        source.backup(target)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _is_broken(error: Exception) -> bool:
    """Whether the file is broken. Text that isn't UTF-8, in errors of SQLite too, is never ours."""
    return isinstance(error, (UnreadableError, UnicodeError)) or _code(error) in _CORRUPT


def _code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 if it isn't SQLite's error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _state_error(verb: str, path: Path | None, error: Exception) -> StateError:
    hint = _BROKEN if _is_broken(error) else _HINTS.get(_code(error))
    return StateError(f"can't {verb} state file {path} ({error})" + (f": {hint}" if hint else ""))
