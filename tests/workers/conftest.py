"""A name space of the session's RabbitMQ, under the name that the tests of workers use."""

from __future__ import annotations

import pytest

from tests.support.rabbit import VirtualHost


@pytest.fixture
def host(virtual_host: VirtualHost) -> VirtualHost:
    return virtual_host
