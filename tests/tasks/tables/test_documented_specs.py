"""The specs that the pages on stars and graphs show are specs, and say what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lookbook.tasks.tables.graph import check_graph
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.tasks import GraphTask, ModelsTask
from lookbook.tasks.tables.star import check_models

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("page", ["star-schemas.md", "graphs.md"])
def test_the_spec_of_a_page_has_no_problems(page: str, tmp_path: Path) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    (spec,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for sql in re.findall(r"^```sql\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / sql.splitlines()[0].removeprefix("-- ")).write_text(sql, encoding="utf-8")
        (tmp_path / "models/dim_zone.sql").write_text("SELECT * FROM feeds.zones", encoding="utf-8")
    pipeline = Pipeline.model_validate(yaml.safe_load(spec))
    checked = [
        check_models(tmp_path, task, pipeline) if isinstance(task, ModelsTask) else check_graph(task)
        for task in pipeline.tasks.values()
        if isinstance(task, ModelsTask | GraphTask)
    ]
    assert checked == [[]]
