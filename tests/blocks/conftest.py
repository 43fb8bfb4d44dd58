"""Servers that the tests of the blocks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.registries import KINDS, Place, Servers, place, servers
from tests.support.sets import sampled


@pytest.fixture(scope="session")
def registry_servers() -> Iterator[Servers]:
    """The registry's servers, each started when it is first asked for."""
    with servers() as started:
        yield started


@pytest.fixture(params=sampled(KINDS, fast=["embedded", "connector"]))
def empty(request: pytest.FixtureRequest, registry_servers: Servers) -> Iterator[Place]:
    """A database without any schema of ours, on each kind of server."""
    with place(registry_servers, request.param) as found:
        yield found


@pytest.fixture
def guarded(registry_servers: Servers) -> Iterator[Place]:
    """One on the server that asks for a password and speaks TLS only."""
    with place(registry_servers, "debian") as found:
        yield found
