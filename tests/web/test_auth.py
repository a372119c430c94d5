"""Basic authentication."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import bcrypt
import pytest

from exporter.web import auth
from exporter.web.auth import BasicAuth, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
USERS = {"alice": HASH}


def basic(user: str, password: str | bytes) -> str:
    """Return an Authorization header."""
    data = password.encode() if isinstance(password, str) else password
    return "Basic " + base64.b64encode(user.encode() + b":" + data).decode()


def check(*headers: str | None, users: dict[str, str] = USERS) -> list[Verdict]:
    """Return the verdicts of one checker on `headers`, in turn."""

    async def main() -> list[Verdict]:
        checker = BasicAuth()
        try:
            return [await checker.check(header, users) for header in headers]
        finally:
            checker.close()

    return asyncio.run(main())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the passwords that reach bcrypt."""
    seen: list[bytes] = []
    real: Callable[[bytes, bytes], bool] = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        seen.append(password)
        return real(password, hashed)

    monkeypatch.setattr(auth.bcrypt, "checkpw", checkpw)
    return seen


def test_right_password() -> None:
    """The right password opens, with the scheme in any case."""
    header = basic("alice", "right")
    assert [Verdict.ACCEPTED] * 2 == check(header, header.replace("Basic", "bASIC"))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Bearer abc",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Basic " + base64.b64encode(b"\xff:right").decode(),
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("Alice", "right"),
        basic("alice", "right\0x"),
        basic("bob", "right"),
    ],
)
def test_refused(header: str | None) -> None:
    """Anything else is refused without an error."""
    assert [Verdict.REFUSED] == check(header)


def test_the_old_2y_prefix() -> None:
    """Hashes of htpasswd begin with $2y$."""
    assert [Verdict.ACCEPTED] == check(basic("alice", "right"), users={"alice": HASH.replace("$2b$", "$2y$")})


def test_a_password_over_72_bytes_never_reaches_bcrypt(calls: list[bytes]) -> None:
    """Bcrypt would look at the first 72 bytes only, or raise."""
    long = "x" * 72
    users = {"alice": bcrypt.hashpw(long.encode(), bcrypt.gensalt(4)).decode()}
    assert [Verdict.REFUSED, Verdict.ACCEPTED] == check(
        basic("alice", long + "y"), basic("alice", long), users=users
    )
    assert [long.encode()] == calls


def test_right_passwords_are_remembered(calls: list[bytes]) -> None:
    """A scrape costs no bcrypt after the first."""
    assert [Verdict.ACCEPTED] * 5 == check(*[basic("alice", "right")] * 5)
    assert 1 == len(calls)


def test_wrong_passwords_are_not_remembered(calls: list[bytes]) -> None:
    """Guessing stays slow, and can't push out what is remembered."""
    check(*[basic("alice", "wrong")] * 3)
    assert 3 == len(calls)


def test_a_new_hash_forgets_the_old_password() -> None:
    """A changed password takes effect at once."""

    async def main() -> list[Verdict]:
        checker = BasicAuth()
        new = {"alice": bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()}
        header = basic("alice", "right")
        verdicts = [await checker.check(header, users) for users in (USERS, new, USERS)]
        checker.close()
        return verdicts

    assert [Verdict.ACCEPTED, Verdict.REFUSED, Verdict.ACCEPTED] == asyncio.run(main())


def test_an_unknown_user_costs_what_a_known_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bcrypt of the same cost, so that time doesn't tell who exists."""
    costs: list[bytes] = []
    monkeypatch.setattr(auth.bcrypt, "checkpw", lambda _, hashed: costs.append(hashed[:7]) or False)
    users = {"alice": "$2y$12$" + "a" * 53, "bob": "$2b$10$" + "a" * 53}
    assert [Verdict.REFUSED] * 2 == check(basic("alice", "x"), basic("mallory", "x"), users=users)
    assert [b"$2y$12$", b"$2b$12$"] == costs


def test_memory_is_bounded() -> None:
    """However many users there are, only so many passwords are remembered."""

    async def main() -> int:
        checker = BasicAuth()
        users = {f"user{number}": HASH for number in range(auth.CACHED + 20)}
        for name in users:
            assert Verdict.ACCEPTED is await checker.check(basic(name, "right"), users)
        remembered = len(checker._accepted)
        checker.close()
        return remembered

    assert auth.CACHED == asyncio.run(main())


def test_a_flood_of_guesses_is_turned_away() -> None:
    """Beyond the queue's length guesses are BUSY, while the remembered password still opens."""

    async def main() -> tuple[int, int, Verdict]:
        checker = BasicAuth()
        await checker.check(basic("alice", "right"), USERS)
        guesses = [asyncio.create_task(checker.check(basic("alice", f"{n}"), USERS)) for n in range(100)]
        await asyncio.sleep(0)
        meanwhile = await checker.check(basic("alice", "right"), USERS)
        verdicts = await asyncio.gather(*guesses)
        checker.close()
        return (verdicts.count(Verdict.REFUSED), verdicts.count(Verdict.BUSY), meanwhile)

    refused, busy, meanwhile = asyncio.run(main())
    assert (100, Verdict.ACCEPTED) == (refused + busy, meanwhile)
    # A check that a thread ends at once makes room for another guess
    assert auth.MAX_WAITING <= refused < 100
