"""The state file: what must survive a restart.

One save is one transaction and writes only what changed. Nothing here is fatal to the exporter: what can't be
read is set aside, what can't be written is a `StateError`, and the next save writes what this one could not.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from exporter.errors import StateError, StateLostError
from exporter.tracking import codec
from exporter.tracking.database import Database
from exporter.tracking.model import ARCHIVE_SECONDS, SavedAccount
from exporter.tracking.schema import INSERT, UnreadableError, checksum, insert_site, row

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from exporter.tracking.model import CampaignRecord, Changes, Key

_LOG = logging.getLogger(__name__)

_ACCOUNT: Final = "account"
_CAMPAIGN: Final = "campaign"
_CHANNEL: Final = "channel"
_CONVERSIONS: Final = "conversions"
_NOTE: Final = "note"


class State:
    """The saved state of all accounts; its methods may be called from any thread.

    Every method raises `StateError` where the file can't be used; it may work again later. An account is known
    by its name and the server's base URL: at another server it begins anew.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, clock: Callable[[], float]) -> None:
        """Open nothing yet: the first use does. None: nothing outlives the process."""
        self._database = Database(None if path is None else Path(path), clock=clock)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None, *, clock: Callable[[], float]) -> Self:
        """Open the file, or begin it; errors as of `Database.open`."""
        state = cls(path, clock=clock)
        try:
            state._database.open()
        except BaseException:
            state.close()
            raise
        return state

    @classmethod
    def open_readonly(cls, path: str | os.PathLike[str] | None, *, clock: Callable[[], float]) -> Self:
        """Return a copy of the file as of now, in memory; the file may be in use, and nothing is written to it.

        A file that doesn't exist is an empty state.
        """
        state = cls(None, clock=clock)
        if path is None or not _exists(Path(path)):
            return state
        try:
            state._database.copy_from(Path(path))
        except BaseException:
            state.close()
            raise
        return state

    @property
    def path(self) -> Path | None:
        """Where the file is; None if nothing outlives the process."""
        return self._database.path

    # Reading

    def load(self, account: str, base_url: str) -> SavedAccount | None:
        """Return what was last saved of the account, without the archive; None: nothing.

        Holds come back without their ends: a restart begins them anew. After a `StateError` don't save the
        account as a whole, which would overwrite what couldn't be read.
        """
        try:
            with self._database.transaction("read") as db:
                site = _find_site(db, account, base_url)
                if site is None:
                    _tell_of_other_servers(db, account, base_url)
                return None if site is None else _load(db, site)
        except StateLostError:
            return None

    def load_campaigns(self, account: str, base_url: str, keys: Iterable[Key]) -> list[CampaignRecord]:
        """Return the campaigns of these ids and channels that were ever saved, as far as they aren't pruned."""
        wanted = sorted(keys)
        if not wanted:
            return []
        try:
            with self._database.transaction("read") as db:
                site = _find_site(db, account, base_url)
                found = [] if site is None else [_find(db, site, _CAMPAIGN, _key(*key)) for key in wanted]
                return [_campaign(evicted, data) for evicted, data in filter(None, found)]
        except StateLostError:
            return []

    def load_note(self, account: str, base_url: str, key: str) -> str | None:
        """Return the note that was saved under `key`, if any."""
        try:
            with self._database.transaction("read") as db:
                site = _find_site(db, account, base_url)
                found = None if site is None else _find(db, site, _NOTE, key)
                return None if found is None else found[1]
        except StateLostError:
            return None

    # Writing

    def save(self, account: str, base_url: str, changes: Changes) -> None:
        """Save the changes in one transaction: afterwards all of them are on disk, or none.

        `StateLostError`: the file was begun anew meanwhile; save the account's whole changes.
        """
        with self._database.transaction("save") as db:
            site = _find_site(db, account, base_url)
            if site is None and not changes.whole:
                raise StateLostError(f"{self.path} has nothing of account {account!r} any more")
            if site is None:
                site = insert_site(db, account, base_url)
            elif changes.whole:
                db.execute("DELETE FROM record WHERE site = ? AND kind != ?", (site, _NOTE))
            _adopt(db, site, account, base_url)
            db.executemany(INSERT, _rows(site, changes))
            db.executemany(
                "DELETE FROM record WHERE site = ? AND kind = ? AND key = ?",
                [
                    *((site, _CONVERSIONS, _key(*key)) for key in changes.conversions_gone),
                    *((site, _CHANNEL, _text(channel)) for channel in changes.channels_gone),
                ],
            )

    def prune(self, now: float) -> int:
        """Forget the campaigns that left the window more than 400 days ago; return how many they were."""
        with self._database.transaction("save") as db:
            return db.execute("DELETE FROM record WHERE evicted < ?", (now - ARCHIVE_SECONDS,)).rowcount

    def close(self) -> None:
        """Close the file and give it free for other processes."""
        self._database.close()


def _exists(path: Path) -> bool:
    """Whether there is a file. Raises StateError if its folder doesn't tell: then it isn't an empty state."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StateError(
            f"state file {path} can't be looked at ({error.strerror}): fix the permissions of its directory, or"
            " choose another state.path"
        ) from None
    return True


# Rows


def _find_site(db: sqlite3.Connection, account: str, base_url: str) -> int | None:
    """Return the number of the account at this server, or where no server is known, as in files of 0.1.0."""
    sites: dict[str | None, int] = {}
    for site, name, url, stored in db.execute("SELECT id, account, base_url, checksum FROM site"):
        if stored != checksum(site, name, url):
            raise UnreadableError("an account isn't what was written")
        if name == account:
            sites[url] = site
    if base_url in sites:
        return sites[base_url]
    return sites.get(None)


def _tell_of_other_servers(db: sqlite3.Connection, account: str, base_url: str) -> None:
    others = [url for (url,) in db.execute("SELECT base_url FROM site WHERE account = ?", (account,))]
    if others:
        _LOG.warning(
            "the state of account %s is that of another base_url (%s); %s begins anew, and the other one stays"
            " in the file",
            account,
            ", ".join(others),
            base_url,
        )


def _adopt(db: sqlite3.Connection, site: int, account: str, base_url: str) -> None:
    """Note the server of an account that had none."""
    db.execute(
        "UPDATE site SET base_url = ?, checksum = ? WHERE id = ? AND base_url IS NULL",
        (base_url, checksum(site, account, base_url), site),
    )


def _rows(site: int, changes: Changes) -> Iterator[tuple[object, ...]]:
    if changes.account is not None:
        yield row(site, _ACCOUNT, "", None, codec.dump(codec.pack_account(changes.account)))
    for campaign in changes.campaigns:
        data = codec.dump(codec.pack_campaign(campaign))
        yield row(site, _CAMPAIGN, _key(*campaign.key), campaign.evicted, data)
    for channel in changes.channels:
        yield row(site, _CHANNEL, _text(channel.channel), None, codec.dump(codec.pack_channel(channel)))
    for item in changes.conversions:
        yield row(site, _CONVERSIONS, _key(*item.key), None, codec.dump(codec.pack_conversions(item)))
    for key, value in changes.notes.items():
        yield row(site, _NOTE, key, None, value)


def _load(db: sqlite3.Connection, site: int) -> SavedAccount:
    """Return the account. Every record is looked at, so that damage in the archive is noticed now, too."""
    active: dict[str, list[Any]] = {kind: [] for kind in (_ACCOUNT, _CAMPAIGN, _CHANNEL, _CONVERSIONS, _NOTE)}
    query = "SELECT site, kind, key, evicted, data, checksum FROM record WHERE site = ?"
    for *values, stored in db.execute(query, (site,)):
        _check(values, stored)
        if values[3] is None:
            active[values[1]].append(values[4])
    with _reading():
        return SavedAccount(
            codec.unpack_account(json.loads(active[_ACCOUNT][0])),
            tuple([codec.unpack_campaign(json.loads(data), None) for data in active[_CAMPAIGN]]),
            tuple([codec.unpack_channel(json.loads(data)) for data in active[_CHANNEL]]),
            tuple([codec.unpack_conversions(json.loads(data)) for data in active[_CONVERSIONS]]),
        )


def _find(db: sqlite3.Connection, site: int, kind: str, key: str) -> tuple[float | None, str] | None:
    query = (
        "SELECT site, kind, key, evicted, data, checksum FROM record WHERE site = ? AND kind = ? AND key = ?"
    )
    found = db.execute(query, (site, kind, key)).fetchone()
    if found is None:
        return None
    *values, stored = found
    _check(values, stored)
    return values[3], values[4]


def _check(values: list[object], stored: object) -> None:
    if stored != checksum(*values):
        raise UnreadableError(f"record {values[1]!r} {values[2]!r} isn't what was written")


def _campaign(evicted: float | None, data: str) -> CampaignRecord:
    with _reading():
        return codec.unpack_campaign(json.loads(data), evicted)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise UnreadableError(f"a record can't be read: {error!r}") from None


def _key(campaign_id: int, channel: str) -> str:
    return f"{campaign_id}/{_text(channel)}"


def _text(value: str) -> str:
    """Return a key that SQLite can store; the true value, which may have lone surrogates, is in the data."""
    return value.encode("utf-8", "backslashreplace").decode()
