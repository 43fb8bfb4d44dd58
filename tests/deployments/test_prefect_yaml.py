"""prefect.yaml and the job templates, treated as code: all that they name exists, and all that they say is valid."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import pytest
import yaml
from cronsim import CronSim
from prefect import Flow
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.events import DeploymentTriggerTypes
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import TypeAdapter

from lookbook.blocks.embedded.prefect_server import HEARTBEAT
from lookbook.blocks.settings import read_settings
from lookbook.deployments.server.deploying import POOLS, environment, job_template
from lookbook.deployments.server.pipeline_deploying import FLOWS as BY_SPECS
from lookbook.tasks.datasets.sources.opening import local_path
from lookbook.tasks.runs.announcements import SNAPSHOT_PUBLISHED, SOURCE_CHANGED
from tests.support.command import ROOT

TEXT = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
BEATS = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
FILE: dict[str, Any] = yaml.safe_load(TEXT)
DEPLOYMENTS: list[dict[str, Any]] = FILE["deployments"]
TEMPLATES = {kind: job_template(kind) for kind in POOLS.values()}
#: Deployments by the name of their pool: a child's is that of its parent.
NAMES = {
    "local": "lookbook",
    "docker": "lookbook-docker",
    "kubernetes": "lookbook-kubernetes",
    "cloud-run": "lookbook-cloud-run",
}

each_deployment = pytest.mark.parametrize(
    "deployment", DEPLOYMENTS, ids=lambda entry: f"{entry['entrypoint'].split('.')[-1]}/{entry['name']}"
)
each_kind = pytest.mark.parametrize("kind", TEMPLATES)


def flow_of(deployment: dict[str, Any]) -> Flow[Any, Any]:
    return load_flow_from_entrypoint(deployment["entrypoint"])


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The values with those of the environment put in, as `deploy` does it."""

    def put_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put_in(part) for key, part in value.items()}
        if isinstance(value, str):
            return re.sub(r"{{\s*\$(\w+)\s*}}", lambda found: environment()[found.group(1)], value)
        return value

    result: dict[str, Any] = put_in(values)
    return result


def test_prefect_reads_all_of_it() -> None:
    """What Prefect can't validate it skips with a warning, and deploys nothing."""
    assert len(PrefectYamlModel.model_validate(FILE).deployments) == len(DEPLOYMENTS)


def test_nothing_is_pulled() -> None:
    assert FILE["pull"] == []
    assert not any({"pull", "push", "build"} & entry.keys() for entry in DEPLOYMENTS)


@each_deployment
def test_the_entrypoint_is_a_flow_that_any_worker_with_the_package_can_import(deployment: dict[str, Any]) -> None:
    assert ":" not in deployment["entrypoint"]  # a path would be one of the machine that deploys
    assert isinstance(flow_of(deployment), Flow)


@each_deployment
def test_it_says_what_it_is(deployment: dict[str, Any]) -> None:
    assert len(deployment["description"]) > 20
    assert "lookbook" in deployment["tags"]


@each_deployment
def test_parameters_are_those_of_the_flow(deployment: dict[str, Any]) -> None:
    check_parameters(flow_of(deployment), given(deployment.get("parameters", {})), required=False)


@each_deployment
def test_schedules_start_runs_that_need_nothing_filled_in(deployment: dict[str, Any]) -> None:
    for schedule in deployment.get("schedules", []):
        parameters = given(deployment.get("parameters", {})) | given(schedule.get("parameters", {}))
        check_parameters(flow_of(deployment), parameters, required=True)


@each_deployment
def test_triggers_are_prefects_and_give_what_a_run_needs(deployment: dict[str, Any]) -> None:
    schema = parameter_schema(flow_of(deployment)).model_dump()
    for trigger in deployment.get("triggers", []):
        assert TypeAdapter(DeploymentTriggerTypes).validate_python(trigger).name == trigger["name"]
        given = trigger["parameters"].keys() | deployment.get("parameters", {}).keys()
        assert set(schema.get("required", [])) <= given <= schema["properties"].keys()


def test_what_is_announced_starts_what_follows() -> None:
    followed = {
        event: flow_of(entry).name
        for entry in DEPLOYMENTS
        for trigger in entry.get("triggers", [])
        for event in trigger["expect"]
    }
    assert followed == {SOURCE_CHANGED: "ingest", SNAPSHOT_PUBLISHED: "verify"}


def check_parameters(flow: Flow[Any, Any], parameters: dict[str, Any], *, required: bool) -> None:
    schema = parameter_schema(flow).model_dump()
    assert parameters.keys() <= schema["properties"].keys()
    jsonschema.validate(parameters, schema if required else schema | {"required": []})
    if required:
        flow.validate_parameters(parameters)


@each_deployment
def test_schedules_can_be_kept_in_time_and_deployed_again(deployment: dict[str, Any]) -> None:
    for schedule in deployment.get("schedules", []):
        assert schedule["slug"], "without a slug each deploy removes the schedule and makes another"
        if "cron" in schedule:
            ZoneInfo(schedule["timezone"])
            assert next(CronSim(schedule["cron"], datetime(2026, 1, 1, tzinfo=UTC)))
        else:
            assert schedule["interval"] > 0
            assert datetime.fromisoformat(schedule["anchor_date"]), "without one each deploy moves the schedule"


@each_deployment
def test_its_pool_and_job_variables_exist(deployment: dict[str, Any]) -> None:
    pool = deployment["work_pool"]
    assert NAMES[deployment["name"]] == pool["name"]
    variables = TEMPLATES[POOLS[pool["name"]]]["variables"]
    chosen = given(pool.get("job_variables", {}))
    assert chosen.keys() <= variables["properties"].keys()
    jsonschema.validate(chosen, variables)


def test_runs_send_heartbeats_as_often_as_the_automations_expect_them() -> None:
    services = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    told = [pool["job_variables"]["env"] for pool in FILE["definitions"]["pools"].values()]
    told += [one for each in services.values() if BEATS in (one := each.get("environment", {}))]
    assert len(told) > len(POOLS)
    assert {environment[BEATS] for environment in told} == {str(HEARTBEAT)}


@each_deployment
def test_only_exports_wait_in_a_queue_of_their_own(deployment: dict[str, Any]) -> None:
    queue = "exports" if deployment["entrypoint"].endswith(".export_dataset") else None
    assert deployment["work_pool"].get("work_queue_name") == queue


@each_deployment
def test_limits_say_what_happens_beyond_them(deployment: dict[str, Any]) -> None:
    limit = deployment.get("concurrency_limit")
    if limit is not None:
        assert limit["limit"] >= 1
        assert limit["collision_strategy"] in {"ENQUEUE", "CANCEL_NEW"}


def test_each_flow_has_a_local_deployment() -> None:
    deployed = {entry["entrypoint"] for entry in DEPLOYMENTS if entry["name"] == "local"}
    flows = {
        f"lookbook.flows.{path.stem}.{found.group(1)}"
        for path in (ROOT / "flows").glob("*.py")
        if (
            found := re.search(
                r"^@flow\b.*?^(?:async )?def (\w+)", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
            )
        )
    }
    assert deployed == flows - {
        f"lookbook.flows.{name.replace('-', '_')}.{name.replace('-', '_')}" for name in BY_SPECS
    }


def test_ingest_finds_process_batch_under_its_own_name() -> None:
    names = {flow: {e["name"] for e in DEPLOYMENTS if e["entrypoint"].endswith(flow)} for flow in ("ingest", "batch")}
    assert names["ingest"] == names["batch"] == NAMES.keys()


def test_no_deployment_is_there_twice() -> None:
    names = [(entry["entrypoint"], entry["name"]) for entry in DEPLOYMENTS]
    assert len(names) == len(set(names))


def test_anchors_are_used_and_nothing_is_copied() -> None:
    anchors = set(re.findall(r"&([\w-]+)", TEXT))
    aliases = set(re.findall(r"\*([\w-]+)", TEXT))
    assert anchors == aliases
    lines = [line.strip() for line in TEXT.splitlines() if re.match(r"\s*(description|entrypoint|image|cron):", line)]
    assert len(lines) - lines.count("image: *image") == len(set(lines) - {"image: *image"})


@each_kind
def test_every_placeholder_of_a_template_is_declared_and_every_variable_used(kind: str) -> None:
    used = set(re.findall(r"{{\s*([\w.]+)\s*}}", yaml.safe_dump(TEMPLATES[kind]["job_configuration"], width=10_000)))
    declared = TEMPLATES[kind]["variables"]["properties"].keys()
    assert used <= declared
    assert declared - used <= ({"env", "command"} if kind == "cloud-run-v2" else set())


@each_kind
def test_the_defaults_of_a_template_are_valid(kind: str) -> None:
    variables = TEMPLATES[kind]["variables"]
    jsonschema.Draft202012Validator.check_schema(variables)
    defaults = {name: part["default"] for name, part in variables["properties"].items() if "default" in part}
    jsonschema.validate(defaults, variables)


@each_kind
def test_each_template_is_one_of_a_pool(kind: str) -> None:
    files = {path.stem for path in (ROOT / "infra" / "work-pools").glob("*.json")}
    assert files == set(POOLS.values())
    assert kind in files


def test_containers_get_memory_for_drawing_and_time_for_a_long_run() -> None:
    for name in ("docker", "kubernetes", "cloud-run-v2"):
        text = yaml.safe_dump(TEMPLATES[name]["variables"])
        assert re.search(r"default: 4(g|Gi)\b", text)
    assert TEMPLATES["cloud-run-v2"]["variables"]["properties"]["timeout"]["default"] >= 3600


def test_kubernetes_jobs_run_without_privileges_and_go_away() -> None:
    job = TEMPLATES["kubernetes"]["job_configuration"]["job_manifest"]["spec"]
    pod = job["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    assert TEMPLATES["kubernetes"]["variables"]["properties"]["finished_job_ttl"]["default"] > 0
    assert job["activeDeadlineSeconds"] == "{{ deadline_seconds }}"


def test_no_file_holds_a_path_of_this_machine() -> None:
    written = [path for path in (ROOT / "infra").rglob("*.*") if path.suffix != ".pyc"]
    for path in [ROOT / "prefect.yaml", *written]:
        assert str(Path.home()) + "/" not in path.read_text(encoding="utf-8") or str(Path.home()) == "/"
        assert str(ROOT) not in path.read_text(encoding="utf-8")


def test_the_watched_folder_is_one_of_the_worker_not_of_the_machine_that_deploys() -> None:
    (source,) = [entry["parameters"]["source"] for entry in DEPLOYMENTS if entry["entrypoint"].endswith(".watch")]
    assert local_path(source) == read_settings().home / "inbox"
    assert "/" not in source.replace("://", "")
