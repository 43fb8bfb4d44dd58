"""Workspaces on a real server: each kind saved, loaded, edited as a form does it, and loaded with the edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.command import lookbook, lookbook_json
from tests.support.prefect_processes import Server

# Minutes on a busy machine; each poll has a deadline of its own.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

URL = "postgresql://keeper:hunter2@db.example:5432/books?sslmode=verify-full"

TOKEN = "hunter2-token"  # noqa: S105 - nobody's

LOAD = """
import json, sys
from dataclasses import fields
from blocks.workspace import load_workspace

def told(value):
    if hasattr(value, "get_secret_value"):
        return told(value.get_secret_value())
    if hasattr(value, "model_fields_set"):
        parts = {name: told(getattr(value, name)) for name in type(value).model_fields}
        return {"kind": type(value).__name__, **parts}
    return value if isinstance(value, (dict, int, type(None))) else str(value)

place = load_workspace(sys.argv[1])
print(json.dumps({field.name: told(getattr(place, field.name)) for field in fields(place)}))
"""


def save(prefect: Server, name: str, *options: str, **environment: str) -> dict[str, Any]:
    more = prefect.environment(**environment)
    saved: dict[str, Any] = lookbook_json(prefect.home, "workspace", "save", name, *options, **more)
    return saved


def loaded(prefect: Server, name: str) -> dict[str, Any]:
    """What a process of its own gets by the name."""
    done = prefect.python("-c", LOAD, name)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def document(prefect: Server, slug: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = prefect.get(f"/block_types/slug/{slug}/block_documents/name/{name}")
    return found


def fill_in(prefect: Server, slug: str, name: str, **values: Any) -> None:
    """Change a block as Prefect's form does: it sends what it shows, secrets hidden, and no type of ours."""
    block = document(prefect, slug, name)
    shown = {
        field: value for field, value in block["data"].items() if field in block["block_schema"]["fields"]["properties"]
    }
    for field, reference in block["block_document_references"].items():
        shown[field] = {"$ref": {"block_document_id": reference["block_document"]["id"]}}
    data = shown | values
    prefect.patch(
        f"/block_documents/{block['id']}",
        {"data": data, "block_schema_id": block["block_schema_id"], "merge_existing_data": False},
    )


def create(prefect: Server, slug: str, name: str, **data: Any) -> dict[str, Any]:
    """Make a block as Prefect's form does; returns how another one refers to it."""
    kind = prefect.get(f"/block_types/slug/{slug}")["id"]
    schema = prefect.post("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})[0]["id"]
    made = prefect.post(
        "/block_documents/", {"name": name, "data": data, "block_type_id": kind, "block_schema_id": schema}
    )
    return {"$ref": {"block_document_id": made["id"]}}


def test_a_local_one_is_saved_and_an_edit_of_its_lake_is_seen(prefect: Server, tmp_path: Path) -> None:
    saved = save(prefect, "shelf", "--lake", str(tmp_path / "lake"), "--warehouse", str(tmp_path / "w.duckdb"))
    assert saved["lake"] == "Lookbook Folder Lake shelf"
    place = loaded(prefect, "shelf")
    assert place["lake"] == {"kind": "FolderLake", "root": str(tmp_path / "lake")}
    assert place["warehouse"].items() >= {"kind": "DuckDBWarehouse", "path": str(tmp_path / "w.duckdb")}.items()
    assert place["registry"]["home"] == str(prefect.home)
    assert place["scratch"] == str(prefect.home / "scratch")
    assert place["kaggle"] is None

    fill_in(prefect, "lookbook-folder-lake", "shelf", root=str(tmp_path / "moved"))
    fill_in(prefect, "lookbook-workspace", "shelf", scratch=str(tmp_path / "scratch"))
    edited = loaded(prefect, "shelf")
    assert edited["lake"] == {"kind": "FolderLake", "root": str(tmp_path / "moved")}
    assert edited["scratch"] == str(tmp_path / "scratch")
    assert edited["warehouse"] == place["warehouse"]


def test_one_with_a_postgresql_keeps_its_password_through_an_edit_and_shows_it_nowhere(prefect: Server) -> None:
    save(prefect, "team", LOOKBOOK_REGISTRY_URL=URL)
    registry = {"kind": "PostgresRegistry", "url": URL, "home": None, "connections": 4, "statement_seconds": 600}
    assert loaded(prefect, "team")["registry"] | {"home": None} == registry
    fill_in(prefect, "lookbook-registry", "team", connections=9)
    assert loaded(prefect, "team")["registry"] | {"home": None} == registry | {"connections": 9}
    shown = prefect.post("/block_documents/filter", {"limit": 200})
    assert "team" in [block["name"] for block in shown]
    assert "hunter2" not in json.dumps(shown)


PARTS = {"driver": "postgresql+asyncpg", "host": "db.example", "username": "keeper", "database": "books"}


def test_one_with_a_connector_refers_to_it_and_sees_its_edit(prefect: Server) -> None:
    create(prefect, "async-sqlalchemy-connector", "books", connection_info=PARTS | {"password": "hunter2"})
    saved = save(prefect, "connected", "--connector", "books")
    assert saved["registry"] == "Lookbook Connector Registry connected"
    found = loaded(prefect, "connected")["registry"]
    assert found["kind"] == "ConnectorRegistry"
    assert (found["connector"]["connection_info"]["host"], found["connections"]) == ("db.example", 4)
    elsewhere = PARTS | {"password": "hunter3", "host": "other.example"}
    fill_in(prefect, "async-sqlalchemy-connector", "books", connection_info=elsewhere)
    found = loaded(prefect, "connected")["registry"]["connector"]["connection_info"]
    assert (found["host"], found["password"]) == ("other.example", "hunter3")


def test_a_part_of_another_kind_is_chosen_in_the_form(prefect: Server) -> None:
    """What a form makes names no class: the kind follows from the fields."""
    save(prefect, "moving", LOOKBOOK_REGISTRY_URL=URL)
    connector = create(prefect, "async-sqlalchemy-connector", "new-books", connection_info=PARTS)
    registry = create(prefect, "lookbook-connector-registry", "new-books", connector=connector)
    fill_in(prefect, "lookbook-workspace", "moving", registry=registry)
    assert loaded(prefect, "moving")["registry"]["kind"] == "ConnectorRegistry"
    back = create(prefect, "lookbook-registry", "old-books", url=URL)
    fill_in(prefect, "lookbook-workspace", "moving", registry=back)
    assert loaded(prefect, "moving")["registry"]["kind"] == "PostgresRegistry"


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
    place = loaded(prefect, "old")
    assert [place[part]["kind"] for part in ("lake", "registry", "warehouse")] == [
        "FolderLake",
        "PostgresRegistry",
        "DuckDBWarehouse",
    ]
    assert place["scratch"] == str(tmp_path / "scratch")


def test_one_on_google_cloud_is_saved_with_a_key_and_an_edit_of_its_bucket_is_seen(prefect: Server) -> None:
    pytest.importorskip("blocks.gcs_lake")
    pytest.importorskip("blocks.bigquery_warehouse")
    pytest.importorskip("blocks.kaggle")
    key = {
        "type": "service_account",
        "project_id": "a-project",
        "private_key": private_key(),
        "client_email": "worker@a-project.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1:1/token",
    }
    create(prefect, "gcp-credentials", "cloud", service_account_info=key)
    create(prefect, "lookbook-kaggle-credentials", "cloud", token=TOKEN)
    google = ("--lake", "gs://a-bucket/lookbook", "--warehouse", "bigquery://a-project/EU", "--credentials", "cloud")
    save(prefect, "cloud", *google, "--kaggle", "cloud", LOOKBOOK_REGISTRY_URL=URL)
    place = loaded(prefect, "cloud")
    assert (place["lake"]["kind"], place["lake"]["bucket"], place["lake"]["prefix"]) == (
        "GcsLake",
        "a-bucket",
        "lookbook",
    )
    assert (place["warehouse"]["kind"], place["warehouse"]["project"]) == ("BigQueryWarehouse", "a-project")
    assert place["warehouse"]["location"] == "EU"
    assert place["lake"]["credentials"]["service_account_info"] == key
    assert place["kaggle"]["token"] == TOKEN
    fill_in(prefect, "lookbook-gcs-lake", "cloud", bucket="another-bucket")
    edited = loaded(prefect, "cloud")
    assert edited["lake"]["bucket"] == "another-bucket"
    assert edited["lake"]["credentials"]["service_account_info"] == key
    shown = json.dumps(prefect.post("/block_documents/filter", {"limit": 200}))
    assert "hunter2" not in shown
    assert key["private_key"][40:80] not in shown


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_one_that_lost_a_part_is_said_so_in_two_lines(prefect: Server) -> None:
    save(prefect, "broken", LOOKBOOK_REGISTRY_URL=URL)
    prefect.delete(f"/block_documents/{document(prefect, 'lookbook-folder-lake', 'broken')['id']}")
    done = lookbook(prefect.home, "datasets", "--workspace", "broken", **prefect.environment())
    assert done.returncode == 1
    assert "The workspace broken that is saved cannot be used: lake" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--lake", "s3://bucket"), "--lake s3://bucket: that is no lake."),
        (("--lake", "gs://"), "--lake gs://: that is no lake."),
        (("--warehouse", "snowflake://x"), "--warehouse snowflake://x: that is no warehouse."),
        (("--connector", "nowhere"), "--connector nowhere: "),
        (("--kaggle", "nowhere"), "--kaggle nowhere: "),
    ],
)
def test_what_cannot_be_meant_is_refused(prefect: Server, options: tuple[str, ...], says: str) -> None:
    done = lookbook(prefect.home, "workspace", "save", "refused", *options, **prefect.environment())
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    blocks = prefect.post("/block_documents/filter", {"block_documents": {"name": {"any_": ["refused"]}}})
    assert blocks == []
