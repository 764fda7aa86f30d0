"""The event-sourcing application: the library's store, mapper and repository over our recorder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import ApplicationRecorder, Mapper
from eventsourcing.postgres import PostgresDatastore, PostgresFactory
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from commands.event_mapper import EventMapper
from commands.handlers import Aggregate, evolve
from commands.recorder import InlineViews, LicensingRecorder


class _Factory(PostgresFactory):
    """Opens the library's pool with the service's own connection parameters (role, schema, time zone)."""

    def __init__(self, env: Environment, conninfo: str) -> None:
        super().__init__(env)
        self.datastore.pool.close()
        datastore = PostgresDatastore("", "", "", "", "", pool_size=1, max_overflow=3, schema="lizenzserver")
        assert isinstance(datastore.pool.kwargs, dict)
        for name in ("dbname", "host", "port", "user", "password"):
            datastore.pool.kwargs.pop(name)
        datastore.pool.kwargs.update(conninfo_to_dict(conninfo))
        self.datastore = datastore


class LicensingApplication(Application[UUID]):
    """Licences and API keys over one event log.

    `conninfo` is a libpq connection string of the service's role; the schema must have been migrated.
    """

    name = "licensing"

    def __init__(self, conninfo: str, views: InlineViews) -> None:
        self._conninfo = conninfo
        self._views = views
        placeholder = {"POSTGRES_DBNAME": "-", "POSTGRES_HOST": "-", "POSTGRES_USER": "-", "POSTGRES_PASSWORD": "-"}
        super().__init__({"PERSISTENCE_MODULE": "eventsourcing.postgres", "CREATE_TABLE": "no", **placeholder})

    def construct_factory(self, env: Environment) -> Any:
        """Open the store on our connection parameters."""
        return _Factory(env, self._conninfo)

    def construct_mapper(self) -> Mapper[UUID]:
        """Use typed JSON and an allow-list of names."""
        return EventMapper()

    def construct_recorder(self) -> ApplicationRecorder:
        """Use our commit path."""
        return LicensingRecorder(self.factory.datastore, self._views)  # type: ignore[attr-defined]

    def load(self, aggregate_id: UUID, version: int | None = None) -> Aggregate:
        """Rebuild an aggregate from the log. Raises the library's AggregateNotFoundError."""
        state: Aggregate = self.repository.get(aggregate_id, version=version, projector_func=fold)
        return state


def fold(initial: Any, events: Iterable[Any]) -> Any:
    """Apply events in order; the library's repository calls this."""
    state: Aggregate | None = initial
    for event in events:
        state = evolve(state, event)
    return state
