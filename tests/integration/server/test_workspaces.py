"""Workspaces on a real server: each kind saved, loaded, edited as a form does it, and loaded with the edit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from prefect.blocks.core import Block
from prefect.settings import temporary_settings
from prefect_sqlalchemy import ConnectionComponents
from pydantic import SecretStr

from lookbook.blocks.connector_registry import ConnectorRegistry
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import UsageError
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.registry import PostgresRegistry
from lookbook.blocks.workspace import load_workspace
from lookbook.deployments.command import workspaces
from tests.support.command import lookbook, lookbook_json
from tests.support.gcp_credentials import private_key
from tests.support.prefect_processes import Server

pytestmark = pytest.mark.integration

URL = "postgresql://keeper:hunter2@db.example:5432/books?sslmode=verify-full"
TOKEN = "hunter2-token"  # noqa: S105 - nobody's

Save: TypeAlias = Callable[..., dict[str, str]]


@pytest.fixture
def save(prefect: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Save]:
    """Saves as the command does; and lets this process talk to the server, as a run does."""
    for name, value in prefect.access.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOOKBOOK_HOME", str(prefect.home))

    def save(name: str, registry_url: str = "", **given: str) -> dict[str, str]:
        monkeypatch.setenv("LOOKBOOK_REGISTRY_URL", registry_url)
        options = dict.fromkeys(("lake", "warehouse", "credentials", "connector", "kaggle")) | given
        return workspaces.save(name, workspaces.assemble(prefect.home, **options))

    with temporary_settings(prefect.settings):
        yield save


def said(block: Block) -> tuple[str, dict[str, Any]]:
    """What a block says, without what Prefect adds to one that was saved."""
    return type(block).__name__, {field: getattr(block, field) for field in type(block).model_fields}


def document(prefect: Server, slug: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = prefect.get(f"/block_types/slug/{slug}/block_documents/name/{name}")
    return found


def fill_in(prefect: Server, slug: str, name: str, **values: Any) -> None:
    """Change a block as Prefect's form does: it sends what it shows, secrets hidden, and no type of ours."""
    block = document(prefect, slug, name)
    fields = block["block_schema"]["fields"]["properties"]
    shown = {field: value for field, value in block["data"].items() if field in fields}
    for field, reference in block["block_document_references"].items():
        shown[field] = {"$ref": {"block_document_id": reference["block_document"]["id"]}}
    sent = {"data": shown | values, "block_schema_id": block["block_schema_id"], "merge_existing_data": False}
    prefect.patch(f"/block_documents/{block['id']}", sent)


def create(prefect: Server, slug: str, name: str, **data: Any) -> dict[str, Any]:
    """Make a block as Prefect's form does; returns how another one refers to it."""
    kind = prefect.get(f"/block_types/slug/{slug}")["id"]
    schema = prefect.post("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})[0]["id"]
    made = prefect.post(
        "/block_documents/", {"name": name, "data": data, "block_type_id": kind, "block_schema_id": schema}
    )
    return {"$ref": {"block_document_id": made["id"]}}


@pytest.mark.usefixtures("save")
def test_a_local_one_is_saved_by_the_command_and_an_edit_of_its_lake_is_seen(prefect: Server, tmp_path: Path) -> None:
    parts = ("--lake", str(tmp_path / "lake"), "--warehouse", str(tmp_path / "w.duckdb"))
    saved = lookbook_json(prefect.home, "workspace", "save", "shelf", *parts, **prefect.environment())
    assert saved["lake"] == "Lookbook Folder Lake shelf"
    kept = document(prefect, "lookbook-workspace", "shelf")["data"]["scratch"]
    assert kept is None, "each machine has a folder of its own for it"
    place = load_workspace("shelf")
    assert said(place.lake) == said(FolderLake(root=tmp_path / "lake"))
    assert said(place.warehouse) == said(DuckDBWarehouse(path=tmp_path / "w.duckdb"))
    assert said(place.registry) == said(PostgresRegistry(home=prefect.home))
    assert (place.scratch, place.kaggle) == (prefect.home / "scratch", None)

    fill_in(prefect, "lookbook-folder-lake", "shelf", root=str(tmp_path / "moved"))
    fill_in(prefect, "lookbook-workspace", "shelf", scratch=str(tmp_path / "scratch"))
    edited = load_workspace("shelf")
    assert said(edited.lake) == said(FolderLake(root=tmp_path / "moved"))
    assert edited.scratch == tmp_path / "scratch"
    assert said(edited.warehouse) == said(place.warehouse)


def test_one_with_a_postgresql_keeps_its_password_through_an_edit_and_shows_it_nowhere(
    prefect: Server, save: Save
) -> None:
    save("team", URL)
    registry = PostgresRegistry(url=SecretStr(URL), home=prefect.home)
    assert said(load_workspace("team").registry) == said(registry)
    fill_in(prefect, "lookbook-registry", "team", connections=9)
    assert said(load_workspace("team").registry) == said(registry.model_copy(update={"connections": 9}))
    shown = prefect.post("/block_documents/filter", {"limit": 200})
    assert "team" in [block["name"] for block in shown]
    assert "hunter2" not in json.dumps(shown)


@pytest.mark.full
def test_saved_again_it_is_replaced(prefect: Server, tmp_path: Path, save: Save) -> None:
    save("twice", URL)
    save("twice", lake=str(tmp_path))
    place = load_workspace("twice")
    assert said(place.lake) == said(FolderLake(root=tmp_path))
    assert said(place.registry) == said(PostgresRegistry(home=prefect.home))


PARTS = {"driver": "postgresql+asyncpg", "host": "db.example", "username": "keeper", "database": "books"}


def components(name: str) -> ConnectionComponents:
    """What the connector of a workspace's registry says."""
    registry = load_workspace(name).registry
    assert isinstance(registry, ConnectorRegistry)
    found = registry.connector.connection_info
    assert isinstance(found, ConnectionComponents)
    return found


def test_one_with_a_connector_refers_to_it_and_sees_its_edit(prefect: Server, save: Save) -> None:
    create(prefect, "async-sqlalchemy-connector", "books", connection_info=PARTS | {"password": "hunter2"})
    assert save("connected", connector="books")["registry"] == "Lookbook Connector Registry connected"
    assert (components("connected").host, components("connected").password) == ("db.example", SecretStr("hunter2"))
    elsewhere = PARTS | {"password": "hunter3", "host": "other.example"}
    fill_in(prefect, "async-sqlalchemy-connector", "books", connection_info=elsewhere)
    found = components("connected")
    assert (found.host, found.password) == ("other.example", SecretStr("hunter3"))


def test_a_part_of_another_kind_is_chosen_in_the_form(prefect: Server, save: Save) -> None:
    """What a form makes names no class: the kind follows from the fields."""
    save("moving", URL)
    connector = create(prefect, "async-sqlalchemy-connector", "new-books", connection_info=PARTS)
    registry = create(prefect, "lookbook-connector-registry", "new-books", connector=connector)
    fill_in(prefect, "lookbook-workspace", "moving", registry=registry)
    assert components("moving").host == "db.example"
    back = create(prefect, "lookbook-registry", "old-books", url=URL)
    fill_in(prefect, "lookbook-workspace", "moving", registry=back)
    assert said(load_workspace("moving").registry) == said(PostgresRegistry(url=SecretStr(URL)))


@pytest.mark.usefixtures("save")
def test_one_that_an_earlier_version_saved_in_one_piece_is_loaded(prefect: Server, tmp_path: Path) -> None:
    create(
        prefect,
        "lookbook-workspace",
        "old",
        lake={"root": str(tmp_path), "block_type_slug": "lookbook-folder-lake"},
        registry={"url": None, "home": str(tmp_path), "block_type_slug": "lookbook-registry"},
        warehouse={"path": str(tmp_path / "w.duckdb"), "block_type_slug": "lookbook-duckdb-warehouse"},
        scratch=str(tmp_path / "scratch"),
    )
    place = load_workspace("old")
    assert said(place.lake) == said(FolderLake(root=tmp_path))
    assert said(place.registry) == said(PostgresRegistry(home=tmp_path))
    assert said(place.warehouse) == said(DuckDBWarehouse(path=tmp_path / "w.duckdb"))
    assert place.scratch == tmp_path / "scratch"


def test_one_on_google_cloud_is_saved_with_a_key_and_an_edit_of_its_bucket_is_seen(prefect: Server, save: Save) -> None:
    for module in ("lookbook.blocks.gcs", "lookbook.blocks.bigquery.warehouse", "lookbook.blocks.kaggle"):
        pytest.importorskip(module)
    key = {
        "type": "service_account",
        "project_id": "a-project",
        "private_key": private_key(),
        "client_email": "worker@a-project.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1:1/token",
    }
    create(prefect, "gcp-credentials", "cloud", service_account_info=key)
    create(prefect, "lookbook-kaggle-credentials", "cloud", token=TOKEN)
    google = {"lake": "gs://a-bucket/lookbook", "warehouse": "bigquery://a-project/EU", "credentials": "cloud"}
    save("cloud", URL, kaggle="cloud", **google)
    place: Any = load_workspace("cloud")
    assert place.lake.uri("a") == "gs://a-bucket/lookbook/a"
    assert (place.warehouse.project, place.warehouse.location) == ("a-project", "EU")
    assert place.lake.credentials.service_account_info.get_secret_value() == key
    assert place.kaggle.token == SecretStr(TOKEN)

    fill_in(prefect, "lookbook-gcs-lake", "cloud", bucket="another-bucket")
    fill_in(prefect, "lookbook-bigquery-warehouse", "cloud", maximum_bytes_billed=10**9)
    edited: Any = load_workspace("cloud")
    assert edited.lake.uri("a") == "gs://another-bucket/lookbook/a"
    assert edited.warehouse.maximum_bytes_billed == 10**9
    assert edited.lake.credentials.service_account_info.get_secret_value() == key
    shown = json.dumps(prefect.post("/block_documents/filter", {"limit": 200}))
    assert "hunter2" not in shown
    assert key["private_key"][40:80] not in shown


@pytest.mark.full
def test_one_that_lost_a_part_is_said_so_in_two_lines(prefect: Server, save: Save) -> None:
    save("broken", URL)
    prefect.delete(f"/block_documents/{document(prefect, 'lookbook-folder-lake', 'broken')['id']}")
    done = lookbook(prefect.home, "datasets", "--workspace", "broken", **prefect.environment())
    assert done.returncode == 1
    assert "The workspace broken that is saved cannot be used: lake" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lake": "s3://bucket"}, "--lake s3://bucket: that is no lake."),
        ({"lake": "gs://"}, "--lake gs://: that is no lake."),
        ({"warehouse": "snowflake://x"}, "--warehouse snowflake://x: that is no warehouse."),
        ({"connector": "nowhere"}, "--connector nowhere: "),
        ({"kaggle": "nowhere"}, "--kaggle nowhere: "),
    ],
)
def test_what_cannot_be_meant_is_refused(prefect: Server, save: Save, options: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        save("refused", **options)
    assert prefect.post("/block_documents/filter", {"block_documents": {"name": {"any_": ["refused"]}}}) == []
