"""What is said of a sender is sealed once for each data subject, and never under another one's key."""

from __future__ import annotations

from api.usage_details import UsageDetails
from infra.vault import Vault

ADDRESS = "203.0.113.7"


def test_each_subjects_is_sealed_under_its_own_key() -> None:
    vault = Vault(b"m" * 32, b"l" * 32)
    details = UsageDetails(vault)
    one, other = (vault.new_subject()[0] for _ in range(2))
    for subject in (one, other):
        assert vault.open(subject, details.seal_address(subject, ADDRESS)) == ADDRESS
        assert vault.open(subject, details.seal(subject, ADDRESS)) == {"address": ADDRESS}
        system = vault.seal(subject, {"name": "Linux", "version": "6.1"})
        assert vault.open(subject, details.seal(subject, ADDRESS, None, system)) == {
            "address": ADDRESS,
            "os": "Linux",
            "os_version": "6.1",
        }
    assert details.seal(one, ADDRESS) == details.seal(one, ADDRESS)
    assert details.seal_address(one, ADDRESS) == details.seal_address(one, ADDRESS)
    assert vault.open(one, details.seal(one, "203.0.113.8")) == {"address": "203.0.113.8"}
