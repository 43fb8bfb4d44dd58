"""Parameters and sources as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.errors import UsageError
from deployments.pipeline_runs import _absolute, read_params
from tasks.tables.spec.pipeline import Pipeline

SPEC = Pipeline.model_validate(
    {
        "name": "p",
        "params": {"shop": "north", "days": 3, "flags": []},
        "tasks": {"a": {"source": {"type": "file", "path": "a"}}},
    }
)


def test_values_are_as_yaml_understands_them_and_texts_stay_texts() -> None:
    given = ["shop=007", "days=5", "flags=[a, b]", "more=x=y"]
    assert read_params(given, SPEC) == {"shop": "007", "days": 5, "flags": ["a", "b"], "more": "x=y"}


@pytest.mark.parametrize("given", ["shop", "=x", "days=[1"])
def test_what_is_no_parameter_is_named(given: str) -> None:
    with pytest.raises(UsageError, match=r"--param"):
        read_params([given], SPEC)


def test_a_path_holds_in_any_folder_and_one_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").touch()
    assert _absolute("a.csv") == str(tmp_path / "a.csv")
    assert _absolute("*.csv") == str(tmp_path / "*.csv")
    for source in ("https://host/a", "lake://a", "connector:b/c"):
        assert _absolute(source) == source
    with pytest.raises(UsageError, match="no such file"):
        _absolute("b.csv")
