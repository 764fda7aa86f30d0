"""A RabbitMQ server for all tests of workers, and a name space on it for each test that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rabbit import Rabbit, VirtualHost


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    with Rabbit() as running:
        yield running


@pytest.fixture
def host(rabbit: Rabbit) -> VirtualHost:
    return rabbit.new_host()
