"""What every process needs that touches licences: keys, vault, event log; and, for commands, a writer of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from cli import erasures
from commands.application import LicensingApplication
from commands.batch import Replay, Submission
from commands.orders import Order
from commands.recorder import OrderOutdated
from commands.writer import GroupCommitWriter
from domain.errors import ServiceUnavailable
from domain.facts import Cause
from infra import erasure_register
from infra.clock import Clock
from infra.erasure_register import ErasureRegister
from infra.keyring import Keyring
from infra.postgres import Database
from infra.settings import Secret, Settings
from infra.subjects import SealedEmails, Subjects
from infra.vault import Vault
from projections.inline_views import InlineViews

T = TypeVar("T")

MAX_BEGINNINGS = 5


class ForeignDatabase(Exception):
    """The database was filled under another service key; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Core:
    """Database, keys, vault, and the event-sourcing application over them."""

    database: Database
    keyring: Keyring
    vault: Vault
    emails: SealedEmails
    application: LicensingApplication
    register: ErasureRegister


def open_keyring(settings: Settings) -> Keyring:
    """Open the keys, from settings or from the data folder. Raises KeyringError."""
    return Keyring.open(settings.data_dir / "keys", _text(settings.service_key), _text(settings.signing_keys))


def compose_core(settings: Settings, database: Database) -> Core:
    """Put together what does not need an event loop; whoever was erased is erased then, also after a restore.

    Raises ForeignDatabase, and OSError where the register of erasures can't be read.
    """
    keyring = open_keyring(settings)
    _check_identity(database, keyring)
    vault = Vault(keyring.derive("vault"), keyring.derive("lookup"))
    emails = SealedEmails(vault, database.connect)
    application = LicensingApplication(database.conninfo("lizenzserver-log"), InlineViews(emails))
    register = ErasureRegister(settings.erasure_register or settings.data_dir / erasure_register.FILE)
    try:
        erasures.reconcile(database, application, register)
    except BaseException:
        application.close()
        raise
    return Core(database, keyring, vault, emails, application, register)


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a command works with: the parts of the core, one connection to read by, and a writer for its orders.

    `job` is who acts in history: `job:NAME`. `run_id` marks all events of one run, as a request id does elsewhere.
    """

    core: Core
    connection: AsyncConnection[DictRow]
    writer: GroupCommitWriter
    clock: Clock
    subjects: Subjects
    job: str
    run_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def vault(self) -> Vault:
        """The core's vault."""
        return self.core.vault

    def cause(self, command: type[Order]) -> Cause:
        """Say who ordered this."""
        return Cause(actor=f"job:{self.job}", command=command.__name__, command_id=uuid4(), request_id=self.run_id)

    async def until_current(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do work that ends in an order; begin anew where somebody was erased meanwhile whom it is about.

        Raises ServiceUnavailable where that goes on for long.
        """
        for _ in range(MAX_BEGINNINGS):
            try:
                return await work()
            except OrderOutdated as outdated:
                self.vault.destroy(outdated.erased)
        raise ServiceUnavailable

    async def execute(self, order: Order) -> None:
        """Have an order carried out. Raises the domain's refusals, and OrderOutdated: see `until_current`."""
        done: bytes | Replay = await self.writer.execute(Submission(order, _no_answer))
        del done


def _no_answer(*_: Any) -> bytes:
    return b""


@asynccontextmanager
async def workbench(settings: Settings, database: Database, job: str) -> AsyncIterator[Workbench]:
    """Set up a workbench, and put everything away at the end. Raises ForeignDatabase and psycopg's errors."""
    core = compose_core(settings, database)
    writer = GroupCommitWriter(core.application, database.connect, database.connect_login)
    clock = Clock()
    try:
        async with await AsyncConnection.connect(
            database.conninfo("lizenzserver-command"), autocommit=True, row_factory=dict_row
        ) as connection:
            await clock.adjust(connection)
            writer.start()
            yield Workbench(core, connection, writer, clock, Subjects(core.vault), job)
    finally:
        await writer.stop()
        core.application.close()


def _check_identity(database: Database, keyring: Keyring) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO service_identity (key_fingerprint) VALUES (%s) ON CONFLICT DO NOTHING", (keyring.fingerprint,)
        )
        row = connection.execute("SELECT key_fingerprint FROM service_identity").fetchone()
    assert row is not None
    if row["key_fingerprint"] != keyring.fingerprint:
        msg = (
            "this database was filled under another service key: use the data folder it was started with,"
            " or give that key in SERVICE_KEY"
        )
        raise ForeignDatabase(msg)


def _text(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None
