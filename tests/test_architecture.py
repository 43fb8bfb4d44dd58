"""The house: imports run one way, and the data plane knows no database and no Prefect."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.figures import circles, read_modules

ROOT = Path(__file__).parents[1]
#: Each floor, with those that it may import.
BELOW = {
    "blocks": set(),
    "tasks": {"blocks"},
    "flows": {"blocks", "tasks"},
    "deployments": {"blocks", "tasks", "flows"},
}
#: The wings of tasks, each with those that it may import.
WINGS = {
    "runs": set(),
    "images": {"runs"},
    "datasets": {"runs", "images"},
    "exports": {"runs", "images", "datasets"},
    "tables": {"runs", "images", "datasets"},
}
WING = re.compile(r"lookbook\.tasks\.(\w+)")


def imported_floors(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not {name.split(".")[0] for name in names} & BELOW.keys(), f"{path} imports past the package"
    return {floor for name in names if (floor := name.removeprefix("lookbook.").split(".")[0]) in BELOW}


@pytest.mark.parametrize("floor", BELOW)
def test_imports_run_one_way(floor: str) -> None:
    modules = list((ROOT / floor).rglob("*.py"))
    assert modules
    upward = {
        str(path.relative_to(ROOT)): sorted(wrong)
        for path in modules
        if (wrong := imported_floors(path) - {floor} - BELOW[floor])
    }
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(read_modules(), wings=False) == []


@pytest.mark.parametrize("wing", WINGS)
def test_wings_import_those_below_them_alone(wing: str) -> None:
    within = {
        target.group(1)
        for module in read_modules().values()
        if (own := WING.match(module.name)) and own.group(1) == wing
        for name in module.imports()
        if (target := WING.match(name))
    }
    assert wing in within or not WINGS[wing]
    assert within - {wing} <= WINGS[wing]


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_data_plane_imports_no_prefect_and_no_database() -> None:
    loaded = modules_after("import lookbook.tasks.images.batch")
    assert "PIL" in loaded
    assert not loaded & {"prefect", "asyncpg", "sqlalchemy", "duckdb"}


@pytest.mark.parametrize(
    "module",
    ["lookbook.deployments.command.cli", "lookbook.deployments.command.exports", "lookbook.tasks.exports.request"],
)
def test_the_command_line_imports_no_prefect_before_it_runs(module: str) -> None:
    loaded = modules_after(f"import lookbook.deployments.command.cli, {module}")
    assert "cyclopts" in loaded
    assert not loaded & {"prefect", "asyncpg", "sqlalchemy", "duckdb", "pandas"}


def test_specs_are_read_before_prefect_is_imported() -> None:
    """Prefect's settings are those of the environment when it is imported, and a command sets them after that."""
    reading = (
        "import lookbook.blocks.settings; from lookbook.deployments.command.pipeline_work import validate; validate([])"
    )
    loaded = modules_after(reading)
    assert "sqlglot" in loaded
    assert not loaded & {"prefect", "asyncpg", "sqlalchemy", "duckdb", "pandas"}
