"""The worker in a cluster, and the job that the work pool's template makes."""

from __future__ import annotations

from typing import Any

import yaml

from infra.checks.kubernetes_job import job_manifest
from lookbook.deployments.server.deploying import POOLS
from tests.support.command import ROOT

DOCUMENTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "infra" / "kubernetes" / "worker.yaml").read_text(encoding="utf-8"))
)


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def pods() -> list[dict[str, Any]]:
    [deployment] = of_kind("Deployment")
    return [deployment["spec"]["template"]["spec"], job_manifest()["spec"]["template"]["spec"]]


def test_every_container_has_limits_and_no_rights() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108 - of the container


def test_only_the_worker_may_ask_the_cluster_and_only_for_jobs() -> None:
    worker, job = pods()
    assert worker["automountServiceAccountToken"] is True
    assert job["automountServiceAccountToken"] is False
    [role] = of_kind("Role")
    assert not of_kind("ClusterRole")
    writes = {tuple(rule["resources"]) for rule in role["rules"] if set(rule["verbs"]) - {"get", "list", "watch"}}
    assert writes == {("jobs",)}
    [binding] = of_kind("RoleBinding")
    assert [subject["name"] for subject in binding["subjects"]] == [worker["serviceAccountName"]]


def test_a_job_runs_once_and_ends() -> None:
    spec = job_manifest()["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 0)
    assert spec["activeDeadlineSeconds"] > 3600
    assert not {"parallelism", "completions"} & spec["template"]["spec"].keys()


def test_the_worker_asks_a_pool_that_deploy_makes() -> None:
    [container] = pods()[0]["containers"]
    words = container["command"]
    assert POOLS[words[words.index("--pool") + 1]] == words[words.index("--type") + 1] == "kubernetes"


def test_no_secret_stands_in_the_file() -> None:
    [container] = pods()[0]["containers"]
    secret = [entry for entry in container["env"] if entry["name"] != "PREFECT_HOME"]
    assert secret
    assert all("secretKeyRef" in entry["valueFrom"] for entry in secret)
