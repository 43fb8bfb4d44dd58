"""What changed between two snapshots of a dataset, by image key."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Changes:
    """The image keys that differ from the last snapshot, each list in the order of its names.

    Attributes:
        previous: id of the last snapshot, None where this is the first.
        added: keys that the last snapshot did not know. For a first snapshot: all of them.
        removed: keys that are gone.
        changed: keys whose content or outcome is another one.
    """

    previous: str | None
    added: list[str]
    removed: list[str]
    changed: list[str]


def changes_between(previous: pa.Table | None, current: pa.Table, previous_id: str | None) -> Changes:
    """Compare the images of two snapshots.

    Args:
        previous: images of the last snapshot (columns key, sha256, outcome; keys unique), or None.
        current: images of this snapshot, with the same columns.
        previous_id: id of the last snapshot.
    """
    new = _comparable(current)
    old = _comparable(previous if previous is not None else current.slice(0, 0))
    both = new.join(old, keys="key", join_type="full outer", right_suffix="_before")
    is_new, was_there = pc.is_valid(both["outcome"]), pc.is_valid(both["outcome_before"])
    differs = pc.or_(
        pc.not_equal(both["sha256"], both["sha256_before"]),
        pc.not_equal(both["outcome"], both["outcome_before"]),
    )
    return Changes(
        previous_id if previous is not None else None,
        added=_keys(both, pc.invert(was_there)),
        removed=_keys(both, pc.invert(is_new)),
        # Where one side is missing, `differs` is null, and a null never selects.
        changed=_keys(both, differs),
    )


def _comparable(images: pa.Table) -> pa.Table:
    """Key, content and outcome as plain texts without nulls, so that a null means: not in this snapshot."""
    columns = {name: pc.cast(images[name], pa.string()) for name in ("key", "sha256", "outcome")}
    return pa.table({name: pc.fill_null(column, "") for name, column in columns.items()})


def _keys(table: pa.Table, selected: pa.ChunkedArray) -> list[str]:
    keys: list[str] = table["key"].filter(selected).to_pylist()
    return sorted(keys)
