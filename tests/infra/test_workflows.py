"""The workflows: what they run exists, no secret is handed around, and rights are given one by one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import ROOT

FOLDER = ROOT / ".github" / "workflows"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.yml"))}
WORKFLOWS: dict[str, dict[str, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
OUTPUTS = (ROOT / "infra" / "terraform" / "outputs.tf").read_text(encoding="utf-8")

each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


@each_workflow
def test_rights_are_given_to_jobs_one_by_one(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"].items() <= {"contents": "read", "id-token": "write"}.items()


@each_workflow
def test_no_expression_stands_in_a_script(name: str) -> None:
    """What stands there is put into the script before a shell reads it."""
    for job in WORKFLOWS[name]["jobs"].values():
        assert not [step for step in job.get("steps", []) if "${{" in step.get("run", "")]


@each_workflow
def test_files_and_targets_that_it_names_are_there(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([\w-]+)", re.sub(r"#.*", "", TEXTS[name])):
        assert f"\n{target}:" in makefile
    for path in re.findall(r"(?:--file |run: |chdir=|recursive )((?:\.ci|infra)[\w/.-]*)", TEXTS[name]):
        assert (ROOT / path).exists()


def test_the_matrix_is_all_that_the_package_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = [line.rsplit(" ", 1)[1] for line in project["classifiers"] if re.search(r"Python :: 3\.\d+", line)]
    assert WORKFLOWS["tests.yml"]["jobs"]["tests"]["strategy"]["matrix"]["python"] == supported


def test_deploying_waits_for_its_environment_and_signs_in_without_a_key() -> None:
    jobs = WORKFLOWS["deploy.yml"]["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "tests": None,
        "staging": "tests",
        "production": "staging",
    }
    assert jobs["tests"]["uses"] == "./.github/workflows/tests.yml"
    deploy = WORKFLOWS["deploy-to.yml"]["jobs"]["deploy"]
    assert deploy["environment"] == "${{ inputs.environment }}"
    assert set(re.findall(r"secrets\.(\w+)", TEXTS["deploy-to.yml"])) == {"PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"}


@each_workflow
def test_secrets_that_a_called_workflow_reads_are_declared_and_passed(name: str) -> None:
    """GitHub hands a called workflow no other: they are empty there, without a word."""
    for job in WORKFLOWS[name]["jobs"].values():
        if "uses" not in job:
            continue
        called = Path(job["uses"]).name
        read = set(re.findall(r"secrets\.(\w+)", TEXTS[called]))
        on: dict[str, Any] = WORKFLOWS[called][True]  # type: ignore[index]  # YAML's word for "on"
        assert read == ((on["workflow_call"] or {}).get("secrets") or {}).keys()
        assert job.get("secrets", {}) == {secret: f"${{{{ secrets.{secret} }}}}" for secret in read}


def test_what_is_installed_sees_no_secret() -> None:
    for step in WORKFLOWS["deploy-to.yml"]["jobs"]["deploy"]["steps"]:
        if re.search(r"pip install|make ", step.get("run", "")):
            assert "env" not in step


def test_the_variables_that_it_asks_for_are_those_that_terraform_tells() -> None:
    asked = set(re.findall(r"vars\.(\w+)", TEXTS["deploy-to.yml"]))
    told = set(re.findall(r"\b([A-Z]+_[A-Z_]+)\s*=", OUTPUTS))
    assert asked - {"PREFECT_API_URL"} <= told
