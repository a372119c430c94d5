"""Listen addresses to sockets."""

from __future__ import annotations

import socket

import pytest

from exporter.errors import ConfigError
from exporter.web.listen import bind, describe


def bound(*addresses: str) -> list[str]:
    """Bind, let go, and return what was bound."""
    listeners = bind(addresses)
    try:
        return [describe(listener) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def test_ipv4() -> None:
    """An IPv4 address with port 0 gets a port from the kernel."""
    (address,) = bound("127.0.0.1:0")
    host, port = address.split(":")
    assert ("127.0.0.1", True) == (host, int(port) > 0)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6() -> None:
    """An IPv6 address stands in brackets, on the way in and out."""
    (address,) = bound("[::1]:0")
    assert address.startswith("[::1]:")


def test_localhost() -> None:
    """All addresses of a name are bound, on one port."""
    addresses = bound("localhost:0")
    assert 1 == len({address.rpartition(":")[2] for address in addresses})
    assert addresses


def test_all_addresses() -> None:
    """A bare port answers over IPv4, and over IPv6 where there is IPv6."""
    (listener,) = bind([":0"])
    with listener:
        port = listener.getsockname()[1]
        hosts = ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        for host in hosts:
            socket.create_connection((host, port), 60).close()


def test_several() -> None:
    """The flag may be given more than once."""
    assert 2 == len(bound("127.0.0.1:0", "127.0.0.1:0"))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10095",
        "host",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "::1:80",
        "http://a:80",
        "[::1]",
        "a b:80",
        ":-1",
    ],
)
def test_not_an_address(address: str) -> None:
    """What isn't an address is named, with the forms there are."""
    with pytest.raises(ConfigError) as caught:
        bound(address)
    assert [
        f"--web.listen-address: {address}: not an address; expected :PORT, HOST:PORT or [IPv6]:PORT"
    ] == list(
        caught.value.faults,
    )


def test_none_given() -> None:
    """At least one address is needed."""
    with pytest.raises(ConfigError, match="missing"):
        bound()


def test_port_in_use() -> None:
    """A port in use is one line that says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught:
            bound(address)
    expected = (
        f"--web.listen-address: {address}: already in use; stop the program that has it, or choose another port"
    )
    assert (expected,) == caught.value.faults


def test_every_bad_address_is_named_and_nothing_stays_bound() -> None:
    """All faults come at once, and the good address is free again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    with pytest.raises(ConfigError) as caught:
        bound(f"127.0.0.1:{free}", "x", "192.0.2.1:80")
    assert 2 == len(caught.value.faults)
    assert "192.0.2.1:80: this machine doesn't have the address" in caught.value.faults[1]
    assert [f"127.0.0.1:{free}"] == bound(f"127.0.0.1:{free}")


def test_a_restart_can_bind_again_at_once() -> None:
    """Connections in TIME_WAIT don't keep the port."""
    (listener,) = bind(["127.0.0.1:0"])
    port = listener.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port), 60)
    listener.settimeout(60)
    connection, _ = listener.accept()
    connection.close()
    listener.close()
    client.close()
    assert [f"127.0.0.1:{port}"] == bound(f"127.0.0.1:{port}")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("ipv4", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize("ipv6_first", [False, True])
def test_both_families_on_one_port(ipv4: str, *, ipv6_first: bool) -> None:
    """[::] leaves IPv4 to an address that names it, in either order; alone it takes both."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    addresses = [f"{ipv4}:{port}", f"[::]:{port}"]
    assert sorted(addresses) == sorted(bound(*(reversed(addresses) if ipv6_first else addresses)))
    (listener,) = bind([f"[::]:{port}"])
    with listener:
        socket.create_connection(("127.0.0.1", port), 60).close()


def test_small_answers_do_not_wait() -> None:
    """A listening socket has TCP as its protocol, by which asyncio knows to switch Nagle's algorithm off."""
    (listener,) = bind(["127.0.0.1:0"])
    with listener:
        assert socket.IPPROTO_TCP == listener.proto
