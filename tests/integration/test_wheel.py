"""The project as others install it: a wheel, in an empty environment, outside of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deployments.deploying import POOLS
from tests.support.command import ROOT
from tests.support.homes import remove_home

pytestmark = [pytest.mark.integration, pytest.mark.full]

UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout that holds only what git would take along."""
    copy = tmp_path_factory.mktemp("checkout") / "lookbook"
    kept = ("blocks", "deployments", "flows", "infra", "tasks")
    for name in kept:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "prefect.yaml"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "--wheel", "--quiet", "--out-dir", out, copy], check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_houses_folders_and_their_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "tasks/tables/models/fact_product.sql",
        "tasks/datasets/templates/report.html.j2",
        "blocks/migrations/versions/0001_books.py",
        "blocks/migrations/versions/0002_watches.py",
        "blocks/py.typed",
        "deployments/shipped/prefect.yaml",
        *(f"deployments/shipped/work-pools/{kind}.json" for kind in POOLS.values()),
    ):
        assert name in names
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"blocks", "deployments", "flows", "tasks"}


def test_installed_in_an_empty_environment_it_does_the_main_job_and_deploys(wheel: Path, tmp_path: Path) -> None:
    venv, home = tmp_path / "venv", tmp_path / "home"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    pins = ROOT / "requirements.txt"
    python = venv / "bin" / "python"
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", python, "--constraint", pins, wheel]
    subprocess.run(install, check=True)
    unset = ("PYTHONPATH", "VIRTUAL_ENV")
    shell = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LOOKBOOK_")) and k not in unset}

    def lookbook(*arguments: str) -> Any:
        command = [str(venv / "bin" / "lookbook"), *arguments, "--json"]
        variables = shell | {"LOOKBOOK_HOME": str(home)}
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    try:
        assert lookbook("ingest", "sample://20", "--dataset", "installed")["images"]["found"] == 20
        assert {"work pool lookbook", "ingest/local", "ingest/kubernetes"} <= set(lookbook("deploy")["made"])
    finally:
        remove_home(home)
