"""The client's address can't be forged from outside, and says a country and keyed hashes."""

from __future__ import annotations

import hashlib
from ipaddress import ip_network

import pytest

from infra.network import UNKNOWN, ClientAddress, Networks

CLIENTS = ClientAddress([ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")])


def sha256(purpose: str, text: str) -> bytes:
    return hashlib.sha256(f"{purpose}:{text}".encode()).digest()


@pytest.fixture
def networks() -> Networks:
    return Networks(sha256)


@pytest.mark.parametrize(
    "peer, forwarded_for, address",
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1 ,10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "1.1.1.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1,", "10.0.0.1"),
        ("10.0.0.1", "x" * 10_000, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:8080", "10.0.0.1"),
        ("2001:db8:ffff::1", "2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.7", None, "203.0.113.7"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("10.0.0.1", "fe80::1%" + "x" * 1000, "fe80::1"),
        (None, "198.51.100.1", UNKNOWN),
        ("", None, UNKNOWN),
    ],
)
def test_the_client_behind_trusted_proxies(peer: str | None, forwarded_for: str | None, address: str) -> None:
    assert CLIENTS.of(peer, forwarded_for) == address


def test_without_trusted_proxies_only_the_socket_counts() -> None:
    assert ClientAddress([]).of("127.0.0.1", "198.51.100.1") == "127.0.0.1"


@pytest.mark.parametrize(
    "address, country",
    [
        ("8.8.8.8", "US"),
        ("193.0.6.139", "NL"),
        ("2001:4860:4860::8888", "US"),
        ("127.0.0.1", None),
        ("10.1.2.3", None),
        ("192.168.0.1", None),
        ("100.64.0.1", None),
        ("203.0.113.7", None),
        ("::1", None),
        ("fe80::1", None),
        ("fd00::1", None),
        (UNKNOWN, None),
    ],
)
def test_the_country(networks: Networks, address: str, country: str | None) -> None:
    assert networks.describe(address).country == country


def test_the_hashes_are_of_the_address_and_its_network(networks: Networks) -> None:
    four = networks.describe("203.0.113.7")
    six = networks.describe("2001:db8:1:2:3::4")

    assert four.address_hash == sha256("address", "203.0.113.7")[:16]
    assert four.network_hash == sha256("network", "203.0.113.0/24")[:16]
    assert six.address_hash == sha256("address", "2001:db8:1:2:3::4")[:16]
    assert six.network_hash == sha256("network", "2001:db8:1::/48")[:16]


def test_limits_count_ipv6_by_customer_and_ipv4_by_address(networks: Networks) -> None:
    def key(address: str) -> str:
        return networks.describe(address).limit_key

    assert key("2001:db8:1:2::1") == key("2001:db8:1:2:ffff::2") != key("2001:db8:1:3::1")
    assert key("203.0.113.7") != key("203.0.113.8")


def test_an_address_is_described_once() -> None:
    calls: list[str] = []

    def counted(purpose: str, text: str) -> bytes:
        calls.append(text)
        return sha256(purpose, text)

    networks = Networks(counted)
    assert networks.describe("8.8.8.8") is networks.describe("8.8.8.8")
    assert len(calls) == 2
