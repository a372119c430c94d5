"""The tables of the state file, and how files of earlier versions get them.

Each record is one row of JSON by name, with a checksum over the whole row, so that a bit that flipped on the
disk is noticed when the row is read.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.errors import StateError
from exporter.tracking import state_0_1_0

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class UnreadableError(Exception):
    """What stands in the file isn't what was written to it."""


APPLICATION_ID: Final = 0x494E5445
"""Marks the file as ours (``PRAGMA application_id``)."""

Migration: TypeAlias = "Callable[[sqlite3.Connection], None]"

INSERT: Final = (
    "INSERT INTO record (site, kind, key, evicted, data, checksum) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET evicted = excluded.evicted, data = excluded.data, checksum = excluded.checksum"
)
"""Takes the values of `row`."""

_TABLES: Final = """
    CREATE TABLE site (
        id INTEGER PRIMARY KEY, account TEXT NOT NULL, base_url TEXT, checksum INTEGER NOT NULL,
        UNIQUE (account, base_url));
    CREATE TABLE record (
        site INTEGER, kind TEXT, key TEXT, evicted REAL, data TEXT NOT NULL, checksum INTEGER NOT NULL,
        PRIMARY KEY (site, kind, key)) WITHOUT ROWID;
    CREATE INDEX record_evicted ON record (evicted) WHERE evicted IS NOT NULL;
"""


def checksum(*values: object) -> int:
    """Return the checksum of a row's other values."""
    return zlib.crc32(repr(values).encode("utf-8", "backslashreplace"))


def row(site: int, kind: str, key: str, evicted: float | None, data: str) -> tuple[object, ...]:
    """Return the values of one record for `INSERT`."""
    evicted = None if evicted is None else float(evicted)
    return (site, kind, key, evicted, data, checksum(site, kind, key, evicted, data))


def insert_site(db: sqlite3.Connection, account: str, base_url: str | None) -> int:
    """Begin the records of one account at one server; return their number."""
    (site,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM site").fetchone()
    db.execute(
        "INSERT INTO site VALUES (?, ?, ?, ?)", (site, account, base_url, checksum(site, account, base_url))
    )
    return int(site)


def _create(db: sqlite3.Connection) -> None:
    """From an empty file, or one of 0.1.0, whose counts stood by position."""
    (has_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    saved: Sequence[tuple[str, Sequence[state_0_1_0.Record]]] = ()
    if has_tables:
        try:
            saved = state_0_1_0.read(db)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise UnreadableError(f"a record can't be read: {error!r}") from None
        state_0_1_0.drop(db)
    for statement in _TABLES.split(";"):
        db.execute(statement)
    for account, records in saved:
        site = insert_site(db, account, None)
        db.executemany(INSERT, [row(site, *record) for record in records])


def _nothing(_db: sqlite3.Connection) -> None:
    """Version 1 was that of 0.1.0; new files skip it."""


MIGRATIONS: Final[tuple[Migration, ...]] = (_nothing, _create)
"""What leads from schema version n to n + 1; version 0 is an empty file."""


def migrate(connection: sqlite3.Connection, path: Path | None, *, journal_mode: str = "MEMORY") -> None:
    """Bring the file to the current schema; refuse a newer one and other programs' databases untouched."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or version):
        raise StateError(f"{path} is another program's database: choose another state.path")
    if tables and not version:
        raise UnreadableError("it has no schema version")
    if version > len(MIGRATIONS):
        raise StateError(
            f"state file {path} was written by a newer version of the exporter (schema {version}, this one"
            f" knows {len(MIGRATIONS)}): upgrade the exporter or choose another state.path"
        )
    connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for step in MIGRATIONS[version:]:
            step(connection)
        # Written always, so that a read-only file fails now rather than at the first save.
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def check(connection: sqlite3.Connection) -> None:
    """Look for damage that no checksum of a row shows, such as rows that can't be found any more."""
    (result,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if result != "ok":
        raise UnreadableError(" ".join(str(result).split()))
