"""The job that Prefect's worker for Cloud Run makes from our template, by the worker's own code."""

from __future__ import annotations

from typing import Any

from prefect.utilities.templating import apply_values
from prefect_gcp import GcpCredentials
from prefect_gcp.models.cloud_run_v2 import SecretKeySelector
from prefect_gcp.workers.cloud_run_v2 import CloudRunWorkerJobV2Configuration

from lookbook.deployments.server.deploying import job_template

NETWORK = {"networkInterfaces": [{"network": "lookbook", "subnetwork": "runs"}], "egress": "PRIVATE_RANGES_ONLY"}
KEY = {"secret": "lookbook-staging-prefect", "version": "latest"}


def job(**given: Any) -> dict[str, Any]:
    """The body of the job, for a worker that has a key itself."""
    template = job_template("cloud-run-v2")
    properties = template["variables"]["properties"]
    defaults = {name: said["default"] for name, said in properties.items() if "default" in said}
    filled: Any = apply_values(
        template["job_configuration"], defaults | {"name": "ingest"} | given, warn_on_notset=False
    )
    configuration = CloudRunWorkerJobV2Configuration(**filled | {"credentials": GcpCredentials.model_construct()})
    configuration.env = {"PREFECT_API_URL": "https://prefect.example/api", "PREFECT_API_KEY": "hush"}
    configuration._populate_env()
    configuration._remove_vpc_access_if_unset()
    body: dict[str, Any] = configuration.job_body["template"]["template"]
    return body


def test_a_run_reads_the_key_from_its_secret_and_its_definition_holds_none() -> None:
    body = job(prefect_api_key_secret=KEY)
    assert "hush" not in str(body)
    key = {"name": "PREFECT_API_KEY", "valueSource": {"secretKeyRef": SecretKeySelector(**KEY).model_dump()}}
    assert key in body["containers"][0]["env"]


def test_a_run_has_the_network_and_the_account_that_it_is_given() -> None:
    body = job(vpc_access=NETWORK, service_account_name="batch@example.iam.gserviceaccount.com")
    assert body["vpcAccess"] == NETWORK
    assert body["serviceAccount"] == "batch@example.iam.gserviceaccount.com"


def test_without_a_network_the_job_asks_for_none() -> None:
    assert "vpcAccess" not in job()
