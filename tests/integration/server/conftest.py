"""A Prefect server that the tests of this folder share, one for each half: it takes twenty seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import deployed_server
from tests.support.prefect_processes import Server


@pytest.fixture(scope="package")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prefect server with the deployments of this checkout and one worker of the pool ``lookbook``.

    All tests of this folder share it, so each uses dataset names of its own, deletes the schedules that it makes and
    leaves the worker alone: who needs several workers or kills one takes `server_without_workers`. Its runs draw with
    one process each, so that a batch lasts long enough to be met under way. It ends with the last test of the folder: a
    server and a worker that nobody asks take a tenth of a processor.
    """
    home = tmp_path_factory.mktemp("prefect") / "home"
    with deployed_server(home) as server, server.worker(name="session", LOOKBOOK_THREADS="1"):
        yield server
