"""Brings the asynchronous views up to the ends of the logs at once, as the projector does in its own time."""

from __future__ import annotations

from commands.event_mapper import decoder
from infra.postgres import Database
from projections.following import Follower
from projections.registry import ASYNCHRONOUS


def project(database: Database) -> None:
    """Apply all that is in the logs."""
    with database.connect() as connection:
        for projection in ASYNCHRONOUS:
            Follower(projection, decoder()).catch_up(connection)
