"""Checks images, Terraform, compose, Kubernetes and workflows: ``make check-infra``.

Runs in an environment of its own (.venv-infra), with what infra/checks/requirements.txt pins. Needs no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from infra.checks.kubernetes_job import job_manifest
from infra.checks.terraform_check import check

ROOT = Path(__file__).parents[2]
TERRAFORM = "infra/terraform"
WORKFLOWS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / ".github" / "workflows").glob("*.yml"))
#: Files, and the schema that check-jsonschema ships for them.
SCHEMAS = {
    "infra/compose.yaml": "vendor.compose-spec",
    "infra/cloudbuild.yaml": "vendor.cloudbuild",
    ".github/dependabot.yml": "vendor.dependabot",
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
}


def tool(*words: str) -> str:
    """Run a checker; returns what it says where it finds fault, nothing where it does not."""
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    return _said(command if Path(command[0]).exists() else [*words])


def _said(command: list[str]) -> str:
    quiet = os.environ | {"LOG_LEVEL": "ERROR", "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(  # noqa: S603 - our own words
        command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False, timeout=300
    )
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}" or f"ended with {done.returncode}"


def image() -> str:
    """Check the image, by hadolint."""
    return tool("hadolint", "infra/docker/Dockerfile")


def terraform() -> str:
    """Terraform, against the provider's schema; and its format, where the binary is."""
    said = "\n".join(check(ROOT / TERRAFORM))
    if shutil.which("terraform"):
        said += _said(["terraform", "fmt", "-check", "-diff", "-recursive", TERRAFORM])
    return said


def checkov() -> str:
    """Everything, by checkov; what is skipped says why beside it."""
    kinds = ["terraform", "dockerfile", "kubernetes", "github_actions"]
    options = ["--framework", *kinds, "--compact", "--quiet", "--skip-download"]
    return tool("checkov", "--directory", "infra", "--directory", ".github", *options)


def workflows() -> str:
    """Check the workflows, by zizmor."""
    return tool("zizmor", "--offline", "--persona", "pedantic", "--no-progress", "--quiet", ".github")


def schemas() -> str:
    """Files that have a schema."""
    return "".join(tool("check-jsonschema", "--builtin-schema", name, file) for file, name in SCHEMAS.items())


def kubernetes() -> str:
    """Check the worker in a cluster, and the jobs that it makes from the template of the work pool."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job.yaml")
        job.write_text(yaml.safe_dump(job_manifest()), encoding="utf-8")
        return tool("kubernetes-validate", "--strict", "--quiet", "infra/kubernetes/worker.yaml", str(job))


CHECKS: list[Callable[[], str]] = [checkov, image, terraform, workflows, schemas, kubernetes]


def main() -> int:
    """Run all checks, two at a time; returns how many found fault."""
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda check: (check.__name__, check()), CHECKS))
    for name, said in results:
        sys.stdout.write(f"{name}: {'ok' if not said else said.rstrip()}\n")
    sys.stdout.write(f"{len(results)} checks of infra/ in {time.monotonic() - started:.0f} s\n")
    return sum(bool(said) for _, said in results)


if __name__ == "__main__":
    sys.exit(main())
