"""A lab for everything that is measured here: small, and on one PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.lab import Lab, Sizes

TINY = Sizes(
    rounds=1,
    seconds=1,
    warm_up=1,
    licences=60,
    many=60,
    growth=(50, 60),
    histories=(4,),
    cached=60,
    log_rows=200,
    workers=False,
)


@pytest.fixture(scope="package")
def _lab() -> Iterator[Lab]:
    with Lab(TINY, quiet=True) as made:
        yield made
    assert not made.folder.exists()


@pytest.fixture
def lab(_lab: Lab) -> Iterator[Lab]:
    yield _lab
    _lab.tidy()
