"""Sources that a worker elsewhere can't reach: their images are landed in the lake first, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.settings import this_host
from lookbook.tasks.images.items import Item
from lookbook.tasks.images.locators import UnreadableMemberError, read_bytes
from lookbook.tasks.images.pacing import check_not_stopped, originals_in_memory
from lookbook.tasks.images.parquet import from_parquet, manifest_items, manifest_table, to_parquet
from lookbook.tasks.images.recipe import Recipe

if TYPE_CHECKING:
    from lookbook.blocks.lake import Lake

#: What a manifest calls the machine on which its source was listed.
LISTED_ON = "listed_on"
#: Images that are landed at the same time: a store that answers late is kept busy.
LANDING_THREADS = 8


class SourceElsewhereError(LookbookError):
    """The images of a batch lie in files of another machine."""


def check_within_reach(
    lake: Lake, batch_key: str, items: Sequence[Item], recipe: Recipe, metadata: Mapping[str, str]
) -> None:
    """See that this machine is the one whose files a manifest names; else leave word in the lake.

    A path that happens to be here, too, may be another file: only the machine counts.

    Raises:
        SourceElsewhereError: it is another one, and there is something to be read.
    """
    listed_on = metadata.get(LISTED_ON, this_host())
    if listed_on == this_host() or not any(_to_land(item, recipe) for item in items):
        return
    lake.replace(_word(batch_key), this_host().encode())
    raise SourceElsewhereError(
        f"{batch_key}: its images lie on {listed_on}, and this is {this_host()}.",
        "The run that sent it lands them in the lake and sends it again.",
    )


def needs_landing(lake: Lake, batch_key: str) -> bool:
    """Return whether a worker left word that it can't reach the images of a batch."""
    try:
        lake.get(_word(batch_key))
    except ObjectNotFoundError:
        return False
    return True


def land(lake: Lake, batch_key: str) -> None:
    """Copy the images of a batch into its folder in the lake, and let its manifest point there.

    Keys and fingerprints stay as they are. What is landed already stays, too; what can't be read is refused, as
    the batch would.

    Raises:
        OSError: the source or the lake failed.
        StoppedError: the run was interrupted.
    """
    manifest, metadata = from_parquet(lake.get(f"{batch_key}/manifest.parquet"))
    recipe = Recipe.model_validate_json(metadata["recipe"])

    def landed(number: int, item: Item) -> Item:
        check_not_stopped()
        return _landed(lake, f"{batch_key}/landed/{number}", item) if _to_land(item, recipe) else item

    items = manifest_items(manifest)
    with ThreadPoolExecutor(LANDING_THREADS, thread_name_prefix="landing") as pool:
        items = list(pool.map(landed, range(len(items)), items))
    lake.replace(f"{batch_key}/manifest.parquet", to_parquet(manifest_table(items), metadata))
    lake.remove(_word(batch_key))


def _landed(lake: Lake, key: str, item: Item) -> Item:
    with originals_in_memory.taken(item.locator.size):
        try:
            lake.replace(key, read_bytes(item.locator))
        except UnreadableMemberError as error:
            return replace(item, refused=(error.rule, error.message))
    return replace(item, locator=replace(item.locator, store="lake", path=key.encode(), member="", offset=0))


def _to_land(item: Item, recipe: Recipe) -> bool:
    """Return whether the bytes of an image are read at all, and lie outside of the lake."""
    return item.refused is None and item.locator.store != "lake" and item.locator.size <= recipe.max_file_bytes


def _word(batch_key: str) -> str:
    return f"{batch_key}/needs-landing"
