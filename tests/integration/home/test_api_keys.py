"""The commands of the API's keys, and the command that starts it, as a user types them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.command import lookbook, lookbook_json

pytestmark = pytest.mark.integration


def key_commands(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return lookbook(home, "api-key", *arguments)


@pytest.mark.full
def test_a_key_is_shown_once_listed_and_revoked(shared_home: Path) -> None:
    made = key_commands(shared_home, "create", "notebook", "--scope", "read,export")
    key = made.stdout.strip()
    assert made.returncode == 0, made.stderr
    assert len(key) > 40
    assert key not in made.stderr
    listed = key_commands(shared_home, "list")
    assert "notebook" in listed.stdout
    assert key not in listed.stdout
    assert lookbook_json(shared_home, "api-key", "list")[0]["scopes"] == "export,read"

    taken = key_commands(shared_home, "create", "notebook")
    assert taken.returncode != 0
    assert "notebook" in taken.stderr
    unknown = key_commands(shared_home, "create", "other", "--scope", "read,everything")
    assert unknown.returncode != 0
    assert "everything" in unknown.stderr

    assert key_commands(shared_home, "revoke", "notebook").returncode == 0
    assert lookbook_json(shared_home, "api-key", "list")[0]["revoked_at"] is not None
    assert key_commands(shared_home, "revoke", "notebook").returncode != 0
    # Revoked keys are none: the API would be open to all who reach that address.
    refused = lookbook(shared_home, "api", "--host", "0.0.0.0")  # noqa: S104 - it is to be refused
    assert refused.returncode != 0
    assert "key" in refused.stderr
    assert "Traceback" not in refused.stderr
