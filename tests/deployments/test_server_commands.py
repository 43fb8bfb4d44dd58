"""What deploy and serve print can be typed as it stands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from lookbook.deployments.command.server import _print_deployed, _print_served
from lookbook.deployments.server.applying import Deployed
from lookbook.deployments.server.serving import Served

API = "http://127.0.0.1:4200/api"


def test_the_commands_are_quoted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path("/srv/our photos; $(date)")
    monkeypatch.setattr(sys, "executable", "/opt/a python/bin/python")
    _print_deployed(Deployed(), API, home)
    worker = shlex.split(capsys.readouterr().out.partition(": ")[2])
    assert worker[:3] == [f"LOOKBOOK_HOME={home}", f"PREFECT_API_URL={API}", "/opt/a python/bin/prefect"]
    _print_served(Served(API, API, None, "http://127.0.0.1:4201", home, home / "inbox", "lookbook", home))
    (run,) = [line for line in capsys.readouterr().out.splitlines() if "deployment run" in line]
    assert shlex.split(run)[:2] == [f"PREFECT_API_URL={API}", "/opt/a python/bin/prefect"]
