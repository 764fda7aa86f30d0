"""Two API processes over one database, shared by the tests of a file: each makes its own licences."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster
from tests.support.processes import Pair, running_pair


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> Iterator[Pair]:
    with running_pair(cluster, "patient_server") as running:
        yield running
