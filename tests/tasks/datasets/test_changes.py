from __future__ import annotations

import pyarrow as pa

from lookbook.tasks.datasets.snapshot import ImageChanges, changes_between


def images(*rows: tuple[str, str | None, str]) -> pa.Table:
    keys, hashes, outcomes = zip(*rows, strict=True)
    return pa.table({"key": pa.array(keys), "sha256": pa.array(hashes, pa.string()), "outcome": pa.array(outcomes)})


def test_each_kind_of_change_is_told_apart() -> None:
    before = images(
        ("gone.jpg", "a1", "loaded"),
        ("same.jpg", "a2", "loaded"),
        ("other_bytes.jpg", "a3", "loaded"),
        ("now_rejected.jpg", "a4", "loaded"),
    )
    after = images(
        ("other_bytes.jpg", "b3", "loaded"),
        ("new_2.jpg", "a5", "loaded"),
        ("now_rejected.jpg", "a4", "rejected"),
        ("same.jpg", "a2", "loaded"),
        ("new_1.jpg", "a6", "duplicate"),
    )
    assert changes_between(before, after, "s1") == ImageChanges(
        previous="s1",
        added=["new_1.jpg", "new_2.jpg"],
        removed=["gone.jpg"],
        changed=["now_rejected.jpg", "other_bytes.jpg"],
    )


def test_in_a_first_snapshot_all_is_new() -> None:
    after = images(("b.jpg", "2", "loaded"), ("a.jpg", "1", "loaded"))
    assert changes_between(None, after, None) == ImageChanges(None, ["a.jpg", "b.jpg"], [], [])


def test_content_that_was_never_read_is_no_change() -> None:
    refused = images(("bad.jpg", None, "rejected"))
    assert changes_between(refused, images(("bad.jpg", "", "rejected")), "s1") == ImageChanges("s1", [], [], [])


def test_an_emptied_dataset_lists_all_as_removed() -> None:
    before = images(("a.jpg", "1", "loaded"))
    assert changes_between(before, before.slice(0, 0), "s1").removed == ["a.jpg"]
