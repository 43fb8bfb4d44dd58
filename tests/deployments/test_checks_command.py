"""The commands around checks, called in this process: what is wrong with a file, what holds, what is listed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.command import cli, datasets
from lookbook.deployments.server import environment
from lookbook.tasks.datasets.checks import read_checks
from lookbook.tasks.datasets.publish import FailedChecksError
from tests.support.pipeline import photo, request, row, run, write_collection

FILE = """checks:
  - name: none
    says: No products.
    sql: |
      SELECT product_key
      FROM products
  - name: some
    level: warn
    sql: SELECT key FROM images WHERE false
"""


@pytest.fixture
def place(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace, which the commands find."""
    monkeypatch.setattr(environment, "prepare", lambda *_, **__: None)
    monkeypatch.setattr("lookbook.blocks.workspace.load_workspace", lambda _: workspace)
    return workspace


def test_checks_are_set_listed_and_removed_and_a_file_with_a_fault_changes_nothing(
    place: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text(FILE)
    cli.checks("things", set_=file)
    assert capsys.readouterr().out == "things: 2 checks from the next ingest on.\n"
    faults = [
        ("FROM products", "FRM products WHERE", r"4:5: checks\.0\.sql: it is no SQL of DuckDB: line 2"),
        ("FROM products", "FROM orders", r"4:5: checks\.0\.sql: it reads orders; there are images"),
        ("level: warn", "level: fatal", r"8:5: checks\.1\.level: "),
        ("name: some", "name: none", r"1:1: checks: the name none is there twice"),
        ("says", "say", r"3:5: checks\.0\.say: no such key; did you mean says"),
    ]
    for right, wrong, why in faults:
        file.write_text(FILE.replace(right, wrong))
        with pytest.raises(UsageError, match=rf"^checks\.yaml:{why}") as fault:
            cli.checks("things", set_=file)
        assert fault.value.way_out == "Mend it and set it again: the checks of things are as before."
    assert [check.name for check in read_checks(place.lake, "things")] == ["none", "some"]
    cli.checks("things", json=True)
    told = json.loads(capsys.readouterr().out)["checks"]
    assert told[0] == {
        "name": "none",
        "level": "stop",
        "says": "No products.",
        "sql": "SELECT product_key\nFROM products\n",
    }
    cli.checks("things")
    assert "none  stop   No products.  SELECT product_key FROM products" in capsys.readouterr().out
    cli.checks("things", remove=True)
    cli.checks("things")
    assert capsys.readouterr().out == "things: no checks from the next ingest on.\nNo checks of things.\n"
    cli.checks(schema=True)
    schema = json.loads(capsys.readouterr().out)
    assert schema["$defs"]["Check"]["properties"]["level"]["description"].startswith("what happens then. stop:")
    with pytest.raises(UsageError, match="No dataset is named"):
        cli.checks()


def test_a_candidate_is_listed_before_the_first_snapshot_and_its_run_tells_programs_why(
    place: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text(FILE)
    datasets.set_checks("local", "things", file)
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1)}, [row(1)])
    with pytest.raises(FailedChecksError) as fault:
        run(request(place, source))
    (listed,) = datasets.snapshots("local", "things")
    assert (listed["candidate"], listed["current"], listed["failed_checks"]) == (True, False, ["none"])

    def fail(**_: object) -> None:
        raise fault.value

    monkeypatch.setattr(sys, "argv", ["lookbook", "ingest", "--json"])
    monkeypatch.setattr(cli, "app", lambda **_: fail())
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    out, err = capsys.readouterr()
    assert err.splitlines() == [fault.value.problem, fault.value.way_out]
    assert json.loads(out)["summary"]["checks"][0]["first"] == [{"product_key": "1"}]
