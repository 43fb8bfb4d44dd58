"""Packing the samples of one part into the files of a format."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.lake import Lake
from lookbook.tasks.exports.metadata_table import Metadata, class_numbers, metadata_rows, sample_names
from lookbook.tasks.exports.plan import KEY, Part, Plan, copies_of
from lookbook.tasks.exports.resolve import Resolved
from lookbook.tasks.exports.samples import Sample

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
    resolved: Resolved
    plan: Plan
    metadata: Metadata

    def pack(self, part: Part, samples: Sequence[Sample]) -> tuple[list[PackedFile], pa.Table]:
        """Return the files of a part, and its samples as a table of `SAMPLES_SCHEMA`."""
        packed = self._packed(part, samples)
        format_ = self.resolved.request.format
        if format_ == "csv":
            keys = self.plan.table[KEY].take(packed["row"]).to_pylist()
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
        keys = sample_names(self.plan, rows, copies, copies_of(self.resolved, part.side))
        shard = shard_name(self.resolved.request.format, part)
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
        recipe = self.resolved.recipe
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
