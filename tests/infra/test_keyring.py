"""The keyring: what it keeps, how it rotates, and that processes agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

import infra.durable_files
import infra.keyring
from infra.keyring import Keyring, KeyringError, SigningKeyPair, from_base64url, to_base64url
from tests.support.power_cut import Disk

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def setting(*keys: tuple[bytes, str, str | None]) -> str:
    names = ("private_key", "created_at", "retired_at")
    return json.dumps([dict(zip(names, (to_base64url(seed), *times), strict=True)) for seed, *times in keys])


class TestFiles:
    def test_keys_made_at_first_use_are_found_again_and_are_their_owners_only(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        first = Keyring.open(folder, None, None)
        second = Keyring.open(folder, None, None)

        assert first.derive("x") == second.derive("x")
        assert first.active.kid == second.active.kid
        assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == sorted(
            ["service.key", f"{first.active.kid}.json"]
        )
        assert {mode(p) for p in folder.rglob("*") if p.is_file()} == {0o600}
        assert mode(folder / "signing") == 0o700

    def test_they_survive_a_power_cut_as_they_are(
        self, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = Disk(monkeypatch)
        ring = Keyring.open(tmp_path, None, None)
        for count in range(2):
            files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
            assert [disk.left_of(file) for file in files] == [file.read_bytes() for file in files]
            assert len(files) == 2 + count
            ring.rotate(now)
        assert not disk.hasty

    def test_threads_that_start_at_once_agree(self, tmp_path: Path) -> None:
        for attempt in range(20):
            folder, together = tmp_path / str(attempt), threading.Barrier(8)

            def start(_: int, folder: Path = folder, together: threading.Barrier = together) -> tuple[str, str]:
                together.wait()
                ring = Keyring.open(folder, None, None)
                return ring.fingerprint, ring.active.kid

            with ThreadPoolExecutor(8) as pool:
                assert len(set(pool.map(start, range(8)))) == 1

    def test_processes_that_start_at_once_agree(self, tmp_path: Path) -> None:
        program = (
            "import sys, pathlib; from infra.keyring import Keyring; sys.stdin.readline();"
            "ring = Keyring.open(pathlib.Path(sys.argv[1]), None, None); print(ring.fingerprint, ring.active.kid)"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "data")]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate()[0] for process in processes]

        assert [process.returncode for process in processes] == [0] * 4
        assert len(set(answers)) == 1

    def test_a_damaged_service_key_is_refused_and_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "service.key").write_bytes(b"\xff short")
        with pytest.raises(KeyringError, match="32 bytes"):
            Keyring.open(tmp_path, None, None)
        assert (tmp_path / "service.key").read_bytes() == b"\xff short"

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"private_key": "AAAA", "created_at": "2026-01-01"}'])
    def test_a_damaged_signing_key_is_refused(self, tmp_path: Path, content: bytes) -> None:
        Keyring.open(tmp_path, None, None)
        (tmp_path / "signing" / "odd.json").write_bytes(content)
        with pytest.raises(KeyringError, match=r"odd\.json is malformed"):
            Keyring.open(tmp_path, None, None)

    def test_a_key_under_anothers_name_is_refused(self, tmp_path: Path) -> None:
        kid = Keyring.open(tmp_path, None, None).active.kid
        (tmp_path / "signing" / f"{kid}.json").rename(tmp_path / "signing" / "other.json")
        with pytest.raises(KeyringError, match="another key than its name says"):
            Keyring.open(tmp_path, None, None)

    def test_a_folder_that_cannot_be_made_is_one_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("a file")
        with pytest.raises(KeyringError, match="can't be used"):
            Keyring.open(tmp_path / "data" / "keys", None, None)


class TestSettings:
    def test_keys_from_settings_touch_no_file(self, tmp_path: Path) -> None:
        keys = setting(
            (b"1" * 32, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"), (b"2" * 32, "2026-02-01T00:00:00Z", None)
        )
        ring = Keyring.open(tmp_path / "none", to_base64url(b"s" * 32), keys)

        assert bytes(ring.active.signing) == b"2" * 32
        assert not (tmp_path / "none").exists()
        assert ring.reload_if_changed() is False
        with pytest.raises(KeyringError, match="SIGNING_KEYS"):
            ring.rotate(datetime(2026, 3, 1, tzinfo=UTC))

    def test_the_newest_key_that_is_not_retired_signs_whatever_the_order(self, tmp_path: Path) -> None:
        keys = [
            (b"1" * 32, "2026-01-01T00:00:00Z", None),
            (b"2" * 32, "2026-02-01T00:00:00+02:00", None),
            (b"3" * 32, "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"),
        ]
        for order in (keys, keys[::-1]):
            assert bytes(Keyring.open(tmp_path, None, setting(*order)).active.signing) == b"2" * 32

    @pytest.mark.parametrize("service_key", ["", "short", "A" * 42, "A" * 44, "*" * 43, "ä" * 43, "\ud800" * 43])
    def test_a_wrong_service_key_is_refused_without_showing_it(self, tmp_path: Path, service_key: str) -> None:
        with pytest.raises(KeyringError, match="32 bytes") as caught:
            Keyring.open(tmp_path, service_key, None)
        assert not service_key or service_key not in str(caught.value)

    @pytest.mark.parametrize(
        "keys",
        [
            "",
            "{}",
            "[]",
            "[1]",
            "\ud800",
            setting((b"1" * 31, "2026-01-01T00:00:00Z", None)),
            setting((b"1" * 32, "2026-01-01T00:00:00", None)),
            setting((b"1" * 32, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")),
        ],
    )
    def test_wrong_signing_keys_are_refused_without_showing_them(self, tmp_path: Path, keys: str) -> None:
        with pytest.raises(KeyringError) as caught:
            Keyring.open(tmp_path, None, keys)
        assert to_base64url(b"1" * 31)[:20] not in str(caught.value)


class TestService:
    def test_subkeys_differ_by_purpose_and_by_service_key(self, tmp_path: Path) -> None:
        rings = [Keyring.open(tmp_path, to_base64url(secret * 32), None) for secret in (b"1", b"2")]
        keys = {ring.derive(purpose) for ring in rings for purpose in ("vault", "lookup")}
        assert len(keys) == 4
        assert {len(key) for key in keys} == {32}
        assert rings[0].fingerprint != rings[1].fingerprint

    def test_derived_keys_never_change_with_a_release(self, tmp_path: Path) -> None:
        # What is sealed today must open tomorrow.
        ring = Keyring.open(tmp_path, to_base64url(bytes(range(32))), None)
        assert ring.derive("vault").hex() == "d3727c8353a728511a01a764d531c80261dd970322a1f0f311da6b45bd94e69c"
        assert ring.fingerprint == "1a4170c7262b933b"

    def test_kid_is_the_thumbprint_of_rfc_8037(self, now: datetime) -> None:
        # RFC 8037, appendix A: the key of A.1 and its thumbprint in A.3.
        pair = SigningKeyPair.from_seed(from_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"), now)
        assert pair.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        assert pair.jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

    def test_no_private_key_is_shown(self, keyring: Keyring, now: datetime) -> None:
        seed = bytes(keyring.active.signing)
        shown = repr(keyring.active) + repr(keyring) + json.dumps(keyring.jwks(now))
        assert to_base64url(seed) not in shown
        assert repr(seed)[2:-1] not in shown


class TestRotation:
    def test_a_retired_key_is_accepted_for_31_days_to_the_microsecond(self, tmp_path: Path, now: datetime) -> None:
        ring = Keyring.open(tmp_path, None, None)
        old = ring.active.kid
        new = ring.rotate(now)

        assert ring.active.kid == new != old
        assert isinstance(ring.verifying(old, now + 31 * DAY - TICK), Ed25519PublicKey)
        assert ring.verifying(old, now + 31 * DAY) is None
        assert [key["kid"] for key in ring.jwks(now + 31 * DAY - TICK)["keys"]] == [new, old]
        assert [key["kid"] for key in ring.jwks(now + 31 * DAY)["keys"]] == [new]
        assert ring.verifying(new, now + 900 * DAY) is not None

    def test_the_jwk_set_holds_public_members_only_and_the_active_key_first(
        self, tmp_path: Path, now: datetime
    ) -> None:
        ring = Keyring.open(tmp_path, None, None)
        kids = [ring.active.kid, ring.rotate(now), ring.rotate(now + DAY)]
        keys = ring.jwks(now + DAY)["keys"]
        assert [key["kid"] for key in keys] == kids[::-1]
        assert all(key.keys() == {"kty", "crv", "use", "alg", "kid", "x"} for key in keys)
        assert {(key["kty"], key["crv"], key["use"], key["alg"]) for key in keys} == {
            ("OKP", "Ed25519", "sig", "EdDSA")
        }

    def test_rotation_drops_the_files_of_keys_that_are_accepted_no_more(self, tmp_path: Path, now: datetime) -> None:
        ring = Keyring.open(tmp_path, None, None)
        first, second = ring.active.kid, ring.rotate(now)
        third = ring.rotate(now + 31 * DAY - TICK)
        assert {path.stem for path in (tmp_path / "signing").iterdir()} == {first, second, third}
        fourth = ring.rotate(now + 31 * DAY)
        assert {path.stem for path in (tmp_path / "signing").iterdir()} == {second, third, fourth}
        assert ring.verifying(first, now) is None

    def test_a_rotation_that_crashed_half_way_is_finished_by_the_next(self, tmp_path: Path, now: datetime) -> None:
        ring = Keyring.open(tmp_path, None, None)
        first = ring.active
        ring.rotate(now)
        # As if the process had died before it marked the old key.
        (tmp_path / "signing" / f"{first.kid}.json").write_bytes(first.stored())
        ring = Keyring.open(tmp_path, None, None)
        assert ring.active.kid != first.kid
        ring.rotate(now)
        assert ring.verifying(first.kid, now + 31 * DAY) is None

    def test_a_clock_set_back_does_not_keep_the_old_key_signing(self, tmp_path: Path, now: datetime) -> None:
        ring = Keyring.open(tmp_path, None, None)
        ring.rotate(now)
        new = ring.rotate(now - 365 * DAY)
        assert ring.active.kid == new
        assert Keyring.open(tmp_path, None, None).active.kid == new


class TestOtherProcesses:
    def test_each_of_many_quick_rotations_is_seen(self, tmp_path: Path, now: datetime) -> None:
        rotating, signing, verifying = (Keyring.open(tmp_path, None, None) for _ in range(3))
        for count in range(50):
            kid = rotating.rotate(now + count * TICK)
            assert signing.active.kid == kid
            assert verifying.verifying(kid, now) is not None

    def test_rotations_take_turns(self, tmp_path: Path, now: datetime) -> None:
        """Else each would find the same key to retire, and leave the other's new one signing."""
        ring = Keyring.open(tmp_path, None, None)
        before = ring.active.kid
        rotating = threading.Thread(target=ring.rotate, args=(now,))
        with infra.keyring._locked(tmp_path / "signing"):
            rotating.start()
            rotating.join(0.2)
            assert rotating.is_alive()
            assert [path.stem for path in (tmp_path / "signing").glob("*.json")] == [before]
        rotating.join(10)
        assert ring.active.kid != before

    def test_rotations_within_one_tick_of_the_file_system_are_seen(
        self, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rotating, running = (Keyring.open(tmp_path, None, None) for _ in range(2))
        tick = (tmp_path / "signing").stat().st_mtime_ns
        real = infra.durable_files.put

        def written_in_the_same_tick(path: Path, data: bytes, *, overwrite: bool) -> None:
            real(path, data, overwrite=overwrite)
            os.utime(path.parent, ns=(tick, tick))

        monkeypatch.setattr(infra.keyring, "put", written_in_the_same_tick)
        for count in range(3):
            assert rotating.rotate(now + count * TICK) == running.active.kid

    def test_reload_says_whether_it_had_to(self, tmp_path: Path, now: datetime) -> None:
        running, command = (Keyring.open(tmp_path, None, None) for _ in range(2))
        assert running.reload_if_changed() is False
        command.rotate(now)
        assert running.reload_if_changed() is True
        assert running.reload_if_changed() is False

    def test_a_key_taken_away_by_hand_is_refused_after_a_reload(self, tmp_path: Path, now: datetime) -> None:
        ring = Keyring.open(tmp_path, None, None)
        stolen = ring.active.kid
        ring.rotate(now)
        (tmp_path / "signing" / f"{stolen}.json").unlink()
        assert ring.reload_if_changed() is True
        assert ring.verifying(stolen, now) is None

    def test_a_folder_that_cannot_be_read_changes_nothing_and_is_read_once(
        self, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ring = Keyring.open(tmp_path, None, None)
        kid = ring.active.kid
        (tmp_path / "signing" / "odd.json").write_text("{")
        with pytest.raises(KeyringError, match="malformed"):
            ring.reload_if_changed()
        reads: list[Path] = []
        real = Path.read_bytes

        def counted(path: Path) -> bytes:
            reads.append(path)
            return real(path)

        monkeypatch.setattr(Path, "read_bytes", counted)
        for number in range(1000):
            assert ring.verifying(f"made-up-{number}", now) is None
        assert ring.active.kid == kid
        assert 1 <= len(reads) <= 2
        (tmp_path / "signing" / "odd.json").unlink()
        assert ring.reload_if_changed() is True

    def test_made_up_kids_read_no_file(self, keyring: Keyring, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "glob", lambda *_: pytest.fail("the folder was read"))
        for kid in ("", "../service.key", "/etc/passwd", "' OR 1=1 --", "\0", "\ud800", "k" * 100_000):
            assert keyring.verifying(kid, now) is None


@given(st.binary(max_size=40))
def test_base64url_has_one_spelling(raw: bytes) -> None:
    text = to_base64url(raw)
    assert from_base64url(text) == raw
    others = [text + "=", text + "\n", " " + text, text + "+", text[:-1] + "/" if text else "/"]
    for other in others:
        with pytest.raises(ValueError, match=r"canonical|ascii|base64|padding|character"):
            from_base64url(other)
