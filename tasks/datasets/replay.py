"""Replays: image rejects of the current snapshot are judged again, by an ingest as the one that made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.inventory import Request
from lookbook.tasks.datasets.manifest import IngestOptions, Manifest, read_table, require_published
from lookbook.tasks.datasets.sources.opening import local_path
from lookbook.tasks.images.recipe import Recipe


class SourceGoneError(LookbookError):
    """The source that a snapshot was made of is not there any more."""


@dataclass
class Replay:
    """What is judged again.

    Attributes:
        manifest: of the snapshot that refused it.
        rules: by which it was refused.
        keys: of the images.
    """

    manifest: Manifest
    rules: frozenset[str] = frozenset()
    keys: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))


def find_rejects(workspace: Workspace, dataset: str, rules: Collection[str] = ()) -> Replay:
    """Return the image rejects of the current snapshot, all or those of some rules.

    Raises:
        UsageError: the snapshot has no image reject of such a rule.
        LookbookError: there is no such dataset, or its snapshot is damaged.
    """
    manifest = require_published(workspace.lake, dataset).manifest
    rejects = read_table(workspace.lake, manifest, "rejects", without=("message", "raw"))
    rejects = rejects.filter(pc.equal(rejects["kind"], "image"))
    counts = Counter(rejects["rule"].to_pylist())
    unknown = sorted(set(rules) - set(counts))
    if unknown:
        had = ", ".join(f"{count} {rule}" for rule, count in sorted(counts.items()))
        raise UsageError(
            f"{dataset}: {manifest.snapshot_id} has no image that was refused by the rule {', '.join(unknown)}.",
            f"It has {had}." if had else "It has no rejected image at all.",
        )
    chosen = frozenset(rules or counts)
    keys = rejects.filter(pc.is_in(rejects["rule"], pa.array(sorted(chosen), pa.string())))["locator"]
    return Replay(manifest, chosen, keys.combine_chunks())


def replay_request(workspace: Workspace, replay: Replay, recipe: Recipe | None, within: Sequence[str] = ()) -> Request:
    """Return the ingest that judges rejects again: of the source, by the recipe and the options of their snapshot.

    Args:
        workspace: where the dataset lives.
        replay: what is judged again.
        recipe: the snapshot's, with limits lifted; None: the same.
        within: folders in one of which the source has to lie now; empty: as the snapshot's run was told.

    Raises:
        UsageError: the recipe does more than to lift limits.
        SourceGoneError: the source is not there.
    """
    manifest = replay.manifest
    if recipe is not None and not recipe.lifts_limits_of(manifest.recipe):
        raise UsageError(
            f"The recipe does more than lift limits of the one that {manifest.snapshot_id} was made by.",
            "Judging by other rules, or drawing otherwise, is for all images: "
            f"lookbook ingest {manifest.source} --dataset {manifest.dataset} --recipe FILE",
        )
    path = local_path(manifest.source)
    if path is not None and not path.exists():
        raise SourceGoneError(
            f"{manifest.dataset}: {manifest.source}, the source of {manifest.snapshot_id}, is gone.",
            f"Bring it back; or ingest from where it is now: lookbook ingest SOURCE --dataset {manifest.dataset}",
        )
    options = manifest.options or _options_of_before(workspace, manifest)
    return Request(
        workspace=workspace,
        source=manifest.source,
        dataset=manifest.dataset,
        recipe=in_order(recipe or manifest.recipe, options.outputs),
        limit=options.limit,
        batch_size=options.batch_size,
        reject_limit=options.reject_limit,
        within=within or options.within,
        key=options.key,
        image_column=options.image_column,
        again=replay.rules,
    )


def in_order(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return a recipe with its outputs in the order of their names, those that are not named last."""
    order = [*names, *(name for name in recipe.outputs if name not in names)]
    return recipe.model_copy(update={"outputs": {name: recipe.outputs[name] for name in order}})


def _options_of_before(workspace: Workspace, manifest: Manifest) -> IngestOptions:
    """Return the options of a snapshot whose manifest keeps none: its counts and tables show them; columns are found.

    The first output is one that has the images' width and height; of several, the first of the default recipe.
    """
    files, sizes = manifest.summary.get("files", {}), ["sha256", "width", "height"]
    images, outputs = (read_table(workspace.lake, manifest, name) for name in ("images", "outputs"))
    loaded = images.filter(pc.equal(images["outcome"], "loaded")).select(sizes)

    def is_first(name: str) -> bool:
        drawn = outputs.filter(pc.equal(outputs["output"], name)).select(sizes)
        return bool(drawn.join(loaded, keys=sizes, join_type="right anti").num_rows == 0)

    names = [name for name in (*Recipe().outputs, *manifest.recipe.outputs) if name in manifest.recipe.outputs]
    return IngestOptions(
        outputs=[name for name in names if is_first(name)][:1],
        limit=files["images"] if files.get("beyond_limit") else None,
    )


def replayed_counts(workspace: Workspace, replay: Replay, published: bool) -> dict[str, Any]:
    """Return how many rejects were judged again, and how each ended; ``gone``: the source has it no more.

    Args:
        workspace: where the dataset lives.
        replay: what was judged again.
        published: whether a snapshot was published then; else all of it is refused as before.
    """
    counts = Counter[str]()
    if published:
        manifest = require_published(workspace.lake, replay.manifest.dataset).manifest
        images = read_table(workspace.lake, manifest, "images").select(["key", "outcome"])
        counts.update(images.filter(pc.is_in(images["key"], replay.keys))["outcome"].to_pylist())
    else:
        counts["rejected"] = len(replay.keys)
    counts["gone"] = len(replay.keys) - counts.total()
    return {"judged": len(replay.keys)} | {name: counts[name] for name in ("loaded", "duplicate", "rejected", "gone")}
