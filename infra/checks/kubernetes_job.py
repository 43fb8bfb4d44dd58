"""The job that the template of the Kubernetes work pool makes, with the defaults of its variables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parents[1] / "work-pools" / "kubernetes.json"

#: What Prefect's worker fills in for each run.
GIVEN = {
    "name": "ingest-shoes",
    "namespace": "lookbook",
    "service_account_name": "lookbook",
    "command": ["prefect", "flow-run", "execute"],
    "labels": {"app": "lookbook"},
    "env": [{"name": "PREFECT_API_URL", "value": "https://prefect.example/api"}],
}
_PLACEHOLDER = re.compile(r"{{ (\w+) }}")


def job_manifest() -> dict[str, Any]:
    """Return the manifest as Prefect's worker would send it."""
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    properties = template["variables"]["properties"]
    defaults = {name: said["default"] for name, said in properties.items() if "default" in said}
    filled: dict[str, Any] = _filled(template["job_configuration"]["job_manifest"], defaults | GIVEN)
    return filled


def _filled(part: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401 - what JSON can say
    if isinstance(part, dict):
        return {key: _filled(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, values) for value in part]
    if not isinstance(part, str):
        return part
    whole = _PLACEHOLDER.fullmatch(part)
    return values[whole[1]] if whole else _PLACEHOLDER.sub(lambda found: str(values[found[1]]), part)
