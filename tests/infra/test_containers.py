"""Image and compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.embedded.prefect_server import UPKEEP
from blocks.settings import Settings
from deployments.deploying import POOLS, job_template
from deployments.worker_process import RUNS_AT_ONCE
from tests.support.command import ROOT

DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE = (ROOT / "infra" / "compose.yaml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "infra" / "env.example").read_text(encoding="utf-8")


def copied() -> list[str]:
    """What the image takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_all_that_the_image_copies_is_there() -> None:
    assert copied()
    missing = [source for source in copied() if not (ROOT / source).exists()]
    assert not missing


def test_the_image_gets_all_that_the_wheel_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    about = [project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"]
    about.append("requirements-image.txt")
    assert {*wheel["packages"], *wheel["force-include"], *about} == set(copied())


def test_the_image_runs_without_rights_and_says_whether_it_is_healthy() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["1000:1000"]
    assert "HEALTHCHECK" in DOCKERFILE
    job = job_template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert f"--uid {job['securityContext']['runAsUser']} " in DOCKERFILE


def test_the_builder_gets_only_what_the_image_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied())


def test_what_the_image_writes_lies_under_tmp() -> None:
    """Or a read-only root breaks it: Prefect's home, and the pages of its UI, which the server copies."""
    given = dict(re.findall(r"(PREFECT_HOME|PREFECT_UI_STATIC_DIRECTORY)=(\S+)", DOCKERFILE))
    assert len(given) == 2
    assert all(folder.startswith("/tmp/") for folder in given.values())  # noqa: S108 - of the image


def test_the_image_has_all_extras_at_the_versions_that_are_tested() -> None:
    image, tested = (  # without the markers: a package may be needed by more Pythons with the tests' own tools
        {line.partition(" ;")[0] for line in (ROOT / name).read_text(encoding="utf-8").splitlines()}
        for name in ("requirements-image.txt", "requirements-dev.txt")
    )
    assert image <= tested
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    names = {re.split(r"[=;\s\[]", line)[0] for line in image}
    assert {re.split(r"[<>=~\s\[]", need)[0] for need in wanted} <= names


def test_containers_of_ours_write_nothing_but_volumes_and_become_nobody() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    for name in services.keys() - {"database"}:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert all("mem_limit" in service for service in services.values())
    assert all("no-new-privileges:true" in service["security_opt"] for service in services.values())


def test_the_image_holds_a_python_that_is_supported() -> None:
    versions = set(re.findall(r"^FROM python:(\d+\.\d+)-slim", DOCKERFILE, re.MULTILINE))
    assert versions <= {"3.11", "3.12", "3.13"}
    assert len(versions) == 1


def test_every_setting_that_the_files_give_exists() -> None:
    known = {f"LOOKBOOK_{name.upper()}" for name in Settings.model_fields}
    services = yaml.safe_load(COMPOSE)["services"].values()
    given = {name for service in services for name in service.get("environment", {})}
    given |= set(re.findall(r"\b(LOOKBOOK_\w+)=", DOCKERFILE))
    assert {name for name in given if name.startswith("LOOKBOOK_")} <= known


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert used == set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))


def test_no_file_holds_a_secret() -> None:
    assert "POSTGRES_PASSWORD=\n" in EXAMPLE
    for line in COMPOSE.splitlines():
        if re.search(r"password|secret|_KEY", line, re.IGNORECASE) and not line.lstrip().startswith("#"):
            assert "${POSTGRES_PASSWORD:?}" in line
    assert "infra/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_server_is_for_this_machine_alone() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_worker_polls_a_pool_that_deploy_makes() -> None:
    pool = re.search(r'"--pool", "([\w-]+)"', DOCKERFILE)
    assert pool is not None
    assert POOLS[pool.group(1)] == "process"


def test_the_server_keeps_its_database_small_as_that_of_serve_does() -> None:
    given = yaml.safe_load(COMPOSE)["services"]["server"]["environment"]
    assert UPKEEP.items() <= given.items()


def test_the_worker_starts_as_the_image_does_with_the_limit_of_serve() -> None:
    image = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1]
    command = yaml.safe_load(COMPOSE)["services"]["worker"]["command"]
    words = [word for part in command for word in part.split("=")]
    assert words == [*json.loads(image), "--limit", str(RUNS_AT_ONCE)]


@pytest.mark.integration
def test_compose_understands_the_file(tmp_path: Path) -> None:
    command = shutil.which("docker-compose")
    if command is None:
        pytest.skip("docker-compose is not installed: apt-get install docker-compose")
    variables = tmp_path / "variables"
    variables.write_text(EXAMPLE.replace("POSTGRES_PASSWORD=", "POSTGRES_PASSWORD=hush"), encoding="utf-8")
    arguments = ["-f", str(ROOT / "infra" / "compose.yaml"), "--env-file", str(variables), "config"]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    understood: dict[str, Any] = yaml.safe_load(done.stdout)
    services = understood["services"]
    assert services.keys() == {"database", "server", "deploy", "worker"}
    assert services["worker"]["depends_on"] == {"deploy": {"condition": "service_completed_successfully"}}
    assert ":hush@database" in services["server"]["environment"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    files = [v.split(":")[0] for v in services["database"]["volumes"] if v.startswith("/")]
    assert all(Path(file).is_file() for file in files)


@pytest.mark.integration
def test_compose_wants_a_password(tmp_path: Path) -> None:
    command = shutil.which("docker-compose")
    if command is None:
        pytest.skip("docker-compose is not installed: apt-get install docker-compose")
    variables = tmp_path / "variables"
    variables.write_text(EXAMPLE, encoding="utf-8")
    arguments = ["-f", str(ROOT / "infra" / "compose.yaml"), "--env-file", str(variables), "config"]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD" in done.stderr
