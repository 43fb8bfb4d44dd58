"""Apps over a published sample, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import asyncpg
import pytest

from lookbook.blocks.registry import Registry
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.datasets.tags import tags_key
from tests.support import pipeline
from tests.support.api import Api, FakeRuns, running

PHOTOS = 60


@pytest.fixture(scope="session")
def shoes(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Workspace:
    """A workspace with two snapshots of the dataset `shoes`; tests of this folder only read its lake."""
    place = replace(local_workspace(tmp_path_factory.mktemp("api") / "home"), registry=registry)
    recipe = pipeline.SMALL
    for source in (f"sample://{PHOTOS - 10}", f"sample://{PHOTOS}"):
        pipeline.run(pipeline.request(place, source, dataset="shoes", batch_size=100, recipe=recipe))
    return place


@pytest.fixture(scope="session")
def shared_app(shoes: Workspace) -> Iterator[Api]:
    """The app of all tests that change nothing of it."""
    with running(shoes) as found:
        yield found


@pytest.fixture
def api(shared_app: Api) -> Iterator[Api]:
    """An app without keys, asked from this machine; with no runs and no tags yet."""
    forget_keys(shared_app.workspace.registry)
    forget_tags(shared_app)
    shared_app.app.state.services.gate._ring._read_at = -float("inf")
    vars(shared_app.runs).update(vars(FakeRuns()))
    shared_app.http.cookies.clear()
    yield shared_app
    forget_keys(shared_app.workspace.registry)
    forget_tags(shared_app)


def forget_tags(app: Api) -> None:
    """Remove all tags of the dataset that the tests of this folder share, and what the app remembers of them."""
    app.workspace.lake.remove(tags_key("shoes"))
    app.app.state.services.snapshots.forget_tags("shoes")


def forget_keys(registry: Registry) -> None:
    """Remove all keys and requests, so that the API is open again."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("TRUNCATE api_keys, api_runs")

    registry.run(work)
