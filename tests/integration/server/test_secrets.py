"""Secrets of blocks and of the environment, sought in all that runs leave behind: none of it holds one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import asyncpg
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.embedded import postgres
from lookbook.blocks.registry import PostgresRegistry
from tests.support import debian_postgres
from tests.support.command import lookbook
from tests.support.prefect_processes import Server

pytestmark = [pytest.mark.integration, pytest.mark.full]

RIGHT, WRONG, UNQUOTED, KEY, SETTING = SECRETS = [f"hunter2{uuid4().hex}" for _ in range(5)]
OUTCOMES = {"right": "COMPLETED", "wrong": "FAILED", "refused": "FAILED", "unquoted": "FAILED"}

SAVE = """
import json, sys
from dataclasses import replace
from pathlib import Path
from pydantic import SecretStr
from lookbook.blocks import saved_workspace
from lookbook.blocks.registry import PostgresRegistry
from lookbook.blocks.workspace import local_workspace

home, urls = Path(sys.argv[1]), json.loads(sys.argv[2])
for name, url in urls.items():
    place = replace(local_workspace(home / name), registry=PostgresRegistry(url=SecretStr(url)))
    saved_workspace.save(f"secret-{name}", vars(place))
"""


def role_with_a_password(home: Path) -> postgres.PostgresAddress:
    """A PostgreSQL whose role ``keeper`` has to say its password; every other one is let in as before."""
    address = postgres.start(home)
    rules = postgres.data_folder(home) / "pg_hba.conf"
    rules.write_text(f"local all keeper scram-sha-256\n{rules.read_text()}")

    async def make(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute(f"CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{RIGHT}'")
        await connection.execute("SELECT pg_reload_conf()")

    PostgresRegistry(home=home).run(make)
    return address


def deployment_of_its_own(prefect: Server) -> str:
    """A copy of ``ingest/local`` on a pool of its own: its worker's environment holds secrets."""
    prefect.post("/work_pools/", {"name": "secret", "type": "process"})
    model = prefect.deployment("ingest/local")
    copied = ("flow_id", "entrypoint", "pull_steps", "path", "parameter_openapi_schema", "enforce_parameter_schema")
    body = {field: model[field] for field in copied} | {"name": "secret", "work_pool_name": "secret"}
    return str(prefect.post("/deployments/", body)["id"])


@pytest.fixture(scope="module")
def left(prefect: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """What runs with secrets left: their states, the folder of their workspaces, and what the command printed."""
    folder = tmp_path_factory.mktemp("secret")
    address = role_with_a_password(prefect.home)
    socket = f"/postgres?host={address.socket_folder}&port={address.port}"
    urls = {
        "right": f"postgresql://keeper:{RIGHT}@{socket}",
        "wrong": f"postgresql://keeper:{WRONG}@{socket}",
        "refused": f"postgresql://keeper:{WRONG}@127.0.0.1:1/postgres",
        "unquoted": f"postgresql://keeper:se#{UNQUOTED}[@127.0.0.1:1/postgres",
    }
    saved = prefect.python(SAVE, str(folder), json.dumps(urls))
    assert saved.returncode == 0, saved.stdout + saved.stderr
    hidden = {"PREFECT_API_KEY": KEY, "LOOKBOOK_TOKEN": SETTING}
    deployment = deployment_of_its_own(prefect)
    with prefect.worker("secret", PREFECT_API_KEY=KEY, LOOKBOOK_TOKEN=SETTING):
        runs = {name: start(prefect, deployment, name) for name in urls}
        states = {name: prefect.finished(run)["state_type"] for name, run in runs.items()}
    environment = prefect.environment(**hidden)
    ingest = ("ingest", "sample://10", "--dataset", "printed", "--workspace")
    printed = [
        lookbook(prefect.home, *ingest, "secret-wrong", "--debug", **environment),
        lookbook(prefect.home, *ingest, "secret-unquoted", **environment),
    ]
    yield SimpleNamespace(
        folder=folder,
        states=states,
        runs=runs,
        printed=[(each.returncode, each.stdout + each.stderr) for each in printed],
    )
    prefect.delete(f"/deployments/{deployment}")
    prefect.delete("/work_pools/secret")


def start(prefect: Server, deployment: str, name: str) -> str:
    parameters = {"source": "sample://10", "dataset": f"kept-{name}", "workspace": f"secret-{name}"}
    return str(prefect.post(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])


def holders(folder: Path, word: str) -> list[str]:
    """The files below a folder that hold a word, as bytes; the pages of a Parquet file are unpacked."""
    return [str(path) for path in sorted(folder.rglob("*")) if path.is_file() and word.encode() in content(path)]


def content(path: Path) -> bytes:
    unpacked = str(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else b""
    return path.read_bytes() + unpacked


def test_the_runs_were_meant_to_succeed_and_to_fail(prefect: Server, left: SimpleNamespace) -> None:
    """Without this, the tests below would look where nothing ever was."""
    assert left.states == OUTCOMES
    assert "password authentication failed" in prefect.logs(left.runs["wrong"])
    assert "kept-right" in json.dumps(prefect.post("/artifacts/filter", {})).replace("_", "-")
    shown = prefect.post("/block_documents/filter", {"include_secrets": True})
    assert {"secret-right", "secret-wrong"} <= {each["name"] for each in shown}
    assert RIGHT in json.dumps(shown)
    assert WRONG in json.dumps(shown)


def test_no_file_of_server_worker_lake_or_registry_holds_a_secret(
    prefect: Server, left: SimpleNamespace, tmp_path: Path
) -> None:
    """Prefect's database with the encrypted blocks in it, logs, results, lake, PostgreSQL's own files."""
    if prefect.database:
        (tmp_path / "prefect.db").write_bytes(debian_postgres.dump(prefect.database))
    places = (tmp_path, prefect.home, left.folder, postgres.data_folder(prefect.home))
    seen = [found for place in places for found in holders(place, "kept-wrong")]
    assert any(found.endswith(("prefect.db", "prefect.db-wal")) for found in seen)
    for place in places:
        for secret in SECRETS:
            assert holders(place, secret) == []
    # The key of the home's server lies where its owner's programs find it, for their eyes alone.
    key = prefect.auth()[1]
    kept = {"auth", "profiles.toml"}
    assert {Path(found).name for place in places for found in holders(place, key)} == kept
    assert all((prefect.home / "prefect" / name).stat().st_mode & 0o077 == 0 for name in kept)


def pages(prefect: Server, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """All that the API gives by the page."""
    found: list[dict[str, Any]] = []
    while page := prefect.post(f"/{path}/filter", body | {"limit": 200, "offset": len(found)}):
        found += page
    return found


@pytest.mark.parametrize("path", ["variables", "block_documents", "deployments", "work_pools"])
def test_no_answer_of_the_api_holds_a_secret(prefect: Server, left: SimpleNamespace, path: str) -> None:
    assert left.states == OUTCOMES
    told = json.dumps(pages(prefect, path, {}))
    assert not [secret for secret in (*SECRETS, prefect.auth()[1]) if secret in told]


@pytest.mark.parametrize("path", ["flow_runs", "task_runs", "logs", "artifacts"])
def test_nothing_that_the_api_tells_of_the_runs_holds_a_secret(
    prefect: Server, left: SimpleNamespace, path: str
) -> None:
    """Their subflow runs included: those are one run deep."""
    parents = {"any_": list(left.runs.values())}
    children = pages(prefect, "flow_runs", {"flow_runs": {"parent_flow_run_id": parents}})
    runs = {"any_": [*left.runs.values(), *(run["id"] for run in children)]}
    wanted = {"flow_runs": {"id": runs}}
    if path in {"logs", "artifacts"}:
        wanted = {path: {"flow_run_id": runs}}
    found = pages(prefect, path, wanted)
    of = {each.get("flow_run_id", each["id"]) for each in found}
    assert left.runs["right"] in of, "nothing was sought through"
    told = json.dumps(found)
    assert not [secret for secret in (*SECRETS, prefect.auth()[1]) if secret in told]


def test_no_event_holds_a_secret(prefect: Server, left: SimpleNamespace) -> None:
    events = prefect.events()
    told = json.dumps(events)
    for run in left.runs.values():
        assert f"prefect.flow-run.{run}" in told, "nothing was sought through"
    assert not [secret for secret in (*SECRETS, prefect.auth()[1]) if secret in told]


def test_the_command_prints_no_secret_with_and_without_debug(left: SimpleNamespace) -> None:
    for code, output in left.printed:
        assert code == 1
        assert "cannot be reached" in output
        assert not [secret for secret in SECRETS if secret in output]
