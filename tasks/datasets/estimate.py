"""The estimate: what an ingest would do now, by the survey that it would begin with. Nothing is drawn or written."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from typing import Any

import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.books import check_reject_limit
from lookbook.tasks.datasets.differences import batches_of, count_rows
from lookbook.tasks.datasets.inventory import Inventory, Request, planned_batches, survey
from lookbook.tasks.datasets.publish import reason_to_keep, refused_by
from lookbook.tasks.datasets.report.text import outcomes
from lookbook.tasks.datasets.report.text import size as in_units
from lookbook.tasks.datasets.snapshot import build_snapshot, logical_digest
from lookbook.tasks.datasets.sources.kaggle import KaggleSource
from lookbook.tasks.datasets.sources.opening import open_source
from lookbook.tasks.images.batch import refused_unread
from lookbook.tasks.images.items import Item
from lookbook.tasks.images.locators import UnreadableMemberError, read_bytes
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.tombstones import FORGOTTEN
from lookbook.tasks.runs.records import finished_summaries

#: The kind of Prefect's artifact that keeps a plan of a run, for the API.
PLAN_ARTIFACT = "lookbook-plan"
#: Names that are told of each kind of change.
NAMED = 3
#: Images, and bytes of them, that are read where only their bytes tell whether they are known; of more, a sample.
MOST_READ = 500
MOST_BYTES = 2**30
#: Seconds below which a run is told of in seconds.
SHORT = 120
#: Past runs that say how long a run takes.
PAST_RUNS = 20

# What is assumed where no snapshot and no run says more: docs/costs.md, whose table is made of the same figures.

#: Images that two processors draw a second.
IMAGES_SECOND = 60.0
#: Bytes of all tables of a snapshot for each image, and of its report.
TABLE_BYTES = 1_500
REPORT_BYTES = 300_000
#: Bytes of an output for each of its pixels, at the default quality: of photos, by format.
PIXEL_BYTES = {"jpeg": 0.13, "webp": 0.06, "avif": 0.065, "png": 0.67}
#: Pixels of an output for those of a square of its `image_size`, of a photo of 3:4.
FILLED = {"border": 1.0, "center_crop": 1.0, "keep_ratio": 4 / 3, "keep_ratio_largest": 3 / 4}
#: Requests for a batch: its manifest and its part are written, and read twice. Others of a run: tables, report, notes.
BATCH_WRITES, BATCH_READS = 2, 5
RUN_WRITES, RUN_READS = 20, 20


@dataclass(frozen=True)
class Prices:
    """List prices in US dollars, of us-central1, as Google's price pages gave them in 2025; look them up for yours.

    cloud.google.com/storage/pricing, /bigquery/pricing, /run/pricing, /sql/pricing. Frankfurt is some 15 % dearer.
    """

    storage_gb_month: float = 0.020
    write_1000: float = 0.005  # class A: writes and listings
    read_1000: float = 0.0004  # class B: reads
    query_tib: float = 6.25  # on demand; the first TiB of a month is free
    table_gb_month: float = 0.02
    cpu_second: float = 0.000018  # Cloud Run jobs and worker pools, billed by the instance
    memory_gib_second: float = 0.000002
    database_cpu_hour: float = 0.0413
    database_gb_hour: float = 0.0070
    database_disk_gb_month: float = 0.17

    def requests(self, writes: float, reads: float) -> float:
        """Return what requests to the bucket cost."""
        return writes / 1e3 * self.write_1000 + reads / 1e3 * self.read_1000

    def drawing(self, seconds: float) -> float:
        """Return what the processors cost that draw: two, with 4 GiB."""
        return seconds * (2 * self.cpu_second + 4 * self.memory_gib_second)


def estimate(request: Request, prices: Prices | None = None) -> dict[str, Any]:
    """Return what an ingest would do, as a document for JSON; `docs/plan.md` says what its fields mean.

    Raises:
        RefusedRunError: the source holds no image.
        LookbookError: it can't be listed, or is to be downloaded first.
    """
    _refuse_download(request)
    inventory = survey(request)
    work = _work(request, inventory)
    manifest = inventory.published.manifest if inventory.published else None
    publishes, note = _ending(request, inventory)
    written = _bytes_written(request, inventory, work, publishes=publishes)
    seconds, by = _seconds(request, inventory.file_counts["images"], max(work.outputs.values(), default=0))
    writes = work.writes + BATCH_WRITES * work.batches + (RUN_WRITES if publishes else 0)
    requests = {"writes": writes, "reads": BATCH_READS * work.batches + RUN_READS}
    return {
        "dataset": request.dataset,
        "source": inventory.source,
        "snapshot": manifest.snapshot_id if manifest else None,
        "publishes": publishes,
        "note": note,
        "files": inventory.file_counts,
        "images": _changes(inventory),
        "rows": _rows(inventory),
        "refused": _refused(inventory, work),
        "holds": {name: inventory.work[name] for name in ("published", "earlier_parts")},
        "work": {
            "images": work.images,
            "bytes": work.bytes,
            "batches": work.batches,
            "known_contents": work.known,
            "copies": work.copies,
        },
        "outputs": {name: work.outputs[name] for name in request.recipe.outputs},
        "sampled": work.sampled,
        "bytes": written,
        "requests": requests,
        "seconds": round(seconds, 1),
        "by": by,
        "price": _price(prices or Prices(), request.workspace.lake, requests, sum(written.values()), seconds),
    }


def _refuse_download(request: Request) -> None:
    place = request.workspace
    source = open_source(request.source, place.scratch, place.kaggle, request.within)
    if isinstance(source, KaggleSource) and not source.is_downloaded():
        raise LookbookError(
            f"{source.uri} is not downloaded yet, and Kaggle's list of its files does not tell what an ingest needs.",
            f"lookbook ingest {source.uri} --dataset trial --limit 100 downloads it, for plans and ingests to come.",
        )


def _changes(inventory: Inventory) -> dict[str, dict[str, Any]]:
    """Return how many images are new, changed, unchanged and gone since the snapshot, their bytes and first names."""
    found = inventory.desk.rows(
        "SELECT kind, count(*), sum(bytes)::BIGINT, min(key, ?) FROM"
        " (SELECT coalesce(images.key, published.key) AS key, CASE WHEN published.key IS NULL THEN 'new'"
        " WHEN images.key IS NULL THEN 'gone' WHEN images.fingerprint = published.fingerprint THEN 'unchanged'"
        " ELSE 'changed' END AS kind, CASE WHEN images.key IS NULL THEN published.bytes ELSE images.size END AS bytes"
        " FROM images FULL JOIN published ON images.key = published.key) GROUP BY kind",
        NAMED,
    )
    told = {kind: {"count": count, "bytes": size or 0, "names": names} for kind, count, size, names in found}
    none = {"count": 0, "bytes": 0, "names": []}
    return {kind: told.get(kind, none) for kind in ("new", "changed", "unchanged", "gone")}


def _rows(inventory: Inventory) -> dict[str, int]:
    """Return how many rows the catalogue has, and of them those that an ingest takes no image for."""
    catalogue = inventory.catalogue
    forgotten = inventory.passed_over.rows
    outcomes = (pc.equal(batch.column("outcome"), "duplicate") for batch in batches_of([inventory.rows], ["outcome"]))
    duplicate = sum(pc.sum(each).as_py() or 0 for each in outcomes)
    rejected = catalogue.rows_found - count_rows([inventory.rows]) - forgotten
    told = {"found": catalogue.rows_found, "duplicate": duplicate, "rejected": rejected}
    return told | ({FORGOTTEN: forgotten} if forgotten else {})


def _refused(inventory: Inventory, work: _Work) -> dict[str, dict[str, int]]:
    """Return by rule what is refused before an image is drawn: images, what is of the catalogue, what is neither."""
    catalogue = Counter(reject.rule for reject in inventory.catalogue.rejects)
    ignored = Counter(reject.rule for reject in inventory.ignored)
    return {
        kind: dict(sorted(counts.items()))
        for kind, counts in (("images", work.refused), ("catalogue", catalogue), ("ignored", ignored))
    }


@dataclass
class _Work:
    """What is left to do, counted: at the most, because what cannot be drawn shows when it is drawn.

    Attributes:
        batches: of images.
        images: to be read.
        bytes: of them.
        known: whose content is published already.
        copies: of another one of their batch.
        refused: by rule, unread.
        originals: bytes that are not kept yet.
        outputs: to be drawn, by name.
        writes: requests for originals and outputs.
        sampled: whether some counts are those of a sample, multiplied.
    """

    batches: int = 0
    images: int = 0
    bytes: int = 0
    known: int = 0
    copies: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    originals: int = 0
    outputs: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    sampled: bool = False

    def add(self, group: Sequence[tuple[Item, str | None]], recipe: Recipe) -> None:
        """Count images of one size and batch, each with what tells its content from others, as a batch does them."""
        seen = set[str]()
        for item, content in group:
            known = next((each for each in item.known if each.sha256 == content), None)
            wanted = set(recipe.outputs) - set(known.outputs if known else ())
            self.images += 1
            self.bytes += item.locator.size
            self.known += known is not None
            if known and not wanted and not item.measure_again:
                continue
            if content is not None and content in seen:
                self.copies += 1
                continue
            if content is not None:
                seen.add(content)
            self.originals += 0 if known else item.locator.size
            self.outputs.update(wanted)
            self.writes += 1 + len(wanted)

    def add_sample(self, sample: _Work, images: int, size: int) -> None:
        """Count images by a sample of them."""
        share = images / sample.images if sample.images else 0.0
        self.images += images
        self.bytes += size
        self.refused.update(sample.refused)
        self.outputs.update({name: round(count * share) for name, count in sample.outputs.items()})
        for name in ("known", "copies", "originals", "writes"):
            setattr(self, name, getattr(self, name) + round(getattr(sample, name) * share))
        self.sampled = share > 1


def _work(request: Request, inventory: Inventory) -> _Work:
    """Count what the batches hold.

    Of an image whose fingerprint tells its content nothing is read. Another one may be of a known content, or a copy,
    if its size is another's too: it is read, or stands for those that are not.
    """
    work, doubtful, size = _Work(), 0, 0
    for batch in _batches(request, inventory):
        work.batches += 1
        for group in _groups(batch, request.recipe, work.refused):
            if _is_doubtful(group):
                doubtful += len(group)
                size += sum(item.locator.size for item, _ in group)
            else:
                work.add(group, request.recipe)
    if doubtful:
        step = math.ceil(max(doubtful / MOST_READ, size / MOST_BYTES))
        sample = _Work()
        groups = (
            group
            for batch in _batches(request, inventory)
            for group in _groups(batch, request.recipe, Counter())
            if _is_doubtful(group)
        )
        for number, group in enumerate(groups):
            if number % step == 0:
                sample.add([(item, content or _content(item)) for item, content in group], request.recipe)
        work.add_sample(sample, doubtful, size)
    return work


def _groups(
    batch: Sequence[tuple[Item, str | None]], recipe: Recipe, refused: Counter[str]
) -> Iterator[list[tuple[Item, str | None]]]:
    """Yield the images of a batch that are to be read, those of one size together, each with its content if known.

    Args:
        batch: in the order of their sizes.
        recipe: of the run.
        refused: counts what is not read.
    """
    for _, group in groupby(batch, lambda each: each[0].locator.size):
        taken = []
        for item, content in group:
            if why := refused_unread(item, recipe):
                refused[why[0]] += 1
            else:
                taken.append((item, content))
        if taken:
            yield taken


def _batches(request: Request, inventory: Inventory) -> Iterator[list[tuple[Item, str | None]]]:
    """Yield the batches; each image with its published SHA-256, else a checksum of an archive's listing, else None.

    That of its own key counts where the fingerprint is the published one; a checksum counts under any key.
    """
    contents = inventory.desk.stream(
        "WITH good AS (SELECT key, fingerprint, sha256 FROM published WHERE outcome <> 'rejected'),"
        " moved AS (SELECT fingerprint, arg_min(sha256, key) AS sha256 FROM good"
        "  WHERE starts_with(fingerprint, 'crc32:') GROUP BY fingerprint)"
        " SELECT coalesce(good.sha256, moved.sha256, CASE WHEN starts_with(fingerprint, 'crc32:') THEN fingerprint END)"
        " AS content FROM todo LEFT JOIN good USING (key, fingerprint) LEFT JOIN moved USING (fingerprint)"
        " ORDER BY size, key"
    )
    each = (content for rows in contents for content in rows.column("content").to_pylist())
    for items in planned_batches(request, inventory):
        yield list(zip(items, islice(each, len(items)), strict=True))


def _is_doubtful(group: Sequence[tuple[Item, str | None]]) -> bool:
    """Return whether only bytes tell what some images of one size are."""
    unknown = [item for item, content in group if content is None]
    return bool(unknown) and (len(group) > 1 or bool(unknown[0].known))


def _content(item: Item) -> str | None:
    try:
        return hashlib.sha256(read_bytes(item.locator)).hexdigest()
    except (OSError, UnreadableMemberError):  # the ingest says what is wrong with it
        return None


def _ending(request: Request, inventory: Inventory) -> tuple[bool, str]:
    """Return whether a snapshot would be published, and why not; without work to do by what it would say."""
    if inventory.work["todo"]:
        why = reason_to_keep(request, inventory, "")
        return not why, why
    snapshot = build_snapshot(inventory, [], request.recipe)
    try:
        check_reject_limit(snapshot.image_counts, refused_by(inventory), request.reject_limit)
    except LookbookError as error:
        return False, error.problem
    why = reason_to_keep(request, inventory, logical_digest(snapshot.files, request.recipe, inventory.desk))
    return not why, why


def _bytes_written(request: Request, inventory: Inventory, work: _Work, *, publishes: bool) -> dict[str, int]:
    """Return the bytes that the lake would grow by: originals, outputs, and the snapshot's own files.

    Of tables, the pieces in which an image lies that is not as it was: of n pieces, k images that lie anywhere are
    expected in n (1 - (1 - 1/n)^k).
    """
    outputs = sum(
        count * _output_bytes(request.recipe.outputs[name], inventory, work) for name, count in work.outputs.items()
    )
    found, changed = inventory.published.manifest if inventory.published else None, max(inventory.work["todo"], 1)
    before = found.rows.get("images", 0) if found else 0
    tables = float(inventory.file_counts["images"] * TABLE_BYTES + REPORT_BYTES)
    if found and before:
        share = inventory.file_counts["images"] / before
        tables = sum(file.size for file in found.files if file.rows is None)
        for pieces in found.tables.values():
            tables += share * sum(file.size for file in pieces) * (1 - (1 - 1 / len(pieces)) ** changed)
    return {"originals": work.originals, "outputs": round(outputs), "tables": round(tables) if publishes else 0}


def _output_bytes(output: OutputDefinition, inventory: Inventory, work: _Work) -> float:
    """Return bytes of one file of an output: as the snapshot has, or by pixels as its files of that format do."""
    pixels = output.image_size**2 * FILLED.get(output.resize_mode, 0.0)
    if not pixels:  # as large as the original
        pixels = work.bytes / max(work.images, 1) / PIXEL_BYTES["jpeg"]
    if inventory.published is None or inventory.known.outputs is None:
        return pixels * PIXEL_BYTES[output.encode_format]
    own = inventory.desk.value("SELECT avg(bytes) FROM published_outputs WHERE output_digest = ?", output.digest())
    if own is not None:
        return float(own)
    former = inventory.published.manifest.recipe.outputs.items()
    alike = [name for name, each in former if each.encode_format == output.encode_format]
    per_pixel = inventory.desk.value(
        "SELECT sum(bytes) / sum(width::BIGINT * height) FROM published_outputs"
        " WHERE list_contains(?::VARCHAR[], output)",
        alike,
    )
    return pixels * (PIXEL_BYTES[output.encode_format] if per_pixel is None else float(per_pixel))


def _seconds(request: Request, images: int, drawn: int) -> tuple[float, dict[str, Any]]:
    """Return how long a run takes that lists and draws so many images, and by how many runs of what that is said."""
    place = request.workspace
    # A registry makes the lake's id when it is asked for its books: there is nothing in them before.
    has_books = place.lake.read_id() is not None
    for of, dataset in (("dataset", request.dataset), ("workspace", None)) if has_books else ():
        runs = finished_summaries(place.registry, dataset, PAST_RUNS)
        rates = _rates(runs)
        if rates is not None and (rates[1] or not drawn):
            return rates[0] * images + rates[1] * drawn, {"of": of, "runs": len(runs)}
    return drawn / IMAGES_SECOND, {"of": "assumption", "runs": 0}


def _rates(runs: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """Return seconds for each image that is found, and for each that is drawn; 0 where no run drew; None of none."""
    counted = [
        (run["seconds"], run["images"]["found"], max(run["outputs"].values(), default=0))
        for run in runs
        if "restored_from" not in run and run.get("images", {}).get("found")  # a clean-up has no images
    ]
    if not counted:
        return None
    idle = [(seconds, found) for seconds, found, drawn in counted if not drawn]
    listing = sum(seconds for seconds, _ in idle) / sum(found for _, found in idle) if idle else 0.0
    at_work = [each for each in counted if each[2]]
    if not at_work:
        return listing, 0.0
    seconds, found, drawn = (sum(each) for each in zip(*at_work, strict=True))
    drawing = seconds - listing * found
    return (listing, drawing / drawn) if drawing > 0 else (0.0, seconds / drawn)


def _price(prices: Prices, lake: Lake, requests: dict[str, int], written: int, seconds: float) -> dict[str, Any] | None:
    """Return what it costs in a bucket, in US dollars; None where the lake bills nothing."""
    if not lake.bills:
        return None
    asked, drawing = prices.requests(requests["writes"], requests["reads"]), prices.drawing(seconds)
    return {
        "currency": "USD",
        "requests": round(asked, 4),
        "processors": round(drawing, 4),
        "total": round(asked + drawing, 4),
        "storage_a_month": round(written / 1e9 * prices.storage_gb_month, 4),
        "prices": asdict(prices),
    }


def plan_lines(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a plan says as lines for people, each with its name; the first says how it ends."""
    work, written, by = plan["work"], plan["bytes"], plan["by"]
    ends = "a snapshot would be published" if plan["publishes"] else "nothing would be published"
    lines = [(plan["dataset"], f"{ends}: {plan['note']}" if plan["note"] else ends)]
    lines += [(name, outcomes(plan[name])) for name in ("files", "rows")]
    for kind, told in plan["images"].items():
        names = ", ".join([*told["names"], *(["…"] if told["count"] > len(told["names"]) else [])])
        named = f"  ({names})" if names and kind != "unchanged" else ""
        lines.append((kind, f"{told['count']:,} images  {in_units(told['bytes'])}{named}"))
    lines += [(f"refused, {kind}", outcomes(counts)) for kind, counts in plan["refused"].items() if counts]
    to_read = {name: work[name] for name in ("images", "batches", "known_contents", "copies")}
    lines.append(("to read", f"{outcomes(to_read)}  {in_units(work['bytes'])}"))
    most = "at most, by a sample" if plan["sampled"] else "at most"
    lines.append(("to draw", f"{outcomes(plan['outputs'])}  ({most})"))
    parts = "  ".join(f"{in_units(each)} {name}" for name, each in written.items())
    lines.append(("to write", f"{in_units(sum(written.values()))}  ({parts})"))
    lines.append(("requests", f"{outcomes(plan['requests'])}  (where the lake is a bucket)"))
    runs = f"as in past runs of this {by['of']}: {by['runs']}" if by["runs"] else "no past run says more"
    seconds = plan["seconds"]
    takes = f"{seconds / 60:,.1f} minutes" if seconds >= SHORT else f"{seconds:,.1f} s"
    lines.append(("time", f"{takes}  ({runs})"))
    if price := plan["price"]:
        parts = f"${price['requests']:,.2f} requests  ${price['processors']:,.2f} processors"
        stored = f"a month of what is written: ${price['storage_a_month']:,.2f}"
        lines.append(("price", f"${price['total']:,.2f}  ({parts}), and {stored}"))
    return lines
