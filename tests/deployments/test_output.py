"""What commands print: JSON that any program reads, and tables that show texts as they are."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from lookbook.blocks.warehouse import QueryCost
from lookbook.deployments.command.output import (
    print_json,
    print_plan,
    print_query_cost,
    print_replayed,
    print_rows,
    print_summary,
    printable,
    unique_names,
)

SUMMARY = {
    "dataset": "fashion",
    "source": "/photos",
    "snapshot": "20261121T115043Z-4f1c0a2b",
    "published": True,
    "images": {"found": 1234, "loaded": 1230, "rejected": 4},
    "rows": {"found": 10, "missing_image": 2},
    "matched_by": {"exact": 7, "tail": 1},
    "hint": "",
    "orphan_images": 5,
    "files": {"found": 1240, "images": 1234, "catalogue": 1, "ignored": 5},
    "ignored": {"litter": 4, "not_an_image": 1},
    "outputs": {"standard": 1230},
    "seconds": 2.5,
    "images_per_second": 493.6,
    "report": "/home/lake/" + "deep/" * 40 + "report.html",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, écran 写真", "plain text, écran 写真"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\x1b[2Jcleared\x07", r"\x1b[2Jcleared\x07"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("tab\tnul\x00", r"tab\tnul\x00"),
        ("[bold]", "[bold]"),
        ("", ""),
    ],
)
def test_printable_text_is_one_line_that_no_terminal_obeys(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()
    printable(text).encode("utf-8")


def test_json_has_all_digits_of_decimals_as_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    values = [Decimal("12345678901234567.89"), Decimal("1.123456789012345678"), Decimal("1E+400"), Decimal("2.50")]
    print_json({"values": values})
    assert json.loads(capsys.readouterr().out, parse_float=Decimal)["values"] == values


def test_json_has_numbers_for_decimals_and_text_for_dates(capsys: pytest.CaptureFixture[str]) -> None:
    document = [{"sum": Decimal(12345678901234567890), "mean": Decimal("2.50"), "zero": Decimal("0E+3")}]
    print_json([*document, {"day": date(2012, 5, 1), "name": "écran\n", "none": None}])
    printed = capsys.readouterr().out
    assert json.loads(printed) == [
        {"sum": 12345678901234567890, "mean": 2.5, "zero": 0},
        {"day": "2012-05-01", "name": "écran\n", "none": None},
    ]
    assert "écran" in printed, "people read it too"


def test_a_table_shows_cells_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[list[Any]] = [["[red]a[/red]", None, 3], ["[/b] :smile:", "x\ny\x1b[2J", Decimal("1.5")]]
    print_rows(["name", "note", "n"], rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["name", "note", "n"],
        ["[red]a[/red]", "3"],
        ["[/b]", ":smile:", r"x\ny\x1b[2J", "1.5"],
    ]


def test_a_table_for_another_program_breaks_no_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    long = "/very/long/path/" * 30
    print_rows(["path", "other"], [[long, long]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].split() == [long, long]


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["name"], [], "No datasets yet.")
    assert capsys.readouterr().out == "No datasets yet.\n"


def test_the_summary_counts_every_outcome_and_leaves_the_report_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_summary(SUMMARY)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fashion  snapshot 20261121T115043Z-4f1c0a2b  (published)"
    said = {line[2:16].strip(): line[17:] for line in lines[1:]}
    assert said["images"].split("  ") == ["1,234 found", "1,230 loaded", "4 rejected"]
    assert said["rows"].split("  ") == ["10 found", "2 missing image"]
    assert said["files"].split("  ") == ["1,240 found", "1,234 images", "1 catalogue", "5 ignored"]
    assert said["ignored"].split("  ") == ["4 litter", "1 not an image"]
    assert said["matched by"] == "7 exact, 1 tail"
    assert said["orphan images"] == "5"
    assert said["report"] == SUMMARY["report"]


def test_the_version_of_a_dataset_of_kaggles_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(SUMMARY | {"source": "kaggle://ann/shoes@3"})
    assert "  source         kaggle://ann/shoes@3" in capsys.readouterr().out.splitlines()


def test_a_hint_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(SUMMARY | {"hint": "1 of 20 rows"})
    assert capsys.readouterr().out.splitlines()[0] == "1 of 20 rows"


def test_a_run_that_published_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(SUMMARY | {"published": False})
    assert "(nothing published: this snapshot stays)" in capsys.readouterr().out.splitlines()[0]


def test_a_plan_is_told_by_lines_and_names_of_files_stay_on_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {"new": 5, "changed": 0, "unchanged": 7, "gone": 0}
    images = {
        kind: {"count": count, "bytes": 10**6, "names": ["a\nb.jpg"] if count else []} for kind, count in kinds.items()
    }
    plan = {
        "dataset": "shop",
        "publishes": True,
        "note": "",
        "files": {"found": 12},
        "rows": {"found": 3},
        "images": images,
        "refused": {"images": {"too_large": 1}, "catalogue": {}, "ignored": {}},
        "work": {"images": 5, "bytes": 10**6, "batches": 1, "known_contents": 0, "copies": 0},
        "outputs": {"grey": 5},
        "sampled": False,
        "bytes": {"originals": 1_000_000, "outputs": 200_000, "tables": 0},
        "requests": {"writes": 32, "reads": 24},
        "seconds": 600.0,
        "by": {"of": "workspace", "runs": 2},
        "price": {"total": 0.5, "requests": 0.2, "processors": 0.3, "storage_a_month": 0.1},
    }
    print_plan(plan)
    title, *lines = capsys.readouterr().out.splitlines()
    told = {line[:20].strip(): line[20:].strip() for line in lines}
    assert title == "shop  a snapshot would be published"
    assert told["new"] == r"5 images  1.0 MB  (a\nb.jpg, …)"
    assert told["refused, images"] == "1 too large"
    assert told["to write"] == "1.2 MB  (1.0 MB originals  200.0 kB outputs  0 bytes tables)"
    assert told["time"] == "10.0 minutes  (as in past runs of this workspace: 2)"
    assert told["price"].startswith("$0.50  ($0.20 requests  $0.30 processors)")


def test_what_became_of_rejects_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"judged": 3, "loaded": 2, "duplicate": 0, "rejected": 1, "gone": 0}
    print_replayed({"dataset": "shop", "replayed": counts, "published": True, "snapshot": "s-2", "note": ""})
    print_replayed({"dataset": "shop", "replayed": counts, "published": False, "snapshot": "s-2", "note": "as it was"})
    first, published, _, kept = capsys.readouterr().out.splitlines()
    assert first == "shop  3 rejects judged again: 2 loaded  0 duplicate  1 rejected  0 gone"
    assert (published, kept) == ("  published: s-2", "  nothing published: as it was")


def test_what_json_has_no_word_for_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"a": float("nan"), "b": [float("inf"), Decimal("NaN")], "c": 1.5}])
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": [None, None], "c": 1.5}]


def test_column_names_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["[/b]", "[red]x"], [["1", "2"]])
    assert "[/b]" in capsys.readouterr().out


def test_equal_names_are_numbered() -> None:
    assert unique_names(["a", "b", "a", "a_2", "a"]) == ["a", "b", "a_2", "a_2_2", "a_3"]


@pytest.mark.parametrize(
    ("cost", "billed", "allowed", "told"),
    [
        (QueryCost(None), None, True, "bills nothing"),
        (QueryCost(1657, ["warehouse.images"]), 10 << 20, True, "reads 1,657 bytes and bills 10,485,760"),
        (QueryCost(1, ["a.b", "a.c"], 10 << 20), 20 << 20, False, "maximum_bytes_billed is 10,485,760: it would fail"),
        (QueryCost((30 << 20) + 1, ["a.b"], 31 << 20), 31 << 20, True, "bills 32,505,856"),
        (QueryCost(0), 0, True, "bills 0"),
    ],
)
def test_what_a_query_would_cost_is_told(
    capsys: pytest.CaptureFixture[str], cost: QueryCost, billed: int | None, allowed: bool, told: str
) -> None:
    print_query_cost(cost, as_json=False)
    assert told in capsys.readouterr().out
    print_query_cost(cost, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["bytes_billed"], found["allowed"]) == (billed, allowed)
