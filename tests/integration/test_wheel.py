"""The project as others install it: a wheel, in an empty environment, outside of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lookbook.deployments.server.deploying import POOLS
from tests.support.command import ROOT
from tests.support.homes import remove_home

pytestmark = [pytest.mark.integration, pytest.mark.full]

UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout that holds only what git would take along."""
    copy = tmp_path_factory.mktemp("checkout") / "lookbook"
    kept = ("blocks", "deployments", "flows", "infra", "lookbook", "tasks")
    for name in kept:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "prefect.yaml"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "--quiet", "--out-dir", out, copy], check=True)  # from the source distribution
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_houses_folders_and_their_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "lookbook/tasks/datasets/models/fact_product.sql",
        "lookbook/tasks/datasets/templates/report.html.j2",
        "lookbook/blocks/migrations/versions/0001_books.py",
        "lookbook/blocks/migrations/versions/0002_watches.py",
        "lookbook/blocks/embedded/nobody.pem",
        "lookbook/py.typed",
        "lookbook/deployments/shipped/prefect.yaml",
        *(f"lookbook/deployments/shipped/work-pools/{kind}.json" for kind in POOLS.values()),
    ):
        assert name in names
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"lookbook"}, "nothing that a project of a user's own may have, too"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel and what it needs."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    pins, python = ROOT / "requirements.txt", venv / "bin" / "python"
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", python, "--constraint", pins, wheel]
    subprocess.run(install, check=True)
    return python.parent


def done(command: list[str | Path], home: Path, folder: Path | None = None) -> str:
    """Run a command in a folder or beside the home, without anything of this checkout; what it printed."""
    unset = ("PYTHONPATH", "VIRTUAL_ENV")
    shell = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LOOKBOOK_")) and k not in unset}
    variables = shell | {"LOOKBOOK_HOME": str(home)}
    ended = subprocess.run(
        command, cwd=folder or home.parent, env=variables, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that these tests share."""
    folder = tmp_path_factory.mktemp("beside") / "home"
    yield folder
    remove_home(folder)


def test_installed_in_an_empty_environment_it_does_the_main_job_and_deploys(installed: Path, home: Path) -> None:
    def lookbook(*arguments: str) -> Any:
        return json.loads(done([installed / "lookbook", *arguments, "--json"], home))

    assert lookbook("ingest", "sample://20", "--dataset", "installed")["images"]["found"] == 20
    assert {"work pool lookbook", "ingest/local", "ingest/kubernetes"} <= set(lookbook("deploy")["made"])


@pytest.mark.parametrize("packages", [True, False], ids=["with __init__.py", "without"])
def test_a_project_with_flows_and_tasks_of_its_own_keeps_them(
    installed: Path, home: Path, tmp_path: Path, *, packages: bool
) -> None:
    for folder in ("flows", "tasks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ingest.py").write_text(f"MINE = {folder!r}\n", encoding="utf-8")
        if packages:
            (tmp_path / folder / "__init__.py").touch()
    own = "import flows.ingest, tasks.ingest, lookbook.flows.ingest as ours; print(flows.ingest.MINE, ours.ingest.name)"
    # As of "python -m", with this folder before all others.
    run = "from lookbook.deployments.command.cli import main; main()"
    assert done([installed / "python", "-c", own], home, tmp_path).split() == ["flows", "ingest"]
    arguments = ("ingest", "sample://8", "--dataset", f"theirs-{packages:d}", "--json")
    told = done([installed / "python", "-c", run, *arguments], home, tmp_path)
    assert json.loads(told)["images"]["loaded"] == 8
