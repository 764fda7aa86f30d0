"""`lizenzserver audit`: whatever is changed below a checkpoint that was kept elsewhere is found, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cli.audit_export import write_export
from cli.audit_verify import of_database, of_export
from cli.errors import Failure
from domain.audit.checking import MOST_TOLD
from infra.notary_key import KeptCheckpoint
from infra.postgres import Database
from tests.cli.conftest import CommandLine
from tests.support.notarised import INSTANCE, fill, kept, key_of, notarise, notary, turns
from tests.support.tampering import CHANGES, History
from workers.growing import Grown, begin, grow

EVENTS = 1_100
ROUNDS = int(os.environ.get("TAMPER_ROUNDS", "100"))
"""How many things are changed, one at a time."""

NODE = Path(__file__).parents[2] / "docs" / "examples" / "verify_receipt.mjs"


def execute(database: Database, statement: str) -> Any:
    with database.connect_owner() as connection:
        connection.execute("SET search_path TO lizenzserver")
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture
def signed(database: Database, tmp_path: Path) -> Database:
    """Give a log with a tree, signed as a service on this data folder signs it."""
    execute(database, f"INSERT INTO service_identity (key_fingerprint) VALUES ('{INSTANCE}')")
    fill(database, EVENTS)
    asyncio.run(notarise(database, tmp_path))
    return database


def test_every_change_is_found(signed: Database, tmp_path: Path) -> None:
    """With TAMPER_ROUNDS=1000, a thousand of them."""
    trusted, key = [kept(tmp_path)], key_of(tmp_path).verifier
    done: Counter[str] = Counter()
    fill(signed, 40, seed=2)  # newer ones do not matter
    assert of_database(signed, trusted, key).report.faults == []
    execute(signed, f"DELETE FROM licensing_events WHERE notification_id > {_last(signed)}")
    with signed.connect_owner() as owner:
        history = History(owner)
        for number in range(ROUNDS):
            change = CHANGES[number % len(CHANGES)]
            what = change(owner, Random(number))
            report = of_database(signed, trusted, key).report
            assert report.fault_count > 0, f"nobody noticed: {what} (number {number})"
            assert 0 < len(report.faults) <= MOST_TOLD
            done[change.__name__] += 1
            history.restore()
    assert of_database(signed, trusted, key).report.faults == []
    assert min(done.values()) == ROUNDS // len(CHANGES)


def _last(database: Database) -> int:
    return int(execute(database, "SELECT max(position) AS last FROM audit_checkpoints")[0]["last"])


def test_every_tile_must_be_there_to_the_last_one_that_is_covered(signed: Database, tmp_path: Path) -> None:
    fill(signed, 5 * 256 - EVENTS, seed=2)
    asyncio.run(notarise(signed, tmp_path))
    execute(signed, "UPDATE audit_tiles SET index = -1 WHERE index = 4")
    report = of_database(signed, [kept(tmp_path)], key_of(tmp_path).verifier).report
    assert report.faults == ["tile -1 of level 0 should not be there", "tile 4 of level 0 is missing"]


def test_who_rewrites_the_whole_tree_is_found_by_what_was_kept(signed: Database, tmp_path: Path) -> None:
    """An owner who changes an event makes all tiles anew and takes away what was signed; but he can't sign."""
    trusted, key = [kept(tmp_path)], key_of(tmp_path).verifier
    execute(signed, "UPDATE licensing_events SET state = state || ' ' WHERE notification_id = 710")
    execute(signed, "TRUNCATE audit_tiles, audit_checkpoints")

    async def rewrite() -> Grown:
        async with await signed.connect_async() as connection:
            return await grow(connection, await begin(connection, 0), 100)

    assert asyncio.run(rewrite()).tiles == EVENTS // 256
    report = of_database(signed, trusted, key).report
    assert report.faults == [f"the first {EVENTS} events are not those of the trusted checkpoint of {EVENTS}"]


def test_it_says_what_is_wrong_and_where(signed: Database, cli: CommandLine) -> None:
    good = cli("audit", "verify")
    assert (good.code, good.err) == (0, "")
    assert good.out.splitlines()[-1] == "all is as it was signed"
    position = int(execute(signed, "SELECT notification_id AS n FROM licensing_events ORDER BY 1 OFFSET 700")[0]["n"])
    execute(signed, f"UPDATE licensing_events SET state = state || ' ' WHERE notification_id = {position}")
    bad = cli("audit", "verify")
    assert (bad.code, bad.err) == (1, "error: the log is not what was signed\n")
    assert "FAULT  tile 2 of level 0 differs" in bad.out
    assert "first at number 700 of that level" in bad.out
    told = json.loads(cli("audit", "verify", "--json").out)
    assert (told["ok"], told["events"], told["covered_by_trusted"]) == (False, EVENTS, EVENTS)
    execute(signed, f"DELETE FROM licensing_events WHERE notification_id >= {position}")
    assert f"the log has 700 events, the trusted checkpoint of {EVENTS} covers {EVENTS}" in cli("audit", "verify").out
    assert json.loads(cli("audit", "verify", "--json").out)["stored_checkpoints"] == 1


@pytest.mark.parametrize(
    "statement",
    [
        (
            "ALTER TABLE licensing_events ENABLE ROW LEVEL SECURITY;"
            " CREATE POLICY what_i_like ON licensing_events USING (true)"
        ),
        (
            "ALTER TABLE licensing_events RENAME TO hidden; CREATE VIEW licensing_events AS SELECT * FROM hidden;"
            " GRANT SELECT ON licensing_events TO lizenzserver_service"
        ),
    ],
    ids=["policy", "view"],
)
def test_who_shows_the_check_something_else_is_found(signed: Database, cli: CommandLine, statement: str) -> None:
    execute(signed, statement)
    assert "FAULT  licensing_events is no plain table" in cli("audit", "verify").out


def test_an_export_is_checked_without_a_database(
    signed: Database, bare: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.use(signed)
    export, kept_file, key = tmp_path / "log.jsonl", tmp_path / "kept.txt", tmp_path / "key.txt"
    assert bare("audit", "export", "--output", str(export)).err == f"{EVENTS} events written to {export}\n"
    key.write_text(bare("audit", "key").out)
    shutil.copy(KeptCheckpoint(tmp_path).path, kept_file)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@localhost:1/none")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    check = ("audit", "verify", "--export", str(export), "--checkpoint", str(kept_file), "--key", str(key))
    good = bare(*check)
    assert (good.code, good.err) == (0, ""), good
    assert not (tmp_path / "none").exists()

    lines = export.read_bytes().splitlines(keepends=True)
    random = Random(1)
    for number in range(20):
        at, other = random.sample(range(2, EVENTS + 2), 2)
        changed = list(lines)
        match number % 5:
            case 0:
                changed[at] = changed[at].replace(b'"position":', b'"position":1')
            case 1:
                del changed[at]
            case 2:
                changed[at], changed[other] = changed[other], changed[at]
            case 3:
                changed.insert(at, changed[other])
            case _:
                changed = changed[:at]
        export.write_bytes(b"".join(changed))
        bad = bare(*check)
        assert (bad.code, bad.err) == (1, "error: the log is not what was signed\n"), number


def test_any_byte_of_an_export_that_is_changed_is_found(signed: Database, tmp_path: Path) -> None:
    """Also where JSON or base64 would have the same meaning."""
    export, random = tmp_path / "log.jsonl", Random(2)
    trusted, key = [kept(tmp_path)], key_of(tmp_path).verifier
    write_export(signed, export)
    good = export.read_bytes()
    assert of_export(export, trusted, key).report.faults == []

    def is_found(content: bytes) -> bool:
        export.write_bytes(content)
        try:
            told = of_export(export, trusted, key)
            return told.report.fault_count + told.other_keys > 0
        except Failure:
            return True

    for _ in range(ROUNDS):
        at = random.randrange(len(good))
        assert is_found(good[:at] + bytes([good[at] ^ (1 << random.randrange(8))]) + good[at + 1 :]), at
    lines = good.splitlines(keepends=True)
    for spelled in (
        lines[9].replace(b'{"', b'{"note":"never happened","'),
        lines[9].replace(b'{"', b'{"topic":"license.revoked","'),
        lines[9].replace(b'","', b'", "', 1),
        lines[9] + b"{}\n",
        lines[9] + lines[1],
    ):
        assert is_found(b"".join([*lines[:9], spelled, *lines[10:]])), spelled


def test_an_export_that_was_cut_is_found_by_its_own_checkpoint(signed: Database, tmp_path: Path) -> None:
    """The one that was kept elsewhere is older than what was cut off."""
    trusted, key, export = [kept(tmp_path)], key_of(tmp_path).verifier, tmp_path / "log.jsonl"
    fill(signed, 100, seed=3)
    asyncio.run(notarise(signed, tmp_path))
    write_export(signed, export)
    assert of_export(export, trusted, key).report.faults == []
    export.write_bytes(b"".join(export.read_bytes().splitlines(keepends=True)[:-1]))
    assert of_export(export, trusted, key).report.faults == [
        f"the log has {EVENTS + 99} events, the checkpoint in the export covers {EVENTS + 100}"
    ]


def test_what_another_key_has_signed_is_compared_too(signed: Database, cli: CommandLine, tmp_path: Path) -> None:
    """The key was lost; with the new one, old checkpoints are still those of the log."""
    (tmp_path / "keys" / "audit.key").unlink()
    fill(signed, 100, seed=3)
    asyncio.run(notarise(signed, tmp_path))
    told = json.loads(cli("audit", "verify", "--json").out)
    assert (told["ok"], told["stored_checkpoints"], told["checkpoints_by_other_keys"]) == (True, 2, 1)
    execute(signed, "DELETE FROM audit_keys WHERE first_used_at = (SELECT min(first_used_at) FROM audit_keys)")
    assert f"the stored checkpoint of {EVENTS} is signed by no key" in cli("audit", "verify").out


def test_only_a_checkpoint_by_the_right_key_is_believed(
    signed: Database, cli: CommandLine, tmp_path: Path, database: Database
) -> None:
    kept_file = KeptCheckpoint(tmp_path).path
    forged = tmp_path / "forged.txt"
    forged.write_text(kept_file.read_text().replace(f"\n{EVENTS}\n", "\n1\n"))
    refused = cli("audit", "verify", "--checkpoint", str(forged))
    assert (refused.code, refused.err.startswith("error: the checkpoint is not good: the signature of")) == (1, True)
    other = cli("audit", "verify", "--key", str(key_of(tmp_path / "other").verifier))
    assert "is not signed by" in other.err
    forged.write_bytes(b"\xff\x00")
    assert cli("audit", "verify", "--checkpoint", str(forged)).err == f"error: {forged} is no text\n"
    assert cli("audit", "verify", "--key", "nonsense").err.startswith("error: --key: that is no verifier key")
    kept_file.unlink()
    (tmp_path / "keys" / "audit.key").rename(tmp_path / "moved")
    assert cli("audit", "key").err.startswith("error: this machine has no notary's key")
    (tmp_path / "moved").rename(tmp_path / "keys" / "audit.key")
    assert "the data folder holds no checkpoint" in cli("audit", "verify").err


def test_checkpoints_of_several_times_are_all_compared(signed: Database, cli: CommandLine, tmp_path: Path) -> None:
    collected = KeptCheckpoint(tmp_path).path.read_text()
    fill(signed, 100, seed=3)

    async def sign() -> None:
        one = notary(signed, tmp_path)
        await turns(one)
        await one._close()

    asyncio.run(sign())
    collected += KeptCheckpoint(tmp_path).path.read_text()
    (tmp_path / "all.txt").write_text(collected)
    told = json.loads(cli("audit", "verify", "--checkpoint", str(tmp_path / "all.txt"), "--json").out)
    assert (told["ok"], told["trusted_checkpoints"], told["stored_checkpoints"]) == (True, 2, 2)
    execute(
        signed,
        "UPDATE audit_checkpoints AS one SET note = other.note FROM audit_checkpoints AS other"
        " WHERE other.size <> one.size",
    )
    swapped = cli("audit", "verify").out
    for size in (EVENTS, EVENTS + 100):
        assert f"FAULT  the stored checkpoint of {size} says other than its note" in swapped


def test_a_receipt_from_the_command_line(signed: Database, cli: CommandLine, tmp_path: Path) -> None:
    for offset in (0, 255, 256, 1023, 1024, EVENTS - 1):
        row = execute(signed, f"SELECT state FROM licensing_events ORDER BY notification_id OFFSET {offset} LIMIT 1")[0]
        event_id = json.loads(row["state"])["event_id"]
        file = tmp_path / "receipt.json"
        assert cli("audit", "receipt", event_id, "--output", str(file)).code == 0
        assert json.loads(file.read_text())["leaf_index"] == offset
        key = cli("audit", "key").out.strip()
        done = subprocess.run(
            ["node", str(NODE), str(file), key], capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout.startswith(f"good: event {event_id} is number {offset + 1} of the {EVENTS}")
    assert cli("audit", "receipt", "6f1c8d0e-5b1d-4e0c-8a35-0d3a5f7c2b90").err == "error: Not found\n"
