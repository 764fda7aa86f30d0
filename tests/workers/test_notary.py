"""What the notary signs is the log, all of it and in order; what does not extend its last checkpoint it never signs."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from errno import ENOSPC
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any, ClassVar

import pytest

from cli.audit_verify import of_database
from domain.audit.checkpoint import Checkpoint, parse, parse_all, sign
from domain.audit.leaf import leaf_data
from domain.audit.merkle import Frontier, Hash, is_consistent, leaf_hash
from domain.audit.tiles import WIDTH
from infra.notary_key import KeptCheckpoint, verify
from infra.postgres import Database
from projections import lag
from projections.audit_receipts import consistency
from tests.support.client import eventually
from tests.support.notarised import INSTANCE, ORIGIN, fill, kept, key_of, notarise, notary, rows, tree_of, turns
from tests.support.rabbit import VirtualHost
from tests.support.workers import WorkerProcess, holder
from workers.notary import WORKER, Notary
from workers.pushing import FilePush, HttpPush, Pusher, QueuePush


@pytest.fixture
async def signing(database: Database, tmp_path: Path) -> AsyncIterator[Notary]:
    one = notary(database, tmp_path)
    yield one
    await one._close()


def execute(database: Database, statement: str, *parameters: Any) -> Any:
    """Run a statement as the owner, who may do anything."""
    with database.connect_owner() as connection:
        connection.execute("SET search_path TO lizenzserver")
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else None


def checkpoints_in(database: Database) -> list[int]:
    return [row["size"] for row in execute(database, "SELECT size FROM audit_checkpoints ORDER BY size")]


async def test_it_signs_every_event_whatever_the_number(database: Database, tmp_path: Path, signing: Notary) -> None:
    """Roots are those of the same events hashed in Python; each tree is the beginning of the next."""
    await turns(signing)
    assert checkpoints_in(database) == []  # nothing to sign
    before: tuple[int, Hash] | None = None
    size = 0
    for more in (1, 2, 252, 1, 1, 254, 1, 600):  # 255, 256, 257, 511, 512 are among the sizes
        fill(database, more, seed=size)
        size += more
        await turns(signing)
        signed, tree = kept(tmp_path), tree_of(database)
        assert (signed.origin, signed.size, signed.root) == (ORIGIN, size, tree.root)
        assert checkpoints_in(database)[-1] == size
        if before is not None:
            async with await database.connect_async() as connection:
                proof = await consistency(connection, before[0])
            assert (proof.from_root, proof.to_root, proof.to_size) == (before[1], tree.root, size)
            assert is_consistent(*before, size, tree.root, proof.proof)
        before = (size, tree.root)
    tiles = execute(database, "SELECT count(*) AS n FROM audit_tiles")[0]["n"]
    assert tiles == size // WIDTH
    await turns(signing)
    assert len(checkpoints_in(database)) == 8  # nothing new, nothing signed


async def test_it_keeps_up_with_two_thousand_events_a_second(database: Database, tmp_path: Path) -> None:
    """At least where the machine does nothing else: of four parts, that is one."""
    part, took = 5_000, list[float]()
    for seed in range(4):
        fill(database, part, seed, gaps=False)
        began = time.monotonic()
        await notarise(database, tmp_path)
        took.append(time.monotonic() - began)
    assert kept(tmp_path).size == 4 * part
    assert min(took) < part / 2_000, f"{part / min(took):.0f} events a second"


async def test_it_signs_in_time_also_while_it_is_behind(database: Database, tmp_path: Path) -> None:
    """As where events come as fast as it gets through them."""
    fill(database, 3_000)
    one = notary(database, tmp_path, sign_seconds=3600)
    assert await one._turn() == 0.0
    signed, tree = kept(tmp_path), Frontier()
    assert checkpoints_in(database) == [signed.size]
    assert 0 < signed.size < 3_000
    for row in rows(database)[: signed.size]:
        tree.add(leaf_hash(leaf_data(*row)))
    assert signed.root == tree.root
    await turns(one)
    assert len(checkpoints_in(database)) == 1  # not before its time
    await one._close()


async def test_an_event_that_nobody_can_read_is_signed_too(database: Database, tmp_path: Path, signing: Notary) -> None:
    fill(database, 250)
    with database.connect() as connection:
        for number, state in enumerate((b"", b"{}", b"\x00\xff" * 30, b'{"event_id":"' + b"\xe9" * 40), 1):
            connection.execute(
                "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
                " VALUES (gen_random_uuid(), %s, %s, %s)",
                (number, "süß" * number, state),
            )
    fill(database, 50, seed=2)
    await turns(signing)
    assert signing.trouble == ""
    assert (kept(tmp_path).size, kept(tmp_path).root) == (304, tree_of(database).root)


async def test_another_host_goes_on_where_this_one_was(database: Database, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    key_of(here)
    shutil.copytree(here, there)
    fill(database, 300)
    first = await notarise(database, here)
    fill(database, 300, seed=2)
    second = await notarise(database, there)
    fill(database, 10, seed=3)
    third = await notarise(database, here)  # its own file is of 300 events
    assert [first.size, second.size, third.size] == [300, 600, 610] == checkpoints_in(database)
    assert third.root == tree_of(database).root


async def test_one_works_and_the_other_stands_by(database: Database, tmp_path: Path, signing: Notary) -> None:
    other = notary(database, tmp_path)
    fill(database, 10)
    await turns(signing)
    await turns(other)
    assert checkpoints_in(database) == [10]
    fill(database, 5, seed=2)
    await turns(other)
    assert checkpoints_in(database) == [10]
    await signing._close()
    await turns(other)
    assert checkpoints_in(database) == [10, 15]
    await other._close()


async def test_two_that_both_think_they_hold_the_lease_do_no_harm(database: Database, tmp_path: Path) -> None:
    """A notary that was frozen writes what the other one has written already."""
    one, two = notary(database, tmp_path), notary(database, tmp_path)

    async def always(*_: object) -> bool:
        return True

    one._lease.hold = two._lease.hold = always  # type: ignore[method-assign, assignment]
    for round in range(4):
        fill(database, 300, seed=round)
        await asyncio.gather(turns(one), turns(two))
    fill(database, 1, seed=9)
    await turns(one)
    await turns(two)
    assert (one.trouble, two.trouble) == ("", "")
    assert kept(tmp_path).root == tree_of(database).root
    await one._close()
    await two._close()


async def test_what_did_not_come_into_the_database_any_more_comes_later(database: Database, tmp_path: Path) -> None:
    """It is killed between keeping a checkpoint and storing it, and nothing new happens."""
    fill(database, 300)
    await notarise(database, tmp_path)
    before = execute(database, "SELECT size, position, root, note FROM audit_checkpoints")
    execute(database, "DELETE FROM audit_checkpoints")
    await notarise(database, tmp_path)
    assert execute(database, "SELECT size, position, root, note FROM audit_checkpoints") == before


class _Refusing(KeptCheckpoint):
    """A folder on a disk that is full."""

    def write(self, note: str) -> None:  # noqa: ARG002 - it is lost
        raise OSError(ENOSPC, "No space left on device")


async def test_what_could_not_be_kept_is_not_handed_out(database: Database, tmp_path: Path) -> None:
    """A restored database could forget it, and the notary would sign something else in its place."""
    fill(database, 10)
    push, key = _Sent(), key_of(tmp_path)
    one = notary(database, tmp_path, [push])
    one._kept = _Refusing(tmp_path)
    await refuses(one, database, "can't read or keep its checkpoint: No space left on device")
    assert (checkpoints_in(database), push.notes) == ([], [])
    one._kept = KeptCheckpoint(tmp_path)
    await turns(one)
    assert [parse(note).verified(key.verifier, verify).size for note in push.notes] == [10]
    await one._close()


class _Sent(Pusher):
    """Remembers what it was given to send."""

    TO = "a test"

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.sent: list[str] = []

    def offer(self, note: str) -> None:
        self.notes.append(note)
        super().offer(note)

    async def send(self, note: str) -> None:
        """Have a fault at first."""
        if not self.trouble:
            raise ZeroDivisionError
        self.sent.append(note)


async def test_what_may_not_have_been_sent_is_sent_after_a_start(database: Database, tmp_path: Path) -> None:
    """It is killed after it has signed, and nothing new happens."""
    fill(database, 10)
    await notarise(database, tmp_path)
    push = _Sent()
    one = notary(database, tmp_path, [push])
    await turns(one)
    await turns(one)
    assert push.notes == [KeptCheckpoint(tmp_path).read()]
    await one._close()


async def test_sending_outlives_what_nobody_foresaw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.pushing.FIRST_PAUSE_SECONDS", 1.0)
    push = _Sent()
    push.offer("a note")
    running = asyncio.create_task(push.run())

    async def told() -> bool:
        return push.trouble == "can't send checkpoints to a test: ZeroDivisionError"

    async def sent() -> bool:
        return not push.trouble

    await eventually(told)
    await eventually(sent)
    assert push.sent == ["a note"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_killed_again_and_again_it_signs_the_log_and_nothing_else(database: Database, tmp_path: Path) -> None:
    """Every checkpoint that it has ever sent away is of the log as it is at the end."""
    execute(database, "INSERT INTO service_identity (key_fingerprint) VALUES (%s)", INSTANCE)
    pushed, random = tmp_path / "pushed.txt", Random(5)
    for round in range(5):
        with WorkerProcess(database, "notary", tmp_path, AUDIT_PUSH_FILE=str(pushed)) as process:

            async def holds(pid: int = process.pid) -> bool:
                return await asyncio.to_thread(holder, database, WORKER) == pid

            await eventually(holds, 30)
            for part in range(4):
                await asyncio.to_thread(fill, database, 300, seed=round * 10 + part)
                await asyncio.sleep(random.random() / 5)  # there is nothing to wait for: it is to be hit anywhere
        execute(database, "DELETE FROM leases")  # as if its six seconds were over
    last = await notarise(database, tmp_path)
    assert last.size == 5 * 4 * 300
    key = key_of(tmp_path).verifier
    sent = [note.verified(key, verify) for note in parse_all(pushed.read_text("utf-8"))]
    assert len(sent) > 1
    assert of_database(database, [*sent, last], key).report.faults == []


async def trouble(database: Database) -> str:
    async with await database.connect_async() as connection:
        return (await lag.read(connection)).trouble(WORKER)


async def refuses(one: Notary, database: Database, why: str) -> None:
    """Check that it signs nothing now, and says so where health looks."""
    before = checkpoints_in(database)
    assert await one._turn() > 0
    assert why in one.trouble
    assert await one._turn() > 0
    assert why in await trouble(database)
    assert checkpoints_in(database) == before


@pytest.mark.parametrize("left, last_tile", [(401, 0), (801, 2)])
async def test_after_an_older_backup_it_does_not_sign(
    database: Database, tmp_path: Path, left: int, last_tile: int
) -> None:
    """Also once the log is longer than it was; with its last checkpoint taken away, it begins from the backup's."""
    fill(database, 600)
    await notarise(database, tmp_path)
    fill(database, 300, seed=2)
    await notarise(database, tmp_path)
    events = execute(database, "SELECT notification_id FROM licensing_events ORDER BY notification_id")
    older = events[left - 1]["notification_id"]
    for table, column in (("licensing_events", "notification_id"), ("audit_tiles", "last_position")):
        execute(database, f"DELETE FROM {table} WHERE {column} > %s", older)
    execute(database, "DELETE FROM audit_checkpoints")

    one = notary(database, tmp_path)
    await refuses(one, database, f"the log has {left} events, but 900 were signed; was an older backup restored?")
    fill(database, 700, seed=3)
    await refuses(one, database, "does not sign")
    assert execute(database, "SELECT max(index) AS last FROM audit_tiles")[0]["last"] == last_tile  # nor does it write
    await one._close()

    kept_aside = KeptCheckpoint(tmp_path).path
    kept_aside.rename(kept_aside.with_name("before-the-restore"))
    assert (await notarise(database, tmp_path)).root == tree_of(database).root


CHANGES = {
    "an event in the edge": (
        "UPDATE licensing_events SET state = state || ' ' WHERE notification_id > 610",
        "the first 600 events, or their tree, are not what was signed",
    ),
    "a node": (
        "UPDATE audit_tiles SET root = sha256(root) WHERE index = 1",
        "the first 600 events, or their tree, are not what was signed",
    ),
    "a checkpoint of another size": (
        "INSERT INTO audit_checkpoints SELECT 601, position, root, note FROM audit_checkpoints",
        "the checkpoint of 601 in the database says other than its note",
    ),
    "a tile that is gone": ("DELETE FROM audit_tiles WHERE index = 1", "tile 1 of level 0 is missing"),
    "a forged checkpoint": (
        "INSERT INTO audit_checkpoints SELECT 601, position, root, replace(note, '600', '601') FROM audit_checkpoints",
        "the signature of",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_changed_below_it_is_not_signed(change: str, database: Database, tmp_path: Path) -> None:
    fill(database, 600)
    await notarise(database, tmp_path)
    statement, why = CHANGES[change]
    execute(database, statement)
    fill(database, 10, seed=2)
    one = notary(database, tmp_path)
    await refuses(one, database, why)
    await one._close()


def foreign(tmp_path: Path, size: int) -> tuple[int, int, bytes, str]:
    """Return a row for a checkpoint of a root that was never the tree's, by a key that is not the notary's."""
    key, root = key_of(tmp_path / "forger"), bytes(32)
    return size, 1, root, sign(Checkpoint(ORIGIN, size, root), key.verifier, key.sign)


FORGE = "INSERT INTO audit_checkpoints (size, position, root, note) VALUES (%s, %s, %s, %s)"


async def test_what_the_key_before_has_signed_must_be_true_too(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The data folder is lost, and with it the key and the last checkpoint."""
    fill(database, 600)
    await notarise(database, tmp_path / "lost")
    fill(database, 10, seed=2)
    execute(database, "UPDATE licensing_events SET state = state || ' ' WHERE notification_id = 615")
    one = notary(database, tmp_path)
    await refuses(one, database, "the first 600 events, or their tree, are not what was signed")
    assert "by another key or name than the checkpoint of 600 in the database" in caplog.text
    execute(
        database,
        "UPDATE licensing_events SET state = substring(state FOR octet_length(state) - 1) WHERE notification_id = 615",
    )
    await turns(one)
    assert (one.trouble, kept(tmp_path).root) == ("", tree_of(database).root)
    await one._close()


async def test_a_checkpoint_that_somebody_else_puts_there_while_it_works(
    database: Database, tmp_path: Path, signing: Notary
) -> None:
    fill(database, 400)
    await turns(signing)
    execute(database, FORGE, *foreign(tmp_path, 399))  # nobody asks for that one: `audit verify` does
    fill(database, 10, seed=2)
    await turns(signing)
    assert (signing.trouble, checkpoints_in(database)) == ("", [399, 400, 410])
    execute(database, FORGE, *foreign(tmp_path, 411))
    await refuses(signing, database, "the log has 410 events, but 411 were signed")


async def test_a_checkpoint_that_somebody_else_puts_in_the_place_of_its_own(database: Database, tmp_path: Path) -> None:
    class Meddled(KeptCheckpoint):
        def write(self, note: str) -> None:
            super().write(note)
            execute(database, FORGE, *foreign(tmp_path, 400))

    fill(database, 400)
    push = _Sent()
    one = notary(database, tmp_path, [push])
    one._kept = Meddled(tmp_path)
    assert await one._turn() > 0
    assert one.trouble == "does not sign: the checkpoint of 400 in the database is not what the events give"
    assert push.notes == []
    await one._close()


async def test_a_long_log_is_counted_once_for_each_fault(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []

    async def shortness(self: Notary) -> str:
        counted.append("once")
        return ""

    monkeypatch.setattr(Notary, "_shortness", shortness)
    fill(database, 600)
    await notarise(database, tmp_path)
    execute(database, "UPDATE licensing_events SET state = state || ' ' WHERE notification_id = 615")
    one = notary(database, tmp_path)
    for _ in range(3):
        await refuses(one, database, "are not what was signed")
    assert counted == ["once"]
    await one._close()


async def test_what_changes_under_its_hands_is_not_signed(database: Database, signing: Notary) -> None:
    """It looks before each signature, not only at its start."""
    fill(database, 400)
    await turns(signing)
    execute(database, "UPDATE licensing_events SET state = state || ' ' WHERE notification_id > 405")
    fill(database, 10, seed=2)
    await refuses(signing, database, "the first 400 events, or their tree, are not what was signed")


async def test_a_checkpoint_that_can_not_be_read_or_kept_is_told(database: Database, tmp_path: Path) -> None:
    fill(database, 10)
    await notarise(database, tmp_path)
    path = KeptCheckpoint(tmp_path).path
    good = path.read_text()
    path.write_text(good[:20])
    fill(database, 10, seed=2)
    one = notary(database, tmp_path)
    await refuses(one, database, "does not sign: the checkpoint in the data folder can't be read")
    path.write_bytes(b"\xff\x00" * 40)
    await refuses(one, database, "does not sign: the checkpoint in the data folder can't be read")
    path.unlink()
    path.mkdir()
    await refuses(one, database, "can't read or keep its checkpoint: Is a directory")
    path.rmdir()
    path.write_text(good)
    await turns(one)
    assert (one.trouble, kept(tmp_path).size) == ("", 20)
    await one._close()


async def test_a_tile_that_somebody_has_put_there_before_is_compared(database: Database, tmp_path: Path) -> None:
    """The service's role may append: also tiles that are none."""
    fill(database, 200)
    await notarise(database, tmp_path)
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO audit_tiles VALUES (0, 1, 1, 600, sha256(''), decode(repeat('00', 8192), 'hex'), '{}')"
        )
    fill(database, 400, seed=2)
    one = notary(database, tmp_path)
    await refuses(one, database, "tile 1 of level 0 is not what the events give")
    await one._close()


async def test_without_any_tiles_it_makes_them_anew(database: Database, tmp_path: Path) -> None:
    fill(database, 1500)
    await notarise(database, tmp_path)
    before = execute(database, "SELECT * FROM audit_tiles ORDER BY level, index")
    execute(database, "TRUNCATE audit_tiles")
    fill(database, 1, seed=2)
    assert (await notarise(database, tmp_path)).root == tree_of(database).root
    assert execute(database, "SELECT * FROM audit_tiles ORDER BY level, index") == before


async def test_tiles_above_tiles(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 65,536 events and more there is a tile of level 1, from which proofs are made."""
    execute(
        database,
        "INSERT INTO licensing_events (originator_id, originator_version, topic, state)"
        " SELECT gen_random_uuid(), n, 'license.issued', convert_to('{\"event_id\":\"' || gen_random_uuid(), 'UTF8')"
        " FROM generate_series(1, 65850) AS n",
    )
    first = await notarise(database, tmp_path)
    assert first.root == tree_of(database).root
    levels = execute(database, "SELECT level, count(*) AS n FROM audit_tiles GROUP BY level ORDER BY level")
    assert [tuple(row.values()) for row in levels] == [(0, 257), (1, 1)]
    async with await database.connect_async() as connection:
        for old in (1, 255, 256, 65_535, 65_536, 65_537, 65_850):
            proof = await consistency(connection, old)
            assert is_consistent(old, proof.from_root, first.size, first.root, proof.proof)


class _Collector(BaseHTTPRequestHandler):
    redirected: ClassVar[bool] = False
    takes: ClassVar[bool] = False
    got: ClassVar[list[tuple[str, str]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status = 200 if self.takes else 503 if self.redirected else 302
        _Collector.redirected = True
        if status < 300 and self.headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ=":
            self.got.append((self.headers["Content-Type"], body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def test_checkpoints_are_pushed_to_file_http_and_queue(
    database: Database, tmp_path: Path, virtual_host: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be sent is told, and made up for."""
    monkeypatch.setattr("workers.pushing.FIRST_PAUSE_SECONDS", 0.05)
    server = HTTPServer(("127.0.0.1", 0), _Collector)
    Thread(target=server.serve_forever, daemon=True).start()
    file, url = tmp_path / "pushed.txt", f"http://user:secret@127.0.0.1:{server.server_port}/checkpoints"
    pushes: list[Pusher] = [FilePush(file), HttpPush(url), QueuePush(virtual_host.url, "auditors")]
    fill(database, 10)
    one = notary(database, tmp_path, pushes, sign_seconds=0.2)
    working = asyncio.create_task(one.run())
    try:

        async def told() -> bool:
            return "AUDIT_PUSH_URL: it answered 503" in one.trouble and "there is no queue auditors" in one.trouble

        await eventually(told)
        assert "secret" not in one.trouble
        virtual_host.new_queue("auditors")
        _Collector.takes = True

        async def all_have_it() -> bool:
            return bool(file.exists() and _Collector.got and virtual_host.size("auditors") and not one.trouble)

        await eventually(all_have_it)
        fill(database, 10, seed=2)

        async def have_both() -> bool:
            return len(_Collector.got) == 2 and virtual_host.size("auditors") == 2

        await eventually(have_both)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        server.shutdown()
        server.server_close()
    text = file.read_text("utf-8")
    assert [note.verified(key_of(tmp_path).verifier, verify).size for note in parse_all(text)] == [10, 20]
    assert [type for type, _ in _Collector.got] == ["text/plain; charset=utf-8"] * 2
    assert "".join(body for _, body in _Collector.got) == text
