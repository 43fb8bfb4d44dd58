"""Building an export: batches of parts, each with its samples drawn, packed with their metadata and put into place."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, TypeAdapter

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import FolderLake, Lake, compare_objects
from lookbook.tasks.exports import drawing
from lookbook.tasks.exports.drawing import Drawing, Job
from lookbook.tasks.exports.plan import (
    DIGEST,
    GROUP,
    KEY,
    NAME,
    NAMED_BY,
    SIDE,
    SIZE,
    ExportPlan,
    Part,
    Resolved,
    class_of,
    copies_of,
    is_augmented,
    label_classes,
)
from lookbook.tasks.exports.recipes import ExportRecipe
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import OF_PRODUCT
from lookbook.tasks.images import jobs
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.jobs import DoBatches, open_job
from lookbook.tasks.images.pacing import check_not_stopped, originals_in_memory, stoppable
from lookbook.tasks.images.parquet import from_parquet, in_pieces, to_parquet
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs import progress
from lookbook.tasks.runs.parameters import BATCH_BYTES, BATCH_SIZE

#: Columns of the rows that tell nothing of an exported image, or that are told otherwise.
_UNTOLD = frozenset(
    [
        *OF_PRODUCT,
        "image_outcome",
        "further",
        "duplicate_of",
        "rule",
        "bytes",
        "width",
        "height",
        "original_key",
        "exif",
    ]
) - {"product_key"}


@dataclass(frozen=True)
class Metadata:
    """What is told of each file.

    Attributes:
        columns: of the plan's table that are told, in order.
        label: the column that the class is taken from, if there is one.
        label_name: what the class is called among the columns.
        classes: all classes, sorted.
        copies: whether there is a column ``copy``.
    """

    columns: list[str]
    label: str | None
    label_name: str
    classes: list[str]
    copies: bool


def describe(resolved: Resolved, plan: ExportPlan) -> Metadata:
    """Return what is told of an export's files: the columns asked for, or all in which an image has a value."""
    table, asked = plan.table, resolved.request.columns
    columns = asked or [name for name in plan.column_names() if name not in _UNTOLD and ":" not in name]
    columns = [name for name in dict.fromkeys(columns) if name not in {"width", "height"}]
    label = resolved.label
    name = "label" if "label" not in columns or label == "label" else "class_label"
    copies = resolved.request.copies > 1
    return Metadata([each for each in columns if each != name], label, name, label_classes(table, label), copies)


class Making(BaseModel):
    """What all batches of an export are told.

    Attributes:
        request: without its filter, which may be long: the rows are chosen.
        recipe: the steps on the fly; None where stored files are exported.
        limits: the snapshot's recipe, which says what is refused.
        metadata: what is told of each file.
        rows: of the export's plan.
    """

    model_config = ConfigDict(frozen=True)

    request: ExportRequest
    recipe: ExportRecipe | None
    limits: Recipe
    metadata: Metadata
    rows: int


def making_of(resolved: Resolved, plan: ExportPlan) -> Making:
    """Return what the batches of an export are told."""
    request = resolved.request.model_copy(update={"filter": None})
    metadata = describe(resolved, plan)
    return Making(
        request=request,
        recipe=resolved.recipe,
        limits=resolved.manifest.recipe,
        metadata=metadata,
        rows=plan.table.num_rows,
    )


@dataclass(frozen=True)
class PlanRows:
    """Rows of a plan's table, from the one of the number `start` on."""

    table: pa.Table
    start: int = 0

    def take(self, numbers: pa.ChunkedArray | pa.Array) -> pa.Table:
        """Return the rows of some numbers."""
        return self.table.take(pc.subtract(numbers, pa.scalar(self.start, pa.int64())))


def metadata_rows(metadata: Metadata, plan: PlanRows, samples: pa.Table) -> pa.Table:
    """Return the metadata of some samples.

    Args:
        metadata: what is told.
        plan: rows of the export's plan, those of the samples among them.
        samples: with the columns ``row``, ``copy``, ``file_name``, ``width`` and ``height``.
    """
    rows = plan.take(samples["row"])
    columns: dict[str, Any] = {"file_name": samples["file_name"], "split": rows[SIDE]}
    if metadata.copies:
        columns["copy"] = samples["copy"]
    if metadata.label:
        columns[metadata.label_name] = classes_of(rows[metadata.label])
    columns |= {"width": samples["width"], "height": samples["height"], "leak_group": rows[GROUP]}
    if "url" in samples.column_names:
        columns["url"] = samples["url"]
    return pa.table(columns | {name: rows[name] for name in metadata.columns})


def classes_of(column: pa.ChunkedArray) -> pa.Array:
    """Return the class of each value, as text."""
    return pa.array([class_of(value) for value in column.to_pylist()], pa.string())


def class_numbers(metadata: Metadata, classes: pa.ChunkedArray) -> pa.Array:
    """Return the number of each class among all of them."""
    return pc.index_in(classes, value_set=pa.array(metadata.classes, pa.string())).cast(pa.int64())


def sample_names(plan: PlanRows, rows: Sequence[int], copies: Sequence[int], most: int) -> list[str]:
    """Return the names of files without folder and extension: with the number of the copy where there are several."""
    names = plan.take(pa.array(rows, pa.int64()))[NAME].to_pylist()
    digits = len(str(most - 1))
    return [f"{name}_c{copy:0{digits}}" if most > 1 else name for name, copy in zip(names, copies, strict=True)]


Given = TypeVar("Given")
Made = TypeVar("Made")

#: Images that are under way before the one that is waited for.
AHEAD = 32
#: Small pictures on a contact sheet, at the most.
SHEET = 64


@dataclass(frozen=True)
class Sample:
    """One file of an export.

    Attributes:
        row: of the plan's table.
        copy: number of the copy, from 0.
        extension: of the file, without the dot.
        width: in pixels.
        height: in pixels.
    """

    row: int
    copy: int
    data: bytes
    extension: str
    width: int
    height: int


@dataclass(frozen=True)
class RowResult:
    """What one row gave: samples, or the rule that it broke and a message."""

    row: int
    samples: list[Sample]
    thumbnail: bytes | None
    refused: tuple[str, str] | None = None


def make_samples(
    lake: Lake, making: Making, plan: PlanRows, parts: Iterable[Part]
) -> Iterator[tuple[Part, list[RowResult]]]:
    """Yield the samples of parts, part by part, many images at a time.

    Raises:
        LookbookError: the lake lacks an object, or has other bytes for it than its snapshot says.
        StoppedError: the run was interrupted.
    """
    maker = _Maker(lake, making, plan)
    work = ((part, row) for part in parts for row in range(part.start, part.stop))
    collected: list[RowResult] = []
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="export") as pool, stoppable():
        for (part, row), made in in_order(pool, lambda each: maker.make(*each), work, AHEAD):
            collected.append(made)
            if row == part.stop - 1:
                yield part, collected
                collected = []


def in_order(
    pool: ThreadPoolExecutor, do: Callable[[Given], Made], given: Iterable[Given], ahead: int
) -> Iterator[tuple[Given, Made]]:
    """Yield what `do` makes of each, in order, with at most `ahead` of them begun and not yet taken."""
    begun: deque[tuple[Given, Future[Made]]] = deque()
    try:
        for each in given:
            begun.append((each, pool.submit(do, each)))
            if len(begun) > ahead:
                first, future = begun.popleft()
                yield first, future.result()
        while begun:
            first, future = begun.popleft()
            yield first, future.result()
    finally:
        for _, future in begun:
            future.cancel()


class _Maker:
    """What makes the samples of a row."""

    def __init__(self, lake: Lake, making: Making, plan: PlanRows) -> None:
        self._lake = lake
        self._making = making
        self._job = Job(recipe=making.recipe, limits=making.limits, seed=making.request.seed)
        self._shown = set(shown_rows(making.rows))
        names = ("sha256", KEY, DIGEST, SIZE, "width", "height")
        self._columns = {name: plan.table[name].combine_chunks() for name in names}
        self._start = plan.start
        self._renderers = drawing.processes()

    def make(self, part: Part, row: int) -> RowResult:
        """Return the samples of a row."""
        check_not_stopped()
        content = {name: column[row - self._start].as_py() for name, column in self._columns.items()}
        recipe = self._making.recipe
        with originals_in_memory.taken(content[SIZE]):
            links_only = self._making.request.format == "csv" and row not in self._shown
            data = b"" if links_only else read_checked(self._lake, content[KEY], content[DIGEST])
            if recipe is None:
                stored = Sample(row, 0, data, extension_of(content[KEY]), content["width"], content["height"])
                return RowResult(row, [stored], self._small_picture(data, content["sha256"], row))
            try:
                drawn = self._drawn(data, content["sha256"], part, row)
            except Rejected as reject:
                return RowResult(row, [], None, (reject.rule, reject.message))
        files = [
            Sample(row, copy, file.data, recipe.extension, file.width, file.height)
            for copy, file in enumerate(drawn.files)
        ]
        return RowResult(row, files, drawn.thumbnail)

    def _drawn(self, data: bytes, sha256: str, part: Part, row: int) -> Drawing:
        request = self._making.request
        copies = copies_of(request, part.side) if is_augmented(request, part.side) else 0
        return drawing.ask(self._renderers, data, self._job, sha256, copies, small=row in self._shown)

    def _small_picture(self, data: bytes, sha256: str, row: int) -> bytes | None:
        if row not in self._shown:
            return None
        with suppress(Rejected):  # it is exported as it is stored, whatever the sheet can show of it
            return drawing.ask(self._renderers, data, self._job, sha256, 0, small=True).thumbnail
        return None


def extension_of(key: str) -> str:
    """Return the extension in a lake's key, without the dot."""
    return key.rpartition(".")[2]


def shown_rows(rows: int) -> list[int]:
    """Return the rows that a contact sheet shows: spread evenly over all."""
    return sorted({place * rows // min(rows, SHEET) for place in range(min(rows, SHEET))})


def read_checked(lake: Lake, key: str, sha256: str) -> bytes:
    """Return an object's bytes.

    Raises:
        LookbookError: it is missing, or has other bytes than the snapshot says.
    """
    way_out = 'Run "lookbook verify NAME --repair", then export again: what is there already stays.'
    try:
        data = lake.get(key)
    except ObjectNotFoundError as error:
        raise LookbookError(f"{key}: the lake lacks it.", way_out) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise LookbookError(f"{key}: the lake has other bytes for it than its snapshot says.", way_out)
    return data


SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),  # of the plan's table
        pa.field("copy", pa.int32()),
        pa.field("file_name", pa.string()),  # below the export's folder; in a shard: of the shard
        pa.field("key", pa.string()),  # the name without folder and extension
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)


@dataclass(frozen=True)
class PackedFile:
    """One file of an export: its name below the export's folder, and its bytes."""

    name: str
    data: bytes

    def listed(self) -> dict[str, str | int]:
        """Return what lists tell of it."""
        digest = hashlib.sha256(self.data).hexdigest()
        return {"name": self.name, "size": len(self.data), "sha256": digest, "crc32": zlib.crc32(self.data)}


@dataclass(frozen=True)
class Packer:
    """What packs the samples of an export."""

    lake: Lake
    making: Making
    plan: PlanRows

    @property
    def metadata(self) -> Metadata:
        """Return which facts are written beside each file."""
        return self.making.metadata

    def pack(self, part: Part, samples: Sequence[Sample]) -> tuple[list[PackedFile], pa.Table]:
        """Return the files of a part, and its samples as a table of `SAMPLES_SCHEMA`."""
        packed = self._packed(part, samples)
        format_ = self.making.request.format
        if format_ == "csv":
            keys = self.plan.take(packed["row"])[KEY].to_pylist()
            addresses = pa.array([self.lake.uri(key) for key in keys], pa.string())
            return [], packed.append_column("url", addresses)
        if format_ in {"imagefolder", "coco"}:
            names = packed["file_name"].to_pylist()
            return [PackedFile(name, sample.data) for name, sample in zip(names, samples, strict=True)], packed
        if not samples:  # nothing of this part could be drawn, and an empty shard is none
            return [], packed
        pack = self._tar if format_ == "webdataset" else self._parquet
        return [PackedFile(shard_name(format_, part), pack(packed, samples))], packed

    def _packed(self, part: Part, samples: Sequence[Sample]) -> pa.Table:
        rows, copies = [sample.row for sample in samples], [sample.copy for sample in samples]
        keys = sample_names(self.plan, rows, copies, copies_of(self.making.request, part.side))
        shard = shard_name(self.making.request.format, part)
        names = [shard or f"{part.side}/{key}.{sample.extension}" for key, sample in zip(keys, samples, strict=True)]
        sizes = [[getattr(sample, edge) for sample in samples] for edge in ("width", "height")]
        return pa.table([rows, copies, names, keys, *sizes], schema=SAMPLES_SCHEMA)

    def _tar(self, packed: pa.Table, samples: Sequence[Sample]) -> bytes:
        """Return a shard of WebDataset: the files of a sample share their name up to the first dot."""
        rows = metadata_rows(self.metadata, self.plan, packed)
        numbers = class_numbers(self.metadata, rows[self.metadata.label_name]) if self.metadata.label else None
        told = rows.drop_columns(["file_name"]).to_pylist()
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for place, (key, sample) in enumerate(zip(packed["key"].to_pylist(), samples, strict=True)):
                _add(tar, f"{key}.{sample.extension}", sample.data)
                if numbers is not None:
                    _add(tar, f"{key}.cls", str(numbers[place].as_py()).encode())
                document = json.dumps(told[place], default=str, ensure_ascii=False, sort_keys=True)
                _add(tar, f"{key}.json", document.encode())
        return file.getvalue()

    def _parquet(self, packed: pa.Table, samples: Sequence[Sample]) -> bytes:
        """Return a shard of Parquet with the images in it, and Hugging Face's features in its metadata."""
        rows = metadata_rows(self.metadata, self.plan, packed).drop_columns(["file_name"])
        if self.metadata.label:
            numbers = class_numbers(self.metadata, rows[self.metadata.label_name])
            rows = rows.set_column(rows.column_names.index(self.metadata.label_name), self.metadata.label_name, numbers)
        recipe = self.making.recipe
        if recipe and recipe.encode_format == "npy":
            name, column = "array", _arrays(samples)
        else:
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            names = packed["key"].to_pylist()
            files = [
                {"bytes": sample.data, "path": f"{key}.{sample.extension}"}
                for key, sample in zip(names, samples, strict=True)
            ]
            name, column = "image", pa.array(files, kind)
        table = rows.add_column(0, name, column)
        features = huggingface_features(table.schema, self.metadata, samples)
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd", row_group_size=100)
        return file.getvalue()


def shard_name(format_: str, part: Part) -> str:
    """Return the name of a part's shard; empty for formats of loose files."""
    if format_ == "webdataset":
        return f"{part.side}-{part.shard:06}.tar"
    return f"data/{part.side}-{part.shard:05}-of-{part.shards:05}.parquet" if format_ == "parquet" else ""


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file; nothing of the time, the user or the machine is in its header."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 0
    tar.addfile(info, io.BytesIO(data))


def _arrays(samples: Sequence[Sample]) -> pa.Array:
    """Arrays of float32 as nested lists, the way Hugging Face's Array3D is stored."""
    kind = pa.list_(pa.list_(pa.list_(pa.float32())))
    return pa.array([np.load(io.BytesIO(sample.data), allow_pickle=False).tolist() for sample in samples], kind)


def huggingface_features(schema: pa.Schema, metadata: Metadata, samples: Sequence[Sample]) -> dict[str, object]:
    """Return what Hugging Face's datasets are told of the columns."""
    features: dict[str, object] = {}
    for field in schema:
        if field.name == "image":
            features["image"] = {"_type": "Image"}
        elif field.name == "array":
            shape = np.load(io.BytesIO(samples[0].data), allow_pickle=False).shape
            features["array"] = {"_type": "Array3D", "shape": list(shape), "dtype": "float32"}
        elif field.name == metadata.label_name and metadata.label:
            features[field.name] = {"_type": "ClassLabel", "names": metadata.classes}
        elif pa.types.is_list(field.type):
            inner = {"_type": "Value", "dtype": huggingface_type(field.type.value_type)}
            features[field.name] = {"_type": "Sequence", "feature": inner, "length": -1}
        else:
            features[field.name] = {"_type": "Value", "dtype": huggingface_type(field.type)}
    return features


def huggingface_type(kind: pa.DataType) -> str:
    """Return what Hugging Face calls a type of a column."""
    names = {pa.float64(): "float64", pa.float32(): "float32", pa.bool_(): "bool", pa.large_string(): "large_string"}
    return names.get(kind) or str(kind)


THUMBNAIL = "thumbnail"
#: What is told of each sample, as a struct of the columns of `metadata_rows`.
TOLD = "told"


@dataclass(frozen=True)
class ExportFolder:
    """A folder of a lake in which an export is built: its files, and a table for each part.

    Attributes:
        lake: the workspace's, or a folder that is a lake for this.
        folder: in it, empty or with a slash at its end.
    """

    lake: Lake
    folder: str

    def file(self, name: str) -> str:
        """Return the key of one of the export's files."""
        return f"{self.folder}files/{name}"

    def part(self, number: int) -> str:
        """Return the key of a part's table."""
        return f"{self.folder}parts/{number:06}.parquet"


@dataclass(frozen=True)
class DonePart:
    """What became of a part.

    Attributes:
        samples: a table of `SAMPLES_SCHEMA`, with small pictures of some, and addresses where files are links.
        rows: what is told of each of them: see `metadata_rows`.
        files: name, size, sha256 and crc32 of each.
        refused: `NAMED_BY`, rule and message of each image that could not be drawn.
    """

    samples: pa.Table
    rows: pa.Table
    files: list[dict[str, Any]]
    refused: list[dict[str, Any]]


#: What a manifest says of its batch beside the rows; the place is a folder of the lake, or one that only the process
#: knows that wrote the manifest: nobody else's manifest makes it write into a folder of its machine.
KIND = "export"
_OWN = uuid.uuid4().hex
_PARTS = TypeAdapter(list[Part])


def build_parts(
    lake: Lake,
    place: ExportFolder,
    making: Making,
    plan: ExportPlan,
    do: DoBatches | None = None,
    size: int = BATCH_SIZE,
) -> tuple[int, int]:
    """Do the parts that are not done yet, in batches.

    Args:
        lake: of the dataset, in which batches lie meanwhile.
        place: where to.
        making: what is made of the rows.
        plan: of the export.
        do: has the batches done; None: in this process, one after the other.
        size: files in a batch, at the most, if its first part has no more.

    Returns:
        How many images were made, and how many were there.
    """
    progress.announce(plan.table.num_rows)
    aside = place.lake if isinstance(place.lake, FolderLake) and place.lake != lake else None
    folder = {"own": _OWN, "root": str(aside.root)} if aside else {"lake": place.folder}
    told = {"making": making.model_dump_json(by_alias=True), "place": json.dumps(folder)}
    counted: list[dict[str, int]] = []
    with open_job(lake) as job:
        groups = list(_grouped(plan, making, size))
        for parts, rows in zip(groups, _rows(plan, making, groups), strict=True):
            more = {"parts": _PARTS.dump_json(parts).decode(), "start": str(parts[0].start)}
            job.add(KIND, rows, told | more)
        (do or jobs.do_here(lake, do_batch))(
            job.batches, lambda batch: counted.append(jobs.require_part(lake, batch)[1])
        )
    return sum(counts["made"] for counts in counted), sum(counts["there"] for counts in counted)


def columns_of_files(plan: ExportPlan, metadata: Metadata) -> list[str]:
    """Return the columns of a plan's rows that are not in its table, and are told or say where the bytes lie."""
    there = plan.table.column_names
    wanted = dict.fromkeys([*metadata.columns, *NAMED_BY, KEY, DIGEST, "width", "height"])
    return [name for name in wanted if name not in there]


def _rows(plan: ExportPlan, making: Making, groups: Sequence[Sequence[Part]]) -> Iterator[pa.Table]:
    """Yield the rows of each batch, with all that is told of them."""
    sizes = [parts[-1].stop - parts[0].start for parts in groups]
    found = in_pieces(plan.others.read(plan.table, columns_of_files(plan, making.metadata)), sizes)
    for parts, size, more in zip(groups, sizes, found, strict=True):
        rows = plan.table.slice(parts[0].start, size)
        for field in more.schema:
            rows = rows.append_column(field, more[field.name])
        yield rows


def _grouped(plan: ExportPlan, making: Making, size: int) -> Iterator[list[Part]]:
    """Yield the parts of each batch: cut by the number of files, and by the bytes that are read for them."""
    sizes = np.concatenate([[0], np.cumsum(plan.table[SIZE].to_numpy())])
    parts: list[Part] = []
    files = read = 0
    for part in plan.parts:
        more = (part.stop - part.start) * copies_of(making.request, part.side)
        original = int(sizes[part.stop] - sizes[part.start])
        if parts and (files + more > size or read + original > BATCH_BYTES):
            yield parts
            parts, files, read = [], 0, 0
        parts, files, read = [*parts, part], files + more, read + original
    if parts:
        yield parts


def do_batch(lake: Lake, batch: str) -> dict[str, int]:
    """Do the parts of one batch that are not done yet. Doing it twice is harmless.

    Returns:
        The number of its ``images``, of those ``made``, found ``there`` and ``refused``, and the ``bytes`` of files.

    Raises:
        LookbookError: there is no such batch; or as `make_samples`.
        StoppedError: the run was interrupted.
    """
    table, told = jobs.read_batch(lake, batch)
    found = jobs.read_part(lake, batch)
    if found is not None:
        return found[1]
    making, parts = Making.model_validate_json(told["making"]), _PARTS.validate_json(told["parts"])
    place, plan = _place(lake, batch, json.loads(told["place"])), PlanRows(table, int(told["start"]))
    counts = dict.fromkeys(("images", "made", "there", "refused", "bytes"), 0)
    open_parts = []
    for part in parts:
        size = _size_there(place, part)
        counts["images"] += part.stop - part.start
        if size is None:
            open_parts.append(part)
            continue
        counts["there"] += part.stop - part.start
        counts["bytes"] += size
    packer = Packer(lake, making, plan)
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="write") as pool:
        for part, results in make_samples(lake, making, plan, open_parts):
            counts["bytes"] += _write(place, packer, part, results, pool)
            counts["made"] += len(results)
            counts["refused"] += sum(result.refused is not None for result in results)
    jobs.finish_batch(lake, batch, SAMPLES_SCHEMA.empty_table().select([]), counts)
    return counts


def _place(lake: Lake, batch: str, told: dict[str, str]) -> ExportFolder:
    if "root" not in told:
        return ExportFolder(lake, told["lake"])
    if told["own"] != _OWN:
        raise LookbookError(
            f"{batch}: its export goes into a folder of the process that asked for it.",
            "Use the executor threads, or export into the lake.",
        )
    return ExportFolder(FolderLake(root=Path(told["root"])), "")


def read_parts(place: ExportFolder, parts: Sequence[Part]) -> Iterator[DonePart]:
    """Yield what became of the parts, one after the other."""
    for part in parts:
        table, metadata = from_parquet(place.lake.get(place.part(part.number)))
        rows = pa.Table.from_struct_array(table[TOLD])
        yield DonePart(table.drop_columns([TOLD]), rows, json.loads(metadata["files"]), json.loads(metadata["refused"]))


def _write(
    place: ExportFolder, packer: Packer, part: Part, results: Sequence[RowResult], pool: ThreadPoolExecutor
) -> int:
    """Write the files of a part, and its table last; their bytes."""
    samples = [sample for result in results for sample in result.samples]
    files, packed = packer.pack(part, samples)
    for _ in in_order(pool, lambda file: _put(place, file), files, AHEAD):
        pass
    small = {result.row: result.thumbnail for result in results if result.thumbnail}
    pictures = [small.pop(row, None) for row in packed["row"].to_pylist()]  # of a row's first copy
    refused = {result.row: result.refused for result in results if result.refused}
    names = packer.plan.take(pa.array(list(refused), pa.int64())).select(NAMED_BY).to_pylist()
    named = [
        name | {"rule": rule, "message": message} for name, (rule, message) in zip(names, refused.values(), strict=True)
    ]
    listed = [file.listed() for file in files]
    told = metadata_rows(packer.metadata, packer.plan, packed)
    table = packed.append_column(THUMBNAIL, pa.array(pictures, pa.binary()))
    table = table.append_column(TOLD, told.to_struct_array())
    data = to_parquet(table, {"files": json.dumps(listed), "refused": json.dumps(named)})
    place.lake.replace(place.part(part.number), data)
    size = sum(len(file.data) for file in files)
    progress.advance(len(results))
    progress.wrote(size)
    return size


def _put(place: ExportFolder, file: PackedFile) -> None:
    place.lake.replace(place.file(file.name), file.data)


def _size_there(place: ExportFolder, part: Part) -> int | None:
    """Return the bytes of a part that is done, and whose files have the bytes that were noted; else None."""
    try:
        table, metadata = from_parquet(place.lake.get(place.part(part.number)))
        files = json.loads(metadata["files"])
        noted = [(place.file(file["name"]), file["sha256"], None) for file in files]
    except (ObjectNotFoundError, pa.ArrowException, OSError, ValueError, KeyError):
        return None
    if TOLD not in table.column_names or any(fault for _, fault, _ in compare_objects(place.lake, noted)):
        return None
    size: int = sum(file["size"] for file in files)
    progress.advance(part.stop - part.start)
    progress.wrote(size)
    return size
