"""What the Terraform files promise: no secret, accounts that may do no more than they need, names that fit the code."""

from __future__ import annotations

import json
import re

import pytest

from lookbook.deployments.server.deploying import POOLS, environment, job_template
from lookbook.deployments.server.processes import RUNS_AT_ONCE
from lookbook.tasks.images import jobs
from tests.support.command import ROOT

FOLDER = ROOT / "infra" / "terraform"
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.tf"))}
ALL = "\n".join(FILES.values())
SCHEMA = json.loads((ROOT / "infra" / "checks" / "google-schema.json").read_text(encoding="utf-8"))


def blocks(kind: str) -> dict[str, str]:
    """The bodies of all resources of a kind, by their labels."""
    return dict(re.findall(rf'^resource "{kind}" "(\w+)" \{{\n(.*?)^\}}', ALL, re.MULTILINE | re.DOTALL))


def test_no_secret_reaches_the_state() -> None:
    """Passwords go through arguments that are only written; what else is put into a secret is a file of settings."""
    assert not re.search(r"^\s*password\s*=", ALL, re.MULTILINE)
    assert not re.search(r'^resource "random_password"|google_service_account_key', ALL, re.MULTILINE)
    values = re.findall(r"^\s*(secret_data(?:_wo)?|password_wo)\s*=\s*(\w+)", ALL, re.MULTILINE)
    assert set(values) == {("secret_data", "local"), ("secret_data_wo", "ephemeral"), ("password_wo", "ephemeral")}
    assert "prefect" not in "".join(blocks("google_secret_manager_secret_version"))


def test_no_output_tells_a_password() -> None:
    assert "ephemeral" not in FILES["outputs.tf"]


def test_state_is_remote_and_an_environment_is_a_workspace() -> None:
    assert 'backend "gcs"' in FILES["versions.tf"]
    assert 'terraform.workspace != "default"' in FILES["main.tf"]
    assert "local.name" in blocks("google_sql_database_instance")["registry"]


def test_accounts_of_the_longest_environment_have_names_that_google_takes() -> None:
    longest = re.search(r"length\(terraform\.workspace\) <= (\d+)", blocks("google_project_service")["api"])
    assert longest is not None
    names = re.findall(r'account_id\s*=\s*"\$\{local\.name\}(-\w+)"', ALL)
    assert len(names) == len(blocks("google_service_account"))
    assert max(len(f"lookbook-{'e' * int(longest[1])}{name}") for name in names) <= 30


def test_who_makes_jobs_may_read_their_image() -> None:
    """Cloud Run refuses them otherwise."""
    pull = blocks("google_artifact_registry_repository_iam_member")["pull"]
    assert "google_service_account.dispatcher.member" in pull
    assert '"roles/artifactregistry.reader"' in pull
    assert "google_artifact_registry_repository_iam_member.pull," in FILES["worker.tf"]


def test_a_batch_writes_its_folders_of_the_lake_and_has_no_other_right() -> None:
    granted = {
        (kind, label)
        for kind in SCHEMA
        if kind.endswith(("_iam_member", "_access"))
        for label, body in blocks(kind.removeprefix("resource ")).items()
        if "google_service_account.batch" in body
    }
    assert granted == {
        ("resource google_storage_bucket_iam_member", "batch_reads"),
        ("resource google_storage_bucket_iam_member", "batch_writes"),
        ("resource google_secret_manager_secret_iam_member", "prefect"),
        ("resource google_service_account_iam_member", "dispatcher_acts"),  # the worker may start jobs as it
    }
    writes = blocks("google_storage_bucket_iam_member")["batch_writes"]
    folders = re.search(r"toset\((\[.*\])\)", writes)
    assert folders is not None
    drawing = (ROOT / "tasks" / "images" / "batch.py").read_text(encoding="utf-8")
    # Batches of exports put shards into the export's own folder, and their parts beside their manifests.
    assert set(json.loads(folders[1])) == {"batches", "exports", jobs.FOLDER, *re.findall(r'= f"(\w+)/\{', drawing)}
    assert "resource.name.startsWith" in writes


def test_nobody_gets_a_role_that_is_for_persons() -> None:
    roles = set(re.findall(r'"(roles/[\w.]+)"', ALL))
    assert roles
    assert not roles & {"roles/owner", "roles/editor", "roles/viewer"}
    assert not {role for role in roles if role.endswith(("dmin", ".admin"))}


def test_the_bucket_is_what_the_lake_needs() -> None:
    lake = blocks("google_storage_bucket")["lake"]
    assert "uniform_bucket_level_access = true" in lake
    assert re.search(r"versioning \{\s*enabled = false", lake)
    assert "retention_duration_seconds = var.soft_delete_days * 86400" in lake
    deleted = re.findall(r"matches_prefix = \[(.*)\]", lake)
    assert deleted == ['"${local.lake_root}batches/"'], "all else is removed by gc, which knows what is published"


def test_the_datasets_are_those_of_the_warehouse_block() -> None:
    warehouse = pytest.importorskip("lookbook.blocks.bigquery.warehouse").BigQueryWarehouse
    for name in ("staging_dataset", "warehouse_dataset"):
        default = re.search(rf'variable "{name}".*?default\s*=\s*"(\w+)"', ALL, re.DOTALL)
        assert default is not None
        assert warehouse.model_fields[name].default == default[1]


def test_the_workers_ask_pools_that_deploy_makes() -> None:
    workers = dict(re.findall(r'flags\s*=\s*\["--pool", "([\w-]+)", "--type", "([\w-]+)"', FILES["worker.tf"]))
    assert workers == {"lookbook": "process", "lookbook-cloud-run": "cloud-run-v2"}
    assert workers.items() <= POOLS.items()
    assert f'"--limit", "{RUNS_AT_ONCE}"' in FILES["worker.tf"]


def test_what_it_fills_into_the_job_template_is_there() -> None:
    properties = job_template("cloud-run-v2")["variables"]["properties"]
    defaults = re.search(r"  defaults = \{\n(.*?)^  \}", FILES["outputs.tf"], re.MULTILINE | re.DOTALL)
    assert defaults is not None
    names = set(re.findall(r"^    (\w+) +=", defaults[1], re.MULTILINE))
    names |= set(re.findall(r'"(prefect_api_\w+)"', defaults[1]))
    assert len(names) == 5
    assert names <= properties.keys()


def test_what_it_tells_the_shell_is_read_by_deploy() -> None:
    told = re.search(r"export (.+)\"", FILES["outputs.tf"])
    assert told is not None
    assert set(re.findall(r"(LOOKBOOK_\w+)=", told[1])) == environment().keys() - {"LOOKBOOK_IMAGE"}


def test_what_is_skipped_says_why() -> None:
    skips = re.findall(r"#checkov:skip|# checkov:skip=(\w+):(.*)", ALL)
    assert skips
    assert all(len(reason) > 8 for _, reason in skips)
