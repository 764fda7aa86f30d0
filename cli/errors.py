"""What went wrong, in one line for the person at the terminal."""

from __future__ import annotations


class Failure(Exception):
    """A command can't do what it was asked. The message is one line that says why, and holds no secret."""


def explain(error: Exception) -> str | None:
    """Return the line to show for an error that can be expected; None for one that can't, which is a bug.

    What raises errors is imported here and not above, so that `--help` does not wait for it.
    """
    if isinstance(error, Failure):
        return str(error)
    return _of_ours(error) or _of_the_database(error) or _of_the_system(error)


def _of_ours(error: Exception) -> str | None:

    from cli.core import ForeignDatabase
    from domain.errors import Refusal
    from infra.clock import ClockFault
    from infra.data_folder import DataFolderInUse
    from infra.embedded_postgres import EmbeddedPostgresError
    from infra.keyring import KeyringError
    from infra.migrations import MigrationError
    from infra.places import GeoDatabaseError
    from infra.settings import SettingsError
    from infra.thresholds import ThresholdsError
    from projections.dead_letters import TooManyDeadLetters
    from projections.rebuild import NotComplete, RebuildUnderWay, StillRead

    if isinstance(error, DataFolderInUse):
        return f"{error}: stop it, choose another DATA_DIR, or give both processes one DATABASE_URL"
    if isinstance(error, EmbeddedPostgresError):
        return f"the embedded database: {_first_line(error)}"
    if isinstance(error, Refusal):
        details = "; ".join(f"{name} {why}" for name, why in error.details.items())
        return f"{error.message}: {details}" if details else error.message
    if isinstance(error, GeoDatabaseError):
        return f"GEO_DATABASE: {error}"
    known = (
        ForeignDatabase,
        ClockFault,
        KeyringError,
        MigrationError,
        NotComplete,
        RebuildUnderWay,
        StillRead,
        SettingsError,
        ThresholdsError,
        TooManyDeadLetters,
    )
    return _first_line(error) if isinstance(error, known) else None


def _of_the_database(error: Exception) -> str | None:
    import psycopg
    from psycopg_pool import PoolTimeout

    if isinstance(error, psycopg.OperationalError | PoolTimeout):
        return f"the database can't be reached: {_first_line(error)}"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"the database login lacks a right: {_first_line(error)} (DATABASE_OWNER_URL names one for migrations)"
    return f"the database refused: {_first_line(error)}" if isinstance(error, psycopg.Error) else None


def _of_the_system(error: Exception) -> str | None:
    if not isinstance(error, OSError):
        return None
    reason = error.strerror or _first_line(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
