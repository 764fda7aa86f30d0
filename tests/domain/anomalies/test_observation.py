"""Networks as detectors compare them: the same in the form of an export and in that of the log."""

from __future__ import annotations

from domain.anomalies.observation import network_tag


def test_a_network_of_ipv6_is_odd_in_either_form() -> None:
    of_ipv4 = ["198.51.100", b"\x04" + bytes(16), b"\x00" + bytes(16), "office"]
    of_ipv6 = ["2001:db8:5::", b"\x06" + bytes(16)]
    assert [network_tag(network) & 1 for network in of_ipv4] == [0] * 4
    assert [network_tag(network) & 1 for network in of_ipv6] == [1] * 2
