"""The files that deploying needs: in the checkout where they are kept, or in the installed wheel beside this module."""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]
_WHEEL = Path(__file__).with_name("shipped")


def prefect_file() -> Path:
    """Return the prefect.yaml with all deployments."""
    return _first(_CHECKOUT / "prefect.yaml", _WHEEL / "prefect.yaml")


def job_template_file(kind: str) -> Path:
    """Return the base job template of a kind of infrastructure: process, docker, kubernetes or cloud-run-v2."""
    return _first(_CHECKOUT / "infra" / "work-pools" / f"{kind}.json", _WHEEL / "work-pools" / f"{kind}.json")


def _first(*places: Path) -> Path:
    return next((place for place in places if place.is_file()), places[-1])
