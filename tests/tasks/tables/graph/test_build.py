"""A graph of drugs, publications and journals: what stands in it, in its files, and in its answers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import networkx as nx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.graph import GraphResult, build, check_graph
from lookbook.tasks.tables.lake.commit import LakeTables
from lookbook.tasks.tables.load import open_rejects
from lookbook.tasks.tables.spec.tasks import GraphTask
from tests.support.lake_tables import lake_job
from tests.support.pipeline_runs import context, staged

DRUGS = pa.table({"atc": ["A01", "A02", "A03", "A04"], "drug": ["Aspirin", "Betamethasone", "ETHANOL", None]})
PUBLICATIONS = pa.table(
    {
        "id": [1, 2, 3, 4, 5, 6],
        "title": [
            "Aspirin and ethanol: a study of aspirin",
            "betamethasone after ETHANOL",
            "",
            None,
            "Ã©thanol, mis-encoded: ethanol",
            "Nothing here, aspirins apart",
        ],
        "abstract": ["ASPIRIN", None, "aspirin", "", "x", "y"],
        "journal": ["J1", "J2", "J1", "J9", "J2", None],
    }
)
JOURNALS = pa.table({"code": ["J1", "J2", "J3"], "name": ["Lancet", "BMJ", "Acta"]})

TASK: dict[str, Any] = {
    "type": "graph",
    "after": ["drugs", "publications", "journals"],
    "entities": {
        "drug": {"table": "drugs", "key": "atc", "label": "drug"},
        "publication": {"table": "publications", "key": "id", "label": "title"},
        "journal": {"table": "journals", "key": "code", "label": "name"},
    },
    "links": [{"from": "publication", "to": "journal", "by": "journal"}],
    "mentions": [{"terms": "drug", "in": "publication", "columns": ["title", "abstract"]}],
    "path": ["drug", "publication", "journal"],
    "queries": {
        "most_drugs": {"count": "drug", "by": "journal"},
        "journals_of": {"count": "journal", "by": "drug"},
    },
}
TABLES = {"drugs": DRUGS, "publications": PUBLICATIONS, "journals": JOURNALS}


def run(workspace: Workspace, task: dict[str, Any] = TASK, **tables: pa.Table) -> GraphResult:
    extracts = {name: {"source": {"type": "file", "path": "x.csv"}} for name in TABLES}
    made = context(workspace, Path("/nowhere"), {**extracts, "graph": task})
    inputs = {name: staged(workspace, name, table) for name, table in (TABLES | tables).items()}
    return build(made, "graph", inputs)


def read(workspace: Workspace, result: GraphResult, name: str = "graph") -> Any:
    return json.loads(workspace.lake.get(result.keys[name]))


def parquet(workspace: Workspace, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(workspace.lake.get(key)))


def test_counts_edges_and_problems(workspace: Workspace) -> None:
    result = run(workspace)
    assert result.nodes == {"drug": 4, "publication": 6, "journal": 3}
    assert result.edges == {"link": 4, "mention": 6}
    assert result.problems == (
        "links: publication.journal names 1 keys that no journal has (J9), in 1 rows: no edge",
        "mentions: 1 of drug have no label, and are never found",
    )
    assert result.keys["graph"] == "graphs/rides/graph/graph.json"


def test_networkx_reads_the_file_as_it_stands(workspace: Workspace) -> None:
    graph = nx.node_link_graph(read(workspace, run(workspace)))
    assert isinstance(graph, nx.MultiDiGraph)
    assert graph.nodes["drug:A01"] == {"entity": "drug", "key": "A01", "label": "Aspirin"}
    assert graph.nodes["drug:A04"]["label"] == "A04"
    assert graph.edges["publication:1", "drug:A01", "mention"] == {
        "kind": "mention",
        "count": 3,
        "columns": ["abstract", "title"],
    }
    assert graph.edges["publication:2", "journal:J2", "link:journal"]["kind"] == "link"
    assert graph.number_of_edges() == 10
    assert sorted(nx.ancestors(graph, "drug:A03")) == ["publication:1", "publication:2", "publication:5"]


def test_d3_finds_nodes_by_id_and_links_by_source_and_target(workspace: Workspace) -> None:
    """https://d3js.org/d3-force/link: each link has source and target, which `id` of a node accessor names."""
    graph = read(workspace, run(workspace))
    ids = [node["id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids) == 13
    assert graph["links"] == graph["edges"]
    assert {end for link in graph["links"] for end in (link["source"], link["target"])} <= set(ids)


def test_the_answers_are_those_of_pandas(workspace: Workspace) -> None:
    result = run(workspace)
    rows = parquet(workspace, result.keys["edges"]).to_pandas()
    mentions, links = rows[rows.kind == "mention"], rows[rows.kind == "link"]
    joined = mentions.merge(links, on="source", suffixes=("_drug", "_journal"))
    expected = joined.groupby("target_journal").target_drug.nunique()
    answered = read(workspace, result, "queries.most_drugs")["rows"]
    assert {f"journal:{row['key']}": row["count"] for row in answered if row["count"]} == expected.to_dict()
    assert answered == [
        {"rank": 1, "key": "J2", "label": "BMJ", "count": 2},
        {"rank": 1, "key": "J1", "label": "Lancet", "count": 2},
        {"rank": 3, "key": "J3", "label": "Acta", "count": 0},
    ]
    assert list(result.top["most_drugs"]) == answered
    backwards = {row["key"]: row["count"] for row in read(workspace, result, "queries.journals_of")["rows"]}
    assert backwards == {"A01": 1, "A02": 1, "A03": 2, "A04": 0}


def test_parquet_holds_what_the_json_holds(workspace: Workspace) -> None:
    result = run(workspace)
    graph = read(workspace, result)
    assert parquet(workspace, result.keys["nodes"]).to_pylist() == graph["nodes"]
    found = parquet(workspace, result.keys["edges"])
    assert found.to_pylist() == [{k: v for k, v in edge.items() if k != "key"} for edge in graph["edges"]]
    assert found.schema.metadata[b"graph"].decode() == graph["graph"]["digest"] == result.digest
    answer = parquet(workspace, "graphs/rides/graph/queries/most_drugs.parquet")
    assert answer.to_pylist() == read(workspace, result, "queries.most_drugs")["rows"]


def test_the_same_rows_in_another_order_give_the_same_bytes(workspace: Workspace) -> None:
    before = {key: workspace.lake.get(key) for key in run(workspace).keys.values()}
    turned = {name: table.take(list(range(table.num_rows))[::-1]) for name, table in TABLES.items()}
    after = {key: workspace.lake.get(key) for key in run(workspace, **turned).keys.values()}
    assert after == before


def test_a_query_that_is_no_longer_asked_leaves_no_answer(workspace: Workspace) -> None:
    run(workspace)
    run(workspace, TASK | {"queries": {"most_drugs": TASK["queries"]["most_drugs"]}})
    left = {info.key.rsplit("/", 1)[-1] for info in workspace.lake.list("graphs/rides/graph/queries")}
    assert left == {"most_drugs.json", "most_drugs.parquet"}


def test_the_first_row_of_a_key_counts_and_rows_without_one_are_told(workspace: Workspace) -> None:
    journals = pa.table({"code": ["J1", "J1", None, " ", "J2"], "name": ["Lancet", "Other", "x", "y", "BMJ"]})
    result = run(workspace, journals=journals)
    graph = nx.node_link_graph(read(workspace, result))
    assert graph.nodes["journal:J1"]["label"] == "Lancet"
    assert result.nodes["journal"] == 2
    assert "entities.journal: journals: 2 rows without a code: no node" in result.problems
    assert "entities.journal: journals: 1 row with a code that an earlier one has: that one counts" in result.problems


def test_rows_that_are_left_out_are_told_with_the_reason(workspace: Workspace) -> None:
    journals = pa.table(
        {
            "code": ["J1", "J1", "J1", None, "J2"],
            "name": ["Lancet", "Other", "Lancet", "x", "BMJ"],
            "_input": ["j.csv"] * 5,
            "_line": [2, 3, 4, 5, 6],
        }
    )
    for _ in range(2):  # those of the graph before are replaced
        result = run(workspace, journals=journals)
    columns = ("task", "table_name", "rule", "message", "raw", "input", "line")
    found = [tuple(row[name] for name in columns) for row in open_rejects(workspace.registry, "rides")]
    assert sorted(found, key=str) == [
        ("graph", "drugs", "no_label", "drug: no label, and is never found in a text", '{"atc": "A04"}', None, None),
        (
            *("graph", "journals", "no_key", "journal: no code, and a node needs one"),
            *('{"code": null, "name": "x"}', "j.csv", 5),
        ),
        (
            *("graph", "journals", "repeated_key", "journal: an earlier row has the code J1, and that one counts"),
            *('{"code": "J1", "name": "Other"}', "j.csv", 3),
        ),
        (
            *("graph", "publications", "no_target", "publication.journal: no journal has the key J9: no edge"),
            *('{"id": "4", "journal": "J9"}', None, None),
        ),
    ]
    assert result.left_out == len(found)


def test_keys_of_other_number_types_meet(workspace: Workspace) -> None:
    """A foreign key with nulls is often a float where the key is an integer."""
    publications = pa.table({"id": [1, 2], "title": ["a", "b"], "abstract": ["", ""], "journal": [7.0, None]})
    journals = pa.table({"code": [7], "name": ["Seven"]})
    assert run(workspace, publications=publications, journals=journals).edges == {"link": 1}


def test_bad_rows_do_no_harm(workspace: Workspace) -> None:
    titles = ["", None, "Ã\x00©\ufffd", "word " * 200_000 + "c++", "(unclosed [ * aspirin", "a b"]
    publications = pa.table({"id": list(range(6)), "title": titles, "abstract": [None] * 6, "journal": ["J1"] * 6})
    drugs = pa.table({"atc": ["1", "2", "3", "4", "5"], "drug": ["", "b", "c++", "[ *", "(.*)"]})
    graph = nx.node_link_graph(read(workspace, run(workspace, publications=publications, drugs=drugs)))
    mentions = {tuple(edge[:2]) for edge in list[Any](graph.edges) if edge[2] == "mention"}
    assert mentions == {
        ("publication:5", "drug:2"),
        ("publication:3", "drug:3"),
        ("publication:4", "drug:4"),
    }


def test_tables_without_rows_give_an_empty_graph(workspace: Workspace) -> None:
    result = run(workspace, drugs=DRUGS[:0], publications=PUBLICATIONS[:0], journals=JOURNALS[:0])
    assert (result.nodes, result.edges) == ({"drug": 0, "publication": 0, "journal": 0}, {})
    assert nx.node_link_graph(read(workspace, result)).number_of_nodes() == 0


def test_entities_come_from_files_with_other_columns_and_from_the_warehouse(workspace: Workspace) -> None:
    path = workspace.warehouse.path  # type: ignore[attr-defined]
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA feeds; CREATE TABLE feeds.journals AS SELECT 'J1' AS code, 'Lancet' AS name")
    entities = TASK["entities"] | {"journal": {"table": "feeds.journals", "key": "code", "label": "name"}}
    extracts = {name: {"source": {"type": "file", "path": "x.csv"}} for name in TABLES}
    made = context(workspace, Path("/nowhere"), {**extracts, "graph": TASK | {"entities": entities}})
    inputs = {
        "drugs": staged(workspace, "drugs", DRUGS),
        "publications": staged(workspace, "publications", PUBLICATIONS[:1], PUBLICATIONS[1:].drop_columns("journal")),
    }
    result = build(made, "graph", inputs)
    assert result.nodes == {"drug": 4, "publication": 6, "journal": 1}
    assert result.edges == {"link": 1, "mention": 6}


def test_entities_come_from_tables_of_the_lake(workspace: Workspace, tmp_path: Path) -> None:
    job = lake_job(tmp_path / "jobs", JOURNALS.to_pylist(), {"code": "VARCHAR", "name": "VARCHAR"}, table="journals")
    LakeTables(workspace.lake, workspace.scratch).load(job)
    entities = {"journal": {"table": "lake.journals", "key": "code", "label": "name"}}
    made = context(workspace, Path("/nowhere"), {"graph": {"type": "graph", "entities": entities}})
    assert build(made, "graph", {}).nodes == {"journal": 3}


def test_a_column_that_is_not_there_is_named(workspace: Workspace) -> None:
    with pytest.raises(LookbookError, match="journals has no column name; it has code"):
        run(workspace, journals=JOURNALS.drop_columns("name"))


def test_a_spec_with_faults_is_told_whole() -> None:
    task = TASK | {
        "after": ["drugs", "journals"],
        "links": [],
        "path": ["drug", "publication", "journal", "drug"],
        "queries": {"../x": {"count": "drug", "by": "drug"}},
        "entities": TASK["entities"] | {"other": {"table": "files.x", "key": "x"}},
    }
    assert check_graph(GraphTask.model_validate(task)) == [
        "entities.publication.table: publications is no task in after, and no feeds.NAME, warehouse.NAME, lake.NAME",
        "entities.other.table: files.x is none of feeds.NAME, warehouse.NAME, lake.NAME",
        "path: an entity stands there twice",
        "path: no link and no mention leads from publication to journal",
        "path: no link and no mention leads from journal to drug",
        "queries.../x: its name is that of a file: letters, digits, _ and -",
    ]


def test_a_spec_with_faults_is_not_run(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no link and no mention"):
        run(workspace, TASK | {"links": []})


def test_a_reader_meets_whole_objects_in_the_order_in_which_they_hold(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the last of them, graph.json is the former one, whole."""
    before = run(workspace)
    standing = workspace.lake.get(before.keys["graph"])
    real = type(workspace.lake).replace

    def killed(lake: Any, key: str, data: bytes) -> None:
        if key.endswith("graph.json"):
            raise KeyboardInterrupt
        real(lake, key, data)

    monkeypatch.setattr(type(workspace.lake), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, drugs=DRUGS[:2])
    assert workspace.lake.get(before.keys["graph"]) == standing


def test_pandas_tells_the_mentions_of_a_thousand_titles(workspace: Workspace) -> None:
    """Against str.contains of pandas, a term at a time."""
    words = ["alpha", "beta", "gamma", "delta", "eps"]
    titles = [f"{words[n % 5].title()} {words[n * 7 % 5]}-{n} {words[n * 3 % 5]}x" for n in range(1000)]
    frame = pd.DataFrame({"id": range(1000), "title": titles, "abstract": [""] * 1000, "journal": ["J1"] * 1000})
    result = run(
        workspace,
        publications=pa.Table.from_pandas(frame, preserve_index=False),
        drugs=pa.table({"atc": words, "drug": words}),
    )
    expected = sum(int(frame.title.str.contains(rf"\b{word}\b", case=False).sum()) for word in words)
    assert result.edges["mention"] == expected
